//! One attention to compute in every way there is.

use std::ops::Range;

use lehr_ir::bindings::Bindings;
use lehr_ir::eval::evaluate_op;
use lehr_ir::ops::{Attention as Op, AttentionGrad, Empty, Scores};
use lehr_ir::{Array, DType, Literal};

use crate::cpu::attend::backward::{Division, run};
use crate::cpu::attend::{Attended, Attention, Cotangents, Grid, Results, attend};
use crate::cpu::contract::{Isa, Workspace};
use crate::cpu::pool::Pool;

/// How operands lie in memory.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Layout {
    /// Row-major.
    Plain,
    /// Columns before rows.
    Transposed,
    /// Rows before the batch: `[batch, rows, heads, columns]`.
    HeadsInside,
    /// One matrix for the whole batch.
    Shared,
    /// Rows from the last to the first.
    Reversed,
}

/// An attention, and data for it: queries, keys, values, bias, mask, and the cotangent of the result.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) batch: Vec<usize>,
    /// Queries, keys, columns of these, columns of values.
    pub(super) sizes: [usize; 4],
    pub(super) scale: f64,
    /// About how large products are, and their sign.
    pub(super) size: f64,
    pub(super) causal: bool,
    pub(super) bias: bool,
    pub(super) mask: bool,
    pub(super) nan: bool,
    pub(super) layout: Layout,
    /// Rows of an operand with a number that is not finite.
    pub(super) poison: Vec<(usize, usize, f64)>,
    pub(super) closed: Range<usize>,
}

/// What one way of computing gives.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Found {
    pub(super) out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

impl Problem {
    pub(super) fn new(batch: &[usize], sizes: [usize; 4]) -> Self {
        Self {
            batch: batch.to_vec(),
            sizes,
            scale: 0.37,
            size: 1.0,
            causal: false,
            bias: false,
            mask: false,
            nan: false,
            layout: Layout::Plain,
            poison: Vec::new(),
            closed: 0..0,
        }
    }

    /// Puts a number into a row of an operand, in every batch entry.
    pub(super) fn poison(&mut self, operand: usize, row: usize, value: f64) {
        self.poison.push((operand, row, value));
    }

    /// Makes these queries attend to nothing.
    pub(super) fn close_rows(&mut self, rows: Range<usize>) {
        self.closed = rows;
    }

    /// Compares results and cotangents with the reference, in every way of computing.
    pub(super) fn check<T: Number>(&self) {
        let x = self.data();
        let (want, scores) = self.reference(&x);
        let unit = T::UNIT;
        for found in self.run::<T>() {
            // Scores round with their size, and with them, weights.
            let weight = unit * (64.0 + 8.0 * scores);
            for (what, got, want) in found.against(&want) {
                let most = want.iter().fold(1.0f64, |m, x| m.max(x.abs()));
                for (i, (g, w)) in got.iter().zip(want).enumerate() {
                    let fits = g == w || (g - w).abs() <= weight * most;
                    assert!(fits, "{what}[{i}]: {g} is not {w} within {:e}: {self:?}", weight * most);
                }
            }
        }
    }

    /// Compares with the reference where both are finite, and which elements are NaN or infinite.
    pub(super) fn check_classes<T: Number>(&self) {
        let (want, _) = self.reference(&self.data());
        for found in self.run::<T>() {
            for (what, got, want) in found.against(&want) {
                for (i, (g, w)) in got.iter().zip(want).enumerate() {
                    let fits = if w.is_finite() {
                        (g - w).abs() <= 1e-4 * w.abs().max(1.0)
                    } else {
                        // By which way NaN or infinity comes about is a matter of order.
                        if what == "lse" { g == w || (g.is_nan() && w.is_nan()) } else { !g.is_finite() }
                    };
                    assert!(fits, "{what}[{i}]: {g} is not {w}: {self:?}");
                }
            }
        }
    }

    /// The results of every instruction set; those of one have the same bits however the work is divided.
    pub(super) fn run<T: Number>(&self) -> Vec<Found> {
        let x = self.data();
        let pools = [Pool::new(1), Pool::new(2), Pool::new(3)];
        let mut all = Vec::new();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut first: Option<Found> = None;
            for pool in &pools {
                for division in [Division::Entries, Division::Blocks] {
                    let mut workspace = Workspace::with_isa(isa).expect("it is available");
                    let found = self.compute::<T>(&x, division, pool, &mut workspace);
                    let first = first.get_or_insert_with(|| found.clone());
                    let bits = |f: &Found| f.parts().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<u64>>());
                    assert!(bits(first) == bits(&found), "{isa:?}, {division:?}, {} threads: {self:?}", pool.threads());
                }
            }
            all.extend(first);
        }
        all
    }

    fn compute<T: Number>(&self, x: &[Array], division: Division, pool: &Pool, workspace: &mut Workspace) -> Found {
        let [queries, keys, d, e] = self.sizes;
        let held: Vec<Held<T>> = x.iter().map(|a| self.lay_out(a)).collect();
        let bytes: Vec<u8> = x.iter().filter(|a| a.dtype() == DType::Bool).flat_map(numbers).map(|b| b as u8).collect();
        let strides = row_major(&[&self.batch[..], &[queries, keys]].concat());
        let n = self.batch.len();
        let mask = Grid { ptr: bytes.as_ptr(), batch: &strides[..n], row: strides[n], col: strides[n + 1] };
        let attention = Attention {
            batch: &self.batch,
            queries,
            keys,
            d,
            e,
            scale: self.scale,
            causal: self.causal,
            q: held[0].grid(n),
            k: held[1].grid(n),
            v: held[2].grid(n),
            bias: self.bias.then(|| held[3].grid(n)),
            mask: self.mask.then_some(mask),
        };
        let entries: usize = self.batch.iter().product();
        let room = |n: usize| vec![T::of(f64::NAN); n];
        let (mut out, mut lse) = (room(entries * queries * e), room(entries * queries));
        let results = Results { out: out.as_mut_ptr(), lse: lse.as_mut_ptr(), empty: self.empty().row(keys) };
        // SAFETY: the operands and results have the sizes that the attention says.
        unsafe { attend(&attention, &results, pool, workspace) };
        let d_out = held.last().expect("a cotangent");
        let cotangent = numbers(x.last().expect("a cotangent"));
        let delta: Vec<T> = (0..entries * queries)
            .map(|i| T::of((0..e).map(|c| cotangent[i * e + c] * out[i * e + c].number()).sum()))
            .collect();
        let (mut dq, mut dk, mut dv) =
            (room(entries * queries * d), room(entries * keys * d), room(entries * keys * e));
        let cotangents = Cotangents {
            lse: lse.as_ptr(),
            d_out: d_out.grid(n),
            delta: delta.as_ptr(),
            dq: dq.as_mut_ptr(),
            dk: dk.as_mut_ptr(),
            dv: dv.as_mut_ptr(),
        };
        // SAFETY: as above.
        unsafe { run(&attention, &cotangents, division, pool, workspace) };
        let wide = |v: Vec<T>| v.into_iter().map(T::number).collect();
        Found { out: wide(out), lse: wide(lse), dq: wide(dq), dk: wide(dk), dv: wide(dv) }
    }

    fn empty(&self) -> Empty {
        if self.nan { Empty::Nan } else { Empty::Zero }
    }

    /// The reference's results, and how large scores get.
    fn reference(&self, x: &[Array]) -> (Found, f64) {
        let scores = Scores { causal: self.causal, bias: self.bias, mask: self.mask, ..Scores::new(self.scale) };
        let (operands, d_out) = x.split_at(x.len() - 1);
        let eval = |op: lehr_ir::ops::Op, args: &[&Array]| evaluate_op(&op, args, &Bindings::default()).expect("sound");
        let refs: Vec<&Array> = operands.iter().collect();
        let forward = eval(Op { scores: scores.clone(), empty: self.empty() }.into(), &refs);
        let (out, lse) = (&forward[0], &forward[1]);
        let e = self.sizes[3];
        let rows = lse.len();
        let (o, c) = (numbers(out), numbers(&d_out[0]));
        let delta = (0..rows).map(|i| (0..e).map(|j| o[i * e + j] * c[i * e + j]).sum::<f64>()).collect::<Vec<_>>();
        let delta = Array::new(lse.shape(), delta).expect("one a row");
        let args: Vec<&Array> = refs.iter().copied().chain([lse, &d_out[0], &delta]).collect();
        let back = eval(AttentionGrad { scores }.into(), &args);
        let most = numbers(lse).into_iter().filter(|x| x.is_finite()).fold(0.0f64, |m, x| m.max(x.abs()));
        let [dq, dk, dv] = [0, 1, 2].map(|i| numbers(&back[i]));
        (Found { out: numbers(out), lse: numbers(lse), dq, dk, dv }, most.max(self.size.abs()))
    }

    /// The operands in f64, each rounded to f32, row-major.
    fn data(&self) -> Vec<Array> {
        let [queries, keys, d, e] = self.sizes;
        let shape = |rows, cols| [&self.batch[..], &[rows, cols]].concat();
        let root = self.size.abs().sqrt();
        let mut q = random(&shape(queries, d), root * self.size.signum(), 1);
        let mut k = random(&shape(keys, d), root, 2);
        let mut v = random(&shape(keys, e), 1.0, 3);
        if self.layout == Layout::Shared {
            (q, k, v) = (self.shared(&q), self.shared(&k), self.shared(&v));
        }
        let mut all = [q, k, v].to_vec();
        for &(operand, row, value) in &self.poison {
            let (rows, cols) = (all[operand].shape()[self.batch.len()], all[operand].shape()[self.batch.len() + 1]);
            let entries: usize = self.batch.iter().product();
            for entry in 0..entries {
                all[operand].make_mut().set((entry * rows + row) * cols, Literal::from(value));
            }
        }
        let pairs = shape(queries, keys);
        let closed = |i: usize| self.closed.contains(&(i / keys.max(1) % queries.max(1)));
        if self.bias {
            let mut bias = random(&pairs, 1.0, 4);
            for i in (0..bias.len()).filter(|&i| closed(i)) {
                bias.make_mut().set(i, Literal::from(f64::NEG_INFINITY));
            }
            all.push(bias);
        }
        if self.mask {
            let open = |i: usize| !closed(i) && !(i * 7 + i / 11).is_multiple_of(5);
            let count = pairs.iter().product();
            all.push(Array::new(&pairs, (0..count).map(open).collect::<Vec<bool>>()).expect("one a pair"));
        }
        all.push(random(&shape(queries, e), 1.0, 5));
        all
    }

    /// The first matrix for every batch entry.
    fn shared(&self, a: &Array) -> Array {
        let entries: usize = self.batch.iter().product();
        let all = numbers(a);
        let one = &all[..all.len() / entries.max(1)];
        Array::new(a.shape(), one.repeat(entries)).expect("as many")
    }

    /// An operand in the layout.
    fn lay_out<T: Number>(&self, a: &Array) -> Held<T> {
        let shape = a.shape();
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        match self.layout {
            Layout::Transposed => order.swap(rank - 1, rank - 2),
            Layout::HeadsInside => order.swap(rank - 3, rank - 2),
            Layout::Plain | Layout::Shared | Layout::Reversed => {}
        }
        let laid: Vec<usize> = order.iter().map(|&i| shape[i]).collect();
        let from = row_major(&laid);
        let mut strides = vec![0isize; rank];
        for (at, &i) in order.iter().enumerate() {
            strides[i] = from[at];
        }
        let values = numbers(a);
        let plain = row_major(shape);
        let mut data = vec![T::of(0.0); values.len()];
        let mut start = 0;
        if self.layout == Layout::Reversed && !values.is_empty() {
            start = strides[rank - 2] * (shape[rank - 2] as isize - 1);
            strides[rank - 2] = -strides[rank - 2];
        }
        for (i, &x) in values.iter().enumerate() {
            let index = |axis: usize| (i as isize / plain[axis].max(1)) % shape[axis] as isize;
            let at = start + (0..rank).map(|axis| index(axis) * strides[axis]).sum::<isize>();
            data[at as usize] = T::of(x);
        }
        let operand = a.dtype() != DType::Bool && rank == self.batch.len() + 2;
        if self.layout == Layout::Shared && operand && shape[rank - 1] != self.sizes[1] && self.is_repeated(&values) {
            strides[..self.batch.len()].fill(0);
        }
        Held { data, start, strides }
    }

    fn is_repeated(&self, values: &[f64]) -> bool {
        let one = values.len() / self.batch.iter().product::<usize>().max(1);
        values.chunks(one.max(1)).all(|c| c == &values[..one])
    }
}

/// An operand in memory.
struct Held<T> {
    data: Vec<T>,
    start: isize,
    strides: Vec<isize>,
}

impl<T: Copy> Held<T> {
    fn grid(&self, n: usize) -> Grid<'_, T> {
        Grid {
            ptr: self.data.as_ptr().wrapping_offset(self.start),
            batch: &self.strides[..n],
            row: self.strides[n],
            col: self.strides[n + 1],
        }
    }
}

impl Found {
    fn parts(&self) -> [&Vec<f64>; 5] {
        [&self.out, &self.lse, &self.dq, &self.dk, &self.dv]
    }

    fn against<'a>(&'a self, want: &'a Found) -> impl Iterator<Item = (&'static str, &'a [f64], &'a [f64])> {
        let names = ["out", "lse", "dq", "dk", "dv"];
        let pairs = self.parts().into_iter().zip(want.parts());
        names.into_iter().zip(pairs).map(|(name, (a, b))| {
            assert_eq!(a.len(), b.len(), "{name}");
            (name, &a[..], &b[..])
        })
    }
}

/// An element type under test.
pub(super) trait Number: Attended {
    const UNIT: f64;
    fn of(x: f64) -> Self;
    fn number(self) -> f64;
}

impl Number for f32 {
    const UNIT: f64 = f32::EPSILON as f64;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn number(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    const UNIT: f64 = f64::EPSILON;
    fn of(x: f64) -> Self {
        x
    }
    fn number(self) -> f64 {
        self
    }
}

/// Numbers between -`size` and `size` that are `f32`s, as an array of `f64`.
pub(super) fn random(shape: &[usize], size: f64, seed: u64) -> Array {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from(((state >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32 * size as f32)
    };
    let count = shape.iter().product();
    Array::new(shape, (0..count).map(|_| next()).collect::<Vec<f64>>()).expect("as many as the shape has")
}

fn numbers(a: &Array) -> Vec<f64> {
    (0..a.len()).map(|i| a.data().get(i).map_or(f64::NAN, |x| x.to_f64())).collect()
}

fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as isize;
    }
    strides
}

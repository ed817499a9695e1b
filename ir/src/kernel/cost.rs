//! What a kernel costs, as dimensions over its sizes.
//!
//! A floating-point operation counts as [`ScalarOp::flops`](super::ScalarOp::flops) says, and one per value and iteration that a
//! reduction adds, multiplies or compares; integer operations and index arithmetic are free, and so are tiles.
//! A guard counts as held and an `if` as taken. The sum over an axis is exact where the cost of an iteration is a polynomial of
//! degree 0 or 1 in it (triangular loops, too), and over chunks `axis*C .. min(axis*C + C, n)` that cover a range; otherwise the
//! iteration in the middle stands for all.

use std::ops::AddAssign;

use super::{Access, Combiner, Expr, Kernel, Loop, Memory, Reduction, ScalarOp, Stmt};
use crate::dim::{AtomKind, Dim, Factor, Symbol};

/// What one launch of a kernel costs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Floating-point operations, elementary functions counted as one each.
    pub flops: Dim,
    /// Calls of elementary functions.
    pub transcendental: Dim,
    /// Bytes of the buffers that are loaded from, each once: what a perfect cache would read.
    pub bytes_read: Dim,
    /// Bytes of the buffers that are stored to, each once.
    pub bytes_written: Dim,
    /// Bytes of all loads from buffers, as if there were no cache.
    pub bytes_loaded: Dim,
    /// Bytes of all stores to buffers.
    pub bytes_stored: Dim,
}

/// The cost of a kernel.
pub fn cost(kernel: &Kernel) -> Cost {
    let mut used = Used { read: vec![false; kernel.buffers.len()], written: vec![false; kernel.buffers.len()] };
    let work = of_loop(kernel, &kernel.body, &mut used);
    // What a kernel loads from a `write` buffer it has just stored, so a perfect cache still holds it.
    for (read, buffer) in used.read.iter_mut().zip(&kernel.buffers) {
        *read &= buffer.access != Access::Write;
    }
    let bytes = |which: &[bool]| -> Dim {
        let used = kernel.buffers.iter().zip(which).filter(|(_, used)| **used);
        used.map(|(b, _)| &b.len * b.dtype.size() as i64).sum()
    };
    Cost {
        flops: work.flops,
        transcendental: work.transcendental,
        bytes_read: bytes(&used.read),
        bytes_written: bytes(&used.written),
        bytes_loaded: work.loaded,
        bytes_stored: work.stored,
    }
}

/// Which buffers are touched.
struct Used {
    read: Vec<bool>,
    written: Vec<bool>,
}

/// The parts of a cost that add up over iterations.
#[derive(Clone, Default)]
struct Work {
    flops: Dim,
    transcendental: Dim,
    loaded: Dim,
    stored: Dim,
}

fn of_loop(kernel: &Kernel, l: &Loop, used: &mut Used) -> Work {
    let folds: u64 = l.reductions.iter().map(|r| of_fold(kernel, r)).sum();
    let mut work = of_block(kernel, &l.body, used);
    work.flops += Dim::from(folds as i64);
    Work {
        flops: sum(&work.flops, &l.axis, &l.extent),
        transcendental: sum(&work.transcendental, &l.axis, &l.extent),
        loaded: sum(&work.loaded, &l.axis, &l.extent),
        stored: sum(&work.stored, &l.axis, &l.extent),
    }
}

fn of_block(kernel: &Kernel, stmts: &[Stmt], used: &mut Used) -> Work {
    let mut work = Work::default();
    for stmt in stmts {
        match stmt {
            Stmt::Let { expr: Expr::Const(_) | Expr::Index(_), .. } => {}
            Stmt::Let { expr: Expr::Load { memory, .. }, .. } => {
                work.loaded += Dim::from(touch(kernel, *memory, &mut used.read));
            }
            Stmt::Let { expr: Expr::Apply(op, operands), .. } => {
                let dtype = operands.first().and_then(|v| kernel.vars.get(v.0 as usize));
                if dtype.is_some_and(|d| d.is_float()) {
                    work.flops += Dim::from(op.flops() as i64);
                }
                if let ScalarOp::Call(_) = op {
                    work.transcendental += Dim::ONE;
                }
            }
            Stmt::Store { memory, .. } => work.stored += Dim::from(touch(kernel, *memory, &mut used.written)),
            Stmt::Loop(l) => work += of_loop(kernel, l, used),
            Stmt::If { body, .. } => work += of_block(kernel, body, used),
        }
    }
    work
}

/// Notes an access, and gives the bytes that it moves.
fn touch(kernel: &Kernel, memory: Memory, used: &mut [bool]) -> i64 {
    let Memory::Buffer(i) = memory else { return 0 };
    if let Some(used) = used.get_mut(i as usize) {
        *used = true;
    }
    kernel.buffers.get(i as usize).map_or(0, |b| b.dtype.size() as i64)
}

/// The floating-point operations of one iteration's part in a reduction.
fn of_fold(kernel: &Kernel, r: &Reduction) -> u64 {
    let dtype = r.values.first().and_then(|v| kernel.vars.get(v.0 as usize));
    match r.combiner {
        Combiner::Sum | Combiner::Prod | Combiner::Max | Combiner::Min | Combiner::ArgMax | Combiner::ArgMin => {
            u64::from(dtype.is_some_and(|d| d.is_float()))
        }
        Combiner::Any | Combiner::All => 0,
    }
}

/// `Σ term` for the axis in `0..extent`.
fn sum(term: &Dim, axis: &Symbol, extent: &Dim) -> Dim {
    if let Some(total) = sum_of_chunks(term, axis, extent) {
        return total;
    }
    match term.split_linear(axis) {
        // The product of neighbours is even, so the division is exact.
        Some((slope, rest)) => slope * (extent * (extent - 1)).floordiv(2) + rest * extent,
        None => term.substitute(&|s| (s == axis).then(|| extent.floordiv(2))) * extent,
    }
}

/// `Σ term` where the axis counts chunks of a range `0..n`: the term has `min(C*axis + C, n)`, and `extent` is `n/C` rounded up.
fn sum_of_chunks(term: &Dim, axis: &Symbol, extent: &Dim) -> Option<Dim> {
    let chunked = |factor: &Factor| {
        let Factor::Atom(atom) = factor else { return None };
        let sides = [(atom.lhs(), atom.rhs()), (atom.rhs(), atom.lhs())];
        let is_end = |end: &Dim, n: &Dim| {
            let chunk = end.constant_part();
            let ends_chunk = chunk > 0 && *end == Dim::from(axis) * chunk + chunk;
            ends_chunk && !n.mentions(axis) && n.ceildiv(chunk) == *extent
        };
        let (end, n) = sides.into_iter().find(|(end, n)| atom.kind() == AtomKind::Min && is_end(end, n))?;
        Some((end.constant_part(), n.clone()))
    };
    let (chunk, n) = term.terms().iter().flat_map(|t| t.factors()).find_map(chunked)?;
    // The end of a chunk is its start and its length; the lengths of all add up to `n`.
    let length = Symbol::hidden("chunk length".to_owned());
    let end = Dim::from(axis) * chunk + Dim::from(&length);
    let in_length =
        term.map_factors(&mut |f| chunked(f).filter(|found| *found == (chunk, n.clone())).map(|_| end.clone()));
    let (slope, rest) = in_length.split_linear(&length)?;
    (!slope.mentions(axis) && !rest.mentions(&length)).then(|| slope * n + sum(&rest, axis, extent))
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.transcendental += other.transcendental;
        self.loaded += other.loaded;
        self.stored += other.stored;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: [&str; 6]) {
        let kernel = Kernel::parse(text).expect("parses");
        let c = cost(&kernel);
        let got = [c.flops, c.transcendental, c.bytes_read, c.bytes_written, c.bytes_loaded, c.bytes_stored];
        assert_eq!(got, want.map(|d| d.parse::<Dim>().expect("a dimension")), "{text}");
    }

    #[test]
    fn softmax_is_counted_by_hand() {
        // An element: one comparison, one subtraction, one exp, one addition, one division.
        // Three loads (two of x, one of y) and two stores; y is stored before it is loaded.
        check(
            "kernel @s(read x: f32[n*m], write y: f32[n*m]) sizes(n, m) {
               parallel i in 0..n {
                 reduce(32) j in 0..m { %0 = load x[i*m + j]
                 } -> %1 = max(%0)
                 reduce(32) j in 0..m { %2 = load x[i*m + j]
                   %3 = sub %2, %1
                   %4 = exp %3
                   store y[i*m + j], %4
                 } -> %5 = sum(%4)
                 lane j in 0..m { %6 = load y[i*m + j]
                   %7 = div %6, %5
                   store y[i*m + j], %7
                 }
               }
             }",
            ["5*n*m", "n*m", "4*n*m", "4*n*m", "12*n*m", "8*n*m"],
        );
    }

    #[test]
    fn chunks_cover_their_range_once() {
        check(
            "kernel @c(read x: f32[n], write y: f32[n]) sizes(n) {
               parallel i in 0..floordiv(n + 1023, 1024) {
                 lane j in 0..min(1024*i + 1024, n) - 1024*i { %0 = load x[1024*i + j]
                   %1 = add %0, %0
                   store y[1024*i + j], %1
                 }
               }
             }",
            ["n", "0", "4*n", "4*n", "4*n", "4*n"],
        );
    }

    #[test]
    fn triangles_are_exact_and_integers_are_free() {
        // Row i has i + 1 elements: n*(n + 1)/2 in all.
        check(
            "kernel @t(read x: f64[n*n], readwrite c: i64[n], write y: f64[n]) sizes(n) tiles(t: f64[1]) {
               parallel i in 0..n {
                 reduce(8) j in 0..i + 1 { %0 = load x[i*n + j]
                   %1 = fma %0, %0, %0
                 } -> %2 = sum(%1)
                 store t[0], %2
                 %3 = load t[0]
                 store y[i], %3
                 %4 = load c[i]
                 %5 = add %4, %4
                 store c[i], %5
               }
             }",
            ["3*floordiv(n*(n - 1), 2) + 3*n", "0", "8*n*n + 8*n", "16*n", "8*floordiv(n*(n - 1), 2) + 16*n", "16*n"],
        );
    }
}

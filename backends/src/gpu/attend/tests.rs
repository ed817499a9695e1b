use lehr_ir::array::{Array, Data};
use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Dim;
use lehr_ir::eval::{EvalCx, walk};
use lehr_ir::ops::{Attention, AttentionGrad, Empty, Operation, Scores};
use lehr_ir::plan::{BufferId, Grid};

use super::*;
use crate::gpu::harness::{self, Memory};

/// A generator of test cases: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 1000.0 - 1.0
    }
}

/// Sizes and what there is besides.
#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: [usize; 2],
    queries: usize,
    keys: usize,
    d: usize,
    e: usize,
    causal: bool,
    bias: bool,
    mask: bool,
    empty: Empty,
    /// Whether the numbers of queries and keys are symbols.
    symbols: bool,
    /// Whether large tiles are tried too.
    large: bool,
}

const PLAIN: Shape = Shape {
    batch: [1, 2],
    queries: 40,
    keys: 50,
    d: 16,
    e: 20,
    causal: false,
    bias: false,
    mask: false,
    empty: Empty::Zero,
    symbols: false,
    large: false,
};

/// Buffers in order: q, k, v, bias, mask, d_out, then lse, delta, and results.
struct Case {
    shape: Shape,
    attend: Attend,
    scores: Scores,
    inputs: Vec<Data>,
    bindings: Bindings,
}

fn dim(n: usize) -> Dim {
    Dim::from(n as i64)
}

/// A view of a buffer of its own: heads after positions or before, keys transposed, heads shared; and its elements.
fn grid(r: &mut Random, buffer: u32, [outer, heads]: [usize; 2], rows: &Dim, columns: &Dim) -> (Grid, Dim) {
    let mut sizes = [(0, dim(outer)), (1, dim(heads)), (2, rows.clone()), (3, columns.clone())];
    match r.below(4) {
        0 => sizes.swap(1, 2),
        1 => sizes.swap(2, 3),
        _ => {}
    }
    let shared = r.below(4) == 0;
    let offset = [0, 0, 4, 3][r.below(4)];
    let (mut strides, mut stride) = ([Dim::ZERO, Dim::ZERO, Dim::ZERO, Dim::ZERO], Dim::ONE);
    for (i, size) in sizes.into_iter().rev() {
        if i == 1 && shared {
            continue;
        }
        strides[i] = stride.clone();
        stride = &stride * &size;
    }
    let [outer, heads, row, column] = strides;
    let batch = [outer, heads].into_iter().collect();
    (Grid { buffer: BufferId(buffer), offset: dim(offset), batch, row, column }, stride + offset as i64)
}

fn case(r: &mut Random, shape: Shape, backward: bool) -> Case {
    let Shape { batch, causal, bias, mask, empty, symbols, .. } = shape;
    let mut bindings = Bindings::default();
    let mut named = |name: &str, n: usize| {
        if !symbols {
            return dim(n);
        }
        bindings.bind(&name.parse().expect("is a symbol"), n as i64).expect("is new");
        Dim::symbol(name).expect("is a symbol")
    };
    let (queries, keys) = (named("n", shape.queries), named("m", shape.keys));
    let (d, e) = (dim(shape.d), dim(shape.e));
    let scores = Scores { scale: 0.3.into(), causal, bias, mask };
    let mut inputs = Vec::new();
    let mut view = |r: &mut Random, rows: &Dim, columns: &Dim, bools: bool| {
        let (grid, len) = grid(r, inputs.len() as u32, batch, rows, columns);
        let len = bindings.eval(&len).expect("is known");
        inputs.push(match bools {
            true => Data::Bool((0..len).map(|_| r.below(3) > 0).collect()),
            false => Data::F32((0..len).map(|_| r.float()).collect()),
        });
        grid
    };
    let (q, k, v) = (view(r, &queries, &d, false), view(r, &keys, &d, false), view(r, &keys, &e, false));
    let bias = bias.then(|| view(r, &queries, &keys, false));
    let mask = mask.then(|| view(r, &queries, &keys, true));
    let pass = if backward {
        let d_out = view(r, &queries, &e, false);
        let id = |i| BufferId(inputs.len() as u32 + i);
        AttendPass::Backward { lse: id(0), d_out, delta: id(1), dq: id(2), dk: id(3), dv: id(4) }
    } else {
        let id = |i| BufferId(inputs.len() as u32 + i);
        AttendPass::Forward { empty, out: id(0), lse: id(1) }
    };
    let attend = Attend {
        dtype: DType::F32,
        scores: scores.clone(),
        batch: batch.into_iter().map(dim).collect(),
        queries,
        keys,
        d,
        e,
        q,
        k,
        v,
        bias,
        mask,
        pass,
    };
    Case { shape, attend, scores, inputs, bindings }
}

impl Case {
    /// What a grid shows, as an array.
    fn array(&self, grid: &Grid, rows: usize, columns: usize) -> Array {
        let n = |d: &Dim| self.bindings.eval(d).expect("is known") as isize;
        let shape = [self.shape.batch[0], self.shape.batch[1], rows, columns];
        let strides: Vec<isize> = grid.batch.iter().chain([&grid.row, &grid.column]).map(n).collect();
        let data = &self.inputs[grid.buffer.index()];
        let data = data.gather(walk::offsets(&shape, &strides, n(&grid.offset)));
        Array::from_data(&shape, data).expect("fits")
    }

    fn operands(&self) -> Vec<Array> {
        let Shape { queries, keys, d, e, .. } = self.shape;
        let a = &self.attend;
        let mut all = vec![self.array(&a.q, queries, d), self.array(&a.k, keys, d), self.array(&a.v, keys, e)];
        all.extend(a.bias.iter().chain(&a.mask).map(|g| self.array(g, queries, keys)));
        all
    }

    fn memory(&self) -> Memory {
        let bytes = |data: &Data| -> Vec<u8> {
            match data {
                Data::Bool(v) => v.iter().map(|b| u8::from(*b)).collect(),
                Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
                _ => unreachable!("there are no other inputs"),
            }
        };
        self.inputs.iter().enumerate().map(|(i, data)| (BufferId(i as u32), bytes(data))).collect()
    }

    fn run(&self, memory: &mut Memory) {
        let target = harness::device().map_or(WgslTarget::default(), |d| d.target);
        let small = WgslTarget { workgroup_bytes: 16_384, ..target };
        for target in [small, target].into_iter().take(if self.shape.large { 2 } else { 1 }) {
            let dispatches = dispatches(&self.attend, &target).expect("has text");
            dispatches.iter().for_each(|d| harness::validate(&d.text, false));
            let Some(device) = harness::device() else { continue };
            device.run(&dispatches, &self.bindings, memory);
            self.check(memory);
        }
    }

    fn check(&self, memory: &Memory) {
        let cx = EvalCx { bindings: &self.bindings };
        let mut operands = self.operands();
        let first = self.inputs.len() as u32;
        let (want, results) = match &self.attend.pass {
            AttendPass::Forward { empty, .. } => {
                let refs: Vec<&Array> = operands.iter().collect();
                let want = Attention { scores: self.scores.clone(), empty: *empty }.eval(&cx, &refs);
                (want.expect("runs"), [first, first + 1].to_vec())
            }
            AttendPass::Backward { d_out, .. } => {
                let Shape { batch, queries, e, .. } = self.shape;
                let row = |id: u32| {
                    let data = Data::F32(floats(&memory[&BufferId(id)]));
                    Array::from_data(&[batch[0], batch[1], queries], data).expect("fits")
                };
                operands.extend([row(first), self.array(d_out, queries, e), row(first + 1)]);
                let refs: Vec<&Array> = operands.iter().collect();
                let want = AttentionGrad { scores: self.scores.clone() }.eval(&cx, &refs);
                (want.expect("runs"), [first + 2, first + 3, first + 4].to_vec())
            }
        };
        for (want, id) in want.iter().zip(results) {
            let got = floats(&memory[&BufferId(id)]);
            let Data::F32(want) = want.data() else { unreachable!("results are f32") };
            assert_eq!(got.len(), want.len());
            // Sums of at most a hundred terms of size 1, each with a few roundings of f32 and an exponential of two.
            let close =
                |a: f32, b: f32| (a - b).abs() <= 2e-5 * b.abs().max(1.0) || a == b || (a.is_nan() && b.is_nan());
            // What is not finite is NaN or infinite as additions come.
            let as_good = |a: f32, b: f32| close(a, b) || (!a.is_finite() && !b.is_finite());
            let bad = got.iter().zip(want).position(|(a, b)| !as_good(*a, *b));
            if let Some(i) = bad {
                panic!("{:?}: buffer {id}, element {i} is {} and should be {}", self.shape, got[i], want[i]);
            }
        }
    }

    /// Memory with results to be written.
    fn forward(&self) -> Memory {
        let Shape { batch: [a, b], queries, e, .. } = self.shape;
        let mut memory = self.memory();
        let first = self.inputs.len() as u32;
        memory.insert(BufferId(first), vec![0xff; 4 * a * b * queries * e]);
        memory.insert(BufferId(first + 1), vec![0xff; 4 * a * b * queries]);
        memory
    }

    /// Memory for the gradient: an `lse` as the forward pass gives it, and any `delta`.
    fn backward(&self, r: &mut Random) -> Memory {
        let Shape { batch: [a, b], queries, keys, d, e, .. } = self.shape;
        let mut memory = self.memory();
        let first = self.inputs.len() as u32;
        let operands = self.operands();
        let refs: Vec<&Array> = operands.iter().collect();
        let attention = Attention { scores: self.scores.clone(), empty: self.shape.empty };
        let done = attention.eval(&EvalCx { bindings: &self.bindings }, &refs).expect("runs");
        let Data::F32(lse) = done[1].data() else { unreachable!("results are f32") };
        let delta: Vec<f32> = lse.iter().map(|_| r.float()).collect();
        let bytes = |x: &[f32]| -> Vec<u8> { x.iter().flat_map(|x| x.to_le_bytes()).collect() };
        memory.insert(BufferId(first), bytes(lse));
        memory.insert(BufferId(first + 1), bytes(&delta));
        for (i, len) in [queries * d, keys * d, keys * e].into_iter().enumerate() {
            memory.insert(BufferId(first + 2 + i as u32), vec![0xff; 4 * a * b * len]);
        }
        memory
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Shapes in groups: those of one group have the same text, as compiling it takes longer than all that is done with it.
fn shapes() -> Vec<Vec<Shape>> {
    let long = Shape { causal: true, queries: 70, keys: 70, d: 64, e: 64, large: true, ..PLAIN };
    let causal = Shape { causal: true, symbols: true, empty: Empty::Nan, ..PLAIN };
    let causal =
        [(5, 90), (80, 30), (33, 33), (1, 1), (40, 0)].map(|(queries, keys)| Shape { queries, keys, ..causal });
    let odd = [(40, 50), (33, 33), (64, 32)].map(|(queries, keys)| Shape { queries, keys, ..ODD });
    vec![vec![Shape { e: 80, ..PLAIN }], vec![long], causal.to_vec(), odd.to_vec()]
}

/// Everything at once, and no size a multiple of four.
const ODD: Shape = Shape { causal: true, bias: true, mask: true, symbols: true, d: 7, e: 9, ..PLAIN };

#[test]
fn forward_is_that_of_the_evaluator() {
    for (seed, shape) in shapes().into_iter().enumerate().flat_map(|(i, group)| group.into_iter().map(move |s| (i, s)))
    {
        let case = case(&mut Random(seed as u64), shape, false);
        case.run(&mut case.forward());
    }
}

#[test]
fn gradients_are_those_of_the_evaluator() {
    for (seed, shape) in shapes().into_iter().enumerate().flat_map(|(i, group)| group.into_iter().map(move |s| (i, s)))
    {
        let mut r = Random(seed as u64);
        let case = case(&mut r, shape, true);
        let mut memory = case.backward(&mut r);
        case.run(&mut memory);
    }
}

/// Puts a value at some element of an input.
fn spoil(case: &mut Case, input: usize, at: usize, value: f32) {
    let Data::F32(data) = &mut case.inputs[input] else { unreachable!("an input of floats") };
    let n = data.len();
    data[at % n] = value;
}

#[test]
fn what_is_hidden_does_not_show_and_what_is_no_number_does() {
    let mut at = Random(5);
    for backward in [false, true] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // Of queries, keys, values, and the bias.
            for input in 0..4 {
                let mut r = Random(3);
                let mut case = case(&mut r, Shape { queries: 37, keys: 37, ..ODD }, backward);
                for _ in 0..3 {
                    spoil(&mut case, input, at.below(10_000), value);
                }
                let mut memory = if backward { case.backward(&mut r) } else { case.forward() };
                case.run(&mut memory);
            }
        }
    }
}

#[test]
fn other_dtypes_are_refused() {
    let mut case = case(&mut Random(4), PLAIN, false);
    case.attend.dtype = DType::F64;
    let refused = dispatches(&case.attend, &WgslTarget::default()).expect_err("has no exponential of f64");
    assert_eq!(refused.to_string(), "the WGSL printer does not support f64 in an attention");
}

#[test]
fn snapshots() {
    let text = |backward: bool| -> Vec<String> {
        let shape = Shape { causal: true, queries: 64, keys: 64, d: 32, e: 32, ..PLAIN };
        let case = case(&mut Random(0), shape, backward);
        let all = dispatches(&case.attend, &WgslTarget::default()).expect("has text");
        all.iter().map(|d| d.text.to_string()).collect()
    };
    insta::assert_snapshot!("forward", text(false)[0]);
    insta::assert_snapshot!("keys", text(true)[1]);
}

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

/// A view of a buffer of its own: heads after positions or before, keys transposed, heads shared.
fn grid(r: &mut Random, buffer: u32, [outer, heads]: [usize; 2], rows: usize, columns: usize) -> (Grid, usize) {
    let mut sizes = [(0, outer), (1, heads), (2, rows), (3, columns)];
    match r.below(4) {
        0 => sizes.swap(1, 2),
        1 => sizes.swap(2, 3),
        _ => {}
    }
    let shared = r.below(4) == 0;
    let offset = [0, 0, 4, 3][r.below(4)];
    let (mut strides, mut stride) = ([0; 4], 1);
    for (i, size) in sizes.into_iter().rev() {
        if i == 1 && shared {
            continue;
        }
        strides[i] = stride;
        stride *= size.max(1);
    }
    let grid = Grid {
        buffer: BufferId(buffer),
        offset: dim(offset),
        batch: [dim(strides[0]), dim(strides[1])].into_iter().collect(),
        row: dim(strides[2]),
        column: dim(strides[3]),
    };
    (grid, offset + stride)
}

fn case(r: &mut Random, shape: Shape, backward: bool) -> Case {
    let Shape { batch, queries, keys, d, e, causal, bias, mask, empty } = shape;
    let scores = Scores { scale: 0.3.into(), causal, bias, mask };
    let mut inputs = Vec::new();
    let mut view = |r: &mut Random, rows: usize, columns: usize, bools: bool| {
        let (grid, len) = grid(r, inputs.len() as u32, batch, rows, columns);
        inputs.push(match bools {
            true => Data::Bool((0..len).map(|_| r.below(3) > 0).collect()),
            false => Data::F32((0..len).map(|_| r.float()).collect()),
        });
        grid
    };
    let (q, k, v) = (view(r, queries, d, false), view(r, keys, d, false), view(r, keys, e, false));
    let bias = bias.then(|| view(r, queries, keys, false));
    let mask = mask.then(|| view(r, queries, keys, true));
    let pass = if backward {
        let d_out = view(r, queries, e, false);
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
        queries: dim(queries),
        keys: dim(keys),
        d: dim(d),
        e: dim(e),
        q,
        k,
        v,
        bias,
        mask,
        pass,
    };
    Case { shape, attend, scores, inputs, bindings: Bindings::default() }
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
        // Both sizes of tiles.
        for target in [WgslTarget { workgroup_bytes: 16_384, ..target }, target] {
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

fn shapes() -> Vec<Shape> {
    vec![
        PLAIN,
        Shape { causal: true, queries: 70, keys: 70, d: 64, e: 64, ..PLAIN },
        Shape { causal: true, queries: 5, keys: 90, ..PLAIN },
        Shape { causal: true, queries: 80, keys: 30, empty: Empty::Nan, ..PLAIN },
        Shape { bias: true, mask: true, d: 7, e: 9, ..PLAIN },
        Shape { mask: true, causal: true, queries: 33, keys: 33, d: 3, e: 130, ..PLAIN },
        Shape { queries: 1, keys: 1, d: 1, e: 1, ..PLAIN },
        Shape { keys: 0, empty: Empty::Nan, ..PLAIN },
        Shape { d: 0, ..PLAIN },
    ]
}

#[test]
fn forward_is_that_of_the_evaluator() {
    let mut r = Random(1);
    for shape in shapes() {
        let case = case(&mut r, shape, false);
        case.run(&mut case.forward());
    }
}

#[test]
fn gradients_are_those_of_the_evaluator() {
    let mut r = Random(2);
    for shape in shapes() {
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
    let mut r = Random(3);
    for backward in [false, true] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            // Of queries, keys, values, and the bias.
            for input in 0..4 {
                let shape = Shape { causal: true, mask: true, bias: true, queries: 37, keys: 37, d: 4, e: 5, ..PLAIN };
                let mut case = case(&mut r, shape, backward);
                for _ in 0..3 {
                    let at = r.below(10_000);
                    spoil(&mut case, input, at, value);
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

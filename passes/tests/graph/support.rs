//! What the tests share: building graphs, data, comparison.

use lehr_ir::array::Array;
use lehr_ir::eval::evaluate;
use lehr_ir::graph::verify::verify;
use lehr_ir::graph::{Builder, Graph, ParamKind, Value};
use lehr_ir::{DType, Type};

/// A graph of input parameters; outputs are named `y0`, `y1`, ….
pub(crate) fn build(params: &[Type], make: impl FnOnce(&mut Builder, &[Value]) -> Vec<Value>) -> Graph {
    let mut b = Builder::new("f");
    let values: Vec<Value> =
        params.iter().enumerate().map(|(i, ty)| b.param(format!("x{i}"), ParamKind::Input, ty.clone())).collect();
    for (i, v) in make(&mut b, &values).into_iter().enumerate() {
        b.output(format!("y{i}"), v);
    }
    b.finish()
}

/// `f64` of a shape.
pub(crate) fn f64s(shape: &[usize]) -> Type {
    Type::new(DType::F64, shape.iter().copied())
}

pub(crate) fn type_of(a: &Array) -> Type {
    Type::new(a.dtype(), a.shape().iter().copied())
}

/// Evaluates a graph that has to be well-formed.
pub(crate) fn run(graph: &Graph, args: &[Array]) -> Vec<Array> {
    if let Err(e) = verify(graph) {
        panic!("{e}");
    }
    evaluate(graph, args).unwrap_or_else(|e| panic!("{e}\n{graph}")).outputs
}

/// Numbers in `low..high`, the same for the same seed.
pub(crate) fn random(shape: &[usize], low: f64, high: f64, seed: u64) -> Array {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        // SplitMix64 (Steele, Lea and Flood 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    Array::new(shape, (0..n).map(|_| low + (high - low) * next()).collect::<Vec<f64>>()).unwrap()
}

pub(crate) fn floats(a: &Array) -> &[f64] {
    a.as_slice::<f64>().unwrap()
}

/// `a + scale * b`.
pub(crate) fn plus(a: &Array, b: &Array, scale: f64) -> Array {
    let sum = floats(a).iter().zip(floats(b)).map(|(x, y)| x + scale * y);
    Array::new(a.shape(), sum.collect::<Vec<f64>>()).unwrap()
}

pub(crate) fn dot(a: &Array, b: &Array) -> f64 {
    assert_eq!(a.shape(), b.shape());
    floats(a).iter().zip(floats(b)).map(|(x, y)| x * y).sum()
}

/// Whether numbers agree to `tolerance`, relative above 1 and absolute below.
pub(crate) fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
}

pub(crate) fn assert_close(what: &str, got: &Array, want: &Array, tolerance: f64) {
    assert_eq!(type_of(got), type_of(want), "{what}");
    if got.dtype() != DType::F64 {
        assert_eq!(got, want, "{what}");
        return;
    }
    for (i, (g, w)) in floats(got).iter().zip(floats(want)).enumerate() {
        assert!(close(*g, *w, tolerance), "{what}: element {i} is {g}, not {w}\ngot {got:?}\nwant {want:?}");
    }
}

/// Whether arrays agree to the bit, any NaN with any.
pub(crate) fn same_bits(a: &Array, b: &Array) -> bool {
    type_of(a) == type_of(b)
        && (0..a.len()).all(|i| {
            let (x, y) = (a.data().get(i).unwrap(), b.data().get(i).unwrap());
            x == y || (x.dtype().is_float() && x.to_f64().is_nan() && y.to_f64().is_nan())
        })
}

//! What the tests share: evaluation and comparison, and from the table how graphs and data are made.

use lehr_ir::DType;
use lehr_ir::array::Array;
use lehr_ir::eval::evaluate;
use lehr_ir::graph::Graph;
use lehr_ir::graph::verify::verify;

pub(crate) use crate::table::build::{build, f64s, random, type_of};

/// Evaluates a graph that has to be well-formed.
pub(crate) fn run(graph: &Graph, args: &[Array]) -> Vec<Array> {
    if let Err(e) = verify(graph) {
        panic!("{e}");
    }
    evaluate(graph, args).unwrap_or_else(|e| panic!("{e}\n{graph}")).outputs
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

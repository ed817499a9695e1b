//! How the rows' graphs and their data are made.

use lehr_ir::DType;
use lehr_ir::Type;
use lehr_ir::array::Array;
use lehr_ir::graph::{Builder, Graph, ParamKind, Value};

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

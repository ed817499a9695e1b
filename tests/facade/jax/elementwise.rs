//! Elementwise functions, comparisons and choices, at points where they are smooth.

use lehr::prelude::*;

use super::{Program, program};

const V: &[usize] = &[4];

pub(super) fn programs() -> Vec<Program> {
    let mut all = functions();
    all.extend(activations());
    all.extend(of_two());
    all.extend(choices());
    all
}

fn one(name: &'static str, f: fn(&Tensor) -> Tensor) -> Program {
    program(name, [V], move |[x]| f(x))
}

fn two(name: &'static str, f: fn(&Tensor, &Tensor) -> Tensor) -> Program {
    program(name, [V, V], move |[x, y]| f(x, y))
}

fn functions() -> Vec<Program> {
    vec![
        one("neg", |x| -x),
        one("abs", Tensor::abs),
        one("sign", Tensor::sign),
        one("floor", Tensor::floor),
        one("ceil", Tensor::ceil),
        one("trunc", Tensor::trunc),
        one("round", Tensor::round),
        one("sqrt", Tensor::sqrt),
        one("rsqrt", Tensor::rsqrt),
        one("cbrt", Tensor::cbrt),
        one("exp", Tensor::exp),
        one("exp2", Tensor::exp2),
        one("expm1", Tensor::expm1),
        one("log", Tensor::log),
        one("log2", Tensor::log2),
        one("log1p", Tensor::log1p),
        one("sin", Tensor::sin),
        one("cos", Tensor::cos),
        one("tan", Tensor::tan),
        one("asin", Tensor::asin),
        one("acos", Tensor::acos),
        one("atan", Tensor::atan),
        one("sinh", Tensor::sinh),
        one("cosh", Tensor::cosh),
        one("tanh", Tensor::tanh),
        one("asinh", Tensor::asinh),
        one("acosh", Tensor::acosh),
        one("atanh", Tensor::atanh),
        one("sigmoid", Tensor::sigmoid),
        one("erf", Tensor::erf),
        one("erfc", Tensor::erfc),
        one("reciprocal", Tensor::reciprocal),
        one("square", Tensor::square),
    ]
}

fn activations() -> Vec<Program> {
    vec![
        one("relu", Tensor::relu),
        one("relu6", |x| x.maximum(0).minimum(6)),
        one("leaky_relu", |x| x.leaky_relu(0.25)),
        one("elu", |x| x.elu(0.75)),
        one("gelu", Tensor::gelu),
        one("gelu_tanh", Tensor::gelu_tanh),
        one("silu", Tensor::silu),
        one("softplus", Tensor::softplus),
        one("log_sigmoid", Tensor::log_sigmoid),
    ]
}

fn of_two() -> Vec<Program> {
    vec![
        two("add", |x, y| x + y),
        two("sub", |x, y| x - y),
        two("mul", |x, y| x * y),
        two("div", |x, y| x / y),
        two("rem", |x, y| x % y),
        two("remainder", |x, y| x.remainder(y)),
        two("floor_divide", |x, y| x.floor_divide(y)),
        two("maximum", |x, y| x.maximum(y)),
        two("minimum", |x, y| x.minimum(y)),
        two("pow", |x, y| x.pow(y)),
        one("pow_of_a_number", |x| x.full_like(1.75).pow(x)),
        one("pow_negative", |x| x.pow(0.5) + x.pow(-2) + x.pow(3) + x.pow(7)),
        one("pow_whole", |x| x.pow(Tensor::from([3i64, 2, -1, 0]))),
        two("atan2", |y, x| y.atan2(x)),
        two("hypot", |x, y| (x * x + y * y).sqrt()),
        two("logaddexp", logaddexp),
        one("clip", |x| x.clip(-0.5, 0.75)),
        program("clip_between", [V, V, V], |[x, low, high]| x.clip(low, high)),
        program("broadcast_operands", [&[3, 1], &[2]], |[x, y]| x * y + x / (y * y + 1)),
        program("scalar_operands", [&[]], |[x]| 3 - 2 * (x / 4 + 1) / (5 - x)),
    ]
}

/// `log(e^x + e^y)`, where neither may be +∞.
pub(super) fn logaddexp(x: &Tensor, y: &Tensor) -> Tensor {
    let top = x.maximum(y);
    ((x - &top).exp() + (y - &top).exp()).log() + top
}

fn choices() -> Vec<Program> {
    vec![
        two("compare", |x, y| x.lt(y) * x + x.ge(y) * y * y + x.ne(y)),
        two("select", |x, y| Tensor::select(&x.gt(y), x.sin() * y, y.cos() + x)),
        one("select_nested", |x| Tensor::select(&x.gt(1), x * x, Tensor::select(&x.gt(0), x.exp(), -x))),
        two("logic", |x, y| Tensor::select(&((x.gt(0) & !y.gt(0)) | x.gt(y)), x * y, y)),
        one("is_finite", |x| Tensor::select(&(x.reciprocal().is_finite() & !x.is_nan()), x.exp(), 0)),
        one("to_f32_and_back", |x| x.exp().cast(F32).cast_like(x) * x),
        one("to_integers", |x| (x * 3).cast(I64) * x),
        one("to_bool", |x| x.cast(Bool) * x.sin()),
    ]
}

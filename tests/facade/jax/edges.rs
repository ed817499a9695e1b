//! Points where a convention decides: zeros, ties, bounds, poles, infinities and NaN.

use lehr::control::cond;
use lehr::prelude::*;

use super::elementwise::logaddexp;
use super::reductions::cumulative;
use super::{Program, program};

pub(super) fn programs() -> Vec<Program> {
    let mut all = poles();
    all.extend(quotients());
    all.extend(ties());
    all.extend(activations());
    all.extend(powers());
    all.extend(folds());
    all.extend(choices());
    all
}

/// A program of one vector.
fn edge(name: &'static str, size: &'static [usize; 1], f: fn(&Tensor) -> Tensor) -> Program {
    program(name, [size], move |[x]| f(x))
}

fn poles() -> Vec<Program> {
    vec![
        edge("edge_abs", &[4], Tensor::abs),
        edge("edge_sign", &[5], |x| x.sign() * x),
        edge("edge_sqrt", &[5], Tensor::sqrt),
        edge("edge_rsqrt", &[4], Tensor::rsqrt),
        edge("edge_cbrt", &[3], Tensor::cbrt),
        edge("edge_log", &[5], Tensor::log),
        edge("edge_log2", &[4], Tensor::log2),
        edge("edge_log1p", &[4], Tensor::log1p),
        edge("edge_exp", &[6], Tensor::exp),
        edge("edge_expm1", &[5], Tensor::expm1),
        edge("edge_sin", &[4], |x| x.sin() + x.cos()),
        edge("edge_asin", &[4], Tensor::asin),
        edge("edge_acos", &[4], Tensor::acos),
        edge("edge_atan", &[3], Tensor::atan),
        edge("edge_acosh", &[3], Tensor::acosh),
        edge("edge_atanh", &[4], Tensor::atanh),
        edge("edge_tanh", &[5], Tensor::tanh),
        edge("edge_sigmoid", &[5], Tensor::sigmoid),
        edge("edge_erf", &[4], |x| x.erf() + x.erfc()),
        edge("edge_round", &[6], |x| x.round() + x.floor() + x.ceil() + x.trunc()),
        edge("edge_square_at_infinity", &[4], |x| x * x - x),
        edge("edge_to_integers", &[4], |x| x.cast(I64)),
        edge("edge_atan2", &[10], |x| x.slice(..5).atan2(x.slice(5..))),
        edge("edge_hypot", &[2], |x| (x.slice(0).square() + x.slice(1).square()).sqrt()),
    ]
}

fn quotients() -> Vec<Program> {
    vec![
        edge("edge_div", &[12], |x| x.slice(..6) / x.slice(6..)),
        edge("edge_reciprocal", &[5], Tensor::reciprocal),
        edge("edge_rem", &[10], |x| x.slice(..5) % x.slice(5..)),
        edge("edge_remainder", &[10], |x| x.slice(..5).remainder(x.slice(5..))),
        edge("edge_floor_divide", &[8], |x| x.slice(..4).floor_divide(x.slice(4..))),
        edge("edge_floor_divide_of_a_quotient_rounded_up", &[6], |x| x.slice(..3).floor_divide(x.slice(3..))),
        edge("edge_normalise", &[2], |x| x / x.square().sum().sqrt().maximum(1e-6)),
        edge("edge_matmul", &[6], |x| x.slice(..4).reshape((2, 2)).matmul(&x.slice(4..))),
    ]
}

fn ties() -> Vec<Program> {
    vec![
        edge("edge_maximum", &[10], |x| x.slice(..5).maximum(x.slice(5..))),
        edge("edge_minimum", &[10], |x| x.slice(..5).minimum(x.slice(5..))),
        edge("edge_reduce_max", &[6], |x| x.reshape((2, 3)).max_axes(1)),
        edge("edge_reduce_min", &[6], |x| x.reshape((2, 3)).min_axes(1)),
        edge("edge_reduce_max_nan", &[3], |x| stop_gradient(&x.max())),
        edge("edge_argmax", &[9], |x| {
            let rows = x.reshape((3, 3));
            rows.argmax(1) + rows.argmin(1) * 5
        }),
        edge("edge_cummax", &[5], |x| cumulative(x, f64::NEG_INFINITY, |a, b| a.maximum(b))),
        edge("edge_clip", &[6], |x| x.clip(-1, 2)),
        edge("edge_clip_crossed", &[3], |x| x.clip(2, -1)),
    ]
}

fn activations() -> Vec<Program> {
    vec![
        edge("edge_relu", &[6], Tensor::relu),
        edge("edge_relu6", &[4], |x| x.maximum(0).minimum(6)),
        edge("edge_leaky_relu", &[4], |x| x.leaky_relu(0.25)),
        edge("edge_elu", &[5], |x| x.elu(0.75)),
        edge("edge_gelu", &[3], Tensor::gelu),
        edge("edge_silu", &[3], Tensor::silu),
        edge("edge_softplus", &[5], Tensor::softplus),
        edge("edge_log_sigmoid", &[3], Tensor::log_sigmoid),
        edge("edge_huber", &[4], |x| losses::huber(x, 0, 1.0)),
    ]
}

fn powers() -> Vec<Program> {
    vec![
        edge("edge_pow_zero_exponent", &[4], |x| x.pow(0)),
        edge("edge_pow_whole", &[3], |x| x.pow(2) + x.pow(3) + x.pow(4) + x.pow(1)),
        edge("edge_pow_whole_exponents", &[4], |x| x.pow(Tensor::from([0i64, 1, 2, 3]))),
        edge("edge_pow_zero_base", &[6], |x| x.slice(..3).pow(x.slice(3..))),
        edge("edge_pow_root", &[3], |x| x.pow(0.5) + x.pow(1.5)),
        edge("edge_pow_of_zero", &[3], |x| x.full_like(0).pow(x)),
        edge("edge_pow_negative_base", &[3], |x| x.pow(3.0) + x.pow(-2.0)),
    ]
}

fn folds() -> Vec<Program> {
    vec![
        edge("edge_norm", &[3], Tensor::norm),
        edge("edge_std", &[3], Tensor::std),
        edge("edge_var", &[3], Tensor::var),
        edge("edge_prod_one_zero", &[4], Tensor::prod),
        edge("edge_prod_two_zeros", &[4], Tensor::prod),
        edge("edge_prod_three_zeros", &[6], |x| x.reshape((2, 3)).prod_axes(1)),
        edge("edge_prod_infinite", &[3], Tensor::prod),
        edge("edge_logsumexp", &[8], |x| x.reshape((4, 2)).logsumexp_axes(1)),
        edge("edge_softmax", &[6], |x| x.reshape((3, 2)).softmax(1)),
        edge("edge_log_softmax", &[4], |x| x.reshape((2, 2)).log_softmax(1)),
        edge("edge_logaddexp", &[8], |x| logaddexp(&x.slice(..4), &x.slice(4..))),
        edge("edge_mean_of_infinities", &[3], Tensor::mean),
    ]
}

fn choices() -> Vec<Program> {
    vec![
        // The choice is not taken, but its infinite slope meets the zero cotangent: JAX's NaN.
        edge("edge_select_trap", &[3], |x| Tensor::select(&x.gt(0), x.sqrt(), 0)),
        edge("edge_select_trap_log", &[3], |x| Tensor::select(&x.gt(0), x.log(), x)),
        edge("edge_select_safe", &[3], |x| {
            let safe = Tensor::select(&x.gt(0), x, 1);
            Tensor::select(&x.gt(0), safe.sqrt(), 0)
        }),
        edge("edge_select_nan", &[3], |x| Tensor::select(&x.is_nan(), 0, x * x)),
        edge("edge_select_division", &[2], |x| Tensor::select(&x.ne(0), x.sin() / x, 1)),
        edge("edge_compare", &[10], |x| {
            let (a, b) = (x.slice(..5), x.slice(5..));
            a.lt(&b) + a.le(&b) * 2 + a.eq(&b) * 4 + a.ne(&b) * 8
        }),
        edge("edge_is_finite", &[4], |x| x.is_finite() + x.is_nan() * 2),
        edge("edge_cond_boundary", &[2], |x| cond(&x.slice(0).gt(0), || x * 2, || x * 3)),
        edge("edge_cond_trap", &[2], |x| cond(&x.slice(0).gt(0), || x.slice(0).sqrt(), || x.slice(1) * 0.0)),
    ]
}

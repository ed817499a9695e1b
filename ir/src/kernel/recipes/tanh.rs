//! tanh, sinh, cosh.

use super::emit::Emit;
use super::exp::exp_shifted;
use super::parts::{at_most, horner, power_of_two, round_scaled, with_sign};
use std::f32::consts::{LN_2, LOG2_E};

/// tanh x: |x| + |x|³·p(x²) below 0.6, above it 1 - 2/(e^2|x| + 1).
///
/// The second form halves the errors of its parts where it begins and fades them further on,
/// so ln 2 in one part and one scale suffice.
pub fn tanh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let a = at_most(e, a, 9.1);
    let (t, n) = round_scaled(e, a, 2.0 * LOG2_E, 127.0);
    let half_ln2 = e.f32(-0.5 * LN_2);
    let r = e.fma(n, half_ln2, a);
    // e^2r on |r| ≤ ln 2 / 4.
    let p = horner(e, r, &[0.088_453_725, 0.267_797_47, 0.666_692_2, 1.333_321_7, 1.999_999_8, 2.0, 1.0]);
    let s = power_of_two(e, t);
    let (one, minus_two) = (e.f32(1.0), e.f32(-2.0));
    let d = e.fma(p, s, one);
    let q = e.div(minus_two, d);
    let large = e.add(q, one);
    let z = e.mul(a, a);
    let p = horner(e, z, &[-0.005_897_966_7, 0.020_798_625, -0.053_784_717, 0.133_319_36, -0.333_333]);
    let az = e.mul(a, z);
    let small = e.fma(az, p, a);
    let bound = e.f32(0.6);
    let is_small = e.lt(a, bound);
    let y = e.select(is_small, small, large);
    with_sign(e, y, x)
}

/// sinh x: a polynomial below 1, above it h - 1/(4h) with h = e^|x|/2.
pub fn sinh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let (h, rest) = half_exp(e, a);
    let large = e.sub(h, rest);
    let z = e.mul(a, a);
    let p = horner(e, z, &[0.000_203_733_4, 0.008_330_271, 0.166_667_16]);
    let az = e.mul(a, z);
    let small = e.fma(az, p, a);
    let one = e.f32(1.0);
    let is_small = e.lt(a, one);
    let y = e.select(is_small, small, large);
    with_sign(e, y, x)
}

/// cosh x = h + 1/(4h) with h = e^|x|/2.
pub fn cosh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let (h, rest) = half_exp(e, a);
    e.add(h, rest)
}

/// h = e^a/2 and 1/(4h) for a ≥ 0; a scale of a quarter lets h exceed e^88.7 / 2 without overflow.
fn half_exp<E: Emit>(e: &mut E, a: E::V) -> (E::V, E::V) {
    let a = at_most(e, a, 90.0);
    let (q, r, s) = exp_shifted(e, a, None, -2.0);
    let (one, quarter) = (e.f32(1.0), e.f32(0.25));
    let p = e.fma(q, r, one);
    let h = e.mul(p, s);
    let h = e.add(h, h);
    (h, e.div(quarter, h))
}

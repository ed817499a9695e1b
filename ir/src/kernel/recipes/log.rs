//! log, log2, log1p and the inverse hyperbolic functions, which are log1p of an argument made without cancellation.
//!
//! x = 2^k·(1 + f) with f in -1/3 ..= 1/3 by integer arithmetic on the bits, then log x = k·ln 2 + log(1 + f).
//! The interval is centred on 1, so results near zero come from k = 0 and keep their relative accuracy.

use super::emit::Emit;
use super::parts::{NAN, horner, with_sign};
use std::f32::consts::{LN_2, LOG2_E};

/// The bits of 2/3, the smallest mantissa.
const TWO_THIRDS: i32 = 0x3f2a_aaab;
/// Sign and exponent bits.
const EXPONENT: i32 = 0xff80_0000_u32 as i32;
/// Coefficients of (log(1 + f) - f)/f² on |f| ≤ 1/3.
const LOG: [f32; 9] = [
    -0.128_800_9,
    0.139_882_73,
    -0.121_867_22,
    0.140_062_57,
    -0.166_802_67,
    0.200_104_04,
    -0.249_998_05,
    0.333_332_15,
    -0.5,
];
/// Coefficients of (log2(1 + f) - f·log2 e)/f² on |f| ≤ 1/3.
const LOG2: [f32; 9] = [
    -0.185_527_52,
    0.201_605_38,
    -0.175_920_35,
    0.202_096_72,
    -0.240_633_79,
    0.288_686_57,
    -0.360_671_5,
    0.480_896_7,
    -0.721_347_5,
];
/// log2 e - LOG2_E.
const LOG2_E_LOW: f32 = 1.925_963e-8;
/// 2^-23: the integer of an exponent field in place is 2^23 times the exponent.
const FIELD: f32 = 1.0 / 8_388_608.0;

/// Natural logarithm.
pub fn log<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (f, k) = split(e, x);
    let y = log_of_parts(e, f, k, false);
    specials(e, x, y, 0.0)
}

/// Logarithm to base 2; exact for powers of two.
pub fn log2<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (f, k) = split(e, x);
    let p = horner(e, f, &LOG2);
    let (high, low, field) = (e.f32(LOG2_E), e.f32(LOG2_E_LOW), e.f32(FIELD));
    let q = e.fma(f, p, low);
    let q = e.mul(f, q);
    let y = e.fma(f, high, q);
    let y = e.fma(k, field, y);
    specials(e, x, y, 0.0)
}

/// log(1 + x), accurate near zero.
pub fn log1p<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let y = log1p_finite(e, x);
    specials(e, x, y, -1.0)
}

/// Inverse sine hyperbolic: log1p(a + a²/(1 + √(1 + a²))) for a = |x|.
pub fn asinh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let one = e.f32(1.0);
    let root = e.fma(a, a, one);
    let root = e.sqrt(root);
    let root = e.add(root, one);
    let w = e.div(a, root);
    let z = e.fma(a, w, a);
    let y = log_of_doubled(e, a, z);
    with_sign(e, y, x)
}

/// Inverse cosine hyperbolic: log1p(t + √(t² + 2t)) for t = x - 1.
pub fn acosh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (one, nan) = (e.f32(1.0), e.f32(NAN));
    let t = e.sub(x, one);
    let twice = e.add(t, t);
    let z = e.fma(t, t, twice);
    let z = e.sqrt(z);
    let z = e.add(t, z);
    let y = log_of_doubled(e, x, z);
    let outside = e.lt(x, one);
    e.select(outside, nan, y)
}

/// Inverse tangent hyperbolic: log1p(2a/(1 - a))/2 for a = |x|.
pub fn atanh<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let (one, half) = (e.f32(1.0), e.f32(0.5));
    let d = e.sub(one, a);
    let n = e.add(a, a);
    let z = e.div(n, d);
    let y = log1p(e, z);
    let y = e.mul(y, half);
    with_sign(e, y, x)
}

/// f and 2^23·k as f32, with x = 2^k·(1 + f); any finite x > 0, subnormals scaled by 2^24 first.
pub fn split<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V) {
    let (least, scale) = (e.f32(f32::MIN_POSITIVE), e.f32(16_777_216.0));
    let subnormal = e.lt(x, least);
    let scaled = e.mul(x, scale);
    let x = e.select(subnormal, scaled, x);
    let (bias, zero) = (e.i32(24 << 23), e.i32(0));
    let bias = e.select(subnormal, bias, zero);
    let (base, mask, one) = (e.i32(TWO_THIRDS), e.i32(EXPONENT), e.f32(1.0));
    let bits = e.bitcast_to_i32(x);
    let k = e.isub(bits, base);
    let k = e.iand(k, mask);
    let m = e.isub(bits, k);
    let m = e.bitcast_to_f32(m);
    let f = e.sub(m, one);
    let k = e.isub(k, bias);
    (f, e.to_f32(k))
}

/// k·ln 2 + log(1 + f) for k times 2^23, or with `negated` for k times -2^23.
fn log_of_parts<E: Emit>(e: &mut E, f: E::V, k: E::V, negated: bool) -> E::V {
    let p = horner(e, f, &LOG);
    let f2 = e.mul(f, f);
    let y = e.fma(p, f2, f);
    let ln2 = e.f32(if negated { -LN_2 * FIELD } else { LN_2 * FIELD });
    e.fma(k, ln2, y)
}

/// log(1 + x) for finite x > -1, and NaN or a wrong number elsewhere.
///
/// k comes from the rounded sum 1 + x, but f = 2^-k·x - (1 - 2^-k) from x itself, so the rounding of the sum is harmless.
/// The negated k makes 0·ln 2 negative, which keeps the sign of a zero.
fn log1p_finite<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (one, minus_quarter) = (e.f32(1.0), e.f32(-0.25));
    let (base, mask, four, zero) = (e.i32(TWO_THIRDS), e.i32(EXPONENT), e.i32(0x4080_0000), e.i32(0));
    let u = e.add(x, one);
    let bits = e.bitcast_to_i32(u);
    let k = e.isub(bits, base);
    let k = e.iand(k, mask);
    let m = e.bitcast_to_i32(x);
    let m = e.isub(m, k);
    let m = e.bitcast_to_f32(m);
    // 4·2^-k is normal for every k up to 128, 2^-k is not.
    let s = e.isub(four, k);
    let s = e.bitcast_to_f32(s);
    let s = e.fma(s, minus_quarter, one);
    let f = e.sub(m, s);
    let k = e.isub(zero, k);
    let k = e.to_f32(k);
    log_of_parts(e, f, k, true)
}

/// log1p(z), or log x + ln 2 where x is so large that z ≈ 2x may have overflowed.
fn log_of_doubled<E: Emit>(e: &mut E, x: E::V, z: E::V) -> E::V {
    let (bound, infinity) = (e.f32(67_108_864.0), e.f32(f32::INFINITY));
    let (ln2, zero) = (e.f32(LN_2), e.f32(0.0));
    let large = e.lt(bound, x);
    let z = e.select(large, x, z);
    let rest = e.select(large, ln2, zero);
    let y = log1p_finite(e, z);
    let y = e.add(y, rest);
    let finite = e.lt(x, infinity);
    e.select(finite, y, x)
}

/// Sets the results of a logarithm with its pole at `pole`: -inf there, NaN below, x itself for +inf and NaN.
fn specials<E: Emit>(e: &mut E, x: E::V, y: E::V, pole: f32) -> E::V {
    let (pole, infinity) = (e.f32(pole), e.f32(f32::INFINITY));
    let (at_pole, nan) = (e.f32(f32::NEG_INFINITY), e.f32(NAN));
    let finite = e.lt(x, infinity);
    let y = e.select(finite, y, x);
    let is_pole = e.eq(x, pole);
    let z = e.select(is_pole, at_pole, nan);
    let outside = e.le(x, pole);
    e.select(outside, z, y)
}

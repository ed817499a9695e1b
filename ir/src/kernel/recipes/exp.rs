//! exp, exp2, expm1, logistic.
//!
//! exp writes x = 2m·ln 2 + r with |r| ≤ ln 2 and returns e^r · 2^m · 2^m.
//! Twice the usual interval costs one polynomial degree more, and saves the three integer operations that a split of the scale into two unequal halves needs;
//! both factors are normal for every finite result, and only the last product rounds, so subnormal results are right.
//! Coefficients: minimax (Remez) on the interval named, leading ones rounded to f32 first and the rest fitted again.

use super::emit::Emit;
use super::parts::{ROUNDER, at_least, at_most, horner, power_of_two, round_scaled, scale_in_two_steps};
use std::f32::consts::{LN_2, LOG2_E};

/// ln 2 - LN_2.
pub const LN_2_LOW: f32 = -1.904_654_2e-9;

/// e^x.
pub fn exp<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let x = at_most(e, x, 89.0);
    let x = at_least(e, x, -104.0);
    let (p, t, m) = exp_parts(e, x);
    if let Some(y) = e.scale(p, |e| e.add(m, m)) {
        return y;
    }
    let s = power_of_two(e, t);
    let p = e.mul(p, s);
    e.mul(p, s)
}

/// e^x for x ≤ 64: softmax subtracts the maximum, so its arguments are never positive.
pub fn exp_bounded<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let x = at_least(e, x, -104.0);
    exp_negative(e, x)
}

/// 2^x; exact for integers.
pub fn exp2<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let x = at_most(e, x, 129.0);
    let x = at_least(e, x, -151.0);
    exp2_clamped(e, x, None)
}

/// e^x - 1, accurate near zero: 2^n·(e^r - 1) + (2^n - 1), all of it halved so that 2^128 is reached.
pub fn expm1<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let c = at_most(e, x, 89.0);
    let c = at_least(e, c, -18.0);
    let (t, n) = round_scaled(e, c, LOG2_E, 126.0);
    let r = reduce(e, c, n, 1.0);
    let p = horner(e, r, &[0.001_388_154_2, 0.008_369_248, 0.041_667_327, 0.166_665_15, 0.499_999_97]);
    let r2 = e.mul(r, r);
    let q = e.fma(r2, p, r);
    let s = power_of_two(e, t);
    let half = e.f32(0.5);
    let u = e.sub(s, half);
    let y = e.fma(s, q, u);
    let y = e.add(y, y);
    // Halving drops a bit of a subnormal and the sum drops the sign of zero.
    let (a, tiny) = (e.abs(x), e.f32(f32::EPSILON / 8.0));
    let linear = e.lt(a, tiny);
    e.select(linear, x, y)
}

/// 1/(1 + e^-x), from t = e^-|x| and w = t/(1 + t) as 1 - w, or below zero t - t·w.
///
/// Neither tail cancels, and the errors of the sum and the quotient fade with t.
pub fn logistic<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let a = e.neg(a);
    let a = at_least(e, a, -104.0);
    let t = exp_negative(e, a);
    let (one, minus_one, zero) = (e.f32(1.0), e.f32(-1.0), e.f32(0.0));
    let d = e.sub(minus_one, t);
    let minus_w = e.div(t, d);
    let negative = e.lt(x, zero);
    let base = e.select(negative, t, one);
    e.fma(base, minus_w, base)
}

/// (p, t, m) with e^x = p·2^m·2^m, p in 0.49 ..= 2.01 and 2^m of t, for x in -170 ..= 170.
fn exp_parts<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V, E::V) {
    let (t, m) = round_scaled(e, x, 0.5 * LOG2_E, 127.0);
    let r = reduce(e, x, m, 2.0);
    let p = horner(
        e,
        r,
        &[0.000_198_473_53, 0.001_412_232_9, 0.008_334_533, 0.041_660_02, 0.166_666_39, 0.500_000_54, 1.0, 1.0],
    );
    (p, t, m)
}

/// e^x for x in -104 ..= 64.
fn exp_negative<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (q, r, t, n) = exp_reduced(e, x, None, 24.0);
    let one = e.f32(1.0);
    let p = e.fma(q, r, one);
    if let Some(y) = e.scale(p, |_| n) {
        return y;
    }
    let s = power_of_two(e, t);
    lower(e, p, s)
}

/// [`exp_shifted`] with the exponent raised by 24, for x in -104 ..= 64 and a tiny `low`: s is normal down to the least subnormal result.
pub fn exp_raised<E: Emit>(e: &mut E, x: E::V, low: Option<E::V>) -> (E::V, E::V, E::V) {
    exp_shifted(e, x, low, 24.0)
}

/// (q, r, s) with e^(x + low) = (1 + q·r)·s·2^-shift, |r| ≤ ln 2 / 2 and s = 2^(n + shift), for n + shift in -126 ..= 127; s is infinite at 128.
pub fn exp_shifted<E: Emit>(e: &mut E, x: E::V, low: Option<E::V>, shift: f32) -> (E::V, E::V, E::V) {
    let (q, r, t, _) = exp_reduced(e, x, low, shift);
    (q, r, power_of_two(e, t))
}

/// (q, r, t, n) with e^(x + low) = (1 + q·r)·2^n, |r| ≤ ln 2 / 2 and 2^(n + shift) of t.
fn exp_reduced<E: Emit>(e: &mut E, x: E::V, low: Option<E::V>, shift: f32) -> (E::V, E::V, E::V, E::V) {
    let (t, n) = round_scaled(e, x, LOG2_E, 127.0 + shift);
    let mut r = reduce(e, x, n, 1.0);
    if let Some(low) = low {
        r = e.add(r, low);
    }
    let q = horner(e, r, &[0.001_382_089_5, 0.008_368_671, 0.041_668_262, 0.166_665_21, 0.499_999_94, 1.0]);
    (q, r, t, n)
}

/// p·s·2^-24, rounded once: the product p·s is normal.
pub fn lower<E: Emit>(e: &mut E, p: E::V, s: E::V) -> E::V {
    let down = e.f32(1.0 / 16_777_216.0);
    let y = e.mul(p, s);
    e.mul(y, down)
}

/// 2^(x + low) for x in -151 ..= 129 and a tiny `low`.
pub fn exp2_clamped<E: Emit>(e: &mut E, x: E::V, low: Option<E::V>) -> E::V {
    let rounder = e.f32(ROUNDER + 254.0);
    let t = e.add(x, rounder);
    let t = e.keep(t);
    let n = e.sub(t, rounder);
    let mut f = e.sub(x, n);
    if let Some(low) = low {
        f = e.add(f, low);
    }
    let p =
        horner(e, f, &[0.000_158_244_19, 0.001_341_772, 0.009_617_065, 0.055_502_728, 0.240_226_55, 0.693_147_24, 1.0]);
    match e.scale(p, |_| n) {
        Some(y) => y,
        None => scale_in_two_steps(e, p, t),
    }
}

/// x - k·n·ln 2 for an integer n below 2^8, with ln 2 in two parts; the first difference is exact.
fn reduce<E: Emit>(e: &mut E, x: E::V, n: E::V, k: f32) -> E::V {
    let (high, low) = (e.f32(-k * LN_2), e.f32(-k * LN_2_LOW));
    let r = e.fma(n, high, x);
    let r = e.keep(r);
    e.fma(n, low, r)
}

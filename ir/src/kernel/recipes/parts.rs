//! Parts that several recipes share: polynomials, clamps, signs, rounding by a large constant, double-float sums.

use super::emit::Emit;

/// 1.5·2^23: adding it rounds a value below 2^22 to an integer, which then stands in the low bits of the sum.
pub const ROUNDER: f32 = 12_582_912.0;
/// The quiet NaN that recipes return for arguments outside the domain.
pub const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// The polynomial with the coefficients `c`, highest power first, by Horner's rule.
pub fn horner<E: Emit>(e: &mut E, x: E::V, c: &[f32]) -> E::V {
    let mut p = e.f32(c[0]);
    for &c in &c[1..] {
        let c = e.f32(c);
        p = e.fma(p, x, c);
    }
    p
}

/// The smaller of `x` and the constant; NaN stays NaN. Two operations, one instruction on x86.
pub fn at_most<E: Emit>(e: &mut E, x: E::V, limit: f32) -> E::V {
    let limit = e.f32(limit);
    let above = e.lt(limit, x);
    e.select(above, limit, x)
}

/// The larger of `x` and the constant; NaN stays NaN. Two operations, one instruction on x86.
pub fn at_least<E: Emit>(e: &mut E, x: E::V, limit: f32) -> E::V {
    let limit = e.f32(limit);
    let below = e.lt(x, limit);
    e.select(below, limit, x)
}

/// `magnitude`, whose sign bit is clear, with the sign of `x`: odd functions are computed on |x|.
pub fn with_sign<E: Emit>(e: &mut E, magnitude: E::V, x: E::V) -> E::V {
    let mask = e.i32(i32::MIN);
    let x = e.bitcast_to_i32(x);
    let sign = e.iand(x, mask);
    let m = e.bitcast_to_i32(magnitude);
    let r = e.ior(m, sign);
    e.bitcast_to_f32(r)
}

/// Rounds `x·scale` to the nearest integer.
///
/// Returns the sum `x·scale + ROUNDER + bias`, whose low bits hold the integer plus `bias`, and the integer as f32.
pub fn round_scaled<E: Emit>(e: &mut E, x: E::V, scale: f32, bias: f32) -> (E::V, E::V) {
    let (scale, rounder) = (e.f32(scale), e.f32(ROUNDER + bias));
    let t = e.fma(x, scale, rounder);
    let t = e.keep(t);
    (t, e.sub(t, rounder))
}

/// 2^n from the sum of [`round_scaled`] with bias 127: its low nine bits become sign and exponent.
pub fn power_of_two<E: Emit>(e: &mut E, t: E::V) -> E::V {
    let t = e.bitcast_to_i32(t);
    let s = e.ishl(t, 23);
    e.bitcast_to_f32(s)
}

/// `p · 2^n` from a sum of [`round_scaled`] with bias 254, for n in -252 ..= 256, with one rounding.
///
/// Two factors 2^⌊n/2⌋ and 2^⌈n/2⌉ reach overflow and subnormal results, which one factor cannot.
pub fn scale_in_two_steps<E: Emit>(e: &mut E, p: E::V, t: E::V) -> E::V {
    let i = e.bitcast_to_i32(t);
    let low = e.ishr_s(i, 1);
    let high = e.isub(i, low);
    let (low, high) = (e.ishl(low, 23), e.ishl(high, 23));
    let (low, high) = (e.bitcast_to_f32(low), e.bitcast_to_f32(high));
    let p = e.mul(p, low);
    e.mul(p, high)
}

/// `a + b` as a rounded sum and its exact error, for any a and b (Knuth's two-sum, 6 operations).
pub fn two_sum<E: Emit>(e: &mut E, a: E::V, b: E::V) -> (E::V, E::V) {
    let s = e.add(a, b);
    let s = e.keep(s);
    let b_part = e.sub(s, a);
    let b_part = e.keep(b_part);
    let a_part = e.sub(s, b_part);
    let a_part = e.keep(a_part);
    let (da, db) = (e.sub(a, a_part), e.sub(b, b_part));
    (s, e.add(da, db))
}

/// `a + b` as a rounded sum and its exact error, for |a| ≥ |b| (Dekker's fast two-sum, 3 operations).
pub fn fast_two_sum<E: Emit>(e: &mut E, a: E::V, b: E::V) -> (E::V, E::V) {
    let s = e.add(a, b);
    let s = e.keep(s);
    let part = e.sub(s, a);
    let part = e.keep(part);
    (s, e.sub(b, part))
}

/// `a · b` as a rounded product and its error, exact where neither underflows.
pub fn two_product<E: Emit>(e: &mut E, a: E::V, b: E::V) -> (E::V, E::V) {
    let p = e.mul(a, b);
    let p = e.keep(p);
    let negative = e.neg(p);
    (p, e.fma(a, b, negative))
}

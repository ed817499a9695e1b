//! pow: x^y = 2^(y·log2 |x|) with the logarithm and the product in double-float.
//!
//! The result 2^127 needs the exponent to 2^-32, so log2 is the sum h + l of two f32 with a relative error near 2^-33:
//! log2 m = q·(C + q²·p(q²)) with q = (m - 1)/(m + 1), C = 2/ln 2, where q, q², C and the leading coefficient of p have two parts.

use super::emit::Emit;
use super::exp::exp2_clamped;
use super::log::split;
use super::parts::{NAN, at_least, at_most, fast_two_sum, horner, two_product, two_sum};

/// 2/ln 2 in two parts.
const C: [f32; 2] = [2.885_39, 3.851_926e-8];
/// The leading coefficient of p in two parts, then the others, lowest power first.
const P: [f32; 5] = [0.961_796_7, -2.182_644_1e-8, 0.577_082_9, 0.411_704_8, 0.340_251];

/// x^y with the special cases of IEEE 754 `pow`.
pub fn pow<E: Emit>(e: &mut E, x: E::V, y: E::V) -> E::V {
    let a = e.abs(x);
    let (h, l) = log2_of_magnitude(e, a);
    let (product, error) = two_product(e, y, h);
    let error = e.fma(y, l, error);
    // Beyond 2^256 only the sign of the exponent counts, and the error term may be infinite or NaN.
    let (zero, limit) = (e.f32(0.0), e.f32(256.0));
    let size = e.abs(product);
    let moderate = e.lt(size, limit);
    let error = e.select(moderate, error, zero);
    let product = at_most(e, product, 129.0);
    let product = at_least(e, product, -151.0);
    let magnitude = exp2_clamped(e, product, Some(error));
    specials(e, x, y, a, magnitude)
}

/// log2 a as a sum h + l; -inf, +inf and NaN in h for 0, inf and NaN.
fn log2_of_magnitude<E: Emit>(e: &mut E, a: E::V) -> (E::V, E::V) {
    let (f, k) = split(e, a);
    let (one, two, field) = (e.f32(1.0), e.f32(2.0), e.f32(1.0 / 8_388_608.0));
    // q + ql = f/(2 + f), from one reciprocal.
    let (d, dl) = fast_two_sum(e, two, f);
    let r = e.div(one, d);
    let q = e.mul(f, r);
    let minus_q = e.neg(q);
    let rest = e.fma(minus_q, d, f);
    let rest = e.fma(minus_q, dl, rest);
    let ql = e.mul(rest, r);
    // s + sl = q².
    let (s, sl) = two_product(e, q, q);
    let q2 = e.add(q, q);
    let sl = e.fma(q2, ql, sl);
    // b + bl = C + s·p(s).
    let p = horner(e, s, &[P[4], P[3], P[2]]);
    let (lead, lead_low) = (e.f32(P[0]), e.f32(P[1]));
    let p = e.fma(s, p, lead_low);
    let (p, pl) = fast_two_sum(e, lead, p);
    let (w, wl) = two_product(e, s, p);
    let wl = e.fma(sl, p, wl);
    let wl = e.fma(s, pl, wl);
    let (c, c_low) = (e.f32(C[0]), e.f32(C[1]));
    let (b, bl) = fast_two_sum(e, c, w);
    let wl = e.add(wl, c_low);
    let bl = e.add(bl, wl);
    // k + q·b.
    let (m, ml) = two_product(e, q, b);
    let ml = e.fma(q, bl, ml);
    let ml = e.fma(ql, b, ml);
    let k = e.mul(k, field);
    let (h, l) = two_sum(e, k, m);
    let l = e.add(l, ml);
    let (h, l) = fast_two_sum(e, h, l);
    let (zero, infinity, pole) = (e.f32(0.0), e.f32(f32::INFINITY), e.f32(f32::NEG_INFINITY));
    let finite = e.lt(a, infinity);
    let h = e.select(finite, h, a);
    let is_zero = e.eq(a, zero);
    (e.select(is_zero, pole, h), l)
}

/// The sign of the result, NaN for a negative base with a fractional exponent, and the cases that are 1.
fn specials<E: Emit>(e: &mut E, x: E::V, y: E::V, a: E::V, magnitude: E::V) -> E::V {
    let (zero, one, half, nan) = (e.f32(0.0), e.f32(1.0), e.f32(0.5), e.f32(NAN));
    let (infinity, mask, izero) = (e.f32(f32::INFINITY), e.i32(i32::MIN), e.i32(0));
    let size = e.abs(y);
    // (±1)^±inf is 1, where the product above is 0·inf.
    let unit = e.eq(a, one);
    let endless = e.eq(size, infinity);
    let settled = e.and(unit, endless);
    let magnitude = e.select(settled, one, magnitude);
    let whole = e.trunc(y);
    let is_whole = e.eq(whole, y);
    let halved = e.mul(y, half);
    let half_whole = e.trunc(halved);
    let is_even = e.eq(half_whole, halved);
    // Odd: the sign of x passes to the result.
    let bits = e.bitcast_to_i32(x);
    let sign = e.iand(bits, mask);
    let sign = e.select(is_even, izero, sign);
    let sign = e.select(is_whole, sign, izero);
    let result = e.bitcast_to_i32(magnitude);
    let result = e.ior(result, sign);
    let result = e.bitcast_to_f32(result);
    // A negative finite base with a fractional exponent has no real power; NaN exponents are not whole but give NaN anyway.
    let negative = e.lt(x, zero);
    let finite = e.lt(a, infinity);
    let real = e.and(negative, finite);
    let undefined = e.select(is_whole, result, nan);
    let result = e.select(real, undefined, result);
    let no_power = e.eq(y, zero);
    let base_one = e.eq(x, one);
    let is_one = e.or(no_power, base_one);
    e.select(is_one, one, result)
}

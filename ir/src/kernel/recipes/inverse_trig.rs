//! asin, acos, atan, atan2.

use super::emit::Emit;
use super::parts::{horner, with_sign};
use std::f32::consts::{FRAC_PI_2, PI};

/// π/2 - FRAC_PI_2.
const FRAC_PI_2_LOW: f32 = -4.371_139e-8;

/// Inverse sine: a polynomial up to ½, above it π/2 - 2·asin √((1 - x)/2).
pub fn asin<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (r, large) = asin_parts(e, x);
    let (half_pi, minus_two) = (e.f32(FRAC_PI_2), e.f32(-2.0));
    let complement = e.fma(r, minus_two, half_pi);
    let y = e.select(large, complement, r);
    with_sign(e, y, x)
}

/// Inverse cosine, from the same parts as asin.
pub fn acos<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (r, large) = asin_parts(e, x);
    let (half_pi, pi, zero) = (e.f32(FRAC_PI_2), e.f32(PI), e.f32(0.0));
    let signed = with_sign(e, r, x);
    let small = e.sub(half_pi, signed);
    let twice = e.add(r, r);
    let reflected = e.sub(pi, twice);
    let negative = e.lt(x, zero);
    let far = e.select(negative, reflected, twice);
    e.select(large, far, small)
}

/// Inverse tangent.
pub fn atan<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let one = e.f32(1.0);
    let large = e.lt(one, a);
    let numerator = e.select(large, one, a);
    let denominator = e.select(large, a, one);
    let q = e.div(numerator, denominator);
    let r = atan_of_quotient(e, q, large);
    with_sign(e, r, x)
}

/// The angle of the point (x, y), in -π ..= π: arguments in the order y, x.
pub fn atan2<E: Emit>(e: &mut E, y: E::V, x: E::V) -> E::V {
    let (ax, ay) = (e.abs(x), e.abs(y));
    let (zero, one, pi) = (e.f32(0.0), e.f32(1.0), e.f32(PI));
    let steep = e.lt(ax, ay);
    let larger = e.select(steep, ay, ax);
    let smaller = e.select(steep, ax, ay);
    // The quotient is 0 at the origin and 1 for two infinities.
    let origin = e.eq(larger, zero);
    let larger_or_one = e.select(origin, one, larger);
    let q = e.div(smaller, larger_or_one);
    let same = e.eq(smaller, larger);
    let diagonal = e.select(origin, zero, one);
    let q = e.select(same, diagonal, q);
    let r = atan_of_quotient(e, q, steep);
    let (bits, izero) = (e.bitcast_to_i32(x), e.i32(0));
    let left = e.ilt(bits, izero);
    let low = e.f32(2.0 * FRAC_PI_2_LOW);
    let reflected = e.sub(r, low);
    let reflected = e.sub(pi, reflected);
    let r = e.select(left, reflected, r);
    with_sign(e, r, y)
}

/// asin of |x|, or where the mask holds (|x| > ½) asin √((1 - |x|)/2); NaN for |x| > 1.
fn asin_parts<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::M) {
    let a = e.abs(x);
    let (half, minus_half) = (e.f32(0.5), e.f32(-0.5));
    let large = e.lt(half, a);
    let square = e.mul(a, a);
    let rest = e.fma(a, minus_half, half);
    let z = e.select(large, rest, square);
    let root = e.sqrt(rest);
    let s = e.select(large, root, a);
    let p = horner(e, z, &[0.042_158_708, 0.024_184_622, 0.045_469_165, 0.074_953_094, 0.166_667_52]);
    let sz = e.mul(s, z);
    (e.fma(sz, p, s), large)
}

/// atan q for q in 0 ..= 1, or π/2 - atan q where the mask holds.
fn atan_of_quotient<E: Emit>(e: &mut E, q: E::V, complement: E::M) -> E::V {
    let z = e.mul(q, q);
    let p = horner(
        e,
        z,
        &[
            0.002_920_086,
            -0.016_365_409,
            0.043_207_597,
            -0.075_518_385,
            0.106_658_22,
            -0.142_110_08,
            0.199_937_67,
            -0.333_331_53,
        ],
    );
    let qz = e.mul(q, z);
    let r = e.fma(qz, p, q);
    let (half_pi, low) = (e.f32(FRAC_PI_2), e.f32(FRAC_PI_2_LOW));
    let other = e.sub(r, low);
    let other = e.sub(half_pi, other);
    e.select(complement, other, r)
}

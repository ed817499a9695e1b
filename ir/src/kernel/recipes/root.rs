//! sqrt, rsqrt, cbrt.

use super::emit::Emit;
use super::parts::with_sign;

/// Square root, the machine's own.
pub fn sqrt<E: Emit>(e: &mut E, x: E::V) -> E::V {
    e.sqrt(x)
}

/// 1/√x with two roundings.
pub fn rsqrt<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let one = e.f32(1.0);
    let root = e.sqrt(x);
    e.div(one, root)
}

/// Cube root: a = |x|, r ≈ 1/∛a from the bits, two Halley steps without division, then ∛a = a·r² with one Newton correction.
pub fn cbrt<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let (least, up, down, one) = (e.f32(f32::MIN_POSITIVE), e.f32(16_777_216.0), e.f32(1.0 / 256.0), e.f32(1.0));
    let subnormal = e.lt(a, least);
    let scaled = e.mul(a, up);
    let m = e.select(subnormal, scaled, a);
    let scale = e.select(subnormal, down, one);
    let (third, two_ninths, base) = (e.f32(1.0 / 3.0), e.f32(2.0 / 9.0), e.i32(0x54a2_1d2a));
    let bits = e.bitcast_to_i32(m);
    let bits = e.to_f32(bits);
    let bits = e.mul(bits, third);
    let bits = e.to_i32(bits);
    let bits = e.isub(base, bits);
    let mut r = e.bitcast_to_f32(bits);
    let negative = e.neg(m);
    for _ in 0..2 {
        // h = 1 - a·r³, r·(1 - h)^(-1/3) ≈ r·(1 + h/3 + 2h²/9).
        let ar = e.mul(negative, r);
        let r2 = e.mul(r, r);
        let h = e.fma(ar, r2, one);
        let c = e.fma(h, two_ninths, third);
        let hr = e.mul(h, r);
        r = e.fma(c, hr, r);
    }
    let r2 = e.mul(r, r);
    let y = e.mul(m, r2);
    let y2 = e.mul(y, y);
    let residue = e.neg(y2);
    let residue = e.fma(residue, y, m);
    let step = e.mul(r2, third);
    let y = e.fma(residue, step, y);
    let y = e.mul(y, scale);
    let infinity = e.f32(f32::INFINITY);
    let finite = e.lt(a, infinity);
    let y = e.select(finite, y, a);
    with_sign(e, y, x)
}

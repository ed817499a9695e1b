//! erf and erfc.

use super::emit::Emit;
use super::exp::{exp_raised, lower};
use super::parts::{at_most, horner, power_of_two, round_scaled, with_sign};

/// Error function: x + x·p(x²) below 0.92, above it 1 - 2^w with w = log2 erfc |x| as a polynomial.
pub fn erf<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let a = at_most(e, a, 4.0);
    let z = e.mul(a, a);
    let p = horner(e, z, &[-0.000_600_379_4, 0.004_995_853, -0.026_768_58, 0.112_818_77, -0.376_125, 0.128_379_15]);
    let small = e.fma(a, p, a);
    let w = horner(
        e,
        a,
        &[
            0.000_282_846_07,
            -0.004_392_029_3,
            0.032_072_87,
            -0.149_954_24,
            -0.919_245_4,
            -1.626_900_4,
            -0.000_280_275_56,
        ],
    );
    // The bias 127 + 256 sets the sign bit of the scale: -2^n.
    let (t, n) = round_scaled(e, w, 1.0, 383.0);
    let f = e.sub(w, n);
    let p =
        horner(e, f, &[0.000_158_244_19, 0.001_341_772, 0.009_617_065, 0.055_502_728, 0.240_226_55, 0.693_147_24, 1.0]);
    let scale = power_of_two(e, t);
    let (one, bound) = (e.f32(1.0), e.f32(0.92));
    let large = e.fma(p, scale, one);
    let is_small = e.lt(a, bound);
    let y = e.select(is_small, small, large);
    with_sign(e, y, x)
}

/// Complementary error function: e^-a²·P(t)/(a + 1.5) with t = (a - 1.5)/(a + 1.5), a = |x|, reflected below zero.
///
/// The variable is that of Shepherd and Laframboise, Mathematics of Computation 36 (1981).
/// The rounding error of a² enters the exponential, where it would cost a hundred ULP.
pub fn erfc<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let a = e.abs(x);
    let a = at_most(e, a, 10.1);
    let negative_a = e.neg(a);
    let square = e.mul(negative_a, a);
    let square = e.keep(square);
    let positive = e.neg(square);
    let low = e.fma(negative_a, a, positive);
    let (two, one, shift, three) = (e.f32(2.0), e.f32(1.0), e.f32(1.5), e.f32(3.0));
    let d = e.add(a, shift);
    let d = e.keep(d);
    let u = e.div(one, d);
    let minus_u = e.neg(u);
    // u·(1 + rest) = 1/d; rest corrects u in t, and in the product as part of the exponent.
    let rest = e.fma(minus_u, d, one);
    let t = e.fma(minus_u, three, one);
    let minus_3u = e.mul(minus_u, three);
    let t = e.fma(minus_3u, rest, t);
    // The sum d is off by `lost`; the logarithm of the quotient moves by about -1.25u times that.
    let lost = e.sub(d, shift);
    let lost = e.sub(lost, a);
    let slope = e.f32(1.25);
    let moved = e.mul(lost, slope);
    let low = e.add(low, rest);
    let low = e.fma(moved, u, low);
    let (q, r, s) = exp_raised(e, square, Some(low));
    let g = horner(
        e,
        t,
        &[
            -7.256_275_4e-5,
            -0.000_227_876_87,
            -6.869_276e-5,
            0.000_866_637_7,
            0.001_772_621_1,
            -0.000_807_551_9,
            -0.009_459_75,
            -0.008_119_563,
            0.047_768_015,
            0.075_621_75,
            -0.507_85,
            0.964_756_25,
        ],
    );
    let g = e.mul(g, u);
    // g·e^r as g + g·(e^r - 1) saves the rounding of e^r.
    let m = e.mul(q, r);
    let y = e.fma(g, m, g);
    let y = lower(e, y, s);
    let zero = e.f32(0.0);
    let reflected = e.sub(two, y);
    let negative = e.lt(x, zero);
    e.select(negative, reflected, y)
}

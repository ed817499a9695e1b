//! sin, cos, tan.
//!
//! All three reduce by multiples of π (tan by π/2) and use one odd polynomial, so no pair of polynomials is computed to throw one away.
//! Two reductions exist, one six times the size of the other: three steps with π in three parts for |x| ≤ [`BOUND`] (Cody and Waite),
//! and one for every finite x (after Payne and Hanek), which multiplies x by 1/π modulo 2 in four parts chosen by the exponent of x.
//! The full recipes take the first result where it holds, so both give the same bits there:
//! an emitter that knows |x| ≤ [`BOUND`] for a tile may use the bounded recipe.

use super::emit::Emit;
use super::parts::{ROUNDER, fast_two_sum, horner, round_scaled, two_product, two_sum};
use std::f32::consts::{FRAC_1_PI, FRAC_2_PI, PI};

/// The largest |x| of the bounded recipes.
pub const BOUND: f32 = 65_536.0;

/// π in three parts, each but the last rounded down: products of zero with negated positive parts keep the sign of a zero argument.
const PI_PARTS: [f32; 3] = [3.141_592_5, 1.509_957_9e-7, 1.078_060_6e-14];
/// π - PI.
const PI_LOW: f32 = -8.742_278e-8;

/// Sine for any x.
pub fn sin<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let near = near_sin(e, x);
    let (h, l) = over_pi(e, x);
    let (t, n) = round_scaled(e, h, 1.0, 0.0);
    let (far, _) = from_fraction(e, h, l, n);
    let y = sin_of_reduced(e, x, near, (far, t));
    keep_zero(e, x, y)
}

/// Sine for |x| ≤ [`BOUND`].
pub fn sin_bounded<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (r, t) = near_sin(e, x);
    let y = alternating_sin(e, r, t);
    keep_zero(e, x, y)
}

/// Cosine for any x.
pub fn cos<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let x = e.abs(x);
    let near = near_cos(e, x);
    let (h, l) = over_pi(e, x);
    let (half, rounder) = (e.f32(0.5), e.f32(ROUNDER + 1.0));
    let shifted = e.sub(h, half);
    let t = shifted_round(e, shifted, rounder);
    let n = shifted_back(e, t, rounder, half);
    let (far, _) = from_fraction(e, h, l, n);
    sin_of_reduced(e, x, near, (far, t))
}

/// Cosine for |x| ≤ [`BOUND`].
pub fn cos_bounded<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let x = e.abs(x);
    let (r, t) = near_cos(e, x);
    alternating_sin(e, r, t)
}

/// Tangent for any x.
pub fn tan<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (near, near_low, near_t) = near_tan(e, x);
    let (h, l) = over_pi(e, x);
    let (t, n) = round_scaled(e, h, 2.0, 0.0);
    let half = e.f32(0.5);
    let n = e.mul(n, half);
    let (far, far_low) = from_fraction(e, h, l, n);
    let is_near = within_bound(e, x);
    let r = e.select(is_near, near, far);
    let low = e.select(is_near, near_low, far_low);
    let t = e.select(is_near, near_t, t);
    tan_of_reduced(e, r, low, t)
}

/// Tangent for |x| ≤ [`BOUND`].
pub fn tan_bounded<E: Emit>(e: &mut E, x: E::V) -> E::V {
    let (r, low, t) = near_tan(e, x);
    tan_of_reduced(e, r, low, t)
}

/// r = x - nπ with |r| ≤ π/2, and t whose lowest bit is that of n.
fn near_sin<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V) {
    let (t, n) = round_scaled(e, x, FRAC_1_PI, 0.0);
    (subtract_multiple(e, x, n), t)
}

/// r = x - (n + ½)π with |r| ≤ π/2, for x ≥ 0 so that the result is even to the bit, and t whose lowest bit is that of n + 1: cos x = (-1)^(n+1)·sin r.
fn near_cos<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V) {
    let (scale, half, minus_half) = (e.f32(FRAC_1_PI), e.f32(0.5), e.f32(-0.5));
    let rounder = e.f32(ROUNDER + 1.0);
    let shifted = e.fma(x, scale, minus_half);
    let t = shifted_round(e, shifted, rounder);
    let n = shifted_back(e, t, rounder, half);
    (subtract_multiple(e, x, n), t)
}

/// x + rounder, whose last bits are those of the nearest integer. What goes in is a sum with a half, which must not join the rounder.
fn shifted_round<E: Emit>(e: &mut E, shifted: E::V, rounder: E::V) -> E::V {
    let shifted = e.keep(shifted);
    let t = e.add(shifted, rounder);
    e.keep(t)
}

/// The integer of a sum with the rounder, and a half; the rounder must not take up the half.
fn shifted_back<E: Emit>(e: &mut E, t: E::V, rounder: E::V, half: E::V) -> E::V {
    let n = e.sub(t, rounder);
    let n = e.keep(n);
    e.add(n, half)
}

/// r + low = x - nπ/2 with |r| ≤ π/4, and t whose lowest bit is that of n.
fn near_tan<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V, E::V) {
    let (t, n) = round_scaled(e, x, FRAC_2_PI, 0.0);
    let parts = PI_PARTS.map(|part| e.f32(-0.5 * part));
    let first = e.fma(n, parts[0], x);
    let first = e.keep(first);
    let r = e.fma(n, parts[1], first);
    let r = e.keep(r);
    let lost = e.sub(first, r);
    let lost = e.keep(lost);
    let low = e.fma(n, parts[1], lost);
    // Where r is small the subtraction is inexact, and the rounding of r does not show.
    let (size, bound, zero) = (e.abs(r), e.f32(1.0 / 64.0), e.f32(-0.0));
    let shows = e.lt(bound, size);
    let low = e.select(shows, low, zero);
    let low = e.fma(n, parts[2], low);
    let (r, low) = fast_two_sum(e, r, low);
    (r, low, t)
}

/// x - n·π; the first step is exact because n has at most 17 bits.
fn subtract_multiple<E: Emit>(e: &mut E, x: E::V, n: E::V) -> E::V {
    let mut r = x;
    for part in PI_PARTS {
        let part = e.f32(-part);
        r = e.fma(n, part, r);
        r = e.keep(r);
    }
    r
}

/// x where it is ±0, else y: the polynomial adds a zero of the other sign.
fn keep_zero<E: Emit>(e: &mut E, x: E::V, y: E::V) -> E::V {
    let zero = e.f32(0.0);
    let is_zero = e.eq(x, zero);
    e.select(is_zero, x, y)
}

fn within_bound<E: Emit>(e: &mut E, x: E::V) -> E::M {
    let (a, bound) = (e.abs(x), e.f32(BOUND));
    e.le(a, bound)
}

/// Chooses the reduction, then the sine of the reduced argument.
fn sin_of_reduced<E: Emit>(e: &mut E, x: E::V, near: (E::V, E::V), far: (E::V, E::V)) -> E::V {
    let is_near = within_bound(e, x);
    let r = e.select(is_near, near.0, far.0);
    let t = e.select(is_near, near.1, far.1);
    alternating_sin(e, r, t)
}

/// ±sin r for |r| ≤ π/2, negative where the lowest bit of t is set.
fn alternating_sin<E: Emit>(e: &mut E, r: E::V, t: E::V) -> E::V {
    let z = e.mul(r, r);
    let p = horner(e, z, &[-2.383_257_3e-8, 2.752_856_3e-6, -0.000_198_413_41, 0.008_333_336, -0.166_666_66]);
    let rz = e.mul(r, z);
    let y = e.fma(rz, p, r);
    let t = e.bitcast_to_i32(t);
    let sign = e.ishl(t, 31);
    let y = e.bitcast_to_i32(y);
    let y = e.ixor(y, sign);
    e.bitcast_to_f32(y)
}

/// tan (r + low), or -1/tan where the lowest bit of t is set; the reciprocal is of an unrounded sum.
fn tan_of_reduced<E: Emit>(e: &mut E, r: E::V, low: E::V, t: E::V) -> E::V {
    let z = e.mul(r, r);
    let p = horner(e, z, &[0.009_396_527, 0.003_101_482, 0.024_441_391, 0.053_408_2, 0.133_388_36, 0.333_331_56]);
    let rz = e.mul(r, z);
    // low·(1 + z) stands for low·(1 + tan² r).
    let low = e.fma(low, z, low);
    let c = e.fma(rz, p, low);
    let (h, l) = fast_two_sum(e, r, c);
    let (minus_one, one) = (e.f32(-1.0), e.f32(1.0));
    let q = e.div(minus_one, h);
    let error = e.fma(q, h, one);
    let error = e.fma(q, l, error);
    let q = e.fma(q, error, q);
    let (t, zero) = (e.bitcast_to_i32(t), e.i32(0));
    let odd = e.ishl(t, 31);
    let odd = e.ine(odd, zero);
    e.select(odd, q, h)
}

/// (h + l - n)·π as a sum of two, for |h - n| ≤ ½.
fn from_fraction<E: Emit>(e: &mut E, h: E::V, l: E::V, n: E::V) -> (E::V, E::V) {
    // h - n is exact; where it is smaller than l the error term is lost, which is then below the result's precision.
    let f = e.sub(h, n);
    let (f, l) = fast_two_sum(e, f, l);
    let (pi, pi_low) = (e.f32(PI), e.f32(PI_LOW));
    let (r, low) = two_product(e, f, pi);
    let low = e.fma(f, pi_low, low);
    let low = e.fma(l, pi, low);
    fast_two_sum(e, r, low)
}

/// For each range of |x|: its lower end 2^(S+23), S, and 2^S/π modulo 2 in four parts.
///
/// x·2^-S is an integer in the ranges after the first, so dropping even integers from 2^S/π drops even integers from the product.
/// Ranges of 2^21 keep x·2^-S below 2^44, and so the product good to 2^-56: the nearest f32 to a multiple of π/2 is 2^-29 off.
const RANGES: [(i32, [f32; 4]); 5] = [
    (0, [0.318_309_87, 1.284_127_65e-8, 1.468_547_7e-16, 3.037_013_3e-24]),
    (21, [0.214_430_11, 3.079_767_8e-10, 6.369_078_5e-18, -1.444_201_2e-25]),
    (42, [0.531_895_9, -1.791_080_6e-9, 5.434_092e-17, -4.080_522_6e-25]),
    (63, [0.496_243_83, -2.680_006_7e-9, 1.032_276_6e-16, 5.344_350_7e-25]),
    (84, [0.744_379_64, -2.073_827_3e-8, -5.123_573_7e-16, 8.175_231e-24]),
];

/// 2^k for a normal result.
const fn power(k: i32) -> f32 {
    f32::from_bits(((k + 127) as u32) << 23)
}

/// x/π modulo 2 as an unevaluated sum h + l with |h| ≤ 4; NaN for infinite x. Meant for |x| > [`BOUND`].
fn over_pi<E: Emit>(e: &mut E, x: E::V) -> (E::V, E::V) {
    let a = e.abs(x);
    let (_, parts) = RANGES[0];
    let mut scale = e.f32(1.0);
    let mut parts = parts.map(|c| e.f32(c));
    for (shift, other) in &RANGES[1..] {
        let from = e.f32(power(shift + 23));
        let inside = e.le(from, a);
        let s = e.f32(power(-shift));
        scale = e.select(inside, s, scale);
        for (part, c) in parts.iter_mut().zip(other) {
            let c = e.f32(*c);
            *part = e.select(inside, c, *part);
        }
    }
    let x = e.mul(x, scale);
    let (h0, l0) = two_product(e, x, parts[0]);
    let (h1, l1) = two_product(e, x, parts[1]);
    let (h2, l2) = two_product(e, x, parts[2]);
    let tail = e.fma(x, parts[3], l2);
    let (h0, l0, h1) = (modulo_two(e, h0), modulo_two(e, l0), modulo_two(e, h1));
    let (s, e0) = two_sum(e, h0, l0);
    let (s, e1) = two_sum(e, s, h1);
    let (s, e2) = two_sum(e, s, l1);
    let (s, e3) = two_sum(e, s, h2);
    let low = e.add(e0, e1);
    let low = e.add(low, e2);
    let low = e.add(low, e3);
    let low = e.add(low, tail);
    (s, low)
}

/// v - 2·round(v/2), exact.
fn modulo_two<E: Emit>(e: &mut E, v: E::V) -> E::V {
    let (half, minus_two) = (e.f32(0.5), e.f32(-2.0));
    let n = e.mul(v, half);
    let n = e.round_even(n);
    e.fma(n, minus_two, v)
}

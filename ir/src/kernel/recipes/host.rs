//! Evaluation of recipes on the host, and the measure of their error.

use super::emit::Emit;
use super::{Function, emit};

/// Evaluates a recipe as it is written: a value is the 32 bits of an f32 or i32.
///
/// `f32::mul_add` is exact on every target; without a fused instruction at compile time it calls the C library's `fmaf`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Host;

/// `function` of one argument; of two for the functions of arity 2.
///
/// # Panics
/// Where `args` is shorter than the arity.
#[inline(always)]
pub fn evaluate(function: Function, args: &[f32]) -> f32 {
    let mut bits = [0; 2];
    for (bits, arg) in bits.iter_mut().zip(args) {
        *bits = arg.to_bits();
    }
    f32::from_bits(emit(function, &mut Host, &bits[..args.len()]))
}

/// The distance of `got` from the true value `want` in units of the last place of f32 at `want`.
///
/// Zero where both are NaN, or `want` rounds to an infinity or zero and `got` is that, sign included.
/// Infinite where one of them is NaN, or a zero has the wrong sign.
/// An infinite `got` counts as 2^128.
pub fn ulp_error(got: f32, want: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let rounded = want as f32;
    if rounded.to_bits() == got.to_bits() && (rounded == 0.0 || rounded.is_infinite()) {
        return if want == 0.0 || rounded.is_infinite() { 0.0 } else { want.abs() / 2f64.powi(-149) };
    }
    if got == 0.0 && want == 0.0 {
        return f64::INFINITY;
    }
    let top = 2f64.powi(128);
    let exponent = ((want.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let place = f64::from_bits(((exponent.clamp(-126, 127) - 23 + 1023) as u64) << 52);
    (f64::from(got).clamp(-top, top) - want.clamp(-top, top)).abs() / place
}

impl Emit for Host {
    type V = u32;
    type M = bool;

    fn f32(&mut self, c: f32) -> u32 {
        c.to_bits()
    }
    fn i32(&mut self, c: i32) -> u32 {
        c as u32
    }
    fn add(&mut self, a: u32, b: u32) -> u32 {
        (f(a) + f(b)).to_bits()
    }
    fn sub(&mut self, a: u32, b: u32) -> u32 {
        (f(a) - f(b)).to_bits()
    }
    fn mul(&mut self, a: u32, b: u32) -> u32 {
        (f(a) * f(b)).to_bits()
    }
    fn div(&mut self, a: u32, b: u32) -> u32 {
        (f(a) / f(b)).to_bits()
    }
    fn fma(&mut self, a: u32, b: u32, c: u32) -> u32 {
        f(a).mul_add(f(b), f(c)).to_bits()
    }
    fn neg(&mut self, a: u32) -> u32 {
        a ^ 0x8000_0000
    }
    fn abs(&mut self, a: u32) -> u32 {
        a & 0x7fff_ffff
    }
    fn sqrt(&mut self, a: u32) -> u32 {
        f(a).sqrt().to_bits()
    }
    fn trunc(&mut self, a: u32) -> u32 {
        f(a).trunc().to_bits()
    }
    fn round_even(&mut self, a: u32) -> u32 {
        f(a).round_ties_even().to_bits()
    }
    fn iadd(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
    fn isub(&mut self, a: u32, b: u32) -> u32 {
        a.wrapping_sub(b)
    }
    fn iand(&mut self, a: u32, b: u32) -> u32 {
        a & b
    }
    fn ior(&mut self, a: u32, b: u32) -> u32 {
        a | b
    }
    fn ixor(&mut self, a: u32, b: u32) -> u32 {
        a ^ b
    }
    fn ishl(&mut self, a: u32, n: u32) -> u32 {
        a << n
    }
    fn ishr_s(&mut self, a: u32, n: u32) -> u32 {
        ((a as i32) >> n) as u32
    }
    fn bitcast_to_i32(&mut self, a: u32) -> u32 {
        a
    }
    fn bitcast_to_f32(&mut self, a: u32) -> u32 {
        a
    }
    fn to_i32(&mut self, a: u32) -> u32 {
        f(a) as i32 as u32
    }
    fn to_f32(&mut self, a: u32) -> u32 {
        (a as i32 as f32).to_bits()
    }
    fn lt(&mut self, a: u32, b: u32) -> bool {
        f(a) < f(b)
    }
    fn le(&mut self, a: u32, b: u32) -> bool {
        f(a) <= f(b)
    }
    fn eq(&mut self, a: u32, b: u32) -> bool {
        f(a) == f(b)
    }
    fn ine(&mut self, a: u32, b: u32) -> bool {
        a != b
    }
    fn ilt(&mut self, a: u32, b: u32) -> bool {
        (a as i32) < b as i32
    }
    fn and(&mut self, a: bool, b: bool) -> bool {
        a & b
    }
    fn or(&mut self, a: bool, b: bool) -> bool {
        a | b
    }
    fn select(&mut self, m: bool, a: u32, b: u32) -> u32 {
        if m { a } else { b }
    }
}

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

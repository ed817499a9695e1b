//! Logarithms of f64, by the exponent and log(1 + f) of what is left.

use lehr_ir::kernel::recipes::Emit;

use super::super::segment::{Bin, Order, Segment, Un, V};
use super::super::size::Size;
use super::{LN_2, high};

/// The high word of √2/2, to which a number is brought down, as the bits of a number; and how far 1 is above it.
const ROOT: u64 = 0x3fe6_a09e << 32;
const ABOVE_ROOT: u64 = (0x3ff0_0000 << 32) - ROOT;
const FRACTION: u64 = (1 << 52) - 1;

/// log(1 + f) = 2s + s·p(s²) with s = f/(2 + f): the even powers of s² and the odd ones, from the highest on.
const ODD: [f64; 4] = [
    f64::from_bits(0x3fc2_f112_df3e_5244),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fe5_5555_5555_5593),
];
const EVEN: [f64; 3] = [
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fd9_9999_9997_fa04),
];

/// 1/ln 2 in two parts.
const LOG2_E: [f64; 2] = [f64::from_bits(0x3ff7_1547_6520_0000), f64::from_bits(0x3de7_05fc_2eef_a200)];

/// Between these, log(1 + x) needs no exponent: √2/2 - 1 and √2 - 1, up to 32 bits.
const NEAR_ONE: [f64; 2] = [-high(0x3fd2_bec5), high(0x3fda_827a)];

impl Segment<'_> {
    /// The natural logarithm.
    pub(super) fn double_log(&mut self, x: V) -> V {
        let (k, f) = self.split(x);
        let low = self.times(k, LN_2[1]);
        let y = self.log_of(k, f, low);
        self.log_outside(x, 0.0, y)
    }

    /// log(1 + x): by u = 1 + x, and c/u for what that lost.
    pub(super) fn double_log1p(&mut self, x: V) -> V {
        let u = self.plus(x, 1.0);
        let (k, f) = self.split_normal(u);
        let above = self.sub(u, x);
        let above = self.difference(1.0, above);
        let below = self.plus(u, -1.0);
        let below = self.sub(x, below);
        let large = self.compare_to(Order::Ge, k, 2.0);
        let c = self.select(large, above, below);
        let c = self.div(c, u);
        let is_lost = self.compare_to(Order::Lt, k, 54.0);
        let c = self.bin(Bin::And, is_lost, c);
        let (from, to) = (self.compare_to(Order::Gt, x, NEAR_ONE[0]), self.compare_to(Order::Lt, x, NEAR_ONE[1]));
        let near = self.bin(Bin::And, from, to);
        let c = self.bin(Bin::AndNot, near, c);
        let k = self.bin(Bin::AndNot, near, k);
        let f = self.select(near, x, f);
        let low = self.times(k, LN_2[1]);
        let low = self.add(low, c);
        let y = self.log_of(k, f, low);
        let size = self.magnitude(x);
        let tiny = self.compare_to(Order::Lt, size, 2_f64.powi(-53));
        let y = self.select(tiny, x, y);
        self.log_outside(x, -1.0, y)
    }

    /// The logarithm to base 2, with log(1 + f) in two parts.
    pub(super) fn double_log2(&mut self, x: V) -> V {
        let (k, f) = self.split(x);
        let (half_square, rest) = self.log_series(f);
        let high = self.sub(f, half_square);
        let upper = self.constant(Size::Eight, 0xffff_ffff << 32);
        let high = self.bin(Bin::And, high, upper);
        let low = self.sub(f, high);
        let low = self.sub(low, half_square);
        let low = self.add(low, rest);
        let product = self.times(high, LOG2_E[0]);
        let sum = self.add(low, high);
        let sum = self.times(sum, LOG2_E[1]);
        let low = self.times(low, LOG2_E[0]);
        let low = self.add(sum, low);
        let whole = self.add(k, product);
        let lost = self.sub(k, whole);
        let lost = self.add(lost, product);
        let low = self.add(low, lost);
        let y = self.add(low, whole);
        self.log_outside(x, 0.0, y)
    }

    /// k·ln 2 + log(1 + f), with the low part of the product and what is added to it.
    fn log_of(&mut self, k: V, f: V, low: V) -> V {
        let (half_square, rest) = self.log_series(f);
        let y = self.add(rest, low);
        let y = self.sub(y, half_square);
        let y = self.add(y, f);
        let high = self.times(k, LN_2[0]);
        self.add(y, high)
    }

    /// h = f²/2, and log(1 + f) - f + h.
    fn log_series(&mut self, f: V) -> (V, V) {
        let half = self.times(f, 0.5);
        let half_square = self.mul(half, f);
        let below = self.plus(f, 2.0);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        let w = self.mul(z, z);
        let even = self.polynomial(w, EVEN);
        let even = self.mul(w, even);
        let odd = self.polynomial(w, ODD);
        let odd = self.mul(z, odd);
        let p = self.add(odd, even);
        let p = self.add(half_square, p);
        (half_square, self.mul(s, p))
    }

    /// k and f of x = 2^k·(1 + f), 1 + f between √2/2 and √2.
    fn split(&mut self, x: V) -> (V, V) {
        // Subnormal numbers lack an exponent.
        let subnormal = self.compare_to(Order::Lt, x, f64::MIN_POSITIVE);
        let normal = self.times(x, 2_f64.powi(54));
        let x = self.select(subnormal, normal, x);
        let (k, f) = self.split_normal(x);
        let shift = self.f64(54.0);
        let shift = self.bin(Bin::And, subnormal, shift);
        (self.sub(k, shift), f)
    }

    /// The same of a normal number.
    fn split_normal(&mut self, x: V) -> (V, V) {
        let (up, root) = (self.constant(Size::Eight, ABOVE_ROOT), self.constant(Size::Eight, ROOT));
        let bits = self.bin(Bin::IAdd, x, up);
        // The exponent in the low bits of 2^52.
        let (exponent, integers) = (self.un(Un::ShrU(52), bits), self.f64(2_f64.powi(52)));
        let k = self.bin(Bin::Or, exponent, integers);
        let bias = self.f64(2_f64.powi(52) + 1023.0);
        let k = self.sub(k, bias);
        let fraction = self.constant(Size::Eight, FRACTION);
        let bits = self.bin(Bin::And, bits, fraction);
        let one_and_f = self.bin(Bin::IAdd, bits, root);
        (k, self.plus(one_and_f, -1.0))
    }

    /// `y`, or what a logarithm is at its pole, below it, and of what is no number or infinite.
    fn log_outside(&mut self, x: V, pole: f64, y: V) -> V {
        let finite = self.compare_to(Order::Lt, x, f64::INFINITY);
        let y = self.select(finite, y, x);
        let at_pole = self.compare_to(Order::Eq, x, pole);
        let y = self.replace(at_pole, f64::NEG_INFINITY, y);
        let below = self.compare_to(Order::Lt, x, pole);
        self.replace(below, f64::NAN, y)
    }
}

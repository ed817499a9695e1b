//! Exponentials of f64, by multiples of ln 2.

use lehr_ir::kernel::recipes::Emit;

use super::super::Width;
use super::super::segment::{Bin, Order, Segment, Un, V};
use super::super::size::Size;
use super::{LN_2, high};

/// The least |x| of which a multiple of ln 2 is subtracted: a half of it, up to 32 bits.
const REDUCED_FROM: f64 = high(0x3fd6_2e43);
/// The greatest |x| whose exponential is 1 + x, up to 32 bits.
const LINEAR_BELOW: f64 = high(0x3e30_0001);
/// Below its negative e^x - 1 is -1.
const FLAT_FROM: f64 = high(0x4043_687a);

/// r - r²·p(r²) is what (e^r - 1)/(e^r + 1) is twice of; from the highest power on.
const EVEN: [f64; 5] = [
    f64::from_bits(0x3e66_3769_72be_a4d0),
    f64::from_bits(0xbebb_bd41_c5d2_6bf1),
    f64::from_bits(0x3f11_566a_af25_de2c),
    f64::from_bits(0xbf66_c16c_16be_bd93),
    f64::from_bits(0x3fc5_5555_5555_553e),
];

/// The same for e^r - 1: a polynomial of r²/2.
const EVEN_OF_HALVES: [f64; 6] = [
    f64::from_bits(0xbe8a_fdb7_6e09_c32d),
    f64::from_bits(0x3ed0_cfca_86e6_5239),
    f64::from_bits(0xbf14_ce19_9eaa_dbb7),
    f64::from_bits(0x3f5a_01a0_19fe_5585),
    f64::from_bits(0xbfa1_1111_1111_10f4),
    1.0,
];

/// Beyond these the result is infinite, and zero.
const OVERFLOW: f64 = 709.782_712_893_384;
const UNDERFLOW: f64 = -745.133_219_101_941_1;

/// An odd multiple of ln 2 that nearly is a number, and half that power of two, rounded down.
const FAR: f64 = f64::from_bits(0x4096_2066_151a_dd8b);
const ROOT_OF_FAR: f64 = f64::from_bits(0x7fc0_0000_0000_0000);

/// 2^k stands in the low bits of k + this, with the exponent's bias.
const POWERS: f64 = 1.5 * 4_503_599_627_370_496.0 + 1023.0;

/// Which multiples of ln 2 an argument of e^x - 1 may have in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Multiples {
    All,
    /// From -1 to 63, and 1 with a rest above -1/4 only; beyond 56 the result may be off by a rounding.
    Few,
}

impl Segment<'_> {
    /// 1/(1 + e^-x), or e^x/(1 + e^x) below zero, both by e^-|x|.
    pub(super) fn double_logistic(&mut self, x: V) -> V {
        let sign = self.constant(Size::Eight, Size::Eight.sign());
        let minus_size = self.bin(Bin::Or, x, sign);
        let t = self.double_exp(minus_size);
        let (one, negative) = (self.f64(1.0), self.compare_to(Order::Lt, x, 0.0));
        let above = self.select(negative, t, one);
        let below = self.plus(t, 1.0);
        self.div(above, below)
    }

    /// e^x = 2^k·e^r with r = x - k·ln 2, and e^r = 1 + 2r/(2 - c) + … by an even polynomial.
    pub(super) fn double_exp(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let (k, [high, low]) = self.reduce(x, size);
        let r = self.sub(high, low);
        let square = self.mul(r, r);
        let p = self.polynomial(square, EVEN);
        let product = self.mul(square, p);
        let c = self.sub(r, product);
        let above = self.mul(r, c);
        let below = self.difference(2.0, c);
        let y = self.div(above, below);
        let y = self.sub(y, low);
        let y = self.add(y, high);
        let y = self.plus(y, 1.0);
        let y = self.times_power(y, k);
        let linear = self.plus(x, 1.0);
        let is_linear = self.compare_to(Order::Lt, size, LINEAR_BELOW);
        let y = self.select(is_linear, linear, y);
        let over = self.compare_to(Order::Gt, x, OVERFLOW);
        let y = self.replace(over, f64::INFINITY, y);
        let under = self.compare_to(Order::Lt, x, UNDERFLOW);
        self.replace(under, 0.0, y)
    }

    /// e^x/2 where e^x alone would overflow, of a shifted exponential: [`Self::far`] of `x` is to be its argument.
    pub(super) fn half_of_far(&mut self, e: V) -> V {
        let e = self.times(e, ROOT_OF_FAR);
        self.times(e, ROOT_OF_FAR)
    }

    /// See [`Self::half_of_far`].
    pub(super) fn far(&mut self, x: V) -> V {
        let far = self.f64(FAR);
        self.sub(x, far)
    }

    /// e^x - 1.
    pub(super) fn double_expm1(&mut self, x: V) -> V {
        let y = self.expm1_of(x, Multiples::All);
        let size = self.magnitude(x);
        let tiny = self.compare_to(Order::Lt, size, 2_f64.powi(-54));
        let y = self.select(tiny, x, y);
        let flat = self.compare_to(Order::Le, x, -FLAT_FROM);
        let y = self.replace(flat, -1.0, y);
        let over = self.compare_to(Order::Gt, x, OVERFLOW);
        self.replace(over, f64::INFINITY, y)
    }

    /// e^x - 1 where it is neither -1 nor infinite; of a zero, either zero.
    ///
    /// 2^k·e^r - 1 with e^r = 1 + r - e; in which order the three are added depends on k. All of them are
    /// 2^k·((r + p) - (e + q) + a) + b with addends of which most are zero.
    pub(super) fn expm1_of(&mut self, x: V, multiples: Multiples) -> V {
        let size = self.magnitude(x);
        let (k, [high, low]) = self.reduce(x, size);
        let r = self.sub(high, low);
        let c = self.sub(high, r);
        let c = self.sub(c, low);
        let half = self.times(r, 0.5);
        let square = self.mul(r, half);
        let p = self.polynomial(square, EVEN_OF_HALVES);
        let t = self.mul(p, half);
        let t = self.difference(3.0, t);
        let above = self.sub(p, t);
        let product = self.mul(r, t);
        let below = self.difference(6.0, product);
        let e = self.div(above, below);
        let e = self.mul(square, e);
        let e = self.sub(e, c);
        let e = self.mul(r, e);
        let e = self.sub(e, c);
        let e = self.sub(e, square);

        let size_of_k = self.magnitude(k);
        let near = self.compare_to(Order::Le, size_of_k, 1.0);
        let long = self.compare_to(Order::Ge, k, 20.0);
        // 2^-k, of which there is one between 2 and 56: to be added before what it is smaller than.
        let inverse = self.difference(POWERS, k);
        let mut inverse = self.un(Un::Shl(52), inverse);
        let minus_half = self.f64(-0.5);
        let b = self.bin(Bin::Max, k, minus_half);
        let mut b = self.bin(Bin::And, near, b);
        let mut r = r;
        if multiples == Multiples::All {
            let (negative, many) = (self.compare_to(Order::Lt, k, -1.0), self.compare_to(Order::Gt, k, 56.0));
            let alone = self.bin(Bin::Or, negative, many);
            inverse = self.bin(Bin::AndNot, alone, inverse);
            b = self.replace(alone, -1.0, b);
            let (once, low) = (self.compare_to(Order::Eq, k, 1.0), self.compare_to(Order::Lt, r, -0.25));
            let before = self.bin(Bin::And, once, low);
            b = self.bin(Bin::AndNot, before, b);
            let half = self.f64(0.5);
            let p = self.bin(Bin::And, before, half);
            r = self.add(r, p);
        }
        let q = self.bin(Bin::And, long, inverse);
        let e = self.add(e, q);
        let y = self.sub(r, e);
        let a = self.bin(Bin::AndNot, long, inverse);
        let a = self.difference(1.0, a);
        let a = self.bin(Bin::AndNot, near, a);
        let y = self.add(y, a);
        let y = match multiples {
            Multiples::All => self.times_power(y, k),
            Multiples::Few => self.times_one_power(y, k),
        };
        self.add(y, b)
    }

    /// x/ln 2 to the nearest integer, halves away from zero, or 0 where |x| is small, and what is left of x in two parts.
    fn reduce(&mut self, x: V, size: V) -> (V, [V; 2]) {
        let (half, sign) = (self.f64(0.5), self.sign_of(x));
        let half = self.bin(Bin::Or, half, sign);
        let k = self.times(x, std::f64::consts::LOG2_E);
        let k = self.add(k, half);
        let k = self.un(Un::Trunc, k);
        let reduced = self.compare_to(Order::Ge, size, REDUCED_FROM);
        let k = self.bin(Bin::And, reduced, k);
        let high = self.times(k, LN_2[0]);
        let high = self.sub(x, high);
        (k, [high, self.times(k, LN_2[1])])
    }

    /// y·2^k, rounded once: without the instruction by two powers, of which the first is exact.
    fn times_power(&mut self, y: V, k: V) -> V {
        if self.width == Width::Avx512 {
            return self.bin(Bin::Scale, y, k);
        }
        let first = self.times(k, 0.5);
        let first = self.un(Un::Trunc, first);
        let second = self.sub(k, first);
        let y = self.times_one_power(y, first);
        self.times_one_power(y, second)
    }

    /// y·2^k where 2^k is a normal number.
    fn times_one_power(&mut self, y: V, k: V) -> V {
        if self.width == Width::Avx512 {
            return self.bin(Bin::Scale, y, k);
        }
        let sum = self.plus(k, POWERS);
        let power = self.un(Un::Shl(52), sum);
        self.mul(y, power)
    }
}

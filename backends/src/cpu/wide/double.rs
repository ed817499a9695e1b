//! Elementary functions of f64 that have wide code.
//!
//! Functions of f64 are those of the `libm` crate, on every path. What stands here does what they do, operation by operation, with
//! selections in place of branches, and so gives their bits; the others are left to the portable path, which calls the library.

use lehr_ir::kernel::recipes::Function;

use super::Width;
use super::segment::{Bin, Element, Order, Segment, Un, V};
use super::size::Size;

const DOUBLE: Element = Element::Float(Size::Eight);

/// ln 2 in two parts, the first with zeros at its end so that small multiples are exact.
const LN_2: [f64; 2] = [f64::from_bits(0x3fe6_2e42_fee0_0000), f64::from_bits(0x3dea_39ef_3579_3c76)];

/// The least |x| of which a multiple of ln 2 is subtracted: a half of it, up to 32 bits.
const REDUCED_FROM: f64 = f64::from_bits(0x3fd6_2e43_0000_0000);
/// The greatest |x| whose exponential is 1 + x, up to 32 bits.
const LINEAR_BELOW: f64 = f64::from_bits(0x3e30_0001_0000_0000);

/// r - r²·p(r²) is what (e^r - 1)/(e^r + 1) is twice of; from the highest power on.
const POLYNOMIAL: [f64; 5] = [
    f64::from_bits(0x3e66_3769_72be_a4d0),
    f64::from_bits(0xbebb_bd41_c5d2_6bf1),
    f64::from_bits(0x3f11_566a_af25_de2c),
    f64::from_bits(0xbf66_c16c_16be_bd93),
    f64::from_bits(0x3fc5_5555_5555_553e),
];

/// Beyond these the result is infinite, and zero.
const OVERFLOW: f64 = 709.782_712_893_384;
const UNDERFLOW: f64 = -745.133_219_101_941_1;

impl Segment<'_> {
    /// A function of f64; `None` where there is no code.
    pub(super) fn double_function(&mut self, f: Function, args: &[V]) -> Option<V> {
        match (f, args) {
            (Function::Rsqrt, [a]) => {
                let one = self.f64(1.0);
                let root = self.un(Un::Sqrt, *a);
                Some(self.bin(Bin::Div, one, root))
            }
            (Function::Exp | Function::ExpBounded, [a]) => Some(self.double_exp(*a)),
            (Function::Logistic, [a]) => Some(self.double_logistic(*a)),
            (_, _) => None,
        }
    }

    /// 1/(1 + e^-x), or e^x/(1 + e^x) below zero, both by e^-|x|.
    fn double_logistic(&mut self, x: V) -> V {
        let (one, zero, sign) = (self.f64(1.0), self.f64(0.0), self.constant(Size::Eight, Size::Eight.sign()));
        let minus_size = self.bin(Bin::Or, x, sign);
        let t = self.double_exp(minus_size);
        let negative = self.compare(Order::Lt, DOUBLE, x, zero);
        let above = self.select(negative, t, one);
        let below = self.bin(Bin::Add, one, t);
        self.bin(Bin::Div, above, below)
    }

    /// e^x = 2^k·e^r with r = x - k·ln 2, and e^r = 1 + 2r/(2 - c) + … by an even polynomial.
    fn double_exp(&mut self, x: V) -> V {
        let (one, two, half) = (self.f64(1.0), self.f64(2.0), self.f64(0.5));
        let sign = self.constant(Size::Eight, Size::Eight.sign());
        let size = self.constant(Size::Eight, Size::Eight.sign() - 1);
        let size = self.bin(Bin::And, x, size);
        let k = self.exponent(x, size, sign, half);
        let (high, low) = (self.f64(LN_2[0]), self.f64(LN_2[1]));
        let high = self.bin(Bin::Mul, k, high);
        let high = self.bin(Bin::Sub, x, high);
        let low = self.bin(Bin::Mul, k, low);
        let r = self.bin(Bin::Sub, high, low);
        let square = self.bin(Bin::Mul, r, r);
        let mut p = self.f64(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            let (c, product) = (self.f64(*c), self.bin(Bin::Mul, square, p));
            p = self.bin(Bin::Add, c, product);
        }
        let product = self.bin(Bin::Mul, square, p);
        let c = self.bin(Bin::Sub, r, product);
        let above = self.bin(Bin::Mul, r, c);
        let below = self.bin(Bin::Sub, two, c);
        let y = self.bin(Bin::Div, above, below);
        let y = self.bin(Bin::Sub, y, low);
        let y = self.bin(Bin::Add, y, high);
        let y = self.bin(Bin::Add, one, y);
        let y = self.times_power(y, k);
        let (linear_below, linear) = (self.f64(LINEAR_BELOW), self.bin(Bin::Add, one, x));
        let is_linear = self.compare(Order::Lt, DOUBLE, size, linear_below);
        let y = self.select(is_linear, linear, y);
        let (limit, infinity) = (self.f64(OVERFLOW), self.f64(f64::INFINITY));
        let over = self.compare(Order::Gt, DOUBLE, x, limit);
        let y = self.select(over, infinity, y);
        let (limit, zero) = (self.f64(UNDERFLOW), self.f64(0.0));
        let under = self.compare(Order::Lt, DOUBLE, x, limit);
        self.select(under, zero, y)
    }

    /// x/ln 2 to the nearest integer, halves away from zero; 0 where |x| is small.
    fn exponent(&mut self, x: V, size: V, sign: V, half: V) -> V {
        let (scale, from) = (self.f64(std::f64::consts::LOG2_E), self.f64(REDUCED_FROM));
        let sign = self.bin(Bin::And, x, sign);
        let half = self.bin(Bin::Or, half, sign);
        let k = self.bin(Bin::Mul, x, scale);
        let k = self.bin(Bin::Add, k, half);
        let k = self.un(Un::Trunc, k);
        let reduced = self.compare(Order::Ge, DOUBLE, size, from);
        self.bin(Bin::And, reduced, k)
    }

    /// y·2^k, rounded once: without the instruction by two powers, of which the first is exact.
    fn times_power(&mut self, y: V, k: V) -> V {
        if self.width == Width::Avx512 {
            return self.bin(Bin::Scale, y, k);
        }
        let half = self.f64(0.5);
        // The integer stands in the low bits of the sum, with the exponent's bias.
        let rounder = self.f64(1.5 * 2_f64.powi(52) + 1023.0);
        let first = self.bin(Bin::Mul, k, half);
        let first = self.un(Un::Trunc, first);
        let second = self.bin(Bin::Sub, k, first);
        [first, second].into_iter().fold(y, |y, k| {
            let sum = self.bin(Bin::Add, k, rounder);
            let power = self.un(Un::Shl(52), sum);
            self.bin(Bin::Mul, y, power)
        })
    }
}

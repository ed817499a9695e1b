//! Hyperbolic functions of f64 and their inverses, by exponentials and logarithms.

use lehr_ir::kernel::recipes::Emit;

use super::super::segment::{Bin, Order, Segment, Un, V};
use super::exp::Multiples;
use super::high;

/// Above this size tanh is 1 - 2/(e^2|x| + 1), above the second the quotient of e^2|x| - 1 and e^2|x| + 1: log(3)/2 and log(5/3)/2.
const ONE_MINUS_FROM: f64 = high(0x3fe1_93eb);
const POSITIVE_FROM: f64 = high(0x3fd0_58af);
/// From this size on tanh is 1 by the steps themselves.
const FLAT_FROM: f64 = 22.0;
/// From this size on e^|x| overflows, up to 32 bits.
const OVERFLOW_FROM: f64 = high(0x4086_2e42);
/// ln 2, up to 32 bits.
const LN_2_HIGH: f64 = high(0x3fe6_2e42);

impl Segment<'_> {
    /// By t = e^±2|x| - 1 and t/(t + 2), with the sign of x.
    pub(super) fn double_tanh(&mut self, x: V) -> V {
        let (flat, size) = (self.f64(FLAT_FROM), self.magnitude(x));
        // The second operand where it is NaN.
        let size = self.bin(Bin::Min, flat, size);
        let (one_minus, positive) =
            (self.compare_to(Order::Ge, size, ONE_MINUS_FROM), self.compare_to(Order::Ge, size, POSITIVE_FROM));
        let minus_two = self.f64(-2.0);
        let factor = self.replace(positive, 2.0, minus_two);
        let twice = self.mul(size, factor);
        let t = self.expm1_of(twice, Multiples::Few);
        let below = self.plus(t, 2.0);
        let above = self.magnitude(t);
        let above = self.replace(one_minus, 2.0, above);
        let quotient = self.div(above, below);
        let less = self.difference(1.0, quotient);
        let y = self.select(one_minus, less, quotient);
        self.signed_as(x, y)
    }

    /// By t = e^|x| - 1 and t/(t + 1), with the sign of x.
    pub(super) fn double_sinh(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let t = self.double_expm1(size);
        let below_one = self.compare_to(Order::Lt, size, 1.0);
        let square = self.mul(t, t);
        let above = self.select(below_one, square, t);
        let below = self.plus(t, 1.0);
        let quotient = self.div(above, below);
        let twice = self.times(t, 2.0);
        let less = self.sub(twice, quotient);
        let more = self.add(t, quotient);
        let y = self.select(below_one, less, more);
        let y = self.times(y, 0.5);
        // Where it is not wanted the exponential is 1, since processors take long over numbers that underflow.
        let (is_near, far) = (self.compare_to(Order::Lt, size, OVERFLOW_FROM), self.far(size));
        let far = self.bin(Bin::AndNot, is_near, far);
        let far = self.double_exp(far);
        let far = self.half_of_far(far);
        let y = self.select(is_near, y, far);
        let tiny = self.compare_to(Order::Lt, size, 2_f64.powi(-26));
        let y = self.select(tiny, size, y);
        self.signed_as(x, y)
    }

    /// By t = e^|x| and t + 1/t; below ln 2 by t = e^|x| - 1.
    pub(super) fn double_cosh(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let t = self.double_expm1(size);
        let square = self.mul(t, t);
        let below = self.plus(t, 1.0);
        let below = self.times(below, 2.0);
        let quotient = self.div(square, below);
        let small = self.plus(quotient, 1.0);
        let (is_near, far) = (self.compare_to(Order::Lt, size, OVERFLOW_FROM), self.far(size));
        let argument = self.select(is_near, size, far);
        let e = self.double_exp(argument);
        let inverse = self.ratio(1.0, e);
        let near = self.add(e, inverse);
        let near = self.times(near, 0.5);
        let far = self.half_of_far(e);
        let y = self.select(is_near, near, far);
        let is_small = self.compare_to(Order::Lt, size, LN_2_HIGH);
        self.select(is_small, small, y)
    }

    /// By log(1 + …) below 2, and by the logarithm of about 2|x| above, with the sign of x.
    pub(super) fn double_asinh(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let square = self.mul(size, size);
        let root = self.plus(square, 1.0);
        let root = self.un(Un::Sqrt, root);
        let below = self.plus(root, 1.0);
        let quotient = self.div(square, below);
        let small = self.add(size, quotient);
        let small = self.double_log1p(small);
        let sum = self.add(root, size);
        let inverse = self.ratio(1.0, sum);
        let twice = self.times(size, 2.0);
        let middle = self.add(twice, inverse);
        let large = self.log_of_sum(size, size, middle);
        let is_small = self.compare_to(Order::Lt, size, 2.0);
        let y = self.select(is_small, small, large);
        let tiny = self.compare_to(Order::Lt, size, 2_f64.powi(-26));
        let y = self.select(tiny, size, y);
        self.signed_as(x, y)
    }

    /// By log(1 + …) below 2, and by the logarithm of about 2x above.
    pub(super) fn double_acosh(&mut self, x: V) -> V {
        let above_one = self.plus(x, -1.0);
        let square = self.mul(above_one, above_one);
        let twice = self.times(above_one, 2.0);
        let root = self.add(square, twice);
        let root = self.un(Un::Sqrt, root);
        let small = self.add(above_one, root);
        let small = self.double_log1p(small);
        let square = self.mul(x, x);
        let root = self.plus(square, -1.0);
        let root = self.un(Un::Sqrt, root);
        let sum = self.add(x, root);
        let inverse = self.ratio(1.0, sum);
        let twice = self.times(x, 2.0);
        let middle = self.sub(twice, inverse);
        let size = self.magnitude(x);
        let large = self.log_of_sum(x, size, middle);
        let is_small = self.compare_to(Order::Lt, size, 2.0);
        self.select(is_small, small, large)
    }

    /// Half of log(1 + 2y/(1 - y)) with y = |x| and the sign of x.
    pub(super) fn double_atanh(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let below = self.difference(1.0, size);
        let twice = self.times(size, 2.0);
        let square = self.mul(twice, size);
        let small = self.div(square, below);
        let small = self.add(twice, small);
        let large = self.div(size, below);
        let large = self.times(large, 2.0);
        let is_small = self.compare_to(Order::Lt, size, 0.5);
        let argument = self.select(is_small, small, large);
        let y = self.double_log1p(argument);
        let y = self.times(y, 0.5);
        let tiny = self.compare_to(Order::Lt, size, 2_f64.powi(-32));
        let y = self.select(tiny, size, y);
        self.signed_as(x, y)
    }

    /// log(2x) where |x| is 2^26 or more, else the logarithm of `middle`.
    fn log_of_sum(&mut self, x: V, size: V, middle: V) -> V {
        let is_middle = self.compare_to(Order::Lt, size, 2_f64.powi(26));
        let argument = self.select(is_middle, middle, x);
        let y = self.double_log(argument);
        let twice = self.plus(y, std::f64::consts::LN_2);
        self.select(is_middle, y, twice)
    }
}

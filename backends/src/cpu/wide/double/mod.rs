//! Elementary functions of f64 that have wide code.
//!
//! Functions of f64 are those of the `libm` crate, on every path. What stands here does what they do, operation by operation, with
//! selections in place of branches, and so gives their bits (which NaN aside); the others are left to the portable path, which calls
//! the library. No product is fused with a sum, since none is there. A limit on the high word of a number is here a limit on the
//! number itself.
//!
//! # Source
//! The algorithms and constants are those of FreeBSD's msun (`e_exp.c`, `s_expm1.c`, `e_log.c`, `s_log1p.c`, `e_log2.c`,
//! `e_asin.c`, `e_acos.c`, `s_atan.c`) and, of hyperbolic functions, of musl, which the crate translates.

use lehr_ir::kernel::recipes::{Emit, Function};
use smallvec::SmallVec;

use super::segment::{Bin, Element, Order, Segment, Un, V};
use super::size::Size;

mod exp;
mod hyperbolic;
mod inverse_trig;
mod log;
#[cfg(test)]
mod tests;

const DOUBLE: Element = Element::Float(Size::Eight);

/// ln 2 in two parts, the first with zeros at its end so that small multiples are exact.
const LN_2: [f64; 2] = [f64::from_bits(0x3fe6_2e42_fee0_0000), f64::from_bits(0x3dea_39ef_3579_3c76)];

/// Those that there is code for.
#[cfg(test)]
pub(super) const FUNCTIONS: [Function; 16] = [
    Function::Exp,
    Function::Expm1,
    Function::Logistic,
    Function::Log,
    Function::Log2,
    Function::Log1p,
    Function::Tanh,
    Function::Sinh,
    Function::Cosh,
    Function::Asinh,
    Function::Acosh,
    Function::Atanh,
    Function::Asin,
    Function::Acos,
    Function::Atan,
    Function::Rsqrt,
];

/// The least positive number with this high word.
const fn high(word: u32) -> f64 {
    f64::from_bits((word as u64) << 32)
}

impl Segment<'_> {
    /// A function of f64; `None` where there is no code.
    pub(super) fn double_function(&mut self, f: Function, args: &[V]) -> Option<V> {
        match (f, args) {
            (Function::Rsqrt, [a]) => {
                let root = self.un(Un::Sqrt, *a);
                Some(self.ratio(1.0, root))
            }
            (Function::Exp | Function::ExpBounded, [a]) => Some(self.double_exp(*a)),
            (Function::Expm1, [a]) => Some(self.double_expm1(*a)),
            (Function::Logistic, [a]) => Some(self.double_logistic(*a)),
            (Function::Log, [a]) => Some(self.double_log(*a)),
            (Function::Log2, [a]) => Some(self.double_log2(*a)),
            (Function::Log1p, [a]) => Some(self.double_log1p(*a)),
            (Function::Tanh, [a]) => Some(self.double_tanh(*a)),
            (Function::Sinh, [a]) => Some(self.double_sinh(*a)),
            (Function::Cosh, [a]) => Some(self.double_cosh(*a)),
            (Function::Asinh, [a]) => Some(self.double_asinh(*a)),
            (Function::Acosh, [a]) => Some(self.double_acosh(*a)),
            (Function::Atanh, [a]) => Some(self.double_atanh(*a)),
            (Function::Asin, [a]) => Some(self.double_asin(*a)),
            (Function::Acos, [a]) => Some(self.double_acos(*a)),
            (Function::Atan, [a]) => Some(self.double_atan(*a)),
            (_, _) => None,
        }
    }

    /// `a + c`.
    fn plus(&mut self, a: V, c: f64) -> V {
        let c = self.f64(c);
        self.add(a, c)
    }

    /// `a·c`.
    fn times(&mut self, a: V, c: f64) -> V {
        let c = self.f64(c);
        self.mul(a, c)
    }

    /// `c - a`.
    fn difference(&mut self, c: f64, a: V) -> V {
        let c = self.f64(c);
        self.sub(c, a)
    }

    /// `c/a`.
    fn ratio(&mut self, c: f64, a: V) -> V {
        let c = self.f64(c);
        self.div(c, a)
    }

    /// The polynomial of `x` with these coefficients, that of the highest power first.
    fn polynomial<const N: usize>(&mut self, x: V, coefficients: [f64; N]) -> V {
        let terms = coefficients.into_iter().map(|c| self.f64(c)).collect::<SmallVec<[V; 8]>>();
        terms
            .into_iter()
            .reduce(|sum, c| {
                let product = self.mul(x, sum);
                self.add(c, product)
            })
            .unwrap_or(x)
    }

    /// Where `a` stands so to `c`.
    fn compare_to(&mut self, order: Order, a: V, c: f64) -> V {
        let c = self.f64(c);
        self.compare(order, DOUBLE, a, c)
    }

    /// `c` where the mask is set, else `a`.
    fn replace(&mut self, mask: V, c: f64, a: V) -> V {
        let c = self.f64(c);
        self.select(mask, c, a)
    }

    /// The sign bit of a number.
    fn sign_of(&mut self, a: V) -> V {
        let sign = self.constant(Size::Eight, Size::Eight.sign());
        self.bin(Bin::And, a, sign)
    }

    /// A number without its sign.
    fn magnitude(&mut self, a: V) -> V {
        let rest = self.constant(Size::Eight, Size::Eight.sign() - 1);
        self.bin(Bin::And, a, rest)
    }

    /// `y`, which is not negative, with the sign of `x`.
    fn signed_as(&mut self, x: V, y: V) -> V {
        let sign = self.sign_of(x);
        self.bin(Bin::Or, y, sign)
    }
}

//! Recipes of the elementary functions in f32: each expands into straight-line scalar operations of stated accuracy.
//!
//! Machine code for a wide vector, a 128-bit vector and WGSL comes from the same text, written once over the trait [`Emit`].
//! The bounds in [`TABLE`] are measured over all 2^32 arguments (two arguments: random pairs and grids) against f64,
//! and hold where the operations round as IEEE 754 asks, `fma` is fused and subnormals are kept.
//! A GPU that flushes subnormals, divides with 2.5 ULP or reassociates past [`Emit::keep`] has wider errors.
//!
//! NaN in gives NaN out, by arithmetic on the argument, except `pow(1, NaN) = pow(NaN, 0) = 1`.
//! The sine family makes the NaN of an infinite argument by `inf - inf`, and `log`, `acosh` and `pow` select a NaN constant:
//! a target without dependable NaN guards those itself.

mod emit;
mod erf;
mod exp;
pub mod host;
mod inverse_trig;
mod log;
mod parts;
mod pow;
mod root;
mod tanh;
mod trig;

pub use emit::Emit;
pub use trig::BOUND;

/// A row of [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Recipe {
    /// The function.
    pub function: Function,
    /// Its name in lower case, as in kernel text.
    pub name: &'static str,
    /// The number of arguments.
    pub arity: usize,
    /// A bound on the error in units of the last place, over all arguments within `domain`.
    pub max_ulp: f64,
    /// Operations written, without constants and bitcasts; compare and select count one each.
    pub operations: usize,
    /// Distinct constants.
    pub constants: usize,
    /// The least and the greatest argument for which the recipe holds (NaN always gives NaN); infinite where it holds for all.
    pub domain: (f32, f32),
    /// Results at special arguments, beyond NaN for NaN.
    pub special: &'static str,
}

/// Declares [`Function`], [`TABLE`] and [`emit`] from one list.
macro_rules! recipes {
    ($($variant:ident $name:literal [$($arg:literal),+] $recipe:path, $ulp:literal ulp, $ops:literal ops, $constants:literal constants, $domain:expr, $special:literal;)+) => {
        /// An elementary function.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Function {
            $(#[doc = concat!("`", $name, "`: ", $special, ".")] $variant,)+
        }

        /// Every function, in the order of the enum.
        pub const TABLE: &[Recipe] = &[$(Recipe {
            function: Function::$variant,
            name: $name,
            arity: [$($arg),+].len(),
            max_ulp: $ulp,
            operations: $ops,
            constants: $constants,
            domain: $domain,
            special: $special,
        }),+];

        /// Writes the recipe of `function` and returns its result.
        ///
        /// # Panics
        /// Where `args` is shorter than the arity.
        #[inline(always)]
        pub fn emit<E: Emit>(function: Function, e: &mut E, args: &[E::V]) -> E::V {
            match function {
                $(Function::$variant => $recipe(e, $(args[$arg]),+),)+
            }
        }
    };
}

const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
const WITHIN_BOUND: (f32, f32) = (-BOUND, BOUND);

recipes! {
    Exp "exp" [0] exp::exp, 1.55 ulp, 18 ops, 13 constants, ALL, "-inf → 0, +inf → +inf, overflow → +inf";
    ExpBounded "exp_bounded" [0] exp::exp_bounded, 1.5 ulp, 15 ops, 12 constants, (f32::NEG_INFINITY, 64.0), "exp for x ≤ 64; -inf → 0";
    Exp2 "exp2" [0] exp::exp2, 1.5 ulp, 19 ops, 10 constants, ALL, "exact for integers; -inf → 0, +inf → +inf, overflow → +inf";
    Expm1 "expm1" [0] exp::expm1, 1.5 ulp, 21 ops, 13 constants, ALL, "±0 → ±0, -inf → -1, +inf → +inf";
    Log "log" [0] log::log, 1.5 ulp, 27 ops, 19 constants, ALL, "±0 → -inf, x < 0 → NaN, +inf → +inf";
    Log2 "log2" [0] log::log2, 1.5 ulp, 28 ops, 21 constants, ALL, "exact for powers of two; ±0 → -inf, x < 0 → NaN, +inf → +inf";
    Log1p "log1p" [0] log::log1p, 1.5 ulp, 26 ops, 19 constants, ALL, "±0 → ±0, -1 → -inf, x < -1 → NaN, +inf → +inf";
    Sin "sin" [0] trig::sin, 2.0 ulp, 107 ops, 44 constants, ALL, "±0 → ±0, ±inf → NaN";
    Cos "cos" [0] trig::cos, 2.0 ulp, 110 ops, 44 constants, ALL, "±0 → 1, ±inf → NaN";
    Tan "tan" [0] trig::tan, 2.0 ulp, 125 ops, 50 constants, ALL, "±0 → ±0, ±inf → NaN";
    SinBounded "sin_bounded" [0] trig::sin_bounded, 2.0 ulp, 16 ops, 11 constants, WITHIN_BOUND, "the bits of sin for |x| ≤ BOUND, unspecified beyond";
    CosBounded "cos_bounded" [0] trig::cos_bounded, 2.0 ulp, 17 ops, 12 constants, WITHIN_BOUND, "the bits of cos for |x| ≤ BOUND, unspecified beyond";
    TanBounded "tan_bounded" [0] trig::tan_bounded, 2.0 ulp, 32 ops, 16 constants, WITHIN_BOUND, "the bits of tan for |x| ≤ BOUND, unspecified beyond";
    Tanh "tanh" [0] tanh::tanh, 2.0 ulp, 27 ops, 19 constants, ALL, "±0 → ±0, ±inf → ±1";
    Logistic "logistic" [0] exp::logistic, 2.0 ulp, 22 ops, 14 constants, ALL, "-inf → 0, +inf → 1";
    Erf "erf" [0] erf::erf, 2.0 ulp, 31 ops, 24 constants, ALL, "±0 → ±0, ±inf → ±1";
    Erfc "erfc" [0] erf::erfc, 3.0 ulp, 49 ops, 29 constants, ALL, "-inf → 2, +inf → 0";
    Sqrt "sqrt" [0] root::sqrt, 0.5 ulp, 1 ops, 0 constants, ALL, "±0 → ±0, x < 0 → NaN, +inf → +inf";
    Rsqrt "rsqrt" [0] root::rsqrt, 2.0 ulp, 2 ops, 1 constants, ALL, "±0 → ±inf, x < 0 → NaN, +inf → 0";
    Cbrt "cbrt" [0] root::cbrt, 3.0 ulp, 34 ops, 9 constants, ALL, "±0 → ±0, ±inf → ±inf";
    Sinh "sinh" [0] tanh::sinh, 3.0 ulp, 27 ops, 16 constants, ALL, "±0 → ±0, ±inf → ±inf";
    Cosh "cosh" [0] tanh::cosh, 3.0 ulp, 18 ops, 12 constants, ALL, "±inf → +inf";
    Asin "asin" [0] inverse_trig::asin, 3.0 ulp, 17 ops, 10 constants, ALL, "±0 → ±0, |x| > 1 → NaN";
    Acos "acos" [0] inverse_trig::acos, 3.0 ulp, 21 ops, 11 constants, ALL, "1 → 0, |x| > 1 → NaN";
    Atan "atan" [0] inverse_trig::atan, 3.0 ulp, 20 ops, 12 constants, ALL, "±0 → ±0, ±inf → ±π/2";
    Asinh "asinh" [0] log::asinh, 3.0 ulp, 34 ops, 20 constants, ALL, "±0 → ±0, ±inf → ±inf";
    Acosh "acosh" [0] log::acosh, 3.0 ulp, 33 ops, 20 constants, ALL, "1 → 0, x < 1 → NaN, +inf → +inf";
    Atanh "atanh" [0] log::atanh, 3.0 ulp, 33 ops, 21 constants, ALL, "±0 → ±0, ±1 → ±inf, |x| > 1 → NaN";
    Pow "pow" [0, 1] pow::pow, 2.0 ulp, 111 ops, 30 constants, ALL, "IEEE 754 pow: x^±0 = 1^y = (-1)^±inf = 1, x < 0 with a fractional y → NaN, zeros and infinities by sign and parity of y";
    Atan2 "atan2" [0, 1] inverse_trig::atan2, 3.0 ulp, 30 ops, 15 constants, ALL, "arguments y, x; (±0, +) → ±0, (±0, -) → ±π, (y, ±0) → ±π/2, two infinities → ±π/4 or ±3π/4";
}

impl Function {
    /// The row of this function.
    pub fn recipe(self) -> &'static Recipe {
        &TABLE[self as usize]
    }

    /// The name in kernel text.
    pub fn name(self) -> &'static str {
        self.recipe().name
    }

    /// The function with this name in kernel text.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|r| r.name == name).map(|r| r.function)
    }

    /// The number of arguments.
    pub fn arity(self) -> usize {
        self.recipe().arity
    }
}

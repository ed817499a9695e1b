//! Elementwise functions of one operand: a table with a row for each.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, batch_elementwise, not_linear, one,
    partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::dtype::Kind;
use crate::error::{OpError, Rule};
use crate::eval::{EvalCx, EvalError, elementwise};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::recipes::Function;
use crate::kernel::{ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::Type;

/// What dtypes an elementwise operation takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// Real floats.
    Float,
    /// Integers and real floats.
    Real,
    /// Integers and bool.
    Bits,
}

impl Domain {
    /// Whether it includes a class of dtypes.
    pub fn includes(self, kind: Kind) -> bool {
        match self {
            Self::Float => kind == Kind::Float,
            Self::Real => matches!(kind, Kind::Float | Kind::Signed | Kind::Unsigned),
            Self::Bits => matches!(kind, Kind::Bool | Kind::Signed | Kind::Unsigned),
        }
    }

    /// The refusal of a dtype outside it.
    pub fn rule(self) -> Rule {
        match self {
            Self::Float => Rule::new("it takes real floats", "convert the operand to a float dtype such as f32"),
            Self::Real => Rule::new("it takes integers and real floats", "convert the operand, as with convert(i32)"),
            Self::Bits => {
                Rule::new("it takes integers and bool", "compare the operand, or convert it to an integer dtype")
            }
        }
    }
}

/// How a result varies with its operand.
#[derive(Clone, Copy)]
pub enum Slope {
    /// It is a step function, or of a dtype without derivatives: the tangent is zero.
    Zero,
    /// `-1`.
    Minus,
    /// The derivative as a value, from the operand and the result.
    Of(fn(&mut Builder, Value, Value) -> Result<Value, OpError>),
}

/// A function of signed integers and one of unsigned ones.
pub type Integers = (fn(i64) -> i64, fn(u64) -> u64);

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// The name in text.
    pub name: &'static str,
    /// The dtypes it takes.
    pub domain: Domain,
    /// Reference semantics on floats, in `f64`.
    pub float: fn(f64) -> f64,
    /// Reference semantics on signed integers and on unsigned ones, wrapped to the dtype's width afterwards.
    pub integer: Integers,
    /// The derivative.
    pub slope: Slope,
    /// The scalar operation that a kernel uses.
    pub scalar: ScalarOp,
}

macro_rules! unary {
    ($($(#[$doc:meta])* $Variant:ident = $row:expr;)*) => {
        /// An elementwise function of one operand; the result has the operand's type.
        ///
        /// # Numerics
        /// The evaluator computes floats in `f64` with `libm` and rounds once.
        /// Compiled code has the error bounds of [`crate::kernel::recipes`] in `f32`; NaN gives NaN.
        /// # Errors
        /// An operand outside the operation's domain.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum UnaryOp {
            $($(#[$doc])* $Variant,)*
        }

        impl UnaryOp {
            /// Every operation, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$Variant,)*];

            /// The operation's row.
            pub fn row(self) -> Row {
                match self { $(Self::$Variant => $row,)* }
            }
        }
    };
}

/// For rows that take floats only.
const NO_INTEGER: Integers = (|x| x, |x| x);

fn float(name: &'static str, float: fn(f64) -> f64, f: Function, slope: Slope) -> Row {
    Row { name, domain: Domain::Float, float, integer: NO_INTEGER, slope, scalar: ScalarOp::Call(f) }
}

fn rounding(name: &'static str, float: fn(f64) -> f64, scalar: ScalarOp) -> Row {
    Row { name, domain: Domain::Float, float, integer: NO_INTEGER, slope: Slope::Zero, scalar }
}

/// `1 / v`.
fn reciprocal(b: &mut Builder, v: Value) -> Result<Value, OpError> {
    let one = b.full_like(v, 1.0)?;
    b.div(one, v)
}

/// `c + s * x^2`.
fn square_plus(b: &mut Builder, x: Value, s: f64, c: f64) -> Result<Value, OpError> {
    let sq = b.mul(x, x)?;
    let sq = if s == 1.0 { sq } else { b.scale(sq, s)? };
    b.offset(sq, c)
}

unary! {
    /// `-x`; integers wrap.
    Neg = Row {
        name: "neg",
        domain: Domain::Real,
        float: |x| -x,
        integer: (i64::wrapping_neg, u64::wrapping_neg),
        slope: Slope::Minus,
        scalar: ScalarOp::Neg,
    };
    /// `|x|`; its slope at 0 is taken as 0.
    Abs = Row {
        name: "abs",
        domain: Domain::Real,
        float: f64::abs,
        integer: (i64::wrapping_abs, |x| x),
        slope: Slope::Of(|b, x, _| b.unary(UnaryOp::Sign, x)),
        scalar: ScalarOp::Abs,
    };
    /// −1, 0 or 1 by the sign of `x`; keeps ±0 and NaN.
    Sign = Row {
        name: "sign",
        domain: Domain::Real,
        float: |x| if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x },
        integer: (i64::signum, |x| x.min(1)),
        slope: Slope::Zero,
        // Emitted as comparisons, see `emit`.
        scalar: ScalarOp::Neg,
    };
    /// Bitwise not; logical not for bool.
    Not = Row {
        name: "not",
        domain: Domain::Bits,
        float: |x| x,
        integer: (|x| !x, |x| !x),
        slope: Slope::Zero,
        scalar: ScalarOp::Not,
    };
    /// The greatest integer ≤ `x`.
    Floor = rounding("floor", f64::floor, ScalarOp::Floor);
    /// The least integer ≥ `x`.
    Ceil = rounding("ceil", f64::ceil, ScalarOp::Ceil);
    /// `x` rounded toward zero.
    Trunc = rounding("trunc", f64::trunc, ScalarOp::Trunc);
    /// `x` rounded to the nearest integer, ties to even.
    Round = rounding("round", f64::round_ties_even, ScalarOp::Round);
    /// The square root; its slope at 0 is infinite.
    Sqrt = Row {
        name: "sqrt",
        domain: Domain::Float,
        float: f64::sqrt,
        integer: NO_INTEGER,
        slope: Slope::Of(|b, _, y| {
            let half = b.full_like(y, 0.5)?;
            b.div(half, y)
        }),
        scalar: ScalarOp::Sqrt,
    };
    /// `1 / sqrt(x)`.
    Rsqrt = float("rsqrt", |x| 1.0 / x.sqrt(), Function::Rsqrt, Slope::Of(|b, x, y| {
        let r = b.div(y, x)?;
        b.scale(r, -0.5)
    }));
    /// The cube root.
    Cbrt = float("cbrt", libm::cbrt, Function::Cbrt, Slope::Of(|b, _, y| {
        let sq = b.mul(y, y)?;
        let third = b.full_like(y, 1.0 / 3.0)?;
        b.div(third, sq)
    }));
    /// `e^x`.
    Exp = float("exp", libm::exp, Function::Exp, Slope::Of(|_, _, y| Ok(y)));
    /// `2^x`.
    Exp2 = float("exp2", libm::exp2, Function::Exp2, Slope::Of(|b, _, y| b.scale(y, std::f64::consts::LN_2)));
    /// `e^x - 1`, accurate near 0.
    Expm1 = float("expm1", libm::expm1, Function::Expm1, Slope::Of(|b, _, y| b.offset(y, 1.0)));
    /// The natural logarithm.
    Log = float("log", libm::log, Function::Log, Slope::Of(|b, x, _| reciprocal(b, x)));
    /// The logarithm to base 2.
    Log2 = float("log2", libm::log2, Function::Log2, Slope::Of(|b, x, _| {
        let r = b.full_like(x, std::f64::consts::LOG2_E)?;
        b.div(r, x)
    }));
    /// `log(1 + x)`, accurate near 0.
    Log1p = float("log1p", libm::log1p, Function::Log1p, Slope::Of(|b, x, _| {
        let x1 = b.offset(x, 1.0)?;
        reciprocal(b, x1)
    }));
    /// The sine of an angle in radians.
    Sin = float("sin", libm::sin, Function::Sin, Slope::Of(|b, x, _| b.unary(UnaryOp::Cos, x)));
    /// The cosine of an angle in radians.
    Cos = float("cos", libm::cos, Function::Cos, Slope::Of(|b, x, _| {
        let s = b.unary(UnaryOp::Sin, x)?;
        b.neg(s)
    }));
    /// The tangent of an angle in radians.
    Tan = float("tan", libm::tan, Function::Tan, Slope::Of(|b, _, y| square_plus(b, y, 1.0, 1.0)));
    /// The arc sine, in radians.
    Asin = float("asin", libm::asin, Function::Asin, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, -1.0, 1.0)?;
        b.unary(UnaryOp::Rsqrt, r)
    }));
    /// The arc cosine, in radians.
    Acos = float("acos", libm::acos, Function::Acos, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, -1.0, 1.0)?;
        let r = b.unary(UnaryOp::Rsqrt, r)?;
        b.neg(r)
    }));
    /// The arc tangent, in radians.
    Atan = float("atan", libm::atan, Function::Atan, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, 1.0, 1.0)?;
        reciprocal(b, r)
    }));
    /// The hyperbolic sine.
    Sinh = float("sinh", libm::sinh, Function::Sinh, Slope::Of(|b, x, _| b.unary(UnaryOp::Cosh, x)));
    /// The hyperbolic cosine.
    Cosh = float("cosh", libm::cosh, Function::Cosh, Slope::Of(|b, x, _| b.unary(UnaryOp::Sinh, x)));
    /// The hyperbolic tangent.
    Tanh = float("tanh", libm::tanh, Function::Tanh, Slope::Of(|b, _, y| square_plus(b, y, -1.0, 1.0)));
    /// The inverse hyperbolic sine.
    Asinh = float("asinh", libm::asinh, Function::Asinh, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, 1.0, 1.0)?;
        b.unary(UnaryOp::Rsqrt, r)
    }));
    /// The inverse hyperbolic cosine.
    Acosh = float("acosh", libm::acosh, Function::Acosh, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, 1.0, -1.0)?;
        b.unary(UnaryOp::Rsqrt, r)
    }));
    /// The inverse hyperbolic tangent.
    Atanh = float("atanh", libm::atanh, Function::Atanh, Slope::Of(|b, x, _| {
        let r = square_plus(b, x, -1.0, 1.0)?;
        reciprocal(b, r)
    }));
    /// `1 / (1 + e^-x)`, the sigmoid.
    Logistic = float("logistic", |x| 1.0 / (1.0 + libm::exp(-x)), Function::Logistic, Slope::Of(|b, _, y| {
        let one = b.full_like(y, 1.0)?;
        let r = b.sub(one, y)?;
        b.mul(y, r)
    }));
    /// The error function.
    Erf = float("erf", libm::erf, Function::Erf, Slope::Of(|b, x, _| {
        let sq = b.mul(x, x)?;
        let sq = b.neg(sq)?;
        let e = b.unary(UnaryOp::Exp, sq)?;
        b.scale(e, std::f64::consts::FRAC_2_SQRT_PI)
    }));
    /// `1 - erf(x)`, accurate for large `x`.
    Erfc = float("erfc", libm::erfc, Function::Erfc, Slope::Of(|b, x, _| {
        let sq = b.mul(x, x)?;
        let sq = b.neg(sq)?;
        let e = b.unary(UnaryOp::Exp, sq)?;
        b.scale(e, -std::f64::consts::FRAC_2_SQRT_PI)
    }));
}

impl UnaryOp {
    /// The operation of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.row().name == name)
    }
}

impl Operation for UnaryOp {
    fn name(&self) -> &str {
        self.row().name
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        let domain = self.row().domain;
        if !domain.includes(operands[0].dtype.kind()) {
            return Err(domain.rule());
        }
        one(operands[0].clone())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let row = self.row();
        let (signed, unsigned) = row.integer;
        let out = elementwise::map(operands[0], row.float, signed, unsigned, |x| !x);
        Ok(SmallVec::from_iter([out]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(partial(None)) };
        Ok(partial(match self.row().slope {
            Slope::Zero => None,
            Slope::Minus => Some(b.neg(t)?),
            Slope::Of(slope) => {
                let s = slope(b, at.operands[0], at.results[0])?;
                Some(b.mul(t, s)?)
            }
        }))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        _: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        match (self, cotangents[0]) {
            (_, None) => Ok(partial(None)),
            (Self::Neg, Some(ct)) => Ok(partial(Some(b.neg(ct)?))),
            _ => Err(not_linear(self.name())),
        }
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        batch_elementwise((*self).into(), b, operands, batched, size)
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::Elementwise }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let x = e.operand(0, index);
        if *self == Self::Sign {
            return emit_sign(e, x);
        }
        e.apply(self.row().scalar, &[x])
    }
}

/// `x > 0 ? 1 : x < 0 ? -1 : x`.
fn emit_sign(e: &mut dyn MapEmitter, x: Var) -> Var {
    let dtype = e.dtype(x);
    let [zero, one, minus] = [0.0, 1.0, -1.0].map(|v| e.literal(Literal::from_f64(dtype, v)));
    let positive = e.apply(ScalarOp::Gt, &[x, zero]);
    let negative = e.apply(ScalarOp::Lt, &[x, zero]);
    let rest = e.apply(ScalarOp::Select, &[negative, minus, x]);
    e.apply(ScalarOp::Select, &[positive, one, rest])
}

//! Elementwise functions of two operands of one type: a table with a row for each.

use smallvec::SmallVec;

use super::lower::Access;
use super::unary::Domain;
use super::{
    Arity, Arrays, At, CompareOp, Lowering, MapEmitter, Operation, Partials, RuleError, Types, UnaryOp, add_partials,
    batch_elementwise, check_same, not_linear, one, partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::{OpError, Rule};
use crate::eval::elementwise::{self, Zip};
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::recipes::Function;
use crate::kernel::{ScalarOp, Var};
use crate::ty::Type;

/// A derivative as a value, from both operands and the result.
type SlopeFn = fn(&mut Builder, Value, Value, Value) -> Result<Value, OpError>;

/// How a result varies with one of its operands.
#[derive(Clone, Copy)]
enum Slope {
    /// Not at all.
    Zero,
    /// `1`.
    One,
    /// `-1`.
    Minus,
    /// The other operand.
    Other,
    /// One over the second operand.
    OverSecond,
    /// A value of its own.
    Of(SlopeFn),
}

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    domain: Domain,
    zip: Zip<f64>,
    slopes: [Slope; 2],
    scalar: ScalarOp,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $Variant:ident = $row:expr;)*) => {
        /// An elementwise function of two operands of one type, which is the result's.
        ///
        /// # Shapes
        /// Equal: the builder's users broadcast first.
        /// # Numerics
        /// Integers wrap. `x / 0` and `x % 0` are 0 for integers.
        /// Floats follow IEEE 754; `max` and `min` give NaN if either operand is NaN.
        /// # Errors
        /// Operands of different dtypes or shapes, or outside the operation's domain.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum BinaryOp {
            $($(#[$doc])* $Variant,)*
        }

        impl BinaryOp {
            /// Every operation, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$Variant,)*];

            fn row(self) -> Row {
                match self { $(Self::$Variant => $row,)* }
            }
        }
    };
}

/// A row for integers, floats, and (max, min) bool.
const fn real(
    name: &'static str,
    float: fn(f64, f64) -> f64,
    signed: fn(i64, i64, u32) -> i64,
    unsigned: fn(u64, u64, u32) -> u64,
    slopes: [Slope; 2],
    scalar: ScalarOp,
) -> Row {
    Row { name, domain: Domain::Real, zip: Zip { float, signed, unsigned, boolean: |p, _| p }, slopes, scalar }
}

/// A row for integers and bool.
const fn bits(
    name: &'static str,
    signed: fn(i64, i64, u32) -> i64,
    unsigned: fn(u64, u64, u32) -> u64,
    boolean: fn(bool, bool) -> bool,
    scalar: ScalarOp,
) -> Row {
    Row {
        name,
        domain: Domain::Bits,
        zip: Zip { float: |x, _| x, signed, unsigned, boolean },
        slopes: [Slope::Zero, Slope::Zero],
        scalar,
    }
}

/// A row for floats.
const fn float(name: &'static str, float: fn(f64, f64) -> f64, slopes: [SlopeFn; 2], f: Function) -> Row {
    Row {
        name,
        domain: Domain::Float,
        zip: Zip { float, signed: |x, _, _| x, unsigned: |x, _, _| x, boolean: |p, _| p },
        slopes: [Slope::Of(slopes[0]), Slope::Of(slopes[1])],
        scalar: ScalarOp::Call(f),
    }
}

/// 1 where `x` wins, a half where the operands tie, 0 elsewhere (JAX's convention).
fn winner(b: &mut Builder, wins: CompareOp, x: Value, y: Value) -> Result<Value, OpError> {
    let [one, half, zero] = [1.0, 0.5, 0.0].map(|c| b.full_like(x, c));
    let (one, half, zero) = (one?, half?, zero?);
    let ahead = b.compare(wins, x, y)?;
    let tie = b.compare(CompareOp::Eq, x, y)?;
    let rest = b.select(tie, half, zero)?;
    b.select(ahead, one, rest)
}

/// `y * x^(y-1)`, and 0 where `y` is 0.
fn pow_base(b: &mut Builder, x: Value, y: Value, _: Value) -> Result<Value, OpError> {
    let (one, zero) = (b.full_like(y, 1.0)?, b.full_like(y, 0.0)?);
    let flat = b.compare(CompareOp::Eq, y, zero)?;
    let less = b.sub(y, one)?;
    let exponent = b.select(flat, one, less)?;
    let p = b.binary(BinaryOp::Pow, x, exponent)?;
    let slope = b.mul(y, p)?;
    b.select(flat, zero, slope)
}

/// `x^y * log(x)`, and 0 where `x` is 0.
fn pow_exponent(b: &mut Builder, x: Value, _: Value, out: Value) -> Result<Value, OpError> {
    let (one, zero) = (b.full_like(x, 1.0)?, b.full_like(x, 0.0)?);
    let flat = b.compare(CompareOp::Eq, x, zero)?;
    let safe = b.select(flat, one, x)?;
    let log = b.unary(UnaryOp::Log, safe)?;
    b.mul(out, log)
}

/// `v / (x² + y²)`.
fn over_square(b: &mut Builder, v: Value, x: Value, y: Value) -> Result<Value, OpError> {
    let (xx, yy) = (b.mul(x, x)?, b.mul(y, y)?);
    let r = b.add(xx, yy)?;
    b.div(v, r)
}

binary! {
    /// `x + y`.
    Add = real("add", |x, y| x + y, |x, y, _| x.wrapping_add(y), |x, y, _| x.wrapping_add(y),
        [Slope::One, Slope::One], ScalarOp::Add);
    /// `x - y`.
    Sub = real("sub", |x, y| x - y, |x, y, _| x.wrapping_sub(y), |x, y, _| x.wrapping_sub(y),
        [Slope::One, Slope::Minus], ScalarOp::Sub);
    /// `x * y`.
    Mul = real("mul", |x, y| x * y, |x, y, _| x.wrapping_mul(y), |x, y, _| x.wrapping_mul(y),
        [Slope::Other, Slope::Other], ScalarOp::Mul);
    /// `x / y`; integers truncate toward zero.
    Div = real("div", |x, y| x / y,
        |x, y, _| if y == 0 { 0 } else { x.wrapping_div(y) }, |x, y, _| x.checked_div(y).unwrap_or(0),
        [Slope::OverSecond, Slope::Of(|b, _, y, out| {
            let r = b.div(out, y)?;
            b.neg(r)
        })], ScalarOp::Div);
    /// The remainder with the sign of `x`.
    Rem = real("rem", |x, y| x % y,
        |x, y, _| if y == 0 { 0 } else { x.wrapping_rem(y) }, |x, y, _| x.checked_rem(y).unwrap_or(0),
        [Slope::One, Slope::Of(|b, x, y, _| {
            let q = b.div(x, y)?;
            let q = b.unary(UnaryOp::Trunc, q)?;
            b.neg(q)
        })], ScalarOp::Rem);
    /// The greater of the two. Its slope is shared equally where they tie.
    Max = real("max", |x, y| if x > y || x.is_nan() { x } else { y }, |x, y, _| x.max(y), |x, y, _| x.max(y),
        [Slope::Of(|b, x, y, _| winner(b, CompareOp::Gt, x, y)), Slope::Of(|b, x, y, _| winner(b, CompareOp::Gt, y, x))],
        ScalarOp::Max);
    /// The lesser of the two. Its slope is shared equally where they tie.
    Min = real("min", |x, y| if x < y || x.is_nan() { x } else { y }, |x, y, _| x.min(y), |x, y, _| x.min(y),
        [Slope::Of(|b, x, y, _| winner(b, CompareOp::Lt, x, y)), Slope::Of(|b, x, y, _| winner(b, CompareOp::Lt, y, x))],
        ScalarOp::Min);
    /// `x` to the power `y`, with IEEE 754's special cases.
    Pow = float("pow", libm::pow, [pow_base, pow_exponent], Function::Pow);
    /// The angle of the point `(y, x)` in radians; operands are `(y, x)`.
    Atan2 = float("atan2", libm::atan2, [
        |b, y, x, _| over_square(b, x, x, y),
        |b, y, x, _| {
            let r = over_square(b, y, x, y)?;
            b.neg(r)
        },
    ], Function::Atan2);
    /// Bitwise and; logical and for bool.
    And = bits("and", |x, y, _| x & y, |x, y, _| x & y, |p, q| p & q, ScalarOp::And);
    /// Bitwise or; logical or for bool.
    Or = bits("or", |x, y, _| x | y, |x, y, _| x | y, |p, q| p | q, ScalarOp::Or);
    /// Bitwise exclusive or; logical for bool.
    Xor = bits("xor", |x, y, _| x ^ y, |x, y, _| x ^ y, |p, q| p ^ q, ScalarOp::Xor);
    /// `x << y`, the count taken modulo the width; integers only.
    Shl = bits("shl", |x, y, n| x << (y as u32 & (n - 1)), |x, y, n| x << (y as u32 & (n - 1)), |p, _| p, ScalarOp::Shl);
    /// `x >> y`, arithmetic for signed integers, the count taken modulo the width; integers only.
    Shr = bits("shr", |x, y, n| x >> (y as u32 & (n - 1)), |x, y, n| x >> (y as u32 & (n - 1)), |p, _| p, ScalarOp::Shr);
}

impl BinaryOp {
    /// The operation of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.row().name == name)
    }

    /// Whether `op(x, y) = op(y, x)` to the bit.
    ///
    /// `max` and `min` are not among them: which NaN or which zero they give depends on the order.
    pub fn is_commutative(self) -> bool {
        match self {
            Self::Add | Self::Mul | Self::And | Self::Or | Self::Xor => true,
            Self::Sub
            | Self::Div
            | Self::Rem
            | Self::Max
            | Self::Min
            | Self::Pow
            | Self::Atan2
            | Self::Shl
            | Self::Shr => false,
        }
    }

    /// Whether `op(x, x) = x`.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Max | Self::Min | Self::And | Self::Or)
    }

    fn domain(self) -> Domain {
        self.row().domain
    }
}

impl Operation for BinaryOp {
    fn name(&self) -> &str {
        self.row().name
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let domain = self.domain();
        check_same(operands, facts)?;
        if !domain.includes(operands[0].dtype.kind()) {
            return Err(domain.rule());
        }
        if matches!(self, Self::Shl | Self::Shr) && operands[0].dtype == crate::DType::Bool {
            return Err(Rule::new("it takes integers", "convert the operands to an integer dtype"));
        }
        one(operands[0].clone())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let row = self.row();
        Ok(SmallVec::from_iter([elementwise::zip(row.name, operands[0], operands[1], &row.zip)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let (x, y) = (at.operands[0], at.operands[1]);
        if !b.ty(x).dtype.is_inexact() {
            return Ok(partial(None));
        }
        let slopes = self.row().slopes;
        let mut sum = None;
        for (i, (slope, other)) in slopes.into_iter().zip([y, x]).enumerate() {
            let Some(t) = tangents[i] else { continue };
            let term = match slope {
                Slope::Zero => continue,
                Slope::One => t,
                // `x - y` in both operands is one subtraction of tangents.
                Slope::Minus => match sum.take() {
                    Some(s) => b.sub(s, t)?,
                    None => b.neg(t)?,
                },
                Slope::Other => b.mul(t, other)?,
                Slope::OverSecond => b.div(t, y)?,
                Slope::Of(f) => {
                    let s = f(b, x, y, at.results[0])?;
                    b.mul(t, s)?
                }
            };
            sum = add_partials(b, sum, Some(term))?;
        }
        Ok(partial(sum))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(SmallVec::from_elem(None, 2)) };
        let (x, y) = (at.operands[0], at.operands[1]);
        let both = [linear[0].then_some(ct), linear[1].then_some(ct)];
        Ok(match (self, linear) {
            (Self::Add, _) => both.into_iter().collect(),
            (Self::Sub, [_, second]) => {
                let minus = if *second { Some(b.neg(ct)?) } else { None };
                [both[0], minus].into_iter().collect()
            }
            (Self::Mul, [true, false]) => [Some(b.mul(ct, y)?), None].into_iter().collect(),
            (Self::Mul, [false, true]) => [None, Some(b.mul(x, ct)?)].into_iter().collect(),
            (Self::Div, [true, false]) => [Some(b.div(ct, y)?), None].into_iter().collect(),
            _ => return Err(not_linear(self.name())),
        })
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
        let (x, y) = (e.operand(0, index), e.operand(1, index));
        e.apply(self.row().scalar, &[x, y])
    }
}

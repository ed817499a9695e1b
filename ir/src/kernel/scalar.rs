//! The scalar operations of kernel bodies: about 30 machine-like ones, and elementary functions that recipes expand.

use std::fmt;
use std::str::FromStr;

use super::recipes::Function;
use crate::dtype::{DType, Kind};

/// One scalar operation. Operands and result have one dtype unless said.
///
/// Integer arithmetic wraps. Integer division by zero and its remainder give 0, and the least value over −1 wraps,
/// so that no kernel traps. Shifts take their count modulo the width.
/// `f16` and `bf16` compute in `f32` and round after each operation; conversions to them round once, from any dtype.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScalarOp {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`; integers truncate toward zero.
    Div,
    /// The remainder with the sign of `a` (C's `fmod`, StableHLO's `remainder`).
    Rem,
    /// The greater; NaN if either is NaN; `b` if equal.
    Max,
    /// The lesser; NaN if either is NaN; `b` if equal.
    Min,
    /// `a * b + c`, rounded once; floats only.
    Fma,
    /// `-a`.
    Neg,
    /// The absolute value; the least signed integer wraps.
    Abs,
    /// The greatest integer ≤ `a`; floats only.
    Floor,
    /// The least integer ≥ `a`; floats only.
    Ceil,
    /// `a` rounded toward zero; floats only.
    Trunc,
    /// `a` rounded to the nearest integer, ties to even; floats only.
    Round,
    /// The square root, correctly rounded; floats only.
    Sqrt,
    /// Bitwise (integers) or logical (bool) and.
    And,
    /// Bitwise or logical or.
    Or,
    /// Bitwise or logical exclusive or.
    Xor,
    /// Bitwise or logical not.
    Not,
    /// Left shift; integers only.
    Shl,
    /// Right shift, arithmetic for signed integers; integers only.
    Shr,
    /// `a == b`, as bool; false on NaN.
    Eq,
    /// `a != b`, as bool; true on NaN.
    Ne,
    /// `a < b`, as bool; false on NaN.
    Lt,
    /// `a <= b`, as bool; false on NaN.
    Le,
    /// `a > b`, as bool; false on NaN.
    Gt,
    /// `a >= b`, as bool; false on NaN.
    Ge,
    /// `c ? a : b` with operands `(c: bool, a, b)`.
    Select,
    /// The value in another dtype: floats to integers truncate and saturate, NaN gives 0; to bool is `a != 0`;
    /// between integers wraps; from integers, and to a narrower float, rounds to nearest even.
    Convert(DType),
    /// The same bits as another dtype of the same size.
    Bitcast(DType),
    /// An elementary function of one or two floats.
    Call(Function),
}

impl ScalarOp {
    /// The operations without parameters, in declaration order.
    pub const PLAIN: [Self; 28] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::Rem,
        Self::Max,
        Self::Min,
        Self::Fma,
        Self::Neg,
        Self::Abs,
        Self::Floor,
        Self::Ceil,
        Self::Trunc,
        Self::Round,
        Self::Sqrt,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Not,
        Self::Shl,
        Self::Shr,
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::Gt,
        Self::Ge,
        Self::Select,
    ];

    /// Number of operands.
    pub fn arity(self) -> usize {
        match self {
            Self::Neg
            | Self::Abs
            | Self::Floor
            | Self::Ceil
            | Self::Trunc
            | Self::Round
            | Self::Sqrt
            | Self::Not
            | Self::Convert(_)
            | Self::Bitcast(_) => 1,
            Self::Add
            | Self::Sub
            | Self::Mul
            | Self::Div
            | Self::Rem
            | Self::Max
            | Self::Min
            | Self::And
            | Self::Or
            | Self::Xor
            | Self::Shl
            | Self::Shr
            | Self::Eq
            | Self::Ne
            | Self::Lt
            | Self::Le
            | Self::Gt
            | Self::Ge => 2,
            Self::Fma | Self::Select => 3,
            Self::Call(f) => f.arity(),
        }
    }

    /// The result dtype for operands of these dtypes, or `None` if the operation does not take them.
    pub fn result(self, operands: &[DType]) -> Option<DType> {
        if operands.len() != self.arity() {
            return None;
        }
        let first = operands[0];
        let uniform = operands.iter().all(|d| *d == first);
        let kind = first.kind();
        let (float, integer, boolean) = (kind == Kind::Float, first.is_integer(), kind == Kind::Bool);
        match self {
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Rem => {
                (uniform && (float || integer)).then_some(first)
            }
            Self::Max | Self::Min => (uniform && kind != Kind::Complex).then_some(first),
            Self::Neg | Self::Abs => (float || integer).then_some(first),
            Self::Fma => (uniform && float).then_some(first),
            Self::Floor | Self::Ceil | Self::Trunc | Self::Round | Self::Sqrt => float.then_some(first),
            Self::Call(_) => (uniform && float).then_some(first),
            Self::And | Self::Or | Self::Xor | Self::Not => (uniform && (integer || boolean)).then_some(first),
            Self::Shl | Self::Shr => (uniform && integer).then_some(first),
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => {
                (uniform && kind != Kind::Complex).then_some(DType::Bool)
            }
            Self::Select => (boolean && operands[1] == operands[2]).then_some(operands[1]),
            Self::Convert(to) => (kind != Kind::Complex && to.kind() != Kind::Complex).then_some(to),
            Self::Bitcast(to) => (to.size() == first.size() && !boolean && to != DType::Bool).then_some(to),
        }
    }

    /// Floating-point operations that one application counts as in cost reports.
    pub fn flops(self) -> u64 {
        match self {
            Self::Fma => 2,
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Rem | Self::Sqrt => 1,
            Self::Max | Self::Min | Self::Neg | Self::Abs | Self::Floor | Self::Ceil | Self::Trunc | Self::Round => 1,
            Self::Call(_) => 1,
            Self::And | Self::Or | Self::Xor | Self::Not | Self::Shl | Self::Shr => 0,
            Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge => 0,
            Self::Select | Self::Convert(_) | Self::Bitcast(_) => 0,
        }
    }

    fn plain_name(self) -> Option<&'static str> {
        Some(match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Rem => "rem",
            Self::Max => "max",
            Self::Min => "min",
            Self::Fma => "fma",
            Self::Neg => "neg",
            Self::Abs => "abs",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Trunc => "trunc",
            Self::Round => "round",
            Self::Sqrt => "sqrt",
            Self::And => "and",
            Self::Or => "or",
            Self::Xor => "xor",
            Self::Not => "not",
            Self::Shl => "shl",
            Self::Shr => "shr",
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::Select => "select",
            Self::Call(f) => f.name(),
            Self::Convert(_) | Self::Bitcast(_) => return None,
        })
    }
}

impl fmt::Display for ScalarOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Convert(d) => write!(f, "convert.{d}"),
            Self::Bitcast(d) => write!(f, "bitcast.{d}"),
            op => f.write_str(op.plain_name().unwrap_or_default()),
        }
    }
}

impl FromStr for ScalarOp {
    type Err = UnknownScalarOp;

    fn from_str(s: &str) -> Result<Self, UnknownScalarOp> {
        let unknown = || UnknownScalarOp(s.to_owned());
        if let Some(d) = s.strip_prefix("convert.") {
            return Ok(Self::Convert(d.parse().map_err(|_| unknown())?));
        }
        if let Some(d) = s.strip_prefix("bitcast.") {
            return Ok(Self::Bitcast(d.parse().map_err(|_| unknown())?));
        }
        let plain = Self::PLAIN.into_iter().find(|op| op.plain_name() == Some(s));
        plain.or_else(|| Function::from_name(s).map(Self::Call)).ok_or_else(unknown)
    }
}

/// A spelling that names no scalar operation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a scalar operation")]
pub struct UnknownScalarOp(pub String);

//! Elementwise comparisons, giving bool.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, batch_elementwise, check_same,
    not_linear, one, partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::dtype::{DType, Kind};
use crate::error::Rule;
use crate::eval::elementwise::{self, Zip};
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{ScalarOp, Var};
use crate::ty::Type;

/// A comparison of two operands of one type; the result is bool in their shape.
///
/// # Numerics
/// IEEE 754: every comparison with NaN is false, but `ne` is true. `false < true`.
/// # Gradient
/// None: the result is bool.
/// # Errors
/// Operands of different dtypes or shapes, or complex ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CompareOp {
    /// `x == y`.
    Eq,
    /// `x != y`.
    Ne,
    /// `x < y`.
    Lt,
    /// `x <= y`.
    Le,
    /// `x > y`.
    Gt,
    /// `x >= y`.
    Ge,
}

macro_rules! zip {
    ($op:tt) => {
        Zip { float: |x, y| x $op y, signed: |x, y, _| x $op y, unsigned: |x, y, _| x $op y, boolean: |p, q| p $op q }
    };
}

impl CompareOp {
    /// Every comparison, in declaration order.
    pub const ALL: &[Self] = &[Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    /// The operation of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.row().0 == name)
    }

    fn row(self) -> (&'static str, Zip<bool>, ScalarOp) {
        match self {
            Self::Eq => ("eq", zip!(==), ScalarOp::Eq),
            Self::Ne => ("ne", zip!(!=), ScalarOp::Ne),
            Self::Lt => ("lt", zip!(<), ScalarOp::Lt),
            Self::Le => ("le", zip!(<=), ScalarOp::Le),
            Self::Gt => ("gt", zip!(>), ScalarOp::Gt),
            Self::Ge => ("ge", zip!(>=), ScalarOp::Ge),
        }
    }
}

impl Operation for CompareOp {
    fn name(&self) -> &str {
        self.row().0
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        check_same(operands, facts)?;
        if operands[0].dtype.kind() == Kind::Complex {
            return Err(Rule::new("complex values have no order", "compare real and imaginary parts"));
        }
        one(operands[0].with_dtype(DType::Bool))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let (name, zip, _) = self.row();
        Ok(SmallVec::from_iter([elementwise::compare(name, operands[0], operands[1], &zip)?]))
    }

    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(partial(None))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(not_linear(self.name()))
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
        e.apply(self.row().2, &[x, y])
    }
}

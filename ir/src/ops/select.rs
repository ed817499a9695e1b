//! `select`: an elementwise choice.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, batch_elementwise, check_same,
    check_same_shape, one, partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{ScalarOp, Var};
use crate::ty::Type;

/// `out = c ? x : y`, elementwise.
///
/// # Shapes
/// `c: bool[S]`, `x, y: T[S]`, the result `T[S]`.
/// # Gradient
/// To `x` where `c` holds, to `y` elsewhere; a NaN in the branch not taken does not reach the result,
/// but its derivative does reach `x` or `y` as `0 · slope` in operations before the choice.
/// # Errors
/// A condition that is not bool; branches of different types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Select;

impl Operation for Select {
    fn name(&self) -> &str {
        "select"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(3)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        if operands[0].dtype != DType::Bool {
            return Err(Rule::new("operand 0 must be bool", "compare it with something"));
        }
        check_same(&operands[1..], facts)?;
        check_same_shape(operands[0], operands[1], facts)?;
        one(operands[1].clone())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let &[c, x, y] = operands else { return Ok(Arrays::new()) };
        let mut out = y.clone();
        if let Some(c) = c.as_slice::<bool>() {
            let data = out.make_mut();
            for (i, _) in c.iter().enumerate().filter(|(_, c)| **c) {
                if let Some(l) = x.data().get(i) {
                    data.set(i, l);
                }
            }
        }
        Ok(SmallVec::from_iter([out]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let (tx, ty) = (tangents[1], tangents[2]);
        if tx.is_none() && ty.is_none() {
            return Ok(partial(None));
        }
        let zero = b.full_like(at.operands[1], 0.0)?;
        Ok(partial(Some(b.select(at.operands[0], tx.unwrap_or(zero), ty.unwrap_or(zero))?)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(SmallVec::from_elem(None, 3)) };
        let c = at.operands[0];
        let zero = b.full_like(ct, 0.0)?;
        let x = if linear[1] { Some(b.select(c, ct, zero)?) } else { None };
        let y = if linear[2] { Some(b.select(c, zero, ct)?) } else { None };
        Ok([None, x, y].into_iter().collect())
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
        let (c, x, y) = (e.operand(0, index), e.operand(1, index), e.operand(2, index));
        e.apply(ScalarOp::Select, &[c, x, y])
    }
}

//! `transpose`: a permutation of dims.

use smallvec::SmallVec;

use super::lower::Access;
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, check_axes, one, partial};
use crate::array::{Array, Sizes};
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::{Shape, Type};

/// Dim `i` of the result is dim `perm[i]` of the operand.
///
/// # Gradient
/// The cotangent under the inverse permutation.
/// # Errors
/// A `perm` that is not a permutation of the operand's dims.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transpose {
    /// For each dim of the result, the dim of the operand.
    pub perm: SmallVec<[usize; 4]>,
}

impl Transpose {
    /// The inverse permutation.
    pub fn inverse(&self) -> SmallVec<[usize; 4]> {
        let mut inverse: SmallVec<[usize; 4]> = SmallVec::from_elem(0, self.perm.len());
        for (i, &p) in self.perm.iter().enumerate() {
            inverse[p] = i;
        }
        inverse
    }
}

impl Operation for Transpose {
    fn name(&self) -> &str {
        "transpose"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_axes("perm", &self.perm)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        if self.perm.len() != x.rank() {
            return Err(Rule::new(
                format!("perm names {} dims of {}", self.perm.len(), x.rank()),
                "name each dim of the operand once",
            ));
        }
        check_axes(&self.perm, x.rank())?;
        one(Type { dtype: x.dtype, shape: self.perm.iter().map(|&p| x.shape[p].clone()).collect() })
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let inner = walk::row_major(x.shape());
        let shape: Sizes = self.perm.iter().map(|&p| x.shape()[p]).collect();
        let strides: SmallVec<[isize; 4]> = self.perm.iter().map(|&p| inner[p]).collect();
        let data = x.data().gather(walk::offsets(&shape, &strides, 0));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let t = tangents[0].map(|t| b.transpose(t, &self.perm)).transpose()?;
        Ok(partial(t))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        _: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let ct = cotangents[0].map(|ct| b.transpose(ct, &self.inverse())).transpose()?;
        Ok(partial(ct))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let perm: Vec<usize> = std::iter::once(0).chain(self.perm.iter().map(|p| p + 1)).collect();
        Ok(SmallVec::from_iter([b.transpose(operands[0], &perm)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::View }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let mut at: Shape = index.iter().cloned().collect();
        for (i, &p) in self.perm.iter().enumerate() {
            at[p] = index[i].clone();
        }
        e.operand(0, &at)
    }
}

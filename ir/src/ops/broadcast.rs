//! `broadcast`: repetition along new or size-1 dims.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, check_axes, check_equal, one,
    partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::{Shape, Type};

/// The operand repeated into `shape`: dim `i` of the operand becomes dim `axes[i]`.
///
/// # Shapes
/// Dim `i` of the operand equals `shape[axes[i]]`, or is the constant 1. `axes` ascend. A symbolic dim is never taken as 1.
/// # Gradient
/// The cotangent summed over the repeated dims.
/// # Errors
/// A dim that neither fits nor is 1; axes that do not ascend or lie outside.
/// # Source
/// StableHLO `broadcast_in_dim`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Broadcast {
    /// The result's shape.
    pub shape: Shape,
    /// For each dim of the operand, the dim of the result it becomes.
    pub axes: SmallVec<[usize; 4]>,
}

impl Broadcast {
    /// Whether dim `i` of an operand is repeated rather than kept.
    fn repeats(&self, operand: &[Dim], i: usize) -> bool {
        operand[i].as_const() == Some(1) && self.shape[self.axes[i]].as_const() != Some(1)
    }

    /// The operand index of a result index.
    pub fn operand_index(&self, operand: &[Dim], index: &[Dim]) -> Shape {
        (0..operand.len())
            .map(|i| if self.repeats(operand, i) { Dim::from(0) } else { index[self.axes[i]].clone() })
            .collect()
    }
}

impl Operation for Broadcast {
    fn name(&self) -> &str {
        "broadcast"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_dims("shape", &self.shape).with_axes("axes", &self.axes)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        if self.axes.len() != x.rank() {
            return Err(Rule::new(
                format!("{} axes are named for {} dims", self.axes.len(), x.rank()),
                "name one axis of the result for each dim of the operand",
            ));
        }
        check_axes(&self.axes, self.shape.len())?;
        if !self.axes.is_sorted() {
            return Err(Rule::new("axes must ascend", "transpose the operand first"));
        }
        for (d, &a) in x.shape.iter().zip(&self.axes) {
            if d.as_const() != Some(1) {
                check_equal("dims", d, &self.shape[a], facts)?;
            }
        }
        one(Type { dtype: x.dtype, shape: self.shape.clone() })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let shape = cx.sizes(&self.shape)?;
        let inner = walk::row_major(x.shape());
        let mut strides: SmallVec<[isize; 4]> = SmallVec::from_elem(0, shape.len());
        for (i, &a) in self.axes.iter().enumerate() {
            if x.shape()[i] != 1 {
                strides[a] = inner[i];
            }
        }
        let data = x.data().gather(walk::offsets(&shape, &strides, 0));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let t = tangents[0].map(|t| b.broadcast(t, &self.shape, &self.axes)).transpose()?;
        Ok(partial(t))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(partial(None)) };
        let operand = b.ty(at.operands[0]).shape.clone();
        let kept = |a: &usize| {
            let i = self.axes.iter().position(|x| x == a);
            i.is_some_and(|i| !self.repeats(&operand, i))
        };
        let summed: SmallVec<[usize; 4]> = (0..self.shape.len()).filter(|a| !kept(a)).collect();
        let s = b.sum(ct, &summed)?;
        Ok(partial(Some(b.reshape(s, &operand)?)))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let shape: Vec<Dim> = std::iter::once(size.clone()).chain(self.shape.iter().cloned()).collect();
        let axes: Vec<usize> = std::iter::once(0).chain(self.axes.iter().map(|a| a + 1)).collect();
        Ok(SmallVec::from_iter([b.broadcast(operands[0], &shape, &axes)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::View }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let operand = e.operand_shape(0);
        e.operand(0, &self.operand_index(&operand, index))
    }
}

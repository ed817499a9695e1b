//! `reshape`: the same elements in another shape.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, check_equal, one, partial,
};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::{Shape, Type, count, strides};

/// The operand's elements, in row-major order, in another shape.
///
/// # Shapes
/// The element counts are provably equal.
/// # Gradient
/// The cotangent reshaped back.
/// # Errors
/// Counts that differ, or whose equality cannot be decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reshape {
    /// The result's shape.
    pub shape: Shape,
}

impl Reshape {
    /// The operand index of a result index.
    ///
    /// Runs of dims whose products agree are matched one by one, so that a split or merged dim leaves the others untouched.
    pub fn operand_index(&self, operand: &[Dim], index: &[Dim]) -> Shape {
        // An operand without elements is never read, and no index into it could be worked out.
        if operand.iter().any(Dim::is_zero) {
            return operand.iter().map(|_| Dim::ZERO).collect();
        }
        let mut out = Shape::new();
        let (mut i, mut j) = (0, 0);
        while i < operand.len() {
            let (from, to) = (i, j);
            let (mut a, mut b) = (operand[i].clone(), self.shape.get(j).cloned().unwrap_or_else(|| Dim::from(1)));
            i += 1;
            j = (j + 1).min(self.shape.len());
            // Extend the shorter side until the products agree; the rest is one run if they never do.
            while a != b {
                let less = a.as_const().zip(b.as_const()).is_none_or(|(a, b)| a < b);
                if (less || j == self.shape.len()) && i < operand.len() {
                    a = &a * &operand[i];
                    i += 1;
                } else if j < self.shape.len() {
                    b = &b * &self.shape[j];
                    j += 1;
                } else {
                    break;
                }
            }
            if i == operand.len() {
                j = self.shape.len();
            }
            unravel(&operand[from..i], &self.shape[to..j], &index[to..j], &mut out);
        }
        out
    }
}

/// The index into `operand` of the row-major position that `index` has in `shape`.
fn unravel(operand: &[Dim], shape: &[Dim], index: &[Dim], out: &mut Shape) {
    // Dims of size 1 take no part, so that adding or dropping one leaves the other indices as they are.
    let kept: SmallVec<[(&Dim, &Dim); 4]> = shape.iter().zip(index).filter(|(d, _)| d.as_const() != Some(1)).collect();
    let wide = operand.iter().filter(|d| d.as_const() != Some(1)).count();
    if let ([(_, i)], 1) = (kept.as_slice(), wide) {
        out.extend(operand.iter().map(|d| if d.as_const() == Some(1) { Dim::from(0) } else { (*i).clone() }));
        return;
    }
    let at = strides(shape).iter().zip(index).fold(Dim::from(0), |n, (s, i)| &n + &(s * i));
    for (k, (stride, dim)) in strides(operand).iter().zip(operand).enumerate() {
        if dim.as_const() == Some(1) {
            out.push(Dim::from(0));
            continue;
        }
        let q = at.floordiv(stride);
        // The leading dim needs no remainder: the position is inside the array.
        let leading = operand[..k].iter().all(|d| d.as_const() == Some(1));
        out.push(if leading { q } else { q.modulo(dim) });
    }
}

impl Operation for Reshape {
    fn name(&self) -> &str {
        "reshape"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_dims("shape", &self.shape)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        check_equal("element counts", &x.count(), &count(&self.shape), facts)?;
        one(Type { dtype: x.dtype, shape: self.shape.clone() })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let shape = cx.sizes(&self.shape)?;
        Ok(SmallVec::from_iter([operands[0].clone().with_shape(&shape)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let t = tangents[0].map(|t| b.reshape(t, &self.shape)).transpose()?;
        Ok(partial(t))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let shape = b.ty(at.operands[0]).shape.clone();
        let ct = cotangents[0].map(|ct| b.reshape(ct, &shape)).transpose()?;
        Ok(partial(ct))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let shape: Vec<Dim> = std::iter::once(size.clone()).chain(self.shape.iter().cloned()).collect();
        Ok(SmallVec::from_iter([b.reshape(operands[0], &shape)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::View }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let operand = e.operand_shape(0);
        e.operand(0, &self.operand_index(&operand, index))
    }
}

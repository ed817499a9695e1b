//! `reverse`: reversal along axes.

use smallvec::SmallVec;

use super::lower::Access;
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, check_axes, one, partial};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::Type;

/// `out[…, i, …] = x[…, n - 1 - i, …]` along each of the axes.
///
/// # Shapes
/// The operand's own.
/// # Gradient
/// Linear, and its own transpose.
/// # Numerics
/// Exact: elements are copied.
/// # Errors
/// An axis outside the rank, or named twice.
/// # Source
/// StableHLO specification, `reverse`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reverse {
    /// The axes reversed.
    pub axes: SmallVec<[usize; 4]>,
}

impl Reverse {
    fn apply(&self, b: &mut Builder, x: Option<Value>) -> Result<Partials, RuleError> {
        let Some(x) = x else { return Ok(partial(None)) };
        Ok(partial(Some(b.op(self.clone().into(), &[x])?)))
    }
}

impl Operation for Reverse {
    fn name(&self) -> &str {
        "reverse"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_axes("axes", &self.axes)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        check_axes(&self.axes, operands[0].rank())?;
        one(operands[0].clone())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let mut steps = walk::row_major(x.shape());
        let mut base = 0;
        if !x.is_empty() {
            for &d in &self.axes {
                base += steps[d] * (x.shape()[d] as isize - 1);
                steps[d] = -steps[d];
            }
        }
        let data = x.data().gather(walk::offsets(x.shape(), &steps, base));
        Ok(SmallVec::from_iter([Array::from_data(x.shape(), data)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        self.apply(b, tangents[0])
    }

    fn transpose(
        &self,
        b: &mut Builder,
        _: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        self.apply(b, cotangents[0])
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let op = Self { axes: self.axes.iter().map(|a| a + 1).collect() };
        Ok(SmallVec::from_iter([b.op(op.into(), operands)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::View }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let shape = e.operand_shape(0);
        let mut at = index.to_vec();
        for &d in &self.axes {
            at[d] = &shape[d] - 1 - &index[d];
        }
        e.operand(0, &at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use crate::DType;

    fn reverse(axes: &[usize]) -> Reverse {
        Reverse { axes: axes.into() }
    }

    #[test]
    fn reverses_the_named_axes() {
        let x = floats(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        assert_eq!(run(&reverse(&[1]), &[&x]), floats(&[2, 3], &[3., 2., 1., 6., 5., 4.]));
        assert_eq!(run(&reverse(&[0, 1]), &[&x]), floats(&[2, 3], &[6., 5., 4., 3., 2., 1.]));
        assert_eq!(run(&reverse(&[]), &[&x]), x);
        assert_eq!(run(&reverse(&[0]), &[&floats(&[0, 2], &[])]).shape(), [0, 2]);
        check_emit(&reverse(&[0]), &[&x]);
        check_emit(&reverse(&[1, 0]), &[&x]);
    }

    #[test]
    fn rules_agree_with_the_definition() {
        for axes in [&[0][..], &[1], &[0, 1]] {
            check_tangent(&reverse(axes), &[counting(&[2, 3])], &[true]);
            check_transpose(&reverse(axes), &[counting(&[2, 3])], &[true]);
            check_batch(&reverse(axes), &[counting(&[4, 2, 3])], &[true]);
        }
    }

    #[test]
    fn bad_axes_are_refused() {
        let x = Type::new(DType::F32, [sym("n")]);
        assert_eq!(infer(reverse(&[0]), &[&x], &Facts::default()), Ok(x.clone()));
        assert_eq!(refusal(reverse(&[1]), &[&x]), "axis 1 is outside the 1 dims of the operand");
        assert_eq!(refusal(reverse(&[0, 0]), &[&x]), "axis 0 is named twice");
    }
}

//! `const`: a literal array.

use smallvec::SmallVec;

use super::lower::Access;
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, add_batch, one, partial};
use crate::array::Array;
use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::Type;

/// A literal array, `%0 = const 16.0 : f32[]`.
///
/// # Shapes
/// The array's own. A constant of symbolic shape is a scalar constant, broadcast.
/// # Gradient
/// None: it does not vary.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Constant {
    /// The array.
    pub value: Array,
}

impl Operation for Constant {
    fn name(&self) -> &str {
        "const"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("value", Attr::Array(self.value.clone()))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _: &[&Type], _: &Facts) -> Result<Types, Rule> {
        one(Type::new(self.value.dtype(), self.value.shape().iter().copied()))
    }

    fn eval(&self, _: &EvalCx<'_>, _: &[&Array]) -> Result<Arrays, EvalError> {
        Ok(SmallVec::from_iter([self.value.clone()]))
    }

    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(partial(None))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(Partials::new())
    }

    fn batch(&self, b: &mut Builder, _: &[Value], _: &[bool], size: &Dim) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let v = b.constant(self.value.clone());
        Ok(SmallVec::from_iter([add_batch(b, v, size)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        match self.value.item() {
            Some(value) => e.literal(value),
            None => e.table(&self.value, index),
        }
    }
}

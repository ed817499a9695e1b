//! The one open variant: an operation that another crate defines.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, lower};
use crate::array::Array;
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::Var;
use crate::ty::Type;

/// The story of an operation that another crate defines.
///
/// Two of them are equal if name and attributes are: nothing looks at the type behind the trait.
/// Rules that are not given are missing, and a transformation that needs one says so at build time.
pub trait ExternOp: fmt::Debug + Send + Sync {
    /// A name that no other operation has, such as `mycrate.clamp`.
    fn name(&self) -> &str;

    /// Its parameters.
    fn attrs(&self) -> Attrs {
        Attrs::new()
    }

    /// Number of operands.
    fn arity(&self) -> Arity;

    /// The types of the results, or the rule that the operands break.
    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule>;

    /// Reference semantics on host arrays.
    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError>;

    /// See [`Operation::linearize`].
    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let _ = (b, at, tangents);
        Err(missing(self.name(), "derivative"))
    }

    /// See [`Operation::transpose`].
    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let _ = (b, at, linear, cotangents);
        Err(missing(self.name(), "transpose"))
    }

    /// See [`Operation::batch`].
    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let _ = (b, operands, batched, size);
        Err(missing(self.name(), "batching"))
    }

    /// Whether [`ExternOp::emit`] gives each element of the one result at the operands' own index.
    /// If not, compiled programs run [`ExternOp::eval`] on the host.
    fn is_elementwise(&self) -> bool {
        false
    }

    /// Emits one element, if [`ExternOp::is_elementwise`].
    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let _ = index;
        e.unsupported(self.name())
    }
}

fn missing(op: &str, rule: &str) -> RuleError {
    RuleError::Missing(format!("`{op}` has no {rule} rule; give its ExternOp one"))
}

/// An operation of another crate.
#[derive(Clone, Debug)]
pub struct Extern(pub Arc<dyn ExternOp>);

impl PartialEq for Extern {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name() && self.0.attrs() == other.0.attrs()
    }
}

impl Eq for Extern {}

impl Hash for Extern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
        self.0.attrs().hash(state);
    }
}

impl Operation for Extern {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn attrs(&self) -> Attrs {
        self.0.attrs()
    }

    fn arity(&self) -> Arity {
        self.0.arity()
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        self.0.infer(operands, facts)
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        self.0.eval(cx, operands)
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        self.0.linearize(b, at, tangents)
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        self.0.transpose(b, at, linear, cotangents)
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        self.0.batch(b, operands, batched, size)
    }

    fn lowering(&self) -> Lowering<'_> {
        if self.0.is_elementwise() { Lowering::Map { access: lower::Access::Elementwise } } else { Lowering::Host }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        self.0.emit(e, index)
    }
}

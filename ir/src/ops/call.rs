//! `call`: a graph applied to operands, for composites, scopes and custom derivatives.

use std::sync::Arc;

use smallvec::SmallVec;

use super::region::{by_driver, check_region, output_types};
use super::{Arity, Arrays, At, Lowering, Operation, Partials, RuleError, Types};
use crate::array::Array;
use crate::attrs::{Attr, AttrError, Attrs, Reader, form};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{self, EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Region, Value};
use crate::ty::Type;

/// A closed graph applied to operands: a composite such as softmax, with its name and attributes, or a user's function.
///
/// Composites keep dumps legible and let a backend recognise a whole pattern; `legalize` puts the body in place otherwise.
/// # Shapes
/// The operands are of the body's parameter types, over the same symbols; the results are its outputs.
/// # Gradient
/// Through the body, region by region; or by `jvp`, a graph from operands and tangents (of the inexact operands, in order)
/// to results and tangents (of the inexact results, in order), linear in the tangents. A second derivative goes through `jvp`.
/// # Errors
/// Operands of other types than the parameters; a body with variables or updates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// The composite's name, such as `softmax`.
    pub name: String,
    /// What distinguishes composites of one name, such as `axis`.
    pub attrs: Attrs,
    /// What it computes.
    pub body: Region,
    /// Its own derivative, if it has one.
    pub jvp: Option<Region>,
}

impl Call {
    /// A call of a body under a name.
    pub fn new(name: impl Into<String>, body: Region) -> Self {
        Self { name: name.into(), attrs: Attrs::new(), body, jvp: None }
    }

    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let attrs = match r.optional("attrs") {
            None => Attrs::new(),
            Some(Attr::Map(m)) => m,
            Some(_) => return Err(form("attrs", "attributes in braces")),
        };
        let jvp = match r.optional("jvp") {
            None => None,
            Some(Attr::Region(g)) => Some(g),
            Some(_) => return Err(form("jvp", "a region")),
        };
        Ok(Self { name: r.string("name")?, attrs, body: r.region("body")?, jvp })
    }
}

impl Operation for Call {
    fn name(&self) -> &str {
        "call"
    }

    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new().with("name", Attr::Str(self.name.clone()));
        if !self.attrs.0.is_empty() {
            attrs = attrs.with("attrs", Attr::Map(self.attrs.clone()));
        }
        attrs = attrs.with("body", Attr::Region(Arc::clone(&self.body)));
        match &self.jvp {
            Some(jvp) => attrs.with("jvp", Attr::Region(Arc::clone(jvp))),
            None => attrs,
        }
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.body.params().len())
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        check_region("body", &self.body, operands.iter().copied(), facts)?;
        Ok(output_types(&self.body))
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let args: Vec<Array> = operands.iter().map(|&a| a.clone()).collect();
        Ok(eval::evaluate_bound(&self.body, &args, cx.bindings)?.outputs.into())
    }

    /// The driver of `lehr-passes` differentiates the body; asked for alone, a call puts its body in place first.
    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(by_driver(self.name()))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(by_driver(self.name()))
    }

    fn batch(&self, _: &mut Builder, _: &[Value], _: &[bool], _: &Dim) -> Result<SmallVec<[Value; 1]>, RuleError> {
        Err(by_driver(self.name()))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Inline(&self.body)
    }
}

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
/// Or by `vjp`, a rule of reverse mode alone: forward mode is then refused. A second derivative goes through its graphs.
/// The attribute `captured = n` says that a rule of the call's own knows nothing of its last `n` operands: a derivative by one
/// of them is refused.
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
    /// Its own derivative in reverse mode, if it has one.
    pub vjp: Option<Vjp>,
}

/// A call's own derivative in reverse mode.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Vjp {
    /// From the operands to the results, then residuals.
    ///
    /// None for the linear part of such a call, which exists only inside a transformation: its operands are residuals, then
    /// tangents of the inexact operands, its results are tangents of the inexact results, and its body is never run.
    pub fwd: Option<Region>,
    /// From the residuals, then cotangents of the inexact results, to cotangents of the inexact operands.
    pub bwd: Region,
}

/// The attribute of a call with a derivative of its own that says how many of its last operands the rule knows nothing of.
pub const CAPTURED: &str = "captured";

impl Call {
    /// A call of a body under a name.
    pub fn new(name: impl Into<String>, body: Region) -> Self {
        Self { name: name.into(), attrs: Attrs::new(), body, jvp: None, vjp: None }
    }

    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let attrs = match r.optional("attrs") {
            None => Attrs::new(),
            Some(Attr::Map(m)) => m,
            Some(_) => return Err(form("attrs", "attributes in braces")),
        };
        let mut region = |name: &str| match r.optional(name) {
            None => Ok(None),
            Some(Attr::Region(g)) => Ok(Some(g)),
            Some(_) => Err(form(name, "a region")),
        };
        let (jvp, fwd, bwd) = (region("jvp")?, region("fwd")?, region("bwd")?);
        let vjp = match (fwd, bwd) {
            (None, None) => None,
            (Some(fwd), Some(bwd)) => Some(Vjp { fwd: Some(fwd), bwd }),
            (Some(_), None) => return Err(AttrError::Missing("bwd".to_owned())),
            (None, Some(_)) => return Err(AttrError::Missing("fwd".to_owned())),
        };
        Ok(Self { name: r.string("name")?, attrs, body: r.region("body")?, jvp, vjp })
    }

    /// The same call with each of its graphs replaced: the body, then those of its own derivative.
    pub fn map_regions<E>(&self, f: &mut dyn FnMut(&Region) -> Result<Region, E>) -> Result<Self, E> {
        let body = f(&self.body)?;
        let jvp = self.jvp.as_ref().map(&mut *f).transpose()?;
        let vjp = match &self.vjp {
            None => None,
            Some(vjp) => Some(Vjp { fwd: vjp.fwd.as_ref().map(&mut *f).transpose()?, bwd: f(&vjp.bwd)? }),
        };
        Ok(Self { name: self.name.clone(), attrs: self.attrs.clone(), body, jvp, vjp })
    }

    /// All graphs it holds: the body, then those of its own derivative.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        let vjp = self.vjp.iter().flat_map(|v| v.fwd.iter().chain([&v.bwd]));
        std::iter::once(&self.body).chain(&self.jvp).chain(vjp)
    }

    /// How many of its last operands a derivative of its own knows nothing of.
    pub fn captured(&self) -> usize {
        match self.attrs.get(CAPTURED) {
            Some(&Attr::Int(n)) => usize::try_from(n).unwrap_or(0),
            _ => 0,
        }
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
        if let Some(jvp) = &self.jvp {
            attrs = attrs.with("jvp", Attr::Region(Arc::clone(jvp)));
        }
        if let Some(Vjp { fwd, bwd }) = &self.vjp {
            if let Some(fwd) = fwd {
                attrs = attrs.with("fwd", Attr::Region(Arc::clone(fwd)));
            }
            attrs = attrs.with("bwd", Attr::Region(Arc::clone(bwd)));
        }
        attrs
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

//! Derivatives of loops and branches: of their regions, put together to loops and branches again.
//!
//! A region is linearised as a whole, then [`split`] into what can be computed without tangents and a linear rest. The first part
//! becomes the forward loop, which gives what the rest needs as further results; the rest becomes a linear loop.

use std::sync::Arc;

use lehr_ir::graph::{Builder, Graph, ParamKind, Region, Value};
use lehr_ir::{OpError, Type};
use smallvec::SmallVec;

use super::DiffError;
use super::calls::Bodies;
use super::extract::{Names, coerce, unique};
use super::keep::Keep;
use super::linearize::{Linearized, Request, linearize};
use super::split::{Residual, Side, split};

mod case;
mod scan;
mod while_loop;

/// What an operation's linearisation gives: its results, and their tangents.
pub(super) type Linear = (SmallVec<[Value; 2]>, lehr_ir::ops::Partials);

/// A region in two parts.
struct Parts {
    /// From the parameters to the outputs, then to residuals.
    known: Graph,
    /// From residuals, then the tangents of the active parameters, to the tangents there are.
    unknown: Graph,
    /// Where the residuals come from.
    residuals: Vec<Residual>,
    /// For each output of the region, the output of `unknown` that is its tangent; `None` for zero.
    tangents: Vec<Option<usize>>,
}

impl Bodies {
    /// Linearises and splits a region, for tangents of the `active` parameters and of the `wanted` outputs.
    fn parts(&mut self, region: &Graph, active: &[bool], wanted: &[bool]) -> Result<Parts, DiffError> {
        let request = Request { graph: region, active, order: None, outputs: wanted, extra: Vec::new() };
        let Linearized { mut sweep, primal, tangents, .. } = linearize(&request, self)?;
        let b = &mut sweep.b;
        let mut names = Names::default();
        for o in region.outputs() {
            b.output(unique(&o.name, &mut names), primal[o.value.index()]);
        }
        let mut places = Vec::new();
        let mut at = region.outputs().len();
        for (o, _) in region.outputs().iter().zip(wanted) {
            let tangent = tangents[o.value.index()].filter(|_| wanted[places.len()]);
            places.push(match tangent {
                None => None,
                Some(t) => {
                    let t = coerce(b, t, region.ty(o.value))?;
                    b.output(unique(&format!("{}.tangent", o.name), &mut names), t);
                    at += 1;
                    Some(at - 1)
                }
            });
        }
        let joint = sweep.b.finish();
        let known: Vec<bool> = (0..joint.params().len()).map(|i| i < active.len()).collect();
        let parts = split(&joint, &known, Keep::Used)?;
        let tangents = places.iter().map(|place| match place.map(|at| parts.outputs[at]) {
            Some(Side::Unknown(i)) => Some(i),
            // A tangent that depends on no tangent is a zero.
            Some(Side::Known(_)) | None => None,
        });
        Ok(Parts {
            tangents: tangents.collect(),
            known: parts.known,
            unknown: parts.unknown,
            residuals: parts.residuals,
        })
    }
}

/// A region on the way: a builder that knows the facts and names of another.
struct RegionBuilder {
    b: Builder,
    params: Names,
    outputs: Names,
}

impl RegionBuilder {
    fn new(name: String, like: &Graph) -> Self {
        let mut b = Builder::new(name);
        b.set_facts(like.facts.clone());
        Self { b, params: Names::default(), outputs: Names::default() }
    }

    fn param(&mut self, name: &str, ty: Type) -> Value {
        let name = unique(name, &mut self.params);
        self.b.param(name, ParamKind::Input, ty)
    }

    /// Parameters of the names and types of those of a graph in a range.
    fn params_of(&mut self, graph: &Graph, range: std::ops::Range<usize>) -> Vec<Value> {
        range.map(|i| self.param(&graph.params()[i].name, graph.ty(graph.param_value(i)).clone())).collect()
    }

    fn output(&mut self, name: &str, value: Value) {
        let name = unique(name, &mut self.outputs);
        self.b.output(name, value);
    }

    /// An output, of zeros where there is no value.
    fn output_or_zeros(&mut self, name: &str, value: Option<Value>, ty: &Type) -> Result<(), OpError> {
        let value = match value {
            Some(v) => coerce(&mut self.b, v, ty)?,
            None => self.b.zeros(ty)?,
        };
        self.output(name, value);
        Ok(())
    }

    fn finish(self) -> Region {
        Arc::new(self.b.finish())
    }
}

/// The type of a value, for use while its graph grows.
fn type_of(graph: &Graph, v: Value) -> Type {
    graph.ty(v).clone()
}

/// A value, or zeros of a type.
fn or_zeros(b: &mut Builder, v: Option<Value>, ty: &Type) -> Result<Value, OpError> {
    match v {
        Some(v) => Ok(v),
        None => b.zeros(ty),
    }
}

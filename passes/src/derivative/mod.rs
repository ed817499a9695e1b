//! Derivatives: forward mode by linearising a graph, reverse mode by transposing the linear part.
//!
//! [`jvp`] sweeps a graph once and emits, after each operation, what its tangent is, by
//! [`Operation::linearize`](lehr_ir::ops::Operation::linearize). The nodes that depend on the tangents form the linear part.
//! [`vjp`] walks that part backwards with [`Operation::transpose`](lehr_ir::ops::Operation::transpose), adds up cotangents,
//! and drops the linear part. So one vocabulary of rules serves both modes, and their compositions serve higher orders.
//! Tangents and cotangents are `Option`s, where `None` is a symbolic zero: what does not vary costs nothing.
//!
//! Calls are differentiated as calls: a body is [`split`] into what the derivative keeps from the forward computation and a
//! linear rest. The call `softmax` becomes `softmax.fwd` (or stays, if it keeps nothing new), `softmax.lin` and, transposed,
//! `softmax.t`. Equal bodies are differentiated once and stay shared.
//!
//! New nodes have the location of the node they come from; backward nodes stand in the scope `grad`, inside which they have the
//! scope of the node they come from. Everything is a loop over the arena; only nested regions recurse, and
//! [the verifier](lehr_ir::graph::verify) bounds their depth.
//!
//! # Source
//! Radul, Paszke, Frostig, Johnson and Maclaurin, "You Only Linearize Once: Tangents Transpose to Gradients", POPL 2023.

use lehr_ir::graph::{Graph, ParamKind, ScopeId, Value};
use lehr_ir::{Literal, Loc, Type};

mod calls;
mod control;
mod error;
mod extract;
mod keep;
mod linearize;
mod own_vjp;
mod split;
mod transpose;

pub(crate) use extract::project;

pub use error::{DiffError, Missing, Step};
pub use keep::{CHECKPOINT, CHECKPOINT_NAME, Keep};
pub use split::{Residual, Side, Split, split};

use calls::Bodies;
use extract::{Cut, Names, NewParam, coerce, extract, unique};
use linearize::{Linearized, Request, Sweep, linearize};

/// The graph with its forward derivative.
///
/// Parameters: the graph's, then one tangent for each of `wrt`, named `x.tangent`.
/// Outputs: the graph's, then one tangent for each output of an inexact dtype, named `y.tangent`; zeros where it does not depend
/// on `wrt`. So with all inexact parameters in `wrt` the result has the form of a [`Call`](lehr_ir::ops::Call)'s own derivative.
///
/// # Errors
/// [`DiffError::NoParam`], [`DiffError::NotInexact`], [`DiffError::Repeated`] for `wrt`; [`DiffError::Missing`] for an operation
/// without a derivative on the way.
pub fn jvp(graph: &Graph, wrt: &[usize]) -> Result<Graph, DiffError> {
    let active = active_params(graph, wrt)?;
    for (i, p) in wrt.iter().enumerate() {
        if wrt[..i].contains(p) {
            return Err(DiffError::Repeated { name: graph.params()[*p].name.clone() });
        }
    }
    let outputs: Vec<bool> = graph.output_types().map(|t| t.dtype.is_inexact()).collect();
    let request = Request { graph, active: &active, order: Some(wrt), outputs: &outputs, extra: Vec::new() };
    let Linearized { mut sweep, primal, tangents, .. } = linearize(&request, &mut Bodies::default())?;
    let b = &mut sweep.b;
    let mut names: Names = graph.outputs().iter().map(|o| o.name.clone()).collect();
    for o in graph.outputs() {
        b.output(o.name.clone(), primal[o.value.index()]);
    }
    for (o, _) in graph.outputs().iter().zip(&outputs).filter(|(_, inexact)| **inexact) {
        let t = match tangents[o.value.index()] {
            Some(t) => coerce(b, t, graph.ty(o.value))?,
            None => b.zeros(graph.ty(o.value))?,
        };
        let name = unique(&format!("{}.tangent", o.name), &mut names);
        b.output(name, t);
    }
    for u in graph.updates() {
        b.update(u.param, primal[u.value.index()]);
    }
    Ok(sweep.b.finish())
}

/// The graph with its backward derivative.
///
/// Parameters: the graph's, then one cotangent for each of `outputs`, named `y.cotangent`.
/// Outputs: the graph's, then one gradient for each of `wrt`, named `x.grad`: the cotangents times the Jacobian, of the
/// parameter's type; zeros where no output depends on it. Operations that lie on no way from `wrt` to `outputs` need no
/// derivative.
///
/// # Errors
/// As [`jvp`]; [`DiffError::NoOutput`], [`DiffError::NotInexact`] and [`DiffError::Repeated`] for `outputs` as well.
pub fn vjp(graph: &Graph, outputs: &[usize], wrt: &[usize]) -> Result<Graph, DiffError> {
    backward(graph, outputs, wrt, Seed::Parameters)
}

/// The graph with the gradients of a scalar output.
///
/// Parameters: the graph's. Outputs: the graph's, then one gradient for each of `wrt`, named `x.grad`.
///
/// ```
/// use lehr_ir::{Array, Graph, eval::evaluate};
/// use lehr_passes::derivative::value_and_grad;
///
/// let graph = Graph::parse(
///     r#"graph @square(%x: f32[2]) -> (f32[]) {
///          %0 = mul %x, %x : f32[2]
///          %1 = reduce %0 {op = sum, axes = [0]} : f32[]
///          return %1 "y"
///        }"#,
/// )?;
/// let gradient = value_and_grad(&graph, 0, &[0])?;
/// let outputs = evaluate(&gradient, &[Array::from([1.0f32, -3.0])])?.outputs;
/// assert_eq!(outputs, [Array::from(10.0f32), Array::from([2.0f32, -6.0])]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`vjp`]; [`DiffError::NotScalar`] for the output.
pub fn value_and_grad(graph: &Graph, output: usize, wrt: &[usize]) -> Result<Graph, DiffError> {
    let o = graph.outputs().get(output).ok_or_else(|| no_output(graph, output))?;
    let ty = graph.ty(o.value);
    if ty.rank() != 0 {
        return Err(DiffError::NotScalar { name: o.name.clone(), ty: Box::new(ty.clone()) });
    }
    backward(graph, &[output], wrt, Seed::One)
}

/// The scope of backward nodes.
const GRAD: &str = "grad";

/// What the cotangents of the outputs are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seed {
    /// Parameters of the result.
    Parameters,
    /// 1.
    One,
}

fn backward(graph: &Graph, outputs: &[usize], wrt: &[usize], seed: Seed) -> Result<Graph, DiffError> {
    let active = active_params(graph, wrt)?;
    let mut wanted = vec![false; graph.outputs().len()];
    let mut extra: Vec<(String, Type)> = Vec::new();
    for &i in outputs {
        let o = graph.outputs().get(i).ok_or_else(|| no_output(graph, i))?;
        let ty = graph.ty(o.value);
        inexact("output", &o.name, ty)?;
        if std::mem::replace(&mut wanted[i], true) {
            return Err(DiffError::Repeated { name: o.name.clone() });
        }
        if seed == Seed::Parameters {
            extra.push((format!("{}.cotangent", o.name), ty.clone()));
        }
    }
    let mut bodies = Bodies::reverse();
    let request = Request { graph, active: &active, order: None, outputs: &wanted, extra };
    let mut lin = linearize(&request, &mut bodies)?;
    let mut seeds: Vec<(Value, Value)> = Vec::new();
    let b = &mut lin.sweep.b;
    (b.loc, b.tag, b.scope) = (Loc::UNKNOWN, 0, b.subscope(ScopeId::ROOT, GRAD));
    for (k, &i) in outputs.iter().enumerate() {
        let value = graph.outputs()[i].value;
        let Some(t) = lin.tangents[value.index()] else { continue };
        let ct = match seed {
            Seed::Parameters => lin.extra[k],
            Seed::One => b.scalar(Literal::one(graph.ty(value).dtype)),
        };
        seeds.push((t, ct));
    }
    let cotangents = transpose::transpose(&mut lin.sweep, &seeds, Some(GRAD), &mut bodies)
        .map_err(|fault| fault.locate(&lin.sweep, &request, &lin.tangents))?;
    finish_backward(graph, wrt, lin, &cotangents)
}

/// Gathers the gradients and drops the linear part.
fn finish_backward(
    graph: &Graph,
    wrt: &[usize],
    lin: Linearized,
    cotangents: &[Option<Value>],
) -> Result<Graph, DiffError> {
    let Linearized { sweep: Sweep { mut b, .. }, primal, seeds, extra, .. } = lin;
    (b.loc, b.scope, b.tag) = (Loc::UNKNOWN, ScopeId::ROOT, 0);
    let mut names: Names = graph.outputs().iter().map(|o| o.name.clone()).collect();
    let mut outputs: Vec<(String, Value)> =
        graph.outputs().iter().map(|o| (o.name.clone(), primal[o.value.index()])).collect();
    for &p in wrt {
        let ty = graph.ty(graph.param_value(p)).clone();
        let ct = seeds[p].and_then(|t| cotangents[t.index()]);
        let grad = match ct {
            Some(ct) => coerce(&mut b, ct, &ty)?,
            None => b.zeros(&ty)?,
        };
        outputs.push((unique(&format!("{}.grad", graph.params()[p].name), &mut names), grad));
    }
    let sweep = b.finish();
    let mut params: Vec<NewParam> = graph
        .params()
        .iter()
        .zip(graph.param_values())
        .map(|(p, v)| NewParam { value: v, name: p.name.clone(), kind: p.kind, loc: p.loc.clone() })
        .collect();
    params.extend(extra.iter().map(|&v| NewParam {
        value: v,
        name: sweep.params()[v.index()].name.clone(),
        kind: ParamKind::Input,
        loc: Loc::UNKNOWN,
    }));
    let updates = graph.updates().iter().map(|u| (u.param, primal[u.value.index()])).collect();
    extract(&sweep, Cut { name: graph.name.clone(), params, outputs, updates, recompute: None })
}

/// For each parameter, whether it is among `wrt`.
fn active_params(graph: &Graph, wrt: &[usize]) -> Result<Vec<bool>, DiffError> {
    let mut active = vec![false; graph.params().len()];
    for &i in wrt {
        let Some(param) = graph.params().get(i) else {
            return Err(DiffError::NoParam { graph: graph.name.clone(), index: i, count: graph.params().len() });
        };
        inexact("parameter", &param.name, graph.ty(graph.param_value(i)))?;
        active[i] = true;
    }
    Ok(active)
}

fn inexact(role: &'static str, name: &str, ty: &Type) -> Result<(), DiffError> {
    if ty.dtype.is_inexact() {
        return Ok(());
    }
    Err(DiffError::NotInexact { role, name: name.to_owned(), ty: Box::new(ty.clone()) })
}

fn no_output(graph: &Graph, index: usize) -> DiffError {
    DiffError::NoOutput { graph: graph.name.clone(), index, count: graph.outputs().len() }
}

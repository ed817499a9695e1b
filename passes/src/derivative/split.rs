//! A graph in two: what depends on the known parameters alone, and the rest.
//!
//! Partial evaluation of a region serves linearisation (the primal values are known, the tangents not), checkpointing (nothing
//! is kept) and control flow (what a loop's body computes forwards, and what it computes backwards).

use lehr_ir::Loc;
use lehr_ir::graph::{Graph, ParamKind, Value};

use super::DiffError;
use super::extract::{Cut, Names, NewParam, extract, unique};
use super::keep::{Keep, is_cheap};
use super::linearize::depends;

/// Where a residual comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Residual {
    /// The parameter of the whole graph at this position, a known one.
    Param(usize),
    /// The output of the known part at this position.
    Output(usize),
}

/// Which part gives an output of the whole graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The known part's output at this position.
    Known(usize),
    /// The other part's output at this position.
    Unknown(usize),
}

/// A graph in two.
#[derive(Clone, Debug)]
pub struct Split {
    /// From the known parameters to the known outputs, then the residuals that are neither parameters nor outputs.
    pub known: Graph,
    /// From the residuals, then the unknown parameters, to the other outputs.
    pub unknown: Graph,
    /// Where the first parameters of `unknown` come from.
    pub residuals: Vec<Residual>,
    /// Where each output of the whole graph comes from.
    pub outputs: Vec<Side>,
}

/// Splits a graph by which of its parameters are known.
///
/// # Errors
/// None for a well-formed graph.
pub fn split(graph: &Graph, known: &[bool], keep: Keep) -> Result<Split, DiffError> {
    let flags: Vec<bool> = known.iter().map(|k| !k).collect();
    let unknown = depends(graph, &flags);
    let mut known_outputs: Vec<(String, Value)> = Vec::new();
    let mut other_outputs: Vec<(String, Value)> = Vec::new();
    let mut outputs = Vec::new();
    for o in graph.outputs() {
        let (list, side): (_, fn(usize) -> Side) = if unknown[o.value.index()] {
            (&mut other_outputs, Side::Unknown)
        } else {
            (&mut known_outputs, Side::Known)
        };
        outputs.push(side(list.len()));
        list.push((o.name.clone(), o.value));
    }
    let values = residual_values(graph, &unknown, &other_outputs, &keep);
    let mut residuals = Vec::new();
    let mut params = Vec::new();
    let mut names: Names = graph.params().iter().map(|p| p.name.clone()).collect();
    names.extend(graph.outputs().iter().map(|o| o.name.clone()));
    for value in values {
        if value.index() < graph.params().len() {
            residuals.push(Residual::Param(value.index()));
            params.push(param(graph, value));
            continue;
        }
        let name = unique(&format!("r{}", params.len()), &mut names);
        let at = known_outputs.iter().position(|(_, v)| *v == value).unwrap_or_else(|| {
            known_outputs.push((name.clone(), value));
            known_outputs.len() - 1
        });
        residuals.push(Residual::Output(at));
        let loc = graph.def_node(value).map_or(Loc::UNKNOWN, |n| n.loc.clone());
        params.push(NewParam { value, name, kind: ParamKind::Input, loc });
    }
    let of = |known_ones: bool| {
        let all = graph.param_values().zip(known);
        all.filter(move |(_, k)| **k == known_ones).map(|(v, _)| param(graph, v)).collect::<Vec<_>>()
    };
    params.extend(of(false));
    let recompute: Vec<bool> = graph.nodes().map(|(_, n)| !unknown[n.result().index()] && !is_cheap(n)).collect();
    let cut = |name: &str, params, outputs, recompute| Cut {
        name: format!("{}.{name}", graph.name),
        params,
        outputs,
        updates: Vec::new(),
        recompute,
    };
    Ok(Split {
        known: extract(graph, cut("fwd", of(true), known_outputs, None))?,
        unknown: extract(graph, cut("lin", params, other_outputs, Some(&recompute)))?,
        residuals,
        outputs,
    })
}

/// The known values that the rest starts from, in order.
fn residual_values(graph: &Graph, unknown: &[bool], outputs: &[(String, Value)], keep: &Keep) -> Vec<Value> {
    let mut wanted = vec![false; graph.value_count()];
    for (_, v) in outputs {
        wanted[v.index()] = true;
    }
    for (_, node) in graph.nodes().rev() {
        if !node.results().any(|v| wanted[v.index()]) {
            continue;
        }
        // Known nodes stop the walk, unless they are made again.
        if unknown[node.result().index()] || keep.remakes(node) {
            for v in &node.operands {
                wanted[v.index()] = true;
            }
        }
    }
    let kept =
        |v: &Value| wanted[v.index()] && !unknown[v.index()] && graph.def_node(*v).is_none_or(|n| !keep.remakes(n));
    (0..graph.value_count() as u32).map(Value).filter(kept).collect()
}

fn param(graph: &Graph, value: Value) -> NewParam {
    let p = &graph.params()[value.index()];
    NewParam { value, name: p.name.clone(), kind: p.kind, loc: p.loc.clone() }
}

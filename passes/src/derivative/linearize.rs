//! The forward sweep: each operation, followed by its tangent.

use lehr_ir::graph::{Builder, Graph, NodeId, ParamKind, Value};
use lehr_ir::ops::{At, Op, Partials};
use lehr_ir::{Loc, Type};
use smallvec::SmallVec;

use super::DiffError;
use super::calls::Bodies;
use super::error::{Cause, locate};
use super::extract::{Names, unique};
use crate::rebuild::Operands;

/// What to linearise.
pub(super) struct Request<'a> {
    /// The graph.
    pub(super) graph: &'a Graph,
    /// For each parameter, whether it varies.
    pub(super) active: &'a [bool],
    /// The order of the tangents' parameters; that of the parameters if not given.
    pub(super) order: Option<&'a [usize]>,
    /// For each output, whether its tangent is wanted.
    pub(super) outputs: &'a [bool],
    /// Further parameters, after the tangents.
    pub(super) extra: Vec<(String, Type)>,
}

/// A graph under way, some of whose nodes are linear in some of its parameters.
pub(super) struct Sweep {
    /// The graph.
    pub(super) b: Builder,
    /// For each value, whether it depends on the linear parameters.
    pub(super) linear: Vec<bool>,
    /// For each node, the node of the original graph that it comes from.
    pub(super) origin: Vec<NodeId>,
}

/// A graph with tangents.
pub(super) struct Linearized {
    /// Parameters: the graph's, the tangents, the extra ones. No outputs yet.
    pub(super) sweep: Sweep,
    /// For each value of the original graph, itself.
    pub(super) primal: Vec<Value>,
    /// For each value of the original graph, its tangent.
    pub(super) tangents: Vec<Option<Value>>,
    /// For each parameter, its tangent's parameter.
    pub(super) seeds: Vec<Option<Value>>,
    /// The extra parameters.
    pub(super) extra: Vec<Value>,
}

pub(super) fn linearize(request: &Request<'_>, bodies: &mut Bodies) -> Result<Linearized, DiffError> {
    let graph = request.graph;
    let mut lin = start(request);
    let needed = needed(graph, request.outputs);
    for (id, node) in graph.nodes() {
        let operands: Operands = node.operands.iter().map(|v| lin.primal[v.index()]).collect();
        let tangents: Partials = node.operands.iter().map(|v| lin.tangents[v.index()]).collect();
        let wanted: SmallVec<[bool; 2]> =
            node.results().map(|v| needed[v.index()] && graph.ty(v).dtype.is_inexact()).collect();
        let b = &mut lin.sweep.b;
        (b.loc, b.scope, b.tag) = (node.loc.clone(), node.scope, node.tag);
        let active = tangents.iter().any(Option::is_some) && wanted.contains(&true);
        let (results, partials) = if !active {
            (copy(b, graph, node, operands), Partials::new())
        } else {
            let done = match &node.op {
                Op::Call(call) => bodies.linearize(b, call, &operands, &tangents, &wanted),
                Op::Scan(scan) => bodies.linearize_scan(b, scan, &operands, &tangents, &wanted),
                Op::While(l) => bodies.linearize_while(b, l, &operands, &tangents),
                Op::Case(case) => bodies.linearize_case(b, case, &operands, &tangents, &wanted),
                op => {
                    let results = copy(b, graph, node, operands.clone());
                    let at = At { operands: &operands, results: &results };
                    let partials = op.story().linearize(b, at, &tangents).map_err(Cause::from);
                    partials.map(|p| (results, p))
                }
            };
            done.map_err(|cause| fault(&lin, request, id, cause))?
        };
        lin.sweep.mark(id);
        for (v, r) in node.results().zip(results) {
            lin.primal[v.index()] = r;
        }
        for ((v, t), wanted) in node.results().zip(partials).zip(wanted) {
            // What a rule gives without looking at the tangents is a zero.
            lin.tangents[v.index()] = t.filter(|t| wanted && lin.sweep.linear[t.index()]);
        }
    }
    Ok(lin)
}

fn start(request: &Request<'_>) -> Linearized {
    let graph = request.graph;
    let mut b = Builder::like(graph);
    let mut names: Names = graph.params().iter().map(|p| p.name.clone()).collect();
    let mut seeds = vec![None; graph.params().len()];
    let in_order: Vec<usize> = (0..request.active.len()).filter(|&i| request.active[i]).collect();
    for &i in request.order.unwrap_or(&in_order) {
        let name = unique(&format!("{}.tangent", graph.params()[i].name), &mut names);
        b.loc = graph.params()[i].loc.clone();
        seeds[i] = Some(b.param(name, ParamKind::Input, graph.ty(graph.param_value(i)).clone()));
    }
    b.loc = Loc::UNKNOWN;
    let extra: Vec<Value> = request
        .extra
        .iter()
        .map(|(name, ty)| b.param(unique(name, &mut names), ParamKind::Input, ty.clone()))
        .collect();
    let mut linear = vec![false; b.graph().value_count()];
    let mut tangents = vec![None; graph.value_count()];
    for (i, seed) in seeds.iter().enumerate() {
        tangents[i] = *seed;
        if let Some(v) = seed {
            linear[v.index()] = true;
        }
    }
    let primal = (0..graph.value_count() as u32).map(Value).collect();
    Linearized { sweep: Sweep { b, linear, origin: Vec::new() }, primal, tangents, seeds, extra }
}

fn copy(b: &mut Builder, graph: &Graph, node: &lehr_ir::graph::Node, operands: Operands) -> SmallVec<[Value; 2]> {
    let types = node.results().map(|v| graph.ty(v).clone()).collect();
    let id = b.push(node.op.clone(), operands, types);
    b.graph().node(id).results().collect()
}

fn fault(lin: &Linearized, request: &Request<'_>, id: NodeId, cause: Cause) -> DiffError {
    let varies: Vec<bool> = lin.tangents.iter().map(Option::is_some).collect();
    locate(request.graph, id, cause, &varies, request.outputs)
}

/// For each value, whether an output whose tangent is wanted depends on it.
fn needed(graph: &Graph, outputs: &[bool]) -> Vec<bool> {
    let mut needed = vec![false; graph.value_count()];
    for (o, wanted) in graph.outputs().iter().zip(outputs) {
        needed[o.value.index()] |= wanted;
    }
    for (_, node) in graph.nodes().rev() {
        if node.results().any(|v| needed[v.index()]) {
            for v in &node.operands {
                needed[v.index()] = true;
            }
        }
    }
    needed
}

impl Sweep {
    /// A finished graph, of whose parameters some are linear.
    pub(super) fn of(graph: Graph, linear_params: &[bool]) -> Self {
        let linear = depends(&graph, linear_params);
        let origin = (0..graph.node_count() as u32).map(NodeId).collect();
        Self { b: Builder::with_graph(graph), linear, origin }
    }

    /// Marks the nodes added since the last time as coming from `origin`, and those that depend on linear values.
    fn mark(&mut self, origin: NodeId) {
        let graph = self.b.graph();
        self.linear.resize(graph.value_count(), false);
        for i in self.origin.len()..graph.node_count() {
            let node = graph.node(NodeId(i as u32));
            if node.operands.iter().any(|v| self.linear[v.index()]) {
                for v in node.results() {
                    self.linear[v.index()] = true;
                }
            }
            self.origin.push(origin);
        }
    }
}

/// For each value, whether it depends on one of the marked parameters.
pub(super) fn depends(graph: &Graph, params: &[bool]) -> Vec<bool> {
    let mut out = vec![false; graph.value_count()];
    out[..params.len()].copy_from_slice(params);
    for (_, node) in graph.nodes() {
        if node.operands.iter().any(|v| out[v.index()]) {
            for v in node.results() {
                out[v.index()] = true;
            }
        }
    }
    out
}

//! What a derivative keeps of the forward computation, and what it computes again.

use std::sync::Arc;

use lehr_ir::attrs::Attr;
use lehr_ir::graph::{Builder, Graph, Node, Value};
use lehr_ir::ops::{Call, Op};
use smallvec::SmallVec;

use super::linearize::depends;

/// The attribute of a call whose derivative keeps less of the forward computation than what it uses, and computes the rest again.
///
/// `attrs = {checkpoint = nothing}` keeps the operands alone, `checkpoint = dots` the results of dot products and convolutions as well, and
/// `checkpoint = "h,k"` the values of these names as well ([`CHECKPOINT_NAME`]).
pub const CHECKPOINT: &str = "checkpoint";

/// The attribute of a call that gives its result a name for [`CHECKPOINT`]: `attrs = {checkpoint_name = "h"}`.
pub const CHECKPOINT_NAME: &str = "checkpoint_name";

/// What the known part of a graph hands to the rest.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Keep {
    /// The values that the rest uses, but for constants, iotas and broadcasts, which are cheaper to make again.
    Used,
    /// Its parameters only: the rest computes everything again, under a tag that keeps it from being merged.
    Nothing,
    /// Its parameters and the results of dot products and convolutions.
    Dots,
    /// Its parameters and the values of these names.
    Named(Arc<[String]>),
}

impl Keep {
    /// Whether the rest computes a known node again.
    pub(super) fn remakes(&self, node: &Node) -> bool {
        match self {
            Self::Used => is_cheap(node),
            _ => !self.keeps(&node.op),
        }
    }

    /// Whether the results of an operation are among those kept.
    fn keeps(&self, op: &Op) -> bool {
        match self {
            Self::Used => true,
            Self::Nothing => false,
            Self::Dots => matches!(op, Op::Dot(_) | Op::Convolution(_)),
            Self::Named(names) => matches!(op, Op::Call(c) if name_of(c).is_some_and(|n| names.iter().any(|k| k == n))),
        }
    }

    /// Whether a graph holds, at any depth, an operation whose results are kept.
    fn is_met_in(&self, graph: &Graph) -> bool {
        graph.nodes().any(|(_, n)| self.keeps(&n.op) || matches!(&n.op, Op::Call(c) if self.is_met_in(&c.body)))
    }
}

/// What a call asks its derivative to keep.
pub(super) fn keep_of(call: &Call) -> Keep {
    match call.attrs.get(CHECKPOINT) {
        Some(Attr::Name(n)) if n == "nothing" => Keep::Nothing,
        Some(Attr::Name(n)) if n == "dots" => Keep::Dots,
        Some(Attr::Str(names)) => Keep::Named(names.split(',').map(str::to_owned).collect()),
        _ => Keep::Used,
    }
}

fn name_of(call: &Call) -> Option<&str> {
    match call.attrs.get(CHECKPOINT_NAME) {
        Some(Attr::Str(name)) => Some(name),
        _ => None,
    }
}

/// Whether a kernel generates the results for nothing.
pub(super) fn is_cheap(node: &Node) -> bool {
    matches!(node.op, Op::Constant(_) | Op::Iota(_) | Op::Broadcast(_))
}

/// Puts known calls in place that hold values to be kept, so that these can be kept without the rest of the call.
///
/// The parameters from `first` on are not known. A call with a derivative of its own stays whole: a second derivative needs it.
pub(super) fn open_kept(mut graph: Graph, first: usize, keep: &Keep) -> Graph {
    if matches!(keep, Keep::Used | Keep::Nothing) {
        return graph;
    }
    loop {
        let flags: Vec<bool> = (0..graph.params().len()).map(|i| i >= first).collect();
        let unknown = depends(&graph, &flags);
        let opens = |node: &Node| {
            let Op::Call(call) = &node.op else { return false };
            let plain = call.jvp.is_none() && call.vjp.is_none() && !keep.keeps(&node.op);
            plain && !unknown[node.result().index()] && keep.is_met_in(&call.body)
        };
        if !graph.nodes().any(|(_, n)| opens(n)) {
            return graph;
        }
        let mut b = Builder::like(&graph);
        let mut map: Vec<Value> = graph.param_values().collect();
        for (_, node) in graph.nodes() {
            let args: SmallVec<[Value; 3]> = node.operands.iter().map(|v| map[v.index()]).collect();
            if let Op::Call(call) = &node.op
                && opens(node)
            {
                (b.loc, b.scope, b.tag) = (node.loc.clone(), node.scope, node.tag);
                map.extend(b.inline(&call.body, &args));
            } else {
                let id = b.copy_node(&graph, node, args);
                map.extend(b.graph().node(id).results());
            }
        }
        for o in graph.outputs() {
            b.output(o.name.clone(), map[o.value.index()]);
        }
        graph = b.finish();
    }
}

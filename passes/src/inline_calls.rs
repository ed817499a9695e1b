//! Puts the bodies of calls in place: what legalisation does with a composite that the target has no kernel for.
//!
//! The nodes of a body come into a scope named after the call, so that a dump still shows what they belong to.
//! Calls inside bodies are put in place as well, by a stack of open bodies rather than recursion, and so are those inside the
//! regions of loops and branches, which stay.

use std::sync::Arc;

use lehr_ir::Graph;
use lehr_ir::facts::Facts;
use lehr_ir::graph::{Builder, Node, NodeId, Region, ScopeId, Value};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{Call, Op};

use rustc_hash::FxHashMap;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Regions};

/// The pass: puts in place every call that is not kept.
#[derive(Clone, Copy, Debug)]
pub struct InlineCalls {
    /// The calls that stay, such as composites with a kernel of their own.
    pub keep: fn(&Call) -> bool,
}

impl InlineCalls {
    /// Puts all calls in place.
    pub const ALL: Self = Self { keep: |_| false };
}

impl Pass<Graph> for InlineCalls {
    fn name(&self) -> &'static str {
        "inline_calls"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        inline(graph, self.keep, cx, &mut Regions::default())
    }
}

/// The graph with calls put in place.
fn inline(
    graph: &Graph,
    keep: fn(&Call) -> bool,
    cx: &mut PassCx,
    regions: &mut Regions,
) -> Result<Outcome<Graph>, PassError> {
    if graph.nodes().all(|(_, n)| n.op.regions().is_empty()) {
        return Ok(Outcome::Unchanged);
    }
    let mut b = Builder::like(graph);
    let mut inner: Vec<Frame<'_>> = Vec::new();
    let mut outer = Frame::new(graph, graph.param_values().collect(), None);
    let mut changed = false;
    loop {
        let frame = inner.last_mut().unwrap_or(&mut outer);
        let Some(node) = frame.next_node(&mut b) else {
            let Some(done) = inner.pop() else { break };
            // A body that is through gives its outputs to the call that it stands for.
            inner.last_mut().unwrap_or(&mut outer).map.extend(done.outputs());
            continue;
        };
        let operands: Operands = node.operands.iter().map(|v| frame.map[v.index()]).collect();
        if let Op::Call(call) = &node.op
            && !keep(call)
            && cx.fuel("inline")
        {
            changed = true;
            merge_facts(&mut b, &call.body.facts);
            let scope = b.subscope(b.scope, &call.name.replace('/', "."));
            let site = Site { loc: b.loc.clone(), scope, tag: b.tag };
            inner.push(Frame::new(&call.body, operands.into_vec(), Some(site)));
            continue;
        }
        let types = node.results().map(|v| frame.graph.ty(v).clone()).collect();
        let mapped = match &node.op {
            Op::Call(_) => None,
            op => regions.map(op, &mut |region, regions| inline(region, keep, cx, regions))?,
        };
        changed |= mapped.is_some();
        let id = b.push(mapped.unwrap_or_else(|| node.op.clone()), operands, types);
        frame.map.extend(b.graph().node(id).results());
    }
    for o in graph.outputs() {
        b.output(o.name.clone(), outer.map[o.value.index()]);
    }
    for u in graph.updates() {
        b.update(u.param, outer.map[u.value.index()]);
    }
    Ok(Outcome::when(changed, b.finish()))
}

/// What a body inherits from its call.
struct Site {
    loc: Loc,
    scope: ScopeId,
    tag: u32,
}

/// A graph that is being copied.
struct Frame<'g> {
    graph: &'g Graph,
    /// The call that it stands for; none for the outermost graph.
    site: Option<Site>,
    /// The next node to copy.
    next: u32,
    /// The new values of the old ones so far; values are numbered in the order of nodes.
    map: Vec<Value>,
    /// The new scopes of the old ones so far.
    scopes: FxHashMap<ScopeId, ScopeId>,
}

impl<'g> Frame<'g> {
    fn new(graph: &'g Graph, mut map: Vec<Value>, site: Option<Site>) -> Self {
        map.reserve(graph.value_count().saturating_sub(map.len()));
        Self { graph, site, next: 0, map, scopes: FxHashMap::default() }
    }

    /// The next node, with the builder set to its location, scope and tag.
    fn next_node(&mut self, b: &mut Builder) -> Option<&'g Node> {
        if self.next as usize >= self.graph.node_count() {
            return None;
        }
        let node = self.graph.node(NodeId(self.next));
        self.next += 1;
        (b.loc, b.scope, b.tag) = (node.loc.clone(), node.scope, node.tag);
        if let Some(site) = &self.site {
            if !node.loc.is_known() {
                b.loc = site.loc.clone();
            }
            if node.tag == 0 {
                b.tag = site.tag;
            }
            b.scope = map_scope(b, self.graph, node.scope, site.scope, &mut self.scopes);
        }
        Some(node)
    }

    fn outputs(&self) -> impl Iterator<Item = Value> {
        self.graph.outputs().iter().map(|o| self.map[o.value.index()])
    }
}

/// Adds what a body assumes. What contradicts the outer graph's facts is left out: such a body is never run.
pub(crate) fn merge_facts(b: &mut Builder, inner: &Facts) {
    if inner.is_empty() || inner == b.facts() {
        return;
    }
    let mut facts = b.facts().clone();
    if facts.merge(inner).is_ok() {
        b.set_facts(facts);
    }
}

/// A region with what the graph around it knows of the symbols, so that dims can be compared inside it.
pub(crate) fn with_outer_facts(region: &Region, outer: &Graph) -> Region {
    if outer.facts.is_empty() || outer.facts == region.facts {
        return Arc::clone(region);
    }
    let mut b = Builder::with_graph((**region).clone());
    merge_facts(&mut b, &outer.facts);
    b.into_region()
}

/// The scope of another graph, put under `root`.
pub(crate) fn map_scope(
    b: &mut Builder,
    from: &Graph,
    scope: ScopeId,
    root: ScopeId,
    known: &mut FxHashMap<ScopeId, ScopeId>,
) -> ScopeId {
    let mut path = Vec::new();
    let mut at = scope;
    let mut new = loop {
        if at == ScopeId::ROOT {
            break root;
        }
        if let Some(&new) = known.get(&at) {
            break new;
        }
        path.push(at);
        at = from.scope(at).parent;
    };
    for id in path.into_iter().rev() {
        new = b.subscope(new, &from.scope(id).name);
        known.insert(id, new);
    }
    new
}

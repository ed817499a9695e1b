//! The sweep that graph passes share: an old graph is walked in order and a new one built, values mapped.

use std::sync::Arc;

use lehr_ir::graph::{Builder, Graph, Node, NodeId, Region, Value};
use lehr_ir::ops::Op;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::pass::{Outcome, PassCx, PassError};

/// The operands of a node.
pub(crate) type Operands = SmallVec<[Value; 3]>;

/// A graph on the way into a new one.
pub(crate) struct Rebuild<'g> {
    /// The old graph.
    pub(crate) from: &'g Graph,
    /// The new graph, which starts with the old one's parameters and scopes.
    pub(crate) b: Builder,
    /// For each old value, the new one. Values of nodes that are left out map to themselves and are not used.
    map: Vec<Value>,
}

impl<'g> Rebuild<'g> {
    pub(crate) fn new(from: &'g Graph) -> Self {
        Self { from, b: Builder::like(from), map: (0..from.value_count() as u32).map(Value).collect() }
    }

    /// The new value of an old one.
    pub(crate) fn get(&self, v: Value) -> Value {
        self.map[v.index()]
    }

    /// The new operands of an old node.
    pub(crate) fn operands(&self, node: &Node) -> Operands {
        node.operands.iter().map(|&v| self.get(v)).collect()
    }

    /// Says which new values stand for an old node's results.
    pub(crate) fn set(&mut self, node: &Node, results: impl IntoIterator<Item = Value>) {
        for (old, new) in node.results().zip(results) {
            self.map[old.index()] = new;
        }
    }

    /// Says which new value stands for an old one.
    pub(crate) fn set_value(&mut self, old: Value, new: Value) {
        self.map[old.index()] = new;
    }

    /// Copies a node with an operation in place of its own.
    pub(crate) fn copy_as(&mut self, node: &Node, op: Op) -> NodeId {
        self.at(node);
        let types = node.results().map(|v| self.from.ty(v).clone()).collect();
        let id = self.b.push(op, self.operands(node), types);
        let results = self.b.graph().node(id).results();
        self.set(node, results);
        id
    }

    /// Copies a node.
    pub(crate) fn copy(&mut self, node: &Node) -> NodeId {
        self.copy_as(node, node.op.clone())
    }

    /// Gives new nodes the location, scope and tag of an old one.
    pub(crate) fn at(&mut self, node: &Node) {
        self.b.loc = node.loc.clone();
        self.b.scope = node.scope;
        self.b.tag = node.tag;
    }

    /// The new graph, with the old one's outputs and updates.
    pub(crate) fn finish(mut self) -> Graph {
        for o in self.from.outputs() {
            self.b.output(o.name.clone(), self.map[o.value.index()]);
        }
        for u in self.from.updates() {
            self.b.update(u.param, self.map[u.value.index()]);
        }
        self.b.finish()
    }
}

/// What stands for the results of a node, given the new operands; `None` if it stays.
pub(crate) type Rewrite<'a> =
    dyn FnMut(&mut Builder, &Node, &[Value], &mut PassCx) -> Result<Option<Operands>, PassError> + 'a;

/// Rewrites the nodes that a pass is `concerned` with, one by one, also inside regions.
///
/// A node whose sizes fit and are not provably so stays as it is, and so does one that would get results of other types.
pub(crate) fn rewrite_nodes(
    graph: &Graph,
    cx: &mut PassCx,
    regions: &mut Regions,
    concerned: fn(&Op) -> bool,
    rewrite: &mut Rewrite<'_>,
) -> Result<Outcome<Graph>, PassError> {
    if !graph.nodes().any(|(_, n)| concerned(&n.op) || !n.op.regions().is_empty()) {
        return Ok(Outcome::Unchanged);
    }
    let mut changed = false;
    let mut new = Rebuild::new(graph);
    for (_, node) in graph.nodes() {
        if concerned(&node.op) {
            let operands = new.operands(node);
            new.at(node);
            let found = provable(rewrite(&mut new.b, node, &operands, cx))?.flatten();
            let fits = |values: &Operands| node.results().zip(values).all(|(old, &v)| new.b.ty(v) == graph.ty(old));
            if let Some(values) = found.filter(fits) {
                changed = true;
                new.set(node, values);
                continue;
            }
        }
        let run = &mut |body: &Graph, regions: &mut Regions| rewrite_nodes(body, cx, regions, concerned, rewrite);
        match regions.map(&node.op, run)? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// What was made; `None` where an operation was refused, since it cannot be shown that sizes fit.
pub(crate) fn provable<T>(made: Result<T, PassError>) -> Result<Option<T>, PassError> {
    match made {
        Ok(value) => Ok(Some(value)),
        Err(PassError::Op(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A pass on the graph of a region.
type RunOn<'a> = dyn FnMut(&Graph, &mut Regions) -> Result<Outcome<Graph>, PassError> + 'a;

/// Regions that a pass has mapped already, so that a body shared by many calls is mapped once and stays shared.
#[derive(Default)]
pub(crate) struct Regions {
    done: FxHashMap<*const Graph, Option<Region>>,
    kept: Vec<Region>,
}

impl Regions {
    /// The operation with its regions mapped; `None` if none changed.
    ///
    /// The graph that holds the operation has to outlive this memo, which knows regions by their address.
    pub(crate) fn map(&mut self, op: &Op, run: &mut RunOn<'_>) -> Result<Option<Op>, PassError> {
        let regions = op.regions();
        let mut mapped: SmallVec<[Option<Region>; 2]> = SmallVec::new();
        for region in &regions {
            mapped.push(self.region(region, run)?);
        }
        if mapped.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut mapped = mapped.into_iter();
        Ok(Some(op.map_regions(|region| mapped.next().flatten().unwrap_or_else(|| Arc::clone(region)))))
    }

    /// Keeps the regions of an operation that no graph holds alive for as long as this memo knows them.
    pub(crate) fn keep(&mut self, op: &Op) {
        self.kept.extend(op.regions().into_iter().cloned());
    }

    fn region(&mut self, region: &Region, run: &mut RunOn<'_>) -> Result<Option<Region>, PassError> {
        let key = Arc::as_ptr(region);
        if let Some(known) = self.done.get(&key) {
            return Ok(known.clone());
        }
        let mapped = match run(region, self)? {
            Outcome::Unchanged => None,
            Outcome::Changed(g) => Some(Arc::new(g)),
        };
        self.done.insert(key, mapped.clone());
        Ok(mapped)
    }
}

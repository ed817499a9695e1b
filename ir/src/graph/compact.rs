//! Leaves out what a graph does not need, and numbers the rest anew: the form that snapshots are taken of.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::{Builder, Graph, Region, ScopeId, Value};
use crate::ops::Op;

impl Graph {
    /// The graph without nodes that no output or update needs and without scopes that hold nothing.
    ///
    /// Scopes and tags are numbered in order of their first node. Parameters stay, for they are the signature. Regions are compacted too;
    /// one that several operations share is compacted once and stays shared.
    #[must_use]
    pub fn compact(&self) -> Self {
        Compactor::default().graph(self)
    }

    /// Which nodes the outputs and updates need.
    pub fn live_nodes(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.values.len()];
        for v in self.roots() {
            wanted[v.index()] = true;
        }
        let mut live = vec![false; self.nodes.len()];
        // Uses are younger than definitions, so one sweep backwards finds all.
        for (i, node) in self.nodes.iter().enumerate().rev() {
            live[i] = node.results().any(|v| wanted[v.index()]);
            if live[i] {
                node.operands.iter().for_each(|v| wanted[v.index()] = true);
            }
        }
        live
    }
}

#[derive(Default)]
struct Compactor {
    /// Regions by the address of what they were made from.
    regions: HashMap<*const Graph, Region, FxBuildHasher>,
}

impl Compactor {
    fn graph(&mut self, graph: &Graph) -> Graph {
        let live = graph.live_nodes();
        let mut b = Builder::new(graph.name.clone());
        b.set_facts(graph.facts.clone());
        let mut map: Vec<Value> = Vec::with_capacity(graph.values.len());
        for (param, ty) in graph.params.iter().zip(graph.param_types()) {
            b.loc = param.loc.clone();
            map.push(b.param(param.name.clone(), param.kind, ty.clone()));
        }
        let mut scopes: HashMap<ScopeId, ScopeId, FxBuildHasher> = HashMap::default();
        scopes.insert(ScopeId::ROOT, ScopeId::ROOT);
        let mut tags: BTreeMap<u32, u32> = BTreeMap::from([(0, 0)]);
        for (node, live) in graph.nodes.iter().zip(live) {
            if !live {
                // Nothing live looks at what stands here.
                map.extend(node.results());
                continue;
            }
            let next = tags.len() as u32;
            b.tag = *tags.entry(node.tag).or_insert(next);
            b.scope = scope(graph, &mut b, &mut scopes, node.scope);
            b.loc = node.loc.clone();
            let operands = node.operands.iter().map(|v| map[v.index()]).collect();
            let types = node.results().map(|v| graph.ty(v).clone()).collect();
            let id = b.push(self.op(&node.op), operands, types);
            map.extend(b.graph().node(id).results());
        }
        for output in &graph.outputs {
            b.output(output.name.clone(), map[output.value.index()]);
        }
        for update in &graph.updates {
            b.update(update.param, map[update.value.index()]);
        }
        b.finish()
    }

    fn op(&mut self, op: &Op) -> Op {
        let Op::Call(call) = op else { return op.clone() };
        let Ok(call) = call.map_regions::<Infallible>(&mut |r| Ok(self.region(r)));
        Op::Call(call)
    }

    fn region(&mut self, region: &Region) -> Region {
        let key = Arc::as_ptr(region);
        if let Some(done) = self.regions.get(&key) {
            return Arc::clone(done);
        }
        let compacted = Arc::new(self.graph(region));
        self.regions.insert(key, Arc::clone(&compacted));
        compacted
    }
}

/// The new id of a scope; made, with those around it, on first use.
fn scope(graph: &Graph, b: &mut Builder, known: &mut HashMap<ScopeId, ScopeId, FxBuildHasher>, id: ScopeId) -> ScopeId {
    let mut missing = Vec::new();
    let mut at = id;
    while !known.contains_key(&at) {
        missing.push(at);
        at = graph.scope(at).parent;
    }
    let mut new = known.get(&at).copied().unwrap_or(ScopeId::ROOT);
    for old in missing.into_iter().rev() {
        new = b.subscope(new, &graph.scope(old).name);
        known.insert(old, new);
    }
    new
}

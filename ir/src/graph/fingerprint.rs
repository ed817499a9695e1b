//! A hash of a graph's structure, by which a driver checks whether a pass changed what it says it changed.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHasher};

use super::Graph;
use super::print::scope_names;
use crate::attrs::{Attr, Attrs};

impl Graph {
    /// A hash of all that graph equality looks at but the graph's own name; names of regions do not count either.
    ///
    /// Source locations do not count. Equal graphs have equal fingerprints, in every process; a region is hashed once however often it is held.
    /// The value may differ between versions of lehr and between machines of different word sizes.
    pub fn fingerprint(&self) -> u64 {
        Fingerprints::default().graph(self)
    }
}

#[derive(Default)]
struct Fingerprints {
    /// Of regions, by address.
    regions: HashMap<*const Graph, u64, FxBuildHasher>,
}

impl Fingerprints {
    fn graph(&mut self, graph: &Graph) -> u64 {
        let mut h = FxHasher::default();
        graph.facts.hash(&mut h);
        graph.params.len().hash(&mut h);
        for param in &graph.params {
            (&param.name, param.kind).hash(&mut h);
        }
        graph.values.len().hash(&mut h);
        for value in &graph.values {
            value.ty.hash(&mut h);
        }
        let scopes: Vec<u64> = (0..graph.scopes.len()).map(|i| scope_hash(graph, i)).collect();
        for node in &graph.nodes {
            if !node.op.regions().is_empty() {
                node.op.name().hash(&mut h);
                self.attrs(&node.op.story().attrs(), &mut h);
            } else {
                node.op.hash(&mut h);
            }
            (&node.operands, node.tag, node.results).hash(&mut h);
            scopes.get(node.scope.index()).hash(&mut h);
        }
        graph.outputs.hash(&mut h);
        graph.updates.hash(&mut h);
        h.finish()
    }

    fn attrs(&mut self, attrs: &Attrs, h: &mut FxHasher) {
        attrs.0.len().hash(h);
        for (name, attr) in &attrs.0 {
            name.hash(h);
            match attr {
                Attr::Int(_)
                | Attr::Ints(_)
                | Attr::Dims(_)
                | Attr::Name(_)
                | Attr::Str(_)
                | Attr::Float(_)
                | Attr::Array(_) => attr.hash(h),
                Attr::Map(inner) => self.attrs(inner, h),
                Attr::Region(region) => {
                    let key = Arc::as_ptr(region);
                    let known = self.regions.get(&key).copied();
                    let hash = known.unwrap_or_else(|| self.graph(region));
                    self.regions.insert(key, hash);
                    hash.hash(h);
                }
            }
        }
    }
}

fn scope_hash(graph: &Graph, index: usize) -> u64 {
    let mut h = FxHasher::default();
    scope_names(graph, super::ScopeId(index as u32)).hash(&mut h);
    h.finish()
}

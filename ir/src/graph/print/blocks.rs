//! Which scopes print as blocks, and where they open and close.
//!
//! A run of consecutive nodes inside a scope is a block if it has two nodes or more, or is all there is of the scope.
//! What remains, a lone node of a scope that is scattered over the graph, gets its path as a suffix.

use super::spell::push_scope;
use crate::graph::{Graph, Scope, ScopeId};

/// The deepest nesting of blocks that is printed; deeper scopes go into suffixes.
const MAX_BLOCKS: usize = 32;

/// Walks the nodes of a graph in order and says which blocks surround each.
pub(super) struct Blocks<'g> {
    graph: &'g Graph,
    /// How deep each scope lies; `None` for an ill-formed one.
    depths: Vec<Option<usize>>,
    /// How many nodes lie in each scope and those inside it.
    totals: Vec<usize>,
    /// The open blocks, and the first node after each.
    open: Vec<(ScopeId, usize)>,
}

/// What is written around a node.
#[derive(Default)]
pub(super) struct Step {
    /// So many blocks end before the node.
    pub(super) closed: usize,
    /// The heads of blocks that start before the node, outermost first.
    pub(super) opened: Vec<String>,
    /// The path from the innermost block to the node's scope; empty if it lies directly in the block.
    pub(super) suffix: String,
}

impl<'g> Blocks<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut depths: Vec<Option<usize>> = Vec::with_capacity(graph.scopes.len());
        for (i, scope) in graph.scopes.iter().enumerate() {
            let parent = depths.get(scope.parent.index()).copied().flatten();
            depths.push(if i == 0 { Some(0) } else { parent.map(|d| d + 1) });
        }
        let mut totals = vec![0; graph.scopes.len()];
        for node in &graph.nodes {
            if let Some(n) = totals.get_mut(node.scope.index()) {
                *n += 1;
            }
        }
        // A parent is older than its children, so one sweep backwards adds all up.
        for i in (1..totals.len()).rev() {
            let parent = graph.scopes[i].parent.index();
            if parent < i {
                totals[parent] += totals[i];
            }
        }
        Self { graph, depths, totals, open: Vec::new() }
    }

    /// What to write around the node at `i`; nodes are asked for in order.
    pub(super) fn step(&mut self, i: usize) -> Step {
        let mut step = Step::default();
        while self.open.last().is_some_and(|&(_, end)| end <= i) {
            self.open.pop();
            step.closed += 1;
        }
        let Some(scope) = self.graph.nodes.get(i).map(|n| n.scope) else { return step };
        if self.depth(scope).is_none() {
            step.suffix = format!("?{scope}");
            return step;
        }
        loop {
            let (top, limit) = self.open.last().copied().unwrap_or((ScopeId::ROOT, self.graph.nodes.len()));
            if top == scope {
                return step;
            }
            let mut inner = self.child_towards(top, scope);
            let end = self.run_end(inner, i, limit);
            let lone = end - i < 2 && self.totals[inner.index()] != end - i;
            if lone || self.open.len() >= MAX_BLOCKS {
                step.suffix = self.path(top, scope);
                return step;
            }
            while inner != scope {
                let next = self.child_towards(inner, scope);
                if self.run_end(next, i, end) != end {
                    break;
                }
                inner = next;
            }
            step.opened.push(self.path(top, inner));
            self.open.push((inner, end));
        }
    }

    /// How many blocks are open.
    pub(super) fn depth_open(&self) -> usize {
        self.open.len()
    }

    fn depth(&self, scope: ScopeId) -> Option<usize> {
        self.depths.get(scope.index()).copied().flatten()
    }

    fn scope(&self, id: ScopeId) -> &'g Scope {
        &self.graph.scopes[id.index()]
    }

    /// The ancestor of `scope` that is a child of `outer`.
    fn child_towards(&self, outer: ScopeId, scope: ScopeId) -> ScopeId {
        let mut at = scope;
        while at != ScopeId::ROOT && self.scope(at).parent != outer {
            at = self.scope(at).parent;
        }
        at
    }

    fn contains(&self, outer: ScopeId, scope: ScopeId) -> bool {
        let (Some(want), Some(mut depth)) = (self.depth(outer), self.depth(scope)) else { return false };
        let mut at = scope;
        while depth > want {
            at = self.scope(at).parent;
            depth -= 1;
        }
        at == outer
    }

    /// The first node from `i` on that is not inside `scope`, at most `limit`.
    fn run_end(&self, scope: ScopeId, i: usize, limit: usize) -> usize {
        let nodes = &self.graph.nodes[i..limit];
        nodes.iter().position(|n| !self.contains(scope, n.scope)).map_or(limit, |n| i + n)
    }

    fn path(&self, outer: ScopeId, scope: ScopeId) -> String {
        let mut names = Vec::new();
        let mut at = scope;
        while at != outer && at != ScopeId::ROOT {
            names.push(self.scope(at).name.as_str());
            at = self.scope(at).parent;
        }
        let mut out = String::new();
        for (i, name) in names.into_iter().rev().enumerate() {
            out.push_str(if i > 0 { "/" } else { "" });
            push_scope(&mut out, name);
        }
        out
    }
}

/// The names on the way to a scope, outermost first; `None` for a scope that is ill-formed.
pub(in crate::graph) fn scope_names(graph: &Graph, scope: ScopeId) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut at = scope;
    while at != ScopeId::ROOT {
        let Scope { parent, name } = graph.scopes.get(at.index())?;
        if *parent >= at {
            return None;
        }
        names.push(name.as_str());
        at = *parent;
    }
    names.reverse();
    Some(names)
}

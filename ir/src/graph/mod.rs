//! The graph: an arena of nodes in topological order.
//!
//! A [`Graph`] is a pure function of its parameters. Values are parameters or node results; a node owns its ordered operands,
//! which are always older values, so that the arena's order is a topological order and every walk is a loop.
//! Regions are closed graphs held by an operation's attributes: what a body uses comes in through its parameters.
//! A pass does not edit a graph in place: it rebuilds it through a [`Builder`], in one sweep.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::facts::Facts;
use crate::loc::Loc;
use crate::ops::Op;
use crate::ty::Type;

pub mod builder;
pub mod compact;
pub mod dot;
pub mod fingerprint;
pub mod json;
pub mod parse;
pub mod print;
pub mod verify;
pub mod visit;

pub use builder::Builder;

macro_rules! entity {
    ($(#[$doc:meta])* $Name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $Name(pub u32);

        impl $Name {
            /// The position in its arena.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

entity!(
    /// A value: a parameter or one result of a node.
    Value, "v");
entity!(
    /// A node of the arena.
    NodeId, "node");
entity!(
    /// A scope path, interned in its graph; 0 is the root.
    ScopeId, "scope");

/// A pure function over arrays.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its name in text, without the `@`.
    pub name: String,
    /// What is known of the symbols.
    pub facts: Facts,
    pub(crate) params: Vec<Param>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) values: Vec<ValueDef>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) updates: Vec<Update>,
    pub(crate) scopes: Vec<Scope>,
}

/// An operation applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The operation.
    pub op: Op,
    /// What it is applied to, in order.
    pub operands: SmallVec<[Value; 3]>,
    /// The user's line it comes from.
    pub loc: Loc,
    /// The group it is printed in.
    pub scope: ScopeId,
    /// Recomputations: nodes of different tags are never merged. 0 for what is computed once.
    pub tag: u32,
    first: Value,
    results: u32,
}

impl Node {
    /// The values it defines.
    pub fn results(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        (self.first.0..self.first.0 + self.results).map(Value)
    }

    /// Its only or first result.
    pub fn result(&self) -> Value {
        self.first
    }
}

/// Where a value comes from, and its type.
#[derive(Clone, Debug)]
pub struct ValueDef {
    /// Its type.
    pub ty: Type,
    /// Where it comes from.
    pub def: Def,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Def {
    /// The parameter at this position.
    Param(u32),
    /// The node's result at this position.
    Node(NodeId, u32),
}

/// A parameter of a graph.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Param {
    /// Its name; unique in the graph.
    pub name: String,
    /// Who gives its value.
    pub kind: ParamKind,
    /// The user's line that made it.
    pub loc: Loc,
}

/// Who gives a parameter's value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ParamKind {
    /// The caller, on each call.
    Input,
    /// The state: a leaf with identity, which an update may change.
    Variable,
    /// The graph's maker: an array captured when the graph was built, a run-time argument of cached code.
    Data,
}

/// A result of a graph.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// Its name; unique among the outputs.
    pub name: String,
    /// The value returned.
    pub value: Value,
}

/// A variable's new value, which takes effect when the whole call has succeeded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Update {
    /// The variable: position among the parameters.
    pub param: u32,
    /// Its new value, of the same type.
    pub value: Value,
}

/// One component of a scope path.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    /// The enclosing scope.
    pub parent: ScopeId,
    /// Its name; empty for the root.
    pub name: String,
}

impl ScopeId {
    /// The scope outside all groups.
    pub const ROOT: Self = Self(0);
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            facts: Facts::default(),
            params: Vec::new(),
            nodes: Vec::new(),
            values: Vec::new(),
            outputs: Vec::new(),
            updates: Vec::new(),
            scopes: vec![Scope { parent: ScopeId::ROOT, name: String::new() }],
        }
    }

    /// The parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The value of the parameter at `i`.
    pub fn param_value(&self, i: usize) -> Value {
        // Parameters are defined before all nodes, in order.
        Value(i as u32)
    }

    /// The values of all parameters.
    pub fn param_values(&self) -> impl ExactSizeIterator<Item = Value> + use<> {
        (0..self.params.len() as u32).map(Value)
    }

    /// The nodes in topological order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node)> + DoubleEndedIterator {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Number of nodes, those of regions not counted.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Number of values.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        &self.values[v.index()].ty
    }

    /// Where a value comes from.
    pub fn def(&self, v: Value) -> Def {
        self.values[v.index()].def
    }

    /// The node that defines a value, if it is not a parameter.
    pub fn def_node(&self, v: Value) -> Option<&Node> {
        match self.def(v) {
            Def::Node(n, _) => Some(self.node(n)),
            Def::Param(_) => None,
        }
    }

    /// The results, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The variables' new values, in order.
    pub fn updates(&self) -> &[Update] {
        &self.updates
    }

    /// Every value that leaves the graph: outputs, then updates.
    pub fn roots(&self) -> impl Iterator<Item = Value> {
        self.outputs.iter().map(|o| o.value).chain(self.updates.iter().map(|u| u.value))
    }

    /// The types of the parameters.
    pub fn param_types(&self) -> impl ExactSizeIterator<Item = &Type> {
        self.values[..self.params.len()].iter().map(|v| &v.ty)
    }

    /// The types of the outputs.
    pub fn output_types(&self) -> impl ExactSizeIterator<Item = &Type> {
        self.outputs.iter().map(|o| self.ty(o.value))
    }

    /// A scope.
    pub fn scope(&self, id: ScopeId) -> &Scope {
        &self.scopes[id.index()]
    }

    /// The path of a scope, `blocks/attention`; empty for the root.
    pub fn scope_path(&self, id: ScopeId) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ScopeId::ROOT {
            let s = self.scope(at);
            parts.push(s.name.as_str());
            at = s.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    /// How many operands, outputs and updates use each value.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut uses = vec![0; self.values.len()];
        for node in &self.nodes {
            for v in &node.operands {
                uses[v.index()] += 1;
            }
        }
        for v in self.roots() {
            uses[v.index()] += 1;
        }
        uses
    }

    /// The graph with another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// Equality is of structure: names, types, operations, operands, outputs and facts; source locations do not count.
impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        let node =
            |a: &Node, b: &Node| (&a.op, &a.operands, a.tag, a.results) == (&b.op, &b.operands, b.tag, b.results);
        self.name == other.name
            && self.facts == other.facts
            && self.params.len() == other.params.len()
            && self.params.iter().zip(&other.params).all(|(a, b)| (&a.name, a.kind) == (&b.name, b.kind))
            && self.values.len() == other.values.len()
            && self.values.iter().zip(&other.values).all(|(a, b)| a.ty == b.ty)
            && self.nodes.len() == other.nodes.len()
            && self
                .nodes
                .iter()
                .zip(&other.nodes)
                .all(|(a, b)| node(a, b) && self.scope_path(a.scope) == other.scope_path(b.scope))
            && self.outputs == other.outputs
            && self.updates == other.updates
    }
}

impl Eq for Graph {}

impl std::hash::Hash for Graph {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.params.len().hash(state);
        for v in &self.values[..self.params.len()] {
            v.ty.hash(state);
        }
        for n in &self.nodes {
            (&n.op, &n.operands, n.tag).hash(state);
        }
        self.outputs.hash(state);
        self.updates.hash(state);
    }
}

/// A region, shared between the operations that hold it.
pub type Region = Arc<Graph>;

//! A graph as petgraph sees it: operations are nodes, and each use of a result by an operand is an edge.
//!
//! petgraph's algorithms (topological order, dominators, components, DOT) run on a [`NodeView`];
//! the arena itself stays the one owner of operand order.
//!
//! ```
//! use lehr_ir::graph::{Graph, visit::NodeView};
//! let graph = Graph::parse("graph @f(%x: f32[]) -> (f32[]) {\n  %0 = exp %x : f32[]\n  %1 = add %0, %0 : f32[]\n  return %1 \"y\"\n}")?;
//! let view = NodeView::new(&graph);
//! let order = petgraph::algo::toposort(&view, None).expect("graphs have no cycles");
//! assert_eq!(order.len(), 2);
//! # Ok::<(), lehr_ir::graph::parse::ParseError>(())
//! ```

use std::slice;

use petgraph::visit::{
    Data, EdgeCount, EdgeRef, GraphBase, GraphProp, IntoEdgeReferences, IntoEdges, IntoEdgesDirected, IntoNeighbors,
    IntoNeighborsDirected, IntoNodeIdentifiers, IntoNodeReferences, NodeCompactIndexable, NodeCount, NodeIndexable,
    VisitMap, Visitable,
};
use petgraph::{Directed, Direction};

use super::{Def, Graph, NodeId, Value};
use crate::ops::Op;
use crate::ty::Type;

/// The operations of a graph and the uses between them; neighbours are found without a search.
///
/// Uses of parameters, and by outputs and updates, are no edges.
#[derive(Clone, Debug)]
pub struct NodeView<'a> {
    graph: &'a Graph,
    /// The uses in order of their node and operand.
    uses: Vec<Use<'a>>,
    /// The uses by node: those of the node at `i` are `incoming[i]..incoming[i + 1]`.
    incoming: Vec<u32>,
    /// Positions among the uses, grouped by the node used: those of the node at `i` are at `outgoing[i]..outgoing[i + 1]`.
    consumers: Vec<u32>,
    outgoing: Vec<u32>,
}

/// An operand that is the result of another node.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The node that defines the value.
    pub source: NodeId,
    /// The node that uses it.
    pub target: NodeId,
    /// Which operand of the user it is.
    pub operand: u32,
    /// The value.
    pub value: Value,
    /// Its type.
    pub ty: &'a Type,
    id: u32,
}

impl<'a> NodeView<'a> {
    /// A view of a graph, which must be one that the verifier accepts.
    pub fn new(graph: &'a Graph) -> Self {
        let mut uses = Vec::new();
        let mut incoming = Vec::with_capacity(graph.nodes.len() + 1);
        let mut outgoing = vec![0_u32; graph.nodes.len() + 1];
        for (target, node) in graph.nodes() {
            incoming.push(uses.len() as u32);
            for (operand, &value) in (0..).zip(&node.operands) {
                if let Def::Node(source, _) = graph.def(value) {
                    outgoing[source.index() + 1] += 1;
                    uses.push(Use { source, target, operand, value, ty: graph.ty(value), id: uses.len() as u32 });
                }
            }
        }
        incoming.push(uses.len() as u32);
        // Counting sort by the node used.
        for i in 1..outgoing.len() {
            outgoing[i] += outgoing[i - 1];
        }
        let mut next = outgoing.clone();
        let mut consumers = vec![0; uses.len()];
        for u in &uses {
            let at = &mut next[u.source.index()];
            consumers[*at as usize] = u.id;
            *at += 1;
        }
        Self { graph, uses, incoming, consumers, outgoing }
    }

    /// The graph viewed.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The uses of other nodes' results by a node, in operand order.
    pub fn operands(&self, node: NodeId) -> &[Use<'a>] {
        &self.uses[self.incoming[node.index()] as usize..self.incoming[node.index() + 1] as usize]
    }

    /// The uses of a node's results, in order of the users.
    pub fn consumers(&self, node: NodeId) -> impl ExactSizeIterator<Item = &Use<'a>> {
        self.consumer_ids(node).iter().map(|&i| &self.uses[i as usize])
    }

    fn consumer_ids(&self, node: NodeId) -> &[u32] {
        &self.consumers[self.outgoing[node.index()] as usize..self.outgoing[node.index() + 1] as usize]
    }

    fn directed(&self, node: NodeId, direction: Direction) -> Uses<'_, 'a> {
        match direction {
            Direction::Incoming => Uses::Operands(self.operands(node).iter()),
            Direction::Outgoing => Uses::Consumers(self, self.consumer_ids(node).iter()),
        }
    }
}

/// Uses in one direction.
#[derive(Clone, Debug)]
pub enum Uses<'v, 'a> {
    /// Of a node's operands.
    Operands(slice::Iter<'v, Use<'a>>),
    /// Of a node's results.
    Consumers(&'v NodeView<'a>, slice::Iter<'v, u32>),
}

impl<'a> Iterator for Uses<'_, 'a> {
    type Item = Use<'a>;

    fn next(&mut self) -> Option<Use<'a>> {
        match self {
            Self::Operands(uses) => uses.next().copied(),
            Self::Consumers(view, ids) => ids.next().map(|&i| view.uses[i as usize]),
        }
    }
}

/// The nodes at the other ends of uses.
#[derive(Clone, Debug)]
pub struct Neighbors<'v, 'a>(Uses<'v, 'a>, Direction);

impl Iterator for Neighbors<'_, '_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let u = self.0.next()?;
        Some(match self.1 {
            Direction::Incoming => u.source,
            Direction::Outgoing => u.target,
        })
    }
}

/// All nodes, in order.
#[derive(Clone, Debug)]
pub struct NodeIds(std::ops::Range<u32>);

impl Iterator for NodeIds {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        self.0.next().map(NodeId)
    }
}

/// All nodes with their operations, in order.
#[derive(Clone, Debug)]
pub struct NodeRefs<'a>(&'a Graph, NodeIds);

impl<'a> Iterator for NodeRefs<'a> {
    type Item = (NodeId, &'a Op);

    fn next(&mut self) -> Option<(NodeId, &'a Op)> {
        self.1.next().map(|id| (id, &self.0.node(id).op))
    }
}

/// Marks nodes.
#[derive(Clone, Debug, Default)]
pub struct Visited(Vec<bool>);

impl VisitMap<NodeId> for Visited {
    fn visit(&mut self, node: NodeId) -> bool {
        !std::mem::replace(&mut self.0[node.index()], true)
    }

    fn is_visited(&self, node: &NodeId) -> bool {
        self.0[node.index()]
    }

    fn unvisit(&mut self, node: NodeId) -> bool {
        std::mem::replace(&mut self.0[node.index()], false)
    }
}

impl<'a> EdgeRef for Use<'a> {
    type NodeId = NodeId;
    type EdgeId = u32;
    type Weight = &'a Type;

    fn source(&self) -> NodeId {
        self.source
    }

    fn target(&self) -> NodeId {
        self.target
    }

    fn weight(&self) -> &&'a Type {
        &self.ty
    }

    fn id(&self) -> u32 {
        self.id
    }
}

impl GraphBase for NodeView<'_> {
    type EdgeId = u32;
    type NodeId = NodeId;
}

impl<'a> Data for NodeView<'a> {
    type NodeWeight = Op;
    type EdgeWeight = &'a Type;
}

impl GraphProp for NodeView<'_> {
    type EdgeType = Directed;
}

impl NodeIndexable for NodeView<'_> {
    fn node_bound(&self) -> usize {
        self.graph.node_count()
    }

    fn to_index(&self, node: NodeId) -> usize {
        node.index()
    }

    fn from_index(&self, i: usize) -> NodeId {
        NodeId(i as u32)
    }
}

impl NodeCompactIndexable for NodeView<'_> {}

impl NodeCount for NodeView<'_> {
    fn node_count(&self) -> usize {
        self.graph.node_count()
    }
}

impl EdgeCount for NodeView<'_> {
    fn edge_count(&self) -> usize {
        self.uses.len()
    }
}

impl Visitable for NodeView<'_> {
    type Map = Visited;

    fn visit_map(&self) -> Visited {
        Visited(vec![false; self.graph.node_count()])
    }

    fn reset_map(&self, map: &mut Visited) {
        map.0.clear();
        map.0.resize(self.graph.node_count(), false);
    }
}

impl<'v, 'a> IntoNeighbors for &'v NodeView<'a> {
    type Neighbors = Neighbors<'v, 'a>;

    fn neighbors(self, node: NodeId) -> Neighbors<'v, 'a> {
        self.neighbors_directed(node, Direction::Outgoing)
    }
}

impl<'v, 'a> IntoNeighborsDirected for &'v NodeView<'a> {
    type NeighborsDirected = Neighbors<'v, 'a>;

    fn neighbors_directed(self, node: NodeId, direction: Direction) -> Neighbors<'v, 'a> {
        Neighbors(self.directed(node, direction), direction)
    }
}

impl IntoNodeIdentifiers for &NodeView<'_> {
    type NodeIdentifiers = NodeIds;

    fn node_identifiers(self) -> NodeIds {
        NodeIds(0..self.graph.node_count() as u32)
    }
}

impl<'a> IntoNodeReferences for &NodeView<'a> {
    type NodeRef = (NodeId, &'a Op);
    type NodeReferences = NodeRefs<'a>;

    fn node_references(self) -> NodeRefs<'a> {
        NodeRefs(self.graph, self.node_identifiers())
    }
}

impl<'v, 'a> IntoEdgeReferences for &'v NodeView<'a> {
    type EdgeRef = Use<'a>;
    type EdgeReferences = std::iter::Copied<slice::Iter<'v, Use<'a>>>;

    fn edge_references(self) -> Self::EdgeReferences {
        self.uses.iter().copied()
    }
}

impl<'v, 'a> IntoEdges for &'v NodeView<'a> {
    type Edges = Uses<'v, 'a>;

    fn edges(self, node: NodeId) -> Uses<'v, 'a> {
        self.directed(node, Direction::Outgoing)
    }
}

impl<'v, 'a> IntoEdgesDirected for &'v NodeView<'a> {
    type EdgesDirected = Uses<'v, 'a>;

    fn edges_directed(self, node: NodeId, direction: Direction) -> Uses<'v, 'a> {
        self.directed(node, direction)
    }
}

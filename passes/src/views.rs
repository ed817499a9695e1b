//! What a value reads when it is reached through view operations: one place that follows chains of them.
//!
//! Views (broadcast, transpose, reshape, slice, reverse) are never steps of their own unless something forces them:
//! whoever uses one reads what lies behind it, at an index that the operation's own story gives.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::graph::{Graph, Node, Value};
use lehr_ir::kernel::{Guard, ScalarOp, Var};
use lehr_ir::ops::lower::Access;
use lehr_ir::ops::{Lowering, MapEmitter, Op};
use lehr_ir::{Array, DType, Literal, Shape};

/// Chains of more views than this are cut by a copy, so that no walk through them is deep.
pub const LONGEST_CHAIN: u32 = 48;

/// The symbols of index axes, made once; they begin with an underscore, which names of sizes may not.
#[derive(Debug, Clone)]
pub struct Axes {
    symbols: Vec<Symbol>,
    dims: Vec<Dim>,
}

impl Axes {
    /// Symbols for values of up to `rank` dims.
    pub fn new(rank: usize) -> Self {
        let dims: Vec<Dim> = (0..rank).filter_map(|i| Dim::symbol(&format!("_{i}")).ok()).collect();
        Self { symbols: dims.iter().filter_map(|d| d.as_symbol().cloned()).collect(), dims }
    }

    /// Symbols for every value of a graph.
    pub fn of_graph(graph: &Graph) -> Self {
        let rank = |v: Value| graph.ty(v).rank();
        let nodes = graph.nodes().flat_map(|(_, n)| n.results().chain(n.operands.iter().copied())).map(rank);
        Self::new(nodes.chain(graph.param_values().map(rank)).max().unwrap_or(0))
    }

    /// The index of an element of a value of this rank.
    pub fn index(&self, rank: usize) -> &[Dim] {
        &self.dims[..rank]
    }

    /// The symbol of an axis.
    pub fn symbol(&self, axis: usize) -> &Symbol {
        &self.symbols[axis]
    }

    /// The axis that an index expression is, if it is one alone.
    pub fn axis_of(&self, d: &Dim) -> Option<usize> {
        let s = d.as_symbol()?;
        self.symbols.iter().position(|x| x == s)
    }
}

/// Whether an operation is a view.
pub fn is_view(op: &Op) -> bool {
    matches!(op.story().lowering(), Lowering::Map { access: Access::View })
}

/// Whether an operation costs nothing to repeat wherever it is used: a view, a scalar constant or a position.
pub fn is_free(op: &Op) -> bool {
    match op {
        Op::Constant(c) => c.value.len() == 1,
        Op::Iota(_) => true,
        op => is_view(op),
    }
}

/// The index into a view's operand for an index of its result.
pub fn operand_index(graph: &Graph, node: &Node, index: &[Dim]) -> Shape {
    let shape = &graph.ty(node.operands[0]).shape;
    let mut trace = Trace { shape, found: None, guard: Guard::always() };
    node.op.story().emit(&mut trace, index);
    trace.found.unwrap_or_else(|| index.iter().cloned().collect())
}

/// Where a `pad` reads its operand for an index of its result, and under which condition.
pub fn padded_index(graph: &Graph, node: &Node, index: &[Dim]) -> Option<(Shape, Guard)> {
    let Op::Pad(_) = node.op else { return None };
    let shape = &graph.ty(node.operands[0]).shape;
    let mut trace = Trace { shape, found: None, guard: Guard::always() };
    node.op.story().emit(&mut trace, index);
    Some((trace.found?, trace.guard))
}

/// Takes down the index at which a view reads its operand.
struct Trace<'a> {
    shape: &'a Shape,
    found: Option<Shape>,
    guard: Guard,
}

impl MapEmitter for Trace<'_> {
    fn operand(&mut self, _: usize, index: &[Dim]) -> Var {
        self.found = Some(index.iter().cloned().collect());
        Var(0)
    }

    fn operand_if(&mut self, _: usize, index: &[Dim], guard: Guard, other: Var) -> Var {
        self.found = Some(index.iter().cloned().collect());
        self.guard = guard;
        other
    }

    fn apply(&mut self, _: ScalarOp, _: &[Var]) -> Var {
        Var(0)
    }

    fn dtype(&self, _: Var) -> DType {
        DType::F32
    }

    fn literal(&mut self, _: Literal) -> Var {
        Var(0)
    }

    fn index_value(&mut self, _: &Dim) -> Var {
        Var(0)
    }

    fn index_of(&mut self, _: Var, _: &Dim) -> Dim {
        Dim::from(0)
    }

    fn index_raw(&mut self, _: Var) -> Dim {
        Dim::from(0)
    }

    fn operand_shape(&self, _: usize) -> Vec<Dim> {
        self.shape.to_vec()
    }

    fn operand_count(&self) -> usize {
        1
    }

    fn operand_dtype(&self, _: usize) -> DType {
        DType::F32
    }

    fn table(&mut self, _: &Array, _: &[Dim]) -> Var {
        Var(0)
    }

    fn unsupported(&mut self, _: &str) -> Var {
        Var(0)
    }
}

/// A value as a strided view of something that lies in memory, row-major.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Strided {
    /// What lies in memory.
    pub root: Value,
    /// The first element.
    pub offset: Dim,
    /// The stride of each dim of the value.
    pub strides: Shape,
}

/// How a value lies in memory, if it is reached from something in memory through views that only change strides.
///
/// `in_memory` says which free nodes lie in memory after all.
pub fn strided(graph: &Graph, axes: &Axes, in_memory: &[bool], v: Value) -> Option<Strided> {
    let rank = graph.ty(v).rank();
    let mut root = v;
    let mut index: Shape = axes.index(rank).iter().cloned().collect();
    while let Some(node) = graph.def_node(root) {
        let at_rest = match graph.def(root) {
            lehr_ir::graph::Def::Node(id, _) => in_memory.get(id.index()).copied().unwrap_or(false),
            lehr_ir::graph::Def::Param(_) => true,
        };
        if at_rest || !is_free(&node.op) {
            break;
        }
        if !is_view(&node.op) {
            return None;
        }
        index = operand_index(graph, node, &index);
        root = node.operands[0];
    }
    let mut rest = flat_index(&graph.ty(root).shape, &index);
    let mut strides = Shape::new();
    for (a, size) in graph.ty(v).shape.iter().enumerate() {
        let (stride, left) = rest.split_linear(axes.symbol(a))?;
        strides.push(if size.is_one() { Dim::from(0) } else { stride });
        rest = left;
    }
    let foreign = |d: &Dim| (0..rank).any(|a| d.mentions(axes.symbol(a)));
    let clean = !foreign(&rest) && !strides.iter().any(foreign);
    clean.then_some(Strided { root, offset: rest, strides })
}

/// The row-major position of an index.
pub fn flat_index(shape: &[Dim], index: &[Dim]) -> Dim {
    // Horner's scheme keeps the intermediate polynomials small.
    let mut at = Dim::from(0);
    for (d, i) in shape.iter().zip(index) {
        at = if at.is_zero() { i.clone() } else { &(&at * d) + i };
    }
    at
}

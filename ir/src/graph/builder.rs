//! Makes graphs: infers and checks each operation as it is added.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::{Def, Graph, Node, NodeId, Output, Param, ParamKind, Scope, ScopeId, Update, Value, ValueDef};
use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::{OpError, Rule};
use crate::facts::Facts;
use crate::literal::Literal;
use crate::loc::Loc;
use crate::ops::{self, BinaryOp, CompareOp, DotDims, Op, ReduceOp, Types, UnaryOp};
use crate::ty::{Shape, Type};

/// Builds a graph node by node.
///
/// New nodes take the builder's current location, scope and tag.
/// An operation that the shape rule refuses gives an [`OpError`] and leaves the graph as it was.
#[derive(Debug)]
pub struct Builder {
    graph: Graph,
    /// The location that new nodes get.
    pub loc: Loc,
    /// The scope that new nodes get.
    pub scope: ScopeId,
    /// The recomputation tag that new nodes get.
    pub tag: u32,
    scope_ids: HashMap<(ScopeId, String), ScopeId, FxBuildHasher>,
    tags: u32,
}

impl Builder {
    /// A builder of an empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_graph(Graph::new(name))
    }

    /// A builder that goes on with a graph.
    pub fn with_graph(graph: Graph) -> Self {
        let ids = graph.scopes.iter().enumerate().skip(1);
        let scope_ids = ids.map(|(i, s)| ((s.parent, s.name.clone()), ScopeId(i as u32))).collect();
        let tags = graph.nodes.iter().map(|n| n.tag).max().unwrap_or(0);
        Self { graph, loc: Loc::UNKNOWN, scope: ScopeId::ROOT, tag: 0, scope_ids, tags }
    }

    /// An empty graph with the name, facts, parameters and scopes of another: what a pass starts from.
    pub fn like(graph: &Graph) -> Self {
        let n = graph.params.len();
        let mut new = Graph::new(graph.name.clone());
        new.facts = graph.facts.clone();
        new.params = graph.params.clone();
        new.values = graph.values[..n].to_vec();
        new.scopes = graph.scopes.clone();
        new.nodes.reserve(graph.nodes.len());
        new.values.reserve(graph.values.len() - n);
        let mut b = Self::with_graph(new);
        b.tags = graph.nodes.iter().map(|n| n.tag).max().unwrap_or(0);
        b
    }

    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What is known of the symbols.
    pub fn facts(&self) -> &Facts {
        &self.graph.facts
    }

    /// Replaces what is known of the symbols.
    pub fn set_facts(&mut self, facts: Facts) {
        self.graph.facts = facts;
    }

    /// The type of a value.
    pub fn ty(&self, v: Value) -> &Type {
        self.graph.ty(v)
    }

    /// Adds a parameter.
    ///
    /// # Panics
    /// If a node has been added already: parameters come first.
    pub fn param(&mut self, name: impl Into<String>, kind: ParamKind, ty: Type) -> Value {
        assert!(self.graph.nodes.is_empty(), "parameters come before nodes");
        let i = self.graph.params.len() as u32;
        self.graph.params.push(Param { name: name.into(), kind, loc: self.loc.clone() });
        self.graph.values.push(ValueDef { ty, def: Def::Param(i) });
        Value(i)
    }

    /// Adds an output.
    pub fn output(&mut self, name: impl Into<String>, value: Value) {
        self.graph.outputs.push(Output { name: name.into(), value });
    }

    /// Adds a variable's new value.
    pub fn update(&mut self, param: u32, value: Value) {
        self.graph.updates.push(Update { param, value });
    }

    /// A scope inside the given one, made on first use.
    pub fn subscope(&mut self, parent: ScopeId, name: &str) -> ScopeId {
        if let Some(&id) = self.scope_ids.get(&(parent, name.to_owned())) {
            return id;
        }
        let id = ScopeId(self.graph.scopes.len() as u32);
        self.graph.scopes.push(Scope { parent, name: name.to_owned() });
        self.scope_ids.insert((parent, name.to_owned()), id);
        id
    }

    /// The scope of a path such as `blocks/attention`, made on first use.
    pub fn scope_of_path(&mut self, path: &str) -> ScopeId {
        path.split('/').filter(|p| !p.is_empty()).fold(ScopeId::ROOT, |at, part| self.subscope(at, part))
    }

    /// A recomputation tag that no node has yet.
    pub fn fresh_tag(&mut self) -> u32 {
        self.tags += 1;
        self.tags
    }

    /// Adds an operation; its results' types are inferred.
    pub fn add_node(&mut self, op: Op, operands: &[Value]) -> Result<NodeId, OpError> {
        let types = self.infer(&op, operands)?;
        Ok(self.push(op, operands.iter().copied().collect(), types))
    }

    /// Adds an operation with one result.
    pub fn op(&mut self, op: Op, operands: &[Value]) -> Result<Value, OpError> {
        self.add_node(op, operands).map(|n| self.graph.node(n).result())
    }

    /// Adds an operation whose result types are known to be right, as when a pass copies a node.
    pub fn push(&mut self, op: Op, operands: SmallVec<[Value; 3]>, types: Types) -> NodeId {
        let id = NodeId(self.graph.nodes.len() as u32);
        let first = Value(self.graph.values.len() as u32);
        let results = types.len() as u32;
        let defs = types.into_iter().enumerate().map(|(i, ty)| ValueDef { ty, def: Def::Node(id, i as u32) });
        self.graph.values.extend(defs);
        let (loc, scope, tag) = (self.loc.clone(), self.scope, self.tag);
        self.graph.nodes.push(Node { op, operands, loc, scope, tag, first, results });
        id
    }

    /// Copies a node of another graph with the same scopes, its operands mapped; location, scope and tag are its own.
    pub fn copy_node(&mut self, from: &Graph, node: &Node, operands: SmallVec<[Value; 3]>) -> NodeId {
        let types = node.results().map(|v| from.ty(v).clone()).collect();
        let (loc, scope, tag) = (self.loc.clone(), self.scope, self.tag);
        (self.loc, self.scope, self.tag) = (node.loc.clone(), node.scope, node.tag);
        let id = self.push(node.op.clone(), operands, types);
        (self.loc, self.scope, self.tag) = (loc, scope, tag);
        id
    }

    /// The result types of an operation on values, or why it is refused.
    pub fn infer(&self, op: &Op, operands: &[Value]) -> Result<Types, OpError> {
        let types: SmallVec<[&Type; 4]> = operands.iter().map(|&v| self.graph.ty(v)).collect();
        ops::infer(op, &types, &self.graph.facts, &self.loc)
    }

    /// An error at the current location, for what is refused before there is an operation to infer.
    pub fn refuse(&self, op: &str, operands: &[Value], rule: Rule) -> OpError {
        OpError::new(op, operands.iter().map(|&v| self.ty(v).clone()).collect(), rule, self.loc.clone())
    }

    /// A constant array.
    pub fn constant(&mut self, value: Array) -> Value {
        let ty = Type::new(value.dtype(), value.shape().iter().copied());
        let node = self.push(Op::Constant(ops::Constant { value }), SmallVec::new(), SmallVec::from_iter([ty]));
        self.graph.node(node).result()
    }

    /// A scalar constant.
    pub fn scalar(&mut self, value: Literal) -> Value {
        self.constant(Array::from_literal(value))
    }

    /// A constant of any shape: a scalar, broadcast.
    pub fn full(&mut self, value: Literal, shape: &[Dim]) -> Result<Value, OpError> {
        let c = self.scalar(value);
        if shape.is_empty() { Ok(c) } else { self.broadcast(c, shape, &[]) }
    }

    /// `x` in the dtype and shape of `like`.
    pub fn full_like(&mut self, like: Value, x: f64) -> Result<Value, OpError> {
        let ty = self.ty(like).clone();
        self.full(Literal::from_f64(ty.dtype, x), &ty.shape)
    }

    /// Zeros of a type.
    pub fn zeros(&mut self, ty: &Type) -> Result<Value, OpError> {
        self.full(Literal::zero(ty.dtype), &ty.shape)
    }

    /// A unary elementwise operation.
    pub fn unary(&mut self, op: UnaryOp, x: Value) -> Result<Value, OpError> {
        self.op(Op::Unary(op), &[x])
    }

    /// A binary elementwise operation on values of one type.
    pub fn binary(&mut self, op: BinaryOp, x: Value, y: Value) -> Result<Value, OpError> {
        self.op(Op::Binary(op), &[x, y])
    }

    /// `x + y`.
    pub fn add(&mut self, x: Value, y: Value) -> Result<Value, OpError> {
        self.binary(BinaryOp::Add, x, y)
    }

    /// `x - y`.
    pub fn sub(&mut self, x: Value, y: Value) -> Result<Value, OpError> {
        self.binary(BinaryOp::Sub, x, y)
    }

    /// `x * y`.
    pub fn mul(&mut self, x: Value, y: Value) -> Result<Value, OpError> {
        self.binary(BinaryOp::Mul, x, y)
    }

    /// `x / y`.
    pub fn div(&mut self, x: Value, y: Value) -> Result<Value, OpError> {
        self.binary(BinaryOp::Div, x, y)
    }

    /// `-x`.
    pub fn neg(&mut self, x: Value) -> Result<Value, OpError> {
        self.unary(UnaryOp::Neg, x)
    }

    /// `x * c` with a constant.
    pub fn scale(&mut self, x: Value, c: f64) -> Result<Value, OpError> {
        let c = self.full_like(x, c)?;
        self.mul(x, c)
    }

    /// `x + c` with a constant.
    pub fn offset(&mut self, x: Value, c: f64) -> Result<Value, OpError> {
        let c = self.full_like(x, c)?;
        self.add(x, c)
    }

    /// An elementwise comparison.
    pub fn compare(&mut self, op: CompareOp, x: Value, y: Value) -> Result<Value, OpError> {
        self.op(Op::Compare(op), &[x, y])
    }

    /// `x` compared with a constant.
    pub fn compare_to(&mut self, op: CompareOp, x: Value, c: f64) -> Result<Value, OpError> {
        let c = self.full_like(x, c)?;
        self.compare(op, x, c)
    }

    /// `c ? x : y`, elementwise.
    pub fn select(&mut self, c: Value, x: Value, y: Value) -> Result<Value, OpError> {
        self.op(Op::Select(ops::Select), &[c, x, y])
    }

    /// `x` in another dtype; `x` itself if it has it.
    pub fn convert(&mut self, x: Value, dtype: DType) -> Result<Value, OpError> {
        if self.ty(x).dtype == dtype {
            return Ok(x);
        }
        self.op(Op::Convert(ops::Convert { dtype }), &[x])
    }

    /// `x` repeated into `shape`; its dim `i` becomes dim `axes[i]`.
    pub fn broadcast(&mut self, x: Value, shape: &[Dim], axes: &[usize]) -> Result<Value, OpError> {
        let op = ops::Broadcast { shape: shape.iter().cloned().collect(), axes: axes.into() };
        self.op(Op::Broadcast(op), &[x])
    }

    /// `x` with a reduced shape put back into `shape`: the dims at `removed` are new.
    pub fn broadcast_reduced(&mut self, x: Value, shape: &[Dim], removed: &[usize]) -> Result<Value, OpError> {
        let kept: SmallVec<[usize; 4]> = (0..shape.len()).filter(|i| !removed.contains(i)).collect();
        self.broadcast(x, shape, &kept)
    }

    /// The elements of `x` in row-major order under another shape; `x` itself if it has it.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Result<Value, OpError> {
        if self.ty(x).shape.as_slice() == shape {
            return Ok(x);
        }
        self.op(Op::Reshape(ops::Reshape { shape: shape.iter().cloned().collect() }), &[x])
    }

    /// Dim `i` of the result is dim `perm[i]` of `x`; `x` itself for the identity.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Result<Value, OpError> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) && perm.len() == self.ty(x).rank() {
            return Ok(x);
        }
        self.op(Op::Transpose(ops::Transpose { perm: perm.into() }), &[x])
    }

    /// `x` folded over `axes`, which disappear.
    pub fn reduce(&mut self, op: ReduceOp, x: Value, axes: &[usize]) -> Result<Value, OpError> {
        let mut axes: SmallVec<[usize; 4]> = axes.into();
        axes.sort_unstable();
        self.op(Op::Reduce(ops::Reduce { op, axes }), &[x])
    }

    /// The sum over `axes`; `x` itself for none.
    pub fn sum(&mut self, x: Value, axes: &[usize]) -> Result<Value, OpError> {
        if axes.is_empty() { Ok(x) } else { self.reduce(ReduceOp::Sum, x, axes) }
    }

    /// The general dot product.
    pub fn dot(&mut self, x: Value, y: Value, dims: DotDims) -> Result<Value, OpError> {
        self.op(Op::Dot(dims), &[x, y])
    }

    /// The position along `axis`, in a shape.
    pub fn iota(&mut self, dtype: DType, shape: &[Dim], axis: usize) -> Result<Value, OpError> {
        self.op(Op::Iota(ops::Iota { dtype, shape: shape.iter().cloned().collect(), axis }), &[])
    }

    /// Puts the nodes of `body` in place of a call on `args`; gives the values of its outputs.
    pub fn inline(&mut self, body: &Graph, args: &[Value]) -> SmallVec<[Value; 2]> {
        let outer = self.scope;
        let mut scopes: Vec<ScopeId> = vec![outer];
        for s in &body.scopes[1..] {
            let parent = scopes[s.parent.index()];
            scopes.push(self.subscope(parent, &s.name));
        }
        let (loc, tag) = (self.loc.clone(), self.tag);
        let mut map: Vec<Value> = Vec::with_capacity(body.values.len());
        map.extend_from_slice(args);
        for node in &body.nodes {
            let operands = node.operands.iter().map(|v| map[v.index()]).collect();
            let types = node.results().map(|v| body.ty(v).clone()).collect();
            self.loc = if node.loc.is_known() { node.loc.clone() } else { loc.clone() };
            self.scope = scopes[node.scope.index()];
            self.tag = if node.tag == 0 { tag } else { node.tag };
            let id = self.push(node.op.clone(), operands, types);
            map.extend(self.graph.node(id).results());
        }
        (self.loc, self.scope, self.tag) = (loc, outer, tag);
        body.outputs.iter().map(|o| map[o.value.index()]).collect()
    }

    /// A region from this builder's graph.
    pub fn into_region(self) -> Arc<Graph> {
        Arc::new(self.finish())
    }
}

/// The shape of a value with `axes` left out.
pub fn without_axes(shape: &[Dim], axes: &[usize]) -> Shape {
    shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, d)| d.clone()).collect()
}

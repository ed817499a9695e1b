//! Writes kernel bodies: turns values of the graph into variables, at an index, inside open loops.
//!
//! Every expression is put into the outermost open loop whose axes it mentions, so that what does not vary in a loop is computed
//! before it. A value asked for twice at one index is one variable.

use std::collections::HashMap;

use lehr_ir::dim::{Dim, Factor, Symbol};
use lehr_ir::graph::{Def, Graph, Node, NodeId, Value};
use lehr_ir::kernel::recipes::Function;
use lehr_ir::kernel::{
    Access, AxisKind, Buffer, Expr, Guard, Kernel, Loop, Memory, Reduction, ScalarOp, Stmt, Tile, Var,
};
use lehr_ir::ops::{BinaryOp, MapEmitter, Op, ReduceOp};
use lehr_ir::plan::BufferId;
use lehr_ir::{Array, DType, Facts, Literal, Loc, Shape};
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::phases::member_behind;
use crate::views::{flat_index, is_free};

type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// What a body needs to know of the plan being made.
pub(crate) trait Surroundings {
    /// Whether a node is a step, rather than read through by whoever uses it.
    fn is_step(&self, id: NodeId) -> bool;
    /// The buffer in which a value lies, for values that lie in memory.
    fn buffer(&mut self, v: Value) -> BufferId;
    /// A buffer with a constant array.
    fn constant(&mut self, value: &Array) -> BufferId;
    /// The length of a buffer.
    fn buffer_len(&self, b: BufferId) -> Dim;
    /// Records an operation that cannot be lowered here.
    fn refuse(&mut self, op: &str);
}

/// Where a member's value is kept between phases.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// In a variable of an enclosing block.
    Var(Var),
    /// In memory, at an index that the phases agree on.
    Memory(Memory, Dim),
}

/// A kernel body being written.
pub(crate) struct Body<'a, S> {
    graph: &'a Graph,
    pub(crate) around: &'a mut S,
    /// Which nodes are computed in this kernel rather than read from memory.
    inside: &'a dyn Fn(NodeId) -> bool,
    vars: Vec<DType>,
    var_depth: Vec<usize>,
    frames: Vec<Frame>,
    buffers: Vec<(BufferId, Buffer)>,
    tiles: Vec<Tile>,
    facts: Facts,
    kept: Map<Value, Kept>,
    node: Option<NodeId>,
    guards: Vec<Guard>,
    /// All index expressions used, when they are to be looked at.
    pub(crate) uses: Option<Uses>,
}

/// The index expressions of a trial body.
#[derive(Default)]
pub(crate) struct Uses {
    /// Flat indices of loads and stores.
    pub(crate) flat: Vec<Dim>,
    /// Expressions whose axes must stay as they are.
    pub(crate) pinned: Vec<Dim>,
}

struct Frame {
    axes: SmallVec<[Symbol; 4]>,
    stmts: Vec<Stmt>,
    values: Map<(Value, Shape), Var>,
    loads: Map<(Memory, Dim), Var>,
    literals: Map<Literal, Var>,
}

impl Frame {
    fn new(axes: SmallVec<[Symbol; 4]>) -> Self {
        Self { axes, stmts: Vec::new(), values: Map::default(), loads: Map::default(), literals: Map::default() }
    }
}

impl<'a, S: Surroundings> Body<'a, S> {
    /// A body whose outermost block is inside loops over `axes`.
    pub(crate) fn new(graph: &'a Graph, around: &'a mut S, inside: &'a dyn Fn(NodeId) -> bool, facts: Facts) -> Self {
        Self {
            graph,
            around,
            inside,
            vars: Vec::new(),
            var_depth: Vec::new(),
            frames: vec![Frame::new(SmallVec::new())],
            buffers: Vec::new(),
            tiles: Vec::new(),
            facts,
            kept: Map::default(),
            node: None,
            guards: Vec::new(),
            uses: None,
        }
    }

    /// Opens a loop over `axis`.
    pub(crate) fn open(&mut self, axis: &Symbol) {
        self.frames.push(Frame::new(SmallVec::from_iter([axis.clone()])));
    }

    /// Closes the innermost loop; the results of its reductions are variables of the block around it.
    pub(crate) fn close(&mut self, axis: &Symbol, kind: AxisKind, extent: Dim, reductions: Vec<Reduction>) {
        let Some(frame) = self.frames.pop() else { return };
        let depth = self.frames.len() - 1;
        for r in reductions.iter().flat_map(|r| &r.results) {
            self.var_depth[r.0 as usize] = depth;
        }
        self.push(depth, Stmt::Loop(Loop { axis: axis.clone(), kind, extent, body: frame.stmts, reductions }));
    }

    /// Opens a block under a condition inside the loop over `axis`: what mentions that axis stays in it.
    pub(crate) fn open_if(&mut self, axis: &Symbol) {
        self.open(axis);
    }

    /// Closes the innermost block as one that runs where the guard holds.
    pub(crate) fn close_if(&mut self, guard: Guard) {
        let Some(frame) = self.frames.pop() else { return };
        let depth = self.frames.len() - 1;
        self.push(depth, Stmt::If { guard, body: frame.stmts });
    }

    /// A reduction of values of the innermost loop, with fresh variables for its results.
    pub(crate) fn reduction(&mut self, combiner: lehr_ir::kernel::Combiner, values: &[Var]) -> Reduction {
        let values: SmallVec<[Var; 2]> = values.iter().map(|&v| self.local(v)).collect();
        let results = values.iter().map(|v| self.fresh(self.vars[v.0 as usize], 0)).collect();
        Reduction { combiner, values, results }
    }

    /// The same fold one loop further out, of what `inner` gives in each iteration.
    pub(crate) fn chained(&mut self, inner: &Reduction) -> Reduction {
        let results = inner.results.iter().map(|v| self.fresh(self.vars[v.0 as usize], 0)).collect();
        Reduction { combiner: inner.combiner, values: inner.results.clone(), results }
    }

    /// The value as a variable of the innermost loop: a fold takes in what its own iterations define.
    fn local(&mut self, v: Var) -> Var {
        let depth = self.frames.len() - 1;
        if self.var_depth[v.0 as usize] == depth {
            return v;
        }
        let dtype = self.vars[v.0 as usize];
        self.define(depth, dtype, Expr::Apply(ScalarOp::Convert(dtype), SmallVec::from_iter([v])))
    }

    /// Finishes the kernel: what was written becomes the body of the parallel loop.
    pub(crate) fn finish(
        mut self,
        name: String,
        axis: &Symbol,
        extent: Dim,
        locs: Vec<Loc>,
    ) -> (Kernel, Vec<BufferId>) {
        let body = self.frames.pop().map(|f| f.stmts).unwrap_or_default();
        let ids = self.buffers.iter().map(|(id, _)| *id).collect();
        let body = Loop { axis: axis.clone(), kind: AxisKind::Parallel, extent, body, reductions: Vec::new() };
        let mut kernel = Kernel {
            name,
            sizes: Vec::new(),
            buffers: self.buffers.into_iter().map(|(_, b)| b).collect(),
            tiles: self.tiles,
            vars: self.vars,
            body,
            locs,
        };
        kernel.sizes = sizes_of(&kernel);
        (kernel, ids)
    }

    /// The value at an index.
    pub(crate) fn value(&mut self, v: Value, index: &[Dim]) -> Var {
        match self.kept.get(&v) {
            Some(Kept::Var(var)) => return *var,
            Some(Kept::Memory(memory, at)) => {
                let (memory, at) = (*memory, at.clone());
                return self.load_here(memory, at);
            }
            None => {}
        }
        let graph = self.graph;
        let Def::Node(id, _) = graph.def(v) else { return self.load_value(v, index) };
        let node = graph.node(id);
        let at_rest = !is_free(&node.op) || self.around.is_step(id);
        if at_rest && !(self.inside)(id) {
            return self.load_value(v, index);
        }
        let key = (v, Shape::from(index));
        if self.guards.is_empty()
            && let Some(var) = self.frames.iter().rev().find_map(|f| f.values.get(&key))
        {
            return *var;
        }
        let outer = self.node.replace(id);
        let var = node.op.story().emit(self, index);
        self.node = outer;
        if self.guards.is_empty()
            && let Some(frame) = self.frames.last_mut()
        {
            frame.values.insert(key, var);
        }
        var
    }

    /// Whether the node being written has for its operand elements less the greatest of their fold, which this kernel has made: as the
    /// exponential in a softmax has, which then needs no upper bound.
    fn is_shifted_by_its_maximum(&self) -> bool {
        let graph = self.graph;
        let shifted = self.node.and_then(|id| graph.node(id).operands.first()).map(|v| graph.def(*v));
        let Some(Def::Node(shifted, _)) = shifted else { return false };
        let node = graph.node(shifted);
        let (Op::Binary(BinaryOp::Sub), &[elements, by]) = (&node.op, node.operands.as_slice()) else { return false };
        let folded = member_behind(graph, by, &|id| matches!(graph.node(id).op, Op::Reduce(_)));
        folded.is_some_and(|fold| {
            let fold = graph.node(fold);
            let greatest = matches!(&fold.op, Op::Reduce(r) if r.op == ReduceOp::Max);
            greatest
                && fold.operands.first() == Some(&elements)
                && matches!(self.kept.get(&fold.result()), Some(Kept::Var(_)))
        })
    }

    fn load_value(&mut self, v: Value, index: &[Dim]) -> Var {
        let flat = flat_index(&self.graph.ty(v).shape, index);
        let buffer = self.around.buffer(v);
        let memory = self.bind(buffer, self.graph.ty(v).dtype, Access::Read);
        self.load(memory, flat)
    }

    /// The memory of a buffer, bound on first use for what it is used for so far.
    pub(crate) fn bind(&mut self, id: BufferId, dtype: DType, access: Access) -> Memory {
        if let Some(i) = self.buffers.iter().position(|(b, _)| *b == id) {
            let bound = &mut self.buffers[i].1.access;
            if *bound != access {
                *bound = Access::ReadWrite;
            }
            return Memory::Buffer(i as u32);
        }
        let len = self.around.buffer_len(id);
        let name = format!("b{}", self.buffers.len());
        self.buffers.push((id, Buffer { name, dtype, len, access }));
        Memory::Buffer(self.buffers.len() as u32 - 1)
    }

    /// A new tile.
    pub(crate) fn tile(&mut self, dtype: DType, len: u32) -> Memory {
        let name = format!("t{}", self.tiles.len());
        self.tiles.push(Tile { name, dtype, len });
        Memory::Tile(self.tiles.len() as u32 - 1)
    }

    /// Bytes of all tiles so far.
    pub(crate) fn tile_bytes(&self) -> u64 {
        self.tiles.iter().map(|t| u64::from(t.len) * t.dtype.size() as u64).sum()
    }

    /// Keeps a value for later phases.
    pub(crate) fn keep(&mut self, v: Value, kept: Kept) {
        self.kept.insert(v, kept);
    }

    /// Loads an element that no step of this kernel stores.
    fn load(&mut self, memory: Memory, index: Dim) -> Var {
        let index = self.simplified(index);
        if let Some(u) = &mut self.uses {
            u.flat.push(index.clone());
        }
        let guard = self.guard();
        if guard.is_always()
            && let Some(var) = self.frames.iter().rev().find_map(|f| f.loads.get(&(memory, index.clone())))
        {
            return *var;
        }
        let dtype = self.memory_dtype(memory);
        let other = (!guard.is_always()).then(|| self.literal(Literal::zero(dtype)));
        let depth = guard.0.iter().map(|d| self.depth_of(d)).fold(self.depth_of(&index), usize::max);
        let always = guard.is_always();
        let var = self.define(depth, dtype, Expr::Load { memory, index: index.clone(), guard, other });
        if always {
            self.frames[depth].loads.insert((memory, index), var);
        }
        var
    }

    /// Loads, here and now, an element that this kernel may have stored.
    pub(crate) fn load_here(&mut self, memory: Memory, index: Dim) -> Var {
        let dtype = self.memory_dtype(memory);
        let depth = self.frames.len() - 1;
        self.define(depth, dtype, Expr::Load { memory, index, guard: Guard::always(), other: None })
    }

    /// Loads, here and now, an element that this kernel may have stored, or zero where the guard does not hold.
    pub(crate) fn load_if(&mut self, memory: Memory, index: Dim, guard: Guard) -> Var {
        if guard.is_always() {
            return self.load_here(memory, index);
        }
        let dtype = self.memory_dtype(memory);
        let other = Some(self.literal(Literal::zero(dtype)));
        let depth = self.frames.len() - 1;
        self.define(depth, dtype, Expr::Load { memory, index, guard, other })
    }

    /// Writes with a node's operands as the emitter's.
    pub(crate) fn at_node<R>(&mut self, node: &Node, write: impl FnOnce(&mut Self) -> R) -> R {
        let outer = match self.graph.def(node.result()) {
            Def::Node(id, _) => self.node.replace(id),
            Def::Param(_) => self.node,
        };
        let out = write(self);
        self.node = outer;
        out
    }

    /// Stores in the innermost open block.
    pub(crate) fn store(&mut self, memory: Memory, index: Dim, value: Var) {
        self.store_if(memory, index, value, Guard::always());
    }

    /// Stores in the innermost open block where the guard holds.
    pub(crate) fn store_if(&mut self, memory: Memory, index: Dim, value: Var, guard: Guard) {
        let index = self.simplified(index);
        if let Some(u) = &mut self.uses {
            u.flat.push(index.clone());
        }
        let depth = self.frames.len() - 1;
        self.push(depth, Stmt::Store { memory, index, value, guard });
    }

    fn memory_dtype(&self, memory: Memory) -> DType {
        match memory {
            Memory::Buffer(b) => self.buffers[b as usize].1.dtype,
            Memory::Tile(t) => self.tiles[t as usize].dtype,
        }
    }

    fn simplified(&self, d: Dim) -> Dim {
        let has_atom = d.terms().iter().any(|t| t.factors().iter().any(|f| matches!(f, Factor::Atom(_))));
        if has_atom { self.facts.simplify(&d) } else { d }
    }

    fn guard(&self) -> Guard {
        Guard(self.guards.iter().flat_map(|g| g.0.iter().cloned()).collect())
    }

    /// The innermost frame whose axes or variables an index expression mentions.
    fn depth_of(&self, d: &Dim) -> usize {
        if d.as_const().is_some() {
            return 0;
        }
        let mut depth = 0;
        for s in d.symbols() {
            if let Some(v) = s.as_str().strip_prefix('%').and_then(|n| n.parse::<usize>().ok()) {
                depth = depth.max(self.var_depth.get(v).copied().unwrap_or(0));
            } else if let Some(at) = self.frames.iter().rposition(|f| f.axes.contains(&s)) {
                depth = depth.max(at);
            }
        }
        depth
    }

    fn fresh(&mut self, dtype: DType, depth: usize) -> Var {
        self.vars.push(dtype);
        self.var_depth.push(depth);
        Var(self.vars.len() as u32 - 1)
    }

    fn define(&mut self, depth: usize, dtype: DType, expr: Expr) -> Var {
        let var = self.fresh(dtype, depth);
        self.push(depth, Stmt::Let { var, expr });
        var
    }

    fn push(&mut self, depth: usize, stmt: Stmt) {
        self.frames[depth].stmts.push(stmt);
    }

    fn current(&self) -> Option<&'a Node> {
        self.node.map(|id| self.graph.node(id))
    }
}

impl<S: Surroundings> MapEmitter for Body<'_, S> {
    fn operand(&mut self, i: usize, index: &[Dim]) -> Var {
        match self.current().map(|n| n.operands[i]) {
            Some(v) => self.value(v, index),
            None => self.literal(Literal::from(0.0f32)),
        }
    }

    fn operand_if(&mut self, i: usize, index: &[Dim], guard: Guard, other: Var) -> Var {
        if let Some(u) = &mut self.uses {
            u.pinned.extend(guard.0.iter().cloned());
        }
        // The condition is evaluated where the guard's own loads are not yet guarded by it.
        let mut holds = None;
        for d in &guard.0 {
            let at = self.index_value(d);
            let zero = self.literal(Literal::from(0i64));
            let one = self.apply(ScalarOp::Ge, &[at, zero]);
            holds = Some(match holds {
                Some(all) => self.apply(ScalarOp::And, &[all, one]),
                None => one,
            });
        }
        self.guards.push(guard);
        let value = self.operand(i, index);
        self.guards.pop();
        match holds {
            Some(holds) => self.apply(ScalarOp::Select, &[holds, value, other]),
            None => value,
        }
    }

    fn apply(&mut self, op: ScalarOp, args: &[Var]) -> Var {
        let dtypes: SmallVec<[DType; 3]> = args.iter().map(|v| self.vars[v.0 as usize]).collect();
        let depth = args.iter().map(|v| self.var_depth[v.0 as usize]).max().unwrap_or(0);
        // The graph's verifier has checked the dtypes; one that fits nothing is caught by the kernel's.
        let dtype = op.result(&dtypes).unwrap_or(dtypes[0]);
        let bounded = op == ScalarOp::Call(Function::Exp) && dtype == DType::F32 && self.is_shifted_by_its_maximum();
        let op = if bounded { ScalarOp::Call(Function::ExpBounded) } else { op };
        self.define(depth, dtype, Expr::Apply(op, args.into()))
    }

    fn dtype(&self, v: Var) -> DType {
        self.vars[v.0 as usize]
    }

    fn literal(&mut self, value: Literal) -> Var {
        if let Some(v) = self.frames[0].literals.get(&value) {
            return *v;
        }
        let var = self.define(0, value.dtype(), Expr::Const(value));
        self.frames[0].literals.insert(value, var);
        var
    }

    fn index_value(&mut self, index: &Dim) -> Var {
        let index = self.simplified(index.clone());
        if let Some(u) = &mut self.uses {
            u.pinned.push(index.clone());
        }
        if let Some(c) = index.as_const() {
            return self.literal(Literal::from(c));
        }
        let depth = self.depth_of(&index);
        self.define(depth, DType::I64, Expr::Index(index))
    }

    fn index_of(&mut self, var: Var, extent: &Dim) -> Dim {
        let zero = self.literal(Literal::from(0i64));
        let last = self.index_value(&(extent - &Dim::from(1)));
        let low = self.apply(ScalarOp::Min, &[var, last]);
        let clamped = self.apply(ScalarOp::Max, &[low, zero]);
        self.index_raw(clamped)
    }

    fn index_raw(&mut self, var: Var) -> Dim {
        Dim::symbol(&format!("%{}", var.0)).unwrap_or(Dim::from(0))
    }

    fn operand_shape(&self, i: usize) -> Vec<Dim> {
        let graph = self.graph;
        self.current().map(|n| graph.ty(n.operands[i]).shape.to_vec()).unwrap_or_default()
    }

    fn operand_count(&self) -> usize {
        self.current().map_or(0, |n| n.operands.len())
    }

    fn operand_dtype(&self, i: usize) -> DType {
        let operand = self.current().map(|n| n.operands[i]);
        operand.map_or(DType::F32, |v| self.graph.ty(v).dtype)
    }

    fn table(&mut self, value: &Array, index: &[Dim]) -> Var {
        let shape: Shape = value.shape().iter().map(|&d| Dim::from(d)).collect();
        let flat = flat_index(&shape, index);
        let buffer = self.around.constant(value);
        let memory = self.bind(buffer, value.dtype(), Access::Read);
        self.load(memory, flat)
    }

    fn unsupported(&mut self, op: &str) -> Var {
        self.around.refuse(op);
        self.literal(Literal::from(0.0f32))
    }
}

/// The run-time sizes that a kernel mentions, in order.
fn sizes_of(kernel: &Kernel) -> Vec<Symbol> {
    let mut found = std::collections::BTreeSet::new();
    for b in &kernel.buffers {
        found.extend(b.len.symbols());
    }
    let mut axes = Vec::new();
    walk(&kernel.body, &mut |d| found.extend(d.symbols()), &mut axes);
    found.retain(|s| !s.as_str().starts_with('%') && !axes.contains(s));
    found.into_iter().collect()
}

fn walk(l: &Loop, see: &mut dyn FnMut(&Dim), axes: &mut Vec<Symbol>) {
    axes.push(l.axis.clone());
    see(&l.extent);
    walk_block(&l.body, see, axes);
}

fn walk_block(block: &[Stmt], see: &mut dyn FnMut(&Dim), axes: &mut Vec<Symbol>) {
    for stmt in block {
        match stmt {
            Stmt::Let { expr: Expr::Index(d), .. } => see(d),
            Stmt::Let { expr: Expr::Load { index, guard, .. }, .. } | Stmt::Store { index, guard, .. } => {
                see(index);
                guard.0.iter().for_each(&mut *see);
            }
            Stmt::Let { expr: Expr::Const(_) | Expr::Apply(..), .. } => {}
            Stmt::Loop(l) => walk(l, see, axes),
            Stmt::If { guard, body } => {
                guard.0.iter().for_each(&mut *see);
                walk_block(body, see, axes);
            }
        }
    }
}

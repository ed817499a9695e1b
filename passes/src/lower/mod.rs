//! Turns a fused graph into a plan: buffers, kernels, library calls, in order.
//!
//! One group becomes one step (a reduction of many elements to few becomes two). Kernels of equal text are one kernel:
//! a thousand equal layers are compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Def, Graph, Node, NodeId, Value};
use lehr_ir::kernel::{Expr, Kernel, Loop, ScalarOp, Stmt};
use lehr_ir::ops::Lowering;
use lehr_ir::plan::{BufferDecl, BufferId, Launch, Place, Plan, Step, StepKind};
use lehr_ir::{Array, DType, Loc, OpError, Rule, Target, Type};
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::fuse::{Fusion, GroupKind};
use crate::views::{Axes, is_view};
use body::Surroundings;
use domain::LoopAxes;

mod attend;
mod body;
mod contract;
mod control;
mod domain;
mod kernel;
mod memo;
mod phases;
mod scatter;

/// Makes the plan of a fused graph that has no calls left.
///
/// # Errors
/// An operation that is neither a map, a reduction, a contraction nor a host call where one is needed.
pub fn lower(graph: &Graph, fusion: &Fusion, target: &Target) -> Result<Plan, OpError> {
    let mut l = Lowerer::new(graph, fusion, target);
    let mut has_epilogue = vec![false; fusion.groups.len()];
    fusion.epilogue_of.iter().flatten().for_each(|&g| has_epilogue[g as usize] = true);
    for &g in &fusion.order {
        // A contraction with an epilogue is taken together with it.
        if !has_epilogue[g as usize] {
            l.group(g)?;
        }
    }
    l.finish()
}

struct Lowerer<'a> {
    graph: &'a Graph,
    fusion: &'a Fusion,
    target: &'a Target,
    axes: Axes,
    loops: LoopAxes,
    /// Which nodes are steps, rather than read through.
    steps: Vec<bool>,
    plan: Plan,
    buffer_of: Vec<Option<BufferId>>,
    /// Values that must lie in memory because another step or the caller reads them.
    needed: Vec<bool>,
    /// For results of contractions, the groups that read them.
    product_readers: HashMap<Value, SmallVec<[u32; 2]>, FxBuildHasher>,
    kernel_ids: HashMap<Arc<Kernel>, u32, FxBuildHasher>,
    constants: HashMap<Array, BufferId, FxBuildHasher>,
    /// The plans of regions so far, by address: the graph keeps its regions alive.
    regions: HashMap<*const Graph, Arc<Plan>, FxBuildHasher>,
    refused: Option<String>,
    memo: memo::Memo<'a>,
    /// About how much one iteration of each kernel is.
    works: Vec<Dim>,
}

impl<'a> Lowerer<'a> {
    fn new(graph: &'a Graph, fusion: &'a Fusion, target: &'a Target) -> Self {
        let mut l = Self {
            graph,
            fusion,
            target,
            axes: Axes::of_graph(graph),
            loops: LoopAxes::new(),
            steps: fusion.group_of.iter().map(Option::is_some).collect(),
            plan: Plan::of_signature(graph),
            buffer_of: vec![None; graph.value_count()],
            needed: vec![false; graph.value_count()],
            product_readers: HashMap::default(),
            kernel_ids: HashMap::default(),
            constants: HashMap::default(),
            regions: HashMap::default(),
            refused: None,
            memo: memo::Memo::default(),
            works: Vec::new(),
        };
        for (i, v) in graph.param_values().enumerate() {
            l.declare(v, Place::Param(i as u32));
        }
        l.mark_needed();
        // A value that leaves the graph is computed where the caller finds it; one that leaves twice is copied.
        let roots = graph.outputs().iter().map(|o| o.value).zip((0..).map(Place::Output));
        let updates = graph.updates().iter().map(|u| u.value).zip((0..).map(Place::NewVariable));
        for (v, place) in roots.chain(updates) {
            if l.buffer_of[v.index()].is_none() {
                l.declare(v, place);
            }
        }
        l
    }

    fn mark_needed(&mut self) {
        for v in self.graph.roots() {
            self.needed[v.index()] = true;
        }
        for (id, node) in self.graph.nodes() {
            let Some(g) = self.fusion.group_of[id.index()] else { continue };
            let own = self.fusion.groups[g as usize].kind == GroupKind::Kernel;
            for &v in &node.operands {
                if let Some((from, v)) = self.behind(v)
                    && !(own && self.fusion.group_of[from.index()] == Some(g))
                {
                    self.needed[v.index()] = true;
                    let made_by = self.fusion.group_of[from.index()].map(|f| self.fusion.groups[f as usize].kind);
                    let readers = self.product_readers.entry(v);
                    if made_by == Some(GroupKind::Contract)
                        && let readers = readers.or_default()
                        && !readers.contains(&g)
                    {
                        readers.push(g);
                    }
                }
            }
        }
    }

    /// The step behind views, and the value it gives.
    fn behind(&self, mut v: Value) -> Option<(NodeId, Value)> {
        loop {
            let Def::Node(id, _) = self.graph.def(v) else { return None };
            if self.fusion.group_of[id.index()].is_some() {
                return Some((id, v));
            }
            let node = self.graph.node(id);
            if !is_view(&node.op) {
                return None;
            }
            v = node.operands[0];
        }
    }

    fn group(&mut self, g: u32) -> Result<(), OpError> {
        let (graph, fusion) = (self.graph, self.fusion);
        let group = &fusion.groups[g as usize];
        let first = graph.node(group.members[0]);
        match group.kind {
            GroupKind::Kernel => match fusion.epilogue_of[g as usize] {
                Some(product) => self.contract_with_epilogue(product, g, group),
                None => memo::lower_group(self, g, group),
            },
            GroupKind::Contract => {
                let contract = self.contract(first, false);
                self.push_contract(contract, first);
            }
            GroupKind::Attend => self.attend(first),
            GroupKind::Scatter => self.scatter(first),
            GroupKind::Control => self.control(first)?,
            GroupKind::Host => self.host(first),
        }
        match self.refused.take() {
            None => Ok(()),
            Some(op) => {
                let types = first.operands.iter().map(|&v| self.graph.ty(v).clone()).collect();
                let rule = Rule::new("it has no lowering of this kind", "run it with the interp backend");
                Err(OpError::new(op, types, rule, first.loc.clone()))
            }
        }
    }

    /// The evaluator runs the operation on the host.
    fn host(&mut self, node: &Node) {
        let typed = |l: &mut Self, v: Value| (l.buffer(v), l.graph.ty(v).clone());
        let operands: Vec<(BufferId, Type)> = node.operands.iter().map(|&v| typed(self, v)).collect();
        let results: Vec<(BufferId, Type)> = node.results().map(|v| typed(self, v)).collect();
        let kind = StepKind::Host { op: node.op.clone(), operands, results };
        self.step(kind, [node.loc.clone()], format!("{} has no kernel: the evaluator runs it", node.op.name()));
    }

    fn step(&mut self, kind: StepKind, locs: impl IntoIterator<Item = Loc>, reason: String) {
        self.plan.steps.push(Step { kind, locs: distinct(locs), reason });
    }

    /// The number of a kernel in the plan: that of an equal one if there is one.
    fn kernel_id(&mut self, mut kernel: Kernel) -> u32 {
        let locs = std::mem::take(&mut kernel.locs);
        let name = std::mem::replace(&mut kernel.name, "_".to_owned());
        if let Some(&id) = self.kernel_ids.get(&kernel) {
            return id;
        }
        let id = self.plan.kernels.len() as u32;
        // The first iteration stands for all: a chunk that is cut short is the last one.
        let work = work_of(&kernel.body.body);
        self.works.push(work.substitute(&|s| s.as_str().starts_with('_').then_some(Dim::ZERO)));
        self.plan.kernels.push(Arc::new(Kernel { name, locs, ..kernel.clone() }));
        self.kernel_ids.insert(Arc::new(kernel), id);
        id
    }

    /// Adds a launch of a kernel, which is shared with every launch of equal text.
    fn launch(&mut self, kernel: Kernel, buffers: Vec<BufferId>, reason: String) {
        let locs = kernel.locs.clone();
        let iterations = kernel.body.extent.clone();
        let sizes: SmallVec<[Dim; 4]> = kernel.sizes.iter().map(Dim::from).collect();
        let id = self.kernel_id(kernel);
        let work = self.works[id as usize].clone();
        let launch = Launch { kernel: id, buffers: buffers.into(), sizes, iterations, work };
        self.step(StepKind::Launch(launch), locs, reason);
    }

    fn declare(&mut self, v: Value, place: Place) -> BufferId {
        let ty = self.graph.ty(v);
        let id = self.new_buffer(ty.dtype, ty.count(), place);
        self.buffer_of[v.index()] = Some(id);
        id
    }

    fn new_buffer(&mut self, dtype: DType, len: Dim, place: Place) -> BufferId {
        let id = BufferId(self.plan.buffers.len() as u32);
        self.plan.buffers.push(BufferDecl { dtype, len, place });
        id
    }

    fn temp(&mut self, dtype: DType, len: Dim) -> BufferId {
        self.new_buffer(dtype, len, Place::Temp(Dim::from(0)))
    }

    fn is_constant(&self, b: BufferId) -> bool {
        matches!(self.plan.buffers[b.index()].place, Place::Constant(_))
    }

    /// Copies for values that leave the graph a second time, or that are parameters.
    fn finish(mut self) -> Result<Plan, OpError> {
        let outputs = self.graph.outputs().iter().map(|o| o.value).zip((0..).map(Place::Output));
        let updates = self.graph.updates().iter().map(|u| u.value).zip((0..).map(Place::NewVariable));
        for (v, place) in outputs.chain(updates) {
            let from = self.buffer(v);
            if self.plan.buffers[from.index()].place != place {
                let ty = self.graph.ty(v);
                let to = self.new_buffer(ty.dtype, ty.count(), place);
                let loc = self.graph.def_node(v).map(|n| n.loc.clone()).unwrap_or_default();
                self.step(
                    StepKind::Copy { from, to },
                    [loc],
                    "it leaves the graph more than once, or unchanged".to_owned(),
                );
            }
        }
        Ok(self.plan)
    }
}

impl Surroundings for Lowerer<'_> {
    fn is_step(&self, id: NodeId) -> bool {
        self.fusion.group_of[id.index()].is_some()
    }

    fn buffer(&mut self, v: Value) -> BufferId {
        match self.buffer_of[v.index()] {
            Some(b) => b,
            None => self.declare(v, Place::Temp(Dim::from(0))),
        }
    }

    fn constant(&mut self, value: &Array) -> BufferId {
        if let Some(&b) = self.constants.get(value) {
            return b;
        }
        let place = Place::Constant(self.plan.constants.len() as u32);
        self.plan.constants.push(value.clone());
        let b = self.new_buffer(value.dtype(), Dim::from(value.len()), place);
        self.constants.insert(value.clone(), b);
        b
    }

    fn buffer_len(&self, b: BufferId) -> Dim {
        self.plan.buffers[b.index()].len.clone()
    }

    fn refuse(&mut self, op: &str) {
        self.refused.get_or_insert_with(|| op.to_owned());
    }
}

/// Known locations without repeats, in order.
fn distinct(locs: impl IntoIterator<Item = Loc>) -> SmallVec<[Loc; 2]> {
    let mut out: SmallVec<[Loc; 2]> = SmallVec::new();
    for l in locs {
        if l.is_known() && !out.contains(&l) {
            out.push(l);
        }
    }
    out
}

/// The combiner and axes of a node that folds.
fn fold_of(node: &Node) -> Option<lehr_ir::kernel::Combiner> {
    match node.op.story().lowering() {
        Lowering::Reduce { combiner, .. } => Some(combiner),
        _ => None,
    }
}

/// About how many cycles one iteration of a block takes.
fn work_of(block: &[Stmt]) -> Dim {
    let mut work = Dim::from(0);
    let mut plain = 0;
    for stmt in block {
        match stmt {
            Stmt::Let { expr: Expr::Apply(op, _), .. } => plain += scalar_work(*op),
            Stmt::Let { expr: Expr::Load { .. }, .. } | Stmt::Store { .. } => plain += 2,
            Stmt::Let { expr: Expr::Const(_) | Expr::Index(_), .. } => {}
            Stmt::Loop(Loop { extent, body, .. }) => work = &work + &(extent * &work_of(body)),
            Stmt::If { body, .. } => work = &work + &work_of(body),
        }
    }
    &work + &Dim::from(plain)
}

fn scalar_work(op: ScalarOp) -> i64 {
    match op {
        ScalarOp::Call(_) => 16,
        ScalarOp::Div | ScalarOp::Rem | ScalarOp::Sqrt => 4,
        _ => 1,
    }
}

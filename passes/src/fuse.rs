//! Decides which nodes become one kernel: groups with reasons, a side table that `lower` consumes.
//!
//! A group has an iteration shape (its *domain*) and a set of reduced axes. A member is *full*, with one element for each index
//! of the domain, or *outer*, with one for each index of the axes that are not reduced. So elementwise chains, a reduction with
//! what comes before and after it, softmax and layer norm each fit one group.
//! Views, scalar constants and positions belong to no group: they are read through wherever they are used.
//!
//! Groups never form a cycle. Each has a *depth*, greater than that of every group it reads from, which never changes:
//! a node joins the groups of greatest depth among those it reads, all of them together, or starts a new one.
//! So one sweep over the nodes decides everything.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Def, Graph, Node, NodeId, Value};
use lehr_ir::ops::lower::Access;
use lehr_ir::ops::{Lowering, Window};
use lehr_ir::plan::Digits;
use lehr_ir::{Shape, Target};
use smallvec::SmallVec;

use crate::views::{Axes, LONGEST_CHAIN, is_free, is_view, operand_index, strided};

mod epilogue;
mod late;
mod sink;

/// A group has at most this many members, which bounds the size of one kernel's code.
const MOST_MEMBERS: usize = 64;

/// The groups of a graph.
#[derive(Clone, Debug)]
pub struct Fusion {
    /// The groups; those emptied by a merge have no members.
    pub groups: Vec<Group>,
    /// For each node, its group; `None` for what is read through, and for what is unused.
    pub group_of: Vec<Option<u32>>,
    /// The groups that have members, each after those it reads from.
    pub order: Vec<u32>,
    /// For each node in a group, how its dims lie in the group's domain.
    pub embeddings: Vec<Embedding>,
    /// For each group, the group of the contraction that it may run inside of; that group comes right before it in `order`.
    pub epilogue_of: Vec<Option<u32>>,
}

/// Nodes that become one step of the plan.
#[derive(Clone, Debug)]
pub struct Group {
    /// What kind of step.
    pub kind: GroupKind,
    /// The members in topological order.
    pub members: Vec<NodeId>,
    /// The iteration shape.
    pub domain: Shape,
    /// The reduced axes of the domain, ascending; empty for a map.
    pub reduced: SmallVec<[usize; 4]>,
    /// Why it is one group, and why it ended where it did, in words.
    pub reasons: Vec<String>,
    depth: u32,
}

/// The kind of step a group becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupKind {
    /// A generated kernel.
    Kernel,
    /// A matrix product.
    Contract,
    /// Attention or its gradient.
    Attend,
    /// A scatter.
    Scatter,
    /// A loop or a choice over plans of their own.
    Control,
    /// The evaluator, on the host.
    Host,
}

/// How a dim of a member lies in the domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lie {
    /// Along an axis of the domain.
    Axis(usize),
    /// A dim of size 1, or one read at 0 only.
    Zero,
}

/// How all dims of a member lie in the domain.
pub type Embedding = SmallVec<[Lie; 4]>;

/// Groups the nodes of a graph that has no calls left.
pub fn fuse(graph: &Graph, target: &Target) -> Fusion {
    let mut f = Fuser::new(graph, target);
    for (id, node) in graph.nodes() {
        f.node(id, node);
    }
    f.finish()
}

struct Fuser<'a> {
    graph: &'a Graph,
    target: &'a Target,
    axes: Axes,
    groups: Vec<Group>,
    group_of: Vec<Option<u32>>,
    embeddings: Vec<Embedding>,
    forced: Vec<bool>,
    merged_into: Vec<u32>,
}

/// What a node reads, once views are read through.
struct Read {
    /// The member of a group that it comes from.
    node: NodeId,
    /// For each dim of the value read, the reader's axis it is read at; `None` if it is anything else.
    relative: Option<Embedding>,
}

impl<'a> Fuser<'a> {
    fn new(graph: &'a Graph, target: &'a Target) -> Self {
        let axes = Axes::of_graph(graph);
        Self {
            graph,
            target,
            forced: forced(graph, target, &axes),
            axes,
            groups: Vec::new(),
            group_of: vec![None; graph.node_count()],
            embeddings: vec![Embedding::new(); graph.node_count()],
            merged_into: Vec::new(),
        }
    }

    fn node(&mut self, id: NodeId, node: &Node) {
        let computes_nothing = node.results().len() == 0;
        if computes_nothing || (is_free(&node.op) && !self.forced[id.index()]) {
            return;
        }
        let kind = kind_of(node, self.graph, self.target);
        let domain = self.domain_of(node);
        let reads = self.reads(node, domain.len());
        let deepest = reads.iter().map(|r| self.depth_of(r.node)).max();
        if kind == GroupKind::Kernel
            && let Some(deepest) = deepest
        {
            match self.join(id, node, &domain, &reads, deepest) {
                Ok(()) => return,
                Err(reason) => {
                    let ended: SmallVec<[u32; 2]> =
                        reads.iter().filter(|r| self.depth_of(r.node) == deepest).map(|r| self.find(r.node)).collect();
                    for g in ended {
                        let reasons = &mut self.groups[g as usize].reasons;
                        if reasons.len() < 8 {
                            reasons.push(format!("ends before {}: {reason}", node.op.name()));
                        }
                    }
                }
            }
        }
        let reduced = reduced_axes(node);
        self.embeddings[id.index()] = own_embedding(&domain, &reduced, self.rank(node));
        let depth = deepest.map_or(1, |d| d + 1);
        let group = self.groups.len() as u32;
        self.groups.push(Group { kind, members: vec![id], domain, reduced, reasons: Vec::new(), depth });
        self.merged_into.push(group);
        self.group_of[id.index()] = Some(group);
    }

    /// Puts a node into the groups of greatest depth that it reads, or says why not.
    fn join(
        &mut self,
        id: NodeId,
        node: &Node,
        domain: &Shape,
        reads: &[Read],
        deepest: u32,
    ) -> Result<(), &'static str> {
        let reduced = reduced_axes(node);
        let general = matches!(node.op.story().lowering(), Lowering::Map { access: Access::General | Access::View });
        let mut into: SmallVec<[u32; 2]> = SmallVec::new();
        for r in reads.iter().filter(|r| self.depth_of(r.node) == deepest) {
            if general {
                return Err("it reads its operands at other places than its own");
            }
            let g = self.find(r.node);
            if !into.contains(&g) {
                into.push(g);
            }
        }
        let first = into[0];
        for &g in &into[1..] {
            self.compatible(first, g)?;
        }
        let total: usize = into.iter().map(|&g| self.groups[g as usize].members.len()).sum();
        if total >= MOST_MEMBERS {
            return Err("the group is as large as one may be");
        }
        if self.groups[first as usize].kind != GroupKind::Kernel {
            return Err("its operand comes from a library call");
        }
        let all = self.reduced_of(&into);
        let again = |m: &NodeId| self.graph.node(*m).tag == node.tag;
        if node.tag != 0 && !into.iter().all(|&g| self.groups[g as usize].members.iter().all(again)) {
            return Err("it is computed again, later");
        }
        let group_domain = self.groups[first as usize].domain.clone();
        let embedding = if reduced.is_empty() {
            self.map_embedding(domain, reads, deepest, &group_domain)?
        } else {
            if *domain != group_domain {
                return Err("it reduces another shape than the group's");
            }
            if !all.is_empty() && all != reduced {
                return Err("it reduces other axes than the group does");
            }
            own_embedding(domain, &reduced, self.rank(node))
        };
        // What it reads inside the group must be read at the index at which it is computed.
        let reader: Embedding =
            if reduced.is_empty() { embedding.clone() } else { (0..domain.len()).map(Lie::Axis).collect() };
        for r in reads.iter().filter(|r| self.depth_of(r.node) == deepest) {
            let Some(relative) = &r.relative else { return Err("it reads a value at another place than its own") };
            let seen: Embedding = relative.iter().map(|l| compose(*l, &reader)).collect();
            if seen != self.embeddings[r.node.index()] {
                return Err("it reads a value at another place than its own");
            }
            // A full value of a group that reduces cannot be read per outer index, nor the reverse without a phase between:
            // both are seen by the embeddings above.
        }
        for &g in &into[1..] {
            self.merge(first, g);
        }
        let group = &mut self.groups[first as usize];
        group.members.push(id);
        if group.reduced.is_empty() {
            group.reduced = if reduced.is_empty() { all } else { reduced };
        }
        self.group_of[id.index()] = Some(first);
        self.embeddings[id.index()] = embedding;
        Ok(())
    }

    /// How an elementwise node lies in the group's domain.
    fn map_embedding(
        &self,
        domain: &Shape,
        reads: &[Read],
        deepest: u32,
        group_domain: &Shape,
    ) -> Result<Embedding, &'static str> {
        let ones = |d: &Dim| d.is_one();
        // A node of the group's own shape is full.
        if let Some(full) = embed_shape(domain, group_domain) {
            return Ok(full);
        }
        // Otherwise it takes the place of what it reads, dim by dim; its other dims must be of size 1.
        let r = reads.iter().find(|r| self.depth_of(r.node) == deepest && r.relative.is_some());
        let Some(r) = r else { return Err("it reads a value at another place than its own") };
        let theirs = &self.embeddings[r.node.index()];
        let mut embedding: Embedding = SmallVec::from_elem(Lie::Zero, domain.len());
        for (relative, lie) in r.relative.iter().flatten().zip(theirs) {
            if let Lie::Axis(a) = relative {
                embedding[*a] = *lie;
            }
        }
        // An axis is walked to its end, so a dim that lies along one has its size.
        let covered = embedding.iter().zip(domain).all(|(l, d)| match l {
            Lie::Axis(a) => group_domain[*a] == *d,
            Lie::Zero => ones(d),
        });
        if !covered {
            return Err("its shape is another than the group's");
        }
        Ok(embedding)
    }

    fn compatible(&self, a: u32, b: u32) -> Result<(), &'static str> {
        let (a, b) = (&self.groups[a as usize], &self.groups[b as usize]);
        if a.kind != GroupKind::Kernel || b.kind != GroupKind::Kernel {
            return Err("its operand comes from a library call");
        }
        if a.domain != b.domain {
            return Err("its operands come from groups of different shapes");
        }
        if !a.reduced.is_empty() && !b.reduced.is_empty() && a.reduced != b.reduced {
            return Err("its operands come from groups that reduce different axes");
        }
        Ok(())
    }

    fn merge(&mut self, into: u32, from: u32) {
        let other = &mut self.groups[from as usize];
        let (members, reduced, reasons) = (
            std::mem::take(&mut other.members),
            std::mem::take(&mut other.reduced),
            std::mem::take(&mut other.reasons),
        );
        for m in &members {
            self.group_of[m.index()] = Some(into);
        }
        self.merged_into[from as usize] = into;
        let group = &mut self.groups[into as usize];
        group.members.extend(members);
        group.members.sort_unstable();
        group.reasons.extend(reasons);
        if group.reduced.is_empty() {
            group.reduced = reduced;
        }
    }

    fn reduced_of(&self, groups: &[u32]) -> SmallVec<[usize; 4]> {
        let found = groups.iter().map(|&g| &self.groups[g as usize].reduced).find(|r| !r.is_empty());
        found.cloned().unwrap_or_default()
    }

    fn find(&self, node: NodeId) -> u32 {
        self.group_of[node.index()].unwrap_or(u32::MAX)
    }

    fn depth_of(&self, node: NodeId) -> u32 {
        self.group_of[node.index()].map_or(0, |g| self.groups[g as usize].depth)
    }

    fn rank(&self, node: &Node) -> usize {
        self.graph.ty(node.result()).rank()
    }

    /// The shape that a node iterates over: its operand's for a reduction, its own otherwise.
    fn domain_of(&self, node: &Node) -> Shape {
        let value = match node.op.story().lowering() {
            Lowering::Reduce { .. } => node.operands[0],
            _ => node.result(),
        };
        self.graph.ty(value).shape.clone()
    }

    /// What a node reads, behind views, as far as it is computed by a group.
    fn reads(&self, node: &Node, rank: usize) -> SmallVec<[Read; 4]> {
        let mut out: SmallVec<[Read; 4]> = SmallVec::new();
        for &v in &node.operands {
            let index = self.axes.index(self.graph.ty(v).rank());
            let elementwise = self.graph.ty(v).rank() == rank;
            if let Some((id, at)) = self.behind(v, index) {
                let lie = |d: &Dim| match self.axes.axis_of(d) {
                    Some(a) => Some(Lie::Axis(a)),
                    None if d.is_zero() => Some(Lie::Zero),
                    None => None,
                };
                let relative = if elementwise { at.iter().map(lie).collect() } else { None };
                // A dim of size 1 is read at 0 whatever the index is called.
                let relative = relative.map(|e: Embedding| {
                    let shape = &self.graph.ty(self.graph.node(id).result()).shape;
                    e.into_iter().zip(shape).map(|(l, d)| if d.is_one() { Lie::Zero } else { l }).collect()
                });
                out.push(Read { node: id, relative });
            }
        }
        out
    }

    /// The grouped node behind views, and the index at which it is read.
    fn behind(&self, v: Value, index: &[Dim]) -> Option<(NodeId, Shape)> {
        let mut v = v;
        let mut index: Shape = index.iter().cloned().collect();
        loop {
            let Def::Node(id, _) = self.graph.def(v) else { return None };
            if self.group_of[id.index()].is_some() {
                return Some((id, index));
            }
            let node = self.graph.node(id);
            if !is_view(&node.op) {
                return None;
            }
            index = operand_index(self.graph, node, &index);
            v = node.operands[0];
        }
    }

    fn finish(mut self) -> Fusion {
        let reads: Vec<Vec<sink::Read>> = self.graph.nodes().map(|(id, _)| self.group_reads(id)).collect();
        sink::sink(self.graph, &mut self.groups, &mut self.group_of, &self.embeddings, &reads);
        let from = |id: NodeId| reads[id.index()].iter().map(|r| r.from).collect();
        let order = late::order(self.graph, &self.groups, &self.group_of, from);
        let epilogue_of = epilogue::find(self.graph, &self.groups, &self.group_of, &order, &reads);
        let order = epilogue::order(&order, &epilogue_of);
        Fusion { groups: self.groups, group_of: self.group_of, order, embeddings: self.embeddings, epilogue_of }
    }

    /// What a node reads from groups, and how that lies in the node's own group.
    fn group_reads(&self, id: NodeId) -> Vec<sink::Read> {
        let node = self.graph.node(id);
        if self.group_of[id.index()].is_none() {
            return Vec::new();
        }
        let rank = self.domain_of(node).len();
        let reader: Option<Embedding> = match node.op.story().lowering() {
            Lowering::Map { access: Access::Elementwise } => Some(self.embeddings[id.index()].clone()),
            Lowering::Reduce { .. } => Some((0..rank).map(Lie::Axis).collect()),
            _ => None,
        };
        let lies = |relative: Option<Embedding>| {
            let reader = reader.as_ref()?;
            Some(relative?.iter().map(|l| compose(*l, reader)).collect())
        };
        self.reads(node, rank).into_iter().map(|r| sink::Read { from: r.node, lies: lies(r.relative) }).collect()
    }
}

fn compose(relative: Lie, reader: &Embedding) -> Lie {
    match relative {
        Lie::Axis(a) => reader[a],
        Lie::Zero => Lie::Zero,
    }
}

/// How a value of shape `shape` lies in `domain` if it has one element for each of its indices.
fn embed_shape(shape: &Shape, domain: &Shape) -> Option<Embedding> {
    if shape == domain {
        return Some(
            shape.iter().enumerate().map(|(i, d)| if d.is_one() { Lie::Zero } else { Lie::Axis(i) }).collect(),
        );
    }
    None
}

/// How a node that starts a group lies in its own domain.
fn own_embedding(domain: &Shape, reduced: &[usize], rank: usize) -> Embedding {
    let kept = (0..domain.len()).filter(|a| !reduced.contains(a));
    let lies = kept.map(|a| if domain[a].is_one() { Lie::Zero } else { Lie::Axis(a) });
    lies.take(rank).collect()
}

/// The axes that a node folds, if it does.
fn reduced_axes(node: &Node) -> SmallVec<[usize; 4]> {
    match node.op.story().lowering() {
        Lowering::Reduce { axes, .. } => axes.into(),
        _ => SmallVec::new(),
    }
}

fn kind_of(node: &Node, graph: &Graph, target: &Target) -> GroupKind {
    let computes = |v: Value| target.dtypes.contains(&graph.ty(v).dtype);
    let lowering = node.op.story().lowering();
    // What a region cannot compute natively, its own steps do on the host.
    if let Lowering::Scan(_) | Lowering::While(_) | Lowering::Case(_) = lowering {
        return GroupKind::Control;
    }
    if !node.operands.iter().copied().chain(node.results()).all(computes) {
        return GroupKind::Host;
    }
    match lowering {
        Lowering::Map { .. } | Lowering::Reduce { .. } => GroupKind::Kernel,
        Lowering::Contract(_) if target.contractions.contains(&graph.ty(node.result()).dtype) => GroupKind::Contract,
        // Windows of an operand that lies in memory as it is are rows of a matrix; padding and holes are put there before.
        Lowering::Convolve(c)
            if target.contractions.contains(&graph.ty(node.result()).dtype)
                && c.windows.len() < Digits::MOST
                && c.windows.iter().all(Window::is_plain) =>
        {
            GroupKind::Contract
        }
        Lowering::Attend if target.attention.contains(&graph.ty(node.operands[0]).dtype) => GroupKind::Attend,
        Lowering::Scatter(_) => GroupKind::Scatter,
        Lowering::Contract(_) | Lowering::Convolve(_) | Lowering::Attend | Lowering::Inline(_) | Lowering::Host => {
            GroupKind::Host
        }
        Lowering::Scan(_) | Lowering::While(_) | Lowering::Case(_) => GroupKind::Control,
    }
}

/// Which free nodes become steps after all: those whose elements must lie in memory as they are.
fn forced(graph: &Graph, target: &Target, axes: &Axes) -> Vec<bool> {
    let mut forced = vec![false; graph.node_count()];
    let mut mark = |v: Value| {
        if let Def::Node(id, _) = graph.def(v) {
            forced[id.index()] = true;
        }
    };
    graph.roots().for_each(&mut mark);
    for (_, node) in graph.nodes() {
        match kind_of(node, graph, target) {
            // The evaluator takes whole arrays, and so do the parameters of a region.
            GroupKind::Host | GroupKind::Control => node.operands.iter().copied().for_each(&mut mark),
            GroupKind::Contract => {
                for &v in &node.operands {
                    if strided(graph, axes, &[], v).is_none() {
                        mark(v);
                    }
                }
            }
            // Matrices are read through views; what has one number for each row lies as it is.
            GroupKind::Attend => {
                for &v in &node.operands {
                    let row = graph.ty(v).rank() < graph.ty(node.operands[0]).rank();
                    if row || strided(graph, axes, &[], v).is_none() {
                        mark(v);
                    }
                }
            }
            GroupKind::Kernel | GroupKind::Scatter => {}
        }
    }
    let mut length = vec![0u32; graph.node_count()];
    for (id, node) in graph.nodes() {
        if !is_view(&node.op) || forced[id.index()] {
            continue;
        }
        let before = match graph.def(node.operands[0]) {
            Def::Node(p, _) => length[p.index()],
            Def::Param(_) => 0,
        };
        length[id.index()] = before + 1;
        if before + 1 >= LONGEST_CHAIN {
            forced[id.index()] = true;
            length[id.index()] = 0;
        }
    }
    forced
}

//! Computes cheap values again where they are used late, if that lowers the peak of the memory plan.
//!
//! A value that the forward computation makes and only the backward one reads occupies memory in between. Where it is a few cheap
//! elementwise operations away from other values that are alive at the peak, its late users get a copy made for them, with a
//! tag that keeps it from being merged with the first. The result is kept only if its memory plan is smaller.

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Dim;
use lehr_ir::graph::{Def, Graph, Node, NodeId, Value};
use lehr_ir::kernel::ScalarOp;
use lehr_ir::ops::lower::Access;
use lehr_ir::ops::{BinaryOp, Lowering, Op};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::fuse::{Fusion, GroupKind};
use crate::rebuild::{Operands, Rebuild};
use crate::views::{is_free, is_view};

/// Whether values are computed again to save memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rematerialize {
    /// Where temporaries take more than a processor's caches hold: 16 MiB. Below, computing again costs more than it saves.
    #[default]
    Auto,
    /// Wherever it lowers the peak.
    Always,
    /// Nowhere.
    Never,
}

/// Bytes of temporaries from which on [`Rematerialize::Auto`] looks for values to compute again.
const LARGE: i64 = 16 << 20;
/// The most operations that a value may be away from values that are alive.
const MOST_AGAIN: usize = 6;
/// What a size counts for where it is not known.
const USUAL_SIZE: i64 = 64;

impl Rematerialize {
    /// Whether a plan with an arena of this size is worth a second look.
    pub fn applies(self, arena: &Dim) -> bool {
        match self {
            Self::Auto => arena.as_const().is_some_and(|n| n >= LARGE),
            Self::Always => !arena.is_zero(),
            Self::Never => false,
        }
    }
}

/// The graph with values computed again, and how many; `None` if there is none worth it.
///
/// `fusion` is the graph's: it says which values lie in memory, and when.
pub fn rematerialize(graph: &Graph, fusion: &Fusion) -> Option<(Graph, usize)> {
    let lives = Lives::of(graph, fusion);
    let peak = lives.peak()?;
    let mut chosen: FxHashMap<Value, Vec<NodeId>> = FxHashMap::default();
    for (v, life) in lives.values() {
        let late = life.start < peak && life.end > peak && lives.late_users_are_kernels(v, peak);
        if let Some(again) = late.then(|| lives.again(v, peak)).flatten() {
            chosen.insert(v, again);
        }
    }
    // What another value is made from again has to stay.
    let needed: FxHashSet<Value> =
        chosen.values().flatten().flat_map(|&id| graph.node(id).operands.iter()).map(|&v| lives.behind(v)).collect();
    chosen.retain(|v, _| !needed.contains(v));
    if chosen.is_empty() {
        return None;
    }
    let mut copies =
        Copies { new: Rebuild::new(graph), lives: &lives, chosen: &chosen, peak, made: FxHashMap::default() };
    for (id, node) in graph.nodes() {
        let operands = copies.operands(id, node);
        copies.new.at(node);
        let types = node.results().map(|v| graph.ty(v).clone()).collect();
        let made = copies.new.b.push(node.op.clone(), operands, types);
        let results = copies.new.b.graph().node(made).results();
        copies.new.set(node, results);
    }
    Some((copies.new.finish(), chosen.len()))
}

/// The steps from which and to which a value lies in memory.
#[derive(Clone, Copy)]
struct Life {
    start: usize,
    end: usize,
    bytes: i64,
}

struct Lives<'a> {
    graph: &'a Graph,
    fusion: &'a Fusion,
    /// The step of each group.
    step: FxHashMap<u32, usize>,
    /// Of the values that lie in memory as temporaries.
    lives: Vec<Option<Life>>,
    /// The groups that read each value, behind views, other than its own.
    users: FxHashMap<Value, Vec<u32>>,
    /// What leaves the graph.
    roots: FxHashSet<Value>,
}

impl<'a> Lives<'a> {
    fn of(graph: &'a Graph, fusion: &'a Fusion) -> Self {
        let step = fusion.order.iter().enumerate().map(|(i, &g)| (g, i)).collect();
        let mut l = Self {
            graph,
            fusion,
            step,
            lives: vec![None; graph.value_count()],
            users: FxHashMap::default(),
            roots: graph.roots().collect(),
        };
        for (id, node) in graph.nodes() {
            let Some(g) = fusion.group_of[id.index()] else { continue };
            for &v in &node.operands {
                let from = l.behind(v);
                if l.group(from).is_some_and(|own| own != g) {
                    let users = l.users.entry(from).or_default();
                    if users.last() != Some(&g) {
                        users.push(g);
                    }
                }
            }
        }
        for (&v, users) in &l.users {
            let Some(start) = l.group(v).and_then(|g| l.step.get(&g)).copied() else { continue };
            let end = users.iter().filter_map(|g| l.step.get(g)).copied().max().unwrap_or(start);
            // What leaves the graph lies in memory of the caller's.
            let bytes = if l.roots.contains(&v) { 0 } else { bytes(graph, v) };
            let end = if l.roots.contains(&v) { usize::MAX } else { end };
            l.lives[v.index()] = Some(Life { start, end, bytes });
        }
        l
    }

    fn values(&self) -> impl Iterator<Item = (Value, Life)> {
        let all = self.lives.iter().enumerate().filter_map(|(i, l)| l.map(|l| (Value(i as u32), l)));
        all.filter(|(_, l)| l.bytes > 0)
    }

    /// The step at which the most bytes are alive.
    fn peak(&self) -> Option<usize> {
        let mut change = vec![0i64; self.fusion.order.len() + 1];
        for (_, life) in self.values() {
            change[life.start] = change[life.start].saturating_add(life.bytes);
            change[life.end + 1] = change[life.end + 1].saturating_sub(life.bytes);
        }
        let mut now = 0i64;
        let alive = change[..self.fusion.order.len()].iter().map(|c| {
            now = now.saturating_add(*c);
            now
        });
        alive.enumerate().max_by_key(|(i, n)| (*n, std::cmp::Reverse(*i))).map(|(i, _)| i)
    }

    fn group(&self, v: Value) -> Option<u32> {
        match self.graph.def(v) {
            Def::Node(id, _) => self.fusion.group_of[id.index()],
            Def::Param(_) => None,
        }
    }

    /// The value behind views.
    fn behind(&self, mut v: Value) -> Value {
        while let Def::Node(id, _) = self.graph.def(v) {
            let node = self.graph.node(id);
            if self.fusion.group_of[id.index()].is_some() || !is_view(&node.op) {
                break;
            }
            v = node.operands[0];
        }
        v
    }

    fn late_users_are_kernels(&self, v: Value, peak: usize) -> bool {
        let late = self.users.get(&v).into_iter().flatten().filter(|g| self.step.get(g).is_some_and(|&s| s > peak));
        late.into_iter().all(|&g| self.fusion.groups[g as usize].kind == GroupKind::Kernel)
    }

    /// The nodes that make a value again from what is alive at the peak anyway, in order; `None` if there are too many.
    fn again(&self, v: Value, peak: usize) -> Option<Vec<NodeId>> {
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut stack = vec![v];
        while let Some(v) = stack.pop() {
            let Def::Node(id, _) = self.graph.def(v) else { continue };
            if nodes.contains(&id) {
                continue;
            }
            let node = self.graph.node(id);
            if node.tag != 0 || !is_cheap(&node.op) || nodes.len() == MOST_AGAIN {
                return None;
            }
            nodes.push(id);
            stack.extend(node.operands.iter().map(|&o| self.behind(o)).filter(|&o| !self.is_alive(o, peak)));
        }
        nodes.sort_unstable();
        Some(nodes)
    }

    /// Living longer than that does not make the peak higher.
    fn is_alive(&self, v: Value, peak: usize) -> bool {
        match self.graph.def(v) {
            Def::Param(_) => true,
            Def::Node(id, _) => {
                is_free(&self.graph.node(id).op)
                    || self.lives[v.index()].is_some_and(|l| l.start <= peak && l.end >= peak)
            }
        }
    }
}

/// The copies under way.
struct Copies<'a> {
    new: Rebuild<'a>,
    lives: &'a Lives<'a>,
    chosen: &'a FxHashMap<Value, Vec<NodeId>>,
    peak: usize,
    /// What stands for a value in a group, and the tag of what is made for the group.
    made: FxHashMap<(u32, Value), Value>,
}

impl Copies<'_> {
    fn operands(&mut self, id: NodeId, node: &Node) -> Operands {
        let group = self.lives.fusion.group_of[id.index()];
        let late = group.filter(|g| self.lives.step.get(g).is_some_and(|&s| s > self.peak));
        match late {
            Some(g) => node.operands.iter().map(|&v| self.value(g, v)).collect(),
            None => self.new.operands(node),
        }
    }

    /// The value as a late group sees it.
    fn value(&mut self, g: u32, v: Value) -> Value {
        if let Some(&known) = self.made.get(&(g, v)) {
            return known;
        }
        let graph = self.lives.graph;
        let Def::Node(id, _) = graph.def(v) else { return self.new.get(v) };
        let node = graph.node(id);
        let value = if let Some(again) = self.chosen.get(&v).filter(|_| self.lives.group(v) != Some(g)) {
            let tag = self.new.b.fresh_tag();
            let mut local: FxHashMap<Value, Value> = FxHashMap::default();
            for &id in again {
                let node = graph.node(id);
                let operands: Operands = node.operands.iter().map(|&o| self.local(&local, o)).collect();
                self.new.at(node);
                self.new.b.tag = tag;
                let made =
                    self.new.b.push(node.op.clone(), operands, [graph.ty(node.result()).clone()].into_iter().collect());
                local.insert(node.result(), self.new.b.graph().node(made).result());
            }
            local[&v]
        } else if self.lives.fusion.group_of[id.index()].is_none() && is_view(&node.op) {
            let inner = self.value(g, node.operands[0]);
            if inner == self.new.get(node.operands[0]) { self.new.get(v) } else { self.view(node, inner) }
        } else {
            self.new.get(v)
        };
        self.made.insert((g, v), value);
        value
    }

    /// An operand of a copy: another copy, perhaps behind views, or the value itself.
    fn local(&mut self, local: &FxHashMap<Value, Value>, v: Value) -> Value {
        if let Some(&copy) = local.get(&v) {
            return copy;
        }
        let graph = self.lives.graph;
        match graph.def(v) {
            Def::Node(id, _) if self.lives.fusion.group_of[id.index()].is_none() && is_view(&graph.node(id).op) => {
                let node = graph.node(id);
                let inner = self.local(local, node.operands[0]);
                if inner == self.new.get(node.operands[0]) { self.new.get(v) } else { self.view(node, inner) }
            }
            _ => self.new.get(v),
        }
    }

    fn view(&mut self, node: &Node, operand: Value) -> Value {
        self.new.at(node);
        let ty = self.lives.graph.ty(node.result()).clone();
        let made = self.new.b.push(node.op.clone(), [operand].into_iter().collect(), [ty].into_iter().collect());
        self.new.b.graph().node(made).result()
    }
}

/// Whether an operation is a machine operation or two an element.
fn is_cheap(op: &Op) -> bool {
    let elementwise = matches!(op.story().lowering(), Lowering::Map { access: Access::Elementwise });
    let costly = match op {
        Op::Unary(f) => matches!(f.row().scalar, ScalarOp::Call(_) | ScalarOp::Sqrt),
        Op::Binary(f) => matches!(f, BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Div | BinaryOp::Rem),
        _ => false,
    };
    elementwise && !costly
}

fn bytes(graph: &Graph, v: Value) -> i64 {
    let ty = graph.ty(v);
    let mut count = 1i64;
    for d in &ty.shape {
        let size = d.as_const().or_else(|| {
            let mut usual = Bindings::default();
            for s in d.symbols() {
                // A name is bound once.
                let _ = usual.bind(&s, USUAL_SIZE);
            }
            usual.eval(d).ok()
        });
        count = count.saturating_mul(size.unwrap_or(USUAL_SIZE));
    }
    count.saturating_mul(ty.dtype.size() as i64)
}

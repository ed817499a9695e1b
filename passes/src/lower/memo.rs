//! Groups that are alike are lowered once: what a thousand equal layers repeat is found by a signature and only bound to other
//! buffers.
//!
//! The signature of a group is all that lowering looks at, with values named by the order in which they are met: the members'
//! operations, types and places in the domain, what is read through on the way to memory, and which values others need.

use std::collections::HashMap;

use lehr_ir::Type;
use lehr_ir::dim::Dim;
use lehr_ir::graph::{Def, NodeId, Value};
use lehr_ir::ops::Op;
use lehr_ir::plan::{BufferId, Launch, Step, StepKind};
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::Lowerer;
use super::body::Surroundings;
use crate::fuse::{Group, Lie};
use crate::views::is_free;

/// What lowering groups gave, by signature.
#[derive(Default)]
pub(super) struct Memo<'a>(HashMap<Vec<Token<'a>>, Lowered, FxBuildHasher>);

/// A piece of a signature. Each kind of piece is followed by what its count or kind says, so that no two groups read the same.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Token<'a> {
    Domain(&'a [Dim]),
    Reduced(&'a [usize]),
    Reasons(&'a [String]),
    /// A node, after its operands; its results' types follow.
    Node(&'a Op),
    /// Where a member's dims lie.
    Lies(&'a [Lie]),
    Type(&'a Type),
    /// Whether others read a member's result.
    Needed(bool),
    /// A result of the node of this number.
    Result(u32, u32),
    /// A value that lies in memory, by its number; its type follows.
    Memory(u32),
}

/// The launches that a group became, over the numbers of its values.
struct Lowered {
    launches: Vec<(Launch, String)>,
    /// The buffers of each launch.
    buffers: Vec<SmallVec<[Bound; 6]>>,
    /// The values in memory in the order in which their buffers were made.
    made: Vec<u32>,
}

/// What a launch's buffer is.
#[derive(Clone, Copy)]
enum Bound {
    /// The value of this number.
    Value(u32),
    /// A constant, which is the same wherever it is used.
    Constant(BufferId),
}

/// A signature on its way.
struct Walk<'a, 'l> {
    l: &'l Lowerer<'a>,
    g: u32,
    tokens: Vec<Token<'a>>,
    nodes: FxHashMap<NodeId, u32>,
    /// The values in memory, by number.
    values: Vec<Value>,
    numbers: FxHashMap<Value, u32>,
}

/// Lowers a group of this kind, or finds what an equal one became.
pub(super) fn lower_group<'a>(l: &mut Lowerer<'a>, g: u32, group: &'a Group) {
    let mut walk = Walk {
        l,
        g,
        tokens: vec![Token::Domain(&group.domain), Token::Reduced(&group.reduced), Token::Reasons(&group.reasons)],
        nodes: FxHashMap::default(),
        values: Vec::new(),
        numbers: FxHashMap::default(),
    };
    for &m in &group.members {
        walk.member(m);
    }
    let Walk { tokens, values, numbers, .. } = walk;
    if l.memo.0.contains_key(&tokens) {
        return replay(l, &tokens, &values, group);
    }
    let (first_step, first_buffer) = (l.plan.steps.len(), l.plan.buffers.len());
    super::kernel::lower_group(l, g, group);
    if let Some(lowered) = lowered(l, first_step, first_buffer, &values, &numbers) {
        l.memo.0.insert(tokens, lowered);
    }
}

/// Launches what an equal group became, on this group's buffers.
fn replay(l: &mut Lowerer<'_>, tokens: &[Token<'_>], values: &[Value], group: &Group) {
    let memo = std::mem::take(&mut l.memo);
    if let Some(known) = memo.0.get(tokens) {
        for &n in &known.made {
            l.buffer(values[n as usize]);
        }
        for ((launch, reason), buffers) in known.launches.iter().zip(&known.buffers) {
            let mut launch = launch.clone();
            launch.buffers = buffers
                .iter()
                .map(|b| match *b {
                    Bound::Value(n) => l.buffer(values[n as usize]),
                    Bound::Constant(id) => id,
                })
                .collect();
            let locs = super::kernel::locs(l.graph, group);
            l.step(StepKind::Launch(launch), locs, reason.clone());
        }
    }
    l.memo = memo;
}

/// What a group became, if equal groups become the same: not where memory of its own was made on the way.
fn lowered(
    l: &Lowerer<'_>,
    first_step: usize,
    first_buffer: usize,
    values: &[Value],
    numbers: &FxHashMap<Value, u32>,
) -> Option<Lowered> {
    if l.refused.is_some() {
        return None;
    }
    let of: FxHashMap<BufferId, u32> =
        values.iter().filter_map(|v| Some((l.buffer_of[v.index()]?, numbers[v]))).collect();
    let mut found = Lowered { launches: Vec::new(), buffers: Vec::new(), made: Vec::new() };
    for Step { kind, reason, .. } in &l.plan.steps[first_step..] {
        let StepKind::Launch(launch) = kind else { return None };
        let bound = |b: &BufferId| match of.get(b) {
            Some(&n) => Some(Bound::Value(n)),
            None => l.is_constant(*b).then_some(Bound::Constant(*b)),
        };
        found.buffers.push(launch.buffers.iter().map(bound).collect::<Option<_>>()?);
        found.launches.push((Launch { buffers: SmallVec::new(), ..launch.clone() }, reason.clone()));
    }
    for i in first_buffer..l.plan.buffers.len() {
        let id = BufferId(i as u32);
        match of.get(&id) {
            Some(&n) => found.made.push(n),
            None if l.is_constant(id) => {}
            None => return None,
        }
    }
    Some(found)
}

impl<'a> Walk<'a, '_> {
    fn member(&mut self, m: NodeId) {
        self.node(m);
        self.tokens.push(Token::Result(self.nodes[&m], 0));
        self.tokens.push(Token::Lies(&self.l.fusion.embeddings[m.index()]));
        for v in self.l.graph.node(m).results() {
            let needed = self.l.needed[v.index()];
            self.tokens.push(Token::Needed(needed));
            if needed {
                self.memory(v);
            }
        }
    }

    /// A node that is computed in the kernel, and what it reads.
    fn node(&mut self, id: NodeId) {
        if self.nodes.contains_key(&id) {
            return;
        }
        let graph = self.l.graph;
        let node = graph.node(id);
        for &v in &node.operands {
            if let Some(from) = self.computed(v) {
                self.node(from);
            }
        }
        self.tokens.push(Token::Node(&node.op));
        for v in node.results() {
            self.tokens.push(Token::Type(graph.ty(v)));
        }
        for &v in &node.operands {
            match (self.computed(v), graph.def(v)) {
                (Some(from), Def::Node(_, result)) => self.tokens.push(Token::Result(self.nodes[&from], result)),
                _ => self.memory(v),
            }
        }
        let number = self.nodes.len() as u32;
        self.nodes.insert(id, number);
    }

    fn memory(&mut self, v: Value) {
        let next = self.values.len() as u32;
        let number = *self.numbers.entry(v).or_insert(next);
        self.tokens.push(Token::Memory(number));
        if number == next {
            self.values.push(v);
            self.tokens.push(Token::Type(self.l.graph.ty(v)));
        }
    }

    /// The node that the kernel computes a value with; `None` for one that it loads. As the body of a kernel decides it.
    fn computed(&self, v: Value) -> Option<NodeId> {
        let Def::Node(id, _) = self.l.graph.def(v) else { return None };
        let at_rest = !is_free(&self.l.graph.node(id).op) || self.l.is_step(id);
        (!at_rest || self.l.fusion.group_of[id.index()] == Some(self.g)).then_some(id)
    }
}

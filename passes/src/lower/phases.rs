//! The order inside a group that reduces: which loop computes what.
//!
//! A *full* member has an element for each index of the domain and is computed inside a loop over the reduced axes; an *outer*
//! member has one for each index of the other axes and is computed between loops. A member belongs to the first phase in which
//! everything it reads is there.

use std::collections::HashMap;

use lehr_ir::graph::{Graph, NodeId, Value};
use lehr_ir::kernel::ScalarOp;
use lehr_ir::ops::Op;
use rustc_hash::FxBuildHasher;

use super::fold_of;
use crate::fuse::{Embedding, Group, Lie};
use crate::views::is_view;

/// How a member is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    /// In the loops over the reduced axes.
    Full,
    /// Folded by the loops of its phase.
    Fold,
    /// Between loops, before those of its phase.
    Outer,
}

/// A member's place in the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) level: Level,
    /// The phase whose loops compute it; for an outer member, the first phase before which it is there.
    pub(super) phase: u32,
}

/// The places of all members, and how many phases have loops.
pub(super) struct Phases {
    pub(super) slots: HashMap<NodeId, Slot, FxBuildHasher>,
    pub(super) count: u32,
}

/// Orders the members of a group.
pub(super) fn order(graph: &Graph, group: &Group, embeddings: &[Embedding]) -> Phases {
    let mut slots: HashMap<NodeId, Slot, FxBuildHasher> = HashMap::default();
    let mut count = 1;
    for &m in &group.members {
        let node = graph.node(m);
        let ready = |v: Value| {
            let from = member_behind(graph, v, &|id| slots.contains_key(&id))?;
            let s = slots[&from];
            Some(if s.level == Level::Fold { s.phase + 1 } else { s.phase })
        };
        let phase = node.operands.iter().filter_map(|&v| ready(v)).max().unwrap_or(0);
        let level = if fold_of(node).is_some() {
            Level::Fold
        } else if is_full(&embeddings[m.index()], group) {
            Level::Full
        } else {
            Level::Outer
        };
        if level != Level::Outer {
            count = count.max(phase + 1);
        }
        slots.insert(m, Slot { level, phase });
    }
    Phases { slots, count }
}

/// Whether a member has an element for each index of the domain.
fn is_full(embedding: &Embedding, group: &Group) -> bool {
    (0..group.domain.len()).all(|a| group.domain[a].is_one() || embedding.contains(&Lie::Axis(a)))
}

/// The member that a value comes from, behind views.
pub(super) fn member_behind(graph: &Graph, mut v: Value, inside: &dyn Fn(NodeId) -> bool) -> Option<NodeId> {
    loop {
        let lehr_ir::graph::Def::Node(id, _) = graph.def(v) else { return None };
        if inside(id) {
            return Some(id);
        }
        let node = graph.node(id);
        if !is_view(&node.op) {
            return None;
        }
        v = node.operands[0];
    }
}

/// About how many cycles an element of a member costs by itself.
pub(super) fn op_cost(op: &Op) -> u32 {
    match op {
        Op::Unary(u) => match u.row().scalar {
            ScalarOp::Call(_) => 16,
            ScalarOp::Sqrt => 6,
            _ => 1,
        },
        Op::Binary(lehr_ir::ops::BinaryOp::Div | lehr_ir::ops::BinaryOp::Rem) => 5,
        Op::Binary(lehr_ir::ops::BinaryOp::Pow | lehr_ir::ops::BinaryOp::Atan2) => 40,
        Op::RandomBits(_) => 60,
        _ => 1,
    }
}

/// Full members that a later phase needs and that cost more to compute again than to keep, with the phase that has them first.
pub(super) fn to_keep(
    graph: &Graph,
    group: &Group,
    phases: &Phases,
    roots: &dyn Fn(NodeId) -> bool,
) -> Vec<(NodeId, u32)> {
    /// What costs as much as this or more is kept.
    const DEAR: u32 = 8;
    let inside = |id: NodeId| phases.slots.contains_key(&id);
    let operands = |m: NodeId| graph.node(m).operands.iter().filter_map(move |&v| member_behind(graph, v, &inside));
    let mut cost: HashMap<NodeId, u32, FxBuildHasher> = HashMap::default();
    for &m in &group.members {
        if phases.slots[&m].level == Level::Full {
            let before: u32 = operands(m).filter_map(|o| cost.get(&o)).sum();
            cost.insert(m, (op_cost(&graph.node(m).op) + before).min(1000));
        }
    }
    // Walk back from what each phase must give; a dear value met again in a later phase is kept from the earlier one.
    let mut computed: HashMap<NodeId, u32, FxBuildHasher> = HashMap::default();
    let mut kept: Vec<(NodeId, u32)> = Vec::new();
    for phase in 0..phases.count {
        let wanted = group.members.iter().copied().filter(|&m| {
            let s = phases.slots[&m];
            s.phase == phase && (s.level == Level::Fold || (s.level == Level::Full && roots(m)))
        });
        let mut stack: Vec<NodeId> = Vec::new();
        for m in wanted {
            if phases.slots[&m].level == Level::Full {
                stack.push(m);
            } else {
                stack.extend(operands(m));
            }
        }
        while let Some(m) = stack.pop() {
            if phases.slots[&m].level != Level::Full {
                continue;
            }
            match computed.get(&m) {
                Some(&p) if p == phase => continue,
                Some(&first) if cost[&m] >= DEAR => {
                    if !kept.iter().any(|(k, _)| *k == m) {
                        kept.push((m, first));
                    }
                    continue;
                }
                _ => {}
            }
            // A cheap value keeps the phase that had it first.
            computed.entry(m).or_insert(phase);
            stack.extend(operands(m));
        }
    }
    kept.sort_unstable();
    kept
}

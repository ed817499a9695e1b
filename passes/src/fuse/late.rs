//! The order of groups: as early as their operands allow, and as late as their users allow for what is computed again.
//!
//! Recomputed nodes start from values that live anyway, so they could all run at once, long before the backward pass needs them,
//! and the memory that they were to save would be spent.

use lehr_ir::graph::{Graph, NodeId};

use super::Group;

/// The groups that have members, each after those it reads from. `reads` gives the grouped nodes that a node reads from.
pub(super) fn order(
    graph: &Graph,
    groups: &[Group],
    group_of: &[Option<u32>],
    reads: impl Fn(NodeId) -> Vec<NodeId>,
) -> Vec<u32> {
    let mut order: Vec<u32> = (0..groups.len() as u32).filter(|&g| !groups[g as usize].members.is_empty()).collect();
    // Depth orders groups; among equals the first member does, so that the plan follows the graph.
    order.sort_by_key(|&g| (groups[g as usize].depth, groups[g as usize].members[0]));
    let again = |g: u32| groups[g as usize].members.iter().all(|&m| graph.node(m).tag != 0);
    if !order.iter().any(|&g| again(g)) {
        return order;
    }
    // Users come after what they read from, so one sweep backwards finds them all placed.
    let mut level: Vec<u32> = groups.iter().map(|g| g.depth).collect();
    let mut earliest_user: Vec<u32> = vec![u32::MAX; groups.len()];
    for &g in order.iter().rev() {
        let at = g as usize;
        if again(g) && earliest_user[at] != u32::MAX {
            level[at] = earliest_user[at] - 1;
        }
        for from in groups[at].members.iter().flat_map(|&m| reads(m)) {
            if let Some(from) = group_of[from.index()].filter(|&from| from != g) {
                let user = &mut earliest_user[from as usize];
                *user = (*user).min(level[at]);
            }
        }
    }
    order.sort_by_key(|&g| (level[g as usize], groups[g as usize].members[0]));
    order
}

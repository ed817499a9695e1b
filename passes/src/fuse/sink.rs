//! Merges maps into the one later group that reads them.
//!
//! The sweep puts a node with what it reads. So what starts from values that are there early, as the decay of a running mean does,
//! makes a group of its own long before the group that needs it, and its result would go through memory.
//! A map that a single kernel reads, at its own place alone, runs inside that kernel instead: nothing else waits for it.

use lehr_ir::graph::{Graph, NodeId};

use super::{Embedding, Group, GroupKind, Lie, MOST_MEMBERS};

/// One read of a grouped node by a node of another group.
pub(super) struct Read {
    /// The node read.
    pub(super) from: NodeId,
    /// How its dims lie in the reader's domain, where they do.
    pub(super) lies: Option<Embedding>,
}

/// Merges groups, and gives for each group the one that it has become part of, if any.
///
/// `reads` is, for each node, what it reads from groups.
pub(super) fn sink(
    graph: &Graph,
    groups: &mut [Group],
    group_of: &mut [Option<u32>],
    embeddings: &[Embedding],
    reads: &[Vec<Read>],
) {
    let mut reader: Vec<Reader> = vec![Reader::Nobody; groups.len()];
    for (g, group) in groups.iter().enumerate() {
        let g = g as u32;
        for read in group.members.iter().flat_map(|m| &reads[m.index()]) {
            let Some(from) = group_of[read.from.index()].filter(|&f| f != g) else { continue };
            let own_place = group.kind == GroupKind::Kernel
                && read.lies.as_ref().is_some_and(|lies| *lies == embeddings[read.from.index()]);
            let known = &mut reader[from as usize];
            *known = match *known {
                Reader::Nobody if own_place => Reader::One(g),
                Reader::One(other) if own_place && other == g => Reader::One(g),
                _ => Reader::Others,
            };
        }
    }
    // Readers before what they read, so that chains end in one group.
    let mut order: Vec<u32> = (0..groups.len() as u32).filter(|&g| !groups[g as usize].members.is_empty()).collect();
    order.sort_by_key(|&g| std::cmp::Reverse((groups[g as usize].depth, g)));
    let mut became: Vec<u32> = (0..groups.len() as u32).collect();
    for g in order {
        let Reader::One(into) = reader[g as usize] else { continue };
        let into = became[into as usize];
        let (group, target) = (&groups[g as usize], &groups[into as usize]);
        let tag = |group: &Group| group.members.first().map(|&m| graph.node(m).tag);
        let fits = group.kind == GroupKind::Kernel
            && group.reduced.is_empty()
            && group.domain == target.domain
            && group.members.len() + target.members.len() <= MOST_MEMBERS
            && tag(group) == tag(target);
        if !fits {
            continue;
        }
        became[g as usize] = into;
        let members = std::mem::take(&mut groups[g as usize].members);
        for m in &members {
            group_of[m.index()] = Some(into);
        }
        let target = &mut groups[into as usize];
        target.members.extend(members);
        target.members.sort_unstable();
    }
}

/// Which other groups read a group.
#[derive(Clone, Copy)]
enum Reader {
    Nobody,
    /// One kernel, at the place of each element alone.
    One(u32),
    Others,
}

/// Whether a member of a group has an element for each index of the domain.
pub(super) fn is_full(lies: &Embedding, domain: &[lehr_ir::Dim]) -> bool {
    lies.len() == domain.len()
        && lies
            .iter()
            .zip(domain)
            .enumerate()
            .all(|(i, (lie, d))| *lie == if d.is_one() { Lie::Zero } else { Lie::Axis(i) })
}

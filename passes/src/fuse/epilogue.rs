//! Which kernels run inside the matrix product before them, on blocks of its result that are still in a core's cache.
//!
//! A map that reads the product at its own place alone (a bias, an activation, a residual) is an epilogue.
//! The product then runs where the map stood: what else the map reads is there by then, and what else reads the product comes later.

use lehr_ir::graph::Graph;
use rustc_hash::FxHashMap;

use super::sink::{Read, is_full};
use super::{Group, GroupKind};

/// For each group, the group of the contraction that it is the epilogue of.
///
/// `reads` is, for each node, what it reads from groups.
pub(super) fn find(
    graph: &Graph,
    groups: &[Group],
    group_of: &[Option<u32>],
    order: &[u32],
    reads: &[Vec<Read>],
) -> Vec<Option<u32>> {
    let mut epilogue_of = vec![None; groups.len()];
    // The contractions that nobody has read yet, by group, with their place in the order.
    let mut unread: FxHashMap<u32, usize> = FxHashMap::default();
    for (at, &g) in order.iter().enumerate() {
        let group = &groups[g as usize];
        let mut found: Vec<(u32, bool)> = Vec::new();
        for m in &group.members {
            for read in &reads[m.index()] {
                let Some(product) = group_of[read.from.index()] else { continue };
                if groups[product as usize].kind != GroupKind::Contract {
                    continue;
                }
                let shape = &graph.ty(graph.node(read.from).result()).shape;
                let own_place = *shape == group.domain && read.lies.as_ref().is_some_and(|lies| is_full(lies, shape));
                match found.iter_mut().find(|(p, _)| *p == product) {
                    Some((_, all)) => *all &= own_place,
                    None => found.push((product, own_place)),
                }
            }
        }
        let is_map = group.kind == GroupKind::Kernel && group.reduced.is_empty();
        let candidates = found.iter().filter(|(p, own)| is_map && *own && unread.contains_key(p));
        // One product per kernel: the last, so that the others have been computed.
        if let Some((product, _)) = candidates.max_by_key(|(p, _)| unread[p]) {
            epilogue_of[g as usize] = Some(*product);
        }
        for (p, _) in found {
            unread.remove(&p);
        }
        if group.kind == GroupKind::Contract {
            unread.insert(g, at);
        }
    }
    epilogue_of
}

/// The order with each contraction that has an epilogue moved right before it.
pub(super) fn order(order: &[u32], epilogue_of: &[Option<u32>]) -> Vec<u32> {
    let mut out = Vec::with_capacity(order.len());
    let mut later = vec![false; epilogue_of.len()];
    epilogue_of.iter().flatten().for_each(|&g| later[g as usize] = true);
    for &g in order {
        if later[g as usize] {
            continue;
        }
        out.extend(epilogue_of[g as usize]);
        out.push(g);
    }
    out
}

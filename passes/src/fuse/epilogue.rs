//! Which kernels run inside the matrix product before them, on blocks of its result that are still in a core's cache.
//!
//! A map that reads the product at its own place alone (a bias, an activation, a residual) is an epilogue.
//! The product then runs where the map stood: what else the map reads is there by then, and what else reads the product comes later.

use lehr_ir::graph::{Graph, NodeId};
use rustc_hash::FxHashMap;

use super::{Embedding, Group, GroupKind, Lie};

/// One read of a contraction's result.
pub(super) struct ProductRead {
    /// The node that is the contraction.
    pub(super) product: NodeId,
    /// How the result's dims lie in the reading group's domain, where they do.
    pub(super) lies: Option<Embedding>,
}

/// For each group, the group of the contraction that it is the epilogue of.
///
/// `reads` gives what a node reads from contractions.
pub(super) fn find(
    graph: &Graph,
    groups: &[Group],
    group_of: &[Option<u32>],
    order: &[u32],
    reads: impl Fn(NodeId) -> Vec<ProductRead>,
) -> Vec<Option<u32>> {
    let mut epilogue_of = vec![None; groups.len()];
    // The contractions that nobody has read yet, by group, with their place in the order.
    let mut unread: FxHashMap<u32, usize> = FxHashMap::default();
    for (at, &g) in order.iter().enumerate() {
        let group = &groups[g as usize];
        let mut found: Vec<(u32, bool)> = Vec::new();
        for &m in &group.members {
            for read in reads(m) {
                let Some(product) = group_of[read.product.index()] else { continue };
                let shape = &graph.ty(graph.node(read.product).result()).shape;
                let own_place = read.lies.is_some_and(|lies| {
                    *shape == group.domain
                        && lies
                            .iter()
                            .zip(shape)
                            .enumerate()
                            .all(|(i, (lie, d))| if d.is_one() { *lie == Lie::Zero } else { *lie == Lie::Axis(i) })
                });
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

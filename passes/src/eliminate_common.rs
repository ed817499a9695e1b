//! Merges nodes that compute the same: equal operation, operands and tag. The first one's location and scope win.
//!
//! Recomputed nodes carry a tag of their own and so never merge with what they recompute.
//! Regions are interned first, so that a call is compared by the address of its body.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use lehr_ir::graph::{Graph, Node, NodeId, Region};
use lehr_ir::ops::{Call, Op};
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Rebuild, Regions};

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct EliminateCommon;

impl Pass<Graph> for EliminateCommon {
    fn name(&self) -> &'static str {
        "eliminate_common"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        eliminate_common(graph, cx, &mut Regions::default(), &mut Interner::default())
    }
}

fn eliminate_common(
    graph: &Graph,
    cx: &mut PassCx,
    regions: &mut Regions,
    interner: &mut Interner,
) -> Result<Outcome<Graph>, PassError> {
    let mut changed = false;
    let mut new = Rebuild::new(graph);
    let mut seen: FxHashMap<u64, SmallVec<[NodeId; 1]>> = FxHashMap::default();
    for (_, node) in graph.nodes() {
        let mapped = regions.map(&node.op, &mut |body, regions| eliminate_common(body, cx, regions, interner))?;
        changed |= mapped.is_some();
        let op = interner.intern(mapped.unwrap_or_else(|| node.op.clone()));
        let operands = new.operands(node);
        let key = hash(&op, &operands, node.tag);
        let same = seen.get(&key).into_iter().flatten().copied().find(|&id| {
            let other: &Node = new.b.graph().node(id);
            other.tag == node.tag && same_operands(&op, &operands, &other.operands) && same_op(&op, &other.op)
        });
        match same {
            Some(id) if cx.fuel("common") => {
                changed = true;
                let results = new.b.graph().node(id).results();
                new.set(node, results);
            }
            _ => {
                let id = new.copy_as(node, op);
                seen.entry(key).or_default().push(id);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// Makes equal regions one region.
#[derive(Default)]
struct Interner {
    // The regions by structural hash, and what each address was found to be. The first map keeps all of them alive.
    canonical: FxHashMap<u64, Vec<Region>>,
    known: FxHashMap<*const Graph, Region>,
    kept: Vec<Region>,
}

impl Interner {
    fn intern(&mut self, op: Op) -> Op {
        let Op::Call(call) = op else { return op };
        let Ok(call) = call.map_regions::<Infallible>(&mut |r| Ok(self.region(Arc::clone(r))));
        call.into()
    }

    fn region(&mut self, region: Region) -> Region {
        if let Some(known) = self.known.get(&Arc::as_ptr(&region)) {
            return Arc::clone(known);
        }
        let mut h = FxHasher::default();
        region.hash(&mut h);
        let same = self.canonical.entry(h.finish()).or_default();
        let canonical = match same.iter().find(|r| ***r == *region) {
            Some(r) => Arc::clone(r),
            None => {
                same.push(Arc::clone(&region));
                Arc::clone(&region)
            }
        };
        self.known.insert(Arc::as_ptr(&region), Arc::clone(&canonical));
        // An address is only a key while its region lives.
        self.kept.push(region);
        canonical
    }
}

fn hash(op: &Op, operands: &Operands, tag: u32) -> u64 {
    let mut h = FxHasher::default();
    tag.hash(&mut h);
    if let Op::Call(c) = op {
        (&c.name, &c.attrs).hash(&mut h);
        c.regions().for_each(|r| Arc::as_ptr(r).hash(&mut h));
    } else {
        op.hash(&mut h);
    }
    if is_commutative(op) {
        (operands[0].min(operands[1]), operands[0].max(operands[1])).hash(&mut h);
    } else {
        operands.hash(&mut h);
    }
    h.finish()
}

fn same_op(a: &Op, b: &Op) -> bool {
    if let (Op::Call(a), Op::Call(b)) = (a, b) {
        // Regions are interned, so that equal ones are one; which rule a region belongs to is part of the call.
        let rules = |c: &Call| (c.jvp.is_some(), c.vjp.as_ref().map(|v| v.fwd.is_some()));
        let regions = a.regions().map(Arc::as_ptr).eq(b.regions().map(Arc::as_ptr));
        return regions && rules(a) == rules(b) && a.name == b.name && a.attrs == b.attrs;
    }
    a == b
}

fn same_operands(op: &Op, a: &Operands, b: &Operands) -> bool {
    a == b || (is_commutative(op) && b.len() == 2 && a[0] == b[1] && a[1] == b[0])
}

fn is_commutative(op: &Op) -> bool {
    matches!(op, Op::Binary(b) if b.is_commutative())
}

//! Places temporaries in one arena: buffers that are never alive together share bytes.
//!
//! Sizes are polynomials over symbols, so buffers go into *slots* by size as it is known now: a buffer takes a free slot whose
//! size is the same polynomial, or, where sizes are constants, the free slot that fits it best.
//! The arena is the slots one after the other, each rounded up to 64 bytes; its size is a polynomial that is evaluated when
//! symbols are bound.
//!
//! A map that reads a dying temporary at exactly the places it writes takes over its slot: the result is computed in place.

use std::collections::BTreeMap;
use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Expr, Kernel, Loop, Memory, Stmt};
use lehr_ir::plan::{BufferId, Place, Plan, Step, StepKind};
use smallvec::SmallVec;

/// Every slot starts at a multiple of this many bytes, so that vectors and threads do not share a cache line.
const ALIGN: i64 = 64;

/// What the memory plan came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryReport {
    /// Bytes of the arena.
    pub arena: Dim,
    /// Bytes of all temporaries, had each its own place.
    pub unshared: Dim,
    /// Temporaries computed in the place of another.
    pub in_place: usize,
    /// How many values are computed again, and the bytes of the arena had they not been.
    pub rematerialized: Option<(usize, Dim)>,
}

/// Gives each temporary its offset in the arena.
pub fn plan_memory(plan: &mut Plan) -> MemoryReport {
    let last = last_uses(plan);
    let mut slots = Slots::default();
    let mut slot_of: Vec<Option<usize>> = vec![None; plan.buffers.len()];
    let mut report = MemoryReport::default();
    for (i, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = step.accesses(&plan.kernels);
        let dies = |b: BufferId| slot_of[b.index()].is_some() && last[b.index()] == i;
        let dying: SmallVec<[BufferId; 6]> = {
            let mut all: SmallVec<[BufferId; 6]> = reads.iter().copied().filter(|&b| dies(b)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let mut taken: SmallVec<[BufferId; 2]> = SmallVec::new();
        for &b in &writes {
            if slot_of[b.index()].is_some() || !matches!(plan.buffers[b.index()].place, Place::Temp(_)) {
                continue;
            }
            let size = bytes(plan, b);
            report.unshared = &report.unshared + &size;
            let place = dying
                .iter()
                .copied()
                .find(|&r| !taken.contains(&r) && bytes(plan, r) == size && is_in_place(step, &plan.kernels, r, b));
            slot_of[b.index()] = Some(match place {
                Some(r) => {
                    taken.push(r);
                    report.in_place += 1;
                    slot_of[r.index()].unwrap_or_default()
                }
                None => slots.take(size),
            });
        }
        let unused = writes.iter().copied().filter(|b| last[b.index()] == i && slot_of[b.index()].is_some());
        let freed: SmallVec<[BufferId; 6]> =
            dying.iter().copied().chain(unused).filter(|b| !taken.contains(b)).collect();
        for b in freed {
            slots.give_back(slot_of[b.index()].unwrap_or_default());
        }
    }
    let (offsets, arena) = slots.offsets();
    for (b, slot) in plan.buffers.iter_mut().zip(slot_of) {
        if let (Place::Temp(offset), Some(slot)) = (&mut b.place, slot) {
            *offset = offsets[slot].clone();
        }
    }
    plan.arena = arena.clone();
    report.arena = arena;
    report
}

/// Slots of the arena, and which are free.
#[derive(Default)]
struct Slots {
    sizes: Vec<Dim>,
    /// Free slots of constant size, by size.
    free: BTreeMap<i64, Vec<usize>>,
    /// Free slots of symbolic size, by polynomial.
    free_symbolic: BTreeMap<Dim, Vec<usize>>,
}

impl Slots {
    fn take(&mut self, size: Dim) -> usize {
        let found = match size.as_const() {
            // At most twice what is needed, so that a small buffer does not hold a large slot.
            Some(n) => self.free.range_mut(n..=n.saturating_mul(2)).find_map(|(_, v)| v.pop()),
            None => self.free_symbolic.get_mut(&size).and_then(Vec::pop),
        };
        found.unwrap_or_else(|| {
            self.sizes.push(size);
            self.sizes.len() - 1
        })
    }

    fn give_back(&mut self, slot: usize) {
        let size = &self.sizes[slot];
        match size.as_const() {
            Some(n) => self.free.entry(n).or_default().push(slot),
            None => self.free_symbolic.entry(size.clone()).or_default().push(slot),
        }
    }

    /// Where each slot starts, and where the last one ends.
    fn offsets(&self) -> (Vec<Dim>, Dim) {
        let mut at = Dim::from(0);
        let mut offsets = Vec::with_capacity(self.sizes.len());
        for size in &self.sizes {
            offsets.push(at.clone());
            let rounded = &size.ceildiv(Dim::from(ALIGN)) * ALIGN;
            at = &at + &rounded;
        }
        (offsets, at)
    }
}

fn bytes(plan: &Plan, b: BufferId) -> Dim {
    let decl = &plan.buffers[b.index()];
    &decl.len * decl.dtype.size() as i64
}

/// The last step that touches each buffer.
fn last_uses(plan: &Plan) -> Vec<usize> {
    let mut last = vec![0; plan.buffers.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = step.accesses(&plan.kernels);
        for b in reads.iter().chain(&writes) {
            last[b.index()] = i;
        }
    }
    last
}

/// Whether a step may write `to` over `from`: each element is stored after every load of it, by the same iteration.
fn is_in_place(step: &Step, kernels: &[Arc<Kernel>], from: BufferId, to: BufferId) -> bool {
    let StepKind::Launch(l) = &step.kind else { return false };
    let kernel = &kernels[l.kernel as usize];
    let position = |b: BufferId| l.buffers.iter().position(|x| *x == b).map(|i| Memory::Buffer(i as u32));
    let (Some(from), Some(to)) = (position(from), position(to)) else { return false };
    let mut accesses = Accesses { from, to, loads: Vec::new(), stores: Vec::new(), others: false };
    accesses.walk(&kernel.body, 0);
    // One store, whose value every load of its element feeds: a backend may move loads, but not past what needs them.
    let ([store], [first, rest @ ..]) = (accesses.stores.as_slice(), accesses.loads.as_slice()) else { return false };
    !accesses.others && first == store && rest.iter().all(|l| l == store)
}

/// The places at which a kernel loads one buffer and stores another.
struct Accesses {
    from: Memory,
    to: Memory,
    /// The loop that holds the access, counted in order of entry, and the index.
    loads: Vec<(usize, Dim)>,
    stores: Vec<(usize, Dim)>,
    /// Whether it stores anything else.
    others: bool,
}

impl Accesses {
    fn walk(&mut self, l: &Loop, id: usize) -> usize {
        self.block(&l.body, id, id + 1)
    }

    fn block(&mut self, block: &[Stmt], id: usize, mut next: usize) -> usize {
        for stmt in block {
            match stmt {
                Stmt::Let { expr: Expr::Load { memory, index, .. }, .. } if *memory == self.from => {
                    self.loads.push((id, index.clone()));
                }
                Stmt::Let { .. } => {}
                Stmt::Store { memory, index, .. } => {
                    if *memory == self.to {
                        self.stores.push((id, index.clone()));
                    } else {
                        self.others = true;
                    }
                }
                Stmt::Loop(l) => next = self.walk(l, next),
                Stmt::If { body, .. } => next = self.block(body, id, next),
            }
        }
        next
    }
}

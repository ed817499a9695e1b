//! Which results may be computed where an operand lies.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Expr, Kernel, Loop, Memory, Stmt};
use lehr_ir::plan::{BufferId, Step, StepKind};

/// Whether a step may write `to` over `from`: each element is stored after every load of it, by the same iteration.
pub(super) fn is_in_place(step: &Step, kernels: &[Arc<Kernel>], from: BufferId, to: BufferId) -> bool {
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

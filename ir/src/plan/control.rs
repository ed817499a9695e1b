//! Steps that hold plans: loops and branches.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{BufferId, Plan};
use crate::dim::Dim;

/// A plan inside a plan: what a step runs, over buffers of the plan around it.
///
/// Its symbols are those of the plan around it. Its temporaries live in a buffer of the plan around it, so that they take part in
/// that plan's memory plan; it updates no variable.
#[derive(Clone, Debug)]
pub struct Block {
    /// What is run. Blocks made from one region share their plan.
    pub plan: Arc<Plan>,
    /// As many bytes as the plan's arena.
    pub arena: BufferId,
}

/// Runs a block again and again.
///
/// The body takes `consts`, the carries, then a row of each of `rows_in`; it gives the new carries, then a row of each of
/// `rows_out`. Iteration `i` of `n` reads and writes row `i`, or row `n - 1 - i` of a reversed loop.
/// An iteration reads the carries in one of two buffers and writes them in the other.
#[derive(Clone, Debug)]
pub struct LoopStep {
    /// How often.
    pub trip: Trip,
    /// Whether rows go from the last to the first.
    pub reverse: bool,
    /// What every iteration sees.
    pub consts: SmallVec<[BufferId; 6]>,
    /// What goes from one iteration to the next.
    pub carries: SmallVec<[Carry; 4]>,
    /// What is read row by row.
    pub rows_in: SmallVec<[BufferId; 4]>,
    /// What is written row by row.
    pub rows_out: SmallVec<[BufferId; 4]>,
    /// One iteration.
    pub body: Block,
}

/// How often a loop runs.
#[derive(Clone, Debug)]
pub enum Trip {
    /// A number over sizes.
    Count(Dim),
    /// As long as a block, which takes `consts` and the carries, gives `true`. Such a loop has no rows.
    While(Block),
}

/// A value that goes from one iteration to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carry {
    /// Its value before the first iteration; only read.
    pub init: BufferId,
    /// Its value after the last, and every second one before.
    pub result: BufferId,
    /// The other ones.
    pub spare: BufferId,
}

/// Runs one of several blocks, each from the same operands to the same results.
#[derive(Clone, Debug)]
pub struct BranchStep {
    /// An `i32` that names the block, clamped to those there are.
    pub index: BufferId,
    /// The blocks' parameters.
    pub operands: SmallVec<[BufferId; 6]>,
    /// The blocks' outputs.
    pub results: SmallVec<[BufferId; 4]>,
    /// The blocks.
    pub branches: Vec<Block>,
}

impl LoopStep {
    /// The blocks it runs.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        let cond = match &self.trip {
            Trip::Count(_) => None,
            Trip::While(cond) => Some(cond),
        };
        cond.into_iter().chain([&self.body])
    }

    pub(super) fn accesses(&self) -> (SmallVec<[BufferId; 6]>, SmallVec<[BufferId; 2]>) {
        let reads =
            self.consts.iter().copied().chain(self.carries.iter().map(|c| c.init)).chain(self.rows_in.iter().copied());
        let carried = self.carries.iter().flat_map(|c| [c.result, c.spare]);
        let writes = carried.chain(self.rows_out.iter().copied()).chain(self.blocks().map(|b| b.arena));
        (reads.collect(), writes.collect())
    }
}

impl BranchStep {
    pub(super) fn accesses(&self) -> (SmallVec<[BufferId; 6]>, SmallVec<[BufferId; 2]>) {
        let reads = std::iter::once(self.index).chain(self.operands.iter().copied());
        let writes = self.results.iter().copied().chain(self.branches.iter().map(|b| b.arena));
        (reads.collect(), writes.collect())
    }
}

//! Where the invocations of a workgroup must wait for one another.
//!
//! Between two statements outside of lane and reduce loops, a barrier is needed exactly if one stores what the other touches.
//! Inside of a lane loop none is: iterations are independent, and what an iteration stores its own invocation reads.

use std::collections::BTreeSet;

use lehr_ir::kernel::{Expr, Memory, Stmt};

/// What statements touch.
#[derive(Clone, Default, Debug)]
pub(super) struct Touched {
    reads: BTreeSet<Memory>,
    writes: BTreeSet<Memory>,
}

impl Touched {
    /// What a statement touches, inner statements included.
    pub(super) fn by(stmt: &Stmt) -> Self {
        let mut touched = Self::default();
        touched.add_stmt(stmt);
        touched
    }

    /// Whether anything is stored.
    pub(super) fn stores(&self) -> bool {
        !self.writes.is_empty()
    }

    /// Adds what comes after.
    pub(super) fn add(&mut self, later: &Self) {
        self.reads.extend(&later.reads);
        self.writes.extend(&later.writes);
    }

    /// Whether `later` has to wait for this.
    pub(super) fn conflicts(&self, later: &Self) -> bool {
        let meets = |a: &BTreeSet<Memory>, b: &BTreeSet<Memory>| a.intersection(b).next().is_some();
        meets(&self.writes, &later.reads) || meets(&self.writes, &later.writes) || meets(&self.reads, &later.writes)
    }

    /// The calls that wait for all of this: what is stored becomes visible, and what is only read has been read.
    pub(super) fn barriers(&self) -> Vec<&'static str> {
        let stored = |tile| self.writes.iter().any(|m| matches!(m, Memory::Tile(_)) == tile);
        match (stored(false), stored(true)) {
            (true, true) => vec!["storageBarrier();", "workgroupBarrier();"],
            (true, false) => vec!["storageBarrier();"],
            (false, true) => vec!["workgroupBarrier();"],
            (false, false) if self.reads.is_empty() => Vec::new(),
            (false, false) => vec!["workgroupBarrier();"],
        }
    }

    fn add_stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let { expr, .. } => match expr {
                Expr::Load { memory, .. } => {
                    self.reads.insert(*memory);
                }
                Expr::Const(_) | Expr::Index(_) | Expr::Apply(..) => {}
            },
            Stmt::Store { memory, .. } => {
                self.writes.insert(*memory);
            }
            Stmt::Loop(l) => l.body.iter().for_each(|s| self.add_stmt(s)),
            Stmt::If { body, .. } => body.iter().for_each(|s| self.add_stmt(s)),
        }
    }
}

//! Extents and indices that are provably out of range.
//!
//! An access is looked at where it happens in every iteration of the loops around it: under no guard and no `if`.
//! If the extents around it depend on sizes only, each axis takes its first and its last value with every combination of the others.
//! So for an index that is linear in them, with coefficients of known sign, the least and the greatest value are reached,
//! and it is an error if one of them is outside. For any other index it is an error if the facts and the ranges of the axes leave
//! no value inside.

use super::{Fault, VerifyError};
use crate::dim::{Dim, Symbol};
use crate::facts::{Fact, Facts};
use crate::kernel::print::Site;
use crate::kernel::{Expr, Kernel, Loop, Memory, Stmt, Var};

/// The extents that are provably negative and the accesses that are provably out of bounds.
pub(super) fn check(kernel: &Kernel, facts: &Facts) -> Vec<VerifyError> {
    let mut checker = Checker { kernel, axes: Vec::new(), errors: Vec::new(), next: 0 };
    let root = checker.number();
    checker.repeat(root, &kernel.body, Some(facts));
    checker.errors
}

struct Checker<'k> {
    kernel: &'k Kernel,
    /// The axes around, outermost first, with their extents.
    axes: Vec<(&'k Symbol, &'k Dim)>,
    errors: Vec<VerifyError>,
    next: u32,
}

impl<'k> Checker<'k> {
    /// `facts` are what is known of sizes where the loop runs in every iteration of those around it; `None` if it does not.
    fn repeat(&mut self, number: u32, l: &'k Loop, facts: Option<&Facts>) {
        if facts.is_some_and(|f| f.decide_ge(&l.extent, &Dim::ZERO) == Some(false)) {
            self.errors.push(VerifyError { site: Site::Stmt(number), fault: Fault::NegativeExtent(l.extent.clone()) });
        }
        // In the body there is at least one iteration; a contradiction means that the body never runs.
        let mut inside = facts.cloned();
        if self.over_sizes(&l.extent) {
            inside = inside.and_then(|mut f| f.assume(Fact::ge(l.extent.clone(), 1)).is_ok().then_some(f));
        }
        self.axes.push((&l.axis, &l.extent));
        self.block(&l.body, inside.as_ref());
        self.axes.pop();
    }

    fn block(&mut self, stmts: &'k [Stmt], facts: Option<&Facts>) {
        for stmt in stmts {
            let number = self.number();
            match stmt {
                Stmt::Let { expr: Expr::Load { memory, index, guard, .. }, .. }
                | Stmt::Store { memory, index, guard, .. } => {
                    if let Some(facts) = facts.filter(|_| guard.is_always()) {
                        self.access(number, *memory, index, facts);
                    }
                }
                Stmt::Let { expr: Expr::Const(_) | Expr::Index(_) | Expr::Apply(..), .. } => {}
                Stmt::Loop(l) => self.repeat(number, l, facts),
                Stmt::If { body, .. } => self.block(body, None),
            }
        }
    }

    fn access(&mut self, number: u32, memory: Memory, index: &Dim, facts: &Facts) {
        let len = match memory {
            Memory::Buffer(i) => self.kernel.buffers.get(i as usize).map(|b| b.len.clone()),
            Memory::Tile(i) => self.kernel.tiles.get(i as usize).map(|t| Dim::from(t.len)),
        };
        let Some(len) = len else { return };
        // Nothing is known of what a variable holds.
        if index.symbols().any(|s| Var::from_symbol(&s).is_some()) {
            return;
        }
        let outside = |facts: &Facts, at: &Dim| {
            facts.decide_ge(at, &Dim::ZERO) == Some(false) || facts.decide_ge(at, &len) == Some(true)
        };
        let reaches = match self.corners(index, facts) {
            Some(corners) => corners.into_iter().find(|at| outside(facts, at)),
            None => self.inside(facts).filter(|facts| outside(facts, index)).map(|_| index.clone()),
        };
        if let Some(reaches) = reaches {
            self.errors.push(VerifyError { site: Site::Stmt(number), fault: Fault::OutOfBounds { reaches, len } });
        }
    }

    /// What is known of sizes and axes where a statement runs; `None` if it never does.
    fn inside(&self, facts: &Facts) -> Option<Facts> {
        let mut facts = facts.clone();
        for (axis, extent) in &self.axes {
            facts.range(axis, 0, *extent).ok()?;
        }
        Some(facts)
    }

    /// The least and the greatest value of an index, over sizes, where both are known to be reached.
    fn corners(&self, index: &Dim, facts: &Facts) -> Option<[Dim; 2]> {
        if !self.axes.iter().all(|(_, extent)| self.over_sizes(extent)) {
            return None;
        }
        let (mut least, mut greatest) = (index.clone(), index.clone());
        for (axis, extent) in self.axes.iter().rev() {
            let (slope, _) = index.split_linear(axis)?;
            if !self.over_sizes(&slope) {
                return None;
            }
            let rises = facts.decide_ge(&slope, &Dim::ZERO)?;
            let (first, last) = (Dim::ZERO, *extent - 1);
            let (low, high) = if rises { (first, last) } else { (last, first) };
            least = least.substitute(&|s| (s == *axis).then(|| low.clone()));
            greatest = greatest.substitute(&|s| (s == *axis).then(|| high.clone()));
        }
        Some([least, greatest])
    }

    fn over_sizes(&self, dim: &Dim) -> bool {
        dim.symbols().all(|s| self.kernel.sizes.contains(&s))
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

//! Stores of several iterations to one place, as far as index expressions show them.
//!
//! For each store without a condition and each independent axis around it (tiles belong to one iteration of the parallel axis):
//! an index that neither mentions the axis nor a variable defined under it is the same in all iterations, which is a race.
//! For an index with constant strides `c` on the axis and `d` on an inner axis, iterations `d/g` apart on the one and `c/g` on
//! the other, with `g = gcd(c, d)`, meet; that is a race if both loops are long enough.

use super::{Fault, VerifyError};
use crate::dim::Dim;
use crate::facts::Facts;
use crate::kernel::print::Site;
use crate::kernel::{AxisKind, Kernel, Loop, Memory, Stmt, Var};

/// The stores that provably race.
pub(super) fn check(kernel: &Kernel, facts: &Facts) -> Vec<VerifyError> {
    let mut checker =
        Checker { facts, axes: Vec::new(), defined_at: vec![0; kernel.vars.len()], errors: Vec::new(), next: 1 };
    checker.repeat(&kernel.body, false);
    checker.errors
}

struct Checker<'k> {
    facts: &'k Facts,
    /// The loops around, outermost first.
    axes: Vec<&'k Loop>,
    /// For each variable, how many loops are around its definition.
    defined_at: Vec<usize>,
    errors: Vec<VerifyError>,
    next: u32,
}

impl<'k> Checker<'k> {
    fn repeat(&mut self, l: &'k Loop, conditional: bool) {
        // A loop that provably never runs stores nothing.
        let never = self.facts.decide_ge(&Dim::ZERO, &l.extent) == Some(true);
        self.axes.push(l);
        self.block(&l.body, conditional || never);
        self.axes.pop();
        for result in l.reductions.iter().flat_map(|r| &r.results) {
            self.define(*result);
        }
    }

    fn block(&mut self, stmts: &'k [Stmt], conditional: bool) {
        for stmt in stmts {
            let number = self.next;
            self.next += 1;
            match stmt {
                Stmt::Let { var, .. } => self.define(*var),
                Stmt::Store { memory, index, guard, .. } => {
                    if guard.is_always() && !conditional {
                        self.store(number, *memory, index);
                    }
                }
                Stmt::Loop(l) => self.repeat(l, conditional),
                Stmt::If { body, .. } => self.block(body, true),
            }
        }
    }

    fn store(&mut self, number: u32, memory: Memory, index: &Dim) {
        for (depth, l) in self.axes.iter().enumerate() {
            let independent = match l.kind {
                AxisKind::Parallel => matches!(memory, Memory::Buffer(_)),
                AxisKind::Lane | AxisKind::Reduce(_) => true,
                AxisKind::Serial => false,
            };
            let once = self.facts.decide_ge(&Dim::ONE, &l.extent) == Some(true);
            if independent && !once && (self.is_fixed(index, depth) || self.meets(index, depth)) {
                let fault = Fault::Race { kind: l.kind, axis: l.axis.clone() };
                self.errors.push(VerifyError { site: Site::Stmt(number), fault });
                return;
            }
        }
    }

    /// Whether an index mentions neither the axis at `depth` nor a variable defined under it.
    fn is_fixed(&self, index: &Dim, depth: usize) -> bool {
        !self.is_computed(index, depth) && !index.mentions(&self.axes[depth].axis)
    }

    /// Whether an index mentions a variable that is defined under the axis at `depth`.
    fn is_computed(&self, index: &Dim, depth: usize) -> bool {
        let inside = |var: Var| self.defined_at.get(var.0 as usize).is_none_or(|at| *at > depth);
        index.symbols().filter_map(|s| Var::from_symbol(&s)).any(inside)
    }

    /// Whether a constant stride of the axis at `depth` meets one of an inner axis.
    fn meets(&self, index: &Dim, depth: usize) -> bool {
        let stride = |l: &Loop| index.split_linear(&l.axis)?.0.as_const().filter(|c| *c != 0 && *c != i64::MIN);
        let longer_than = |l: &Loop, n: u64| {
            let Ok(n) = i64::try_from(n) else { return false };
            self.facts.decide_ge(&l.extent, &(Dim::from(n) + 1)) == Some(true)
        };
        let Some(outer) = self.axes.get(depth) else { return false };
        let Some(c) = stride(outer).filter(|_| !self.is_computed(index, depth)) else { return false };
        self.axes[depth + 1..].iter().any(|inner| {
            let Some(d) = stride(inner) else { return false };
            let g = gcd(c.unsigned_abs(), d.unsigned_abs());
            longer_than(outer, d.unsigned_abs() / g) && longer_than(inner, c.unsigned_abs() / g)
        })
    }

    fn define(&mut self, var: Var) {
        let depth = self.axes.len();
        if let Some(at) = self.defined_at.get_mut(var.0 as usize) {
            *at = depth;
        }
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

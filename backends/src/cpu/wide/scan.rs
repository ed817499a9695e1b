//! What is known of a kernel before code is emitted: where variables are used last, and which loops can be vectorised.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::kernel::{AxisKind, Expr, Guard, Kernel, Loop, Memory, Stmt, Var};

/// For each variable the number of the statement that uses it last. Statements are numbered in order, and a loop has a number at its end
/// too, where its reductions take their values. Uses in indices count where asked for.
pub(super) fn last_uses(kernel: &Kernel, in_indices: bool) -> Vec<u32> {
    let mut uses = Uses { last: vec![0; kernel.vars.len()], number: 0, in_indices };
    uses.block(&kernel.body.body);
    uses.last
}

struct Uses {
    last: Vec<u32>,
    number: u32,
    in_indices: bool,
}

impl Uses {
    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            let now = self.number;
            self.number += 1;
            match stmt {
                Stmt::Let { expr, .. } => match expr {
                    Expr::Const(_) => {}
                    Expr::Index(dim) => self.dim(dim, now),
                    Expr::Load { index, guard, other, .. } => {
                        self.access(index, guard, now);
                        other.iter().for_each(|v| self.note(*v, now));
                    }
                    Expr::Apply(_, args) => args.iter().for_each(|v| self.note(*v, now)),
                },
                Stmt::Store { value, index, guard, .. } => {
                    self.access(index, guard, now);
                    self.note(*value, now);
                }
                Stmt::If { guard, body } => {
                    // The guard is looked at when what is before it has been emitted.
                    guard.0.iter().for_each(|d| self.dim(d, now + 1));
                    self.block(body);
                }
                Stmt::Loop(l) => {
                    self.block(&l.body);
                    let end = self.number;
                    self.number += 1;
                    l.reductions.iter().flat_map(|r| &r.values).for_each(|v| self.note(*v, end));
                }
            }
        }
    }

    fn access(&mut self, index: &Dim, guard: &Guard, at: u32) {
        self.dim(index, at);
        guard.0.iter().for_each(|d| self.dim(d, at));
    }

    fn dim(&mut self, dim: &Dim, at: u32) {
        if self.in_indices {
            dim.symbols().filter_map(|s| Var::from_symbol(&s)).for_each(|v| self.note(v, at));
        }
    }

    fn note(&mut self, v: Var, at: u32) {
        if let Some(slot) = self.last.get_mut(v.0 as usize) {
            *slot = at;
        }
    }
}

/// For each variable whether it differs from lane to lane if a loop is vectorised; `None` where it cannot be:
/// where a guard or an inner extent depends on the lane, or where a lane loop inside is the better choice.
pub(super) fn vectorizable(kernel: &Kernel, l: &Loop) -> Option<Vec<bool>> {
    let mut scan =
        Scan { axis: &l.axis, varying: vec![false; kernel.vars.len()], fits: true, lanes: false, tiles: false };
    scan.block(&l.body);
    let fits = match l.kind {
        AxisKind::Serial => false,
        // Tiles belong to one iteration.
        AxisKind::Parallel => !scan.lanes && !scan.tiles,
        AxisKind::Lane | AxisKind::Reduce(_) => true,
    };
    (fits && scan.fits).then_some(scan.varying)
}

/// Whether an index depends on an axis or on a variable that varies.
pub(super) fn varies(dim: &Dim, axis: &Symbol, varying: &[bool]) -> bool {
    let var = |v: Var| varying.get(v.0 as usize).copied().unwrap_or(true);
    dim.symbols().any(|s| s == *axis || Var::from_symbol(&s).is_some_and(var))
}

struct Scan<'k> {
    axis: &'k Symbol,
    varying: Vec<bool>,
    fits: bool,
    // Whether there is a lane or reduce loop, and whether tiles are touched.
    lanes: bool,
    tiles: bool,
}

impl Scan<'_> {
    fn block(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let { var, expr } => {
                    let varies = self.expr(expr);
                    self.define(*var, varies);
                }
                Stmt::Store { memory, guard, .. } => {
                    self.guard(guard);
                    self.tiles |= matches!(memory, Memory::Tile(_));
                }
                Stmt::If { guard, body } => {
                    self.guard(guard);
                    self.block(body);
                }
                Stmt::Loop(l) => {
                    self.fits &= !self.dim(&l.extent) && l.kind != AxisKind::Lane;
                    self.lanes |= matches!(l.kind, AxisKind::Lane | AxisKind::Reduce(_));
                    self.block(&l.body);
                    for r in &l.reductions {
                        let varies = r.values.iter().any(|v| self.var(*v));
                        r.results.iter().for_each(|v| self.define(*v, varies));
                    }
                }
            }
        }
    }

    fn expr(&mut self, expr: &Expr) -> bool {
        match expr {
            Expr::Const(_) => false,
            Expr::Index(dim) => self.dim(dim),
            Expr::Load { memory, index, guard, other } => {
                self.guard(guard);
                self.tiles |= matches!(memory, Memory::Tile(_));
                self.dim(index) || other.is_some_and(|v| self.var(v))
            }
            Expr::Apply(_, args) => args.iter().any(|v| self.var(*v)),
        }
    }

    fn guard(&mut self, guard: &Guard) {
        self.fits &= !guard.0.iter().any(|d| self.dim(d));
    }

    fn dim(&self, dim: &Dim) -> bool {
        varies(dim, self.axis, &self.varying)
    }

    fn var(&self, var: Var) -> bool {
        self.varying.get(var.0 as usize).copied().unwrap_or(true)
    }

    fn define(&mut self, var: Var, varies: bool) {
        if let Some(slot) = self.varying.get_mut(var.0 as usize) {
            *slot = varies;
        }
    }
}

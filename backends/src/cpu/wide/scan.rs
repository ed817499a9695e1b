//! What is known of a kernel before code is emitted: where variables are used last, and which loops can be vectorised.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::kernel::{AxisKind, Expr, Guard, Kernel, Loop, Memory, Stmt, Var};

/// For each variable the number of the statement that uses it last. Statements are numbered in order, and a loop has a number at its end
/// too, where its reductions take their values.
pub(super) fn last_uses(kernel: &Kernel) -> Vec<u32> {
    fn vars(dim: &Dim, f: impl FnMut(Var)) {
        dim.symbols().filter_map(|s| Var::from_symbol(&s)).for_each(f);
    }
    fn block(stmts: &[Stmt], number: &mut u32, last: &mut [u32]) {
        for stmt in stmts {
            let now = *number;
            *number += 1;
            let mut note = |v: &Var, at: u32| {
                if let Some(slot) = last.get_mut(v.0 as usize) {
                    *slot = at;
                }
            };
            match stmt {
                Stmt::Let { expr, .. } => match expr {
                    Expr::Const(_) => {}
                    Expr::Index(dim) => vars(dim, |v| note(&v, now)),
                    Expr::Load { index, guard, other, .. } => {
                        std::iter::once(index).chain(&guard.0).for_each(|d| vars(d, |v| note(&v, now)));
                        other.iter().for_each(|v| note(v, now));
                    }
                    Expr::Apply(_, args) => args.iter().for_each(|v| note(v, now)),
                },
                Stmt::Store { value, index, guard, .. } => {
                    std::iter::once(index).chain(&guard.0).for_each(|d| vars(d, |v| note(&v, now)));
                    note(value, now);
                }
                Stmt::If { guard, body } => {
                    // The guard is looked at when what is before it has been emitted.
                    guard.0.iter().for_each(|d| vars(d, |v| note(&v, now + 1)));
                    block(body, number, last);
                }
                Stmt::Loop(l) => {
                    block(&l.body, number, last);
                    let end = *number;
                    *number += 1;
                    for v in l.reductions.iter().flat_map(|r| &r.values) {
                        if let Some(slot) = last.get_mut(v.0 as usize) {
                            *slot = end;
                        }
                    }
                }
            }
        }
    }
    let mut last = vec![0; kernel.vars.len()];
    block(&kernel.body.body, &mut 0, &mut last);
    last
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

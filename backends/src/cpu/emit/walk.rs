//! Walks over statements.

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Expr, Loop, Stmt, Var};

/// Calls `f` with every index, guard and extent.
pub(super) fn dims(stmts: &[Stmt], f: &mut impl FnMut(&Dim)) {
    for stmt in stmts {
        match stmt {
            Stmt::Let { expr, .. } => match expr {
                Expr::Const(_) | Expr::Apply(..) => {}
                Expr::Index(d) => f(d),
                Expr::Load { index, guard, .. } => {
                    f(index);
                    guard.0.iter().for_each(&mut *f);
                }
            },
            Stmt::Store { index, guard, .. } => {
                f(index);
                guard.0.iter().for_each(&mut *f);
            }
            Stmt::Loop(l) => {
                f(&l.extent);
                dims(&l.body, f);
            }
            Stmt::If { guard, body } => {
                guard.0.iter().for_each(&mut *f);
                dims(body, f);
            }
        }
    }
}

/// Calls `f` with every variable that is read, in indices too.
pub(super) fn uses(stmts: &[Stmt], f: &mut impl FnMut(Var)) {
    dims(stmts, &mut |d| d.symbols().filter_map(|s| Var::from_symbol(&s)).for_each(&mut *f));
    each(stmts, &mut |stmt| match stmt {
        Stmt::Let { expr, .. } => match expr {
            Expr::Const(_) | Expr::Index(_) => {}
            Expr::Load { other, .. } => other.iter().for_each(|v| f(*v)),
            Expr::Apply(_, args) => args.iter().for_each(|v| f(*v)),
        },
        Stmt::Store { value, .. } => f(*value),
        Stmt::Loop(l) => l.reductions.iter().flat_map(|r| &r.values).for_each(|v| f(*v)),
        Stmt::If { .. } => {}
    });
}

/// Calls `f` with every statement, outer ones first.
pub(super) fn each<'s>(stmts: &'s [Stmt], f: &mut impl FnMut(&'s Stmt)) {
    for stmt in stmts {
        f(stmt);
        match stmt {
            Stmt::Let { .. } | Stmt::Store { .. } => {}
            Stmt::Loop(Loop { body, .. }) | Stmt::If { body, .. } => each(body, f),
        }
    }
}

/// The variables that the statements define, inner ones too.
pub(super) fn defined(stmts: &[Stmt]) -> Vec<Var> {
    let mut found = Vec::new();
    each(stmts, &mut |stmt| match stmt {
        Stmt::Let { var, .. } => found.push(*var),
        Stmt::Loop(l) => found.extend(l.reductions.iter().flat_map(|r| r.results.iter().copied())),
        Stmt::Store { .. } | Stmt::If { .. } => {}
    });
    found
}

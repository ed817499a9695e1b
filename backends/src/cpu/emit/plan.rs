//! Which loop is vectorised, and over how many lanes at once.

use cranelift_codegen::ir::Value;
use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::{AxisKind, Expr, Guard, Kernel, Loop, Memory, ScalarOp, Stmt, Var};

use super::value::{Width, width};
use super::walk;

/// The vectorised loop that is being emitted.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    /// Its axis.
    pub(super) axis: Symbol,
    /// The axis at the first lane.
    pub(super) base: Value,
}

/// How a loop is vectorised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// Lanes of the main loop: 4, 8 or 16; fewer than 16 where the body is large, 64 bits wide or short of iterations.
    pub(super) group: usize,
    /// Whether the body is small enough that accumulators stay in registers.
    pub(super) light: bool,
}

/// The plan for a loop, or `None` where it runs in scalars.
pub(super) fn plan(kernel: &Kernel, l: &Loop) -> Option<Plan> {
    let nested = has_vector_loop(&l.body);
    let mut most = 16;
    match l.kind {
        AxisKind::Serial => return None,
        // Tiles belong to one iteration, so several at once would share them.
        AxisKind::Parallel if nested || uses_tiles(&l.body) => return None,
        AxisKind::Parallel | AxisKind::Lane => {}
        AxisKind::Reduce(lanes) if lanes < 4 || !independent(l) => return None,
        AxisKind::Reduce(lanes) => most = most.min(lanes as usize),
    }
    if let Some(n) = l.extent.as_const() {
        while most > 4 && (most as i64) > n {
            most /= 2;
        }
        if n < 4 {
            return None;
        }
    }
    let mut scan = Scan {
        kernel,
        axis: &l.axis,
        varying: vec![false; kernel.vars.len()],
        inner: Vec::new(),
        weight: 0,
        wide: false,
        fits: true,
    };
    scan.block(&l.body);
    if !scan.fits {
        return None;
    }
    // Cranelift orders a body vector by vector, so more than two in flight spare loop overhead only, which counts in small bodies.
    let group = match scan.weight {
        0..=12 => 16,
        13..=60 => 8,
        _ => 4,
    };
    let group = if scan.wide && group > 4 { group / 2 } else { group };
    Some(Plan { group: group.min(most), light: scan.weight <= 12 })
}

/// Walks a body and finds what varies over the lanes, how much work there is, and what forbids vectors.
struct Scan<'k> {
    kernel: &'k Kernel,
    axis: &'k Symbol,
    varying: Vec<bool>,
    // The axes of loops inside, with whether each could be vectorised itself.
    inner: Vec<(&'k Symbol, bool)>,
    weight: u32,
    wide: bool,
    fits: bool,
}

impl<'k> Scan<'k> {
    fn block(&mut self, stmts: &'k [Stmt]) {
        for stmt in stmts {
            match stmt {
                Stmt::Let { var, expr } => {
                    let varies = self.expr(expr);
                    self.define(*var, varies);
                    let dtype = self.kernel.vars.get(var.0 as usize).copied().unwrap_or(DType::F32);
                    self.wide |= varies && width(dtype) == Width::W64;
                    self.fits &= dtype.kind() != Kind::Complex;
                }
                Stmt::Store { memory, index, guard, .. } => {
                    self.weight += 1;
                    self.access(*memory, index, guard);
                }
                Stmt::If { guard, body } => {
                    self.weight += if self.guard_varies(guard) { 8 } else { 2 };
                    self.block(body);
                }
                Stmt::Loop(l) => self.inner_loop(l),
            }
        }
    }

    fn inner_loop(&mut self, l: &'k Loop) {
        // The lanes of a group run the same iterations.
        self.fits &= !self.dim_varies(&l.extent);
        let could = match l.kind {
            AxisKind::Lane => true,
            AxisKind::Reduce(lanes) => lanes >= 4,
            AxisKind::Parallel | AxisKind::Serial => false,
        };
        // A lane loop inside is the better choice: what is outside is then the row.
        self.fits &= l.kind != AxisKind::Lane;
        self.inner.push((&l.axis, could));
        self.block(&l.body);
        self.inner.pop();
        for r in &l.reductions {
            let varies = r.values.iter().any(|v| self.var_varies(*v));
            for result in &r.results {
                self.define(*result, varies);
            }
            self.weight += 2;
        }
    }

    fn expr(&mut self, expr: &Expr) -> bool {
        match expr {
            Expr::Const(_) => false,
            Expr::Index(d) => self.dim_varies(d),
            Expr::Load { memory, index, guard, other } => {
                self.weight += 1;
                self.access(*memory, index, guard);
                self.dim_varies(index) || self.guard_varies(guard) || other.is_some_and(|v| self.var_varies(v))
            }
            Expr::Apply(op, args) => {
                let varies = args.iter().any(|v| self.var_varies(*v));
                if varies {
                    self.weight += weight(*op);
                }
                varies
            }
        }
    }

    /// Gives way to an inner loop that walks memory in order where this axis would jump.
    fn access(&mut self, _memory: Memory, index: &Dim, guard: &Guard) {
        if self.guard_varies(guard) {
            self.weight += 6;
        }
        let step = |axis: &Symbol| index.split_linear(axis).and_then(|(c, _)| c.as_const());
        let jumps = !matches!(step(self.axis), Some(0 | 1));
        if jumps && self.inner.iter().any(|(axis, could)| *could && matches!(step(axis), Some(1))) {
            self.fits = false;
        }
    }

    fn define(&mut self, var: Var, varies: bool) {
        if let Some(slot) = self.varying.get_mut(var.0 as usize) {
            *slot = varies;
        }
    }

    fn var_varies(&self, var: Var) -> bool {
        self.varying.get(var.0 as usize).copied().unwrap_or(true)
    }

    fn dim_varies(&self, dim: &Dim) -> bool {
        dim.symbols().any(|s| s == *self.axis || Var::from_symbol(&s).is_some_and(|v| self.var_varies(v)))
    }

    fn guard_varies(&self, guard: &Guard) -> bool {
        guard.0.iter().any(|d| self.dim_varies(d))
    }
}

/// About how many instructions an operation takes on one vector.
fn weight(op: ScalarOp) -> u32 {
    match op {
        ScalarOp::Call(_) => 16,
        ScalarOp::Rem | ScalarOp::Convert(_) => 4,
        ScalarOp::Max | ScalarOp::Min => 2,
        ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::And
        | ScalarOp::Or
        | ScalarOp::Xor
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Eq
        | ScalarOp::Ne
        | ScalarOp::Lt
        | ScalarOp::Le
        | ScalarOp::Gt
        | ScalarOp::Ge
        | ScalarOp::Select
        | ScalarOp::Bitcast(_) => 1,
    }
}

fn has_vector_loop(stmts: &[Stmt]) -> bool {
    let mut found = false;
    walk::each(stmts, &mut |s| {
        if let Stmt::Loop(l) = s {
            found |= match l.kind {
                AxisKind::Lane => true,
                AxisKind::Reduce(lanes) => lanes >= 4,
                AxisKind::Parallel | AxisKind::Serial => false,
            };
        }
    });
    found
}

fn uses_tiles(stmts: &[Stmt]) -> bool {
    accesses(stmts).iter().any(|(m, ..)| matches!(m, Memory::Tile(_)))
}

/// Whether the iterations of a reduce loop may run side by side: each stores to places of its own and reads no other's.
fn independent(l: &Loop) -> bool {
    let all = accesses(&l.body);
    let inner: Vec<&Symbol> = inner_axes(&l.body);
    all.iter().filter(|(_, _, stores)| *stores).all(|(memory, index, _)| {
        let own = index.split_linear(&l.axis).is_some_and(|(c, rest)| {
            let apart = c.as_const().is_some_and(|c| c != 0);
            apart && !rest.symbols().any(|s| inner.contains(&&s) || Var::from_symbol(&s).is_some())
        });
        own && all.iter().filter(|(m, ..)| m == memory).all(|(_, other, _)| other == index)
    })
}

fn inner_axes(stmts: &[Stmt]) -> Vec<&Symbol> {
    let mut axes = Vec::new();
    walk::each(stmts, &mut |s| {
        if let Stmt::Loop(l) = s {
            axes.push(&l.axis);
        }
    });
    axes
}

/// Every access: where, at which index, and whether it stores.
pub(super) fn accesses(stmts: &[Stmt]) -> Vec<(Memory, &Dim, bool)> {
    let mut found = Vec::new();
    walk::each(stmts, &mut |s| match s {
        Stmt::Let { expr: Expr::Load { memory, index, .. }, .. } => found.push((*memory, index, false)),
        Stmt::Store { memory, index, .. } => found.push((*memory, index, true)),
        Stmt::Let { .. } | Stmt::Loop(_) | Stmt::If { .. } => {}
    });
    found
}

//! What the steps of a plan cost, over the function's sizes.

use lehr_ir::dim::Symbol;
use lehr_ir::kernel::{Cost, Kernel, cost};
use lehr_ir::plan::{Attend, AttendPass, BufferId, Matrix, StepKind, Trip};
use lehr_ir::{Dim, Plan};

/// The cost of one step.
///
/// A matrix product counts a multiplication and an addition a term, and each operand once: how often it is read from memory is
/// the library's choice. What the evaluator does on the host counts for its bytes only.
/// A loop on a condition counts once, since nobody knows how often it runs, and a choice counts all that it chooses from.
pub(super) fn step_cost(plan: &Plan, step: &StepKind) -> Cost {
    match step {
        StepKind::Launch(launch) => {
            let Some(kernel) = plan.kernels.get(launch.kernel as usize) else { return Cost::default() };
            bound_cost(kernel, &launch.sizes)
        }
        StepKind::Contract(c) => {
            let area = &(&c.batch * &c.m) * &c.n;
            let size = c.dtype.size() as i64;
            let of = |m: &Matrix, rows: &Dim, columns: &Dim| {
                let one = rows * columns;
                // A batch stride of 0 reads one matrix for all.
                if m.batch.is_still() { one * size } else { &one * &c.batch * size }
            };
            let read = of(&c.a, &c.m, &c.k) + of(&c.b, &c.k, &c.n);
            let product = moved(&(&area * &c.k) * 2, read, &area * size);
            match c.epilogue.as_ref().and_then(|e| Some((e, plan.kernels.get(e.kernel as usize)?))) {
                Some((e, kernel)) => add(product, &bound_cost(kernel, &e.sizes)),
                None => product,
            }
        }
        StepKind::Attend(a) => attend(plan, a),
        StepKind::Copy { from, .. } => moved(Dim::from(0), bytes(plan, *from), bytes(plan, *from)),
        StepKind::Host { operands, results, .. } => {
            let sum = |all: &[(BufferId, lehr_ir::Type)]| all.iter().map(|(b, _)| bytes(plan, *b)).sum::<Dim>();
            moved(Dim::from(0), sum(operands), sum(results))
        }
        StepKind::Loop(l) => {
            let body = plan_cost(&l.body.plan);
            match &l.trip {
                Trip::Count(n) => map(&body, &|d| d * n),
                Trip::While(cond) => add(body, &plan_cost(&cond.plan)),
            }
        }
        StepKind::Branch(b) => b.branches.iter().fold(Cost::default(), |sum, b| add(sum, &plan_cost(&b.plan))),
    }
}

/// The cost of a kernel whose sizes have these values.
fn bound_cost(kernel: &Kernel, sizes: &[Dim]) -> Cost {
    let value = |s: &Symbol| kernel.sizes.iter().position(|size| size == s).and_then(|i| sizes.get(i).cloned());
    map(&cost(kernel), &|d| d.substitute(&value))
}

/// The products of all pairs of queries and keys that may meet; half of them under a causal mask, about. Each operand counts once.
fn attend(plan: &Plan, a: &Attend) -> Cost {
    let pairs = &(&a.rows() * &a.keys);
    let (forward, results) = match &a.pass {
        AttendPass::Forward { out, lse, .. } => (true, vec![*out, *lse]),
        AttendPass::Backward { dq, dk, dv, .. } => (false, vec![*dq, *dk, *dv]),
    };
    // Forward: scores and means. Backward: scores, cotangents of weights, and of each operand.
    let products = if forward { &a.d + &a.e } else { &a.d * 3 + &a.e * 2 };
    let flops = &(pairs * &products) * 2;
    let size = a.dtype.size() as i64;
    let mut read = Dim::from(0);
    for (grid, rows, columns) in a.grids() {
        let wide = a.batch.iter().zip(&grid.batch).filter(|(_, stride)| !stride.is_zero());
        let batch = wide.fold(Dim::from(1), |n, (d, _)| &n * d);
        let of_mask = a.mask.as_ref().is_some_and(|m| std::ptr::eq(m, grid));
        read += &(&batch * rows) * columns * if of_mask { 1 } else { size };
    }
    let written = results.into_iter().map(|b| bytes(plan, b)).sum::<Dim>();
    let halved = |d: Dim| if a.scores.causal { d.floordiv(Dim::from(2)) } else { d };
    Cost { transcendental: halved(pairs.clone()), ..moved(halved(flops), read, written) }
}

/// The cost of all steps of a plan.
pub(super) fn plan_cost(plan: &Plan) -> Cost {
    plan.steps.iter().fold(Cost::default(), |sum, step| add(sum, &step_cost(plan, &step.kind)))
}

/// The sum of two costs.
pub(super) fn add(a: Cost, b: &Cost) -> Cost {
    Cost {
        flops: a.flops + &b.flops,
        transcendental: a.transcendental + &b.transcendental,
        bytes_read: a.bytes_read + &b.bytes_read,
        bytes_written: a.bytes_written + &b.bytes_written,
        bytes_loaded: a.bytes_loaded + &b.bytes_loaded,
        bytes_stored: a.bytes_stored + &b.bytes_stored,
    }
}

fn moved(flops: Dim, read: Dim, written: Dim) -> Cost {
    Cost {
        flops,
        transcendental: Dim::from(0),
        bytes_loaded: read.clone(),
        bytes_stored: written.clone(),
        bytes_read: read,
        bytes_written: written,
    }
}

fn map(c: &Cost, f: &dyn Fn(&Dim) -> Dim) -> Cost {
    Cost {
        flops: f(&c.flops),
        transcendental: f(&c.transcendental),
        bytes_read: f(&c.bytes_read),
        bytes_written: f(&c.bytes_written),
        bytes_loaded: f(&c.bytes_loaded),
        bytes_stored: f(&c.bytes_stored),
    }
}

fn bytes(plan: &Plan, b: BufferId) -> Dim {
    plan.buffers.get(b.index()).map_or(Dim::from(0), |decl| &decl.len * decl.dtype.size() as i64)
}

//! Checks a plan: the invariants of [`crate::plan`], and those of each kernel.

use super::{Block, BufferDecl, BufferId, Carry, Place, Plan, Step, StepKind, Trip};
use crate::dtype::DType;
use crate::kernel;

/// A broken invariant of a plan.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[error("plan @{plan}: step {step}: {message}")]
pub struct PlanError {
    /// The plan's name.
    pub plan: String,
    /// The step, or the number of steps for what concerns the whole plan.
    pub step: usize,
    /// What does not hold.
    pub message: String,
}

/// A plan that has been verified: what backends take.
#[derive(Clone, Debug)]
pub struct Verified(Plan);

impl Verified {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.0
    }

    /// The plan, which then counts as unverified.
    pub fn into_inner(self) -> Plan {
        self.0
    }
}

impl std::ops::Deref for Verified {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

/// Checks a plan and marks it as checked.
///
/// Kernels are checked in debug builds; they were made by `lower`, whose output the tests check in release too.
pub fn verify(plan: Plan) -> Result<Verified, PlanError> {
    check(&plan)?;
    Ok(Verified(plan))
}

fn check(plan: &Plan) -> Result<(), PlanError> {
    let error = |step: usize, message: String| PlanError { plan: plan.name.clone(), step, message };
    if cfg!(debug_assertions) {
        for k in &plan.kernels {
            kernel::verify::verify(k, &plan.facts)
                .map_err(|e| error(plan.steps.len(), kernel::verify::report(k, &e)))?;
        }
    }
    // A buffer without elements is as good as written.
    let given = |b: &BufferDecl| matches!(b.place, Place::Param(_) | Place::Constant(_)) || b.len.is_zero();
    let mut written: Vec<bool> = plan.buffers.iter().map(given).collect();
    for (i, step) in plan.steps.iter().enumerate() {
        let bound = match &step.kind {
            StepKind::Launch(l) => Some((l.kernel, &l.buffers, l.sizes.len())),
            StepKind::Contract(c) => c.epilogue.as_ref().map(|e| (e.kernel, &e.buffers, e.sizes.len())),
            StepKind::Attend(_)
            | StepKind::Copy { .. }
            | StepKind::Host { .. }
            | StepKind::Loop(_)
            | StepKind::Branch(_) => None,
        };
        if let Some((kernel, buffers, sizes)) = bound {
            let Some(k) = plan.kernels.get(kernel as usize) else {
                return Err(error(i, format!("kernel {kernel} does not exist")));
            };
            if buffers.len() != k.buffers.len() || sizes != k.sizes.len() {
                return Err(error(i, format!("@{} is bound to the wrong number of buffers or sizes", k.name)));
            }
            for (b, p) in buffers.iter().zip(&k.buffers) {
                let fits = plan.buffers.get(b.index()).is_some_and(|d| d.dtype == p.dtype);
                if !fits {
                    return Err(error(i, format!("@{}: {b} is no {} buffer for `{}`", k.name, p.dtype, p.name)));
                }
            }
        }
        if let StepKind::Contract(contract) = &step.kind {
            let dtype = |b: BufferId| plan.buffers.get(b.index()).map(|d| d.dtype);
            contract.check(&dtype).map_err(|message| error(i, message))?;
        }
        if let StepKind::Attend(a) = &step.kind {
            let dtype = |b: BufferId| plan.buffers.get(b.index()).map(|d| d.dtype);
            a.check(&dtype).map_err(|message| error(i, message))?;
        }
        blocks(plan, step).map_err(|message| error(i, message))?;
        let (reads, writes) = step.accesses(&plan.kernels);
        let known = |b: &BufferId| b.index() < plan.buffers.len();
        if let Some(b) = reads.iter().chain(&writes).find(|b| !known(b)) {
            return Err(error(i, format!("{b} does not exist")));
        }
        if let Some(b) = reads.iter().find(|b| !written[b.index()]) {
            return Err(error(i, format!("{b} is read before it is written")));
        }
        for b in writes {
            if matches!(plan.buffers[b.index()].place, Place::Param(_) | Place::Constant(_)) {
                return Err(error(i, format!("{b} is read-only and written")));
            }
            written[b.index()] = true;
        }
    }
    let missing = plan
        .buffers
        .iter()
        .zip(&written)
        .position(|(b, w)| !w && matches!(b.place, Place::Output(_) | Place::NewVariable(_)));
    if let Some(b) = missing {
        return Err(error(plan.steps.len(), format!("b{b} leaves the plan and is never written")));
    }
    in_place(plan)
}

/// Checks that no step reads a variable once its new value, computed in its place, has been written.
fn in_place(plan: &Plan) -> Result<(), PlanError> {
    let error = |step: usize, message: String| PlanError { plan: plan.name.clone(), step, message };
    if plan.in_place.len() != plan.updates.len() {
        return Err(error(plan.steps.len(), "not every update is or is not in place".to_owned()));
    }
    // By parameter: the buffer whose writing ends its old value.
    let mut new: Vec<Option<usize>> = vec![None; plan.params.len()];
    for (b, decl) in plan.buffers.iter().enumerate() {
        if let Place::NewVariable(u) = decl.place
            && plan.in_place.get(u as usize) == Some(&true)
            && let Some(new) = plan.updates.get(u as usize).and_then(|&p| new.get_mut(p as usize))
        {
            *new = Some(b);
        }
    }
    let mut written = vec![false; plan.buffers.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        let (reads, writes) = step.accesses(&plan.kernels);
        for b in reads {
            let Place::Param(p) = plan.buffers[b.index()].place else { continue };
            if new.get(p as usize).copied().flatten().is_some_and(|n| written[n]) {
                return Err(error(i, format!("{b} is read after its new value was written in its place")));
            }
        }
        for b in writes {
            written[b.index()] = true;
        }
    }
    Ok(())
}

/// Checks the plans that a step holds, and that they fit what it hands them.
fn blocks(plan: &Plan, step: &Step) -> Result<(), String> {
    for block in step.blocks() {
        check(&block.plan).map_err(|e| e.to_string())?;
        if !block.plan.updates.is_empty() {
            return Err(format!("@{} updates variables inside a step", block.plan.name));
        }
    }
    let fits = |block: &Block, params: &[BufferId], outputs: &[BufferId]| {
        let dtype = |b: &BufferId| plan.buffers.get(b.index()).map(|d| d.dtype);
        let inner = &block.plan;
        let same = inner.params.len() == params.len()
            && inner.outputs.len() == outputs.len()
            && params.iter().zip(&inner.params).all(|(b, p)| dtype(b) == Some(p.ty.dtype))
            && outputs.iter().zip(&inner.outputs).all(|(b, (_, ty))| dtype(b) == Some(ty.dtype));
        if same {
            Ok(())
        } else {
            Err(format!("@{} has other parameters or outputs than its step hands it", inner.name))
        }
    };
    match &step.kind {
        StepKind::Loop(l) => {
            let carries = |of: fn(&Carry) -> BufferId| l.carries.iter().map(of);
            let params: Vec<BufferId> =
                l.consts.iter().copied().chain(carries(|c| c.init)).chain(l.rows_in.iter().copied()).collect();
            let outputs: Vec<BufferId> = carries(|c| c.result).chain(l.rows_out.iter().copied()).collect();
            fits(&l.body, &params, &outputs)?;
            if let Trip::While(cond) = &l.trip {
                if !l.rows_in.is_empty() || !l.rows_out.is_empty() {
                    return Err("a loop on a condition has rows".to_owned());
                }
                let gives: Vec<DType> = cond.plan.outputs.iter().map(|(_, ty)| ty.dtype).collect();
                if cond.plan.params.len() != params.len() || gives != [DType::Bool] {
                    return Err(format!("@{} is no condition over the loop's values", cond.plan.name));
                }
            }
            Ok(())
        }
        StepKind::Branch(b) => b.branches.iter().try_for_each(|block| fits(block, &b.operands, &b.results)),
        StepKind::Launch(_)
        | StepKind::Contract(_)
        | StepKind::Attend(_)
        | StepKind::Copy { .. }
        | StepKind::Host { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::graph::Graph;
    use crate::plan::{Contract, Digits, Matrix, Step};

    /// A plan of one product of two by two matrices, all of whose buffers have the dtypes of `buffers`.
    fn product(dtype: DType, buffers: [DType; 3]) -> Plan {
        let even = |stride: i64| Digits::even(Dim::from(2), Dim::from(stride));
        let matrix = |buffer| Matrix {
            buffer: BufferId(buffer),
            offset: Dim::ZERO,
            batch: Digits::default(),
            row: even(2),
            column: even(1),
        };
        let mut plan = Plan::of_signature(&Graph::new("product"));
        for (i, dtype) in buffers.into_iter().enumerate() {
            let place = if i < 2 { Place::Param(i as u32) } else { Place::Temp(Dim::ZERO) };
            plan.buffers.push(BufferDecl { dtype, len: Dim::from(4), place });
        }
        let [m, n, k] = [2, 2, 2].map(Dim::from);
        let (a, b, c) = (matrix(0), matrix(1), matrix(2));
        let contract = Contract { dtype, batch: Dim::ONE, m, n, k, a, b, c, epilogue: None };
        let kind = StepKind::Contract(Box::new(contract));
        plan.steps.push(Step { kind, locs: smallvec::SmallVec::new(), reason: String::new() });
        plan
    }

    #[test]
    fn a_variable_is_not_read_once_its_new_value_lies_in_its_place() {
        let mut plan = Plan::of_signature(&Graph::new("overwritten"));
        let ty = crate::ty::Type::new(DType::F32, [4]);
        plan.params.push(crate::plan::PlanParam { name: "w".into(), kind: crate::graph::ParamKind::Variable, ty });
        plan.updates.push(0);
        plan.in_place.push(true);
        for place in [Place::Param(0), Place::NewVariable(0), Place::Temp(Dim::ZERO)] {
            plan.buffers.push(BufferDecl { dtype: DType::F32, len: Dim::from(4), place });
        }
        let copy = |from, to| {
            let kind = StepKind::Copy { from: BufferId(from), to: BufferId(to) };
            Step { kind, locs: smallvec::SmallVec::new(), reason: String::new() }
        };
        plan.steps = vec![copy(0, 2), copy(2, 1)];
        assert!(check(&plan).is_ok(), "read before, and the new value after");
        plan.steps.push(copy(0, 2));
        let message = check(&plan).expect_err("is refused").to_string();
        assert!(message.contains("step 2: b0 is read after its new value was written in its place"), "{message}");
        plan.in_place = vec![false];
        assert!(check(&plan).is_ok(), "the new value lies elsewhere");
        plan.in_place.clear();
        assert!(check(&plan).is_err(), "there is no answer for the update");
    }

    #[test]
    fn a_contraction_is_of_floats_and_of_its_buffers_dtype() {
        let message = |dtype, buffers| check(&product(dtype, buffers)).expect_err("is refused").to_string();
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            assert!(check(&product(dtype, [dtype; 3])).is_ok(), "{dtype}");
            for wrong in 0..3 {
                let mut buffers = [dtype; 3];
                buffers[wrong] = if dtype == DType::F32 { DType::F16 } else { DType::F32 };
                let want = format!("b{wrong} is no {dtype} buffer for a contraction");
                assert!(message(dtype, buffers).contains(&want), "{}", message(dtype, buffers));
            }
        }
        for dtype in [DType::I32, DType::I64, DType::Bool] {
            let want = format!("a contraction of {dtype}");
            assert!(message(dtype, [dtype; 3]).contains(&want), "{}", message(dtype, [dtype; 3]));
        }
    }
}

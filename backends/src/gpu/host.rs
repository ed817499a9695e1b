//! Steps that run on the host between commands of the device, with the reference semantics of plans.

use lehr_ir::array::Data;
use lehr_ir::bindings::Bindings;
use lehr_ir::graph::ParamKind;
use lehr_ir::kernel::interpret::Functions;
use lehr_ir::plan::interpret::{PlanRunError, run};
use lehr_ir::plan::{BufferDecl, BufferId, Place, Plan, PlanParam, Step, StepKind};
use lehr_ir::{Array, Type};

/// A step as a plan of its own, whose parameters are what it reads and whose outputs are what it writes.
#[derive(Clone, Debug)]
pub(super) struct HostStep {
    plan: Plan,
    /// What it reads, in the order of the plan's parameters.
    pub(super) reads: Vec<BufferId>,
    /// What it writes, in the order of the plan's outputs.
    pub(super) writes: Vec<BufferId>,
}

impl HostStep {
    pub(super) fn of(step: &Step, around: &Plan) -> Self {
        let (reads, writes) = step.accesses(&around.kernels);
        let mut reads: Vec<BufferId> = reads.to_vec();
        reads.sort_unstable();
        reads.dedup();
        let writes = results(step, writes.to_vec());
        let mut plan = Plan {
            name: around.name.clone(),
            facts: around.facts.clone(),
            params: Vec::new(),
            outputs: Vec::new(),
            updates: Vec::new(),
            in_place: Vec::new(),
            kernels: around.kernels.clone(),
            constants: around.constants.clone(),
            buffers: around.buffers.clone(),
            steps: Vec::new(),
            arena: around.arena.clone(),
            slots: around.slots.clone(),
        };
        let flat = |d: &BufferDecl| Type::new(d.dtype, [d.len.clone()]);
        for (i, &b) in writes.iter().enumerate() {
            let decl = &mut plan.buffers[b.index()];
            plan.outputs.push((b.to_string(), flat(decl)));
            decl.place = Place::Output(i as u32);
        }
        for (i, &b) in reads.iter().enumerate() {
            let place = Place::Param(i as u32);
            let next = BufferId(plan.buffers.len() as u32);
            let decl = &mut plan.buffers[b.index()];
            plan.params.push(PlanParam { name: b.to_string(), kind: ParamKind::Data, ty: flat(decl) });
            if writes.contains(&b) {
                // What is read and written starts as a copy.
                let copied = BufferDecl { place, ..decl.clone() };
                plan.buffers.push(copied);
                let kind = StepKind::Copy { from: next, to: b };
                plan.steps.push(Step { kind, locs: step.locs.clone(), reason: String::new() });
            } else {
                decl.place = place;
            }
        }
        plan.steps.push(step.clone());
        Self { plan, reads, writes }
    }

    /// The elements of what it writes.
    pub(super) fn run(&self, reads: Vec<Data>, bindings: &Bindings) -> Result<Vec<Data>, PlanRunError> {
        let mut args = Vec::with_capacity(reads.len());
        for data in reads {
            args.push(Array::from_data(&[data.len()], data).map_err(lehr_ir::eval::EvalError::from)?);
        }
        let done = run(&self.plan, &args, bindings, Functions::Recipe)?;
        Ok(done.outputs.into_iter().map(Array::into_data).collect())
    }
}

/// What others may read of what a step writes: a loop's and a branch's scratch is theirs.
fn results(step: &Step, writes: Vec<BufferId>) -> Vec<BufferId> {
    let mut all = match &step.kind {
        StepKind::Loop(l) => l.carries.iter().map(|c| c.result).chain(l.rows_out.iter().copied()).collect(),
        StepKind::Branch(b) => b.results.to_vec(),
        StepKind::Launch(_)
        | StepKind::Contract(_)
        | StepKind::Attend(_)
        | StepKind::Copy { .. }
        | StepKind::Host { .. } => writes,
    };
    all.sort_unstable();
    all.dedup();
    all
}

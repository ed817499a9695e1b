//! What a device does for each step of a plan: shaders where there are any, else the host.

use lehr_ir::plan::{Plan, Step, StepKind};

use super::attend;
use super::contract::{self, choice::Choice};
use super::dispatch::Dispatch;
use super::wgsl::{self, WgslError, WgslTarget};

/// How a step runs.
#[derive(Clone, Debug)]
pub enum Form {
    /// On the device, by these dispatches in order.
    Shaders(Vec<Dispatch>),
    /// As a copy on the device.
    Copy,
    /// As other plans' steps, which the host puts in order; it reads nothing back but what it decides by.
    Control,
    /// On the host, between two submissions, for this reason.
    Host(String),
}

/// How a step of a plan runs on a target; a product by what was chosen for it, if anything was.
pub fn form(step: &Step, plan: &Plan, choice: Option<Choice>, target: &WgslTarget) -> Form {
    let made: Result<Vec<Dispatch>, WgslError> = match &step.kind {
        StepKind::Launch(l) => {
            let kernel = &plan.kernels[l.kernel as usize];
            wgsl::launch(kernel, &l.buffers, &l.sizes, &l.iterations, target).map(|d| vec![d])
        }
        StepKind::Contract(c) => contract::dispatches(c, &plan.kernels, choice, target),
        StepKind::Attend(a) => attend::dispatches(a, target),
        StepKind::Copy { .. } => return Form::Copy,
        StepKind::Loop(_) | StepKind::Branch(_) => return Form::Control,
        StepKind::Host { op, .. } => return Form::Host(format!("`{}` has no kernel", op.name())),
    };
    match made {
        Ok(dispatches) => Form::Shaders(dispatches),
        Err(why) => Form::Host(why.to_string()),
    }
}

/// What a step does, in few words, for errors and reports.
pub fn title(step: &Step, plan: &Plan) -> String {
    match &step.kind {
        StepKind::Launch(l) => format!("kernel @{}", plan.kernels[l.kernel as usize].name),
        StepKind::Contract(c) => format!("product of [{}, {}] and [{}, {}]", c.m, c.k, c.k, c.n),
        StepKind::Attend(a) => format!("attention of {} queries and {} keys", a.queries, a.keys),
        StepKind::Copy { from, to } => format!("copy of {from} to {to}"),
        StepKind::Host { op, .. } => format!("`{}`", op.name()),
        StepKind::Loop(_) => "loop".to_owned(),
        StepKind::Branch(_) => "branch".to_owned(),
    }
}

//! Programs: plans with their shaders compiled, immutable and shared.

use std::sync::Arc;

use lehr_ir::plan::verify::Verified;
use lehr_ir::plan::{Block, Plan, Step};
use lehr_ir::target::Tuning;
use rustc_hash::FxHashMap;

use super::device::Device;
use super::dispatch::Dispatch;
use super::error::GpuError;
use super::host::HostStep;
use super::keep::Keep;
use super::memory::Resident;
use super::pipeline::Pipeline;
use super::step::{Form, form, title};

/// A plan that is ready to run on a device.
#[derive(Debug)]
pub struct Program {
    pub(super) plan: Verified,
    pub(super) device: Arc<Device>,
    /// For the plan and those inside it, by [`key`], how their steps run.
    ready: FxHashMap<usize, Ready>,
}

/// How the products of a program may be computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Products {
    /// Whether their forms are measured.
    pub tuning: Tuning,
    /// Whether factors in `f32` may be rounded to `f16`, where the device then multiplies faster.
    pub reduced: bool,
}

/// What a plan's steps need.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) steps: Vec<Code>,
    pub(super) constants: Vec<Resident>,
}

/// How a step runs.
#[derive(Debug)]
pub(super) enum Code {
    Shaders(Vec<Shader>),
    Copy,
    Control,
    Host(Arc<HostStep>),
}

/// A dispatch with its pipeline.
#[derive(Debug)]
pub(super) struct Shader {
    /// Its number among all of the program: the steps of a plan in order, those of plans inside it after them.
    pub(super) number: u32,
    pub(super) dispatch: Dispatch,
    pub(super) pipeline: Arc<Pipeline>,
}

/// What the outermost plan is known by.
pub(super) const OUTERMOST: usize = 0;

/// What a plan inside another is known by as long as that lives.
pub(super) fn key(block: &Block) -> usize {
    Arc::as_ptr(&block.plan) as usize
}

impl Program {
    /// Compiles the shaders of a plan.
    ///
    /// # Errors
    /// [`GpuError::Shader`]; constants that do not fit the device.
    pub fn new(plan: Verified, device: &Arc<Device>) -> Result<Arc<Self>, GpuError> {
        Self::with(plan, device, Products { tuning: Tuning::Off, reduced: false }, None)
    }

    /// As [`Program::new`], with products in the forms that are fastest by measurement, with what was kept on disk of the device's
    /// shaders and choices, and keeping what is new.
    ///
    /// # Errors
    /// As [`Program::new`]. What cannot be read, kept or measured is no error.
    pub fn with(
        plan: Verified,
        device: &Arc<Device>,
        products: Products,
        keep: Option<&Keep>,
    ) -> Result<Arc<Self>, GpuError> {
        let Products { tuning, reduced } = products;
        let all = plan.with_nested();
        let target = device.shaders(&all, reduced);
        device.tune(&all, tuning, &target, keep);
        let chosen = |step: &Step, inner: &Plan| device.choice(step, inner, tuning, &target);
        let one = |step: &Step, inner: &Plan| form(step, inner, chosen(step, inner), &target);
        let formed = |inner: &Plan| inner.steps.iter().map(|s| one(s, inner)).collect::<Vec<_>>();
        let forms: Vec<Vec<Form>> = all.iter().map(|inner| formed(inner)).collect();
        let dispatches = forms.iter().flatten().filter_map(|form| match form {
            Form::Shaders(all) => Some(all),
            Form::Copy | Form::Control | Form::Host(_) => None,
        });
        device.compile_all(dispatches.flatten(), keep);
        let mut ready = FxHashMap::default();
        let mut count = 0;
        for (i, (inner, forms)) in all.into_iter().zip(forms).enumerate() {
            let at = if i == 0 { OUTERMOST } else { std::ptr::from_ref(inner) as usize };
            let mut steps = Vec::with_capacity(forms.len());
            for (step, form) in inner.steps.iter().zip(forms) {
                steps.push(code(step, form, inner, device, &mut count).map_err(|e| in_step(e, step, inner))?);
            }
            let constants = inner.constants.iter().map(|c| Resident::upload(device, c));
            ready.insert(at, Ready { steps, constants: constants.collect::<Result<_, _>>()? });
        }
        device.check()?;
        Ok(Arc::new(Self { plan, device: Arc::clone(device), ready }))
    }

    /// The plan.
    pub fn plan(&self) -> &Verified {
        &self.plan
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The number of dispatches, and of steps that run on the host, in all plans.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.ready.values().flat_map(|r| &r.steps);
        all.fold((0, 0), |(shaders, hosts), code| match code {
            Code::Shaders(s) => (shaders + s.len(), hosts),
            Code::Host(_) => (shaders, hosts + 1),
            Code::Copy | Code::Control => (shaders, hosts),
        })
    }

    pub(super) fn ready(&self, key: usize) -> &Ready {
        &self.ready[&key]
    }
}

fn code(step: &Step, form: Form, plan: &Plan, device: &Device, count: &mut u32) -> Result<Code, GpuError> {
    Ok(match form {
        Form::Shaders(dispatches) => {
            let shader = |dispatch: Dispatch| {
                *count += 1;
                Ok(Shader { number: *count - 1, pipeline: device.pipeline(&dispatch)?, dispatch })
            };
            Code::Shaders(dispatches.into_iter().map(shader).collect::<Result<_, GpuError>>()?)
        }
        Form::Copy => Code::Copy,
        Form::Control => Code::Control,
        Form::Host(_) => Code::Host(Arc::new(HostStep::of(step, plan))),
    })
}

/// The error with the step that it comes from.
pub(super) fn in_step(error: GpuError, step: &Step, plan: &Plan) -> GpuError {
    if matches!(error, GpuError::Step { .. }) {
        return error;
    }
    let locs = step.locs.iter().filter(|l| l.is_known()).map(ToString::to_string).collect();
    GpuError::Step { step: title(step, plan), locs, source: Box::new(error) }
}

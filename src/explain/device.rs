//! What a device does in a call: its shaders, how they are dispatched, and what goes between it and the host.

use std::time::Duration;

use lehr_ir::Dim;
use lehr_ir::kernel::Cost;
use lehr_ir::loc::Loc;

/// A program on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceExplanation {
    /// The device's name.
    pub name: String,
    /// The distinct shaders, as text in the WebGPU Shading Language.
    pub shaders: Vec<String>,
    /// The steps of the plan and of those inside it, in order.
    pub steps: Vec<DeviceStep>,
    /// What is copied to the device in each call, with bytes.
    pub uploads: Vec<(String, Dim)>,
    /// What stays on the device from call to call, with bytes.
    pub stays: Vec<(String, Dim)>,
    /// What is read back in each call, with bytes; a call waits for it.
    pub downloads: Vec<(String, Dim)>,
}

/// A step on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceStep {
    /// The plan that it is a step of.
    pub plan: String,
    /// What it does, in few words.
    pub title: String,
    /// How.
    pub how: DeviceForm,
    /// The form that was the fastest, if it is a product and forms were measured
    /// ([`Options::tuning`](crate::Options::tuning)).
    pub measured: Option<String>,
    /// What it costs, each time it runs.
    pub cost: Cost,
    /// The user's lines that went into it.
    pub locs: Vec<Loc>,
}

/// How a step runs.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceForm {
    /// By shaders.
    Dispatches(Vec<DispatchExplanation>),
    /// By a copy on the device.
    Copy,
    /// By other steps, which the host puts in order; what it decides by is read back.
    Control,
    /// On the host: what the step reads comes back, and what it writes goes to the device.
    Host {
        /// Why.
        reason: String,
        /// Bytes that come back.
        reads: Dim,
        /// Bytes that go to the device.
        writes: Dim,
    },
}

/// One dispatch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DispatchExplanation {
    /// The position of its shader.
    pub shader: usize,
    /// How many workgroups run.
    pub groups: Dim,
    /// What is bound: buffers of the plan, and scratch memory with its bytes.
    pub operands: Vec<String>,
    /// How often it ran in the calls so far, and how long in all, if that was measured
    /// ([`Options::time_dispatches`](crate::Options::time_dispatches)).
    pub time: Option<(u32, Duration)>,
}

impl DeviceStep {
    /// The time of one run of all its dispatches; `None` unless each was measured.
    pub fn time(&self) -> Option<Duration> {
        match &self.how {
            DeviceForm::Dispatches(all) if !all.is_empty() => {
                all.iter().map(|d| d.time.and_then(|(runs, total)| total.checked_div(runs))).sum()
            }
            DeviceForm::Dispatches(_) | DeviceForm::Copy | DeviceForm::Control | DeviceForm::Host { .. } => None,
        }
    }
}

impl DeviceExplanation {
    /// The dispatches of all steps.
    pub fn dispatches(&self) -> usize {
        let count = |s: &DeviceStep| if let DeviceForm::Dispatches(all) = &s.how { all.len() } else { 0 };
        self.steps.iter().map(count).sum()
    }

    /// Notes how often each dispatch ran and how long, in order.
    #[cfg(feature = "gpu")]
    pub(super) fn note(&mut self, times: Vec<(u32, Duration)>) {
        let dispatches = self.steps.iter_mut().filter_map(|s| match &mut s.how {
            DeviceForm::Dispatches(all) => Some(all),
            DeviceForm::Copy | DeviceForm::Control | DeviceForm::Host { .. } => None,
        });
        for (dispatch, time) in dispatches.flatten().zip(times) {
            dispatch.time = Some(time);
        }
    }

    /// The steps that run on the host, with the reasons.
    pub fn on_host(&self) -> impl Iterator<Item = (&DeviceStep, &str)> {
        self.steps.iter().filter_map(|s| match &s.how {
            DeviceForm::Host { reason, .. } => Some((s, reason.as_str())),
            DeviceForm::Dispatches(_) | DeviceForm::Copy | DeviceForm::Control => None,
        })
    }
}

/// What becomes of a plan on the device that the options choose.
#[cfg(feature = "gpu")]
pub(super) fn explain(
    plan: &lehr_ir::Plan,
    options: &crate::options::Options,
) -> crate::error::Result<DeviceExplanation> {
    use lehr_backends::gpu::dispatch::Bound;
    use lehr_backends::gpu::step::{Form, form, title};
    use lehr_ir::graph::ParamKind;
    use lehr_ir::plan::{BufferId, Place};

    let device = crate::engine::gpu::device(&options.device)?;
    let target = device.shaders(&plan.with_nested(), options.reduced_precision);
    let mut shaders: Vec<String> = Vec::new();
    let mut steps = Vec::new();
    for inner in plan.with_nested() {
        let bytes = |all: &[BufferId]| -> Dim {
            let mut all = all.to_vec();
            all.sort_unstable();
            all.dedup();
            let decls = all.iter().filter_map(|b| inner.buffers.get(b.index()));
            decls.map(|d| &d.len * d.dtype.size() as i64).sum()
        };
        for step in &inner.steps {
            let choice = device.choice(step, inner, options.tuning, &target);
            let how = match form(step, inner, choice, &target) {
                Form::Copy => DeviceForm::Copy,
                Form::Control => DeviceForm::Control,
                Form::Host(reason) => {
                    let (reads, writes) = step.accesses(&inner.kernels);
                    DeviceForm::Host { reason, reads: bytes(&reads), writes: bytes(&writes) }
                }
                Form::Shaders(dispatches) => {
                    let one = |d: &lehr_backends::gpu::dispatch::Dispatch| {
                        let shader = shaders.iter().position(|s| **s == *d.text).unwrap_or_else(|| {
                            shaders.push(d.text.to_string());
                            shaders.len() - 1
                        });
                        let operand = |o: &lehr_backends::gpu::dispatch::Operand| match &o.buffer {
                            Bound::Plan(b) => b.to_string(),
                            Bound::Scratch(i, bytes) => format!("scratch {i} of {bytes} bytes"),
                        };
                        let operands = d.operands.iter().map(operand).collect();
                        DispatchExplanation { shader, groups: d.groups.clone(), operands, time: None }
                    };
                    DeviceForm::Dispatches(dispatches.iter().map(one).collect())
                }
            };
            let (plan, title) = (inner.name.clone(), title(step, inner));
            let cost = super::cost::step_cost(inner, &step.kind);
            let measured = choice.map(|c| c.to_string());
            steps.push(DeviceStep { plan, title, how, measured, cost, locs: step.locs.to_vec() });
        }
    }
    let named = |which: &dyn Fn(&Place) -> Option<String>| -> Vec<(String, Dim)> {
        let found = plan.buffers.iter().filter_map(|b| Some((which(&b.place)?, &b.len * b.dtype.size() as i64)));
        found.collect()
    };
    let param = |place: &Place, is_input: bool| match place {
        Place::Param(i) => {
            let p = &plan.params[*i as usize];
            ((p.kind == ParamKind::Input) == is_input).then(|| p.name.clone())
        }
        _ => None,
    };
    let output = |place: &Place| match place {
        Place::Output(i) => Some(plan.outputs[*i as usize].0.clone()),
        _ => None,
    };
    Ok(DeviceExplanation {
        name: device.name().to_owned(),
        shaders,
        steps,
        uploads: named(&|p| param(p, true)),
        stays: named(&|p| param(p, false)),
        downloads: named(&output),
    })
}

//! Devices as an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lehr_backends::gpu::{Arg, Device, Instance, Keep, Products, Program, Recorded, Resident, Spent};
use lehr_ir::graph::Graph;
use lehr_ir::target::DeviceChoice;
use lehr_ir::{Array, Target};
use lehr_passes::compile::lower_to_plan;

use super::{Call, Values, Workspace};
use crate::cache::KernelCounts;
use crate::error::{Error, Result};
use crate::function::Source;
use crate::options::Options;

/// A compiled program.
#[derive(Debug)]
pub(crate) struct Gpu {
    program: Arc<Program>,
    /// Whether dispatches are timed.
    timed: bool,
    /// Why nothing is kept on disk, if it was to be.
    refused: Option<String>,
}

/// What is kept between calls.
#[derive(Debug)]
pub(crate) struct Kept {
    instance: Instance,
    /// The captured arrays, where they have been copied.
    data: Vec<Option<(Array, Resident)>>,
}

impl Gpu {
    pub(crate) fn compile(graph: &Graph, options: &Options) -> Result<Self> {
        let device = device(&options.device)?;
        let lowered = lower_to_plan(graph, &device.target(), options.passes.rematerialize);
        let plan = lowered.map_err(|e| Error::Backend(e.to_string()))?.plan;
        let (keep, refused) = match options.cache.resolve().map(|(folder, most)| Keep::open(&folder, most)) {
            Some(Ok(keep)) => (Some(keep), None),
            Some(Err(why)) => (None, Some(why.to_string())),
            None => (None, None),
        };
        let products = Products { tuning: options.tuning, reduced: options.reduced_precision };
        let program = Program::with(plan, &device, products, keep.as_ref())?;
        let timed = options.time_dispatches;
        if timed {
            // A device that cannot is found out here and not in the first call.
            program.instance().time_dispatches()?;
        }
        Ok(Self { program, timed, refused })
    }

    pub(crate) fn kernel_counts(&self) -> KernelCounts {
        let (compiled, refused) = (self.program.counts().0, self.refused.clone());
        KernelCounts { compiled, refused, ..KernelCounts::default() }
    }

    /// Variables are taken from the device and stay there; their new values take effect together when all steps are recorded.
    pub(crate) fn run(&self, workspace: &mut Workspace, mut call: Call<'_>) -> Result<()> {
        let kept = self.kept(workspace)?;
        let there = self.there(kept, &call)?;
        let outputs = std::mem::take(&mut call.outputs);
        let new = kept.instance.run(&arguments(&there, &call)?, outputs)?;
        if let Some(trap) = call.trap {
            let all = |list: &[Resident]| list.iter().map(|r| Ok(r.download()?)).collect::<Result<Vec<_>>>();
            let args = call.sources.iter().map(|&s| call.argument(s).cloned()).collect::<Result<Vec<_>>>()?;
            trap.check(&args, call.bindings, outputs, &all(&new)?)?;
        }
        if let Values::Exclusive(values) = &mut call.values {
            for (&variable, value) in call.updates.iter().zip(new) {
                if let Some(slot) = call.slots.get(variable).and_then(|&s| values.get_mut(s)) {
                    *slot = value.into();
                }
            }
        }
        Ok(())
    }

    /// Records a call and drops what was recorded.
    pub(crate) fn rehearse(&self, workspace: &mut Workspace, call: &Call<'_>) -> Result<Option<Recorded>> {
        let kept = self.kept(workspace)?;
        let there = self.there(kept, call)?;
        Ok(kept.instance.rehearse(&arguments(&there, call)?)?)
    }

    /// What is kept between calls, made in the first.
    fn kept<'w>(&self, workspace: &'w mut Workspace) -> Result<&'w mut Kept> {
        Ok(match &mut workspace.device {
            Some(kept) => kept,
            none => none.insert(self.fresh()?),
        })
    }

    /// What is on the device before a call: variables and captured arrays.
    fn there(&self, kept: &mut Kept, call: &Call<'_>) -> Result<Vec<Option<Resident>>> {
        let device = self.program.device();
        let on_device = |&source| {
            Ok(match source {
                Source::Input(_) => None,
                Source::Variable(i) => Some(call.value(i)?.on(device)?),
                Source::Data(i) => Some(captured(&mut kept.data, i, call.argument(source)?, device)?),
            })
        };
        call.sources.iter().map(on_device).collect()
    }

    fn fresh(&self) -> Result<Kept> {
        let mut instance = self.program.instance();
        if self.timed {
            instance.time_dispatches()?;
        }
        Ok(Kept { instance, data: Vec::new() })
    }
}

impl Kept {
    /// What all calls have recorded.
    pub(crate) fn recorded(&self) -> Recorded {
        self.instance.recorded()
    }

    /// What each dispatch took.
    pub(crate) fn times(&self) -> Option<&[Spent]> {
        self.instance.times()
    }
}

/// The arguments of a call, where some are on the device.
fn arguments<'a>(there: &'a [Option<Resident>], call: &'a Call<'_>) -> Result<Vec<Arg<'a>>> {
    let all = call.sources.iter().zip(there).map(|(&source, resident)| match resident {
        Some(resident) => Ok(Arg::Device(resident)),
        None => Ok(Arg::Host(call.argument(source)?)),
    });
    all.collect()
}

/// A captured array on the device, copied on first sight.
fn captured(
    data: &mut Vec<Option<(Array, Resident)>>,
    i: usize,
    array: &Array,
    device: &Arc<Device>,
) -> Result<Resident> {
    if data.len() <= i {
        data.resize(i + 1, None);
    }
    if let Some((_, resident)) = data[i].as_ref().filter(|(known, _)| known.shares(array)) {
        return Ok(resident.clone());
    }
    let resident = Resident::upload(device, array)?;
    data[i] = Some((array.clone(), resident.clone()));
    Ok(resident)
}

/// What programs are lowered for.
pub(crate) fn target(options: &Options) -> Result<Target> {
    Ok(device(&options.device)?.target())
}

/// The device of a choice, opened on first use and kept by the process, as are its shaders.
pub(crate) fn device(choice: &DeviceChoice) -> Result<Arc<Device>> {
    static DEVICES: OnceLock<Mutex<BTreeMap<DeviceChoice, Arc<Device>>>> = OnceLock::new();
    let mut devices = DEVICES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = devices.get(choice) {
        return Ok(Arc::clone(device));
    }
    let device = Device::open(choice)?;
    devices.insert(choice.clone(), Arc::clone(&device));
    Ok(device)
}

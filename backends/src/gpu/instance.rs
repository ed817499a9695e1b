//! Instances: what one caller needs to run a program, one call at a time.

use std::sync::Arc;

use lehr_ir::array::{Data, Sizes};
use lehr_ir::eval::bind_types;
use lehr_ir::{Array, DType};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::bound::{Bound, Sequence};
use super::clock::{Clock, Spent};
use super::error::GpuError;
use super::layout;
use super::memory::{Memory, Resident, Staging};
use super::program::Program;
use super::record::{Recorded, Recorder};
use super::run::{Frame, Run, Slice, Slots};

/// Sets of sizes that are kept worked out.
const MOST_BOUND: usize = 16;

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// From the host; it is copied to the device.
    Host(&'a Array),
    /// On the device already; it has to be the program's.
    Device(&'a Resident),
}

impl Arg<'_> {
    fn dtype(&self) -> DType {
        match self {
            Self::Host(a) => a.dtype(),
            Self::Device(r) => r.dtype(),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Host(a) => a.shape(),
            Self::Device(r) => r.shape(),
        }
    }
}

/// The memory of one caller.
#[derive(Debug)]
pub struct Instance {
    program: Arc<Program>,
    /// The sets of sizes met last, the latest first.
    bound: Vec<Bound>,
    /// The sizes of the arguments of a call, one after the other; kept for its storage.
    shapes: Vec<usize>,
    /// Where arguments from the host go.
    inputs: Vec<Option<Arc<Memory>>>,
    outputs: Vec<Option<Arc<Memory>>>,
    /// For each update, the buffers that hold or held its new values: they are used in turn.
    updates: Vec<Vec<Arc<Memory>>>,
    slots: Slots,
    scratch: Vec<Slice>,
    staging: Staging,
    /// The end of the last call that was not waited for.
    unfinished: Option<wgpu::SubmissionIndex>,
    recorded: Recorded,
    clock: Option<Clock>,
}

impl Program {
    /// A new instance.
    pub fn instance(self: &Arc<Self>) -> Instance {
        Instance {
            bound: Vec::new(),
            shapes: Vec::new(),
            inputs: vec![None; self.plan.params.len()],
            outputs: vec![None; self.plan.outputs.len()],
            updates: vec![Vec::new(); self.plan.updates.len()],
            slots: FxHashMap::default(),
            scratch: Vec::new(),
            staging: Staging::default(),
            unfinished: None,
            recorded: Recorded::default(),
            clock: None,
            program: Arc::clone(self),
        }
    }
}

impl Instance {
    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What all calls that did not fail have recorded.
    pub fn recorded(&self) -> Recorded {
        self.recorded
    }

    /// From now on, times each dispatch by the device's clock. Calls then wait for each of their submissions.
    ///
    /// # Errors
    /// [`GpuError::NoTimestamps`].
    pub fn time_dispatches(&mut self) -> Result<(), GpuError> {
        if self.clock.is_none() {
            self.clock = Some(Clock::new(&self.program.device, self.program.counts().0)?);
        }
        Ok(())
    }

    /// What each dispatch took so far, in the order of the plan's steps, those of plans inside it after them; `None` if that is
    /// not measured.
    pub fn times(&self) -> Option<&[Spent]> {
        self.clock.as_ref().map(Clock::spent)
    }

    /// Runs the program on one argument for each parameter; gives the new value of each variable updated.
    ///
    /// There is a place for each output. An array found in a place is written into if it has the right dtype and shape and nobody
    /// shares it; any other is replaced by a fresh one. New values stay on the device. Without outputs, nothing is waited for.
    ///
    /// # Errors
    /// Arguments that do not fit; what a device lacks. Nothing counts as done then.
    pub fn run(&mut self, args: &[Arg<'_>], outputs: &mut [Array]) -> Result<Vec<Resident>, GpuError> {
        if outputs.len() != self.program.plan.outputs.len() {
            return Err(GpuError::Places { want: self.program.plan.outputs.len(), got: outputs.len() });
        }
        let (params, results) = self.place(args)?;
        for (arg, to) in args.iter().zip(&params) {
            if let Arg::Host(array) = arg {
                self.program.device.write(&to.memory, to.offset, array.data());
            }
        }
        let (sequence, types, mut run) = self.parts();
        run.sequence(sequence, Frame { params: &params, results: &results })?;
        let mut wanted: Vec<(Slice, &mut Data)> = Vec::with_capacity(outputs.len());
        for ((place, (dtype, shape, _)), from) in outputs.iter_mut().zip(types).zip(&results) {
            let fits = place.dtype() == *dtype && place.shape() == shape.as_slice() && place.get_mut().is_some();
            if !fits {
                *place = Array::zeros(*dtype, shape);
            }
            if let Some(data) = place.get_mut() {
                wanted.push((from.clone(), data));
            }
        }
        let (end, recorded) = run.finish(&mut wanted)?;
        let device = &self.program.device;
        if wanted.is_empty() {
            // At most one call is under way when the next is made.
            if let Some(index) = std::mem::replace(&mut self.unfinished, end) {
                let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
                device.device.poll(wait).map_err(|e| GpuError::Lost { reason: e.to_string() })?;
            }
        } else {
            self.unfinished = None;
        }
        device.check()?;
        self.recorded += recorded;
        let updates = results.into_iter().zip(&self.bound[0].results).skip(outputs.len());
        Ok(updates.map(|(s, (dtype, shape, _))| Resident::new(device, s.memory, *dtype, shape)).collect())
    }

    /// Records a call's commands and drops them: what recording costs where nothing else disturbs the processor, as the threads of
    /// a software adapter do. `None` for a program with steps on the host or steps that depend on values, which have to run.
    ///
    /// # Errors
    /// As [`Instance::run`].
    pub fn rehearse(&mut self, args: &[Arg<'_>]) -> Result<Option<Recorded>, GpuError> {
        let (params, results) = self.place(args)?;
        let (sequence, _, mut run) = self.parts();
        if !sequence.runs_unseen() {
            return Ok(None);
        }
        run.recorder.rehearse();
        run.sequence(sequence, Frame { params: &params, results: &results })?;
        let (_, recorded) = run.finish(&mut [])?;
        self.program.device.check()?;
        Ok(Some(recorded))
    }

    /// Where arguments and results are in this call.
    fn place(&mut self, args: &[Arg<'_>]) -> Result<(Vec<Slice>, Vec<Slice>), GpuError> {
        self.select(args)?;
        let (device, bound) = (&self.program.device, &self.bound[0]);
        let mut params = Vec::with_capacity(args.len());
        for ((arg, kept), &bytes) in args.iter().zip(&mut self.inputs).zip(&bound.params) {
            params.push(Slice::from(match arg {
                Arg::Device(resident) => Arc::clone(&resident.memory),
                Arg::Host(_) => reserve(device, kept, bytes)?,
            }));
        }
        let mut results = Vec::with_capacity(bound.results.len());
        for (kept, (.., bytes)) in self.outputs.iter_mut().zip(&bound.results) {
            results.push(Slice::from(reserve(device, kept, *bytes)?));
        }
        for (kept, (.., bytes)) in self.updates.iter_mut().zip(&bound.results[self.outputs.len()..]) {
            results.push(Slice::from(unused(device, kept, *bytes)?));
        }
        Ok((params, results))
    }

    /// The steps for the sizes in front, the types of their results, and what records them.
    fn parts(&mut self) -> (&mut Sequence, &[(DType, Sizes, u64)], Run<'_>) {
        let Bound { sequence, results, bindings, blocks, .. } = &mut self.bound[0];
        let run = Run {
            program: &self.program,
            bindings,
            blocks,
            slots: &mut self.slots,
            scratch: &mut self.scratch,
            staging: &mut self.staging,
            recorder: Recorder::new(&self.program.device, self.clock.as_mut()),
        };
        (sequence, results, run)
    }

    /// Brings the steps for the arguments' sizes to the front, working them out on first sight.
    fn select(&mut self, args: &[Arg<'_>]) -> Result<(), GpuError> {
        let plan = &self.program.plan;
        self.shapes.clear();
        for a in args {
            self.shapes.extend_from_slice(a.shape());
        }
        let typed = args.len() == plan.params.len()
            && args.iter().zip(&plan.params).all(|(a, p)| a.dtype() == p.ty.dtype && a.shape().len() == p.ty.rank());
        if typed && let Some(i) = self.bound.iter().position(|b| b.shapes == self.shapes) {
            self.bound[..=i].rotate_right(1);
            return Ok(());
        }
        let params = plan.params.iter().map(|p| (p.name.as_str(), &p.ty));
        let types: SmallVec<[(DType, &[usize]); 8]> = args.iter().map(|a| (a.dtype(), a.shape())).collect();
        let bindings = bind_types(&plan.name, params, &plan.facts, &types)?;
        let bound = Bound::new(&self.program, &self.shapes, bindings)?;
        self.bound.truncate(MOST_BOUND - 1);
        self.bound.insert(0, bound);
        Ok(())
    }
}

/// A buffer of at least so many bytes, kept from call to call.
pub(super) fn reserve(
    device: &super::Device,
    kept: &mut Option<Arc<Memory>>,
    bytes: u64,
) -> Result<Arc<Memory>, GpuError> {
    if let Some(memory) = kept.as_ref().filter(|m| m.bytes >= bytes) {
        return Ok(Arc::clone(memory));
    }
    // The old one goes before the new one comes.
    *kept = None;
    let memory = device.storage(bytes.max(layout::LEAST))?;
    *kept = Some(Arc::clone(&memory));
    Ok(memory)
}

/// A buffer of at least so many bytes that nobody else holds: two take turns if old values are let go.
fn unused(device: &super::Device, kept: &mut Vec<Arc<Memory>>, bytes: u64) -> Result<Arc<Memory>, GpuError> {
    kept.retain(|m| m.bytes >= bytes);
    if let Some(memory) = kept.iter().find(|m| Arc::strong_count(m) == 1) {
        return Ok(Arc::clone(memory));
    }
    let memory = device.storage(bytes)?;
    // Those that somebody else holds for longer are theirs.
    if kept.len() >= 2 {
        kept.remove(0);
    }
    kept.push(Arc::clone(&memory));
    Ok(memory)
}

//! Runs the steps of a program: has commands recorded, and reads back what the host needs.

use std::sync::Arc;

use lehr_ir::array::Data;
use lehr_ir::bindings::Bindings;
use rustc_hash::FxHashMap;
use wgpu::{BindGroupEntry, BindingResource, BufferBinding};

use super::bound::{At, Command, HostCall, Operands, Sequence, Shot, Spot};
use super::error::GpuError;
use super::layout;
use super::memory::{Memory, Staging};
use super::program::Program;
use super::record::{Recorded, Recorder};

mod control;

/// Bind groups that a dispatch keeps.
const MOST_GROUPS: usize = 4;

/// A buffer from some byte on.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) memory: Arc<Memory>,
    pub(super) offset: u64,
}

impl From<Arc<Memory>> for Slice {
    fn from(memory: Arc<Memory>) -> Self {
        Self { memory, offset: 0 }
    }
}

/// The slots of each plan.
pub(super) type Slots = FxHashMap<usize, Arc<Vec<Slice>>>;

/// What a plan is handed.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) params: &'a [Slice],
    /// Outputs, then updates.
    pub(super) results: &'a [Slice],
}

/// One call under way.
pub(super) struct Run<'a> {
    pub(super) program: &'a Program,
    pub(super) bindings: &'a Bindings,
    pub(super) blocks: &'a Memory,
    pub(super) slots: &'a mut Slots,
    pub(super) scratch: &'a mut Vec<Slice>,
    pub(super) staging: &'a mut Staging,
    pub(super) recorder: Recorder<'a>,
}

/// Where the buffers of a plan are at the moment.
struct Locate<'a> {
    frame: Frame<'a>,
    slots: Arc<Vec<Slice>>,
    constants: &'a [super::memory::Resident],
}

impl Locate<'_> {
    fn place(&self, at: At) -> Option<(&Arc<Memory>, u64)> {
        let slice = match at {
            At::Param(i) => self.frame.params.get(i as usize),
            At::Result(i) => self.frame.results.get(i as usize),
            At::Slot(i) => self.slots.get(i as usize),
            At::Constant(i) => return self.constants.get(i as usize).map(|r| (&r.memory, 0)),
            At::Scratch(_) => None,
        };
        slice.map(|s| (&s.memory, s.offset))
    }
}

impl<'a> Run<'a> {
    /// Records the steps of a plan.
    pub(super) fn sequence(&mut self, sequence: &mut Sequence, frame: Frame<'_>) -> Result<(), GpuError> {
        let slots = self.slots_of(sequence)?;
        let program = self.program;
        let here = Locate { frame, slots, constants: &program.ready(sequence.key).constants };
        for command in &mut sequence.commands {
            match command {
                Command::Dispatch(shot) => self.dispatch(shot, &here)?,
                Command::Copy { from, to } => {
                    let bytes = from.bytes.min(to.bytes);
                    let (from, to) = (self.locate(*from, &here)?, self.locate(*to, &here)?);
                    self.recorder.copy(&from, &to, bytes);
                }
                Command::Host(call) => self.host(call, &here)?,
                Command::Loop(l) => self.repeat(l, &here)?,
                Command::Branch(b) => self.branch(b, &here)?,
            }
        }
        Ok(())
    }

    /// Submits what is left, and reads results; gives the end of what was submitted, and what recording took.
    pub(super) fn finish(
        mut self,
        wanted: &mut [(Slice, &mut Data)],
    ) -> Result<(Option<wgpu::SubmissionIndex>, Recorded), GpuError> {
        if !wanted.is_empty() {
            self.read(wanted)?;
        }
        self.recorder.submit()?;
        Ok((self.recorder.last.take(), self.recorder.recorded))
    }

    /// The slots of a plan, made on first use, and larger where sizes have grown.
    fn slots_of(&mut self, sequence: &Sequence) -> Result<Arc<Vec<Slice>>, GpuError> {
        let known = self.slots.entry(sequence.key).or_default();
        let fits = |s: &Slice, bytes: &u64| s.memory.bytes >= *bytes;
        if known.len() < sequence.slots.len() || !known.iter().zip(&sequence.slots).all(|(s, b)| fits(s, b)) {
            let mut all: Vec<Slice> = Vec::with_capacity(sequence.slots.len());
            for (i, bytes) in sequence.slots.iter().enumerate() {
                let kept = known.get(i).filter(|s| fits(s, bytes)).cloned();
                all.push(match kept {
                    Some(slice) => slice,
                    None => self.program.device.storage(*bytes)?.into(),
                });
            }
            all.extend(known.iter().skip(all.len()).cloned());
            *known = Arc::new(all);
        }
        Ok(Arc::clone(known))
    }

    fn locate(&mut self, spot: Spot, here: &Locate<'_>) -> Result<Slice, GpuError> {
        if let Some((memory, offset)) = here.place(spot.at) {
            return Ok(Slice { memory: Arc::clone(memory), offset });
        }
        let At::Scratch(i) = spot.at else {
            return Err(GpuError::Refused { message: format!("{:?} is nowhere", spot.at) });
        };
        while self.scratch.len() <= i as usize {
            let memory = self.program.device.storage(layout::LEAST)?;
            self.scratch.push(memory.into());
        }
        let kept = &mut self.scratch[i as usize];
        if kept.memory.bytes < spot.bytes {
            *kept = self.program.device.storage(spot.bytes)?.into();
        }
        Ok(kept.clone())
    }

    fn dispatch(&mut self, shot: &mut Shot, here: &Locate<'_>) -> Result<(), GpuError> {
        let mut bound = Operands::new();
        for &spot in &shot.operands {
            bound.push(match here.place(spot.at) {
                Some((memory, offset)) => (memory.id, offset),
                None => {
                    let slice = self.locate(spot, here)?;
                    (slice.memory.id, slice.offset)
                }
            });
        }
        match shot.groups_of.iter().position(|(b, _)| *b == bound) {
            Some(0) => {}
            Some(i) => shot.groups_of[..=i].rotate_right(1),
            None => {
                let group = self.bind(shot, here)?;
                shot.groups_of.truncate(MOST_GROUPS - 1);
                shot.groups_of.insert(0, (bound, group));
            }
        }
        self.recorder.dispatch(shot, &shot.groups_of[0].1)
    }

    fn bind(&mut self, shot: &Shot, here: &Locate<'_>) -> Result<wgpu::BindGroup, GpuError> {
        let slices = shot.operands.iter().map(|&spot| self.locate(spot, here)).collect::<Result<Vec<_>, _>>()?;
        let resource = |buffer, offset, bytes| {
            BindingResource::Buffer(BufferBinding { buffer, offset, size: wgpu::BufferSize::new(bytes) })
        };
        let block = resource(&self.blocks.buffer, shot.block.0, shot.block.1);
        let operands =
            slices.iter().zip(&shot.operands).map(|(s, spot)| resource(&s.memory.buffer, s.offset, spot.bytes));
        let entries: Vec<BindGroupEntry<'_>> = std::iter::once(block)
            .chain(operands)
            .enumerate()
            .map(|(i, resource)| BindGroupEntry { binding: i as u32, resource })
            .collect();
        let layout = &shot.pipeline.layout;
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
        Ok(self.program.device.device.create_bind_group(&descriptor))
    }

    /// Runs a step on the host: all commands before it are done when it reads.
    fn host(&mut self, call: &HostCall, here: &Locate<'_>) -> Result<(), GpuError> {
        let mut reads: Vec<Data> = call.reads.iter().map(|&(_, dtype, n)| Data::zeros(dtype, n)).collect();
        let mut wanted = Vec::with_capacity(reads.len());
        for (&(spot, ..), data) in call.reads.iter().zip(&mut reads) {
            wanted.push((self.locate(spot, here)?, data));
        }
        self.read(&mut wanted)?;
        let written = call.step.run(reads, self.bindings)?;
        // What is written goes to the device before what is recorded from here on.
        self.recorder.resume();
        self.recorder.submit()?;
        for (&spot, data) in call.writes.iter().zip(&written) {
            let to = self.locate(spot, here)?;
            self.program.device.write(&to.memory, to.offset, data);
        }
        Ok(())
    }

    /// Reads buffers when all commands so far are done.
    fn read(&mut self, wanted: &mut [(Slice, &mut Data)]) -> Result<(), GpuError> {
        let device = &self.program.device;
        let mut starts = Vec::with_capacity(wanted.len());
        let mut end = 0u64;
        for (_, data) in wanted.iter() {
            let bytes = (data.len() as u64 * data.dtype().size() as u64).next_multiple_of(4);
            starts.push((end, bytes));
            end += bytes.next_multiple_of(layout::LEAST);
        }
        if end == 0 {
            return Ok(());
        }
        let staging = self.staging.reserve(device, end)?;
        let to = Slice::from(Arc::clone(&staging));
        for ((from, _), &(start, bytes)) in wanted.iter().zip(&starts) {
            if bytes > 0 {
                self.recorder.copy(from, &Slice { offset: start, ..to.clone() }, bytes);
            }
        }
        self.recorder.submit()?;
        Staging::read(device, &staging, end, |all| {
            for ((_, data), (start, bytes)) in wanted.iter_mut().zip(starts) {
                layout::decode(&all[start as usize..(start + bytes) as usize], data);
            }
        })?;
        self.recorder.resume();
        Ok(())
    }
}

//! Commands that are recorded and not submitted yet, and what recording costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bound::Shot;
use super::clock::Clock;
use super::device::Device;
use super::error::GpuError;
use super::run::Slice;

/// Dispatches after which commands are submitted the first time, so that the device starts while the rest is recorded.
pub(super) const CHUNK: u32 = 64;
/// The most dispatches of a submission. Each is twice as long as the one before: while the device works on one, there is time to
/// record the next, and what a submission costs is shared by more of them.
const MOST: u32 = 1024;

/// What was recorded, and how long that took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recorded {
    /// Dispatches.
    pub dispatches: u64,
    /// From a call's first step to its last, without submitting and waiting. Bind groups that are made count.
    pub time: Duration,
}

impl std::ops::AddAssign for Recorded {
    fn add_assign(&mut self, other: Self) {
        self.dispatches += other.dispatches;
        self.time += other.time;
    }
}

/// Records the commands of a call. All dispatches between two copies are one pass.
pub(super) struct Recorder<'a> {
    device: &'a Device,
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    /// The pipeline of the pass's last dispatch, by its address, which the program holds.
    pipeline: Option<usize>,
    /// Dispatches since the last submission.
    dispatches: u32,
    /// After how many of them the next submission is made.
    chunk: u32,
    /// What times each dispatch, which then is a pass of its own.
    clock: Option<&'a mut Clock>,
    /// Since when commands are being recorded.
    since: Instant,
    pub(super) recorded: Recorded,
    /// Commands are dropped, not submitted.
    rehearses: bool,
    pub(super) last: Option<wgpu::SubmissionIndex>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(device: &'a Device, clock: Option<&'a mut Clock>) -> Self {
        let (since, recorded) = (Instant::now(), Recorded::default());
        Self {
            device,
            encoder: None,
            pass: None,
            pipeline: None,
            dispatches: 0,
            chunk: CHUNK,
            clock,
            since,
            recorded,
            rehearses: false,
            last: None,
        }
    }

    /// From now on commands are dropped. None of them is timed, since none runs.
    pub(super) fn rehearse(&mut self) {
        self.rehearses = true;
        self.clock = None;
    }

    /// What happened until now was not recording, and the device is idle.
    pub(super) fn resume(&mut self) {
        self.since = Instant::now();
        self.chunk = CHUNK;
    }

    pub(super) fn dispatch(&mut self, shot: &Shot, group: &wgpu::BindGroup) -> Result<(), GpuError> {
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None => self.begin(shot.number),
        };
        let address = Arc::as_ptr(&shot.pipeline).addr();
        if self.pipeline.replace(address) != Some(address) {
            pass.set_pipeline(&shot.pipeline.pipeline);
        }
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(shot.groups[0], shot.groups[1], 1);
        if self.clock.is_none() {
            self.pass = Some(pass);
        }
        self.dispatches += 1;
        if self.dispatches < self.chunk {
            return Ok(());
        }
        self.submit()?;
        if self.clock.is_none() {
            self.chunk = (2 * self.chunk).min(MOST);
        }
        Ok(())
    }

    pub(super) fn copy(&mut self, from: &Slice, to: &Slice, bytes: u64) {
        // A pass has to end before anything else is recorded.
        self.pass = None;
        self.encoder().copy_buffer_to_buffer(&from.memory.buffer, from.offset, &to.memory.buffer, to.offset, bytes);
    }

    /// Submits what is recorded. With a clock, waits for it and notes the times.
    pub(super) fn submit(&mut self) -> Result<(), GpuError> {
        self.pass = None;
        self.recorded.dispatches += u64::from(std::mem::take(&mut self.dispatches));
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        if let Some(clock) = &mut self.clock {
            clock.resolve(&mut encoder);
        }
        // What wgpu checks and hands to the driver, it does at the end.
        let commands = encoder.finish();
        self.recorded.time += self.since.elapsed();
        if !self.rehearses {
            self.last = Some(self.device.queue.submit([commands]));
        }
        if let Some(clock) = &mut self.clock {
            clock.read(self.device)?;
        }
        self.since = Instant::now();
        Ok(())
    }

    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = &self.device.device;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    fn begin(&mut self, number: u32) -> wgpu::ComputePass<'static> {
        let timestamp_writes = self.clock.as_mut().map(|c| c.start(number));
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        self.pipeline = None;
        let device = &self.device.device;
        let fresh = || device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encoder.get_or_insert_with(fresh).begin_compute_pass(&descriptor).forget_lifetime()
    }
}

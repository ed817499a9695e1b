//! How long each dispatch takes, by the device's own timestamps.
//!
//! A timed dispatch is a pass of its own, because every device that has timestamps has them at the ends of passes, and a call waits
//! after each submission. So the whole of a timed call is slower than what its dispatches add up to.

use std::sync::Arc;
use std::time::Duration;

use wgpu::{BufferUsages, Features, QUERY_RESOLVE_BUFFER_ALIGNMENT, QUERY_SIZE};

use super::device::Device;
use super::error::GpuError;
use super::memory::{Memory, Staging};
use super::record::CHUNK;

/// The time that a dispatch has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Spent {
    /// How often it ran.
    pub runs: u32,
    /// The time of all runs.
    pub total: Duration,
}

impl Spent {
    /// The time of one run; `None` if there was none.
    pub fn mean(&self) -> Option<Duration> {
        self.total.checked_div(self.runs)
    }
}

/// Measures the dispatches of an instance.
#[derive(Debug)]
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: Arc<Memory>,
    staging: Staging,
    /// Nanoseconds of a tick.
    period: f64,
    /// The numbers of the dispatches since the last submission.
    running: Vec<u32>,
    /// By the numbers of dispatches.
    spent: Vec<Spent>,
}

impl Clock {
    /// A clock for so many dispatches.
    pub(super) fn new(device: &Device, dispatches: usize) -> Result<Self, GpuError> {
        if !device.device.features().contains(Features::TIMESTAMP_QUERY) {
            return Err(GpuError::NoTimestamps { adapter: device.name().to_owned() });
        }
        let queries = device.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2 * CHUNK,
        });
        let bytes = (u64::from(2 * CHUNK) * u64::from(QUERY_SIZE)).next_multiple_of(QUERY_RESOLVE_BUFFER_ALIGNMENT);
        Ok(Self {
            queries,
            resolved: device.memory(bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?,
            staging: Staging::default(),
            period: f64::from(device.queue.get_timestamp_period()),
            running: Vec::with_capacity(CHUNK as usize),
            spent: vec![Spent::default(); dispatches],
        })
    }

    /// What each dispatch has taken.
    pub(super) fn spent(&self) -> &[Spent] {
        &self.spent
    }

    /// What a pass of this dispatch alone writes.
    pub(super) fn start(&mut self, number: u32) -> wgpu::ComputePassTimestampWrites<'_> {
        let first = 2 * self.running.len() as u32;
        self.running.push(number);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// The last command before a submission.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        if !self.running.is_empty() {
            encoder.resolve_query_set(&self.queries, 0..2 * self.running.len() as u32, &self.resolved.buffer, 0);
        }
    }

    /// Waits for what was submitted, and adds its times.
    pub(super) fn read(&mut self, device: &Device) -> Result<(), GpuError> {
        if self.running.is_empty() {
            return Ok(());
        }
        let bytes = 2 * self.running.len() as u64 * u64::from(QUERY_SIZE);
        let staging = self.staging.reserve(device, self.resolved.bytes)?;
        let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.resolved.buffer, 0, &staging.buffer, 0, bytes);
        device.queue.submit([encoder.finish()]);
        let Self { running, spent, period, .. } = self;
        Staging::read(device, &staging, bytes, |read| {
            for (pair, number) in read.as_chunks::<16>().0.iter().zip(running.drain(..)) {
                let (from, to) = pair.split_at(8);
                let tick = |b: &[u8]| b.iter().rev().fold(0_u64, |all, b| all << 8 | u64::from(*b));
                let ns = tick(to).saturating_sub(tick(from)) as f64 * *period;
                if let Some(spent) = spent.get_mut(number as usize) {
                    spent.runs += 1;
                    spent.total += Duration::from_nanos(ns as u64);
                }
            }
        })
    }
}

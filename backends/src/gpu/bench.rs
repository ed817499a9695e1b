//! Dispatches outside of any program, on buffers of their own: to be measured, or to be tested.

use std::collections::BTreeMap;
use std::sync::Arc;

use lehr_ir::array::Data;
use lehr_ir::bindings::Bindings;
use lehr_ir::plan::BufferId;
use lehr_ir::{DType, Literal};

use super::device::Device;
use super::dispatch::{Bound, Dispatch, grid};
use super::error::GpuError;
use super::layout;
use super::memory::{Memory, Staging};
use super::pipeline::Pipeline;

/// Buffers by the names that dispatches have for them.
pub(super) struct Bench<'d> {
    pub(super) device: &'d Device,
    buffers: BTreeMap<BufferId, Buffer>,
    scratch: BTreeMap<u32, Arc<Memory>>,
}

struct Buffer {
    dtype: DType,
    written: bool,
    memory: Arc<Memory>,
}

/// A dispatch with all that it needs.
pub(super) struct Ready {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    groups: [u32; 2],
    /// Held by the bind group too; counted as long as this lives.
    _block: Arc<Memory>,
}

impl<'d> Bench<'d> {
    pub(super) fn new(device: &'d Device) -> Self {
        Self { device, buffers: BTreeMap::new(), scratch: BTreeMap::new() }
    }

    /// A buffer that is read, with these elements if there are any.
    pub(super) fn read(&mut self, id: BufferId, dtype: DType, len: usize, data: Option<&Data>) -> Result<(), GpuError> {
        let memory = self.add(id, dtype, len, false)?;
        if let Some(data) = data {
            self.device.write(&memory, 0, data);
        }
        Ok(())
    }

    /// A buffer that is written.
    pub(super) fn write(&mut self, id: BufferId, dtype: DType, len: usize) -> Result<(), GpuError> {
        self.add(id, dtype, len, true).map(|_| ())
    }

    /// Memory between dispatches.
    pub(super) fn scratch(&mut self, i: u32, bytes: u64) -> Result<(), GpuError> {
        self.scratch.insert(i, self.device.storage(bytes)?);
        Ok(())
    }

    /// The dtypes of what is written, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = DType> {
        self.buffers.values().filter(|b| b.written).map(|b| b.dtype)
    }

    /// Compiles dispatches and binds what they name; an error if there is nothing to run.
    pub(super) fn ready(&self, form: &[Dispatch]) -> Result<Vec<Ready>, GpuError> {
        let ready = form.iter().map(|d| self.one(d)).collect::<Result<Option<Vec<_>>, _>>()?;
        let nothing = || GpuError::Refused { message: "a product without dispatches".to_owned() };
        ready.filter(|all| !all.is_empty()).ok_or_else(nothing)
    }

    /// Runs dispatches once, and gives the bytes of what is written.
    pub(super) fn results(&self, ready: &[Ready]) -> Result<Vec<Vec<u8>>, GpuError> {
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // What an earlier run has left is not to be taken for this one's.
        let results = || self.buffers.values().filter(|b| b.written).map(|b| &b.memory);
        results().chain(self.scratch.values()).for_each(|m| encoder.clear_buffer(&m.buffer, 0, None));
        pass(&mut encoder, ready, None);
        self.device.queue.submit([encoder.finish()]);
        results().map(|memory| self.bytes(memory)).collect()
    }

    fn add(&mut self, id: BufferId, dtype: DType, len: usize, written: bool) -> Result<Arc<Memory>, GpuError> {
        let too_large = || GpuError::TooLargeToBind { bytes: u64::MAX, limit: self.device.limits.max_buffer_size };
        let bytes = layout::bytes(dtype, len as u64).ok_or_else(too_large)?;
        let memory = self.device.storage(bytes)?;
        self.buffers.insert(id, Buffer { dtype, written, memory: Arc::clone(&memory) });
        Ok(memory)
    }

    /// `None` if a number is out of range, or there is nothing to run.
    fn one(&self, d: &Dispatch) -> Result<Option<Ready>, GpuError> {
        let words = d.block(&Bindings::default())?;
        let groups = d.groups.as_const().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).and_then(grid);
        let (Some(words), Some(groups)) = (words, groups) else { return Ok(None) };
        let block: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let block = self.device.uniform(&block)?;
        let pipeline = self.device.pipeline(d)?;
        let mut resources = vec![block.buffer.as_entire_binding()];
        for operand in &d.operands {
            let memory = match &operand.buffer {
                Bound::Plan(id) => self.buffers.get(id).map(|b| &b.memory),
                Bound::Scratch(i, _) => self.scratch.get(i),
            };
            let Some(memory) = memory else { return Ok(None) };
            resources.push(memory.buffer.as_entire_binding());
        }
        let entry = |(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource };
        let entries: Vec<wgpu::BindGroupEntry<'_>> = resources.into_iter().enumerate().map(entry).collect();
        let layout = &pipeline.layout;
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
        let group = self.device.device.create_bind_group(&descriptor);
        Ok(Some(Ready { pipeline, group, groups, _block: block }))
    }

    fn bytes(&self, memory: &Memory) -> Result<Vec<u8>, GpuError> {
        let staging = Staging::default().reserve(self.device, memory.bytes)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&memory.buffer, 0, &staging.buffer, 0, memory.bytes);
        self.device.queue.submit([encoder.finish()]);
        let mut bytes = Vec::new();
        Staging::read(self.device, &staging, memory.bytes, |read| bytes.extend_from_slice(read))?;
        Ok(bytes)
    }
}

/// A pass of dispatches in order.
pub(super) fn pass(
    encoder: &mut wgpu::CommandEncoder,
    ready: &[Ready],
    timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
    for one in ready {
        pass.set_pipeline(&one.pipeline.pipeline);
        pass.set_bind_group(0, &one.group, &[]);
        pass.dispatch_workgroups(one.groups[0], one.groups[1], 1);
    }
}

/// The numbers of half precision that bytes are.
pub(super) fn halves(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(move |b| Literal::from_bits(dtype, [u16::from_le_bytes(*b).into(), 0]).to_f64())
}

/// The numbers of single precision that bytes are.
pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)))
}

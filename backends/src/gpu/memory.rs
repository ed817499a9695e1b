//! Buffers on a device: counted, checked against the device's limits, and read back.

use std::sync::Arc;
use std::sync::mpsc::channel;

use lehr_ir::array::{Data, Sizes};
use lehr_ir::eval::EvalError;
use lehr_ir::{Array, DType};
use wgpu::{BufferUsages, ErrorFilter};

use super::device::{Device, Live};
use super::error::GpuError;
use super::layout;

/// A buffer of a device. It is freed with its last owner, once no command uses it any more.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) buffer: wgpu::Buffer,
    /// No other buffer of the device has or had this number.
    pub(super) id: u64,
    pub(super) bytes: u64,
    live: Arc<Live>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.live.remove(self.bytes);
    }
}

impl Device {
    /// A buffer of at least so many bytes that shaders may read and write; its contents are zeros.
    pub(super) fn storage(&self, bytes: u64) -> Result<Arc<Memory>, GpuError> {
        let limit = self.limits.max_storage_buffer_binding_size;
        if bytes > limit {
            return Err(GpuError::TooLargeToBind { bytes, limit });
        }
        self.memory(bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST)
    }

    /// A buffer for the parameter blocks of shaders.
    pub(super) fn uniform(&self, contents: &[u8]) -> Result<Arc<Memory>, GpuError> {
        let memory = self.memory(contents.len() as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST)?;
        self.queue.write_buffer(&memory.buffer, 0, contents);
        Ok(memory)
    }

    /// A buffer for these uses.
    pub(super) fn memory(&self, bytes: u64, usage: BufferUsages) -> Result<Arc<Memory>, GpuError> {
        let bytes = bytes.max(layout::LEAST).next_multiple_of(layout::LEAST);
        let out_of_memory = || GpuError::OutOfMemory { bytes, used: self.live.bytes() };
        if bytes > self.limits.max_buffer_size {
            return Err(out_of_memory());
        }
        let scope = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        if pollster::block_on(scope.pop()).is_some() {
            return Err(out_of_memory());
        }
        let id = self.live.add(bytes);
        Ok(Arc::new(Memory { buffer, id, bytes, live: Arc::clone(&self.live) }))
    }

    /// Overwrites a buffer's first elements.
    pub(super) fn write(&self, memory: &Memory, offset: u64, data: &Data) {
        if !data.is_empty() {
            self.queue.write_buffer(&memory.buffer, offset, &layout::encode(data));
        }
    }
}

/// Where results are copied to, to be read by the host. It is kept, and grows on demand.
#[derive(Debug, Default)]
pub(super) struct Staging {
    memory: Option<Arc<Memory>>,
}

impl Staging {
    /// A buffer of at least so many bytes.
    pub(super) fn reserve(&mut self, device: &Device, bytes: u64) -> Result<Arc<Memory>, GpuError> {
        if let Some(memory) = self.memory.as_ref().filter(|m| m.bytes >= bytes) {
            return Ok(Arc::clone(memory));
        }
        let memory = device.memory(bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        self.memory = Some(Arc::clone(&memory));
        Ok(memory)
    }

    /// Reads a buffer's first bytes when all commands so far are done.
    pub(super) fn read(device: &Device, memory: &Memory, bytes: u64, take: impl FnOnce(&[u8])) -> Result<(), GpuError> {
        let slice = memory.buffer.slice(..bytes);
        let (tell, told) = channel();
        slice.map_async(wgpu::MapMode::Read, move |mapped| {
            // Nobody listens if waiting failed.
            let _ = tell.send(mapped.is_ok());
        });
        device.wait()?;
        let refused = |message: String| GpuError::Refused { message };
        // Another thread that waits for this device may be the one that tells, a moment after all work is done.
        if told.recv() != Ok(true) {
            return Err(refused("a buffer was not mapped".to_owned()));
        }
        let view = slice.get_mapped_range().map_err(|e| refused(e.to_string()))?;
        take(&view);
        drop(view);
        memory.buffer.unmap();
        Ok(())
    }
}

/// An array in the memory of a device. Clones share it, and nothing writes it.
#[derive(Clone, Debug)]
pub struct Resident {
    pub(super) memory: Arc<Memory>,
    pub(super) device: Arc<Device>,
    dtype: DType,
    shape: Sizes,
}

impl Resident {
    pub(super) fn new(device: &Arc<Device>, memory: Arc<Memory>, dtype: DType, shape: &[usize]) -> Self {
        Self { memory, device: Arc::clone(device), dtype, shape: shape.into() }
    }

    /// A copy of an array.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], [`GpuError::TooLargeToBind`].
    pub fn upload(device: &Arc<Device>, array: &Array) -> Result<Self, GpuError> {
        let range = || GpuError::Range { what: format!("an array of {} elements", array.len()) };
        let bytes = layout::bytes(array.dtype(), array.len() as u64).ok_or_else(range)?;
        let memory = device.storage(bytes)?;
        device.write(&memory, 0, array.data());
        Ok(Self::new(device, memory, array.dtype(), array.shape()))
    }

    /// Waits for what computes it, and copies it to the host.
    ///
    /// # Errors
    /// [`GpuError::Lost`].
    pub fn download(&self) -> Result<Array, GpuError> {
        let mut data = Data::zeros(self.dtype, self.shape.iter().product());
        if !data.is_empty() {
            let bytes = layout::encode(&data).len() as u64;
            let staging = Staging::default().reserve(&self.device, bytes)?;
            let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&self.memory.buffer, 0, &staging.buffer, 0, bytes);
            self.device.queue.submit([encoder.finish()]);
            Staging::read(&self.device, &staging, bytes, |read| layout::decode(read, &mut data))?;
        }
        Ok(Array::from_data(&self.shape, data).map_err(EvalError::from)?)
    }

    /// Its device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

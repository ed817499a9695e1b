//! Compiled shaders: one for each text, kept by the device.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use lehr_ir::kernel::Access;
use rustc_hash::FxHashMap;
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ErrorFilter, ShaderStages};

use super::device::Device;
use super::dispatch::Dispatch;
use super::error::GpuError;

/// From this many pipelines on, those that no program holds are dropped.
const MANY: usize = 2048;

/// A compiled shader.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    /// What is bound: the parameter block, then the operands. It is ours and not what wgpu finds in the text, which would leave out
    /// what the shader does not use.
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The pipelines of a device by their text.
#[derive(Debug, Default)]
pub(super) struct Pipelines(Mutex<FxHashMap<Arc<str>, Arc<Pipeline>>>);

impl Pipelines {
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Device {
    /// The pipeline of a dispatch's shader.
    pub(super) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<Pipeline>, GpuError> {
        let known = |all: &FxHashMap<Arc<str>, Arc<Pipeline>>| all.get(&dispatch.text).map(Arc::clone);
        if let Some(pipeline) = known(&self.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(pipeline);
        }
        // Compiled without the lock: others need not wait for a driver.
        let pipeline = Arc::new(self.compile(dispatch)?);
        let mut all = self.pipelines.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MANY {
            all.retain(|_, p| Arc::strong_count(p) > 1);
        }
        Ok(Arc::clone(all.entry(Arc::clone(&dispatch.text)).or_insert(pipeline)))
    }

    fn compile(&self, dispatch: &Dispatch) -> Result<Pipeline, GpuError> {
        let scope = self.device.push_error_scope(ErrorFilter::Validation);
        let pipeline = compile(&self.device, dispatch);
        match pollster::block_on(scope.pop()) {
            Some(e) => Err(GpuError::Shader { message: e.to_string() }),
            None => Ok(pipeline),
        }
    }
}

/// Compiles a dispatch's shader; what is wrong with it goes to the device's error scope.
pub(super) fn compile(device: &wgpu::Device, dispatch: &Dispatch) -> Pipeline {
    // The module is not trusted: wgpu adds the checks of indices that the device lacks.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(Cow::Borrowed(&dispatch.text)),
    });
    let uniform = std::iter::once(BufferBindingType::Uniform);
    let storage = dispatch.operands.iter().map(|o| BufferBindingType::Storage { read_only: o.access == Access::Read });
    let entry = |(i, ty)| BindGroupLayoutEntry {
        binding: i as u32,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let entries: Vec<BindGroupLayoutEntry> = uniform.chain(storage).enumerate().map(entry).collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
    let layout = device.create_bind_group_layout(&descriptor);
    let all = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: Some(&all),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    Pipeline { pipeline, layout }
}

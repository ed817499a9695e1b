//! Compiled shaders: one for each text, kept by the device.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lehr_ir::kernel::Access;
use rustc_hash::FxHashMap;
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ErrorFilter, ShaderStages};

use super::device::Device;
use super::dispatch::Dispatch;
use super::error::GpuError;
use super::keep::Keep;
use super::pipeline_cache::PipelineCache;

/// From this many pipelines on, those that no program holds are dropped.
const MANY: usize = 2048;
/// The most threads that compile: drivers have locks of their own.
const MOST_THREADS: usize = 8;

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
        self.lock().len()
    }

    /// Keeps a pipeline, unless somebody else was faster, whose it is then.
    fn add(&self, dispatch: &Dispatch, pipeline: Pipeline) -> Arc<Pipeline> {
        let mut all = self.lock();
        Arc::clone(all.entry(Arc::clone(&dispatch.text)).or_insert_with(|| Arc::new(pipeline)))
    }

    /// Drops what no program holds, if there is much.
    fn trim(&self) {
        let mut all = self.lock();
        if all.len() >= MANY {
            all.retain(|_, p| Arc::strong_count(p) > 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<Arc<str>, Arc<Pipeline>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    /// Compiles the shaders of dispatches that have not been compiled yet, several at a time, with what the driver has kept of them.
    /// Those that a driver refuses stay uncompiled: whoever asks for their pipelines gets the error.
    pub(super) fn compile_all<'d>(&self, dispatches: impl Iterator<Item = &'d Dispatch>, keep: Option<&Keep>) {
        let mut missing: FxHashMap<&str, &Dispatch> = FxHashMap::default();
        {
            let known = self.pipelines.lock();
            missing.extend(dispatches.filter(|d| !known.contains_key(&d.text)).map(|d| (&*d.text, d)));
        }
        let missing: Vec<&Dispatch> = missing.into_values().collect();
        if missing.is_empty() {
            return;
        }
        self.pipelines.trim();
        let cache = keep.and_then(|keep| PipelineCache::open(self, keep));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS).min(missing.len());
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(dispatch) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Ok(pipeline) = self.compile(dispatch, cache.as_ref()) {
                    self.pipelines.add(dispatch, pipeline);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        if let Some(cache) = cache {
            cache.keep(self);
        }
    }

    /// The pipeline of a dispatch's shader.
    pub(super) fn pipeline(&self, dispatch: &Dispatch) -> Result<Arc<Pipeline>, GpuError> {
        if let Some(pipeline) = self.pipelines.lock().get(&dispatch.text) {
            return Ok(Arc::clone(pipeline));
        }
        // Compiled without the lock: others need not wait for a driver.
        Ok(self.pipelines.add(dispatch, self.compile(dispatch, None)?))
    }

    fn compile(&self, dispatch: &Dispatch, cache: Option<&PipelineCache<'_>>) -> Result<Pipeline, GpuError> {
        // Scopes are a thread's own.
        let scope = self.device.push_error_scope(ErrorFilter::Validation);
        let pipeline = compile(&self.device, dispatch, cache.map(|c| &c.cache));
        match pollster::block_on(scope.pop()) {
            Some(e) => Err(GpuError::Shader { message: e.to_string() }),
            None => Ok(pipeline),
        }
    }
}

/// Compiles a dispatch's shader; what is wrong with it goes to the device's error scope.
pub(super) fn compile(device: &wgpu::Device, dispatch: &Dispatch, cache: Option<&wgpu::PipelineCache>) -> Pipeline {
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
        cache,
    });
    Pipeline { pipeline, layout }
}

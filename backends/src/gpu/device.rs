//! A device: what memory, pipelines and commands come from, shared by all programs that run on it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lehr_ir::target::{DeviceChoice, Memory as MemoryKind};
use lehr_ir::{DType, Target};
use wgpu::{Features, Limits};

use super::adapter::{AdapterFacts, choose, wanted};
use super::cooperative::{self, Matrices, experiments};
use super::error::GpuError;
use super::pipeline::Pipelines;
use super::tune::Choices;
use super::vendor::Vendor;
use super::wgsl::{Subgroups, WgslTarget};

/// The most storage buffers of one kernel that are of use: more would make one kernel of everything.
const MOST_BUFFERS: u32 = 64;
/// Elements that one workgroup covers in a flat map.
const MAP_CHUNK: i64 = 256;

/// A device and its queue.
#[derive(Debug)]
pub struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) limits: Limits,
    pub(super) pipelines: Pipelines,
    pub(super) live: Arc<Live>,
    /// What all shaders may use.
    pub(super) target: WgslTarget,
    pub(super) matrices: Matrices,
    name: String,
    /// What was chosen for products.
    pub(super) choices: Choices,
    /// Whether it is a program.
    pub(super) is_software: bool,
    /// Adapter and driver: what is kept for one is of no use to another.
    identity: String,
    faults: Arc<Faults>,
}

/// What there is on a device at the moment.
#[derive(Debug, Default)]
pub(super) struct Live {
    buffers: AtomicUsize,
    bytes: AtomicU64,
    made: AtomicU64,
}

/// What went wrong since somebody last looked. Drivers and wgpu tell of it on any thread.
#[derive(Debug, Default)]
struct Faults {
    refused: Mutex<Option<String>>,
    lost: Mutex<Option<String>>,
}

impl Device {
    /// Opens a device of this machine.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], with the adapters that there are; [`GpuError::NoDevice`].
    pub fn open(choice: &DeviceChoice) -> Result<Arc<Self>, GpuError> {
        let (adapter, AdapterFacts { name, subgroup, .. }) = choose(choice)?;
        let (features, limits) = wanted(&adapter);
        let request = |features: Features| {
            let descriptor = wgpu::DeviceDescriptor {
                required_features: features,
                required_limits: limits.clone(),
                experimental_features: experiments(features),
                ..wgpu::DeviceDescriptor::default()
            };
            pollster::block_on(adapter.request_device(&descriptor)).map(|(device, queue)| (device, queue, features))
        };
        // A driver that has trouble with an experiment is of use without.
        let opened = request(features).or_else(|_| request(features - cooperative::FEATURE));
        let (device, queue, features) =
            opened.map_err(|e| GpuError::NoDevice { adapter: name.clone(), reason: e.to_string() })?;
        let matrices = cooperative::size(&adapter).filter(|_| features.contains(cooperative::FEATURE));
        Ok(Self::new(device, queue, name, (features, subgroup), limits, matrices))
    }

    /// A device that takes everything and computes nothing, for tests of what is asked of devices.
    pub fn noop() -> Arc<Self> {
        let descriptor = wgpu::DeviceDescriptor::default();
        let (device, queue) = wgpu::Device::noop(&descriptor);
        let limits = device.limits();
        Self::new(device, queue, "noop".to_owned(), (descriptor.required_features, (0, 0)), limits, None)
    }

    fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        name: String,
        has: (Features, (u32, u32)),
        limits: Limits,
        matrices: Option<u32>,
    ) -> Arc<Self> {
        let faults = Arc::<Faults>::default();
        let seen = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| note(&seen.refused, e.to_string())));
        let seen = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            // Whoever drops a device needs no telling.
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&seen.lost, message);
            }
        });
        let info = device.adapter_info();
        let key = wgpu::util::pipeline_cache_key(&info).unwrap_or_default();
        let wgpu::AdapterInfo { name: adapter, vendor, device: model, driver, driver_info, backend, .. } = &info;
        let identity = format!("{key} {backend} {vendor:x}:{model:x} {adapter:?} {driver:?} {driver_info:?}");
        Arc::new(Self {
            choices: Choices::default(),
            is_software: info.device_type == wgpu::DeviceType::Cpu,
            identity,
            pipelines: Pipelines::default(),
            live: Arc::default(),
            target: wgsl_target(has, &limits, Vendor::of(&info)),
            matrices: Matrices::new(matrices),
            device,
            queue,
            limits,
            name,
            faults,
        })
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The adapter and its driver, with their versions.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// What plans are lowered for.
    pub fn target(&self) -> Target {
        Target {
            name: "gpu".to_owned(),
            contractions: vec![DType::F16, DType::BF16, DType::F32, DType::F64],
            dtypes: DType::ALL.into_iter().filter(|d| !matches!(d, DType::C64 | DType::C128)).collect(),
            max_buffers: self.target.storage_buffers,
            rows_in_results: false,
            max_tile_bytes: u32::try_from(self.target.workgroup_bytes / 2).unwrap_or(u32::MAX),
            map_chunk: MAP_CHUNK,
            memory: MemoryKind::Slots,
            ..Target::default()
        }
    }

    /// How many buffers this process has on the device, and their bytes.
    pub fn live(&self) -> (usize, u64) {
        (self.live.buffers.load(Ordering::Relaxed), self.live.bytes.load(Ordering::Relaxed))
    }

    /// How many distinct shaders have been compiled and are kept.
    pub fn pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// What has gone wrong since the last look.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        let look = |m: &Mutex<Option<String>>| m.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = look(&self.faults.lost) {
            return Err(GpuError::Lost { reason });
        }
        match self.faults.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(GpuError::Refused { message }),
            None => Ok(()),
        }
    }

    /// Waits until all that was submitted is done.
    pub(super) fn wait(&self) -> Result<(), GpuError> {
        match self.device.poll(wgpu::PollType::wait_indefinitely()) {
            Ok(_) => self.check(),
            Err(e) => {
                self.check()?;
                Err(GpuError::Lost { reason: e.to_string() })
            }
        }
    }
}

impl Live {
    /// Counts a buffer, and gives it a number that no other has.
    pub(super) fn add(&self, bytes: u64) -> u64 {
        self.buffers.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn remove(&self, bytes: u64) {
        self.buffers.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Keeps the first of several messages, which the others follow from.
fn note(at: &Mutex<Option<String>>, message: String) {
    at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
}

fn wgsl_target((features, (least, most)): (Features, (u32, u32)), limits: &Limits, vendor: Vendor) -> WgslTarget {
    WgslTarget {
        most_invocations: limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x),
        storage_buffers: limits.max_storage_buffers_per_shader_stage.min(MOST_BUFFERS) as usize,
        workgroup_bytes: u64::from(limits.max_compute_workgroup_storage_size),
        f16: features.contains(Features::SHADER_F16),
        i64: features.contains(Features::SHADER_INT64),
        f64: features.contains(Features::SHADER_F64),
        subgroups: features.contains(Features::SUBGROUP).then_some(Subgroups { least, most, named: false }),
        vendor,
        ..WgslTarget::default()
    }
}

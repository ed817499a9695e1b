//! The adapters of a machine: what can be asked of each, and which is taken.

use lehr_ir::target::DeviceChoice;
use wgpu::{Backends, DeviceType, Features, Instance, InstanceDescriptor, Limits};

use super::cooperative;
use super::error::GpuError;

/// The features that are asked for where an adapter has them.
const WANTED: [(Features, &str); 8] = [
    (Features::SHADER_F16, "f16"),
    (Features::SHADER_F64, "f64"),
    (Features::SHADER_INT64, "i64"),
    (Features::SUBGROUP, "subgroups"),
    (Features::TIMESTAMP_QUERY, "timestamps"),
    (Features::PIPELINE_CACHE, "pipeline cache"),
    (Features::SHADER_FLOAT32_ATOMIC, "float atomics"),
    (cooperative::FEATURE, "cooperative matrices"),
];

/// What is known of an adapter before it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AdapterFacts {
    /// Its name.
    pub name: String,
    /// The interface that it is driven through: `vulkan`, `metal`, `dx12`.
    pub interface: String,
    /// What it is: a card of its own, part of a processor, software.
    pub kind: &'static str,
    /// Its driver.
    pub driver: String,
    /// What it has of the features that lehr has a use for.
    pub features: Vec<&'static str>,
    /// The sizes of a subgroup, least and most.
    pub subgroup: (u32, u32),
    /// Storage buffers that a shader may bind.
    pub storage_buffers: u32,
    /// Bytes of the largest buffer that a shader may bind.
    pub binding_bytes: u64,
    /// Bytes of the largest buffer.
    pub buffer_bytes: u64,
    /// Bytes of memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Invocations of the largest workgroup.
    pub workgroup_size: u32,
}

/// The adapters of this machine, in the order in which [`DeviceChoice::Index`] counts.
pub fn adapters() -> Vec<AdapterFacts> {
    all().iter().map(facts).collect()
}

/// The adapter that a choice names.
pub(super) fn choose(choice: &DeviceChoice) -> Result<(wgpu::Adapter, AdapterFacts), GpuError> {
    let mut all: Vec<(wgpu::Adapter, AdapterFacts)> = all().into_iter().map(|a| (a.clone(), facts(&a))).collect();
    let at = match choice {
        DeviceChoice::Index(i) => (*i < all.len()).then_some(*i),
        DeviceChoice::Name(name) => {
            let name = name.to_lowercase();
            all.iter().position(|(_, f)| f.name.to_lowercase().contains(&name))
        }
        // The best, which is the first of its kind.
        _ => (0..all.len()).min_by_key(|&i| rank(all[i].0.get_info().device_type)),
    };
    match at {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let found = all.into_iter().map(|(_, f)| f.name).collect();
            Err(GpuError::NoAdapter { wanted: choice.clone(), found })
        }
    }
}

/// What a device is asked for: everything of use that its adapter has, and all of its limits. An experiment is of use in a form
/// that products can take.
pub(super) fn wanted(adapter: &wgpu::Adapter) -> (Features, Limits) {
    let mut wanted = WANTED.iter().fold(Features::empty(), |all, (f, _)| all | *f);
    if cooperative::size(adapter).is_none() {
        wanted.remove(cooperative::FEATURE);
    }
    (adapter.features() & wanted, adapter.limits())
}

fn all() -> Vec<wgpu::Adapter> {
    let backends = Backends::VULKAN | Backends::METAL | Backends::DX12;
    let descriptor = InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    pollster::block_on(Instance::new(descriptor).enumerate_adapters(backends))
}

fn facts(adapter: &wgpu::Adapter) -> AdapterFacts {
    let (info, (features, limits)) = (adapter.get_info(), wanted(adapter));
    AdapterFacts {
        name: info.name,
        interface: info.backend.to_string(),
        kind: kind(info.device_type),
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        features: WANTED.iter().filter(|(f, _)| features.contains(*f)).map(|(_, name)| *name).collect(),
        subgroup: (info.subgroup_min_size, info.subgroup_max_size),
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        binding_bytes: limits.max_storage_buffer_binding_size,
        buffer_bytes: limits.max_buffer_size,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
    }
}

fn rank(ty: DeviceType) -> u32 {
    match ty {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

fn kind(ty: DeviceType) -> &'static str {
    match ty {
        DeviceType::DiscreteGpu => "discrete GPU",
        DeviceType::IntegratedGpu => "integrated GPU",
        DeviceType::VirtualGpu => "virtual GPU",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    }
}

//! The devices of the backend [`gpu`](crate::Backend::Gpu).

use lehr_ir::target::DeviceChoice;

use crate::error::Result;

/// A device, as [`Options::device`](crate::Options::device) can name it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// The interface that it is driven through.
    pub interface: String,
    /// What it is: a card of its own, part of a processor, software.
    pub kind: String,
    /// Its driver.
    pub driver: String,
    /// What it has of the features that lehr has a use for.
    pub features: Vec<String>,
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

/// The devices of this machine, in the order in which [`DeviceChoice::Index`] counts.
///
/// # Errors
/// A build without the feature `gpu`.
pub fn adapters() -> Result<Vec<Adapter>> {
    #[cfg(feature = "gpu")]
    {
        let adapter = |a: lehr_backends::gpu::AdapterFacts| Adapter {
            name: a.name,
            interface: a.interface,
            kind: a.kind.to_owned(),
            driver: a.driver,
            features: a.features.iter().map(|f| (*f).to_owned()).collect(),
            subgroup: a.subgroup,
            storage_buffers: a.storage_buffers,
            binding_bytes: a.binding_bytes,
            buffer_bytes: a.buffer_bytes,
            workgroup_bytes: a.workgroup_bytes,
            workgroup_size: a.workgroup_size,
        };
        Ok(lehr_backends::gpu::adapters().into_iter().map(adapter).collect())
    }
    #[cfg(not(feature = "gpu"))]
    Err(crate::engine::not_built("gpu"))
}

/// How many buffers this process holds on a device at the moment, and their bytes.
///
/// # Errors
/// A choice that names no device; a build without the feature `gpu`.
pub fn in_use(device: &DeviceChoice) -> Result<(usize, u64)> {
    #[cfg(feature = "gpu")]
    {
        Ok(crate::engine::gpu::device(device)?.live())
    }
    #[cfg(not(feature = "gpu"))]
    {
        let _ = device;
        Err(crate::engine::not_built("gpu"))
    }
}

//! What a driver has compiled, as bytes to be kept.
#![expect(unsafe_code, reason = "wgpu trusts that a driver gets back what it gave")]

use super::device::Device;
use super::keep::{Keep, Kind};

/// A driver's cache of compiled shaders, begun with what was kept.
pub(super) struct PipelineCache<'k> {
    keep: &'k Keep,
    pub(super) cache: wgpu::PipelineCache,
}

impl<'k> PipelineCache<'k> {
    /// The cache of a device; `None` where its driver has none to be kept.
    pub(super) fn open(device: &Device, keep: &'k Keep) -> Option<Self> {
        if !device.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let kept = keep.read(Kind::Pipelines, device.identity());
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: kept.as_deref(), fallback: true };
        // SAFETY: the bytes have to be what the driver of such an adapter gave. `Keep::read` gives only what has the checksum of
        // what `PipelineCache::keep` wrote, for an adapter and a driver of the same names and versions, from a file of a folder
        // that nobody but this user may write to. Beyond that, wgpu compares the header with the adapter, and begins an empty
        // cache if they differ (`fallback`).
        let cache = unsafe { device.device.create_pipeline_cache(&descriptor) };
        Some(Self { keep, cache })
    }

    /// Keeps what is in it now.
    pub(super) fn keep(&self, device: &Device) {
        if let Some(bytes) = self.cache.get_data() {
            self.keep.write(Kind::Pipelines, device.identity(), &bytes);
        }
    }
}

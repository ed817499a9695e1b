//! What tests run dispatches with: naga's validation always, and execution on whatever adapter there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use lehr_ir::bindings::Bindings;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::interpret::BufferData;
use lehr_ir::plan::BufferId;
use wgpu::util::DeviceExt;

use super::cooperative;
use super::dispatch::{Bound, Dispatch, grid};
use super::pipeline::{Pipeline, compile};
use super::wgsl::{Subgroups, WgslTarget};

/// A device for tests.
pub struct Harness {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// By text.
    pipelines: Mutex<BTreeMap<Arc<str>, Arc<Pipeline>>>,
    /// What its shaders may use.
    pub target: WgslTarget,
    /// The size of its cooperative matrices, which its shaders may use too.
    pub matrices: Option<u32>,
}

/// The bytes of buffers.
pub type Memory = BTreeMap<BufferId, Vec<u8>>;

/// The device, if the machine has one; says so if not.
pub fn device() -> Option<&'static Harness> {
    static DEVICE: OnceLock<Option<Harness>> = OnceLock::new();
    let found = DEVICE.get_or_init(Harness::new).as_ref();
    if found.is_none() {
        println!("not executed: there is no adapter");
    }
    found
}

/// Has naga parse and validate a module, with default capabilities or with all of them.
pub fn validate(text: &str, rich: bool) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
    let all = naga::valid::Capabilities::all();
    let capabilities = if rich { all } else { naga::valid::Capabilities::default() };
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    if rich {
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    }
    if let Err(e) = validator.validate(&module) {
        panic!("{}\n{text}", e.emit_to_string(text));
    }
}

/// The bytes of elements, as the host has them.
pub fn bytes(data: &BufferData) -> Vec<u8> {
    let size = data.dtype().size();
    let of = |i| data.bits(i).unwrap_or_default().to_le_bytes();
    (0..data.len()).flat_map(|i| of(i).into_iter().take(size)).collect()
}

/// Elements from their bytes.
pub fn elements(dtype: DType, bytes: &[u8]) -> BufferData {
    let size = dtype.size();
    let mut data = BufferData::zeros(dtype, bytes.len() / size).expect("is a real dtype");
    for (i, chunk) in bytes.chunks_exact(size).enumerate() {
        let bits = chunk.iter().rev().fold(0_u64, |bits, b| bits << 8 | u64::from(*b));
        assert!(data.set_bits(i, bits));
    }
    data
}

impl Harness {
    fn new() -> Option<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).ok()?;
        let wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::SHADER_F64
            | wgpu::Features::SUBGROUP;
        let matrices = cooperative::size(&adapter);
        let wanted = if matrices.is_some() { wanted | cooperative::FEATURE } else { wanted };
        let features = adapter.features() & wanted;
        let (limits, info) = (adapter.limits(), adapter.get_info());
        let target = WgslTarget {
            storage_buffers: limits.max_storage_buffers_per_shader_stage as usize,
            most_invocations: limits.max_compute_invocations_per_workgroup,
            workgroup_bytes: u64::from(limits.max_compute_workgroup_storage_size),
            f16: features.contains(wgpu::Features::SHADER_F16),
            i64: features.contains(wgpu::Features::SHADER_INT64),
            f64: features.contains(wgpu::Features::SHADER_F64),
            subgroups: features.contains(wgpu::Features::SUBGROUP).then_some(Subgroups {
                least: info.subgroup_min_size,
                most: info.subgroup_max_size,
                named: false,
            }),
            ..WgslTarget::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            required_features: features,
            required_limits: limits,
            experimental_features: cooperative::experiments(features),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).ok()?;
        Some(Self { device, queue, pipelines: Mutex::default(), target, matrices })
    }

    /// Runs dispatches in order on buffers.
    pub fn run(&self, dispatches: &[Dispatch], bindings: &Bindings, memory: &mut Memory) {
        let mut buffers: BTreeMap<BufferId, wgpu::Buffer> = BTreeMap::new();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        for (id, bytes) in memory.iter() {
            let mut padded = bytes.clone();
            padded.resize(bytes.len().max(16).next_multiple_of(4), 0);
            let init = wgpu::util::BufferInitDescriptor { label: None, contents: &padded, usage };
            buffers.insert(*id, self.device.create_buffer_init(&init));
        }
        let mut scratch: BTreeMap<u32, wgpu::Buffer> = BTreeMap::new();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for d in dispatches {
            let groups = bindings.eval(&d.groups).expect("groups are known");
            let [x, y] = grid(groups as u64).expect("a grid");
            for o in &d.operands {
                if let Bound::Scratch(i, bytes) = &o.buffer {
                    let size = bindings.eval(bytes).expect("bytes are known").max(16) as u64;
                    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                    scratch.entry(*i).or_insert_with(|| self.device.create_buffer(&descriptor));
                }
            }
            let block = d.block(bindings).expect("words are known").expect("words are i32");
            let block: Vec<u8> = block.iter().flat_map(|w| w.to_le_bytes()).collect();
            let usage = wgpu::BufferUsages::UNIFORM;
            let init = wgpu::util::BufferInitDescriptor { label: None, contents: &block, usage };
            let block = self.device.create_buffer_init(&init);
            if groups == 0 {
                continue;
            }
            let resource = |o: &super::dispatch::Operand| match &o.buffer {
                Bound::Plan(id) => buffers[id].as_entire_binding(),
                Bound::Scratch(i, _) => scratch[i].as_entire_binding(),
            };
            let resources = std::iter::once(block.as_entire_binding()).chain(d.operands.iter().map(resource));
            let entries: Vec<wgpu::BindGroupEntry<'_>> = resources
                .enumerate()
                .map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource })
                .collect();
            let pipeline = self.pipeline(d);
            let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.layout,
                entries: &entries,
            });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
        self.queue.submit([encoder.finish()]);
        for (id, bytes) in memory.iter_mut() {
            let read = self.read(&buffers[id]);
            *bytes = read.get(..bytes.len()).expect("is as long").to_vec();
        }
    }

    fn pipeline(&self, d: &Dispatch) -> Arc<Pipeline> {
        let mut pipelines = self.pipelines.lock().expect("no thread failed");
        let made = pipelines.entry(Arc::clone(&d.text)).or_insert_with(|| Arc::new(compile(&self.device, d, None)));
        Arc::clone(made)
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = buffer.size();
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(wgpu::MapMode::Read, |mapped| mapped.expect("is mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        staging.slice(..).get_mapped_range().expect("is mapped").to_vec()
    }
}

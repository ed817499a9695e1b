//! Runs several forms of one product on the device, compares their results, and takes their times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lehr_ir::bindings::Bindings;
use lehr_ir::kernel::Access;
use lehr_ir::plan::{BufferId, Contract};
use lehr_ir::{Array, DType, Data, Literal, Plan};

use crate::gpu::clock::Clock;
use crate::gpu::device::Device;
use crate::gpu::dispatch::{Bound, Dispatch, grid};
use crate::gpu::error::GpuError;
use crate::gpu::layout;
use crate::gpu::memory::{Memory, Staging};
use crate::gpu::pipeline::Pipeline;

/// Timed runs of each form, of which the fastest counts.
const RUNS: u32 = 5;
/// A form has to be faster than the default by this factor: what is hardly faster is noise.
const GAIN: f64 = 0.97;
/// The most bytes of all operands together.
const MOST: u64 = 1 << 30;

/// The operands of a product, to run it on.
pub(super) struct Trial<'d> {
    device: &'d Device,
    plan: BTreeMap<BufferId, (DType, Arc<Memory>)>,
    scratch: BTreeMap<u32, Arc<Memory>>,
    /// What is written, and compared.
    results: Vec<BufferId>,
    /// How far from each other results may be, as a part of the greatest.
    tolerance: f64,
}

/// A dispatch with all that it needs.
struct Ready {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    groups: [u32; 2],
    /// Held by the bind group too; counted as long as this lives.
    _block: Arc<Memory>,
}

impl<'d> Trial<'d> {
    /// Operands for the forms of a product; `None` where some cannot be had, are too large, or are read and written by one dispatch.
    pub(super) fn of(device: &'d Device, plan: &Plan, c: &Contract, forms: &[Vec<Dispatch>]) -> Option<Self> {
        let terms = c.k.as_const()?;
        let unit = if c.dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        // What is rounded to half precision may fall to either side.
        let rounding = match c.dtype {
            DType::F16 => 0.5f64.powi(10),
            DType::BF16 => 0.5f64.powi(7),
            _ => 0.0,
        };
        let tolerance = unit * (terms as f64 + 16.0) + rounding;
        let mut trial =
            Self { device, plan: BTreeMap::new(), scratch: BTreeMap::new(), results: Vec::new(), tolerance };
        let (mut used, mut scratch) = (BTreeMap::new(), BTreeMap::new());
        for operand in forms.iter().flatten().flat_map(|d| &d.operands) {
            match &operand.buffer {
                _ if operand.access == Access::ReadWrite => return None,
                Bound::Plan(id) => *used.entry(*id).or_insert(false) |= operand.access == Access::Write,
                Bound::Scratch(i, bytes) => {
                    let bytes = u64::try_from(bytes.as_const()?).ok()?.max(layout::LEAST);
                    let most = scratch.entry(*i).or_insert(bytes);
                    *most = bytes.max(*most);
                }
            }
        }
        let mut total: u64 = scratch.values().sum();
        let mut sizes = Vec::with_capacity(used.len());
        for (&id, &written) in &used {
            let decl = plan.buffers.get(id.index())?;
            let len = usize::try_from(decl.len.as_const()?).ok()?;
            total = total.checked_add(layout::bytes(decl.dtype, len as u64)?)?;
            sizes.push((id, decl.dtype, len, written));
        }
        if total > MOST {
            return None;
        }
        for (id, dtype, len, written) in sizes {
            let memory = device.storage(layout::bytes(dtype, len as u64)?).ok()?;
            if written {
                trial.results.push(id);
            } else if let Some(array) = numbers(dtype, len, id) {
                device.write(&memory, 0, array.data());
            }
            trial.plan.insert(id, (dtype, memory));
        }
        for (i, bytes) in scratch {
            trial.scratch.insert(i, device.storage(bytes).ok()?);
        }
        Some(trial)
    }

    /// The position of the fastest form among those that give the results of the first; `None` if that one fails, or time is up
    /// before a second one was measured.
    pub(super) fn fastest(&self, forms: &[Vec<Dispatch>], until: Instant) -> Option<usize> {
        let mut clock = Clock::new(self.device, forms.len() * RUNS as usize).ok()?;
        let mut want: Option<Vec<Vec<u8>>> = None;
        let mut best: Option<(usize, f64)> = None;
        let mut measured = 0;
        for (i, form) in forms.iter().enumerate() {
            if Instant::now() >= until {
                break;
            }
            let first = i as u32 * RUNS;
            let ran = self.run(form, &mut clock, first);
            // What a driver refuses of a form is that form's fault alone.
            let ran = ran.and_then(|got| self.device.check().map(|()| got));
            let Ok(got) = ran else {
                want.as_ref()?;
                continue;
            };
            let times = clock.spent().get(first as usize..(first + RUNS) as usize)?;
            let time = times.iter().filter_map(|t| Some(t.mean()?.as_secs_f64())).fold(f64::INFINITY, f64::min);
            let Some(want) = &want else {
                want = Some(got);
                best = Some((i, time * GAIN));
                continue;
            };
            measured += 1;
            // A time of 0 is that of a clock that stands still.
            if self.agree(want, &got) && time > 0.0 && best.is_some_and(|(_, least)| time < least) {
                best = Some((i, time));
            }
        }
        best.filter(|_| measured > 0).map(|(i, _)| i)
    }

    /// Runs a form once for its results, then for its times, which get the numbers from `first` on.
    fn run(&self, form: &[Dispatch], clock: &mut Clock, first: u32) -> Result<Vec<Vec<u8>>, GpuError> {
        let nothing = || GpuError::Refused { message: "a product without dispatches".to_owned() };
        let ready = form.iter().map(|d| self.ready(d)).collect::<Result<Option<Vec<_>>, _>>()?;
        let ready = ready.filter(|all| !all.is_empty()).ok_or_else(nothing)?;
        let device = &self.device.device;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        // What an earlier form has left is not to be taken for this one's.
        let results = self.results.iter().filter_map(|id| self.plan.get(id)).map(|(_, memory)| memory);
        results.chain(self.scratch.values()).for_each(|m| encoder.clear_buffer(&m.buffer, 0, None));
        pass(&mut encoder, &ready, None);
        self.device.queue.submit([encoder.finish()]);
        let got = self.results.iter().map(|id| self.read(*id)).collect::<Result<Vec<_>, _>>()?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for number in first..first + RUNS {
            pass(&mut encoder, &ready, Some(clock.start(number)));
        }
        clock.resolve(&mut encoder);
        self.device.queue.submit([encoder.finish()]);
        clock.read(self.device)?;
        Ok(got)
    }

    /// `None` if a number is out of range, or there is nothing to run.
    fn ready(&self, d: &Dispatch) -> Result<Option<Ready>, GpuError> {
        let words = d.block(&Bindings::default())?;
        let groups = d.groups.as_const().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).and_then(grid);
        let (Some(words), Some(groups)) = (words, groups) else { return Ok(None) };
        let block: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let block = self.device.uniform(&block)?;
        let pipeline = self.device.pipeline(d)?;
        let mut resources = vec![block.buffer.as_entire_binding()];
        for operand in &d.operands {
            let memory = match &operand.buffer {
                Bound::Plan(id) => self.plan.get(id).map(|(_, m)| m),
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

    fn read(&self, id: BufferId) -> Result<Vec<u8>, GpuError> {
        let Some((_, memory)) = self.plan.get(&id) else { return Ok(Vec::new()) };
        let staging = Staging::default().reserve(self.device, memory.bytes)?;
        let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&memory.buffer, 0, &staging.buffer, 0, memory.bytes);
        self.device.queue.submit([encoder.finish()]);
        let mut bytes = Vec::new();
        Staging::read(self.device, &staging, memory.bytes, |read| bytes.extend_from_slice(read))?;
        Ok(bytes)
    }

    /// Whether results are the same up to how sums are rounded.
    fn agree(&self, want: &[Vec<u8>], got: &[Vec<u8>]) -> bool {
        let dtype = |id: &BufferId| self.plan.get(id).map(|(dtype, _)| *dtype);
        self.results.iter().zip(want.iter().zip(got)).all(|(id, (want, got))| match dtype(id) {
            Some(DType::F32) => near(floats(want), floats(got), self.tolerance),
            Some(dtype @ (DType::F16 | DType::BF16)) => near(halves(dtype, want), halves(dtype, got), self.tolerance),
            Some(DType::F64) => near(doubles(want), doubles(got), self.tolerance),
            // Whatever else an epilogue writes is compared as it is.
            _ => want == got,
        })
    }
}

fn pass(
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

/// Small integers, whose sums are exact in any order as long as they are not long, and never all 0; `None` for dtypes that are no
/// operands of products.
fn numbers(dtype: DType, len: usize, id: BufferId) -> Option<Array> {
    let mut state = 1 + u64::from(id.0);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8 % 7
    };
    match dtype {
        DType::F32 => Some(Array::from((0..len).map(|_| f32::from(next()) - 3.0).collect::<Vec<f32>>())),
        DType::F64 => Some(Array::from((0..len).map(|_| f64::from(next()) - 3.0).collect::<Vec<f64>>())),
        DType::F16 | DType::BF16 => {
            let mut data = Data::zeros(dtype, len);
            for i in 0..len {
                data.set(i, Literal::from_f64(dtype, f64::from(next()) - 3.0))?;
            }
            Array::from_data(&[len], data).ok()
        }
        _ => None,
    }
}

fn halves(dtype: DType, bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(move |b| Literal::from_bits(dtype, [u16::from_le_bytes(*b).into(), 0]).to_f64())
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)))
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))
}

fn near(want: impl Iterator<Item = f64> + Clone, got: impl Iterator<Item = f64>, tolerance: f64) -> bool {
    let most = want.clone().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()));
    want.zip(got).all(|(w, g)| w == g || w.is_nan() && g.is_nan() || (w - g).abs() <= tolerance * most)
}

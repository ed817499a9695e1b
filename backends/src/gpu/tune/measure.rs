//! Runs several forms of one product on the device, compares their results, and takes their times.

use std::collections::BTreeMap;
use std::time::Instant;

use lehr_ir::kernel::Access;
use lehr_ir::plan::{BufferId, Contract};
use lehr_ir::{Array, DType, Data, Literal, Plan};

use crate::gpu::bench::{self, Bench, floats, halves};
use crate::gpu::clock::Clock;
use crate::gpu::device::Device;
use crate::gpu::dispatch::{Bound, Dispatch};
use crate::gpu::error::GpuError;
use crate::gpu::layout;

/// Timed runs of each form, of which the fastest counts.
const RUNS: u32 = 5;
/// A form has to be faster than the default by this factor: what is hardly faster is noise.
const GAIN: f64 = 0.97;
/// The most bytes of all operands together.
const MOST: u64 = 1 << 30;

/// The operands of a product, to run it on.
pub(super) struct Trial<'d> {
    bench: Bench<'d>,
    /// How far from each other results may be, as a part of the greatest.
    tolerance: f64,
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
        let mut bench = Bench::new(device);
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
            if written {
                bench.write(id, dtype, len).ok()?;
            } else {
                bench.read(id, dtype, len, numbers(dtype, len, id).as_ref().map(Array::data)).ok()?;
            }
        }
        for (i, bytes) in scratch {
            bench.scratch(i, bytes).ok()?;
        }
        Some(Self { bench, tolerance })
    }

    /// The position of the fastest form among those that give the results of the first; `None` if that one fails, or time is up
    /// before a second one was measured.
    pub(super) fn fastest(&self, forms: &[Vec<Dispatch>], until: Instant) -> Option<usize> {
        let mut clock = Clock::new(self.bench.device, forms.len() * RUNS as usize).ok()?;
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
            let ran = ran.and_then(|got| self.bench.device.check().map(|()| got));
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
        let ready = self.bench.ready(form)?;
        let got = self.bench.results(&ready)?;
        let device = self.bench.device;
        let mut encoder = device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for number in first..first + RUNS {
            bench::pass(&mut encoder, &ready, Some(clock.start(number)));
        }
        clock.resolve(&mut encoder);
        device.queue.submit([encoder.finish()]);
        clock.read(device)?;
        Ok(got)
    }

    /// Whether results are the same up to how sums are rounded.
    fn agree(&self, want: &[Vec<u8>], got: &[Vec<u8>]) -> bool {
        self.bench.written().zip(want.iter().zip(got)).all(|(dtype, (want, got))| match dtype {
            DType::F32 => near(floats(want), floats(got), self.tolerance),
            DType::F16 | DType::BF16 => near(halves(dtype, want), halves(dtype, got), self.tolerance),
            DType::F64 => near(doubles(want), doubles(got), self.tolerance),
            // Whatever else an epilogue writes is compared as it is.
            _ => want == got,
        })
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

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> + Clone {
    bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))
}

fn near(want: impl Iterator<Item = f64> + Clone, got: impl Iterator<Item = f64>, tolerance: f64) -> bool {
    let most = want.clone().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()));
    want.zip(got).all(|(w, g)| w == g || w.is_nan() && g.is_nan() || (w - g).abs() <= tolerance * most)
}

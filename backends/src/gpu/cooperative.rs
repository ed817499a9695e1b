//! A device's cooperative matrices: which it has, and whether they compute what they should.
//!
//! wgpu counts them among its experiments, and naga checks no more of an instruction than the roles of its operands: a driver that
//! takes rows for columns gives wrong numbers and no error. So a device multiplies matrices with known products ([`known`]) before the
//! first program that would use the instructions, by the very shaders that programs get, in every shape that has a chance. Where
//! one number differs, or anything fails, products take their other forms for as long as the device is open.
#![expect(unsafe_code, reason = "wgpu wants to be told that its experiments are known to be such")]

use std::sync::OnceLock;

use lehr_ir::plan::StepKind;
use lehr_ir::{DType, Plan};
use wgpu::{CooperativeScalarType, ExperimentalFeatures, Features};

use super::bench::Bench;
use super::contract::choice::Choice;
use super::contract::dispatches;
use super::device::Device;
use super::error::GpuError;
use super::wgsl::{Cooperative, WgslTarget};

mod known;

use known::Known;

/// The feature.
pub(super) const FEATURE: Features = Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// What is known of the matrices of a device.
#[derive(Debug, Default)]
pub(super) struct Matrices {
    /// Their rows and columns, if there are any to be used.
    size: Option<u32>,
    /// Whether products of `f16` have come out right.
    halves: OnceLock<bool>,
    /// Whether products of `f32` with rounded factors have.
    rounded: OnceLock<bool>,
}

impl Matrices {
    pub(super) fn new(size: Option<u32>) -> Self {
        Self { size, ..Self::default() }
    }
}

/// The size of an adapter's matrices with factors in `f16` and sums in `f32`: the largest that text can name.
pub(super) fn size(adapter: &wgpu::Adapter) -> Option<u32> {
    let features = adapter.features();
    if !features.contains(FEATURE | Features::SHADER_F16 | Features::SUBGROUP) {
        return None;
    }
    let listed = adapter.cooperative_matrix_properties();
    let has = |size: u32| {
        listed.iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [size; 3]
                && p.ab_type == CooperativeScalarType::F16
                && p.cr_type == CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|size| has(*size))
}

/// What a device with these features is opened with.
pub(super) fn experiments(features: Features) -> ExperimentalFeatures {
    if !features.contains(FEATURE) {
        return ExperimentalFeatures::disabled();
    }
    // SAFETY: what has to be known is that an experiment may have bugs that safe calls run into. This one adds instructions to shaders
    // and nothing else. Ours are used as their specification wants: by whole subgroups, in a configuration that the adapter
    // lists, and on workgroup memory that the matrices lie in entirely.
    unsafe { ExperimentalFeatures::enabled() }
}

impl Device {
    /// What the shaders of these plans may use; `reduced` is whether factors in `f32` may be rounded to `f16`.
    ///
    /// The first plan with a product that takes cooperative matrices has them tested. Software multiplies no faster by them, and may
    /// take seconds to compile what tests them: there `reduced` is what asks for them, in `f16` too.
    pub fn shaders(&self, plans: &[&Plan], reduced: bool) -> WgslTarget {
        let has = |dtype| {
            let mut steps = plans.iter().flat_map(|p| &p.steps);
            steps.any(|s| matches!(&s.kind, StepKind::Contract(c) if c.dtype == dtype))
        };
        let halves = (reduced || !self.is_software) && has(DType::F16) && self.multiplies(DType::F16);
        let rounded = reduced && has(DType::F32) && self.multiplies(DType::F32);
        let cooperative = self.matrices.size.filter(|_| halves || rounded);
        let cooperative = cooperative.map(|size| Cooperative { size, halves, rounded });
        WgslTarget { cooperative, ..self.target }
    }

    /// Whether cooperative matrices give right products of a dtype here, by test at the first call.
    pub fn multiplies(&self, dtype: DType) -> bool {
        let tested = match dtype {
            DType::F16 => &self.matrices.halves,
            DType::F32 => &self.matrices.rounded,
            _ => return false,
        };
        let Some(size) = self.matrices.size else { return false };
        *tested.get_or_init(|| {
            let right = self.test(dtype, size).unwrap_or(false);
            if !right {
                // What the test has left to be found is its own.
                let _ = self.check();
            }
            right
        })
    }

    /// Multiplies what is known in all shapes.
    fn test(&self, dtype: DType, size: u32) -> Result<bool, GpuError> {
        let cooperative = Some(Cooperative { size, halves: true, rounded: true });
        let target = WgslTarget { cooperative, ..self.target };
        let known = Known::new(dtype);
        let mut bench = Bench::new(self);
        known.place(&mut bench)?;
        let mut ran = false;
        for choice in Choice::cooperative(&target) {
            let Ok(form) = dispatches(known.contract(), &[], Some(choice), &target) else { return Ok(false) };
            let got = bench.results(&bench.ready(&form)?)?;
            if !got.first().is_some_and(|got| known.is(got)) {
                return Ok(false);
            }
            ran = true;
        }
        self.check()?;
        Ok(ran)
    }
}

#[cfg(test)]
mod tests;

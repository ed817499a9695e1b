//! One kernel becomes one WGSL module with the entry point `main`.
//!
//! # Binding
//! Group 0 holds the parameter block at binding 0, a uniform of `lo: i32`, `hi: i32` (the iterations of the outermost loop to run),
//! `zero: u32` (always 0), then one `i32` a size in the kernel's order; and buffer `i` at binding `i + 1`.
//! Elements lie there as on the host: those smaller than a word are packed in words ([`storage`] says how they are stored to).
//!
//! # Mapping
//! A kernel with lane or reduce loops runs each iteration of its outermost loop in one workgroup: statements outside of those loops
//! are computed by every invocation alike and stored by the first, lane loops go over the invocations, and `reduce(L)` gives its
//! virtual lanes to the invocations and combines them in workgroup memory, the last of them within subgroups where there are any
//! (`subgroup.rs`), in exactly the kernel's order. Loops inside of these run in sequence in each invocation. A kernel without such
//! loops runs one iteration an invocation.
//! Iterations are counted over `x`, then `y` of the grid ([`groups`]), because one dimension ends at 65,535.
//!
//! # Range
//! Index values are `i32` here: all of them must lie within −2^31 .. 2^31 − 1, intermediate sums and products included.
//! Where the device has 64-bit integers, `i64` variables and index expressions over them have 64 bits; elsewhere they are index
//! values too, there are no `i64` buffers, and the identity of an `arg_max` or `arg_min` index is the greatest `i32`.
//!
//! # Numerics
//! Drivers assume away what f32 promises. A NaN is recognised by its bits, and `max`, `min` and `ne` are written with that test.
//! `params.zero`, whose value no compiler knows, hides infinities and NaNs from constant evaluation and, in `keep`, the roundings
//! that a recipe relies on from reassociation; what drivers conclude too much from is hidden in the same way (`hide.rs`). The sine
//! family selects the NaN of an infinite argument.
//! Subnormals, division and `fma` are as exact as the device makes them, and chains of arithmetic may be reassociated or fused, so
//! that infinities may meet elsewhere than in the kernel.

use lehr_ir::dim::{Dim, DimError};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Kernel, ScalarOp};
use lehr_ir::plan::BufferId;

use super::vendor::Vendor;

mod barrier;
mod cooperative;
#[cfg(test)]
mod execute;
pub(in crate::gpu) mod helpers;
mod hide;
mod index;
mod launch;
mod loops;
mod memory;
mod names;
mod ops;
pub(in crate::gpu) mod printer;
pub(in crate::gpu) mod recipe;
mod reduce;
pub(in crate::gpu) mod source;
pub(in crate::gpu) mod storage;
mod subgroup;
#[cfg(test)]
mod tests;

pub use cooperative::Cooperative;
pub use launch::launch;
pub(in crate::gpu) use launch::place;
pub use subgroup::Subgroups;

/// The most workgroups in one dimension of a grid.
const MAX_GROUPS: u64 = 65_535;

/// What the printer may use of a device. The default is what every WebGPU device has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WgslTarget {
    /// Invocations of a workgroup, at least 1.
    pub workgroup_size: u32,
    /// The most invocations that a workgroup may have.
    pub most_invocations: u32,
    /// The most storage buffers of a kernel.
    pub storage_buffers: usize,
    /// The most bytes of workgroup memory.
    pub workgroup_bytes: u64,
    /// Whether there are 16-bit floats, in storage too.
    pub f16: bool,
    /// Whether there are 64-bit integers, in storage too.
    pub i64: bool,
    /// Whether there are 64-bit floats, in storage too.
    pub f64: bool,
    /// The subgroups, if they may be used.
    pub subgroups: Option<Subgroups>,
    /// The cooperative matrices, if they may be used.
    pub cooperative: Option<Cooperative>,
    /// Who made it: what products begin with where nothing was measured.
    pub vendor: Vendor,
}

impl Default for WgslTarget {
    fn default() -> Self {
        Self {
            workgroup_size: 64,
            most_invocations: 256,
            storage_buffers: 8,
            workgroup_bytes: 16_384,
            f16: false,
            i64: false,
            f64: false,
            subgroups: None,
            cooperative: None,
            vendor: Vendor::Other,
        }
    }
}

/// Why a kernel has no WGSL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WgslError {
    /// Something that this printer does not write.
    #[error("the WGSL printer does not support {0}")]
    Unsupported(Unsupported),
    /// The kernel needs more than the target has.
    #[error("the kernel needs {need} {what}, the target has {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many the kernel needs.
        need: u64,
        /// How many there are.
        limit: u64,
    },
    /// An index expression without a value.
    #[error("an index has no value: {0}")]
    Index(#[from] DimError),
    /// The kernel breaks an invariant of the verifier.
    #[error("the kernel is not valid: {0}")]
    Invalid(&'static str),
}

/// What the printer does not write.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A dtype that storage or variables do not have.
    #[error("{dtype} in {place}")]
    DType {
        /// The dtype.
        dtype: DType,
        /// The buffer, tile or variable.
        place: String,
    },
    /// An operation on a dtype.
    #[error("`{op}` on {dtype}")]
    Op {
        /// The operation.
        op: ScalarOp,
        /// The dtype of its first operand.
        dtype: DType,
    },
    /// An integer beyond the range of index values.
    #[error("the index value {0}, which is no i32")]
    Range(i64),
    /// A condition on values from memory around a lane or reduce loop, where barriers need one decision of the workgroup.
    #[error("the condition `{0} >= 0` on values from memory around a lane or reduce loop")]
    Divergent(Dim),
}

impl From<Unsupported> for WgslError {
    fn from(unsupported: Unsupported) -> Self {
        Self::Unsupported(unsupported)
    }
}

/// The module of a verified kernel, each of whose buffers is another; the same text for the same kernel and target.
///
/// # Errors
/// [`WgslError`] where the kernel has something that WGSL or this printer does not, or where it exceeds the target.
pub fn print(kernel: &Kernel, target: &WgslTarget) -> Result<String, WgslError> {
    let buffers: Vec<BufferId> = (0..kernel.buffers.len() as u32).map(BufferId).collect();
    let sizes: Vec<Dim> = kernel.sizes.iter().cloned().map(Dim::from).collect();
    launch(kernel, &buffers, &sizes, &Dim::ZERO, target).map(|d| d.text.to_string())
}

/// The grid `[x, y]` of workgroups that runs `iterations` of a kernel's outermost loop;
/// `None` where their numbers would leave the range of index values.
pub fn groups(kernel: &Kernel, target: &WgslTarget, iterations: u64) -> Option<[u32; 2]> {
    let per_group = if loops::has_lanes(&kernel.body.body) { 1 } else { u64::from(target.workgroup_size.max(1)) };
    let total = iterations.div_ceil(per_group);
    let (x, y) = (total.min(MAX_GROUPS), total.div_ceil(MAX_GROUPS));
    // The last row of groups may be partly idle, but counts too.
    let counted = x.checked_mul(y)?.checked_mul(per_group)?;
    let fits = i32::try_from(counted).is_ok();
    fits.then(|| Some([u32::try_from(x).ok()?, u32::try_from(y).ok()?])).flatten()
}

pub(in crate::gpu) fn limit(what: &'static str, need: u64, limit: u64) -> WgslError {
    WgslError::Limit { what, need, limit }
}

//! Launches of kernels as dispatches.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Access, Kernel};
use lehr_ir::plan::Launch;

use super::dispatch::{Bound, Dispatch, Operand};
use super::wgsl::{WgslError, WgslTarget, groups, print};

/// The dispatch of a launch.
///
/// # Errors
/// As [`print`]; a launch that binds a buffer twice and writes it.
pub fn dispatch(launch: &Launch, kernels: &[Arc<Kernel>], target: &WgslTarget) -> Result<Dispatch, WgslError> {
    let kernel = &kernels[launch.kernel as usize];
    let mut operands = Vec::with_capacity(launch.buffers.len());
    for (&b, param) in launch.buffers.iter().zip(&kernel.buffers) {
        operands.push(Operand { buffer: Bound::Plan(b), access: param.access });
    }
    for (i, o) in operands.iter().enumerate() {
        let again =
            operands[..i].iter().any(|p| p.buffer == o.buffer && (p.access, o.access) != (Access::Read, Access::Read));
        if again {
            return Err(WgslError::Invalid("a buffer that is written is bound twice"));
        }
    }
    let mut words = vec![Dim::ZERO, launch.iterations.clone(), Dim::ZERO];
    words.extend(launch.sizes.iter().cloned());
    Ok(Dispatch {
        text: print(kernel, target)?.into(),
        operands: operands.into(),
        words,
        groups: launch.iterations.ceildiv(Dim::from(i64::from(per_group(kernel, target)))),
    })
}

/// The iterations of a kernel's outermost loop that one workgroup runs.
fn per_group(kernel: &Kernel, target: &WgslTarget) -> u32 {
    let size = target.workgroup_size.max(1);
    // Two iterations take two workgroups only if each has one for itself.
    if groups(kernel, target, 2) == Some([2, 1]) { 1 } else { size }
}

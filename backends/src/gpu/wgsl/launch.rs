//! Launches of kernels as dispatches.

use lehr_ir::dim::Dim;
use lehr_ir::kernel::{Access, Kernel};
use lehr_ir::plan::BufferId;

use super::names::{Names, word};
use super::printer::{Place, Printer};
use super::source::Source;
use super::storage::{self, Storage};
use super::{Unsupported, WgslError, WgslTarget, loops};
use crate::gpu::dispatch::{Bound, Dispatch};

/// The dispatch that runs iterations of a kernel's outermost loop, with a buffer for each of its buffers and a number for each of its
/// sizes. A buffer that serves for several is bound once.
///
/// # Errors
/// [`WgslError`] where the kernel has something that WGSL or this printer does not, or where it exceeds the target.
pub fn launch(
    kernel: &Kernel,
    buffers: &[BufferId],
    sizes: &[Dim],
    iterations: &Dim,
    target: &WgslTarget,
) -> Result<Dispatch, WgslError> {
    let by_group = loops::has_lanes(&kernel.body.body);
    match attempt(kernel, buffers, sizes, iterations, target, by_group) {
        // Invocations that need not agree may each run iterations of their own.
        Err(WgslError::Unsupported(Unsupported::Divergent(_))) if by_group => {
            attempt(kernel, buffers, sizes, iterations, target, false)
        }
        result => result,
    }
}

fn attempt(
    kernel: &Kernel,
    buffers: &[BufferId],
    sizes: &[Dim],
    iterations: &Dim,
    target: &WgslTarget,
    by_group: bool,
) -> Result<Dispatch, WgslError> {
    if buffers.len() != kernel.buffers.len() || sizes.len() != kernel.sizes.len() {
        return Err(WgslError::Invalid("a launch with other buffers or sizes than its kernel's"));
    }
    let mut source = Source::of_kernel(&kernel.name, iterations);
    let mut names = Names::default();
    let sizes = kernel.sizes.iter().zip(sizes).map(|(name, value)| {
        let name = names.fresh("size_", name.as_str());
        source.push_word(&name, value)
    });
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let places = (0..buffers.len()).map(|i| place(&mut source, kernel, buffers, i, target));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut printer = Printer::new(kernel, target, places, sizes)?;
    printer.root(by_group)?;
    printer.into_source(&mut source, by_group)?;
    let size = target.workgroup_size.max(1);
    let groups = if by_group { iterations.clone() } else { iterations.ceildiv(i64::from(size)) };
    source.dispatch(size, groups, target)
}

/// Binds a kernel's buffer, which stands in a list of theirs.
///
/// # Errors
/// A dtype that the target does not store.
pub(in crate::gpu) fn place(
    source: &mut Source,
    kernel: &Kernel,
    buffers: &[BufferId],
    i: usize,
    target: &WgslTarget,
) -> Result<Place, WgslError> {
    let (Some(b), Some(&id)) = (kernel.buffers.get(i), buffers.get(i)) else {
        return Err(WgslError::Invalid("a buffer that is not bound"));
    };
    let storage = Storage::of(b.dtype, target)
        .ok_or_else(|| Unsupported::DType { dtype: b.dtype, place: format!("`{}`", b.name) })?;
    let uses = || kernel.buffers.iter().zip(buffers).filter(|(_, other)| **other == id).map(|(b, _)| b.access);
    let stored = uses().any(Access::stores);
    let access = if !stored {
        Access::Read
    } else if uses().all(|a| a == Access::Write) {
        Access::Write
    } else {
        Access::ReadWrite
    };
    let name = source.bind(&format!("buf_{}", word(&b.name)), Bound::Plan(id), access, storage.element(stored));
    Ok(Place { name, atomic: storage.element(stored) == "atomic<u32>", at_hand: None })
}

impl Printer<'_> {
    /// Hands over what has been printed as the body of `main`.
    pub(super) fn into_source(self, source: &mut Source, by_group: bool) -> Result<(), WgslError> {
        for ((ty, number), len) in &self.shared {
            source.share(&format!("shared_{ty}_{number}"), ty, storage::bytes(ty), u64::from(*len));
        }
        for (i, tile) in self.kernel.tiles.iter().enumerate().filter(|_| by_group) {
            let ty = self.ty(tile.dtype)?;
            let name = self.tile_name(i);
            source.share(name, ty, storage::bytes(ty), u64::from(tile.len.max(1)));
        }
        if self.needs_subgroups {
            source.use_subgroups();
        }
        let (helpers, text) = self.into_text();
        source.help(helpers);
        source.append(text);
        Ok(())
    }
}

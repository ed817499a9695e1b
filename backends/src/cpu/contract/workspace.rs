//! The memory of the packed operands, kept from call to call.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::{Element, Isa};
use crate::cpu::pages::prefer_huge_pages;

/// Cache line, and the widest vector.
pub(super) const ALIGN: usize = 64;

/// Scratch memory of contractions, and the instruction set that they use.
///
/// It grows when a call needs more and is then reused: once it has seen the largest shape, no call allocates.
#[derive(Debug)]
pub struct Workspace {
    isa: Isa,
    buffer: Buffer,
}

impl Workspace {
    /// An empty workspace for the best instruction set of this processor.
    pub fn new() -> Workspace {
        Workspace { isa: Isa::best(), buffer: Buffer::empty() }
    }

    /// An empty workspace that forces an instruction set; `None` where the processor lacks it.
    pub fn with_isa(isa: Isa) -> Option<Workspace> {
        isa.available().then(|| Workspace { isa, buffer: Buffer::empty() })
    }

    /// The instruction set; this processor has it.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The bytes held at present.
    pub fn bytes(&self) -> usize {
        self.buffer.layout.size()
    }

    /// At least `elements` elements, uninitialised or left over from earlier calls, on a 64-byte boundary.
    pub(in crate::cpu) fn elements<T: Element>(&mut self, elements: usize) -> *mut T {
        let layout = layout::<T>(elements);
        if layout.size() > self.buffer.layout.size() {
            // The old buffer is freed first, so that the two never coexist.
            self.buffer = Buffer::empty();
            self.buffer = Buffer::new(layout);
        }
        self.buffer.ptr.cast().as_ptr()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Workspace::new()
    }
}

/// Gives an empty buffer a well-aligned address.
#[repr(align(64))]
struct Line;

/// An owned, aligned, uninitialised allocation.
#[derive(Debug)]
pub(super) struct Buffer {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a buffer owns its memory, and has no interior mutability.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access gives out the address only.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn empty() -> Buffer {
        // SAFETY: the alignment is a power of two and the size is 0.
        let layout = unsafe { Layout::from_size_align_unchecked(0, ALIGN) };
        Buffer { ptr: NonNull::<Line>::dangling().cast(), layout }
    }

    fn new(layout: Layout) -> Buffer {
        if layout.size() == 0 {
            return Buffer::empty();
        }
        // SAFETY: the size is not 0.
        let ptr = unsafe { alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else { handle_alloc_error(layout) };
        prefer_huge_pages(ptr.as_ptr(), layout.size());
        Buffer { ptr, layout }
    }

    /// Room for `elements` elements.
    pub(super) fn of<T: Element>(elements: usize) -> Buffer {
        Buffer::new(layout::<T>(elements))
    }

    pub(super) fn as_ptr<T: Element>(&self) -> *mut T {
        self.ptr.cast().as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
        }
    }
}

/// # Panics
/// If the size overflows an `isize`, which no existing operands can bring about.
fn layout<T: Element>(elements: usize) -> Layout {
    let bytes = elements.checked_mul(size_of::<T>()).expect("workspace size");
    Layout::from_size_align(bytes, ALIGN).expect("workspace size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_aligned_and_then_stays() {
        let mut workspace = Workspace::new();
        assert_eq!(workspace.bytes(), 0);
        let first = workspace.elements::<f32>(100);
        assert_eq!((first as usize % ALIGN, workspace.bytes()), (0, 400));
        assert_eq!(workspace.elements::<f64>(50).cast(), first);
        assert_eq!(workspace.elements::<f64>(51) as usize % ALIGN, 0);
        assert_eq!(workspace.bytes(), 408);
        assert_eq!(Buffer::of::<f32>(0).layout.size(), 0);
    }
}

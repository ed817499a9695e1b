//! Copies of operands in the order in which the tile kernels read them.
//!
//! A panel of B is a strip of columns as wide as a tile, row by row, padded with zeros to whole vectors;
//! a panel of A is a strip of rows as high as a tile, column by column.
//! Both are contiguous, so the kernels touch few pages and no two lines of a panel compete for one cache set.

use std::marker::PhantomData;
use std::ops::Range;

use super::micro::{Kernels, Panel};
use super::workspace::{Buffer, Workspace};
use super::{Axis, Element, Isa, View};
use crate::cpu::pool::Pool;

/// Rows of B that are packed at a time, so that neighbouring panels are read from the same rows while those are cached.
///
/// Few, and many panels together: so a row is read in runs of a kilobyte, which the processor prefetches.
const ROWS_AT_ONCE: usize = 4;

/// Panels that a task packs together.
pub(super) const PANELS_AT_ONCE: usize = 8;

/// A constant right operand, packed once for [`super::contract_packed`].
#[derive(Debug)]
pub struct PackedB<T> {
    isa: Isa,
    batch: usize,
    k: usize,
    n: usize,
    /// One copy serves the whole batch.
    shared: bool,
    buffer: Buffer,
    element: PhantomData<T>,
}

impl<T: Element> PackedB<T> {
    /// Packs `batch` matrices of k x n for the instruction set of `workspace`.
    ///
    /// Where the batch is one matrix repeated, only one copy is kept.
    ///
    /// # Safety
    /// Every element that `b` names is valid to read, and nobody writes to it during the call.
    pub unsafe fn new(b: &View<T>, batch: usize, k: usize, n: usize, pool: &Pool, workspace: &Workspace) -> PackedB<T> {
        let kernels = T::kernels(workspace.isa());
        let copies = if b.batch == Axis::even(0) { batch.min(1) } else { batch };
        let panels = n.div_ceil(kernels.max_cols());
        let matrix = panels * kernels.max_cols() * k;
        let packed = PackedB {
            isa: workspace.isa(),
            batch,
            k,
            n,
            shared: b.batch == Axis::even(0),
            buffer: Buffer::of::<T>(matrix * copies),
            element: PhantomData,
        };
        let groups = panels.div_ceil(PANELS_AT_ONCE);
        let to = Shared(packed.buffer.as_ptr::<T>());
        let from = Shared(b.ptr.cast_mut());
        let (batch, row, col) = (b.batch, b.row, b.col);
        pool.for_each(groups * copies, 1, &|_, tasks| {
            for task in tasks {
                let (copy, group) = (task / groups, task % groups);
                let first = group * PANELS_AT_ONCE;
                let ptr = from.get().wrapping_offset(batch.offset(copy));
                let view = View { ptr: ptr.cast_const(), batch, row, col };
                let range = first..panels.min(first + PANELS_AT_ONCE);
                // SAFETY: the caller vouches for B; the panels of a task belong to it alone and lie in the buffer.
                unsafe {
                    let dst = to.get().add(copy * matrix + first * kernels.max_cols() * k);
                    pack_b(kernels, &view, 0..k, n, range, dst, k);
                }
            }
        });
        packed
    }

    /// The instruction set whose layout this is.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Batch, k and n.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.batch, self.k, self.n)
    }

    /// The packed matrices as the driver wants them; the row stride is the width of a panel.
    pub(super) fn view(&self) -> View<T> {
        let width = T::kernels(self.isa).max_cols();
        let matrix = self.n.next_multiple_of(width) * self.k;
        View::strided(self.buffer.as_ptr(), if self.shared { 0 } else { matrix as isize }, width as isize, 1)
    }
}

/// Packs the panels `panels` of B over the rows `depth`; in `dst` a panel has `height` rows of `max_cols` elements.
///
/// # Safety
/// The processor has the instruction set; B (k x `n`) is valid to read and `dst` to write.
pub(super) unsafe fn pack_b<T: Element>(
    kernels: &Kernels<T>,
    b: &View<T>,
    depth: Range<usize>,
    n: usize,
    panels: Range<usize>,
    dst: *mut T,
    height: usize,
) {
    let padded = kernels.max_cols();
    let step = if b.col == Axis::even(1) { ROWS_AT_ONCE } else { depth.len().max(1) };
    let mut k0 = depth.start;
    while k0 < depth.end {
        let end = b.row.run_end(k0, depth.end).min(k0 + step);
        for (index, panel) in panels.clone().enumerate() {
            let cols = panel * padded..n.min((panel + 1) * padded);
            // SAFETY: these rows and columns exist, and panel `index` of `dst` has room for them.
            unsafe {
                let dst = dst.add((index * height + k0 - depth.start) * padded);
                pack(kernels, b.ptr, (b.col, cols), (b.row, k0..end), dst, padded);
            }
        }
        k0 = end;
    }
}

/// Packs the panel of the rows `rows` of A over the columns `depth`.
///
/// # Safety
/// The processor has the instruction set; A is valid to read and `dst` to write for `depth.len() * a_width` elements.
pub(super) unsafe fn pack_a<T: Element>(
    kernels: &Kernels<T>,
    a: &View<T>,
    rows: Range<usize>,
    depth: Range<usize>,
    dst: *mut T,
) {
    let padded = kernels.a_width();
    let mut k0 = depth.start;
    while k0 < depth.end {
        let end = a.col.run_end(k0, depth.end);
        // SAFETY: passed on to the caller.
        unsafe {
            let dst = dst.add((k0 - depth.start) * padded);
            pack(kernels, a.ptr, (a.row, rows.clone()), (a.col, k0..end), dst, padded);
        }
        k0 = end;
    }
}

/// Packs one panel over steps of one run: `padded` elements apart, the elements `width` of each step.
///
/// # Safety
/// As for [`pack_a`].
unsafe fn pack<T: Element>(
    kernels: &Kernels<T>,
    src: *const T,
    (minor, width): (Axis, Range<usize>),
    (major, depth): (Axis, Range<usize>),
    dst: *mut T,
    padded: usize,
) {
    let first = major.offset(depth.start);
    if minor.run_end(width.start, width.end) == width.end {
        // SAFETY: passed on to the caller; the elements of a step move evenly, and so do the steps.
        unsafe {
            (kernels.pack)(&Panel {
                src: src.offset(first + minor.offset(width.start)),
                minor: minor.stride(),
                major: major.stride(),
                width: width.len(),
                depth: depth.len(),
                dst,
                padded,
            });
        }
        return;
    }
    for (i, index) in width.enumerate() {
        let src = src.wrapping_offset(first + minor.offset(index));
        for step in 0..depth.len() {
            // SAFETY: the element exists, and the panel has room for it.
            unsafe { *dst.add(step * padded + i) = *src.offset(step as isize * major.stride()) };
        }
    }
}

/// A pointer that several threads use for disjoint elements.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub(super) *mut T);

// SAFETY: a bare address; who dereferences it vouches for the access.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Through a method, so that a closure captures the wrapper and not the field.
    pub(super) fn get(self) -> *mut T {
        self.0
    }
}

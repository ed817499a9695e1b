//! Copies of operands in the order in which the tile kernels read them.
//!
//! A panel of B is a strip of columns as wide as a tile, row by row, padded with zeros to whole vectors;
//! a panel of A is a strip of rows as high as a tile, column by column.
//! Both are contiguous, so the kernels touch few pages and no two lines of a panel compete for one cache set.

use std::marker::PhantomData;
use std::ops::Range;

use super::micro::{Kernels, Panel};
use super::workspace::{Buffer, Workspace};
use super::{Element, Isa, View};
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
    /// With a batch stride of 0, only one copy is kept.
    ///
    /// # Safety
    /// Every element that `b` names is valid to read, and nobody writes to it during the call.
    pub unsafe fn new(b: &View<T>, batch: usize, k: usize, n: usize, pool: &Pool, workspace: &Workspace) -> PackedB<T> {
        let kernels = T::kernels(workspace.isa());
        let copies = if b.batch_stride == 0 { batch.min(1) } else { batch };
        let panels = n.div_ceil(kernels.max_cols());
        let matrix = panels * kernels.max_cols() * k;
        let packed = PackedB {
            isa: workspace.isa(),
            batch,
            k,
            n,
            shared: b.batch_stride == 0,
            buffer: Buffer::of::<T>(matrix * copies),
            element: PhantomData,
        };
        let groups = panels.div_ceil(PANELS_AT_ONCE);
        let to = Shared(packed.buffer.as_ptr::<T>());
        let from = Shared(b.ptr.cast_mut());
        let (batch_stride, row_stride, col_stride) = (b.batch_stride, b.row_stride, b.col_stride);
        pool.for_each(groups * copies, 1, &|_, tasks| {
            for task in tasks {
                let (copy, group) = (task / groups, task % groups);
                let first = group * PANELS_AT_ONCE;
                let ptr = from.get().wrapping_offset(copy as isize * batch_stride);
                let view = View { ptr: ptr.cast_const(), batch_stride, row_stride, col_stride };
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
        View {
            ptr: self.buffer.as_ptr::<T>(),
            batch_stride: if self.shared { 0 } else { matrix as isize },
            row_stride: width as isize,
            col_stride: 1,
        }
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
    let step = if b.col_stride == 1 { ROWS_AT_ONCE } else { depth.len().max(1) };
    for k0 in depth.clone().step_by(step) {
        let rows = step.min(depth.end - k0);
        for (index, panel) in panels.clone().enumerate() {
            let col = panel * padded;
            // SAFETY: row `k0` and column `col` exist, and panel `index` of `dst` has room for these rows.
            unsafe {
                (kernels.pack)(&Panel {
                    src: b.ptr.offset(k0 as isize * b.row_stride + col as isize * b.col_stride),
                    minor: b.col_stride,
                    major: b.row_stride,
                    width: padded.min(n - col),
                    depth: rows,
                    dst: dst.add((index * height + k0 - depth.start) * padded),
                    padded,
                });
            }
        }
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
    // SAFETY: passed on to the caller.
    unsafe {
        (kernels.pack)(&Panel {
            src: a.ptr.offset(rows.start as isize * a.row_stride + depth.start as isize * a.col_stride),
            minor: a.row_stride,
            major: a.col_stride,
            width: rows.len(),
            depth: depth.len(),
            dst,
            padded: kernels.a_width(),
        });
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

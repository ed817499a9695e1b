//! Products of small matrices through the tile kernels of contractions, and copies into the layouts that these read.

use crate::cpu::contract::Element;
use crate::cpu::contract::micro::{Kernels, Panel, Tile};

/// A matrix to read; strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Matrix<T> {
    pub(super) ptr: *const T,
    pub(super) row: isize,
    pub(super) col: isize,
}

impl<T> Matrix<T> {
    /// Rows of `stride` contiguous elements.
    pub(super) fn rows(ptr: *const T, stride: usize) -> Self {
        Self { ptr, row: stride as isize, col: 1 }
    }

    /// The matrix with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    /// The rows from one on.
    pub(super) fn at_row(self, row: usize) -> Self {
        // The row exists wherever the result is read.
        Self { ptr: self.ptr.wrapping_offset(row as isize * self.row), ..self }
    }

    /// The columns from one on.
    pub(super) fn at_col(self, col: usize) -> Self {
        self.transposed().at_row(col).transposed()
    }

    /// # Safety
    /// The element exists.
    #[inline(always)]
    pub(super) unsafe fn at(&self, row: usize, col: usize) -> *const T {
        // SAFETY: passed on to the caller.
        unsafe { self.ptr.offset(row as isize * self.row + col as isize * self.col) }
    }
}

/// `c = a · b`, or `c += a · b` with `add`: a is `m` x `depth`, b `depth` x `n` with contiguous rows, c `m` x `n` with rows of
/// stride `c_row`.
///
/// # Safety
/// The processor has the instruction set; a and b are valid to read and c to write, by this thread alone, and to read with `add`.
pub(super) unsafe fn multiply<T: Element>(
    kernels: &Kernels<T>,
    [m, n, depth]: [usize; 3],
    a: Matrix<T>,
    b: Matrix<T>,
    c: *mut T,
    c_row: usize,
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    debug_assert_eq!(b.col, 1);
    let wide = kernels.max_cols();
    // Tiles of equal height, so that none is too low to keep the multipliers busy.
    let tiles = m.div_ceil(kernels.max_rows());
    let height = m.div_ceil(tiles);
    let table = if a.row == 1 { kernels.tile_unit } else { kernels.tile_strided };
    for col in (0..n).step_by(wide) {
        let cols = wide.min(n - col);
        for row in (0..m).step_by(height) {
            let rows = height.min(m - row);
            // SAFETY: the tile lies in c, and so do its rows in a and its columns in b.
            unsafe {
                (table[rows - 1][cols.div_ceil(kernels.lanes) - 1])(&Tile {
                    pieces: &[],
                    depth,
                    a: a.ptr.wrapping_offset(row as isize * a.row),
                    a_row: a.row,
                    a_depth: a.col,
                    b: b.ptr.wrapping_add(col),
                    b_depth: b.row,
                    b_next: 0,
                    c: c.add(row * c_row + col),
                    c_row: c_row as isize,
                    cols,
                    add,
                });
            }
        }
    }
}

/// Copies a matrix transposed: its `depth` columns become rows of `stride` elements, of which the first `width` are its rows, and
/// those up to `stride` are numbers that nobody uses.
///
/// # Safety
/// The processor has the instruction set; the matrix is valid to read and `dst` to write; `stride` is a multiple of the width of a
/// tile, at least `width`.
pub(super) unsafe fn transpose<T: Element>(
    kernels: &Kernels<T>,
    from: Matrix<T>,
    [width, depth]: [usize; 2],
    dst: *mut T,
    stride: usize,
) {
    if width % kernels.lanes != 0 {
        // SAFETY: passed on to the caller; zeros are all bits 0.
        unsafe { dst.write_bytes(0, depth * stride) };
    }
    for at in (0..width).step_by(kernels.max_cols()) {
        // SAFETY: the rows from `at` on exist, and so do as many elements of the result's rows.
        unsafe {
            (kernels.pack)(&Panel {
                src: from.at_row(at).ptr,
                minor: from.row,
                major: from.col,
                width: kernels.max_cols().min(width - at),
                depth,
                dst: dst.add(at),
                padded: stride,
            });
        }
    }
}

/// `rows` rows of `cols` contiguous elements: the matrix itself where its rows are, else a copy.
///
/// # Safety
/// The matrix is valid to read, and `copy` has room for `rows * cols` elements.
pub(super) unsafe fn contiguous<T: Copy>(from: Matrix<T>, [rows, cols]: [usize; 2], copy: *mut T) -> Matrix<T> {
    if from.col == 1 {
        return from;
    }
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the element exists, and the copy has room for it.
            unsafe { *copy.add(i * cols + j) = *from.at(i, j) };
        }
    }
    Matrix::rows(copy, cols)
}

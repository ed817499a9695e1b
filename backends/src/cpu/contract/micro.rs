//! The kernels of a contraction, written once over a [`Vector`] type, and the table through which the driver calls them.
//!
//! Each instruction set supplies vector types and thin wrappers that enable its target features.
//! The generic bodies are always inlined into those wrappers, so that they are compiled with the features of the wrapper.
//!
//! Within one call every element of C is one chain of multiply-adds in the order of the K index
//! (or, in [`dot`], one chain a lane and a fixed tree over the lanes).
//! So its bits do not depend on the size of the tile around it.

// Indices run over registers here: the loops must unroll, and several arrays share an index.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::Element;

/// The vectors of a full tile, side by side: a tile is this many vectors wide at most.
pub(in crate::cpu) const TILE_VECTORS: usize = 2;
/// Steps of K from which [`tile`] prefetches C: a shorter loop is over before C could arrive.
const C_PREFETCH_DEPTH: usize = 64;
/// Rows of B from the one that [`rows`] reads to the one that it prefetches.
const ROWS_AHEAD: isize = 4;
/// Steps of K that [`rows`] takes together.
const ROWS_DEPTH: usize = 512;
/// The most rows of C that [`dot`] and [`rows`] take.
pub(super) const SKINNY_ROWS: usize = 4;

/// One call of a [`tile`] or [`rows`] kernel: C (rows x `cols`) = or += A (rows x `depth`) * B (`depth` x `cols`).
///
/// Strides are in elements. B and C are contiguous along a row.
pub(in crate::cpu) struct Tile<'a, T> {
    pub(in crate::cpu) depth: usize,
    /// The columns of A that [`tile`] takes, in order; they are `depth` together. Without any, and for [`rows`], they move evenly.
    pub(in crate::cpu) pieces: &'a [Piece],
    pub(in crate::cpu) a: *const T,
    pub(in crate::cpu) a_row: isize,
    pub(in crate::cpu) a_depth: isize,
    pub(in crate::cpu) b: *const T,
    pub(in crate::cpu) b_depth: isize,
    /// Distance from a line of B to the one that the next call reads, for [`tile`] to prefetch; it need not exist.
    pub(in crate::cpu) b_next: isize,
    pub(in crate::cpu) c: *mut T,
    pub(in crate::cpu) c_row: isize,
    /// Columns of C; the number of rows belongs to the kernel.
    pub(in crate::cpu) cols: usize,
    /// Add to C, or overwrite it.
    pub(in crate::cpu) add: bool,
}

/// Columns of A that move evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cpu) struct Piece {
    /// Elements from the first column of A to the first of the piece.
    pub(super) at: isize,
    pub(super) steps: usize,
}

/// One call of a [`dot`] kernel: A is contiguous along its rows and B along its columns; C has any strides.
pub(super) struct Dot<T> {
    pub(super) depth: usize,
    pub(super) a: *const T,
    pub(super) a_row: isize,
    pub(super) b: *const T,
    pub(super) b_col: isize,
    pub(super) c: *mut T,
    pub(super) c_row: isize,
    pub(super) c_col: isize,
    /// Columns of C, from 1 to the number of columns of the kernel.
    pub(super) cols: usize,
    pub(super) add: bool,
}

/// One panel to pack: `depth` groups of `width` elements, which lie `padded` elements apart.
///
/// `padded` is a multiple of the vector's lanes.
/// What lies between the groups is unspecified: the kernels do not read it.
pub(in crate::cpu) struct Panel<T> {
    pub(in crate::cpu) src: *const T,
    /// Stride of `src` within a group.
    pub(in crate::cpu) minor: isize,
    /// Stride of `src` from group to group.
    pub(in crate::cpu) major: isize,
    pub(in crate::cpu) width: usize,
    pub(in crate::cpu) depth: usize,
    pub(in crate::cpu) dst: *mut T,
    pub(in crate::cpu) padded: usize,
}

pub(in crate::cpu) type TileFn<T> = unsafe fn(&Tile<'_, T>);
pub(super) type DotFn<T> = unsafe fn(&Dot<T>);
pub(in crate::cpu) type PackFn<T> = unsafe fn(&Panel<T>);

/// The kernels of one instruction set for one element type.
///
/// # Safety of the functions
/// The processor has the instruction set, and every element that the description names is valid to read (A, B, `src`)
/// or to write (C, `dst`) and not aliased by another thread.
pub struct Kernels<T: 'static> {
    /// Elements in a vector.
    pub(in crate::cpu) lanes: usize,
    /// By rows - 1 and vectors - 1, for A with `a_row == 1`.
    pub(in crate::cpu) tile_unit: &'static [[TileFn<T>; TILE_VECTORS]],
    /// By rows - 1 and vectors - 1, for any A.
    pub(in crate::cpu) tile_strided: &'static [[TileFn<T>; TILE_VECTORS]],
    /// By rows - 1.
    pub(super) rows: [TileFn<T>; SKINNY_ROWS],
    /// Vectors of columns that each of the `rows` kernels takes together.
    pub(super) rows_vectors: [usize; SKINNY_ROWS],
    /// By rows - 1.
    pub(super) dot: [DotFn<T>; SKINNY_ROWS],
    /// Columns of each of the `dot` kernels.
    pub(super) dot_cols: [usize; SKINNY_ROWS],
    pub(in crate::cpu) pack: PackFn<T>,
}

impl<T: Element> Kernels<T> {
    /// The most rows of a tile.
    pub(in crate::cpu) fn max_rows(&self) -> usize {
        self.tile_unit.len()
    }

    /// The columns of a full tile, which is also the width of a packed panel of B.
    pub(in crate::cpu) fn max_cols(&self) -> usize {
        self.lanes * TILE_VECTORS
    }

    /// The padded width of a packed panel of A.
    pub(super) fn a_width(&self) -> usize {
        self.max_rows().next_multiple_of(self.lanes)
    }
}

/// A vector of one instruction set.
///
/// # Safety of the functions
/// The processor has the instruction set; pointers are valid for the elements that the mask names, or for all lanes.
pub(in crate::cpu) trait Vector: Copy {
    type T: Element;
    /// Selects the first lanes of a vector.
    type Mask: Copy;
    const LANES: usize;

    unsafe fn zero() -> Self;
    unsafe fn splat(value: Self::T) -> Self;
    unsafe fn load(src: *const Self::T) -> Self;
    unsafe fn store(self, dst: *mut Self::T);
    /// The first `lanes` lanes, 0 to `LANES`.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// Lanes outside of the mask are zero and are not read.
    unsafe fn load_masked(src: *const Self::T, mask: Self::Mask) -> Self;
    unsafe fn store_masked(self, dst: *mut Self::T, mask: Self::Mask);
    /// A hint that this address is read soon; it need not be valid.
    unsafe fn prefetch(src: *const Self::T);
    unsafe fn add(self, other: Self) -> Self;
    /// `self + a * b`.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// The sum of the lanes in a fixed order.
    unsafe fn sum(self) -> Self::T;
    /// Transposes a block: row `i < rows` at `src + i * stride` has `cols` elements, rows from `rows` on are unspecified,
    /// and column `j < cols` goes to `dst + j * padded` as one whole vector. Both counts are at most `LANES`.
    unsafe fn transpose(src: *const Self::T, stride: isize, rows: usize, cols: usize, dst: *mut Self::T, padded: usize);
}

/// Fills a `Kernels` table from the functions `tile`, `rows`, `dot` and `pack` of the calling module.
macro_rules! kernels {
    ($vector:ty, $($rows:literal)*) => {
        $crate::cpu::contract::micro::Kernels {
            lanes: <$vector as $crate::cpu::contract::micro::Vector>::LANES,
            tile_unit: &[$([tile::<$vector, $rows, 1, true>, tile::<$vector, $rows, 2, true>]),*],
            tile_strided: &[$([tile::<$vector, $rows, 1, false>, tile::<$vector, $rows, 2, false>]),*],
            rows: [rows::<$vector, 1, 16>, rows::<$vector, 2, 8>, rows::<$vector, 3, 4>, rows::<$vector, 4, 4>],
            rows_vectors: [16, 8, 4, 4],
            dot: [dot::<$vector, 1, 8>, dot::<$vector, 2, 4>, dot::<$vector, 3, 4>, dot::<$vector, 4, 4>],
            dot_cols: [8, 4, 4, 4],
            pack: pack::<$vector>,
        }
    };
}
pub(super) use kernels;

/// A tile of `R` rows and up to `N` vectors, kept in registers over the whole depth.
///
/// With `UNIT`, A's row stride is 1 (a packed panel, or a column-major A).
///
/// # Safety
/// See [`Kernels`]; `t.cols` is above `(N - 1) * LANES` and at most `N * LANES`.
#[inline(always)]
pub(super) unsafe fn tile<V: Vector, const R: usize, const N: usize, const UNIT: bool>(t: &Tile<'_, V::T>) {
    // Each kind has a loop of its own: one that looks for pieces leaves too few registers for a tile of the largest size.
    // SAFETY: passed on to the caller.
    unsafe { if t.pieces.is_empty() { tile_of::<V, R, N, UNIT, false>(t) } else { tile_of::<V, R, N, UNIT, true>(t) } }
}

/// [`tile`] over an A that moves evenly, or, with `PIECES`, over one in pieces.
///
/// # Safety
/// See [`tile`]; there are pieces if and only if `PIECES`.
#[inline(always)]
unsafe fn tile_of<V: Vector, const R: usize, const N: usize, const UNIT: bool, const PIECES: bool>(t: &Tile<'_, V::T>) {
    let last = (N - 1) * V::LANES;
    let full = t.cols == N * V::LANES;
    // SAFETY: the caller vouches for the processor and for A (R x depth), B (depth x cols) and C (R x cols).
    // Accesses of whole vectors lie below `last`, or are made where `full` holds.
    unsafe {
        let mask = V::mask(t.cols - last);
        if t.depth >= C_PREFETCH_DEPTH {
            for r in 0..R {
                for v in 0..N {
                    let row = t.c.wrapping_offset(r as isize * t.c_row);
                    V::prefetch(row.wrapping_add(v * V::LANES));
                }
            }
        }
        const { assert!(R <= MOST_ROWS, "every row of the tile is multiplied, and has a base") };
        let mut acc = [[V::zero(); N]; R];
        let (mut pieces, mut b) = (t.pieces, t.b);
        let rows = Rows::<R, UNIT>::new(t.a_row * size_of::<V::T>() as isize);
        let (mut a, mut left) = (rows.bases(t.a), t.depth);
        if PIECES && let Some((first, rest)) = pieces.split_first() {
            (a, left, pieces) = (rows.bases(t.a.wrapping_offset(first.at)), first.steps, rest);
        }
        // One loop over all pieces, not a loop in a loop: so the tile stays in registers.
        for _ in 0..t.depth {
            let mut line = [V::zero(); N];
            for v in 0..N - 1 {
                line[v] = V::load(b.add(v * V::LANES));
            }
            line[N - 1] = V::load_masked(b.add(last), mask);
            for v in 0..N {
                V::prefetch(b.wrapping_offset(t.b_next).wrapping_add(v * V::LANES));
            }
            // Written out: the compiler does not unroll a loop over what `at` distinguishes.
            macro_rules! multiply {
                ($($r:literal)*) => {$(
                    if $r < R {
                        let x = V::splat(*rows.at::<$r, _>(&a));
                        for v in 0..N {
                            acc[$r][v] = acc[$r][v].fma(x, line[v]);
                        }
                    }
                )*};
            }
            multiply!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
            a = [a[0].wrapping_offset(t.a_depth), a[1].wrapping_offset(t.a_depth), a[2].wrapping_offset(t.a_depth)];
            b = b.wrapping_offset(t.b_depth);
            if PIECES {
                left -= 1;
                if left == 0
                    && let Some((next, rest)) = pieces.split_first()
                {
                    (a, left, pieces) = (rows.bases(t.a.wrapping_offset(next.at)), next.steps, rest);
                }
            }
        }
        for r in 0..R {
            let c = t.c.offset(r as isize * t.c_row);
            for v in 0..N {
                let at = c.add(v * V::LANES);
                if v < N - 1 || full {
                    let sum = if t.add { V::load(at).add(acc[r][v]) } else { acc[r][v] };
                    sum.store(at);
                } else {
                    let sum = if t.add { V::load_masked(at, mask).add(acc[r][v]) } else { acc[r][v] };
                    sum.store_masked(at, mask);
                }
            }
        }
    }
}

/// The most rows of a tile: those that [`tile`] writes out, and as many as three bases reach.
const MOST_ROWS: usize = 14;
/// Rows that one base reaches: 0, 1, 2 and 4 strides away by the scale of an address, and 3 by a register of its own.
const ROWS_PER_BASE: usize = 5;

/// How a tile reaches the elements of a column of A.
///
/// A row at `r` strides has an address of its own, and with 14 of them there are more than there are registers.
/// x86 addresses scale an index by 1, 2, 4 or 8. So with a base for every five rows, the stride and three times the stride,
/// all rows are reached by plain addresses, and what changes from step to step is the bases.
struct Rows<const R: usize, const UNIT: bool> {
    /// In bytes.
    stride: isize,
    triple: isize,
}

impl<const R: usize, const UNIT: bool> Rows<R, UNIT> {
    #[inline(always)]
    fn new(stride: isize) -> Self {
        // A compiler that knows what this is would compute an address for each row anew.
        Self { stride: std::hint::black_box(stride), triple: std::hint::black_box(3 * stride) }
    }

    /// The bases where row 0 is at `first`; those beyond the last row are not used.
    #[inline(always)]
    fn bases<T>(&self, first: *const T) -> [*const T; 3] {
        let base = |i: usize| {
            if UNIT || i * ROWS_PER_BASE >= R {
                first
            } else {
                first.wrapping_byte_offset((i * ROWS_PER_BASE) as isize * self.stride)
            }
        };
        [base(0), base(1), base(2)]
    }

    /// The element of row `ROW`, if it exists.
    #[inline(always)]
    fn at<const ROW: usize, T>(&self, bases: &[*const T; 3]) -> *const T {
        if UNIT {
            return bases[0].wrapping_add(ROW);
        }
        let base = bases[ROW / ROWS_PER_BASE];
        match ROW % ROWS_PER_BASE {
            0 => base,
            3 => base.wrapping_byte_offset(self.triple),
            n => base.wrapping_byte_offset(n as isize * self.stride),
        }
    }
}

/// `R` rows of any width, `N` vectors of columns at a time: reads B row by row, as it lies in memory.
///
/// This is for an A of few rows and a B too large for the cache: runs of `N` vectors are fetched some rows ahead.
/// The depth is cut so that the pages of its rows stay known to the processor from strip to strip.
///
/// # Safety
/// See [`Kernels`]; `t.depth` is above 0.
#[inline(always)]
pub(super) unsafe fn rows<V: Vector, const R: usize, const N: usize>(t: &Tile<'_, V::T>) {
    for first in (0..t.depth).step_by(ROWS_DEPTH) {
        let steps = first..t.depth.min(first + ROWS_DEPTH);
        let add = t.add || first > 0;
        let mut col = 0;
        // SAFETY: the steps and columns are part of the caller's A, B and C.
        unsafe {
            while col + N * V::LANES <= t.cols {
                rows_strip::<V, R, N>(t, steps.clone(), col, add);
                col += N * V::LANES;
            }
            while col + 2 * V::LANES <= t.cols {
                rows_strip::<V, R, 2>(t, steps.clone(), col, add);
                col += 2 * V::LANES;
            }
            while col < t.cols {
                rows_edge::<V, R>(t, steps.clone(), col, add);
                col += V::LANES;
            }
        }
    }
}

/// `N` whole vectors of columns from `col` on, over the steps `steps`.
///
/// # Safety
/// See [`rows`]; the steps and columns exist.
#[inline(always)]
unsafe fn rows_strip<V: Vector, const R: usize, const N: usize>(
    t: &Tile<'_, V::T>,
    steps: Range<usize>,
    col: usize,
    add: bool,
) {
    // SAFETY: every access is to a step in `steps`, a row below `R` and a column from `col` on in `N` vectors.
    unsafe {
        let mut acc = [[V::zero(); N]; R];
        if add {
            for r in 0..R {
                for v in 0..N {
                    acc[r][v] = V::load(t.c.offset(r as isize * t.c_row).add(col + v * V::LANES));
                }
            }
        }
        for k in steps {
            let (a, b) = (t.a.offset(k as isize * t.a_depth), t.b.offset(k as isize * t.b_depth).add(col));
            let mut x = [V::zero(); R];
            for r in 0..R {
                x[r] = V::splat(*a.offset(r as isize * t.a_row));
            }
            for v in 0..N {
                let at = b.add(v * V::LANES);
                V::prefetch(at.wrapping_offset(ROWS_AHEAD * t.b_depth));
                let line = V::load(at);
                for r in 0..R {
                    acc[r][v] = acc[r][v].fma(x[r], line);
                }
            }
        }
        for r in 0..R {
            for v in 0..N {
                acc[r][v].store(t.c.offset(r as isize * t.c_row).add(col + v * V::LANES));
            }
        }
    }
}

/// The columns from `col` on, as many as there are up to a vector.
///
/// # Safety
/// See [`rows`]; the steps exist, and `col < t.cols`.
#[inline(always)]
unsafe fn rows_edge<V: Vector, const R: usize>(t: &Tile<'_, V::T>, steps: Range<usize>, col: usize, add: bool) {
    // SAFETY: as for [`rows_strip`]; the mask names existing columns only.
    unsafe {
        let mask = V::mask(V::LANES.min(t.cols - col));
        let mut acc = [V::zero(); R];
        if add {
            for r in 0..R {
                acc[r] = V::load_masked(t.c.offset(r as isize * t.c_row).add(col), mask);
            }
        }
        for k in steps {
            let a = t.a.offset(k as isize * t.a_depth);
            let line = V::load_masked(t.b.offset(k as isize * t.b_depth).add(col), mask);
            for r in 0..R {
                acc[r] = acc[r].fma(V::splat(*a.offset(r as isize * t.a_row)), line);
            }
        }
        for r in 0..R {
            acc[r].store_masked(t.c.offset(r as isize * t.c_row).add(col), mask);
        }
    }
}

/// `R` rows times up to `N` columns as inner products along a contiguous K.
///
/// # Safety
/// See [`Kernels`]; `1 <= t.cols <= N`.
#[inline(always)]
pub(super) unsafe fn dot<V: Vector, const R: usize, const N: usize>(t: &Dot<V::T>) {
    // SAFETY: the caller vouches for A (R x depth), B (depth x cols) and C (R x cols).
    // Columns beyond `cols` are taken from the last one.
    unsafe {
        let mut column = [t.b; N];
        for n in 0..N {
            column[n] = t.b.offset(n.min(t.cols - 1) as isize * t.b_col);
        }
        let mut acc = [[V::zero(); N]; R];
        let mut k = 0;
        while k + V::LANES <= t.depth {
            let mut x = [V::zero(); R];
            for r in 0..R {
                x[r] = V::load(t.a.offset(r as isize * t.a_row).add(k));
            }
            for n in 0..N {
                let y = V::load(column[n].add(k));
                for r in 0..R {
                    acc[r][n] = acc[r][n].fma(x[r], y);
                }
            }
            k += V::LANES;
        }
        if k < t.depth {
            let mask = V::mask(t.depth - k);
            for n in 0..N {
                let y = V::load_masked(column[n].add(k), mask);
                for r in 0..R {
                    let x = V::load_masked(t.a.offset(r as isize * t.a_row).add(k), mask);
                    acc[r][n] = acc[r][n].fma(x, y);
                }
            }
        }
        for r in 0..R {
            for n in 0..N {
                if n < t.cols {
                    let c = t.c.offset(r as isize * t.c_row + n as isize * t.c_col);
                    let sum = acc[r][n].sum();
                    *c = if t.add { *c + sum } else { sum };
                }
            }
        }
    }
}

/// Packs a panel: copies rows where `src` is contiguous along a group, transposes blocks where it is along the depth.
///
/// # Safety
/// See [`Kernels`]; `1 <= width <= padded` and `padded` is a multiple of `LANES`.
#[inline(always)]
pub(super) unsafe fn pack<V: Vector>(p: &Panel<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe {
        if p.minor == 1 && p.width <= V::LANES {
            pack_rows::<V, 1>(p);
        } else if p.minor == 1 {
            pack_rows::<V, TILE_VECTORS>(p);
        } else if p.major == 1 {
            pack_columns::<V>(p);
        } else {
            for k in 0..p.depth {
                for i in 0..p.width {
                    *p.dst.add(k * p.padded + i) = *p.src.offset(k as isize * p.major + i as isize * p.minor);
                }
            }
        }
    }
}

/// Copies groups of at most `N` vectors.
///
/// # Safety
/// See [`pack`]; `(N - 1) * LANES < width <= N * LANES`.
#[inline(always)]
unsafe fn pack_rows<V: Vector, const N: usize>(p: &Panel<V::T>) {
    let last = (N - 1) * V::LANES;
    // SAFETY: reads are of a group below `depth` and an element below `width`, writes below `depth * padded`.
    unsafe {
        let mask = V::mask(p.width - last);
        for k in 0..p.depth {
            let (src, dst) = (p.src.offset(k as isize * p.major), p.dst.add(k * p.padded));
            for v in 0..N - 1 {
                V::load(src.add(v * V::LANES)).store(dst.add(v * V::LANES));
            }
            V::load_masked(src.add(last), mask).store(dst.add(last));
        }
    }
}

/// Transposes block by block, along the depth first: so there are no more than `LANES` streams to read at a time.
///
/// # Safety
/// See [`pack`]; `major == 1`.
#[inline(always)]
unsafe fn pack_columns<V: Vector>(p: &Panel<V::T>) {
    for at in (0..p.width).step_by(V::LANES) {
        let rows = V::LANES.min(p.width - at);
        for k in (0..p.depth).step_by(V::LANES) {
            let cols = V::LANES.min(p.depth - k);
            // SAFETY: the block lies in `src`, and its columns in `dst`.
            unsafe {
                let src = p.src.offset(at as isize * p.minor).add(k);
                V::transpose(src, p.minor, rows, cols, p.dst.add(k * p.padded + at), p.padded);
            }
        }
    }
}

//! Products with few rows, where packing would cost as much as the product.
//!
//! Both ways read B once, where it lies: `rows` streams a row-major B, `dot` a B that is contiguous along K.
//! A and C are small then, and may have any strides.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::driver::{Crew, Job};
use super::micro::{Dot, Kernels, SKINNY_ROWS, Tile};
use super::pack::Shared;
use super::{Axis, Element};

/// The most rows that `dot` is for.
pub(super) const DOT_ROWS: usize = 8;

/// The most rows that `rows` is for: with more, tiles reuse B in registers.
pub(super) const STREAM_ROWS: usize = SKINNY_ROWS;

/// The most columns of a block of `rows`.
const BLOCK_COLS: usize = 1024;

/// Columns of C that `rows` gathers in a buffer where C is not contiguous along its rows.
const GATHER_COLS: usize = 64;

/// Multiply-adds that a task should have at least.
const TASK_MACS: usize = 50_000;

/// Columns of a task: at least `TASK_MACS` of work, at most `most` columns, several tasks a thread if that allows it.
fn task_cols<T>(job: &Job<T>, crew: &Crew<'_>, step: usize, most: usize) -> usize {
    if crew.threads() == 1 {
        return most;
    }
    let enough = TASK_MACS.div_ceil((job.m * job.k).max(1));
    let shared = job.n.div_ceil(4 * crew.threads());
    enough.max(shared).min(most).next_multiple_of(step)
}

/// Few rows times a B whose rows are contiguous.
///
/// # Safety
/// The processor has the instruction set, the operands are valid, `job.b.col_stride == 1`, m is at most `STREAM_ROWS`, k is not 0.
pub(super) unsafe fn rows<T: Element>(kernels: &Kernels<T>, job: &Job<T>, crew: &Crew<'_>) {
    let gather = job.c.col_stride != 1;
    let most = if gather { GATHER_COLS } else { BLOCK_COLS };
    let strip = kernels.rows_vectors[job.m - 1] * kernels.lanes;
    let block = task_cols(job, crew, strip.min(most), most);
    crew.for_each(job.n.div_ceil(block), &|tasks| {
        for task in tasks {
            let cols = task * block..job.n.min((task + 1) * block);
            // SAFETY: passed on to the caller; the columns belong to this task alone.
            unsafe {
                if gather {
                    rows_gathered(kernels, job, cols.clone());
                } else {
                    let c = job.c.ptr.add(cols.start);
                    rows_block(kernels, job, cols.clone(), c, job.c.row.stride(), job.accumulate);
                }
                job.finish(0..job.m, cols);
            }
        }
    });
}

/// # Safety
/// See [`rows`]; `c` is the block of C, contiguous along its rows.
unsafe fn rows_block<T: Element>(
    kernels: &Kernels<T>,
    job: &Job<T>,
    cols: Range<usize>,
    c: *mut T,
    c_row: isize,
    add: bool,
) {
    // SAFETY: k is not 0 and column `cols.start` exists; m is at most STREAM_ROWS.
    unsafe {
        (kernels.rows[job.m - 1])(&Tile {
            depth: job.k,
            pieces: &[],
            a: job.a.ptr,
            a_row: job.a.row.stride(),
            a_depth: job.a.col.stride(),
            b: job.b_at(0, cols.start),
            b_depth: job.b.row.stride(),
            b_next: 0,
            c,
            c_row,
            cols: cols.len(),
            add,
        });
    }
}

/// # Safety
/// See [`rows`].
unsafe fn rows_gathered<T: Element>(kernels: &Kernels<T>, job: &Job<T>, cols: Range<usize>) {
    let mut buffer = [MaybeUninit::<T>::uninit(); STREAM_ROWS * GATHER_COLS];
    let buffer = buffer.as_mut_ptr().cast::<T>();
    // SAFETY: the buffer has room for m <= STREAM_ROWS rows of at most GATHER_COLS columns.
    // `rows_block` writes them all before they are read.
    unsafe {
        rows_block(kernels, job, cols.clone(), buffer, GATHER_COLS as isize, false);
        job.scatter(buffer, GATHER_COLS, 0..job.m, cols, job.accumulate);
    }
}

/// Few rows times a B whose columns are contiguous.
///
/// `scratch` has room for m * k elements if the rows of A are not contiguous.
///
/// # Safety
/// The processor has the instruction set, the operands are valid, B is even, its columns are contiguous, and m and k are not 0.
pub(super) unsafe fn dot<T: Element>(kernels: &Kernels<T>, job: &Job<T>, crew: &Crew<'_>, scratch: *mut T) {
    let mut job = *job;
    if !(job.a.row.is_even() && job.a.col == Axis::even(1)) {
        for row in 0..job.m {
            for k in 0..job.k {
                // SAFETY: the element exists, and the scratch has room for m * k.
                unsafe { *scratch.add(row * job.k + k) = *job.a_at(row, k) };
            }
        }
        job.a.ptr = scratch;
        job.a.row = Axis::even(job.k as isize);
        job.a.col = Axis::even(1);
    }
    let job = &job;
    let step = kernels.dot_cols[job.m.min(SKINNY_ROWS) - 1];
    let block = task_cols(job, crew, step, BLOCK_COLS);
    let c = Shared(job.c.ptr);
    crew.for_each(job.n.div_ceil(block), &|tasks| {
        for task in tasks {
            let cols = task * block..job.n.min((task + 1) * block);
            // SAFETY: passed on to the caller; the columns belong to this task alone.
            unsafe {
                dot_block(kernels, job, cols.clone(), step, c.get());
                job.finish(0..job.m, cols);
            }
        }
    });
}

/// # Safety
/// See [`dot`]; the rows of A are contiguous.
unsafe fn dot_block<T: Element>(kernels: &Kernels<T>, job: &Job<T>, cols: Range<usize>, step: usize, c: *mut T) {
    for col in cols.clone().step_by(step) {
        for row in (0..job.m).step_by(SKINNY_ROWS) {
            let count = SKINNY_ROWS.min(job.m - row);
            let wide = kernels.dot_cols[count - 1];
            // The last group of rows may have a kernel for more columns than the others; they are a multiple.
            let end = cols.end.min(col + step);
            for at in (col..end).step_by(wide) {
                // SAFETY: row `row` and column `at` exist.
                unsafe {
                    (kernels.dot[count - 1])(&Dot {
                        depth: job.k,
                        a: job.a_at(row, 0),
                        a_row: job.a.row.stride(),
                        b: job.b_at(0, at),
                        b_col: job.b.col.stride(),
                        c: c.offset(row as isize * job.c.row.stride() + at as isize * job.c.col_stride),
                        c_row: job.c.row.stride(),
                        c_col: job.c.col_stride,
                        cols: wide.min(end - at),
                        add: job.accumulate,
                    });
                }
            }
        }
    }
}

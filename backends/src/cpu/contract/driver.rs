//! Takes a contraction apart: batch, orientation, and the way that suits the shape and the strides.

use std::ops::Range;

use super::micro::Kernels;
use super::pack::{PackedB, Shared};
use super::small;
use super::tiles::{self, Plan};
use super::{Axis, Contraction, Element, Epilogue, Isa, View, ViewMut, Workspace};
use crate::cpu::pool::Pool;

/// Multiply-adds below which a contraction stays on one thread: a fork-join takes as long as about this many.
const ONE_THREAD_MACS: usize = 200_000;

/// Multiply-adds from which a matrix of a batch is divided among the threads, instead of the batch.
const DIVIDE_MACS: usize = 8_000_000;

/// Multiply-adds that a thread takes at a time from a batch.
const BATCH_MACS: usize = 100_000;

/// Steps of K for each row from which inner products beat packing a B that is contiguous along K.
const DOT_DEPTH: usize = 24;

/// Rows up to which a B is worth packing once: with more, packing it in each call costs nothing to speak of.
const MOST_ROWS_PACKED: usize = 1024;

/// Bytes of B from which a few rows of A are multiplied row by row of B: it does not fit a core's cache.
const STREAM_BYTES: usize = 256 << 10;

/// Computes `c` on the threads of `pool`.
///
/// # Safety
/// Every element that A and B name is valid to read, and every element that C names to write (and to read with
/// `accumulate`); C overlaps neither A nor B, and nobody else writes to A or B or touches C during the call.
/// The epilogue may be called from any thread of the pool with its context.
pub unsafe fn contract<T: Element>(c: &Contraction<T>, pool: &Pool, workspace: &mut Workspace) {
    // SAFETY: passed on to the caller; the workspace's instruction set is available.
    unsafe { run(T::kernels(workspace.isa()), Batch::new(c, false), pool, workspace) }
}

/// Computes `c` with the packed operand `b` in place of `c.b`, which is not looked at.
///
/// The instruction set is that of `b`.
///
/// # Panics
/// If the batch, k or n of `b` are not those of `c`.
///
/// # Safety
/// As for [`contract`], but for `c.b`.
pub unsafe fn contract_packed<T: Element>(c: &Contraction<T>, b: &PackedB<T>, pool: &Pool, workspace: &mut Workspace) {
    assert_eq!((c.batch, c.k, c.n), b.shape(), "shape of the packed operand (batch, k, n)");
    let c = Contraction { b: b.view(), ..*c };
    // SAFETY: passed on to the caller; the instruction set of `b` was available when it was packed.
    unsafe { run(T::kernels(b.isa()), Batch::new(&c, true), pool, workspace) }
}

/// Whether a right operand that is the same in many calls is better packed once: tiles of few rows read it in place or pack it
/// anew each time, and its rows lie far apart. The result has the same bits either way.
pub fn packing_pays<T: Element>(m: usize, n: usize, k: usize, b: &View<T>, c_col: isize) -> bool {
    let skinny = m.min(n) <= small::DOT_ROWS.max(small::STREAM_ROWS);
    let narrow = b.col == Axis::even(1) && n <= T::kernels(Isa::best()).max_cols();
    !skinny && !narrow && k > 1 && c_col == 1 && m <= MOST_ROWS_PACKED
}

/// One product of a batch, in the orientation in which it is computed.
#[derive(Clone, Copy)]
pub(super) struct Job<T> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: View<T>,
    pub(super) b: View<T>,
    pub(super) c: ViewMut<T>,
    pub(super) accumulate: bool,
    /// B has the layout of [`PackedB`]; its row stride is the width of a panel.
    pub(super) packed: bool,
    epilogue: Option<Epilogue>,
    /// Index in the batch.
    index: usize,
    /// The product is computed as C^T = B^T A^T.
    swapped: bool,
    /// Where the batch was folded into the rows, how many of them are one matrix of the batch.
    fold: Option<usize>,
}

// SAFETY: the pointers are used for disjoint elements of C, and for reading; the caller of `contract` vouches for the
// epilogue's context.
unsafe impl<T> Sync for Job<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Job<T> {}

impl<T: Element> Job<T> {
    /// # Safety
    /// The element exists.
    #[inline]
    pub(super) unsafe fn a_at(&self, row: usize, k: usize) -> *const T {
        // SAFETY: passed on to the caller.
        unsafe { self.a.ptr.offset(self.a.row.offset(row) + self.a.col.offset(k)) }
    }

    /// # Safety
    /// The element exists.
    #[inline]
    pub(super) unsafe fn b_at(&self, k: usize, col: usize) -> *const T {
        // SAFETY: passed on to the caller.
        unsafe { self.b.ptr.offset(self.b.row.offset(k) + self.b.col.offset(col)) }
    }

    /// # Safety
    /// The element exists.
    #[inline]
    pub(super) unsafe fn c_at(&self, row: usize, col: usize) -> *mut T {
        // SAFETY: passed on to the caller.
        unsafe { self.c.ptr.offset(self.c.row.offset(row) + col as isize * self.c.col_stride) }
    }

    /// Writes or adds a row-major block to C.
    ///
    /// # Safety
    /// `src` holds the block with rows of `width` elements, and no other thread touches these elements of C.
    pub(super) unsafe fn scatter(
        &self,
        src: *const T,
        width: usize,
        rows: Range<usize>,
        cols: Range<usize>,
        add: bool,
    ) {
        for (i, row) in rows.enumerate() {
            for (j, col) in cols.clone().enumerate() {
                // SAFETY: the element lies in the block and in C.
                unsafe {
                    let (value, at) = (*src.add(i * width + j), self.c_at(row, col));
                    *at = if add { *at + value } else { value };
                }
            }
        }
    }

    /// Runs the epilogue on a finished block of C.
    ///
    /// # Safety
    /// The block is complete, and no other thread touches it.
    #[inline]
    pub(super) unsafe fn finish(&self, rows: Range<usize>, cols: Range<usize>) {
        if let Some(epilogue) = self.epilogue {
            // SAFETY: passed on to the caller.
            unsafe { self.call(epilogue, rows, cols) }
        }
    }

    /// # Safety
    /// See [`Job::finish`].
    unsafe fn call(&self, epilogue: Epilogue, rows: Range<usize>, cols: Range<usize>) {
        let (rows, cols) = if self.swapped { (cols, rows) } else { (rows, cols) };
        let height = self.fold.unwrap_or(usize::MAX);
        let mut row = rows.start;
        while row < rows.end {
            let (matrix, start) = (row / height, row % height);
            let count = (rows.end - row).min(height - start);
            // SAFETY: the caller of `contract` vouches for the epilogue.
            unsafe {
                (epilogue.run)(epilogue.ctx, self.index + matrix, start, start + count, cols.start, cols.end);
            }
            row += count;
        }
    }

    /// Whether one stride describes each index.
    fn is_even(&self) -> bool {
        [self.a.row, self.a.col, self.b.row, self.b.col, self.c.row].iter().all(Axis::is_even)
    }

    /// The same product as C^T = B^T A^T; the rows of C move evenly.
    fn transposed(&self) -> Job<T> {
        let flip = |v: View<T>| View { row: v.col, col: v.row, ..v };
        Job {
            m: self.n,
            n: self.m,
            a: flip(self.b),
            b: flip(self.a),
            c: ViewMut { row: Axis::even(self.c.col_stride), col_stride: self.c.row.stride(), ..self.c },
            swapped: !self.swapped,
            ..*self
        }
    }

    /// Product `index` of the batch.
    fn item(&self, index: usize) -> Job<T> {
        let mut job = *self;
        job.index = index;
        // The offsets stay inside the operands, or, where an operand is empty, are not used.
        job.a.ptr = self.a.ptr.wrapping_offset(self.a.batch.offset(index));
        job.b.ptr = self.b.ptr.wrapping_offset(self.b.batch.offset(index));
        job.c.ptr = self.c.ptr.wrapping_offset(index as isize * self.c.batch_stride);
        job
    }

    /// Zeros (unless C is added to) and the epilogue: a product with `k == 0`.
    ///
    /// # Safety
    /// C is valid to write.
    unsafe fn clear(&self) {
        for row in 0..self.m {
            for col in 0..self.n {
                if !self.accumulate {
                    // SAFETY: the element exists.
                    unsafe { *self.c_at(row, col) = T::ZERO };
                }
            }
        }
        // SAFETY: C is complete.
        unsafe { self.finish(0..self.m, 0..self.n) }
    }
}

/// The threads that work on one product.
#[derive(Clone, Copy)]
pub(super) struct Crew<'a>(Option<&'a Pool>);

impl Crew<'_> {
    pub(super) fn threads(&self) -> usize {
        self.0.map_or(1, Pool::threads)
    }

    /// Runs the tasks `0..tasks`; they are claimed in ascending order.
    pub(super) fn for_each(&self, tasks: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
        match self.0 {
            Some(pool) => pool.for_each(tasks, 1, &|_, range| f(range)),
            None => f(0..tasks),
        }
    }
}

/// A contraction in normal form: not empty, strides of single rows and columns made useful, the batch folded if it can be.
struct Batch<T> {
    count: usize,
    job: Job<T>,
}

impl<T: Element> Batch<T> {
    /// `None` if C is empty.
    fn new(c: &Contraction<T>, packed: bool) -> Option<Batch<T>> {
        if c.batch == 0 || c.m == 0 || c.n == 0 {
            return None;
        }
        let mut job = Job {
            m: c.m,
            n: c.n,
            k: c.k,
            a: c.a,
            b: c.b,
            c: c.c,
            accumulate: c.accumulate,
            packed,
            epilogue: c.epilogue,
            index: 0,
            swapped: false,
            fold: None,
        };
        let mut count = c.batch;
        // A single row has no row stride, so a batch of single rows times one matrix always folds.
        if job.m == 1 {
            job.a.row = job.a.batch;
            job.c.row = Axis::even(job.c.batch_stride);
        }
        let rows = job.m as isize;
        if count > 1
            && job.b.batch == Axis::even(0)
            && (job.m == 1 || job.a.batch.is_even() && job.a.row.is_even())
            && (job.m == 1 || job.a.batch.stride() == rows * job.a.row.stride())
            && job.c.row.is_even()
            && job.c.batch_stride == rows * job.c.row.stride()
        {
            job.fold = Some(job.m);
            job.m *= count;
            count = 1;
        }
        if job.m == 1 {
            job.a.row = Axis::even(1);
            job.c.row = Axis::even(0);
        }
        if job.n == 1 && !packed {
            job.b.col = Axis::even(1);
            job.c.col_stride = 1;
        }
        Some(Batch { count, job })
    }
}

/// How a product is computed.
enum Way {
    /// Few rows times a B that is streamed row by row.
    Rows,
    /// Few rows times a B that is contiguous along K.
    Dot,
    Tiles(Plan),
}

impl Way {
    /// The way for `job`, and `job` in the orientation that it wants. `threads` decides the size of tasks only.
    fn choose<T: Element>(kernels: &Kernels<T>, job: &Job<T>, threads: usize) -> (Way, Job<T>) {
        if !job.packed && job.is_even() && job.m.min(job.n) <= small::DOT_ROWS {
            let flat = if job.n < job.m { job.transposed() } else { *job };
            if flat.b.row.stride() == 1 && flat.k >= DOT_DEPTH * flat.m {
                return (Way::Dot, flat);
            }
            let bytes = flat.k.saturating_mul(flat.n).saturating_mul(size_of::<T>());
            let streams = flat.m == 1 || (flat.m <= small::STREAM_ROWS && bytes > STREAM_BYTES);
            if flat.b.col.stride() == 1 && streams {
                return (Way::Rows, flat);
            }
        }
        let swap = !job.packed && job.c.col_stride != 1 && job.c.row == Axis::even(1);
        let job = if swap { job.transposed() } else { *job };
        (Way::Tiles(Plan::new(kernels, &job, threads)), job)
    }

    /// Elements of the workspace that one product needs.
    fn elements<T: Element>(&self, kernels: &Kernels<T>, job: &Job<T>) -> usize {
        match self {
            Way::Rows => 0,
            Way::Dot => {
                if job.a.col.stride() == 1 {
                    0
                } else {
                    job.m * job.k
                }
            }
            Way::Tiles(plan) => plan.elements(kernels, job),
        }
    }

    /// # Safety
    /// The processor has the instruction set, the operands are valid, `scratch` has [`Way::elements`].
    unsafe fn run<T: Element>(&self, kernels: &Kernels<T>, job: &Job<T>, crew: &Crew<'_>, scratch: *mut T) {
        // SAFETY: passed on to the caller.
        unsafe {
            match self {
                Way::Rows => small::rows(kernels, job, crew),
                Way::Dot => small::dot(kernels, job, crew, scratch),
                Way::Tiles(plan) => tiles::run(kernels, plan, job, crew, scratch),
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set, and the operands are valid.
unsafe fn run<T: Element>(kernels: &Kernels<T>, batch: Option<Batch<T>>, pool: &Pool, workspace: &mut Workspace) {
    let Some(Batch { count, job }) = batch else {
        return;
    };
    if job.k == 0 {
        for index in 0..count {
            // SAFETY: C is valid to write.
            unsafe { job.item(index).clear() };
        }
        return;
    }
    let macs = job.m.saturating_mul(job.n).saturating_mul(job.k);
    let alone = pool.threads() == 1 || macs.saturating_mul(count) < ONE_THREAD_MACS;
    // A batch is divided where it can be, for then no thread waits for another within a product.
    let few = count < 2 * pool.threads() && macs >= ONE_THREAD_MACS;
    let crew = if !alone && (count == 1 || few || macs >= DIVIDE_MACS) { Crew(Some(pool)) } else { Crew(None) };
    let (way, job) = Way::choose(kernels, &job, crew.threads());
    // Whole cache lines, so that the parts of two threads share none.
    let scratch = way.elements(kernels, &job).next_multiple_of(64);
    if alone || crew.threads() > 1 {
        let memory = workspace.elements::<T>(scratch);
        for index in 0..count {
            // SAFETY: passed on to the caller; the workspace has the elements that the way asks for.
            unsafe { way.run(kernels, &job.item(index), &crew, memory) };
        }
    } else {
        let memory = Shared(workspace.elements::<T>(scratch * pool.threads()));
        pool.for_each(count, BATCH_MACS.div_ceil(macs), &|worker, range| {
            for index in range {
                // SAFETY: passed on to the caller; each worker has its own part of the workspace.
                unsafe {
                    let memory = memory.get().add(worker * scratch);
                    way.run(kernels, &job.item(index), &crew, memory);
                }
            }
        });
    }
}

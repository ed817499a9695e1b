//! The tiled way: register tiles over operands that are packed where that pays.
//!
//! The product is cut into super-blocks, whose packed operands fit a fixed part of the workspace.
//! A super-block is one fork-join over rectangles of tiles; a panel is packed by the thread that needs it first (`ready`).
//!
//! Within a rectangle the K blocks are the outer loop, then a strip of rows whose panel of A is used for all panels of B,
//! which stay in the L2 cache: the order of Goto and van de Geijn, "Anatomy of High-Performance Matrix
//! Multiplication", ACM TOMS 34(3), 2008, with rows and columns exchanged as a row-major C wants it.
//! So the epilogue follows strip by strip.
//!
//! Panels of A have balanced heights: 128 rows in panels of at most 14 are ten of 12 or 13, not nine of 14 and one of 2.
//!
//! An operand whose index has several digits (the windows of an image, dims that do not lie evenly) is read in place too:
//! panels of rows end with the runs of A's rows and C's, and a tile takes the columns of A in pieces that move evenly.
//! So a convolution needs no copy of its windows: each is read where it lies, by overlapping panels.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::AtomicU32;

use super::Element;
use super::driver::{Crew, Job};
use super::micro::{Kernels, Piece, Tile};
use super::pack::{PANELS_AT_ONCE, pack_a, pack_b};
use super::ready::Ready;

/// The longest block of K in bytes: four panels of B take up to half of a 1 MiB L2 cache.
///
/// A panel of A then streams from L2 rather than stay in L1, at one line for each step of K, which the tile hides.
/// In return C is read and written half or a third as often, and it is C that misses: its rows lie far apart.
const K_BLOCK_BYTES: usize = 4096;

/// The most elements of A, and of B, that a super-block packs.
const PACKED_ELEMENTS: usize = 1 << 20;

/// Steps of K of B that are packed at a time: two threads that need the same panels share the work by such parts.
const PACKED_DEPTH: usize = 64;

/// The most columns of a super-block.
const SUPER_COLS: usize = 4096;

/// Rows of C up to which a row-major B is read in place, and columns up to which A is if one of its strides is 1.
///
/// Packing costs about 8 multiply-adds for each element of the operand; a few rows or columns do not repay it.
const B_IN_PLACE_ROWS: usize = 512;
const A_IN_PLACE_COLS: usize = 1024;

/// The same for operands whose rows or columns crowd few sets of the L1 cache, and for an A with neither stride 1.
///
/// The rows of a tile are all live at a time, so that they suffer most.
const B_CROWDED_ROWS: usize = 320;
const A_CROWDED_COLS: usize = 128;
const A_CROWDED_ROWS_COLS: usize = 64;

/// The shortest run of rows, and of columns, for which an A of several digits is read in place: shorter ones make small tiles
/// and loops of few steps.
const SHORTEST_ROW_RUN: usize = 4;
const SHORTEST_PIECE: usize = 3;

/// Strides that are a multiple of this many bytes crowd one set of the L1 cache, whichever processor it is.
const SET_BYTES: usize = 4096;

/// The most panels of rows of a rectangle, and the most bytes of B that belong to it: half of a 1 MiB L2 cache.
const RECTANGLE_ROWS: usize = 20;
const RECTANGLE_BYTES: usize = 512 << 10;

/// The fewest panels of rows of a rectangle that goes over several blocks of K, each of which loads B anew.
const BLOCKED_ROWS: usize = 5;

/// Rectangles that a thread should get, as long as each has so many multiply-adds.
const RECTANGLES_PER_THREAD: usize = 16;
const RECTANGLE_MACS: usize = 500_000;

/// Rectangles that a thread gets even where two of them then load the same B.
const FEWEST_PER_THREAD: usize = 4;

/// Elements of the largest tile of any instruction set.
const LARGEST_TILE: usize = 14 * 32;

/// How a product is cut. Rows and columns are counted in panels.
pub(super) struct Plan {
    row_panels: usize,
    /// Rows that are cut into panels together: a run of A and of C, or all.
    run_rows: usize,
    panels_per_run: usize,
    /// Rows of a panel of a run, and the number of panels that have one more.
    low_rows: usize,
    higher_panels: usize,
    col_panels: usize,
    pack_a: bool,
    pack_b: bool,
    k_block: usize,
    super_depth: usize,
    super_rows: usize,
    super_cols: usize,
    rect_rows: usize,
    rect_cols: usize,
}

impl Plan {
    /// `threads` decides the size of the rectangles only, which has no influence on the result.
    pub(super) fn new<T: Element>(kernels: &Kernels<T>, job: &Job<T>, threads: usize) -> Plan {
        let pack_a = job.n > a_in_place_cols(job);
        // Runs of C's rows end panels too, for a tile is written with one stride.
        let run_rows = if pack_a { job.m } else { common(job.m, job.a.row.run()) };
        let run_rows = common(run_rows, job.c.row.run());
        let panels_per_run = run_rows.div_ceil(kernels.max_rows());
        let row_panels = job.m / run_rows * panels_per_run;
        let col_panels = job.n.div_ceil(kernels.max_cols());
        let (rect_rows, rect_cols) = rectangle(kernels, job, (row_panels, col_panels), threads);
        let mut plan = Plan {
            row_panels,
            run_rows,
            panels_per_run,
            low_rows: run_rows / panels_per_run,
            higher_panels: run_rows % panels_per_run,
            col_panels,
            pack_a,
            pack_b: !job.packed && job.m > b_in_place_rows(job),
            k_block: k_block::<T>(job.k),
            super_depth: job.k,
            super_rows: row_panels,
            super_cols: col_panels,
            rect_rows,
            rect_cols,
        };
        // As many whole blocks of K as fit for the columns of a super-block, and then as many rows.
        let blocks = |width: usize| (PACKED_ELEMENTS / (width * plan.k_block)).max(1) * plan.k_block;
        if plan.pack_b {
            plan.super_cols = col_panels.min((SUPER_COLS / kernels.max_cols()).max(1));
            plan.super_depth = job.k.min(blocks(plan.super_cols * kernels.max_cols()));
        } else if plan.pack_a {
            plan.super_depth = job.k.min(blocks(kernels.a_width()));
        }
        if plan.pack_a {
            let fit = PACKED_ELEMENTS / (plan.super_depth * kernels.a_width());
            plan.super_rows = row_panels.min(fit.max(1));
        }
        plan
    }

    /// Elements of packed A and of packed B.
    fn packed<T: Element>(&self, kernels: &Kernels<T>) -> (usize, usize) {
        let a = if self.pack_a { self.super_rows * kernels.a_width() * self.super_depth } else { 0 };
        let b = if self.pack_b { self.super_cols * kernels.max_cols() * self.super_depth } else { 0 };
        (a, b)
    }

    /// Parts of A and of B that are packed each on its own.
    fn parts(&self) -> (usize, usize) {
        let a = if self.pack_a { self.super_rows } else { 0 };
        let groups = self.super_cols.div_ceil(PANELS_AT_ONCE);
        let b = if self.pack_b { groups * self.super_depth.div_ceil(PACKED_DEPTH) } else { 0 };
        (a, b)
    }

    /// The most pieces of A's columns in one block of K.
    fn pieces<T>(&self, job: &Job<T>) -> usize {
        if self.pack_a || job.a.col.is_even() { 1 } else { self.k_block / job.a.col.run() + 2 }
    }

    /// Elements of workspace that [`run`] needs: the packed operands, an element for the state of each part, and the pieces
    /// of all blocks of K.
    pub(super) fn elements<T: Element>(&self, kernels: &Kernels<T>, job: &Job<T>) -> usize {
        let ((a, b), parts) = (self.packed(kernels), self.parts());
        let pieces = self.pieces(job) * job.k.div_ceil(self.k_block) * size_of::<Piece>() / size_of::<T>();
        a.next_multiple_of(64) + b.next_multiple_of(64) + (parts.0 + parts.1).next_multiple_of(64) + pieces
    }

    /// The rows of panel `panel`: the first panels of a run are one row higher where its rows do not divide evenly.
    fn rows(&self, panel: usize) -> Range<usize> {
        let (run, panel) = (panel / self.panels_per_run * self.run_rows, panel % self.panels_per_run);
        let start = |panel: usize| run + panel * self.low_rows + panel.min(self.higher_panels);
        start(panel)..start(panel + 1)
    }
}

/// The most columns for which A is read where it lies.
fn a_in_place_cols<T>(job: &Job<T>) -> usize {
    let (row, col) = (job.a.row, job.a.col);
    if row.run() < SHORTEST_ROW_RUN.min(job.m) || col.run() < SHORTEST_PIECE.min(job.k) {
        return A_CROWDED_ROWS_COLS;
    }
    match (row.stride(), col.stride()) {
        (1, columns) => {
            if crowded::<T>(columns) {
                A_CROWDED_COLS
            } else {
                A_IN_PLACE_COLS
            }
        }
        (rows, 1) if !crowded::<T>(rows) => A_IN_PLACE_COLS,
        _ => A_CROWDED_ROWS_COLS,
    }
}

/// The most rows for which B is read where it lies; the kernels need contiguous rows.
fn b_in_place_rows<T>(job: &Job<T>) -> usize {
    if !job.b.row.is_even() || !job.b.col.is_even() {
        return 0;
    }
    match (job.b.col.stride(), crowded::<T>(job.b.row.stride())) {
        (1, false) => B_IN_PLACE_ROWS,
        (1, true) => B_CROWDED_ROWS,
        _ => 0,
    }
}

/// The longest run of rows that ends wherever one of `rows` or of `run` does; an axis of one digit has a single run.
fn common(rows: usize, run: usize) -> usize {
    if run >= rows {
        return rows;
    }
    let (mut a, mut b) = (rows, run);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn crowded<T>(stride: isize) -> bool {
    (stride.unsigned_abs() * size_of::<T>()).is_multiple_of(SET_BYTES)
}

/// The length of a block of K: a function of k alone, and as even as can be.
fn k_block<T>(k: usize) -> usize {
    let most = K_BLOCK_BYTES / size_of::<T>();
    if k <= most { k } else { k.div_ceil(k.div_ceil(most)) }
}

/// Rows and columns of a rectangle, in panels: smaller than the largest where that gives every thread its share.
///
/// Rows go first: a thread takes rectangles one below the other, so that their B stays in its cache, while fewer columns
/// mean that each panel of A is read more often.
fn rectangle<T: Element>(kernels: &Kernels<T>, job: &Job<T>, panels: (usize, usize), threads: usize) -> (usize, usize) {
    let k_block = k_block::<T>(job.k);
    let fit = RECTANGLE_BYTES / (k_block * kernels.max_cols() * size_of::<T>());
    let (mut rows, mut cols) = (panels.0.min(RECTANGLE_ROWS), panels.1.min(fit.max(1)));
    if threads == 1 {
        return (rows, cols);
    }
    let fewest = if job.k > k_block { BLOCKED_ROWS } else { 1 };
    loop {
        let macs = rows * kernels.max_rows() * cols * kernels.max_cols() * job.k;
        let count = panels.0.div_ceil(rows) * panels.1.div_ceil(cols);
        if count >= RECTANGLES_PER_THREAD * threads || macs < 2 * RECTANGLE_MACS || rows * cols == 1 {
            return (rows, cols);
        }
        if rows > 1 && rows.div_ceil(2) >= fewest {
            rows = rows.div_ceil(2);
        } else if cols > 1 {
            cols = cols.div_ceil(2);
        } else if count < FEWEST_PER_THREAD * threads && rows > 1 {
            rows = rows.div_ceil(2);
        } else {
            return (rows, cols);
        }
    }
}

/// Computes `job` by tiles.
///
/// # Safety
/// The processor has the instruction set, the operands are valid, `memory` has [`Plan::elements`], k is not 0.
pub(super) unsafe fn run<T: Element>(kernels: &Kernels<T>, plan: &Plan, job: &Job<T>, crew: &Crew<'_>, memory: *mut T) {
    const { assert!(size_of::<T>() >= size_of::<AtomicU32>(), "the state of a part fits an element") };
    let (elements, parts) = (plan.packed(kernels), plan.parts());
    let packed_b = memory.wrapping_add(elements.0.next_multiple_of(64));
    let states = packed_b.wrapping_add(elements.1.next_multiple_of(64));
    let pieces = states.wrapping_add((parts.0 + parts.1).next_multiple_of(64)).cast::<Piece>();
    let states = states.cast::<AtomicU32>();
    // SAFETY: the pieces lie behind the states, and nothing else does.
    let pieces = unsafe { Pieces::new(plan, job, pieces) };
    for col in (0..plan.col_panels).step_by(plan.super_cols) {
        for k in (0..job.k).step_by(plan.super_depth) {
            // B stays packed for all super-blocks of these columns and steps.
            // SAFETY: the states lie behind the packed operands, and no thread is inside a super-block.
            let ready_b = unsafe { Ready::new(states.add(parts.0), parts.1) };
            for row in (0..plan.row_panels).step_by(plan.super_rows) {
                let block = Block {
                    kernels,
                    plan,
                    job,
                    rows: row..plan.row_panels.min(row + plan.super_rows),
                    cols: col..plan.col_panels.min(col + plan.super_cols),
                    depth: k..job.k.min(k + plan.super_depth),
                    packed_a: memory,
                    packed_b,
                    pieces,
                    // SAFETY: as above.
                    ready_a: unsafe { Ready::new(states, parts.0) },
                    ready_b,
                };
                // SAFETY: passed on to the caller.
                unsafe { block.run(crew) }
            }
        }
    }
}

/// The columns of an A that is read in place, by blocks of K, in pieces that move evenly.
#[derive(Clone, Copy)]
struct Pieces<'a> {
    /// For each block of K so many places, of which those with steps are used; none where A is even or packed.
    all: &'a [Piece],
    per_block: usize,
    k_block: usize,
}

impl<'a> Pieces<'a> {
    /// # Safety
    /// `memory` has room for the pieces of all blocks, is aligned for them and is used for nothing else.
    unsafe fn new<T: Element>(plan: &Plan, job: &Job<T>, memory: *mut Piece) -> Pieces<'a> {
        let (per_block, k_block) = (plan.pieces(job), plan.k_block);
        if plan.pack_a || job.a.col.is_even() {
            return Pieces { all: &[], per_block, k_block };
        }
        let blocks = job.k.div_ceil(k_block);
        for block in 0..blocks {
            let (start, end) = (block * k_block, job.k.min((block + 1) * k_block));
            let first = job.a.col.offset(start);
            let mut k = start;
            for place in 0..per_block {
                let next = job.a.col.run_end(k, end).min(end);
                let piece = Piece { at: job.a.col.offset(k) - first, steps: next - k };
                // SAFETY: passed on to the caller.
                unsafe { memory.add(block * per_block + place).write(piece) };
                k = next;
            }
            debug_assert_eq!(k, end, "the pieces of a block cover it");
        }
        // SAFETY: as above; the pieces have just been written.
        Pieces { all: unsafe { std::slice::from_raw_parts(memory, blocks * per_block) }, per_block, k_block }
    }

    /// The pieces of the block from `k` on, with `depth` steps; none where A needs none.
    fn of(&self, k: usize, depth: usize) -> &'a [Piece] {
        if self.all.is_empty() {
            return &[];
        }
        let places = &self.all[k / self.k_block * self.per_block..][..self.per_block];
        debug_assert_eq!(places.iter().map(|p| p.steps).sum::<usize>(), depth);
        let used = places.iter().position(|p| p.steps == 0).unwrap_or(self.per_block);
        &places[..used]
    }
}

/// A super-block.
struct Block<'a, T: 'static> {
    kernels: &'a Kernels<T>,
    plan: &'a Plan,
    job: &'a Job<T>,
    /// In panels.
    rows: Range<usize>,
    /// In panels.
    cols: Range<usize>,
    /// In steps of K.
    depth: Range<usize>,
    packed_a: *mut T,
    packed_b: *mut T,
    pieces: Pieces<'a>,
    /// By panel.
    ready_a: Ready<'a>,
    /// By group of panels, then by part of the depth.
    ready_b: Ready<'a>,
}

// SAFETY: `ready_a` and `ready_b` let one thread write a packed panel, and others read it afterwards.
unsafe impl<T> Sync for Block<'_, T> {}

impl<T: Element> Block<'_, T> {
    /// # Safety
    /// See [`run`].
    unsafe fn run(&self, crew: &Crew<'_>) {
        let plan = self.plan;
        let (across, down) = (self.cols.len().div_ceil(plan.rect_cols), self.rows.len().div_ceil(plan.rect_rows));
        let part = |all: &Range<usize>, index: usize, parts: usize| {
            all.start + all.len() * index / parts..all.start + all.len() * (index + 1) / parts
        };
        crew.for_each(across * down, &|tasks| {
            for task in tasks {
                // Down the rows first: rectangles side by side share cache lines of C, and two threads at a time would
                // take them from each other.
                let (i, j) = (task % down, task / down);
                // SAFETY: passed on to the caller; rectangles are disjoint.
                unsafe { self.rectangle(part(&self.rows, i, down), part(&self.cols, j, across)) }
            }
        });
    }

    /// Packs a panel of A unless it is packed.
    ///
    /// # Safety
    /// See [`run`].
    unsafe fn ensure_a(&self, panel: usize) {
        let index = panel - self.rows.start;
        self.ready_a.ensure(index..index + 1, |_| {
            // SAFETY: the panel lies in the packed part for A, and belongs to this thread while it packs.
            unsafe {
                let dst = self.packed_a.add(index * self.kernels.a_width() * self.depth.len());
                pack_a(self.kernels, &self.job.a, self.plan.rows(panel), self.depth.clone(), dst);
            }
        });
    }

    /// Packs the panels `cols` of B, and those of their groups, unless they are packed.
    ///
    /// # Safety
    /// See [`run`].
    unsafe fn ensure_b(&self, cols: Range<usize>) {
        let (width, height) = (self.kernels.max_cols(), self.depth.len());
        let chunks = height.div_ceil(PACKED_DEPTH);
        let group = |panel: usize| (panel - self.cols.start) / PANELS_AT_ONCE;
        self.ready_b.ensure(group(cols.start) * chunks..(group(cols.end - 1) + 1) * chunks, |part| {
            let (first, since) = (part / chunks * PANELS_AT_ONCE, part % chunks * PACKED_DEPTH);
            let panels = self.cols.start + first..self.cols.end.min(self.cols.start + first + PANELS_AT_ONCE);
            let depth = self.depth.start + since..self.depth.end.min(self.depth.start + since + PACKED_DEPTH);
            // SAFETY: the panels lie in the packed part for B, and these steps belong to this thread while it packs.
            unsafe {
                let dst = self.packed_b.add((first * height + since) * width);
                pack_b(self.kernels, &self.job.b, depth, self.job.n, panels, dst, height);
            }
        });
    }

    /// Computes the rectangle of the panels `rows` x `cols` over the depth of the block.
    ///
    /// # Safety
    /// See [`run`].
    unsafe fn rectangle(&self, rows: Range<usize>, cols: Range<usize>) {
        let (plan, job, width) = (self.plan, self.job, self.kernels.max_cols());
        let columns = cols.start * width..job.n.min(cols.end * width);
        if plan.pack_b {
            // SAFETY: the panels exist.
            unsafe { self.ensure_b(cols.clone()) }
        }
        for k in self.depth.clone().step_by(plan.k_block) {
            let depth = plan.k_block.min(self.depth.end - k);
            for panel in rows.clone() {
                let strip = plan.rows(panel);
                // SAFETY: the panels, rows and columns exist, and the rectangle belongs to this task alone.
                unsafe {
                    if plan.pack_a && k == self.depth.start {
                        self.ensure_a(panel);
                    }
                    self.strip(panel, strip.clone(), cols.clone(), k, depth);
                    if k + depth == job.k {
                        job.finish(strip, columns.clone());
                    }
                }
            }
        }
    }

    /// One panel of A times several panels of B over one block of K.
    ///
    /// # Safety
    /// See [`Block::rectangle`].
    unsafe fn strip(&self, panel: usize, strip: Range<usize>, cols: Range<usize>, k: usize, depth: usize) {
        let (plan, job, kernels) = (self.plan, self.job, self.kernels);
        let width = kernels.max_cols();
        let (since, height) = (k - self.depth.start, self.depth.len());
        // SAFETY: the first element of the panel from step `k` on exists.
        let (a, a_row, a_depth) = unsafe {
            if plan.pack_a {
                let at = (panel - self.rows.start) * height + since;
                (self.packed_a.add(at * kernels.a_width()).cast_const(), 1, kernels.a_width() as isize)
            } else {
                (job.a_at(strip.start, k), job.a.row.stride(), job.a.col.stride())
            }
        };
        let pieces = self.pieces.of(k, depth);
        let table = if a_row == 1 { kernels.tile_unit } else { kernels.tile_strided };
        let by_vectors = &table[strip.len() - 1];
        let add = job.accumulate || k > 0;
        for panel in cols {
            let col = panel * width;
            // SAFETY: as above, for B.
            let (b, b_depth, b_next) = unsafe {
                if plan.pack_b {
                    let at = (panel - self.cols.start) * height + since;
                    (self.packed_b.add(at * width).cast_const(), width as isize, 0)
                } else if job.packed {
                    (job.b.ptr.add((panel * job.k + k) * width), width as isize, 0)
                } else {
                    (job.b_at(k, col), job.b.row.stride(), width as isize)
                }
            };
            let count = width.min(job.n - col);
            let kernel = by_vectors[count.div_ceil(kernels.lanes) - 1];
            let c = job.c.ptr;
            let mut tile = Tile { depth, pieces, a, a_row, a_depth, b, b_depth, b_next, c, c_row: 0, cols: count, add };
            // SAFETY: the tile lies in C; the buffer has room for the largest tile, and is written before it is read.
            unsafe {
                if job.c.col_stride == 1 {
                    tile.c = job.c_at(strip.start, col);
                    tile.c_row = job.c.row.stride();
                    kernel(&tile);
                } else {
                    let mut buffer = [MaybeUninit::<T>::uninit(); LARGEST_TILE];
                    tile.c = buffer.as_mut_ptr().cast();
                    tile.c_row = width as isize;
                    tile.add = false;
                    kernel(&tile);
                    job.scatter(tile.c, width, strip.clone(), col..col + count, add);
                }
            }
        }
    }
}

//! The backward pass: weights are made again from the rows' `lse`.

use std::ops::Range;

use super::hidden::{Hidden, Tile, is_finite};
use super::products::{Matrix, contiguous, multiply, transpose};
use super::softmax::{Attended, Grade, Passes};
use super::{Attention, Entry, Grid, Layout, QUERIES, Shared, TASK_MACS};
use crate::cpu::contract::Workspace;
use crate::cpu::contract::micro::Kernels;
use crate::cpu::pool::Pool;

/// What the backward pass starts from, and where its results go: contiguous arrays but for the cotangent of the result.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, T> {
    /// `[batch, queries]`.
    pub lse: *const T,
    /// The cotangent of the result, `[batch, queries, e]`.
    pub d_out: Grid<'a, T>,
    /// `[batch, queries]`.
    pub delta: *const T,
    /// `[batch, queries, d]`.
    pub dq: *mut T,
    /// `[batch, keys, d]`.
    pub dk: *mut T,
    /// `[batch, keys, e]`.
    pub dv: *mut T,
}

/// Keys of a block. As many as queries, so that a causal mask hides half of few tiles.
const KEYS: usize = 64;

/// How a call divides its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Division {
    /// A batch entry is a task.
    Entries,
    /// A block of keys is a task, and so is, afterwards, a block of queries.
    Blocks,
}

impl Division {
    /// Blocks make scores twice, seven products for five: entries it is where at least three in four threads stay busy with them.
    fn of(entries: usize, threads: usize) -> Self {
        let rounds = entries.div_ceil(threads);
        if entries * 4 >= rounds * threads * 3 { Self::Entries } else { Self::Blocks }
    }
}

/// Computes the cotangents of an attention on the threads of `pool`.
///
/// # Safety
/// Every element that the operands and `c` name is valid to read, and the results to write; these overlap nothing else, and nobody
/// else writes to the operands or touches the results during the call.
pub unsafe fn attend_backward<T: Attended>(
    a: &Attention<'_, T>,
    c: &Cotangents<'_, T>,
    pool: &Pool,
    workspace: &mut Workspace,
) {
    let division = Division::of(a.entries(), pool.threads());
    // SAFETY: passed on to the caller.
    unsafe { run(a, c, division, pool, workspace) }
}

/// # Safety
/// See [`attend_backward`].
pub(super) unsafe fn run<T: Attended>(
    a: &Attention<'_, T>,
    c: &Cotangents<'_, T>,
    division: Division,
    pool: &Pool,
    workspace: &mut Workspace,
) {
    let entries = a.entries();
    if entries == 0 {
        return;
    }
    let isa = workspace.isa();
    let parts = Parts::new(a, c);
    let scratch = Shared(workspace.elements::<T>(parts.len * pool.threads()));
    let shared = Shared((a, c));
    let each = |tasks: usize, macs: usize, f: &(dyn Fn(&Work<'_, T>, usize) + Sync)| {
        pool.for_each(tasks, TASK_MACS.div_ceil(macs.max(1)), &|worker, range| {
            let (a, c) = shared.get();
            let work = Work {
                kernels: T::kernels(isa),
                passes: T::passes(isa).0,
                parts: &parts,
                // SAFETY: each worker has its own part.
                scratch: unsafe { scratch.get().add(worker * parts.len) },
                a,
                c,
            };
            range.for_each(|task| f(&work, task));
        });
    };
    let key_blocks = a.keys.div_ceil(KEYS);
    let width = a.d + a.e;
    if division == Division::Entries {
        each(entries, a.queries * a.keys * width, &|work, entry| {
            let at = work.at(entry);
            // SAFETY: passed on to the caller; the entry belongs to this task alone.
            unsafe {
                at.clear_queries(0..work.a.queries);
                for block in 0..key_blocks {
                    at.keys(block * KEYS..work.a.keys.min((block + 1) * KEYS), true);
                }
                at.settle_queries(0..work.a.queries);
            }
        });
        return;
    }
    // Under a causal mask, early keys and late queries have most to do, and come first.
    each(entries * key_blocks, KEYS * a.queries * width, &|work, task| {
        let (block, entry) = (task / entries, task % entries);
        // SAFETY: passed on to the caller; the keys belong to this task alone.
        unsafe { work.at(entry).keys(block * KEYS..work.a.keys.min((block + 1) * KEYS), false) };
    });
    let query_blocks = a.queries.div_ceil(QUERIES);
    each(entries * query_blocks, QUERIES * a.keys * width, &|work, task| {
        let (block, entry) = (query_blocks - 1 - task / entries, task % entries);
        let queries = block * QUERIES..work.a.queries.min((block + 1) * QUERIES);
        // SAFETY: passed on to the caller; the queries belong to this task alone.
        unsafe {
            let at = work.at(entry);
            at.clear_queries(queries.clone());
            at.queries(queries.clone());
            at.settle_queries(queries);
        }
    });
}

/// Where the parts of a thread's scratch start.
struct Parts {
    /// Keys transposed, or queries.
    left: usize,
    /// Values transposed, or cotangents of results.
    right: usize,
    scores: usize,
    slopes: usize,
    bias: usize,
    lse: usize,
    delta: usize,
    copy: usize,
    len: usize,
}

impl Parts {
    fn new<T: Copy>(a: &Attention<'_, T>, c: &Cotangents<'_, T>) -> Self {
        let side = KEYS.max(QUERIES);
        let copies = [a.q.col, a.k.col, c.d_out.col].iter().any(|&col| col != 1);
        let mut l = Layout::new();
        Self {
            left: l.part(a.d * side),
            right: l.part(a.e * side),
            scores: l.part(side * side),
            slopes: l.part(side * side),
            bias: l.part(if a.bias.is_some() { side * side } else { 0 }),
            lse: l.part(side),
            delta: l.part(side),
            copy: l.part(if copies { side * a.d.max(a.e) } else { 0 }),
            len: l.len,
        }
    }
}

/// What a thread works with.
struct Work<'a, T: 'static> {
    kernels: &'static Kernels<T>,
    passes: &'static Passes<T>,
    parts: &'a Parts,
    scratch: *mut T,
    a: &'a Attention<'a, T>,
    c: &'a Cotangents<'a, T>,
}

/// A thread at a batch entry.
struct At<'a, T: 'static> {
    work: &'a Work<'a, T>,
    entry: Entry<T>,
    d_out: Matrix<T>,
    lse: *const T,
    delta: *const T,
    dq: *mut T,
    dk: *mut T,
    dv: *mut T,
}

impl<T: Attended> Work<'_, T> {
    fn at(&self, index: usize) -> At<'_, T> {
        let (a, c) = (self.a, self.c);
        let (rows, keys) = (index * a.queries, index * a.keys);
        At {
            work: self,
            entry: a.entry(index),
            d_out: c.d_out.matrix(a.batch, index),
            lse: c.lse.wrapping_add(rows),
            delta: c.delta.wrapping_add(rows),
            dq: c.dq.wrapping_add(rows * a.d),
            dk: c.dk.wrapping_add(keys * a.d),
            dv: c.dv.wrapping_add(keys * a.e),
        }
    }

    fn part(&self, at: usize) -> *mut T {
        self.scratch.wrapping_add(at)
    }
}

/// A sum of a tile with rows of a matrix: over queries or over keys.
struct Sum<T> {
    tile: *const T,
    strides: [usize; 2],
    by: Matrix<T>,
    over_queries: bool,
    to: *mut T,
    cols: usize,
}

impl<T: Attended> At<'_, T> {
    /// # Safety
    /// See [`attend_backward`]; no other thread has these queries.
    unsafe fn clear_queries(&self, queries: Range<usize>) {
        let d = self.work.a.d;
        // SAFETY: passed on to the caller; zeros are all bits 0.
        unsafe { self.dq.add(queries.start * d).write_bytes(0, queries.len() * d) };
    }

    /// Finishes the cotangents of queries.
    ///
    /// # Safety
    /// As [`At::clear_queries`].
    unsafe fn settle_queries(&self, queries: Range<usize>) {
        let d = self.work.a.d;
        // SAFETY: passed on to the caller.
        unsafe { settle(self.dq.add(queries.start * d), queries.len() * d) }
    }

    /// The cotangents of a block of keys and values; with `all`, what the block gives to those of queries is added to them.
    ///
    /// # Safety
    /// See [`attend_backward`]; no other thread has these keys, and with `all`, this batch entry.
    unsafe fn keys(&self, keys: Range<usize>, all: bool) {
        let Work { kernels, passes, parts: p, a, .. } = *self.work;
        let part = |at| self.work.part(at);
        let (left, right, scores, slopes) = (part(p.left), part(p.right), part(p.scores), part(p.slopes));
        let entry = &self.entry;
        let columns = keys.len().next_multiple_of(kernels.lanes);
        let (dk, dv) = (self.dk.wrapping_add(keys.start * a.d), self.dv.wrapping_add(keys.start * a.e));
        // SAFETY: the parts have room for a block, and the block's queries and keys are those of the operands.
        unsafe {
            dk.write_bytes(0, keys.len() * a.d);
            dv.write_bytes(0, keys.len() * a.e);
            transpose(kernels, entry.k.at_row(keys.start), [keys.len(), a.d], left, KEYS);
            transpose(kernels, entry.v.at_row(keys.start), [keys.len(), a.e], right, KEYS);
            let first = entry.first_query(keys.start) / QUERIES * QUERIES;
            for start in (first..a.queries).step_by(QUERIES) {
                let queries = start..a.queries.min(start + QUERIES);
                let rows = queries.len();
                let tile = Tile { queries, keys: keys.clone() };
                let hidden = entry.hides(&tile);
                if hidden == Hidden::All {
                    continue;
                }
                let (q, d_out) = (entry.q.at_row(start), self.d_out.at_row(start));
                let (k, v) = (Matrix::rows(left, KEYS), Matrix::rows(right, KEYS));
                multiply(kernels, [rows, columns, a.d], q, k, scores, KEYS, false);
                multiply(kernels, [rows, columns, a.e], d_out, v, slopes, KEYS, false);
                let mut bias = std::ptr::null_mut();
                if let Some(from) = entry.bias {
                    bias = part(p.bias);
                    let from = from.at_row(start).at_col(keys.start).transposed();
                    transpose(kernels, from, [keys.len(), rows], bias, KEYS);
                }
                let grade = passes.grade_rows;
                self.grade(&tile, [KEYS, 1], (rows, columns), bias, hidden, grade);
                let strides = [KEYS, 1];
                let sums = |by: Matrix<T>, tile, to, cols| Sum { tile, strides, by, over_queries: true, to, cols };
                let d_out = contiguous(d_out, [rows, a.e], part(p.copy));
                self.add(&tile, hidden, &sums(d_out, scores, dv, a.e));
                let q = contiguous(q, [rows, a.d], part(p.copy));
                self.add(&tile, hidden, &sums(q, slopes, dk, a.d));
                if all {
                    let by = contiguous(entry.k.at_row(keys.start), [keys.len(), a.d], part(p.copy));
                    let to = self.dq.add(start * a.d);
                    self.add(&tile, hidden, &Sum { tile: slopes, strides, by, over_queries: false, to, cols: a.d });
                }
            }
            settle(dk, keys.len() * a.d);
            settle(dv, keys.len() * a.e);
        }
    }

    /// What blocks of keys give to the cotangents of a block of queries.
    ///
    /// # Safety
    /// See [`attend_backward`]; no other thread has these queries.
    unsafe fn queries(&self, queries: Range<usize>) {
        let Work { kernels, passes, parts: p, a, .. } = *self.work;
        let part = |at| self.work.part(at);
        let (left, right, scores, slopes) = (part(p.left), part(p.right), part(p.scores), part(p.slopes));
        let entry = &self.entry;
        let rows = queries.len();
        let columns = rows.next_multiple_of(kernels.lanes);
        let start = queries.start;
        // SAFETY: as in `keys`.
        unsafe {
            transpose(kernels, entry.q.at_row(start), [rows, a.d], left, QUERIES);
            transpose(kernels, self.d_out.at_row(start), [rows, a.e], right, QUERIES);
            for first in (0..entry.keys_seen(&queries, a.keys)).step_by(KEYS) {
                let keys = first..a.keys.min(first + KEYS);
                let tile = Tile { queries: queries.clone(), keys: keys.clone() };
                let hidden = entry.hides(&tile);
                if hidden == Hidden::All {
                    continue;
                }
                let (k, v) = (entry.k.at_row(first), entry.v.at_row(first));
                let (q, d_out) = (Matrix::rows(left, QUERIES), Matrix::rows(right, QUERIES));
                multiply(kernels, [keys.len(), columns, a.d], k, q, scores, QUERIES, false);
                multiply(kernels, [keys.len(), columns, a.e], v, d_out, slopes, QUERIES, false);
                let mut bias = std::ptr::null_mut();
                if let Some(from) = entry.bias {
                    bias = part(p.bias);
                    let from = from.at_row(start).at_col(first);
                    transpose(kernels, from, [rows, keys.len()], bias, QUERIES);
                }
                let strides = [1, QUERIES];
                self.grade(&tile, strides, (keys.len(), columns), bias, hidden, passes.grade_lanes);
                let by = contiguous(k, [keys.len(), a.d], part(p.copy));
                let to = self.dq.add(start * a.d);
                self.add(&tile, hidden, &Sum { tile: slopes, strides, by, over_queries: false, to, cols: a.d });
            }
        }
    }

    /// Turns a tile of products into weights and cotangents of products.
    ///
    /// # Safety
    /// The tiles hold so many rows and columns.
    unsafe fn grade(
        &self,
        tile: &Tile,
        strides: [usize; 2],
        (rows, columns): (usize, usize),
        bias: *const T,
        hidden: Hidden,
        grade: unsafe fn(&Grade<T>),
    ) {
        let p = self.work.parts;
        let part = |at| self.work.part(at);
        let (scores, slopes, lse, delta) = (part(p.scores), part(p.slopes), part(p.lse), part(p.delta));
        // SAFETY: the parts have room for a block of queries; the tiles are the caller's.
        unsafe {
            for i in 0..QUERIES {
                let row = (i < tile.queries.len()).then_some(tile.queries.start + i);
                let of = |rows: *const T| row.map_or(T::ZERO, |row| *rows.add(row));
                // An empty row's scores are all -inf: its weights are 0.
                let top = of(self.lse);
                *lse.add(i) = if top == T::NEG_INFINITY { T::ZERO } else { top };
                *delta.add(i) = of(self.delta);
            }
            let stride = strides[0].max(strides[1]);
            let scale = T::from_f64(self.work.a.scale);
            grade(&Grade { scores, slopes, rows, stride, columns, bias, scale, lse, delta });
            if hidden == Hidden::Part {
                self.entry.hide(tile, scores, strides, T::ZERO);
                self.entry.hide(tile, slopes, strides, T::ZERO);
            }
        }
    }

    /// Adds the sums of a tile with rows of a matrix.
    ///
    /// # Safety
    /// All that `sum` names is valid, and `to` this thread's own.
    unsafe fn add(&self, tile: &Tile, hidden: Hidden, sum: &Sum<T>) {
        let (rows, keys) = (tile.queries.len(), tile.keys.len());
        let (depth, m) = if sum.over_queries { (rows, keys) } else { (keys, rows) };
        let &Sum { tile: at, strides, by, over_queries, to, cols } = sum;
        // SAFETY: passed on to the caller.
        unsafe {
            if hidden == Hidden::Part && !is_finite(by, [depth, cols]) {
                self.entry.add_seen(tile, at, strides, by, over_queries, (to, cols, cols));
                return;
            }
            let [query, key] = strides.map(|s| s as isize);
            let pairs = Matrix { ptr: at, row: query, col: key };
            let left = if over_queries { pairs.transposed() } else { pairs };
            multiply(self.work.kernels, [m, cols, depth], left, by, to, cols, true);
        }
    }
}

/// Puts one NaN in place of all: which one a sum gives depends on the order of its operands, which differs between divisions.
///
/// # Safety
/// So many elements are valid to write, and this thread's own.
unsafe fn settle<T: Attended>(at: *mut T, count: usize) {
    for i in 0..count {
        // SAFETY: passed on to the caller.
        unsafe {
            let x = *at.add(i);
            *at.add(i) = if x.missing() { T::NAN } else { x };
        }
    }
}

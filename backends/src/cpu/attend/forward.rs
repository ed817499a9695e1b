//! The forward pass: a block of queries at a time.

use std::ops::Range;

use super::hidden::{Hidden, Tile, is_finite};
use super::products::{Matrix, contiguous, multiply, transpose};
use super::softmax::{Attended, Passes, Shrink, Weigh};
use super::{Attention, Entry, KEYS, LINE, Layout, QUERIES, Shared, TASK_MACS};
use crate::cpu::contract::Workspace;
use crate::cpu::contract::micro::Kernels;
use crate::cpu::pool::Pool;

/// Where results go: contiguous arrays.
#[derive(Clone, Copy, Debug)]
pub struct Results<T> {
    /// `[batch, queries, e]`.
    pub out: *mut T,
    /// `[batch, queries]`.
    pub lse: *mut T,
    /// What each element of `out` and of `lse` is for a query that attends to nothing.
    pub empty: (f64, f64),
}

/// Computes an attention on the threads of `pool`.
///
/// # Safety
/// Every element that the operands name is valid to read, and the results to write; these overlap no operand, and nobody else
/// writes to the operands or touches the results during the call.
pub unsafe fn attend<T: Attended>(a: &Attention<'_, T>, to: &Results<T>, pool: &Pool, workspace: &mut Workspace) {
    let entries = a.entries();
    let blocks = a.queries.div_ceil(QUERIES);
    if entries == 0 || blocks == 0 {
        return;
    }
    let isa = workspace.isa();
    let parts = Parts::new(a);
    let scratch = Shared(workspace.elements::<T>(parts.len * pool.threads()));
    let shared = Shared((a, to));
    let macs = QUERIES.min(a.queries) * a.keys * (a.d + a.e);
    pool.for_each(entries * blocks, TASK_MACS.div_ceil(macs.max(1)), &|worker, tasks| {
        let (a, to) = shared.get();
        let work = Work {
            kernels: T::kernels(isa),
            passes: T::passes(isa).0,
            parts: &parts,
            // SAFETY: each worker has its own part.
            scratch: unsafe { scratch.get().add(worker * parts.len) },
        };
        for task in tasks {
            // Under a causal mask, late queries have most to do, and come first.
            let (block, entry) = (blocks - 1 - task / entries, task % entries);
            let queries = block * QUERIES..a.queries.min((block + 1) * QUERIES);
            // SAFETY: passed on to the caller; the queries belong to this task alone.
            unsafe { work.block(a, &a.entry(entry), entry, queries, to) };
        }
    });
}

/// Where the parts of a thread's scratch start.
struct Parts {
    query: usize,
    scores: usize,
    bias: usize,
    sums: usize,
    top: usize,
    sum: usize,
    shrink: usize,
    copy: usize,
    len: usize,
    /// Elements of a row of sums.
    width: usize,
}

impl Parts {
    fn new<T: Copy>(a: &Attention<'_, T>) -> Self {
        let mut l = Layout::new();
        let width = a.e.next_multiple_of(LINE);
        Self {
            query: l.part(a.d * QUERIES),
            scores: l.part(KEYS * QUERIES),
            bias: l.part(if a.bias.is_some() { KEYS * QUERIES } else { 0 }),
            sums: l.part(QUERIES * width),
            top: l.part(QUERIES),
            sum: l.part(QUERIES),
            shrink: l.part(QUERIES),
            copy: l.part(if a.v.col == 1 { 0 } else { KEYS * a.e }),
            len: l.len,
            width,
        }
    }
}

/// What a thread works with.
struct Work<'a, T: 'static> {
    kernels: &'static Kernels<T>,
    passes: &'static Passes<T>,
    parts: &'a Parts,
    scratch: *mut T,
}

impl<T: Attended> Work<'_, T> {
    /// # Safety
    /// See [`attend`]; no other thread has these queries.
    unsafe fn block(
        &self,
        a: &Attention<'_, T>,
        entry: &Entry<T>,
        index: usize,
        queries: Range<usize>,
        to: &Results<T>,
    ) {
        let p = self.parts;
        let part = |at: usize| self.scratch.wrapping_add(at);
        let (query, scores, sums) = (part(p.query), part(p.scores), part(p.sums));
        let (top, sum, shrink) = (part(p.top), part(p.sum), part(p.shrink));
        let rows = queries.len();
        let columns = rows.next_multiple_of(self.kernels.lanes);
        let scale = T::from_f64(a.scale);
        // SAFETY: the parts have room for a block, and the block's queries and keys are those of the operands.
        unsafe {
            transpose(self.kernels, entry.q.at_row(queries.start), [rows, a.d], query, QUERIES);
            for i in 0..a.d * QUERIES {
                *query.add(i) = *query.add(i) * scale;
            }
            for i in 0..QUERIES {
                *top.add(i) = T::LEAST;
                *sum.add(i) = T::ZERO;
            }
            for i in 0..rows * p.width {
                *sums.add(i) = T::ZERO;
            }
            let seen = entry.keys_seen(&queries, a.keys);
            for first in (0..seen).step_by(KEYS) {
                let keys = first..seen.min(first + KEYS);
                let tile = Tile { queries: queries.clone(), keys: keys.clone() };
                let hidden = entry.hides(&tile);
                if hidden == Hidden::All {
                    continue;
                }
                let q = Matrix::rows(query, QUERIES);
                multiply(self.kernels, [keys.len(), columns, a.d], entry.k.at_row(first), q, scores, QUERIES, false);
                let mut bias = std::ptr::null_mut();
                if let Some(from) = entry.bias {
                    bias = part(p.bias);
                    let from = from.at_row(queries.start).at_col(first);
                    transpose(self.kernels, from, [rows, keys.len()], bias, QUERIES);
                }
                if hidden == Hidden::Part {
                    entry.hide(&tile, scores, [1, QUERIES], T::NEG_INFINITY);
                }
                let shrinks = (self.passes.weigh)(&Weigh {
                    scores,
                    keys: keys.len(),
                    stride: QUERIES,
                    columns,
                    bias,
                    top,
                    sum,
                    shrink,
                });
                if shrinks {
                    (self.passes.shrink)(&Shrink { sums, rows, columns: p.width, by: shrink });
                }
                let v = contiguous(entry.v.at_row(first), [keys.len(), a.e], part(p.copy));
                if hidden == Hidden::Part && !is_finite(v, [keys.len(), a.e]) {
                    entry.add_seen(&tile, scores, [1, QUERIES], v, false, (sums, p.width, a.e));
                } else {
                    let weights = Matrix::rows(scores, QUERIES).transposed();
                    multiply(self.kernels, [rows, a.e, keys.len()], weights, v, sums, p.width, true);
                }
            }
            for i in 0..rows {
                let at = index * a.queries + queries.start + i;
                let (total, sums, out) = (*sum.add(i), sums.add(i * p.width), to.out.add(at * a.e));
                if total == T::ZERO {
                    for c in 0..a.e {
                        *out.add(c) = T::from_f64(to.empty.0);
                    }
                    *to.lse.add(at) = T::from_f64(to.empty.1);
                    continue;
                }
                let by = total.recip();
                for c in 0..a.e {
                    *out.add(c) = *sums.add(c) * by;
                }
                *to.lse.add(at) = *top.add(i) + total.ln();
            }
        }
    }
}

//! Loops and branches: sequences that are run again, or one of several.
//!
//! # Safety argument
//! As that of [`super`]. A row of a buffer lies within it, since the plan says how many rows it has and the iterations count
//! them. The two buffers of a carry are distinct, so an iteration never reads what it writes.

use super::super::program::{RunError, Sequence, Source};
use super::{Cx, Frame, Pointers};

/// A sequence inside another, with where its parameters and results are now.
#[derive(Debug)]
pub(in super::super) struct Nested {
    sequence: Sequence,
    arena: Source,
    params: Pointers,
    results: Pointers,
}

/// A loop with its numbers.
#[derive(Debug)]
pub(in super::super) struct Loop {
    pub(in super::super) turns: Turns,
    pub(in super::super) reverse: bool,
    pub(in super::super) consts: Vec<Source>,
    /// Initial value, result and spare, and their size in bytes.
    pub(in super::super) carries: Vec<([Source; 3], usize)>,
    /// Where rows start, and the bytes of one.
    pub(in super::super) rows_in: Vec<(Source, usize)>,
    pub(in super::super) rows_out: Vec<(Source, usize)>,
    pub(in super::super) body: Nested,
}

/// How often a loop runs.
#[derive(Debug)]
pub(in super::super) enum Turns {
    Count(usize),
    While(Nested),
}

/// A choice with its numbers.
#[derive(Debug)]
pub(in super::super) struct Branch {
    pub(in super::super) index: Source,
    pub(in super::super) operands: Vec<Source>,
    pub(in super::super) results: Vec<Source>,
    pub(in super::super) branches: Vec<Nested>,
}

impl Nested {
    pub(in super::super) fn new(sequence: Sequence, arena: Source, params: usize, results: usize) -> Self {
        let room = |n| Pointers(vec![std::ptr::null_mut(); n]);
        Self { sequence, arena, params: room(params), results: room(results) }
    }
}

impl Cx<'_> {
    fn nested(&mut self, n: &mut Nested, arena: *mut u8) -> Result<(), RunError> {
        let frame = Frame { params: &n.params.0, results: &n.results.0, arena };
        self.sequence(&mut n.sequence, frame)
    }

    pub(super) fn branch(&mut self, b: &mut Branch, locate: &dyn Fn(Source) -> *mut u8) -> Result<(), RunError> {
        // SAFETY: the index is a buffer of one `i32`.
        let index = unsafe { locate(b.index).cast::<i32>().read_unaligned() };
        let chosen = usize::try_from(index).unwrap_or(0).min(b.branches.len().saturating_sub(1));
        let Some(branch) = b.branches.get_mut(chosen) else { return Ok(()) };
        for (p, s) in branch.params.0.iter_mut().zip(&b.operands) {
            *p = locate(*s);
        }
        for (p, s) in branch.results.0.iter_mut().zip(&b.results) {
            *p = locate(*s);
        }
        let arena = locate(branch.arena);
        self.nested(branch, arena)
    }

    pub(super) fn repeat(&mut self, l: &mut Loop, locate: &dyn Fn(Source) -> *mut u8) -> Result<(), RunError> {
        let Loop { turns, reverse, consts, carries, rows_in, rows_out, body } = l;
        let (n_consts, n_carries) = (consts.len(), carries.len());
        for (p, s) in body.params.0.iter_mut().zip(consts.iter()) {
            *p = locate(*s);
        }
        // The first iteration reads the initial values, and writes where the last one ends in the result.
        let count = match turns {
            Turns::Count(n) => *n,
            Turns::While(_) => 0,
        };
        let first = if count.is_multiple_of(2) { 2 } else { 1 };
        for (k, (places, _)) in carries.iter().enumerate() {
            body.params.0[n_consts + k] = locate(places[0]);
            body.results.0[k] = locate(places[first]);
        }
        let arena = locate(body.arena);
        match turns {
            Turns::Count(n) => {
                let start = if *reverse { n.saturating_sub(1) } else { 0 };
                for (k, (s, bytes)) in rows_in.iter().enumerate() {
                    body.params.0[n_consts + n_carries + k] = row(locate(*s), start, *bytes);
                }
                for (k, (s, bytes)) in rows_out.iter().enumerate() {
                    body.results.0[n_carries + k] = row(locate(*s), start, *bytes);
                }
                for i in 0..*n {
                    self.nested(body, arena)?;
                    turn(body, n_consts, carries, locate, i == 0, first);
                    let rows = rows_in.iter().zip(&mut body.params.0[n_consts + n_carries..]);
                    for ((_, bytes), p) in rows.chain(rows_out.iter().zip(&mut body.results.0[n_carries..])) {
                        let step = if *reverse { (*bytes).wrapping_neg() } else { *bytes };
                        // Past the last row, the pointer is not used.
                        *p = p.wrapping_add(step);
                    }
                }
            }
            Turns::While(cond) => {
                let mut go = [0u8; 64];
                let cond_arena = locate(cond.arena);
                cond.results.0[0] = go.as_mut_ptr();
                let mut i = 0usize;
                loop {
                    let fixed = n_consts + n_carries;
                    cond.params.0[..fixed].copy_from_slice(&body.params.0[..fixed]);
                    self.nested(cond, cond_arena)?;
                    // SAFETY: the condition has written one bool here, through a pointer that the compiler does not see.
                    if unsafe { std::ptr::read_volatile(go.as_ptr()) } == 0 {
                        break;
                    }
                    self.nested(body, arena)?;
                    turn(body, n_consts, carries, locate, i == 0, first);
                    i += 1;
                }
            }
        }
        for (k, (places, bytes)) in carries.iter().enumerate() {
            let (now, result) = (body.params.0[n_consts + k], locate(places[1]));
            if now != result {
                // SAFETY: both are buffers of so many bytes: the initial value's or the spare one, and the result's.
                unsafe { std::ptr::copy_nonoverlapping(now, result, *bytes) };
            }
        }
        Ok(())
    }
}

/// Row `i` of a buffer; the pointer is used only if the buffer has it.
fn row(start: *mut u8, i: usize, bytes: usize) -> *mut u8 {
    start.wrapping_add(i.wrapping_mul(bytes))
}

/// What was written is read next, and the other buffer written.
fn turn(
    body: &mut Nested,
    n_consts: usize,
    carries: &[([Source; 3], usize)],
    locate: &dyn Fn(Source) -> *mut u8,
    is_first: bool,
    first: usize,
) {
    for (k, (places, _)) in carries.iter().enumerate() {
        let (from, to) = (&mut body.params.0[n_consts + k], &mut body.results.0[k]);
        std::mem::swap(from, to);
        if is_first {
            // The initial value is only read.
            *to = locate(places[3 - first]);
        }
    }
}

//! Pairs of queries and keys that masks hide.

use std::ops::Range;

use super::Entry;
use super::products::Matrix;
use super::softmax::{Attended, Float};

/// A tile of pairs of queries and keys.
#[derive(Clone)]
pub(super) struct Tile {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

/// How much of a tile is hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hidden {
    Nothing,
    Part,
    All,
}

impl<T: Attended> Entry<T> {
    /// The keys that some of the queries may attend to, by the causal mask: those below.
    pub(super) fn keys_seen(&self, queries: &Range<usize>, keys: usize) -> usize {
        match self.causal {
            None => keys,
            Some(more) => (queries.end as isize + more).clamp(0, keys as isize) as usize,
        }
    }

    /// The first query that may attend to some of the keys from one on, by the causal mask.
    pub(super) fn first_query(&self, key: usize) -> usize {
        self.causal.map_or(0, |more| (key as isize - more).max(0) as usize)
    }

    /// # Safety
    /// The mask is valid to read.
    unsafe fn sees(&self, query: usize, key: usize) -> bool {
        // SAFETY: passed on to the caller.
        let open = self.mask.is_none_or(|m| unsafe { *m.at(query, key) != 0 });
        open && self.causal.is_none_or(|more| key as isize <= query as isize + more)
    }

    /// How much of a tile is hidden.
    ///
    /// # Safety
    /// The mask is valid to read.
    pub(super) unsafe fn hides(&self, tile: &Tile) -> Hidden {
        let (mut hidden, mut seen) = (false, false);
        if let Some(more) = self.causal {
            // The first query sees least, the last one most.
            hidden = tile.keys.end as isize > tile.queries.start as isize + more + 1;
            if tile.keys.start as isize > tile.queries.end as isize - 1 + more {
                return Hidden::All;
            }
        }
        let Some(mask) = self.mask else { return if hidden { Hidden::Part } else { Hidden::Nothing } };
        // A row that serves all queries is looked at once.
        let queries = if mask.row == 0 { tile.queries.start..tile.queries.start + 1 } else { tile.queries.clone() };
        for i in queries {
            for j in tile.keys.clone() {
                // SAFETY: passed on to the caller.
                let open = unsafe { *mask.at(i, j) != 0 };
                hidden |= !open;
                seen |= open;
            }
        }
        match (hidden, seen) {
            (_, false) => Hidden::All,
            (true, true) => Hidden::Part,
            (false, true) => Hidden::Nothing,
        }
    }

    /// Writes a value at the hidden pairs of a tile, whose first element is `at`.
    ///
    /// # Safety
    /// The mask is valid to read, and the tile to write.
    pub(super) unsafe fn hide(&self, tile: &Tile, at: *mut T, [query, key]: [usize; 2], value: T) {
        for (qi, i) in tile.queries.clone().enumerate() {
            // A causal mask alone hides the keys from one on.
            let first = match (self.mask, self.causal) {
                (None, Some(more)) => (i as isize + more + 1 - tile.keys.start as isize).max(0) as usize,
                _ => 0,
            };
            for kj in first..tile.keys.len() {
                // SAFETY: passed on to the caller.
                unsafe {
                    if !self.sees(i, tile.keys.start + kj) {
                        *at.add(qi * query + kj * key) = value;
                    }
                }
            }
        }
    }

    /// Adds products of a tile with the rows of `by`, pair by pair, leaving hidden ones out; `by` has a row for each query where
    /// sums are over queries, else for each key.
    ///
    /// # Safety
    /// As [`Entry::hide`]; `by` is valid to read, and `to` has a row of stride `to_row` for each of what is not summed over.
    pub(super) unsafe fn add_seen(
        &self,
        tile: &Tile,
        at: *const T,
        [query, key]: [usize; 2],
        by: Matrix<T>,
        over_queries: bool,
        (to, to_row, cols): (*mut T, usize, usize),
    ) {
        for (qi, i) in tile.queries.clone().enumerate() {
            for (kj, j) in tile.keys.clone().enumerate() {
                // SAFETY: passed on to the caller.
                unsafe {
                    if !self.sees(i, j) {
                        continue;
                    }
                    let weight = *at.add(qi * query + kj * key);
                    let (from, into) = if over_queries { (qi, kj) } else { (kj, qi) };
                    for c in 0..cols {
                        let sum = to.add(into * to_row + c);
                        *sum = weight.mul_add(*by.at(from, c), *sum);
                    }
                }
            }
        }
    }
}

/// Whether all elements of a matrix with contiguous rows are finite.
///
/// # Safety
/// It is valid to read.
pub(super) unsafe fn is_finite<T: Attended>(m: Matrix<T>, [rows, cols]: [usize; 2]) -> bool {
    (0..rows).all(|i| {
        let mut all = true;
        for j in 0..cols {
            // SAFETY: passed on to the caller.
            all &= Float::finite(unsafe { *m.at(i, j) });
        }
        all
    })
}

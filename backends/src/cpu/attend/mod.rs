//! Attention a tile of queries by a tile of keys at a time: the scores are never stored.
//!
//! Forward, a task is a block of queries of one batch entry. It makes tiles of scores with queries along the vectors' lanes, keys
//! along rows, so that the softmax needs no sums across lanes; keys and values are read where they lie, and only the block of
//! queries is copied, transposed and scaled. Each tile's weights are relative to the greatest score met so far, and earlier sums
//! shrink when that grows (Milakov and Gimelshein, 2018; Dao et al., 2022). Tiles that a causal mask or a mask of data hides as a
//! whole are not made.
//!
//! Backward, weights are made again from the rows' `lse`. Where there are batch entries enough for the threads, one sweep over
//! blocks of keys by blocks of queries gives all three cotangents; else blocks of keys and blocks of queries are tasks of their
//! own, which makes the scores twice and shares them among any number of threads.
//!
//! # Determinism
//! Blocks are cut by the shape alone, a task sums its blocks in ascending order, and both ways backward do the same operations for
//! each element. So results have the same bits for any number of threads. Instruction sets may differ in the last bits.
//!
//! # Masked pairs
//! A weight that a mask hides is 0. So that what it would be multiplied by has no part in the result even where that is not finite,
//! a tile with hidden pairs and such numbers is summed pair by pair (`hidden`).

mod backward;
mod forward;
mod hidden;
mod lanes;
mod products;
mod softmax;

#[cfg(test)]
mod tests;

pub use backward::{Cotangents, attend_backward};
pub use forward::{Results, attend};
pub use softmax::Attended;

use products::Matrix;

/// The operands of an attention; all strides are in elements, of any sign, and 0 repeats.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a, T> {
    /// The sizes of the leading dims.
    pub batch: &'a [usize],
    /// Rows of queries.
    pub queries: usize,
    /// Rows of keys and values.
    pub keys: usize,
    /// Columns of queries and keys.
    pub d: usize,
    /// Columns of values.
    pub e: usize,
    /// What products are multiplied by.
    pub scale: f64,
    /// Whether the last query sees all keys, and each one before it one key less.
    pub causal: bool,
    /// `[batch, queries, d]`.
    pub q: Grid<'a, T>,
    /// `[batch, keys, d]`.
    pub k: Grid<'a, T>,
    /// `[batch, keys, e]`.
    pub v: Grid<'a, T>,
    /// `[batch, queries, keys]`, added to the scores.
    pub bias: Option<Grid<'a, T>>,
    /// `[batch, queries, keys]` of bytes; what may be attended to is not 0.
    pub mask: Option<Grid<'a, u8>>,
}

/// Matrices to read, under several leading dims.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a, T> {
    /// Element (0, 0) of the first matrix.
    pub ptr: *const T,
    /// The stride of each leading dim.
    pub batch: &'a [isize],
    /// From a row to the next.
    pub row: isize,
    /// From a column to the next.
    pub col: isize,
}

/// Queries of a block: whole vectors of any instruction set, and of an even number of tiles' rows.
const QUERIES: usize = 64;

/// Keys of a block of the forward pass.
const KEYS: usize = 128;

/// Multiply-adds below which tasks are run together: handing one to a thread takes as long as about this many.
const TASK_MACS: usize = 200_000;

/// One entry of the batch.
#[derive(Clone, Copy)]
struct Entry<T> {
    q: Matrix<T>,
    k: Matrix<T>,
    v: Matrix<T>,
    bias: Option<Matrix<T>>,
    mask: Option<Matrix<u8>>,
    /// How many more keys there are than queries, under a causal mask.
    causal: Option<isize>,
}

impl<T: Copy> Attention<'_, T> {
    /// The number of batch entries.
    fn entries(&self) -> usize {
        self.batch.iter().product()
    }

    fn entry(&self, index: usize) -> Entry<T> {
        Entry {
            q: self.q.matrix(self.batch, index),
            k: self.k.matrix(self.batch, index),
            v: self.v.matrix(self.batch, index),
            bias: self.bias.map(|g| g.matrix(self.batch, index)),
            mask: self.mask.map(|g| g.matrix(self.batch, index)),
            causal: self.causal.then_some(self.keys as isize - self.queries as isize),
        }
    }
}

impl<T: Copy> Grid<'_, T> {
    /// The matrix of a batch entry, numbered row-major.
    fn matrix(&self, sizes: &[usize], index: usize) -> Matrix<T> {
        let mut rest = index;
        let mut offset = 0;
        for (&size, &stride) in sizes.iter().zip(self.batch).rev() {
            offset += (rest % size) as isize * stride;
            rest /= size;
        }
        // The offset stays inside the operand, or, where that is empty, is not used.
        Matrix { ptr: self.ptr.wrapping_offset(offset), row: self.row, col: self.col }
    }
}

/// A pointer that several threads use for disjoint elements, or to read.
#[derive(Clone, Copy)]
struct Shared<T>(T);

// SAFETY: a bare address; who dereferences it vouches for the access.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// Through a method, so that a closure captures the wrapper and not the field.
    fn get(self) -> T {
        self.0
    }
}

/// Parts of one thread's scratch memory, each a whole number of cache lines.
struct Layout {
    /// Elements so far.
    len: usize,
}

/// Elements of either type that fill whole cache lines.
const LINE: usize = 16;

impl Layout {
    fn new() -> Self {
        Self { len: 0 }
    }

    /// Room for so many elements; gives where it starts.
    fn part(&mut self, elements: usize) -> usize {
        let at = self.len;
        self.len += elements.next_multiple_of(LINE);
        at
    }
}

//! Contractions: batched matrix products of operands that may lie in memory in any regular way.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::BufferId;
use crate::bindings::Bindings;
use crate::dim::{Dim, DimError};
use crate::dtype::DType;
use crate::kernel::{Access, Kernel};

/// A batched matrix product `c[b, m, n] = Σ_k a[b, m, k] · b[b, k, n]`.
///
/// Convolutions are contractions too: the windows of an image are rows of a matrix that overlaps itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contract {
    /// That of operands and result, a float. Products and sums of half precision are those of `f32` or better, and the result is
    /// rounded once.
    pub dtype: DType,
    /// Batches, rows, columns, and the length of the sum.
    pub batch: Dim,
    /// Rows of the result.
    pub m: Dim,
    /// Columns of the result.
    pub n: Dim,
    /// Length of the sum.
    pub k: Dim,
    /// Left operand: indices of batch, row (m) and column (k).
    pub a: Matrix,
    /// Right operand: indices of batch, row (k) and column (n).
    pub b: Matrix,
    /// Result: indices of batch, row (m) and column (n); batch and column of one digit each, and the row too with an epilogue.
    pub c: Matrix,
    /// What runs on finished blocks of the result.
    pub epilogue: Option<Epilogue>,
}

/// A kernel that runs inside a contraction, on blocks of the result whose sums are complete.
///
/// An iteration of its parallel loop is a row of the whole batch, `batch * m` of them. Two of its sizes say which columns it
/// walks: from one on, so many. It reads the result at the place that it computes alone, and may write over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Epilogue {
    /// Index into [`super::Plan::kernels`].
    pub kernel: u32,
    /// A buffer for each of the kernel's.
    pub buffers: SmallVec<[BufferId; 6]>,
    /// A value for each of the kernel's sizes; those of the two below are for the whole result.
    pub sizes: SmallVec<[Dim; 4]>,
    /// Which of the sizes is the first column.
    pub first_column: u32,
    /// Which of the sizes is the number of columns.
    pub columns: u32,
}

impl Epilogue {
    /// The name of the size that is the first column.
    pub const FIRST_COLUMN: &str = "_column";
    /// The name of the size that is the number of columns.
    pub const COLUMNS: &str = "_columns";
    /// The most sizes that the kernel of an epilogue has.
    pub const MOST_SIZES: usize = 16;
}

impl Contract {
    /// Whether the buffers are of the contraction's dtype, the result moves as backends write it, and an epilogue has the sizes
    /// that say which columns it walks.
    pub(super) fn check(&self, dtype: &dyn Fn(BufferId) -> Option<DType>) -> Result<(), String> {
        let Self { dtype: own, a, b, c, .. } = self;
        if !own.is_float() {
            return Err(format!("a contraction of {own}"));
        }
        if let Some(other) = [a, b, c].into_iter().find(|m| dtype(m.buffer).is_some_and(|d| d != *own)) {
            return Err(format!("{} is no {own} buffer for a contraction", other.buffer));
        }
        let even = |d: &Digits| d.digits().len() <= 1;
        if !even(&self.c.batch) || !even(&self.c.column) {
            return Err("a contraction's result has several strides along its batch or its columns".to_owned());
        }
        let Some(e) = &self.epilogue else { return Ok(()) };
        if !even(&self.c.row) {
            return Err("a contraction with an epilogue has a result whose rows are in another order".to_owned());
        }
        if e.sizes.len() > Epilogue::MOST_SIZES || e.sizes.len() as u32 <= e.first_column.max(e.columns) {
            return Err("an epilogue without sizes for its columns, or with too many".to_owned());
        }
        Ok(())
    }

    /// The buffers it reads and the buffers it writes.
    pub(super) fn accesses(&self, kernels: &[Arc<Kernel>]) -> (SmallVec<[BufferId; 6]>, SmallVec<[BufferId; 2]>) {
        let mut reads: SmallVec<[BufferId; 6]> = SmallVec::from_iter([self.a.buffer, self.b.buffer]);
        let mut writes: SmallVec<[BufferId; 2]> = SmallVec::from_iter([self.c.buffer]);
        if let Some(e) = &self.epilogue {
            for (&b, param) in e.buffers.iter().zip(&kernels[e.kernel as usize].buffers) {
                // The result is there when the epilogue reads it.
                if b == self.c.buffer {
                    continue;
                }
                if param.access != Access::Write {
                    reads.push(b);
                }
                if param.access != Access::Read {
                    writes.push(b);
                }
            }
        }
        (reads, writes)
    }
}

/// A view of a buffer as a batch of matrices; the offset counts elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// The buffer.
    pub buffer: BufferId,
    /// The first element.
    pub offset: Dim,
    /// How the batch index moves.
    pub batch: Digits,
    /// How the row index moves.
    pub row: Digits,
    /// How the column index moves.
    pub column: Digits,
}

/// An index over several dims: digits, the outermost first. Without a digit, its one value is 0.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Digits(SmallVec<[Digit; 1]>);

/// One dim of an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digit {
    /// How many values it takes.
    pub size: Dim,
    /// Elements from one value to the next.
    pub stride: Dim,
}

impl Digits {
    /// The most digits that an index of a plan has.
    pub const MOST: usize = 6;

    /// One digit.
    pub fn even(size: Dim, stride: Dim) -> Self {
        Self(SmallVec::from_iter([Digit { size, stride }]))
    }

    /// An index over dims of some sizes and strides, those joined that move as one; `None` with more than [`Digits::MOST`] left.
    pub fn new(dims: impl IntoIterator<Item = (Dim, Dim)>) -> Option<Self> {
        let mut out: SmallVec<[Digit; 1]> = SmallVec::new();
        for (size, stride) in dims {
            if size.is_one() {
                continue;
            }
            match out.last_mut() {
                Some(last) if last.stride == &stride * &size => {
                    *last = Digit { size: &last.size * &size, stride };
                }
                _ => out.push(Digit { size, stride }),
            }
        }
        (out.len() <= Self::MOST).then_some(Self(out))
    }

    /// The digits, the outermost first.
    pub fn digits(&self) -> &[Digit] {
        &self.0
    }

    /// Whether every index is at the same place.
    pub fn is_still(&self) -> bool {
        self.0.iter().all(|d| d.stride.is_zero())
    }

    /// The elements from index 0 to `index`.
    ///
    /// # Errors
    /// Sizes that cannot be evaluated.
    pub fn offset(&self, index: i64, bindings: &Bindings) -> Result<i64, DimError> {
        let (mut rest, mut offset) = (index, 0);
        for (i, d) in self.0.iter().enumerate().rev() {
            let size = bindings.eval(&d.size)?;
            let digit = if i == 0 { rest } else { rest.rem_euclid(size.max(1)) };
            rest = rest.div_euclid(size.max(1));
            offset += digit * bindings.eval(&d.stride)?;
        }
        Ok(offset)
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digits() {
            [] => f.write_str("0"),
            [one] => write!(f, "{}", one.stride),
            all => {
                for (i, d) in all.iter().enumerate() {
                    write!(f, "{}{}x{}", if i == 0 { "(" } else { " " }, d.size, d.stride)?;
                }
                f.write_str(")")
            }
        }
    }
}

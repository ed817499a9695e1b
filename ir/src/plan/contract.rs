//! Contractions: batched matrix products of operands that may lie in memory in any regular way.

use std::fmt;

use smallvec::SmallVec;

use super::BufferId;
use crate::bindings::Bindings;
use crate::dim::{Dim, DimError};
use crate::dtype::DType;

/// A batched matrix product `c[b, m, n] = Σ_k a[b, m, k] · b[b, k, n]`.
///
/// Convolutions are contractions too: the windows of an image are rows of a matrix that overlaps itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contract {
    /// f32 or f64.
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
    /// Result: indices of batch, row (m) and column (n), each of one digit.
    pub c: Matrix,
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

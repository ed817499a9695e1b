//! Data sets: columns of examples, split, shuffled and dealt out in batches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lehr_ir::Array;

use crate::error::{Result, list};
use crate::random::Key;

mod batches;
mod csv;
#[cfg(feature = "npz")]
mod npy;

pub use batches::{Batch, Batches, Loader};
#[cfg(feature = "npz")]
pub use npy::{load_npy, load_npz, save_npy, save_npz};

/// A data set or array file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A field that is no number.
    #[error("{}:{line}: the field `{column}` is `{text}`, which is no number\n  = help: leave the column out, or write numbers", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column.
        column: String,
        /// What stands there.
        text: String,
    },
    /// A file that is no well-formed table.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line if there is one.
        reason: String,
    },
    /// A column that does not exist.
    #[error("data: there is no column `{name}`\n  = help: the columns are {}", list(known.iter().map(String::as_str)))]
    NoColumn {
        /// The name.
        name: String,
        /// The columns there are.
        known: Vec<String>,
    },
    /// Columns of different numbers of rows, or without rows.
    #[error(
        "data: the column `{name}` has the shape {shape:?}, and there are {rows} rows\n  = help: give each column a first dim of the number of rows"
    )]
    Rows {
        /// The column.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The rows of the first column.
        rows: usize,
    },
}

/// Named columns of examples: arrays with one first dim.
///
/// ```
/// use lehr::prelude::*;
/// let data = Dataset::new([("x", Array::from([[1.0f32], [2.0], [3.0]])), ("y", Array::from([0i64, 1, 0]))])?;
/// let sizes: Vec<usize> = data.batch(2).into_iter().map(|b| b.len()).collect();
/// assert_eq!(sizes, [2, 1]);
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    columns: Vec<(Arc<str>, Array)>,
    /// The names of the fields of `x`, if it was read from a table.
    fields: Vec<String>,
    rows: usize,
}

impl Dataset {
    /// A data set of columns.
    ///
    /// # Errors
    /// Columns of different numbers of rows; a scalar.
    pub fn new<N: AsRef<str>>(columns: impl IntoIterator<Item = (N, Array)>) -> Result<Self> {
        let columns: Vec<(Arc<str>, Array)> = columns.into_iter().map(|(n, a)| (n.as_ref().into(), a)).collect();
        let rows = columns.first().and_then(|(_, a)| a.shape().first().copied()).unwrap_or(0);
        for (name, a) in &columns {
            if a.shape().first() != Some(&rows) {
                return Err(DataError::Rows { name: name.to_string(), shape: a.shape().to_vec(), rows }.into());
            }
        }
        Ok(Self { columns, fields: Vec::new(), rows })
    }

    /// A table of numbers with a header line; its fields become the columns of `x: f32[rows, fields]`.
    ///
    /// # Errors
    /// A file that cannot be read; lines of different lengths; a field that is no number, with its line.
    pub fn csv(path: impl AsRef<Path>) -> Result<Self> {
        csv::read(path.as_ref())
    }

    /// Moves a field of `x` into a column of its own, `y`: `i64[rows]` if all are whole numbers, else `f32[rows]`.
    ///
    /// # Errors
    /// A field that does not exist.
    pub fn label(self, field: &str) -> Result<Self> {
        csv::label(self, field)
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The array of a column.
    ///
    /// # Errors
    /// A column that does not exist.
    pub fn column(&self, name: &str) -> Result<&Array> {
        let found = self.columns.iter().find(|(n, _)| &**n == name);
        found.map(|(_, a)| a).ok_or_else(|| self.no_column(name).into())
    }

    /// The names of the columns.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.columns.iter().map(|(n, _)| &**n)
    }

    /// A part of the examples, drawn at random, and the rest. The part is rounded to whole examples.
    ///
    /// ```
    /// use lehr::prelude::*;
    /// let data = Dataset::new([("x", Array::from([1i64, 2, 3, 4, 5]))])?;
    /// let (train, test) = data.split(0.8, Key::new(0));
    /// assert_eq!((train.len(), test.len()), (4, 1));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    pub fn split(&self, part: f64, key: Key) -> (Self, Self) {
        let order = permutation(self.rows, key);
        let cut = (part.clamp(0.0, 1.0) * self.rows as f64).round() as usize;
        let (first, second) = order.split_at(cut.min(self.rows));
        (self.take(first), self.take(second))
    }

    /// These examples, in this order; positions outside are left out.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        let rows: Vec<usize> = rows.iter().copied().filter(|&r| r < self.rows).collect();
        let columns = self.columns.iter().map(|(n, a)| (Arc::clone(n), take_rows(a, &rows))).collect();
        Self { columns, fields: self.fields.clone(), rows: rows.len() }
    }

    /// All examples as one batch.
    pub fn all(&self) -> Batch {
        Batch::new(self.columns.clone(), self.rows)
    }

    /// Batches of so many examples, in order; the last has what is left.
    pub fn batch(&self, size: usize) -> Loader {
        Loader::new(self.clone()).batch(size)
    }

    /// The examples in another order each epoch, determined by the seed.
    pub fn shuffle(&self, seed: u64) -> Loader {
        Loader::new(self.clone()).shuffle(seed)
    }

    fn no_column(&self, name: &str) -> DataError {
        DataError::NoColumn { name: name.to_owned(), known: self.names().map(str::to_owned).collect() }
    }
}

/// The numbers below `n` in an order drawn from a key (Fisher and Yates).
pub(crate) fn permutation(n: usize, key: Key) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for (i, word) in (1..n).rev().zip(key.words_of_stream()) {
        // The high word of a product is below its other factor, to within 2^-32 equally likely.
        order.swap(i, ((u64::from(word) * (i as u64 + 1)) >> 32) as usize);
    }
    order
}

/// The slices of an array at positions along its first dim.
fn take_rows(a: &Array, rows: &[usize]) -> Array {
    let width: usize = a.shape()[1..].iter().product();
    let data = a.data().gather(rows.iter().flat_map(|&r| r * width..(r + 1) * width));
    let mut shape = a.shape().to_vec();
    shape[0] = rows.len();
    // As many elements as the shape has are taken.
    Array::from_data(&shape, data).unwrap_or_else(|_| Array::zeros(a.dtype(), &shape))
}

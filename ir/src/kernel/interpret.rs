//! The reference interpreter of kernels.
//!
//! It runs a kernel as the text of [`kernel`](super) says, virtual lanes included, so emitters are tested against it bit for bit
//! (NaNs aside: which NaN an operation gives is not part of a kernel's meaning). It checks what a machine would not:
//! bounds, undefined elements of tiles and `write` buffers, and iterations of the parallel axis that meet in one element.
//!
//! A kernel is first compiled to a tree with resolved registers, index expressions and function pointers,
//! which runs some ten million statements a second even in a debug build.

mod buffer;
mod compile;
mod execute;
mod function;
mod index;
mod scalar;

use std::ops::Range;

use super::print::{self, Site};
use super::{Kernel, verify};
use crate::dim::{DimError, Symbol};
use crate::dtype::DType;

pub use buffer::BufferData;
pub use function::reference;

/// How elementary functions are evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Functions {
    /// By libm in `f64`, rounded to the dtype.
    #[default]
    Reference,
    /// As emitters do: `f32` and the half formats by the recipes of [`recipes`](super::recipes), `f64` by libm.
    Recipe,
}

/// Runs every iteration of a kernel, elementary functions by [`Functions::Reference`].
///
/// # Errors
/// [`InterpretError`] where the operands do not fit the kernel, or a statement fails; buffers may then hold part of the result.
pub fn run(kernel: &Kernel, sizes: &[i64], buffers: &mut [BufferData]) -> Result<(), InterpretError> {
    Program::new(kernel, sizes, Functions::Reference)?.run(buffers)
}

/// A kernel compiled for given sizes.
pub struct Program<'k> {
    kernel: &'k Kernel,
    sizes: Vec<i64>,
    lens: Vec<i64>,
    code: compile::Code,
    extent: i64,
}

impl<'k> Program<'k> {
    /// Compiles a kernel for given sizes.
    ///
    /// # Errors
    /// [`InterpretError`] where the kernel's structure is unsound, or sizes, lengths or the outermost extent have no value.
    pub fn new(kernel: &'k Kernel, sizes: &[i64], functions: Functions) -> Result<Self, InterpretError> {
        let errors = verify::check_structure(kernel);
        if !errors.is_empty() {
            return Err(InterpretError::Structure(errors));
        }
        if sizes.len() != kernel.sizes.len() {
            return Err(InterpretError::SizeCount { want: kernel.sizes.len(), got: sizes.len() });
        }
        if let Some((symbol, value)) = kernel.sizes.iter().zip(sizes).find(|(_, v)| **v < 0) {
            return Err(InterpretError::NegativeSize { symbol: symbol.clone(), value: *value });
        }
        let size_of = |s: &Symbol| kernel.sizes.iter().position(|t| t == s).map(|i| sizes[i]);
        let lens = kernel.buffers.iter().map(|b| {
            let error = |error| InterpretError::Length { buffer: b.name.clone(), error };
            b.len.eval(&size_of).map_err(error)
        });
        let lens = lens.collect::<Result<_, _>>()?;
        let outermost = |error| InterpretError::Index { statement: print::line(kernel, Site::Stmt(0)), error };
        let extent = kernel.body.extent.eval(&size_of).map_err(outermost)?;
        if extent < 0 {
            return Err(InterpretError::NegativeExtent { statement: print::line(kernel, Site::Stmt(0)), extent });
        }
        let code = compile::Code::new(kernel, &size_of, functions);
        Ok(Self { kernel, sizes: sizes.to_vec(), lens, code, extent })
    }

    /// The number of iterations of the outermost loop.
    pub fn extent(&self) -> i64 {
        self.extent
    }

    /// The sizes it was compiled for.
    pub fn sizes(&self) -> &[i64] {
        &self.sizes
    }

    /// Zeros for every buffer of the kernel.
    ///
    /// # Errors
    /// [`InterpretError::Length`] where a length is negative or takes more than 2^40 bytes.
    pub fn zeros(&self) -> Result<Vec<BufferData>, InterpretError> {
        let fits = |b: &super::Buffer, len: i64| {
            let len = usize::try_from(len).ok().filter(|n| n.saturating_mul(b.dtype.size()) <= 1 << 40);
            let error = InterpretError::Length { buffer: b.name.clone(), error: DimError::Overflow };
            len.and_then(|n| BufferData::zeros(b.dtype, n)).ok_or(error)
        };
        self.kernel.buffers.iter().zip(&self.lens).map(|(b, len)| fits(b, *len)).collect()
    }

    /// Runs every iteration.
    ///
    /// # Errors
    /// [`InterpretError`] where buffers do not fit the kernel or a statement fails.
    pub fn run(&self, buffers: &mut [BufferData]) -> Result<(), InterpretError> {
        self.run_range(buffers, 0..self.extent)
    }

    /// Runs some iterations of the outermost loop, as a thread of a launch would.
    ///
    /// # Errors
    /// As [`Program::run`], and where the range is not one of the loop.
    pub fn run_range(&self, buffers: &mut [BufferData], range: Range<i64>) -> Result<(), InterpretError> {
        if range.start < 0 || range.end < range.start || range.end > self.extent {
            return Err(InterpretError::Range { range, extent: self.extent });
        }
        if buffers.len() != self.kernel.buffers.len() {
            return Err(InterpretError::BufferCount { want: self.kernel.buffers.len(), got: buffers.len() });
        }
        for ((buffer, data), len) in self.kernel.buffers.iter().zip(buffers.iter()).zip(&self.lens) {
            if data.dtype() != buffer.dtype || data.len() as i64 != *len {
                return Err(InterpretError::BufferType {
                    buffer: buffer.name.clone(),
                    want: (buffer.dtype, *len),
                    got: (data.dtype(), data.len() as i64),
                });
            }
        }
        execute::run(&self.code, self.kernel, buffers, range).map_err(|trap| self.explain(trap))
    }

    fn explain(&self, trap: execute::Trap) -> InterpretError {
        let statement = print::line(self.kernel, Site::Stmt(trap.statement));
        match trap.reason {
            execute::Reason::Index(error) => InterpretError::Index { statement, error },
            execute::Reason::OutOfBounds { index, len } => InterpretError::OutOfBounds { statement, index, len },
            execute::Reason::NegativeExtent(extent) => InterpretError::NegativeExtent { statement, extent },
            execute::Reason::Undefined(index) => InterpretError::Undefined { statement, index },
            execute::Reason::Race(index) => InterpretError::Race { statement, index },
        }
    }
}

/// Why a kernel did not run.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterpretError {
    /// The kernel breaks structural invariants.
    #[error("the kernel is unsound: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Structure(Vec<verify::VerifyError>),
    /// Too few or too many sizes.
    #[error("the kernel has {want} sizes, {got} were given")]
    SizeCount {
        /// Sizes of the kernel.
        want: usize,
        /// Sizes given.
        got: usize,
    },
    /// A size below 0.
    #[error("the size {symbol} is {value}")]
    NegativeSize {
        /// The size.
        symbol: Symbol,
        /// Its value.
        value: i64,
    },
    /// A length without a value.
    #[error("the length of `{buffer}`: {error}")]
    Length {
        /// The buffer.
        buffer: String,
        /// Why.
        error: DimError,
    },
    /// Too few or too many buffers.
    #[error("the kernel has {want} buffers, {got} were given")]
    BufferCount {
        /// Buffers of the kernel.
        want: usize,
        /// Buffers given.
        got: usize,
    },
    /// A buffer of another dtype or length.
    #[error("`{buffer}` is {}[{}], {}[{}] was given", .want.0, .want.1, .got.0, .got.1)]
    BufferType {
        /// The buffer.
        buffer: String,
        /// What the kernel has.
        want: (DType, i64),
        /// What was given.
        got: (DType, i64),
    },
    /// Iterations that the outermost loop does not have.
    #[error("{range:?} is no range of the {extent} iterations")]
    Range {
        /// The range given.
        range: Range<i64>,
        /// The number of iterations.
        extent: i64,
    },
    /// An index expression without a value.
    #[error("`{statement}`: {error}")]
    Index {
        /// The statement.
        statement: String,
        /// Why.
        error: DimError,
    },
    /// An index outside of its memory.
    #[error("`{statement}`: index {index} is outside of 0..{len}")]
    OutOfBounds {
        /// The statement.
        statement: String,
        /// The index.
        index: i64,
        /// The length of the memory.
        len: usize,
    },
    /// A loop with a negative number of iterations.
    #[error("`{statement}`: the extent is {extent}")]
    NegativeExtent {
        /// The loop.
        statement: String,
        /// Its extent.
        extent: i64,
    },
    /// A load of an element of a tile or a `write` buffer that this iteration has not stored.
    #[error("`{statement}`: element {index} is undefined here")]
    Undefined {
        /// The load.
        statement: String,
        /// The element.
        index: i64,
    },
    /// A load or store of an element that another iteration of the outermost loop has stored.
    #[error("`{statement}`: another iteration of the parallel axis has stored element {index}")]
    Race {
        /// The load or store.
        statement: String,
        /// The element.
        index: i64,
    },
}

#[cfg(test)]
mod tests;

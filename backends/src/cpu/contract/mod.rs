//! Matrix products of strided operands, batched, with an epilogue: one interface for every contraction of a plan.
//!
//! [`contract`] chooses among three ways, by shape and strides alone:
//! - tiles (`tiles`): register tiles over operands that are packed where that pays and read in place where it does not;
//! - rows (`small`): few rows times a large row-major B, which is streamed once as it lies in memory;
//! - dot (`small`): few rows times a B that is contiguous along K, as inner products.
//!
//! # Determinism
//! The K loop is cut into blocks by its length alone, and threads divide the elements of C only.
//! So a result has the same bits for any number of threads.
//! Different instruction sets may differ in the last bits, and so may different strides of the same values.
//!
//! # Numerics
//! Each element has an error of at most `k * eps * sum |a| |b|`, and in practice far less.
//! No product is skipped, so NaN and infinity propagate (0 times infinity is NaN).
//! Subnormal numbers are kept.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
mod axis;
mod driver;
pub(super) mod micro;
mod pack;
pub(super) mod portable;
mod ready;
mod small;
mod tiles;
mod workspace;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::ops::{Add, Mul};

pub use axis::{Axis, MOST_DIGITS};
pub use driver::{contract, contract_packed, packing_pays};
pub use pack::PackedB;
pub use workspace::Workspace;

/// `C[b] (m x n) = A[b] (m x k) * B[b] (k x n)` for each `b < batch`, or `+=` with `accumulate`.
///
/// With `k == 0`, C is zero (or unchanged with `accumulate`) and the epilogue runs; an empty C is left alone.
#[derive(Clone, Copy, Debug)]
pub struct Contraction<T> {
    /// The number of products.
    pub batch: usize,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A and rows of B.
    pub k: usize,
    /// The left operand, m x k.
    pub a: View<T>,
    /// The right operand, k x n.
    pub b: View<T>,
    /// The result, m x n.
    pub c: ViewMut<T>,
    /// Add to C instead of overwriting it.
    pub accumulate: bool,
    /// What to run on finished parts of C.
    pub epilogue: Option<Epilogue>,
}

/// A batch of matrices to read. Elements may overlap.
#[derive(Clone, Copy, Debug)]
pub struct View<T> {
    /// Element (0, 0) of the first matrix.
    pub ptr: *const T,
    /// How to get from matrix to matrix.
    pub batch: Axis,
    /// How to get from row to row.
    pub row: Axis,
    /// How to get from column to column.
    pub col: Axis,
}

impl<T> View<T> {
    /// A view with one stride for each index, in elements, of any sign; 0 repeats an element.
    pub const fn strided(ptr: *const T, batch: isize, row: isize, col: isize) -> View<T> {
        View { ptr, batch: Axis::even(batch), row: Axis::even(row), col: Axis::even(col) }
    }
}

/// A batch of matrices to write. Strides are in elements, of any sign; no two indices may name the same element.
///
/// Rows of several digits are for a product whose left operand is best read in another order than that of the result.
#[derive(Clone, Copy, Debug)]
pub struct ViewMut<T> {
    /// Element (0, 0) of the first matrix.
    pub ptr: *mut T,
    /// From a matrix to the next.
    pub batch_stride: isize,
    /// How to get from row to row.
    pub row: Axis,
    /// From a column to the next.
    pub col_stride: isize,
}

/// Code that runs once for every element of C after its sum is complete, a block at a time, while the block is cached.
///
/// Blocks are disjoint and come from several threads at once, in no fixed order.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// Called with `ctx`, the batch index, and the block as first row, end of rows, first column, end of columns.
    pub run: unsafe extern "C" fn(*const u8, usize, usize, usize, usize, usize),
    /// Passed to `run` as it is.
    pub ctx: *const u8,
}

/// An instruction set that the kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Whatever the build target has.
    Portable,
}

impl Isa {
    /// Every instruction set, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// The best one that this processor has.
    pub fn best() -> Isa {
        Isa::ALL.into_iter().find(|isa| isa.available()).unwrap_or(Isa::Portable)
    }

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        // The standard library asks the processor once and keeps the answer.
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}

/// An element type of a contraction: `f32` or `f64`.
pub trait Element:
    sealed::Sealed + Copy + Debug + Send + Sync + PartialEq + Add<Output = Self> + Mul<Output = Self> + 'static
{
    /// Positive zero.
    const ZERO: Self;
    /// `self * a + b` with one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
}

pub(super) mod sealed {
    use super::Isa;
    use super::micro::Kernels;

    pub trait Sealed: Sized + 'static {
        /// The kernels for an available instruction set.
        fn kernels(isa: Isa) -> &'static Kernels<Self>;
    }
}

macro_rules! element {
    ($t:ty, $name:ident) => {
        impl Element for $t {
            const ZERO: $t = 0.0;
            #[inline(always)]
            fn mul_add(self, a: $t, b: $t) -> $t {
                <$t>::mul_add(self, a, b)
            }
        }
        impl sealed::Sealed for $t {
            fn kernels(isa: Isa) -> &'static micro::Kernels<$t> {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => &avx512::$name,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => &avx2::$name,
                    #[cfg(not(target_arch = "x86_64"))]
                    Isa::Avx512 | Isa::Avx2 => &portable::$name,
                    Isa::Portable => &portable::$name,
                }
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);

//! Kernels as AVX-512 or AVX2 machine code, beside Cranelift's.
//!
//! Cranelift's vectors are 128 bits wide. This emitter takes the same kernels and writes 512- or 256-bit code for them with an
//! assembler, under the same entry signature and with the same bits as results (which NaN aside).
//! [`Compiler`](super::Compiler) takes its code for the kernels that gain by it, and Cranelift's for all others.
//!
//! # How
//! Every value is a vector of as many elements as a vector has of the kernel's widest dtype (`size.rs`). Outside of vectorised loops
//! all its elements are equal, so one set of operations serves both. A lane loop, or a reduce loop outside of one, is vectorised where
//! its guards and inner extents do not depend on the lane, and so is the outermost loop where nothing inside is; any other loop runs in
//! sequence on values that are equal in all elements, which is slow but complete. The last, partial group of a vectorised loop runs
//! under a mask like all others.
//!
//! Straight-line code is collected in segments whose values get registers by linear scan, with spills to the stack frame;
//! what a segment leaves to later ones goes through the frame. Axes and sizes live in the frame as integers, as do `i64` values of
//! kernels whose other values have 32 bits, and general registers hold nothing from one statement to the next. What has no vector form
//! (division of integers, gathers) runs lane by lane between the vectors' places in the frame.

use lehr_ir::dim::DimError;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Kernel, ScalarOp};

mod allocate;
mod assembler;
mod codes;
mod convert;
mod double;
mod emitter;
mod extremes;
mod flow;
mod frame;
mod guarded;
mod index;
mod lanes;
mod loops;
mod memory;
mod ops;
mod recipe;
mod reduce;
mod scan;
mod segment;
mod size;
mod small;
mod stream;
#[cfg(test)]
mod tests;
mod transfer;
mod vector;
mod wide_int;

/// The vectors of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    /// 256 bits: AVX2 with fused multiply-add and conversions of f16.
    Avx2,
    /// 512 bits: AVX-512 F, DQ and VL, with BMI2.
    Avx512,
}

impl Width {
    /// The widest that this machine has; `None` without AVX2, and on systems with another calling convention than System V's.
    pub fn detect() -> Option<Self> {
        [Self::Avx512, Self::Avx2].into_iter().find(|w| w.is_here())
    }

    /// Bytes of a vector.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Avx2 => 32,
            Self::Avx512 => 64,
        }
    }

    /// Whether this machine has it.
    pub fn is_here(self) -> bool {
        #[cfg(all(target_arch = "x86_64", not(windows)))]
        match self {
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("bmi2")
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(windows))))]
        false
    }
}

/// What to emit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WideOptions {
    /// The vectors to use.
    pub width: Width,
    /// Refuse kernels whose code would be slower than Cranelift's.
    pub only_if_it_pays: bool,
    /// Make the listing.
    pub listing: bool,
}

/// The alignment of a kernel's code in bytes.
pub const ALIGNMENT: u32 = 64;

/// The machine code of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    /// Position-independent and without relocations.
    pub bytes: Vec<u8>,
    /// The instructions as text; empty unless asked for.
    pub listing: String,
}

/// Why there is no wide code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WideError {
    /// The machine has no such vectors.
    #[error("this machine has no {}", .0.name())]
    Host(Width),
    /// Something that this emitter has no code for.
    #[error("the wide emitter does not support {0}")]
    Unsupported(Unsupported),
    /// It would gain nothing.
    #[error("{0} would be slow in wide code")]
    NoGain(&'static str),
    /// An index or extent that has no value.
    #[error("an index has no value: {0}")]
    Index(#[from] DimError),
    /// The kernel breaks an invariant of the verifier.
    #[error("the kernel is not valid: {0}")]
    Invalid(&'static str),
    /// An instruction could not be encoded.
    #[error("the assembler failed: {0}")]
    Assemble(String),
}

/// What this emitter has no code for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A dtype other than floats, bool and integers of 32 and 64 bits.
    #[error("{dtype} in {place}")]
    DType {
        /// The dtype.
        dtype: DType,
        /// The buffer, tile or variable.
        place: String,
    },
    /// An operation on a dtype.
    #[error("`{op}` on {dtype}")]
    Op {
        /// The operation.
        op: ScalarOp,
        /// The dtype of its first operand.
        dtype: DType,
    },
    /// A reduction of `i64` values in a kernel without wide arrays.
    #[error("{} of {dtype}", .combiner.name())]
    Reduction {
        /// The combiner.
        combiner: Combiner,
        /// The dtype of its first value.
        dtype: DType,
    },
    /// Variables and partial results that take too much stack.
    #[error("a stack frame of {0} bytes")]
    Frame(u64),
}

impl From<Unsupported> for WideError {
    fn from(unsupported: Unsupported) -> Self {
        Self::Unsupported(unsupported)
    }
}

impl Width {
    /// The name of the instruction set.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "AVX2 with FMA",
            Self::Avx512 => "AVX-512",
        }
    }
}

/// The machine code of a verified kernel, position-independent and without relocations.
///
/// The function is `extern "C" fn(context: *const KernelContext, lo: i64, hi: i64)`, as Cranelift's; see
/// [`KernelContext`](super::emit::KernelContext).
///
/// # Errors
/// [`WideError`] where the kernel has something that this emitter has no code for.
pub fn assemble(kernel: &Kernel, options: &WideOptions) -> Result<Code, WideError> {
    let size = size::Size::of_kernel(kernel);
    emitter::Emitter::new(kernel, options.width, size, options.only_if_it_pays)?.function(options.listing)
}

//! Why a kernel has no code.

use lehr_ir::dim::DimError;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::Var;

/// Why the emitter refuses a kernel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// An operation on a dtype that has no code here.
    #[error("the CPU emitter has no code for `{op}` on {dtype}")]
    Unsupported {
        /// The dtype.
        dtype: DType,
        /// The operation, as kernels print it.
        op: String,
    },
    /// An index or extent that has no value.
    #[error("an index has no value: {0}")]
    Index(#[from] DimError),
    /// A variable that no enclosing block defines; the verifier refuses such kernels.
    #[error("variable {0} is used where it is not defined")]
    Undefined(Var),
    /// A kernel that breaks an invariant of the verifier.
    #[error("the kernel is not valid: {0}")]
    Invalid(&'static str),
    /// Cranelift refused the function.
    #[error("Cranelift: {0}")]
    Cranelift(String),
}

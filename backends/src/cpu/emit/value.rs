//! How values of each dtype are held in registers, and how one value spans several vectors.
//!
//! Integers of 8 and 16 bits live sign- or zero-extended in 32 bits, `f16` and `bf16` live widened to `f32`, and a scalar bool is an
//! 8-bit 0 or 1. So there are two widths only, 32 and 64 bits, and one code path serves scalars and vectors.
//!
//! Inside a vectorised loop a value that varies over the lanes is a list of 128-bit parts that cover the group of lanes in order:
//! `group / 4` parts of 32-bit elements, or `group / 2` of 64-bit elements. A bool is a mask, all bits set for true, of either width;
//! the number of parts tells which.

use cranelift_codegen::ir::{Type, Value, types};
use lehr_ir::dtype::{DType, Kind};
use smallvec::SmallVec;

/// The vectors of one value, in lane order.
pub(super) type Parts = SmallVec<[Value; 4]>;

/// A value of the kernel in registers.
#[derive(Clone, Debug)]
pub(super) enum Val {
    /// The same for all lanes.
    Scalar(Value),
    /// One element a lane.
    Lanes(Parts),
}

/// Element width of a vector in bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// Four lanes a vector.
    W32,
    /// Two lanes a vector.
    W64,
}

impl Width {
    /// Lanes of one vector.
    pub(super) const fn lanes(self) -> usize {
        match self {
            Self::W32 => 4,
            Self::W64 => 2,
        }
    }
}

/// The width of an element in a vector; masks are taken as 32 bits wide.
pub(super) const fn width(dtype: DType) -> Width {
    match dtype {
        DType::I64 | DType::U64 | DType::F64 => Width::W64,
        DType::Bool
        | DType::I8
        | DType::I16
        | DType::I32
        | DType::U8
        | DType::U16
        | DType::U32
        | DType::F16
        | DType::BF16
        | DType::F32
        | DType::C64
        | DType::C128 => Width::W32,
    }
}

/// The register type of a scalar.
pub(super) const fn scalar_type(dtype: DType) -> Type {
    match dtype {
        DType::Bool => types::I8,
        DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 | DType::U32 => types::I32,
        DType::I64 | DType::U64 => types::I64,
        DType::F16 | DType::BF16 | DType::F32 | DType::C64 | DType::C128 => types::F32,
        DType::F64 => types::F64,
    }
}

/// The register type of one part.
pub(super) const fn vector_type(dtype: DType) -> Type {
    match dtype {
        DType::Bool | DType::I8 | DType::I16 | DType::I32 | DType::U8 | DType::U16 | DType::U32 => types::I32X4,
        DType::I64 | DType::U64 => types::I64X2,
        DType::F16 | DType::BF16 | DType::F32 | DType::C64 | DType::C128 => types::F32X4,
        DType::F64 => types::F64X2,
    }
}

/// Bytes of one element where a register is spilled: bools as 32-bit masks.
pub(super) const fn spilled_size(dtype: DType) -> usize {
    match width(dtype) {
        Width::W32 => 4,
        Width::W64 => 8,
    }
}

/// Whether integers of this dtype are signed.
pub(super) const fn signed(dtype: DType) -> bool {
    matches!(dtype.kind(), Kind::Signed)
}

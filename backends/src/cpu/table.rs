//! Host functions that compiled kernels call, in a table that the context points to.
//!
//! Code holds offsets into the table and no host address, so its bytes mean the same in memory, in a cache and in an object file.
//! No function here unwinds: none panics, and a panic in an `extern "C"` function would abort.

use cranelift_codegen::ir::{Type, types};
use lehr_ir::kernel::interpret;
use lehr_ir::kernel::recipes::TABLE;

macro_rules! table {
    ($($(#[$doc:meta])* $variant:ident $field:ident ($($arg:ident: $ty:ident $clif:ident),+) -> $ret:ident $clif_ret:ident $body:block)+) => {
        /// The functions, in a fixed layout.
        #[repr(C)]
        #[derive(Debug)]
        pub struct FunctionTable {
            $($(#[$doc])* pub $field: extern "C" fn($($ty),+) -> $ret,)+
        }

        /// A slot of the table.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Entry {
            $($(#[$doc])* $variant,)+
        }

        impl Entry {
            /// Its byte offset in the table.
            pub const fn offset(self) -> i32 {
                (self as usize * size_of::<usize>()) as i32
            }

            /// The types of its parameters and of its result.
            pub const fn signature(self) -> (&'static [Type], Type) {
                match self {
                    $(Self::$variant => (&[$(types::$clif),+], types::$clif_ret),)+
                }
            }
        }

        impl FunctionTable {
            /// The one table.
            pub const HOST: &'static Self = &Self { $($field,)+ };
        }

        $(extern "C" fn $field($($arg: $ty),+) -> $ret $body)+
    };
}

table! {
    /// C's `fmodf`.
    RemF32 rem_f32(a: f32 F32, b: f32 F32) -> f32 F32 { a % b }
    /// C's `fmod`.
    RemF64 rem_f64(a: f64 F64, b: f64 F64) -> f64 F64 { a % b }
    /// `a * b + c`, rounded once.
    FmaF32 fma_f32(a: f32 F32, b: f32 F32, c: f32 F32) -> f32 F32 { libm::fmaf(a, b, c) }
    /// `a * b + c`, rounded once.
    FmaF64 fma_f64(a: f64 F64, b: f64 F64, c: f64 F64) -> f64 F64 { libm::fma(a, b, c) }
    /// The greatest integer not above.
    FloorF32 floor_f32(a: f32 F32) -> f32 F32 { a.floor() }
    /// The greatest integer not above.
    FloorF64 floor_f64(a: f64 F64) -> f64 F64 { a.floor() }
    /// The least integer not below.
    CeilF32 ceil_f32(a: f32 F32) -> f32 F32 { a.ceil() }
    /// The least integer not below.
    CeilF64 ceil_f64(a: f64 F64) -> f64 F64 { a.ceil() }
    /// The integer toward zero.
    TruncF32 trunc_f32(a: f32 F32) -> f32 F32 { a.trunc() }
    /// The integer toward zero.
    TruncF64 trunc_f64(a: f64 F64) -> f64 F64 { a.trunc() }
    /// The nearest integer, ties to even.
    RoundF32 round_f32(a: f32 F32) -> f32 F32 { a.round_ties_even() }
    /// The nearest integer, ties to even.
    RoundF64 round_f64(a: f64 F64) -> f64 F64 { a.round_ties_even() }
    /// An integer in `f32`, rounded to odd, so that a later rounding to half precision is as if it were the only one.
    OddFromI64 odd_from_i64(a: i64 I64) -> f32 F32 { odd(i128::from(a)) }
    /// As [`Entry::OddFromI64`], unsigned.
    OddFromU64 odd_from_u64(a: u64 I64) -> f32 F32 { odd(i128::from(a)) }
    /// The elementary function of this row of the recipes' table; the last operand is ignored where it takes one.
    FunctionF64 function_f64(row: u64 I64, a: f64 F64, b: f64 F64) -> f64 F64 {
        match usize::try_from(row).ok().and_then(|row| TABLE.get(row)) {
            Some(recipe) => interpret::reference(recipe.function, a, b),
            None => f64::NAN,
        }
    }
}

/// Rounds to odd: truncates, and sets the last bit if anything was cut.
fn odd(v: i128) -> f32 {
    let near = v as f32;
    let back = near as i128;
    if back == v {
        return near;
    }
    let truncated = if back.unsigned_abs() > v.unsigned_abs() { near.to_bits() - 1 } else { near.to_bits() };
    f32::from_bits(truncated | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_match_the_layout() {
        assert_eq!(Entry::RemF32.offset() as usize, std::mem::offset_of!(FunctionTable, rem_f32));
        assert_eq!(Entry::RoundF64.offset() as usize, std::mem::offset_of!(FunctionTable, round_f64));
        assert_eq!(Entry::FunctionF64.offset() as usize, std::mem::offset_of!(FunctionTable, function_f64));
    }

    #[test]
    fn rounding_to_odd_keeps_what_is_exact_and_marks_what_is_not() {
        assert_eq!(odd(1 << 40), (1_u64 << 40) as f32);
        let v = (1 << 40) + 1;
        assert_eq!(odd(v).to_bits(), ((1_u64 << 40) as f32).to_bits() | 1);
        assert_eq!(odd(-v).to_bits(), (-((1_i64 << 40) as f32)).to_bits() | 1);
    }
}

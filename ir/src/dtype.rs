//! Element types and their promotion lattice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of one array element.
///
/// The text spelling (`f32`, `c64`) is what dumps print and what [`FromStr`] reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum DType {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    BF16,
    F32,
    F64,
    C64,
    C128,
}

/// The broad class of a [`DType`], which decides what operations accept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `bool`.
    Bool,
    /// Signed integers.
    Signed,
    /// Unsigned integers.
    Unsigned,
    /// Real floating point.
    Float,
    /// Complex floating point.
    Complex,
}

impl DType {
    /// Every dtype, in declaration order.
    pub const ALL: [Self; 15] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::BF16,
        Self::F32,
        Self::F64,
        Self::C64,
        Self::C128,
    ];

    /// The text spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::C64 => "c64",
            Self::C128 => "c128",
        }
    }

    /// Bytes of one element in memory.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::C64 => 8,
            Self::C128 => 16,
        }
    }

    /// The class this dtype belongs to.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Bool => Kind::Bool,
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => Kind::Signed,
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Kind::Unsigned,
            Self::F16 | Self::BF16 | Self::F32 | Self::F64 => Kind::Float,
            Self::C64 | Self::C128 => Kind::Complex,
        }
    }

    /// Whether values are real or complex floating point, and so carry derivatives.
    pub const fn is_inexact(self) -> bool {
        matches!(self.kind(), Kind::Float | Kind::Complex)
    }

    /// Whether values are signed or unsigned integers.
    pub const fn is_integer(self) -> bool {
        matches!(self.kind(), Kind::Signed | Kind::Unsigned)
    }

    /// Whether values are real floating point.
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), Kind::Float)
    }

    /// The dtype of an operation between `self` and `other`.
    ///
    /// Pairs of the Array API 2025.12 table give its answer.
    /// An integer with a float takes the float, `f16` with `bf16` takes `f32`, `bool` gives way to all,
    /// and `u64` with a signed integer takes `f64`, as in JAX's lattice and NumPy.
    ///
    /// ```
    /// use lehr_ir::DType;
    /// assert_eq!(DType::U8.promote(DType::I8), DType::I16);
    /// assert_eq!(DType::I64.promote(DType::F32), DType::F32);
    /// assert_eq!(DType::C64.promote(DType::F64), DType::C128);
    /// ```
    pub fn promote(self, other: Self) -> Self {
        use DType::*;
        if self == other {
            return self;
        }
        let (a, b) = if self.kind() <= other.kind() { (self, other) } else { (other, self) };
        match (a.kind(), b.kind()) {
            (Kind::Bool, _) => b,
            (Kind::Signed, Kind::Signed) | (Kind::Unsigned, Kind::Unsigned) => {
                if a.size() >= b.size() {
                    a
                } else {
                    b
                }
            }
            (Kind::Signed, Kind::Unsigned) => match b.size().max(a.size() / 2) {
                1 => I16,
                2 => I32,
                4 => I64,
                _ => F64,
            },
            (Kind::Signed | Kind::Unsigned, Kind::Float | Kind::Complex) => b,
            (Kind::Float, Kind::Float) => match (a, b) {
                (F16, BF16) | (BF16, F16) => F32,
                _ if a.size() >= b.size() => a,
                _ => b,
            },
            (Kind::Float, Kind::Complex) => {
                if a == F64 {
                    C128
                } else {
                    b
                }
            }
            (Kind::Complex, Kind::Complex) => C128,
            // The operands are ordered by kind, so what remains is the mirror image of the arms above.
            (x, y) => unreachable!("kinds are ordered: {x:?} <= {y:?}"),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A spelling that names no dtype.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a dtype; expected one of bool, i8–i64, u8–u64, f16, bf16, f32, f64, c64, c128")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        Self::ALL.into_iter().find(|d| d.name() == s).ok_or_else(|| UnknownDType(s.to_owned()))
    }
}

impl Serialize for DType {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DType {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promotion_is_commutative_idempotent_and_total() {
        for a in DType::ALL {
            assert_eq!(a.promote(a), a);
            for b in DType::ALL {
                assert_eq!(a.promote(b), b.promote(a), "{a} {b}");
            }
        }
    }

    #[test]
    fn promotion_follows_the_array_api_table() {
        use DType::*;
        let rows = [
            (I8, I64, I64),
            (U8, I8, I16),
            (U8, I64, I64),
            (U16, I8, I32),
            (U32, I32, I64),
            (U32, U8, U32),
            (F32, F64, F64),
            (F32, C64, C64),
            (F64, C64, C128),
            (Bool, U8, U8),
            (F16, BF16, F32),
            (I64, BF16, BF16),
            (U64, I8, F64),
            (U8, I32, I32),
            (U16, I64, I64),
        ];
        for (a, b, want) in rows {
            assert_eq!(a.promote(b), want, "{a} {b}");
        }
    }

    #[test]
    fn names_round_trip() {
        for d in DType::ALL {
            assert_eq!(d.name().parse(), Ok(d));
        }
        assert!("f33".parse::<DType>().is_err());
    }
}

//! One scalar constant of any dtype, equal by bits.

use std::fmt;

use half::{bf16, f16};

use crate::dtype::{DType, Kind};
use crate::narrow::{to_bf16, to_f16};

/// A scalar of any dtype. Equality and hashing are by bits, so that NaN payloads and −0 count.
///
/// Its text is exact: `1.5`, `-0.0`, `inf`, `nan`, `nan(0x7fc00001)` for a NaN that is not the default one, `true`, `3`,
/// `(1.0, -2.0)` for complex values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Literal {
    dtype: DType,
    // The element's bits, little-endian, zero-extended; complex values hold the imaginary part in the second word.
    bits: [u64; 2],
}

impl Literal {
    /// A literal from the bits of its element (the imaginary part second, for complex dtypes). Excess bits are dropped.
    pub const fn from_bits(dtype: DType, bits: [u64; 2]) -> Self {
        let mask = match dtype {
            DType::Bool => return Self { dtype, bits: [(bits[0] != 0) as u64, 0] },
            DType::C64 => return Self { dtype, bits: [bits[0] & 0xffff_ffff, bits[1] & 0xffff_ffff] },
            DType::C128 => return Self { dtype, bits },
            _ if dtype.size() == 8 => u64::MAX,
            _ => (1 << (8 * dtype.size())) - 1,
        };
        Self { dtype, bits: [bits[0] & mask, 0] }
    }

    /// The dtype.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The bits, zero-extended; the imaginary part second.
    pub const fn bits(&self) -> [u64; 2] {
        self.bits
    }

    /// 0, 0.0 or false.
    pub fn zero(dtype: DType) -> Self {
        Self::from_bits(dtype, [0, 0])
    }

    /// 1, 1.0 or true.
    pub fn one(dtype: DType) -> Self {
        Self::from_f64(dtype, 1.0)
    }

    /// The least value: −∞ for floats, false for bool. Zero for complex dtypes, which have no order.
    pub fn lowest(dtype: DType) -> Self {
        match dtype.kind() {
            Kind::Bool | Kind::Unsigned | Kind::Complex => Self::zero(dtype),
            Kind::Signed => Self::from_bits(dtype, [1 << (8 * dtype.size() - 1), 0]),
            Kind::Float => Self::from_f64(dtype, f64::NEG_INFINITY),
        }
    }

    /// The greatest value: +∞ for floats, true for bool. Zero for complex dtypes, which have no order.
    pub fn highest(dtype: DType) -> Self {
        match dtype.kind() {
            Kind::Complex => Self::zero(dtype),
            Kind::Bool => Self::from(true),
            Kind::Unsigned => Self::from_bits(dtype, [u64::MAX, 0]),
            Kind::Signed => Self::from_bits(dtype, [(1 << (8 * dtype.size() - 1)) - 1, 0]),
            Kind::Float => Self::from_f64(dtype, f64::INFINITY),
        }
    }

    /// `x` in `dtype`: rounded to nearest for floats; truncated and saturated for integers, NaN gives 0; `x != 0` for bool.
    pub fn from_f64(dtype: DType, x: f64) -> Self {
        let bits = match dtype {
            DType::Bool => u64::from(x != 0.0),
            DType::I8 => x as i8 as u64,
            DType::I16 => x as i16 as u64,
            DType::I32 => x as i32 as u64,
            DType::I64 => x as i64 as u64,
            DType::U8 => x as u8 as u64,
            DType::U16 => x as u16 as u64,
            DType::U32 => x as u32 as u64,
            DType::U64 => x as u64,
            DType::F16 => u64::from(to_f16(x).to_bits()),
            DType::BF16 => u64::from(to_bf16(x).to_bits()),
            DType::F32 | DType::C64 => u64::from((x as f32).to_bits()),
            DType::F64 | DType::C128 => x.to_bits(),
        };
        Self::from_bits(dtype, [bits, 0])
    }

    /// `x` in `dtype`; wraps for narrower integers.
    pub fn from_i64(dtype: DType, x: i64) -> Self {
        match dtype.kind() {
            Kind::Signed | Kind::Unsigned => Self::from_bits(dtype, [x as u64, 0]),
            Kind::Bool => Self::from(x != 0),
            Kind::Float | Kind::Complex => Self::from_f64(dtype, x as f64),
        }
    }

    /// The (real part of the) value as `f64`; 64-bit integers round.
    pub fn to_f64(&self) -> f64 {
        let b = self.bits[0];
        match self.dtype {
            DType::F16 => f16::from_bits(b as u16).to_f64(),
            DType::BF16 => bf16::from_bits(b as u16).to_f64(),
            DType::F32 | DType::C64 => f64::from(f32::from_bits(b as u32)),
            DType::F64 | DType::C128 => f64::from_bits(b),
            DType::U64 => b as f64,
            DType::Bool | DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 | DType::U16 | DType::U32 => {
                self.to_i64().unwrap_or_default() as f64
            }
        }
    }

    /// The value of a bool or integer literal, if it fits; `None` for floats.
    pub fn to_i64(&self) -> Option<i64> {
        let b = self.bits[0];
        Some(match self.dtype {
            DType::Bool | DType::U8 | DType::U16 | DType::U32 => b as i64,
            DType::I8 => i64::from(b as i8),
            DType::I16 => i64::from(b as i16),
            DType::I32 => i64::from(b as i32),
            DType::I64 => b as i64,
            DType::U64 => return i64::try_from(b).ok(),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 | DType::C64 | DType::C128 => return None,
        })
    }

    /// Reads the text that [`Literal`]'s `Display` prints, for a known dtype.
    pub fn parse(dtype: DType, s: &str) -> Option<Self> {
        let s = s.trim();
        match dtype.kind() {
            Kind::Bool => s.parse::<bool>().ok().map(Self::from),
            Kind::Signed => {
                let v: i64 = s.parse().ok()?;
                let l = Self::from_bits(dtype, [v as u64, 0]);
                (l.to_i64() == Some(v)).then_some(l)
            }
            Kind::Unsigned => {
                let v: u64 = s.parse().ok()?;
                let l = Self::from_bits(dtype, [v, 0]);
                (l.bits[0] == v).then_some(l)
            }
            Kind::Float => parse_float(dtype, s).map(|b| Self::from_bits(dtype, [b, 0])),
            Kind::Complex => {
                let part = if dtype == DType::C64 { DType::F32 } else { DType::F64 };
                let (re, im) = s.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
                let bits = [parse_float(part, re.trim())?, parse_float(part, im.trim())?];
                Some(Self::from_bits(dtype, bits))
            }
        }
    }
}

fn parse_float(dtype: DType, s: &str) -> Option<u64> {
    if let Some(hex) = s.strip_prefix("nan(0x").and_then(|s| s.strip_suffix(')')) {
        let bits = u64::from_str_radix(hex, 16).ok()?;
        let l = Literal::from_bits(dtype, [bits, 0]);
        return (l.bits[0] == bits && l.to_f64().is_nan()).then_some(bits);
    }
    Some(match dtype {
        DType::F32 => u64::from(s.parse::<f32>().ok()?.to_bits()),
        _ => Literal::from_f64(dtype, s.parse::<f64>().ok()?).bits[0],
    })
}

/// Prints one float so that parsing gives the same bits.
fn fmt_float(dtype: DType, bits: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let l = Literal::from_bits(dtype, [bits, 0]);
    let x = l.to_f64();
    if x.is_nan() {
        let default = Literal::from_f64(dtype, f64::NAN).bits[0];
        return if bits == default { f.write_str("nan") } else { write!(f, "nan(0x{bits:x})") };
    }
    if x.is_infinite() {
        return f.write_str(if x > 0.0 { "inf" } else { "-inf" });
    }
    // `{:?}` is the shortest decimal that reads back as the same value, always with a point or an exponent.
    match dtype {
        DType::F16 | DType::BF16 | DType::F32 => write!(f, "{:?}", x as f32),
        _ => write!(f, "{x:?}"),
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype.kind() {
            Kind::Bool => write!(f, "{}", self.bits[0] != 0),
            Kind::Signed => write!(f, "{}", self.to_i64().unwrap_or_default()),
            Kind::Unsigned => write!(f, "{}", self.bits[0]),
            Kind::Float => fmt_float(self.dtype, self.bits[0], f),
            Kind::Complex => {
                let part = if self.dtype == DType::C64 { DType::F32 } else { DType::F64 };
                f.write_str("(")?;
                fmt_float(part, self.bits[0], f)?;
                f.write_str(", ")?;
                fmt_float(part, self.bits[1], f)?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Debug for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} : {}", self.dtype)
    }
}

macro_rules! literal_from {
    ($($ty:ty, $dtype:ident, $v:ident => $bits:expr;)*) => { $(
        impl From<$ty> for Literal {
            fn from($v: $ty) -> Self {
                Self::from_bits(DType::$dtype, $bits)
            }
        }
    )* };
}

literal_from! {
    bool, Bool, v => [u64::from(v), 0];
    i8, I8, v => [v as u64, 0];
    i16, I16, v => [v as u64, 0];
    i32, I32, v => [v as u64, 0];
    i64, I64, v => [v as u64, 0];
    u8, U8, v => [u64::from(v), 0];
    u16, U16, v => [u64::from(v), 0];
    u32, U32, v => [u64::from(v), 0];
    u64, U64, v => [v, 0];
    f16, F16, v => [u64::from(v.to_bits()), 0];
    bf16, BF16, v => [u64::from(v.to_bits()), 0];
    f32, F32, v => [u64::from(v.to_bits()), 0];
    f64, F64, v => [v.to_bits(), 0];
    num_complex::Complex32, C64, v => [u64::from(v.re.to_bits()), u64::from(v.im.to_bits())];
    num_complex::Complex64, C128, v => [v.re.to_bits(), v.im.to_bits()];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_exact_for_special_values_of_every_dtype() {
        let values =
            [0.0, -0.0, 1.0, -1.5, 0.1, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-320, 1e-42, 65504.0, 1e300];
        for dtype in DType::ALL {
            let extra = [Literal::lowest(dtype), Literal::highest(dtype), Literal::from_bits(dtype, [0x7fc0_0001, 7])];
            for l in values.into_iter().map(|x| Literal::from_f64(dtype, x)).chain(extra) {
                assert_eq!(Literal::parse(dtype, &l.to_string()), Some(l), "{dtype} {l}");
            }
        }
    }

    #[test]
    fn out_of_range_text_is_refused() {
        assert_eq!(Literal::parse(DType::I8, "128"), None);
        assert_eq!(Literal::parse(DType::U8, "-1"), None);
        assert_eq!(Literal::parse(DType::F32, "one"), None);
    }
}

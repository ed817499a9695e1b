//! Typed host arrays that the interpreter reads and writes.

use half::{bf16, f16};

use super::scalar::Bits;
use crate::dtype::DType;
use crate::literal::Literal;

macro_rules! buffer_data {
    ($($variant:ident($ty:ty, $dtype:ident);)*) => {
        /// The elements of a buffer. No variant for complex dtypes, which kernels do not have.
        #[derive(Clone, PartialEq, Debug)]
        #[expect(missing_docs, reason = "each variant is its own name")]
        pub enum BufferData { $($variant(Vec<$ty>)),* }

        impl BufferData {
            /// Zeros; `None` for complex dtypes.
            pub fn zeros(dtype: DType, len: usize) -> Option<Self> {
                match dtype {
                    $(DType::$dtype => Some(Self::$variant(vec![<$ty>::of(0); len])),)*
                    DType::C64 | DType::C128 => None,
                }
            }

            /// The element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$dtype),* }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len()),* }
            }

            /// The bits of one element, zero-extended.
            #[inline]
            pub fn bits(&self, index: usize) -> Option<u64> {
                match self { $(Self::$variant(v) => v.get(index).map(|x| x.bits())),* }
            }

            /// Replaces one element by bits; does nothing, and says so, where there is none.
            #[inline]
            pub fn set_bits(&mut self, index: usize, bits: u64) -> bool {
                match self { $(Self::$variant(v) => v.get_mut(index).map(|x| *x = <$ty>::of(bits)).is_some()),* }
            }

            /// All elements as `f64`; 64-bit integers round.
            pub fn to_f64s(&self) -> Vec<f64> {
                match self { $(Self::$variant(v) => v.iter().map(|x| x.value().to_f64()).collect()),* }
            }
        }

        $(impl From<Vec<$ty>> for BufferData {
            fn from(v: Vec<$ty>) -> Self {
                Self::$variant(v)
            }
        })*
    };
}

buffer_data! {
    Bool(bool, Bool);
    I8(i8, I8);
    I16(i16, I16);
    I32(i32, I32);
    I64(i64, I64);
    U8(u8, U8);
    U16(u16, U16);
    U32(u32, U32);
    U64(u64, U64);
    F16(f16, F16);
    BF16(bf16, BF16);
    F32(f32, F32);
    F64(f64, F64);
}

impl BufferData {
    /// Elements from `f64`s, converted as [`Literal::from_f64`] does; `None` for complex dtypes.
    pub fn from_f64s(dtype: DType, values: &[f64]) -> Option<Self> {
        let mut data = Self::zeros(dtype, values.len())?;
        for (i, x) in values.iter().enumerate() {
            data.set_bits(i, Literal::from_f64(dtype, *x).bits()[0]);
        }
        Some(data)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both have the same dtype, length and bits, where all NaNs count as equal.
    ///
    /// Which NaN an operation gives is not part of a kernel's meaning.
    pub fn same_bits(&self, other: &Self) -> bool {
        let nan = |data: &Self, bits| {
            let literal = Literal::from_bits(data.dtype(), [bits, 0]);
            data.dtype().is_float() && literal.to_f64().is_nan()
        };
        let equal = |i| match (self.bits(i), other.bits(i)) {
            (Some(a), Some(b)) => a == b || (nan(self, a) && nan(other, b)),
            (a, b) => a == b,
        };
        self.dtype() == other.dtype() && self.len() == other.len() && (0..self.len()).all(equal)
    }
}

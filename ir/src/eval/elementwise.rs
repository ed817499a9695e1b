//! Elementwise semantics by dtype class: floats through `f64`, integers through 64 bits and wrapped.
//!
//! For `f32` and narrower, `+ - * /` and the square root computed in `f64` and rounded once equal the native operation.

use half::{bf16, f16};

use crate::array::{Array, Data};
use crate::eval::EvalError;
use crate::narrow::{to_bf16, to_f16};

/// The float dtypes.
trait Float: Copy {
    fn wide(self) -> f64;
    fn narrow(x: f64) -> Self;
}

/// The integer dtypes, through a 64-bit form of the same signedness.
trait Int: Copy {
    type Wide;
    fn wide(self) -> Self::Wide;
    fn narrow(x: Self::Wide) -> Self;
}

macro_rules! floats {
    ($($ty:ty: $wide:expr, $narrow:expr;)*) => { $(impl Float for $ty {
        fn wide(self) -> f64 {
            let f: fn($ty) -> f64 = $wide;
            f(self)
        }
        fn narrow(x: f64) -> Self {
            let f: fn(f64) -> $ty = $narrow;
            f(x)
        }
    })* };
}

floats! {
    f16: f16::to_f64, to_f16;
    bf16: bf16::to_f64, to_bf16;
    f32: f64::from, |x| x as f32;
    f64: |x| x, |x| x;
}

macro_rules! ints {
    ($($wide:ty: $($ty:ty)*;)*) => { $($(impl Int for $ty {
        type Wide = $wide;
        fn wide(self) -> $wide {
            self as $wide
        }
        fn narrow(x: $wide) -> Self {
            x as $ty
        }
    })*)* };
}

ints! {
    i64: i8 i16 i32 i64;
    u64: u8 u16 u32 u64;
}

/// Applies the function of the operand's class to each element; complex data is left as it is.
pub fn map(
    x: &Array,
    float: impl Fn(f64) -> f64,
    signed: impl Fn(i64) -> i64,
    unsigned: impl Fn(u64) -> u64,
    boolean: impl Fn(bool) -> bool,
) -> Array {
    fn floats<T: Float>(v: &[T], f: impl Fn(f64) -> f64) -> Vec<T> {
        v.iter().map(|x| T::narrow(f(x.wide()))).collect()
    }
    fn ints<T: Int>(v: &[T], f: impl Fn(T::Wide) -> T::Wide) -> Vec<T> {
        v.iter().map(|x| T::narrow(f(x.wide()))).collect()
    }
    let data = match x.data() {
        Data::Bool(v) => Data::Bool(v.iter().map(|&x| boolean(x)).collect()),
        Data::I8(v) => Data::I8(ints(v, signed)),
        Data::I16(v) => Data::I16(ints(v, signed)),
        Data::I32(v) => Data::I32(ints(v, signed)),
        Data::I64(v) => Data::I64(ints(v, signed)),
        Data::U8(v) => Data::U8(ints(v, unsigned)),
        Data::U16(v) => Data::U16(ints(v, unsigned)),
        Data::U32(v) => Data::U32(ints(v, unsigned)),
        Data::U64(v) => Data::U64(ints(v, unsigned)),
        Data::F16(v) => Data::F16(floats(v, float)),
        Data::BF16(v) => Data::BF16(floats(v, float)),
        Data::F32(v) => Data::F32(floats(v, float)),
        Data::F64(v) => Data::F64(floats(v, float)),
        Data::C64(v) => Data::C64(v.clone()),
        Data::C128(v) => Data::C128(v.clone()),
    };
    same_shape(x, data)
}

/// The functions of two elements of one dtype, by class; the integer ones also get the width in bits.
#[derive(Clone, Copy)]
pub struct Zip<R: ZipResult> {
    /// For floats.
    pub float: fn(f64, f64) -> R,
    /// For signed integers.
    pub signed: fn(i64, i64, u32) -> R::Signed,
    /// For unsigned integers.
    pub unsigned: fn(u64, u64, u32) -> R::Unsigned,
    /// For bool.
    pub boolean: fn(bool, bool) -> bool,
}

/// What a function of two floats may give: a float (then integers give integers) or a truth value.
pub trait ZipResult {
    /// The result for signed integers.
    type Signed;
    /// The result for unsigned integers.
    type Unsigned;
}

impl ZipResult for f64 {
    type Signed = i64;
    type Unsigned = u64;
}

impl ZipResult for bool {
    type Signed = bool;
    type Unsigned = bool;
}

/// Applies a function to the elements of two arrays of one dtype and shape.
pub fn zip(op: &str, x: &Array, y: &Array, z: &Zip<f64>) -> Result<Array, EvalError> {
    fn floats<T: Float>(a: &[T], b: &[T], f: fn(f64, f64) -> f64) -> Vec<T> {
        a.iter().zip(b).map(|(p, q)| T::narrow(f(p.wide(), q.wide()))).collect()
    }
    fn ints<T: Int>(a: &[T], b: &[T], f: fn(T::Wide, T::Wide, u32) -> T::Wide) -> Vec<T> {
        let bits = 8 * size_of::<T>() as u32;
        a.iter().zip(b).map(|(p, q)| T::narrow(f(p.wide(), q.wide(), bits))).collect()
    }
    let data = match (x.data(), y.data()) {
        (Data::Bool(a), Data::Bool(b)) => Data::Bool(a.iter().zip(b).map(|(&p, &q)| (z.boolean)(p, q)).collect()),
        (Data::I8(a), Data::I8(b)) => Data::I8(ints(a, b, z.signed)),
        (Data::I16(a), Data::I16(b)) => Data::I16(ints(a, b, z.signed)),
        (Data::I32(a), Data::I32(b)) => Data::I32(ints(a, b, z.signed)),
        (Data::I64(a), Data::I64(b)) => Data::I64(ints(a, b, z.signed)),
        (Data::U8(a), Data::U8(b)) => Data::U8(ints(a, b, z.unsigned)),
        (Data::U16(a), Data::U16(b)) => Data::U16(ints(a, b, z.unsigned)),
        (Data::U32(a), Data::U32(b)) => Data::U32(ints(a, b, z.unsigned)),
        (Data::U64(a), Data::U64(b)) => Data::U64(ints(a, b, z.unsigned)),
        (Data::F16(a), Data::F16(b)) => Data::F16(floats(a, b, z.float)),
        (Data::BF16(a), Data::BF16(b)) => Data::BF16(floats(a, b, z.float)),
        (Data::F32(a), Data::F32(b)) => Data::F32(floats(a, b, z.float)),
        (Data::F64(a), Data::F64(b)) => Data::F64(floats(a, b, z.float)),
        _ => return Err(EvalError::Unsupported { op: op.to_owned(), dtype: x.dtype() }),
    };
    Ok(same_shape(x, data))
}

/// Applies a predicate to the elements of two arrays of one dtype and shape.
pub fn compare(op: &str, x: &Array, y: &Array, z: &Zip<bool>) -> Result<Array, EvalError> {
    fn floats<T: Float>(a: &[T], b: &[T], f: fn(f64, f64) -> bool) -> Vec<bool> {
        a.iter().zip(b).map(|(p, q)| f(p.wide(), q.wide())).collect()
    }
    fn ints<T: Int>(a: &[T], b: &[T], f: fn(T::Wide, T::Wide, u32) -> bool) -> Vec<bool> {
        let bits = 8 * size_of::<T>() as u32;
        a.iter().zip(b).map(|(p, q)| f(p.wide(), q.wide(), bits)).collect()
    }
    let out = match (x.data(), y.data()) {
        (Data::Bool(a), Data::Bool(b)) => a.iter().zip(b).map(|(&p, &q)| (z.boolean)(p, q)).collect(),
        (Data::I8(a), Data::I8(b)) => ints(a, b, z.signed),
        (Data::I16(a), Data::I16(b)) => ints(a, b, z.signed),
        (Data::I32(a), Data::I32(b)) => ints(a, b, z.signed),
        (Data::I64(a), Data::I64(b)) => ints(a, b, z.signed),
        (Data::U8(a), Data::U8(b)) => ints(a, b, z.unsigned),
        (Data::U16(a), Data::U16(b)) => ints(a, b, z.unsigned),
        (Data::U32(a), Data::U32(b)) => ints(a, b, z.unsigned),
        (Data::U64(a), Data::U64(b)) => ints(a, b, z.unsigned),
        (Data::F16(a), Data::F16(b)) => floats(a, b, z.float),
        (Data::BF16(a), Data::BF16(b)) => floats(a, b, z.float),
        (Data::F32(a), Data::F32(b)) => floats(a, b, z.float),
        (Data::F64(a), Data::F64(b)) => floats(a, b, z.float),
        _ => return Err(EvalError::Unsupported { op: op.to_owned(), dtype: x.dtype() }),
    };
    Ok(same_shape(x, Data::Bool(out)))
}

fn same_shape(x: &Array, data: Data) -> Array {
    // The element count is the operand's, so the shape fits.
    Array::from_data(x.shape(), data).unwrap_or_else(|_| Array::zeros(x.dtype(), &[0]))
}

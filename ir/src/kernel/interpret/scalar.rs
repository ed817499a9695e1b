//! Scalar operations on bits.
//!
//! A value is its bits, zero-extended to 64. Each pair of operation and dtype is one function pointer, found once before the run.

use half::{bf16, f16};

use crate::dtype::DType;
use crate::kernel::{Combiner, ScalarOp};
use crate::narrow::toward_odd;

pub(super) type Unary = fn(u64) -> u64;
pub(super) type Binary = fn(u64, u64) -> u64;
pub(super) type Ternary = fn(u64, u64, u64) -> u64;
/// Whether the first of `(x, i)` and `(y, j)` wins.
pub(super) type Wins = fn(u64, i64, u64, i64) -> bool;

/// One operation for one dtype.
#[derive(Clone, Copy)]
pub(super) enum Code {
    Unary(Unary),
    Binary(Binary),
    Ternary(Ternary),
}

/// The code of an operation, except calls of elementary functions; `None` where the dtypes do not fit.
pub(super) fn code(op: ScalarOp, first: DType) -> Option<Code> {
    match op {
        ScalarOp::Convert(to) => return convert(first, to).map(Code::Unary),
        ScalarOp::Bitcast(_) => return Some(Code::Unary(|a| a)),
        ScalarOp::Select => return Some(Code::Ternary(|c, a, b| if c != 0 { a } else { b })),
        ScalarOp::Call(_) => return None,
        ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Max
        | ScalarOp::Min
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::And
        | ScalarOp::Or
        | ScalarOp::Xor
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Eq
        | ScalarOp::Ne
        | ScalarOp::Lt
        | ScalarOp::Le
        | ScalarOp::Gt
        | ScalarOp::Ge => {}
    }
    match first {
        DType::Bool => on_bools(op),
        DType::F16 => on_floats::<f16>(op),
        DType::BF16 => on_floats::<bf16>(op),
        DType::F32 => on_floats::<f32>(op),
        DType::F64 => on_floats::<f64>(op),
        DType::I8 => on_integers::<i8>(op),
        DType::I16 => on_integers::<i16>(op),
        DType::I32 => on_integers::<i32>(op),
        DType::I64 => on_integers::<i64>(op),
        DType::U8 => on_integers::<u8>(op),
        DType::U16 => on_integers::<u16>(op),
        DType::U32 => on_integers::<u32>(op),
        DType::U64 => on_integers::<u64>(op),
        DType::C64 | DType::C128 => None,
    }
}

/// How a combiner of one value folds two partial results.
pub(super) fn fold(combiner: Combiner, dtype: DType) -> Option<Binary> {
    let op = match combiner {
        Combiner::Sum => ScalarOp::Add,
        Combiner::Prod => ScalarOp::Mul,
        Combiner::Max => ScalarOp::Max,
        Combiner::Min => ScalarOp::Min,
        Combiner::Any => ScalarOp::Or,
        Combiner::All => ScalarOp::And,
        Combiner::ArgMax | Combiner::ArgMin => return None,
    };
    match code(op, dtype) {
        Some(Code::Binary(f)) => Some(f),
        Some(Code::Unary(_) | Code::Ternary(_)) | None => None,
    }
}

/// Which of two candidates an argument reduction keeps.
pub(super) fn wins(combiner: Combiner, dtype: DType) -> Option<Wins> {
    fn of<T: Bits>(combiner: Combiner) -> Option<Wins> {
        match combiner {
            Combiner::ArgMax => Some(|x, i, y, j| first_wins(T::of(x), i, T::of(y), j, |x, y| x > y)),
            Combiner::ArgMin => Some(|x, i, y, j| first_wins(T::of(x), i, T::of(y), j, |x, y| x < y)),
            Combiner::Sum | Combiner::Prod | Combiner::Max | Combiner::Min | Combiner::Any | Combiner::All => None,
        }
    }
    match dtype {
        DType::Bool => of::<bool>(combiner),
        DType::I8 => of::<i8>(combiner),
        DType::I16 => of::<i16>(combiner),
        DType::I32 => of::<i32>(combiner),
        DType::I64 => of::<i64>(combiner),
        DType::U8 => of::<u8>(combiner),
        DType::U16 => of::<u16>(combiner),
        DType::U32 => of::<u32>(combiner),
        DType::U64 => of::<u64>(combiner),
        DType::F16 => of::<f16>(combiner),
        DType::BF16 => of::<bf16>(combiner),
        DType::F32 => of::<f32>(combiner),
        DType::F64 => of::<f64>(combiner),
        DType::C64 | DType::C128 => None,
    }
}

/// NaN before any number, then the better number, then the lesser index.
#[expect(clippy::eq_op, reason = "a NaN is what differs from itself")]
fn first_wins<T: Bits>(x: T, i: i64, y: T, j: i64, better: impl Fn(T, T) -> bool) -> bool {
    match (x != x, y != y) {
        (true, true) => i <= j,
        (x_is_nan, y_is_nan) if x_is_nan != y_is_nan => x_is_nan,
        _ => better(x, y) || (x == y && i <= j),
    }
}

/// The value of any dtype without loss.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
}

impl Value {
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Integer(v) => v as f64,
            Self::Float(x) => x,
        }
    }

    /// Rounded to odd in 29 bits less than `f64` has: rounding that to a format of at most 22 bits rounds the value once.
    fn to_odd_f32(self) -> f32 {
        let (near, exact) = match self {
            Self::Integer(v) => (v as f32, (v as f32) as i128 == v),
            Self::Float(x) => (x as f32, f64::from(x as f32) == x || x.is_nan()),
        };
        let above = match self {
            Self::Integer(v) => near.is_infinite() || near as i128 > v,
            Self::Float(x) => f64::from(near) > x,
        };
        toward_odd(near, exact, above)
    }
}

/// An element type of kernels.
pub(super) trait Bits: Copy + PartialOrd {
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn value(self) -> Value;
    /// The conversion of [`ScalarOp::Convert`].
    fn from_value(v: Value) -> Self;
}

impl Bits for bool {
    fn of(bits: u64) -> Self {
        bits != 0
    }

    fn bits(self) -> u64 {
        u64::from(self)
    }

    fn value(self) -> Value {
        Value::Integer(i128::from(self))
    }

    fn from_value(v: Value) -> Self {
        match v {
            Value::Integer(v) => v != 0,
            Value::Float(x) => x != 0.0,
        }
    }
}

fn convert(from: DType, to: DType) -> Option<Unary> {
    fn pair<F: Bits, T: Bits>() -> Unary {
        |a| T::from_value(F::of(a).value()).bits()
    }
    fn onto<F: Bits>(to: DType) -> Option<Unary> {
        Some(match to {
            DType::Bool => pair::<F, bool>(),
            DType::I8 => pair::<F, i8>(),
            DType::I16 => pair::<F, i16>(),
            DType::I32 => pair::<F, i32>(),
            DType::I64 => pair::<F, i64>(),
            DType::U8 => pair::<F, u8>(),
            DType::U16 => pair::<F, u16>(),
            DType::U32 => pair::<F, u32>(),
            DType::U64 => pair::<F, u64>(),
            DType::F16 => pair::<F, f16>(),
            DType::BF16 => pair::<F, bf16>(),
            DType::F32 => pair::<F, f32>(),
            DType::F64 => pair::<F, f64>(),
            DType::C64 | DType::C128 => return None,
        })
    }
    match from {
        DType::Bool => onto::<bool>(to),
        DType::I8 => onto::<i8>(to),
        DType::I16 => onto::<i16>(to),
        DType::I32 => onto::<i32>(to),
        DType::I64 => onto::<i64>(to),
        DType::U8 => onto::<u8>(to),
        DType::U16 => onto::<u16>(to),
        DType::U32 => onto::<u32>(to),
        DType::U64 => onto::<u64>(to),
        DType::F16 => onto::<f16>(to),
        DType::BF16 => onto::<bf16>(to),
        DType::F32 => onto::<f32>(to),
        DType::F64 => onto::<f64>(to),
        DType::C64 | DType::C128 => None,
    }
}

/// The six comparisons, the same for all dtypes; the operators of Rust give false on NaN, and true for `!=`.
struct Comparison<T>(std::marker::PhantomData<T>);

impl<T: Bits> Comparison<T> {
    const EQ: Code = Code::Binary(|a, b| u64::from(T::of(a) == T::of(b)));
    const NE: Code = Code::Binary(|a, b| u64::from(T::of(a) != T::of(b)));
    const LT: Code = Code::Binary(|a, b| u64::from(T::of(a) < T::of(b)));
    const LE: Code = Code::Binary(|a, b| u64::from(T::of(a) <= T::of(b)));
    const GT: Code = Code::Binary(|a, b| u64::from(T::of(a) > T::of(b)));
    const GE: Code = Code::Binary(|a, b| u64::from(T::of(a) >= T::of(b)));
}

fn on_bools(op: ScalarOp) -> Option<Code> {
    Some(match op {
        ScalarOp::And | ScalarOp::Min => Code::Binary(|a, b| a & b),
        ScalarOp::Or | ScalarOp::Max => Code::Binary(|a, b| a | b),
        ScalarOp::Xor => Code::Binary(|a, b| a ^ b),
        ScalarOp::Not => Code::Unary(|a| a ^ 1),
        ScalarOp::Eq => Comparison::<bool>::EQ,
        ScalarOp::Ne => Comparison::<bool>::NE,
        ScalarOp::Lt => Comparison::<bool>::LT,
        ScalarOp::Le => Comparison::<bool>::LE,
        ScalarOp::Gt => Comparison::<bool>::GT,
        ScalarOp::Ge => Comparison::<bool>::GE,
        ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => return None,
    })
}

/// A float dtype and the format it computes in: itself, or `f32` for the half formats, with a rounding after each operation.
pub(super) trait Float: Bits {
    type Wide: Wide;
    fn wide(self) -> Self::Wide;
    fn narrow(x: Self::Wide) -> Self;
}

/// What the two computing formats share.
pub(super) trait Wide:
    Copy
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Rem<Output = Self>
{
    fn fma(self, b: Self, c: Self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;
    fn round(self) -> Self;
    fn sqrt(self) -> Self;
    fn is_nan(self) -> bool;
}

fn on_floats<T: Float>(op: ScalarOp) -> Option<Code> {
    fn two<T: Float>(a: u64, b: u64, f: impl Fn(T::Wide, T::Wide) -> T::Wide) -> u64 {
        T::narrow(f(T::of(a).wide(), T::of(b).wide())).bits()
    }
    fn one<T: Float>(a: u64, f: impl Fn(T::Wide) -> T::Wide) -> u64 {
        T::narrow(f(T::of(a).wide())).bits()
    }
    // The bit of the sign; a NaN's sign changes like any other.
    fn sign<T: Float>() -> u64 {
        1 << (8 * size_of::<T>() - 1)
    }
    fn pick<W: Wide>(a: W, b: W, a_is_better: bool) -> W {
        if a.is_nan() || (a_is_better && !b.is_nan()) { a } else { b }
    }
    Some(match op {
        ScalarOp::Add => Code::Binary(|a, b| two::<T>(a, b, |a, b| a + b)),
        ScalarOp::Sub => Code::Binary(|a, b| two::<T>(a, b, |a, b| a - b)),
        ScalarOp::Mul => Code::Binary(|a, b| two::<T>(a, b, |a, b| a * b)),
        ScalarOp::Div => Code::Binary(|a, b| two::<T>(a, b, |a, b| a / b)),
        ScalarOp::Rem => Code::Binary(|a, b| two::<T>(a, b, |a, b| a % b)),
        ScalarOp::Max => Code::Binary(|a, b| two::<T>(a, b, |a, b| pick(a, b, a > b))),
        ScalarOp::Min => Code::Binary(|a, b| two::<T>(a, b, |a, b| pick(a, b, a < b))),
        ScalarOp::Fma => {
            Code::Ternary(|a, b, c| T::narrow(T::of(a).wide().fma(T::of(b).wide(), T::of(c).wide())).bits())
        }
        ScalarOp::Neg => Code::Unary(|a| a ^ sign::<T>()),
        ScalarOp::Abs => Code::Unary(|a| a & !sign::<T>()),
        ScalarOp::Floor => Code::Unary(|a| one::<T>(a, Wide::floor)),
        ScalarOp::Ceil => Code::Unary(|a| one::<T>(a, Wide::ceil)),
        ScalarOp::Trunc => Code::Unary(|a| one::<T>(a, Wide::trunc)),
        ScalarOp::Round => Code::Unary(|a| one::<T>(a, Wide::round)),
        ScalarOp::Sqrt => Code::Unary(|a| one::<T>(a, Wide::sqrt)),
        ScalarOp::Eq => Comparison::<T>::EQ,
        ScalarOp::Ne => Comparison::<T>::NE,
        ScalarOp::Lt => Comparison::<T>::LT,
        ScalarOp::Le => Comparison::<T>::LE,
        ScalarOp::Gt => Comparison::<T>::GT,
        ScalarOp::Ge => Comparison::<T>::GE,
        ScalarOp::And
        | ScalarOp::Or
        | ScalarOp::Xor
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => return None,
    })
}

/// What integer dtypes share beyond comparison.
pub(super) trait Integer: Bits {
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn div(self, b: Self) -> Self;
    fn rem(self, b: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn shl(self, b: Self) -> Self;
    fn shr(self, b: Self) -> Self;
}

fn on_integers<T: Integer>(op: ScalarOp) -> Option<Code> {
    Some(match op {
        ScalarOp::Add => Code::Binary(|a, b| T::of(a).add(T::of(b)).bits()),
        ScalarOp::Sub => Code::Binary(|a, b| T::of(a).sub(T::of(b)).bits()),
        ScalarOp::Mul => Code::Binary(|a, b| T::of(a).mul(T::of(b)).bits()),
        ScalarOp::Div => Code::Binary(|a, b| T::of(a).div(T::of(b)).bits()),
        ScalarOp::Rem => Code::Binary(|a, b| T::of(a).rem(T::of(b)).bits()),
        ScalarOp::Max => Code::Binary(|a, b| if T::of(a) > T::of(b) { a } else { b }),
        ScalarOp::Min => Code::Binary(|a, b| if T::of(a) < T::of(b) { a } else { b }),
        ScalarOp::Neg => Code::Unary(|a| T::of(a).neg().bits()),
        ScalarOp::Abs => Code::Unary(|a| T::of(a).abs().bits()),
        ScalarOp::And => Code::Binary(|a, b| a & b),
        ScalarOp::Or => Code::Binary(|a, b| a | b),
        ScalarOp::Xor => Code::Binary(|a, b| a ^ b),
        ScalarOp::Not => Code::Unary(|a| T::of(!a).bits()),
        ScalarOp::Shl => Code::Binary(|a, b| T::of(a).shl(T::of(b)).bits()),
        ScalarOp::Shr => Code::Binary(|a, b| T::of(a).shr(T::of(b)).bits()),
        ScalarOp::Eq => Comparison::<T>::EQ,
        ScalarOp::Ne => Comparison::<T>::NE,
        ScalarOp::Lt => Comparison::<T>::LT,
        ScalarOp::Le => Comparison::<T>::LE,
        ScalarOp::Gt => Comparison::<T>::GT,
        ScalarOp::Ge => Comparison::<T>::GE,
        ScalarOp::Fma
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => return None,
    })
}

macro_rules! integers {
    ($($ty:ty, $unsigned:ty, $abs:expr;)*) => { $(
        impl Bits for $ty {
            fn of(bits: u64) -> Self {
                bits as Self
            }

            fn bits(self) -> u64 {
                self as $unsigned as u64
            }

            fn value(self) -> Value {
                Value::Integer(i128::from(self))
            }

            fn from_value(v: Value) -> Self {
                match v {
                    Value::Integer(v) => v as Self,
                    // The cast truncates and saturates, and NaN gives 0.
                    Value::Float(x) => x as Self,
                }
            }
        }

        impl Integer for $ty {
            fn add(self, b: Self) -> Self { self.wrapping_add(b) }
            fn sub(self, b: Self) -> Self { self.wrapping_sub(b) }
            fn mul(self, b: Self) -> Self { self.wrapping_mul(b) }
            fn div(self, b: Self) -> Self { if b == 0 { 0 } else { self.wrapping_div(b) } }
            fn rem(self, b: Self) -> Self { if b == 0 { 0 } else { self.wrapping_rem(b) } }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn abs(self) -> Self { let abs: fn(Self) -> Self = $abs; abs(self) }
            // The width divides 2^32, so the count modulo 2^32 is the count modulo the width.
            fn shl(self, b: Self) -> Self { self.wrapping_shl(b as u32) }
            fn shr(self, b: Self) -> Self { self.wrapping_shr(b as u32) }
        }
    )* };
}

integers! {
    i8, u8, |a| a.wrapping_abs();
    i16, u16, |a| a.wrapping_abs();
    i32, u32, |a| a.wrapping_abs();
    i64, u64, |a| a.wrapping_abs();
    u8, u8, |a| a;
    u16, u16, |a| a;
    u32, u32, |a| a;
    u64, u64, |a| a;
}

macro_rules! floats {
    ($($ty:ident, $wide:ty, $int:ty, $value:ident => $from:expr, $narrow:expr, $widen:expr;)*) => { $(
        impl Bits for $ty {
            fn of(bits: u64) -> Self {
                Self::from_bits(bits as $int)
            }

            fn bits(self) -> u64 {
                u64::from(self.to_bits())
            }

            fn value(self) -> Value {
                Value::Float(f64::from(self))
            }

            fn from_value($value: Value) -> Self {
                $from
            }
        }

        impl Float for $ty {
            type Wide = $wide;

            fn wide(self) -> $wide {
                let widen: fn(Self) -> $wide = $widen;
                widen(self)
            }

            fn narrow(x: $wide) -> Self {
                let narrow: fn($wide) -> Self = $narrow;
                narrow(x)
            }
        }
    )* };
}

floats! {
    f16, f32, u16, v => Self::from_f32(v.to_odd_f32()), f16::from_f32, f16::to_f32;
    bf16, f32, u16, v => Self::from_f32(v.to_odd_f32()), bf16::from_f32, bf16::to_f32;
    f32, f32, u32, v => match v { Value::Integer(v) => v as f32, Value::Float(x) => x as f32 }, |x| x, |x| x;
    f64, f64, u64, v => v.to_f64(), |x| x, |x| x;
}

macro_rules! wides {
    ($($ty:ty),*) => { $(
        impl Wide for $ty {
            fn fma(self, b: Self, c: Self) -> Self { self.mul_add(b, c) }
            fn floor(self) -> Self { self.floor() }
            fn ceil(self) -> Self { self.ceil() }
            fn trunc(self) -> Self { self.trunc() }
            fn round(self) -> Self { self.round_ties_even() }
            fn sqrt(self) -> Self { self.sqrt() }
            fn is_nan(self) -> bool { self.is_nan() }
        }
    )* };
}

wides!(f32, f64);

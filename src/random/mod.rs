//! Random numbers: counter-based, with explicit keys, the same on every backend and thread count.
//!
//! The bits are Threefry-2x32 of a key and a position ([`lehr_ir::ops::RandomBits`]). One key gives one stream: make others
//! with [`Key::fold_in`] and [`Key::split`], or draw them from [`Keys`].

use lehr_ir::loc::Loc;
use lehr_ir::ops::{BinaryOp, Broadcast, Iota, RandomBits, Select, UnaryOp};
use lehr_ir::{DType, Shape};
use smallvec::SmallVec;

use crate::shape::{IntoDim, IntoShape};
use crate::tensor::operand::Arg;
use crate::tensor::{Operand, Scalar, Tensor, sizes};

mod key;

pub use key::{Key, Keys};

/// What random operations take as a key: a [`Key`], which is captured, or a tensor `u32[2]`.
pub trait IntoKey {
    /// The key as a tensor.
    #[track_caller]
    fn into_key(self) -> Tensor;
}

impl IntoKey for Key {
    #[track_caller]
    fn into_key(self) -> Tensor {
        Tensor::from(self.words())
    }
}

impl IntoKey for Tensor {
    #[track_caller]
    fn into_key(self) -> Tensor {
        self
    }
}

impl IntoKey for &Tensor {
    #[track_caller]
    fn into_key(self) -> Tensor {
        self.clone()
    }
}

/// Random bits, `u32` or `u64`.
///
/// # Errors
/// Another dtype; a key that is not `u32[2]`; a shape that cannot be read.
/// ```
/// use lehr::prelude::*;
/// assert_eq!(random::bits(Key::from_words([0, 0]), U32, ()).to_string(), "1797259609");
/// ```
#[track_caller]
pub fn bits(key: impl IntoKey, dtype: DType, shape: impl IntoShape) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    match sizes("random_bits", shape, &loc) {
        Ok(shape) => Tensor::apply(RandomBits { dtype, shape }, &[&key], &loc),
        Err(bad) => bad,
    }
}

/// Uniform numbers in `[0, 1)`: as many random bits as the dtype's significand holds, scaled.
///
/// # Numerics
/// Multiples of 2⁻²⁴ for `f32`, 2⁻⁵³ for `f64`, 2⁻¹¹ for `f16`, 2⁻⁸ for `bf16`. Exact, the same on every backend.
/// # Gradient
/// None.
/// # Errors
/// A dtype that is no float; a key that is not `u32[2]`; a shape that cannot be read.
/// ```
/// use lehr::prelude::*;
/// let u: Vec<f32> = random::uniform(Key::new(1), F32, 1000).to()?;
/// assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn uniform(key: impl IntoKey, dtype: DType, shape: impl IntoShape) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    if !dtype.is_float() {
        return not_float("uniform", dtype, loc);
    }
    match sizes("uniform", shape, &loc) {
        Ok(shape) => uniform_at(&key, dtype, shape, &loc),
        Err(bad) => bad,
    }
}

fn uniform_at(key: &Tensor, dtype: DType, shape: Shape, loc: &Loc) -> Tensor {
    let digits = significand(dtype);
    let word = if dtype == DType::F64 { DType::U64 } else { DType::U32 };
    let words = Tensor::apply(RandomBits { dtype: word, shape }, &[key], loc);
    fraction(&words, 8 * word.size() as u32 - digits, dtype, 0, loc)
}

/// `((words >> drop) + add) · 2^-digits` in a dtype.
fn fraction(words: &Tensor, drop: u32, dtype: DType, add: u32, loc: &Loc) -> Tensor {
    let kept = Tensor::binary(BinaryOp::Shr, &words.operand(), &drop.operand(), loc);
    let kept = if add == 0 { kept } else { Tensor::binary(BinaryOp::Add, &kept.operand(), &add.operand(), loc) };
    let scale = 0.5f64.powi(significand(dtype).cast_signed());
    Tensor::binary(BinaryOp::Mul, &kept.cast_at(dtype, loc).operand(), &scale.operand(), loc)
}

/// Numbers of the standard normal distribution, by the Box–Muller transform.
///
/// # Numerics
/// `sqrt(-2 ln u) cos(2π v)` in `f32` (`f64` for `f64`, from two streams), with `u` in `(0, 1]`; at most 5.77 (8.58) in size.
/// The bits are the same on every backend, the last place of the functions may differ.
/// # Gradient
/// None.
/// # Errors
/// A dtype that is no float; a key that is not `u32[2]`; a shape that cannot be read.
/// # Source
/// Box and Muller, "A note on the generation of random normal deviates", 1958.
#[track_caller]
pub fn normal(key: impl IntoKey, dtype: DType, shape: impl IntoShape) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    if !dtype.is_float() {
        return not_float("normal", dtype, loc);
    }
    let shape = match sizes("normal", shape, &loc) {
        Ok(shape) => shape,
        Err(bad) => return bad,
    };
    let (u, v) = if dtype == DType::F64 {
        let first = Tensor::apply(RandomBits { dtype: DType::U64, shape: shape.clone() }, &[&key], &loc);
        let second = uniform_at(&fold_in_at(&key, 1, &loc), dtype, shape, &loc);
        (fraction(&first, 11, dtype, 1, &loc), second)
    } else {
        // One block of the cipher gives both words.
        let both = Tensor::apply(RandomBits { dtype: DType::U64, shape }, &[&key], &loc);
        let high = Tensor::binary(BinaryOp::Shr, &(&both).operand(), &32.operand(), &loc).cast_at(DType::U32, &loc);
        let low = both.cast_at(DType::U32, &loc);
        (fraction(&high, 8, DType::F32, 1, &loc), fraction(&low, 8, DType::F32, 0, &loc))
    };
    let scaled = Tensor::binary(BinaryOp::Mul, &u.unary(UnaryOp::Log, &loc).operand(), &(-2.0).operand(), &loc);
    let angle = Tensor::binary(BinaryOp::Mul, &v.operand(), &std::f64::consts::TAU.operand(), &loc);
    let radius = scaled.unary(UnaryOp::Sqrt, &loc);
    let cosine = angle.unary(UnaryOp::Cos, &loc);
    Tensor::binary(BinaryOp::Mul, &radius.operand(), &cosine.operand(), &loc).cast_at(dtype, &loc)
}

/// `true` with a probability.
///
/// # Errors
/// A key that is not `u32[2]`; shapes that do not broadcast.
#[track_caller]
pub fn bernoulli(key: impl IntoKey, probability: impl Operand, shape: impl IntoShape) -> Tensor {
    uniform(key, DType::F32, shape).lt(probability)
}

/// Integers in `[low, high)`, each equally likely to within 2⁻³² of the number of integers.
///
/// # Errors
/// A dtype that is no integer; an empty range, or one of more than 2³² integers; a key that is not `u32[2]`.
/// ```
/// use lehr::prelude::*;
/// let d: Vec<i64> = random::randint(Key::new(0), I64, 100, 1, 7).to()?;
/// assert!(d.iter().all(|d| (1..7).contains(d)));
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn randint(key: impl IntoKey, dtype: DType, shape: impl IntoShape, low: i64, high: i64) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    let span = i128::from(high) - i128::from(low);
    if !dtype.is_integer() || !(1..=1i128 << 32).contains(&span) {
        let rule = format!("{dtype} numbers from {low} to {high} cannot be drawn");
        return Tensor::refuse("randint", &[], &rule, "ask for an integer dtype and 1 to 2^32 numbers", loc);
    }
    let shape = match sizes("randint", shape, &loc) {
        Ok(shape) => shape,
        Err(bad) => return bad,
    };
    // The high word of span · word counts up to span without a division.
    let words = Tensor::apply(RandomBits { dtype: DType::U32, shape }, &[&key], &loc).cast_at(DType::U64, &loc);
    let product = Tensor::binary(BinaryOp::Mul, &words.operand(), &Arg::Weak(Scalar::Int(span)), &loc);
    let offset = Tensor::binary(BinaryOp::Shr, &product.operand(), &32.operand(), &loc);
    let offset = offset.cast_at(DType::I64, &loc);
    Tensor::binary(BinaryOp::Add, &offset.operand(), &low.operand(), &loc).cast_at(dtype, &loc)
}

/// Another key from a key and a number: the graph form of [`Key::fold_in`].
///
/// # Errors
/// A key that is not `u32[2]`.
#[track_caller]
pub fn fold_in(key: impl IntoKey, data: u32) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    fold_in_at(&key, data, &loc)
}

/// So many other keys, one a row: the graph form of [`Key::split`], with the same keys.
///
/// Mapped over, they give each slice a stream of its own.
/// # Shapes
/// `key: u32[2]`; the result is `u32[n, 2]`.
/// # Errors
/// A key that is not `u32[2]`; a size that cannot be read.
/// ```
/// use lehr::prelude::*;
/// let keys = random::split(Key::new(7), 3);
/// let each = vmap(&keys, 0, |key| random::uniform(key, F32, 2));
/// let second = random::uniform(Key::new(7).split(3)[1], F32, 2);
/// assert_eq!(each.slice(1).to_string(), second.to_string());
/// ```
#[track_caller]
pub fn split(key: impl IntoKey, n: impl IntoDim) -> Tensor {
    let (loc, key) = (Loc::caller(), key.into_key());
    let shape = match n.into_dim().map_err(|e| e.to_string()) {
        Ok(n) => sizes("split", [n], &loc),
        Err(e) => Err(Tensor::refuse("split", &[], &e, "give a size ≥ 0 or a name", loc.clone())),
    };
    let shape = match shape {
        Ok(shape) => shape,
        Err(bad) => return bad,
    };
    let numbers = Tensor::apply(Iota { dtype: DType::U32, shape, axis: 0 }, &[], &loc);
    // The words are joined by choosing, for a mapped number is no constant.
    let word = Tensor::apply(Iota { dtype: DType::U32, shape: Shape::from_iter([2.into()]), axis: 0 }, &[], &loc);
    let first = word.eq(0);
    let fold = Tensor::apply(lehr_ir::ops::Constant { value: lehr_ir::Array::from([key::FOLD; 2]) }, &[], &loc);
    crate::transform::vmap(&numbers, 0, |number| {
        let number =
            Tensor::apply(Broadcast { shape: Shape::from_iter([2.into()]), axes: SmallVec::new() }, &[number], &loc);
        let salt = Tensor::apply(Select, &[&first, &number, &fold], &loc);
        fold_in_with(&key, &salt, &loc)
    })
}

fn fold_in_at(key: &Tensor, data: u32, loc: &Loc) -> Tensor {
    let salt = Tensor::apply(lehr_ir::ops::Constant { value: lehr_ir::Array::from([data, key::FOLD]) }, &[], loc);
    fold_in_with(key, &salt, loc)
}

fn fold_in_with(key: &Tensor, salt: &Tensor, loc: &Loc) -> Tensor {
    let mixed = Tensor::binary(BinaryOp::Xor, &key.operand(), &salt.operand(), loc);
    Tensor::apply(RandomBits { dtype: DType::U32, shape: Shape::from_iter([2.into()]) }, &[&mixed], loc)
}

/// The binary digits of a float dtype's significand.
const fn significand(dtype: DType) -> u32 {
    match dtype {
        DType::F64 => 53,
        DType::F16 => 11,
        DType::BF16 => 8,
        _ => 24,
    }
}

fn not_float(op: &str, dtype: DType, loc: Loc) -> Tensor {
    let rule = format!("random numbers are floats, not {dtype}");
    Tensor::refuse(op, &[], &rule, "ask for f32 or f64, or use randint", loc)
}

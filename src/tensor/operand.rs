//! Operands of elementwise operations: tensors and weak literals, brought to one dtype and one shape.

use half::{bf16, f16};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{Broadcast, Constant};
use lehr_ir::{Array, DType, Dim, Kind, Literal, Shape};
use smallvec::SmallVec;

use super::{Built, Tensor, facts_of, sound};

/// A Rust number beside a tensor. It has no dtype of its own and takes the tensor's.
///
/// A float beside integers or bool gives `f32`; an integer beside bool gives `i64`; with no tensor at all, `f32` and `i64`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A float.
    Float(f64),
}

/// What an elementwise operation takes: a tensor, or a Rust number.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A tensor.
    Tensor(Tensor),
    /// A number without a dtype of its own.
    Weak(Scalar),
}

/// What elementwise methods take: a tensor, by value or reference, or a Rust number.
pub trait Operand {
    /// The operand.
    fn operand(self) -> Arg;
}

impl Operand for Tensor {
    fn operand(self) -> Arg {
        Arg::Tensor(self)
    }
}

impl Operand for &Tensor {
    fn operand(self) -> Arg {
        Arg::Tensor(self.clone())
    }
}

impl Operand for Arg {
    fn operand(self) -> Arg {
        self
    }
}

impl Operand for Scalar {
    fn operand(self) -> Arg {
        Arg::Weak(self)
    }
}

macro_rules! scalars {
    ($($ty:ty => $Kind:ident $v:ident $e:expr;)*) => { $(
        impl Operand for $ty {
            fn operand(self) -> Arg {
                Arg::Weak(self.into())
            }
        }

        impl From<$ty> for Scalar {
            fn from($v: $ty) -> Self {
                Self::$Kind($e)
            }
        }
    )* };
}

scalars! {
    bool => Bool v v;
    i8 => Int v v.into();
    i16 => Int v v.into();
    i32 => Int v v.into();
    i64 => Int v v.into();
    u8 => Int v v.into();
    u16 => Int v v.into();
    u32 => Int v v.into();
    u64 => Int v v.into();
    usize => Int v v as i128;
    isize => Int v v as i128;
    f16 => Float v v.to_f64();
    bf16 => Float v v.to_f64();
    f32 => Float v v.into();
    f64 => Float v v;
}

impl Scalar {
    /// The value in a dtype; `None` for an integer that an integer dtype cannot hold.
    pub(crate) fn literal(self, dtype: DType) -> Option<Literal> {
        match self {
            Self::Bool(v) => Some(Literal::from_i64(dtype, v.into())),
            Self::Float(v) => Some(Literal::from_f64(dtype, v)),
            Self::Int(v) => match dtype.kind() {
                Kind::Bool => Some(Literal::from(v != 0)),
                Kind::Float | Kind::Complex => Some(Literal::from_f64(dtype, v as f64)),
                Kind::Signed => {
                    let l = Literal::from_i64(dtype, i64::try_from(v).ok()?);
                    (l.to_i64().map(i128::from) == Some(v)).then_some(l)
                }
                Kind::Unsigned => {
                    let l = Literal::from_bits(dtype, [u64::try_from(v).ok()?, 0]);
                    (i128::from(l.bits()[0]) == v).then_some(l)
                }
            },
        }
    }

    /// The dtype it takes beside one.
    fn beside(self, dtype: Option<DType>) -> DType {
        match (self, dtype) {
            (Self::Bool(_), None) => DType::Bool,
            (Self::Int(_), None | Some(DType::Bool)) => DType::I64,
            (Self::Float(_), None) => DType::F32,
            (Self::Float(_), Some(d)) if !d.is_inexact() => DType::F32,
            (Self::Bool(_) | Self::Int(_) | Self::Float(_), Some(d)) => d,
        }
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v:?}"),
        }
    }
}

/// The dtype of an operation on these operands.
pub(crate) fn common_dtype(args: &[&Arg]) -> DType {
    let mut strong = None;
    for arg in args {
        if let Arg::Tensor(t) = arg
            && let Some(d) = t.dtype()
        {
            strong = Some(strong.map_or(d, |s: DType| s.promote(d)));
        }
    }
    let mut dtype = strong;
    for arg in args {
        if let Arg::Weak(w) = arg {
            dtype = Some(w.beside(dtype));
        }
    }
    dtype.unwrap_or(DType::F32)
}

/// The tensors among operands.
pub(crate) fn tensors<'a>(args: &[&'a Arg]) -> SmallVec<[&'a Tensor; 3]> {
    let of = |a: &&'a Arg| match *a {
        Arg::Tensor(t) => Some(t),
        Arg::Weak(_) => None,
    };
    args.iter().filter_map(of).collect()
}

/// An operand as a tensor of a dtype.
pub(crate) fn to_dtype(op: &str, arg: &Arg, dtype: DType, loc: &Loc) -> Built {
    match arg {
        Arg::Tensor(t) => Ok(t.cast_at(dtype, loc)),
        Arg::Weak(w) => match w.literal(dtype) {
            Some(l) => Ok(constant(l, loc)),
            None => {
                let rule = format!("the number {w} does not fit {dtype}");
                Err(Tensor::refuse(op, &[], &rule, "use a number in range, or cast the tensor", loc.clone()))
            }
        },
    }
}

/// A scalar constant.
pub(crate) fn constant(l: Literal, loc: &Loc) -> Tensor {
    Tensor::apply(Constant { value: Array::from_literal(l) }, &[], loc)
}

/// Operands in one dtype and one shape, by NumPy's broadcasting rules.
pub(crate) fn align(op: &str, args: &[&Arg], dtype: DType, loc: &Loc) -> Result<SmallVec<[Tensor; 3]>, Tensor> {
    sound(&tensors(args))?;
    let mut out: SmallVec<[Tensor; 3]> = SmallVec::new();
    for arg in args {
        out.push(to_dtype(op, arg, dtype, loc)?);
    }
    broadcast_all(op, &out, loc)
}

/// Tensors repeated into their common shape.
pub(crate) fn broadcast_all(op: &str, all: &[Tensor], loc: &Loc) -> Result<SmallVec<[Tensor; 3]>, Tensor> {
    let refs: SmallVec<[&Tensor; 3]> = all.iter().collect();
    sound(&refs)?;
    let shape = common_shape(op, &refs, loc)?;
    // What is assumed of one operand may make the shape of another fit as it is.
    let facts = facts_of(&refs);
    let fits = |t: &Tensor| {
        let equal = |(a, b): (&Dim, &Dim)| a == b || (!a.is_one() && facts.decide_eq(a, b) == Some(true));
        t.shape().len() == shape.len() && t.shape().iter().zip(&shape).all(equal)
    };
    Ok(all.iter().map(|t| if fits(t) { t.clone() } else { repeat_into(t, &shape, loc) }).collect())
}

/// The shape that operands broadcast to.
pub(crate) fn common_shape(op: &str, operands: &[&Tensor], loc: &Loc) -> Result<Shape, Tensor> {
    let shapes: SmallVec<[&[Dim]; 3]> = operands.iter().map(|t| t.shape()).collect();
    match common(&shapes, operands) {
        Ok(shape) => Ok(shape),
        Err((rule, help)) => Err(Tensor::refuse(op, operands, &rule, &help, loc.clone())),
    }
}

type Refusal = (String, String);

fn common(shapes: &[&[Dim]], operands: &[&Tensor]) -> Result<Shape, Refusal> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    if shapes.iter().all(|s| *s == shapes[0]) {
        return Ok(shapes.first().map(|s| s.iter().cloned().collect()).unwrap_or_default());
    }
    let facts = facts_of(operands);
    let mut out = Shape::new();
    for d in 0..rank {
        let mut size = Dim::ONE;
        for s in shapes {
            let Some(at) = (d + s.len()).checked_sub(rank) else { continue };
            let dim = &s[at];
            if dim.is_one() || *dim == size {
                continue;
            }
            if size.is_one() {
                size = dim.clone();
                continue;
            }
            match facts.decide_eq(dim, &size) {
                Some(true) => {}
                Some(false) => {
                    return Err((
                        format!("dims {size} and {dim} must be equal, or one of them 1 (axis -{})", rank - d),
                        "reshape, slice or transpose an operand so that they agree from the right".to_owned(),
                    ));
                }
                None => {
                    return Err((
                        format!("dims {size} and {dim} must be equal, which cannot be decided (axis -{})", rank - d),
                        format!("state it: assume(\"{size} == {dim}\")"),
                    ));
                }
            }
        }
        out.push(size);
    }
    Ok(out)
}

/// A tensor repeated into a shape that it is known to broadcast to; itself if it has it.
pub(crate) fn repeat_into(t: &Tensor, shape: &[Dim], loc: &Loc) -> Tensor {
    if t.shape() == shape {
        return t.clone();
    }
    let first = shape.len().saturating_sub(t.rank());
    let op = Broadcast { shape: shape.iter().cloned().collect(), axes: (first..shape.len()).collect() };
    Tensor::apply(op, &[t], loc)
}

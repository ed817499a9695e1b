//! Tensors from nothing: constants, ranges, variables.

use std::sync::Arc;

use lehr_ir::expr::{Expr, Variable};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{BinaryOp, CompareOp, Iota};
use lehr_ir::{Array, DType, Dim, Literal, Shape, Type};

use super::operand::{Arg, Operand, Scalar, common_dtype, constant, repeat_into};
use super::{Tensor, is_variable_name, sizes};
use crate::shape::{IntoAxis, IntoDim, IntoShape};

impl Tensor {
    /// A weight: a leaf with identity, whose value lives in a [`State`](crate::State). Optimisers train it.
    ///
    /// A fresh state starts it at `initial`. The name is what dumps and files start from.
    /// # Errors
    /// A name that is not made of letters, digits, `_`, `.`, `-` and brackets, starting with a letter.
    /// ```
    /// use lehr::prelude::*;
    /// let w = Tensor::variable("w", [[0.5f32, 0.25]]);
    /// assert_eq!(w.ty()?.to_string(), "f32[1, 2]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn variable(name: &str, initial: impl Into<Array>) -> Self {
        Self::leaf(name, initial.into(), true, Loc::caller())
    }

    /// A variable that optimisers leave alone: a moment, a running statistic, a random key.
    ///
    /// # Errors
    /// As [`Tensor::variable`].
    #[track_caller]
    pub fn buffer(name: &str, initial: impl Into<Array>) -> Self {
        Self::leaf(name, initial.into(), false, Loc::caller())
    }

    fn leaf(name: &str, initial: Array, trainable: bool, loc: Loc) -> Self {
        if !is_variable_name(name) {
            let rule = format!("`{name}` is not a name");
            let help = "use letters, digits, `_`, `.`, `-` and brackets, starting with a letter";
            return Self::refuse("variable", &[], &rule, help, loc);
        }
        let ty = Type::new(initial.dtype(), initial.shape().iter().copied());
        let variable = Variable { name: name.to_owned(), ty, initial, trainable };
        Self(Expr::variable(&Arc::new(variable), loc))
    }

    /// The variable that this reads, if it reads one.
    pub fn as_variable(&self) -> Option<&Arc<Variable>> {
        self.0.as_variable()
    }

    /// A number that is part of compiled code, in a dtype of its own: `f32` for floats, `i64` for integers.
    #[track_caller]
    pub fn scalar(value: impl Into<Scalar>) -> Self {
        let value = value.into();
        let dtype = common_dtype(&[&Arg::Weak(value)]);
        Self::full_at("scalar", dtype, Shape::new(), value, &Loc::caller())
    }

    /// Zeros (false for bool).
    ///
    /// # Errors
    /// A shape that cannot be read, or is negative.
    #[track_caller]
    pub fn zeros(dtype: DType, shape: impl IntoShape) -> Self {
        Self::full(dtype, shape, 0)
    }

    /// Ones (true for bool).
    ///
    /// # Errors
    /// A shape that cannot be read, or is negative.
    #[track_caller]
    pub fn ones(dtype: DType, shape: impl IntoShape) -> Self {
        Self::full(dtype, shape, 1)
    }

    /// Equal elements.
    ///
    /// # Errors
    /// A shape that cannot be read, or is negative; an integer that the dtype cannot hold.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::full(I32, (1, 2), 7).to_string(), "[[7,7]]");
    /// ```
    #[track_caller]
    pub fn full(dtype: DType, shape: impl IntoShape, value: impl Into<Scalar>) -> Self {
        let loc = Loc::caller();
        match sizes("full", shape, &loc) {
            Ok(shape) => Self::full_at("full", dtype, shape, value.into(), &loc),
            Err(bad) => bad,
        }
    }

    fn full_at(op: &str, dtype: DType, shape: Shape, value: Scalar, loc: &Loc) -> Self {
        match super::operand::to_dtype(op, &Arg::Weak(value), dtype, loc) {
            Ok(c) => repeat_into(&c, &shape, loc),
            Err(bad) => bad,
        }
    }

    /// Zeros of this tensor's dtype and shape.
    #[track_caller]
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        self.full_like(0)
    }

    /// Ones of this tensor's dtype and shape.
    #[track_caller]
    #[must_use]
    pub fn ones_like(&self) -> Self {
        self.full_like(1)
    }

    /// Equal elements of this tensor's dtype and shape.
    ///
    /// # Errors
    /// An integer that the dtype cannot hold.
    #[track_caller]
    #[must_use]
    pub fn full_like(&self, value: impl Into<Scalar>) -> Self {
        match self.0.ty() {
            Some(ty) => Self::full_at("full_like", ty.dtype, ty.shape.clone(), value.into(), &Loc::caller()),
            None => self.clone(),
        }
    }

    /// The identity matrix of so many rows.
    ///
    /// # Errors
    /// A size that cannot be read, or is negative.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::eye(F32, 2).to_string(), "[[1,0],[0,1]]");
    /// ```
    #[track_caller]
    pub fn eye(dtype: DType, n: impl IntoDim) -> Self {
        let loc = Loc::caller();
        let shape = match n.into_dim().and_then(|n| [n.clone(), n].into_shape()) {
            Ok(shape) => shape,
            Err(e) => return Self::refuse("eye", &[], &e.to_string(), "give a size ≥ 0 or a name", loc),
        };
        let shape = match sizes("eye", shape, &loc) {
            Ok(shape) => shape,
            Err(bad) => return bad,
        };
        let place = |axis| Self::apply(Iota { dtype: DType::I64, shape: shape.clone(), axis }, &[], &loc);
        Self::apply(CompareOp::Eq, &[&place(0), &place(1)], &loc).cast_at(dtype, &loc)
    }

    /// The position along an axis, in a shape.
    ///
    /// # Errors
    /// A bool dtype; an axis outside the shape; a shape that cannot be read.
    #[track_caller]
    pub fn iota(dtype: DType, shape: impl IntoShape, axis: impl IntoAxis) -> Self {
        let loc = Loc::caller();
        let shape = match sizes("iota", shape, &loc) {
            Ok(shape) => shape,
            Err(bad) => return bad,
        };
        match super::reduce::resolve_axis(axis.into_axis(), shape.len()) {
            Some(axis) => Self::apply(Iota { dtype, shape, axis }, &[], &loc),
            None => Self::refuse("iota", &[], "the axis is outside the shape", "name an axis of the shape", loc),
        }
    }

    /// `0, 1, …` up to a size, which may be a name, as `i64`.
    ///
    /// # Errors
    /// A size that cannot be read, or is negative.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::arange(3).to_string(), "[0,1,2]");
    /// ```
    #[track_caller]
    pub fn arange(stop: impl IntoDim) -> Self {
        let loc = Loc::caller();
        match stop.into_dim() {
            Ok(n) => match sizes("arange", n, &loc) {
                Ok(shape) => Self::apply(Iota { dtype: DType::I64, shape, axis: 0 }, &[], &loc),
                Err(bad) => bad,
            },
            Err(e) => Self::refuse("arange", &[], &e.to_string(), "give a size ≥ 0 or a name", loc),
        }
    }

    /// `start, start + step, …` below `stop` (above, for a negative step): `i64` for integers, else `f32`.
    ///
    /// # Numerics
    /// Element `i` is `start + i · step`, computed in the dtype.
    /// # Errors
    /// A step of 0, or bounds without a finite count.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::range(5, 0, -2).to_string(), "[5,3,1]");
    /// ```
    #[track_caller]
    pub fn range(start: impl Into<Scalar>, stop: impl Into<Scalar>, step: impl Into<Scalar>) -> Self {
        let loc = Loc::caller();
        let (start, stop, step) = (start.into(), stop.into(), step.into());
        let dtype = common_dtype(&[&Arg::Weak(start), &Arg::Weak(stop), &Arg::Weak(step)]);
        let count = match (start, stop, step) {
            (Scalar::Int(a), Scalar::Int(b), Scalar::Int(s)) if s != 0 => {
                Some((b - a + s - s.signum()).checked_div(s).unwrap_or(0).max(0) as f64)
            }
            _ => {
                let n = ((stop.to_f64() - start.to_f64()) / step.to_f64()).ceil().max(0.0);
                (n.is_finite() && step.to_f64() != 0.0).then_some(n)
            }
        };
        match count.filter(|&n| n < 1e15) {
            Some(n) => Self::spaced(dtype, n as i64, start, step, &loc),
            None => Self::refuse("range", &[], "the range has no finite count", "give a step other than 0", loc),
        }
    }

    /// So many equally spaced `f32` numbers from `start` to `stop`, both included.
    ///
    /// # Numerics
    /// Element `i` is `start + i · step`; the last is not corrected.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::linspace(0, 1, 5).to_string(), "[0,0.25,0.5,0.75,1]");
    /// ```
    #[track_caller]
    pub fn linspace(start: impl Into<Scalar>, stop: impl Into<Scalar>, count: u32) -> Self {
        let (start, stop) = (start.into(), stop.into());
        let step = (stop.to_f64() - start.to_f64()) / f64::from(count.saturating_sub(1).max(1));
        Self::spaced(DType::F32, count.into(), start, Scalar::Float(step), &Loc::caller())
    }

    fn spaced(dtype: DType, count: i64, start: Scalar, step: Scalar, loc: &Loc) -> Self {
        let places = Self::apply(Iota { dtype, shape: Shape::from_iter([Dim::from(count)]), axis: 0 }, &[], loc);
        let scaled = Self::binary(BinaryOp::Mul, &places.operand(), &Arg::Weak(step), loc);
        Self::binary(BinaryOp::Add, &scaled.operand(), &Arg::Weak(start), loc)
    }

    /// A constant that is part of compiled code, unlike [`Tensor::from`], whose array is an argument of it.
    #[track_caller]
    pub fn constant(value: impl Into<Array>) -> Self {
        let value = value.into();
        let loc = Loc::caller();
        match value.item() {
            Some(l) if value.rank() == 0 => constant(l, &loc),
            _ => Self::apply(lehr_ir::ops::Constant { value }, &[], &loc),
        }
    }
}

impl Scalar {
    fn to_f64(self) -> f64 {
        self.literal(DType::F64).map_or(f64::NAN, |l: Literal| l.to_f64())
    }
}

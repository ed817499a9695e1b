//! Folds over axes: sums, means, extremes and their positions.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{ArgReduce, Iota, Reduce, ReduceOp, Reshape, Slice};
use lehr_ir::{DType, Dim, Kind, Shape};
use smallvec::SmallVec;

use super::elementwise::float_dtype;
use super::operand::Operand;
use super::{Built, Tensor, settle, sound};
use crate::shape::{Axes, IntoAxes, IntoAxis};

/// Resolved axes, ascending.
pub(crate) type AxisList = SmallVec<[usize; 4]>;

macro_rules! reductions {
    ($($(#[$doc:meta])* $all:ident, $axes:ident, $keep:ident = $how:ident, $gradient:literal, $x:literal => $y:literal;)*) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// Over all axes; see the two methods that follow for some of them.
            /// # Shapes
            /// A scalar.
            /// # Gradient
            #[doc = $gradient]
            /// # Example
            /// ```
            #[doc = "use lehr::Tensor;"]
            #[doc = concat!("assert_eq!(Tensor::from(", $x, ").", stringify!($all), "().to_string(), \"", $y, "\");")]
            /// ```
            #[track_caller]
            #[must_use]
            pub fn $all(&self) -> Self {
                settle(self.fold(Fold::$how, Axes::All, false, &Loc::caller()))
            }

            $(#[$doc])*
            ///
            /// Over the given axes, negative ones counted from the end.
            /// # Shapes
            /// Without these axes.
            /// # Gradient
            #[doc = $gradient]
            /// # Errors
            /// An axis outside the rank, or named twice.
            #[track_caller]
            #[must_use]
            pub fn $axes(&self, axes: impl IntoAxes) -> Self {
                settle(self.fold(Fold::$how, axes.into_axes(), false, &Loc::caller()))
            }

            $(#[$doc])*
            ///
            /// Over the given axes, which stay as axes of size 1, so that the result broadcasts against `self`.
            /// # Gradient
            #[doc = $gradient]
            /// # Errors
            /// An axis outside the rank, or named twice.
            #[track_caller]
            #[must_use]
            pub fn $keep(&self, axes: impl IntoAxes) -> Self {
                settle(self.fold(Fold::$how, axes.into_axes(), true, &Loc::caller()))
            }
        )* }
    };
}

reductions! {
    /// The sum; 0 over nothing. Bool counts as `i64`.
    sum, sum_axes, sum_keepdims = Sum, "The cotangent repeated.", "[1.0f32, 2.0, 3.5]" => "6.5";
    /// The product; 1 over nothing. Bool counts as `i64`.
    prod, prod_axes, prod_keepdims = Prod, "The product of the others, exact with any number of zeros.",
        "[2.0f32, 3.0]" => "6";
    /// The greatest, NaN if any is NaN; the dtype's least value over nothing.
    max, max_axes, max_keepdims = Max, "Shared equally among the elements that attain it.", "[2.0f32, 3.0]" => "3";
    /// The least, NaN if any is NaN; the dtype's greatest value over nothing.
    min, min_axes, min_keepdims = Min, "Shared equally among the elements that attain it.", "[2.0f32, 3.0]" => "2";
    /// Whether any holds; what is not bool holds where it is not 0.
    any, any_axes, any_keepdims = Any, "None.", "[false, true]" => "true";
    /// Whether all hold; what is not bool holds where it is not 0.
    all, all_axes, all_keepdims = All, "None.", "[false, true]" => "false";
    /// The arithmetic mean; NaN over nothing. Integers and bool give `f32`.
    mean, mean_axes, mean_keepdims = Mean, "The cotangent over the count, repeated.", "[1.0f32, 2.0]" => "1.5";
    /// The variance around the mean, over the count of elements (NumPy's `ddof = 0`).
    var, var_axes, var_keepdims = Var, "`2 (x - mean) / count`.", "[1.0f32, 3.0]" => "1";
    /// The standard deviation, the square root of the variance.
    std, std_axes, std_keepdims = Std, "`(x - mean) / (count · std)`, NaN where it is 0.", "[1.0f32, 3.0]" => "1";
    /// The Euclidean norm, the square root of the sum of squares.
    norm, norm_axes, norm_keepdims = Norm, "`x / norm`, NaN at 0.", "[3.0f32, 4.0]" => "5";
}

/// The ways to fold.
#[derive(Clone, Copy)]
enum Fold {
    Sum,
    Prod,
    Max,
    Min,
    Any,
    All,
    Mean,
    Var,
    Std,
    Norm,
}

impl Tensor {
    /// The position of the greatest element along an axis, the first of equals, as `i64`; NaN counts as greatest.
    ///
    /// # Gradient
    /// None.
    /// # Errors
    /// An axis outside the rank.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([[1.0f32, 5.0], [7.0, 2.0]]).argmax(-1).to_string(), "[1,0]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn argmax(&self, axis: impl IntoAxis) -> Self {
        settle(self.arg_reduce(true, axis.into_axis(), &Loc::caller()))
    }

    /// The position of the least element along an axis, the first of equals, as `i64`; NaN counts as least.
    ///
    /// # Gradient
    /// None.
    /// # Errors
    /// An axis outside the rank.
    #[track_caller]
    #[must_use]
    pub fn argmin(&self, axis: impl IntoAxis) -> Self {
        settle(self.arg_reduce(false, axis.into_axis(), &Loc::caller()))
    }

    fn arg_reduce(&self, max: bool, axis: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let axis = self.axis_at(if max { "argmax" } else { "argmin" }, axis, loc)?;
        let x = if self.dtype() == Some(DType::Bool) { self.cast_at(DType::U8, loc) } else { self.clone() };
        Ok(Self::apply_two(ArgReduce { max, axis: [axis] }, &[&x], loc).1)
    }

    /// The axes of a fold, ascending.
    pub(crate) fn axes_at(&self, op: &str, axes: &Axes, loc: &Loc) -> Result<AxisList, Self> {
        let list = match axes {
            Axes::All => return Ok((0..self.rank()).collect()),
            Axes::These(list) => list,
        };
        let mut out = AxisList::new();
        for &axis in list {
            let at = self.axis_at(op, axis, loc)?;
            if out.contains(&at) {
                let rule = format!("axis {axis} is named twice");
                return Err(Self::refuse(op, &[self], &rule, "name each axis once", loc.clone()));
            }
            out.push(at);
        }
        out.sort_unstable();
        Ok(out)
    }

    /// An axis, counted from the end if negative.
    pub(crate) fn axis_at(&self, op: &str, axis: i64, loc: &Loc) -> Result<usize, Self> {
        match resolve_axis(axis, self.rank()) {
            Some(at) => Ok(at),
            None => Err(self.no_axis(op, axis, self.rank(), loc)),
        }
    }

    pub(crate) fn no_axis(&self, op: &str, axis: i64, rank: usize, loc: &Loc) -> Self {
        let rule = format!("axis {axis} is outside {rank} dims");
        let help = match rank {
            0 => "give the operand dims first".to_owned(),
            _ => format!("name an axis from -{rank} to {}", rank - 1),
        };
        Self::refuse(op, &[self], &rule, &help, loc.clone())
    }

    fn fold(&self, how: Fold, axes: Axes, keep: bool, loc: &Loc) -> Built {
        sound(&[self])?;
        let axes = self.axes_at(how.name(), &axes, loc)?;
        let folded = match how {
            Fold::Sum => self.counted(loc).reduce(ReduceOp::Sum, &axes, loc),
            Fold::Prod => self.counted(loc).reduce(ReduceOp::Prod, &axes, loc),
            Fold::Max => self.extreme(ReduceOp::Max, &axes, loc),
            Fold::Min => self.extreme(ReduceOp::Min, &axes, loc),
            Fold::Any => self.cast_at(DType::Bool, loc).reduce(ReduceOp::Any, &axes, loc),
            Fold::All => self.cast_at(DType::Bool, loc).reduce(ReduceOp::All, &axes, loc),
            Fold::Mean => self.mean_at(&axes, loc)?,
            Fold::Var => self.var_at(&axes, loc)?,
            Fold::Std => self.var_at(&axes, loc)?.unary(lehr_ir::ops::UnaryOp::Sqrt, loc),
            Fold::Norm => {
                let x = self.inexact(loc);
                let sq = Self::binary(lehr_ir::ops::BinaryOp::Mul, &(&x).operand(), &(&x).operand(), loc);
                sq.reduce(ReduceOp::Sum, &axes, loc).unary(lehr_ir::ops::UnaryOp::Sqrt, loc)
            }
        };
        Ok(if keep { folded.restore_axes(&axes, loc) } else { folded })
    }

    fn mean_at(&self, axes: &[usize], loc: &Loc) -> Built {
        use lehr_ir::ops::BinaryOp;
        let x = self.inexact(loc);
        let count = x.count_of(axes, x.dtype().unwrap_or(DType::F32), loc);
        let sum = x.reduce(ReduceOp::Sum, axes, loc);
        Ok(Self::binary(BinaryOp::Div, &sum.operand(), &count.operand(), loc))
    }

    fn var_at(&self, axes: &[usize], loc: &Loc) -> Built {
        use lehr_ir::ops::BinaryOp;
        let x = self.inexact(loc);
        let mean = x.mean_at(axes, loc)?.restore_axes(axes, loc);
        let d = Self::binary(BinaryOp::Sub, &x.operand(), &mean.operand(), loc);
        Self::binary(BinaryOp::Mul, &(&d).operand(), &(&d).operand(), loc).mean_at(axes, loc)
    }

    /// The number of elements that a fold over axes takes in, as a scalar of a dtype.
    pub(crate) fn count_of(&self, axes: &[usize], dtype: DType, loc: &Loc) -> Self {
        let count = axes.iter().fold(Dim::ONE, |n, &a| &n * &self.shape()[a]);
        size_value(&count, dtype, loc)
    }

    /// A fold over axes that are resolved and ascending; itself for none.
    pub(crate) fn reduce(&self, op: ReduceOp, axes: &[usize], loc: &Loc) -> Self {
        if axes.is_empty() { self.clone() } else { Self::apply(Reduce { op, axes: axes.into() }, &[self], loc) }
    }

    /// `self`, which lost these axes, with axes of size 1 in their place.
    pub(crate) fn restore_axes(&self, axes: &[usize], loc: &Loc) -> Self {
        if axes.is_empty() || self.0.ty().is_none() {
            return self.clone();
        }
        let mut shape: Shape = self.shape().iter().cloned().collect();
        for &a in axes {
            shape.insert(a, Dim::ONE);
        }
        Self::apply(Reshape { shape }, &[self], loc)
    }

    /// Bool as `i64`, for sums and products.
    fn counted(&self, loc: &Loc) -> Self {
        if self.dtype() == Some(DType::Bool) { self.cast_at(DType::I64, loc) } else { self.clone() }
    }

    /// Integers and bool as `f32`.
    pub(crate) fn inexact(&self, loc: &Loc) -> Self {
        self.dtype().map_or_else(|| self.clone(), |d| self.cast_at(float_dtype(d), loc))
    }

    fn extreme(&self, op: ReduceOp, axes: &[usize], loc: &Loc) -> Self {
        match (self.dtype().map(DType::kind), op) {
            (Some(Kind::Bool), ReduceOp::Max) => self.reduce(ReduceOp::Any, axes, loc),
            (Some(Kind::Bool), ReduceOp::Min) => self.reduce(ReduceOp::All, axes, loc),
            _ => self.reduce(op, axes, loc),
        }
    }
}

impl Fold {
    const fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Max => "max",
            Self::Min => "min",
            Self::Any => "any",
            Self::All => "all",
            Self::Mean => "mean",
            Self::Var => "var",
            Self::Std => "std",
            Self::Norm => "norm",
        }
    }
}

/// An axis of so many, counted from the end if negative.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let at = if axis < 0 { axis.checked_add(rank)? } else { axis };
    (0..rank).contains(&at).then_some(at as usize)
}

/// A size as a value.
pub(crate) fn size_value(size: &Dim, dtype: DType, loc: &Loc) -> Tensor {
    if let Some(n) = size.as_const() {
        return super::operand::constant(lehr_ir::Literal::from_i64(dtype, n), loc);
    }
    // A symbolic size becomes a value as the last of the positions 0 to size; nothing of it is materialised once fused.
    let shape = Shape::from_iter([size + 1]);
    let places = Tensor::apply(Iota { dtype: DType::I64, shape: shape.clone(), axis: 0 }, &[], loc);
    let last = Tensor::apply(Slice::along(&shape, 0, size.clone(), size + 1), &[&places], loc);
    Tensor::apply(Reshape { shape: Shape::new() }, &[&last], loc).cast_at(dtype, loc)
}

//! Elements moved or repeated along axes: padding, reversal, rotation, tiling, triangles.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{CompareOp, Concat, Iota, Pad, Reverse, Select, Slice};
use lehr_ir::{DType, Dim, Shape};
use smallvec::SmallVec;

use super::operand::{Arg, Operand, repeat_into, to_dtype};
use super::{Built, Tensor, settle, sound};
use crate::shape::{IntoAxes, IntoAxis};

impl Tensor {
    /// Copies of a value around the edges: so many before and after, an entry for each dim. Negative amounts trim.
    ///
    /// # Gradient
    /// To `self` without the padding.
    /// # Errors
    /// Another number of entries than dims; more trimmed than there is.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1, 2]).pad(&[(1, 2)], 9).to_string(), "[9,1,2,9,9]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn pad(&self, widths: &[(i64, i64)], value: impl Operand) -> Self {
        settle(self.try_pad(widths, &value.operand(), &Loc::caller()))
    }

    fn try_pad(&self, widths: &[(i64, i64)], value: &Arg, loc: &Loc) -> Built {
        sound(&[self])?;
        if widths.len() != self.rank() {
            let rule = format!("{} pairs of widths are given for {} dims", widths.len(), self.rank());
            return Err(Self::refuse("pad", &[self], &rule, "give a pair (before, after) for each dim", loc.clone()));
        }
        let value = to_dtype("pad", value, self.dtype().unwrap_or(DType::F32), loc)?;
        let op = Pad {
            low: widths.iter().map(|w| w.0.into()).collect(),
            high: widths.iter().map(|w| w.1.into()).collect(),
            interior: SmallVec::from_elem(0, self.rank()),
        };
        Ok(Self::apply(op, &[self, &value], loc))
    }

    /// The elements in reverse order along axes; `..` for all.
    ///
    /// # Gradient
    /// Reversed back.
    /// # Errors
    /// An axis outside the rank, or named twice.
    #[track_caller]
    #[must_use]
    pub fn flip(&self, axes: impl IntoAxes) -> Self {
        settle(self.try_flip(axes, &Loc::caller()))
    }

    fn try_flip(&self, axes: impl IntoAxes, loc: &Loc) -> Built {
        sound(&[self])?;
        let axes = self.axes_at("flip", &axes.into_axes(), loc)?;
        Ok(if axes.is_empty() { self.clone() } else { Self::apply(Reverse { axes }, &[self], loc) })
    }

    /// The elements shifted along an axis; what leaves at the end comes in at the front. Negative shifts go the other way.
    ///
    /// # Gradient
    /// Shifted back.
    /// # Errors
    /// An axis outside the rank; along a named size, a shift that is not provably at most the size.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1, 2, 3]).roll(1, 0).to_string(), "[3,1,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn roll(&self, shift: i64, axis: impl IntoAxis) -> Self {
        settle(self.try_roll(shift, axis.into_axis(), &Loc::caller()))
    }

    fn try_roll(&self, shift: i64, axis: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let axis = self.axis_at("roll", axis, loc)?;
        let size = self.shape()[axis].clone();
        let shift = match size.as_const() {
            Some(0) => 0,
            Some(n) => shift.rem_euclid(n),
            None => shift,
        };
        if shift == 0 {
            return Ok(self.clone());
        }
        let cut = if shift < 0 { Dim::from(shift.saturating_neg()) } else { &size - shift };
        let front = Self::apply(Slice::along(self.shape(), axis, cut.clone(), size), &[self], loc);
        let back = Self::apply(Slice::along(self.shape(), axis, Dim::ZERO, cut), &[self], loc);
        Ok(Self::apply(Concat { axis }, &[&front, &back], loc))
    }

    /// The whole repeated, so many times along each axis, aligned from the right (NumPy's `tile`).
    ///
    /// # Gradient
    /// Summed over the repeats.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1, 2]).tile(&[2, 2]).to_string(), "[[1,2,1,2],[1,2,1,2]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn tile(&self, times: &[usize]) -> Self {
        settle(self.try_tile(times, &Loc::caller()))
    }

    fn try_tile(&self, times: &[usize], loc: &Loc) -> Built {
        sound(&[self])?;
        let rank = self.rank().max(times.len());
        let (mut ones, mut spread, mut merged) = (Shape::new(), Shape::new(), Shape::new());
        for d in 0..rank {
            let size = (d + self.rank()).checked_sub(rank).map_or(Dim::ONE, |i| self.shape()[i].clone());
            let n = (d + times.len()).checked_sub(rank).map_or(Dim::ONE, |i| Dim::from(times[i]));
            ones.extend([Dim::ONE, size.clone()]);
            spread.extend([n.clone(), size.clone()]);
            merged.push(n * size);
        }
        repeat_into(&self.reshape_at(ones, loc)?, &spread, loc).reshape_at(merged, loc)
    }

    /// Each slice repeated in place along an axis (NumPy's `repeat`).
    ///
    /// # Gradient
    /// Summed over the repeats.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1, 2]).repeat(2, 0).to_string(), "[1,1,2,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn repeat(&self, times: usize, axis: impl IntoAxis) -> Self {
        settle(self.try_repeat(times, axis.into_axis(), &Loc::caller()))
    }

    fn try_repeat(&self, times: usize, axis: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let axis = self.axis_at("repeat", axis, loc)?;
        let mut merged: Shape = self.shape().iter().cloned().collect();
        merged[axis] = &merged[axis] * Dim::from(times);
        let spread = self.restore_axes(&[axis + 1], loc);
        let mut shape: Shape = spread.shape().iter().cloned().collect();
        shape[axis + 1] = Dim::from(times);
        repeat_into(&spread, &shape, loc).reshape_at(merged, loc)
    }

    /// The lower triangle of matrices: 0 above the `k`-th diagonal, where 0 is the main one and 1 the one above it.
    ///
    /// # Gradient
    /// To the triangle.
    /// # Errors
    /// Fewer than two dims.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([[1, 2], [3, 4]]).tril(0).to_string(), "[[1,0],[3,4]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn tril(&self, k: i64) -> Self {
        settle(self.triangle("tril", CompareOp::Ge, k, &Loc::caller()))
    }

    /// The upper triangle of matrices: 0 below the `k`-th diagonal, where 0 is the main one and 1 the one above it.
    ///
    /// # Gradient
    /// To the triangle.
    /// # Errors
    /// Fewer than two dims.
    #[track_caller]
    #[must_use]
    pub fn triu(&self, k: i64) -> Self {
        settle(self.triangle("triu", CompareOp::Le, k, &Loc::caller()))
    }

    /// Keeps the elements where `row + k` compares so with `column`.
    fn triangle(&self, name: &str, keep: CompareOp, k: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let rank = self.rank();
        if rank < 2 {
            let help = "give it two dims or more";
            return Err(Self::refuse(name, &[self], &format!("{rank} dims are no matrix"), help, loc.clone()));
        }
        let shape: Shape = self.shape().iter().cloned().collect();
        let place = |axis| Self::apply(Iota { dtype: DType::I64, shape: shape.clone(), axis }, &[], loc);
        let row = Self::binary(lehr_ir::ops::BinaryOp::Add, &place(rank - 2).operand(), &k.operand(), loc);
        let keep = Self::apply(keep, &[&row, &place(rank - 1)], loc);
        let zero = to_dtype(name, &Arg::Weak(0.into()), self.dtype().unwrap_or(DType::F32), loc)?;
        Ok(Self::apply(Select, &[&keep, self, &repeat_into(&zero, &shape, loc)], loc))
    }
}

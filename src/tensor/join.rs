//! Joining tensors and taking them apart.

use std::borrow::Borrow;

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Concat, Slice};
use lehr_ir::{DType, Dim};
use smallvec::SmallVec;

use super::{Built, Tensor, settle, sound};
use crate::shape::IntoAxis;

impl Tensor {
    /// Tensors one after another along an axis, in their common dtype.
    ///
    /// # Shapes
    /// Equal but for the axis, which adds up.
    /// # Gradient
    /// Each takes its part.
    /// # Errors
    /// No tensors; shapes that differ elsewhere; an axis outside the rank.
    /// ```
    /// use lehr::Tensor;
    /// let (a, b) = (Tensor::from([1, 2]), Tensor::from([3]));
    /// assert_eq!(Tensor::concat(&[a, b], 0).to_string(), "[1,2,3]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn concat<T: Borrow<Self>>(parts: &[T], axis: impl IntoAxis) -> Self {
        settle(Self::try_concat(parts, axis.into_axis(), &Loc::caller()))
    }

    fn try_concat<T: Borrow<Self>>(parts: &[T], axis: i64, loc: &Loc) -> Built {
        let parts = same_dtype("concat", parts, loc)?;
        let axis = parts[0].axis_at("concat", axis, loc)?;
        let refs: SmallVec<[&Self; 4]> = parts.iter().collect();
        Ok(if parts.len() == 1 { parts[0].clone() } else { Self::apply(Concat { axis }, &refs, loc) })
    }

    /// Tensors of one shape side by side along a new axis, at this place of the result.
    ///
    /// # Gradient
    /// Each takes its part.
    /// # Errors
    /// No tensors; shapes that differ.
    /// ```
    /// use lehr::Tensor;
    /// let (a, b) = (Tensor::from([1, 2]), Tensor::from([3, 4]));
    /// assert_eq!(Tensor::stack(&[a, b], 1).to_string(), "[[1,3],[2,4]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn stack<T: Borrow<Self>>(parts: &[T], axis: impl IntoAxis) -> Self {
        settle(Self::try_stack(parts, axis.into_axis(), &Loc::caller()))
    }

    fn try_stack<T: Borrow<Self>>(parts: &[T], axis: i64, loc: &Loc) -> Built {
        let parts = same_dtype("stack", parts, loc)?;
        let mut spread: SmallVec<[Self; 4]> = SmallVec::new();
        for part in &parts {
            spread.push(part.try_expand_dims(axis, loc)?);
        }
        Self::try_concat(&spread, axis, loc)
    }

    /// So many equal parts along an axis.
    ///
    /// # Gradient
    /// Each part's cotangent in its place.
    /// # Errors
    /// A size that does not provably divide; each part then carries the error.
    /// ```
    /// use lehr::Tensor;
    /// let parts = Tensor::from([1, 2, 3, 4]).split(2, 0);
    /// assert_eq!(parts[1].to_string(), "[3,4]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn split(&self, parts: usize, axis: impl IntoAxis) -> Vec<Self> {
        match self.try_split(parts, axis.into_axis(), &Loc::caller()) {
            Ok(all) => all,
            Err(bad) => vec![bad; parts],
        }
    }

    fn try_split(&self, parts: usize, axis: i64, loc: &Loc) -> Result<Vec<Self>, Self> {
        sound(&[self])?;
        let axis = self.axis_at("split", axis, loc)?;
        let size = self.shape()[axis].clone();
        let n = Dim::from(parts.max(1));
        let part = self.facts().simplify(&size.floordiv(&n));
        if parts == 0 || self.facts().decide_eq(&(&part * &n), &size) != Some(true) {
            let rule = format!("axis {axis} of size {size} does not split into {parts} equal parts");
            return Err(Self::refuse("split", &[self], &rule, "split at sizes with split_at", loc.clone()));
        }
        Ok((0..parts).map(|i| self.part(axis, &part * Dim::from(i), &part * Dim::from(i + 1), loc)).collect())
    }

    /// Parts along an axis that end at these positions, and the rest.
    ///
    /// # Gradient
    /// Each part's cotangent in its place.
    /// # Errors
    /// Positions that do not ascend inside the axis.
    #[track_caller]
    #[must_use]
    pub fn split_at(&self, positions: &[usize], axis: impl IntoAxis) -> Vec<Self> {
        let loc = Loc::caller();
        let axis = match sound(&[self]).and_then(|()| self.axis_at("split_at", axis.into_axis(), &loc)) {
            Ok(axis) => axis,
            Err(bad) => return vec![bad; positions.len() + 1],
        };
        let ends = positions.iter().map(|&p| Dim::from(p)).chain([self.shape()[axis].clone()]);
        let mut start = Dim::ZERO;
        let mut out = Vec::with_capacity(positions.len() + 1);
        for end in ends {
            out.push(self.part(axis, std::mem::replace(&mut start, end.clone()), end, &loc));
        }
        out
    }

    fn part(&self, axis: usize, start: Dim, limit: Dim, loc: &Loc) -> Self {
        Self::apply(Slice::along(self.shape(), axis, start, limit), &[self], loc)
    }
}

/// Tensors in their common dtype; at least one.
fn same_dtype<T: Borrow<Tensor>>(op: &str, parts: &[T], loc: &Loc) -> Result<SmallVec<[Tensor; 4]>, Tensor> {
    let refs: SmallVec<[&Tensor; 4]> = parts.iter().map(Borrow::borrow).collect();
    sound(&refs)?;
    let Some(dtype) = refs.iter().filter_map(|t| t.dtype()).reduce(DType::promote) else {
        return Err(Tensor::refuse(op, &[], "no tensors are given", "give one or more", loc.clone()));
    };
    Ok(refs.iter().map(|t| t.cast_at(dtype, loc)).collect())
}

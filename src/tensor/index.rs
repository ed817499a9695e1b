//! Elements at positions from data.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Combine, Gather, OutOfRange, Reshape, Scatter};
use lehr_ir::{DType, Dim, Shape};
use smallvec::SmallVec;

use super::operand::Arg;
use super::operand::{broadcast_all, to_dtype};
use super::{Built, Tensor, settle, sound};
use crate::shape::{IntoAxis, IntoDim};
use crate::tensor::operand::Operand;

impl Tensor {
    /// The slices at positions along an axis, in the order of `indices` (NumPy's `take`).
    ///
    /// Negative positions count from the end. A position outside the axis gives zeros, or is an error of the call with
    /// [`Options::check_indices`](crate::Options::check_indices).
    /// # Shapes
    /// The axis is replaced by the dims of `indices`.
    /// # Gradient
    /// To `self`: the cotangent added at the positions.
    /// # Errors
    /// Indices that are no integers; an axis outside the rank.
    /// ```
    /// use lehr::prelude::*;
    /// let table = Tensor::from([[1, 2], [3, 4], [5, 6]]);
    /// assert_eq!(table.take(&Tensor::from([2, 0, -1]), 0).to_string(), "[[5,6],[1,2],[5,6]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn take(&self, indices: &Self, axis: impl IntoAxis) -> Self {
        settle(self.try_take(indices, axis.into_axis(), &Loc::caller()))
    }

    fn try_take(&self, indices: &Self, axis: i64, loc: &Loc) -> Built {
        sound(&[self, indices])?;
        let axis = self.axis_at("take", axis, loc)?;
        let indices = self.positions("take", indices, axis, loc)?;
        let vectors = indices.try_expand_dims(-1, loc)?;
        Ok(self.gather(&vectors, take_windows(self.shape(), axis, indices.rank()), loc))
    }

    /// The elements at positions along an axis, one position an element (NumPy's `take_along_axis`).
    ///
    /// Negative positions count from the end. A position outside the axis gives 0, or is an error of the call with
    /// [`Options::check_indices`](crate::Options::check_indices).
    /// # Shapes
    /// `indices` has the dims of `self` but for the axis; the result has the shape of `indices`.
    /// # Gradient
    /// To `self`: the cotangent added at the positions.
    /// # Errors
    /// Indices that are no integers, or of another shape.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.take_along_axis(&Tensor::from([[1], [0]]), 1).to_string(), "[[2],[3]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn take_along_axis(&self, indices: &Self, axis: impl IntoAxis) -> Self {
        settle(self.try_take_along(indices, axis.into_axis(), &Loc::caller()))
    }

    fn try_take_along(&self, indices: &Self, axis: i64, loc: &Loc) -> Built {
        sound(&[self, indices])?;
        let axis = self.axis_at("take_along_axis", axis, loc)?;
        if indices.rank() != self.rank() {
            let rule = "the indices must have the rank of the operand";
            let help = "give them a dim of size 1 for each that is missing";
            return Err(Self::refuse("take_along_axis", &[self, indices], rule, help, loc.clone()));
        }
        let indices = self.positions("take_along_axis", indices, axis, loc)?;
        let vectors = indices.try_expand_dims(-1, loc)?;
        let others: SmallVec<[usize; 4]> = (0..self.rank()).filter(|&d| d != axis).collect();
        let op = Gather {
            offset_dims: SmallVec::new(),
            collapsed_slice_dims: SmallVec::from_iter([axis]),
            operand_batching_dims: others.clone(),
            start_indices_batching_dims: others,
            start_index_map: SmallVec::from_iter([axis]),
            slice_sizes: SmallVec::from_elem(Dim::ONE, self.rank()),
            mode: OutOfRange::Zero,
        };
        Ok(self.gather(&vectors, op, loc))
    }

    /// `self` with slices replaced at positions along an axis; of equal positions the last wins.
    ///
    /// # Shapes
    /// `updates` broadcasts to the shape that [`Tensor::take`] gives for these indices. Positions outside are dropped.
    /// # Gradient
    /// To `self` where nothing was replaced, to `updates` where they won.
    #[track_caller]
    #[must_use]
    pub fn put(&self, indices: &Self, updates: impl Operand, axis: impl IntoAxis) -> Self {
        settle(self.combine(Combine::Replace, indices, &updates.operand(), axis.into_axis(), &Loc::caller()))
    }

    /// `self` with slices added at positions along an axis; equal positions add up.
    ///
    /// # Shapes
    /// `updates` broadcasts to the shape that [`Tensor::take`] gives for these indices. Positions outside are dropped.
    /// # Gradient
    /// To `self` as it is, to `updates` taken at the positions.
    /// ```
    /// use lehr::prelude::*;
    /// let counts = Tensor::zeros(I64, 3).scatter_add(&Tensor::from([0, 2, 2]), 1, 0);
    /// assert_eq!(counts.to_string(), "[1,0,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn scatter_add(&self, indices: &Self, updates: impl Operand, axis: impl IntoAxis) -> Self {
        settle(self.combine(Combine::Add, indices, &updates.operand(), axis.into_axis(), &Loc::caller()))
    }

    /// As [`Tensor::scatter_add`], with any way of combining.
    #[track_caller]
    #[must_use]
    pub fn scatter(&self, how: Combine, indices: &Self, updates: impl Operand, axis: impl IntoAxis) -> Self {
        settle(self.combine(how, indices, &updates.operand(), axis.into_axis(), &Loc::caller()))
    }

    fn combine(&self, how: Combine, indices: &Self, updates: &Arg, axis: i64, loc: &Loc) -> Built {
        sound(&[self, indices])?;
        let axis = self.axis_at("scatter", axis, loc)?;
        let dtype = self.dtype().unwrap_or(DType::F32);
        let updates = to_dtype("scatter", updates, dtype, loc)?;
        sound(&[&updates])?;
        let indices = self.positions("scatter", indices, axis, loc)?;
        let windows = take_windows(self.shape(), axis, indices.rank());
        let mut shape: Shape = self.shape().iter().cloned().collect();
        shape.remove(axis);
        shape.insert_many(axis, indices.shape().iter().cloned());
        let updates = updates.try_broadcast_to(&shape, loc)?;
        let vectors = indices.try_expand_dims(-1, loc)?;
        let op = Scatter {
            update_window_dims: windows.offset_dims,
            inserted_window_dims: windows.collapsed_slice_dims,
            input_batching_dims: SmallVec::new(),
            scatter_indices_batching_dims: SmallVec::new(),
            scatter_dims_to_operand_dims: windows.start_index_map,
            mode: OutOfRange::Zero,
            combine: how,
        };
        Ok(Self::apply(op, &[self, &vectors, &updates], loc))
    }

    /// The slices of axis 0 at integers, of those outside the first or last.
    #[track_caller]
    pub(crate) fn rows_nearest(&self, indices: &Self) -> Self {
        let loc = Loc::caller();
        let nearest = |vectors: Self| {
            let windows = take_windows(self.shape(), 0, indices.rank());
            self.gather(&vectors, Gather { mode: OutOfRange::Clip, ..windows }, &loc)
        };
        settle(indices.try_expand_dims(-1, &loc).map(nearest))
    }

    fn gather(&self, vectors: &Self, op: Gather, loc: &Loc) -> Self {
        Self::apply(op, &[self, vectors], loc)
    }

    /// Positions along an axis, those counted from the end made positive.
    fn positions(&self, op: &str, indices: &Self, axis: usize, loc: &Loc) -> Built {
        if !indices.dtype().is_some_and(DType::is_integer) {
            let (rule, help) = ("the indices must be integers", "cast them to i64");
            return Err(Self::refuse(op, &[self, indices], rule, help, loc.clone()));
        }
        if indices.dtype().is_none_or(|d| d.kind() != lehr_ir::Kind::Signed) {
            return Ok(indices.clone());
        }
        let indices = indices.cast_at(DType::I64, loc);
        let size = self.count_of(&[axis], DType::I64, loc);
        let wrapped = Self::binary(lehr_ir::ops::BinaryOp::Add, &(&indices).operand(), &size.operand(), loc);
        let negative = indices.compare(lehr_ir::ops::CompareOp::Lt, &0.operand(), loc);
        let all = broadcast_all(op, &[negative, wrapped, indices], loc)?;
        Ok(Self::apply(lehr_ir::ops::Select, &[&all[0], &all[1], &all[2]], loc))
    }

    /// 1 at each label and 0 elsewhere, along a new last axis of the given size.
    ///
    /// A label outside gives zeros.
    /// # Gradient
    /// None.
    /// # Errors
    /// Labels that are no integers.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::from([2, 0]).one_hot(3, F32).to_string(), "[[0,0,1],[1,0,0]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn one_hot(&self, classes: impl IntoDim, dtype: DType) -> Self {
        let loc = Loc::caller();
        match classes.into_dim() {
            Ok(n) => settle(self.hits("one_hot", &n, &loc)).cast_at(dtype, &loc),
            Err(e) => Self::refuse("one_hot", &[self], &e.to_string(), "give a size ≥ 0 or a name", loc),
        }
    }

    /// Whether each label is the position along a new last axis.
    pub(crate) fn hits(&self, op: &str, classes: &Dim, loc: &Loc) -> Built {
        sound(&[self])?;
        let Some(dtype) = self.dtype().filter(|d| d.is_integer()) else {
            let (rule, help) = ("the labels must be integers", "cast them to i64");
            return Err(Self::refuse(op, &[self], rule, help, loc.clone()));
        };
        let mut shape: Shape = self.shape().iter().cloned().collect();
        shape.push(classes.clone());
        let axis = self.rank();
        let places = Self::apply(lehr_ir::ops::Iota { dtype, shape: shape.clone(), axis }, &[], loc);
        let mut ones: Shape = self.shape().iter().cloned().collect();
        ones.push(Dim::ONE);
        let labels = Self::apply(Reshape { shape: ones }, &[self], loc).try_broadcast_to(&shape, loc)?;
        Ok(Self::apply(lehr_ir::ops::CompareOp::Eq, &[&labels, &places], loc))
    }
}

/// The windows of a `take`: whole but along the axis, where they are one position.
fn take_windows(shape: &[Dim], axis: usize, indices: usize) -> Gather {
    let mut sizes: Shape = shape.iter().cloned().collect();
    sizes[axis] = Dim::ONE;
    Gather {
        offset_dims: (0..axis).chain(axis + indices..shape.len() - 1 + indices).collect(),
        collapsed_slice_dims: SmallVec::from_iter([axis]),
        operand_batching_dims: SmallVec::new(),
        start_indices_batching_dims: SmallVec::new(),
        start_index_map: SmallVec::from_iter([axis]),
        slice_sizes: sizes,
        mode: OutOfRange::Zero,
    }
}

//! How sizes and axes are written: numbers, names, tuples of both, negative axes.

use lehr_ir::{Dim, Shape};
use smallvec::SmallVec;

use crate::tensor::is_reserved;

/// A dim that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The text is no polynomial of names.
    #[error("the dim `{text}` cannot be read: {reason}")]
    Unreadable {
        /// What was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// The name is one that lehr keeps for itself.
    #[error("the dim `{0}` uses a reserved name; names of sizes start with a letter")]
    Reserved(String),
}

/// A number, a name, or a polynomial of names.
pub trait IntoDim {
    /// The dim, or why it cannot be read.
    fn into_dim(self) -> Result<Dim, ShapeError>;
}

macro_rules! dim_numbers {
    ($($ty:ty),*) => { $(
        impl IntoDim for $ty {
            fn into_dim(self) -> Result<Dim, ShapeError> {
                Ok(Dim::from(self))
            }
        }
    )* };
}

dim_numbers!(i32, i64, u32, usize, Dim, &Dim);

impl IntoDim for &str {
    fn into_dim(self) -> Result<Dim, ShapeError> {
        let dim: Dim =
            self.parse().map_err(|e| ShapeError::Unreadable { text: self.to_owned(), reason: format!("{e}") })?;
        if dim.symbols().any(|s| is_reserved(&s)) {
            return Err(ShapeError::Reserved(self.to_owned()));
        }
        Ok(dim)
    }
}

impl IntoDim for String {
    fn into_dim(self) -> Result<Dim, ShapeError> {
        self.as_str().into_dim()
    }
}

/// A shape: a dim, or an array, slice, vector or tuple of dims; `()` for a scalar.
///
/// A tuple mixes names and numbers: `("batch", 784)`.
pub trait IntoShape {
    /// The shape, or why a dim cannot be read.
    fn into_shape(self) -> Result<Shape, ShapeError>;
}

impl IntoShape for () {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Ok(Shape::new())
    }
}

impl IntoShape for Shape {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Ok(self)
    }
}

impl IntoShape for &Shape {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        Ok(self.clone())
    }
}

impl<T: IntoDim, const N: usize> IntoShape for [T; N] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        self.into_iter().map(IntoDim::into_dim).collect()
    }
}

impl<T: IntoDim> IntoShape for Vec<T> {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        self.into_iter().map(IntoDim::into_dim).collect()
    }
}

impl<T: IntoDim + Clone> IntoShape for &[T] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        self.iter().cloned().map(IntoDim::into_dim).collect()
    }
}

impl<T: IntoDim + Clone, const N: usize> IntoShape for &[T; N] {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        self.as_slice().into_shape()
    }
}

impl<T: IntoDim + Clone> IntoShape for &Vec<T> {
    fn into_shape(self) -> Result<Shape, ShapeError> {
        self.as_slice().into_shape()
    }
}

macro_rules! shape_of_one {
    ($($ty:ty),*) => { $(
        impl IntoShape for $ty {
            fn into_shape(self) -> Result<Shape, ShapeError> {
                Ok(SmallVec::from_iter([self.into_dim()?]))
            }
        }
    )* };
}

shape_of_one!(i32, i64, u32, usize, Dim, &Dim, &str, String);

macro_rules! shape_tuples {
    ($(($($T:ident $i:tt),+))*) => { $(
        impl<$($T: IntoDim),+> IntoShape for ($($T,)+) {
            fn into_shape(self) -> Result<Shape, ShapeError> {
                Ok(SmallVec::from_iter([$(self.$i.into_dim()?),+]))
            }
        }
    )* };
}

shape_tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// An axis: a number, counted from the end if negative.
pub trait IntoAxis: Copy {
    /// The number.
    fn into_axis(self) -> i64;
}

macro_rules! axis_numbers {
    ($($ty:ty),*) => { $(
        impl IntoAxis for $ty {
            fn into_axis(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }
        }

        impl IntoAxes for $ty {
            fn into_axes(self) -> Axes {
                Axes::These(SmallVec::from_iter([self.into_axis()]))
            }
        }
    )* };
}

/// Axes as a user names them, negative ones not yet resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Axes {
    /// Every axis.
    All,
    /// These axes.
    These(SmallVec<[i64; 4]>),
}

/// Axes: one number, an array, slice or vector of them, or `..` for all.
pub trait IntoAxes {
    /// The axes.
    fn into_axes(self) -> Axes;
}

axis_numbers!(i32, i64, u32, usize, isize);

impl IntoAxes for std::ops::RangeFull {
    fn into_axes(self) -> Axes {
        Axes::All
    }
}

impl IntoAxes for Axes {
    fn into_axes(self) -> Axes {
        self
    }
}

impl<T: IntoAxis, const N: usize> IntoAxes for [T; N] {
    fn into_axes(self) -> Axes {
        self.as_slice().into_axes()
    }
}

impl<T: IntoAxis, const N: usize> IntoAxes for &[T; N] {
    fn into_axes(self) -> Axes {
        self.as_slice().into_axes()
    }
}

impl<T: IntoAxis> IntoAxes for &[T] {
    fn into_axes(self) -> Axes {
        Axes::These(self.iter().map(|a| a.into_axis()).collect())
    }
}

impl<T: IntoAxis> IntoAxes for Vec<T> {
    fn into_axes(self) -> Axes {
        self.as_slice().into_axes()
    }
}

//! The type of a value: a dtype and a shape of symbolic dims.

use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::dim::Dim;
use crate::dtype::DType;

/// The dims of a value, outermost first.
pub type Shape = SmallVec<[Dim; 4]>;

/// A dtype and a shape; printed `f32[batch, 64]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dims, outermost first; empty for a scalar.
    pub shape: Shape,
}

impl Type {
    /// A type from its parts.
    ///
    /// ```
    /// use lehr_ir::{DType, Type};
    /// assert_eq!(Type::new(DType::F32, [2, 3]).to_string(), "f32[2, 3]");
    /// ```
    pub fn new<D: Into<Dim>>(dtype: DType, shape: impl IntoIterator<Item = D>) -> Self {
        Self { dtype, shape: shape.into_iter().map(Into::into).collect() }
    }

    /// The type of a 0-d value.
    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Shape::new() }
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn count(&self) -> Dim {
        count(&self.shape)
    }

    /// The same shape with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, shape: self.shape.clone() }
    }

    /// The sizes, if every dim is a constant.
    pub fn static_shape(&self) -> Option<SmallVec<[usize; 4]>> {
        self.shape.iter().map(|d| d.as_const().and_then(|v| usize::try_from(v).ok())).collect()
    }
}

/// The product of dims; 1 for none.
pub fn count(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1), |n, d| &n * d)
}

/// The row-major strides of a shape, in elements.
pub fn strides(shape: &[Dim]) -> Shape {
    let mut out: Shape = SmallVec::from_elem(Dim::from(1), shape.len());
    for i in (1..shape.len()).rev() {
        out[i - 1] = &out[i] * &shape[i];
    }
    out
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

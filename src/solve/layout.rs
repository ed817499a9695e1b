//! Structures of tensors as one vector, and back.

use lehr_ir::loc::Loc;
use lehr_ir::ops::Slice;
use lehr_ir::{DType, Dim, Shape};

use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

/// Where the leaves of a structure stand in one vector.
pub(super) struct Layout {
    dtype: DType,
    shapes: Vec<Shape>,
    sizes: Vec<Dim>,
}

impl Layout {
    /// The layout of a structure, and its vector.
    ///
    /// # Errors
    /// No leaves; leaves that are no floats, or of several dtypes.
    pub(super) fn of<T: Tree>(op: &str, what: &str, of: &T, loc: &Loc) -> Result<(Self, Tensor), Tensor> {
        let leaves = tree::leaves(of);
        let refs: Vec<&Tensor> = leaves.iter().collect();
        sound(&refs)?;
        let refuse = |rule: String, help: &str| Err(Tensor::refuse(op, &refs, &rule, help, loc.clone()));
        let Some(dtype) = leaves.first().and_then(Tensor::dtype) else {
            return refuse(format!("{what} has no tensors"), "give one or more");
        };
        if !leaves.iter().all(|t| t.dtype() == Some(dtype)) || !dtype.is_float() {
            return refuse(format!("{what} must be floats of one dtype"), "cast them");
        }
        let shapes = leaves.iter().map(|t| t.shape().iter().cloned().collect()).collect();
        let flat: Vec<Tensor> = leaves.iter().map(Tensor::flatten).collect();
        let sizes = flat.iter().map(|t| t.shape()[0].clone()).collect();
        Ok((Self { dtype, shapes, sizes }, joined(&flat)))
    }

    /// The vector of another structure of the same types.
    ///
    /// # Errors
    /// Other types, or another number of leaves.
    pub(super) fn pack<T: Tree>(&self, op: &str, what: &str, given: &T, loc: &Loc) -> Result<Tensor, Tensor> {
        let leaves = tree::leaves(given);
        let refs: Vec<&Tensor> = leaves.iter().collect();
        sound(&refs)?;
        if leaves.len() != self.shapes.len() {
            let rule = format!("the function gives {} tensors for {what} of {}", leaves.len(), self.shapes.len());
            return Err(Tensor::refuse(op, &[], &rule, "give one for each", loc.clone()));
        }
        for (t, shape) in leaves.iter().zip(&self.shapes) {
            let same = t.shape().len() == shape.len()
                && t.shape().iter().zip(shape).all(|(a, b)| t.facts().decide_eq(a, b) == Some(true));
            if !same || t.dtype() != Some(self.dtype) {
                let want = lehr_ir::Type { dtype: self.dtype, shape: shape.clone() };
                let rule = format!("the function must give {want}, the type of {what}");
                return Err(Tensor::refuse(op, &[t], &rule, "cast, reshape or broadcast it", loc.clone()));
            }
        }
        Ok(joined(&leaves.iter().map(Tensor::flatten).collect::<Vec<_>>()))
    }

    /// The leaves of a vector.
    pub(super) fn unpack(&self, vector: &Tensor) -> Vec<Tensor> {
        self.parts(vector, &[])
    }

    /// The leaves of a matrix of which each row is a vector.
    pub(super) fn unpack_rows(&self, rows: &Tensor) -> Vec<Tensor> {
        self.parts(rows, &rows.shape()[..rows.rank().min(1)])
    }

    fn parts(&self, t: &Tensor, first: &[Dim]) -> Vec<Tensor> {
        if t.check().is_err() {
            return vec![t.clone(); self.shapes.len()];
        }
        let axis = first.len();
        let mut at = Dim::ZERO;
        let mut out = Vec::with_capacity(self.shapes.len());
        for (shape, size) in self.shapes.iter().zip(&self.sizes) {
            let end = &at + size;
            let part = match self.shapes.len() {
                1 => t.clone(),
                _ => Tensor::apply(Slice::along(t.shape(), axis, at, end.clone()), &[t], &Loc::UNKNOWN),
            };
            let shape: Vec<Dim> = first.iter().chain(shape).cloned().collect();
            out.push(part.reshape(shape.as_slice()));
            at = end;
        }
        out
    }
}

fn joined(flat: &[Tensor]) -> Tensor {
    match flat {
        [one] => one.clone(),
        many => Tensor::concat(many, 0),
    }
}

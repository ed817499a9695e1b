//! Products of matrices and vectors.

use lehr_ir::loc::Loc;
use lehr_ir::ops::DotDims;
use lehr_ir::{DType, Shape};
use smallvec::SmallVec;

use super::operand::{broadcast_all, repeat_into};
use super::{Built, Tensor, settle, sound};
use crate::shape::{Axes, IntoAxes};

impl Tensor {
    /// The matrix product, by NumPy's rules: the last dim of `self` with the last but one of `other`.
    ///
    /// A vector on the left counts as a row, on the right as a column, and its dim disappears.
    /// # Shapes
    /// `[…, m, k] · […, k, n] = […, m, n]`, leading dims broadcast. The operands take their common dtype.
    /// # Gradient
    /// To each, the product of the cotangent with the other, transposed.
    /// # Numerics
    /// Sums run in the dtype, in an order that the shape alone fixes; in `f64`, rounded once, on the reference backend.
    /// # Errors
    /// Scalars; contracted dims that are not provably equal; bool.
    /// ```
    /// use lehr::Tensor;
    /// let a = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(a.matmul(&Tensor::from([10.0f32, 1.0])).to_string(), "[12,34]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn matmul(&self, other: &Self) -> Self {
        settle(self.try_matmul(other, &Loc::caller()))
    }

    fn try_matmul(&self, other: &Self, loc: &Loc) -> Built {
        let (a, b) = self.numbers("matmul", other, loc)?;
        match (a.rank(), b.rank()) {
            (0, _) | (_, 0) => {
                let (rule, help) = ("a scalar is no matrix", "multiply by a scalar with `*`");
                Err(Self::refuse("matmul", &[self, other], rule, help, loc.clone()))
            }
            (1, n) => Ok(a.contract(&b, &[0], &[n.saturating_sub(2)], loc)),
            // All leading dims of `a` are rows of one product; nothing is repeated.
            (m, 1 | 2) => Ok(a.contract(&b, &[m - 1], &[0], loc)),
            (m, n) => {
                let batch = m.max(n) - 2;
                let (a, b) = (a.with_batch_like(&b, loc)?, b.with_batch_like(&a, loc)?);
                Ok(Self::apply(DotDims::matmul(batch), &[&a, &b], loc))
            }
        }
    }

    /// NumPy's `dot`: the last dim of `self` with the last but one of `other` (its only one, for a vector).
    ///
    /// Unlike [`Tensor::matmul`], leading dims of both stay apart, and scalars multiply.
    /// # Gradient
    /// As of [`Tensor::matmul`].
    /// # Errors
    /// Contracted dims that are not provably equal; bool.
    #[track_caller]
    #[must_use]
    pub fn dot(&self, other: &Self) -> Self {
        if self.rank() == 0 || other.rank() == 0 {
            return self * other;
        }
        settle(self.try_dot(other, &Loc::caller()))
    }

    fn try_dot(&self, other: &Self, loc: &Loc) -> Built {
        let (a, b) = self.numbers("dot", other, loc)?;
        Ok(a.contract(&b, &[a.rank() - 1], &[b.rank().saturating_sub(2)], loc))
    }

    /// The sum of products over pairs of axes (NumPy's `tensordot`).
    ///
    /// # Shapes
    /// What is left of `self`, then what is left of `other`.
    /// # Gradient
    /// As of [`Tensor::matmul`].
    /// # Errors
    /// Lists of different lengths; paired dims that are not provably equal.
    /// ```
    /// use lehr::Tensor;
    /// let a = Tensor::from([[1, 2], [3, 4]]);
    /// assert_eq!(a.tensordot(&a, [0, 1], [0, 1]).to_string(), "30");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn tensordot(&self, other: &Self, axes: impl IntoAxes, other_axes: impl IntoAxes) -> Self {
        settle(self.try_tensordot(other, &axes.into_axes(), &other_axes.into_axes(), &Loc::caller()))
    }

    fn try_tensordot(&self, other: &Self, axes: &Axes, other_axes: &Axes, loc: &Loc) -> Built {
        let (a, b) = self.numbers("tensordot", other, loc)?;
        // The pairs keep the order they are named in.
        let (left, right) = (a.named_axes(axes, loc)?, b.named_axes(other_axes, loc)?);
        if left.len() != right.len() {
            let rule = format!("{} axes are paired with {}", left.len(), right.len());
            return Err(Self::refuse("tensordot", &[self, other], &rule, "name as many axes of each", loc.clone()));
        }
        Ok(a.contract(&b, &left, &right, loc))
    }

    /// The products of all elements of `self` with all of `other`, both flattened.
    ///
    /// # Shapes
    /// `[count of self, count of other]`.
    /// # Gradient
    /// To each, the cotangent times the other, summed.
    #[track_caller]
    #[must_use]
    pub fn outer(&self, other: &Self) -> Self {
        let (a, b) = (self.flatten(), other.flatten());
        a.expand_dims(1) * b
    }

    /// Both in their common dtype.
    pub(crate) fn numbers(&self, op: &str, other: &Self, loc: &Loc) -> Result<(Self, Self), Self> {
        sound(&[self, other])?;
        match (self.dtype(), other.dtype()) {
            (Some(DType::Bool), Some(DType::Bool)) => {
                let (rule, help) = ("products take numbers", "cast an operand, or use logical_and and any");
                Err(Self::refuse(op, &[self, other], rule, help, loc.clone()))
            }
            (Some(a), Some(b)) => {
                let dtype = a.promote(b);
                Ok((self.cast_at(dtype, loc), other.cast_at(dtype, loc)))
            }
            _ => Ok((self.clone(), other.clone())),
        }
    }

    fn contract(&self, other: &Self, left: &[usize], right: &[usize], loc: &Loc) -> Self {
        let dims = DotDims { lhs_contract: left.into(), rhs_contract: right.into(), ..DotDims::default() };
        Self::apply(dims, &[self, other], loc)
    }

    /// A stack of matrices with the leading dims repeated into those that it shares with another stack.
    fn with_batch_like(&self, other: &Self, loc: &Loc) -> Built {
        let leading = |t: &Self| -> Shape { t.shape()[..t.rank() - 2].iter().cloned().collect() };
        let (mine, theirs) = (leading(self), leading(other));
        if mine == theirs {
            return Ok(self.clone());
        }
        let stand_in =
            |shape: &Shape| repeat_into(&super::operand::constant(lehr_ir::Literal::from(false), loc), shape, loc);
        let both = broadcast_all("matmul", &[stand_in(&mine), stand_in(&theirs)], loc)
            .map_err(|_| self.batch_error(other, loc))?;
        let mut shape: Shape = both[0].shape().iter().cloned().collect();
        shape.extend(self.shape()[self.rank() - 2..].iter().cloned());
        Ok(repeat_into(self, &shape, loc))
    }

    fn batch_error(&self, other: &Self, loc: &Loc) -> Self {
        let rule = "the leading dims do not broadcast";
        let help = "reshape an operand so that the dims before the last two agree or are 1";
        Self::refuse("matmul", &[self, other], rule, help, loc.clone())
    }

    fn named_axes(&self, axes: &Axes, loc: &Loc) -> Result<SmallVec<[usize; 4]>, Self> {
        match axes {
            Axes::All => Ok((0..self.rank()).collect()),
            Axes::These(list) => list.iter().map(|&a| self.axis_at("tensordot", a, loc)).collect(),
        }
    }
}

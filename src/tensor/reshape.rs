//! Changes of shape that keep elements: reshapes, permutations, new and dropped axes, broadcasting.

use lehr_ir::facts::Fact;
use lehr_ir::loc::Loc;
use lehr_ir::ops::{Reshape, Transpose};
use lehr_ir::ty::count;
use lehr_ir::{Dim, Shape};
use smallvec::SmallVec;

use super::operand::{common_shape, repeat_into};
use super::reduce::resolve_axis;
use super::{Built, Tensor, settle, sizes, sound};
use crate::shape::{Axes, IntoAxes, IntoAxis, IntoShape};

impl Tensor {
    /// The elements in row-major order under another shape; one size may be `-1`, which is then what is left.
    ///
    /// # Gradient
    /// Reshaped back.
    /// # Errors
    /// Element counts that differ or cannot be decided; a `-1` that has no value.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ("batch", 8, 8));
    /// assert_eq!(x.reshape(("batch", -1)).ty()?.to_string(), "f32[batch, 64]");
    /// assert_eq!(x.reshape((-1, 64)).ty()?.to_string(), "f32[batch, 64]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn reshape(&self, shape: impl IntoShape) -> Self {
        let loc = Loc::caller();
        match shape.into_shape() {
            Ok(shape) => settle(self.reshape_at(shape, &loc)),
            Err(e) => Self::refuse("reshape", &[self], &e.to_string(), "give sizes ≥ 0, names, or one -1", loc),
        }
    }

    pub(crate) fn reshape_at(&self, mut shape: Shape, loc: &Loc) -> Built {
        sound(&[self])?;
        let refuse = |rule: &str, help: &str| Err(Self::refuse("reshape", &[self], rule, help, loc.clone()));
        let unknown: SmallVec<[usize; 2]> = (0..shape.len()).filter(|&i| shape[i].as_const() == Some(-1)).collect();
        if let Some(d) = shape.iter().find(|d| d.as_const().is_some_and(|v| v < -1)) {
            return refuse(&format!("the size {d} is negative"), "give sizes ≥ 0, names, or one -1");
        }
        match unknown.as_slice() {
            [] => {}
            &[i] => {
                shape[i] = Dim::ONE;
                let (all, rest) = (count(self.shape()), count(&shape));
                let Some(size) = quotient(&all, &rest, self) else {
                    let rule = format!("-1 has no value: {all} elements do not divide by {rest}");
                    return refuse(&rule, "give every size, or assume what makes them divide");
                };
                shape[i] = size;
            }
            _ => return refuse("-1 stands for more than one size", "leave out one size only"),
        }
        Ok(if self.shape() == shape.as_slice() { self.clone() } else { Self::apply(Reshape { shape }, &[self], loc) })
    }

    /// The elements in one dim, in row-major order.
    ///
    /// # Gradient
    /// Reshaped back.
    #[track_caller]
    #[must_use]
    pub fn flatten(&self) -> Self {
        let n = count(self.shape());
        settle(self.reshape_at(Shape::from_iter([n]), &Loc::caller()))
    }

    /// The same elements with the dims from an axis on as one: what stands between convolutions and a dense layer, with axis 1.
    ///
    /// # Errors
    /// An axis outside the rank.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ("batch", 4, 4, 8));
    /// assert_eq!(x.flatten_from(1).ty()?.to_string(), "f32[batch, 128]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn flatten_from(&self, axis: impl IntoAxis) -> Self {
        let loc = Loc::caller();
        settle(sound(&[self]).and_then(|()| {
            let axis = self.axis_at("flatten_from", axis.into_axis(), &loc)?;
            let (kept, joined) = self.shape().split_at(axis);
            self.reshape_at(kept.iter().cloned().chain([count(joined)]).collect(), &loc)
        }))
    }

    /// The same elements without the given axes, which have size 1; `..` drops all axes that are the constant 1.
    ///
    /// # Errors
    /// An axis of another size.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::zeros(F32, (1, 3, 1)).squeeze(0).ty()?.to_string(), "f32[3, 1]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn squeeze(&self, axes: impl IntoAxes) -> Self {
        settle(self.try_squeeze(&axes.into_axes(), &Loc::caller()))
    }

    fn try_squeeze(&self, axes: &Axes, loc: &Loc) -> Built {
        sound(&[self])?;
        let dropped = match axes {
            Axes::All => (0..self.rank()).filter(|&i| self.shape()[i].is_one()).collect(),
            Axes::These(_) => self.axes_at("squeeze", axes, loc)?,
        };
        if let Some(&a) = dropped.iter().find(|&&a| !self.shape()[a].is_one()) {
            let rule = format!("axis {a} has size {}, not 1", self.shape()[a]);
            return Err(Self::refuse("squeeze", &[self], &rule, "squeeze axes of size 1 only", loc.clone()));
        }
        self.reshape_at(lehr_ir::graph::builder::without_axes(self.shape(), &dropped), loc)
    }

    /// The same elements with a new axis of size 1 at this place of the result, counted from its end if negative.
    ///
    /// # Errors
    /// A place outside the result's dims.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::zeros(F32, 3).expand_dims(-1).ty()?.to_string(), "f32[3, 1]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn expand_dims(&self, axis: impl IntoAxis) -> Self {
        settle(self.try_expand_dims(axis.into_axis(), &Loc::caller()))
    }

    pub(crate) fn try_expand_dims(&self, axis: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let Some(at) = resolve_axis(axis, self.rank() + 1) else {
            return Err(self.no_axis("expand_dims", axis, self.rank() + 1, loc));
        };
        Ok(self.restore_axes(&[at], loc))
    }

    /// The dims in another order: dim `i` of the result is dim `axes[i]`.
    ///
    /// # Gradient
    /// Under the inverse permutation.
    /// # Errors
    /// Axes that do not name each dim once.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ("b", 3, 4));
    /// assert_eq!(x.permute([2, 0, 1]).ty()?.to_string(), "f32[4, b, 3]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    #[must_use]
    pub fn permute(&self, axes: impl IntoAxes) -> Self {
        settle(self.try_permute(&axes.into_axes(), &Loc::caller()))
    }

    fn try_permute(&self, axes: &Axes, loc: &Loc) -> Built {
        sound(&[self])?;
        let Axes::These(list) = axes else { return Ok(self.clone()) };
        let mut perm: SmallVec<[usize; 4]> = SmallVec::new();
        for &axis in list {
            perm.push(self.axis_at("permute", axis, loc)?);
        }
        Ok(self.permute_at(&perm, loc))
    }

    pub(crate) fn permute_at(&self, perm: &[usize], loc: &Loc) -> Self {
        if perm.len() == self.rank() && perm.iter().enumerate().all(|(i, &p)| i == p) {
            return self.clone();
        }
        Self::apply(Transpose { perm: perm.into() }, &[self], loc)
    }

    /// The dims in reverse order (NumPy's `.T`).
    ///
    /// # Gradient
    /// Reversed back.
    #[track_caller]
    #[must_use]
    pub fn t(&self) -> Self {
        let perm: SmallVec<[usize; 4]> = (0..self.rank()).rev().collect();
        self.permute_at(&perm, &Loc::caller())
    }

    /// The last two dims exchanged, of a matrix or a stack of them.
    ///
    /// # Gradient
    /// Exchanged back.
    /// # Errors
    /// Fewer than two dims.
    #[track_caller]
    #[must_use]
    pub fn transpose(&self) -> Self {
        self.swap_axes(-2, -1)
    }

    /// Two dims exchanged.
    ///
    /// # Gradient
    /// Exchanged back.
    /// # Errors
    /// An axis outside the rank.
    #[track_caller]
    #[must_use]
    pub fn swap_axes(&self, a: impl IntoAxis, b: impl IntoAxis) -> Self {
        settle(self.try_swap_axes(a.into_axis(), b.into_axis(), &Loc::caller()))
    }

    fn try_swap_axes(&self, a: i64, b: i64, loc: &Loc) -> Built {
        sound(&[self])?;
        let (a, b) = (self.axis_at("swap_axes", a, loc)?, self.axis_at("swap_axes", b, loc)?);
        let mut perm: SmallVec<[usize; 4]> = (0..self.rank()).collect();
        perm.swap(a, b);
        Ok(self.permute_at(&perm, loc))
    }

    /// The elements repeated into a shape, by NumPy's rules: aligned from the right, dims of size 1 repeat.
    ///
    /// A named size is never taken as 1.
    /// # Gradient
    /// Summed over what was repeated.
    /// # Errors
    /// A shape that it does not broadcast to.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::from([1, 2]).broadcast_to((2, 2)).to_string(), "[[1,2],[1,2]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Self {
        let loc = Loc::caller();
        match sizes("broadcast_to", shape, &loc) {
            Ok(shape) => settle(self.try_broadcast_to(&shape, &loc)),
            Err(bad) => bad,
        }
    }

    pub(crate) fn try_broadcast_to(&self, shape: &Shape, loc: &Loc) -> Built {
        sound(&[self])?;
        if self.rank() > shape.len() {
            let rule = format!("{} dims do not fit {}", self.rank(), shape.len());
            return Err(Self::refuse("broadcast_to", &[self], &rule, "drop dims of the operand first", loc.clone()));
        }
        Ok(repeat_into(self, shape, loc))
    }

    /// Both repeated into their common shape.
    ///
    /// # Errors
    /// Shapes that do not broadcast; both results carry the error.
    #[track_caller]
    pub fn broadcast_together(&self, other: &Self) -> (Self, Self) {
        let loc = Loc::caller();
        if let Err(bad) = sound(&[self, other]) {
            return (bad.clone(), bad);
        }
        match common_shape("broadcast", &[self, other], &loc) {
            Ok(shape) => (repeat_into(self, &shape, &loc), repeat_into(other, &shape, &loc)),
            Err(bad) => (bad.clone(), bad),
        }
    }
}

/// `all / rest`, where it is provably whole for all sizes.
fn quotient(all: &Dim, rest: &Dim, x: &Tensor) -> Option<Dim> {
    if let (Some(a), Some(b)) = (all.as_const(), rest.as_const()) {
        return (b != 0 && a % b == 0).then(|| Dim::from(a / b));
    }
    // Where the rest is 0 there are no elements, and any size will do.
    let mut facts = x.facts().clone();
    let _ = facts.assume(Fact::ge(rest, Dim::ONE));
    let q = facts.simplify(&all.floordiv(rest));
    (x.facts().decide_eq(&(&q * rest), all) == Some(true)).then_some(q)
}

//! Values that count as constants.

use lehr_ir::attrs::Attrs;
use lehr_ir::loc::Loc;

use crate::composite::Composite;
use crate::tensor::{Tensor, settle};
use crate::tree::{self, Tree};

/// The same values, through which no derivative goes, in any mode and order.
///
/// # Gradient
/// Zero.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(3.0f32);
/// assert_eq!(grad(&(stop_gradient(&x) * &x), &x).to_string(), "3");
/// ```
#[track_caller]
pub fn stop_gradient<T: Tree + ?Sized>(x: &T) -> T::Mapped {
    let loc = Loc::caller();
    tree::with_leaves(x, tree::leaves(x).iter().map(|t| stop(t, &loc)).collect())
}

fn stop(x: &Tensor, loc: &Loc) -> Tensor {
    if x.dtype().is_some_and(|d| !d.is_inexact()) {
        return x.clone();
    }
    let call = Composite { name: "stop_gradient", attrs: Attrs::new(), operands: &[x], loc };
    settle(call.call_with_jvp(&|p| p[0].clone(), &|p, t| [p[0].clone(), t[0].zeros_like()]))
}

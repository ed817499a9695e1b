//! Dense Jacobians and their linear systems.

use lehr_ir::attrs::Attrs;
use lehr_ir::loc::Loc;

use crate::composite::Composite;
use crate::control::scan;
use crate::tensor::{Tensor, settle};
use crate::transform::{pushed, vmap};

/// The transpose of the Jacobian at `x` of a function of vectors: row `i` is the derivative by element `i`.
pub(super) fn jacobian_transposed(f: &dyn Fn(&Tensor) -> Tensor, x: &Tensor, loc: &Loc) -> Tensor {
    let (Some(dtype), [n]) = (x.dtype(), x.shape()) else { return x.clone() };
    let y = f(x);
    let basis = Tensor::eye(dtype, n);
    vmap(&basis, 0, |direction| {
        let column =
            pushed(std::slice::from_ref(&y), std::slice::from_ref(x), std::slice::from_ref(direction), &[], loc);
        column.map_or_else(|bad| bad, |mut c| c.swap_remove(0))
    })
}

/// The inverse of a square matrix; infinite or NaN if it is singular.
///
/// Its derivative by the matrix is `-A⁻¹ dA A⁻¹`.
pub(super) fn inverse(a: &Tensor, loc: &Loc) -> Tensor {
    let call = Composite { name: "inverse", attrs: Attrs::new(), operands: &[a], loc };
    settle(call.call_with_jvp(&|p| by_elimination(&p[0]), &|p, t| {
        let inverse = by_elimination(&p[0]);
        let tangent = -inverse.matmul(&t[0]).matmul(&inverse);
        [inverse, tangent]
    }))
}

/// Gauss and Jordan's elimination with partial pivoting.
///
/// Rows stay where they are: each step marks the row that it takes its pivot from, and the end puts them in order.
fn by_elimination(a: &Tensor) -> Tensor {
    let (Some(dtype), [n, _]) = (a.dtype(), a.shape()) else { return a.clone() };
    let one = Tensor::eye(dtype, n);
    let places = Tensor::arange(n);
    let start = (a.clone(), one.clone(), Tensor::ones(lehr_ir::DType::Bool, n));
    let ((_, right, _), order) = scan(&start, &one, |(left, right, free), which| {
        let column = left.matmul(which);
        let pivot = Tensor::select(free, column.abs(), -1.0).argmax(0);
        let here = places.eq(&pivot);
        let row = here.cast(dtype);
        let scale = row.matmul(&column);
        let (from_left, from_right) = (row.matmul(left) / &scale, row.matmul(right) / &scale);
        let (column, mask) = (column.expand_dims(1), here.expand_dims(1));
        let left = Tensor::select(&mask, &from_left, left - &column * &from_left);
        let right = Tensor::select(&mask, &from_right, right - &column * &from_right);
        ((left, right, free & here.logical_not()), row)
    });
    order.matmul(&right)
}

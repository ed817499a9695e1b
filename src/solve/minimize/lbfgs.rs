//! Directions from the last steps: the limited-memory form of Broyden, Fletcher, Goldfarb and Shanno's update.

use super::{dtype, epsilon, len};
use crate::control::{ScanOptions, scan, scan_with};
use crate::tensor::Tensor;
use lehr_ir::Dim;

/// What is remembered: steps and changes of the gradient, oldest first, the reciprocals of their products (0 where there is none
/// yet), and the scale of the Hessian's inverse.
pub(super) fn start(history: usize, x: &Tensor) -> Vec<Tensor> {
    let (dtype, rows) = (dtype(x), [Dim::from(history), len(x)]);
    vec![
        Tensor::zeros(dtype, rows.as_slice()),
        Tensor::zeros(dtype, rows.as_slice()),
        Tensor::zeros(dtype, history),
        Tensor::ones(dtype, ()),
    ]
}

/// The negative gradient times the approximate inverse of the Hessian, by the two-loop recursion.
pub(super) fn direction(memory: &[Tensor], gradient: &Tensor) -> Tensor {
    let [steps, changes, weights, scale] = memory else { return -gradient };
    let rows = (steps, changes, weights);
    let (q, parts) = scan_with(ScanOptions::default().reverse(), gradient, &rows, |q, (s, y, w)| {
        let part = w * s.matmul(q);
        (q - &part * y, part)
    });
    let (r, ()) = scan(&(q * scale), &(rows, &parts), |r, ((s, y, w), part)| {
        let back = w * y.matmul(r);
        (r + (part - back) * s, ())
    });
    -r
}

/// The memory with one step more in place of the oldest, if the function curves upwards along it.
pub(super) fn remember(memory: &[Tensor], step: &Tensor, change: &Tensor) -> Vec<Tensor> {
    let [steps, changes, weights, scale] = memory else { return memory.to_vec() };
    let product = step.matmul(change);
    let curves = product.gt(step.norm() * change.norm() * epsilon(step));
    let newest = |old: &Tensor, new: &Tensor| {
        let all = Tensor::concat(&[old.slice(1..), new.expand_dims(0)], 0);
        Tensor::select(&curves, all, old)
    };
    vec![
        newest(steps, step),
        newest(changes, change),
        newest(weights, &product.reciprocal()),
        Tensor::select(&curves, &product / change.square().sum(), scale),
    ]
}

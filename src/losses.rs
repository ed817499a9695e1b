//! Losses. Each gives one number an example; reduce them with `mean` or `sum`.

use lehr_ir::attrs::Attrs;
use lehr_ir::loc::Loc;
use lehr_ir::{DType, Dim};

use crate::composite::Composite;
use crate::tensor::{Built, Operand, Tensor, logsumexp_parts, settle, sound};

/// `-log softmax(logits)[label]` along the last axis, with integer labels.
///
/// # Shapes
/// `logits: […, classes]`, `labels: […]`, the result `[…]`.
/// # Gradient
/// To the logits, `softmax(logits) - onehot(label)` times the cotangent.
/// # Numerics
/// `log Σ e^(x - max) + max - x[label]`: nothing overflows. A label outside the classes gives NaN.
/// # Errors
/// Labels that are no integers, or of another shape than the logits without their last axis.
/// ```
/// use lehr::prelude::*;
/// let logits = Tensor::from([[0.0f32, 0.0], [1000.0, 0.0]]);
/// let loss = losses::softmax_cross_entropy(&logits, &Tensor::from([1, 0]));
/// assert_eq!(loss.to_string(), "[0.6931472,0]");
/// ```
#[track_caller]
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    settle(try_cross_entropy(logits, labels, &Loc::caller()))
}

fn try_cross_entropy(logits: &Tensor, labels: &Tensor, loc: &Loc) -> Built {
    const OP: &str = "softmax_cross_entropy";
    sound(&[logits, labels])?;
    let refuse = |rule: &str, help: &str| Err(Tensor::refuse(OP, &[logits, labels], rule, help, loc.clone()));
    let Some((classes, examples)) = logits.shape().split_last() else {
        return refuse("the logits need an axis of classes", "give them a last axis with a number for each class");
    };
    if !labels.dtype().is_some_and(DType::is_integer) {
        return refuse("the labels must be integers", "cast them to i64; for one-hot labels use cross_entropy");
    }
    if labels.shape() != examples {
        return refuse("the labels must have the shape of the logits without their last axis", "reshape the labels");
    }
    let x = logits.inexact(loc);
    let classes = classes.clone();
    let axis = [x.rank() - 1];
    let call = Composite { name: OP, attrs: Attrs::new(), operands: &[&x, labels], loc };
    call.shared_call_with_jvp(
        &|p| {
            let (lse, _, _) = logsumexp_parts(&p[0], &axis);
            checked(&(lse - picked(&p[0], &p[1], &classes)), &p[1], &classes)
        },
        &|p, t| {
            let (lse, e, s) = logsumexp_parts(&p[0], &axis);
            let loss = checked(&(lse - picked(&p[0], &p[1], &classes)), &p[1], &classes);
            let tangent = (e * &t[0]).sum_axes(axis) / s - picked(&t[0], &p[1], &classes);
            [loss, tangent]
        },
    )
}

/// The element of each row that its label names; 0 for a label outside.
fn picked(rows: &Tensor, labels: &Tensor, classes: &Dim) -> Tensor {
    match labels.hits("softmax_cross_entropy", classes, &Loc::UNKNOWN) {
        Ok(hits) => Tensor::select(&hits, rows, 0).sum_axes(-1),
        Err(bad) => bad,
    }
}

/// The loss, NaN where the label is outside the classes.
fn checked(loss: &Tensor, labels: &Tensor, classes: &Dim) -> Tensor {
    let n = crate::tensor::size_value(classes, DType::I64, &Loc::UNKNOWN);
    let inside = labels.ge(0) & labels.cast(DType::I64).lt(&n);
    Tensor::select(&inside, loss, f64::NAN)
}

/// `-Σ target · log softmax(logits)` along the last axis, with a probability for each class.
///
/// # Shapes
/// `logits` and `targets: […, classes]`, the result `[…]`.
/// # Gradient
/// To the logits, `softmax(logits) Σ target - target`; to the targets, `-log softmax(logits)`.
/// # Errors
/// Shapes that do not broadcast.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    -(logits.log_softmax(-1) * targets).sum_axes(-1)
}

/// The squared difference of each element.
///
/// # Gradient
/// `2 (x - y)` and its negative.
/// # Errors
/// Shapes that do not broadcast.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// assert_eq!(losses::mse(&x, 0).mean().to_string(), "2.5");
/// ```
#[track_caller]
pub fn mse(x: &Tensor, y: impl Operand) -> Tensor {
    let d = x - y;
    &d * &d
}

/// The absolute difference of each element.
///
/// # Gradient
/// The sign of the difference, and its negative.
/// # Errors
/// Shapes that do not broadcast.
#[track_caller]
pub fn mae(x: &Tensor, y: impl Operand) -> Tensor {
    (x - y).abs()
}

/// Half the square of the difference within `delta`, linear beyond.
///
/// # Gradient
/// The difference, held between `-delta` and `delta`.
/// # Errors
/// Shapes that do not broadcast.
/// # Source
/// Huber, "Robust estimation of a location parameter", 1964.
#[track_caller]
pub fn huber(x: &Tensor, y: impl Operand, delta: f64) -> Tensor {
    let d = x - y;
    let size = d.abs();
    Tensor::select(&size.le(delta), &d * &d * 0.5, (&size - 0.5 * delta) * delta)
}

/// `-log` of the probability of a bool label under `sigmoid(logit)`.
///
/// # Shapes
/// Broadcast. Labels are 0 or 1 (or in between), as bool or any number dtype.
/// # Gradient
/// To the logits, `sigmoid(logit) - label`.
/// # Numerics
/// `softplus(x) - x · label`: nothing overflows.
/// # Errors
/// Shapes that do not broadcast.
#[track_caller]
pub fn sigmoid_cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let labels = if labels.dtype() == Some(DType::Bool) { labels.cast(DType::F32) } else { labels.clone() };
    logits.softplus() - logits * labels
}

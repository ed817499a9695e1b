//! Gradients of scalars.

use lehr_ir::expr::export;
use lehr_ir::loc::Loc;
use lehr_passes::derivative;

use super::{Over, carry, floats};
use crate::scope;
use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

/// The gradient of a scalar by each leaf of a structure, in the same structure.
///
/// Leaves are variables, placeholders, or any tensors that `loss` was made from; these then count as given.
/// A leaf that the loss does not depend on has the gradient 0, of the leaf's type.
/// # Shapes
/// `loss: f[]`; each gradient has the type of its leaf.
/// # Errors
/// A loss that is no scalar, a leaf that is no float, an operation without a derivative (the error names the path to it): every
/// gradient carries the error.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(3.0f32);
/// let y = &x * &x + 2 * &x;
/// assert_eq!(grad(&y, &x).to_string(), "8");
/// ```
#[track_caller]
pub fn grad<T: Tree + ?Sized>(loss: &Tensor, wrt: &T) -> T::Mapped {
    value_and_grad(loss, wrt).1
}

/// The loss and its gradient, which share what they have in common.
///
/// # Errors
/// As [`grad`].
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(3.0f32);
/// let (value, slope) = value_and_grad(&(&x * &x), &x);
/// assert_eq!((value.to_string(), slope.to_string()), ("9".to_owned(), "6".to_owned()));
/// ```
#[track_caller]
pub fn value_and_grad<T: Tree + ?Sized>(loss: &Tensor, wrt: &T) -> (Tensor, T::Mapped) {
    let ((loss, ()), grads) = value_and_grad_aux(loss, &(), wrt);
    (loss, grads)
}

/// The loss with other values of the same computation, such as logits or metrics, and the gradient of the loss.
///
/// The other values are any tree of any dtypes. They are not differentiated, and share with the gradient what they have in
/// common with the loss.
/// # Errors
/// As [`grad`]; every result carries the error.
/// ```
/// use lehr::prelude::*;
/// let w = Tensor::from([2.0f32, 1.0]);
/// let logits = &w * 3;
/// let ((loss, (logits, best)), dw) = value_and_grad_aux(&logits.sum(), &(&logits, logits.argmax(0)), &w);
/// assert_eq!(format!("{loss} {logits} {best} {dw}"), "9 [6,3] 0 [3,3]");
/// ```
#[track_caller]
pub fn value_and_grad_aux<A: Tree + ?Sized, T: Tree + ?Sized>(
    loss: &Tensor,
    aux: &A,
    wrt: &T,
) -> ((Tensor, A::Mapped), T::Mapped) {
    let loc = Loc::caller();
    let (leaves, others) = (tree::named_leaves(wrt), tree::leaves(aux));
    let (count, more) = (leaves.len(), others.len());
    let found = floats("grad", "input", &leaves, &loc)
        .and_then(|()| with_others(loss, &others, &leaves.into_iter().map(|(_, t)| t).collect::<Vec<_>>(), &loc));
    match found {
        Ok((value, others, grads)) => ((value, tree::with_leaves(aux, others)), tree::with_leaves(wrt, grads)),
        Err(bad) => {
            let others = tree::with_leaves(aux, vec![bad.clone(); more]);
            ((bad.clone(), others), tree::with_leaves(wrt, vec![bad; count]))
        }
    }
}

/// The loss again, and its gradient by each leaf.
pub(crate) fn gradients(loss: &Tensor, leaves: &[Tensor], loc: &Loc) -> Result<(Tensor, Vec<Tensor>), Tensor> {
    let (value, _, grads) = with_others(loss, &[], leaves, loc)?;
    Ok((value, grads))
}

type Parts = (Tensor, Vec<Tensor>, Vec<Tensor>);

fn with_others(loss: &Tensor, others: &[Tensor], leaves: &[Tensor], loc: &Loc) -> Result<Parts, Tensor> {
    sound(&[loss])?;
    if loss.rank() > 0 {
        let help = "reduce it, as with mean(), or ask for vjp or jacobian";
        return Err(Tensor::refuse("grad", &[loss], "only a scalar has a gradient", help, loc.clone()));
    }
    floats("grad", "loss", &[(String::new(), loss.clone())], loc)?;
    let outputs: Vec<Tensor> = std::iter::once(loss).chain(others).cloned().collect();
    let over = Over::new("grad", &outputs, leaves)?;
    let graph = derivative::value_and_grad(&over.graph, 0, &over.wrt()).map_err(|e| carry(&e, loc))?;
    let mut outs = export(&graph, &over.args, &scope::region()).into_iter().map(Tensor);
    let value = outs.next().unwrap_or_else(|| loss.clone());
    let others = outs.by_ref().take(others.len()).collect();
    Ok((value, others, over.spread(outs.collect())))
}

//! Directional derivatives: products of the Jacobian with a vector from either side.

use lehr_ir::expr::export;
use lehr_ir::loc::Loc;
use lehr_passes::derivative;

use super::{Over, carry, floats, same_types};
use crate::scope;
use crate::tensor::Tensor;
use crate::tree::{self, Tree};

/// The cotangents of `wrt` from cotangents of `outputs`, leaf by leaf: the vector-Jacobian product.
///
/// # Shapes
/// A cotangent has the type of its output; a result has the type of its leaf of `wrt`.
/// # Errors
/// As [`grad`](super::grad), an output that is no float included; another number of cotangents than outputs, or cotangents of
/// other types.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let ct = vjp(&(&x * &x), &x, &Tensor::from([1.0f32, 10.0]));
/// assert_eq!(ct.to_string(), "[2,40]");
/// ```
#[track_caller]
pub fn vjp<O, T, C>(outputs: &O, wrt: &T, cotangents: &C) -> T::Mapped
where
    O: Tree + ?Sized,
    T: Tree + ?Sized,
    C: Tree + ?Sized,
{
    let loc = Loc::caller();
    let (outs, leaves) = (tree::named_leaves(outputs), tree::named_leaves(wrt));
    let count = leaves.len();
    let found = floats("vjp", "output", &outs, &loc)
        .and_then(|()| floats("vjp", "input", &leaves, &loc))
        .and_then(|()| try_vjp(&unnamed(outs), &unnamed(leaves), &tree::leaves(cotangents), &loc));
    match found {
        Ok(cts) => tree::with_leaves(wrt, cts),
        Err(bad) => tree::with_leaves(wrt, vec![bad; count]),
    }
}

fn try_vjp(outputs: &[Tensor], leaves: &[Tensor], given: &[Tensor], loc: &Loc) -> Result<Vec<Tensor>, Tensor> {
    same_types("vjp", "cotangent", outputs, given, loc)?;
    let mut over = Over::new("vjp", outputs, leaves)?;
    let all: Vec<usize> = (0..outputs.len()).collect();
    let graph = derivative::vjp(&over.graph, &all, &over.wrt()).map_err(|e| carry(&e, loc))?;
    over.args.extend(given.iter().map(|t| t.0.clone()));
    let outs = export(&graph, &over.args, &scope::region()).into_iter().skip(outputs.len()).map(Tensor);
    Ok(over.spread(outs.collect()))
}

/// The tangents of `outputs` from tangents of `wrt`, leaf by leaf: the Jacobian-vector product.
///
/// An output that is no float has the tangent 0, of the output's type.
/// # Shapes
/// A tangent has the type of its leaf of `wrt`; a result has the type of its output.
/// # Errors
/// As [`grad`](super::grad); another number of tangents than leaves, or tangents of other types.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let t = jvp(&(&x * &x), &x, &Tensor::from([1.0f32, 10.0]));
/// assert_eq!(t.to_string(), "[2,40]");
/// ```
#[track_caller]
pub fn jvp<O, T, V>(outputs: &O, wrt: &T, tangents: &V) -> O::Mapped
where
    O: Tree + ?Sized,
    T: Tree + ?Sized,
    V: Tree + ?Sized,
{
    let loc = Loc::caller();
    let (outs, leaves) = (tree::leaves(outputs), tree::named_leaves(wrt));
    let found = floats("jvp", "input", &leaves, &loc)
        .and_then(|()| pushed(&outs, &unnamed(leaves), &tree::leaves(tangents), &[], &loc));
    match found {
        Ok(tangents) => tree::with_leaves(outputs, tangents),
        Err(bad) => tree::with_leaves(outputs, vec![bad; outs.len()]),
    }
}

/// The tangents of outputs, each of its output's type, from those `given` for `leaves`. What is `held` counts as given as well,
/// and does not vary.
pub(crate) fn pushed(
    outputs: &[Tensor],
    leaves: &[Tensor],
    given: &[Tensor],
    held: &[Tensor],
    loc: &Loc,
) -> Result<Vec<Tensor>, Tensor> {
    same_types("jvp", "tangent", leaves, given, loc)?;
    let cut: Vec<Tensor> = leaves.iter().chain(held).cloned().collect();
    let mut over = Over::new("jvp", outputs, &cut)?;
    // Leaves come first, so their parameters do.
    let varying = over.param_of[..leaves.len()].iter().map(|&u| u + 1).max().unwrap_or(0);
    let wrt: Vec<usize> = (0..varying).collect();
    let graph = derivative::jvp(&over.graph, &wrt).map_err(|e| carry(&e, loc))?;
    let sums = over.sums(given);
    over.args.extend(sums.into_iter().map(|t| t.0));
    let outs = export(&graph, &over.args, &scope::region()).into_iter().skip(outputs.len()).map(Tensor);
    Ok(among(outputs, outs))
}

/// What belongs to each output, from what belongs to each float one: the others have zeros.
pub(super) fn among(outputs: &[Tensor], mut floats: impl Iterator<Item = Tensor>) -> Vec<Tensor> {
    let mut all = Vec::with_capacity(outputs.len());
    for o in outputs {
        let varies = o.dtype().is_some_and(lehr_ir::DType::is_inexact);
        all.push(if varies { floats.next().unwrap_or_else(|| o.clone()) } else { o.zeros_like() });
    }
    all
}

pub(super) fn unnamed(leaves: Vec<(String, Tensor)>) -> Vec<Tensor> {
    leaves.into_iter().map(|(_, t)| t).collect()
}

//! Jacobians and Hessians: products with every unit vector, all at once.
//!
//! The unit vectors are a batch, so one derivative is built for each output (reverse) or input (forward), and batched.
//! Sizes may be symbolic.

use lehr_ir::expr::export;
use lehr_ir::loc::Loc;
use lehr_ir::{Dim, Shape, Type};
use lehr_passes::batch;
use lehr_passes::derivative::{self, DiffError};

use super::product::{pushed, unnamed};
use super::{Over, carry, carry_text, floats, gradients};
use crate::scope;
use crate::tensor::Tensor;
use crate::tree::{self, Path, Tree};

/// The derivative of each output by each leaf, in the structure of the outputs with the structure of `wrt` at each leaf.
///
/// Forward mode, [`jacfwd`], where the leaves have fewer elements than the outputs, else reverse mode, [`jacrev`], also where
/// sizes are not known.
/// # Shapes
/// The dims of the output, then the dims of the leaf, in the leaf's dtype.
/// # Errors
/// As [`grad`](super::grad), an output that is no float included.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let (square, sum) = jacobian(&(&x * &x, x.sum()), &x);
/// assert_eq!(square.to_string(), "[[2,0],[0,4]]");
/// assert_eq!(sum.to_string(), "[1,1]");
/// ```
#[track_caller]
pub fn jacobian<O: Tree + ?Sized, T: Tree + ?Sized>(outputs: &O, wrt: &T) -> O::Each<T::Mapped> {
    let loc = Loc::caller();
    let count = |leaves: &[Tensor]| {
        let each = leaves.iter().map(|t| t.0.ty().and_then(|ty| ty.count().as_const()));
        each.sum::<Option<i64>>()
    };
    let sizes = (count(&tree::leaves(wrt)), count(&tree::leaves(outputs)));
    let forward = matches!(sizes, (Some(inputs), Some(outputs)) if inputs < outputs);
    assemble(outputs, wrt, if forward { forward_rows } else { reverse_rows }, &loc)
}

/// The Jacobian by forward mode: one batched [`jvp`](super::jvp) for each leaf.
///
/// # Shapes
/// As [`jacobian`].
/// # Errors
/// As [`jacobian`].
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f64, 2.0]);
/// // Forward over reverse is a Hessian.
/// assert_eq!(jacfwd(&jacrev(&(&x * &x * &x).sum(), &x), &x).to_string(), "[[6,0],[0,12]]");
/// ```
#[track_caller]
pub fn jacfwd<O: Tree + ?Sized, T: Tree + ?Sized>(outputs: &O, wrt: &T) -> O::Each<T::Mapped> {
    let loc = Loc::caller();
    assemble(outputs, wrt, forward_rows, &loc)
}

/// The Jacobian by reverse mode: one batched [`vjp`](super::vjp) for each output.
///
/// # Shapes
/// As [`jacobian`].
/// # Errors
/// As [`jacobian`].
/// ```
/// use lehr::prelude::*;
/// let (a, b) = (Tensor::from([1.0f32, 2.0]), Tensor::from(3.0f32));
/// let (by_a, by_b) = jacrev(&(&a * &b), &(&a, &b));
/// assert_eq!(by_a.to_string(), "[[3,0],[0,3]]");
/// assert_eq!(by_b.to_string(), "[1,2]");
/// ```
#[track_caller]
pub fn jacrev<O: Tree + ?Sized, T: Tree + ?Sized>(outputs: &O, wrt: &T) -> O::Each<T::Mapped> {
    let loc = Loc::caller();
    assemble(outputs, wrt, reverse_rows, &loc)
}

/// The second derivative of a scalar by each pair of leaves: forward mode over the gradient.
///
/// # Shapes
/// The dims of the first leaf, then the dims of the second.
/// # Errors
/// As [`grad`](super::grad).
/// ```
/// use lehr::prelude::*;
/// let (a, b) = (Tensor::from(2.0f64), Tensor::from(3.0f64));
/// let ((aa, ab), (ba, bb)) = hessian(&(&a * &a * &b), &(&a, &b));
/// assert_eq!(format!("{aa} {ab} {ba} {bb}"), "6 4 4 0");
/// ```
#[track_caller]
pub fn hessian<T: Tree + ?Sized>(loss: &Tensor, wrt: &T) -> T::Each<T::Mapped> {
    let loc = Loc::caller();
    let leaves = tree::named_leaves(wrt);
    let count = leaves.len();
    let rows = floats("hessian", "input", &leaves, &loc).and_then(|()| {
        let leaves = unnamed(leaves);
        let (_, grads) = gradients(loss, &leaves, &loc)?;
        forward_rows(&grads, &leaves, &loc)
    });
    each(wrt, wrt, rows, (count, count))
}

/// The second derivative of a scalar times a vector, without the second derivative itself: forward mode over the gradient.
///
/// # Shapes
/// A vector has the type of its leaf, and so has a result.
/// # Errors
/// As [`grad`](super::grad) and [`jvp`](super::jvp).
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f64, 2.0]);
/// let product = hvp(&(&x * &x * &x).sum(), &x, &Tensor::from([1.0f64, 1.0]));
/// assert_eq!(product.to_string(), "[6,12]");
/// ```
#[track_caller]
pub fn hvp<T: Tree + ?Sized, V: Tree + ?Sized>(loss: &Tensor, wrt: &T, vector: &V) -> T::Mapped {
    let loc = Loc::caller();
    let leaves = tree::named_leaves(wrt);
    let count = leaves.len();
    let found = floats("hvp", "input", &leaves, &loc).and_then(|()| {
        let leaves = unnamed(leaves);
        let (_, grads) = gradients(loss, &leaves, &loc)?;
        pushed(&grads, &leaves, &tree::leaves(vector), &[], &loc)
    });
    match found {
        Ok(all) => tree::with_leaves(wrt, all),
        Err(bad) => tree::with_leaves(wrt, vec![bad; count]),
    }
}

/// For each output, its derivative by each leaf.
type Rows = Result<Vec<Vec<Tensor>>, Tensor>;

fn assemble<O: Tree + ?Sized, T: Tree + ?Sized>(
    outputs: &O,
    wrt: &T,
    rows: fn(&[Tensor], &[Tensor], &Loc) -> Rows,
    loc: &Loc,
) -> O::Each<T::Mapped> {
    let (outs, leaves) = (tree::named_leaves(outputs), tree::named_leaves(wrt));
    let counts = (outs.len(), leaves.len());
    let found = floats("jacobian", "output", &outs, loc)
        .and_then(|()| floats("jacobian", "input", &leaves, loc))
        .and_then(|()| rows(&unnamed(outs), &unnamed(leaves), loc));
    each(outputs, wrt, found, counts)
}

fn each<O: Tree + ?Sized, T: Tree + ?Sized>(
    outputs: &O,
    wrt: &T,
    rows: Rows,
    (outs, leaves): (usize, usize),
) -> O::Each<T::Mapped> {
    let mut rows = rows.unwrap_or_else(|bad| vec![vec![bad; leaves]; outs]).into_iter();
    outputs.each(&mut Path::new(), &mut |_, _| tree::with_leaves(wrt, rows.next().unwrap_or_default()))
}

fn reverse_rows(outputs: &[Tensor], leaves: &[Tensor], loc: &Loc) -> Rows {
    let over = Over::new("jacobian", outputs, leaves)?;
    let mut rows = Vec::with_capacity(outputs.len());
    for (k, o) in outputs.iter().enumerate() {
        let Some(ty) = o.0.ty() else { continue };
        let made = derivative::vjp(&over.graph, &[k], &over.wrt());
        let row = of_unit_vectors(&over, made, ty, outputs.len(), loc)?;
        let unique = row.into_iter().zip(&over.args).map(|(t, leaf)| shaped(&t, &ty.shape, leaf.ty()));
        rows.push(over.spread(unique.collect()));
    }
    Ok(rows)
}

fn forward_rows(outputs: &[Tensor], leaves: &[Tensor], loc: &Loc) -> Rows {
    let over = Over::new("jacobian", outputs, leaves)?;
    let mut unique: Vec<Vec<Tensor>> = vec![Vec::new(); outputs.len()];
    for p in over.wrt() {
        let Some(ty) = over.args[p].ty().cloned() else { continue };
        let made = derivative::jvp(&over.graph, &[p]);
        let columns = of_unit_vectors(&over, made, &ty, outputs.len(), loc)?;
        for ((row, o), column) in unique.iter_mut().zip(outputs).zip(columns) {
            // The unit vectors come last.
            let order: Vec<usize> = (1..column.rank()).chain([0]).collect();
            row.push(shaped(&column.permute(order), o.shape(), Some(&ty)));
        }
    }
    Ok(unique.into_iter().map(|row| over.spread(row)).collect())
}

/// What a derivative graph gives for each unit vector of its last parameter, along a new first axis.
fn of_unit_vectors(
    over: &Over,
    made: Result<lehr_ir::Graph, DiffError>,
    ty: &Type,
    skip: usize,
    loc: &Loc,
) -> Result<Vec<Tensor>, Tensor> {
    let graph = made.map_err(|e| carry(&e, loc))?;
    let size = ty.count();
    let mut axes = vec![None; graph.params().len()];
    if let Some(last) = axes.last_mut() {
        *last = Some(0);
    }
    let batched = batch::vmap(&graph, &axes, &size).map_err(|e| carry_text(&e.to_string(), loc))?;
    let shape: Shape = std::iter::once(size.clone()).chain(ty.shape.iter().cloned()).collect();
    let mut args = over.args.clone();
    args.push(Tensor::eye(ty.dtype, size).reshape(shape).0);
    Ok(export(&batched, &args, &scope::region()).into_iter().skip(skip).map(Tensor).collect())
}

/// A derivative in the shape of the output, then of the leaf.
fn shaped(t: &Tensor, output: &[Dim], leaf: Option<&Type>) -> Tensor {
    let leaf = leaf.map(|ty| ty.shape.clone()).unwrap_or_default();
    let shape: Shape = output.iter().cloned().chain(leaf).collect();
    t.reshape(shape)
}

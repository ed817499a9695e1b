//! Batching: a function of one example as a function of many.

use lehr_ir::Dim;
use lehr_ir::expr::export;
use lehr_ir::loc::Loc;
use lehr_passes::batch;

use super::{Over, carry_text};
use crate::closure::placeholder;
use crate::scope;
use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

/// What `f` gives for each slice of `inputs` along an axis, stacked along a new first axis.
///
/// `f` sees the leaves of `inputs` without that axis. A leaf whose axis is `None` is not mapped: `f` sees it as it is, and it
/// serves all slices, as do tensors that `f` captures. Axes are one for all leaves, or a structure of them ([`MapAxes`]).
/// A random key that is mapped, such as a row of [`random::split`](crate::random::split), gives each slice a stream of its own;
/// one that is not gives all slices the same.
/// # Errors
/// Leaves whose sizes along the axis are not provably equal; no leaf that is mapped; an operation without a batching rule.
/// ```
/// use lehr::prelude::*;
/// let rows = Tensor::from([[3.0f32, 4.0], [6.0, 8.0]]);
/// assert_eq!(vmap(&rows, 0, |row| row.norm()).to_string(), "[5,10]");
/// let w = Tensor::from([1.0f32, 10.0]);
/// assert_eq!(vmap(&(&rows, &w), (1, None), |(column, w)| column.dot(w)).to_string(), "[63,84]");
/// ```
#[track_caller]
pub fn vmap<I, O>(inputs: &I, axes: impl MapAxes<I>, f: impl FnOnce(&I::Mapped) -> O) -> O::Mapped
where
    I: Tree + ?Sized,
    O: Tree,
{
    let loc = Loc::caller();
    map_over(inputs, &axes, &0, f, &loc)
}

/// As [`vmap`], with the axis of each result along which its slices are stacked.
///
/// A result whose axis is `None` must not depend on the slice, and comes once.
/// # Errors
/// As [`vmap`]; an axis outside a result, or `None` for one that differs from slice to slice.
/// ```
/// use lehr::prelude::*;
/// let rows = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// let (columns, sums) = vmap_axes(&rows, 0, (1, 0), |row| (row * 10, row.sum()));
/// assert_eq!(columns.to_string(), "[[10,40],[20,50],[30,60]]");
/// assert_eq!(sums.to_string(), "[6,15]");
/// ```
#[track_caller]
pub fn vmap_axes<I, O>(
    inputs: &I,
    in_axes: impl MapAxes<I>,
    out_axes: impl MapAxes<O>,
    f: impl FnOnce(&I::Mapped) -> O,
) -> O::Mapped
where
    I: Tree + ?Sized,
    O: Tree,
{
    let loc = Loc::caller();
    map_over(inputs, &in_axes, &out_axes, f, &loc)
}

/// The axes along which the leaves of a structure are mapped.
///
/// One number for all leaves, negative ones from the end; `None` for leaves that are not mapped; a tuple of axes for a tuple,
/// each for the leaves of its element; a vector or slice of `Option<i64>`, one for each leaf of any structure.
pub trait MapAxes<T: ?Sized> {
    /// Adds the axis of each leaf, in order.
    fn axes(&self, tree: &T, out: &mut Vec<Option<i64>>);
}

macro_rules! numbers {
    ($($ty:ty),*) => { $(
        impl<T: Tree + ?Sized> MapAxes<T> for $ty {
            fn axes(&self, tree: &T, out: &mut Vec<Option<i64>>) {
                let axis = i64::try_from(*self).unwrap_or(i64::MAX);
                out.extend(tree::leaves(tree).iter().map(|_| Some(axis)));
            }
        }
    )* };
}

numbers!(i32, i64, u32, usize, isize);

impl<T: Tree + ?Sized> MapAxes<T> for Option<i64> {
    fn axes(&self, tree: &T, out: &mut Vec<Option<i64>>) {
        out.extend(tree::leaves(tree).iter().map(|_| *self));
    }
}

impl<T: ?Sized> MapAxes<T> for [Option<i64>] {
    fn axes(&self, _: &T, out: &mut Vec<Option<i64>>) {
        out.extend_from_slice(self);
    }
}

impl<T: ?Sized> MapAxes<T> for Vec<Option<i64>> {
    fn axes(&self, _: &T, out: &mut Vec<Option<i64>>) {
        out.extend_from_slice(self);
    }
}

impl<T: ?Sized, X: MapAxes<T> + ?Sized> MapAxes<T> for &X {
    fn axes(&self, tree: &T, out: &mut Vec<Option<i64>>) {
        (**self).axes(tree, out);
    }
}

macro_rules! tuples {
    ($(($($T:ident $X:ident $i:tt),+))*) => { $(
        impl<$($T, $X: MapAxes<$T>),+> MapAxes<($($T,)+)> for ($($X,)+) {
            fn axes(&self, tree: &($($T,)+), out: &mut Vec<Option<i64>>) {
                $(self.$i.axes(&tree.$i, out);)+
            }
        }
    )* };
}

tuples! {
    (A X 0)
    (A X 0, B Y 1)
    (A X 0, B Y 1, C Z 2)
    (A X 0, B Y 1, C Z 2, D W 3)
    (A X 0, B Y 1, C Z 2, D W 3, E V 4)
    (A X 0, B Y 1, C Z 2, D W 3, E V 4, F U 5)
}

fn map_over<I, O>(
    inputs: &I,
    in_axes: &dyn MapAxes<I>,
    out_axes: &dyn MapAxes<O>,
    f: impl FnOnce(&I::Mapped) -> O,
    loc: &Loc,
) -> O::Mapped
where
    I: Tree + ?Sized,
    O: Tree,
{
    let leaves = tree::leaves(inputs);
    let mut axes = Vec::with_capacity(leaves.len());
    in_axes.axes(inputs, &mut axes);
    let slices = match Slices::new(&leaves, &axes, loc) {
        Ok(slices) => slices,
        Err(bad) => {
            let out = f(&tree::with_leaves(inputs, vec![bad.clone(); leaves.len()]));
            let count = tree::leaves(&out).len();
            return tree::with_leaves(&out, vec![bad; count]);
        }
    };
    let out = f(&tree::with_leaves(inputs, slices.seen.clone()));
    let outs = tree::leaves(&out);
    let mut axes = Vec::with_capacity(outs.len());
    out_axes.axes(&out, &mut axes);
    match slices.stack(&outs, &axes, loc) {
        Ok(batched) => tree::with_leaves(&out, batched),
        Err(bad) => tree::with_leaves(&out, vec![bad; outs.len()]),
    }
}

/// What a mapped function sees, and what it stands for.
struct Slices {
    /// For each leaf, a placeholder for one slice of it, or itself.
    seen: Vec<Tensor>,
    /// The mapped leaves: the placeholder, the whole, the axis.
    mapped: Vec<(Tensor, Tensor, usize)>,
    /// How many slices there are.
    size: Dim,
}

impl Slices {
    fn new(leaves: &[Tensor], axes: &[Option<i64>], loc: &Loc) -> Result<Self, Tensor> {
        let refs: Vec<&Tensor> = leaves.iter().collect();
        sound(&refs)?;
        if axes.len() != leaves.len() {
            let rule = format!("{} axes are given for {} leaves", axes.len(), leaves.len());
            return Err(Tensor::refuse("vmap", &[], &rule, "give one axis, or None, for each leaf", loc.clone()));
        }
        let (mut seen, mut mapped, mut size) = (Vec::new(), Vec::new(), None::<Dim>);
        for (leaf, axis) in leaves.iter().zip(axes) {
            let (Some(ty), Some(axis)) = (leaf.0.ty(), *axis) else {
                seen.push(leaf.clone());
                continue;
            };
            let at = leaf.axis_at("vmap", axis, loc)?;
            let mut ty = ty.clone();
            let n = ty.shape.remove(at);
            match &size {
                None => size = Some(n),
                Some(first) if leaf.facts().decide_eq(first, &n) == Some(true) => {}
                Some(first) => {
                    let rule = format!("the batch sizes {first} and {n} must be equal");
                    return Err(Tensor::refuse("vmap", &refs, &rule, "batch tensors of one size", loc.clone()));
                }
            }
            let slice = placeholder("vmap", ty, leaf.facts(), loc);
            seen.push(slice.clone());
            mapped.push((slice, leaf.clone(), at));
        }
        match size {
            Some(size) => Ok(Self { seen, mapped, size }),
            None => {
                let help = "give one or more tensors to map over, with an axis";
                Err(Tensor::refuse("vmap", &[], "no tensor is mapped", help, loc.clone()))
            }
        }
    }

    /// The results over all slices, each stacked along its axis.
    fn stack(&self, outs: &[Tensor], axes: &[Option<i64>], loc: &Loc) -> Result<Vec<Tensor>, Tensor> {
        let refs: Vec<&Tensor> = outs.iter().collect();
        sound(&refs)?;
        if axes.len() != outs.len() {
            let rule = format!("{} axes are given for {} results", axes.len(), outs.len());
            return Err(Tensor::refuse("vmap", &[], &rule, "give one axis, or None, for each result", loc.clone()));
        }
        let slices: Vec<Tensor> = self.mapped.iter().map(|(slice, ..)| slice.clone()).collect();
        let over = Over::new("vmap", outs, &slices)?;
        let mut in_axes = vec![None; over.graph.params().len()];
        let mut args = over.args.clone();
        for (&p, (_, whole, axis)) in over.param_of.iter().zip(&self.mapped) {
            in_axes[p] = Some(*axis);
            args[p] = whole.0.clone();
        }
        let graph = batch::vmap(&over.graph, &in_axes, &self.size).map_err(|e| carry_text(&e.to_string(), loc))?;
        let varies = over.varies(&in_axes);
        let stacked = export(&graph, &args, &scope::region()).into_iter().map(Tensor);
        let mut all = Vec::with_capacity(outs.len());
        for (((t, out), axis), varies) in stacked.zip(outs).zip(axes).zip(varies) {
            all.push(match axis {
                Some(axis) => along(&t, *axis, loc)?,
                None if !varies => out.clone(),
                None => {
                    let rule = "a result without an axis differs from slice to slice";
                    return Err(Tensor::refuse(
                        "vmap",
                        &[out],
                        rule,
                        "give it an axis, or reduce over the slices",
                        loc.clone(),
                    ));
                }
            });
        }
        Ok(all)
    }
}

/// A stack of slices along the first axis, moved to another.
fn along(t: &Tensor, axis: i64, loc: &Loc) -> Result<Tensor, Tensor> {
    let at = t.axis_at("vmap", axis, loc)?;
    if at == 0 {
        return Ok(t.clone());
    }
    let mut order: Vec<usize> = (1..t.rank()).collect();
    order.insert(at, 0);
    Ok(t.permute(order))
}

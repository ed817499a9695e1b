//! Transformations: gradients, directional derivatives, batching.
//!
//! Each imports what is reachable into a graph, transforms it there, and exports new nodes. What goes wrong is carried by the
//! tensors that come out. They compose in any order.

use std::sync::atomic::{AtomicU64, Ordering};

use lehr_ir::attrs::Attrs;
use lehr_ir::expr::{Errors, Expr, Imported, export, import};
use lehr_ir::graph::{Builder, Graph};
use lehr_ir::loc::Loc;
use lehr_ir::{Dim, OpError, Rule};
use lehr_passes::batch;
use lehr_passes::derivative::{self, DiffError};

use crate::composite::Composite;
use crate::scope;
use crate::shape::IntoAxis;
use crate::tensor::{Tensor, settle, sound};
use crate::tree::{self, Tree};

/// The gradient of a scalar by each leaf of a structure, in the same structure.
///
/// Leaves are variables, placeholders, or any tensors that `loss` was made from; these then count as given.
/// A leaf that the loss does not depend on has the gradient 0.
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
pub fn grad<T: Tree>(loss: &Tensor, wrt: &T) -> T::Mapped {
    value_and_grad(loss, wrt).1
}

/// The loss and its gradient, which share what they have in common.
///
/// # Errors
/// As [`grad`].
#[track_caller]
pub fn value_and_grad<T: Tree>(loss: &Tensor, wrt: &T) -> (Tensor, T::Mapped) {
    let loc = Loc::caller();
    let leaves = tree::leaves(wrt);
    match gradients(loss, &leaves, &loc) {
        Ok((value, grads)) => (value, tree::with_leaves(wrt, grads)),
        Err(bad) => (bad.clone(), tree::with_leaves(wrt, vec![bad; leaves.len()])),
    }
}

/// The loss again, and its gradient by each leaf.
pub(crate) fn gradients(loss: &Tensor, leaves: &[Tensor], loc: &Loc) -> Result<(Tensor, Vec<Tensor>), Tensor> {
    let over = Over::new("grad", std::slice::from_ref(loss), leaves)?;
    let graph = derivative::value_and_grad(&over.graph, 0, &over.wrt()).map_err(|e| carry(&e, loc))?;
    let mut outs = export(&graph, &over.args, &scope::region()).into_iter().map(Tensor);
    let value = outs.next().unwrap_or_else(|| loss.clone());
    Ok((value, over.spread(outs.collect())))
}

/// The cotangents of `wrt` from cotangents of `outputs`, leaf by leaf: the vector-Jacobian product.
///
/// # Errors
/// As [`grad`]; another number of cotangents than outputs, or cotangents of other types.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let ct = vjp(&(&x * &x), &x, &Tensor::from([1.0f32, 10.0]));
/// assert_eq!(ct.to_string(), "[2,40]");
/// ```
#[track_caller]
pub fn vjp<O: Tree, T: Tree, C: Tree>(outputs: &O, wrt: &T, cotangents: &C) -> T::Mapped {
    let loc = Loc::caller();
    let leaves = tree::leaves(wrt);
    match try_vjp(&tree::leaves(outputs), &leaves, &tree::leaves(cotangents), &loc) {
        Ok(cts) => tree::with_leaves(wrt, cts),
        Err(bad) => tree::with_leaves(wrt, vec![bad; leaves.len()]),
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
/// # Errors
/// As [`grad`]; another number of tangents than leaves, or tangents of other types.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from([1.0f32, 2.0]);
/// let t = jvp(&(&x * &x), &x, &Tensor::from([1.0f32, 10.0]));
/// assert_eq!(t.to_string(), "[2,40]");
/// ```
#[track_caller]
pub fn jvp<O: Tree, T: Tree, V: Tree>(outputs: &O, wrt: &T, tangents: &V) -> O::Mapped {
    let loc = Loc::caller();
    let outs = tree::leaves(outputs);
    match pushed(&outs, &tree::leaves(wrt), &tree::leaves(tangents), &[], &loc) {
        Ok(tangents) => tree::with_leaves(outputs, tangents),
        Err(bad) => tree::with_leaves(outputs, vec![bad; outs.len()]),
    }
}

/// The tangents of `outputs` from those `given` for `leaves`. What is `held` counts as given as well, and does not vary.
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
    // A leaf that is named twice varies by the sum of its tangents.
    let mut sums: Vec<Option<Tensor>> = vec![None; varying];
    for (t, &u) in given.iter().zip(&over.param_of) {
        sums[u] = Some(sums[u].take().map_or_else(|| t.clone(), |s| s + t));
    }
    over.args.extend(sums.into_iter().flatten().map(|t| t.0));
    let mut outs = export(&graph, &over.args, &scope::region()).into_iter().skip(outputs.len()).map(Tensor);
    let mut all = Vec::with_capacity(outputs.len());
    for o in outputs {
        let varies = o.dtype().is_some_and(lehr_ir::DType::is_inexact);
        all.push(if varies { outs.next().unwrap_or_else(|| o.clone()) } else { o.zeros_like() });
    }
    Ok(all)
}

/// What `f` gives for each slice of `inputs` along an axis, stacked along a new first axis.
///
/// `f` sees the leaves of `inputs` without that axis. Tensors that it captures serve all slices.
/// # Errors
/// Leaves whose sizes along the axis are not provably equal; an operation without a batching rule.
/// ```
/// use lehr::prelude::*;
/// let rows = Tensor::from([[3.0f32, 4.0], [6.0, 8.0]]);
/// assert_eq!(vmap(&rows, 0, |row| row.norm()).to_string(), "[5,10]");
/// ```
#[track_caller]
pub fn vmap<I: Tree, O: Tree>(inputs: &I, axis: impl IntoAxis, f: impl FnOnce(&I::Mapped) -> O) -> O::Mapped {
    let loc = Loc::caller();
    let leaves = tree::leaves(inputs);
    let axis = axis.into_axis();
    let (examples, axes, size) = match examples(&leaves, axis, &loc) {
        Ok(all) => all,
        Err(bad) => {
            let out = f(&tree::with_leaves(inputs, vec![bad.clone(); leaves.len()]));
            let count = tree::leaves(&out).len();
            return tree::with_leaves(&out, vec![bad; count]);
        }
    };
    let out = f(&tree::with_leaves(inputs, examples.clone()));
    let outs = tree::leaves(&out);
    match try_vmap(&outs, &examples, &leaves, &axes, &size, &loc) {
        Ok(batched) => tree::with_leaves(&out, batched),
        Err(bad) => tree::with_leaves(&out, vec![bad; outs.len()]),
    }
}

fn try_vmap(
    outs: &[Tensor],
    examples: &[Tensor],
    leaves: &[Tensor],
    axes: &[usize],
    size: &Dim,
    loc: &Loc,
) -> Result<Vec<Tensor>, Tensor> {
    let over = Over::new("vmap", outs, examples)?;
    let mut in_axes = vec![None; over.graph.params().len()];
    let mut args = over.args.clone();
    for (i, leaf) in leaves.iter().enumerate() {
        let p = over.param_of[i];
        in_axes[p] = Some(axes[i]);
        args[p] = leaf.0.clone();
    }
    let graph = batch::vmap(&over.graph, &in_axes, size).map_err(|e| carry_text(&e.to_string(), loc))?;
    Ok(export(&graph, &args, &scope::region()).into_iter().map(Tensor).collect())
}

type Examples = (Vec<Tensor>, Vec<usize>, Dim);

/// A placeholder for one slice of each leaf, the axes, and how many slices there are.
fn examples(leaves: &[Tensor], axis: i64, loc: &Loc) -> Result<Examples, Tensor> {
    // Nested calls must not take each other's placeholders for their own; users' names start with a letter.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let refs: Vec<&Tensor> = leaves.iter().collect();
    sound(&refs)?;
    let (mut out, mut axes, mut size) = (Vec::new(), Vec::new(), None::<Dim>);
    for leaf in leaves {
        let Some(ty) = leaf.0.ty() else { continue };
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
        let name = format!("%vmap{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut e = Expr::input(&name, ty, loc.clone());
        for fact in leaf.facts().facts() {
            e = e.assume(fact.clone(), loc.clone());
        }
        out.push(Tensor(e));
        axes.push(at);
    }
    match size {
        Some(size) => Ok((out, axes, size)),
        None => Err(Tensor::refuse("vmap", &[], "no tensors are given", "give one or more to map over", loc.clone())),
    }
}

/// `x`, through which no derivative goes.
///
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(3.0f32);
/// assert_eq!(grad(&(stop_gradient(&x) * &x), &x).to_string(), "3");
/// ```
#[track_caller]
pub fn stop_gradient(x: &Tensor) -> Tensor {
    let loc = Loc::caller();
    let call = Composite { name: "stop_gradient", attrs: Attrs::new(), operands: &[x], loc: &loc };
    if x.dtype().is_some_and(|d| !d.is_inexact()) {
        return x.clone();
    }
    settle(call.call_with_jvp(&|p| p[0].clone(), &|p, t| [p[0].clone(), t[0].zeros_like()]))
}

/// A graph of tensors as a function of others.
struct Over {
    graph: Graph,
    /// What the parameters stand for.
    args: Vec<Expr>,
    /// The parameter of each leaf; leaves come first, each once.
    param_of: Vec<usize>,
    /// How many different leaves there are.
    unique: usize,
}

impl Over {
    fn new(name: &str, outputs: &[Tensor], leaves: &[Tensor]) -> Result<Self, Tensor> {
        let refs: Vec<&Tensor> = outputs.iter().chain(leaves).collect();
        sound(&refs)?;
        let mut first: Vec<Expr> = Vec::new();
        let mut param_of = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let known = first.iter().position(|e| is_same_leaf(e, &leaf.0));
            param_of.push(known.unwrap_or(first.len()));
            if known.is_none() {
                first.push(leaf.0.clone());
            }
        }
        let roots: Vec<Expr> = outputs.iter().map(|t| t.0.clone()).collect();
        let failed = |e: Errors| Tensor(Expr::with_errors(e));
        let Imported { graph, roots, args, .. } = import(name, &roots, &first).map_err(failed)?;
        let mut b = Builder::with_graph(graph);
        for (i, root) in roots.into_iter().enumerate() {
            b.output(if i == 0 { "loss".to_owned() } else { format!("out_{i}") }, root);
        }
        Ok(Self { graph: b.finish(), args, param_of, unique: first.len() })
    }

    /// The parameters to differentiate by.
    fn wrt(&self) -> Vec<usize> {
        (0..self.unique).collect()
    }

    /// What belongs to each leaf, from what belongs to each different one.
    fn spread(&self, unique: Vec<Tensor>) -> Vec<Tensor> {
        self.param_of.iter().filter_map(|&u| unique.get(u).cloned()).collect()
    }
}

/// Whether both are one leaf: a variable may be read by several nodes.
fn is_same_leaf(a: &Expr, b: &Expr) -> bool {
    match (a.as_variable(), b.as_variable()) {
        (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
        _ => a.same(b),
    }
}

/// Refuses two lists of tensors of different types.
fn same_types(op: &str, what: &str, of: &[Tensor], given: &[Tensor], loc: &Loc) -> Result<(), Tensor> {
    let refs: Vec<&Tensor> = of.iter().chain(given).collect();
    sound(&refs)?;
    if of.len() != given.len() {
        let rule = format!("{} {what}s are given for {} tensors", given.len(), of.len());
        return Err(Tensor::refuse(op, &[], &rule, &format!("give one {what} for each"), loc.clone()));
    }
    for (x, t) in of.iter().zip(given) {
        if x.0.ty() != t.0.ty() {
            let rule = format!("a {what} has the type of what it belongs to");
            return Err(Tensor::refuse(op, &[x, t], &rule, "cast, reshape or broadcast it", loc.clone()));
        }
    }
    Ok(())
}

/// A tensor that carries why a derivative cannot be built.
fn carry(e: &DiffError, loc: &Loc) -> Tensor {
    match e {
        // These name the operation's own line and the path to it.
        DiffError::Missing(_) | DiffError::NotLinear { .. } | DiffError::Op(_) => {
            carry_text(&e.to_string(), &Loc::UNKNOWN)
        }
        _ => carry_text(&e.to_string(), loc),
    }
}

fn carry_text(text: &str, loc: &Loc) -> Tensor {
    let (op, rest) = text.split_once(": ").unwrap_or(("grad", text));
    let (rule, help) = rest.split_once("\n  = help: ").unwrap_or((rest, ""));
    Tensor(Expr::invalid(OpError::new(op, Vec::new(), Rule::new(rule, help), loc.clone())))
}

//! Transformations: gradients, directional derivatives, Jacobians, batching, rules of one's own.
//!
//! Each imports what is reachable into a graph, transforms it there, and exports new nodes. What goes wrong is carried by the
//! tensors that come out. They take and give [trees](crate::tree), and compose in any order: a Hessian is the forward derivative
//! of a gradient, a per-example gradient is [`vmap`] of [`grad`].
//!
//! A derivative is by floats: a leaf of another dtype is an error, never zeros. What does not depend on a leaf has the derivative
//! zero by it, of the leaf's type, as a constant function does.

use lehr_ir::expr::{Errors, Expr, Imported, import};
use lehr_ir::graph::{Builder, Graph};
use lehr_ir::loc::Loc;
use lehr_ir::{OpError, Rule};
use lehr_passes::derivative::DiffError;

use crate::tensor::{Tensor, sound};

mod checkpoint;
mod custom;
mod grad;
mod jacobian;
mod linearize;
mod product;
mod stop;
mod vmap;

pub use checkpoint::{Checkpoint, checkpoint};
pub use custom::{CustomJvp, CustomVjp, custom_jvp, custom_vjp};
pub(crate) use grad::gradients;
pub use grad::{grad, value_and_grad, value_and_grad_aux};
pub use jacobian::{hessian, hvp, jacfwd, jacobian, jacrev};
pub use linearize::{Linear, linearize};
pub(crate) use product::pushed;
pub use product::{jvp, vjp};
pub use stop::stop_gradient;
pub use vmap::{MapAxes, vmap, vmap_axes};

/// A graph of tensors as a function of others.
#[derive(Clone, Debug)]
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

    /// For each output, whether it depends on one of the parameters that have an axis.
    fn varies(&self, axes: &[Option<usize>]) -> Vec<bool> {
        let mut varies = vec![false; self.graph.value_count()];
        for (flag, axis) in varies.iter_mut().zip(axes) {
            *flag = axis.is_some();
        }
        for (_, node) in self.graph.nodes() {
            if node.operands.iter().any(|v| varies[v.index()]) {
                for v in node.results() {
                    varies[v.index()] = true;
                }
            }
        }
        self.graph.outputs().iter().map(|o| varies[o.value.index()]).collect()
    }

    /// The tangent of each different leaf: one that is named twice varies by the sum of its tangents.
    fn sums(&self, given: &[Tensor]) -> Vec<Tensor> {
        let mut sums: Vec<Option<Tensor>> = vec![None; self.unique];
        for (t, &u) in given.iter().zip(&self.param_of) {
            sums[u] = Some(sums[u].take().map_or_else(|| t.clone(), |s| s + t));
        }
        sums.into_iter().flatten().collect()
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

/// Refuses leaves that do not vary, by their path names.
fn floats(op: &str, what: &str, leaves: &[(String, Tensor)], loc: &Loc) -> Result<(), Tensor> {
    let refs: Vec<&Tensor> = leaves.iter().map(|(_, t)| t).collect();
    sound(&refs)?;
    let Some((name, t)) = leaves.iter().find(|(_, t)| t.dtype().is_some_and(|d| !d.is_inexact())) else {
        return Ok(());
    };
    let named = if name.is_empty() { String::new() } else { format!(" `{name}`") };
    let rule = format!("the {what}{named} is no float, and only floats vary");
    Err(Tensor::refuse(op, &[t], &rule, "convert it to a float dtype, or leave it out", loc.clone()))
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

//! Functions of trees as regions: a call's body, and the graphs of its own derivative.
//!
//! A function is run once on placeholders. What it captures from around it becomes further operands of the call, for regions are
//! closed: the largest values that do not depend on a placeholder, so that nothing outside is computed a second time inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lehr_ir::Type;
use lehr_ir::expr::{Expr, captures, import};
use lehr_ir::facts::Facts;
use lehr_ir::graph::{Builder, ParamKind, Region};
use lehr_ir::loc::Loc;
use lehr_ir::ops::Op;
use smallvec::SmallVec;

use crate::scope;
use crate::tensor::Tensor;

/// A placeholder of a type for the body given to an operation, with what is known of sizes.
pub(crate) fn placeholder(op: &str, ty: Type, facts: &Facts, loc: &Loc) -> Tensor {
    // Nested calls must not take each other's placeholders for their own; users' names start with a letter.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("%{op}{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut e = Expr::input(&name, ty, loc.clone());
    for fact in facts.facts() {
        e = e.assume(fact.clone(), loc.clone());
    }
    Tensor(e)
}

/// Placeholders of the types of tensors; what carries an error stands for itself.
pub(crate) fn placeholders(of: &[Tensor], loc: &Loc) -> Vec<Tensor> {
    let each = of.iter().map(|t| match t.0.ty() {
        Some(ty) => placeholder("function", ty.clone(), t.facts(), loc),
        None => t.clone(),
    });
    each.collect()
}

/// What `roots` are made from besides `params`; each once, and each variable and input once.
pub(crate) fn captured(roots: &[Tensor], params: &[Tensor], known: &mut Vec<Tensor>) {
    let exprs = |all: &[Tensor]| all.iter().map(|t| t.0.clone()).collect::<Vec<Expr>>();
    for e in captures(&exprs(roots), &exprs(params), &|_| true, true) {
        if !known.iter().any(|k| is_same(&k.0, &e)) {
            known.push(Tensor(e));
        }
    }
}

/// Whether a tensor depends on one of some others.
pub(crate) fn depends(t: &Tensor, on: &[Tensor]) -> bool {
    let on: Vec<Expr> = on.iter().map(|t| t.0.clone()).collect();
    let found = captures(std::slice::from_ref(&t.0), &on, &|_| true, true);
    // What does not depend on them is captured as a whole.
    !matches!(found.as_slice(), [whole] if whole.same(&t.0))
}

pub(crate) fn is_same(a: &Expr, b: &Expr) -> bool {
    match (a.as_variable(), b.as_variable(), a.as_input(), b.as_input()) {
        (Some(a), Some(b), ..) => Arc::ptr_eq(a, b),
        (_, _, Some(a), Some(b)) => a == b,
        _ => a.same(b),
    }
}

/// The closed graph from parameters, each with its name, to results.
pub(crate) fn region(name: &str, params: &[(String, Tensor)], results: &[(String, Tensor)]) -> Result<Region, Tensor> {
    let first: Vec<Expr> = params.iter().map(|(_, t)| t.0.clone()).collect();
    let roots: Vec<Expr> = results.iter().map(|(_, t)| t.0.clone()).collect();
    let imported = import(name, &roots, &first).map_err(|e| Tensor(Expr::with_errors(e)))?;
    let mut body = Builder::with_graph(imported.graph);
    for ((name, _), &root) in results.iter().zip(&imported.roots) {
        body.output(name.clone(), root);
    }
    let body = body.finish();
    // Placeholders have names that no two have in common; equal functions must give equal regions.
    let mut b = Builder::new(name);
    b.set_facts(body.facts.clone());
    let mut args = Vec::with_capacity(params.len());
    for ((name, _), ty) in params.iter().zip(body.param_types()) {
        args.push(b.param(name.clone(), ParamKind::Input, ty.clone()));
    }
    for (o, v) in body.outputs().iter().zip(b.inline(&body, &args)) {
        b.output(o.name.clone(), v);
    }
    Ok(b.into_region())
}

/// Tensors with names made of a letter and their position.
pub(crate) fn numbered(prefix: &str, all: &[Tensor]) -> Vec<(String, Tensor)> {
    all.iter().enumerate().map(|(i, t)| (format!("{prefix}{i}"), t.clone())).collect()
}

/// All results of an operation.
pub(crate) fn apply_all(op: impl Into<Op>, operands: &[Tensor], loc: &Loc) -> Vec<Tensor> {
    let operands: SmallVec<[Expr; 3]> = operands.iter().map(|t| t.0.clone()).collect();
    Expr::apply(op.into(), &operands, loc.clone(), scope::current()).into_iter().map(Tensor).collect()
}

/// Whether a tensor varies.
pub(crate) fn is_inexact(t: &Tensor) -> bool {
    t.dtype().is_some_and(lehr_ir::DType::is_inexact)
}

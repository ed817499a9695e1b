//! Closures as regions: placeholders for their parameters, and what they capture.

use std::sync::atomic::{AtomicU64, Ordering};

use lehr_ir::expr::{Expr, captures};
use lehr_ir::facts::Facts;
use lehr_ir::graph::Region;
use lehr_ir::loc::Loc;
use lehr_ir::ops::Op;
use lehr_ir::{OpError, Rule, Type};
use smallvec::SmallVec;

use crate::closure::{self, apply_all, is_same, numbered, placeholder};
use crate::scope;
use crate::tensor::{Tensor, sound};

/// A mark that no other region of the process has.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A closure that is being traced.
pub(crate) struct Trace<'a> {
    op: &'a str,
    loc: &'a Loc,
    mark: u64,
    params: Vec<Tensor>,
    names: Vec<String>,
}

/// A closure that has been traced.
pub(crate) struct Traced<'a> {
    trace: Trace<'a>,
    /// What it gave.
    pub(crate) outs: Vec<Tensor>,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(op: &'a str, loc: &'a Loc) -> Self {
        Self { op, loc, mark: fresh(), params: Vec::new(), names: Vec::new() }
    }

    /// A placeholder of a type, about whose sizes some facts are known.
    pub(crate) fn param(&mut self, name: &str, ty: Type, facts: &Facts) -> Tensor {
        let param = placeholder(self.op, ty, facts, self.loc);
        self.params.push(param.clone());
        self.names.push(name.to_owned());
        param
    }

    /// Runs the closure.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        scope::within_region(self.mark, f)
    }

    pub(crate) fn gave(self, outs: Vec<Tensor>) -> Traced<'a> {
        Traced { trace: self, outs }
    }
}

impl Traced<'_> {
    /// What the closure captures. If `hoist` is set, what it computes without its parameters counts as captured.
    pub(crate) fn captures(&self, hoist: bool) -> Vec<Expr> {
        let t = &self.trace;
        let inside = |e: &Expr| scope::is_within(e.scope(), t.mark);
        union([captures(&exprs(&self.outs), &exprs(&t.params), &inside, hoist)])
    }

    /// The region from what is captured, then the parameters, to what the closure gave.
    pub(crate) fn region(&self, captured: &[Expr]) -> Result<Region, Tensor> {
        let t = &self.trace;
        let refs: Vec<&Tensor> = self.outs.iter().collect();
        sound(&refs)?;
        let around = captured.iter().enumerate().map(|(i, e)| (captured_name(e, i), Tensor(e.clone())));
        let mut names: Vec<String> = Vec::new();
        let params = around.chain(t.names.iter().cloned().zip(t.params.iter().cloned()));
        let params: Vec<(String, Tensor)> = params.map(|(name, p)| (distinct(name, &mut names), p)).collect();
        closure::region(t.op, &params, &numbered("out_", &self.outs))
    }
}

/// A tensor that carries an error about types.
pub(super) fn refuse(op: &str, types: &[Type], rule: String, help: &str, loc: &Loc) -> Tensor {
    Tensor(Expr::invalid(OpError::new(op, types.to_vec(), Rule::new(rule, help), loc.clone())))
}

/// All results of an operation; one tensor for each of `count`, or that carries the error.
pub(super) fn apply(op: Op, operands: &[Expr], count: usize, loc: &Loc) -> Vec<Tensor> {
    let operands: Vec<Tensor> = operands.iter().cloned().map(Tensor).collect();
    let mut results = apply_all(op, &operands, loc);
    if let ([bad], true) = (results.as_slice(), count != 1) {
        results = vec![bad.clone(); count];
    }
    results
}

pub(super) fn exprs(tensors: &[Tensor]) -> Vec<Expr> {
    tensors.iter().map(|t| t.0.clone()).collect()
}

fn captured_name(e: &Expr, i: usize) -> String {
    match (e.as_variable(), e.as_input()) {
        (Some(v), _) => v.name.clone(),
        (_, Some(name)) if !name.starts_with('%') => name.to_owned(),
        _ => format!("const_{i}"),
    }
}

fn distinct(wish: String, taken: &mut Vec<String>) -> String {
    let mut name = wish.clone();
    let mut i = 2;
    while taken.contains(&name) {
        name = format!("{wish}.{i}");
        i += 1;
    }
    taken.push(name.clone());
    name
}

/// The captured expressions of several closures together, each once, and so each variable and input.
pub(super) fn union(all: impl IntoIterator<Item = Vec<Expr>>) -> Vec<Expr> {
    let mut out: Vec<Expr> = Vec::new();
    for e in all.into_iter().flatten() {
        if !out.iter().any(|known| is_same(known, &e)) {
            out.push(e);
        }
    }
    out
}

/// The leaves of a structure with names for parameters: their paths behind a prefix.
pub(super) fn named(prefix: &str, leaves: &[(String, Tensor)]) -> Vec<String> {
    let name = |(path, _): &(String, Tensor)| match path.chars().next() {
        None | Some('[') => format!("{prefix}{path}"),
        Some(_) => path.clone(),
    };
    leaves.iter().map(name).collect()
}

/// The types of tensors that carry no errors.
pub(super) fn types(tensors: &[Tensor]) -> SmallVec<[Type; 4]> {
    tensors.iter().filter_map(|t| t.0.ty()).cloned().collect()
}

/// What two tensors that disagree are and where they were made, for a message.
pub(super) fn at(t: &Tensor) -> String {
    let loc = t.0.loc();
    if loc.is_known() { format!(" ({loc})") } else { String::new() }
}

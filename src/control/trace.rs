//! Closures as regions: placeholders for their parameters, and what they capture.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lehr_ir::expr::{Expr, Imported, captures, import};
use lehr_ir::facts::Facts;
use lehr_ir::graph::{Builder, ParamKind, Region};
use lehr_ir::loc::Loc;
use lehr_ir::ops::Op;
use lehr_ir::{OpError, Rule, Type};
use smallvec::SmallVec;

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
        // Users' names start with a letter, and no two regions share a name.
        let mut e = Expr::input(&format!("%{}{}", self.op, fresh()), ty, self.loc.clone());
        for fact in facts.facts() {
            e = e.assume(fact.clone(), self.loc.clone());
        }
        self.params.push(Tensor(e.clone()));
        self.names.push(name.to_owned());
        Tensor(e)
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
        captures(&exprs(&self.outs), &exprs(&t.params), &inside, hoist)
    }

    /// The region from what is captured, then the parameters, to what the closure gave.
    pub(crate) fn region(&self, captured: &[Expr]) -> Result<Region, Tensor> {
        let t = &self.trace;
        let refs: Vec<&Tensor> = self.outs.iter().collect();
        sound(&refs)?;
        // Of two captured readings of one variable the region takes the first, so each is cut off by a placeholder of its own.
        let first: Vec<Expr> = captured.iter().cloned().chain(exprs(&t.params)).collect();
        let failed = |e| Tensor(Expr::with_errors(e));
        let Imported { graph, roots, args, .. } = import(t.op, &exprs(&self.outs), &first).map_err(failed)?;
        let mut b = Builder::new(t.op);
        b.set_facts(graph.facts.clone());
        // The region's parameters in order; the imported graph has those that are one leaf once.
        let mut names: Vec<String> = Vec::new();
        let mut values = Vec::with_capacity(first.len());
        for (i, e) in first.iter().enumerate() {
            let name = match i.checked_sub(captured.len()) {
                Some(k) => t.names[k].clone(),
                None => captured_name(e, i),
            };
            let Some(ty) = e.ty() else { continue };
            b.loc = e.loc().clone();
            values.push(b.param(distinct(name, &mut names), ParamKind::Input, ty.clone()));
        }
        let place = |arg: &Expr| first.iter().position(|e| is_same(e, arg)).map(|i| values[i]);
        let inputs: Option<Vec<_>> = args.iter().map(place).collect();
        let Some(inputs) = inputs else {
            return Err(t.refuse(&[], "the body uses a value that cannot be found", "report this as a defect of lehr"));
        };
        let mut body = Builder::with_graph(graph);
        for (i, root) in roots.into_iter().enumerate() {
            body.output(format!("out_{i}"), root);
        }
        b.loc = Loc::UNKNOWN;
        let outs = b.inline(&body.finish(), &inputs);
        for (i, v) in outs.into_iter().enumerate() {
            b.output(format!("out_{i}"), v);
        }
        Ok(b.into_region())
    }
}

impl Trace<'_> {
    fn refuse(&self, types: &[Type], rule: &str, help: &str) -> Tensor {
        refuse(self.op, types, rule.to_owned(), help, self.loc)
    }
}

/// A tensor that carries an error about types.
pub(super) fn refuse(op: &str, types: &[Type], rule: String, help: &str, loc: &Loc) -> Tensor {
    Tensor(Expr::invalid(OpError::new(op, types.to_vec(), Rule::new(rule, help), loc.clone())))
}

/// All results of an operation; one tensor for each of `count`, or that carries the error.
pub(super) fn apply(op: Op, operands: &[Expr], count: usize, loc: &Loc) -> Vec<Tensor> {
    let results = Expr::apply(op, operands, loc.clone(), scope::current());
    match results.len() == count {
        true => results.into_iter().map(Tensor).collect(),
        false => vec![results.into_iter().next().map_or_else(|| Tensor(Expr::with_errors(no_errors())), Tensor); count],
    }
}

fn no_errors() -> lehr_ir::expr::Errors {
    let rule = Rule::new("the operation gave nothing", "report this as a defect of lehr");
    match Expr::invalid(OpError::new("control", Vec::new(), rule, Loc::UNKNOWN)).errors() {
        Some(e) => e.clone(),
        None => unreachable!("an invalid expression carries errors"),
    }
}

pub(super) fn exprs(tensors: &[Tensor]) -> Vec<Expr> {
    tensors.iter().map(|t| t.0.clone()).collect()
}

/// Whether both are the same leaf or the same result.
fn is_same(a: &Expr, b: &Expr) -> bool {
    match (a.as_variable(), b.as_variable(), a.as_input(), b.as_input()) {
        (Some(a), Some(b), ..) => Arc::ptr_eq(a, b),
        (_, _, Some(a), Some(b)) => a == b,
        _ => a.same(b),
    }
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

/// The captured expressions of several closures together, each once.
pub(super) fn union(all: impl IntoIterator<Item = Vec<Expr>>) -> Vec<Expr> {
    let mut out: Vec<Expr> = Vec::new();
    for e in all.into_iter().flatten() {
        if !out.iter().any(|known| known.same(&e)) {
            out.push(e);
        }
    }
    out
}

/// The leaves of a structure with names for parameters: their paths behind a prefix.
pub(super) fn named(prefix: &str, leaves: &[(String, Tensor)]) -> Vec<String> {
    let name = |(path, _): &(String, Tensor)| match (path.is_empty(), path.starts_with(|c: char| c.is_ascii_digit())) {
        (true, _) => prefix.to_owned(),
        (false, true) => format!("{prefix}.{path}"),
        (false, false) => path.clone(),
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

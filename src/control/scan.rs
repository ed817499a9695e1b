//! `scan` and `map`: loops over the rows of arrays.

use lehr_ir::Dim;
use lehr_ir::expr::Expr;
use lehr_ir::graph::{Builder, ParamKind, Region, Value};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{Concat, Scan};

use super::trace::{self, Trace, apply, exprs, refuse};
use crate::shape::{IntoDim, ShapeError};
use crate::tensor::{Tensor, facts_of, sound};
use crate::tree::{self, Tree};

/// How a scan runs.
///
/// ```
/// use lehr::control::{ScanOptions, scan_with};
/// use lehr::prelude::*;
/// let powers = scan_with(ScanOptions::times(4), &Tensor::from(1.0f32), &(), |x, _| (x * 2.0, x.clone())).1;
/// assert_eq!(powers.to_string(), "[1,2,4,8]");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ScanOptions {
    length: Option<Result<Dim, ShapeError>>,
    reverse: bool,
    unroll: usize,
}

impl ScanOptions {
    /// The number of iterations; needed where nothing is scanned.
    pub fn times(length: impl IntoDim) -> Self {
        Self { length: Some(length.into_dim()), ..Self::default() }
    }

    /// Goes from the last row to the first. Stacked results keep the order of the rows.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// Puts so many iterations into one, where the number of iterations is known; those that are left over run in a loop of
    /// their own. Values are the same.
    pub fn unroll(mut self, times: usize) -> Self {
        self.unroll = times;
        self
    }
}

/// A loop over the rows of `xs` (slices along the first axis of each leaf) with values carried along.
///
/// `body` takes the carry and a row, and gives the new carry, of the same types, and a row of the result. Returns the last carry
/// and the stacked rows. With no rows the carry is the initial one. Differentiable in both modes; reverse mode keeps what the
/// body's derivative needs from each iteration.
/// # Shapes
/// Leaves of `xs` are `[n, ...]` of one `n`; leaves of the result `[n, ...]`.
/// # Errors
/// A carry whose type changes, with both lines; leaves of unequal length or without an axis; no leaf to scan and no length.
/// # Source
/// JAX's `lax.scan`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::scan;
/// let x = Tensor::from(1.5f32);
/// // Horner's rule: 2x² + 3x + 4.
/// let (y, ()) = scan(&Tensor::from(0.0f32), &Tensor::from([2.0f32, 3.0, 4.0]), |acc, c| (acc * &x + c, ()));
/// assert_eq!(y.to_string(), "13");
/// assert_eq!(grad(&y, &x).to_string(), "9");
/// ```
#[track_caller]
pub fn scan<C: Tree, X: Tree, N: Tree, Y: Tree>(
    init: &C,
    xs: &X,
    body: impl FnOnce(&C::Mapped, &X::Mapped) -> (N, Y),
) -> (C::Mapped, Y::Mapped) {
    scan_at("scan", ScanOptions::default(), init, xs, body, &Loc::caller())
}

/// [`scan`] with a length, from the last row, or unrolled.
///
/// # Errors
/// As [`scan`]; a length that is not the rows'.
#[track_caller]
pub fn scan_with<C: Tree, X: Tree, N: Tree, Y: Tree>(
    options: ScanOptions,
    init: &C,
    xs: &X,
    body: impl FnOnce(&C::Mapped, &X::Mapped) -> (N, Y),
) -> (C::Mapped, Y::Mapped) {
    scan_at("scan", options, init, xs, body, &Loc::caller())
}

/// What `f` gives for each row of `xs`, stacked: a loop, where [`vmap`](crate::vmap) is one computation over all rows.
///
/// # Errors
/// As [`scan`].
/// ```
/// use lehr::prelude::*;
/// use lehr::control::map;
/// assert_eq!(map(&Tensor::from([[3.0f32, 4.0], [6.0, 8.0]]), |row| row.norm()).to_string(), "[5,10]");
/// ```
#[track_caller]
pub fn map<X: Tree, Y: Tree>(xs: &X, f: impl FnOnce(&X::Mapped) -> Y) -> Y::Mapped {
    scan_at("map", ScanOptions::default(), &(), xs, |&(), x| ((), f(x)), &Loc::caller()).1
}

pub(super) fn scan_at<C: Tree, X: Tree, N: Tree, Y: Tree>(
    op: &str,
    options: ScanOptions,
    init: &C,
    xs: &X,
    body: impl FnOnce(&C::Mapped, &X::Mapped) -> (N, Y),
    loc: &Loc,
) -> (C::Mapped, Y::Mapped) {
    let (carries, rows) = (tree::named_leaves(init), tree::named_leaves(xs));
    let all: Vec<Tensor> = carries.iter().chain(&rows).map(|(_, t)| t.clone()).collect();
    let refs: Vec<&Tensor> = all.iter().collect();
    let facts = facts_of(&refs);
    let mut trace = Trace::new(op, loc);
    let started = sound(&refs).and_then(|()| length_of(op, &options, &rows, loc));
    // A body that cannot be traced still runs, so that its errors and its structure come out.
    let length = started.as_ref().map_or_else(|_| Dim::from(0), Clone::clone);
    let mut params = Vec::new();
    let names = trace::named("carry", &carries).into_iter().chain(trace::named("x", &rows));
    for (i, (t, name)) in all.iter().zip(names).enumerate() {
        params.push(match (t.0.ty(), &started) {
            (Some(ty), Ok(_)) => {
                let mut ty = ty.clone();
                if i >= carries.len() {
                    ty.shape.remove(0);
                }
                trace.param(&name, ty, &facts)
            }
            (_, Err(bad)) => bad.clone(),
            (None, _) => t.clone(),
        });
    }
    let x_params = params.split_off(carries.len());
    let (new, ys) = trace.run(|| body(&tree::with_leaves(init, params.clone()), &tree::with_leaves(xs, x_params)));
    let (new, y_leaves) = (tree::leaves(&new), tree::leaves(&ys));
    let done = started.and_then(|_| {
        same_carries(op, &carries, &params, &new, loc)?;
        let traced = trace.gave(new.iter().chain(&y_leaves).cloned().collect());
        let captured = traced.captures(true);
        let region = traced.region(&captured)?;
        let scan =
            Scan { body: region, consts: captured.len(), carries: carries.len(), length, reverse: options.reverse };
        Ok(emit(scan, &captured, &exprs(&all), options.unroll, loc))
    });
    match done {
        Ok(mut results) => {
            let ys_out = results.split_off(carries.len());
            (tree::with_leaves(init, results), tree::with_leaves(&ys, ys_out))
        }
        Err(bad) => (
            tree::with_leaves(init, vec![bad.clone(); carries.len()]),
            tree::with_leaves(&ys, vec![bad; y_leaves.len()]),
        ),
    }
}

/// The number of iterations, which options and rows agree on.
fn length_of(op: &str, options: &ScanOptions, rows: &[(String, Tensor)], loc: &Loc) -> Result<Dim, Tensor> {
    let mut length: Option<(Dim, String)> = match &options.length {
        None => None,
        Some(Ok(d)) => Some((d.clone(), "the length asked for".to_owned())),
        Some(Err(e)) => return Err(refuse(op, &[], e.to_string(), "give a number or a polynomial of names", loc)),
    };
    if let Some((d, _)) = length.as_ref().filter(|(d, _)| d.as_const().is_some_and(|n| n < 0)) {
        return Err(refuse(op, &[], format!("the length {d} is negative"), "give a length ≥ 0", loc));
    }
    for (name, (_, t)) in trace::named("x", rows).iter().zip(rows) {
        let ty = t.0.ty().into_iter().cloned().collect::<Vec<_>>();
        let Some(n) = t.shape().first() else {
            let rule = format!("`{name}` is scanned row by row and has no axis{}", trace::at(t));
            return Err(refuse(op, &ty, rule, "give it a first axis, or capture it in the body", loc));
        };
        match &length {
            None => length = Some((n.clone(), format!("the first dim of `{name}`{}", trace::at(t)))),
            Some((known, whose)) => {
                if t.facts().decide_eq(known, n) != Some(true) {
                    let rule = format!(
                        "{whose} is {known} and the first dim of `{name}`{} is {n}; all must be equal",
                        trace::at(t)
                    );
                    let help = "slice them to one length, or assume that they are equal";
                    return Err(refuse(op, &ty, rule, help, loc));
                }
            }
        }
    }
    length.map(|(d, _)| d).ok_or_else(|| {
        refuse(op, &[], "nothing is scanned and no length is given".to_owned(), "pass ScanOptions::times(n)", loc)
    })
}

/// Refuses new carries of other types than the old ones.
pub(super) fn same_carries(
    op: &str,
    before: &[(String, Tensor)],
    params: &[Tensor],
    after: &[Tensor],
    loc: &Loc,
) -> Result<(), Tensor> {
    let refs: Vec<&Tensor> = after.iter().collect();
    sound(&refs)?;
    if before.len() != after.len() {
        let rule = format!("the body takes a carry of {} tensors and gives one of {}", before.len(), after.len());
        return Err(refuse(op, &[], rule, "give a new value for each part of the carry", loc));
    }
    for (((name, init), param), new) in before.iter().zip(params).zip(after) {
        let (Some(a), Some(b)) = (param.0.ty(), new.0.ty()) else { continue };
        let same = a.dtype == b.dtype
            && a.rank() == b.rank()
            && a.shape.iter().zip(&b.shape).all(|(x, y)| new.facts().decide_eq(x, y) == Some(true));
        if !same {
            let name = if name.is_empty() { "the carry".to_owned() } else { format!("the carry `{name}`") };
            let rule = format!(
                "{name} is {a} before an iteration{} and {b} after it{}; it must keep its type",
                trace::at(init),
                trace::at(new)
            );
            let help = "cast, reshape or broadcast one of the two";
            return Err(refuse(op, &[a.clone(), b.clone()], rule, help, loc));
        }
    }
    Ok(())
}

/// The operation, or two of them if iterations are put together and some are left over.
fn emit(scan: Scan, captured: &[Expr], args: &[Expr], unroll: usize, loc: &Loc) -> Vec<Tensor> {
    let count = scan.body.outputs().len();
    let n = scan.length.as_const().and_then(|n| usize::try_from(n).ok()).filter(|n| unroll > 1 && *n >= unroll);
    let Some(n) = n else {
        let operands: Vec<Expr> = captured.iter().chain(args).cloned().collect();
        return apply(scan.into(), &operands, count, loc);
    };
    let whole = n - n % unroll;
    // From the last row on, the rows that are left over are the first ones.
    let (main, rest) = if scan.reverse { ((n - whole, n), (0, n - whole)) } else { ((0, whole), (whole, n)) };
    let Some(big) = unrolled(&scan.body, &scan, unroll) else {
        let operands: Vec<Expr> = captured.iter().chain(args).cloned().collect();
        return apply(scan.into(), &operands, count, loc);
    };
    let (inits, rows) = args.split_at(scan.carries);
    let part = |t: &Expr, (from, to): (usize, usize)| Tensor(t.clone()).slice(from as i64..to as i64);
    let grouped = |t: &Expr| {
        let t = part(t, main);
        let mut shape = vec![Dim::from(whole / unroll), Dim::from(unroll)];
        shape.extend(t.shape().iter().skip(1).cloned());
        t.reshape(shape.as_slice()).0
    };
    let operands: Vec<Expr> = captured.iter().chain(inits).cloned().chain(rows.iter().map(grouped)).collect();
    let op = Scan { body: big, length: Dim::from(whole / unroll), ..scan.clone() };
    let mut results = apply(op.into(), &operands, count, loc);
    for t in &mut results[scan.carries..] {
        let mut shape = vec![Dim::from(whole)];
        shape.extend(t.shape().iter().skip(2).cloned());
        *t = t.reshape(shape.as_slice());
    }
    if whole == n {
        return results;
    }
    let carried = exprs(&results[..scan.carries]);
    let left = rows.iter().map(|t| part(t, rest).0);
    let operands: Vec<Expr> = captured.iter().cloned().chain(carried).chain(left).collect();
    let op = Scan { length: Dim::from(rest.1 - rest.0), ..scan.clone() };
    let mut last = apply(op.into(), &operands, count, loc);
    for (done, more) in results.iter().zip(&mut last).skip(scan.carries) {
        let parts = if scan.reverse { [more.clone(), done.clone()] } else { [done.clone(), more.clone()] };
        *more = Tensor::concat(&parts, 0);
    }
    last
}

/// A body of so many iterations; rows have a first axis of that length. `None` if an operation is refused.
fn unrolled(body: &Region, scan: &Scan, times: usize) -> Option<Region> {
    let mut b = Builder::new(body.name.clone());
    b.set_facts(body.facts.clone());
    let fixed = scan.consts + scan.carries;
    let mut params: Vec<Value> = Vec::new();
    for (i, (p, ty)) in body.params().iter().zip(body.param_types()).enumerate() {
        let mut ty = ty.clone();
        if i >= fixed {
            ty.shape.insert(0, Dim::from(times));
        }
        params.push(b.param(p.name.clone(), ParamKind::Input, ty));
    }
    let mut carries = params[scan.consts..fixed].to_vec();
    let mut rows: Vec<Vec<Value>> = vec![Vec::new(); body.outputs().len() - scan.carries];
    for step in 0..times {
        let at = if scan.reverse { times - 1 - step } else { step };
        let mut args: Vec<Value> = params[..scan.consts].iter().chain(&carries).copied().collect();
        for &x in &params[fixed..] {
            let shape = b.ty(x).shape.clone();
            let mut start: lehr_ir::Shape = shape.iter().map(|_| Dim::ZERO).collect();
            let mut limit = shape.clone();
            (start[0], limit[0]) = (Dim::from(at), Dim::from(at + 1));
            let slice = lehr_ir::ops::Slice { start, limit, stride: shape.iter().map(|_| 1).collect() };
            let row = b.op(slice.into(), &[x]).ok()?;
            args.push(b.reshape(row, &shape[1..]).ok()?);
        }
        let outs = b.inline(body, &args);
        carries = outs[..scan.carries].to_vec();
        for (row, &v) in rows.iter_mut().zip(&outs[scan.carries..]) {
            let shape: Vec<Dim> = std::iter::once(Dim::from(1)).chain(b.ty(v).shape.iter().cloned()).collect();
            row.push(b.reshape(v, &shape).ok()?);
        }
    }
    for (o, v) in body.outputs().iter().zip(carries) {
        b.output(o.name.clone(), v);
    }
    for (o, mut row) in body.outputs().iter().skip(scan.carries).zip(rows) {
        if scan.reverse {
            row.reverse();
        }
        let v = b.op(Concat { axis: 0 }.into(), &row).ok()?;
        b.output(o.name.clone(), v);
    }
    Some(b.into_region())
}

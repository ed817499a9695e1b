//! `while_loop` and `fori_loop`.

use lehr_ir::DType;
use lehr_ir::graph::Region;
use lehr_ir::loc::Loc;
use lehr_ir::ops::While;

use super::scan::{ScanOptions, same_carries, scan_at};
use super::trace::{self, Trace, apply, exprs, refuse, types, union};
use crate::tensor::{Tensor, facts_of, sound};
use crate::tree::{self, Tree};

/// Applies `body` to a carry as long as `cond` of it holds.
///
/// Forward mode goes through it; reverse mode is an error that names [`scan`](super::scan) and [`fori_loop`], since the number of
/// iterations is not known beforehand. Under [`vmap`](crate::vmap) it runs until the last example is through.
/// # Errors
/// A condition that is no `bool[]`; a carry whose type changes, with both lines.
/// # Source
/// JAX's `lax.while_loop`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::while_loop;
/// // The least power of two that is not below 100.
/// let x = while_loop(&Tensor::from(1i64), |x| x.lt(100), |x| x * 2);
/// assert_eq!(x.to_string(), "128");
/// ```
#[track_caller]
pub fn while_loop<C: Tree, N: Tree>(
    init: &C,
    cond: impl FnOnce(&C::Mapped) -> Tensor,
    body: impl FnOnce(&C::Mapped) -> N,
) -> C::Mapped {
    while_at("while_loop", init, cond, body, &Loc::caller())
}

fn while_at<C: Tree, N: Tree>(
    op: &str,
    init: &C,
    cond: impl FnOnce(&C::Mapped) -> Tensor,
    body: impl FnOnce(&C::Mapped) -> N,
    loc: &Loc,
) -> C::Mapped {
    let carries = tree::named_leaves(init);
    let all: Vec<Tensor> = carries.iter().map(|(_, t)| t.clone()).collect();
    let refs: Vec<&Tensor> = all.iter().collect();
    let started = sound(&refs);
    let facts = facts_of(&refs);
    let names = trace::named("carry", &carries);
    let params = |trace: &mut Trace<'_>| -> Vec<Tensor> {
        let param = |(t, name): (&Tensor, &String)| match (t.0.ty(), &started) {
            (Some(ty), Ok(())) => trace.param(name, ty.clone(), &facts),
            (_, Err(bad)) => bad.clone(),
            (None, _) => t.clone(),
        };
        all.iter().zip(&names).map(param).collect()
    };
    let (mut cond_trace, mut body_trace) = (Trace::new(op, loc), Trace::new(op, loc));
    let (cond_params, body_params) = (params(&mut cond_trace), params(&mut body_trace));
    let go = cond_trace.run(|| cond(&tree::with_leaves(init, cond_params)));
    let new = body_trace.run(|| tree::leaves(&body(&tree::with_leaves(init, body_params.clone()))));
    let done = started.clone().and_then(|()| {
        sound(&[&go])?;
        if go.dtype() != Some(DType::Bool) || go.rank() != 0 {
            let rule = format!("the condition{} must be one bool[]", trace::at(&go));
            let help = "compare, and reduce with all() or any()";
            return Err(refuse(op, &types(std::slice::from_ref(&go)), rule, help, loc));
        }
        same_carries(op, &carries, &body_params, &new, loc)?;
        let (cond, body) = (cond_trace.gave(vec![go]), body_trace.gave(new));
        let captured = union([cond.captures(true), body.captures(true)]);
        let (cond, body): (Region, Region) = (cond.region(&captured)?, body.region(&captured)?);
        let operands: Vec<_> = captured.iter().cloned().chain(exprs(&all)).collect();
        Ok(apply(While { cond, body, consts: captured.len() }.into(), &operands, all.len(), loc))
    });
    match done {
        Ok(results) => tree::with_leaves(init, results),
        Err(bad) => tree::with_leaves(init, vec![bad; all.len()]),
    }
}

/// Where a counted loop starts or ends: a number, or a tensor.
#[derive(Clone, Debug)]
pub enum Bound {
    /// Known now: the loop is a [`scan`](super::scan), which has both modes of derivatives.
    Known(i64),
    /// Known when it runs: an integer scalar; the loop is a [`while_loop`].
    Given(Tensor),
}

impl From<i64> for Bound {
    fn from(n: i64) -> Self {
        Self::Known(n)
    }
}

impl From<i32> for Bound {
    fn from(n: i32) -> Self {
        Self::Known(i64::from(n))
    }
}

impl From<usize> for Bound {
    fn from(n: usize) -> Self {
        Self::Known(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl From<&Tensor> for Bound {
    fn from(t: &Tensor) -> Self {
        Self::Given(t.clone())
    }
}

/// Applies `body` to a position and a carry, for positions from `lower` to before `upper`; none if `upper` is not above.
///
/// Positions are `i64[]`. With bounds that are numbers it is a scan, and differentiable in both modes.
/// # Errors
/// As [`while_loop`]; a bound that is no integer scalar.
/// # Source
/// JAX's `lax.fori_loop`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::fori_loop;
/// let x = Tensor::from(2.0f32);
/// let y = fori_loop(0, 3, &x, |_, y| y * y);
/// assert_eq!(y.to_string(), "256");
/// assert_eq!(grad(&y, &x).to_string(), "1024");
/// ```
#[track_caller]
pub fn fori_loop<C: Tree, N: Tree>(
    lower: impl Into<Bound>,
    upper: impl Into<Bound>,
    init: &C,
    body: impl FnOnce(&Tensor, &C::Mapped) -> N,
) -> C::Mapped {
    let loc = Loc::caller();
    let (lower, upper) = (lower.into(), upper.into());
    if let (Bound::Known(from), Bound::Known(to)) = (&lower, &upper) {
        let count = to.saturating_sub(*from).max(0);
        let positions = Tensor::arange(count).cast_at(DType::I64, &loc) + *from;
        let step = |carry: &C::Mapped, i: &Tensor| (body(i, carry), ());
        return scan_at("fori_loop", ScanOptions::times(count), init, &positions, step, &loc).0;
    }
    let bound = |b: Bound| match b {
        Bound::Known(n) => Tensor::constant(n),
        Bound::Given(t) if t.dtype().is_some_and(|d| !d.is_integer()) || t.rank() > 0 => {
            let rule = format!("a bound{} must be an integer scalar", trace::at(&t));
            refuse("fori_loop", &types(std::slice::from_ref(&t)), rule, "cast it, or take one element", &loc)
        }
        Bound::Given(t) => t.cast_at(DType::I64, &loc),
    };
    let (from, to) = (bound(lower), bound(upper));
    // The initial value and the body's carry are one structure; the position goes in front.
    let leaves = tree::leaves(init);
    let mut state = vec![from];
    state.extend(leaves);
    let out = while_at(
        "fori_loop",
        &state,
        |s| s[0].lt(&to),
        |s| {
            let mut next = vec![&s[0] + 1];
            next.extend(tree::leaves(&body(&s[0], &tree::with_leaves(init, s[1..].to_vec()))));
            next
        },
        &loc,
    );
    tree::with_leaves(init, out[1..].to_vec())
}

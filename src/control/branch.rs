//! `cond` and `switch`.

use lehr_ir::DType;
use lehr_ir::loc::Loc;
use lehr_ir::ops::Case;

use super::trace::{self, Trace, Traced, apply, refuse, types, union};
use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

/// One of two computations, chosen when it runs; the other is not run.
///
/// What the closures compute belongs to the branches; tensors that they capture are computed before. For a choice element by
/// element use [`Tensor::select`]. Under [`vmap`](crate::vmap) with a predicate for each example both run and each example takes
/// its own.
/// # Errors
/// A predicate that is no `bool[]`; branches that give other structures or types, with both lines.
/// # Source
/// JAX's `lax.cond`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::cond;
/// let x = Tensor::from(3.0f32);
/// let y = cond(&x.gt(0.0), || x.log(), || x.exp());
/// assert_eq!(grad(&y, &x).to_string(), "0.33333334");
/// ```
#[track_caller]
pub fn cond<T: Tree, F: Tree>(pred: &Tensor, on_true: impl FnOnce() -> T, on_false: impl FnOnce() -> F) -> T::Mapped {
    let loc = Loc::caller();
    let (yes, no) = (Trace::new("cond", &loc), Trace::new("cond", &loc));
    let structure = yes.run(on_true);
    let outs = tree::leaves(&structure);
    let yes = yes.gave(outs.clone());
    let other = no.run(|| tree::leaves(&on_false()));
    let no = no.gave(other);
    let index = if pred.dtype() == Some(DType::Bool) || pred.check().is_err() {
        Ok(pred.cast_at(DType::I32, &loc))
    } else {
        let rule = format!("the predicate{} must be a bool[]", trace::at(pred));
        Err(refuse("cond", &types(std::slice::from_ref(pred)), rule, "compare it with something", &loc))
    };
    let done = index.and_then(|index| choose("cond", &index, &["the false one", "the true one"], vec![no, yes], &loc));
    match done {
        Ok(results) => tree::with_leaves(&structure, results),
        Err(bad) => tree::with_leaves(&structure, vec![bad; outs.len()]),
    }
}

/// One of several computations, chosen by an index when it runs; an index outside takes the nearest.
///
/// # Errors
/// An index that is no integer scalar; branches that give other structures or types, with both lines.
/// # Source
/// JAX's `lax.switch`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::switch;
/// let x = Tensor::from(2.0f32);
/// let branches: [&dyn Fn() -> Tensor; 3] = [&|| x.clone(), &|| x.square(), &|| -&x];
/// assert_eq!(switch(&Tensor::from(1), branches).to_string(), "4");
/// ```
#[track_caller]
pub fn switch<T: Tree, F: FnOnce() -> T, const N: usize>(index: &Tensor, branches: [F; N]) -> T::Mapped {
    // Without a branch there is no structure to give, or to carry an error.
    const { assert!(N > 0, "a switch has one branch or more") };
    let loc = Loc::caller();
    let mut traced = Vec::new();
    let structures = branches.map(|f| {
        let trace = Trace::new("switch", &loc);
        let out = trace.run(f);
        traced.push(trace.gave(tree::leaves(&out)));
        out
    });
    let structure = &structures[0];
    let count = tree::leaves(structure).len();
    let names: Vec<String> = (0..traced.len()).map(|i| format!("branch {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = if index.dtype().is_none_or(|d| d.is_integer()) && index.rank() == 0 {
        // Values beyond i32 saturate on the way to it, and then to the last branch.
        let clamped = index.clip(0, i64::try_from(traced.len()).unwrap_or(i64::MAX) - 1);
        Ok(clamped.cast_at(DType::I32, &loc))
    } else {
        let rule = format!("the index{} must be an integer scalar", trace::at(index));
        Err(refuse("switch", &types(std::slice::from_ref(index)), rule, "cast it, or take one element", &loc))
    };
    match index.and_then(|index| choose("switch", &index, &names, traced, &loc)) {
        Ok(results) => tree::with_leaves(structure, results),
        Err(bad) => tree::with_leaves(structure, vec![bad; count]),
    }
}

fn choose(
    op: &str,
    index: &Tensor,
    names: &[&str],
    branches: Vec<Traced<'_>>,
    loc: &Loc,
) -> Result<Vec<Tensor>, Tensor> {
    let all: Vec<&Tensor> = std::iter::once(index).chain(branches.iter().flat_map(|b| &b.outs)).collect();
    sound(&all)?;
    if index.rank() != 0 {
        let rule = format!("the predicate{} must be one bool[]", trace::at(index));
        let help = "reduce it with all() or any(), choose by element with Tensor::select, or use vmap";
        return Err(refuse(op, &types(std::slice::from_ref(index)), rule, help, loc));
    }
    let first = &branches[0];
    for (name, branch) in names.iter().zip(&branches).skip(1) {
        if branch.outs.len() != first.outs.len() {
            let rule = format!(
                "{} gives {} tensors and {name} gives {}; all branches give one structure",
                names[0],
                first.outs.len(),
                branch.outs.len()
            );
            return Err(refuse(op, &[], rule, "give the same structure from each", loc));
        }
        for (a, b) in first.outs.iter().zip(&branch.outs) {
            let (Some(x), Some(y)) = (a.0.ty(), b.0.ty()) else { continue };
            let same = x.dtype == y.dtype
                && x.rank() == y.rank()
                && x.shape.iter().zip(&y.shape).all(|(m, n)| a.facts().decide_eq(m, n) == Some(true));
            if !same {
                let rule = format!(
                    "{} gives {x}{} and {name} gives {y}{}; all branches give one type",
                    names[0],
                    trace::at(a),
                    trace::at(b)
                );
                let help = "cast, reshape or broadcast one of the two";
                return Err(refuse(op, &[x.clone(), y.clone()], rule, help, loc));
            }
        }
    }
    let captured = union(branches.iter().map(|b| b.captures(false)));
    let regions = branches.iter().map(|b| b.region(&captured)).collect::<Result<_, _>>()?;
    let operands: Vec<_> = std::iter::once(index.0.clone()).chain(captured).collect();
    Ok(apply(Case { branches: regions }.into(), &operands, first.outs.len(), loc))
}

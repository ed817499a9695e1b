//! `associative_scan`: all prefixes of an associative operation in a logarithmic number of steps.

use lehr_ir::loc::Loc;

use super::trace::refuse;
use crate::tensor::{Tensor, by, sound};
use crate::tree::{self, Tree};

/// `[x0, x0∘x1, x0∘x1∘x2, …]` along the first axis, for an associative `∘` over structures.
///
/// `combine` takes two structures whose leaves have the same number of rows and combines them row by row; it is called about
/// `2·log2(n)` times, each time on a part of the rows, so that all rows of a step are computed together.
/// The order of operands is kept; how they are grouped is not that of a loop, so that floats round differently from
/// [`scan`](super::scan).
/// # Shapes
/// Leaves are `[n, ...]` with a known `n`; so are those of the result.
/// # Errors
/// Leaves of unequal or unknown length.
/// # Source
/// Blelloch, "Prefix Sums and Their Applications", 1990; JAX's `lax.associative_scan`.
/// ```
/// use lehr::prelude::*;
/// use lehr::control::associative_scan;
/// let products = associative_scan(&Tensor::from([1, 2, 3, 4, 5]), |a, b| a * b);
/// assert_eq!(products.to_string(), "[1,2,6,24,120]");
/// ```
#[track_caller]
pub fn associative_scan<X: Tree, R: Tree>(xs: &X, combine: impl Fn(&X::Mapped, &X::Mapped) -> R) -> X::Mapped {
    let loc = Loc::caller();
    let leaves = tree::leaves(xs);
    let both = |a: &[Tensor], b: &[Tensor]| {
        let (a, b) = (tree::with_leaves(xs, a.to_vec()), tree::with_leaves(xs, b.to_vec()));
        tree::leaves(&combine(&a, &b))
    };
    match length(&leaves, &loc) {
        Ok(n) => tree::with_leaves(xs, prefixes(&leaves, n, &both)),
        Err(bad) => tree::with_leaves(xs, vec![bad; leaves.len()]),
    }
}

fn length(leaves: &[Tensor], loc: &Loc) -> Result<usize, Tensor> {
    let refs: Vec<&Tensor> = leaves.iter().collect();
    sound(&refs)?;
    let mut n = None;
    for t in leaves {
        let here = t.shape().first().and_then(|d| d.as_const()).and_then(|d| usize::try_from(d).ok());
        if here.is_none() || n.is_some_and(|n| Some(n) != here) {
            let types: Vec<_> = t.0.ty().into_iter().cloned().collect();
            let rule = "all operands must have a first axis of one known length".to_owned();
            return Err(refuse("associative_scan", &types, rule, "give numbers as sizes, or use scan", loc));
        }
        n = here;
    }
    n.ok_or_else(|| refuse("associative_scan", &[], "no tensor is given".to_owned(), "give one or more", loc))
}

/// Combines two lists of leaves row by row.
type Combine<'a> = dyn Fn(&[Tensor], &[Tensor]) -> Vec<Tensor> + 'a;

/// Pairs are combined, their prefixes taken, and the rows between filled in.
fn prefixes(xs: &[Tensor], n: usize, combine: &Combine<'_>) -> Vec<Tensor> {
    if n < 2 {
        return xs.to_vec();
    }
    let every_second = |xs: &[Tensor], from: usize, to: usize| -> Vec<Tensor> {
        xs.iter().map(|t| t.slice(by(from as i64..to as i64, 2))).collect()
    };
    let rows = |xs: &[Tensor], to: usize| -> Vec<Tensor> { xs.iter().map(|t| t.slice(0..to as i64)).collect() };
    let pairs = n / 2;
    let odd = prefixes(&combine(&every_second(xs, 0, 2 * pairs - 1), &every_second(xs, 1, 2 * pairs)), pairs, combine);
    let first = rows(xs, 1);
    let evens = n - pairs;
    let even: Vec<Tensor> = if evens > 1 {
        let later = combine(&rows(&odd, evens - 1), &every_second(xs, 2, n));
        first.iter().zip(&later).map(|(a, b)| Tensor::concat(&[a, b], 0)).collect()
    } else {
        first
    };
    even.iter().zip(&odd).map(|(even, odd)| interleave(even, odd, pairs, evens)).collect()
}

/// Rows of two tensors in turn, the last of the first left over if it has one more.
fn interleave(even: &Tensor, odd: &Tensor, pairs: usize, evens: usize) -> Tensor {
    let whole = even.slice(0..pairs as i64);
    let mut shape = vec![lehr_ir::Dim::from(2 * pairs)];
    shape.extend(odd.shape().iter().skip(1).cloned());
    let both = Tensor::stack(&[&whole, odd], 1).reshape(shape.as_slice());
    if evens == pairs { both } else { Tensor::concat(&[&both, &even.slice(pairs as i64..evens as i64)], 0) }
}

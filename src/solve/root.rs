//! Roots of systems of equations.

use lehr_ir::loc::Loc;

use super::closed::Closed;
use super::dense::{inverse, jacobian_transposed};
use super::implicit::{Implicit, Map};
use super::layout::Layout;
use super::{Solution, SolveOptions};
use crate::control::while_loop;
use crate::tensor::Tensor;
use crate::tree::{self, Tree};

/// How often a step is halved before the iteration gives up.
const HALVINGS: i64 = 40;

/// An `x` near a first guess at which `f` is zero: Newton's method, with steps halved until they lessen the norm of `f`.
///
/// The step solves `J d = -f(x)` with the dense Jacobian `J`, so that it suits tens or hundreds of unknowns.
/// # Shapes
/// `f` gives the structure and types of `x0`, floats of one dtype.
/// # Gradient
/// By the implicit function theorem: if what `f` captures varies so that `f(x)` changes by `c`, then `x` changes by `-J⁻¹ c`.
/// Forward and reverse mode, twice; a third derivative in forward mode only. It does not vary with the guess.
/// # Numerics
/// It ends when no element of `f(x)` is above the tolerance, when no step lessens the norm any more, or after the most iterations.
/// A singular Jacobian gives NaN in derivatives.
/// # Errors
/// Leaves that are no floats of one dtype; an `f` that gives other types, or has no forward derivative.
/// # Source
/// Nocedal and Wright, "Numerical Optimization", 2nd ed., 2006, ch. 11.
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::root;
/// // Where a circle meets a line.
/// let radius = Tensor::from(5.0f64);
/// let at = |r: &Tensor| {
///     root(&(Tensor::from(1.0f64), Tensor::from(2.0f64)), |(x, y)| (x * x + y * y - r * r, x * 4 - y * 3)).0
/// };
/// assert_eq!(at(&radius).to_string(), "3");
/// let slope: f64 = grad(&at(&radius), &radius).to()?;
/// assert!((slope - 0.6).abs() < 1e-14);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn root<X: Tree, R: Tree>(x0: &X, f: impl FnOnce(&X::Mapped) -> R) -> X::Mapped {
    solve(&SolveOptions::default(), x0, f, &Loc::caller()).x
}

/// [`root`] with a tolerance and a limit of iterations; says what it came to.
///
/// # Errors
/// As [`root`].
#[track_caller]
pub fn root_with<X: Tree, R: Tree>(
    options: &SolveOptions,
    x0: &X,
    f: impl FnOnce(&X::Mapped) -> R,
) -> Solution<X::Mapped> {
    solve(options, x0, f, &Loc::caller())
}

fn solve<X: Tree, R: Tree>(
    options: &SolveOptions,
    x0: &X,
    f: impl FnOnce(&X::Mapped) -> R,
    loc: &Loc,
) -> Solution<X::Mapped> {
    let solved = Layout::of("root", "the guess", x0, loc).and_then(|(layout, guess)| {
        let tolerance = options.tolerance_for(&guess);
        let apply = |x: &Tensor| layout.pack("root", "the guess", &f(&tree::with_leaves(x0, layout.unpack(x))), loc);
        let f = Closed::new("root", &guess, apply, loc)?;
        let solve = |f: &Map<'_>, guess: &Tensor| newton(f, guess, tolerance, options.iterations, loc);
        let tangent = |f: &Map<'_>, x: &Tensor, change: &Tensor| {
            // With the transpose, a product from the left is one with the inverse.
            -change.matmul(&inverse(&jacobian_transposed(f, x, loc), loc))
        };
        let x = Implicit { name: "root", f: &f, solve: &solve, tangent: &tangent, loc }.solution(&guess);
        let residual = f.at(&f.captured, &x).abs().max();
        Ok((layout.unpack(&x), residual, tolerance))
    });
    match solved {
        Ok((leaves, residual, tolerance)) => {
            Solution { x: tree::with_leaves(x0, leaves), converged: residual.le(tolerance), residual }
        }
        Err(bad) => {
            let x = tree::with_leaves(x0, vec![bad.clone(); tree::leaves(x0).len()]);
            Solution { x, residual: bad.clone(), converged: bad }
        }
    }
}

/// Newton's method from a guess.
fn newton(f: &Map<'_>, guess: &Tensor, tolerance: f64, most: u32, loc: &Loc) -> Tensor {
    let norm = |y: &Tensor| y.square().sum().sqrt();
    let init = (guess.clone(), f(guess), Tensor::constant(0i64), Tensor::constant(true));
    let goes = |(_, y, i, moved): &(Tensor, Tensor, Tensor, Tensor)| moved & y.abs().max().gt(tolerance) & i.lt(most);
    while_loop(&init, goes, |(x, y, i, _)| {
        let step = -y.matmul(&inverse(&jacobian_transposed(f, x, loc), loc));
        let before = norm(y);
        let one = before.ones_like();
        let first = x + &step;
        let tried = (one, first.clone(), f(&first), Tensor::constant(0i64));
        // NaN lessens nothing.
        let lessens = |part: &Tensor, y: &Tensor| norm(y).lt((1.0 - 1e-4 * part) * &before);
        let (part, next, value, _) = while_loop(
            &tried,
            |(part, _, y, halvings)| lessens(part, y).logical_not() & halvings.lt(HALVINGS),
            |(part, _, _, halvings)| {
                let part = part * 0.5;
                let next = x + &part * &step;
                (part, next.clone(), f(&next), halvings + 1)
            },
        );
        let moved = lessens(&part, &value);
        (Tensor::select(&moved, next, x), Tensor::select(&moved, value, y), i + 1, moved)
    })
    .0
}

//! Fixed points of contractions.

use lehr_ir::loc::Loc;

use super::closed::Closed;
use super::implicit::{Implicit, Map};
use super::layout::Layout;
use super::{Solution, SolveOptions, epsilon};
use crate::control::{ScanOptions, cond, scan_with, while_loop};
use crate::random::{self, Key};
use crate::tensor::Tensor;
use crate::transform::pushed;
use crate::tree::{self, Tree};

/// An `x` with `f(x) = x`, by iterating `f` from a first guess.
///
/// It needs products with the Jacobian of `f` only, and so suits any number of unknowns; `f` must be a contraction near the
/// solution. Where it is none, ask for the [`root`](super::root) of `f(x) - x`.
/// # Shapes
/// `f` gives the structure and types of `x0`, floats of one dtype.
/// # Gradient
/// By the implicit function theorem: if what `f` captures varies so that `f(x)` changes by `c`, then `x` changes by
/// `(1 - J)⁻¹ c = c + J c + J² c + …`. Forward and reverse mode, twice; a third derivative in forward mode only. It does not vary
/// with the guess.
/// # Numerics
/// It ends when no element of `f(x) - x` is above the tolerance (relative to elements of `x` above 1), or after the most
/// iterations. The series of the derivative has as many terms as a random vector needs to vanish under `J`; if it does not
/// within the most iterations, derivatives are NaN.
/// # Errors
/// Leaves that are no floats of one dtype; an `f` that gives other types, or has no forward derivative.
/// # Source
/// Christianson, "Reverse accumulation and attractive fixed points", 1994; JAX's `custom_root` is used alike.
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::fixed_point;
/// // Heron's square root.
/// let a = Tensor::from(9.0f64);
/// let x = fixed_point(&Tensor::from(1.0f64), |x| (x + &a / x) * 0.5);
/// assert_eq!(x.to_string(), "3");
/// let slope: f64 = grad(&x, &a).to()?;
/// assert!((slope - 1.0 / 6.0).abs() < 1e-14);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn fixed_point<X: Tree, R: Tree>(x0: &X, f: impl FnOnce(&X::Mapped) -> R) -> X::Mapped {
    solve(&SolveOptions::default(), x0, f, &Loc::caller()).x
}

/// [`fixed_point`] with a tolerance and a limit of iterations; says what it came to.
///
/// # Errors
/// As [`fixed_point`].
#[track_caller]
pub fn fixed_point_with<X: Tree, R: Tree>(
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
    const OP: &str = "fixed_point";
    let solved = Layout::of(OP, "the guess", x0, loc).and_then(|(layout, guess)| {
        let tolerance = options.tolerance_for(&guess);
        let apply = |x: &Tensor| layout.pack(OP, "the guess", &f(&tree::with_leaves(x0, layout.unpack(x))), loc);
        let f = Closed::new(OP, &guess, apply, loc)?;
        let solve = |f: &Map<'_>, guess: &Tensor| iterate(f, guess, tolerance, options.iterations);
        let tangent = |f: &Map<'_>, x: &Tensor, change: &Tensor| series(f, x, change, options.iterations, loc);
        let x = Implicit { name: OP, f: &f, solve: &solve, tangent: &tangent, loc }.solution(&guess);
        let distance = distance(&f.at(&f.captured, &x), &x);
        Ok((layout.unpack(&x), distance, tolerance))
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

/// The greatest difference, relative where elements are above 1.
fn distance(y: &Tensor, x: &Tensor) -> Tensor {
    ((y - x).abs() / x.abs().maximum(1)).max()
}

fn iterate(f: &Map<'_>, guess: &Tensor, tolerance: f64, most: u32) -> Tensor {
    let init = (guess.clone(), Tensor::constant(0i64), Tensor::constant(true));
    while_loop(
        &init,
        |(_, i, far)| far & i.lt(most),
        |(x, i, _)| {
            let y = f(x);
            let far = distance(&y, x).gt(tolerance);
            (y, i + 1, far)
        },
    )
    .0
}

/// `c + J c + J² c + …` with the Jacobian of `f` at `x`, linear in `c`.
///
/// How many terms it takes is found beforehand with a vector that does not depend on `c`: the sum is then a scan whose later
/// iterations do nothing, which has a transpose.
fn series(f: &Map<'_>, x: &Tensor, c: &Tensor, most: u32, loc: &Loc) -> Tensor {
    let times_jacobian = |v: &Tensor| {
        let product = pushed(&[f(x)], std::slice::from_ref(x), std::slice::from_ref(v), &[], loc);
        product.map_or_else(|bad| bad, |mut p| p.swap_remove(0))
    };
    let Some(ty) = x.0.ty() else { return x.clone() };
    let shape = ty.shape.clone();
    let probe = random::uniform(Tensor::constant(Key::new(0).words()), ty.dtype, shape) + 0.5;
    let small = epsilon(x);
    let (terms, left) = while_loop(
        &(Tensor::constant(0i64), probe),
        |(i, v)| v.abs().max().gt(small) & i.lt(most),
        |(i, v)| (i + 1, times_jacobian(v)),
    );
    let positions = Tensor::arange(i64::from(most));
    let (sum, ()) = scan_with(ScanOptions::default(), c, &positions, |sum, i| {
        (cond(&i.lt(&terms), || times_jacobian(sum) + c, || sum.clone()), ())
    });
    let one = Tensor::ones(ty.dtype, ());
    sum * Tensor::select(&left.abs().max().le(small), one, f64::NAN)
}

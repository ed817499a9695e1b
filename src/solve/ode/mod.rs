//! Initial value problems of ordinary differential equations.

use lehr_ir::loc::Loc;

use super::layout::Layout;
use crate::tensor::{Tensor, sound};
use crate::tree::{self, Tree};

mod dormand_prince;
mod rk4;

/// How an equation is integrated.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::{OdeOptions, odeint_with};
/// let times = Tensor::from([0.0f64, 1.0]);
/// let found = odeint_with(&OdeOptions::rk4(20), &Tensor::from(1.0f64), &times, |_, y| -y);
/// assert!((found.y.to::<Vec<f64>>()?[1] - (-1.0f64).exp()).abs() < 1e-7);
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct OdeOptions {
    steps: Steps,
    rtol: f64,
    atol: f64,
}

#[derive(Clone, Copy, Debug)]
enum Steps {
    /// So many equal ones between two times.
    Fixed(usize),
    /// As the error demands, so many at most in all.
    Adaptive(u32),
}

impl Default for OdeOptions {
    fn default() -> Self {
        Self::dormand_prince()
    }
}

impl OdeOptions {
    /// Runge and Kutta's classical method of order 4, with so many equal steps from each time to the next.
    pub fn rk4(steps: usize) -> Self {
        Self { steps: Steps::Fixed(steps), ..Self::dormand_prince() }
    }

    /// Dormand and Prince's method of order 5, whose steps an estimate of order 4 controls: relative tolerance 1e-6, absolute 1e-8,
    /// 500 steps at most.
    pub fn dormand_prince() -> Self {
        Self { steps: Steps::Adaptive(500), rtol: 1e-6, atol: 1e-8 }
    }

    /// The error of a step that is allowed, relative to the size of each element.
    pub fn rtol(mut self, rtol: f64) -> Self {
        self.rtol = rtol;
        self
    }

    /// The error of a step that is allowed besides.
    pub fn atol(mut self, atol: f64) -> Self {
        self.atol = atol;
        self
    }

    /// The most steps of the adaptive method over all times, rejected ones included. Reverse mode keeps room for so many.
    pub fn max_steps(mut self, most: u32) -> Self {
        if let Steps::Adaptive(steps) = &mut self.steps {
            *steps = most;
        }
        self
    }
}

/// The solution of a differential equation at some times.
#[derive(Clone, Debug)]
pub struct Trajectory<Y> {
    /// The values, with an axis of times in front; NaN at times that were not reached.
    pub y: Y,
    /// Whether all times were reached within the most steps: `bool[]`; always true for fixed steps.
    pub success: Tensor,
    /// The steps that were made: `i64[]`.
    pub steps: Tensor,
    /// The steps that were too large and were made again smaller: `i64[]`.
    pub rejected: Tensor,
}

/// The solution of `dy/dt = f(t, y)` at some times, from `y0` at the first of them, by Dormand and Prince's method.
///
/// # Shapes
/// `times` is `[n]`, ascending or descending; `f` takes a scalar and the structure of `y0`, floats of one dtype, and gives that
/// structure. Leaves of the result are `[n, …]`.
/// # Gradient
/// Forward and reverse mode through the steps, by `y0`, `times` and what `f` captures: derivatives of what is computed, whose
/// step sizes count as given.
/// # Numerics
/// A step is accepted if the root mean square of its estimated error, over `atol + rtol max(|y|, |y'|)`, is at most 1; the next is
/// as much longer as that leaves, between a fifth and ten times. Steps end at each of the times. Where the steps run out, what
/// follows is NaN and `success` of [`odeint_with`] is false.
/// # Errors
/// Leaves that are no floats of one dtype; times that are no vector; an `f` that gives other types.
/// # Source
/// Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", 2nd ed., 1993, II.4 and II.5; Dormand and Prince, "A
/// family of embedded Runge–Kutta formulae", 1980.
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::odeint;
/// let rate = Tensor::from(0.5f64);
/// let y = odeint(&Tensor::from(2.0f64), &Tensor::from([0.0f64, 1.0, 2.0]), |_, y| -(y * &rate));
/// let end = y.slice(2);
/// assert!((end.to::<f64>()? - 2.0 * (-1.0f64).exp()).abs() < 1e-6);
/// // d/dr of 2 e^(-2r).
/// let slope: f64 = grad(&end, &rate).to()?;
/// assert!((slope + 4.0 * (-1.0f64).exp()).abs() < 1e-5);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn odeint<Y: Tree, N: Tree>(y0: &Y, times: &Tensor, f: impl Fn(&Tensor, &Y::Mapped) -> N) -> Y::Mapped {
    integrate(&OdeOptions::default(), y0, times, &f, &Loc::caller()).y
}

/// [`odeint`] with another method, tolerance or limit; says whether it came to the end.
///
/// # Errors
/// As [`odeint`]; 0 steps between times.
#[track_caller]
pub fn odeint_with<Y: Tree, N: Tree>(
    options: &OdeOptions,
    y0: &Y,
    times: &Tensor,
    f: impl Fn(&Tensor, &Y::Mapped) -> N,
) -> Trajectory<Y::Mapped> {
    integrate(options, y0, times, &f, &Loc::caller())
}

/// The right-hand side for vectors.
type Slope<'a> = dyn Fn(&Tensor, &Tensor) -> Tensor + 'a;

/// Rows of vectors at the times, success, steps made, steps rejected.
type Rows = [Tensor; 4];

fn integrate<Y: Tree, N: Tree>(
    options: &OdeOptions,
    y0: &Y,
    times: &Tensor,
    f: &dyn Fn(&Tensor, &Y::Mapped) -> N,
    loc: &Loc,
) -> Trajectory<Y::Mapped> {
    match try_integrate(options, y0, times, f, loc) {
        Ok((leaves, [_, success, steps, rejected])) => {
            Trajectory { y: tree::with_leaves(y0, leaves), success, steps, rejected }
        }
        Err(bad) => Trajectory {
            y: tree::with_leaves(y0, vec![bad.clone(); tree::leaves(y0).len()]),
            success: bad.clone(),
            steps: bad.clone(),
            rejected: bad,
        },
    }
}

fn try_integrate<Y: Tree, N: Tree>(
    options: &OdeOptions,
    y0: &Y,
    times: &Tensor,
    f: &dyn Fn(&Tensor, &Y::Mapped) -> N,
    loc: &Loc,
) -> Result<(Vec<Tensor>, Rows), Tensor> {
    const OP: &str = "odeint";
    let (layout, start) = Layout::of(OP, "the initial value", y0, loc)?;
    sound(&[times])?;
    if times.rank() != 1 {
        return Err(Tensor::refuse(OP, &[times], "times must be a vector", "give one or more in a row", loc.clone()));
    }
    let one = lehr_ir::Dim::ONE;
    if times.facts().decide_ge(&times.shape()[0], &one) != Some(true) {
        let rule = "there must be one time or more";
        let help = "give the time of the initial value first, or assume that there are times";
        return Err(Tensor::refuse(OP, &[times], rule, help, loc.clone()));
    }
    let times = times.cast_like(&start);
    let slope = |t: &Tensor, y: &Tensor| {
        let given = f(t, &tree::with_leaves(y0, layout.unpack(y)));
        layout.pack(OP, "the initial value", &given, loc).unwrap_or_else(|bad| bad)
    };
    let rows = match options.steps {
        Steps::Fixed(0) => {
            let help = "make 1 step or more from each time to the next";
            return Err(Tensor::refuse(OP, &[], "0 steps are asked for", help, loc.clone()));
        }
        Steps::Fixed(steps) => rk4::rows(&slope, &start, &times, steps, loc),
        Steps::Adaptive(most) => dormand_prince::rows(&slope, &start, &times, options, most, loc),
    };
    Ok((layout.unpack_rows(&rows[0]), rows))
}

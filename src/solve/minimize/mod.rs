//! Minima of smooth functions.

use lehr_ir::loc::Loc;
use lehr_ir::{DType, Dim};

use super::epsilon;
use super::layout::Layout;
use crate::control::while_loop;
use crate::tensor::Tensor;
use crate::transform::gradients;
use crate::tree::{self, Tree};

mod lbfgs;
mod line_search;
mod newton_cg;

/// How the direction of a step is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Method {
    /// An approximate inverse of the Hessian, from the last so many steps and changes of the gradient.
    Lbfgs {
        /// How many steps are remembered, 1 or more.
        history: usize,
    },
    /// Newton's equation, solved by conjugate gradients as far as needed, with products of the Hessian and a vector.
    NewtonCg {
        /// The most products a step.
        products: u32,
    },
}

/// How to minimise.
#[derive(Clone, Debug)]
#[must_use]
pub struct MinimizeOptions {
    method: Method,
    tolerance: Option<f64>,
    iterations: u32,
}

impl Default for MinimizeOptions {
    fn default() -> Self {
        Self::lbfgs()
    }
}

impl MinimizeOptions {
    /// L-BFGS with a history of 10, 1000 iterations at most, until the gradient is within the root of the dtype's epsilon.
    pub fn lbfgs() -> Self {
        Self { method: Method::Lbfgs { history: 10 }, tolerance: None, iterations: 1000 }
    }

    /// Newton's method by conjugate gradients, with 200 products a step at most; else as [`MinimizeOptions::lbfgs`].
    pub fn newton_cg() -> Self {
        Self { method: Method::NewtonCg { products: 200 }, ..Self::lbfgs() }
    }

    /// Another choice of directions.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The size below which all elements of the gradient are to be.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// The most iterations.
    pub fn iterations(mut self, most: u32) -> Self {
        self.iterations = most;
        self
    }
}

/// What a minimisation came to.
#[derive(Clone, Debug)]
pub struct Minimum<X> {
    /// The last iterate.
    pub x: X,
    /// The function there.
    pub value: Tensor,
    /// The greatest element of the gradient there, in size.
    pub gradient: Tensor,
    /// How many steps were made: `i64[]`.
    pub iterations: Tensor,
    /// Whether the gradient is within the tolerance: `bool[]`.
    pub converged: Tensor,
}

/// A local minimum of `f`, near a first guess, by L-BFGS.
///
/// The whole minimisation is one loop in the graph, and compiles into one executable.
/// # Shapes
/// `x0` has floats of one dtype; `f` gives a scalar.
/// # Gradient
/// Forward mode, through the steps. Where the minimum depends on what `f` captures, ask for the [`root`](super::root) of the
/// gradient, started at the minimum: its derivatives are exact, and go both ways.
/// # Numerics
/// Steps satisfy the strong Wolfe conditions. It ends when the gradient is within the tolerance, when no step lessens `f` any
/// more, or after the most iterations; `converged` says which. Infinite and NaN values of `f` count as too far.
/// # Errors
/// Leaves that are no floats of one dtype; an `f` that gives no scalar, or without a gradient.
/// # Source
/// Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989; Nocedal and Wright, "Numerical
/// Optimization", 2nd ed., 2006, ch. 3 and 7.
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::minimize;
/// // Rosenbrock's valley.
/// let start = (Tensor::from(-1.2f64), Tensor::from(1.0f64));
/// let found = minimize(&start, |(x, y)| (1.0 - x).square() + (y - x * x).square() * 100.0);
/// assert!(found.converged.to::<bool>()?);
/// assert!((found.x.0.to::<f64>()? - 1.0).abs() < 1e-7);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn minimize<X: Tree>(x0: &X, f: impl Fn(&X::Mapped) -> Tensor) -> Minimum<X::Mapped> {
    minimum(&MinimizeOptions::default(), x0, &f, &Loc::caller())
}

/// [`minimize`] with another method, tolerance or limit.
///
/// # Errors
/// As [`minimize`]; a history of 0.
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::{MinimizeOptions, minimize_with};
/// let found = minimize_with(&MinimizeOptions::newton_cg(), &Tensor::from([3.0f64, -2.0]), |x| (x.square() + x.exp()).sum());
/// // 2x + e^x = 0.
/// assert!((found.x.to::<Vec<f64>>()?[0] + 0.351_733_711_249).abs() < 1e-9);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn minimize_with<X: Tree>(
    options: &MinimizeOptions,
    x0: &X,
    f: impl Fn(&X::Mapped) -> Tensor,
) -> Minimum<X::Mapped> {
    minimum(options, x0, &f, &Loc::caller())
}

fn minimum<X: Tree>(
    options: &MinimizeOptions,
    x0: &X,
    f: &dyn Fn(&X::Mapped) -> Tensor,
    loc: &Loc,
) -> Minimum<X::Mapped> {
    match search(options, x0, f, loc) {
        Ok((leaves, end)) => {
            let (state, tolerance) = end;
            let gradient = state.gradient.abs().max();
            Minimum {
                x: tree::with_leaves(x0, leaves),
                value: state.value,
                iterations: state.iterations,
                converged: gradient.le(tolerance),
                gradient,
            }
        }
        Err(bad) => Minimum {
            x: tree::with_leaves(x0, vec![bad.clone(); tree::leaves(x0).len()]),
            value: bad.clone(),
            gradient: bad.clone(),
            iterations: bad.clone(),
            converged: bad,
        },
    }
}

/// Where a minimisation stands.
#[derive(Tree)]
struct State {
    x: Tensor,
    value: Tensor,
    gradient: Tensor,
    /// What the method remembers.
    memory: Vec<Tensor>,
    iterations: Tensor,
    /// Whether the last step lessened the function.
    moves: Tensor,
}

/// A function of a vector with its gradient.
type Objective<'a> = dyn Fn(&Tensor) -> (Tensor, Tensor) + 'a;

type End = (Vec<Tensor>, (State, f64));

fn search<X: Tree>(
    options: &MinimizeOptions,
    x0: &X,
    f: &dyn Fn(&X::Mapped) -> Tensor,
    loc: &Loc,
) -> Result<End, Tensor> {
    const OP: &str = "minimize";
    if let Method::Lbfgs { history: 0 } = options.method {
        return Err(Tensor::refuse(OP, &[], "the history is 0", "remember 1 step or more", loc.clone()));
    }
    let (layout, x) = Layout::of(OP, "the guess", x0, loc)?;
    let tolerance = options.tolerance.unwrap_or_else(|| epsilon(&x).sqrt());
    let scalar = |x: &Tensor| {
        let y = f(&tree::with_leaves(x0, layout.unpack(x)));
        match y.0.ty() {
            Some(ty) if ty.rank() != 0 || Some(ty.dtype) != x.dtype() => {
                let rule = "the function must give a scalar of the guess's dtype";
                Tensor::refuse(OP, &[&y], rule, "reduce it with sum() or mean(), or cast it", loc.clone())
            }
            _ => y,
        }
    };
    let objective = |x: &Tensor| match gradients(&scalar(x), std::slice::from_ref(x), loc) {
        Ok((value, mut gradient)) => (value, gradient.swap_remove(0)),
        Err(bad) => (bad.clone(), bad),
    };
    let (value, gradient) = objective(&x);
    let memory = match options.method {
        Method::Lbfgs { history } => lbfgs::start(history, &x),
        Method::NewtonCg { .. } => Vec::new(),
    };
    let init = State { x, value, gradient, memory, iterations: Tensor::constant(0i64), moves: Tensor::constant(true) };
    let end = while_loop(
        &init,
        |s| &s.moves & s.gradient.abs().max().gt(tolerance) & s.iterations.lt(options.iterations),
        |s| step(options.method, &objective, s, loc),
    );
    let leaves = layout.unpack(&end.x);
    Ok((leaves, (end, tolerance)))
}

/// One step: a direction, and how far to go.
fn step(method: Method, objective: &Objective<'_>, s: &State, loc: &Loc) -> State {
    let towards = match method {
        Method::Lbfgs { .. } => lbfgs::direction(&s.memory, &s.gradient),
        Method::NewtonCg { products } => newton_cg::direction(objective, &s.x, &s.gradient, products, loc),
    };
    // Rounding may turn a direction uphill.
    let descends = towards.matmul(&s.gradient).lt(0);
    let towards = Tensor::select(&descends, &towards, -&s.gradient);
    let whole = s.value.ones_like();
    let first = match method {
        // The first direction is the gradient's, whose length says nothing of how far to go.
        Method::Lbfgs { .. } => Tensor::select(&s.iterations.eq(0), s.gradient.norm().reciprocal().minimum(1), &whole),
        Method::NewtonCg { .. } => whole,
    };
    let found = line_search::strong_wolfe(objective, s, &towards, &first);
    let moved = &towards * &found.length;
    let memory = match method {
        Method::Lbfgs { .. } => lbfgs::remember(&s.memory, &moved, &(&found.gradient - &s.gradient)),
        Method::NewtonCg { .. } => Vec::new(),
    };
    State {
        x: Tensor::select(&found.found, &s.x + moved, &s.x),
        value: Tensor::select(&found.found, found.value, &s.value),
        gradient: Tensor::select(&found.found, found.gradient, &s.gradient),
        memory,
        iterations: &s.iterations + 1,
        moves: found.found,
    }
}

/// The number of elements of a vector.
fn len(x: &Tensor) -> Dim {
    x.shape().first().cloned().unwrap_or(Dim::ONE)
}

fn dtype(x: &Tensor) -> DType {
    x.dtype().unwrap_or(DType::F32)
}

//! Solvers: minima, roots, fixed points, and differential equations, over structures of tensors.
//!
//! They are made of the same parts as any user's program: loops and branches of [`control`](crate::control), gradients and
//! directional derivatives of the function that is given. So a whole solution compiles into one executable, can be batched, and
//! stands inside other programs. Functions capture the tensors that they depend on; roots, fixed points and trajectories are
//! differentiable by these.
//!
//! ```
//! use lehr::prelude::*;
//! use lehr::solve::root;
//! let a = Tensor::from(2.0f64);
//! let x = root(&Tensor::from(1.0f64), |x| x * x - &a);
//! assert_eq!(x.to_string(), "1.4142135623730951");
//! // The derivative of √a is 1 / (2 √a).
//! let slope: f64 = grad(&x, &a).to()?;
//! assert!((slope - 0.5 / 2.0f64.sqrt()).abs() < 1e-15);
//! # Ok::<(), lehr::Error>(())
//! ```
//!
//! | | method | derivative |
//! |---|---|---|
//! | [`minimize`] | L-BFGS, or Newton's method with conjugate gradients | forward mode |
//! | [`root`] | Newton's method with a dense Jacobian | by the implicit function theorem |
//! | [`fixed_point`] | iteration | by the implicit function theorem |
//! | [`odeint`] | Runge and Kutta's, with fixed or controlled steps | through the steps |

use lehr_ir::DType;

use crate::tensor::Tensor;

mod closed;
mod dense;
mod fixed_point;
mod implicit;
mod layout;
mod minimize;
mod ode;
mod root;

pub use fixed_point::{fixed_point, fixed_point_with};
pub use minimize::{Method, MinimizeOptions, Minimum, minimize, minimize_with};
pub use ode::{OdeOptions, Trajectory, odeint, odeint_with};
pub use root::{root, root_with};

/// When an iteration towards a root or fixed point ends.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::solve::{SolveOptions, fixed_point_with};
/// let found = fixed_point_with(&SolveOptions::default().tolerance(1e-3), &Tensor::from(1.0f64), |x| x.cos());
/// assert!((found.x.to::<f64>()? - 0.739).abs() < 1e-3);
/// assert!(found.converged.to::<bool>()?);
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SolveOptions {
    tolerance: Option<f64>,
    iterations: u32,
}

impl Default for SolveOptions {
    /// 1000 iterations at most; the tolerance is the dtype's epsilon to the power of ¾, 1.8e-12 for `f64`.
    fn default() -> Self {
        Self { tolerance: None, iterations: 1000 }
    }
}

impl SolveOptions {
    /// How far from zero each element of what should be zero may be.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = Some(tolerance);
        self
    }

    /// The most iterations.
    pub fn iterations(mut self, most: u32) -> Self {
        self.iterations = most;
        self
    }

    fn tolerance_for(&self, x: &Tensor) -> f64 {
        self.tolerance.unwrap_or_else(|| epsilon(x).powf(0.75))
    }
}

/// What an iteration towards a root or fixed point came to.
#[derive(Clone, Debug)]
pub struct Solution<X> {
    /// The last iterate.
    pub x: X,
    /// The greatest element of what should be zero there, in size: a scalar.
    pub residual: Tensor,
    /// Whether the residual is within the tolerance: `bool[]`.
    pub converged: Tensor,
}

/// The distance from 1 to the next number of a tensor's dtype.
fn epsilon(x: &Tensor) -> f64 {
    match x.dtype() {
        Some(DType::F64) => f64::EPSILON,
        Some(DType::F16) => 0.5f64.powi(10),
        Some(DType::BF16) => 0.5f64.powi(7),
        _ => f64::from(f32::EPSILON),
    }
}

//! Optimisers: from a loss and a model to a function that makes one step.

use std::sync::Arc;

use lehr_ir::loc::Loc;

use crate::error::Result;
use crate::function::Function;
use crate::tensor::{Arg, Operand, Tensor};
use crate::transform::gradients;
use crate::tree::{self, Tree};

mod adam;
mod sgd;

pub use adam::Adam;
pub use sgd::Sgd;

/// A rule that makes new values of weights from gradients.
pub trait Optimizer {
    /// The name that its own variables start with.
    fn name(&self) -> &'static str;

    /// Updates for all weights: pairs of a variable and its new value, those of its own included.
    ///
    /// Each weight comes with its path name and gradient.
    #[track_caller]
    fn updates(&self, weights: &[Weight]) -> Vec<(Tensor, Tensor)>;

    /// A function named `step` that gives the loss, and updates the trainable float variables of a model to lessen it.
    ///
    /// Variables are named by their paths in the model. More outputs can be added before it is compiled.
    /// # Errors
    /// A loss that is no scalar or carries errors; an operation on the way to a weight without a derivative.
    /// ```
    /// use lehr::prelude::*;
    /// let w = Tensor::variable("w", [4.0f32]);
    /// let loss = (&w * &w).sum();
    /// let mut step = Sgd::new(0.25).minimize(&loss, &w)?.compile(Options::default())?;
    /// let loss: f32 = step.run(())?.unpack()?;
    /// assert_eq!((loss, step.state().get("w")?.to_string()), (16.0, "[2]".to_owned()));
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    fn minimize<T: Tree + ?Sized>(&self, loss: &Tensor, model: &T) -> Result<Function>
    where
        Self: Sized,
    {
        let loc = Loc::caller();
        let mut weights: Vec<Weight> = Vec::new();
        for (path, value) in tree::named_leaves(model) {
            let Some(v) = value.as_variable() else { continue };
            let known = weights.iter().any(|w| w.value.as_variable().is_some_and(|k| Arc::ptr_eq(k, v)));
            if known || !v.trainable || !v.ty.dtype.is_inexact() {
                continue;
            }
            let name = if path.is_empty() { v.name.clone() } else { path };
            weights.push(Weight { name, gradient: value.clone(), value });
        }
        let leaves: Vec<Tensor> = weights.iter().map(|w| w.value.clone()).collect();
        let (loss, grads) = match gradients(loss, &leaves, &loc) {
            Ok(all) => all,
            Err(bad) => {
                bad.check()?;
                return Err(crate::Error::internal("a failed gradient carries no error"));
            }
        };
        for (w, g) in weights.iter_mut().zip(grads) {
            w.gradient = g;
        }
        let mut f = Function::new("step").output("loss", &loss).named(model);
        for (variable, value) in self.updates(&weights) {
            f = f.update(&variable, &value);
        }
        Ok(f)
    }
}

/// A weight, by its path name, with its gradient.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Its path in the model.
    pub name: String,
    /// The variable.
    pub value: Tensor,
    /// The gradient of the loss by it.
    pub gradient: Tensor,
}

impl Weight {
    /// A variable that an optimiser keeps for this weight: zeros of the weight's type, named `adam.m.hidden.weight`.
    #[track_caller]
    pub fn slot(&self, prefix: &str) -> Tensor {
        let ty = match self.value.ty() {
            Ok(ty) => ty.clone(),
            Err(_) => return self.value.clone(),
        };
        let shape = ty.static_shape().unwrap_or_default();
        Tensor::buffer(&crate::tree::join(prefix, &self.name), lehr_ir::Array::zeros(ty.dtype, &shape))
    }
}

/// A number that an optimiser is made with: fixed, or a tensor such as an input named `lr`.
pub(crate) fn rate(value: impl Operand) -> Arg {
    value.operand()
}

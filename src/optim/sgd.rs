//! Gradient descent with momentum.

use super::{Optimizer, Weight, rate};
use crate::tensor::{Arg, Operand, Tensor};

/// Stochastic gradient descent: `w - lr · g`, with momentum `v = momentum · v + g` in place of `g` if asked for.
///
/// # Source
/// Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", 2013; Nesterov's
/// form as there, `g + momentum · v`.
#[derive(Clone, Debug)]
pub struct Sgd {
    lr: Arg,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Sgd {
    /// Plain descent at a rate: a number, or a scalar tensor such as an input.
    pub fn new(lr: impl Operand) -> Self {
        Self { lr: rate(lr), momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// The same with momentum, such as 0.9.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// The same with Nesterov's form of momentum.
    #[must_use]
    pub fn nesterov(mut self) -> Self {
        self.nesterov = true;
        self
    }

    /// The same with `decay · w` added to each gradient.
    #[must_use]
    pub fn weight_decay(mut self, decay: f64) -> Self {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    #[track_caller]
    fn updates(&self, weights: &[Weight]) -> Vec<(Tensor, Tensor)> {
        let mut out = Vec::new();
        for w in weights {
            let mut g = w.gradient.clone();
            if self.weight_decay != 0.0 {
                g = g + &w.value * self.weight_decay;
            }
            if self.momentum != 0.0 {
                let v = w.slot("sgd.v");
                let moved = &v * self.momentum + &g;
                g = if self.nesterov { g + &moved * self.momentum } else { moved.clone() };
                out.push((v, moved));
            }
            out.push((w.value.clone(), (&w.value - g * self.lr.clone()).cast_like(&w.value)));
        }
        out
    }
}

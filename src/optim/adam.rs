//! Adam.

use super::{Optimizer, Weight, rate};
use crate::DType;
use crate::tensor::{Arg, Operand, Tensor};

/// Adam: steps scaled by running means of the gradient and its square, corrected for their start at 0.
///
/// `m = β₁ m + (1 - β₁) g`, `v = β₂ v + (1 - β₂) g²`, `w - lr · m / (1 - β₁ᵗ) / (sqrt(v / (1 - β₂ᵗ)) + ε)`; with weight decay,
/// `lr · decay · w` is taken off as well (AdamW).
/// # Source
/// Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; Loshchilov and Hutter, "Decoupled Weight Decay
/// Regularization", 2019.
#[derive(Clone, Debug)]
pub struct Adam {
    lr: Arg,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
}

impl Adam {
    /// Adam at a rate (a number, or a scalar tensor such as an input), with β = 0.9 and 0.999, ε = 1e-8.
    pub fn new(lr: impl Operand) -> Self {
        Self { lr: rate(lr), betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0 }
    }

    /// The same with other decay rates of the means.
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.betas = [first, second];
        self
    }

    /// The same with another ε.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The same with decoupled weight decay.
    #[must_use]
    pub fn weight_decay(mut self, decay: f64) -> Self {
        self.weight_decay = decay;
        self
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    #[track_caller]
    fn updates(&self, weights: &[Weight]) -> Vec<(Tensor, Tensor)> {
        let [b1, b2] = self.betas;
        let t = Tensor::buffer("adam.t", 0i64);
        let next = &t + 1;
        let mut out = vec![(t, next.clone())];
        // The corrections are as precise as the most precise weight.
        let wide = weights.iter().any(|w| w.value.dtype() == Some(DType::F64));
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let steps = next.cast(dtype);
        let c1 = 1.0 - Tensor::full(dtype, (), b1).pow(&steps);
        let c2 = 1.0 - Tensor::full(dtype, (), b2).pow(&steps);
        for w in weights {
            let (m, v) = (w.slot("adam.m"), w.slot("adam.v"));
            let g = &w.gradient;
            let m_next = (&m * b1 + g * (1.0 - b1)).cast_like(&m);
            let v_next = (&v * b2 + g * g * (1.0 - b2)).cast_like(&v);
            let mut step = &m_next / &c1 / ((&v_next / &c2).sqrt() + self.epsilon);
            if self.weight_decay != 0.0 {
                step = step + &w.value * self.weight_decay;
            }
            out.push((w.value.clone(), (&w.value - step * self.lr.clone()).cast_like(&w.value)));
            out.push((m, m_next));
            out.push((v, v_next));
        }
        out
    }
}

//! The gated recurrent unit.

use lehr_ir::loc::Loc;

use super::{direction, kernels, project, start};
use crate::context::Context;
use crate::control::scan_with;
use crate::init;
use crate::nn::Layer;
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// The gated recurrent unit, in the form whose reset gate acts after the product (`reset_after` in Keras, and cuDNN's).
///
/// With `a = x · weight + bias` and `b = h · recurrent + recurrent_bias`, whose columns are the gates `z`, `r`, `n` in this order:
/// `z = σ(a_z + b_z)`, `r = σ(a_r + b_r)`, `n = tanh(a_n + r b_n)`, `h' = z h + (1 - z) n`.
/// # Shapes
/// `x: [batch, time, features]`, the outputs `[batch, time, units]`, the state `[batch, units]`; `weight: [features, 3 units]`,
/// `recurrent: [units, 3 units]`, both biases `[3 units]`. Batch and time may be names.
/// # Gradient
/// Through the steps backwards; the gates of each step are kept.
/// # Source
/// Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder", 2014; Keras' `GRU`.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::Gru;
/// let layer = Gru::new(8, 32, &mut Keys::new(0)).reverse();
/// let x = Tensor::input("x", F32, ("batch", 20, 8));
/// let (outputs, last) = layer.run(&x, None, &mut Context::eval());
/// assert_eq!(outputs.ty()?.to_string(), "f32[batch, 20, 32]");
/// assert_eq!(last.ty()?.to_string(), "f32[batch, 32]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Gru {
    /// `[features, 3 · units]`.
    pub weight: Tensor,
    /// `[units, 3 · units]`.
    pub recurrent: Tensor,
    /// `[3 · units]`.
    pub bias: Tensor,
    /// `[3 · units]`.
    pub recurrent_bias: Tensor,
    /// Whether it reads from the last step to the first.
    pub reverse: bool,
}

impl Gru {
    /// A layer with a Glorot-uniform kernel, an orthogonal recurrent one, and biases of zeros.
    #[track_caller]
    pub fn new(features: usize, units: usize, keys: &mut Keys) -> Self {
        let (weight, recurrent) = kernels(features, units, 3, keys);
        Self {
            weight: Tensor::variable("weight", weight),
            recurrent: Tensor::variable("recurrent", recurrent),
            bias: Tensor::variable("bias", init::zeros(&[3 * units])),
            recurrent_bias: Tensor::variable("recurrent_bias", init::zeros(&[3 * units])),
            reverse: false,
        }
    }

    /// The same, reading from the last step to the first. Outputs keep the order of the inputs.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// The outputs of all steps, from a state of zeros.
    ///
    /// # Errors
    /// As [`Gru::run`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        self.run(x, None, cx).0
    }

    /// The outputs of all steps and the last state, from a given state or zeros.
    ///
    /// # Errors
    /// An `x` that is not `[batch, time, features]`; a state of another type than `[batch, units]`.
    #[track_caller]
    pub fn run(&self, x: &Tensor, initial: Option<&Tensor>, _: &mut Context) -> (Tensor, Tensor) {
        let rows = match project("gru", x, &self.weight, &self.bias, &Loc::caller()) {
            Ok(rows) => rows,
            Err(bad) => return (bad.clone(), bad),
        };
        let h = start(initial, &rows, &self.recurrent);
        let (last, outputs) = scan_with(direction(self.reverse), &h, &rows, |h, x| {
            let h = self.step(h, x);
            (h.clone(), h)
        });
        (outputs.swap_axes(0, 1), last)
    }

    /// One step, from the part of the gates that comes from the input.
    fn step(&self, h: &Tensor, x: &Tensor) -> Tensor {
        let (a, b) = (x.split(3, -1), (h.matmul(&self.recurrent) + &self.recurrent_bias).split(3, -1));
        let (z, r) = ((&a[0] + &b[0]).sigmoid(), (&a[1] + &b[1]).sigmoid());
        let n = (&a[2] + r * &b[2]).tanh();
        &z * h + (1.0 - &z) * n
    }
}

impl Layer for Gru {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

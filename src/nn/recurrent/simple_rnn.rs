//! The plain recurrent layer.

use lehr_ir::loc::Loc;

use super::{direction, kernels, project, start};
use crate::context::Context;
use crate::control::scan_with;
use crate::init;
use crate::nn::Layer;
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// A fully connected recurrent layer: `h' = tanh(x · weight + bias + h · recurrent)`.
///
/// # Shapes
/// `x: [batch, time, features]`, the outputs `[batch, time, units]`, the state `[batch, units]`; `weight: [features, units]`,
/// `recurrent: [units, units]`, `bias: [units]`. Batch and time may be names.
/// # Gradient
/// Through the steps backwards; what each step's tanh gave is kept.
/// # Source
/// Elman, "Finding Structure in Time", 1990; Keras' `SimpleRNN`.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::SimpleRnn;
/// let layer = SimpleRnn::new(8, 32, &mut Keys::new(0));
/// let x = Tensor::input("x", F32, ("batch", 20, 8));
/// let (outputs, last) = layer.run(&x, None, &mut Context::eval());
/// assert_eq!(outputs.ty()?.to_string(), "f32[batch, 20, 32]");
/// assert_eq!(last.ty()?.to_string(), "f32[batch, 32]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct SimpleRnn {
    /// `[features, units]`.
    pub weight: Tensor,
    /// `[units, units]`.
    pub recurrent: Tensor,
    /// `[units]`.
    pub bias: Tensor,
    /// Whether it reads from the last step to the first.
    pub reverse: bool,
}

impl SimpleRnn {
    /// A layer with a Glorot-uniform kernel, an orthogonal recurrent one, and a bias of zeros.
    #[track_caller]
    pub fn new(features: usize, units: usize, keys: &mut Keys) -> Self {
        let (weight, recurrent) = kernels(features, units, 1, keys);
        Self {
            weight: Tensor::variable("weight", weight),
            recurrent: Tensor::variable("recurrent", recurrent),
            bias: Tensor::variable("bias", init::zeros(&[units])),
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
    /// As [`SimpleRnn::run`].
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
        let rows = match project("simple_rnn", x, &self.weight, &self.bias, &Loc::caller()) {
            Ok(rows) => rows,
            Err(bad) => return (bad.clone(), bad),
        };
        let h = start(initial, &rows, &self.recurrent);
        let (last, outputs) = scan_with(direction(self.reverse), &h, &rows, |h, x| {
            let h = (x + h.matmul(&self.recurrent)).tanh();
            (h.clone(), h)
        });
        (outputs.swap_axes(0, 1), last)
    }
}

impl Layer for SimpleRnn {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

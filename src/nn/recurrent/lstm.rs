//! Long short-term memory.

use lehr_ir::Array;
use lehr_ir::loc::Loc;

use super::{direction, kernels, project, start};
use crate::context::Context;
use crate::control::scan_with;
use crate::nn::Layer;
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// Long short-term memory: a state `h`, and a cell `c` that gates write, keep and read.
///
/// With `z = x · weight + bias + h · recurrent`, whose columns are the gates `i`, `f`, `g`, `o` in this order:
/// `c' = σ(f) c + σ(i) tanh(g)`, `h' = σ(o) tanh(c')`.
/// # Shapes
/// `x: [batch, time, features]`, the outputs `[batch, time, units]`, `h` and `c: [batch, units]`; `weight: [features, 4 units]`,
/// `recurrent: [units, 4 units]`, `bias: [4 units]`. Batch and time may be names.
/// # Gradient
/// Through the steps backwards; the gates of each step are kept.
/// # Source
/// Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; the forget gate after Gers, Schmidhuber and Cummins, "Learning to
/// Forget", 2000, with its bias of 1 after Jozefowicz, Zaremba and Sutskever, 2015; gate order of Keras' `LSTM`.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::Lstm;
/// let layer = Lstm::new(8, 32, &mut Keys::new(0));
/// let x = Tensor::input("x", F32, ("batch", 20, 8));
/// let (outputs, last) = layer.run(&x, None, &mut Context::eval());
/// assert_eq!(outputs.ty()?.to_string(), "f32[batch, 20, 32]");
/// assert_eq!(last.c.ty()?.to_string(), "f32[batch, 32]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Lstm {
    /// `[features, 4 · units]`.
    pub weight: Tensor,
    /// `[units, 4 · units]`.
    pub recurrent: Tensor,
    /// `[4 · units]`.
    pub bias: Tensor,
    /// Whether it reads from the last step to the first.
    pub reverse: bool,
}

/// What an [`Lstm`] carries from step to step.
#[derive(Clone, Debug, Tree)]
pub struct LstmState {
    /// The last output, `[batch, units]`.
    pub h: Tensor,
    /// The cell, `[batch, units]`.
    pub c: Tensor,
}

impl Lstm {
    /// A layer with a Glorot-uniform kernel, an orthogonal recurrent one, and a bias of 1 for the forget gate and 0 elsewhere.
    #[track_caller]
    pub fn new(features: usize, units: usize, keys: &mut Keys) -> Self {
        let (weight, recurrent) = kernels(features, units, 4, keys);
        let bias: Vec<f32> = (0..4 * units).map(|i| if i / units == 1 { 1.0 } else { 0.0 }).collect();
        Self {
            weight: Tensor::variable("weight", weight),
            recurrent: Tensor::variable("recurrent", recurrent),
            bias: Tensor::variable("bias", Array::from(bias)),
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
    /// As [`Lstm::run`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        self.run(x, None, cx).0
    }

    /// The outputs of all steps and the last state, from a given state or zeros.
    ///
    /// # Errors
    /// An `x` that is not `[batch, time, features]`; a state of another type than `[batch, units]`.
    #[track_caller]
    pub fn run(&self, x: &Tensor, initial: Option<&LstmState>, _: &mut Context) -> (Tensor, LstmState) {
        let rows = match project("lstm", x, &self.weight, &self.bias, &Loc::caller()) {
            Ok(rows) => rows,
            Err(bad) => return (bad.clone(), LstmState { h: bad.clone(), c: bad }),
        };
        let initial = LstmState {
            h: start(initial.map(|s| &s.h), &rows, &self.recurrent),
            c: start(initial.map(|s| &s.c), &rows, &self.recurrent),
        };
        let (last, outputs) = scan_with(direction(self.reverse), &initial, &rows, |state, x| {
            let next = self.step(state, x);
            (next.clone(), next.h)
        });
        (outputs.swap_axes(0, 1), last)
    }

    /// One step, from the part of the gates that comes from the input.
    fn step(&self, state: &LstmState, x: &Tensor) -> LstmState {
        let gates = (x + state.h.matmul(&self.recurrent)).split(4, -1);
        let c = gates[1].sigmoid() * &state.c + gates[0].sigmoid() * gates[2].tanh();
        LstmState { h: gates[3].sigmoid() * c.tanh(), c }
    }
}

impl Layer for Lstm {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

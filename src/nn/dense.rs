//! A fully connected layer.

use lehr_ir::Array;

use crate::context::Context;
use crate::init;
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::Tree;

/// `x · weight + bias`.
///
/// # Shapes
/// `weight: [inputs, outputs]`, `bias: [outputs]`, `x: […, inputs]`.
/// ```
/// use lehr::prelude::*;
/// let layer = Dense::new(64, 10, &mut Keys::new(0));
/// let y = layer.forward(&Tensor::input("x", F32, ("batch", 64)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 10]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Dense {
    /// `[inputs, outputs]`.
    pub weight: Tensor,
    /// `[outputs]`, if it has one.
    pub bias: Option<Tensor>,
}

impl Dense {
    /// A layer with He-uniform weights, for a relu after it, and a bias of zeros.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, keys: &mut Keys) -> Self {
        Self::with(init::he_uniform(keys.next(), &[inputs, outputs]), Some(init::zeros(&[outputs])))
    }

    /// A layer with Glorot-uniform weights, for outputs that are used as they are, and a bias of zeros.
    #[track_caller]
    pub fn glorot(inputs: usize, outputs: usize, keys: &mut Keys) -> Self {
        Self::with(init::glorot_uniform(keys.next(), &[inputs, outputs]), Some(init::zeros(&[outputs])))
    }

    /// A layer with these initial values.
    #[track_caller]
    pub fn with(weight: Array, bias: Option<Array>) -> Self {
        #[expect(clippy::manual_map, reason = "a closure would lose the caller's line")]
        let bias = match bias {
            Some(bias) => Some(Tensor::variable("bias", bias)),
            None => None,
        };
        Self { weight: Tensor::variable("weight", weight), bias }
    }

    /// `x · weight + bias`.
    ///
    /// # Errors
    /// An `x` whose last dim is not the number of inputs.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        let y = x.matmul(&self.weight);
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }
}

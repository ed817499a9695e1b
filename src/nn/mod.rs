//! Layers.

use crate::context::Context;
use crate::random;
use crate::tensor::Tensor;

mod attention;
mod conv;
mod dense;
mod embedding;
mod norm;
mod pool;
mod recurrent;
mod sequential;

pub use attention::{AttentionOptions, MultiHeadAttention, attention};
pub use conv::{Conv, ConvTranspose};
pub use dense::Dense;
pub use embedding::Embedding;
pub use norm::{BatchNorm, LayerNorm};
pub use pool::{AvgPool, MaxPool};
pub use recurrent::{Gru, Lstm, LstmState, SimpleRnn};
pub use sequential::{Layer, Sequential};

/// In training, each element is 0 with probability `rate`, and the others are scaled by `1 / (1 - rate)`; `x` in evaluation.
///
/// # Gradient
/// Scaled where kept, 0 elsewhere.
/// # Errors
/// A rate that is not in `[0, 1)`.
/// # Source
/// Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
#[track_caller]
pub fn dropout(x: &Tensor, rate: f64, cx: &mut Context) -> Tensor {
    if !(0.0..1.0).contains(&rate) {
        let rule = format!("the rate {rate} is not in [0, 1)");
        return Tensor::refuse("dropout", &[x], &rule, "give the part of elements to drop", lehr_ir::Loc::caller());
    }
    if !cx.is_train() || rate == 0.0 {
        return x.clone();
    }
    let shape: lehr_ir::Shape = x.shape().iter().cloned().collect();
    let keep = random::uniform(cx.key(), crate::DType::F32, shape).ge(rate);
    Tensor::select(&keep, x * (1.0 / (1.0 - rate)), 0)
}

/// [`dropout`] as a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    /// The part of elements that is dropped.
    pub rate: f64,
}

impl Dropout {
    /// Drops this part of the elements.
    pub const fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// See [`dropout`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        dropout(x, self.rate, cx)
    }
}

//! Layers that normalise: by the batch, and by each example alone.

use crate::context::Context;
use crate::init;
use crate::nn::Layer;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// Batch normalisation: each channel with mean 0 and variance 1 over the batch, then scaled and shifted.
///
/// In training, `y = (x - mean) / sqrt(var + eps) · scale + bias` with mean and (biased) variance over all axes but the last, and
/// the running ones move towards them: `running ← momentum · running + (1 - momentum) · batch`, left in the context for
/// [`Function::updates_of`](crate::Function::updates_of).
/// In evaluation the running ones are used: `y = x · s + t` with `s = scale / sqrt(var + eps)` and `t = bias - mean · s`, one
/// multiplication and addition that run inside the convolution or matrix product before it.
/// # Shapes
/// All variables `[channels]`; `x: […, channels]`.
/// # Gradient
/// Through mean and variance, in training.
/// # Errors
/// An `x` whose last dim is not the number of channels, or of rank 0.
/// # Source
/// Ioffe and Szegedy, "Batch Normalization", 2015; momentum and epsilon as in PyTorch, the biased variance as in Keras.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::BatchNorm;
/// let (layer, mut cx) = (BatchNorm::new(32), Context::train());
/// let y = layer.forward(&Tensor::input("x", F32, ("batch", 14, 14, 32)), &mut cx);
/// assert_eq!((y.ty()?.to_string(), cx.updates().len()), ("f32[batch, 14, 14, 32]".to_owned(), 2));
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct BatchNorm {
    /// What normalised channels are multiplied by.
    pub scale: Tensor,
    /// What is added then.
    pub bias: Tensor,
    /// The running mean, not trained.
    pub mean: Tensor,
    /// The running variance, not trained.
    pub var: Tensor,
    /// How much of a running statistic stays in a step of training.
    pub momentum: f64,
    /// What is added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// A layer that changes nothing yet: scale and variance 1, bias and mean 0, momentum 0.9, epsilon 1e-5.
    #[track_caller]
    pub fn new(channels: usize) -> Self {
        Self {
            scale: Tensor::variable("scale", init::ones(&[channels])),
            bias: Tensor::variable("bias", init::zeros(&[channels])),
            mean: Tensor::buffer("mean", init::zeros(&[channels])),
            var: Tensor::buffer("var", init::ones(&[channels])),
            momentum: 0.9,
            eps: 1e-5,
        }
    }

    /// The normalised `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        if let Some(bad) = refuse_channels("batch_norm", x, &self.scale) {
            return bad;
        }
        if !cx.is_train() {
            let s = &self.scale * (&self.var + self.eps).rsqrt();
            let t = &self.bias - &self.mean * &s;
            return x * s + t;
        }
        let axes: Vec<i64> = (0..x.rank() as i64 - 1).collect();
        let mean = x.mean_axes(&axes[..]);
        let d = x - &mean;
        let var = (&d * &d).mean_axes(&axes[..]);
        for (running, batch) in [(&self.mean, &mean), (&self.var, &var)] {
            let batch = crate::stop_gradient(batch);
            cx.update(running, &(running * self.momentum + batch * (1.0 - self.momentum)));
        }
        d * ((var + self.eps).rsqrt() * &self.scale) + &self.bias
    }
}

/// Layer normalisation: each example's features with mean 0 and variance 1, then scaled and shifted.
///
/// `y = (x - mean) / sqrt(var + eps) · scale + bias`, mean and variance over the last axis.
/// # Shapes
/// `scale` and `bias: [features]`, `x: […, features]`.
/// # Errors
/// An `x` whose last dim is not the number of features, or of rank 0.
/// # Source
/// Ba, Kiros and Hinton, "Layer Normalization", 2016.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::LayerNorm;
/// let x = Tensor::from([[1.0f32, 3.0], [-2.0, -2.0]]);
/// let y = LayerNorm::new(2).forward(&x, &mut Context::eval());
/// let y: Vec<f32> = y.to()?;
/// assert!(y.iter().zip([-1.0, 1.0, 0.0, 0.0]).all(|(y, want)| (y - want).abs() < 1e-4));
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct LayerNorm {
    /// What normalised features are multiplied by.
    pub scale: Tensor,
    /// What is added then.
    pub bias: Tensor,
    /// What is added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// A layer with scale 1, bias 0 and epsilon 1e-5.
    #[track_caller]
    pub fn new(features: usize) -> Self {
        Self {
            scale: Tensor::variable("scale", init::ones(&[features])),
            bias: Tensor::variable("bias", init::zeros(&[features])),
            eps: 1e-5,
        }
    }

    /// The normalised `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        match refuse_channels("layer_norm", x, &self.scale) {
            Some(bad) => bad,
            None => x.layer_norm(-1, self.eps) * &self.scale + &self.bias,
        }
    }
}

/// The error of an operand whose last dim is not the layer's.
#[track_caller]
fn refuse_channels(op: &str, x: &Tensor, scale: &Tensor) -> Option<Tensor> {
    if x.ty().is_err() || scale.ty().is_err() {
        return None;
    }
    let loc = lehr_ir::Loc::caller();
    let Some(last) = x.shape().last() else {
        return Some(Tensor::refuse(op, &[x, scale], "the operand has no axis", "give it one for its features", loc));
    };
    let fits = scale.shape().first().is_some_and(|n| x.facts().decide_eq(last, n) == Some(true));
    (!fits).then(|| {
        let rule = format!(
            "the last dim is {last}, and the layer has {}",
            scale.shape().first().map_or("none".to_owned(), ToString::to_string)
        );
        Tensor::refuse(op, &[x, scale], &rule, "build the layer with as many features, channels last", loc)
    })
}

impl Layer for BatchNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

impl Layer for LayerNorm {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

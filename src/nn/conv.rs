//! Convolutional layers.

use lehr_ir::Array;

use crate::context::Context;
use crate::init;
use crate::nn::Layer;
use crate::random::Keys;
use crate::tensor::{ConvOptions, Tensor, conv, conv_transpose};
use crate::tree::{Path, Tree};

/// A convolution with a bias for each channel, over any number of window dims (Keras' `Conv1D`, `Conv2D` and `Conv3D`).
///
/// # Shapes
/// `weight: [taps…, inputs / groups, outputs]`, `bias: [outputs]`, `x: [n, base…, inputs]`, channels last; with
/// [`Layout::ChannelsFirst`](crate::Layout::ChannelsFirst), `weight: [outputs, inputs / groups, taps…]`, `x: [n, inputs, base…]`.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::Conv;
/// let layer = Conv::new(1, 32, [3, 3], ConvOptions::new(), &mut Keys::new(0));
/// let y = layer.forward(&Tensor::input("x", F32, ("batch", 28, 28, 1)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 26, 26, 32]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Conv {
    /// The kernel.
    pub weight: Tensor,
    /// `[outputs]`, if it has one.
    pub bias: Option<Tensor>,
    /// How it goes over its operand.
    #[tree(skip)]
    pub options: ConvOptions,
}

impl Conv {
    /// A layer with He-uniform weights, for a relu after it, and a bias of zeros.
    ///
    /// # Errors
    /// Groups that do not divide the channels are refused where the layer is called.
    #[track_caller]
    pub fn new<const D: usize>(
        inputs: usize,
        outputs: usize,
        taps: [usize; D],
        options: ConvOptions,
        keys: &mut Keys,
    ) -> Self {
        let weight = kernel(&taps, inputs / options.group_count().max(1), outputs, &options, keys);
        Self::with(weight, Some(init::zeros(&[outputs])), options)
    }

    /// The same without a bias, for a normalisation after it.
    #[track_caller]
    pub fn without_bias<const D: usize>(
        inputs: usize,
        outputs: usize,
        taps: [usize; D],
        options: ConvOptions,
        keys: &mut Keys,
    ) -> Self {
        let weight = kernel(&taps, inputs / options.group_count().max(1), outputs, &options, keys);
        Self::with(weight, None, options)
    }

    /// A layer with these initial values.
    #[track_caller]
    pub fn with(weight: Array, bias: Option<Array>, options: ConvOptions) -> Self {
        #[expect(clippy::manual_map, reason = "a closure would lose the caller's line")]
        let bias = match bias {
            Some(bias) => Some(Tensor::variable("bias", bias)),
            None => None,
        };
        Self { weight: Tensor::variable("weight", weight), bias, options }
    }

    /// The convolution of `x`, plus the bias.
    ///
    /// # Errors
    /// As of [`conv`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        biased(conv(x, &self.weight, self.options.clone()), self.bias.as_ref(), &self.options)
    }
}

/// The transpose of a convolution, with a bias for each channel, as decoders use it to enlarge (Keras' `Conv2DTranspose`).
///
/// # Shapes
/// `weight: [taps…, outputs / groups, inputs]`, `bias: [outputs]`, `x: [n, base…, inputs]`, channels last; see
/// [`conv_transpose`] for the size of the result.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::ConvTranspose;
/// let options = ConvOptions::new().stride(2);
/// let enlarge = ConvTranspose::new(8, 3, [2, 2], options, &mut Keys::new(0));
/// let y = enlarge.forward(&Tensor::input("x", F32, ("batch", 7, 7, 8)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 14, 14, 3]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct ConvTranspose {
    /// The kernel.
    pub weight: Tensor,
    /// `[outputs]`, if it has one.
    pub bias: Option<Tensor>,
    /// How it goes over its operand.
    #[tree(skip)]
    pub options: ConvOptions,
}

impl ConvTranspose {
    /// A layer with Glorot-uniform weights and a bias of zeros.
    #[track_caller]
    pub fn new<const D: usize>(
        inputs: usize,
        outputs: usize,
        taps: [usize; D],
        options: ConvOptions,
        keys: &mut Keys,
    ) -> Self {
        let shape = shape(&taps, outputs / options.group_count().max(1), inputs, &options);
        let weight = Tensor::variable("weight", init::glorot_uniform(keys.next(), &shape));
        Self { weight, bias: Some(Tensor::variable("bias", init::zeros(&[outputs]))), options }
    }

    /// The transposed convolution of `x`, plus the bias.
    ///
    /// # Errors
    /// As of [`conv_transpose`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        biased(conv_transpose(x, &self.weight, self.options.clone()), self.bias.as_ref(), &self.options)
    }
}

/// A kernel's shape in the layout of the options.
fn shape(taps: &[usize], inputs: usize, outputs: usize, options: &ConvOptions) -> Vec<usize> {
    if options.is_channels_last() {
        taps.iter().copied().chain([inputs, outputs]).collect()
    } else {
        [outputs, inputs].into_iter().chain(taps.iter().copied()).collect()
    }
}

/// A He-uniform kernel: the fan is that of the channels and taps that one output sees.
fn kernel(taps: &[usize], inputs: usize, outputs: usize, options: &ConvOptions, keys: &mut Keys) -> Array {
    let fan: usize = taps.iter().product::<usize>() * inputs;
    let bound = (6.0 / fan.max(1) as f64).sqrt() as f32;
    init::uniform(keys.next(), &shape(taps, inputs, outputs, options), -bound, bound)
}

#[track_caller]
fn biased(y: Tensor, bias: Option<&Tensor>, options: &ConvOptions) -> Tensor {
    let Some(bias) = bias else { return y };
    if options.is_channels_last() {
        return y + bias;
    }
    let mut bias = bias.clone();
    for _ in 2..y.rank() {
        bias = bias.expand_dims(-1);
    }
    y + bias
}

impl Layer for Conv {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

impl Layer for ConvTranspose {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

//! Residual networks for images.

use crate::context::Context;
use crate::nn::{BatchNorm, Conv, Dense};
use crate::random::Keys;
use crate::tensor::{ConvOptions, PoolOptions, Tensor, max_pool};
use crate::tree::Tree;

/// A residual network of basic blocks: ResNet-18 and ResNet-34, for images `[n, height, width, channels]`.
///
/// # Source
/// He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016; layout and names follow torchvision.
/// ```
/// use lehr::prelude::*;
/// use lehr::models::ResNet;
/// let model = ResNet::resnet18(3, 1000, &mut Keys::new(0));
/// let logits = model.forward(&Tensor::input("x", F32, (1, 64, 64, 3)), &mut Context::eval());
/// assert_eq!(logits.ty()?.to_string(), "f32[1, 1000]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct ResNet {
    /// 7×7, stride 2.
    pub conv: Conv,
    /// Of the first convolution.
    pub norm: BatchNorm,
    /// The stages: from each to the next, half the size and twice the channels.
    pub stages: Vec<Vec<Residual>>,
    /// From features to classes.
    pub head: Dense,
}

impl ResNet {
    /// Two blocks a stage: 11.7 million weights for 1000 classes.
    #[track_caller]
    pub fn resnet18(channels: usize, classes: usize, keys: &mut Keys) -> Self {
        Self::new(channels, classes, [2, 2, 2, 2], keys)
    }

    /// 3, 4, 6 and 3 blocks: 21.8 million weights for 1000 classes.
    #[track_caller]
    pub fn resnet34(channels: usize, classes: usize, keys: &mut Keys) -> Self {
        Self::new(channels, classes, [3, 4, 6, 3], keys)
    }

    /// So many blocks in each stage.
    #[track_caller]
    pub fn new(channels: usize, classes: usize, blocks: [usize; 4], keys: &mut Keys) -> Self {
        let widths = [64, 128, 256, 512];
        let conv = Conv::without_bias(channels, widths[0], [7, 7], ConvOptions::new().stride(2).padding(3), keys);
        let mut stages = Vec::new();
        let mut inputs = widths[0];
        for (stage, (&width, &count)) in widths.iter().zip(&blocks).enumerate() {
            let mut stage_blocks = Vec::new();
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                stage_blocks.push(Residual::new(inputs, width, stride, keys));
                inputs = width;
            }
            stages.push(stage_blocks);
        }
        Self { conv, norm: BatchNorm::new(widths[0]), stages, head: Dense::glorot(inputs, classes, keys) }
    }

    /// The logits of a batch of images.
    ///
    /// # Errors
    /// Images of another rank or number of channels, or smaller than 32 × 32.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let x = cx.scope("stem", |cx| {
            let x = self.norm.forward(&self.conv.forward(x, cx), cx).relu();
            max_pool(&x, 3, PoolOptions::new().stride(2).padding(1))
        });
        let mut x = x;
        for (i, stage) in self.stages.iter().enumerate() {
            for block in stage {
                x = cx.scope(&format!("stage{i}"), |cx| block.forward(&x, cx));
            }
        }
        self.head.forward(&x.mean_axes([1, 2]), cx)
    }
}

/// A basic block: `relu(x' + norm(conv(relu(norm(conv(x))))))`, where `x'` is `x`, brought to the block's shape if it differs.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::models::Residual;
/// let block = Residual::new(8, 16, 2, &mut Keys::new(0));
/// let y = block.forward(&Tensor::input("x", F32, ("batch", 32, 32, 8)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 16, 16, 16]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Residual {
    /// 3×3, with the block's stride.
    pub conv1: Conv,
    /// Of the first convolution.
    pub norm1: BatchNorm,
    /// 3×3.
    pub conv2: Conv,
    /// Of the second convolution.
    pub norm2: BatchNorm,
    /// 1×1 with the block's stride, and its normalisation, where the shape changes.
    pub shortcut: Option<(Conv, BatchNorm)>,
}

impl Residual {
    /// A block from so many channels to so many.
    #[track_caller]
    pub fn new(inputs: usize, outputs: usize, stride: usize, keys: &mut Keys) -> Self {
        let around = ConvOptions::new().padding(1);
        let conv1 = Conv::without_bias(inputs, outputs, [3, 3], around.clone().stride(stride), keys);
        let conv2 = Conv::without_bias(outputs, outputs, [3, 3], around, keys);
        let mut shortcut = None;
        if stride != 1 || inputs != outputs {
            let options = ConvOptions::new().stride(stride);
            shortcut = Some((Conv::without_bias(inputs, outputs, [1, 1], options, keys), BatchNorm::new(outputs)));
        }
        Self { conv1, norm1: BatchNorm::new(outputs), conv2, norm2: BatchNorm::new(outputs), shortcut }
    }

    /// The block's output.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let y = self.norm1.forward(&self.conv1.forward(x, cx), cx).relu();
        let y = self.norm2.forward(&self.conv2.forward(&y, cx), cx);
        let x = match &self.shortcut {
            Some((conv, norm)) => norm.forward(&conv.forward(x, cx), cx),
            None => x.clone(),
        };
        (x + y).relu()
    }
}

//! Decoder-only transformers for language.

use crate::context::Context;
use crate::init;
use crate::nn::{Dense, Embedding, LayerNorm, MultiHeadAttention};
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::Tree;

/// The sizes of a [`Gpt`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GptConfig {
    /// How many different tokens there are.
    pub vocabulary: usize,
    /// The most positions.
    pub context: usize,
    /// Features of a position.
    pub features: usize,
    /// Heads of attention; they divide the features.
    pub heads: usize,
    /// Blocks.
    pub layers: usize,
}

/// A decoder-only transformer: learned positions, normalisation before each part, a GELU between two dense layers of four times
/// the features, and a dense output.
///
/// # Shapes
/// Tokens `[batch, time]` of any integer dtype, logits `[batch, time, vocabulary]`; `time` is at most the context.
/// # Source
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2), whose output shares its weights with the
/// embedding, which this one does not.
/// ```
/// use lehr::prelude::*;
/// use lehr::models::{Gpt, GptConfig};
/// let config = GptConfig { vocabulary: 64, context: 32, features: 16, heads: 2, layers: 2 };
/// let model = Gpt::new(config, &mut Keys::new(0));
/// let logits = model.forward(&Tensor::input("tokens", I64, ("batch", 32)), &mut Context::eval());
/// assert_eq!(logits.ty()?.to_string(), "f32[batch, 32, 64]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Gpt {
    /// A vector for each token.
    pub tokens: Embedding,
    /// A vector for each position, `[context, features]`.
    pub positions: Tensor,
    /// The blocks.
    pub blocks: Vec<GptBlock>,
    /// Before the output.
    pub norm: LayerNorm,
    /// From features to logits.
    pub head: Dense,
}

/// `x + attention(norm(x))`, then `x + out(gelu(hidden(norm(x))))`.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::models::GptBlock;
/// let block = GptBlock::new(16, 2, &mut Keys::new(0));
/// let y = block.forward(&Tensor::input("x", F32, ("batch", 32, 16)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 32, 16]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct GptBlock {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Under a causal mask.
    pub attention: MultiHeadAttention,
    /// Before the dense layers.
    pub norm2: LayerNorm,
    /// To four times the features.
    pub hidden: Dense,
    /// Back again.
    pub out: Dense,
}

impl Gpt {
    /// A model of these sizes with random weights.
    #[track_caller]
    pub fn new(config: GptConfig, keys: &mut Keys) -> Self {
        let GptConfig { vocabulary, context, features, heads, layers } = config;
        let positions = init::normal(keys.next(), &[context, features], 0.0, 0.02);
        let mut blocks = Vec::new();
        for _ in 0..layers {
            blocks.push(GptBlock::new(features, heads, keys));
        }
        Self {
            tokens: Embedding::new(vocabulary, features, keys),
            positions: Tensor::variable("positions", positions),
            blocks,
            norm: LayerNorm::new(features),
            head: Dense::glorot(features, vocabulary, keys),
        }
    }

    /// The logits of the token after each position.
    ///
    /// # Errors
    /// Tokens that are not `[batch, time]`, or a number of positions that is greater than the context.
    #[track_caller]
    pub fn forward(&self, tokens: &Tensor, cx: &mut Context) -> Tensor {
        if tokens.check().is_ok() && tokens.rank() != 2 {
            let help = "give it as many rows of positions as there are examples";
            let loc = lehr_ir::Loc::caller();
            return Tensor::refuse("gpt", &[tokens], "tokens must be [batch, time]", help, loc);
        }
        let time = tokens.shape().last().cloned().unwrap_or(lehr_ir::Dim::ONE);
        // A number of positions that is a name is not known to lie in the context, so positions are looked up.
        let positions = match time.as_const() {
            Some(n) => self.positions.slice(..n),
            None => self.positions.take(&Tensor::arange(time), 0),
        };
        let mut x = self.tokens.forward(tokens, cx) + positions;
        for (i, block) in self.blocks.iter().enumerate() {
            x = cx.scope(&format!("block{i}"), |cx| block.forward(&x, cx));
        }
        self.head.forward(&self.norm.forward(&x, cx), cx)
    }
}

impl GptBlock {
    /// A block of so many features and heads.
    #[track_caller]
    pub fn new(features: usize, heads: usize, keys: &mut Keys) -> Self {
        Self {
            norm1: LayerNorm::new(features),
            attention: MultiHeadAttention::new(features, heads, keys).causal(),
            norm2: LayerNorm::new(features),
            hidden: Dense::glorot(features, 4 * features, keys),
            out: Dense::glorot(4 * features, features, keys),
        }
    }

    /// The block's output, of the shape of `x`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let x = x + self.attention.forward(&self.norm1.forward(x, cx), cx);
        let hidden = self.hidden.forward(&self.norm2.forward(&x, cx), cx).gelu_tanh();
        &x + self.out.forward(&hidden, cx)
    }
}

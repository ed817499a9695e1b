//! Multi-head attention.

use lehr_ir::loc::Loc;

use super::{AttentionOptions, attention};
use crate::context::Context;
use crate::nn::{Dense, Layer};
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// Multi-head attention: projections of queries, keys and values, [`attention`] of each head, and a projection of what they give.
///
/// # Shapes
/// `x: […, time, model]`, as many to `[…, time, model]`. Projections: `query: [model, heads · d]`, `key` and `value:
/// [model, kv_heads · d]`, `out: [heads · d, model]`, with `d = model / heads`.
/// # Source
/// Vaswani et al., "Attention Is All You Need", 2017; Ainslie et al., "GQA", 2023.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::MultiHeadAttention;
/// let layer = MultiHeadAttention::new(64, 8, &mut Keys::new(0)).kv_heads(2, &mut Keys::new(1)).causal();
/// let y = layer.forward(&Tensor::input("x", F32, ("batch", "time", 64)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, time, 64]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct MultiHeadAttention {
    /// Of queries, for all heads side by side.
    pub query: Dense,
    /// Of keys.
    pub key: Dense,
    /// Of values.
    pub value: Dense,
    /// Of the heads' results.
    pub out: Dense,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values: as many heads of queries in a row share one of these as there are more of them.
    pub kv_heads: usize,
    /// Whether a position sees those up to its own only.
    pub causal: bool,
}

impl MultiHeadAttention {
    /// A layer with Glorot-uniform weights and biases of zeros.
    ///
    /// The numbers of heads must divide `model`; [`MultiHeadAttention::forward`] says so where they do not.
    #[track_caller]
    pub fn new(model: usize, heads: usize, keys: &mut Keys) -> Self {
        Self {
            query: Dense::glorot(model, model, keys),
            key: Dense::glorot(model, model, keys),
            value: Dense::glorot(model, model, keys),
            out: Dense::glorot(model, model, keys),
            heads,
            kv_heads: heads,
            causal: false,
        }
    }

    /// The same, with new projections of keys and values to fewer heads.
    #[must_use]
    #[track_caller]
    pub fn kv_heads(mut self, kv_heads: usize, keys: &mut Keys) -> Self {
        let model = self.out.weight.shape().last().and_then(lehr_ir::Dim::as_const).unwrap_or(0);
        let model = usize::try_from(model).unwrap_or(0);
        let width = model / self.heads.max(1) * kv_heads;
        self.key = Dense::glorot(model, width, keys);
        self.value = Dense::glorot(model, width, keys);
        self.kv_heads = kv_heads;
        self
    }

    /// The same, under a causal mask.
    #[must_use]
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Self-attention: every position attends to every one, or to those up to its own.
    ///
    /// # Errors
    /// An `x` that is not `[…, time, model]`; heads that do not divide the projections.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        self.attend(x, x, &AttentionOptions::new(), cx)
    }

    /// Positions of `x` attend to those of `to`, with a mask or bias; under a causal mask if the layer or the options say so.
    ///
    /// # Errors
    /// As [`MultiHeadAttention::forward`] and [`attention`].
    #[track_caller]
    pub fn attend(&self, x: &Tensor, to: &Tensor, options: &AttentionOptions, cx: &mut Context) -> Tensor {
        let loc = Loc::caller();
        if [x, to].iter().any(|t| t.check().is_ok() && t.rank() < 2) {
            let (rule, help) = ("it takes positions and features", "give it operands [batch, time, features]");
            return Tensor::refuse("multi_head_attention", &[x, to], rule, help, loc);
        }
        let q = split_heads(&self.query.forward(x, cx), self.heads, &loc);
        let k = split_heads(&self.key.forward(to, cx), self.kv_heads, &loc);
        let v = split_heads(&self.value.forward(to, cx), self.kv_heads, &loc);
        let options = AttentionOptions { causal: self.causal || options.causal, ..options.clone() };
        self.out.forward(&join_heads(&attention(&q, &k, &v, &options)), cx)
    }
}

impl Layer for MultiHeadAttention {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

/// `[…, time, heads · d]` as `[…, heads, time, d]`.
fn split_heads(x: &Tensor, heads: usize, loc: &Loc) -> Tensor {
    if x.check().is_err() {
        return x.clone();
    }
    let mut shape: lehr_ir::Shape = x.shape().iter().cloned().collect();
    let Some(width) = shape.pop().and_then(|d| d.as_const()).and_then(|d| usize::try_from(d).ok()) else {
        let (rule, help) = ("the width of a projection is a name", "give its weight a size that is a number");
        return Tensor::refuse("multi_head_attention", &[x], rule, help, loc.clone());
    };
    if heads == 0 || width % heads != 0 {
        let rule = format!("{heads} heads do not divide the projection's {width} features");
        let help = "choose a number of heads that divides the width of the model";
        return Tensor::refuse("multi_head_attention", &[x], &rule, help, loc.clone());
    }
    shape.extend([heads.into(), (width / heads).into()]);
    match x.reshape_at(shape, loc) {
        Ok(x) => x.swap_axes(-3, -2),
        Err(bad) => bad,
    }
}

/// `[…, heads, time, d]` as `[…, time, heads · d]`.
#[track_caller]
fn join_heads(x: &Tensor) -> Tensor {
    if x.check().is_err() {
        return x.clone();
    }
    let x = x.swap_axes(-3, -2);
    let mut shape: lehr_ir::Shape = x.shape().iter().cloned().collect();
    let (d, heads) = (shape.pop(), shape.pop());
    shape.extend(d.zip(heads).map(|(d, heads)| &d * &heads));
    x.reshape(shape)
}

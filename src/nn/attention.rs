//! Scaled dot-product attention, and the layer around it.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Attention, Empty, Scores};
use lehr_ir::{DType, Dim, Kind, Literal, Shape};
use smallvec::SmallVec;

use crate::tensor::operand::{common_shape, constant, repeat_into};
use crate::tensor::{Built, Tensor, settle, size_value, sound};

mod multi_head;

pub use multi_head::MultiHeadAttention;

/// What [`attention`] does besides: nothing by default.
///
/// ```
/// use lehr::nn::AttentionOptions;
/// let options = AttentionOptions::new().causal().scale(0.125);
/// assert!(options.causal && options.mask.is_none());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AttentionOptions {
    /// Whether the last query sees all keys, and each one before it one key less.
    pub causal: bool,
    /// What products are multiplied by; `1 / √features` if not given.
    pub scale: Option<f64>,
    /// What may be attended to, where it is true: broadcast against `[…, heads, queries, keys]`.
    pub mask: Option<Tensor>,
    /// What is added to scaled products: broadcast against `[…, heads, queries, keys]`.
    pub bias: Option<Tensor>,
}

impl AttentionOptions {
    /// All queries attend to all keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, under a causal mask: query `i` of `n` attends to keys up to `i + (keys - n)`.
    #[must_use]
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    /// The same, with products multiplied by this.
    #[must_use]
    pub fn scale(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// The same, where queries attend only to keys at which this is true.
    #[must_use]
    pub fn mask(self, mask: &Tensor) -> Self {
        Self { mask: Some(mask.clone()), ..self }
    }

    /// The same, with this added to scaled products.
    #[must_use]
    pub fn bias(self, bias: &Tensor) -> Self {
        Self { bias: Some(bias.clone()), ..self }
    }
}

/// Scaled dot-product attention: `softmax(q · kᵀ · scale + bias) · v` over the keys that each query may attend to.
///
/// PyTorch calls it `scaled_dot_product_attention`, JAX `dot_product_attention`, whose operands have heads after positions:
/// `swap_axes(-3, -2)` before and after costs nothing here.
/// It is one operation, which stores no scores, forward and backward; a second derivative and forward mode store them.
/// # Shapes
/// `q: […, heads, queries, d]`, `k: […, heads, keys, d]`, `v: […, heads, keys, e]`, to `[…, heads, queries, e]`. Leading dims
/// broadcast, and are optional. Where `q` has a multiple of the heads of `k` and `v`, as many of them in a row share one of theirs
/// (grouped queries).
/// # Gradient
/// To each operand, and to the bias, whose gradient stores the scores.
/// # Numerics
/// Nothing overflows. What a query may not attend to does not reach it, not even as NaN. A query with nothing to attend to, or with
/// scores of −∞ only, gets 0, and passes no gradient on (as PyTorch's fused kernels have it; the softmax of no finite score is NaN).
/// Half precision is computed in `f32`, and rounded once.
/// # Errors
/// Ranks below 2; features, keys or leading dims that do not fit; heads that are no multiple; a mask that is not bool.
/// # Source
/// Vaswani et al., "Attention Is All You Need", 2017; Ainslie et al., "GQA", 2023; Dao et al., "FlashAttention", 2022.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::{AttentionOptions, attention};
/// let q = Tensor::input("q", F32, ("batch", 8, "time", 64));
/// let k = Tensor::input("k", F32, ("batch", 2, "time", 64));
/// let y = attention(&q, &k, &k, &AttentionOptions::new().causal());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 8, time, 64]");
/// // The first query sees the first key alone.
/// let x = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
/// let y: Vec<f32> = attention(&x, &x, &x, &AttentionOptions::new().causal()).to()?;
/// assert_eq!(y[..2], [1.0, 2.0]);
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions) -> Tensor {
    settle(try_attention(q, k, v, options, &Loc::caller()))
}

const NAME: &str = "attention";

fn try_attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &AttentionOptions, loc: &Loc) -> Built {
    let given: SmallVec<[&Tensor; 5]> = [q, k, v].into_iter().chain(&options.bias).chain(&options.mask).collect();
    sound(&given)?;
    let refuse = |rule: &str, help: &str| Tensor::refuse(NAME, &given, rule, help, loc.clone());
    if [q, k, v].iter().any(|t| t.rank() < 2) {
        let help = "give it positions and features as its last dims";
        return Err(refuse("queries, keys and values have two dims or more", help));
    }
    if options.mask.as_ref().is_some_and(|m| m.dtype() != Some(DType::Bool)) {
        return Err(refuse("a mask is bool, true where a query may attend to a key", "give numbers to add as a bias"));
    }
    let dtype = [q, k, v].iter().filter_map(|t| t.dtype()).reduce(DType::promote).unwrap_or(DType::F32);
    if dtype.kind() == Kind::Complex {
        return Err(refuse("it takes real numbers", "take the real part of the operands"));
    }
    // Sums of half precision would lose most of their digits.
    let wide = if matches!(dtype, DType::F32 | DType::F64) { dtype } else { DType::F32 };
    let result = if dtype.is_float() { dtype } else { wide };
    let [q, k, v] = [q, k, v].map(|t| t.cast_at(wide, loc));
    let bias = options.bias.as_ref().map(|b| b.cast_at(wide, loc));

    let groups = groups(&q, &k, &v).map_err(|rule| refuse(&rule, "give queries a multiple of the heads of keys"))?;
    let (mut q, mut k, mut v, mut bias, mut mask) = (q, k, v, bias, options.mask.clone());
    let heads: Option<Dim> = groups.map(|(heads, _)| heads.into());
    if let Some((heads, of_keys)) = groups {
        (q, k, v) =
            (grouped(&q, heads, of_keys, loc)?, grouped(&k, heads, of_keys, loc)?, grouped(&v, heads, of_keys, loc)?);
        bias = bias.map(|t| grouped(&t, heads, of_keys, loc)).transpose()?;
        mask = mask.map(|t| grouped(&t, heads, of_keys, loc)).transpose()?;
    }
    let (scale, q) = scaled(options.scale, &q, loc);
    let pairs: Shape = [&q.shape()[q.rank() - 2], &k.shape()[k.rank() - 2]].into_iter().cloned().collect();
    let lead = lead([&q, &k, &v].into_iter().chain(&bias).chain(&mask), loc).map_err(|_| {
        refuse(
            "the leading dims do not broadcast",
            "reshape an operand so that the dims before the last two agree or are 1",
        )
    })?;
    let with_lead = |t: &Tensor, last: &[Dim]| {
        let shape: Shape = lead.iter().chain(last).cloned().collect();
        if t.shape() == &shape[..] { t.clone() } else { repeat_into(t, &shape, loc) }
    };
    let own = |t: &Tensor| with_lead(t, &t.shape()[t.rank() - 2..]);
    let scores = Scores { causal: options.causal, bias: bias.is_some(), mask: mask.is_some(), ..Scores::new(scale) };
    let mut operands = vec![own(&q), own(&k), own(&v)];
    for t in bias.iter().chain(&mask) {
        // What does not broadcast is refused here, with the user's operands.
        common_shape(NAME, &[&stand_in(&pairs, loc), &last_two(t, loc)], loc)?;
        operands.push(with_lead(t, &pairs));
    }
    let refs: Vec<&Tensor> = operands.iter().collect();
    let y = Tensor::apply(Attention { scores, empty: Empty::Zero }, &refs, loc).cast_at(result, loc);
    sound(&[&y])?;
    let Some(heads) = heads else { return Ok(y) };
    let mut shape: Shape = y.shape().iter().cloned().collect();
    let at = shape.len() - 4;
    shape.remove(at);
    shape[at] = heads;
    y.reshape_at(shape, loc)
}

/// The heads of queries and of keys, where they differ and neither broadcasts.
fn groups(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Option<(i64, i64)>, String> {
    let heads = |t: &Tensor| t.rank().checked_sub(3).and_then(|at| t.shape()[at].as_const()).unwrap_or(1);
    let (of_queries, of_keys) = (heads(q), heads(k).max(heads(v)));
    if of_queries == of_keys || of_queries <= 1 || of_keys <= 1 {
        return Ok(None);
    }
    if of_queries % of_keys != 0 {
        return Err(format!("{of_queries} heads of queries are no multiple of the {of_keys} heads of keys and values"));
    }
    Ok(Some((of_queries, of_keys)))
}

/// An operand with the heads' dim split in two: those of keys, and of queries that share one.
fn grouped(t: &Tensor, heads: i64, of_keys: i64, loc: &Loc) -> Built {
    let Some(at) = t.rank().checked_sub(3) else { return Ok(t.clone()) };
    let mut shape: Shape = t.shape().iter().cloned().collect();
    let own = shape[at].as_const() == Some(heads);
    shape.insert(at + 1, if own { (heads / of_keys).into() } else { Dim::ONE });
    if own {
        shape[at] = of_keys.into();
    }
    t.reshape_at(shape, loc)
}

/// The scale as an attribute, and queries, which are multiplied by it where the number of features is a name.
fn scaled(scale: Option<f64>, q: &Tensor, loc: &Loc) -> (f64, Tensor) {
    let features = &q.shape()[q.rank() - 1];
    match (scale, features.as_const(), q.dtype()) {
        (Some(scale), ..) => (scale, q.clone()),
        // No features give no product to scale.
        (None, Some(n), _) => (1.0 / (n.max(1) as f64).sqrt(), q.clone()),
        (None, None, dtype) => (1.0, q * size_value(features, dtype.unwrap_or(DType::F32), loc).rsqrt()),
    }
}

/// The common leading dims.
fn lead<'a>(all: impl Iterator<Item = &'a Tensor>, loc: &Loc) -> Result<Shape, Tensor> {
    let stand_ins: Vec<Tensor> =
        all.map(|t| stand_in(&t.shape()[..t.rank().saturating_sub(2)].iter().cloned().collect(), loc)).collect();
    common_shape(NAME, &stand_ins.iter().collect::<Vec<_>>(), loc)
}

/// Something of a shape.
fn stand_in(shape: &Shape, loc: &Loc) -> Tensor {
    repeat_into(&constant(Literal::from(false), loc), shape, loc)
}

/// Something of the shape of a tensor's last two dims.
fn last_two(t: &Tensor, loc: &Loc) -> Tensor {
    stand_in(&t.shape()[t.rank().saturating_sub(2)..].iter().cloned().collect(), loc)
}

//! `attention`: softmax-weighted means of values, one for each query.

use smallvec::SmallVec;

use super::{Arity, Arrays, At, Lowering, Operation, Partials, RuleError, Types, batch_all};
use crate::array::{Array, Data};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::literal::Literal;
use crate::ty::Type;

mod parts;
mod scores;

pub use scores::Scores;

pub(super) use parts::linearize_by_parts;
pub(super) use scores::{Operands, Row, by_features, by_positions, numbers, product};

/// Scaled dot-product attention: for each query, the mean of the values, weighted by the softmax of its scores with the keys.
///
/// `s[i, j] = scale · Σ_d q[i, d] · k[j, d] + bias[i, j]` where query `i` may attend to key `j`;
/// `out[i] = Σ_j p[i, j] · v[j]` with `p[i, j] = e^(s[i, j] - lse[i])` and `lse[i] = log Σ_j e^s[i, j]`, over those keys.
/// What the query may not attend to ([`Scores::causal`], [`Scores::mask`]) has no part in any of this.
/// # Shapes
/// `q: [b…, queries, d]`, `k: [b…, keys, d]`, `v: [b…, keys, e]`, then, where the scores have them, `bias: [b…, queries, keys]` of
/// the same dtype and `mask: bool[b…, queries, keys]`; to `out: [b…, queries, e]` and `lse: [b…, queries]`.
/// Leading dims are those of a batch and equal on all operands: heads that share keys have them repeated by a broadcast, and so has
/// a mask that serves several, which costs nothing, as the plan reads through views.
/// # Gradient
/// Forward: [`AttentionTangent`](super::AttentionTangent), linear in the tangents. Reverse: its transpose,
/// [`AttentionGrad`](super::AttentionGrad), which makes the scores again from `lse` and stores none.
/// # Numerics
/// The evaluator works in `f64` and rounds once. Compiled code works in the dtype, a tile of queries by a tile of keys at a time,
/// and subtracts the greatest score met so far, so that nothing overflows; it stores no scores.
/// A score of NaN or +∞ makes its query's result NaN, as it would by parts, and so does a value that is not finite at a key that the
/// query may attend to, even with weight 0. What a query may not attend to never reaches it, finite or not.
/// A query with no score above −∞ has an empty row: see [`Empty`].
/// # Errors
/// Operands that are no floats of one dtype; ranks below 2; dims that are not provably equal; a mask that is not bool.
/// # Source
/// Vaswani et al., "Attention Is All You Need", 2017; Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018;
/// Dao et al., "FlashAttention", 2022.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attention {
    /// What the scores are.
    pub scores: Scores,
    /// What a query gets that attends to nothing.
    pub empty: Empty,
}

/// What a query gets whose scores are all −∞, or that may attend to no key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Empty {
    /// A result of 0 and an `lse` of −∞, as the fused kernels of PyTorch have it; so are its gradients.
    Zero,
    /// NaN, as the softmax of nothing but −∞ is; where there are no keys at all, a result of 0 and an `lse` of −∞.
    Nan,
}

impl Empty {
    /// Both choices, in declaration order.
    pub const ALL: &[Self] = &[Self::Zero, Self::Nan];

    /// The spelling in text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Nan => "nan",
        }
    }

    /// What each element of the result is, and the `lse`, of an empty row over so many keys.
    pub const fn row(self, keys: usize) -> (f64, f64) {
        match self {
            Self::Nan if keys > 0 => (f64::NAN, f64::NAN),
            Self::Nan | Self::Zero => (0.0, f64::NEG_INFINITY),
        }
    }
}

impl Attention {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { scores: Scores::read(r)?, empty: r.choice("empty", Empty::ALL, Empty::name)? })
    }
}

impl Operation for Attention {
    fn name(&self) -> &str {
        "attention"
    }

    fn attrs(&self) -> Attrs {
        self.scores.attrs().with_name("empty", self.empty.name())
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.scores.operands())
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let sizes = self.scores.infer(operands, facts)?;
        Ok(SmallVec::from_iter([sizes.result(), sizes.row()]))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = Operands::new(&self.scores, operands);
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        let mut sum = vec![0.0; x.e];
        for at in x.rows() {
            let Row { batch, .. } = at;
            let row = x.scores(at);
            let top = row.iter().flatten().fold(f64::NEG_INFINITY, |m, &s| if s.is_nan() || s > m { s } else { m });
            if row.iter().flatten().all(|&s| s == f64::NEG_INFINITY) {
                let (value, of_row) = self.empty.row(x.keys);
                out.extend(std::iter::repeat_n(value, x.e));
                lse.push(of_row);
                continue;
            }
            sum.fill(0.0);
            let mut total = 0.0;
            for (j, s) in row.iter().enumerate() {
                let Some(s) = s else { continue };
                let p = (s - top).exp();
                total += p;
                sum.iter_mut().zip(x.value(batch, j)).for_each(|(o, v)| *o += p * v);
            }
            out.extend(sum.iter().map(|o| o / total));
            lse.push(top + total.ln());
        }
        let (q, v) = (operands[0], operands[2]);
        let rows = &q.shape()[..q.rank() - 1];
        let shape: Vec<usize> = rows.iter().copied().chain([v.shape()[v.rank() - 1]]).collect();
        Ok(SmallVec::from_iter([rounded(q, &shape, &out)?, rounded(q, rows, &lse)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        super::AttentionTangent::emit(&self.scores, b, at, tangents)
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(super::not_linear(self.name()))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let all = batch_all(b, operands, batched, size)?;
        let id = b.add_node(self.clone().into(), &all)?;
        Ok(b.graph().node(id).results().collect())
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Attend
    }
}

/// Numbers in `f64` as an array of the dtype of another, rounded once.
pub(super) fn rounded(like: &Array, shape: &[usize], x: &[f64]) -> Result<Array, EvalError> {
    let dtype = like.dtype();
    let mut data = Data::zeros(dtype, x.len());
    for (i, &x) in x.iter().enumerate() {
        data.set(i, Literal::from_f64(dtype, x));
    }
    Ok(Array::from_data(shape, data)?)
}

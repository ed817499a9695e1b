//! `attention_grad`: the cotangents of queries, keys and values of an `attention`.

use smallvec::SmallVec;

use super::attention::{Operands, Scores, linearize_by_parts, rounded};
use super::attention::{by_features, by_positions, numbers, product};
use super::{Arity, Arrays, At, DotDims, Lowering, Operation, Partials, RuleError, Types, batch_all, check_like};
use crate::array::Array;
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::ty::Type;

/// The transpose of [`AttentionTangent`](super::AttentionTangent) in the tangents of queries, keys and values.
///
/// With the weights `p`, made again from `lse`, and `ds = p ∘ (dout · vᵀ - delta)`:
/// `dq = scale · ds · k`, `dk = scale · dsᵀ · q`, `dv = pᵀ · dout`.
/// # Shapes
/// The operands of the attention, its `lse`, the cotangent `dout` of its result, and `delta: [b…, queries]`, which is
/// `Σ dout ∘ out` over features, less the cotangent of `lse`; to `dq`, `dk` and `dv`, of the types of `q`, `k` and `v`.
/// # Gradient
/// That of the primitives, which store the weights.
/// # Numerics
/// As of [`Attention`](super::Attention): no scores are stored, and what a query may not attend to has no part in it.
/// # Errors
/// Those of the attention; a `lse`, `dout` or `delta` of another type than it has.
/// # Source
/// Dao et al., "FlashAttention", 2022.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AttentionGrad {
    /// What the scores are.
    pub scores: Scores,
}

impl AttentionGrad {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { scores: Scores::read(r)? })
    }

    /// The weights and the cotangents of the scores, by primitives.
    pub(super) fn of_scores(&self, b: &mut Builder, operands: &[Value]) -> Result<(Value, Value), RuleError> {
        let n = b.ty(operands[0]).rank() - 2;
        let m = self.scores.operands();
        let (lse, d_out, delta) = (operands[m], operands[m + 1], operands[m + 2]);
        let s = self.scores.emit(b, operands)?;
        let p = Scores::weights(b, s, lse)?;
        let dp = b.dot(d_out, operands[2], by_features(n))?;
        let shape = b.ty(dp).shape.clone();
        let delta = b.broadcast_reduced(delta, &shape, &[n + 1])?;
        let rest = b.sub(dp, delta)?;
        Ok((p, b.mul(p, rest)?))
    }

    /// The operation by primitives.
    pub fn by_primitives(&self, b: &mut Builder, operands: &[Value]) -> Result<Partials, RuleError> {
        let n = b.ty(operands[0]).rank() - 2;
        let (p, ds) = self.of_scores(b, operands)?;
        let ds = b.scale(ds, self.scores.scale())?;
        let dq = b.dot(ds, operands[1], DotDims::matmul(n))?;
        let dk = b.dot(ds, operands[0], by_positions(n))?;
        let dv = b.dot(p, operands[self.scores.operands() + 1], by_positions(n))?;
        Ok(SmallVec::from_iter([Some(dq), Some(dk), Some(dv)]))
    }
}

impl Operation for AttentionGrad {
    fn name(&self) -> &str {
        "attention_grad"
    }

    fn attrs(&self) -> Attrs {
        self.scores.attrs()
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.scores.operands() + 3)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let m = self.scores.operands();
        let sizes = self.scores.infer(operands, facts)?;
        let (out, row) = (sizes.result(), sizes.row());
        for (i, want) in [&row, &out, &row].into_iter().enumerate() {
            check_like(m + i, want, operands[m + i], facts)?;
        }
        Ok(operands[..3].iter().map(|&ty| ty.clone()).collect())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let m = self.scores.operands();
        let x = Operands::new(&self.scores, operands);
        let (lse, d_out, delta) = (numbers(operands[m]), numbers(operands[m + 1]), numbers(operands[m + 2]));
        let (mut dq, mut dk, mut dv) = (vec![0.0; x.q.len()], vec![0.0; x.k.len()], vec![0.0; x.v.len()]);
        let add = |to: &mut [f64], by: f64, x: &[f64]| to.iter_mut().zip(x).for_each(|(to, x)| *to += by * x);
        for at in x.rows() {
            let d_out = &d_out[at.at * x.e..][..x.e];
            for (j, p) in x.weights(at, lse[at.at]).into_iter().enumerate() {
                let Some(p) = p else { continue };
                let key = at.batch * x.keys + j;
                let ds = p * (product(d_out, x.value(at.batch, j)) - delta[at.at]) * self.scores.scale();
                add(&mut dq[at.at * x.d..][..x.d], ds, x.key(at.batch, j));
                add(&mut dk[key * x.d..][..x.d], ds, x.query(at));
                add(&mut dv[key * x.e..][..x.e], p, d_out);
            }
        }
        let all = [(0, dq), (1, dk), (2, dv)];
        all.into_iter().map(|(i, x)| rounded(operands[i], operands[i].shape(), &x)).collect()
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        linearize_by_parts(b, at.operands, tangents, |b, v| self.by_primitives(b, v))
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

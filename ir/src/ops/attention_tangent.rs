//! `attention_tangent`: the derivative of `attention`, as an operation linear in tangents.

use smallvec::SmallVec;

use super::attention::{Operands, Scores, linearize_by_parts, rounded};
use super::attention::{by_features, numbers, product};
use super::{
    Arity, Arrays, At, AttentionGrad, DotDims, Lowering, Operation, Partials, RuleError, Types, add_partials, batch_all,
};
use crate::array::Array;
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::ty::Type;

/// The tangents of the results of [`Attention`](super::Attention), from tangents of its operands.
///
/// With the weights `p` and `ds = scale · (dq · kᵀ + q · dkᵀ) + dbias`:
/// `dlse[i] = Σ_j p[i, j] ds[i, j]` and `dout = p · dv + (p ∘ ds) · v - dlse ∘ out`.
/// # Shapes
/// The operands of the attention, its results `out` and `lse`, then a tangent for each operand in `of`, of its type;
/// to tangents of `out` and `lse`.
/// # Gradient
/// Linear in the tangents: its transpose is [`AttentionGrad`], and for a bias, primitives, which store the weights.
/// In the other operands, that of the primitives.
/// # Numerics
/// It becomes primitives before it is compiled, which store the weights. A weight is 0 where a query may not attend.
/// # Errors
/// Those of the attention; `of` that names no operand with a tangent, or one twice.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AttentionTangent {
    /// What the scores are.
    pub scores: Scores,
    /// The operands of the attention that vary, ascending: queries 0, keys 1, values 2, bias 3.
    pub of: SmallVec<[usize; 4]>,
}

impl AttentionTangent {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { scores: Scores::read(r)?, of: r.axes("of")? })
    }

    /// The linearisation of an attention.
    pub(super) fn emit(
        scores: &Scores,
        b: &mut Builder,
        at: At<'_>,
        tangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let of: SmallVec<[usize; 4]> =
            (0..scores.operands()).filter(|&i| tangents[i].is_some() && Some(i) != scores.mask_at()).collect();
        if of.is_empty() {
            return Ok(SmallVec::from_elem(None, 2));
        }
        let given = of.iter().filter_map(|&i| tangents[i]);
        let args: SmallVec<[Value; 8]> = at.operands.iter().chain(at.results).copied().chain(given).collect();
        let id = b.add_node(Self { scores: scores.clone(), of: of.clone() }.into(), &args)?;
        Ok(b.graph().node(id).results().map(Some).collect())
    }

    /// The position of the tangent of an operand of the attention.
    fn tangent_at(&self, operand: usize) -> Option<usize> {
        self.of.iter().position(|&i| i == operand).map(|i| self.scores.operands() + 2 + i)
    }

    /// The operation by primitives.
    pub fn by_primitives(&self, b: &mut Builder, operands: &[Value]) -> Result<Partials, RuleError> {
        let n = b.ty(operands[0]).rank() - 2;
        let m = self.scores.operands();
        let (out, lse) = (operands[m], operands[m + 1]);
        let s = self.scores.emit(b, operands)?;
        let p = Scores::weights(b, s, lse)?;
        let of = |i: usize| self.tangent_at(i).map(|at| operands[at]);
        let left = of(0).map(|t| b.dot(t, operands[1], by_features(n))).transpose()?;
        let right = of(1).map(|t| b.dot(operands[0], t, by_features(n))).transpose()?;
        let products = add_partials(b, left, right)?;
        let scaled = products.map(|t| b.scale(t, self.scores.scale())).transpose()?;
        let bias = self.scores.bias_at().and_then(of);
        let ds = add_partials(b, scaled, bias)?;
        let mut dout = of(2).map(|t| b.dot(p, t, DotDims::matmul(n))).transpose()?;
        let mut dlse = None;
        if let Some(ds) = ds {
            // Where a query may not attend, the weight is 0, whatever the products are.
            let weighted = b.mul(p, ds)?;
            let row = b.sum(weighted, &[n + 1])?;
            let mean = b.dot(weighted, operands[2], DotDims::matmul(n))?;
            let shape = b.ty(out).shape.clone();
            let wide = b.broadcast_reduced(row, &shape, &[n + 1])?;
            let off = b.mul(wide, out)?;
            let rest = b.sub(mean, off)?;
            dout = add_partials(b, dout, Some(rest))?;
            dlse = Some(row);
        }
        let zeros = |b: &mut Builder, v: Option<Value>, like: Value| match v {
            Some(v) => Ok(v),
            None => b.full_like(like, 0.0),
        };
        Ok(SmallVec::from_iter([Some(zeros(b, dout, out)?), Some(zeros(b, dlse, lse)?)]))
    }
}

impl Operation for AttentionTangent {
    fn name(&self) -> &str {
        "attention_tangent"
    }

    fn attrs(&self) -> Attrs {
        self.scores.attrs().with_axes("of", &self.of)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.scores.operands() + 2 + self.of.len())
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let m = self.scores.operands();
        let sizes = self.scores.infer(operands, facts)?;
        let (out, lse) = (sizes.result(), sizes.row());
        let varies = |&i: &usize| i < m && Some(i) != self.scores.mask_at();
        if !self.of.iter().all(varies) || !self.of.is_sorted_by(|a, b| a < b) {
            return Err(Rule::new(
                "`of` names operands with a tangent, in ascending order",
                "name queries by 0, keys by 1, values by 2 and a bias by 3",
            ));
        }
        let want = [&out, &lse].into_iter().chain(self.of.iter().map(|&i| operands[i]));
        for (i, (want, got)) in want.zip(&operands[m..]).enumerate() {
            super::check_like(m + i, want, got, facts)?;
        }
        Ok(SmallVec::from_iter([out, lse]))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let m = self.scores.operands();
        let x = Operands::new(&self.scores, operands);
        let (out, lse) = (numbers(operands[m]), numbers(operands[m + 1]));
        let of = |i: usize| self.tangent_at(i).map(|at| numbers(operands[at]));
        let (dq, dk, dv, dbias) = (of(0), of(1), of(2), self.scores.bias_at().and_then(of));
        let (mut dout, mut dlse) = (Vec::new(), Vec::new());
        for at in x.rows() {
            let mut row = vec![0.0; x.e];
            let mut mean = 0.0;
            for (j, p) in x.weights(at, lse[at.at]).into_iter().enumerate() {
                let Some(p) = p else { continue };
                let key = at.batch * x.keys + j;
                let mut ds = 0.0;
                if let Some(dq) = &dq {
                    ds += self.scores.scale() * product(&dq[at.at * x.d..][..x.d], x.key(at.batch, j));
                }
                if let Some(dk) = &dk {
                    ds += self.scores.scale() * product(x.query(at), &dk[key * x.d..][..x.d]);
                }
                if let Some(dbias) = &dbias {
                    ds += dbias[at.at * x.keys + j];
                }
                mean += p * ds;
                for (l, r) in row.iter_mut().enumerate() {
                    *r += p * (ds * x.value(at.batch, j)[l] + dv.as_ref().map_or(0.0, |dv| dv[key * x.e + l]));
                }
            }
            dout.extend(row.iter().enumerate().map(|(l, r)| r - mean * out[at.at * x.e + l]));
            dlse.push(mean);
        }
        Ok(SmallVec::from_iter([
            rounded(operands[0], operands[m].shape(), &dout)?,
            rounded(operands[0], operands[m + 1].shape(), &dlse)?,
        ]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        linearize_by_parts(b, at.operands, tangents, |b, v| self.by_primitives(b, v))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let m = self.scores.operands();
        let mut partials: Partials = SmallVec::from_elem(None, at.operands.len());
        if cotangents.iter().all(Option::is_none) {
            return Ok(partials);
        }
        if linear[..m + 2].contains(&true) {
            return Err(super::not_linear(self.name()));
        }
        let (out, lse) = (at.operands[m], at.operands[m + 1]);
        let rank = b.ty(out).rank();
        let d_out = match cotangents[0] {
            Some(ct) => ct,
            None => b.full_like(out, 0.0)?,
        };
        // What the weights' cotangents are taken from: the mean of them, less the cotangent of `lse`.
        let products = b.mul(d_out, out)?;
        let mut delta = b.sum(products, &[rank - 1])?;
        if let Some(ct) = cotangents[1] {
            delta = b.sub(delta, ct)?;
        }
        if self.of.iter().any(|&i| i < 3) {
            let args: SmallVec<[Value; 8]> = at.operands[..m].iter().copied().chain([lse, d_out, delta]).collect();
            let id = b.add_node(AttentionGrad { scores: self.scores.clone() }.into(), &args)?;
            let found: SmallVec<[Value; 3]> = b.graph().node(id).results().collect();
            for (i, ct) in found.into_iter().enumerate() {
                if let Some(at) = self.tangent_at(i).filter(|&at| linear[at]) {
                    partials[at] = Some(ct);
                }
            }
        }
        if let Some(to) = self.scores.bias_at().and_then(|i| self.tangent_at(i)).filter(|&at| linear[at]) {
            let args: SmallVec<[Value; 8]> = at.operands[..m].iter().copied().chain([lse, d_out, delta]).collect();
            partials[to] = Some(AttentionGrad { scores: self.scores.clone() }.of_scores(b, &args)?.1);
        }
        Ok(partials)
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
        Lowering::Host
    }
}

//! The scores of queries with keys: what `attention` and its derivatives share.

use smallvec::SmallVec;

use crate::array::Array;
use crate::attrs::{Attr, AttrError, Attrs, Reader, form};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Rule;
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::literal::Literal;
use crate::ops::{CompareOp, DotDims, Reverse, RuleError, UnaryOp, check_equal};
use crate::ty::{Shape, Type};

/// How queries score keys, and what they may attend to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scores {
    /// What products are multiplied by, an `f64`.
    pub scale: Literal,
    /// Whether query `i` of `n` attends to keys up to `i + (keys - n)` only: the last query sees all keys, and each one before
    /// it one key less.
    pub causal: bool,
    /// Whether an operand is added to the scores.
    pub bias: bool,
    /// Whether an operand says what may be attended to, where it is true.
    pub mask: bool,
}

impl Scores {
    /// Scaled products, of which all count.
    pub fn new(scale: f64) -> Self {
        Self { scale: scale.into(), causal: false, bias: false, mask: false }
    }

    pub(in crate::ops) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let scale = match r.take("scale")? {
            Attr::Float(x) => x.to_f64().into(),
            _ => return Err(form("scale", "a float")),
        };
        let mut flag = |name: &str| r.choice(name, &[false, true], yes_no);
        Ok(Self { scale, causal: flag("causal")?, bias: flag("bias")?, mask: flag("mask")? })
    }

    pub(in crate::ops) fn attrs(&self) -> Attrs {
        Attrs::new()
            .with("scale", Attr::Float(self.scale))
            .with_name("causal", yes_no(self.causal))
            .with_name("bias", yes_no(self.bias))
            .with_name("mask", yes_no(self.mask))
    }

    /// What products are multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale.to_f64()
    }

    /// How many operands there are: queries, keys, values, bias, mask.
    pub fn operands(&self) -> usize {
        3 + usize::from(self.bias) + usize::from(self.mask)
    }

    /// The position of the bias among the operands.
    pub fn bias_at(&self) -> Option<usize> {
        self.bias.then_some(3)
    }

    /// The position of the mask among the operands.
    pub fn mask_at(&self) -> Option<usize> {
        self.mask.then_some(3 + usize::from(self.bias))
    }

    /// The sizes that operands have, or the rule that they break.
    pub(in crate::ops) fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<ScoreSizes, Rule> {
        let [q, k, v] = [operands[0], operands[1], operands[2]];
        for (what, ty) in [("queries", q), ("keys", k), ("values", v)] {
            if !ty.dtype.is_float() || ty.dtype != q.dtype {
                return Err(Rule::new("queries, keys and values are floats of one dtype", "convert the operands"));
            }
            if ty.rank() < 2 {
                return Err(Rule::new(
                    format!("{what} have a dim of positions and one of features, and these are {ty}"),
                    "give it leading dims of a batch and heads, then positions, then features",
                ));
            }
        }
        let (lead, [queries, d]) = split(q);
        let (_, [keys, _]) = split(k);
        same_lead(lead, "keys", k, facts)?;
        same_lead(lead, "values", v, facts)?;
        check_equal("the features of queries and keys,", d, &k.shape[k.rank() - 1], facts)?;
        let (_, [of_values, e]) = split(v);
        check_equal("the numbers of keys and values,", keys, of_values, facts)?;
        for (what, at) in [("bias", self.bias_at()), ("mask", self.mask_at())] {
            let Some(ty) = at.map(|at| operands[at]) else { continue };
            let dtype = if what == "bias" { q.dtype } else { DType::Bool };
            if ty.dtype != dtype {
                let rule = format!("the {what} must be {dtype}, and is {}", ty.dtype);
                return Err(Rule::new(rule, "convert it; a mask is true where a query may attend to a key"));
            }
            if ty.rank() < 2 {
                let rule = format!("the {what} has a dim of queries and one of keys, and is {ty}");
                return Err(Rule::new(rule, "broadcast it against the scores"));
            }
            same_lead(lead, what, ty, facts)?;
            let (_, [rows, columns]) = split(ty);
            check_equal(&format!("the queries and the rows of the {what},"), queries, rows, facts)?;
            check_equal(&format!("the keys and the columns of the {what},"), keys, columns, facts)?;
        }
        Ok(ScoreSizes { dtype: q.dtype, lead: lead.into(), queries: queries.clone(), e: e.clone() })
    }

    /// The scores by primitives, −∞ where a query may not attend.
    pub(in crate::ops) fn emit(&self, b: &mut Builder, operands: &[Value]) -> Result<Value, RuleError> {
        let n = b.ty(operands[0]).rank() - 2;
        let s = b.dot(operands[0], operands[1], by_features(n))?;
        let mut s = b.scale(s, self.scale())?;
        if let Some(at) = self.bias_at() {
            s = b.add(s, operands[at])?;
        }
        let nothing = b.full_like(s, f64::NEG_INFINITY)?;
        if let Some(at) = self.mask_at() {
            s = b.select(operands[at], s, nothing)?;
        }
        if self.causal {
            let shape: Shape = b.ty(s).shape.clone();
            // How far each is from the last one: a key must be at least as far as the query.
            let mut from_last = |axis: usize| -> Result<Value, RuleError> {
                let i = b.iota(DType::I64, &shape, axis)?;
                Ok(b.op(Reverse { axes: SmallVec::from_iter([axis]) }.into(), &[i])?)
            };
            let (query, key) = (from_last(n)?, from_last(n + 1)?);
            let sees = b.compare(CompareOp::Ge, key, query)?;
            s = b.select(sees, s, nothing)?;
        }
        Ok(s)
    }

    /// The weights by primitives, from the scores and their `lse`; 0 in an empty row.
    pub(in crate::ops) fn weights(b: &mut Builder, s: Value, lse: Value) -> Result<Value, RuleError> {
        let shape = b.ty(s).shape.clone();
        let empty = b.compare_to(CompareOp::Eq, lse, f64::NEG_INFINITY)?;
        let zero = b.full_like(lse, 0.0)?;
        let lse = b.select(empty, zero, lse)?;
        let lse = b.broadcast_reduced(lse, &shape, &[shape.len() - 1])?;
        let d = b.sub(s, lse)?;
        Ok(b.unary(UnaryOp::Exp, d)?)
    }
}

/// What an inference gives: what results are made of.
pub(in crate::ops) struct ScoreSizes {
    dtype: DType,
    lead: Shape,
    queries: Dim,
    e: Dim,
}

impl ScoreSizes {
    /// `[b…, queries, e]`.
    pub(in crate::ops) fn result(&self) -> Type {
        let mut ty = self.row();
        ty.shape.push(self.e.clone());
        ty
    }

    /// `[b…, queries]`.
    pub(in crate::ops) fn row(&self) -> Type {
        let shape = self.lead.iter().chain([&self.queries]).cloned().collect();
        Type { dtype: self.dtype, shape }
    }
}

/// Sums of products over the last dims: `[b…, m, d] · [b…, n, d]`.
pub(in crate::ops) fn by_features(batch: usize) -> DotDims {
    DotDims { rhs_contract: [batch + 1].as_slice().into(), ..DotDims::matmul(batch) }
}

/// Sums of products over the last dim but one: `[b…, n, d] · [b…, n, e]`.
pub(in crate::ops) fn by_positions(batch: usize) -> DotDims {
    DotDims { lhs_contract: [batch].as_slice().into(), ..DotDims::matmul(batch) }
}

fn split(ty: &Type) -> (&[Dim], [&Dim; 2]) {
    let (lead, last) = ty.shape.split_at(ty.rank() - 2);
    (lead, [&last[0], &last[1]])
}

fn same_lead(lead: &[Dim], what: &str, ty: &Type, facts: &Facts) -> Result<(), Rule> {
    let (mine, _) = split(ty);
    if mine.len() != lead.len() {
        return Err(Rule::new(
            format!("queries have {} leading dims and {what} {}", lead.len(), mine.len()),
            "broadcast the leading dims, so that they are those of the queries",
        ));
    }
    lead.iter()
        .zip(mine)
        .try_for_each(|(a, b)| check_equal(&format!("leading dims of queries and {what},"), a, b, facts))
}

fn yes_no(x: bool) -> &'static str {
    if x { "yes" } else { "no" }
}

/// The operands of an evaluation as numbers.
pub(in crate::ops) struct Operands<'a> {
    of: &'a Scores,
    pub(in crate::ops) batch: usize,
    pub(in crate::ops) queries: usize,
    pub(in crate::ops) keys: usize,
    pub(in crate::ops) d: usize,
    pub(in crate::ops) e: usize,
    pub(in crate::ops) q: Vec<f64>,
    pub(in crate::ops) k: Vec<f64>,
    pub(in crate::ops) v: Vec<f64>,
    bias: Option<Vec<f64>>,
    mask: Option<Vec<f64>>,
}

/// One query of a batch.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Row {
    pub(in crate::ops) batch: usize,
    pub(in crate::ops) query: usize,
    /// Its position among all queries.
    pub(in crate::ops) at: usize,
}

impl<'a> Operands<'a> {
    pub(in crate::ops) fn new(of: &'a Scores, operands: &[&Array]) -> Self {
        let [q, k, v] = [operands[0], operands[1], operands[2]];
        let n = q.rank();
        Self {
            of,
            batch: q.shape()[..n - 2].iter().product(),
            queries: q.shape()[n - 2],
            keys: k.shape()[n - 2],
            d: q.shape()[n - 1],
            e: v.shape()[n - 1],
            q: numbers(q),
            k: numbers(k),
            v: numbers(v),
            bias: of.bias_at().map(|at| numbers(operands[at])),
            mask: of.mask_at().map(|at| numbers(operands[at])),
        }
    }

    pub(in crate::ops) fn rows(&self) -> impl Iterator<Item = Row> + use<> {
        let n = self.queries;
        (0..self.batch * n).map(move |at| Row { batch: at / n, query: at % n, at })
    }

    /// The query's features.
    pub(in crate::ops) fn query(&self, row: Row) -> &[f64] {
        &self.q[row.at * self.d..][..self.d]
    }

    pub(in crate::ops) fn key(&self, batch: usize, j: usize) -> &[f64] {
        &self.k[(batch * self.keys + j) * self.d..][..self.d]
    }

    pub(in crate::ops) fn value(&self, batch: usize, j: usize) -> &[f64] {
        &self.v[(batch * self.keys + j) * self.e..][..self.e]
    }

    /// The query's score with each key; `None` where it may not attend.
    pub(in crate::ops) fn scores(&self, row: Row) -> Vec<Option<f64>> {
        let scale = self.of.scale();
        let score = |j: usize| {
            let at = row.at * self.keys + j;
            let sees = !self.of.causal || j + self.queries <= row.query + self.keys;
            if !sees || self.mask.as_ref().is_some_and(|m| m[at] == 0.0) {
                return None;
            }
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[at]);
            Some(scale * product(self.query(row), self.key(row.batch, j)) + bias)
        };
        (0..self.keys).map(score).collect()
    }

    /// The query's weight of each key, from its `lse`; `None` where it may not attend.
    pub(in crate::ops) fn weights(&self, row: Row, lse: f64) -> Vec<Option<f64>> {
        let lse = if lse == f64::NEG_INFINITY { 0.0 } else { lse };
        self.scores(row).into_iter().map(|s| s.map(|s| (s - lse).exp())).collect()
    }
}

/// The sum of products.
pub(in crate::ops) fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The elements as `f64`.
pub(in crate::ops) fn numbers(a: &Array) -> Vec<f64> {
    (0..a.len()).map(|i| a.data().get(i).map_or(f64::NAN, |x| x.to_f64())).collect()
}

//! Attention as primitives, through which its error is analysed.

use lehr::ir::graph::{Builder, Graph, ParamKind, Value};
use lehr::ir::ops::{Attention, CompareOp, DotDims, Empty, Op, ReduceOp, RuleError, UnaryOp};
use lehr::ir::{Array, DType, Dim, Type};

/// A graph of the operands of attention or one of its derivatives; `None` for other operations.
pub(crate) fn by_primitives(op: &Op, xs: &[&Array]) -> Option<Graph> {
    let mut b = Builder::new("parts");
    let ty = |x: &Array| Type::new(x.dtype(), x.shape().iter().copied());
    let v: Vec<Value> = xs.iter().enumerate().map(|(i, x)| b.param(format!("x{i}"), ParamKind::Input, ty(x))).collect();
    let results: Result<Vec<Value>, RuleError> = match op {
        Op::Attention(attention) => forward(&mut b, attention, &v),
        Op::AttentionTangent(tangent) => tangent.by_primitives(&mut b, &v).map(|r| r.into_iter().flatten().collect()),
        Op::AttentionGrad(grad) => grad.by_primitives(&mut b, &v).map(|r| r.into_iter().flatten().collect()),
        _ => return None,
    };
    for (i, y) in results.ok()?.into_iter().enumerate() {
        b.output(format!("y{i}"), y);
    }
    Some(b.finish())
}

/// The result and the `lse`, where hidden pairs have no part in anything.
fn forward(b: &mut Builder, attention: &Attention, v: &[Value]) -> Result<Vec<Value>, RuleError> {
    let scores = &attention.scores;
    let n = b.ty(v[0]).rank() - 2;
    let lead: Vec<usize> = (0..n).collect();
    let dims = |lhs: usize, rhs: usize| DotDims {
        lhs_batch: lead.as_slice().into(),
        rhs_batch: lead.as_slice().into(),
        lhs_contract: [lhs].as_slice().into(),
        rhs_contract: [rhs].as_slice().into(),
    };
    let s = b.dot(v[0], v[1], dims(n + 1, n + 1))?;
    let mut s = b.scale(s, scores.scale())?;
    if let Some(at) = scores.bias_at() {
        s = b.add(s, v[at])?;
    }
    let shape = b.ty(s).shape.clone();
    let mut seen = b.full(true.into(), &shape)?;
    if let Some(at) = scores.mask_at() {
        seen = v[at];
    }
    if scores.causal {
        let (query, key) = (b.iota(DType::I64, &shape, n)?, b.iota(DType::I64, &shape, n + 1)?);
        // How many more keys than queries there are.
        let more = shape[n + 1].as_const().unwrap_or(0) - shape[n].as_const().unwrap_or(0);
        let last = b.offset(query, more as f64)?;
        let before = b.compare(CompareOp::Le, key, last)?;
        seen = b.binary(lehr::ir::ops::BinaryOp::And, seen, before)?;
    }
    let spread = |b: &mut Builder, x: Value, shape: &[Dim]| b.broadcast_reduced(x, shape, &[n + 1]);
    let lowest = b.full_like(s, -1e4)?;
    let shown = b.select(seen, s, lowest)?;
    let top = b.reduce(ReduceOp::Max, shown, &[n + 1])?;
    let wide = spread(b, top, &shape)?;
    let below = b.sub(shown, wide)?;
    let p = b.unary(UnaryOp::Exp, below)?;
    let nothing = b.full_like(p, 0.0)?;
    let p = b.select(seen, p, nothing)?;
    let total = b.sum(p, &[n + 1])?;
    let out = b.dot(p, v[2], dims(n + 1, n))?;
    let result = b.ty(out).shape.clone();
    let wide = spread(b, total, &result)?;
    let out = b.div(out, wide)?;
    let log = b.unary(UnaryOp::Log, total)?;
    let lse = b.add(log, top)?;
    // What an empty row has is exact.
    let any = b.reduce(ReduceOp::Any, seen, &[n + 1])?;
    let (zero, of_row) = if attention.empty == Empty::Nan { (f64::NAN, f64::NAN) } else { (0.0, f64::NEG_INFINITY) };
    let (zero, of_row) = (b.full_like(out, zero)?, b.full_like(lse, of_row)?);
    let any_wide = spread(b, any, &result)?;
    Ok(vec![b.select(any_wide, out, zero)?, b.select(any, lse, of_row)?])
}

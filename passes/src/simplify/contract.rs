//! Folds and products: what needs no fold, and transposes that a product takes in.

use lehr_ir::Literal;
use lehr_ir::graph::Value;
use lehr_ir::ops::{BinaryOp, DotDims, Op, OpKind, Reduce, ReduceOp, Reshape};
use smallvec::SmallVec;

use super::{Arg, Legality, Patch, Rule, Site};
use crate::simplify::shape::is_unit;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "reduce_units",
        kinds: &[OpKind::Reduce],
        legality: Legality::Exact,
        doc: "a fold over dims of size 1, or over none, is a reshape; a float sum still adds its 0, which turns −0 into 0",
        apply: reduce_units,
    },
    Rule {
        name: "reduce_of_reduce",
        kinds: &[OpKind::Reduce],
        legality: Legality::Exact,
        doc: "two folds of one kind are one, where the order does not matter: max, min, any, all, and integers",
        apply: |s| {
            let Op::Reduce(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0))?;
            let Op::Reduce(first) = &inner.op else { return None };
            let orderless = match outer.op {
                ReduceOp::Max | ReduceOp::Min | ReduceOp::Any | ReduceOp::All => true,
                ReduceOp::Sum | ReduceOp::Prod => s.is_discrete(),
            };
            if outer.op != first.op || !orderless {
                return None;
            }
            let rank = s.type_of(inner.operands[0]).rank();
            let left: SmallVec<[usize; 4]> = (0..rank).filter(|i| !first.axes.contains(i)).collect();
            let mut axes = first.axes.clone();
            axes.extend(outer.axes.iter().map(|&a| left[a]));
            axes.sort_unstable();
            Patch::op(Reduce { op: outer.op, axes }, &inner.operands)
        },
    },
    Rule {
        name: "dot_of_transpose",
        kinds: &[OpKind::Dot],
        legality: Legality::Exact,
        doc: "a product reads a transposed operand through its dims, where the free dims stay in order",
        apply: |s| {
            let Op::Dot(dims) = s.op() else { return None };
            let (x, y) = (s.operand(0), s.operand(1));
            let through = |v: Value, batch: &[usize], contract: &[usize], free: &[usize]| {
                let node = s.def(v)?;
                let Op::Transpose(t) = &node.op else { return None };
                let map = |axes: &[usize]| -> SmallVec<[usize; 4]> { axes.iter().map(|&a| t.perm[a]).collect() };
                map(free).is_sorted().then(|| (node.operands[0], map(batch), map(contract)))
            };
            let mut new = dims.clone();
            let (mut left, mut right) = (x, y);
            let free = dims.lhs_free(s.type_of(x).rank());
            if let Some((v, batch, contract)) = through(x, &dims.lhs_batch, &dims.lhs_contract, &free) {
                (left, new.lhs_batch, new.lhs_contract) = (v, batch, contract);
            }
            let free = dims.rhs_free(s.type_of(y).rank());
            if let Some((v, batch, contract)) = through(y, &dims.rhs_batch, &dims.rhs_contract, &free) {
                (right, new.rhs_batch, new.rhs_contract) = (v, batch, contract);
            }
            ((left, right) != (x, y)).then(|| Patch::op(new, &[left, right]))?
        },
    },
    Rule {
        name: "transpose_of_dot",
        kinds: &[OpKind::Transpose],
        legality: Legality::Exact,
        doc: "a transposed product is the product of the operands exchanged",
        apply: |s| {
            let Op::Transpose(t) = s.op() else { return None };
            let node = s.def(s.operand(0))?;
            let Op::Dot(d) = &node.op else { return None };
            let (x, y) = (node.operands[0], node.operands[1]);
            let batch = d.lhs_batch.len();
            let left = d.lhs_free(s.type_of(x).rank()).len();
            let rank = t.perm.len();
            let swapped = (0..batch).chain(batch + left..rank).chain(batch..batch + left);
            if !swapped.eq(t.perm.iter().copied()) {
                return None;
            }
            let dims = DotDims {
                lhs_batch: d.rhs_batch.clone(),
                rhs_batch: d.lhs_batch.clone(),
                lhs_contract: d.rhs_contract.clone(),
                rhs_contract: d.lhs_contract.clone(),
            };
            Patch::op(dims, &[y, x])
        },
    },
];

fn reduce_units(s: &Site<'_>) -> Option<Patch> {
    let Op::Reduce(op) = s.op() else { return None };
    let x = s.operand(0);
    let shape = s.shape_of(x);
    let rest: SmallVec<[usize; 4]> = op.axes.iter().copied().filter(|&a| !is_unit(&shape[a])).collect();
    if rest.len() == op.axes.len() && !rest.is_empty() {
        return None;
    }
    let reshape = Reshape { shape: s.ty.shape.clone() };
    if !rest.is_empty() {
        return Patch::chain(Reduce { op: op.op, axes: rest }, x, reshape);
    }
    if op.op == ReduceOp::Sum && s.is_float() {
        let patch = Patch::empty().and_splat(Literal::zero(s.ty.dtype), s.type_of(x));
        let zero = patch.result;
        let patch = patch.then(BinaryOp::Add, [Arg::Value(x), zero]);
        let sum = patch.result;
        return Some(patch.then(reshape, [sum]));
    }
    Patch::op(reshape, &[x])
}

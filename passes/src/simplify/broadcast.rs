//! Broadcasts merge, and move after the arithmetic on what they repeat.

use lehr_ir::graph::Value;
use lehr_ir::ops::{Broadcast, Op, OpKind};
use smallvec::SmallVec;

use super::{Arg, Legality, Patch, Rule, Site};
use crate::simplify::shape::is_unit;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "elementwise_of_broadcast",
        kinds: &[OpKind::Unary, OpKind::Binary, OpKind::Compare, OpKind::Select, OpKind::Convert],
        legality: Legality::Exact,
        doc: "f(broadcast(x), broadcast(y)) = broadcast(f(x, y)), where both repeat alike or one is a scalar",
        apply: elementwise,
    },
    Rule {
        name: "broadcast_same",
        kinds: &[OpKind::Broadcast],
        legality: Legality::Exact,
        doc: "a broadcast to the operand's own shape is the operand",
        apply: |s| {
            let x = s.operand(0);
            (s.type_of(x).rank() == s.ty.rank()).then(|| Patch::value(x))?
        },
    },
    Rule {
        name: "broadcast_of_broadcast",
        kinds: &[OpKind::Broadcast],
        legality: Legality::Exact,
        doc: "two broadcasts are one",
        apply: |s| {
            let (outer, (inner, x)) = (as_broadcast(s.op())?, broadcast_of(s, s.operand(0))?);
            let axes = inner.axes.iter().map(|&a| outer.axes[a]).collect();
            Patch::op(Broadcast { shape: outer.shape.clone(), axes }, &[x])
        },
    },
    Rule {
        name: "broadcast_of_reshape",
        kinds: &[OpKind::Broadcast],
        legality: Legality::Exact,
        doc: "a reshape that only adds dims of size 1 is part of the broadcast after it",
        apply: |s| {
            let outer = as_broadcast(s.op())?;
            let inner = s.def(s.operand(0)).filter(|n| matches!(n.op, Op::Reshape(_)))?;
            let x = inner.operands[0];
            let (from, to) = (s.shape_of(x), s.shape_of(s.operand(0)));
            if from.iter().any(is_unit) {
                return None;
            }
            let kept: SmallVec<[usize; 4]> = (0..to.len()).filter(|&i| !is_unit(&to[i])).collect();
            if kept.len() != from.len() || kept.iter().zip(from).any(|(&i, d)| to[i] != *d) {
                return None;
            }
            let axes = kept.iter().map(|&i| outer.axes[i]).collect();
            Patch::op(Broadcast { shape: outer.shape.clone(), axes }, &[x])
        },
    },
    Rule {
        name: "reshape_of_scalar",
        kinds: &[OpKind::Reshape],
        legality: Legality::Exact,
        doc: "a reshape of a repeated scalar repeats the scalar",
        apply: of_scalar,
    },
    Rule {
        name: "transpose_of_broadcast",
        kinds: &[OpKind::Transpose],
        legality: Legality::Exact,
        doc: "a transpose that keeps the operand's dims in order only changes where a broadcast puts them",
        apply: |s| {
            let Op::Transpose(outer) = s.op() else { return None };
            let (inner, x) = broadcast_of(s, s.operand(0))?;
            let place = outer.inverse();
            let axes: SmallVec<[usize; 4]> = inner.axes.iter().map(|&a| place[a]).collect();
            axes.is_sorted().then(|| Patch::op(Broadcast { shape: s.ty.shape.clone(), axes }, &[x]))?
        },
    },
    Rule {
        name: "slice_of_broadcast",
        kinds: &[OpKind::Slice],
        legality: Legality::Exact,
        doc: "a slice of dims that are repeated is a smaller broadcast",
        apply: |s| {
            let Op::Slice(_) = s.op() else { return None };
            let (inner, x) = broadcast_of(s, s.operand(0))?;
            let untouched =
                inner.axes.iter().zip(s.shape_of(x)).all(|(&a, d)| is_unit(d) || s.ty.shape[a] == inner.shape[a]);
            untouched.then(|| Patch::op(Broadcast { shape: s.ty.shape.clone(), axes: inner.axes.clone() }, &[x]))?
        },
    },
    Rule {
        name: "reverse_of_broadcast",
        kinds: &[OpKind::Reverse],
        legality: Legality::Exact,
        doc: "reversing dims that are repeated changes nothing",
        apply: |s| {
            let Op::Reverse(op) = s.op() else { return None };
            let (inner, x) = broadcast_of(s, s.operand(0))?;
            let repeated = |a: &usize| {
                let i = inner.axes.iter().position(|b| b == a);
                i.is_none_or(|i| is_unit(&s.shape_of(x)[i]))
            };
            op.axes.iter().all(repeated).then(|| Patch::value(s.operand(0)))?
        },
    },
];

fn as_broadcast(op: &Op) -> Option<&Broadcast> {
    if let Op::Broadcast(b) = op { Some(b) } else { None }
}

/// The broadcast that defines a value, and what it repeats.
fn broadcast_of<'a>(s: &Site<'a>, v: Value) -> Option<(&'a Broadcast, Value)> {
    let node = s.def(v)?;
    as_broadcast(&node.op).map(|b| (b, node.operands[0]))
}

fn elementwise(s: &Site<'_>) -> Option<Patch> {
    // Most nodes leave here.
    let (first, base) = broadcast_of(s, s.operand(0))?;
    let mut like = (first, base);
    for &v in &s.operands[1..] {
        let (b, x) = broadcast_of(s, v)?;
        if s.type_of(like.1).rank() == 0 {
            like = (b, x);
        }
    }
    let (like, shape) = (like.0, s.shape_of(like.1));
    let mut patch = Patch::empty();
    let mut args: SmallVec<[Arg; 3]> = SmallVec::new();
    for &v in s.operands {
        let (b, x) = broadcast_of(s, v)?;
        args.push(if s.shape_of(x) == shape && b.axes == like.axes {
            Arg::Value(x)
        } else if s.type_of(x).rank() == 0 {
            patch = patch.then(Broadcast { shape: shape.into(), axes: SmallVec::new() }, [Arg::Value(x)]);
            patch.result
        } else {
            return None;
        });
    }
    let patch = patch.then(s.op().clone(), args);
    let inner = patch.result;
    Some(patch.then(Broadcast { shape: s.ty.shape.clone(), axes: like.axes.clone() }, [inner]))
}

fn of_scalar(s: &Site<'_>) -> Option<Patch> {
    let (_, x) = broadcast_of(s, s.operand(0)).filter(|(_, x)| s.type_of(*x).rank() == 0)?;
    Patch::op(Broadcast { shape: s.ty.shape.clone(), axes: SmallVec::new() }, &[x])
}

//! Moves of elements merge, and those that move nothing go.

use lehr_ir::Dim;
use lehr_ir::graph::Value;
use lehr_ir::ops::{Concat, Op, OpKind, Pad, Reshape, Reverse, Slice, Transpose};
use smallvec::SmallVec;

use super::{Arg, Legality, Patch, Rule, Site};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "reshape_same",
        kinds: &[OpKind::Reshape],
        legality: Legality::Exact,
        doc: "a reshape to the operand's own shape is the operand",
        apply: |s| Patch::value(s.operand(0)),
    },
    Rule {
        name: "reshape_of_reshape",
        kinds: &[OpKind::Reshape],
        legality: Legality::Exact,
        doc: "two reshapes are one",
        apply: |s| {
            let Op::Reshape(op) = s.op() else { return None };
            let inner = s.def(s.operand(0)).filter(|n| matches!(n.op, Op::Reshape(_)))?;
            Patch::op(op.clone(), &inner.operands)
        },
    },
    Rule {
        name: "transpose_same",
        kinds: &[OpKind::Transpose],
        legality: Legality::Exact,
        doc: "the identity permutation is the operand",
        apply: |s| {
            let Op::Transpose(op) = s.op() else { return None };
            op.perm.is_sorted().then(|| Patch::value(s.operand(0)))?
        },
    },
    Rule {
        name: "transpose_of_transpose",
        kinds: &[OpKind::Transpose],
        legality: Legality::Exact,
        doc: "two transposes are one",
        apply: |s| {
            let Op::Transpose(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0))?;
            let Op::Transpose(first) = &inner.op else { return None };
            let perm = outer.perm.iter().map(|&p| first.perm[p]).collect();
            Patch::op(Transpose { perm }, &inner.operands)
        },
    },
    Rule {
        name: "transpose_of_units",
        kinds: &[OpKind::Transpose],
        legality: Legality::Exact,
        doc: "a transpose that moves only dims of size 1 is a reshape",
        apply: |s| {
            let Op::Transpose(op) = s.op() else { return None };
            let shape = s.shape_of(s.operand(0));
            let moved = op.perm.iter().copied().filter(|&p| !is_unit(&shape[p]));
            moved.is_sorted().then(|| Patch::op(Reshape { shape: s.ty.shape.clone() }, &[s.operand(0)]))?
        },
    },
    Rule {
        name: "slice_whole",
        kinds: &[OpKind::Slice],
        legality: Legality::Exact,
        doc: "a slice of all there is is the operand",
        apply: |s| {
            let Op::Slice(op) = s.op() else { return None };
            let whole = op.start.iter().all(Dim::is_zero) && op.limit.as_slice() == s.shape_of(s.operand(0));
            (whole && op.stride.iter().all(|&k| k == 1)).then(|| Patch::value(s.operand(0)))?
        },
    },
    Rule {
        name: "slice_of_slice",
        kinds: &[OpKind::Slice],
        legality: Legality::Exact,
        doc: "a slice of a contiguous slice is one slice",
        apply: |s| {
            let Op::Slice(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0))?;
            let Op::Slice(first) = &inner.op else { return None };
            if first.stride.iter().any(|&k| k != 1) {
                return None;
            }
            let moved = |at: &[Dim]| at.iter().zip(&first.start).map(|(d, o)| d + o).collect();
            let op = Slice { start: moved(&outer.start), limit: moved(&outer.limit), stride: outer.stride.clone() };
            Patch::op(op, &inner.operands)
        },
    },
    Rule {
        name: "slice_of_concat",
        kinds: &[OpKind::Slice],
        legality: Legality::Exact,
        doc: "a slice inside one part of a concat is a slice of that part",
        apply: slice_of_concat,
    },
    Rule {
        name: "slice_of_pad",
        kinds: &[OpKind::Slice],
        legality: Legality::Exact,
        doc: "a slice inside what was padded is a slice of it",
        apply: slice_of_pad,
    },
    Rule {
        name: "pad_nothing",
        kinds: &[OpKind::Pad],
        legality: Legality::Exact,
        doc: "padding by nothing is the operand",
        apply: |s| {
            let Op::Pad(op) = s.op() else { return None };
            let nothing = op.low.iter().chain(&op.high).all(Dim::is_zero) && op.interior.iter().all(|&i| i == 0);
            nothing.then(|| Patch::value(s.operand(0)))?
        },
    },
    Rule {
        name: "pad_of_pad",
        kinds: &[OpKind::Pad],
        legality: Legality::Exact,
        doc: "two paddings with one value are one, where the inner one takes nothing away",
        apply: |s| {
            let Op::Pad(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0))?;
            let Op::Pad(first) = &inner.op else { return None };
            let facts = s.facts();
            let grows = first.low.iter().chain(&first.high).all(|d| facts.decide_ge(d, &Dim::ZERO) == Some(true));
            let plain = first.interior.iter().chain(&outer.interior).all(|&i| i == 0);
            if !grows || !plain || !same_scalar(s, s.operand(1), inner.operands[1]) {
                return None;
            }
            let sum = |a: &[Dim], b: &[Dim]| a.iter().zip(b).map(|(a, b)| a + b).collect();
            let (low, high) = (sum(&outer.low, &first.low), sum(&outer.high, &first.high));
            Patch::op(Pad { low, high, interior: outer.interior.clone() }, &[inner.operands[0], s.operand(1)])
        },
    },
    Rule {
        name: "concat_of_one",
        kinds: &[OpKind::Concat],
        legality: Legality::Exact,
        doc: "a concat of one part is the part",
        apply: |s| (s.operands.len() == 1).then(|| Patch::value(s.operand(0)))?,
    },
    Rule {
        name: "concat_of_nothing",
        kinds: &[OpKind::Concat],
        legality: Legality::Exact,
        doc: "parts of size 0 are left out of a concat",
        apply: |s| {
            let Op::Concat(op) = s.op() else { return None };
            let some = |v: &Value| !s.shape_of(*v)[op.axis].is_zero();
            let kept: SmallVec<[Value; 4]> = s.operands.iter().copied().filter(some).collect();
            (!kept.is_empty() && kept.len() < s.operands.len()).then(|| Patch::op(op.clone(), &kept))?
        },
    },
    Rule {
        name: "concat_of_concat",
        kinds: &[OpKind::Concat],
        legality: Legality::Exact,
        doc: "a concat of concats along one axis is one concat",
        apply: |s| {
            let Op::Concat(op) = s.op() else { return None };
            let parts = |v: Value| s.def(v).filter(|n| n.op == Op::Concat(Concat { axis: op.axis }));
            if !s.operands.iter().any(|&v| parts(v).is_some()) {
                return None;
            }
            let mut flat: SmallVec<[Value; 8]> = SmallVec::new();
            for &v in s.operands {
                match parts(v) {
                    Some(inner) => flat.extend_from_slice(&inner.operands),
                    None => flat.push(v),
                }
            }
            // What was shared is not spelled out again and again.
            (flat.len() <= MAX_PARTS).then(|| Patch::op(op.clone(), &flat))?
        },
    },
    Rule {
        name: "reverse_units",
        kinds: &[OpKind::Reverse],
        legality: Legality::Exact,
        doc: "reversing a dim of size 1, or no dim, does nothing",
        apply: |s| {
            let Op::Reverse(op) = s.op() else { return None };
            let shape = s.shape_of(s.operand(0));
            let axes: SmallVec<[usize; 4]> = op.axes.iter().copied().filter(|&a| !is_unit(&shape[a])).collect();
            if axes.is_empty() {
                return Patch::value(s.operand(0));
            }
            (axes.len() < op.axes.len()).then(|| Patch::op(Reverse { axes }, &[s.operand(0)]))?
        },
    },
    Rule {
        name: "reverse_of_reverse",
        kinds: &[OpKind::Reverse],
        legality: Legality::Exact,
        doc: "two reversals are one, of the dims that only one of them reverses",
        apply: |s| {
            let Op::Reverse(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0))?;
            let Op::Reverse(first) = &inner.op else { return None };
            let once = |a: &usize| outer.axes.contains(a) != first.axes.contains(a);
            let axes: SmallVec<[usize; 4]> = (0..s.ty.rank()).filter(once).collect();
            if axes.is_empty() {
                return Patch::value(inner.operands[0]);
            }
            Patch::op(Reverse { axes }, &inner.operands)
        },
    },
];

/// The most parts of a concat that is made of others.
const MAX_PARTS: usize = 64;

/// Whether a dim is the constant 1.
pub(super) fn is_unit(d: &Dim) -> bool {
    d.is_one()
}

fn slice_of_concat(s: &Site<'_>) -> Option<Patch> {
    let Op::Slice(op) = s.op() else { return None };
    let concat = s.def(s.operand(0))?;
    let Op::Concat(Concat { axis }) = concat.op else { return None };
    let inside = |a: &Dim, b: &Dim| s.facts().decide_ge(a, b) == Some(true);
    let mut offset = Dim::ZERO;
    for &part in &concat.operands {
        let end = &offset + &s.shape_of(part)[axis];
        if !inside(&op.start[axis], &offset) {
            return None;
        }
        if inside(&end, &op.limit[axis]) {
            let mut of_part = op.clone();
            of_part.start[axis] = &op.start[axis] - &offset;
            of_part.limit[axis] = &op.limit[axis] - &offset;
            // Along the other dims the parts' sizes may be spelled differently from the whole's.
            return Some(Patch::empty().then(of_part, [Arg::Value(part)]));
        }
        offset = end;
    }
    None
}

fn slice_of_pad(s: &Site<'_>) -> Option<Patch> {
    let Op::Slice(op) = s.op() else { return None };
    let inner = s.def(s.operand(0))?;
    let Op::Pad(pad) = &inner.op else { return None };
    if pad.interior.iter().any(|&i| i != 0) {
        return None;
    }
    let x = inner.operands[0];
    let mut of_x = op.clone();
    for (d, n) in s.shape_of(x).iter().enumerate() {
        of_x.start[d] = &op.start[d] - &pad.low[d];
        of_x.limit[d] = &op.limit[d] - &pad.low[d];
        let starts = s.facts().decide_ge(&of_x.start[d], &Dim::ZERO) == Some(true);
        if !starts || s.facts().decide_ge(n, &of_x.limit[d]) != Some(true) {
            return None;
        }
    }
    Some(Patch::empty().then(of_x, [Arg::Value(x)]))
}

/// Whether two scalars are one value or one constant.
fn same_scalar(s: &Site<'_>, a: Value, b: Value) -> bool {
    a == b || s.splat(a).is_some_and(|l| s.splat(b) == Some(l))
}

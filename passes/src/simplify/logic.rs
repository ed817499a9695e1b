//! Identities of bits, comparisons and choices.

use lehr_ir::ops::{BinaryOp, CompareOp, Op, OpKind, Select, UnaryOp};
use lehr_ir::{DType, Literal};

use super::{Legality, Patch, Rule, Site};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "bits_neutral",
        kinds: &[OpKind::Binary],
        legality: Legality::Integers,
        doc: "x & ones = x | 0 = x ^ 0 = x << 0 = x >> 0 = x",
        apply: |s| {
            let Op::Binary(op) = *s.op() else { return None };
            let (zero, ones) = (Literal::zero(s.ty.dtype), ones(s.ty.dtype));
            if matches!(op, BinaryOp::Shl | BinaryOp::Shr) {
                return (s.splat(s.operand(1))? == zero).then(|| Patch::value(s.operand(0)))?;
            }
            let neutral = if op == BinaryOp::And { ones } else { zero };
            if !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor) {
                return None;
            }
            let (x, _) = s.with_splat().find(|(_, c)| *c == neutral)?;
            Patch::value(x)
        },
    },
    Rule {
        name: "bits_absorbing",
        kinds: &[OpKind::Binary],
        legality: Legality::Integers,
        doc: "x & 0 = 0, x | ones = ones, x ^ x = 0",
        apply: |s| {
            let Op::Binary(op) = *s.op() else { return None };
            let zero = Literal::zero(s.ty.dtype);
            let has = |c: Literal| s.with_splat().any(|(_, l)| l == c);
            let result = if op == BinaryOp::And && has(zero) {
                zero
            } else if op == BinaryOp::Or && has(ones(s.ty.dtype)) {
                ones(s.ty.dtype)
            } else if op == BinaryOp::Xor && s.operand(0) == s.operand(1) {
                zero
            } else {
                return None;
            };
            Patch::splat(result, s.ty)
        },
    },
    Rule {
        name: "not_not",
        kinds: &[OpKind::Unary],
        legality: Legality::Integers,
        doc: "!!x = x",
        apply: |s| Patch::value(notted(s, is_not(s)?)?),
    },
    Rule {
        name: "not_compare",
        kinds: &[OpKind::Unary],
        legality: Legality::Exact,
        doc: "!(x == y) = (x != y) and the reverse; !(x < y) = (x >= y) and the like for what is totally ordered",
        apply: |s| {
            let inner = s.def(is_not(s)?)?;
            let Op::Compare(op) = inner.op else { return None };
            let total = !s.type_of(inner.operands[0]).dtype.is_inexact();
            let inverse = match op {
                CompareOp::Eq => CompareOp::Ne,
                CompareOp::Ne => CompareOp::Eq,
                CompareOp::Lt if total => CompareOp::Ge,
                CompareOp::Le if total => CompareOp::Gt,
                CompareOp::Gt if total => CompareOp::Le,
                CompareOp::Ge if total => CompareOp::Lt,
                CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge => return None,
            };
            Patch::op(inverse, &inner.operands)
        },
    },
    Rule {
        name: "compare_self",
        kinds: &[OpKind::Compare],
        legality: Legality::Exact,
        doc: "x < x and x > x are false; x == x and the like are known for what is totally ordered (NaN != NaN)",
        apply: |s| {
            let Op::Compare(op) = *s.op() else { return None };
            if s.operand(0) != s.operand(1) {
                return None;
            }
            let total = !s.type_of(s.operand(0)).dtype.is_inexact();
            let holds = match op {
                CompareOp::Lt | CompareOp::Gt => false,
                CompareOp::Ne if total => false,
                CompareOp::Eq | CompareOp::Le | CompareOp::Ge if total => true,
                CompareOp::Ne | CompareOp::Eq | CompareOp::Le | CompareOp::Ge => return None,
            };
            Patch::splat(Literal::from(holds), s.ty)
        },
    },
    Rule {
        name: "select_constant",
        kinds: &[OpKind::Select],
        legality: Legality::Exact,
        doc: "true ? x : y = x and false ? x : y = y",
        apply: |s| {
            let c = s.splat(s.operand(0))?;
            Patch::value(s.operand(if c == Literal::from(true) { 1 } else { 2 }))
        },
    },
    Rule {
        name: "select_same",
        kinds: &[OpKind::Select],
        legality: Legality::Exact,
        doc: "c ? x : x = x",
        apply: |s| (s.operand(1) == s.operand(2)).then(|| Patch::value(s.operand(1)))?,
    },
    Rule {
        name: "select_not",
        kinds: &[OpKind::Select],
        legality: Legality::Exact,
        doc: "!c ? x : y = c ? y : x",
        apply: |s| Patch::op(Select, &[notted(s, s.operand(0))?, s.operand(2), s.operand(1)]),
    },
    Rule {
        name: "select_bool",
        kinds: &[OpKind::Select],
        legality: Legality::Exact,
        doc: "c ? true : false = c and c ? false : true = !c",
        apply: |s| {
            if s.ty.dtype != DType::Bool {
                return None;
            }
            let (x, y) = (s.splat(s.operand(1))?, s.splat(s.operand(2))?);
            match (x == Literal::from(true), y == Literal::from(true)) {
                (true, false) => Patch::value(s.operand(0)),
                (false, true) => Patch::op(UnaryOp::Not, &[s.operand(0)]),
                (true, true) | (false, false) => None,
            }
        },
    },
    Rule {
        name: "select_nested",
        kinds: &[OpKind::Select],
        legality: Legality::Exact,
        doc: "c ? (c ? x : _) : y = c ? x : y and c ? x : (c ? _ : y) = c ? x : y",
        apply: |s| {
            let c = s.operand(0);
            let branch = |i: usize| {
                let inner = s.def(s.operand(i)).filter(|n| n.op == Op::Select(Select) && n.operands[0] == c)?;
                Some(inner.operands[i])
            };
            let (x, y) = (branch(1), branch(2));
            if x.is_none() && y.is_none() {
                return None;
            }
            Patch::op(Select, &[c, x.unwrap_or(s.operand(1)), y.unwrap_or(s.operand(2))])
        },
    },
];

/// All bits set; true for bool.
fn ones(dtype: DType) -> Literal {
    Literal::from_bits(dtype, [u64::MAX, 0])
}

/// The operand, if the operation is a `not`.
fn is_not(s: &Site<'_>) -> Option<lehr_ir::graph::Value> {
    (*s.op() == Op::Unary(UnaryOp::Not)).then(|| s.operand(0))
}

/// The `x` of a value `!x`.
fn notted(s: &Site<'_>, v: lehr_ir::graph::Value) -> Option<lehr_ir::graph::Value> {
    s.def(v).filter(|n| n.op == Op::Unary(UnaryOp::Not)).map(|n| n.operands[0])
}

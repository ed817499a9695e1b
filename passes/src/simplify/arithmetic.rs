//! Identities of numbers.

use lehr_ir::ops::{BinaryOp, Op, OpKind, UnaryOp};
use lehr_ir::{DType, Kind, Literal};

use super::{Arg, Legality, Patch, Rule, Site};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "add_zero",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x + z = x for z = 0 (integers) or −0 (floats; +0 would turn −0 into 0)",
        apply: |s| {
            let zero = if s.is_float() { Literal::from_f64(s.ty.dtype, -0.0) } else { Literal::zero(s.ty.dtype) };
            neutral(s, BinaryOp::Add, zero)
        },
    },
    Rule {
        name: "sub_zero",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x - 0 = x",
        apply: |s| right_neutral(s, BinaryOp::Sub, Literal::zero(s.ty.dtype)),
    },
    Rule {
        name: "mul_one",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x * 1 = x",
        apply: |s| neutral(s, BinaryOp::Mul, Literal::one(s.ty.dtype)),
    },
    Rule {
        name: "div_one",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x / 1 = x",
        apply: |s| right_neutral(s, BinaryOp::Div, Literal::one(s.ty.dtype)),
    },
    Rule {
        name: "mul_minus_one",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x * -1 = -x",
        apply: |s| {
            let minus = negated(Literal::one(s.ty.dtype))?;
            let (x, _) = is_binary(s, BinaryOp::Mul)?.with_splat().find(|(_, c)| *c == minus)?;
            Patch::op(UnaryOp::Neg, &[x])
        },
    },
    Rule {
        name: "mul_zero",
        kinds: &[OpKind::Binary],
        legality: Legality::Integers,
        doc: "x * 0 = 0 (for floats inf * 0 is NaN, and -1 * 0 is −0)",
        apply: |s| {
            let zero = Literal::zero(s.ty.dtype);
            is_binary(s, BinaryOp::Mul).filter(|s| s.is_discrete())?.with_splat().find(|(_, c)| *c == zero)?;
            Patch::splat(zero, s.ty)
        },
    },
    Rule {
        name: "sub_self",
        kinds: &[OpKind::Binary],
        legality: Legality::Integers,
        doc: "x - x = 0 (for floats inf - inf is NaN)",
        apply: |s| {
            is_binary(s, BinaryOp::Sub).filter(|s| s.is_discrete() && s.operand(0) == s.operand(1))?;
            Patch::splat(Literal::zero(s.ty.dtype), s.ty)
        },
    },
    Rule {
        name: "add_neg",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x + -y = x - y and -x + y = y - x",
        apply: |s| {
            is_binary(s, BinaryOp::Add)?;
            let (x, y) = (s.operand(0), s.operand(1));
            match (negand(s, x), negand(s, y)) {
                (_, Some(y)) => Patch::op(BinaryOp::Sub, &[x, y]),
                (Some(x), None) => Patch::op(BinaryOp::Sub, &[y, x]),
                (None, None) => None,
            }
        },
    },
    Rule {
        name: "sub_neg",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x - -y = x + y",
        apply: |s| {
            is_binary(s, BinaryOp::Sub)?;
            Patch::op(BinaryOp::Add, &[s.operand(0), negand(s, s.operand(1))?])
        },
    },
    Rule {
        name: "mul_neg_neg",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "-x * -y = x * y",
        apply: |s| {
            is_binary(s, BinaryOp::Mul)?;
            Patch::op(BinaryOp::Mul, &[negand(s, s.operand(0))?, negand(s, s.operand(1))?])
        },
    },
    Rule {
        name: "div_neg_neg",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "-x / -y = x / y for floats (for integers -(-128) is -128)",
        apply: |s| {
            is_binary(s, BinaryOp::Div).filter(|s| s.is_float())?;
            Patch::op(BinaryOp::Div, &[negand(s, s.operand(0))?, negand(s, s.operand(1))?])
        },
    },
    Rule {
        name: "neg_neg",
        kinds: &[OpKind::Unary],
        legality: Legality::Exact,
        doc: "--x = x",
        apply: |s| {
            is_unary(s, UnaryOp::Neg)?;
            Patch::value(negand(s, s.operand(0))?)
        },
    },
    Rule {
        name: "neg_of_sub",
        kinds: &[OpKind::Unary],
        legality: Legality::Integers,
        doc: "-(x - y) = y - x (for floats x - x is 0 and its negation −0)",
        apply: |s| {
            is_unary(s, UnaryOp::Neg).filter(|s| s.is_discrete())?;
            let inner = s.def(s.operand(0)).filter(|n| n.op == Op::Binary(BinaryOp::Sub))?;
            Patch::op(BinaryOp::Sub, &[inner.operands[1], inner.operands[0]])
        },
    },
    Rule {
        name: "neg_of_scale",
        kinds: &[OpKind::Unary],
        legality: Legality::Exact,
        doc: "-(x * c) = x * -c for a constant c",
        apply: |s| {
            is_unary(s, UnaryOp::Neg)?;
            let inner = s.def(s.operand(0)).filter(|n| n.op == Op::Binary(BinaryOp::Mul))?;
            let (x, y) = (inner.operands[0], inner.operands[1]);
            let (x, c) = s.splat(y).map(|c| (x, c)).or_else(|| s.splat(x).map(|c| (y, c)))?;
            let patch = Patch::empty().and_splat(negated(c)?, s.ty);
            let c = patch.result;
            Some(patch.then(BinaryOp::Mul, [Arg::Value(x), c]))
        },
    },
    Rule {
        name: "div_power_of_two",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x / 2^k = x * 2^-k for floats, where 2^-k is exact",
        apply: |s| {
            is_binary(s, BinaryOp::Div).filter(|s| s.is_float())?;
            let c = s.splat(s.operand(1))?;
            let patch = Patch::empty().and_splat(exact_reciprocal(c)?, s.ty);
            let r = patch.result;
            Some(patch.then(BinaryOp::Mul, [Arg::Value(s.operand(0)), r]))
        },
    },
    Rule {
        name: "pow_zero",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x ^ 0 = 1, for NaN as well (IEEE 754 pow)",
        apply: |s| {
            let c = s.splat(is_binary(s, BinaryOp::Pow)?.operand(1))?;
            (c.to_f64() == 0.0).then(|| Patch::splat(Literal::one(s.ty.dtype), s.ty))?
        },
    },
    Rule {
        name: "pow_one",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "x ^ 1 = x",
        apply: |s| right_neutral(s, BinaryOp::Pow, Literal::one(s.ty.dtype)),
    },
    Rule {
        name: "pow_two",
        kinds: &[OpKind::Binary],
        legality: Legality::Rounding,
        doc: "x ^ 2 = x * x",
        apply: |s| {
            let c = s.splat(is_binary(s, BinaryOp::Pow)?.operand(1))?;
            let x = s.operand(0);
            (c.to_f64() == 2.0).then(|| Patch::op(BinaryOp::Mul, &[x, x]))?
        },
    },
    Rule {
        name: "pow_minus_one",
        kinds: &[OpKind::Binary],
        legality: Legality::Rounding,
        doc: "x ^ -1 = 1 / x",
        apply: |s| {
            let c = s.splat(is_binary(s, BinaryOp::Pow)?.operand(1))?;
            if c.to_f64() != -1.0 {
                return None;
            }
            let patch = Patch::empty().and_splat(Literal::one(s.ty.dtype), s.ty);
            let one = patch.result;
            Some(patch.then(BinaryOp::Div, [one, Arg::Value(s.operand(0))]))
        },
    },
    Rule {
        name: "max_of_least",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "max(x, least) = x and min(x, greatest) = x, NaN included",
        apply: |s| {
            neutral(s, BinaryOp::Max, Literal::lowest(s.ty.dtype))
                .or_else(|| neutral(s, BinaryOp::Min, Literal::highest(s.ty.dtype)))
        },
    },
    Rule {
        name: "idempotent",
        kinds: &[OpKind::Binary],
        legality: Legality::Exact,
        doc: "max(x, x) = min(x, x) = x & x = x | x = x",
        apply: |s| {
            let Op::Binary(op) = s.op() else { return None };
            (op.is_idempotent() && s.operand(0) == s.operand(1)).then(|| Patch::value(s.operand(0)))?
        },
    },
    Rule {
        name: "idempotent_unary",
        kinds: &[OpKind::Unary],
        legality: Legality::Exact,
        doc: "f(g(x)) = g(x): rounding what is rounded, abs of abs, sign of sign",
        apply: |s| {
            let Op::Unary(outer) = s.op() else { return None };
            let Op::Unary(inner) = &s.def(s.operand(0))?.op else { return None };
            let same = outer == inner && matches!(outer, UnaryOp::Abs | UnaryOp::Sign);
            (same || (rounds(*outer) && rounds(*inner))).then(|| Patch::value(s.operand(0)))?
        },
    },
    Rule {
        name: "abs_of_neg",
        kinds: &[OpKind::Unary],
        legality: Legality::Exact,
        doc: "|-x| = |x| for what has a sign",
        apply: |s| {
            is_unary(s, UnaryOp::Abs).filter(|s| s.ty.dtype.kind() != Kind::Unsigned)?;
            Patch::op(UnaryOp::Abs, &[negand(s, s.operand(0))?])
        },
    },
    Rule {
        name: "convert_same",
        kinds: &[OpKind::Convert],
        legality: Legality::Exact,
        doc: "a conversion to the operand's own dtype is the operand",
        apply: |s| Patch::value(s.operand(0)),
    },
    Rule {
        name: "convert_chain",
        kinds: &[OpKind::Convert],
        legality: Legality::Exact,
        doc: "convert(convert(x)) = convert(x) where the inner conversion keeps every value",
        apply: |s| {
            let Op::Convert(outer) = s.op() else { return None };
            let inner = s.def(s.operand(0)).filter(|n| matches!(n.op, Op::Convert(_)))?;
            let x = inner.operands[0];
            let (a, b) = (s.type_of(x).dtype, s.type_of(s.operand(0)).dtype);
            if !chain_is_exact(a, b, outer.dtype) {
                return None;
            }
            if a == outer.dtype { Patch::value(x) } else { Patch::op(*outer, &[x]) }
        },
    },
];

fn is_binary<'s, 'a>(s: &'s Site<'a>, op: BinaryOp) -> Option<&'s Site<'a>> {
    (*s.op() == Op::Binary(op)).then_some(s)
}

fn is_unary<'s, 'a>(s: &'s Site<'a>, op: UnaryOp) -> Option<&'s Site<'a>> {
    (*s.op() == Op::Unary(op)).then_some(s)
}

/// `op(x, c) = op(c, x) = x`.
fn neutral(s: &Site<'_>, op: BinaryOp, c: Literal) -> Option<Patch> {
    let (x, _) = is_binary(s, op)?.with_splat().find(|(_, l)| *l == c)?;
    Patch::value(x)
}

/// `op(x, c) = x`.
fn right_neutral(s: &Site<'_>, op: BinaryOp, c: Literal) -> Option<Patch> {
    (s.splat(is_binary(s, op)?.operand(1))? == c).then(|| Patch::value(s.operand(0)))?
}

/// The `x` of a value `-x`.
fn negand(s: &Site<'_>, v: lehr_ir::graph::Value) -> Option<lehr_ir::graph::Value> {
    s.def(v).filter(|n| n.op == Op::Unary(UnaryOp::Neg)).map(|n| n.operands[0])
}

/// `-c`; integers wrap.
fn negated(c: Literal) -> Option<Literal> {
    match c.dtype().kind() {
        Kind::Signed | Kind::Unsigned => Some(Literal::from_bits(c.dtype(), [c.bits()[0].wrapping_neg(), 0])),
        Kind::Float => Some(Literal::from_f64(c.dtype(), -c.to_f64())),
        Kind::Bool | Kind::Complex => None,
    }
}

/// `1 / c` where both are powers of two of normal size.
fn exact_reciprocal(c: Literal) -> Option<Literal> {
    const MANTISSA: u64 = (1 << 52) - 1;
    let x = c.to_f64();
    if !x.is_normal() || x.to_bits() & MANTISSA != 0 {
        return None;
    }
    let r = Literal::from_f64(c.dtype(), 1.0 / x);
    (r.to_f64().is_normal() && r.to_f64() == 1.0 / x).then_some(r)
}

fn rounds(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round)
}

/// Whether converting `a` to `b` to `c` gives what converting `a` to `c` does.
fn chain_is_exact(a: DType, b: DType, c: DType) -> bool {
    if !holds(b, a) {
        return false;
    }
    // An integer on the way through a float saturates where it would have wrapped, unless it fits.
    !(b.is_float() && c.is_integer() && !a.is_float()) || holds(c, a)
}

/// Whether every value of `a` is one of `b`.
fn holds(b: DType, a: DType) -> bool {
    /// Bits of precision of a float.
    fn precision(d: DType) -> usize {
        match d {
            DType::BF16 => 8,
            DType::F16 => 11,
            DType::F32 => 24,
            _ => 53,
        }
    }
    let (wa, wb) = (8 * a.size(), 8 * b.size());
    match (a.kind(), b.kind()) {
        _ if a == b => true,
        (Kind::Bool, Kind::Signed | Kind::Unsigned | Kind::Float) => true,
        (Kind::Signed, Kind::Signed) | (Kind::Unsigned, Kind::Unsigned | Kind::Signed) => wa < wb,
        (Kind::Signed, Kind::Float) => wa - 1 <= precision(b),
        (Kind::Unsigned, Kind::Float) => wa <= precision(b),
        // F16 has the smaller range and BF16 the smaller precision.
        (Kind::Float, Kind::Float) => wa < wb,
        _ => false,
    }
}

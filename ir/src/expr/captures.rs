//! What a closure's region takes from around it.

use std::collections::{HashMap, HashSet};

use rustc_hash::FxBuildHasher;

use super::{Expr, ExprKind, topological_within};
use crate::ops::Op;

/// What a region with these parameters takes from around it: the expressions that its own operations use and that are not its
/// own, each once, in the order they are met.
///
/// `inside` says what was made while the region was traced; nothing else can depend on its parameters. If `hoist` is set, what
/// was made inside and depends on no parameter counts as being around: a loop computes it once.
/// What depends on nothing but constants and positions is nobody's: each region makes it for itself.
pub fn captures(roots: &[Expr], params: &[Expr], inside: &dyn Fn(&Expr) -> bool, hoist: bool) -> Vec<Expr> {
    let params: HashSet<(usize, u32), FxBuildHasher> = params.iter().map(Expr::result_key).collect();
    let mut sides: HashMap<usize, Side, FxBuildHasher> = HashMap::default();
    let side_of = |sides: &HashMap<usize, Side, FxBuildHasher>, e: &Expr| match sides.get(&e.key()) {
        _ if params.contains(&e.result_key()) => Side::Inside,
        Some(side) => *side,
        None => Side::Around,
    };
    let mut found: Vec<Expr> = Vec::new();
    let mut known: HashSet<(usize, u32), FxBuildHasher> = HashSet::default();
    let opens = |e: &Expr| inside(e) || matches!(&e.node.kind, ExprKind::Apply(op, _) if generates(op));
    for e in topological_within(roots, &|e| !params.contains(&e.result_key()) && opens(e)) {
        let operands = || e.operands().iter().map(|o| side_of(&sides, o));
        let side = match &e.node.kind {
            ExprKind::Input(_) | ExprKind::Variable(_) | ExprKind::Data(_) | ExprKind::Invalid(_) => Side::Around,
            ExprKind::Assume(of) => side_of(&sides, of),
            ExprKind::Apply(op, _) if generates(op) && operands().all(|s| s == Side::Nobody) => Side::Nobody,
            ExprKind::Apply(..) if operands().any(|s| s == Side::Inside) || (inside(&e) && !hoist) => Side::Inside,
            ExprKind::Apply(..) => Side::Around,
        };
        sides.insert(e.key(), side);
        if side == Side::Inside {
            for o in e.operands() {
                if side_of(&sides, o) == Side::Around && known.insert(o.result_key()) {
                    found.push(o.clone());
                }
            }
        }
    }
    for root in roots {
        if side_of(&sides, root) == Side::Around && known.insert(root.result_key()) {
            found.push(root.clone());
        }
    }
    found
}

/// Where an operation belongs, seen from a region.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Nobody,
    Around,
}

/// Whether a kernel generates the result for nothing, given its operand.
fn generates(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Iota(_) | Op::Broadcast(_))
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::loc::Loc;
    use crate::ops::{BinaryOp, UnaryOp};
    use crate::{Array, DType, Type};

    fn apply(op: impl Into<Op>, operands: &[Expr]) -> Expr {
        Expr::apply(op.into(), operands, Loc::UNKNOWN, None).swap_remove(0)
    }

    #[test]
    fn captures_are_the_largest_values_that_do_not_vary() {
        let input = |name: &str| Expr::input(name, Type::new(DType::F32, [2usize]), Loc::UNKNOWN);
        let (p, x) = (input("p"), input("x"));
        let outer = apply(UnaryOp::Exp, &[apply(UnaryOp::Sin, std::slice::from_ref(&x))]);
        let constant = apply(crate::ops::Constant { value: Array::from([1.0f32, 2.0]) }, &[]);
        let inner = apply(BinaryOp::Mul, &[p.clone(), outer.clone()]);
        let twice = apply(BinaryOp::Add, &[inner.clone(), outer.clone()]);
        let sum = apply(BinaryOp::Add, &[twice, constant]);
        let found = captures(&[sum, x.clone(), p.clone()], std::slice::from_ref(&p), &|_| true, true);
        assert_eq!(found.len(), 2);
        assert!(found[0].same(&outer) && found[1].same(&x));
        assert!(captures(std::slice::from_ref(&inner), &[p, outer], &|_| true, true).is_empty());
    }
}

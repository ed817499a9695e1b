//! What a function of expressions captures from around it.

use std::collections::HashMap;

use rustc_hash::FxBuildHasher;

use super::{Expr, ExprKind, topological};

/// The values that `roots` are made from, besides `params`: the largest expressions that do not depend on a parameter.
///
/// They come each once, in the order they are met. What has no leaves, such as a constant, is no capture: it can be made again
/// wherever it is used. So a body built from `roots` is closed if its parameters are `params` and the captures.
pub fn captures(roots: &[Expr], params: &[Expr]) -> Vec<Expr> {
    let mut facts: HashMap<usize, Facts, FxBuildHasher> = HashMap::default();
    let is_param = |e: &Expr| params.iter().any(|p| p.same(e));
    let mut found: Vec<Expr> = Vec::new();
    let mut add = |e: &Expr| {
        if !found.iter().any(|f| f.same(e)) {
            found.push(e.clone());
        }
    };
    for e in topological(roots, params) {
        let of = |o: &Expr| match is_param(o) {
            true => Facts { varies: true, open: true },
            false => facts.get(&o.key()).copied().unwrap_or_default(),
        };
        let leaf = matches!(e.node.kind, ExprKind::Input(_) | ExprKind::Variable(_) | ExprKind::Data(_));
        let mut all = Facts { varies: false, open: leaf };
        for o in e.operands() {
            let f = of(o);
            all = Facts { varies: all.varies || f.varies, open: all.open || f.open };
        }
        if all.varies {
            e.operands().iter().filter(|o| of(o).is_capture()).for_each(&mut add);
        }
        facts.insert(e.key(), all);
    }
    for root in roots.iter().filter(|r| !is_param(r)) {
        if facts.get(&root.key()).copied().unwrap_or_default().is_capture() {
            add(root);
        }
    }
    found
}

/// What is known of a node.
#[derive(Clone, Copy, Default)]
struct Facts {
    /// Whether it depends on a parameter.
    varies: bool,
    /// Whether it depends on any leaf.
    open: bool,
}

impl Facts {
    fn is_capture(self) -> bool {
        self.open && !self.varies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loc::Loc;
    use crate::ops::{BinaryOp, Op, UnaryOp};
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
        let found = captures(&[sum, x.clone(), p.clone()], std::slice::from_ref(&p));
        assert_eq!(found.len(), 2);
        assert!(found[0].same(&outer) && found[1].same(&x));
        assert!(captures(std::slice::from_ref(&inner), &[p, outer]).is_empty());
    }
}

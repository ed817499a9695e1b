//! The rows of loops and branches.

use lehr_ir::array::Array;
use lehr_ir::graph::{Builder, Graph, Region, Value};
use lehr_ir::literal::Literal;
use lehr_ir::ops::{self, CompareOp, Scan, UnaryOp, While};
use lehr_ir::{DType, Dim, Type};

use super::Case;
use super::build::{build, f64s, random};

fn region(types: &[Type], make: impl FnOnce(&mut Builder, &[Value]) -> Vec<Value>) -> Region {
    Graph::named(build(types, make), "body").into()
}

fn row() -> Type {
    f64s(&[2])
}

/// `h' = tanh(w*h + x)`, and `y = h' * h`, and the number of iterations so far.
fn cell() -> Region {
    let count = Type::new(DType::I32, Vec::<Dim>::new());
    region(&[row(), row(), count, row()], |b, v| {
        let (w, h, n, x) = (v[0], v[1], v[2], v[3]);
        let wh = b.mul(w, h).unwrap();
        let sum = b.add(wh, x).unwrap();
        let new = b.unary(UnaryOp::Tanh, sum).unwrap();
        let y = b.mul(new, h).unwrap();
        let one = b.scalar(Literal::one(DType::I32));
        vec![new, b.add(n, one).unwrap(), y]
    })
}

pub(crate) fn scans() -> Vec<Case> {
    let count = || Array::from_literal(Literal::zero(DType::I32));
    let of = |name: &str, reverse: bool, n: usize| {
        let op = Scan { body: cell(), consts: 1, carries: 2, length: Dim::from(n), reverse };
        let args = vec![random(&[2], -1., 1., 1), random(&[2], -1., 1., 2), count(), random(&[n, 2], -1., 1., 3)];
        Case::op(name, op, args)
    };
    // A carry that varies only through the rows, one that nothing changes, and an output that is a row as it is.
    let lazy = {
        let body = region(&[row(), row(), row()], |b, v| {
            let sq = b.mul(v[2], v[2]).unwrap();
            vec![b.add(v[0], sq).unwrap(), v[1], v[2], v[1]]
        });
        let op = Scan { body, consts: 0, carries: 2, length: Dim::from(3), reverse: false };
        Case::op("scan_lazy", op, vec![random(&[2], -1., 1., 4), random(&[2], -1., 1., 5), random(&[3, 2], -1., 1., 6)])
    };
    // A loop in a loop, whose inner carry starts from the outer one.
    let nested = {
        let inner = region(&[f64s(&[]), row()], |b, v| {
            let s = b.sum(v[1], &[0]).unwrap();
            let p = b.mul(v[0], s).unwrap();
            vec![b.unary(UnaryOp::Sin, p).unwrap()]
        });
        let outer = region(&[f64s(&[]), f64s(&[3, 2])], |b, v| {
            let op = Scan { body: inner, consts: 0, carries: 1, length: Dim::from(3), reverse: true };
            let c = b.op(op.into(), &[v[0], v[1]]).unwrap();
            vec![c, b.mul(c, v[0]).unwrap()]
        });
        let op = Scan { body: outer, consts: 0, carries: 1, length: Dim::from(2), reverse: false };
        Case::op("scan_nested", op, vec![random(&[], 0.5, 1., 7), random(&[2, 3, 2], 0.5, 1., 8)])
    };
    vec![of("scan", false, 4), of("scan_reverse", true, 3), of("scan_none", false, 0), lazy, nested]
}

pub(crate) fn loops_on_conditions() -> Vec<Case> {
    // Doubles the values, plus a const, while their sum is below a limit.
    let types = [row(), row()];
    let cond = region(&types, |b, v| {
        let s = b.sum(v[1], &[0]).unwrap();
        vec![b.compare_to(CompareOp::Lt, s, 40.0).unwrap()]
    });
    let body = region(&types, |b, v| {
        let twice = b.scale(v[1], 2.0).unwrap();
        let k = b.mul(v[0], v[1]).unwrap();
        vec![b.add(twice, k).unwrap()]
    });
    let op = While { cond, body, consts: 1 };
    vec![Case::op("while", op, vec![random(&[2], 0., 1., 1), random(&[2], 0.5, 1.5, 2)]).forward_only()]
}

pub(crate) fn choices() -> Vec<Case> {
    let types = [row(), f64s(&[])];
    let branches = || {
        let first = region(&types, |b, v| {
            let s = b.unary(UnaryOp::Sin, v[0]).unwrap();
            let sq = b.mul(v[1], v[1]).unwrap();
            vec![s, b.unary(UnaryOp::Exp, sq).unwrap()]
        });
        let second = region(&types, |b, v| {
            let wide = b.broadcast(v[1], &[Dim::from(2)], &[]).unwrap();
            let p = b.mul(v[0], wide).unwrap();
            vec![b.mul(p, p).unwrap(), v[1]]
        });
        let third = region(&types, |b, v| {
            let zeros = b.zeros(&row()).unwrap();
            vec![zeros, b.sum(v[0], &[0]).unwrap()]
        });
        ops::Case { branches: [first, second, third].into_iter().collect() }
    };
    let of = |index: i32| {
        let args = vec![Array::from(index), random(&[2], -1., 1., 1), random(&[], -1., 1., 2)];
        Case::op(format!("case_{index}"), branches(), args)
    };
    vec![of(0), of(1), of(2), of(-3), of(9)]
}

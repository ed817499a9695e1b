//! Graphs on which each rule of `simplify` fires.

use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::ops::{
    BinaryOp, Broadcast, CompareOp, Concat, Convert, DotDims, Op, Pad, Reduce, ReduceOp, Reshape, Reverse, Slice,
    Transpose, UnaryOp,
};
use lehr_ir::{DType, Literal, Type};
use smallvec::SmallVec;

use crate::rules::{N, vector};
use crate::support::build;
use crate::table::dims;

const REALS: [DType; 6] = [DType::F16, DType::F32, DType::F64, DType::I8, DType::I32, DType::U8];
const FLOATS: [DType; 3] = [DType::F16, DType::F32, DType::F64];
const INTS: [DType; 3] = [DType::I8, DType::I64, DType::U16];
const BITS: [DType; 3] = [DType::I8, DType::U32, DType::Bool];
const ALL: [DType; 5] = [DType::F32, DType::F64, DType::I16, DType::U8, DType::Bool];

/// Graphs on which a rule fires.
pub(crate) fn examples(rule: &str) -> Vec<Graph> {
    let zero = Literal::zero;
    let one = Literal::one;
    match rule {
        "add_zero" => {
            let mut all = both_orders(&FLOATS, BinaryOp::Add, |d| Literal::from_f64(d, -0.0));
            all.extend(both_orders(&INTS, BinaryOp::Add, zero));
            all
        }
        "sub_zero" => with_constant(&REALS, BinaryOp::Sub, zero),
        "mul_one" => both_orders(&REALS, BinaryOp::Mul, one),
        "div_one" => with_constant(&REALS, BinaryOp::Div, one),
        "mul_minus_one" => both_orders(&REALS, BinaryOp::Mul, |d| {
            if d.is_float() { Literal::from_f64(d, -1.0) } else { Literal::from_i64(d, -1) }
        }),
        "mul_zero" => both_orders(&INTS, BinaryOp::Mul, zero),
        "sub_self" => each(&INTS, 1, &|b, v| b.sub(v[0], v[0]).unwrap()),
        "add_neg" => {
            let mut all = each(&REALS, 2, &|b, v| {
                let y = b.neg(v[1]).unwrap();
                b.add(v[0], y).unwrap()
            });
            all.extend(each(&REALS, 2, &|b, v| {
                let x = b.neg(v[0]).unwrap();
                b.add(x, v[1]).unwrap()
            }));
            all.extend(each(&REALS, 2, &|b, v| negated(b, v, BinaryOp::Add)));
            all
        }
        "sub_neg" => each(&REALS, 2, &|b, v| {
            let y = b.neg(v[1]).unwrap();
            b.sub(v[0], y).unwrap()
        }),
        "mul_neg_neg" => each(&REALS, 2, &|b, v| negated(b, v, BinaryOp::Mul)),
        "div_neg_neg" => each(&FLOATS, 2, &|b, v| negated(b, v, BinaryOp::Div)),
        "neg_neg" => each(&REALS, 1, &|b, v| {
            let x = b.neg(v[0]).unwrap();
            b.neg(x).unwrap()
        }),
        "neg_of_sub" => each(&INTS, 2, &|b, v| {
            let d = b.sub(v[0], v[1]).unwrap();
            b.neg(d).unwrap()
        }),
        "neg_of_scale" => each(&REALS, 1, &|b, v| {
            let x = b.scale(v[0], 3.0).unwrap();
            b.neg(x).unwrap()
        }),
        "div_power_of_two" => [4.0, -0.5, 1024.0]
            .into_iter()
            .flat_map(|c| with_constant(&FLOATS, BinaryOp::Div, move |d| Literal::from_f64(d, c)))
            .collect(),
        "pow_zero" => with_constant(&FLOATS, BinaryOp::Pow, zero),
        "pow_one" => with_constant(&FLOATS, BinaryOp::Pow, one),
        "pow_two" => with_constant(&FLOATS, BinaryOp::Pow, |d| Literal::from_f64(d, 2.0)),
        "pow_minus_one" => with_constant(&FLOATS, BinaryOp::Pow, |d| Literal::from_f64(d, -1.0)),
        "max_of_least" => {
            let mut all = both_orders(&REALS, BinaryOp::Max, Literal::lowest);
            all.extend(both_orders(&REALS, BinaryOp::Min, Literal::highest));
            all
        }
        "idempotent" => {
            let mut all = each(&REALS, 1, &|b, v| b.binary(BinaryOp::Max, v[0], v[0]).unwrap());
            all.extend(each(&REALS, 1, &|b, v| b.binary(BinaryOp::Min, v[0], v[0]).unwrap()));
            all.extend(each(&BITS, 1, &|b, v| b.binary(BinaryOp::And, v[0], v[0]).unwrap()));
            all.extend(each(&BITS, 1, &|b, v| b.binary(BinaryOp::Or, v[0], v[0]).unwrap()));
            all
        }
        "idempotent_unary" => [
            (UnaryOp::Floor, UnaryOp::Round),
            (UnaryOp::Round, UnaryOp::Trunc),
            (UnaryOp::Ceil, UnaryOp::Floor),
            (UnaryOp::Trunc, UnaryOp::Ceil),
            (UnaryOp::Abs, UnaryOp::Abs),
            (UnaryOp::Sign, UnaryOp::Sign),
        ]
        .into_iter()
        .flat_map(|(outer, inner)| {
            each(&FLOATS, 1, &|b, v| {
                let x = b.unary(inner, v[0]).unwrap();
                b.unary(outer, x).unwrap()
            })
        })
        .collect(),
        "abs_of_neg" => each(&[DType::F16, DType::F32, DType::F64, DType::I8, DType::I32], 1, &|b, v| {
            let x = b.neg(v[0]).unwrap();
            b.unary(UnaryOp::Abs, x).unwrap()
        }),
        "convert_same" => each(&ALL, 1, &|b, v| {
            let dtype = b.ty(v[0]).dtype;
            b.op(Convert { dtype }.into(), v).unwrap()
        }),
        "convert_chain" => conversions(),
        "bits_neutral" => {
            let ones = |d| Literal::from_bits(d, [u64::MAX, 0]);
            let mut all = both_orders(&BITS, BinaryOp::And, ones);
            all.extend(both_orders(&BITS, BinaryOp::Or, zero));
            all.extend(both_orders(&BITS, BinaryOp::Xor, zero));
            all.extend(with_constant(&INTS, BinaryOp::Shl, zero));
            all.extend(with_constant(&INTS, BinaryOp::Shr, zero));
            all
        }
        "bits_absorbing" => {
            let ones = |d| Literal::from_bits(d, [u64::MAX, 0]);
            let mut all = both_orders(&BITS, BinaryOp::And, zero);
            all.extend(both_orders(&BITS, BinaryOp::Or, ones));
            all.extend(each(&BITS, 1, &|b, v| b.binary(BinaryOp::Xor, v[0], v[0]).unwrap()));
            all
        }
        "not_not" => each(&BITS, 1, &|b, v| {
            let x = b.unary(UnaryOp::Not, v[0]).unwrap();
            b.unary(UnaryOp::Not, x).unwrap()
        }),
        "not_compare" => {
            let of = |op: CompareOp, dtypes: &[DType]| {
                each(dtypes, 2, &|b, v| {
                    let c = b.compare(op, v[0], v[1]).unwrap();
                    b.unary(UnaryOp::Not, c).unwrap()
                })
            };
            let total = CompareOp::ALL.iter().flat_map(|&op| of(op, &INTS));
            total.chain(of(CompareOp::Eq, &FLOATS)).chain(of(CompareOp::Ne, &FLOATS)).collect()
        }
        "compare_self" => {
            let of = |op: CompareOp, dtypes: &[DType]| each(dtypes, 1, &|b, v| b.compare(op, v[0], v[0]).unwrap());
            let total = CompareOp::ALL.iter().flat_map(|&op| of(op, &INTS));
            total.chain(of(CompareOp::Lt, &FLOATS)).chain(of(CompareOp::Gt, &FLOATS)).collect()
        }
        "select_constant" => [true, false]
            .into_iter()
            .flat_map(|c| {
                each(&ALL, 2, &|b, v| {
                    let shape = b.ty(v[0]).shape.clone();
                    let c = b.full(Literal::from(c), &shape).unwrap();
                    b.select(c, v[0], v[1]).unwrap()
                })
            })
            .collect(),
        "select_same" => each(&ALL, 2, &|b, v| {
            let c = b.compare(CompareOp::Lt, v[0], v[1]).unwrap();
            b.select(c, v[0], v[0]).unwrap()
        }),
        "select_not" => each(&ALL, 2, &|b, v| {
            let c = b.compare(CompareOp::Lt, v[0], v[1]).unwrap();
            let c = b.unary(UnaryOp::Not, c).unwrap();
            b.select(c, v[0], v[1]).unwrap()
        }),
        "select_bool" => [true, false]
            .into_iter()
            .flat_map(|first| {
                each(&[DType::Bool], 1, &|b, v| {
                    let shape = b.ty(v[0]).shape.clone();
                    let (x, y) = (Literal::from(first), Literal::from(!first));
                    let (x, y) = (b.full(x, &shape).unwrap(), b.full(y, &shape).unwrap());
                    b.select(v[0], x, y).unwrap()
                })
            })
            .collect(),
        "select_nested" => [true, false]
            .into_iter()
            .flat_map(|first| {
                each(&ALL, 3, &|b, v| {
                    let c = b.compare(CompareOp::Lt, v[0], v[1]).unwrap();
                    let inner = b.select(c, v[0], v[1]).unwrap();
                    if first { b.select(c, inner, v[2]).unwrap() } else { b.select(c, v[2], inner).unwrap() }
                })
            })
            .collect(),
        "elementwise_of_broadcast" => elementwise_of_broadcast(),
        "broadcast_same" => one_op(&[2, 3], Broadcast { shape: dims(&[2, 3]), axes: axes(&[0, 1]) }),
        "broadcast_of_broadcast" => two_ops(
            &[3, 1],
            Broadcast { shape: dims(&[2, 3, 1]), axes: axes(&[1, 2]) },
            Broadcast { shape: dims(&[4, 2, 3, 5]), axes: axes(&[1, 2, 3]) },
        ),
        "broadcast_of_reshape" => two_ops(
            &[2, 3],
            Reshape { shape: dims(&[2, 1, 3, 1]) },
            Broadcast { shape: dims(&[2, 4, 3, 5]), axes: axes(&[0, 1, 2, 3]) },
        ),
        "reshape_of_scalar" => {
            two_ops(&[], Broadcast { shape: dims(&[2, 6]), axes: axes(&[]) }, Reshape { shape: dims(&[3, 4]) })
        }
        "transpose_of_broadcast" => two_ops(
            &[3, 4],
            Broadcast { shape: dims(&[2, 3, 4]), axes: axes(&[1, 2]) },
            Transpose { perm: axes(&[1, 0, 2]) },
        ),
        "slice_of_broadcast" => two_ops(
            &[3, 1],
            Broadcast { shape: dims(&[5, 3, 4]), axes: axes(&[1, 2]) },
            slice(&[1, 0, 2], &[5, 3, 4], &[2, 1, 1]),
        ),
        "reverse_of_broadcast" => two_ops(
            &[3, 1],
            Broadcast { shape: dims(&[5, 3, 4]), axes: axes(&[1, 2]) },
            Reverse { axes: axes(&[0, 2]) },
        ),
        "reshape_same" => one_op(&[2, 3], Reshape { shape: dims(&[2, 3]) }),
        "reshape_of_reshape" => {
            let mut all = two_ops(&[2, 6], Reshape { shape: dims(&[12]) }, Reshape { shape: dims(&[4, 3]) });
            all.extend(two_ops(&[2, 6], Reshape { shape: dims(&[12]) }, Reshape { shape: dims(&[2, 6]) }));
            all
        }
        "transpose_same" => one_op(&[2, 3], Transpose { perm: axes(&[0, 1]) }),
        "transpose_of_transpose" => {
            let first = Transpose { perm: axes(&[2, 0, 1]) };
            let mut all = two_ops(&[2, 3, 4], first.clone(), Transpose { perm: axes(&[0, 2, 1]) });
            all.extend(two_ops(&[2, 3, 4], first, Transpose { perm: axes(&[1, 2, 0]) }));
            all
        }
        "transpose_of_units" => one_op(&[2, 1, 3], Transpose { perm: axes(&[1, 0, 2]) }),
        "slice_whole" => one_op(&[2, 3], slice(&[0, 0], &[2, 3], &[1, 1])),
        "slice_of_slice" => two_ops(&[8, 9], slice(&[1, 2], &[7, 9], &[1, 1]), slice(&[1, 0], &[5, 6], &[2, 1])),
        "slice_of_concat" => shaped(&[&[2, 3], &[2, 4], &[2, 2]], &|b, v| {
            let c = b.op(Concat { axis: 1 }.into(), v).unwrap();
            b.op(slice(&[0, 4], &[2, 7], &[1, 2]).into(), &[c]).unwrap()
        }),
        "slice_of_pad" => shaped(&[&[4, 3], &[]], &|b, v| {
            let op = Pad { low: dims(&[1, -1]), high: dims(&[0, 2]), interior: axes(&[0, 0]) };
            let p = b.op(op.into(), v).unwrap();
            b.op(slice(&[1, 0], &[5, 2], &[2, 1]).into(), &[p]).unwrap()
        }),
        "pad_nothing" => shaped(&[&[2, 3], &[]], &|b, v| {
            let op = Pad { low: dims(&[0, 0]), high: dims(&[0, 0]), interior: axes(&[0, 0]) };
            b.op(op.into(), v).unwrap()
        }),
        "pad_of_pad" => shaped(&[&[2, 3], &[]], &|b, v| {
            let pad =
                |low: [i64; 2], high: [i64; 2]| Pad { low: dims(&low), high: dims(&high), interior: axes(&[0, 0]) };
            let p = b.op(pad([1, 0], [2, 2]).into(), v).unwrap();
            b.op(pad([-1, 3], [1, -3]).into(), &[p, v[1]]).unwrap()
        }),
        "concat_of_one" => one_op(&[2, 3], Concat { axis: 0 }),
        "concat_of_nothing" => {
            shaped(&[&[2, 3], &[2, 0], &[2, 1]], &|b, v| b.op(Concat { axis: 1 }.into(), v).unwrap())
        }
        "concat_of_concat" => shaped(&[&[2, 3], &[2, 4], &[2, 1]], &|b, v| {
            let c = b.op(Concat { axis: 1 }.into(), &v[..2]).unwrap();
            b.op(Concat { axis: 1 }.into(), &[v[2], c, v[0]]).unwrap()
        }),
        "reverse_units" => {
            let mut all = one_op(&[1, 3], Reverse { axes: axes(&[0, 1]) });
            all.extend(one_op(&[1, 3], Reverse { axes: axes(&[]) }));
            all
        }
        "reverse_of_reverse" => {
            let first = Reverse { axes: axes(&[0, 1]) };
            let mut all = two_ops(&[2, 3, 4], first.clone(), Reverse { axes: axes(&[1, 2]) });
            all.extend(two_ops(&[2, 3, 4], first, Reverse { axes: axes(&[1, 0]) }));
            all
        }
        "reduce_units" => reduce_units(),
        "reduce_of_reduce" => reduce_of_reduce(),
        "dot_of_transpose" => dot_of_transpose(),
        "transpose_of_dot" => shaped(&[&[2, 3, 4], &[2, 4, 5]], &|b, v| {
            let d = b.dot(v[0], v[1], DotDims::matmul(1)).unwrap();
            b.transpose(d, &[0, 2, 1]).unwrap()
        }),
        _ => Vec::new(),
    }
}

type Make<'a> = &'a dyn Fn(&mut Builder, &[Value]) -> Value;

/// Graphs of one output on vectors of each dtype.
fn each(dtypes: &[DType], params: usize, make: Make<'_>) -> Vec<Graph> {
    dtypes.iter().map(|&d| build(&vec![vector(d); params], |b, v| vec![make(b, v)])).collect()
}

/// `op(x, c)` and `op(c, x)`.
fn both_orders(dtypes: &[DType], op: BinaryOp, c: impl Fn(DType) -> Literal) -> Vec<Graph> {
    let mut out = with_constant(dtypes, op, &c);
    out.extend(each(dtypes, 1, &|b, v| {
        let k = constant(b, v[0], &c);
        b.binary(op, k, v[0]).unwrap()
    }));
    out
}

/// `op(x, c)`.
fn with_constant(dtypes: &[DType], op: BinaryOp, c: impl Fn(DType) -> Literal) -> Vec<Graph> {
    each(dtypes, 1, &|b, v| {
        let k = constant(b, v[0], &c);
        b.binary(op, v[0], k).unwrap()
    })
}

fn constant(b: &mut Builder, like: Value, c: &impl Fn(DType) -> Literal) -> Value {
    let ty = b.ty(like).clone();
    b.full(c(ty.dtype), &ty.shape).unwrap()
}

/// Graphs of one output on `f32` of some shapes.
fn shaped(shapes: &[&[i64]], make: Make<'_>) -> Vec<Graph> {
    let types: Vec<Type> = shapes.iter().map(|s| Type::new(DType::F32, s.iter().copied())).collect();
    vec![build(&types, |b, v| vec![make(b, v)])]
}

fn one_op(shape: &[i64], op: impl Into<Op>) -> Vec<Graph> {
    let op = op.into();
    shaped(&[shape], &move |b, v| b.op(op.clone(), v).unwrap())
}

fn two_ops(shape: &[i64], first: impl Into<Op>, second: impl Into<Op>) -> Vec<Graph> {
    let (first, second) = (first.into(), second.into());
    shaped(&[shape], &move |b, v| {
        let x = b.op(first.clone(), v).unwrap();
        b.op(second.clone(), &[x]).unwrap()
    })
}

fn slice(start: &[i64], limit: &[i64], stride: &[usize]) -> Slice {
    Slice { start: dims(start), limit: dims(limit), stride: stride.into() }
}

fn axes(list: &[usize]) -> SmallVec<[usize; 4]> {
    list.into()
}

fn negated(b: &mut Builder, v: &[Value], op: BinaryOp) -> Value {
    let (x, y) = (b.neg(v[0]).unwrap(), b.neg(v[1]).unwrap());
    b.binary(op, x, y).unwrap()
}

fn conversions() -> Vec<Graph> {
    use DType::*;
    [
        (F32, F64, F16),
        (F32, F64, F32),
        (F16, F32, I8),
        (BF16, F32, F16),
        (I8, I32, I16),
        (I8, I64, U8),
        (U8, I16, F32),
        (Bool, I8, F32),
        (Bool, F32, Bool),
        (I16, F32, I64),
        (U8, F16, BF16),
        (I32, I64, Bool),
    ]
    .into_iter()
    .flat_map(|(a, b, c)| {
        each(&[a], 1, &|g, v| {
            let x = g.convert(v[0], b).unwrap();
            g.op(Convert { dtype: c }.into(), &[x]).unwrap()
        })
    })
    .collect()
}

fn elementwise_of_broadcast() -> Vec<Graph> {
    let spread = |b: &mut Builder, x: Value| {
        let axes: &[usize] = if b.ty(x).rank() == 0 { &[] } else { &[0, 2] };
        b.broadcast(x, &dims(&[3, 2, 4]), axes).unwrap()
    };
    let mut all = shaped(&[&[3, 4]], &|b, v| {
        let x = spread(b, v[0]);
        b.unary(UnaryOp::Tanh, x).unwrap()
    });
    all.extend(shaped(&[&[3, 4], &[]], &|b, v| {
        let (x, y) = (spread(b, v[0]), spread(b, v[1]));
        b.sub(y, x).unwrap()
    }));
    all.extend(shaped(&[&[3, 1], &[3, 1]], &|b, v| {
        let (x, y) = (spread(b, v[0]), spread(b, v[1]));
        let c = b.compare(CompareOp::Le, x, y).unwrap();
        b.select(c, x, y).unwrap()
    }));
    all
}

fn reduce_units() -> Vec<Graph> {
    let mut all = Vec::new();
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
        for list in [[1].as_slice(), &[0, 1], &[]] {
            all.extend(one_op(&[N as i64, 1], Reduce { op, axes: axes(list) }));
        }
        all.push(build(&[Type::new(DType::I16, [N, 1])], |b, v| vec![b.reduce(op, v[0], &[1]).unwrap()]));
    }
    // Over all of several dims, some of which have size 1.
    all.retain(|g| g.nodes().any(|(_, n)| matches!(&n.op, Op::Reduce(_))));
    all.push(build(&[Type::new(DType::Bool, [N, 1])], |b, v| vec![b.reduce(ReduceOp::Any, v[0], &[1]).unwrap()]));
    all
}

fn reduce_of_reduce() -> Vec<Graph> {
    let of = |dtype: DType, op: ReduceOp| {
        build(&[Type::new(dtype, [3, 4, 5, 2])], |b, v| {
            let x = b.reduce(op, v[0], &[1]).unwrap();
            vec![b.reduce(op, x, &[0, 1]).unwrap()]
        })
    };
    vec![
        of(DType::F32, ReduceOp::Max),
        of(DType::F64, ReduceOp::Min),
        of(DType::Bool, ReduceOp::Any),
        of(DType::Bool, ReduceOp::All),
        of(DType::I8, ReduceOp::Sum),
        of(DType::U16, ReduceOp::Prod),
    ]
}

fn dot_of_transpose() -> Vec<Graph> {
    let mut all = shaped(&[&[3, 2], &[3, 4]], &|b, v| {
        let x = b.transpose(v[0], &[1, 0]).unwrap();
        b.dot(x, v[1], DotDims::matmul(0)).unwrap()
    });
    all.extend(shaped(&[&[2, 3, 4], &[5, 2, 4]], &|b, v| {
        let y = b.transpose(v[1], &[1, 2, 0]).unwrap();
        b.dot(v[0], y, DotDims::matmul(1)).unwrap()
    }));
    all.extend(shaped(&[&[3, 2], &[4, 3]], &|b, v| {
        let (x, y) = (b.transpose(v[0], &[1, 0]).unwrap(), b.transpose(v[1], &[1, 0]).unwrap());
        b.dot(x, y, DotDims::matmul(0)).unwrap()
    }));
    all
}

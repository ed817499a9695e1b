//! Every rule of `simplify` against the evaluator, on data with NaN, −0, infinities, subnormals and the extremes of integers.

use std::collections::BTreeMap;

use lehr_ir::array::{Array, Data};
use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::ops::{BinaryOp, CompareOp, Constant, Reverse, Select, UnaryOp};
use lehr_ir::{DType, Kind, Literal, Type};
use lehr_passes::driver::run_passes;
use lehr_passes::simplify::{Legality, RULES, Rule, Simplify};
use lehr_passes::{PassCx, PassOptions};
use proptest::prelude::*;
use smallvec::smallvec;

use crate::rule_examples::examples;
use crate::support::{build, run, same_bits};
use crate::table::dims;

#[test]
fn every_rule_fires_and_keeps_the_values() {
    let mut missing = Vec::new();
    for rule in RULES.iter().copied().flatten() {
        let examples = examples(rule.name);
        if examples.is_empty() {
            missing.push(rule.name);
        }
        for graph in examples {
            check(rule, &graph);
        }
    }
    assert!(missing.is_empty(), "rules without an example: {missing:?}");
}

#[test]
fn rules_have_names_of_their_own() {
    let mut names: Vec<&str> = RULES.iter().copied().flatten().map(|r| r.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 25, "{count} rules");
}

#[test]
fn rules_leave_alone_what_they_would_change() {
    let x_and_constant = |op: BinaryOp, c: f64| {
        build(&[vector(DType::F32)], |b, v| {
            let c = b.full_like(v[0], c).unwrap();
            vec![b.binary(op, v[0], c).unwrap()]
        })
    };
    let pair = |make: fn(&mut Builder, &[Value]) -> Value| {
        build(&[vector(DType::F32), vector(DType::F32)], |b, v| vec![make(b, v)])
    };
    let graphs = [
        x_and_constant(BinaryOp::Add, 0.0),
        x_and_constant(BinaryOp::Sub, -0.0),
        x_and_constant(BinaryOp::Mul, 0.0),
        x_and_constant(BinaryOp::Div, 3.0),
        x_and_constant(BinaryOp::Div, 0.0),
        x_and_constant(BinaryOp::Pow, 0.5),
        x_and_constant(BinaryOp::Max, 0.0),
        build(&[vector(DType::U8)], |b, v| {
            let x = b.neg(v[0]).unwrap();
            vec![b.unary(UnaryOp::Abs, x).unwrap()]
        }),
        pair(|b, v| b.sub(v[0], v[0]).unwrap()),
        pair(|b, v| b.div(v[0], v[0]).unwrap()),
        pair(|b, v| b.compare(CompareOp::Eq, v[0], v[0]).unwrap()),
        pair(|b, v| {
            let d = b.sub(v[0], v[1]).unwrap();
            b.neg(d).unwrap()
        }),
        pair(|b, v| {
            let c = b.compare(CompareOp::Lt, v[0], v[1]).unwrap();
            b.unary(UnaryOp::Not, c).unwrap()
        }),
        build(&[Type::new(DType::I32, [N])], |b, v| {
            // Saturates on the way back, and would not wrap.
            let f = b.convert(v[0], DType::F64).unwrap();
            vec![b.convert(f, DType::I8).unwrap()]
        }),
        build(&[Type::new(DType::F32, [4, 3, 2])], |b, v| {
            // Would add in another order.
            let s = b.sum(v[0], &[2]).unwrap();
            vec![b.sum(s, &[0]).unwrap()]
        }),
    ];
    for graph in graphs {
        let (new, fired) = simplify(&Simplify::new(), &graph);
        assert!(fired.is_empty(), "{fired:?}\n{graph}\n{new}");
    }
}

#[test]
fn simplification_is_idempotent_and_linear() {
    let graph = chain(10_000);
    let start = std::time::Instant::now();
    let (once, fired) = simplify(&Simplify::new(), &graph);
    eprintln!("simplify: {} nodes in {:?}, {fired:?}", graph.node_count(), start.elapsed());
    assert!(once.node_count() <= graph.node_count() + fired.values().map(|&n| n as usize).sum::<usize>());
    let mut cx = PassCx::new(PassOptions { verify: true, ..PassOptions::default() });
    let clean = lehr_passes::pipeline::optimize(once, &mut cx).unwrap();
    let (_, fired) = simplify(&Simplify::new(), &clean);
    assert!(fired.is_empty(), "{fired:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random expressions keep every bit under all rules but those that round better.
    #[test]
    fn random_expressions_keep_their_values(
        dtype in prop::sample::select(vec![DType::F32, DType::F64, DType::I8, DType::U16]),
        steps in prop::collection::vec((0usize..20, any::<u16>(), any::<u16>()), 1..25),
    ) {
        let graph = expression(dtype, &steps);
        let (new, _) = simplify(&Simplify::with(|r| r.legality != Legality::Rounding), &graph);
        let args = arguments(&graph);
        for (got, want) in run(&new, &args).iter().zip(run(&graph, &args)) {
            prop_assert!(same_bits(got, &want), "{}\n{}\n{:?}\n{:?}", graph, new, got, want);
        }
    }
}

/// Length of test vectors: the square of the number of special values.
pub(crate) const N: usize = 256;

pub(crate) fn vector(dtype: DType) -> Type {
    Type::new(dtype, [N])
}

/// Applies some rules to a graph, and says which fired.
fn simplify(pass: &Simplify, graph: &Graph) -> (Graph, BTreeMap<&'static str, u32>) {
    let mut cx = PassCx::new(PassOptions { verify: true, ..PassOptions::default() });
    let new = run_passes(&[pass], graph.clone(), &mut cx, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    (new, cx.records()[0].rules.clone())
}

fn check(rule: &Rule, graph: &Graph) {
    let (new, fired) = simplify(&Simplify::with(|r| r.name == rule.name), graph);
    assert!(fired.contains_key(rule.name), "{} does not fire on\n{graph}", rule.name);
    assert_eq!(
        new.output_types().collect::<Vec<_>>(),
        graph.output_types().collect::<Vec<_>>(),
        "{}: types of outputs",
        rule.name
    );
    let dtype = graph.output_types().next().unwrap().dtype;
    let discrete = |d: DType| matches!(d.kind(), Kind::Bool | Kind::Signed | Kind::Unsigned);
    assert!(rule.legality != Legality::Integers || discrete(dtype), "{}: {dtype}", rule.name);
    let args = arguments(graph);
    for (got, want) in run(&new, &args).iter().zip(run(graph, &args)) {
        let same = match rule.legality {
            Legality::Exact | Legality::Integers => same_bits(got, &want),
            Legality::Rounding => within_one_ulp(got, &want),
        };
        assert!(same, "{}\n{graph}\n{new}\n{got:?}\n{want:?}", rule.name);
    }
}

/// Arguments that pair all special values.
fn arguments(graph: &Graph) -> Vec<Array> {
    graph
        .param_types()
        .enumerate()
        .map(|(i, ty)| {
            let special = specials(ty.dtype);
            let shape = ty.static_shape().unwrap();
            let count: usize = shape.iter().product();
            let mut data = Data::zeros(ty.dtype, count);
            for k in 0..count {
                // The first parameter runs fast, the second slowly; further ones in steps of their own.
                let at = [k % 16, k / 16 % 16, k * 7 / 3 % 16][i.min(2)];
                data.set(k, special[at]);
            }
            Array::from_data(&shape, data).unwrap()
        })
        .collect()
}

fn specials(dtype: DType) -> Vec<Literal> {
    let from = |x: f64| Literal::from_f64(dtype, x);
    match dtype.kind() {
        Kind::Float => {
            let tiny = Literal::from_bits(dtype, [1, 0]);
            let largest = Literal::from_bits(dtype, [Literal::highest(dtype).bits()[0] - 1, 0]);
            let list = [
                0.0,
                -0.0,
                1.0,
                -1.0,
                2.0,
                -0.5,
                0.75,
                3.0,
                -7.5,
                1e-3,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                100.3,
            ];
            list.into_iter().map(from).chain([tiny, largest]).collect()
        }
        _ => {
            let list = [0, 1, 2, 3, 5, 7, 8, 100, 127, -1, -2, -3, -7, -128].map(|x| Literal::from_i64(dtype, x));
            list.into_iter().chain([Literal::lowest(dtype), Literal::highest(dtype)]).collect()
        }
    }
}

fn within_one_ulp(a: &Array, b: &Array) -> bool {
    (0..a.len()).all(|i| {
        let (x, y) = (a.data().get(i).unwrap(), b.data().get(i).unwrap());
        let near = x.bits()[0].abs_diff(y.bits()[0]) <= 1;
        near || (x.to_f64().is_nan() && y.to_f64().is_nan())
    })
}

/// An expression of one dtype, from choices of operations and operands.
fn expression(dtype: DType, steps: &[(usize, u16, u16)]) -> Graph {
    build(&[vector(dtype), vector(dtype)], |b, v| {
        let mut values = v.to_vec();
        for c in [0.0, -0.0, 1.0, -1.0, 2.0, 0.25, f64::INFINITY] {
            values.push(b.full_like(v[0], c).unwrap());
        }
        let mut flags = vec![b.compare(CompareOp::Lt, v[0], v[1]).unwrap()];
        for &(op, i, j) in steps {
            let (x, y) = (values[usize::from(i) % values.len()], values[usize::from(j) % values.len()]);
            let c = flags[usize::from(i ^ j) % flags.len()];
            let d = flags[usize::from(j) % flags.len()];
            let new = match op {
                0 => b.add(x, y),
                1 => b.sub(x, y),
                2 => b.mul(x, y),
                3 => b.div(x, y),
                4 => b.binary(BinaryOp::Max, x, y),
                5 => b.binary(BinaryOp::Min, x, y),
                6 => b.neg(x),
                7 => b.unary(UnaryOp::Abs, x),
                8 => b.select(c, x, y),
                9 => b.select(c, x, x),
                10 => b.unary(UnaryOp::Sign, x),
                11 => b.sub(x, x),
                12 => {
                    let wide = if dtype.is_float() { DType::F64 } else { DType::I64 };
                    let w = b.convert(x, wide).unwrap();
                    b.convert(w, dtype)
                }
                13 => {
                    let r = b.op(Reverse { axes: smallvec![0] }.into(), &[x]).unwrap();
                    b.op(Reverse { axes: smallvec![0] }.into(), &[r])
                }
                14 => {
                    let m = b.reshape(x, &dims(&[16, 16])).unwrap();
                    let t = b.transpose(m, &[1, 0]).unwrap();
                    b.reshape(t, &dims(&[N as i64]))
                }
                _ => {
                    let flag = match op {
                        15 => b.unary(UnaryOp::Not, c),
                        16 => b.compare(CompareOp::ALL[usize::from(j) % 6], x, y),
                        17 => b.binary(BinaryOp::And, c, d),
                        18 => b.binary(BinaryOp::Or, c, d),
                        _ => b.binary(BinaryOp::Xor, c, d),
                    };
                    flags.push(flag.unwrap());
                    continue;
                }
            };
            values.push(new.unwrap());
        }
        vec![*values.last().unwrap(), *flags.last().unwrap()]
    })
}

/// A chain with something to do for several rules.
fn chain(n: usize) -> Graph {
    build(&[vector(DType::F32), vector(DType::F32)], |b, v| {
        let mut x = v[0];
        for i in 0..n / 4 {
            x = match i % 4 {
                0 => b.scale(x, 1.0).unwrap(),
                1 => {
                    let y = b.neg(v[1]).unwrap();
                    b.add(x, y).unwrap()
                }
                2 => b.unary(UnaryOp::Tanh, x).unwrap(),
                _ => b.scale(x, 1.5).unwrap(),
            };
            let y = b.reshape(x, &dims(&[16, 16])).unwrap();
            x = b.reshape(y, &dims(&[N as i64])).unwrap();
        }
        vec![x]
    })
}

#[test]
fn constants_of_several_elements_are_no_splats() {
    let graph = build(&[Type::new(DType::F32, [2])], |b, v| {
        let c = b.op(Constant { value: Array::from([1.0f32, 2.0]) }.into(), &[]).unwrap();
        let m = b.mul(v[0], c).unwrap();
        let p = b.compare_to(CompareOp::Lt, m, 1.0).unwrap();
        vec![b.op(Select.into(), &[p, m, v[0]]).unwrap()]
    });
    assert!(simplify(&Simplify::new(), &graph).1.is_empty());
}

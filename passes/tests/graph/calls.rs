//! Derivatives of calls: names, sharing, own rules, checkpoints.

use std::sync::Arc;

use lehr_ir::graph::{Graph, Node};
use lehr_ir::ops::{Call, Op, UnaryOp};
use lehr_passes::derivative::{CHECKPOINT, DiffError, Keep, Residual, Side, jvp, split, value_and_grad};
use lehr_passes::pipeline::optimize;
use lehr_passes::{PassCx, PassOptions};

use crate::derivatives::check;
use crate::support::{assert_close, build, f64s, floats, random, run};
use crate::table::softmax;

fn calls(graph: &Graph) -> Vec<(&Node, &Call)> {
    graph.nodes().filter_map(|(_, n)| if let Op::Call(c) = &n.op { Some((n, c)) } else { None }).collect()
}

fn names(graph: &Graph) -> Vec<&str> {
    calls(graph).into_iter().map(|(_, c)| c.name.as_str()).collect()
}

/// The sum of the squares of what is made of `x`.
fn loss(make: impl FnOnce(&mut lehr_ir::Builder, lehr_ir::graph::Value) -> lehr_ir::graph::Value) -> Graph {
    build(&[f64s(&[2, 3])], |b, v| {
        let y = make(b, v[0]);
        let sq = b.mul(y, y).unwrap();
        vec![b.sum(sq, &[0, 1]).unwrap()]
    })
}

#[test]
fn a_call_stays_a_call_in_its_gradient() {
    let graph = loss(|b, x| b.op(softmax(&[2, 3], false).into(), &[x]).unwrap());
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    assert_eq!(names(&gradient), ["softmax.fwd", "softmax.t"]);
    insta::assert_snapshot!(gradient);
}

#[test]
fn a_call_whose_derivative_keeps_only_its_result_is_left_as_it_is() {
    let graph = loss(|b, x| b.op(softmax(&[2, 3], true).into(), &[x]).unwrap());
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    assert_eq!(names(&gradient), ["softmax", "softmax.t"]);
    let (_, forward) = calls(&gradient)[0];
    let (_, original) = calls(&graph)[0];
    assert!(Arc::ptr_eq(&forward.body, &original.body) && forward.jvp.is_some());
    let plain = value_and_grad(&loss(|b, x| b.op(softmax(&[2, 3], false).into(), &[x]).unwrap()), 0, &[0]).unwrap();
    let x = [random(&[2, 3], -1., 1., 1)];
    assert_close("the two rules", &run(&gradient, &x)[1], &run(&plain, &x)[1], 1e-14);
}

#[test]
fn equal_bodies_are_differentiated_once() {
    let call = softmax(&[2, 3], false);
    let graph = loss(|b, x| {
        let mut x = x;
        for _ in 0..5 {
            x = b.op(call.clone().into(), &[x]).unwrap();
        }
        x
    });
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    for suffix in [".fwd", ".t"] {
        let bodies: Vec<_> = calls(&gradient).into_iter().filter(|(_, c)| c.name.ends_with(suffix)).collect();
        assert_eq!(bodies.len(), 5);
        assert!(bodies.iter().all(|(_, c)| Arc::ptr_eq(&c.body, &bodies[0].1.body)), "{suffix}");
    }
}

/// `f(x) = x²` with the derivative that is asked for.
fn own(make: impl FnOnce(&mut lehr_ir::Builder, &[lehr_ir::graph::Value]) -> lehr_ir::graph::Value) -> Call {
    let ty = f64s(&[2, 3]);
    let body = build(std::slice::from_ref(&ty), |b, v| vec![b.mul(v[0], v[0]).unwrap()]);
    let jvp = build(&[ty.clone(), ty], |b, v| {
        let y = b.mul(v[0], v[0]).unwrap();
        vec![y, make(b, v)]
    });
    let mut call = Call::new("f", Arc::new(body.named("f")));
    call.jvp = Some(Arc::new(jvp.named("f.jvp")));
    call
}

#[test]
fn a_calls_own_derivative_is_used() {
    // Seven times the tangent, which is not the derivative of the body.
    let call = own(|b, v| b.scale(v[1], 7.0).unwrap());
    let graph = build(&[f64s(&[2, 3])], |b, v| {
        let y = b.op(call.into(), v).unwrap();
        vec![b.sum(y, &[0, 1]).unwrap()]
    });
    let out = run(&value_and_grad(&graph, 0, &[0]).unwrap(), &[random(&[2, 3], -1., 1., 1)]);
    assert!(floats(&out[1]).iter().all(|&g| g == 7.0));
}

#[test]
fn an_own_derivative_of_zeros_stops_the_gradient() {
    let call = own(|b, v| b.full_like(v[1], 0.0).unwrap());
    let graph = build(&[f64s(&[2, 3])], |b, v| {
        let y = b.op(call.into(), v).unwrap();
        let z = b.mul(y, v[0]).unwrap();
        vec![b.sum(z, &[0, 1]).unwrap()]
    });
    let x = random(&[2, 3], 0.5, 1., 1);
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    let want: Vec<f64> = floats(&x).iter().map(|x| x * x).collect();
    assert_eq!(floats(&run(&gradient, std::slice::from_ref(&x))[1]), want);
    assert_eq!(names(&gradient), ["f"], "nothing is transposed");
}

#[test]
fn an_own_derivative_that_is_not_linear_is_found() {
    let call = own(|b, v| b.mul(v[1], v[1]).unwrap());
    let graph = loss(|b, x| b.op(call.into(), &[x]).unwrap());
    let e = value_and_grad(&graph, 0, &[0]).unwrap_err();
    assert!(matches!(&e, DiffError::Missing(m) if m.op == "mul"), "{e}");
}

#[test]
fn an_own_derivative_may_come_from_jvp_itself() {
    // Its region holds calls of both the primal and the linear part.
    let inner = softmax(&[2, 3], false);
    let body = build(&[f64s(&[2, 3])], |b, v| {
        let y = b.op(inner.into(), v).unwrap();
        vec![b.unary(UnaryOp::Sin, y).unwrap()]
    });
    let rule = jvp(&body, &[0]).unwrap();
    let mut call = Call::new("g", Arc::new(body));
    call.jvp = Some(Arc::new(rule.clone()));
    let graph = build(&[f64s(&[2, 3])], |b, v| vec![b.op(call.into(), v).unwrap()]);
    check("own rule from jvp", &graph, &[random(&[2, 3], -1., 1., 2)], &[0]);

    // And here the region is one call that gives values and tangents alike.
    let mut mixed = Call::new(
        "h",
        Arc::new(build(&[f64s(&[2, 3])], |b, v| {
            let y = b.op(softmax(&[2, 3], false).into(), v).unwrap();
            vec![b.unary(UnaryOp::Sin, y).unwrap()]
        })),
    );
    let whole = Call::new("h.both", Arc::new(rule));
    mixed.jvp = Some(Arc::new(build(&[f64s(&[2, 3]), f64s(&[2, 3])], |b, v| {
        let id = b.add_node(whole.into(), v).unwrap();
        b.graph().node(id).results().collect()
    })));
    let graph = build(&[f64s(&[2, 3])], |b, v| vec![b.op(mixed.into(), v).unwrap()]);
    check("own rule of one call", &graph, &[random(&[2, 3], -1., 1., 2)], &[0]);
    let gradient = value_and_grad(
        &loss(|b, x| {
            let op = graph.nodes().next().unwrap().1.op.clone();
            b.op(op, &[x]).unwrap()
        }),
        0,
        &[0],
    )
    .unwrap();
    check("gradient of an own rule of one call", &gradient, &[random(&[2, 3], -1., 1., 2)], &[0]);
}

#[test]
fn a_checkpoint_keeps_nothing_and_computes_again() {
    let mut call = softmax(&[2, 3], false);
    call.attrs = lehr_ir::attrs::Attrs::new().with_name(CHECKPOINT, "nothing");
    let graph = loss(|b, x| b.op(call.into(), &[x]).unwrap());
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    assert_eq!(names(&gradient), ["softmax", "softmax.t"]);
    let optimized = optimize(gradient.clone(), &mut PassCx::new(PassOptions::default())).unwrap();
    let exps: Vec<u32> = optimized.nodes().filter(|(_, n)| n.op.name() == "exp").map(|(_, n)| n.tag).collect();
    assert_eq!(exps, [0, 1], "computed twice, and not merged\n{optimized}");
}

#[test]
fn a_gradient_of_a_gradient_differentiates_the_parts_of_calls() {
    let graph = loss(|b, x| b.op(softmax(&[2, 3], true).into(), &[x]).unwrap());
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    check("gradient", &gradient, &[random(&[2, 3], -1., 1., 3)], &[0]);
}

#[test]
fn a_split_hands_over_what_the_rest_uses() {
    let graph = Graph::parse(
        "graph @f(%x: f64[3], %t: f64[3]) -> (f64[3], f64[3]) {
           %0 = sin %x : f64[3]
           %1 = const 2.0 : f64[]
           %2 = broadcast %1 {shape = (3), axes = []} : f64[3]
           %3 = cos %x : f64[3]
           %4 = mul %t, %3 : f64[3]
           %5 = mul %4, %2 : f64[3]
           %6 = mul %5, %x : f64[3]
           return %0 \"y\", %6 \"t\"
         }",
    );
    let graph = graph.unwrap_or_else(|e| panic!("{e}"));
    let parts = split(&graph, &[true, false], Keep::Used).unwrap();
    assert_eq!(parts.residuals, [Residual::Param(0), Residual::Output(1)]);
    assert_eq!(parts.outputs, [Side::Known(0), Side::Unknown(0)]);
    insta::assert_snapshot!(format!("{}\n{}", parts.known, parts.unknown));
    let again = split(&graph, &[true, false], Keep::Nothing).unwrap();
    assert_eq!(again.residuals, [Residual::Param(0)]);
    assert_eq!(again.known.outputs().len(), 1);
    assert!(again.unknown.nodes().any(|(_, n)| n.op.name() == "cos" && n.tag == 1));
}

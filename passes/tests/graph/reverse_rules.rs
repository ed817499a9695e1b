//! Calls with a reverse rule of their own, at the level of graphs.

use std::sync::Arc;

use lehr_ir::graph::Graph;
use lehr_ir::graph::verify::verify;
use lehr_ir::ops::{Call, Op, UnaryOp, Vjp};
use lehr_passes::batch::vmap;
use lehr_passes::derivative::{DiffError, jvp, value_and_grad};
use lehr_passes::pipeline::optimize;
use lehr_passes::{PassCx, PassOptions};

use crate::support::{build, f64s, floats, random, run};

/// `exp(x)`, which keeps its result, and whose cotangent is doubled.
fn doubled(bwd: Option<Graph>) -> Call {
    let ty = f64s(&[2]);
    let exp = |n: usize| build(std::slice::from_ref(&ty), |b, v| vec![b.unary(UnaryOp::Exp, v[0]).unwrap(); n]);
    let default = || {
        build(&[ty.clone(), ty.clone()], |b, v| {
            let ct = b.mul(v[0], v[1]).unwrap();
            vec![b.scale(ct, 2.0).unwrap()]
        })
    };
    let bwd = bwd.unwrap_or_else(default).named("exp.bwd");
    let mut call = Call::new("exp", Arc::new(exp(1).named("exp")));
    call.vjp = Some(Vjp { fwd: Some(Arc::new(exp(2).named("exp.fwd"))), bwd: Arc::new(bwd) });
    call
}

fn loss(call: Call) -> Graph {
    build(&[f64s(&[2])], |b, v| {
        let y = b.op(call.into(), v).unwrap();
        vec![b.sum(y, &[0]).unwrap()]
    })
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes().filter_map(|(_, n)| if let Op::Call(c) = &n.op { Some(c.name.as_str()) } else { None }).collect()
}

#[test]
fn reverse_mode_calls_the_rules_graphs() {
    let graph = loss(doubled(None));
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    assert_eq!(names(&gradient), ["exp.fwd", "exp.bwd"]);
    let x = random(&[2], -1., 1., 1);
    let want: Vec<f64> = floats(&x).iter().map(|x| 2.0 * x.exp()).collect();
    assert_eq!(floats(&run(&gradient, std::slice::from_ref(&x))[1]), want);
    let optimized =
        optimize(gradient, &mut PassCx::new(PassOptions { verify: true, ..PassOptions::default() })).unwrap();
    assert_eq!(floats(&run(&optimized, &[x])[1]), want);
}

#[test]
fn forward_mode_is_refused() {
    let e = jvp(&loss(doubled(None)), &[0]).unwrap_err();
    assert!(matches!(&e, DiffError::Missing(m) if m.op == "exp" && m.reason.contains("custom_jvp")), "{e}");
}

#[test]
fn the_rule_is_batched_with_the_call() {
    let graph = vmap(&loss(doubled(None)), &[Some(0)], &3.into()).unwrap();
    verify(&graph).unwrap();
    let Op::Call(call) = &graph.nodes().next().unwrap().1.op else { panic!("{graph}") };
    let bwd = &call.vjp.as_ref().unwrap().bwd;
    assert_eq!(bwd.param_types().next().unwrap().to_string(), "f64[3, 2]");
}

#[test]
fn the_verifier_checks_the_rules_signature() {
    verify(&loss(doubled(None))).unwrap();
    let short = build(&[f64s(&[2])], |_, v| v.to_vec());
    let e = verify(&loss(doubled(Some(short)))).unwrap_err().to_string();
    assert!(e.contains("the backward graph of the reverse rule is from (f64[2]) to (f64[2])"), "{e}");
    assert!(e.contains("are from (f64[2], f64[2]) to (f64[2])"), "{e}");
    let mut call = doubled(None);
    let other = build(&[f64s(&[2])], |b, v| vec![b.sum(v[0], &[0]).unwrap()]);
    call.vjp.as_mut().unwrap().fwd = Some(Arc::new(other));
    let e = verify(&loss(call)).unwrap_err().to_string();
    assert!(e.contains("the forward graph of the reverse rule is from (f64[2]) to (f64[])"), "{e}");
    let mut call = doubled(None);
    call.vjp.as_mut().unwrap().fwd = None;
    let e = verify(&loss(call)).unwrap_err().to_string();
    assert!(e.contains("the linear part of a reverse rule is left over"), "{e}");
}

#[test]
fn the_rule_has_text() {
    let graph = loss(doubled(None));
    let text = graph.to_string();
    assert_eq!(Graph::parse(&text).unwrap(), graph, "{text}");
    assert_eq!(graph.compact(), graph);
    let half = text.replacen("fwd = ", "other = ", 1);
    assert!(Graph::parse(&half).unwrap_err().to_string().contains("attribute `fwd` is missing"));
}

//! Derivatives of every operation against finite differences, forwards and backwards, in the first and second order.

use lehr_ir::array::Array;
use lehr_ir::graph::verify::verify;
use lehr_ir::graph::{Builder, Graph};
use lehr_passes::derivative::{DiffError, jvp, value_and_grad, vjp};
use lehr_passes::pipeline::optimize;
use lehr_passes::{PassCx, PassOptions};

use crate::support::{assert_close, close, dot, f64s, plus, random, run};
use crate::table::{all_cases, reversible_cases};

#[test]
fn every_operation_has_the_derivative_of_its_definition() {
    for case in all_cases() {
        check_modes(&case.name, &case.graph, &case.args, &case.wrt, case.reverse);
    }
}

#[test]
fn every_smooth_operation_has_second_derivatives() {
    for case in reversible_cases().into_iter().filter(|c| c.smooth) {
        let graph = case.scalarized();
        let output = graph.outputs().len() - 1;
        let gradient = value_and_grad(&graph, output, &case.wrt).unwrap();
        check(&format!("gradient of {}", case.name), &gradient, &case.args, &case.wrt);
    }
}

#[test]
fn a_tangent_of_a_gradient_is_a_gradient_of_a_tangent() {
    for case in reversible_cases().into_iter().filter(|c| c.smooth) {
        let (graph, wrt) = (case.scalarized(), &case.wrt);
        let loss = graph.outputs().len() - 1;
        let moves = wrt.iter().map(|&i| random(case.args[i].shape(), -1., 1., 3000 + i as u64));
        let args: Vec<Array> = case.args.iter().cloned().chain(moves).collect();

        let forward_over_reverse = jvp(&value_and_grad(&graph, loss, wrt).unwrap(), wrt).unwrap();
        let outs = run(&forward_over_reverse, &args);
        // The last outputs are the tangents of the gradients.
        let tangents = &outs[outs.len() - wrt.len()..];

        let forward = jvp(&graph, wrt).unwrap();
        // The loss is the last output, and so its tangent is.
        let reverse_over_forward = value_and_grad(&forward, forward.outputs().len() - 1, wrt).unwrap();
        let outs = run(&reverse_over_forward, &args);
        let gradients = &outs[outs.len() - wrt.len()..];
        for (t, g) in tangents.iter().zip(gradients) {
            assert_close(&format!("{}\n{forward_over_reverse}\n{reverse_over_forward}", case.name), t, g, 1e-10);
        }
    }
}

#[test]
fn optimized_derivatives_have_the_same_values() {
    for case in reversible_cases() {
        let graph = case.scalarized();
        let gradient = value_and_grad(&graph, graph.outputs().len() - 1, &case.wrt).unwrap();
        let options = PassOptions { verify: true, ..PassOptions::default() };
        let optimized = optimize(gradient.clone(), &mut PassCx::new(options)).unwrap();
        let (want, got) = (run(&gradient, &case.args), run(&optimized, &case.args));
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            // Folding rounds a constant once where the graph rounds step by step.
            assert_close(&format!("{} optimized, output {i}\n{gradient}\n{optimized}", case.name), g, w, 1e-12);
        }
    }
}

#[test]
fn derivatives_have_text() {
    for case in reversible_cases().into_iter().filter(|c| c.name != "extern") {
        let graph = case.scalarized();
        let gradient = value_and_grad(&graph, graph.outputs().len() - 1, &case.wrt).unwrap();
        let text = gradient.to_string();
        let parsed = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(parsed, gradient, "{text}");
    }
}

#[test]
fn what_does_not_depend_on_an_input_has_a_gradient_of_zeros() {
    let graph = crate::support::build(&[f64s(&[2]), f64s(&[3])], |b, v| vec![b.sum(v[0], &[0]).unwrap()]);
    let gradient = value_and_grad(&graph, 0, &[1, 0]).unwrap();
    let out = run(&gradient, &[random(&[2], 0., 1., 1), random(&[3], 0., 1., 2)]);
    assert_eq!(out[1], Array::from([0.0; 3]));
    assert_eq!(out[2], Array::from([1.0; 2]));
    let tangent = jvp(&graph, &[1]).unwrap();
    let args = [random(&[2], 0., 1., 1), random(&[3], 0., 1., 2), random(&[3], 0., 1., 3)];
    assert_eq!(run(&tangent, &args)[1], crate::table::scalar(0.0));
}

#[test]
fn forward_nodes_are_not_duplicated_and_the_linear_part_is_dropped() {
    let graph = crate::support::build(&[f64s(&[3])], |b, v| {
        let e = b.unary(lehr_ir::ops::UnaryOp::Exp, v[0]).unwrap();
        let s = b.unary(lehr_ir::ops::UnaryOp::Sin, e).unwrap();
        vec![b.sum(s, &[0]).unwrap()]
    });
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    insta::assert_snapshot!(gradient);
}

#[test]
fn symbolic_shapes_have_derivatives() {
    let graph = Graph::parse(
        "graph @f(%x: f64[n, 4], %w: f64[4, m]) -> (f64[]) {
           %0 = dot %x, %w {lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} : f64[n, m]
           %1 = tanh %0 : f64[n, m]
           %2 = reduce %1 {op = sum, axes = [0, 1]} : f64[]
           return %2 \"y\"
         }",
    );
    let graph = graph.unwrap_or_else(|e| panic!("{e}"));
    check("symbolic", &graph, &[random(&[3, 4], -1., 1., 1), random(&[4, 2], -1., 1., 2)], &[0, 1]);
}

#[test]
fn facts_reach_into_calls() {
    let graph = Graph::parse(
        "graph @f(%x: f64[n]) assume(n >= 2) -> (f64[]) {
           %0 = call %x {name = \"tail\", body = graph @tail(%x: f64[n]) assume(n >= 2) -> (f64[n - 1]) {
             %0 = slice %x {start = (1), limit = (n)} : f64[n - 1]
             %1 = sin %0 : f64[n - 1]
             return %1 \"y\"
           }} : f64[n - 1]
           %1 = reduce %0 {op = sum, axes = [0]} : f64[]
           return %1 \"y\"
         }",
    );
    let graph = graph.unwrap_or_else(|e| panic!("{e}"));
    check("facts", &graph, &[random(&[4], -1., 1., 1)], &[0]);
    let batched = lehr_passes::batch::vmap(&graph, &[Some(1)], &lehr_ir::Dim::symbol("b").unwrap()).unwrap();
    check("facts, batched", &batched, &[random(&[4, 3], -1., 1., 1)], &[0]);
}

#[test]
fn updates_stay() {
    let mut b = Builder::new("train");
    let w = b.param("w", lehr_ir::graph::ParamKind::Variable, f64s(&[2]));
    let sq = b.mul(w, w).unwrap();
    let loss = b.sum(sq, &[0]).unwrap();
    b.output("loss", loss);
    b.update(0, sq);
    let graph = b.finish();
    for derived in [value_and_grad(&graph, 0, &[0]).unwrap(), jvp(&graph, &[0]).unwrap()] {
        assert!(verify(&derived).is_ok());
        let [update] = derived.updates() else { panic!("{derived}") };
        assert_eq!(derived.def_node(update.value).unwrap().op.name(), "mul");
    }
}

/// Compares `jvp` with central differences, and `vjp` with `jvp`.
pub(crate) fn check(name: &str, graph: &Graph, args: &[Array], wrt: &[usize]) {
    check_modes(name, graph, args, wrt, true);
}

/// As [`check`], and backwards only where there is a reverse mode; where there is none it says so.
pub(crate) fn check_modes(name: &str, graph: &Graph, args: &[Array], wrt: &[usize], reverse: bool) {
    const H: f64 = 1e-5;
    let moves: Vec<Array> = wrt.iter().map(|&i| random(args[i].shape(), -1., 1., 1000 + i as u64)).collect();
    let moved = |h: f64| {
        let mut at = args.to_vec();
        for (&i, t) in wrt.iter().zip(&moves) {
            at[i] = plus(&at[i], t, h);
        }
        run(graph, &at)
    };
    let (up, down, here) = (moved(H), moved(-H), run(graph, args));

    let forward = jvp(graph, wrt).unwrap_or_else(|e| panic!("{name}: {e}"));
    let with_tangents: Vec<Array> = args.iter().chain(&moves).cloned().collect();
    let out = run(&forward, &with_tangents);
    let inexact: Vec<usize> = (0..here.len()).filter(|&i| here[i].dtype().is_inexact()).collect();
    assert_eq!(out[..here.len()], here, "{name}: the values");
    let tangents = &out[here.len()..];
    assert_eq!(tangents.len(), inexact.len());
    for (t, &i) in tangents.iter().zip(&inexact) {
        let zero = plus(&up[i], &up[i], -1.0);
        let slope = plus(&zero, &plus(&up[i], &down[i], -1.0), 0.5 / H);
        assert_close(&format!("{name}: the tangent of output {i}\n{forward}"), t, &slope, 2e-7);
    }

    if !reverse {
        assert!(matches!(vjp(graph, &inexact, wrt), Err(DiffError::Missing(_))), "{name}");
        return;
    }
    let backward = vjp(graph, &inexact, wrt).unwrap_or_else(|e| panic!("{name}: {e}"));
    let cts: Vec<Array> = inexact.iter().map(|&i| random(here[i].shape(), -1., 1., 2000 + i as u64)).collect();
    let with_cotangents: Vec<Array> = args.iter().chain(&cts).cloned().collect();
    let out = run(&backward, &with_cotangents);
    assert_eq!(out[..here.len()], here, "{name}: the values");
    let gradients = &out[here.len()..];
    assert_eq!(gradients.len(), wrt.len());
    for (g, &i) in gradients.iter().zip(wrt) {
        assert_eq!(g.shape(), args[i].shape(), "{name}");
    }
    let left: f64 = tangents.iter().zip(&cts).map(|(t, c)| dot(t, c)).sum();
    let right: f64 = gradients.iter().zip(&moves).map(|(g, t)| dot(g, t)).sum();
    assert!(close(left, right, 1e-10), "{name}: {left} forwards, {right} backwards\n{backward}");
    assert!(verify(&backward).is_ok());
}

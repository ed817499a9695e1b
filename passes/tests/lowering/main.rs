//! Lowering against the evaluator: graphs are fused, lowered, planned, and the plan run by the kernel interpreter.

use lehr_ir::eval;
use lehr_ir::kernel::interpret::Functions;
use lehr_ir::plan::interpret;
use lehr_ir::{Array, Data, Graph, Target};
use lehr_passes::compile::plan_of;

mod graphs;
mod memory;

/// Runs a graph both ways on arrays and compares: floats to a relative bound, all else exactly. Gives the plan's text.
fn check(text: &str, args: &[Array]) -> String {
    let graph = Graph::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let want = eval::evaluate(&graph, args).unwrap_or_else(|e| panic!("{e}"));
    let bindings = eval::bind(&graph, args).unwrap_or_else(|e| panic!("{e}"));
    let (_, plan, _) = plan_of(&graph, &Target::default()).unwrap_or_else(|e| panic!("{e}"));
    let text = plan.to_string();
    let kernels: String = plan.kernels.iter().map(|k| k.to_string()).collect();
    let got = interpret::run(&plan, args, &bindings, Functions::Reference)
        .unwrap_or_else(|e| panic!("{e}\n{text}\n{kernels}"));
    for (g, w) in got.outputs.iter().zip(&want.outputs).chain(got.updates.iter().zip(&want.updates)) {
        assert_eq!(g.shape(), w.shape(), "{text}\n{kernels}");
        for i in 0..w.len() {
            let (x, y) = (g.data().get(i).unwrap(), w.data().get(i).unwrap());
            let (a, b) = (x.to_f64(), y.to_f64());
            let close = x == y || (a - b).abs() <= 2e-5 * (1.0 + b.abs()) || (a.is_nan() && b.is_nan());
            assert!(close && (w.dtype().is_inexact() || x == y), "element {i}: {x} is not {y}\n{text}\n{kernels}");
        }
    }
    format!("{text}{kernels}")
}

/// Deterministic values in (−1, 1).
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + 1.0) * 0.7).sin()).collect()
}

fn f32s(shape: &[usize]) -> Array {
    Array::from_data(shape, Data::F32(values(shape.iter().product()))).unwrap()
}

//! Batching of every operation, and of its derivatives, against a loop over the examples.

use lehr_ir::Dim;
use lehr_ir::array::Array;
use lehr_ir::graph::Graph;
use lehr_passes::batch::vmap;
use lehr_passes::derivative::value_and_grad;

use crate::support::{assert_close, plus, run};
use crate::table::{all_cases, reversible_cases};

#[test]
fn batching_an_operation_is_a_loop_over_examples() {
    for case in all_cases() {
        check(&case.name, &case.graph, &case.args);
    }
}

#[test]
fn batching_a_gradient_is_a_loop_over_examples() {
    for case in reversible_cases() {
        let graph = case.scalarized();
        let gradient = value_and_grad(&graph, graph.outputs().len() - 1, &case.wrt).unwrap();
        check(&format!("gradient of {}", case.name), &gradient, &case.args);
    }
}

#[test]
fn gradients_of_a_batched_graph_are_those_of_the_examples() {
    for case in reversible_cases().into_iter().filter(|c| c.smooth) {
        let n = case.args.len();
        let graph = vmap(&case.graph, &vec![Some(0); n], &Dim::from(2)).unwrap();
        let args: Vec<Array> = case.args.iter().map(|a| stack(&examples(a, 2), 0)).collect();
        crate::derivatives::check(&format!("vmap of {}", case.name), &graph, &args, &case.wrt);
    }
}

#[test]
fn a_symbolic_batch_works() {
    let case = all_cases().into_iter().find(|c| c.name == "matmul").unwrap();
    let graph = vmap(&case.graph, &[Some(0), None], &Dim::symbol("batch").unwrap()).unwrap();
    let xs = stack(&examples(&case.args[0], 5), 0);
    let out = run(&graph, &[xs, case.args[1].clone()]);
    assert_eq!(out[0].shape(), [5, 2, 4]);
}

/// Batches each parameter alone, all of them, and all of them along their last axis.
fn check(name: &str, graph: &Graph, args: &[Array]) {
    const SIZE: usize = 3;
    let n = args.len();
    let mut all: Vec<Vec<Option<usize>>> = (0..n).map(|i| (0..n).map(|j| (i == j).then_some(0)).collect()).collect();
    all.push(vec![Some(0); n]);
    all.push(args.iter().map(|a| Some(a.rank())).collect());
    for axes in all {
        let batched = vmap(graph, &axes, &Dim::from(SIZE)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let parts: Vec<Vec<Array>> =
            args.iter().zip(&axes).map(|(a, axis)| examples(a, if axis.is_some() { SIZE } else { 0 })).collect();
        let whole: Vec<Array> =
            args.iter().zip(&axes).zip(&parts).map(|((a, axis), p)| axis.map_or(a.clone(), |x| stack(p, x))).collect();
        let got = run(&batched, &whole);
        for k in 0..SIZE {
            let one: Vec<Array> = args.iter().zip(&parts).map(|(a, p)| p.get(k).unwrap_or(a).clone()).collect();
            for (i, (g, w)) in got.iter().zip(run(graph, &one)).enumerate() {
                let what = format!("{name} {axes:?}: output {i} of example {k}\n{batched}");
                assert_close(&what, &example(g, k), &w, 1e-12);
            }
        }
    }
}

/// `n` variations of an array: floats differ, data of other dtypes is reversed in every second one.
fn examples(a: &Array, n: usize) -> Vec<Array> {
    (0..n)
        .map(|k| match a.dtype() {
            lehr_ir::DType::F64 => plus(a, a, 0.03 * k as f64),
            _ if k % 2 == 1 => {
                let reversed = a.data().gather((0..a.len()).rev());
                Array::from_data(a.shape(), reversed).unwrap()
            }
            _ => a.clone(),
        })
        .collect()
}

/// Arrays of one shape joined along a new axis.
fn stack(parts: &[Array], axis: usize) -> Array {
    let shape = parts[0].shape();
    let inner: usize = shape[axis..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut whole = shape.to_vec();
    whole.insert(axis, parts.len());
    let count = parts[0].len() * parts.len();
    let mut data = lehr_ir::Data::zeros(parts[0].dtype(), count);
    let mut at = 0;
    for o in 0..outer {
        for part in parts {
            for i in 0..inner {
                data.set(at, part.data().get(o * inner + i).unwrap());
                at += 1;
            }
        }
    }
    Array::from_data(&whole, data).unwrap()
}

/// Example `k` of a batch.
fn example(a: &Array, k: usize) -> Array {
    let shape = &a.shape()[1..];
    let n: usize = shape.iter().product();
    Array::from_data(shape, a.data().gather(k * n..(k + 1) * n)).unwrap()
}

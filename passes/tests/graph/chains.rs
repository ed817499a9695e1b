//! Long graphs: nothing recurses over nodes, and everything is linear in their number.

use lehr_ir::Dim;
use lehr_ir::graph::Graph;
use lehr_ir::ops::UnaryOp;
use lehr_passes::batch::vmap;
use lehr_passes::derivative::{jvp, value_and_grad};
use lehr_passes::pipeline::optimize;
use lehr_passes::{PassCx, PassOptions};

use crate::support::{build, f64s, random, run};

/// A chain of `n` operations that use their parameter again and again.
fn chain(n: usize) -> Graph {
    build(&[f64s(&[3]), f64s(&[3])], |b, v| {
        let mut x = v[0];
        for i in 0..n - 1 {
            x = match i % 3 {
                0 => b.unary(UnaryOp::Tanh, x).unwrap(),
                1 => b.add(x, v[1]).unwrap(),
                _ => b.mul(x, v[1]).unwrap(),
            };
        }
        vec![b.sum(x, &[0]).unwrap()]
    })
}

fn timed<T>(what: &str, f: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let out = f();
    // Wall time is reported and not asserted: it is another on each machine.
    eprintln!("{what}: {:?}", start.elapsed());
    out
}

#[test]
fn a_chain_of_ten_thousand_operations() {
    let graph = chain(10_000);
    let gradient = timed("gradient of 10,000 nodes", || value_and_grad(&graph, 0, &[0, 1]).unwrap());
    let half = value_and_grad(&chain(5_000), 0, &[0, 1]).unwrap();
    let (whole, half) = (gradient.node_count(), half.node_count());
    assert!(whole <= 2 * half && whole < 8 * graph.node_count(), "{half} {whole}");
    timed("jvp of 10,000 nodes", || jvp(&graph, &[0, 1]).unwrap());
    timed("vmap of 10,000 nodes", || vmap(&graph, &[Some(0), None], &Dim::from(4)).unwrap());
    let second = timed("second gradient", || {
        let dims = build_scalar(&gradient);
        value_and_grad(&dims, dims.outputs().len() - 1, &[0]).unwrap()
    });
    assert!(second.node_count() < 8 * whole);
    let options = PassOptions { verify: false, ..PassOptions::default() };
    let mut cx = PassCx::new(options);
    let optimized = timed("optimize the gradient", || optimize(gradient.clone(), &mut cx).unwrap());
    for r in cx.records() {
        eprintln!("  {}: {} -> {} in {:?}", r.name, r.nodes_before, r.nodes_after, r.duration);
    }
    let args = [random(&[3], -1., 1., 1), random(&[3], 0.4, 0.9, 2)];
    for (a, b) in run(&optimized, &args).iter().zip(run(&gradient, &args)) {
        crate::support::assert_close("optimized", a, &b, 1e-12);
    }
}

/// The graph with the sum of its second output as one more.
fn build_scalar(graph: &Graph) -> Graph {
    let mut b = lehr_ir::Builder::with_graph(graph.clone());
    let s = b.sum(graph.outputs()[1].value, &[0]).unwrap();
    b.output("sum", s);
    b.finish()
}

#[test]
fn many_uses_of_one_value_are_added_up_once_each() {
    let graph = build(&[f64s(&[])], |b, v| {
        let mut sum = v[0];
        for _ in 0..2_000 {
            sum = b.add(sum, v[0]).unwrap();
        }
        vec![sum]
    });
    let gradient = value_and_grad(&graph, 0, &[0]).unwrap();
    assert!(gradient.node_count() <= 4_002, "{}", gradient.node_count());
    assert_eq!(run(&gradient, &[crate::table::scalar(0.5)])[1], crate::table::scalar(2001.0));
}

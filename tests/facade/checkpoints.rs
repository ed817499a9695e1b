//! Checkpoints: what is kept, what is computed again, and what it costs and saves.

use lehr::ir::kernel::{Kernel, cost};
use lehr::ir::plan::{Contract, Epilogue, StepKind};
use lehr::ir::{Dim, Graph, Target};
use lehr::passes::compile::plan_of;
use lehr::prelude::*;

use crate::{broken, check};

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().filter(|(_, n)| n.op.name() == op).count()
}

/// How often each operation is in the optimised graph of a function.
fn optimized(outputs: &[(&str, &Tensor)]) -> Graph {
    let f = outputs.iter().fold(Function::new("f"), |f, (name, t)| f.output(name, t));
    f.compile(crate::interp()).unwrap().program().graph().clone()
}

/// The elementary functions that an epilogue computes.
fn whole(kernel: &Kernel, c: &Contract) -> Dim {
    cost(kernel).transcendental.substitute(&|s| (s.as_str() == Epilogue::COLUMNS).then(|| c.n.clone()))
}

/// How many matrix products a graph's plan has, and how many elementary functions of an array its kernels compute.
fn planned(graph: &Graph, elements: i64) -> [i64; 2] {
    let (_, plan, _) = plan_of(graph, &Target::default()).unwrap();
    let (mut products, mut functions) = (0, 0);
    for step in &plan.steps {
        match &step.kind {
            StepKind::Contract(c) => {
                products += 1;
                let epilogue = c.epilogue.iter().map(|e| &plan.kernels[e.kernel as usize]);
                functions += epilogue.map(|k| whole(k, c).as_const().unwrap()).sum::<i64>();
            }
            StepKind::Launch(l) => {
                functions += cost(&plan.kernels[l.kernel as usize]).transcendental.as_const().unwrap();
            }
            _ => {}
        }
    }
    [products, functions / elements]
}

#[test]
fn a_policy_says_what_is_computed_again() {
    let (x, w) = (Tensor::input("x", F32, (4, 8)), Tensor::input("w", F32, (8, 8)));
    let of = |keep: Option<Checkpoint>| {
        let f = |x: &Tensor| x.exp().matmul(&w).named("h").sin().tanh().sum();
        let loss = match keep {
            Some(keep) => checkpoint(&x, keep, f),
            None => f(&x),
        };
        let (dx, dw) = grad(&loss, &(&x, &w));
        optimized(&[("loss", &loss), ("dx", &dx), ("dw", &dw)])
    };
    let counts = |g: &Graph| {
        let counts = ["exp", "dot", "sin", "tanh"].map(|op| count(g, op));
        // The plan computes what the graph says, and one cosine: nothing is merged on the way.
        let [exp, dot, sin, tanh] = counts.map(|n| n as i64);
        assert_eq!(planned(g, 32), [dot, exp + sin + tanh + 1]);
        counts
    };
    // The gradient has two products of its own.
    assert_eq!(counts(&of(None)), [1, 3, 1, 1]);
    assert_eq!(counts(&of(Some(Checkpoint::Everything))), [1, 3, 1, 1]);
    assert_eq!(counts(&of(Some(Checkpoint::Nothing))), [2, 4, 2, 2]);
    assert_eq!(counts(&of(Some(Checkpoint::Dots))), [2, 3, 2, 2]);
    assert_eq!(counts(&of(Some(Checkpoint::named(["h"])))), [2, 3, 2, 2]);
    assert_eq!(counts(&of(Some(Checkpoint::named(["other"])))), [2, 4, 2, 2]);
}

#[test]
fn values_inside_composites_can_be_kept() {
    let (x, w) = (Tensor::input("x", F32, (4, 8)), Tensor::input("w", F32, (8, 8)));
    let inner = |x: &Tensor| checkpoint(x, Checkpoint::Everything, |x| x.exp().matmul(&w).named("h").sin());
    for keep in [Checkpoint::Dots, Checkpoint::named(["h"])] {
        let loss = checkpoint(&x, keep, |x| inner(x).sum());
        let (dx, dw) = grad(&loss, &(&x, &w));
        assert_eq!(count(&optimized(&[("loss", &loss), ("dx", &dx), ("dw", &dw)]), "dot"), 3);
    }
}

#[test]
fn nested_checkpoints_stay_apart() {
    let x = Tensor::input("x", F32, ["n"]);
    let inner = |x: &Tensor| checkpoint(x, Checkpoint::Nothing, |x| x.exp().sin());
    let loss = checkpoint(&x, Checkpoint::Nothing, |x| inner(&inner(x)).sum());
    let graph = optimized(&[("loss", &loss), ("dx", &grad(&loss, &x))]);
    // Forward twice; again the first for the outer; both again for their own gradients.
    assert_eq!(count(&graph, "exp"), 5, "{graph}");
}

#[test]
fn values_and_gradients_are_the_same_to_the_bit() {
    let x = random::normal(Key::new(1), F32, (4, 8));
    let w = random::normal(Key::new(2), F32, (8, 8));
    let f = |x: &Tensor, keep: &Checkpoint| {
        let mut x = x.clone();
        for _ in 0..3 {
            x = checkpoint(&x, keep.clone(), |x| x + x.matmul(&w).named("h").gelu().softmax(1));
        }
        x.square().sum()
    };
    let plain = f(&x, &Checkpoint::Everything);
    for keep in [Checkpoint::Nothing, Checkpoint::Dots, Checkpoint::named(["h"])] {
        let y = f(&x, &keep);
        let (dx, dw) = grad(&y, &(&x, &w));
        let (want_x, want_w) = grad(&plain, &(&x, &w));
        assert_eq!(y.eval().unwrap(), plain.eval().unwrap());
        assert_eq!(dx.eval().unwrap(), want_x.eval().unwrap(), "{keep:?}");
        assert_eq!(dw.eval().unwrap(), want_w.eval().unwrap(), "{keep:?}");
    }
}

#[test]
fn checkpoints_have_second_derivatives_and_batches() {
    let x = Tensor::from([0.5f64, 1.0]);
    let f = |x: &Tensor| checkpoint(x, Checkpoint::Nothing, |x| (x.exp().sin() * x).sum());
    let plain = |x: &Tensor| (x.exp().sin() * x).sum();
    assert_eq!(hessian(&f(&x), &x).to_string(), hessian(&plain(&x), &x).to_string());
    let rows = Tensor::from([[0.5f64, 1.0], [2.0, -1.0]]);
    let each = vmap(&rows, 0, |r| grad(&f(r), r));
    assert_eq!(each.to_string(), vmap(&rows, 0, |r| grad(&plain(r), r)).to_string());
}

#[test]
fn trees_and_captured_values_work() {
    let (x, n) = (Tensor::from(2.0f32), Tensor::from(3i64));
    let scale = x.exp();
    let out = checkpoint(&(&x, [&n]), Checkpoint::Nothing, |(x, [n])| (x * &scale, Some(n + 1)));
    check(&out.1.unwrap(), "4");
    check(&grad(&out.0, &scale), "2");
    assert_eq!(grad(&out.0, &x).eval().unwrap(), (&scale + &x * &scale).eval().unwrap());
    let e = broken(&checkpoint(&x, Checkpoint::named(["a,b"]), Clone::clone));
    assert_eq!(e, "checkpoint: `a,b` is not a name");
    assert!(broken(&x.named("")).contains("is not a name"));
}

/// The peak of temporaries in a training step of a residual network.
fn peak(layers: usize, keep: Option<&Checkpoint>) -> i64 {
    const WIDTH: usize = 32;
    let mut keys = Keys::new(0);
    let model: Vec<[Dense; 2]> = (0..layers)
        .map(|_| [Dense::new(WIDTH, 4 * WIDTH, &mut keys), Dense::new(4 * WIDTH, WIDTH, &mut keys)])
        .collect();
    let mut h = Tensor::input("x", F32, (256, WIDTH));
    for [up, down] in &model {
        let block = |h: &Tensor| {
            let cx = &mut Context::eval();
            h + down.forward(&up.forward(&h.layer_norm(-1, 1e-5), cx).relu(), cx)
        };
        h = match keep {
            Some(keep) => checkpoint(&h, keep.clone(), block),
            None => block(&h),
        };
    }
    let mut f = Function::new("step").output("loss", &h.square().mean());
    for (i, g) in lehr::tree::leaves(&grad(&h.square().mean(), &model)).iter().enumerate() {
        f = f.output(&format!("g{i}"), g);
    }
    let graph = f.compile(crate::interp()).unwrap().program().graph().clone();
    let (_, plan, report) = plan_of(&graph, &Target::default()).unwrap();
    assert_eq!(plan.arena, report.arena);
    report.arena.as_const().unwrap()
}

#[test]
fn checkpoints_over_many_layers_take_a_third_of_the_memory() {
    let plain = peak(32, None);
    let (nothing, dots) = (peak(32, Some(&Checkpoint::Nothing)), peak(32, Some(&Checkpoint::Dots)));
    eprintln!("arena: {plain} bytes without, {nothing} with, {dots} with the dots kept");
    assert!(nothing * 3 <= plain, "{nothing} of {plain}");
    assert!(nothing < dots && dots < plain, "{nothing} {dots} {plain}");
    // It grows by what is kept for each layer, which is its input, and by nothing else.
    let more = peak(48, Some(&Checkpoint::Nothing)) - nothing;
    assert!(more <= 16 * 256 * 32 * 4 + 4096, "{more} bytes for 16 layers");
}

//! Loops: they allocate nothing, cost a known number of steps, and compile to the same code whatever their length.

use lehr::control::scan;
use lehr::prelude::*;

use crate::allocator::allocations;

/// A loop of scalar steps and the gradient through it.
fn scalar_loop() -> Function {
    let xs = Tensor::input("xs", F32, ["n"]);
    let w = Tensor::input("w", F32, ());
    let (c, ys) = scan(&Tensor::from(0.5f32), &xs, |c, x| {
        let c = (c * &w + x).tanh();
        (c.clone(), c)
    });
    let loss = c + ys.sum();
    Function::new("loop").output("loss", &loss).output("dw", &grad(&loss, &w))
}

#[test]
fn a_scan_of_ten_thousand_steps_allocates_nothing_after_the_first_call() {
    let _turn = crate::alone();
    let mut f = scalar_loop().compile(crate::cpu()).unwrap();
    let xs = Array::full(&[10_000], 0.001f32.into());
    let w = Array::scalar(0.9f32);
    let mut out = [Array::scalar(0.0f32), Array::scalar(0.0f32)];
    let mut call = || f.run_into([("xs", &xs), ("w", &w)], &mut out).unwrap();
    call();
    let start = std::time::Instant::now();
    call();
    // Reported, not asserted: two loops, forward and backward.
    println!("{:.1} ns a step", start.elapsed().as_nanos() as f64 / 20_000.0);
    let n = (0..10).map(|_| allocations(&mut call)).min();
    assert_eq!(n, Some(0));
    assert!(out[0].item().unwrap().to_f64() > 0.0);
}

#[test]
fn a_loop_of_any_length_is_the_same_code() {
    let counts = |n: usize| {
        let xs = Tensor::zeros(F32, n);
        let (c, ys) = scan(&Tensor::from(0.5f32), &xs, |c, x| ((c * 2.0 + x).tanh(), c.square()));
        let f = Function::new("f").output("dx", &grad(&(c + ys.sum()), &xs));
        let e = f.explain(&crate::cpu()).unwrap();
        let plan = e.plan.unwrap();
        let plans = plan.with_nested();
        (e.graph.node_count(), plans.len(), plans.iter().map(|p| p.steps.len()).sum::<usize>(), e.kernels.len())
    };
    assert_eq!(counts(10), counts(10_000));
}

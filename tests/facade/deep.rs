//! A chain of 100,000 nodes.

use lehr::prelude::*;

#[test]
fn a_long_chain_is_built_evaluated_differentiated_and_dropped() {
    let x = Tensor::input("x", F32, ());
    let mut y = x.clone();
    for _ in 0..50_000 {
        y = &y + 1;
        y = &y * &x;
    }
    let f = Function::new("chain").output("y", &y).output("dy", &grad(&y, &x));
    let mut f = f.compile(crate::interp()).unwrap();
    let (found, slope): (f32, f32) = f.run([0.0f32]).unwrap().unpack().unwrap();
    // y = x (1 + x (1 + …)), whose value and slope at 0 are 0 and 1.
    assert_eq!((found, slope), (0.0, 1.0));
    let copy = y.clone();
    drop(y);
    drop(copy);
}

#[test]
fn a_long_chain_of_errors_is_one_error() {
    let mut y = Tensor::zeros(F32, 2) + Tensor::zeros(F32, 3);
    for _ in 0..100_000 {
        y = &y + &y;
    }
    assert_eq!(crate::broken(&y).split(':').next(), Some("add"));
}

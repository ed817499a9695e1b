//! Optimisers against hand-computed steps.

use lehr::prelude::*;

/// The weight after each of some steps on `w²`, from 1.
fn path(optimizer: &impl Optimizer, steps: usize) -> Vec<f32> {
    let w = Tensor::variable("w", 1.0f32);
    let mut step = optimizer.minimize(&w.square(), &w).unwrap().compile(crate::interp()).unwrap();
    let mut out = Vec::new();
    for _ in 0..steps {
        step.run(()).unwrap();
        out.push(step.state().get("w").unwrap().as_slice::<f32>().unwrap()[0]);
    }
    out
}

#[track_caller]
fn check(found: &[f32], want: &[f32]) {
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() < 1e-5, "{found:?} {want:?}");
    }
}

#[test]
fn gradient_descent() {
    check(&path(&Sgd::new(0.25), 3), &[0.5, 0.25, 0.125]);
    // v = 2, w = 0.8; v = 0.5·2 + 1.6 = 2.6, w = 0.54.
    check(&path(&Sgd::new(0.1).momentum(0.5), 2), &[0.8, 0.54]);
    // v = 2, step 2 + 0.5·2 = 3, w = 0.7; v = 0.5·2 + 1.4 = 2.4, step 1.4 + 1.2 = 2.6, w = 0.44.
    check(&path(&Sgd::new(0.1).momentum(0.5).nesterov(), 2), &[0.7, 0.44]);
    check(&path(&Sgd::new(0.1).weight_decay(1.0), 1), &[0.7]);
}

#[test]
fn adam() {
    // The first step has the size of the rate, whatever the gradient.
    check(&path(&Adam::new(0.1), 1), &[0.9]);
    // m = 0.9·0.2 + 0.1·1.8 = 0.36, over 0.19; v = 0.999·0.004 + 0.001·3.24 = 0.007236, over 0.001999.
    let second = 0.9 - 0.1 * (0.36 / 0.19) / (0.007_236f32 / 0.001_999).sqrt();
    check(&path(&Adam::new(0.1), 2), &[0.9, second]);
    check(&path(&Adam::new(0.1).weight_decay(1.0), 1), &[0.8]);
}

#[test]
fn a_rate_may_be_an_input() {
    let w = Tensor::variable("w", 1.0f32);
    let lr = Tensor::input("lr", F32, ());
    let mut step = Sgd::new(lr).minimize(&w.square(), &w).unwrap().compile(crate::interp()).unwrap();
    step.run([("lr", 0.25f32)]).unwrap();
    step.run([("lr", 0.0f32)]).unwrap();
    assert_eq!(step.state().get("w").unwrap(), Array::from(0.5f32));
}

#[test]
fn only_trainable_floats_are_trained_and_names_are_the_models() {
    let model = (Tensor::variable("a", 1.0f32), Tensor::buffer("b", 2.0f32), Tensor::variable("n", 3i64));
    let loss = &model.0 * &model.1 * model.2.cast(F32);
    let step = Adam::new(0.1).minimize(&loss, &model).unwrap().compile(crate::interp()).unwrap();
    let mut names = step.state().names();
    names.sort();
    assert_eq!(names, ["[0]", "[1]", "[2]", "adam.m[0]", "adam.t", "adam.v[0]"]);
    let updated: Vec<&str> = step.program().variables().collect();
    assert_eq!(updated.len(), 6);
}

#[test]
fn errors_come_out_of_minimize() {
    let w = Tensor::variable("w", [1.0f32, 2.0]);
    let e = Sgd::new(0.1).minimize(&w.square(), &w).unwrap_err().to_string();
    assert!(e.contains("only a scalar has a gradient"), "{e}");
    let e = Sgd::new(0.1).minimize(&(&w + Tensor::zeros(F32, 3)).sum(), &w).unwrap_err().to_string();
    assert!(e.starts_with("add:"), "{e}");
}

//! Training: losses as on other backends, and nothing that grows.

use lehr::devices::in_use;
use lehr::prelude::*;

use crate::{gpu, reference};

/// A network as large as that of the digits, and its training step.
fn step(options: &Options, width: usize) -> Executable {
    let mut keys = Keys::new(3);
    let layers = (Dense::new(64, width, &mut keys), Dense::new(width, 64, &mut keys), Dense::glorot(64, 10, &mut keys));
    let x = Tensor::input("x", F32, ("batch", 64));
    let y = Tensor::input("y", I64, ["batch"]);
    let mut cx = Context::train();
    let h = layers.0.forward(&x, &mut cx).relu();
    let h = layers.1.forward(&h, &mut cx).relu();
    let loss = losses::softmax_cross_entropy(&layers.2.forward(&h, &mut cx), &y).mean();
    let step = Adam::new(2e-3).minimize(&loss, &layers).unwrap();
    step.compile(options.clone()).unwrap_or_else(|e| panic!("{e}"))
}

fn batch(n: usize) -> (Array, Array) {
    let x = init::normal(Key::new(1), &[n, 64], 0.0, 1.0);
    let y: Vec<i64> = (0..n as i64).map(|i| i * 7 % 10).collect();
    (x, Array::new(&[n], y).unwrap())
}

#[test]
fn losses_are_those_of_other_backends() {
    let Some((options, _turn)) = gpu() else { return };
    let (x, y) = batch(64);
    let losses = |options: &Options| -> (Vec<f32>, State) {
        let mut step = step(options, 128);
        let all = (0..50).map(|_| step.run([("x", &x), ("y", &y)]).unwrap().unpack::<f32>().unwrap()).collect();
        (all, step.state().clone())
    };
    let (got, state) = losses(&options);
    let (want, other) = losses(&reference());
    for (i, (a, b)) in got.iter().zip(&want).enumerate() {
        assert!((a - b).abs() <= 1e-3 * b.abs().max(1e-2), "step {i}: {a} is not {b}");
    }
    assert!(got[49] < 0.2 * got[0], "{got:?}");
    // The new values are read back only here.
    for name in state.names() {
        let number = |s: &State| s.get(&name).unwrap().data().get(0).unwrap().to_f64();
        assert!((number(&state) - number(&other)).abs() <= 1e-3, "{name}");
    }
}

#[test]
fn a_long_run_holds_as_many_buffers_as_a_short_one() {
    let Some((options, _turn)) = gpu() else { return };
    let before = in_use(&options.device).unwrap();
    let mut step = step(&options, 8);
    let batches = [batch(3), batch(5)];
    let mut steps = |n: usize| {
        for i in 0..n {
            let (x, y) = &batches[i % 2];
            step.run([("x", x), ("y", y)]).unwrap();
        }
        in_use(&options.device).unwrap()
    };
    let short = steps(10);
    assert!(short.0 > before.0);
    assert_eq!(steps(1990), short);
    drop(step);
    assert_eq!(in_use(&options.device).unwrap(), before);
}

#[test]
fn values_go_between_backends() {
    let Some((options, _turn)) = gpu() else { return };
    let w = Tensor::variable("w", Array::new(&[3], vec![1.0f32, 2.0, 3.0]).unwrap());
    let double = |options: &Options, state: &State| {
        let f = Function::new("double").update(&w, &(&w * 2.0)).compile(options.clone()).unwrap();
        f.with_state(state).run(()).unwrap();
    };
    let state = State::new();
    double(&options, &state);
    let kept = state.snapshot();
    double(&reference(), &state);
    double(&options, &state);
    assert_eq!(state.value(&w).unwrap().as_slice::<f32>(), Some(&[8.0, 16.0, 24.0][..]));
    assert_eq!(kept.value(&w).unwrap().as_slice::<f32>(), Some(&[2.0, 4.0, 6.0][..]));
    state.set("w", Array::new(&[3], vec![0.5f32; 3]).unwrap()).unwrap();
    double(&options, &state);
    assert_eq!(state.value(&w).unwrap().as_slice::<f32>(), Some(&[1.0; 3][..]));
}

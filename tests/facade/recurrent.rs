//! Recurrent layers against plain computations step by step, and their gradients against differences.

use lehr::nn::{Gru, Lstm, LstmState, SimpleRnn};
use lehr::prelude::*;

use crate::{broken, check_type};

const BATCH: usize = 2;
const TIME: usize = 4;
const FEATURES: usize = 3;
const UNITS: usize = 2;

/// Numbers without a pattern, in `[-1, 1)`.
fn numbers(seed: u64, count: usize) -> Vec<f64> {
    Key::new(seed).words_of_stream().take(count).map(|w| f64::from(w) / 2f64.powi(31) - 1.0).collect()
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from(numbers(seed, shape.iter().product())).reshape(shape)
}

fn x() -> Tensor {
    tensor(1, &[BATCH, TIME, FEATURES])
}

fn simple() -> SimpleRnn {
    SimpleRnn {
        weight: tensor(2, &[FEATURES, UNITS]),
        recurrent: tensor(3, &[UNITS, UNITS]),
        bias: tensor(4, &[UNITS]),
        reverse: false,
    }
}

fn lstm() -> Lstm {
    Lstm {
        weight: tensor(2, &[FEATURES, 4 * UNITS]),
        recurrent: tensor(3, &[UNITS, 4 * UNITS]),
        bias: tensor(4, &[4 * UNITS]),
        reverse: false,
    }
}

fn gru() -> Gru {
    Gru {
        weight: tensor(2, &[FEATURES, 3 * UNITS]),
        recurrent: tensor(3, &[UNITS, 3 * UNITS]),
        bias: tensor(4, &[3 * UNITS]),
        recurrent_bias: tensor(5, &[3 * UNITS]),
        reverse: false,
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A row times a matrix with so many columns.
fn product(row: &[f64], matrix: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|c| row.iter().enumerate().map(|(r, v)| v * matrix[r * columns + c]).sum()).collect()
}

/// Outputs `[batch, time, units]` and the last states of a layer on the host, from the step of one example.
///
/// `step` takes the input's part and the state's part of the gates before any bias, and the state.
fn unrolled(
    gates: usize,
    state: usize,
    reverse: bool,
    step: impl Fn(&[f64], &[f64], &[f64]) -> Vec<f64>,
) -> (Vec<f64>, Vec<f64>) {
    let (x, width) = (numbers(1, BATCH * TIME * FEATURES), gates * UNITS);
    let (weight, recurrent) = (numbers(2, FEATURES * width), numbers(3, UNITS * width));
    let (mut outputs, mut last) = (vec![0.0; BATCH * TIME * UNITS], Vec::new());
    for b in 0..BATCH {
        let mut s = vec![0.0; state * UNITS];
        for i in 0..TIME {
            let t = if reverse { TIME - 1 - i } else { i };
            let at = b * TIME + t;
            let input = product(&x[at * FEATURES..(at + 1) * FEATURES], &weight, width);
            s = step(&input, &product(&s[..UNITS], &recurrent, width), &s);
            outputs[at * UNITS..(at + 1) * UNITS].copy_from_slice(&s[..UNITS]);
        }
        last.extend(s);
    }
    (outputs, last)
}

fn simple_step(x: &[f64], h: &[f64], _: &[f64]) -> Vec<f64> {
    let bias = numbers(4, UNITS);
    (0..UNITS).map(|u| (x[u] + bias[u] + h[u]).tanh()).collect()
}

/// The state is `h`, then `c`.
fn lstm_step(x: &[f64], h: &[f64], state: &[f64]) -> Vec<f64> {
    let bias = numbers(4, 4 * UNITS);
    let gate = |g: usize, u: usize| x[g * UNITS + u] + h[g * UNITS + u] + bias[g * UNITS + u];
    let c: Vec<f64> =
        (0..UNITS).map(|u| sigmoid(gate(1, u)) * state[UNITS + u] + sigmoid(gate(0, u)) * gate(2, u).tanh()).collect();
    (0..UNITS).map(|u| sigmoid(gate(3, u)) * c[u].tanh()).chain(c.iter().copied()).collect()
}

fn gru_step(x: &[f64], h: &[f64], state: &[f64]) -> Vec<f64> {
    let (bias, inner) = (numbers(4, 3 * UNITS), numbers(5, 3 * UNITS));
    let a = |g: usize, u: usize| x[g * UNITS + u] + bias[g * UNITS + u];
    let b = |g: usize, u: usize| h[g * UNITS + u] + inner[g * UNITS + u];
    let step = |u: usize| {
        let z = sigmoid(a(0, u) + b(0, u));
        let n = (a(2, u) + sigmoid(a(1, u) + b(1, u)) * b(2, u)).tanh();
        z * state[u] + (1.0 - z) * n
    };
    (0..UNITS).map(step).collect()
}

/// Values on every backend.
#[track_caller]
fn check_values(t: &Tensor, want: &[f64]) {
    for backend in Backend::available() {
        let f = Function::new("f").output("y", t);
        let mut exe = f.compile(Options::default().backend(*backend)).unwrap_or_else(|e| panic!("{e}"));
        let found: Vec<f64> = exe.run(()).unwrap().unpack().unwrap();
        assert_eq!(found.len(), want.len());
        for (a, b) in found.iter().zip(want) {
            assert!((a - b).abs() < 1e-13, "{backend:?}: {found:?} and {want:?}");
        }
    }
}

#[test]
fn layers_are_their_formulas_step_by_step() {
    let cx = &mut Context::eval();
    for reverse in [false, true] {
        let (want, want_last) = unrolled(1, 1, reverse, simple_step);
        let (ys, last) = SimpleRnn { reverse, ..simple() }.run(&x(), None, cx);
        check_values(&ys, &want);
        check_values(&last, &want_last);

        let (want, want_last) = unrolled(4, 2, reverse, lstm_step);
        let (ys, last) = Lstm { reverse, ..lstm() }.run(&x(), None, cx);
        check_values(&ys, &want);
        check_values(&Tensor::concat(&[last.h, last.c], 1), &want_last);

        let (want, want_last) = unrolled(3, 1, reverse, gru_step);
        let (ys, last) = Gru { reverse, ..gru() }.run(&x(), None, cx);
        check_values(&ys, &want);
        check_values(&last, &want_last);
    }
}

#[test]
fn a_sequence_can_be_read_in_two_parts() {
    let cx = &mut Context::eval();
    let (first, second) = (x().slice((.., ..2)), x().slice((.., 2..)));
    let (_, state) = lstm().run(&first, None, cx);
    let (ys, _) = lstm().run(&second, Some(&state), cx);
    check_values(&ys, &lstm().forward(&x(), cx).slice((.., 2..)).to::<Vec<f64>>().unwrap());
    let (_, state) = gru().run(&first, None, cx);
    let (ys, _) = gru().run(&second, Some(&state), cx);
    check_values(&ys, &gru().forward(&x(), cx).slice((.., 2..)).to::<Vec<f64>>().unwrap());
    let (_, state) = simple().run(&first, None, cx);
    let (ys, _) = simple().run(&second, Some(&state), cx);
    check_values(&ys, &simple().forward(&x(), cx).slice((.., 2..)).to::<Vec<f64>>().unwrap());
}

/// The gradient of a loss by the leaves of a model against central differences.
#[track_caller]
fn check_slopes<M: Tree<Mapped = M>>(model: &M, loss: impl Fn(&M) -> Tensor) {
    let grads = lehr::tree::leaves(&grad(&loss(model), model));
    for (k, leaf) in lehr::tree::leaves(model).iter().enumerate() {
        let found: Vec<f64> = grads[k].to().unwrap();
        let at: Vec<f64> = leaf.to().unwrap();
        // Leaf `k` with its element `i` moved is an input, so that one program serves all differences.
        let moved = Tensor::input("moved", F64, leaf.shape());
        let mut seen = 0;
        let shifted = model.map(&mut lehr::tree::Path::new(), &mut |_, t| {
            seen += 1;
            if seen == k + 1 { moved.clone() } else { t.clone() }
        });
        let mut value = Function::new("loss").output("loss", &loss(&shifted)).compile(Options::default()).unwrap();
        let shape: Vec<usize> = leaf.eval().unwrap().shape().to_vec();
        for i in 0..at.len() {
            let mut value = |d: f64| -> f64 {
                let mut p = at.clone();
                p[i] += d;
                value.run([("moved", Array::new(&shape, p).unwrap())]).unwrap().unpack().unwrap()
            };
            let h = 1e-6;
            let want = (value(h) - value(-h)) / (2.0 * h);
            assert!((found[i] - want).abs() <= 1e-8 * (1.0 + want.abs()), "leaf {k}, {i}: {} and {want}", found[i]);
        }
    }
}

#[test]
fn gradients_flow_through_the_steps() {
    let weights = tensor(9, &[BATCH, TIME, UNITS]);
    let score = |ys: &Tensor, last: &Tensor| (ys * &weights).sum() + last.square().sum();
    let h = tensor(6, &[BATCH, UNITS]);
    check_slopes(&(simple(), x(), h.clone()), |(layer, x, h)| {
        let (ys, last) = layer.run(x, Some(h), &mut Context::train());
        score(&ys, &last)
    });
    check_slopes(&(gru().reverse(), x(), h.clone()), |(layer, x, h)| {
        let (ys, last) = layer.run(x, Some(h), &mut Context::train());
        score(&ys, &last)
    });
    let state = LstmState { h, c: tensor(7, &[BATCH, UNITS]) };
    check_slopes(&(lstm(), x(), state), |(layer, x, state)| {
        let (ys, last) = layer.run(x, Some(state), &mut Context::train());
        score(&ys, &(last.h + last.c))
    });
}

#[test]
fn batches_and_lengths_may_be_names() {
    let layer = Lstm::new(FEATURES, UNITS, &mut Keys::new(0));
    let x = Tensor::input("x", F32, ("batch", "time", FEATURES));
    let (ys, last) = layer.run(&x, None, &mut Context::train());
    check_type(&ys, "f32[batch, time, 2]");
    check_type(&last.h, "f32[batch, 2]");
    let g = grad(&ys.sum(), &layer);
    let f = Function::new("f").output("ys", &ys).output("g", &g.recurrent).named(&layer);
    let mut f = f.compile(Options::default()).unwrap();
    for (b, t) in [(1, 1), (3, 5), (2, 0)] {
        let out = f.run([("x", Array::full(&[b, t, FEATURES], 0.5f32.into()))]).unwrap();
        assert_eq!(out.get::<Array>("ys").unwrap().shape(), [b, t, UNITS]);
        assert_eq!(out.get::<Array>("g").unwrap().shape(), [UNITS, 4 * UNITS]);
    }
}

#[test]
fn fresh_layers_have_keras_first_weights() {
    let layer = Lstm::new(5, 3, &mut Keys::new(0));
    let initial = |t: &Tensor| t.as_variable().unwrap().initial.clone();
    let bias = initial(&layer.bias);
    assert_eq!(bias, Array::from([0.0f32, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    let bound = (6.0f32 / 17.0).sqrt();
    assert!(initial(&layer.weight).as_slice::<f32>().unwrap().iter().all(|w| w.abs() <= bound));
    for shape in [[3, 12], [4, 4], [7, 3]] {
        let q = Tensor::from(init::orthogonal(Key::new(4), &shape));
        let product = if shape[0] > shape[1] { q.transpose().matmul(&q) } else { q.matmul(&q.transpose()) };
        let size = shape[0].min(shape[1]);
        let found: Vec<f32> = product.to().unwrap();
        for (i, v) in found.iter().enumerate() {
            let want = if i / size == i % size { 1.0 } else { 0.0 };
            assert!((v - want).abs() < 1e-6, "{found:?}");
        }
    }
    let names = lehr::tree::names(&nn::Sequential::new().with(layer).with(Gru::new(3, 2, &mut Keys::new(1))));
    let want =
        ["[0].weight", "[0].recurrent", "[0].bias", "[1].weight", "[1].recurrent", "[1].bias", "[1].recurrent_bias"];
    assert_eq!(names, want);
}

#[test]
fn wrong_inputs_are_named() {
    let cx = &mut Context::eval();
    let layer = Lstm::new(FEATURES, UNITS, &mut Keys::new(0));
    let line = line!() + 1;
    let y = layer.forward(&Tensor::zeros(F32, (BATCH, FEATURES)), cx);
    assert_eq!(
        broken(&y),
        "lstm: operand 0 is f32[2, 3], operand 1 is f32[3, 8]; the input must be [batch, time, features]"
    );
    assert!(y.check().unwrap_err().to_string().contains(&format!("recurrent.rs:{line}:")));
    let y = layer.forward(&Tensor::zeros(F32, (BATCH, TIME, 5)), cx);
    assert!(broken(&y).ends_with("the input has 5 features a step, and the layer takes 3"), "{}", broken(&y));
    let state = LstmState { h: Tensor::zeros(F32, (1, UNITS)), c: Tensor::zeros(F32, (BATCH, UNITS)) };
    let (y, _) = layer.run(&Tensor::zeros(F32, (BATCH, TIME, FEATURES)), Some(&state), cx);
    assert!(broken(&y).contains("the carry `h` is f32[1, 2] before an iteration"), "{}", broken(&y));
}

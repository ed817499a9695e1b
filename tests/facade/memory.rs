//! Memory against compute: values computed again where that lowers the planned peak.

use lehr::Dim;
use lehr::passes::rematerialize::Rematerialize;
use lehr::prelude::*;

/// Layers whose derivative needs two values of each: the activation, and what it is made into by cheap operations.
fn deep(layers: usize) -> Function {
    let x = Tensor::input("x", F32, (64, 32));
    let mut h = x.clone();
    let mut weights = Vec::new();
    for i in 0..layers {
        let w = Tensor::variable(&format!("w{i}"), Array::full(&[32, 32], 0.05f32.into()));
        h = h.matmul(&w).tanh();
        weights.push(w);
    }
    let loss = h.square().sum();
    let mut f = Function::new("deep").output("loss", &loss);
    for (i, g) in grad(&loss, &weights).iter().enumerate() {
        f = f.output(&format!("g{i}"), g);
    }
    f
}

#[cfg(feature = "cpu")]
#[test]
fn cheap_values_are_computed_again_where_it_lowers_the_peak() {
    let options = |how| Options::default().backend(Backend::Cpu).rematerialize(how);
    let f = deep(12);
    let memory = |how| f.explain(&options(how)).unwrap().memory.unwrap();
    let (kept, again) = (memory(Rematerialize::Never), memory(Rematerialize::Always));
    let (count, before) = again.rematerialized.clone().expect("values are computed again");
    assert_eq!(before, kept.arena);
    let (less, more) = (again.arena.as_const().unwrap(), kept.arena.as_const().unwrap());
    assert!(count >= 10 && less * 10 < more * 7, "{count} values: {less} bytes, {more} without");
    // Small temporaries lie in caches, where computing again costs more than it saves.
    assert_eq!(memory(Rematerialize::Auto).rematerialized, None);
    let text = f.explain(&options(Rematerialize::Always)).unwrap().to_string();
    assert!(
        text.contains(&format!("computed again to save memory: {count} values; the arena was {more} before")),
        "{text}"
    );

    let run = |how| -> Vec<Array> {
        let x: Vec<f32> = (0..64 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut exe = f.compile(options(how)).unwrap();
        exe.run([("x", Array::new(&[64, 32], x).unwrap())]).unwrap().into_iter().collect()
    };
    assert_eq!(run(Rematerialize::Never), run(Rematerialize::Always));
}

/// The training step of a perceptron.
fn perceptron(batch: Dim) -> Function {
    let mut keys = Keys::new(7);
    let layers: Vec<Dense> = [784, 512, 256, 10].windows(2).map(|w| Dense::new(w[0], w[1], &mut keys)).collect();
    let x = Tensor::input("x", F32, (batch.clone(), 784));
    let y = Tensor::input("y", I64, [batch]);
    let mut cx = Context::train();
    let mut h = layers[0].forward(&x, &mut cx);
    for layer in &layers[1..] {
        h = layer.forward(&h.relu(), &mut cx);
    }
    Adam::new(1e-3).minimize(&losses::softmax_cross_entropy(&h, &y).mean(), &layers).unwrap()
}

/// Residual layers with the gradients of all their weights.
fn residual(layers: usize) -> Function {
    let mut x = Tensor::input("x", F32, (8, 64));
    let mut weights = Vec::new();
    for i in 0..layers {
        let w = Tensor::variable(&format!("w{i}"), Array::zeros(F32, &[64, 64]));
        let b = Tensor::variable(&format!("b{i}"), Array::zeros(F32, &[64]));
        x = &x + (x.matmul(&w) + &b).relu();
        weights.push((w, b));
    }
    let (value, slopes) = value_and_grad(&x.sum(), &weights);
    let mut f = Function::new("residual").output("value", &value);
    for (i, (w, b)) in slopes.iter().enumerate() {
        f = f.output(&format!("w{i}"), w).output(&format!("b{i}"), b);
    }
    f
}

/// The training step of a recurrent network.
fn recurrent() -> Function {
    let mut keys = Keys::new(3);
    let (lstm, out) = (nn::Lstm::new(28, 64, &mut keys), Dense::new(64, 10, &mut keys));
    let (x, y) = (Tensor::input("x", F32, (32, 28, 28)), Tensor::input("y", I64, [32]));
    let mut cx = Context::train();
    let (_, last) = lstm.run(&x, None, &mut cx);
    let loss = losses::softmax_cross_entropy(&out.forward(&last.h, &mut cx), &y).mean();
    Adam::new(1e-3).minimize(&loss, &(lstm, out)).unwrap()
}

#[cfg(feature = "cpu")]
#[test]
fn arenas_are_hardly_larger_than_what_is_alive_at_once() {
    let options =
        Options::default().backend(Backend::Cpu).vectors(lehr::Vectors::Portable).rematerialize(Rematerialize::Never);
    let rows = [
        ("mlp_train", perceptron(128.into())),
        ("mlp_train of any batch", perceptron(Dim::symbol("batch").unwrap())),
        ("deep_10", residual(10)),
        ("deep_100", residual(100)),
        ("lstm", recurrent()),
    ];
    let mut text = String::new();
    for (name, f) in rows {
        let mut e = f.explain(&options).unwrap();
        if name.ends_with("any batch") {
            e = e.at([("batch", 128)]).unwrap();
        }
        let memory = e.memory.as_ref().unwrap();
        text += &format!("{name}: arena {}, alive at once {}\n", memory.arena, memory.alive);
        let at = |d: &Dim| d.substitute(&|_| Some(Dim::from(128))).as_const().unwrap();
        assert!(at(&memory.arena) * 10 <= at(&memory.alive) * 11, "{text}");
        for b in &memory.blocks {
            text += &format!("  @{}: arena {}, alive at once {}\n", b.name, b.arena, b.alive);
            assert!(at(&b.arena) * 10 <= at(&b.alive) * 11, "{text}");
        }
        assert!(e.to_string().contains(&format!("  temporaries, alive at once: {}", memory.alive)));
    }
    insta::assert_snapshot!(text);
}

/// Trains for some steps; gives the losses and the variables' values. `between` is called before each step.
#[cfg(feature = "cpu")]
fn trained(options: Options, steps: usize, mut between: impl FnMut(&State)) -> (Vec<f32>, State) {
    let mut exe = perceptron(128.into()).compile(options).unwrap();
    let x: Vec<f32> = (0..128 * 784).map(|i| (i as f32 * 0.37).sin()).collect();
    let y: Vec<i64> = (0..128).map(|i| i * 7 % 10).collect();
    let given = [("x", Array::new(&[128, 784], x).unwrap()), ("y", Array::new(&[128], y).unwrap())];
    let mut losses = Vec::new();
    for _ in 0..steps {
        between(exe.state());
        losses.push(exe.run(given.clone()).unwrap().unpack().unwrap());
    }
    (losses, exe.state().clone())
}

#[cfg(feature = "cpu")]
#[test]
fn new_values_lie_where_the_old_did_unless_somebody_holds_these() {
    for vectors in [lehr::Vectors::Auto, lehr::Vectors::Portable] {
        let options = Options::default().backend(Backend::Cpu).vectors(vectors);
        let memory = perceptron(128.into()).explain(&options).unwrap().memory.unwrap();
        // Weights, biases and their two moments, and the number of steps; where the first moment of a weight comes to lie, the sums
        // of its gradient lie before.
        assert_eq!(memory.updates_in_place, 3 * 6 + 1 - 3);
        let starts = |state: &State| -> Vec<usize> {
            state.names().iter().map(|name| state.get(name).unwrap().data().as_ptr().addr()).collect()
        };
        let mut seen = Vec::new();
        let (losses, state) = trained(options.clone(), 4, |state| seen.push(starts(state)));
        // The values at the start are the model's as well.
        let end = starts(&state);
        let moved = |at: &[usize]| at.iter().zip(&end).filter(|(a, b)| a != b).count();
        assert!(seen[1..].iter().all(|at| moved(at) <= 3), "{seen:?}");
        assert!(losses[3] < losses[0], "{losses:?}");
        // Somebody holds the values before each second step.
        let mut held = Vec::new();
        let (same, other) = trained(options.clone(), 4, |state| {
            let kept = held.len() % 2 == 0;
            held.push(kept.then(|| (state.snapshot(), values(state))));
        });
        assert_eq!(same, losses);
        assert_eq!(values(&other), values(&state));
        for (kept, then) in held.iter().flatten() {
            assert_eq!(values(kept), *then, "what is held stays as it was");
        }
        // Where values may have to be taken back, the old are kept until the end.
        let (checked, other) = trained(options.trap_nan(true), 4, |_| {});
        assert_eq!(checked, losses);
        assert_eq!(values(&other), values(&state));
    }
}

/// Copies of all values.
#[cfg(feature = "cpu")]
fn values(state: &State) -> Vec<Vec<u64>> {
    let bits = |a: Array| (0..a.len()).map(|i| a.data().get(i).unwrap().to_f64().to_bits()).collect();
    state.names().iter().map(|name| bits(state.get(name).unwrap())).collect()
}

//! Calls in a loop: no allocation, and no growth.

use lehr::prelude::*;

use crate::allocator::allocations;

/// Allocations of the quietest of several rounds: the test harness may allocate now and then, a call would each time.
fn steady_allocations(mut call: impl FnMut()) -> usize {
    (0..3).for_each(|_| call());
    (0..10).map(|_| allocations(|| (0..20).for_each(|_| call()))).min().unwrap_or(usize::MAX)
}

#[test]
fn a_training_step_allocates_nothing() {
    let _turn = crate::alone();
    for threads in [1, 2] {
        let mut step = crate::small_step(crate::cpu().threads(threads));
        let (x, y) = crate::small_batch(64);
        let mut out = [Array::scalar(0.0f32)];
        let n = steady_allocations(|| step.run_into([("x", &x), ("y", &y)], &mut out).unwrap());
        assert_eq!(n, 0, "20 steps on {threads} threads");
        assert!(out[0].item().unwrap().to_f64() > 0.0);
    }
}

#[test]
fn a_step_of_digits_allocates_nothing() {
    let _turn = crate::alone();
    let config = crate::digits::config(0);
    let (data, _) = crate::digits::train::load(&crate::digits::csv(), 0).unwrap();
    let mut trainer = crate::digits::train::Trainer::new(&config).unwrap();
    let batch = data.take(&(0..64).collect::<Vec<_>>());
    let (x, y) = (batch.column("x").unwrap().clone(), batch.column("y").unwrap().clone());
    let mut out = [Array::scalar(0.0f32), Array::scalar(0.0f32)];
    let n = steady_allocations(|| trainer.step.run_into([("x", &x), ("y", &y)], &mut out).unwrap());
    assert_eq!(n, 0, "20 steps");
}

#[test]
fn a_program_of_scalars_allocates_nothing() {
    let _turn = crate::alone();
    let x = Tensor::input("x", F32, ());
    let y = &x * &x + 2 * &x;
    let mut f = Function::new("f").output("y", &y).output("dy", &grad(&y, &x)).compile(crate::cpu()).unwrap();
    let at = Array::scalar(3.0f32);
    let mut out = [Array::scalar(0.0f32), Array::scalar(0.0f32)];
    let n = steady_allocations(|| f.run_into([("x", &at)], &mut out).unwrap());
    assert_eq!((n, &out), (0, &[Array::scalar(15.0f32), Array::scalar(8.0f32)]));
}

#[test]
fn attention_allocates_nothing_in_either_direction() {
    let _turn = crate::alone();
    let [q, k, v] = ["q", "k", "v"].map(|name| Tensor::input(name, F32, ("n", 4, 130, 24)));
    let mask = Tensor::input("mask", Bool, (130, 130));
    let options = nn::AttentionOptions::new().causal().mask(&mask);
    let y = nn::attention(&q, &k, &v, &options);
    let (dq, dk, dv) = grad(&y.square().sum(), &(&q, &k, &v));
    let f = Function::new("f").output("y", &y).output("dq", &dq).output("dk", &dk).output("dv", &dv);
    let x = init::normal(Key::new(1), &[2, 4, 130, 24], 0.0, 1.0);
    let mask = Array::new(&[130, 130], (0..130 * 130).map(|i| i % 7 != 3).collect::<Vec<bool>>()).unwrap();
    for threads in [1, 2] {
        let mut f = f.clone().compile(crate::cpu().threads(threads)).unwrap();
        let mut out: Vec<Array> = (0..4).map(|_| Array::zeros(F32, x.shape())).collect();
        let n =
            steady_allocations(|| f.run_into([("q", &x), ("k", &x), ("v", &x), ("mask", &mask)], &mut out).unwrap());
        assert_eq!(n, 0, "20 calls on {threads} threads");
    }
}

/// Beyond operands and results, attention takes memory for a few blocks a thread, and none for scores.
#[test]
#[cfg(target_os = "linux")]
fn attention_takes_little_memory() {
    let _turn = crate::alone();
    let [q, k, v] = ["q", "k", "v"].map(|name| Tensor::input(name, F32, (1, 8, 2048, 64)));
    let y = nn::attention(&q, &k, &v, &nn::AttentionOptions::new().causal());
    let mut f = Function::new("f").output("y", &y).compile(crate::cpu()).unwrap();
    let x = init::normal(Key::new(1), &[1, 8, 2048, 64], 0.0, 1.0);
    let mut out = [Array::zeros(F32, &[1, 8, 2048, 64])];
    out[0].make_mut();
    let before = resident_bytes();
    f.run_into([("q", &x), ("k", &x), ("v", &x)], &mut out).unwrap();
    let now = resident_bytes();
    // The result's own pages may be new: 4 MiB of the 12.
    assert!(now < before + (12 << 20), "{before} bytes before, {now} after");
}

#[test]
fn the_counter_counts() {
    let _turn = crate::alone();
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0);
    let there = std::thread::spawn(|| allocations(|| drop(std::hint::black_box(vec![1u8; 100]))));
    assert!(there.join().unwrap() > 0);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow() {
    let _turn = crate::alone();
    let mut step = crate::small_step(crate::cpu());
    let batches: Vec<(Array, Array)> = (1..=8).map(crate::small_batch).collect();
    let mut at_100 = 0;
    for i in 0..10_000 {
        let (x, y) = &batches[i % batches.len()];
        // Fresh outputs and changing sizes: what a loop over a data set does.
        let _loss: f32 = step.run([("x", x), ("y", y)]).unwrap().unpack().unwrap();
        if i == 100 {
            at_100 = resident_bytes();
        }
    }
    let now = resident_bytes();
    assert!(at_100 > 0 && now <= at_100 + (1 << 20), "{at_100} bytes at step 100, {now} at step 10,000");
}

/// Bytes of the process in memory.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A large weight is packed for all calls once it has been seen twice, which shows neither in the results nor in allocations.
#[test]
fn packed_weights_do_not_show() {
    let _turn = crate::alone();
    let x = Tensor::input("x", F32, ("n", 1024));
    let w = init::normal(Key::new(1), &[1024, 700], 0.0, 1.0);
    let layer = Layer { w: Tensor::variable("w", w.clone()) };
    let state = State::of(&layer);
    let f = Function::new("f").output("y", &(x.matmul(&layer.w) + 1.0).relu());
    let rows = init::normal(Key::new(2), &[64, 1024], 0.0, 1.0);
    let reference = |w: &Array| {
        let wide = |a: &Array| a.as_slice::<f32>().unwrap().iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (x, w) = (wide(&rows), wide(w));
        // Row 63 alone: a wrong panel would show in any.
        let dot = |j: usize| (0..1024).map(|k| x[63 * 1024 + k] * w[k * 700 + j]).sum::<f64>();
        (0..700).map(|j| (dot(j) + 1.0).max(0.0)).collect::<Vec<_>>()
    };
    let mut first_bits: Option<Array> = None;
    for threads in [1, 2] {
        state.set("w", w.clone()).unwrap();
        let mut f = f.clone().compile(crate::cpu().threads(threads)).unwrap().with_state(&state);
        let mut call = || f.run([("x", &rows)]).unwrap().array("y").unwrap().clone();
        let first = call();
        for _ in 0..4 {
            assert!(call().bit_eq(&first), "the copy gives the same bits");
        }
        assert!(first_bits.get_or_insert_with(|| first.clone()).bit_eq(&first), "and so does any number of threads");
        let mut out = [Array::zeros(F32, &[64, 700])];
        let n = steady_allocations(|| f.run_into([("x", &rows)], &mut out).unwrap());
        assert_eq!(n, 0, "20 calls on {threads} threads");
        // Another array in the same place is another weight, in the very next call and later.
        for seed in 3..6 {
            let w = init::normal(Key::new(seed), &[1024, 700], 0.0, 1.0);
            state.set("w", w.clone()).unwrap();
            let want = reference(&w);
            for _ in 0..3 {
                f.run_into([("x", &rows)], &mut out).unwrap();
                let got = &out[0].as_slice::<f32>().unwrap()[63 * 700..];
                let off = got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
                // 1024 products of normal values in f32: errors of about 32 * 2^-24 * 32 each way.
                assert!(off < 1e-3, "{off}");
            }
        }
    }
}

#[derive(Tree)]
struct Layer {
    w: Tensor,
}

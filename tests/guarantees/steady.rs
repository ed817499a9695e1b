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

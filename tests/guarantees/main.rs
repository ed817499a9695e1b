//! What lehr promises of a whole program, through the facade on native code.
//!
//! Tests here count allocations and watch memory, so that one runs at a time.

mod accuracy;
mod allocator;
mod cache;
mod digits;
mod inputs;
mod installation;
mod loops;
mod steady;

use std::sync::{Mutex, MutexGuard, PoisonError};

use lehr::prelude::*;

/// Keeps other tests of this process waiting while it lives.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cpu() -> Options {
    Options::default().backend(Backend::Cpu)
}

/// A small network over 6 numbers and its training step, with its own state.
fn small_step(options: Options) -> Executable {
    let mut keys = Keys::new(3);
    let (hidden, out) = (Dense::new(6, 16, &mut keys), Dense::glorot(16, 3, &mut keys));
    let x = Tensor::input("x", F32, ("batch", 6));
    let y = Tensor::input("y", I64, ["batch"]);
    let mut cx = Context::train();
    let logits = out.forward(&hidden.forward(&x, &mut cx).relu(), &mut cx);
    let loss = losses::softmax_cross_entropy(&logits, &y).mean();
    Adam::new(1e-3).minimize(&loss, &(hidden, out)).unwrap().compile(options).unwrap()
}

/// A batch for [`small_step`].
fn small_batch(n: usize) -> (Array, Array) {
    let x: Vec<f32> = (0..6 * n).map(|i| (i as f32 * 0.7).sin()).collect();
    let y: Vec<i64> = (0..n as i64).map(|i| i % 3).collect();
    (Array::new(&[n, 6], x).unwrap(), Array::new(&[n], y).unwrap())
}

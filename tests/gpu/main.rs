//! Functions on a device, against the other backends. Where the machine has no device, each test says so and passes.
#![allow(missing_docs)]

mod control;
mod cooperative;
mod halves;
mod numbers;
mod programs;
mod recording;
mod training;
mod tuning;

use std::sync::{Mutex, MutexGuard, PoisonError};

use lehr::prelude::*;

/// Options for a device, and the device for this test alone, so that buffers can be counted; `None`, and a printed reason, where
/// there is none.
fn gpu() -> Option<(Options, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options::default().backend(Backend::Gpu);
    match Function::new("probe").output("y", &Tensor::from(1.0f32)).compile(options.clone()) {
        Ok(_) => Some((options, turn)),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

/// The backend to compare with.
fn reference() -> Options {
    Options::default().backend(if cfg!(feature = "cpu") { Backend::Cpu } else { Backend::Interp })
}

/// The values of closed tensors.
#[track_caller]
fn values(all: &[(&str, Tensor)], options: &Options) -> Vec<Array> {
    let f = all.iter().fold(Function::new("f"), |f, (name, t)| f.output(name, t));
    let mut exe = f.compile(options.clone()).unwrap_or_else(|e| panic!("{e}"));
    exe.run(()).unwrap_or_else(|e| panic!("{e}")).into_iter().collect()
}

/// Checks that a device agrees, to a part of the greatest element.
#[track_caller]
fn agree(all: &[(&str, Tensor)], part: f64) {
    let Some((options, _turn)) = gpu() else { return };
    let (got, want) = (values(all, &options), values(all, &reference()));
    for (((name, _), g), w) in all.iter().zip(&got).zip(&want) {
        assert_eq!((g.dtype(), g.shape()), (w.dtype(), w.shape()), "{name}");
        let number = |a: &Array, i| a.data().get(i).map_or(f64::NAN, |l| l.to_f64());
        let most = (0..w.len()).map(|i| number(w, i).abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
        for i in 0..w.len() {
            let (x, y) = (number(w, i), number(g, i));
            let near = x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= part * most;
            assert!(near, "{name}, element {i}: {y} is not {x}");
        }
    }
}

//! Tests of what users name: behaviour against hand values and NumPy's conventions, and what is said of bad input.
#![allow(missing_docs)]

mod attention;
mod batches;
mod checkpoints;
mod control;
mod custom_ops;
mod data;
mod deep;
mod digits;
mod errors;
#[cfg(feature = "cpu")]
mod flops;
mod gradchecks;
mod implicit;
mod index;
mod indices;
mod jax;
mod layers;
mod lstm_digits;
mod memory;
mod minimize;
mod modes;
mod nans;
#[cfg(feature = "cpu")]
mod networks;
mod numbers;
mod ode;
mod ode_fit;
mod optimisers;
mod random;
mod recurrent;
mod reduce;
mod rules;
mod run;
mod shapes;
mod state;
mod transform;
mod trees;
mod windows;

use lehr::prelude::*;

/// The printed value of a closed tensor, or its errors.
#[track_caller]
fn check(t: &Tensor, expect: &str) {
    if let Err(e) = t.eval() {
        panic!("{e}");
    }
    assert_eq!(t.to_string(), expect);
}

/// The printed type of a tensor, or its errors.
#[track_caller]
fn check_type(t: &Tensor, expect: &str) {
    let found = t.ty().map_or_else(|e| e.to_string(), ToString::to_string);
    assert_eq!(found, expect);
}

/// The first line of what is said of a broken tensor.
fn broken(t: &Tensor) -> String {
    let text = t.check().err().map_or_else(|| "nothing".to_owned(), |e| e.to_string());
    text.lines().next().unwrap_or_default().to_owned()
}

/// Options of the reference backend.
fn interp() -> Options {
    Options::default().backend(Backend::Interp)
}

/// The backends of this build.
fn backends() -> Vec<Backend> {
    let cpu = cfg!(feature = "cpu").then_some(Backend::Cpu);
    std::iter::once(Backend::Interp).chain(cpu).collect()
}

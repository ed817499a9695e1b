//! Checks of results: against closed forms in `f64`, or against the reference evaluator.

use lehr::prelude::*;

use crate::rows::Failure;

/// An element of an `f32` array as `f64`.
pub fn at(a: &Array, i: usize) -> f64 {
    a.as_slice::<f32>().and_then(|s| s.get(i)).map_or(f64::NAN, |&x| f64::from(x))
}

/// Whether two numbers agree to a relative and absolute bound.
pub fn close(what: &str, got: f64, want: f64, bound: f64) -> Result<(), Failure> {
    if (got - want).abs() <= bound * (1.0 + want.abs()) {
        return Ok(());
    }
    Err(Failure::Mismatch(format!("{what} is {got}, not {want}")))
}

/// Compares the first call's outputs with those of the reference evaluator, run from the same state.
pub fn against_interp(
    build: &dyn Fn() -> Result<Function, lehr::Error>,
    inputs: &[Array],
    got: &[Array],
) -> Result<(), Failure> {
    let mut exe = build()?.compile(Options::default().backend(Backend::Interp))?;
    let want = exe.run(inputs)?;
    for (k, (g, w)) in got.iter().zip(want.arrays()).enumerate() {
        for i in 0..w.len() {
            close(&format!("output {k}, element {i}"), at(g, i), at(w, i), 1e-3)?;
        }
    }
    Ok(())
}

//! Layers that carry a state along the steps of a sequence.
//!
//! Each is a [`scan`](crate::control::scan) over time. What does not depend on the state, the product of all steps' inputs with
//! the kernel, is computed once, before the loop. Gates stand in one matrix, in Keras' order, so that weights can be exchanged.

use lehr_ir::loc::Loc;
use lehr_ir::{Array, DType};

use crate::control::ScanOptions;
use crate::init;
use crate::random::Keys;
use crate::tensor::{Tensor, sound};

mod gru;
mod lstm;
mod simple_rnn;

pub use gru::Gru;
pub use lstm::{Lstm, LstmState};
pub use simple_rnn::SimpleRnn;

/// The kernels of a layer with so many gates: for inputs `[features, gates · units]`, and for the state `[units, gates · units]`.
fn kernels(features: usize, units: usize, gates: usize, keys: &mut Keys) -> (Array, Array) {
    let kernel = init::glorot_uniform(keys.next(), &[features, gates * units]);
    (kernel, init::orthogonal(keys.next(), &[units, gates * units]))
}

/// The part of all steps that comes from the inputs, `[time, batch, gates · units]`.
fn project(op: &str, x: &Tensor, weight: &Tensor, bias: &Tensor, loc: &Loc) -> Result<Tensor, Tensor> {
    sound(&[x, weight, bias])?;
    let refuse = |rule: &str, help: &str| Err(Tensor::refuse(op, &[x, weight], rule, help, loc.clone()));
    if weight.rank() != 2 {
        return refuse("the weight must be [features, gates * units]", "make the layer with new, or give it a matrix");
    }
    let [_, _, features] = x.shape() else {
        return refuse("the input must be [batch, time, features]", "reshape it, or add an axis of size 1");
    };
    if x.facts().decide_eq(features, &weight.shape()[0]) != Some(true) {
        let rule = format!("the input has {features} features a step, and the layer takes {}", weight.shape()[0]);
        return refuse(&rule, "build the layer with as many features, or reshape the input");
    }
    Ok((x.matmul(weight) + bias).swap_axes(0, 1))
}

/// The state before the first step: the given one, or zeros `[batch, units]`.
fn start(given: Option<&Tensor>, rows: &Tensor, recurrent: &Tensor) -> Tensor {
    match (given, rows.shape(), recurrent.shape()) {
        (Some(state), ..) => state.clone(),
        (None, [_, batch, _], [units, _]) => {
            Tensor::zeros(rows.dtype().unwrap_or(DType::F32), [batch.clone(), units.clone()])
        }
        // An ill-typed weight is refused where it is multiplied.
        _ => rows.clone(),
    }
}

/// The direction in which a layer reads.
fn direction(reverse: bool) -> ScanOptions {
    if reverse { ScanOptions::default().reverse() } else { ScanOptions::default() }
}

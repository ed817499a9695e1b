//! The classical Runge–Kutta method with equal steps.

use lehr_ir::DType;
use lehr_ir::loc::Loc;

use super::{Rows, Slope};
use crate::control::scan;
use crate::tensor::{Tensor, size_value};

/// The values at the times, from the value at the first.
pub(super) fn rows(f: &Slope<'_>, start: &Tensor, times: &Tensor, steps: usize, loc: &Loc) -> Rows {
    let intervals = (times.slice(..-1), times.slice(1..));
    let (_, later) = scan(start, &intervals, |y, (from, to)| {
        let h = (to - from) / (steps as f64);
        let places = Tensor::arange(steps).cast_like(&h);
        let (y, ()) = scan(y, &places, |y, i| (step(f, &(from + i * &h), y, &h), ()));
        (y.clone(), y)
    });
    let rows = Tensor::concat(&[start.expand_dims(0), later], 0);
    let count = (size_value(&times.shape()[0], DType::I64, loc) - 1) * (steps as i64);
    [rows, Tensor::constant(true), count, Tensor::constant(0i64)]
}

fn step(f: &Slope<'_>, t: &Tensor, y: &Tensor, h: &Tensor) -> Tensor {
    let half = h * 0.5;
    let middle = t + &half;
    let k1 = f(t, y);
    let k2 = f(&middle, &(y + &half * &k1));
    let k3 = f(&middle, &(y + &half * &k2));
    let k4 = f(&(t + h), &(y + h * &k3));
    y + h * ((k1 + k4) * (1.0 / 6.0) + (k2 + k3) * (1.0 / 3.0))
}

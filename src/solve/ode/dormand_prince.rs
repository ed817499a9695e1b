//! Dormand and Prince's pair of orders 5 and 4, with steps as long as the tolerance allows.
//!
//! A scan over the most steps, since a loop without a known number of iterations has no reverse mode: once the last time is
//! reached, a branch does nothing. Each step gives a row, and the rows at which a time was reached are taken in the end.

use lehr_ir::DType;
use lehr_ir::loc::Loc;

use super::{OdeOptions, Rows, Slope};
use crate::control::{ScanOptions, cond, scan_with};
use crate::tensor::{Tensor, size_value};
use crate::transform::stop_gradient;
use crate::tree::Tree;

/// Where the stages stand in the step.
const C: [f64; 5] = [1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0];
/// How much of the slopes before goes into each stage.
const A: [&[f64]; 5] = [
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
];
/// The weights of order 5, which are those of the last stage as well.
const B: [f64; 6] = [35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0];
/// The weights of order 5 less those of order 4.
const E: [f64; 7] =
    [71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0];

/// Where the integration stands.
#[derive(Clone, Tree)]
struct State {
    t: Tensor,
    y: Tensor,
    /// The slope at `y`.
    k: Tensor,
    /// How long the next step is to be, without a sign.
    length: Tensor,
    /// The position of the next time to reach.
    next: Tensor,
    /// Whether the last step was too long.
    again: Tensor,
    made: Tensor,
    rejected: Tensor,
}

/// What steps are made for and measured by.
struct Course<'a> {
    f: &'a Slope<'a>,
    times: &'a Tensor,
    options: &'a OdeOptions,
}

/// The values at the times, from the value at the first.
pub(super) fn rows(f: &Slope<'_>, start: &Tensor, times: &Tensor, options: &OdeOptions, most: u32, loc: &Loc) -> Rows {
    let course = Course { f, times, options };
    let count = size_value(&times.shape()[0], DType::I64, loc);
    let first = times.slice(0);
    let k = f(&first, start);
    let zero = Tensor::constant(0i64);
    let init = State {
        length: course.first_length(&first, start, &k),
        t: first,
        y: start.clone(),
        k,
        next: Tensor::constant(1i64),
        again: Tensor::constant(false),
        made: zero.clone(),
        rejected: zero,
    };
    let (end, (ys, nexts)) = scan_with(ScanOptions::times(i64::from(most)), &init, &(), |s, ()| {
        let s = cond(&s.next.lt(&count), || course.step(s), || s.clone());
        (s.clone(), (s.y, s.next))
    });
    // A time was reached by the first step after which a later one was the next.
    let places = Tensor::arange(&times.shape()[0]);
    let by = nexts.expand_dims(0).le(places.expand_dims(1)).sum_axes(1);
    let later = ys.take(&by.slice(1..), 0);
    let all = Tensor::concat(&[start.expand_dims(0), later], 0);
    let reached = end.next.gt(&places).expand_dims(1);
    [Tensor::select(&reached, all, f64::NAN), end.next.ge(&count), end.made, end.rejected]
}

impl Course<'_> {
    /// One step, not beyond the next time, accepted or not.
    fn step(&self, s: &State) -> State {
        let target = self.times.take(&s.next, 0);
        let rest = &target - &s.t;
        // A last step that would leave next to nothing goes all the way.
        let last = (&s.length * 1.01).ge(rest.abs());
        let h = Tensor::select(&last, &rest, &s.length * rest.sign());
        let mut slopes = vec![s.k.clone()];
        for (a, c) in A.iter().zip(C) {
            let y = &s.y + &h * weighted(a, &slopes);
            slopes.push((self.f)(&(&s.t + &h * c), &y));
        }
        let y = &s.y + &h * weighted(&B, &slopes);
        let t = Tensor::select(&last, &target, &s.t + &h);
        slopes.push((self.f)(&t, &y));
        let error = stop_gradient(&(&h * weighted(&E, &slopes)));
        let size = s.y.abs().maximum(y.abs());
        let error = (error / self.allowed(&stop_gradient(&size))).square().mean().sqrt();
        // NaN is not within the tolerance, and the step is as much shorter as it may be.
        let fits = error.le(1);
        let most = Tensor::select(&s.again, error.ones_like(), 10.0);
        let factor = (0.9 * error.pow(-0.2)).clip(0.2, most);
        let factor = Tensor::select(&error.is_nan(), 0.2, factor);
        let length = stop_gradient(&h).abs() * factor;
        // A step that was cut short at a time says little about how long the next may be.
        let length = Tensor::select(&(&last & &fits), length.maximum(&s.length), length);
        let k = slopes.swap_remove(6);
        State {
            t: Tensor::select(&fits, t, &s.t),
            y: Tensor::select(&fits, y, &s.y),
            k: Tensor::select(&fits, k, &s.k),
            length,
            next: Tensor::select(&(last & &fits), &s.next + 1, &s.next),
            made: &s.made + fits.cast(DType::I64),
            rejected: &s.rejected + fits.logical_not().cast(DType::I64),
            again: fits.logical_not(),
        }
    }

    /// The error that is allowed where an element has some size.
    fn allowed(&self, size: &Tensor) -> Tensor {
        size * self.options.rtol + self.options.atol
    }

    /// The length of the first step, from the sizes of the value, its slope, and the change of the slope.
    fn first_length(&self, t: &Tensor, y: &Tensor, k: &Tensor) -> Tensor {
        let (y, k) = (stop_gradient(y), stop_gradient(k));
        let allowed = self.allowed(&y.abs());
        let measure = |v: &Tensor| (v / &allowed).square().mean().sqrt();
        let (d0, d1) = (measure(&y), measure(&k));
        let tiny = d0.lt(1e-5) | d1.lt(1e-5);
        let short = Tensor::select(&tiny, d0.full_like(1e-6), &d0 / &d1 * 0.01);
        // The times say in which direction; with a single one there is no step.
        let last = self.times.slice(-1);
        let h = &short * stop_gradient(&(&last - t)).sign();
        let turned = stop_gradient(&(self.f)(&(t + &h), &(&y + &h * &k)));
        let d2 = measure(&(turned - k)) / &short;
        let steep = d1.maximum(&d2);
        let long = Tensor::select(&steep.le(1e-15), (&short * 1e-3).maximum(1e-6), (0.01 / &steep).pow(0.2));
        let length = (&short * 100).minimum(&long);
        stop_gradient(&Tensor::select(&length.is_finite(), &length, short))
    }
}

/// The sum of slopes with weights.
fn weighted(weights: &[f64], slopes: &[Tensor]) -> Tensor {
    let mut terms = weights.iter().zip(slopes).filter(|(w, _)| **w != 0.0).map(|(w, k)| k * *w);
    match terms.next() {
        Some(first) => terms.fold(first, |sum, term| sum + term),
        None => slopes[0].zeros_like(),
    }
}

//! How far to go along a direction: a length that satisfies the strong Wolfe conditions.

use super::{Objective, State, epsilon};
use crate::control::while_loop;
use crate::tensor::Tensor;
use crate::tree::Tree;

/// The part of the decrease that the slope promises which a step must bring.
const DECREASE: f64 = 1e-4;
/// The part of the slope that may remain.
const CURVATURE: f64 = 0.9;
/// The most lengths that are tried: enough to narrow a bracket to rounding.
const MOST: i64 = 40;

/// The length found, and the function there.
pub(super) struct Found {
    pub(super) length: Tensor,
    pub(super) value: Tensor,
    pub(super) gradient: Tensor,
    /// Whether it satisfies the conditions.
    pub(super) found: Tensor,
}

/// One end of a bracket.
#[derive(Tree)]
struct End {
    length: Tensor,
    value: Tensor,
    slope: Tensor,
}

/// A search on its way. `low` decreases enough and still descends steeply; `high` does not decrease enough, or ascends; so that
/// between them lies a length that satisfies both conditions.
#[derive(Tree)]
struct Bracket {
    /// The length to try, or the one found.
    length: Tensor,
    value: Tensor,
    gradient: Tensor,
    low: End,
    high: End,
    tried: Tensor,
    found: Tensor,
}

/// A length along a descending direction that lessens the function by a part of what its slope promises, and after which the
/// slope is a part of what it was.
///
/// The bracket narrows by the minimum of a cubic through both ends, held a tenth inside, and widens fourfold as long as it has no
/// upper end.
/// # Source
/// Nocedal and Wright, "Numerical Optimization", 2nd ed., 2006, section 3.5.
pub(super) fn strong_wolfe(objective: &Objective<'_>, s: &State, towards: &Tensor, first: &Tensor) -> Found {
    let slope = towards.matmul(&s.gradient);
    // Near a minimum the decrease drowns in rounding, and the slopes alone decide.
    let rounding = s.value.abs() * epsilon(&s.value);
    let low = End { length: first.zeros_like(), value: s.value.clone(), slope: slope.clone() };
    let high = End { length: first.full_like(f64::INFINITY), value: s.value.clone(), slope: slope.clone() };
    let init = Bracket {
        length: first.clone(),
        value: s.value.clone(),
        gradient: s.gradient.clone(),
        low,
        high,
        tried: Tensor::constant(0i64),
        found: Tensor::constant(false),
    };
    let end = while_loop(
        &init,
        |b| b.found.logical_not() & b.tried.lt(MOST),
        |b| {
            let (value, gradient) = objective(&(&s.x + &b.length * towards));
            let here = towards.matmul(&gradient);
            let lessens = value.le(&s.value + DECREASE * &b.length * &slope + &rounding);
            let flat = &slope.abs() * CURVATURE;
            // NaN is neither little enough nor flat enough.
            let short = &lessens & here.lt(-&flat);
            let found = &lessens & here.abs().le(&flat);
            let long = (&short | &found).logical_not();
            let end = End { length: b.length.clone(), value: value.clone(), slope: here };
            let low = choose(&short, &end, &b.low);
            let high = choose(&long, &end, &b.high);
            let next = Tensor::select(&high.length.is_finite(), between(&low, &high), &b.length * 4);
            Bracket {
                length: Tensor::select(&found, &b.length, next),
                value,
                gradient,
                low,
                high,
                tried: &b.tried + 1,
                found,
            }
        },
    );
    Found { length: end.length, value: end.value, gradient: end.gradient, found: end.found }
}

fn choose(condition: &Tensor, yes: &End, no: &End) -> End {
    End {
        length: Tensor::select(condition, &yes.length, &no.length),
        value: Tensor::select(condition, &yes.value, &no.value),
        slope: Tensor::select(condition, &yes.slope, &no.slope),
    }
}

/// The minimum of the cubic with the values and slopes of both ends, a tenth inside at least; the middle if there is none.
fn between(low: &End, high: &End) -> Tensor {
    let width = &high.length - &low.length;
    let mean = &low.slope + &high.slope - 3.0 * (&high.value - &low.value) / &width;
    let root = (mean.square() - &low.slope * &high.slope).sqrt();
    let part = (&high.slope + &root - mean) / (&high.slope - &low.slope + 2.0 * &root);
    let part = (1.0 - part).clip(0.1, 0.9);
    let part = Tensor::select(&part.is_nan(), 0.5, part);
    &low.length + part * width
}

//! Folds over axes, and running folds as loops.

use lehr::control::{ScanOptions, scan, scan_with};
use lehr::prelude::*;

use super::elementwise::logaddexp;
use super::{Program, number, program};

const M: &[usize] = &[2, 3];

pub(super) fn programs() -> Vec<Program> {
    let mut all = folds();
    all.extend(statistics());
    all.extend(positions());
    all.extend(running());
    all
}

fn folds() -> Vec<Program> {
    vec![
        program("sum", [M], |[x]| x.sum()),
        program("sum_axis", [M], |[x]| x.square().sum_axes(0)),
        program("sum_keepdims", [M], |[x]| x / x.sum_keepdims(1)),
        program("prod", [&[5]], |[x]| x.prod()),
        program("prod_axis", [M], |[x]| x.prod_axes(1)),
        program("prod_axes", [&[2, 2, 3]], |[x]| x.prod_axes([0, 2])),
        program("max", [M], |[x]| x.max()),
        program("max_axis", [M], |[x]| (x * x.exp()).max_axes(1)),
        program("min_axis", [M], |[x]| x.sin().min_axes(0)),
        program("spread", [M], |[x]| x.square().max_axes(-1) - x.square().min_axes(-1)),
        program("logsumexp", [&[5]], |[x]| x.logsumexp()),
        program("logsumexp_axis", [M], |[x]| (3 * x).logsumexp_keepdims(1) * x),
        program("any_all", [M], |[x]| {
            let mixed = x.gt(1).any_axes(1) & !x.gt(0).all_axes(1);
            Tensor::select(&mixed, x.sum_axes(1), x.prod_axes(1))
        }),
        program("count", [M], |[x]| x.gt(0).sum() * x.square().sum()),
    ]
}

fn statistics() -> Vec<Program> {
    vec![
        program("mean", [M], |[x]| x.exp().mean()),
        program("mean_axes", [&[2, 2, 2]], |[x]| x.pow(3).mean_axes([0, 2])),
        program("var", [&[5]], |[x]| x.var()),
        program("std", [M], |[x]| x.std_axes(1)),
        program("norm", [M], |[x]| x.norm_axes(-1)),
        program("standardised", [&[3, 2]], |[x]| (x - x.mean_axes(0)) / (x.std_axes(0) + 0.1)),
        program("moments", [&[5]], |[x]| (x - x.mean()).pow(3).mean() / x.var().pow(1.5)),
    ]
}

fn positions() -> Vec<Program> {
    vec![
        program("argmax", [M], |[x]| x.argmax(1) * x.slice((.., 0))),
        program("argmax_pick", [M], |[x]| x.square().take_along_axis(&x.argmax(1).expand_dims(1), 1)),
        program("argmin_pick", [&[5]], |[x]| x * x.exp().take(&x.argmin(0), 0)),
    ]
}

fn running() -> Vec<Program> {
    vec![
        program("cumsum", [&[5]], |[x]| cumulative(&x.square(), 0.0, |c, x| c + x)),
        program("cumsum_reverse", [&[5]], |[x]| {
            let reversed = ScanOptions::default().reverse();
            scan_with(reversed, &number(x, 0.0), &x.sin(), |c, x| (c + x, c + x)).1
        }),
        program("cumprod", [&[5]], |[x]| cumulative(x, 1.0, |c, x| c * x)),
        program("cummax", [&[5]], |[x]| cumulative(&x.square(), f64::NEG_INFINITY, |c, x| c.maximum(x))),
        program("cumlogsumexp", [&[5]], |[x]| cumulative(x, f64::NEG_INFINITY, logaddexp)),
    ]
}

/// All prefixes of a vector, folded.
pub(super) fn cumulative(xs: &Tensor, start: f64, f: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let (_, all) = scan(&number(xs, start), xs, |c, x| {
        let c = f(c, x);
        (c.clone(), c)
    });
    all
}

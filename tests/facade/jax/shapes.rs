//! Moves of elements: reshapes, permutations, windows, joins, repeats, padding.

#![expect(clippy::reversed_empty_ranges, reason = "negative positions count from the end")]

use lehr::prelude::*;

use super::reductions::cumulative;
use super::{Program, program};

pub(super) fn programs() -> Vec<Program> {
    let mut all = orders();
    all.extend(windows());
    all.extend(repeats());
    all
}

fn orders() -> Vec<Program> {
    vec![
        program("reshape", [&[2, 3]], |[x]| (x.reshape((3, 2)) * (Tensor::arange(2) + 1)).reshape(-1).square()),
        program("transpose", [&[2, 3]], |[x]| x.t() * (Tensor::arange(2) + 1) * x.t()),
        program("permute", [&[2, 2, 3]], |[x]| x.permute([2, 0, 1]).square() * Tensor::arange(2)),
        program("swap_axes", [&[2, 1, 3]], |[x]| x.sin().swap_axes(0, 2)),
        program("flip", [&[2, 3]], |[x]| x.flip(0) * x),
        program("roll", [&[5]], |[x]| x.roll(1, 0) * x + x.roll(-2, 0)),
        program("expand_squeeze", [&[2, 2]], |[x]| {
            (x.slice((.., NewAxis, ..)) * x.slice((.., .., NewAxis))).squeeze(..)
        }),
    ]
}

fn windows() -> Vec<Program> {
    vec![
        program("slice", [&[3, 3]], |[x]| x.slice((1.., ..2)) * x.slice((..-1, 1..))),
        program("slice_strided", [&[6]], |[x]| x.slice(by(1.., 2)) * x.slice(by(..-1, 2))),
        program("slice_backwards", [&[5]], |[x]| x.slice(by(.., -2)).square()),
        program("slice_position", [&[3, 3]], |[x]| x.slice(-1) * x.slice((.., 0))),
        program("split", [&[6]], |[x]| {
            let parts = x.split(3, 0);
            &parts[0] * &parts[1] + parts[2].exp()
        }),
        program("differences", [&[5]], |[x]| (x.slice(1..) - x.slice(..-1)) / (1 + x.slice(..-1).square())),
        program("convolution", [&[6], &[3]], |[x, k]| {
            let term = |i: i64| x.slice(i..i + 4) * k.slice(i);
            term(0) + term(1) + term(2)
        }),
        program("moving_average", [&[6]], |[x]| (x.slice(..-2) + x.slice(1..-1) + x.slice(2..)).square() / 3),
        program("triangles", [&[3, 3]], |[x]| x.tril(0).matmul(&x.triu(1))),
        program("diagonal", [&[3, 3]], |[x]| {
            let trace = (x.matmul(x) * Tensor::eye(I64, 3)).sum();
            trace + Tensor::select(&Tensor::eye(Bool, 3), x.exp(), 0).sum()
        }),
    ]
}

fn repeats() -> Vec<Program> {
    vec![
        program("concat", [&[2, 2], &[2, 1]], |[x, y]| Tensor::concat(&[&(x * 2), y, &x.sin()], 1)),
        program("stack", [&[3], &[3]], |[x, y]| Tensor::stack(&[x * y, x + y], 1)),
        program("pad", [&[2, 2]], |[x]| {
            let padded = x.pad(&[(1, 0), (0, 2)], 0.5).square();
            // Running sums along the second axis, a row at a time.
            vmap(&padded, 0, |row| cumulative(row, 0.0, |c, x| c + x))
        }),
        program("pad_negative", [&[4]], |[x]| x.square().pad(&[(-1, 1)], 1)),
        program("tile", [&[3]], |[x]| x.tile(&[2, 2]).square()),
        program("repeat", [&[2, 2]], |[x]| x.repeat(2, 1) * Tensor::arange(4)),
        program("broadcast_to", [&[3]], |[x]| x.exp().broadcast_to((2, 3))),
    ]
}

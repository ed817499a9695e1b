//! Elements at positions: taken, added, replaced.

use lehr::ir::ops::Combine;
use lehr::prelude::*;

use super::{Program, program, vector};

pub(super) fn programs() -> Vec<Program> {
    let mut all = takes();
    all.extend(scatters());
    all
}

fn takes() -> Vec<Program> {
    vec![
        program("take", [&[3, 2]], |[x]| x.take(&Tensor::from([2, 0, 2]), 0).square()),
        program("take_negative", [&[4]], |[x]| x.sin().take(&Tensor::from([-1, 1]), 0)),
        program("take_axis", [&[2, 3]], |[x]| x.take(&Tensor::from([[0, 2], [1, 1]]), 1) * 2),
        program("take_outside", [&[3]], |[x]| x.take(&Tensor::from([1, 7, 0]), 0).square()),
        program("take_along_axis", [&[2, 3]], |[x]| x.take_along_axis(&Tensor::from([[2, 0], [1, 1]]), 1).pow(3)),
        program("take_by_argument", [&[5]], |[x]| x.take(&x.slice(..1).square().floor().cast(I64), 0) * x),
        program("one_hot", [&[3]], |[x]| Tensor::from([1, 0, 2]).one_hot(3, F64).cast_like(x).matmul(&x.exp())),
        program("embedding_bag", [&[3, 2]], |[t]| t.take(&Tensor::from([[0, 2], [1, 1]]), 0).sum_axes(1).tanh()),
    ]
}

fn scatters() -> Vec<Program> {
    vec![
        program("scatter_add", [&[4], &[3]], |[x, u]| x.scatter_add(&Tensor::from([1, 3, 1]), u * u, 0).square()),
        program("scatter_add_rows", [&[3, 2], &[2, 2]], |[x, u]| x.sin().scatter_add(&Tensor::from([2, 0]), u, 0)),
        program("scatter_outside", [&[3], &[2]], |[x, u]| x.scatter_add(&Tensor::from([0, 9]), u, 0).square()),
        program("put", [&[4], &[2]], |[x, u]| x.put(&Tensor::from([2, 0]), u * 2, 0).square()),
        program("put_axis", [&[2, 3], &[2, 1]], |[x, u]| x.square().put(&Tensor::from([1]), u, 1)),
        program("scatter_mul", [&[3]], |[x]| {
            x.square().scatter(Combine::Mul, &Tensor::from([2, 0]), vector(x, &[3.0, -0.5]), 0)
        }),
        program("segment_sum", [&[5]], |[x]| {
            vector(x, &[0.0; 3]).scatter_add(&Tensor::from([0, 1, 0, 2, 1]), x.square(), 0)
        }),
    ]
}

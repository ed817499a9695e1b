//! Sums of products: dot products, stacks of matrices, what `einsum` writes, attention.

use lehr::prelude::*;

use super::{Program, program};

pub(super) fn programs() -> Vec<Program> {
    let mut all = products();
    all.extend(compositions());
    all
}

fn products() -> Vec<Program> {
    vec![
        program("dot_of_vectors", [&[4], &[4]], |[a, b]| a.dot(b)),
        program("matvec", [&[2, 3], &[3]], |[a, b]| a.matmul(b)),
        program("vecmat", [&[2], &[2, 3]], |[a, b]| a.matmul(b)),
        program("matmul", [&[2, 3], &[3, 2]], |[a, b]| a.matmul(b)),
        program("matmul_batched", [&[2, 2, 2], &[2, 2, 2]], |[a, b]| a.matmul(b)),
        program("matmul_broadcast", [&[2, 1, 2, 2], &[2, 2, 1]], |[a, b]| a.matmul(b)),
        program("dot_of_stacks", [&[2, 1, 2], &[2, 2, 1]], |[a, b]| a.dot(b)),
        program("tensordot", [&[2, 1, 3], &[3, 2, 2]], |[a, b]| a.tensordot(b, [0, 2], [1, 0])),
        program("outer", [&[3], &[2]], |[a, b]| a.outer(b)),
        program("einsum_chain", [&[2, 2], &[2, 3], &[3, 1]], |[a, b, c]| a.matmul(b).matmul(c)),
        program("einsum_transposed", [&[2, 2, 2], &[2, 1, 2]], |[a, b]| b.matmul(&a.transpose())),
        program("einsum_hadamard", [&[2, 3], &[2, 3]], |[a, b]| (a * b).sum_axes(1)),
    ]
}

fn compositions() -> Vec<Program> {
    vec![
        program("bilinear", [&[2], &[2, 3], &[3]], |[x, a, y]| x.matmul(a).dot(y)),
        program("quadratic_form", [&[3], &[3, 3]], |[x, a]| x.matmul(&(a + a.t())).dot(x)),
        program("gram", [&[3, 2]], |[x]| x.t().matmul(x).tanh()),
        program("trace_of_product", [&[2, 3], &[3, 2]], |[a, b]| (a * b.t()).sum()),
        program("matrix_power", [&[2, 2]], |[a]| a.matmul(a).matmul(a)),
        program("determinant", [&[2, 2]], |[a]| {
            let at = |i: i64, j: i64| a.slice((i, j));
            at(0, 0) * at(1, 1) - at(0, 1) * at(1, 0)
        }),
        program("rayleigh_quotient", [&[2, 2], &[2]], |[a, x]| x.matmul(a).dot(x) / x.dot(x)),
        program("attention", [&[3, 2], &[3, 2], &[3, 2]], |[q, k, v]| attention(&scores(q, k), v)),
        program("attention_causal", [&[3, 2], &[3, 2], &[3, 2]], |[q, k, v]| {
            let mask = Tensor::ones(Bool, (3, 3)).tril(0);
            attention(&Tensor::select(&mask, scores(q, k), f64::NEG_INFINITY), v)
        }),
    ]
}

pub(super) fn scores(q: &Tensor, k: &Tensor) -> Tensor {
    q.matmul(&k.t()) / 2f64.sqrt()
}

pub(super) fn attention(scores: &Tensor, v: &Tensor) -> Tensor {
    scores.softmax(-1).matmul(v)
}

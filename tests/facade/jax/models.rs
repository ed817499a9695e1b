//! Small models and objectives.

use lehr::prelude::*;

use super::contractions::{attention, scores};
use super::{Program, filled, program, vector};

pub(super) fn programs() -> Vec<Program> {
    let mut all = networks();
    all.extend(objectives());
    all
}

fn networks() -> Vec<Program> {
    const MLP: [&[usize]; 4] = [&[2, 2], &[2, 3], &[3], &[3, 1]];
    vec![
        program("mlp_tanh", MLP, |[x, a, b, c]| (x.matmul(a) + b).tanh().matmul(c)),
        program("mlp_relu", MLP, |[x, a, b, c]| (x.matmul(a) + b).relu().matmul(c)),
        program("mlp_deep", [&[1, 2], &[2, 2], &[2, 2], &[2, 2]], |[x, a, b, c]| {
            x.matmul(a).tanh().matmul(b).softplus().matmul(c).sin()
        }),
        program("residual_block", [&[2, 2], &[2, 3], &[3, 2]], |[x, a, b]| x + x.matmul(a).gelu().matmul(b)),
        program("gated_unit", [&[2, 2], &[2, 2], &[2, 2]], |[x, a, b]| x.matmul(a).sigmoid() * x.matmul(b).tanh()),
        program("mixture_of_experts", [&[2], &[2, 3], &[3, 2, 2]], |[x, gates, weights]| {
            let answers = weights.tensordot(x, [1], [0]).tanh();
            x.matmul(gates).softmax(0).matmul(&answers)
        }),
        program("autoencoder", [&[3, 3], &[3, 2]], |[x, w]| losses::mse(&x.matmul(w).tanh().matmul(&w.t()), x).mean()),
        program("transformer_block", [&[3, 2], &[2, 6], &[2, 2]], |[x, wqkv, w]| {
            let qkv = x.matmul(wqkv).split(3, 1);
            let x = x + attention(&scores(&qkv[0], &qkv[1]), &qkv[2]);
            &x + x.layer_norm(-1, 0.1).matmul(w).silu()
        }),
        program("message_passing", [&[3, 2], &[2, 2]], |[x, w]| {
            let (senders, receivers) = (Tensor::from([0, 1, 2, 2]), Tensor::from([1, 2, 0, 1]));
            let sent = x.matmul(w).take(&senders, 0);
            (filled(x, &[3, 2], 0.0).scatter_add(&receivers, sent, 0) + x).tanh()
        }),
        program("normalising_flow", [&[3], &[3], &[3]], |[x, s, t]| {
            let scale = s.tanh();
            (x * scale.exp() + t).square().sum() * 0.5 - scale.sum()
        }),
    ]
}

fn objectives() -> Vec<Program> {
    vec![
        program("logistic_regression", [&[3, 2], &[2], &[1]], |[x, w, b]| {
            let z = x.matmul(w) + b;
            losses::sigmoid_cross_entropy(&z, &vector(x, &[1.0, 0.0, 1.0])).mean() + w.square().sum() * 0.1
        }),
        program("polynomial", [&[5], &[4]], |[x, c]| {
            let at = |i: i64| c.slice(i);
            (at(0) + at(1) * x + at(2) * x.pow(2) + at(3) * x.pow(3) - x.sin()).square().mean()
        }),
        program("rosenbrock", [&[4]], |[x]| {
            let (head, tail) = (x.slice(..-1), x.slice(1..));
            ((tail - head.square()).square() * 100 + (1 - head).square()).sum()
        }),
        program("pairwise_energy", [&[3, 2]], |[x]| {
            let r2 = (x.expand_dims(1) - x.expand_dims(0)).square().sum_axes(-1) + 0.1;
            (1 / r2.pow(3) - 1 / r2).triu(1).sum()
        }),
        program("kernel_regression", [&[3], &[3], &[1]], |[x, y, at]| {
            let w = (-(at - x).square()).exp();
            w.dot(y) / w.sum()
        }),
    ]
}

//! Composites over an axis, normalisations and losses.

use lehr::prelude::*;

use super::{Program, program, vector};

const V: &[usize] = &[4];
const M: &[usize] = &[2, 3];

pub(super) fn programs() -> Vec<Program> {
    let mut all = normalisations();
    all.extend(of_classes());
    all.extend(of_numbers());
    all
}

fn normalisations() -> Vec<Program> {
    vec![
        program("softmax", [M], |[x]| (2 * x).softmax(-1)),
        program("softmax_first_axis", [M], |[x]| x.softmax(0)),
        program("log_softmax", [M], |[x]| x.log_softmax(-1)),
        program("softmax_temperature", [V, &[1]], |[x, t]| (x / t).softmax(0)),
        program("layer_norm", [M, &[3], &[3]], |[x, g, b]| x.layer_norm(-1, 1e-5) * g + b),
        program("rms_norm", [M, &[3]], |[x, g]| x * (x.square().mean_keepdims(-1) + 1e-3).rsqrt() * g),
        program("batch_norm", [&[3, 2], &[2]], |[x, g]| (x - x.mean_axes(0)) * (x.var_axes(0) + 1e-3).rsqrt() * g),
    ]
}

fn of_classes() -> Vec<Program> {
    vec![
        program("softmax_cross_entropy", [M], |[x]| losses::softmax_cross_entropy(x, &Tensor::from([2, 0]))),
        program("cross_entropy_soft", [M, M], |[x, t]| losses::cross_entropy(x, &t.softmax(-1))),
        program("sigmoid_cross_entropy", [V], |[x]| {
            losses::sigmoid_cross_entropy(x, &vector(x, &[1.0, 0.0, 0.25, 1.0]))
        }),
        program("kl_divergence", [V, V], |[p, q]| (p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum()),
        program("entropy", [M], |[x]| -(x.softmax(-1) * x.log_softmax(-1)).sum_axes(-1)),
        program("focal", [V], |[x]| -(1 - x.sigmoid()).square() * x.log_sigmoid()),
        program("contrastive", [&[3, 2]], |[x]| {
            let logs = (x.matmul(&x.t()) / 0.5).log_softmax(1);
            -(logs * Tensor::eye(I64, 3)).sum_axes(1)
        }),
    ]
}

fn of_numbers() -> Vec<Program> {
    vec![
        program("mse", [V, V], |[x, y]| losses::mse(x, y).mean()),
        program("mae", [V, V], |[x, y]| losses::mae(x, y).mean()),
        program("huber", [V, V], |[x, y]| losses::huber(x, y, 0.75)),
        program("cosine_similarity", [V, V], |[x, y]| x.dot(y) / (x.dot(x) * y.dot(y)).sqrt()),
        program("hinge", [V, V], |[x, y]| (1 - x * y.sign()).maximum(0).mean()),
        program("gaussian_likelihood", [V, V, V], |[x, m, s]| (((x - m) / s.exp()).square() * 0.5 + s).sum()),
        program("gaussian_mixture", [V, &[2], &[2]], |[x, means, logits]| {
            let each = logits.log_softmax(0) - (x.expand_dims(1) - means).square() * 0.5;
            -each.logsumexp_axes(1).sum()
        }),
    ]
}

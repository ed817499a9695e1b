//! Derivatives and batching inside programs, which are differentiated and batched again.

use lehr::control::{cond, fori_loop, scan, while_loop};
use lehr::prelude::*;

use super::reductions::cumulative;
use super::{Program, filled, number, program};

const NET: [&[usize]; 2] = [&[2], &[2, 2]];
const ROWS: [&[usize]; 2] = [&[3, 2], &[2]];

pub(super) fn programs() -> Vec<Program> {
    let mut all = learning();
    all.extend(batched());
    all.extend(orders());
    all.extend(through_control());
    all.extend(stopped());
    all
}

/// A scalar of a vector and a matrix.
fn net(x: &Tensor, w: &Tensor) -> Tensor {
    w.matmul(x).tanh().dot(x)
}

fn learning() -> Vec<Program> {
    vec![
        program("gradient_penalty", NET, |[x, w]| (grad(&net(x, w), x).norm() - 1).square()),
        program("gradient_step", NET, |[x, w]| net(&(x - grad(&net(x, w), x) * 0.1), w)),
        program("newton_step", [&[2], &[]], |[x, a]| {
            let f = x.cosh().sum() + a * x.prod() * 0.25;
            let g = grad(&f, x);
            let h = hessian(&f, x);
            let at = |i: i64, j: i64| h.slice((i, j));
            let det = at(0, 0) * at(1, 1) - at(0, 1) * at(1, 0);
            let (g0, g1) = (g.slice(0), g.slice(1));
            let first = at(1, 1) * &g0 - at(0, 1) * &g1;
            let second = at(0, 0) * g1 - at(1, 0) * g0;
            x - Tensor::stack(&[first, second], 0) / det
        }),
        program("inner_loop", [&[2], &[3]], |[w, xs]| {
            let loss = |w: &Tensor, x: &Tensor| ((w.slice(0) * x).tanh() + w.slice(1) - x * x).square();
            vmap(xs, 0, |x| loss(&(w - grad(&loss(w, x), w) * 0.1), x))
        }),
        program("fisher_information", [&[3, 2]], |[x]| {
            let outer = |r: &Tensor| {
                let g = grad(&r.logsumexp(), r);
                g.outer(&g)
            };
            vmap(x, 0, outer).sum_axes(0)
        }),
        program("gradient_norms", ROWS, |[x, w]| vmap(x, 0, |r| grad(&r.dot(w).square(), w).norm())),
        program("grad_in_scan", [&[3, 2], &[2, 2]], |[xs, w]| {
            scan(&filled(xs, &[2], 1.0), xs, |c, x| (c - grad(&net(x, w), x) * c * 0.1, c * x)).1
        }),
    ]
}

fn batched() -> Vec<Program> {
    vec![
        program("jvp_in_vmap", [&[2, 2], &[2, 2]], |[x, v]| vmap(&(x, v), 0, |(x, v)| jvp(&(x.sin() * x.sum()), x, v))),
        program("vmap_in_grad", ROWS, |[x, w]| grad(&vmap(x, 0, |r| r.dot(w).tanh().square()).sum(), w)),
        program("grad_in_vmap", ROWS, |[x, w]| vmap(x, 0, |r| grad(&r.dot(w).sin(), w))),
        program("vmap_of_vmap", [&[2, 2], &[3, 2]], |[x, y]| {
            vmap(x, 0, |a| vmap(y, 0, |b| (-(a - b).square().sum()).exp()))
        }),
        program("vmap_columns", [&[2, 3]], |[x]| vmap(x, 1, |c| c.softmax(0).dot(c))),
    ]
}

fn orders() -> Vec<Program> {
    let two = |x: &Tensor| Tensor::stack(&[x.slice(0) * x.slice(1), x.slice(0).sin()], 0);
    vec![
        program("hessian_vector_product", [&[3], &[3]], |[x, v]| jvp(&grad(&(x.exp() * x.flip(0)).sum(), x), x, v)),
        program("hessian_trace", [&[3]], |[x]| {
            (hessian(&(x.pow(4).sum() * x.slice(0)), x) * Tensor::eye(I64, 3)).sum()
        }),
        program("jacobian_columns", [&[2]], move |[x]| jacfwd(&two(x), x)),
        program("jacobian_rows", [&[2]], move |[x]| jacrev(&two(x), x)),
        program("vjp", [&[3], &[3]], |[x, c]| vjp(&cumulative(&x.pow(3), 0.0, |a, b| a + b), x, c)),
        program("third_derivative", [&[]], |[x]| {
            let y = x.sin() * (x / 2).exp();
            grad(&grad(&grad(&y, x), x), x)
        }),
        program("mixed_partials", [&[], &[]], |[x, y]| grad(&grad(&((x * y).sin() * y), x), y)),
        program("laplacian", [&[2]], |[x]| {
            let f = (-x.dot(x)).exp();
            vmap(&Tensor::eye(F64, 2).cast_like(x), 0, |v| jvp(&jvp(&f, x, v), x, v)).sum()
        }),
    ]
}

fn through_control() -> Vec<Program> {
    vec![
        program("grad_of_cond", [&[2]], |[x]| {
            let y = cond(&x.slice(0).gt(0), || x.slice(0).pow(3) * x.slice(1), || x.sin().sum());
            grad(&y, x)
        }),
        program("grad_of_scan", [&[3], &[]], |[x, w]| {
            let (_, ys) = scan(&number(x, 0.5), x, |c, x| ((c * w + x).sin(), c * x));
            grad(&ys.sum(), x)
        }),
        program("jvp_of_while", [&[]], |[x]| jvp(&while_loop(x, |y| y.lt(9), |y| y * y + x), x, &x.ones_like()))
            .forward(),
        program("jvp_of_fori", [&[2], &[2]], |[x, v]| jvp(&fori_loop(0, 3, x, |_, y| y.sin() * x), x, v)),
    ]
}

fn stopped() -> Vec<Program> {
    vec![
        program("stop_gradient", [&[4]], |[x]| stop_gradient(&x.square()) * x),
        program("straight_through", [&[4]], |[x]| (x + stop_gradient(&(x.round() - x))).square()),
        program("detached_target", [&[3], &[3]], |[x, w]| {
            ((x * w).tanh() - stop_gradient(&(x * w * w))).square().sum()
        }),
        program("score_function", [&[4]], |[x]| (stop_gradient(&x.square()) * x.log_softmax(0)).sum()),
        program("checkpoint", NET, |[x, w]| checkpoint(x, Checkpoint::Nothing, |x| w.matmul(&w.matmul(x).sin()).sin())),
        program("implicit_root", [&[3]], |[a]| {
            // One corrected step from a detached root: its value is the root, and its slope the implicit one.
            let y = stop_gradient(&a.sqrt());
            &y - (y.square() - a) / stop_gradient(&(2 * &y))
        }),
    ]
}

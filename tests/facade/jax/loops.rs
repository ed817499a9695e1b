//! Loops: scans, counted loops, loops while a condition holds, prefixes, maps.

use lehr::control::{ScanOptions, associative_scan, fori_loop, map, scan, scan_with, while_loop};
use lehr::prelude::*;

use super::{Program, filled, number, program, vector};

pub(super) fn programs() -> Vec<Program> {
    let mut all = recurrent();
    all.extend(scans());
    all.extend(filters());
    all.extend(dynamics());
    all.extend(counted());
    all.extend(conditional());
    all.extend(prefixes());
    all
}

fn recurrent() -> Vec<Program> {
    const RNN: [&[usize]; 3] = [&[3, 2], &[2, 2], &[2, 2]];
    vec![
        program("rnn", RNN, |[xs, u, w]| rnn(ScanOptions::default(), xs, u, w)),
        program("rnn_reversed", RNN, |[xs, u, w]| rnn(ScanOptions::default().reverse(), xs, u, w)),
        program("rnn_unrolled", [&[5, 2], &[2]], |[xs, w]| {
            let step = |h: &Tensor, x: &Tensor| ((h * w + x).tanh(), h * x);
            scan_with(ScanOptions::default().unroll(2), &filled(xs, &[2], 0.0), xs, step).1
        }),
        program("gru", [&[3, 1], &[1, 6], &[2, 6]], |[xs, u, w]| gru(xs, u, w)),
        program("lstm", [&[2, 1], &[1, 8], &[2, 8]], |[xs, u, w]| lstm(xs, u, w)),
        program("checkpointed_scan", [&[3, 2], &[2, 2]], |[xs, w]| {
            let step = |(h, x): &(Tensor, Tensor)| (w.matmul(h) + x).tanh();
            scan(&filled(xs, &[2], 1.0), xs, |h, x| (checkpoint(&(h, x), Checkpoint::Nothing, step), ())).0
        }),
    ]
}

fn rnn(options: ScanOptions, xs: &Tensor, u: &Tensor, w: &Tensor) -> Tensor {
    let (h, ys) = scan_with(options, &filled(xs, &[2], 0.25), xs, |h, x| {
        let h = (x.matmul(u) + h.matmul(w)).tanh();
        (h.clone(), h.square())
    });
    Tensor::concat(&[ys, h.expand_dims(0)], 0)
}

fn gru(xs: &Tensor, u: &Tensor, w: &Tensor) -> Tensor {
    let (h, ()) = scan(&filled(xs, &[2], 0.0), xs, |h, x| {
        let (a, b) = (x.matmul(u).split(3, 0), h.matmul(w).split(3, 0));
        let (z, r) = ((&a[0] + &b[0]).sigmoid(), (&a[1] + &b[1]).sigmoid());
        ((1 - &z) * h + z * (&a[2] + r * &b[2]).tanh(), ())
    });
    h
}

fn lstm(xs: &Tensor, u: &Tensor, w: &Tensor) -> Tensor {
    let start = (filled(xs, &[2], 0.5), filled(xs, &[2], 0.0));
    let ((_, c), hs) = scan(&start, xs, |(h, c), x| {
        let gates = (x.matmul(u) + h.matmul(w)).split(4, 0);
        let c = (&gates[1] + 1).sigmoid() * c + gates[0].sigmoid() * gates[2].tanh();
        let h = gates[3].sigmoid() * c.tanh();
        ((h.clone(), c), h)
    });
    Tensor::concat(&[hs, c.expand_dims(0)], 0)
}

fn scans() -> Vec<Program> {
    vec![
        program("scan_tree", [&[3], &[3, 2]], |[a, b]| {
            let start = (number(a, 1.0), vector(a, &[0.5, -0.5]));
            let ((p, q), (rows, ps)) =
                scan(&start, &(a, b), |(p, q), (s, v)| ((p * s + q.sum(), q.sin() + v * p), (q * s, p.clone())));
            Tensor::concat(&[p.reshape(1), q, rows.flatten(), ps], 0)
        }),
        program("scan_times", [&[2], &[2]], |[x, a]| {
            scan_with(ScanOptions::times(4), x, &(), |c, &()| (c.sin() * a, c * a)).1
        }),
        program("scan_nested", [&[2, 3]], |[x]| {
            let (total, ys) = scan(&number(x, 1.0), x, |total, xs| {
                let (inner, ys) = scan(&number(x, 0.1), xs, |c, x| ((c + x * total).tanh(), c * x));
                (total + inner, ys)
            });
            ys * total
        }),
        program("scan_captures", [&[3, 2], &[], &[2]], |[xs, a, b]| {
            scan(&number(xs, 0.5), xs, |c, x| (c * a.exp() + x.dot(b), c * x)).1
        }),
        program("scan_of_indices", [&[3]], |[x]| {
            scan(&number(x, 1.0), &Tensor::from([2, 0, 1, 2]), |c, i| {
                let x = x.take(i, 0);
                (c * &x + 1, c + x)
            })
            .1
        }),
        program("scan_polynomial", [&[4], &[2]], |[c, x]| scan(&filled(x, &[2], 0.0), c, |acc, a| (acc * x + a, ())).0),
        program("scan_of_matrices", [&[3, 2, 2]], |[a]| {
            scan(&Tensor::eye(F64, 2).cast_like(a), a, |p, m| (p.matmul(m), p.slice(0))).1
        }),
    ]
}

fn filters() -> Vec<Program> {
    vec![
        program("hidden_markov", [&[2, 2], &[2, 3]], |[transition, emission]| {
            let (t, e) = (transition.log_softmax(-1), emission.log_softmax(-1));
            let start = vector(transition, &[0.5, 0.5]).log();
            let (alpha, ()) = scan(&start, &Tensor::from([0, 2, 1]), |alpha, symbol| {
                ((alpha.expand_dims(1) + &t).logsumexp_axes(0) + e.take(symbol, 1), ())
            });
            alpha.logsumexp()
        }),
        program("kalman_filter", [&[4], &[2]], |[ys, logs]| {
            let (q, r) = (logs.slice(0).exp(), logs.slice(1).exp());
            scan(&(number(ys, 0.0), number(ys, 1.0)), ys, |(m, p), y| {
                let p = p + &q;
                let s = &p + &r;
                let (gain, d) = (&p / &s, y - m);
                ((m + &gain * &d, (1 - gain) * p), (d.square() / &s + s.log()) * 0.5)
            })
            .1
        }),
        program("viterbi", [&[3, 2], &[2, 2]], |[scores, transition]| {
            scan(&filled(scores, &[2], 0.0), scores, |best, s| ((best.expand_dims(1) + transition).max_axes(0) + s, ()))
                .0
        }),
    ]
}

fn dynamics() -> Vec<Program> {
    vec![
        program("euler_steps", [&[2], &[2]], |[x, a]| {
            scan_with(ScanOptions::times(5), x, &(), |x, &()| {
                let x = x + (a * x.flip(0) - x.pow(3)) * 0.1;
                (x.clone(), x)
            })
            .1
        }),
        program("leapfrog", [&[2], &[2]], |[q, p]| {
            let (q, p) = fori_loop(0, 4, &(q, p), |_, (q, p)| {
                let p = p - q.sin() * 0.05;
                let q = q + &p * 0.1;
                let half = q.sin() * 0.05;
                (q, p - half)
            });
            Tensor::stack(&[q, p], 0)
        }),
        program("momentum_descent", [&[2], &[2], &[]], |[x, target, rate]| {
            let start = (x.clone(), filled(x, &[2], 0.0));
            let ((x, _), sums) = scan_with(ScanOptions::times(3), &start, &(), |(x, m), &()| {
                let slope = grad(&(x.square() - target).square().sum(), x);
                let m = m * 0.5 + slope;
                ((x - rate.sigmoid() * &m * 0.02, m), x.sum())
            });
            Tensor::concat(&[x, sums], 0)
        }),
    ]
}

fn counted() -> Vec<Program> {
    vec![
        program("fori_power", [&[3]], |[x]| fori_loop(0, 4, &x.ones_like(), |i, y| y * x + i)),
        program("fori_index", [&[4]], |[x]| {
            fori_loop(0, 4, &number(x, 0.5), |i, s| (s + x.take(i, 0)).sin() * (i + 1))
        }),
        program("fori_tree", [&[2], &[2]], |[x, y]| {
            let (a, b) = fori_loop(1, 4, &(x, y), |i, (a, b)| (a * b, a + b / i));
            a * b
        }),
        program("fori_update", [&[4]], |[x]| {
            fori_loop(1, 4, x, |i, y| y.scatter_add(i, y.take(&(i - 1), 0).square(), 0))
        }),
        program("fori_empty", [&[2]], |[x]| fori_loop(3, 3, &(x * 2), |_, y| y * x)),
        program("fori_given", [&[4]], |[x]| fori_loop(0, &(x.gt(0).sum() + 1), x, |i, y| y * y.cos() + i)).forward(),
    ]
}

fn conditional() -> Vec<Program> {
    let all = vec![
        program("while_newton", [&[3]], |[a]| {
            let go = |i: &Tensor, x: &Tensor| i.lt(20) & (x.square() - a).abs().max().gt(1e-9);
            let step = |i: &Tensor, x: &Tensor| (i + 1, (x + a / x) * 0.5);
            while_loop(&(Tensor::from(0i64), a), |(i, x)| go(i, x), |(i, x)| step(i, x)).1
        }),
        program("while_doubling", [&[]], |[x]| while_loop(x, |y| y.lt(50), |y| y * y + 1)),
        program("while_tree", [&[3], &[]], |[x, limit]| {
            let go = |x: &Tensor| x.sum().lt(&(20 * (1 + limit)));
            let (n, x) = while_loop(&(Tensor::from(0i64), x), |(_, x)| go(x), |(n, x)| (n + 1, x * (1 + limit) + 0.1));
            x * n
        }),
        program("while_any", [&[3]], |[x]| while_loop(x, |y| y.gt(0.5).any(), |y| y.sin() * 0.75)),
        program("while_in_scan", [&[3]], |[xs]| {
            scan(&number(xs, 1.0), xs, |c, x| (while_loop(c, |y| y.lt(3), |y| y * (1 + x)) - 2, c.clone())).1
        }),
    ];
    all.into_iter().map(Program::forward).collect()
}

fn prefixes() -> Vec<Program> {
    vec![
        program("associative_sum", [&[7]], |[x]| associative_scan(&x.sin(), |a, b| a + b)),
        program("associative_affine", [&[5], &[5]], |[a, b]| {
            let (p, q) = associative_scan(&(a, b), |f, g| (&f.0 * &g.0, &f.1 * &g.0 + &g.1));
            Tensor::stack(&[p, q], 0)
        }),
        program("associative_matrices", [&[3, 2, 2]], |[a]| associative_scan(a, |a, b| a.matmul(b))),
        program("associative_max", [&[6]], |[x]| associative_scan(&x.square(), |a, b| a.maximum(b))),
        program("map_rows", [&[3, 2]], |[x]| map(x, |r| r.norm() * r)),
        program("map_tree", [&[3, 2], &[3, 2]], |[x, y]| map(&(x, y), |(a, b)| a.exp().dot(b))),
    ]
}

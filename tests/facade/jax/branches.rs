//! Branches: one of two or more computations, also inside loops and under `vmap` with a predicate for each example.

use lehr::control::{cond, fori_loop, scan, switch, while_loop};
use lehr::prelude::*;

use super::{Program, filled, number, program, vector};

const TWO: [&[usize]; 1] = [&[2]];

pub(super) fn programs() -> Vec<Program> {
    let mut all = choices();
    all.extend(in_loops());
    all
}

fn choices() -> Vec<Program> {
    vec![
        program("cond", TWO, |[x]| cond(&x.slice(0).gt(0), || x.sin(), || x.square())),
        program("cond_taken", TWO, |[x]| cond(&Tensor::from(true), || x.sin(), || x.square())),
        program("cond_not_taken", TWO, |[x]| cond(&Tensor::from(false), || x.sin(), || x.square())),
        program("cond_tree", TWO, |[x]| {
            let (s, v) = cond(&x.slice(0).gt(x.slice(1)), || (x.sum(), x * 2), || (x.prod(), x.cos()));
            s * v
        }),
        program("cond_nested", TWO, |[x]| {
            let inner = || cond(&x.slice(1).gt(0), || x.pow(3), || x.exp());
            cond(&x.slice(0).gt(0), inner, || x.flip(0) * x)
        }),
        program("cond_constant_branch", TWO, |[x]| {
            cond(&x.slice(0).gt(0), || filled(x, &[2], 1.0), || x * x.slice(1)) * x
        }),
        program("cond_of_sums", [&[2], &[2, 2]], |[x, w]| cond(&x.sum().gt(0), || w.matmul(x), || x.matmul(w))),
        program("cond_out_of_domain", TWO, |[x]| cond(&x.slice(0).gt(0), || x.slice(0).log(), || x.slice(1).square())),
        program("clipped_ratio", TWO, |[x]| cond(&x.slice(1).abs().gt(0.3), || x.slice(0) / x.slice(1), || x.slice(0))),
        program("switch", TWO, |[x]| {
            let branches: [&dyn Fn() -> Tensor; 3] = [&|| x.clone(), &|| x.pow(3), &|| (-x).exp()];
            switch(&x.slice(0).floor().cast(I64), branches)
        }),
    ]
}

fn in_loops() -> Vec<Program> {
    vec![
        program("cond_in_scan", [&[5]], |[xs]| {
            let step = |c: &Tensor, x: &Tensor| {
                let c = cond(&x.gt(0), || c * x, || c.sin() + x);
                let y = cond(&c.gt(1), || c.square(), || x.clone());
                (c, y)
            };
            scan(&number(xs, 1.5), xs, step).1
        }),
        program("switch_in_scan", [&[4], &[2]], |[xs, w]| {
            let (first, last) = (w.slice(0), w.slice(1));
            let rows = (Tensor::from([2, 0, 1, 2]), xs);
            let step = |c: &Tensor, i: &Tensor, x: &Tensor| {
                let branches: [&dyn Fn() -> Tensor; 3] = [&|| c * &first + x, &|| c * x, &|| (c + &last).tanh()];
                switch(i, branches)
            };
            scan(&number(xs, 0.5), &rows, |c, (i, x)| (step(c, i, x), c.clone())).1
        }),
        program("scan_in_cond", TWO, |[x]| {
            let loops = || scan(&number(x, 1.0), x, |c, y| (c * y + 1, ())).0;
            cond(&x.slice(0).gt(0), loops, || x.sum())
        }),
        program("cond_in_while", TWO, |[x]| {
            let grown = |y: &Tensor| y * vector(y, &[0.5, 1.5]);
            let step = |y: &Tensor| cond(&y.slice(0).gt(y.slice(1)), || grown(y), || y + x);
            while_loop(&(Tensor::from(0i64), x), |(i, _)| i.lt(5), |(i, y)| (i + 1, step(y))).1
        })
        .forward(),
        program("cond_in_fori", TWO, |[x]| {
            fori_loop(0, 4, x, |i, y| cond(&i.remainder(2).eq(0), || y * x, || y + x.sin()))
        }),
        program("while_in_cond", TWO, |[x]| {
            let loops = || while_loop(x, |y| y.slice(0).abs().lt(9), |y| y * 3);
            cond(&x.slice(0).gt(0), loops, || x.square())
        })
        .forward(),
    ]
}

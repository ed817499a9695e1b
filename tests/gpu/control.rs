//! Loops and branches: rows that shaders bind where they lie and rows that they do not, and what the host decides by.

use lehr::control::{ScanOptions, cond, fori_loop, scan_with, switch, while_loop};
use lehr::prelude::*;

use crate::agree;

#[test]
fn scans_carry_and_stack() {
    // Rows of 256 bytes start where a buffer can be bound, rows of 4 bytes do not, and rows of a byte are no whole words.
    for width in [64, 1] {
        let xs = random::normal(Key::new(1), F32, (5, width));
        for options in [ScanOptions::default(), ScanOptions::default().reverse()] {
            let (sum, rows) = scan_with(options, &Tensor::zeros(F32, width), &xs, |sum, x| {
                let sum = sum * 0.5 + x.tanh();
                (sum.clone(), (&sum * 2.0, sum.gt(0.0)))
            });
            let found = [("sum", sum.clone()), ("rows", rows.0), ("signs", rows.1), ("slope", grad(&sum.sum(), &xs))];
            agree(&found, 1e-5);
        }
    }
}

#[test]
fn loops_on_conditions_end() {
    let x = Tensor::from(3.0f32);
    let y = while_loop(&(x.clone(), Tensor::from(0)), |(y, _)| y.lt(100.0), |(y, n)| (y * y, n + 1));
    let z = fori_loop(0, 5, &x, |i, y| y + i.cast(F32));
    let none = fori_loop(3, 1, &x, |_, y| y * 10.0);
    agree(&[("y", y.0), ("turns", y.1), ("z", z), ("none", none)], 1e-6);
}

#[test]
fn branches_are_chosen_and_clamped() {
    let x = Tensor::from([1.0f32, -2.0]);
    let both = |p: bool| cond(&Tensor::from(p), || &x * 2.0, || x.exp());
    let of = |i: i32| switch(&Tensor::from(i), [|| Tensor::from(1.5f32), || Tensor::from(2.5f32)]);
    agree(&[("yes", both(true)), ("no", both(false)), ("first", of(-3)), ("last", of(7))], 1e-6);
}

//! Attention against the reference semantics, for every instruction set, division of work and number of threads.

use lehr_ir::Array;

use problem::{Layout, Problem, random};

mod problem;

/// Shapes that meet every edge: blocks cut short, one query, one key, no key, columns that fill no vector, more keys than queries
/// and fewer.
const SIZES: [[usize; 4]; 14] = [
    // Queries, keys, columns of these, columns of values.
    [1, 1, 1, 1],
    [5, 7, 3, 2],
    [64, 64, 64, 64],
    [65, 129, 40, 40],
    [130, 70, 80, 16],
    [200, 200, 128, 128],
    [1, 300, 64, 64],
    [300, 1, 8, 8],
    [33, 257, 1, 33],
    [17, 130, 48, 1],
    [4, 0, 3, 2],
    [0, 4, 3, 2],
    [3, 4, 0, 2],
    [3, 4, 2, 0],
];

#[test]
fn every_size() {
    for sizes in SIZES {
        for causal in [false, true] {
            Problem { causal, ..Problem::new(&[2, 3], sizes) }.check::<f32>();
        }
    }
}

#[test]
fn doubles() {
    for sizes in SIZES {
        for causal in [false, true] {
            Problem { causal, ..Problem::new(&[2], sizes) }.check::<f64>();
        }
    }
}

#[test]
fn biases_and_masks() {
    for sizes in [[5, 7, 3, 2], [65, 129, 40, 40], [130, 70, 16, 24], [4, 0, 3, 2]] {
        for (causal, bias, mask) in
            [(false, true, false), (false, false, true), (true, true, true), (true, false, true)]
        {
            Problem { causal, bias, mask, ..Problem::new(&[2, 2], sizes) }.check::<f32>();
        }
    }
}

#[test]
fn operands_in_any_layout() {
    for layout in [Layout::Transposed, Layout::HeadsInside, Layout::Shared, Layout::Reversed] {
        for (bias, mask) in [(false, false), (true, true)] {
            Problem { layout, causal: true, bias, mask, ..Problem::new(&[2, 3], [70, 140, 24, 20]) }.check::<f32>();
        }
    }
}

#[test]
fn no_batch_and_an_empty_one() {
    Problem::new(&[], [9, 12, 4, 4]).check::<f32>();
    Problem::new(&[2, 0], [9, 12, 4, 4]).check::<f32>();
}

#[test]
fn large_scores() {
    // Products of about 1e4, of both signs: weights are nearly 0 or 1, and nothing overflows.
    for size in [100.0, 1e4] {
        Problem { size, causal: true, ..Problem::new(&[2], [70, 150, 4, 8]) }.check::<f32>();
        Problem { size: -size, ..Problem::new(&[2], [70, 150, 4, 8]) }.check::<f32>();
    }
}

#[test]
fn long_rows() {
    Problem { scale: 1.0, ..Problem::new(&[1], [3, 20_000, 16, 8]) }.check::<f32>();
}

/// What queries may not attend to is full of NaN and infinity, and has no part in anything.
#[test]
fn hidden_numbers_do_not_leak() {
    for mask in [false, true] {
        let mut p = Problem { causal: true, mask, ..Problem::new(&[2], [80, 80, 12, 10]) };
        let clean = p.run::<f32>();
        // The last key is seen by the last query alone, which the mask may hide too.
        for (rows, of) in [(80, 1), (80, 2)] {
            p.poison(of, rows - 1, f64::NAN);
        }
        let poisoned = p.run::<f32>();
        for (a, b) in clean.iter().zip(&poisoned) {
            let cols = a.out.len() / (2 * 80);
            let row = |r: &[f64], i: usize| r[i * cols..(i + 1) * cols].to_vec();
            for i in (0..79).chain(80..159) {
                // Pair by pair, sums round otherwise.
                let near = row(&a.out, i).iter().zip(row(&b.out, i)).all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(near, "query {i}, mask {mask}");
            }
        }
    }
}

/// A query, key or value that is not a number shows where it is seen, as in the reference.
#[test]
fn numbers_that_are_not_finite() {
    for of in 0..3 {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for (causal, mask) in [(false, false), (true, false), (true, true)] {
                let mut p = Problem { causal, mask, ..Problem::new(&[2], [70, 150, 5, 6]) };
                p.poison(of, 40, bad);
                p.check_classes::<f32>();
            }
        }
    }
}

/// Rows that are masked everywhere, by a mask, by a bias, and by having more queries than keys.
#[test]
fn empty_rows() {
    for nan in [false, true] {
        let mut p = Problem { mask: true, nan, ..Problem::new(&[2], [70, 20, 5, 6]) };
        p.close_rows(3..66);
        p.check_classes::<f32>();
        let mut p = Problem { bias: true, nan, ..Problem::new(&[2], [70, 20, 5, 6]) };
        p.close_rows(3..66);
        p.check_classes::<f32>();
        Problem { causal: true, nan, ..Problem::new(&[2], [170, 20, 5, 6]) }.check_classes::<f32>();
    }
}

#[test]
fn random_numbers_are_not_all_equal() {
    let x = random(&[100], 1.0, 3);
    let distinct = |a: &Array| a.data().get(0) != a.data().get(1);
    assert!(distinct(&x));
}

//! Rows of the table: convolutions and folds of windows.

use lehr_ir::array::Array;
use lehr_ir::ops::{CompareOp, Convolution, ReduceOp, ReduceWindow, Window};

use super::Case;
use super::build::random;

/// Windows along one dim: stride, padding before and after, dilation of the base and of the window.
pub(crate) fn window(stride: usize, low: i64, high: i64, base_dilation: usize, window_dilation: usize) -> Window {
    Window { stride, padding: (low.into(), high.into()), base_dilation, window_dilation }
}

/// Convolutions of all kinds, with shapes of operands.
pub(crate) fn all_convolutions() -> Vec<(&'static str, Convolution, Vec<usize>, Vec<usize>)> {
    let case = |name, batch, windows: &[Window], x: &[usize], y: &[usize]| {
        (name, Convolution { batch, windows: windows.into() }, x.to_vec(), y.to_vec())
    };
    let plain = || window(1, 0, 0, 1, 1);
    vec![
        case("convolution", 0, &[plain()], &[2, 5, 2], &[3, 2, 3]),
        case("convolution_0d", 0, &[], &[2, 3], &[3, 2]),
        case("convolution_2d", 0, &[window(2, 1, 0, 1, 1), window(1, 0, 1, 1, 2)], &[1, 4, 5, 2], &[3, 2, 2, 2]),
        case("convolution_holes", 0, &[window(1, 2, 1, 2, 1)], &[2, 3, 1], &[3, 1, 2]),
        case("convolution_holes_strided", 0, &[window(2, 3, 0, 3, 2)], &[1, 4, 2], &[4, 2, 1]),
        case("convolution_holes_2d", 0, &[window(1, 1, 1, 2, 1), window(3, 2, 2, 2, 1)], &[1, 2, 3, 1], &[3, 2, 1, 2]),
        case("convolution_holes_apart", 0, &[window(1, 0, 2, 3, 1)], &[1, 3, 1], &[2, 1, 1]),
        case("convolution_cropped", 0, &[window(1, -1, -2, 1, 1)], &[1, 7, 1], &[2, 1, 1]),
        case("convolution_one_tap", 0, &[window(2, 1, 0, 1, 1)], &[2, 4, 2], &[1, 2, 3]),
        case("convolution_covering", 0, &[plain(), plain()], &[2, 3, 2, 2], &[3, 2, 2, 3]),
        case("convolution_depthwise", 1, &[window(1, 1, 1, 1, 1)], &[3, 2, 4, 1], &[3, 3, 1, 1]),
        case("convolution_multiplier", 1, &[window(2, 0, 1, 1, 1)], &[2, 1, 5, 1], &[2, 2, 1, 3]),
        case("convolution_groups", 1, &[window(1, 1, 0, 1, 1)], &[2, 2, 3, 2], &[2, 2, 2, 2]),
        case("convolution_two_batches", 2, &[plain()], &[2, 1, 2, 3, 1], &[2, 1, 2, 1, 1]),
        case("convolution_many_taps", 1, &[plain()], &[2, 1, 71, 1], &[2, 70, 1, 1]),
        case("convolution_no_place", 0, &[plain()], &[1, 2, 1], &[3, 1, 1]),
        case("convolution_empty", 0, &[window(1, 1, 1, 1, 1)], &[0, 3, 2], &[2, 2, 1]),
    ]
}

pub(crate) fn convolutions() -> Vec<Case> {
    let row = |(name, op, x, y): (&str, Convolution, Vec<usize>, Vec<usize>)| {
        Case::op(name, op, vec![random(&x, -1., 1., 13), random(&y, -1., 1., 14)])
    };
    all_convolutions().into_iter().map(row).collect()
}

/// Windows of all kinds, with the shape of an operand.
pub(crate) fn all_windows() -> Vec<(Vec<usize>, Vec<Window>, Vec<usize>)> {
    vec![
        (vec![2], vec![window(1, 0, 0, 1, 1)], vec![4]),
        (vec![3, 2], vec![window(2, 1, 1, 1, 1), window(2, 0, 0, 1, 1)], vec![4, 5]),
        (vec![1, 2, 1], vec![window(1, 0, 0, 1, 1), window(2, 1, 0, 1, 1), window(1, 0, 0, 1, 1)], vec![2, 5, 2]),
        (vec![2, 3], vec![window(2, 0, 0, 1, 1), window(3, -1, 1, 1, 1)], vec![4, 7]),
        (vec![2], vec![window(2, 1, 1, 2, 3)], vec![4]),
        (vec![3], vec![window(1, 0, 0, 1, 1)], vec![3]),
        (vec![4], vec![window(1, 0, 0, 1, 1)], vec![2]),
    ]
}

/// Windows of more taps than are written out.
pub(crate) fn large_windows() -> Vec<(Vec<usize>, Vec<Window>, Vec<usize>)> {
    vec![
        (vec![9, 9], vec![window(1, 4, 4, 1, 1), window(2, 1, 0, 1, 1)], vec![5, 9]),
        (vec![67], vec![window(3, 2, 5, 1, 1)], vec![70]),
        (vec![66, 2], vec![window(66, 0, 0, 1, 1), window(1, 0, 0, 1, 1)], vec![66, 3]),
    ]
}

pub(crate) fn folds(op: ReduceOp) -> Vec<Case> {
    let of = |(sizes, windows, shape): (Vec<usize>, Vec<Window>, Vec<usize>)| {
        let fold = ReduceWindow { op, sizes: sizes.into(), windows: windows.into() };
        Case::op(format!("window_{}", op.combiner().name()), fold, vec![random(&shape, 0.5, 1.5, 15)])
    };
    let mut all = all_windows();
    // The derivatives of a large window are large graphs; one of them is enough of each.
    all.push(large_windows().swap_remove(0));
    match op {
        ReduceOp::Sum => all.into_iter().map(of).collect(),
        ReduceOp::Prod => {
            let mut rows: Vec<Case> = all_windows().into_iter().map(of).collect();
            let fold =
                ReduceWindow { op, sizes: [3].as_slice().into(), windows: [window(1, 1, 0, 1, 1)].as_slice().into() };
            rows.push(Case::op("window_prod_zeros", fold, vec![Array::from([2.0, 0.0, 3.0, 0.0, 5.0])]));
            rows
        }
        ReduceOp::Max | ReduceOp::Min => all.into_iter().map(|w| of(w).rough()).collect(),
        ReduceOp::Any | ReduceOp::All => vec![
            Case::new(format!("window_{}", op.combiner().name()), vec![random(&[2, 4], -1., 1., 1)], |b, v| {
                let p = b.compare_to(CompareOp::Gt, v[0], 0.0).unwrap();
                let windows = [window(1, 0, 0, 1, 1), window(1, 1, 0, 1, 1)];
                let fold = ReduceWindow { op, sizes: [1, 2].as_slice().into(), windows: windows.as_slice().into() };
                vec![b.op(fold.into(), &[p]).unwrap(), v[0]]
            })
            .rough(),
        ],
    }
}

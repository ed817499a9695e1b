//! Slices and positions from data.

#![expect(clippy::reversed_empty_ranges, reason = "what such ranges select is the point")]

use lehr::prelude::*;

use crate::{broken, check, check_type};

fn table() -> Tensor {
    Tensor::arange(12).reshape((3, 4))
}

#[test]
fn basic_indexing_is_numpys() {
    let x = table();
    check(&x.slice(1), "[4,5,6,7]");
    check(&x.slice(-1), "[8,9,10,11]");
    check(&x.slice((0, 1)), "1");
    check(&x.slice(1..), "[[4,5,6,7],[8,9,10,11]]");
    check(&x.slice((.., 1..3)), "[[1,2],[5,6],[9,10]]");
    check(&x.slice((.., by(.., 2))), "[[0,2],[4,6],[8,10]]");
    check(&x.slice((.., by(.., -2))), "[[3,1],[7,5],[11,9]]");
    check(&x.slice((by(.., -1), 0)), "[8,4,0]");
    check(&x.slice((0, -3..-1)), "[1,2]");
    check(&x.slice((0, 2..100)), "[2,3]");
    check(&x.slice((0, 3..1)), "[]");
    check(&x.slice((0, by(3..0, -1))), "[3,2,1]");
    check(&x.slice((0, by(100.., -3))), "[3,0]");
    check(&x.slice((Ellipsis, -1)), "[3,7,11]");
    check_type(&x.slice((NewAxis, Ellipsis, NewAxis)), "i64[1, 3, 4, 1]");
    check(&x.slice((0, 1..=2)), "[1,2]");
    check(&x.slice(0), "[0,1,2,3]");
}

#[test]
fn windows_of_named_sizes_must_be_inside() {
    let x = Tensor::input("x", F32, ("n", 4));
    check_type(&x.slice(by(.., -1)), "f32[n, 4]");
    assert!(broken(&x.slice(..2)).contains("which cannot be decided"));
    let x = x.assume("n >= 3");
    check_type(&x.slice(..2), "f32[2, 4]");
    check_type(&x.slice(1..), "f32[n - 1, 4]");
    check_type(&x.slice(-1), "f32[4]");
    check_type(&x.slice(..-3), "f32[n - 3, 4]");
    check_type(&x.slice(by(.., 2)), "f32[floordiv(n + 1, 2), 4]");
}

#[test]
fn bad_indices_are_refused() {
    let x = table();
    assert!(broken(&x.slice(3)).contains("position 3 is outside dim 0 of size 3"));
    assert!(broken(&x.slice((0, -5))).contains("position -5 is outside dim 1 of size 4"));
    assert!(broken(&x.slice((0, 0, 0))).contains("3 indices are given for 2 dims"));
    assert!(broken(&x.slice(by(.., 0))).contains("the step along dim 0 is 0"));
    assert!(broken(&x.slice((Ellipsis, Ellipsis))).contains("2 ellipses"));
}

#[test]
fn taking_and_putting() {
    let x = table();
    check(&x.take(&Tensor::from([2, 0]), 0), "[[8,9,10,11],[0,1,2,3]]");
    check(&x.take(&Tensor::from([[0, -1]]), 1), "[[[0,3]],[[4,7]],[[8,11]]]");
    check(&x.take(&Tensor::from(1), 0), "[4,5,6,7]");
    check(&x.take(&Tensor::from([7]), 0), "[[0,0,0,0]]");
    check(&x.take_along_axis(&Tensor::from([[1], [0], [-1]]), 1), "[[1],[4],[11]]");
    let zeros = Tensor::zeros(I64, 4);
    check(&zeros.put(&Tensor::from([1, -1]), Tensor::from([5, 6]), 0), "[0,5,0,6]");
    check(&zeros.scatter_add(&Tensor::from([1, 1, 9]), 2, 0), "[0,4,0,0]");
    check(&Tensor::zeros(I64, (2, 2)).scatter_add(&Tensor::from([0]), Tensor::from([[1], [2]]), 1), "[[1,0],[2,0]]");
    assert!(broken(&x.take(&Tensor::from([1.0f32]), 0)).contains("the indices must be integers"));
    assert!(broken(&x.take(&Tensor::from([0]), 2)).contains("axis 2 is outside 2 dims"));
    let table = Tensor::input("t", F32, ("v", 8));
    check_type(&table.take(&Tensor::input("i", I32, ("b", "s")), 0), "f32[b, s, 8]");
}

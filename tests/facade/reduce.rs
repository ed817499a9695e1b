//! Folds over axes.

use lehr::prelude::*;

use crate::{broken, check, check_type};

#[test]
fn folds_over_axes() {
    let x = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 9.0]]);
    check(&x.sum(), "24");
    check(&x.sum_axes(0), "[5,7,12]");
    check(&x.sum_axes(-1), "[6,18]");
    check(&x.sum_axes([0, 1]), "24");
    check(&x.sum_axes(..), "24");
    check(&x.sum_keepdims(1), "[[6],[18]]");
    check(&x.sum_axes(&[][..] as &[i64]), "[[1,2,3],[4,5,9]]");
    check(&x.mean(), "4");
    check(&x.mean_axes(1), "[2,6]");
    check(&x.max_axes(1), "[3,9]");
    check(&x.min_keepdims(0), "[[1,2,3]]");
    check(&x.prod_axes(1), "[6,180]");
    check(&x.var_axes(0), "[2.25,2.25,9]");
    check(&x.std_axes(0), "[1.5,1.5,3]");
    check(&x.norm_axes(..), "11.661903");
    check(&x.gt(2).any_axes(1), "[true,true]");
    check(&x.gt(2).all(), "false");
    check(&x.argmax(1), "[2,2]");
    check(&x.argmin(0), "[0,0,0]");
    check(&Tensor::from([1.0f32, f32::NAN, 2.0]).argmax(0), "1");
    check(&Tensor::from([1.0f32, f32::NAN]).max(), "nan");
    check(&Tensor::from([3, 3]).argmax(0), "0");
}

#[test]
fn dtypes_of_folds() {
    check(&Tensor::from([true, true]).sum(), "2");
    check_type(&Tensor::from([true]).sum(), "i64[]");
    check_type(&Tensor::from([1u8]).sum(), "u8[]");
    check_type(&Tensor::from([1]).mean(), "f32[]");
    check_type(&Tensor::from([true]).mean(), "f32[]");
    check(&Tensor::from([true, false]).max(), "true");
    check(&Tensor::from([0, 3]).any(), "true");
}

#[test]
fn nothing_has_the_neutral_element() {
    let none = Tensor::zeros(F32, (0, 2));
    check(&none.sum_axes(0), "[0,0]");
    check(&none.prod_axes(0), "[1,1]");
    check(&none.max_axes(0), "[-inf,-inf]");
    check(&none.mean_axes(0), "[nan,nan]");
    check(&none.sum_axes(1), "[]");
    check(&none.logsumexp_axes(0), "[-inf,-inf]");
}

#[test]
fn bad_axes_are_refused() {
    let x = Tensor::zeros(F32, (2, 3));
    assert_eq!(broken(&x.sum_axes(2)), "sum: operand 0 is f32[2, 3]; axis 2 is outside 2 dims");
    assert_eq!(broken(&x.sum_axes([0, -2])), "sum: operand 0 is f32[2, 3]; axis -2 is named twice");
    assert_eq!(broken(&Tensor::from(1.0f32).argmax(0)), "argmax: operand 0 is f32[]; axis 0 is outside 0 dims");
}

#[test]
fn softmax_and_its_kin_are_stable() {
    let big = Tensor::from([1000.0f32, 1000.0]);
    check(&big.softmax(-1), "[0.5,0.5]");
    check(&big.log_softmax(0), "[-0.6931472,-0.6931472]");
    let sum: f32 = big.logsumexp().to().unwrap();
    assert!((sum - 1000.6931).abs() < 2e-4, "{sum}");
    check(&Tensor::from([f32::NEG_INFINITY, f32::NEG_INFINITY]).logsumexp(), "-inf");
    check(&Tensor::from([f32::INFINITY, 0.0]).logsumexp(), "inf");
    check(&Tensor::from([f32::NEG_INFINITY, 0.0]).softmax(0), "[0,1]");
    check(&Tensor::from([f32::NAN, 0.0]).softmax(0), "[nan,nan]");
    check(&Tensor::from([[1.0f32, 1.0]]).logsumexp_keepdims(1), "[[1.6931472]]");
    check(&Tensor::from([[1.0f32, 3.0]]).layer_norm(-1, 0.0), "[[-1,1]]");
}

#[test]
fn named_sizes_are_counted_when_known() {
    let x = Tensor::input("x", F32, ("n", 2));
    let mut f = Function::new("f").output("m", &x.mean()).compile(crate::interp()).unwrap();
    let mean = |f: &mut Executable, a: Array| -> f32 { f.run([a]).unwrap().unpack().unwrap() };
    assert_eq!(mean(&mut f, Array::from([[1.0f32, 2.0], [3.0, 4.0]])), 2.5);
    assert_eq!(mean(&mut f, Array::from([[1.0f32, 2.0]])), 1.5);
    assert!(mean(&mut f, Array::zeros(F32, &[0, 2])).is_nan());
}

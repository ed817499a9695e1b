//! Elementwise operations: values, dtypes, literals, broadcasting.

use lehr::prelude::*;

use crate::{broken, check, check_type};

#[test]
fn operators_take_tensors_and_numbers_on_both_sides() {
    let x = Tensor::from([1.0f32, 4.0]);
    check(&(&x + 1), "[2,5]");
    check(&(1 - &x), "[0,-3]");
    check(&(2.0 * x.clone() / &x), "[2,2]");
    check(&(&x % 3), "[1,1]");
    check(&-&x, "[-1,-4]");
    let n = Tensor::from([5, 6]);
    check(&(&n & 3), "[1,2]");
    check(&(1 | &n), "[5,7]");
    check(&(&n ^ &n), "[0,0]");
    check(&(&n << 1), "[10,12]");
    check(&(&n >> 1), "[2,3]");
    check(&!&n, "[-6,-7]");
    check(&!Tensor::from([true, false]), "[false,true]");
}

#[test]
fn literals_take_the_dtype_of_the_tensor() {
    check_type(&(Tensor::from([1u8]) + 1), "u8[1]");
    check_type(&(Tensor::from([1.0f64]) * 2), "f64[1]");
    check_type(&(Tensor::from([1i32]) * 2.5), "f32[1]");
    check_type(&(Tensor::from([true]) + 1), "i64[1]");
    check_type(&(Tensor::from([true]) & true), "bool[1]");
    check_type(&Tensor::select(&Tensor::from([true]), 1.0, 0), "f32[1]");
    assert_eq!(broken(&(Tensor::from([1u8]) + 256)), "add: the number 256 does not fit u8");
    assert_eq!(broken(&(Tensor::from([1u8]) + -1)), "add: the number -1 does not fit u8");
}

#[test]
fn dtypes_promote_and_division_is_true() {
    check_type(&(Tensor::from([1i32]) + Tensor::from([1i64])), "i64[1]");
    check_type(&(Tensor::from([1u8]) + Tensor::from([1i8])), "i16[1]");
    check_type(&(Tensor::from([1i64]) + Tensor::from([1.0f32])), "f32[1]");
    check_type(&(Tensor::from([1i64]) / Tensor::from([2i64])), "f32[1]");
    check(&(Tensor::from([7]) / 2), "[3.5]");
    check(&Tensor::from([7, -7]).floor_divide(Tensor::from([-2, -2])), "[-4,3]");
    check(&Tensor::from([7.5f32, -7.5]).floor_divide(2), "[3,-4]");
    check(&Tensor::from([7, -7]).remainder(Tensor::from([-3, -3])), "[-2,-1]");
    check(&Tensor::from([5.5f32, -5.5]).remainder(3), "[2.5,0.5]");
    check_type(&Tensor::from([1, 2]).exp(), "f32[2]");
    check(&Tensor::from([1, 2]).floor(), "[1,2]");
}

#[test]
fn shapes_broadcast_as_in_numpy() {
    let column = Tensor::from([[1], [2]]);
    let row = Tensor::from([10, 20]);
    check(&(&column + &row), "[[11,21],[12,22]]");
    check_type(&(Tensor::zeros(F32, (2, 1, 3)) + Tensor::zeros(F32, (4, 1))), "f32[2, 4, 3]");
    check_type(&(Tensor::zeros(F32, (0, 3)) + Tensor::zeros(F32, (1, 3))), "f32[0, 3]");
    let x = Tensor::input("x", F32, ("n", 3));
    check_type(&(&x + Tensor::zeros(F32, 3)), "f32[n, 3]");
    check_type(&(&x + Tensor::zeros(F32, (1, 1))), "f32[n, 3]");
    check_type(&(&x * Tensor::input("y", F32, ["n"]).expand_dims(1)), "f32[n, 3]");
}

#[test]
fn what_numpy_refuses_is_refused() {
    let a = Tensor::zeros(F32, 3);
    let e = "add: operand 0 is f32[3], operand 1 is f32[4]; dims 3 and 4 must be equal, or one of them 1 (axis -1)";
    assert_eq!(broken(&(&a + Tensor::zeros(F32, 4))), e);
    assert!(broken(&(Tensor::zeros(F32, (2, 3)) + Tensor::zeros(F32, 2))).starts_with("add:"));
    assert!(broken(&(Tensor::zeros(F32, 0) + Tensor::zeros(F32, 2))).starts_with("add:"));
    let n = Tensor::input("n", F32, ["n"]);
    let e =
        "add: operand 0 is f32[n], operand 1 is f32[3]; dims n and 3 must be equal, which cannot be decided (axis -1)";
    assert_eq!(broken(&(&n + &a)), e);
    check_type(&(n.assume("n == 3") + &a), "f32[n]");
}

#[test]
fn extremes_and_comparisons_know_nan() {
    let x = Tensor::from([f32::NAN, 1.0, f32::INFINITY]);
    check(&x.maximum(0), "[nan,1,inf]");
    check(&x.minimum(Tensor::from([0.0f32, f32::NAN, 2.0])), "[nan,nan,2]");
    check(&x.clip(-1, 2), "[nan,1,2]");
    check(&x.eq(&x), "[false,true,true]");
    check(&x.is_nan(), "[true,false,false]");
    check(&x.is_finite(), "[false,true,false]");
    check(&x.relu(), "[nan,1,inf]");
    check(&Tensor::from([1, 2, 3]).ge(2).logical_and(Tensor::from([true, false, true])), "[false,false,true]");
    check(&Tensor::from([0, 2]).logical_not(), "[true,false]");
    check(&Tensor::from([-1.0f32, 4.0]).sqrt(), "[nan,2]");
}

#[test]
fn powers_and_activations() {
    let x = Tensor::from([-2.0f32, 0.0, 3.0]);
    check(&x.pow(2), "[4,0,9]");
    check(&x.pow(3.0), "[-8,0,27]");
    check(&x.pow(0), "[1,1,1]");
    check(&Tensor::from([2, 3]).pow(2), "[4,9]");
    check(&Tensor::from([4]).pow(-1), "[0.25]");
    check(&x.leaky_relu(0.5), "[-1,0,3]");
    check(&x.sign(), "[-1,0,1]");
    check(&Tensor::from([-1000.0f32, 0.0, 1000.0]).softplus(), "[0,0.6931472,1000]");
    check(&Tensor::from([-1000.0f32, 1000.0]).sigmoid(), "[0,1]");
    check(&Tensor::from([0.0f32]).gelu(), "[0]");
    let close = (Tensor::from([1.0f32]).gelu() - 0.841_344_8).abs().lt(1e-6);
    check(&close, "[true]");
    check(&Tensor::from([-1000.0f32, 2.0]).elu(1.0), "[-1,2]");
}

#[test]
fn casts_follow_the_stated_rules() {
    check(&Tensor::from([1.9f32, -1.9, f32::NAN, 1e30]).cast(I32), "[1,-1,0,2147483647]");
    check(&Tensor::from([300i64]).cast(U8), "[44]");
    check(&Tensor::from([0.0f32, f32::NAN]).cast(Bool), "[false,true]");
    let x = Tensor::from([1.0f32]);
    assert!(x.cast(F32).is(&x));
}

#[test]
fn zero_sized_and_0d_values_work() {
    check(&(Tensor::from(Vec::<f32>::new()) + 1), "[]");
    check(&Tensor::from(Vec::<f32>::new()).sum(), "0");
    check(&(Tensor::from(2.0f32) * Tensor::from(3.0f32)), "6");
    check(&Tensor::zeros(F32, (2, 0)), "[[],[]]");
    check(&Tensor::zeros(F32, (2, 0)).matmul(&Tensor::zeros(F32, (0, 3))), "[[0,0,0],[0,0,0]]");
}

//! Changes of shape, joining and spreading.

use lehr::prelude::*;

use crate::{broken, check, check_type};

#[test]
fn reshapes_keep_row_major_order() {
    let x = Tensor::arange(6);
    check(&x.reshape((2, 3)), "[[0,1,2],[3,4,5]]");
    check(&x.reshape((3, -1)), "[[0,1],[2,3],[4,5]]");
    check(&x.reshape((2, 3)).flatten(), "[0,1,2,3,4,5]");
    check(&Tensor::from(7).reshape((1, 1)), "[[7]]");
    let b = Tensor::input("b", F32, ("n", 4, "m"));
    check_type(&b.reshape(("n", -1)), "f32[n, 4*m]");
    check_type(&b.reshape((-1, "m")), "f32[4*n, m]");
    check_type(&b.reshape(("2*n", 2, "m")), "f32[2*n, 2, m]");
    assert_eq!(broken(&x.reshape(4)), "reshape: operand 0 is i64[6]; element counts 6 and 4 must be equal");
    assert_eq!(
        broken(&x.reshape((4, -1))),
        "reshape: operand 0 is i64[6]; -1 has no value: 6 elements do not divide by 4"
    );
    assert_eq!(broken(&x.reshape((-1, -1))), "reshape: operand 0 is i64[6]; -1 stands for more than one size");
    assert_eq!(broken(&x.reshape((-2, 3))), "reshape: operand 0 is i64[6]; the size -2 is negative");
    assert_eq!(
        broken(&Tensor::zeros(F32, 0).reshape((0, -1))),
        "reshape: operand 0 is f32[0]; -1 has no value: 0 elements do not divide by 0"
    );
}

#[test]
fn axes_are_permuted_added_and_dropped() {
    let x = Tensor::zeros(F32, (2, 3, 4));
    check_type(&x.permute([2, 0, 1]), "f32[4, 2, 3]");
    check_type(&x.permute([-1, 0, -2]), "f32[4, 2, 3]");
    check_type(&x.t(), "f32[4, 3, 2]");
    check_type(&x.transpose(), "f32[2, 4, 3]");
    check_type(&x.swap_axes(0, -1), "f32[4, 3, 2]");
    check_type(&x.expand_dims(0), "f32[1, 2, 3, 4]");
    check_type(&x.expand_dims(-1), "f32[2, 3, 4, 1]");
    check_type(&x.expand_dims(-1).squeeze(..), "f32[2, 3, 4]");
    check_type(&x.expand_dims(1).squeeze(1), "f32[2, 3, 4]");
    assert_eq!(broken(&x.squeeze(1)), "squeeze: operand 0 is f32[2, 3, 4]; axis 1 has size 3, not 1");
    assert_eq!(broken(&x.expand_dims(5)), "expand_dims: operand 0 is f32[2, 3, 4]; axis 5 is outside 4 dims");
    assert!(broken(&x.permute([0, 1])).starts_with("transpose: operand 0 is f32[2, 3, 4]; perm names 2 dims of 3"));
    check(&Tensor::from([[1, 2], [3, 4]]).t(), "[[1,3],[2,4]]");
}

#[test]
fn broadcasting_to_a_shape() {
    check(&Tensor::from([1, 2]).broadcast_to((2, 2)), "[[1,2],[1,2]]");
    check_type(&Tensor::from(1.0f32).broadcast_to(("n", 2)), "f32[n, 2]");
    assert!(broken(&Tensor::from([1, 2]).broadcast_to(3)).contains("dims 2 and 3 must be equal"));
    assert!(broken(&Tensor::from([[1, 2]]).broadcast_to(2)).contains("2 dims do not fit 1"));
    assert!(broken(&Tensor::from([1]).broadcast_to(-3)).contains("the size -3 is negative"));
}

#[test]
fn joining_and_splitting() {
    let (a, b) = (Tensor::from([[1, 2]]), Tensor::from([[3, 4]]));
    check(&Tensor::concat(&[&a, &b], 0), "[[1,2],[3,4]]");
    check(&Tensor::concat(&[&a, &b], -1), "[[1,2,3,4]]");
    check(&Tensor::stack(&[&a, &b], 0), "[[[1,2]],[[3,4]]]");
    check(&Tensor::stack(&[&a, &b], -1), "[[[1,3],[2,4]]]");
    check_type(&Tensor::concat(&[a.clone(), a.cast(F32)], 0), "f32[2, 2]");
    let n = Tensor::input("x", F32, ("n", 2));
    check_type(&Tensor::concat(&[&n, &Tensor::zeros(F32, (3, 2))], 0), "f32[n + 3, 2]");
    let parts = Tensor::arange(6).split(3, 0);
    check(&parts[2], "[4,5]");
    assert!(broken(&Tensor::arange(6).split(4, 0)[0]).contains("does not split into 4 equal parts"));
    let parts = Tensor::arange(6).split_at(&[1, 4], 0);
    assert_eq!(parts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[0]", "[1,2,3]", "[4,5]"]);
    assert_eq!(broken(&Tensor::concat::<Tensor>(&[], 0)), "concat: no tensors are given");
}

#[test]
fn padding_turning_tiling() {
    let x = Tensor::from([[1, 2], [3, 4]]);
    check(&x.pad(&[(0, 1), (1, 0)], 0), "[[0,1,2],[0,3,4],[0,0,0]]");
    check(&x.pad(&[(-1, 0), (0, 0)], 0), "[[3,4]]");
    check(&x.flip(0), "[[3,4],[1,2]]");
    check(&x.flip(..), "[[4,3],[2,1]]");
    check(&x.roll(1, 1), "[[2,1],[4,3]]");
    check(&x.roll(-3, 0), "[[3,4],[1,2]]");
    check(&x.tile(&[1, 2]), "[[1,2,1,2],[3,4,3,4]]");
    check(&x.repeat(2, 0), "[[1,2],[1,2],[3,4],[3,4]]");
    check(&x.repeat(2, -1), "[[1,1,2,2],[3,3,4,4]]");
    check(&x.tril(-1), "[[0,0],[3,0]]");
    check(&x.triu(0), "[[1,2],[0,4]]");
    check(&x.triu(1), "[[0,2],[0,0]]");
    assert!(broken(&x.pad(&[(1, 1)], 0)).contains("1 pairs of widths are given for 2 dims"));
}

#[test]
fn products() {
    let a = Tensor::from([[1, 2], [3, 4]]);
    let v = Tensor::from([10, 20]);
    check(&a.matmul(&v), "[50,110]");
    check(&v.matmul(&a), "[70,100]");
    check(&v.matmul(&v), "500");
    check(&a.matmul(&Tensor::from([[10], [20]])), "[[50],[110]]");
    check(&v.outer(&Tensor::from([1, 2])), "[[10,20],[20,40]]");
    check(&a.dot(&Tensor::from(2)), "[[2,4],[6,8]]");
    check_type(&Tensor::zeros(F32, (5, 1, 2, 3)).matmul(&Tensor::zeros(F32, (4, 3, 6))), "f32[5, 4, 2, 6]");
    check_type(&Tensor::zeros(F32, (5, 2, 3)).matmul(&Tensor::zeros(F32, (3, 6))), "f32[5, 2, 6]");
    check_type(&Tensor::zeros(F32, (2, 3)).matmul(&Tensor::zeros(F32, (5, 3, 6))), "f32[5, 2, 6]");
    check_type(&Tensor::zeros(F32, 3).matmul(&Tensor::zeros(F32, (5, 3, 6))), "f32[5, 6]");
    check_type(&Tensor::zeros(F32, (5, 2, 3)).dot(&Tensor::zeros(F32, (4, 3, 6))), "f32[5, 2, 4, 6]");
    check_type(&Tensor::zeros(F32, (5, 2, 3)).tensordot(&Tensor::zeros(F32, (3, 2)), [1, 2], [1, 0]), "f32[5]");
    check_type(&Tensor::input("x", F32, ("n", 3)).matmul(&Tensor::zeros(F64, (3, 2))), "f64[n, 2]");
    let stacked = Tensor::arange(8).reshape((2, 2, 2)).matmul(&a);
    check(&stacked, "[[[3,4],[11,16]],[[19,28],[27,40]]]");
    assert_eq!(
        broken(&Tensor::zeros(F32, ("b", 64)).matmul(&Tensor::zeros(F32, (63, 128)))),
        "dot: operand 0 is f32[b, 64], operand 1 is f32[63, 128]; contracted dims 64 and 63 must be equal"
    );
    assert!(broken(&Tensor::from(1).matmul(&a)).contains("a scalar is no matrix"));
    assert!(broken(&Tensor::zeros(F32, (2, 2, 2)).matmul(&Tensor::zeros(F32, (3, 2, 2)))).contains("leading dims"));
}

#[test]
fn creation() {
    check(&Tensor::eye(F32, 2), "[[1,0],[0,1]]");
    check(&Tensor::range(0, 1, 0.25), "[0,0.25,0.5,0.75]");
    check(&Tensor::range(3, 3, 1), "[]");
    check(&Tensor::linspace(0, 1, 3), "[0,0.5,1]");
    check(&Tensor::linspace(2, 9, 1), "[2]");
    check(&Tensor::full(U8, (2, 1), 3), "[[3],[3]]");
    check(&Tensor::ones(Bool, 2), "[true,true]");
    check(&Tensor::from([1.5f32]).zeros_like(), "[0]");
    check_type(&Tensor::zeros(F32, ("n", "2*n + 1")), "f32[n, 2*n + 1]");
    check(&Tensor::iota(I32, (2, 2), 1), "[[0,1],[0,1]]");
    check(&Tensor::from([1, 0]).one_hot(2, Bool), "[[false,true],[true,false]]");
    check(&Tensor::constant([[1, 2]]), "[[1,2]]");
    assert!(broken(&Tensor::range(0, 1, 0)).contains("no finite count"));
    assert!(broken(&Tensor::full(U8, 1, 300)).contains("the number 300 does not fit u8"));
}

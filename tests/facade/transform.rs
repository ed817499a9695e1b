//! Gradients and batching through the facade.

use lehr::prelude::*;

use crate::{broken, check, check_type};

#[test]
fn gradients_of_scalars() {
    let x = Tensor::from(3.0f32);
    let y = &x * &x + 2 * &x;
    check(&grad(&y, &x), "8");
    check(&grad(&grad(&y, &x), &x), "2");
    let (value, slope) = value_and_grad(&y, &x);
    check(&value, "15");
    check(&slope, "8");
}

#[test]
fn gradients_come_in_the_structure_asked_for() {
    let (a, b) = (Tensor::from([1.0f32, 2.0]), Tensor::variable("b", [3.0f32, 4.0]));
    let loss = (&a * &b).sum();
    let (da, db) = grad(&loss, &(&a, &b));
    check_type(&da, "f32[2]");
    check(&db, "[1,2]");
    assert_eq!(da.eval().unwrap(), Array::from([3.0f32, 4.0]));
    let [twice, again] = grad(&(&a * &a).sum(), &[a.clone(), a.clone()]);
    check(&twice, "[2,4]");
    check(&again, "[2,4]");
    check(&grad(&a.sum(), &Tensor::from([5.0f32])), "[0]");
}

#[test]
fn gradients_by_inner_values_take_them_as_given() {
    let x = Tensor::from(2.0f32);
    let y = &x * &x;
    check(&grad(&(&y * &y + &x), &y), "8");
}

#[test]
fn gradient_of_cross_entropy_is_softmax_minus_onehot() {
    let logits = Tensor::from([[0.0f32, 0.0], [0.0, 0.0]]);
    let loss = losses::softmax_cross_entropy(&logits, &Tensor::from([0, 1])).sum();
    check(&loss, "1.3862944");
    check(&grad(&loss, &logits), "[[-0.5,0.5],[0.5,-0.5]]");
    let sure = Tensor::from([[1000.0f32, -1000.0]]);
    check(&grad(&losses::softmax_cross_entropy(&sure, &Tensor::from([1])).sum(), &sure), "[[1,-1]]");
    check(&losses::softmax_cross_entropy(&logits, &Tensor::from([2, -1])), "[nan,nan]");
}

/// A gradient against central differences in `f64`.
#[track_caller]
fn check_slope(f: impl Fn(&Tensor) -> Tensor, at: &[f64]) {
    let x = Tensor::from(at.to_vec());
    let found: Vec<f64> = grad(&f(&x).sum(), &x).to().unwrap();
    for i in 0..at.len() {
        let h = 1e-6;
        let shifted = |d: f64| {
            let mut p = at.to_vec();
            p[i] += d;
            f(&Tensor::from(p)).sum().to::<f64>().unwrap()
        };
        let want = (shifted(h) - shifted(-h)) / (2.0 * h);
        assert!((found[i] - want).abs() <= 1e-6 * (1.0 + want.abs()), "{i}: {} and {want}", found[i]);
    }
}

#[test]
fn composites_have_the_right_slopes() {
    let at = [0.3, -1.2, 2.0];
    let weights = Tensor::from([1.0f64, -2.0, 0.5]);
    check_slope(|x| x.softmax(0) * &weights, &at);
    check_slope(|x| x.log_softmax(0) * &weights, &at);
    check_slope(Tensor::logsumexp, &at);
    check_slope(|x| x.layer_norm(0, 1e-5) * &weights, &at);
    check_slope(Tensor::gelu, &at);
    check_slope(Tensor::gelu_tanh, &at);
    check_slope(Tensor::softplus, &at);
    check_slope(Tensor::silu, &at);
    check_slope(|x| x.elu(0.7), &at);
    check_slope(|x| losses::softmax_cross_entropy(x, &Tensor::from(1)), &at);
    check_slope(|x| losses::huber(x, 0.1, 0.5), &at);
    check_slope(|x| losses::cross_entropy(x, &weights), &at);
    check_slope(|x| losses::sigmoid_cross_entropy(x, &weights), &at);
    check_slope(Tensor::std, &at);
    check_slope(Tensor::norm, &at);
    check_slope(|x| x.take(&Tensor::from([2, 0, 2]), 0) * &weights, &at);
    check_slope(|x| x.roll(1, 0).tile(&[2]).pad(&[(1, 0)], 1.0).pow(2), &at);
    check_slope(|x| x.slice(by(.., -2)).exp(), &at);
    check_slope(|x| x.outer(x).tril(0).pow(3), &at);
    check_slope(|x| grad(&(x.softmax(0) * &weights).sum(), x) * &weights, &at);
    check_slope(|x| grad(&losses::softmax_cross_entropy(x, &Tensor::from(1)), x) * &weights, &at);
}

#[test]
fn directional_derivatives() {
    let x = Tensor::from([1.0f32, 2.0]);
    let y = (x.square(), x.sum());
    let (dy, ds) = jvp(&y, &x, &Tensor::from([1.0f32, 10.0]));
    check(&dy, "[2,40]");
    check(&ds, "11");
    let ct = vjp(&y, &x, &(Tensor::from([1.0f32, 0.0]), Tensor::from(3.0f32)));
    check(&ct, "[5,3]");
    assert!(
        broken(&jvp(&x.square(), &x, &Tensor::from(1.0f32))).contains("a tangent has the type of what it belongs to")
    );
}

#[test]
fn nothing_flows_through_stop_gradient() {
    let x = Tensor::from(3.0f32);
    check(&grad(&(stop_gradient(&x.square()) * &x), &x), "9");
    check(&stop_gradient(&x), "3");
}

#[test]
fn mapping_over_a_batch() {
    let rows = Tensor::from([[1.0f32, 2.0], [3.0, 4.0]]);
    let w = Tensor::from([10.0f32, 1.0]);
    check(&vmap(&rows, 0, |r| r.matmul(&w)), "[12,34]");
    check(&vmap(&rows, 1, |c| c.sum()), "[4,6]");
    check(&vmap(&(&rows, &Tensor::from([1.0f32, 2.0])), 0, |(r, s)| r * s), "[[1,2],[6,8]]");
    check(&vmap(&rows, 0, |r| grad(&r.square().sum(), r)), "[[2,4],[6,8]]");
    check(&vmap(&rows, 0, |a| vmap(&rows, 0, |b| a.matmul(b))), "[[5,11],[11,25]]");
    check(&grad(&vmap(&rows, 0, |r| r.matmul(&w)).sum(), &w), "[4,6]");
    let pair = vmap(&rows, 0, |r| (r.sum(), r.max()));
    check(&pair.0, "[3,7]");
    check(&pair.1, "[2,4]");
    let uneven = (rows.clone(), Tensor::zeros(F32, 3));
    assert!(broken(&vmap(&uneven, 0, |(a, _)| a.sum())).contains("the batch sizes 2 and 3 must be equal"));
    let x = Tensor::input("x", F32, ("n", 2));
    check_type(&vmap(&x, 0, |r| r.softmax(0)), "f32[n, 2]");
}

#[test]
fn what_has_no_gradient_says_so() {
    let x = Tensor::from([1.0f32, 2.0]);
    insta::assert_snapshot!(broken(&grad(&x.square(), &x)), @"grad: operand 0 is f32[2]; only a scalar has a gradient");
    let n = Tensor::from([1, 2]);
    assert!(broken(&grad(&n.sum().cast(F32), &n)).contains("only floats vary"));
    let bad = Tensor::zeros(F32, 2) + Tensor::zeros(F32, 3);
    assert!(broken(&grad(&bad.sum(), &x)).starts_with("add:"));
    let line = line!() + 1;
    let e = grad(&x.square(), &x).check().unwrap_err().to_string();
    assert!(e.contains(&format!("transform.rs:{line}:")), "{e}");
}

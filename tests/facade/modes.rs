//! Modes of differentiation through the facade: Jacobians, Hessians, linear functions, and their compositions.

use std::collections::BTreeMap;

use lehr::prelude::*;
use lehr::transform;

use crate::{broken, check, check_type};

fn numbers(t: &Tensor) -> Vec<f64> {
    let array = t.eval().unwrap_or_else(|e| panic!("{e}"));
    (0..array.len()).map(|i| array.data().get(i).unwrap().to_f64()).collect()
}

/// Two tensors of equal types and values, to a relative 1e-12.
#[track_caller]
fn same(a: &Tensor, b: &Tensor) {
    assert_eq!(a.ty().unwrap(), b.ty().unwrap());
    for (x, y) in numbers(a).iter().zip(numbers(b)) {
        assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{a}\n{b}");
    }
}

fn point() -> Tensor {
    Tensor::from([0.3f64, -1.2, 0.7])
}

/// A function of a vector with a full Hessian.
fn curved(x: &Tensor) -> Tensor {
    (x.sin() * x.sum()).exp().sum()
}

/// A function from vectors to matrices.
fn matrix(x: &Tensor) -> Tensor {
    x.outer(&x.cos()).slice((..2, ..))
}

#[test]
fn both_modes_give_one_jacobian() {
    let x = point();
    let y = matrix(&x);
    check_type(&jacfwd(&y, &x), "f64[2, 3, 3]");
    same(&jacfwd(&y, &x), &jacrev(&y, &x));
    same(&jacobian(&y, &x), &jacrev(&y, &x));
    // Column by column, by hand.
    for i in 0..3 {
        let mut unit = [0.0; 3];
        unit[i] = 1.0;
        same(&jacfwd(&y, &x).slice((.., .., i)), &jvp(&y, &x, &Tensor::from(unit)));
    }
}

#[test]
fn jacobians_have_the_structure_of_outputs_by_inputs() {
    let (a, b) = (point(), Tensor::from(2.0f64));
    let out = BTreeMap::from([("product".to_owned(), &a * &b), ("sum".to_owned(), a.sum())]);
    for j in [jacfwd(&out, &(&a, [&b])), jacrev(&out, &(&a, [&b])), jacobian(&out, &(&a, [&b]))] {
        let (by_a, [by_b]) = &j["product"];
        check(by_a, "[[2,0,0],[0,2,0],[0,0,2]]");
        check(by_b, "[0.3,-1.2,0.7]");
        let (by_a, [by_b]) = &j["sum"];
        check(by_a, "[1,1,1]");
        // What does not depend on a leaf has the derivative 0 of its type.
        check_type(by_b, "f64[]");
        check(by_b, "0");
    }
}

#[derive(Tree)]
struct Model {
    blocks: Vec<Tensor>,
    scale: Tensor,
}

#[test]
fn structs_have_hessians_by_name() {
    let model = Model { blocks: vec![Tensor::from(2.0f64), Tensor::from(3.0f64)], scale: Tensor::from(5.0f64) };
    let loss = &model.blocks[0] * &model.blocks[1] * &model.scale;
    let h = hessian(&loss, &model);
    assert_eq!(h.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["blocks[0]", "blocks[1]", "scale"]);
    check(&h["blocks[0]"].blocks[1], "5");
    check(&h["blocks[1]"].scale, "2");
    check(&h["scale"].scale, "0");
    let vector = Model { blocks: vec![Tensor::from(1.0f64), Tensor::from(0.0f64)], scale: Tensor::from(1.0f64) };
    let product = hvp(&loss, &model, &vector);
    check(&product.blocks[0], "3");
    check(&product.blocks[1], "7");
    check(&product.scale, "3");
}

#[test]
fn every_composition_gives_one_hessian() {
    let x = point();
    let loss = curved(&x);
    let h = hessian(&loss, &x);
    check_type(&h, "f64[3, 3]");
    same(&h, &jacfwd(&jacrev(&loss, &x), &x));
    same(&h, &jacrev(&jacfwd(&loss, &x), &x));
    same(&h, &jacfwd(&jacfwd(&loss, &x), &x));
    same(&h, &jacrev(&jacrev(&loss, &x), &x));
    same(&h, &h.t());
    let v = Tensor::from([1.0f64, -0.5, 2.0]);
    same(&hvp(&loss, &x, &v), &h.matmul(&v));
    // jvp of grad is grad of jvp.
    let forward_over_reverse = jvp(&grad(&loss, &x), &x, &v);
    same(&forward_over_reverse, &grad(&jvp(&loss, &x, &v), &x));
    same(&forward_over_reverse, &grad(&(grad(&loss, &x) * &v).sum(), &x));
}

#[test]
fn third_derivatives_exist() {
    let x = Tensor::from([2.0f64, 3.0]);
    let third = jacfwd(&hessian(&(&x * &x * &x).sum(), &x), &x);
    check(&third, "[[[6,0],[0,0]],[[0,0],[0,6]]]");
    let s = Tensor::from(0.5f64);
    let mut derivative = s.sin();
    for _ in 0..4 {
        derivative = grad(&derivative, &s);
    }
    same(&derivative, &s.sin());
}

#[test]
fn batches_and_gradients_commute() {
    let rows = Tensor::from([[0.1f64, 0.2, 0.3], [1.0, -1.0, 0.5]]);
    let each = vmap(&rows, 0, |r| grad(&curved(r), r));
    same(&each, &grad(&vmap(&rows, 0, curved).sum(), &rows));
    let hessians = vmap(&rows, 0, |r| hessian(&curved(r), r));
    check_type(&hessians, "f64[2, 3, 3]");
    for i in 0..2 {
        let row = rows.slice(i);
        same(&hessians.slice(i), &hessian(&curved(&row), &row));
    }
    // Per-example gradients by a weight that all examples share.
    let w = point();
    let per_example = vmap(&(&rows, &w), (0, None), |(r, w)| grad(&(r * w).sum().tanh(), w));
    check_type(&per_example, "f64[2, 3]");
    same(&per_example.sum_axes(0), &grad(&vmap(&rows, 0, |r| (r * &w).sum().tanh()).sum(), &w));
}

#[test]
fn sizes_may_be_symbolic() {
    let x = Tensor::input("x", F64, ["n"]);
    let y = x.sin();
    check_type(&jacrev(&y, &x), "f64[n, n]");
    check_type(&hessian(&y.sum(), &x), "f64[n, n]");
    let mut f = Function::new("f").output("j", &jacfwd(&y, &x)).compile(Options::default()).unwrap();
    let j = f.run([("x", [0.0f64, 0.0])]).unwrap();
    assert_eq!(j.unpack::<Array>().unwrap(), Array::from([[1.0f64, 0.0], [0.0, 1.0]]));
}

#[test]
fn a_linear_function_is_made_once_and_applied_often() {
    let (x, w) = (point(), Tensor::from([1.0f64, 2.0, 3.0]));
    let out = (matrix(&x) * &w, x.argmax(0));
    let (values, slope) = linearize(&out, &(&x, &w));
    same(&values.0, &out.0);
    check(&values.1, "2");
    for seed in 0..3 {
        let v = random::normal(Key::new(seed), F64, (2, 3));
        let tangents = (v.slice(0), v.slice(1));
        let (applied, none) = slope.apply(&tangents);
        same(&applied, &jvp(&out.0, &(&x, &w), &tangents));
        check(&none, "0");
        let ct = random::normal(Key::new(seed + 10), F64, (2, 3));
        let (by_x, by_w) = slope.transpose(&(ct.clone(), Tensor::from(0i64)));
        let (want_x, want_w) = vjp(&out.0, &(&x, &w), &ct);
        same(&by_x, &want_x);
        same(&by_w, &want_w);
    }
    // Exponentials are in the values only: the linear function starts from what is kept of them.
    let x = Tensor::input("x", F32, ["n"]);
    let (y, slope) = linearize(&x.exp(), &x);
    let f = Function::new("f").output("y", &y);
    let f = f.output("a", &slope.apply(&x.ones_like())).output("b", &slope.apply(&(&x * 2)));
    let f = f.compile(crate::interp()).unwrap();
    assert_eq!(f.program().graph().nodes().filter(|(_, n)| n.op.name() == "exp").count(), 1);
    assert!(broken(&slope.apply(&Tensor::from(1.0f32))).contains("a tangent has the type of what it belongs to"));
}

#[test]
fn other_values_come_along() {
    let w = Tensor::from([1.0f32, -2.0]);
    let logits = &w * 2;
    let aux = (logits.clone(), Some(logits.argmax(0)), vec![w.gt(0)]);
    let ((loss, (out, best, positive)), slope) = value_and_grad_aux(&logits.square().sum(), &aux, &w);
    check(&loss, "20");
    check(&out, "[2,-4]");
    check(&best.unwrap(), "0");
    check(&positive[0], "[true,false]");
    check(&slope, "[8,-16]");
}

#[test]
fn nothing_flows_through_a_stopped_tree() {
    let x = Tensor::from(3.0f64);
    let (a, [n]) = stop_gradient(&(x.square(), [Tensor::from(1i64)]));
    check(&n, "1");
    check(&grad(&(&a * &x), &x), "9");
    check(&jvp(&(&a * &x), &x, &Tensor::from(1.0f64)), "9");
    check(&hessian(&(stop_gradient(&x) * &x * &x), &x), "6");
    check(&vmap(&Tensor::from([1.0f64, 2.0]), 0, |x| grad(&(stop_gradient(&x.square()) * x), x)), "[1,4]");
}

#[test]
fn what_is_no_float_is_refused_by_name() {
    let (x, n) = (Tensor::from([1.0f32, 2.0]), Tensor::from([1i64, 2]));
    let wrt = (x.clone(), vec![n.clone()]);
    let loss = (&x * &n).sum();
    let e = "operand 0 is i64[2]; the input `[1][0]` is no float, and only floats vary";
    assert_eq!(broken(&grad(&loss, &wrt).0), format!("grad: {e}"));
    assert_eq!(broken(&jvp(&loss, &wrt, &wrt)), format!("jvp: {e}"));
    assert_eq!(broken(&vjp(&loss, &wrt, &loss).0), format!("vjp: {e}"));
    assert_eq!(broken(&hvp(&loss, &wrt, &wrt).0), format!("hvp: {e}"));
    assert_eq!(broken(&jacfwd(&loss, &wrt).0), format!("jacobian: {e}"));
    assert_eq!(broken(&hessian(&loss, &wrt).0.0), format!("hessian: {e}"));
    assert_eq!(broken(&linearize(&loss, &wrt).0), format!("linearize: {e}"));
    assert!(broken(&grad(&loss, &x.gt(0))).contains("bool[2]; the input is no float"));
    assert_eq!(
        broken(&jacrev(&(&x, &n), &x).0),
        "jacobian: operand 0 is i64[2]; the output `[1]` is no float, and only floats vary"
    );
    let line = line!() + 1;
    let e = hessian(&loss, &wrt).1[0].0.check().unwrap_err().to_string();
    assert!(e.contains(&format!("modes.rs:{line}:")) && e.contains("= help: convert it"), "{e}");
}

#[test]
fn what_a_value_does_not_depend_on_has_zeros_of_its_type() {
    let (x, w) = (Tensor::from([1.0f32, 2.0]), Tensor::from([[1.0f64]]));
    let (gx, gw) = grad(&x.sum(), &(&x, &w));
    check(&gx, "[1,1]");
    check_type(&gw, "f64[1, 1]");
    check(&gw, "[[0]]");
    check(&transform::jvp(&x, &w, &w), "[0,0]");
    check_type(&transform::jacfwd(&x, &w), "f32[2, 1, 1]");
}

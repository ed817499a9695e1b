//! Functions with derivatives of their own, through every transformation.

use lehr::ir::Graph;
use lehr::ir::graph::verify::verify;
use lehr::prelude::*;

use crate::{broken, check};

fn x() -> Tensor {
    Tensor::from([0.5f64, -2.0, 3.0])
}

/// `sin`, with a derivative that is seven times too large.
fn seven_sin(x: &Tensor) -> Tensor {
    custom_jvp("seven_sin", Tensor::sin, |x: &Tensor, t: &Tensor| (x.sin(), 7 * (t * x.cos()))).call(x)
}

/// `sin`, with a cotangent that is clipped, which no linear function does.
fn clipped_sin(x: &Tensor) -> Tensor {
    let forward = |x: &Tensor| (x.sin(), x.cos());
    custom_vjp("clipped_sin", Tensor::sin, forward, |c: &Tensor, ct: &Tensor| (c * ct).clip(-0.5, 0.5)).call(x)
}

fn close(a: &Tensor, b: &Tensor) {
    let (a, b): (Vec<f64>, Vec<f64>) = (a.flatten().to().unwrap(), b.flatten().to().unwrap());
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(&b) {
        assert!((x - y).abs() <= 1e-12 * (1.0 + y.abs()), "{a:?}\n{b:?}");
    }
}

#[test]
fn a_rule_for_both_modes_is_used_by_both() {
    let x = x();
    close(&seven_sin(&x), &x.sin());
    close(&grad(&seven_sin(&x).sum(), &x), &(7 * x.cos()));
    close(&jvp(&seven_sin(&x), &x, &x), &(7 * x.cos() * &x));
    // The second derivative is the rule's: of 7 cos x, twice the rule where it uses sin itself.
    close(&jvp(&grad(&seven_sin(&x).sum(), &x), &x, &x.ones_like()), &(-7 * x.sin()));
    close(&grad(&grad(&seven_sin(&x).sum(), &x).sum(), &x), &(-7 * x.sin()));
}

#[test]
fn a_reverse_rule_is_used_exactly() {
    let x = x();
    close(&clipped_sin(&x), &x.sin());
    let want = (x.cos() * 10).clip(-0.5, 0.5);
    close(&grad(&(clipped_sin(&x) * 10).sum(), &x), &want);
    close(&vjp(&clipped_sin(&x), &x, &(&x * 0.1)), &(x.cos() * (&x * 0.1)).clip(-0.5, 0.5));
    // The second derivative is that of the rule's bodies, in either mode.
    let first = |x: &Tensor| grad(&(clipped_sin(x) * &x.stop()).sum(), x);
    let want = grad(&(x.cos() * x.stop()).clip(-0.5, 0.5).sum(), &x);
    close(&grad(&first(&x).sum(), &x), &want);
    close(&jvp(&first(&x), &x, &x.ones_like()), &want);
}

trait Stop {
    fn stop(&self) -> Tensor;
}

impl Stop for Tensor {
    fn stop(&self) -> Tensor {
        stop_gradient(self)
    }
}

#[test]
fn forward_mode_of_a_reverse_rule_names_the_call_and_the_remedy() {
    let x = x();
    let y = clipped_sin(&x).sum();
    let e = jvp(&y, &x, &x).check().unwrap_err().to_string();
    assert!(
        e.starts_with(
            "grad: `clipped_sin` has a derivative in reverse mode only, by custom_vjp; give it one by custom_jvp"
        ),
        "{e}"
    );
    assert!(e.contains("> clipped_sin") && e.contains("rules.rs:"), "{e}");
    assert!(jacfwd(&y, &x).check().is_err());
    assert!(hessian(&y, &x).check().is_ok(), "forward over reverse differentiates the bodies");
}

#[test]
fn rules_take_and_give_trees() {
    // One result is an integer, one input is an integer, and one input is not used.
    let f = |(x, n, y): &(Tensor, Tensor, [Tensor; 1])| (x * n.cast(F64), vec![n + 1, y[0].floor().cast(I64)]);
    let both = custom_jvp("scaled", f, |p: &(Tensor, Tensor, [Tensor; 1]), t: &(Tensor, Tensor, [Tensor; 1])| {
        let (value, others) = f(p);
        assert_eq!(t.1.dtype(), Some(I64));
        ((value, others.clone()), (&t.0 * p.1.cast(F64) * 2, others))
    });
    let back = custom_vjp(
        "scaled",
        f,
        |p: &(Tensor, Tensor, [Tensor; 1])| (f(p), (p.1.clone(), Some(p.0.clone()))),
        |(n, x): &(Tensor, Option<Tensor>), (ct, others): &(Tensor, Vec<Tensor>)| {
            assert_eq!(others[0].dtype(), Some(I64));
            let x = x.as_ref().unwrap();
            (ct * n.cast(F64) * 2, n.clone(), [x.zeros_like().sum()])
        },
    );
    let (x, n, y) = (x(), Tensor::from(3i64), Tensor::from(1.5f64));
    for (value, counts) in [both.call(&(&x, &n, [&y])), back.call(&(&x, &n, [&y]))] {
        check(&value, "[1.5,-6,9]");
        check(&counts[0], "4");
        check(&counts[1], "1");
        let (by_x, by_y) = grad(&value.sum(), &(&x, &y));
        check(&by_x, "[6,6,6]");
        check(&by_y, "0");
    }
}

#[test]
fn rules_survive_vmap() {
    let rows = Tensor::from([[0.5f64, -2.0], [3.0, 0.1], [1.0, 2.0]]);
    let w = Tensor::from([2.0f64, 0.5]);
    close(&vmap(&rows, 0, |r| grad(&seven_sin(r).sum(), r)), &(7 * rows.cos()));
    close(&grad(&vmap(&rows, 0, seven_sin).sum(), &rows), &(7 * rows.cos()));
    let clipped = (rows.cos() * 10).clip(-0.5, 0.5);
    close(&vmap(&rows, 0, |r| grad(&(clipped_sin(r) * 10).sum(), r)), &clipped);
    close(&grad(&(vmap(&rows, 0, clipped_sin) * 10).sum(), &rows), &clipped);
    // An operand that all examples share gets the sum of what each gives it, clipped for each.
    let dot = custom_vjp(
        "dot",
        |(a, w): &(Tensor, Tensor)| a.dot(w),
        |(a, w): &(Tensor, Tensor)| (a.dot(w), (a.clone(), w.clone())),
        |(a, w): &(Tensor, Tensor), ct: &Tensor| (w * ct, (a * ct).clip(-1.0, 1.0)),
    );
    let loss = vmap(&(&rows, &w), (0, None), |(r, w)| dot.call(&(r, w))).sum();
    let (by_rows, by_w) = grad(&loss, &(&rows, &w));
    close(&by_rows, &(rows.ones_like() * &w));
    close(&by_w, &rows.clip(-1.0, 1.0).sum_axes(0));
    close(&vmap(&rows, 0, |r| jvp(&seven_sin(r), r, r)), &(7 * rows.cos() * &rows));
}

#[test]
fn rules_survive_checkpoints_and_other_rules() {
    let x = x();
    for keep in [Checkpoint::Nothing, Checkpoint::Everything] {
        let y = checkpoint(&x, keep, |x| clipped_sin(&x.exp()).sum() + seven_sin(x).sum());
        let want = x.exp() * x.exp().cos().clip(-0.5, 0.5) + 7 * x.cos();
        close(&grad(&y, &x), &want);
    }
    let outer = custom_jvp("outer", seven_sin, |x: &Tensor, t: &Tensor| {
        let y = seven_sin(x);
        let slope = jvp(&y, x, t);
        (y, slope)
    });
    close(&grad(&outer.call(&x).sum(), &x), &(7 * x.cos()));
}

#[test]
fn rules_round_trip_as_text_and_merge_as_values() {
    let x = Tensor::input("x", F64, ["n"]);
    // Two calls of one function are one value, and so are their gradients.
    let loss = (clipped_sin(&x) * clipped_sin(&x)).sum() + seven_sin(&x).sum() + seven_sin(&x).sum();
    let graph = Function::new("f").output("y", &loss).graph().unwrap();
    let text = graph.to_string();
    assert!(text.contains("fwd = graph @clipped_sin.fwd") && text.contains("jvp = graph @seven_sin.jvp"), "{text}");
    assert_eq!(Graph::parse(&text).unwrap(), graph);
    assert_eq!(serde_json::from_str::<Graph>(&serde_json::to_string(&graph).unwrap()).unwrap(), graph);
    assert!(verify(&graph).is_ok());
    let f = Function::new("f").output("g", &grad(&loss, &x)).compile(crate::interp()).unwrap();
    for op in ["sin", "cos"] {
        let count = f.program().graph().nodes().filter(|(_, n)| n.op.name() == op).count();
        assert_eq!(count, 1, "{}", f.program().graph());
    }
}

#[test]
fn a_rule_that_does_not_fit_is_refused() {
    let x = x();
    let short = |x: &Tensor, t: &Tensor| (x.sin(), t.sum());
    let e = broken(&custom_jvp("short", Tensor::sin, short).call(&x));
    let want = "custom_jvp: operand 0 is f64[3], operand 1 is f64[]; tangent 0 of the rule of `short` must have the type of what it belongs to";
    assert_eq!(e, want);
    let e = broken(&custom_vjp("v", Tensor::sin, |x: &Tensor| (x.sum(), ()), |(): &(), t: &Tensor| t.clone()).call(&x));
    assert!(e.contains("result 0 of the rule of `v` must have the type"), "{e}");
    let e = broken(&custom_vjp("v", Tensor::sin, |x: &Tensor| (x.sin(), ()), |(): &(), t: &Tensor| t.sum()).call(&x));
    assert!(e.contains("cotangent 0 of the rule of `v` must have the type"), "{e}");
    let line = line!() + 1;
    let y = custom_jvp("short", Tensor::sin, short).call(&x);
    assert!(y.check().unwrap_err().to_string().contains(&format!("rules.rs:{line}:")));
    // A rule that is not linear is found when it is transposed.
    let square = custom_jvp("square", Tensor::square, |x: &Tensor, t: &Tensor| (x.square(), t * t * x));
    let e = grad(&square.call(&x).sum(), &x).check().unwrap_err().to_string();
    assert!(e.contains("`mul`") && e.contains("> mul"), "{e}");
}

#[test]
fn a_rule_has_no_say_in_what_it_captures() {
    let (x, w) = (x(), Tensor::variable("w", [1.0f64, 2.0, 3.0]));
    let scale = w.exp();
    let y = custom_jvp("scaled", |x: &Tensor| x * &scale, |x: &Tensor, t: &Tensor| (x * &scale, t * &scale)).call(&x);
    close(&grad(&y.sum(), &x), &scale);
    let e = grad(&y.sum(), &w).check().unwrap_err().to_string();
    assert!(e.contains("`scaled` captures a tensor that varies") && e.contains("pass it as an input"), "{e}");
    let residual = |x: &Tensor| (x * &scale, ());
    let y = custom_vjp("scaled", |x: &Tensor| x * &scale, residual, |(): &(), ct: &Tensor| ct * &scale * 2).call(&x);
    close(&grad(&y.sum(), &x), &(&scale * 2));
    assert!(grad(&y.sum(), &w).check().is_err());
    // Stopped, it is a constant like others.
    let scale = stop_gradient(&scale);
    let y = custom_jvp("scaled", |x: &Tensor| x * &scale, |x: &Tensor, t: &Tensor| (x * &scale, t * &scale)).call(&x);
    check(&grad(&y.sum(), &w), "[0,0,0]");
    // What the backward function needs of the forward one is a residual.
    let leak = std::cell::RefCell::new(None);
    let forward = |x: &Tensor| {
        let y = x.sin();
        *leak.borrow_mut() = Some(y.clone());
        (y, ())
    };
    let backward = |(): &(), ct: &Tensor| ct * leak.borrow().as_ref().unwrap();
    let e = broken(&custom_vjp("leaky", Tensor::sin, forward, backward).call(&x));
    assert!(e.contains("captures a value from inside its forward function"), "{e}");
}

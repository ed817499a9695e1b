//! The gradient check: what it accepts, what it finds, and how it says so.

use lehr::gradcheck::{GradCheck, Mode, gradcheck};
use lehr::prelude::*;

fn at() -> Tensor {
    Tensor::from([0.3f64, -1.2, 2.0])
}

#[test]
fn right_derivatives_pass_in_both_modes_and_orders() {
    let (x, w) = (at(), random::normal(Key::new(0), F32, (3, 2)));
    let labels = Tensor::from(1i64);
    let report = gradcheck(&(&x, vec![&w], &labels), &GradCheck::default(), |(x, w, n)| {
        let logits = x.matmul(&w[0]);
        (losses::softmax_cross_entropy(&logits, n), logits.layer_norm(0, 1e-3), n + 1)
    });
    let report = report.unwrap_or_else(|e| panic!("{e}"));
    // Two inputs, two directions, two modes, two orders.
    assert_eq!(report.checks.len(), 16);
    assert!(report.worst() < 1e-7, "{report}");
    let names: Vec<&str> = report.checks.iter().map(|c| c.input.as_str()).collect();
    assert!(names.contains(&"[0]") && names.contains(&"[1][0]") && !names.contains(&"[2]"));
    assert!(report.checks.iter().any(|c| (c.order, c.mode) == (2, Mode::Forward)));
}

#[test]
fn it_runs_on_every_backend() {
    let options = GradCheck::default().backend(Backend::default());
    gradcheck(&at(), &options, |x| (x.sin() * x.sum()).exp()).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn third_derivatives_can_be_checked() {
    let report = gradcheck(&at(), &GradCheck::default().order(3), |x| (x.sin() * x).sum()).unwrap();
    assert_eq!(report.checks.iter().map(|c| c.order).max(), Some(3));
}

#[test]
fn a_wrong_rule_is_reported() {
    let f = |(x, w): &(Tensor, Tensor)| x.sin() * w;
    let wrong = custom_jvp("wrong", f, |(x, w): &(Tensor, Tensor), (t, u): &(Tensor, Tensor)| {
        (x.sin() * w, t * x.cos() * w * 1.001 + u * x.sin())
    });
    let line = line!() + 1;
    let e = gradcheck(&(at(), at()), &GradCheck::default().order(1), |inputs| wrong.call(inputs)).unwrap_err();
    let lehr::Error::GradCheck(error) = &e else { panic!("{e}") };
    let failures: Vec<_> = error.0.failures().collect();
    assert_eq!(failures.len(), 4);
    assert!(failures.iter().all(|c| c.input == "[0]" && c.error > 1e-4 && c.error < 1e-2));
    let text = e.to_string();
    assert!(text.starts_with("gradcheck: 4 of 8 derivatives differ from finite differences"), "{text}");
    assert!(text.contains(&format!("gradchecks.rs:{line}:")), "{text}");
    assert!(text.contains("\n  order 1, forward, `[0]` in direction 0: numeric "), "{text}");
    assert!(text.contains("\n  = help: "), "{text}");
}

#[test]
fn a_wrong_second_derivative_is_reported_as_such() {
    // Right at first order; its second derivative is that of the rule, where the slope is stopped.
    let once = custom_jvp("once", Tensor::sin, |x: &Tensor, t: &Tensor| (x.sin(), t * stop_gradient(&x.cos())));
    assert!(gradcheck(&at(), &GradCheck::default().order(1), |x| once.call(x)).is_ok());
    let e = gradcheck(&at(), &GradCheck::default(), |x| once.call(x)).unwrap_err();
    let lehr::Error::GradCheck(error) = &e else { panic!("{e}") };
    assert!(error.0.failures().all(|c| c.order == 2));
    assert_eq!(error.0.failures().count(), 4);
}

#[test]
fn a_nan_fails() {
    let e = gradcheck(&at(), &GradCheck::default().order(1), |x| x.log()).unwrap_err();
    assert!(e.to_string().contains("NaN"), "{e}");
}

#[test]
fn reverse_rules_are_checked_in_reverse() {
    let forward = |x: &Tensor| (x.exp(), x.exp());
    let f = custom_vjp("exp", Tensor::exp, forward, |y: &Tensor, ct: &Tensor| y * ct);
    let report = gradcheck(&at(), &GradCheck::default().reverse_only(), |x| f.call(x)).unwrap();
    assert!(report.checks.iter().all(|c| c.mode == Mode::Reverse));
    assert!(gradcheck(&at(), &GradCheck::default(), |x| f.call(x)).unwrap_err().to_string().contains("custom_jvp"));
}

#[test]
fn a_point_without_floats_is_refused() {
    let e = gradcheck(&Tensor::from(1i64), &GradCheck::default(), Clone::clone).unwrap_err().to_string();
    assert!(e.starts_with("gradcheck: operand 0 is i64[]; the point has no floats"), "{e}");
    let open = Tensor::input("x", F64, 2);
    assert!(gradcheck(&open, &GradCheck::default(), Clone::clone).is_err());
}

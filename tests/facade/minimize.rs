//! Minimisation: closed forms, hard valleys, a regression, and what happens where there is no minimum to find.

use lehr::prelude::*;
use lehr::solve::{Method, MinimizeOptions, Minimum, minimize, minimize_with, root};

use crate::broken;

fn both() -> [MinimizeOptions; 2] {
    [MinimizeOptions::lbfgs(), MinimizeOptions::newton_cg()]
}

/// The point, the number of steps, and whether it converged, on every backend; all must agree in the last two.
#[track_caller]
fn solved(found: &Minimum<Tensor>) -> (Vec<f64>, i64, bool) {
    let mut all = Vec::new();
    for backend in Backend::available() {
        let f = Function::new("f").output("x", &found.x).output("n", &found.iterations).output("ok", &found.converged);
        let mut exe = f.compile(Options::default().backend(*backend)).unwrap_or_else(|e| panic!("{e}"));
        let out: (Vec<f64>, i64, bool) = exe.run(()).unwrap().unpack().unwrap();
        all.push(out);
    }
    for other in &all[1..] {
        near(&other.0, &all[0].0, 1e-6);
        assert_eq!(other.2, all[0].2);
    }
    all.swap_remove(0)
}

#[track_caller]
fn near(found: &[f64], want: &[f64], within: f64) {
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() <= within, "{found:?} and {want:?}");
    }
}

#[test]
fn quadratics_are_solved() {
    let a = Tensor::from([[4.0f64, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]]);
    let b = Tensor::from([2.0f64, -2.0, 4.0]);
    for options in both() {
        let found = minimize_with(&options, &Tensor::zeros(F64, 3), |x| x.matmul(&a.matmul(x)) * 0.5 - x.matmul(&b));
        let (x, steps, converged) = solved(&found);
        near(&x, &[1.0, -2.0, 3.0], 1e-7);
        assert!(converged && steps <= 20, "{options:?}: {steps}");
        let value: f64 = found.value.to().unwrap();
        // -½ b·x.
        assert!((value + 9.0).abs() < 1e-12, "{value}");
    }
}

fn rosenbrock(x: &Tensor) -> Tensor {
    let (a, b) = (x.slice(..-1), x.slice(1..));
    ((1.0 - &a).square() + (b - a.square()).square() * 100.0).sum()
}

#[test]
fn rosenbrocks_valley_is_followed_to_its_end() {
    // Far from the minimum, Newton's equation is solved to half its size only.
    for (options, most) in both().into_iter().zip([50, 100]) {
        let (x, steps, converged) = solved(&minimize_with(&options, &Tensor::from([-1.2f64, 1.0]), rosenbrock));
        near(&x, &[1.0, 1.0], 1e-7);
        assert!(converged && steps < most, "{options:?}: {steps} steps");
        let start: Vec<f64> = (0..10).map(|i| if i % 2 == 0 { -1.2 } else { 1.0 }).collect();
        let (x, steps, converged) = solved(&minimize_with(&options, &Tensor::from(start), rosenbrock));
        near(&x, &[1.0; 10], 1e-6);
        assert!(converged && steps < 150, "{options:?}: {steps} steps");
    }
    // A short memory is enough, and singles have their own tolerance.
    let short = MinimizeOptions::default().method(Method::Lbfgs { history: 2 });
    let found = minimize_with(&short, &Tensor::from([-1.2f32, 1.0]), rosenbrock);
    assert!(found.converged.to::<bool>().unwrap());
    let x: Vec<f32> = found.x.to().unwrap();
    assert!(x.iter().all(|v| (v - 1.0).abs() < 2e-3), "{x:?}");
}

const POINTS: [(f64, bool); 8] =
    [(-2.0, false), (-1.5, false), (-0.5, true), (0.0, false), (0.3, true), (1.0, false), (1.2, true), (2.5, true)];

/// The slope and intercept of a regularised logistic regression, by Newton's method on the host.
fn regression() -> [f64; 2] {
    let mut w = [0.0f64; 2];
    for _ in 0..50 {
        let (mut g, mut h) = ([0.1 * w[0], 0.1 * w[1]], [0.1, 0.0, 0.1]);
        for (x, label) in POINTS {
            let p = 1.0 / (1.0 + (-(w[0] * x + w[1])).exp());
            let (d, s) = (p - f64::from(label), p * (1.0 - p));
            g = [g[0] + d * x, g[1] + d];
            h = [h[0] + s * x * x, h[1] + s * x, h[2] + s];
        }
        let det = h[0] * h[2] - h[1] * h[1];
        w = [w[0] - (h[2] * g[0] - h[1] * g[1]) / det, w[1] - (h[0] * g[1] - h[1] * g[0]) / det];
    }
    w
}

#[test]
fn a_logistic_regression_is_fitted_as_one_program() {
    let x = Tensor::input("x", F64, ["n"]);
    let y = Tensor::input("y", Bool, ["n"]);
    for options in both() {
        let options = options.tolerance(1e-10);
        let start = (Tensor::constant(0.0f64), Tensor::constant(0.0f64));
        let found = minimize_with(&options, &start, |(w, b)| {
            let loss = losses::sigmoid_cross_entropy(&(&x * w + b), &y.cast(F64)).sum();
            loss + (w.square() + b.square()) * 0.05
        });
        let f = Function::new("fit").output("w", &found.x.0).output("b", &found.x.1).output("ok", &found.converged);
        let mut fit = f.compile(Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let xs: Vec<f64> = POINTS.iter().map(|p| p.0).collect();
        let ys: Vec<bool> = POINTS.iter().map(|p| p.1).collect();
        let out = fit.run([("x", Array::from(xs)), ("y", Array::from(ys))]).unwrap();
        let (w, b, ok): (f64, f64, bool) = out.unpack().unwrap();
        assert!(ok);
        near(&[w, b], &regression(), 1e-9);
    }
}

#[test]
fn sizes_may_be_names() {
    let target = Tensor::input("target", F64, ["n"]);
    for options in both() {
        let found =
            minimize_with(&options, &target.zeros_like(), |x| ((x - &target).square() + (x - &target).pow(4)).sum());
        let mut f =
            Function::new("f").output("x", &found.x).compile(Options::default()).unwrap_or_else(|e| panic!("{e}"));
        for target in [vec![1.0], vec![3.0, -2.0, 0.5]] {
            let x: Vec<f64> = f.run([("target", target.as_slice())]).unwrap().unpack().unwrap();
            near(&x, &target, 1e-7);
        }
    }
}

#[test]
fn minimisations_are_batched_and_stand_in_other_programs() {
    let starts = Tensor::from([[-1.2f64, 1.0], [2.0, 2.0], [0.0, -3.0]]);
    let found = vmap(&starts, 0, |start| minimize(start, rosenbrock).x);
    near(&found.to::<Vec<f64>>().unwrap(), &[1.0; 6], 1e-6);
    // The minimum of x² + a e^x moves with a: 2x + a e^x = 0, so dx/da = -e^x / (2 + a e^x).
    let a = Tensor::from(1.5f64);
    let best = minimize(&Tensor::from(0.0f64), |x| x.square() + &a * x.exp()).x;
    let x = root(&stop_gradient(&best), |x| grad(&(x.square() + &a * x.exp()), x));
    let at: f64 = x.to().unwrap();
    let slope: f64 = grad(&x, &a).to().unwrap();
    let want = -at.exp() / (2.0 + 1.5 * at.exp());
    assert!((slope - want).abs() < 1e-12, "{slope} and {want}");
    assert!((best.to::<f64>().unwrap() - at).abs() < 1e-7);
}

#[test]
fn steps_that_leave_the_domain_are_taken_back() {
    for options in both() {
        // NaN below 0; the first step of either method goes there.
        let found = minimize_with(&options, &Tensor::from([9.0f64]), |x| (x - x.log() * 2.0).square().sum() + x.sum());
        let (x, _, converged) = solved(&found);
        // 2 (x - 2 log x)(1 - 2/x) + 1 = 0.
        let slope = 2.0 * (x[0] - 2.0 * x[0].ln()) * (1.0 - 2.0 / x[0]) + 1.0;
        assert!(converged && slope.abs() < 1e-7, "{options:?}: {x:?}, {slope}");
    }
}

#[test]
fn what_does_not_converge_says_so() {
    for options in both() {
        let few = options.clone().iterations(3);
        let found = minimize_with(&few, &Tensor::from([-1.2f64, 1.0]), rosenbrock);
        let (_, steps, converged) = solved(&found);
        assert_eq!((steps, converged), (3, false));
        // Nothing bounds it from below.
        let found = minimize_with(&options.iterations(20), &Tensor::from([1.0f64]), |x| -x.square().sum());
        assert!(!solved(&found).2);
    }
}

#[test]
fn minima_vary_forwards_only() {
    // x + ½ e^x = a, where dx/da = 1 / (1 + ½ e^x).
    let a = Tensor::from(3.0f64);
    let x = minimize(&Tensor::from(0.0f64), |x| (x - &a).square() + x.exp()).x;
    let at: f64 = x.to().unwrap();
    let slope: f64 = jvp(&x, &a, &Tensor::from(1.0f64)).to().unwrap();
    assert!((slope - 1.0 / (1.0 + 0.5 * at.exp())).abs() < 1e-3, "{slope}");
    assert!(broken(&grad(&x, &a)).contains("`while` has no reverse mode"));
}

#[test]
fn wrong_objectives_are_named() {
    let x = Tensor::from([1.0f64, 2.0]);
    let line = line!() + 1;
    let found = minimize(&x, |x| x * 2);
    assert_eq!(
        broken(&found.value),
        "minimize: operand 0 is f64[2]; the function must give a scalar of the guess's dtype"
    );
    assert!(found.x.check().unwrap_err().to_string().contains(&format!("minimize.rs:{line}:")));
    assert!(broken(&minimize(&Tensor::from([1i64]), |x| x.sum()).x).contains("the guess must be floats of one dtype"));
    let mixed = (Tensor::from(1.0f32), Tensor::from(1.0f64));
    assert!(broken(&minimize(&mixed, |(x, _)| x.square()).x.0).contains("floats of one dtype"));
    assert!(broken(&minimize(&(), |()| x.sum()).value).contains("the guess has no tensors"));
    let none = MinimizeOptions::default().method(Method::Lbfgs { history: 0 });
    assert!(broken(&minimize_with(&none, &x, |x| x.sum()).x).contains("the history is 0"));
    // Errors of the function come out, and so do those of its derivative.
    assert!(broken(&minimize(&x, |x| (x + Tensor::zeros(F64, 3)).sum()).x).starts_with("add: "));
}

//! Roots and fixed points, and their derivatives by the implicit function theorem.

use lehr::control::scan;
use lehr::prelude::*;
use lehr::solve::{SolveOptions, fixed_point, fixed_point_with, root, root_with};

use crate::broken;

/// Values on every backend against what is wanted.
#[track_caller]
fn check(t: &Tensor, want: &[f64], within: f64) {
    for backend in Backend::available() {
        let f = Function::new("f").output("y", t);
        let mut exe = f.compile(Options::default().backend(*backend)).unwrap_or_else(|e| panic!("{e}"));
        let found: Vec<f64> = exe.run(()).unwrap().unpack().unwrap();
        assert_eq!(found.len(), want.len());
        for (a, b) in found.iter().zip(want) {
            assert!((a - b).abs() <= within * (1.0 + b.abs()), "{backend:?}: {found:?} and {want:?}");
        }
    }
}

/// The derivative of `f` in a direction by central differences.
fn difference(f: impl Fn(&Tensor) -> Tensor, at: &Tensor, direction: &Tensor) -> Vec<f64> {
    let h = 1e-5;
    let (up, down) = (f(&(at + direction * h)), f(&(at - direction * h)));
    ((up - down) / (2.0 * h)).to().unwrap()
}

fn sqrt(a: &Tensor) -> Tensor {
    root(&Tensor::from(1.0f64), |x| x * x - a)
}

#[test]
fn the_root_of_two_and_its_derivatives() {
    let a = Tensor::from(2.0f64);
    let x = sqrt(&a);
    check(&x, &[2.0f64.sqrt()], 1e-15);
    let one = Tensor::from(1.0f64);
    let slope = 0.5 / 2.0f64.sqrt();
    check(&grad(&x, &a), &[slope], 1e-14);
    check(&jvp(&x, &a, &one), &[slope], 1e-14);
    // Second order, in all four combinations; third in forward mode.
    let bend = -0.25 * 2.0f64.powf(-1.5);
    let (g, t) = (grad(&x, &a), jvp(&x, &a, &one));
    check(&grad(&g, &a), &[bend], 1e-13);
    check(&jvp(&g, &a, &one), &[bend], 1e-13);
    check(&grad(&t, &a), &[bend], 1e-13);
    check(&jvp(&t, &a, &one), &[bend], 1e-13);
    check(&jvp(&jvp(&t, &a, &one), &a, &one), &[0.375 * 2.0f64.powf(-2.5)], 1e-6);
    let third = broken(&grad(&grad(&g, &a), &a));
    assert!(third.contains("`while` has no reverse mode"), "{third}");
}

/// `x + tanh(W x) = b`, over two leaves.
fn system(w: &Tensor, b: &Tensor) -> Tensor {
    let (p, q) = root(&(Tensor::zeros(F64, 2), Tensor::zeros(F64, (1, 1))), |(p, q)| {
        let x = Tensor::concat(&[p, &q.flatten()], 0);
        let y = &x + w.matmul(&x).tanh() - b;
        (y.slice(..2), y.slice(2..).reshape((1, 1)))
    });
    Tensor::concat(&[p, q.flatten()], 0)
}

#[test]
fn systems_vary_with_all_that_they_capture() {
    let w = Tensor::from([[0.5f64, -1.0, 0.3], [0.2, 0.8, -0.4], [-0.7, 0.1, 0.6]]);
    let b = Tensor::from([1.0f64, -0.5, 0.25]);
    let x = system(&w, &b);
    check(&(&x + w.matmul(&x).tanh() - &b), &[0.0; 3], 1e-12);
    let (dw, db) =
        (Tensor::from([[1.0f64, 0.0, -1.0], [0.5, 2.0, 0.0], [0.0, -1.0, 1.0]]), Tensor::from([0.3f64, 1.0, -2.0]));
    let by_w = difference(|w| system(w, &b), &w, &dw);
    let by_b = difference(|b| system(&w, b), &b, &db);
    check(&jvp(&x, &w, &dw), &by_w, 1e-8);
    check(&jvp(&x, &b, &db), &by_b, 1e-8);
    // Reverse mode is the transpose: u·(J v) = (Jᵀ u)·v.
    let u = Tensor::from([1.0f64, -2.0, 0.5]);
    let (gw, gb) = vjp(&x, &(&w, &b), &u);
    let along = |g: &Tensor, d: &Tensor| (g * d).sum();
    let sum = |t: &[f64]| t[0] - 2.0 * t[1] + 0.5 * t[2];
    check(&along(&gw, &dw), &[sum(&by_w)], 1e-8);
    check(&along(&gb, &db), &[sum(&by_b)], 1e-8);
}

#[test]
fn solutions_do_not_vary_with_the_guess() {
    let guess = Tensor::from(1.0f64);
    let a = Tensor::from(2.0f64);
    check(&grad(&root(&guess, |x| x * x - &a), &guess), &[0.0], 0.0);
    check(&grad(&fixed_point(&guess, |x| (x + &a / x) * 0.5), &guess), &[0.0], 0.0);
}

#[test]
fn roots_are_batched() {
    let a = Tensor::from([1.0f64, 4.0, 9.0, 2.0]);
    check(&vmap(&a, 0, sqrt), &[1.0, 2.0, 3.0, 2.0f64.sqrt()], 1e-14);
    check(&vmap(&a, 0, |a| grad(&sqrt(a), a)), &[0.5, 0.25, 1.0 / 6.0, 0.5 / 2.0f64.sqrt()], 1e-13);
    check(&grad(&vmap(&a, 0, sqrt).sum(), &a), &[0.5, 0.25, 1.0 / 6.0, 0.5 / 2.0f64.sqrt()], 1e-13);
    let heron = |a: &Tensor| fixed_point(&Tensor::from(1.0f64), |x| (x + a / x) * 0.5);
    check(&grad(&vmap(&a, 0, heron).sum(), &a), &[0.5, 0.25, 1.0 / 6.0, 0.5 / 2.0f64.sqrt()], 1e-13);
}

#[test]
fn sizes_may_be_names() {
    let a = Tensor::input("a", F32, ["n"]);
    let cubic = |x: &Tensor| x * x * x + x - &a;
    let newton = root(&a.zeros_like(), cubic);
    let iterated = fixed_point(&a.zeros_like(), |x| x - cubic(x) * 0.2);
    let f = Function::new("f")
        .output("newton", &newton)
        .output("iterated", &iterated)
        .output("by_newton", &grad(&newton.sum(), &a))
        .output("by_iteration", &grad(&iterated.sum(), &a));
    let mut f = f.compile(Options::default()).unwrap_or_else(|e| panic!("{e}"));
    for n in [1usize, 3] {
        // x³ + x = 2 at 1, where the slope of the inverse is 1 / (3 + 1).
        let out = f.run([("a", Array::full(&[n], 2.0f32.into()))]).unwrap();
        for (name, want) in [("newton", 1.0f32), ("iterated", 1.0), ("by_newton", 0.25), ("by_iteration", 0.25)] {
            let found: Vec<f32> = out.get(name).unwrap();
            assert!(found.len() == n && found.iter().all(|v| (v - want).abs() < 1e-4), "{name}: {found:?}");
        }
    }
}

#[test]
fn implicit_steps_stand_in_loops() {
    // Euler's implicit method for y' = -r y: each step divides by 1 + r h.
    let r = Tensor::from(2.0f64);
    let h = 0.1;
    let (y, ()) =
        scan(&Tensor::from(1.0f64), &Tensor::arange(5), |y, _| (root(y, |next| next - y + next * &r * h), ()));
    check(&y, &[1.2f64.powi(-5)], 1e-14);
    check(&grad(&y, &r), &[-5.0 * h * 1.2f64.powi(-6)], 1e-13);
}

#[test]
fn fixed_points_and_their_derivatives() {
    let cos = fixed_point_with(&SolveOptions::default(), &Tensor::from(1.0f64), Tensor::cos);
    check(&cos.x, &[0.739_085_133_215_160_6], 1e-11);
    assert!(cos.converged.to::<bool>().unwrap());

    let w = Tensor::from([[0.4f64, -0.3], [0.2, 0.5]]);
    let b = Tensor::from([0.7f64, -0.2]);
    let start = Tensor::zeros(F64, 2);
    let at = |w: &Tensor, b: &Tensor| fixed_point(&start, |x| (w.matmul(x) + b).tanh());
    let (dw, db) = (Tensor::from([[1.0f64, -1.0], [0.5, 2.0]]), Tensor::from([0.3f64, 1.0]));
    let x = at(&w, &b);
    let by_w = difference(|w| at(w, &b), &w, &dw);
    let by_b = difference(|b| at(&w, b), &b, &db);
    check(&jvp(&x, &w, &dw), &by_w, 1e-7);
    check(&jvp(&x, &b, &db), &by_b, 1e-7);
    let u = Tensor::from([1.0f64, -2.0]);
    let (gw, gb) = vjp(&x, &(&w, &b), &u);
    check(&(&gw * &dw).sum(), &[by_w[0] - 2.0 * by_w[1]], 1e-7);
    check(&(&gb * &db).sum(), &[by_b[0] - 2.0 * by_b[1]], 1e-7);
    // Newton's method on the difference has the same derivative, and the second one too.
    let other = root(&start, |x| (w.matmul(x) + &b).tanh() - x);
    let want: Vec<f64> = vjp(&other, &b, &u).to().unwrap();
    check(&gb, &want, 1e-10);
    let hessian = |x: &Tensor| grad(&(grad(&(x * &u).sum(), &b) * &db).sum(), &b);
    let want: Vec<f64> = hessian(&other).to().unwrap();
    check(&hessian(&x), &want, 1e-9);
}

#[test]
fn what_has_no_solution_says_so() {
    let none = root_with(&SolveOptions::default(), &Tensor::from(2.0f64), |x| x * x + 1.0);
    assert!(!none.converged.to::<bool>().unwrap());
    assert!(none.residual.to::<f64>().unwrap() >= 1.0);
    let few = SolveOptions::default().iterations(2);
    assert!(!fixed_point_with(&few, &Tensor::from(1.0f64), Tensor::cos).converged.to::<bool>().unwrap());
    // 1 is a fixed point of 2x - a, but no iteration finds its derivative: NaN rather than a wrong number.
    let a = Tensor::from(1.0f64);
    let found = fixed_point_with(&SolveOptions::default().iterations(50), &Tensor::from(1.0f64), |x| x * 2 - &a);
    assert!(found.converged.to::<bool>().unwrap());
    assert!(grad(&found.x, &a).to::<f64>().unwrap().is_nan());
    // A double root has no derivative.
    let b = Tensor::from(0.0f64);
    assert!(!grad(&root(&Tensor::from(0.0f64), |x| x * x - &b), &b).to::<f64>().unwrap().is_finite());
}

#[test]
fn wrong_equations_are_named() {
    let x = Tensor::from([1.0f64, 2.0]);
    let line = line!() + 1;
    let y = root(&x, |x| x.sum());
    assert_eq!(broken(&y), "root: operand 0 is f64[]; the function must give f64[2], the type of the guess");
    assert!(y.check().unwrap_err().to_string().contains(&format!("implicit.rs:{line}:")));
    let y = fixed_point(&x, |x| (x.clone(), x.clone()));
    assert_eq!(broken(&y), "fixed_point: the function gives 2 tensors for the guess of 1");
    assert!(broken(&root(&Tensor::from([1i64]), |x| x.clone())).contains("floats of one dtype"));
    assert!(broken(&root(&x, |x| x + Tensor::zeros(F64, 3))).starts_with("add: "));
}

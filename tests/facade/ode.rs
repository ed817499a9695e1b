//! Differential equations against closed forms: values, and derivatives in both modes.

use lehr::prelude::*;
use lehr::solve::{OdeOptions, Trajectory, odeint, odeint_with};

use crate::{broken, check_type};

const TIMES: [f64; 4] = [0.0, 0.5, 1.7, 3.0];

#[track_caller]
fn near(found: &[f64], want: &[f64], within: f64) {
    assert_eq!(found.len(), want.len());
    for (a, b) in found.iter().zip(want) {
        assert!((a - b).abs() <= within, "{found:?} and {want:?}");
    }
}

/// Values on every backend.
#[track_caller]
fn check(t: &Tensor, want: &[f64], within: f64) {
    for backend in Backend::available() {
        let f = Function::new("f").output("y", t);
        let mut exe = f.compile(Options::default().backend(*backend)).unwrap_or_else(|e| panic!("{e}"));
        near(&exe.run(()).unwrap().unpack::<Vec<f64>>().unwrap(), want, within);
    }
}

fn methods() -> [OdeOptions; 2] {
    [OdeOptions::rk4(60), OdeOptions::dormand_prince().rtol(1e-9).atol(1e-10)]
}

/// `y'' = -ω² y`, as the position and the velocity.
fn oscillator(options: &OdeOptions, omega: &Tensor, y0: &Tensor, v0: &Tensor) -> Trajectory<(Tensor, Tensor)> {
    odeint_with(options, &(y0, v0), &Tensor::from(TIMES), |_, (y, v)| (v.clone(), -(omega.square() * y)))
}

fn position(w: f64, y: f64, v: f64, t: f64) -> f64 {
    y * (w * t).cos() + v / w * (w * t).sin()
}

#[test]
fn oscillators_swing_as_they_should() {
    let (w, y, v) = (1.3, 0.8, -0.4);
    for options in methods() {
        let found = oscillator(&options, &Tensor::from(w), &Tensor::from(y), &Tensor::from(v));
        let want: Vec<f64> = TIMES.iter().map(|&t| position(w, y, v, t)).collect();
        check(&found.y.0, &want, 1e-7);
        let want: Vec<f64> = TIMES.iter().map(|&t| -y * w * (w * t).sin() + v * (w * t).cos()).collect();
        check(&found.y.1, &want, 1e-7);
        assert!(found.success.to::<bool>().unwrap());
        assert_eq!(found.y.0.to::<Vec<f64>>().unwrap()[0], y);
    }
    let fixed = oscillator(&methods()[0], &Tensor::from(w), &Tensor::from(y), &Tensor::from(v));
    assert_eq!((fixed.steps.to::<i64>().unwrap(), fixed.rejected.to::<i64>().unwrap()), (180, 0));
}

#[test]
fn trajectories_vary_as_the_closed_form_does() {
    let (w, y, v) = (1.3, 0.8, -0.4);
    let (omega, y0, v0) = (Tensor::from(w), Tensor::from(y), Tensor::from(v));
    let weights = [0.0, 1.0, -2.0, 0.5];
    // The derivatives of the position by ω, y0 and v0 at a time.
    let slopes = |t: f64| {
        let (sin, cos) = (w * t).sin_cos();
        [-y * t * sin + v * (t * cos / w - sin / (w * w)), cos, sin / w]
    };
    let want: Vec<[f64; 3]> = TIMES.iter().map(|&t| slopes(t)).collect();
    let of = |i: usize| want.iter().map(|s| s[i]).collect::<Vec<f64>>();
    for options in methods() {
        let found = oscillator(&options, &omega, &y0, &v0).y.0;
        let one = Tensor::from(1.0f64);
        for (i, leaf) in [&omega, &y0, &v0].into_iter().enumerate() {
            check(&jvp(&found, leaf, &one), &of(i), 1e-6);
        }
        let loss = (&found * &Tensor::from(weights)).sum();
        let grads = grad(&loss, &[omega.clone(), y0.clone(), v0.clone()]);
        for (i, g) in grads.iter().enumerate() {
            let total: f64 = of(i).iter().zip(weights).map(|(s, w)| s * w).sum();
            check(g, &[total], 1e-6);
        }
    }
}

#[test]
fn second_derivatives_go_through_the_steps() {
    // y = e^(-r), at 1.
    let r = Tensor::from(0.7f64);
    let end = |options: &OdeOptions| {
        odeint_with(options, &Tensor::from(1.0f64), &Tensor::from([0.0f64, 1.0]), |_, y| -(y * &r)).y.slice(-1)
    };
    let want = (-0.7f64).exp();
    for options in [OdeOptions::rk4(20), OdeOptions::dormand_prince().rtol(1e-9).atol(1e-10).max_steps(40)] {
        let y = end(&options);
        let g = grad(&y, &r);
        check(&jvp(&g, &r, &Tensor::from(1.0f64)), &[want], 1e-6);
        check(&grad(&g, &r), &[want], 1e-6);
    }
}

#[test]
fn times_may_run_backwards_and_vary() {
    for options in methods() {
        let times = Tensor::from([1.0f64, 0.25, -1.0]);
        let y = odeint_with(&options, &Tensor::from(2.0f64), &times, |t, y| y * t.cos()).y;
        // y = 2 exp(sin t - sin 1).
        let at = |t: f64| 2.0 * (t.sin() - 1.0f64.sin()).exp();
        check(&y, &[2.0, at(0.25), at(-1.0)], 1e-7);
        // By the last time, the slope there; by the first one, the negative slope carried to the end.
        let by_times = grad(&y.slice(-1), &times);
        let last = at(-1.0);
        check(&by_times, &[-last * 1.0f64.cos(), 0.0, last * (-1.0f64).cos()], 1e-6);
    }
    let one = odeint(&Tensor::from(2.0f64), &Tensor::from([1.0f64]), |_, y| y.clone());
    check(&one, &[2.0], 0.0);
    // A time that is named twice is reached twice.
    let twice = odeint(&Tensor::from(1.0f64), &Tensor::from([0.0f64, 1.0, 1.0]), |_, y| -y);
    let e = (-1.0f64).exp();
    check(&twice, &[1.0, e, e], 1e-6);
}

#[test]
fn fixed_steps_are_of_order_four() {
    let error = |steps: usize| {
        let times = Tensor::from([0.0f64, 2.0]);
        let y = odeint_with(&OdeOptions::rk4(steps), &Tensor::from(1.0f64), &times, |t, y| y * t.cos()).y;
        (y.to::<Vec<f64>>().unwrap()[1] - 2.0f64.sin().exp()).abs()
    };
    let ratio = error(20) / error(40);
    assert!((13.0..19.0).contains(&ratio), "{ratio}");
}

#[test]
fn steps_follow_the_tolerance_and_the_solution() {
    let run = |rtol: f64, sharp: f64| {
        // A logistic front, whose steepness decides how short the steps must be.
        let options = OdeOptions::dormand_prince().rtol(rtol).atol(rtol);
        let times = Tensor::from([0.0f64, 10.0]);
        let found = odeint_with(&options, &Tensor::from(0.0f64), &times, |t, _| {
            let s = ((t - 5.0) * sharp).sigmoid();
            &s * (1.0 - &s) * sharp
        });
        let y = found.y.to::<Vec<f64>>().unwrap()[1];
        (y, found.steps.to::<i64>().unwrap(), found.rejected.to::<i64>().unwrap())
    };
    let (y, coarse, _) = run(1e-4, 2.0);
    assert!((y - 1.0).abs() < 1e-3, "{y}");
    let (y, fine, _) = run(1e-9, 2.0);
    assert!((y - 1.0).abs() < 1e-4, "{y}");
    assert!(fine > 3 * coarse, "{coarse} and {fine}");
    // Van der Pol's oscillator rests and jumps, and its jumps cut steps short.
    let start = (Tensor::from(2.0f64), Tensor::from(0.0f64));
    let options = OdeOptions::dormand_prince().max_steps(2000);
    let found = odeint_with(&options, &start, &Tensor::from([0.0f64, 20.0]), |_, (x, v)| {
        (v.clone(), (1.0 - x.square()) * v * 5 - x)
    });
    assert!(found.success.to::<bool>().unwrap());
    assert!(found.rejected.to::<i64>().unwrap() > 0);
}

#[test]
fn steps_that_run_out_leave_nan() {
    let times = Tensor::from([0.0f64, 0.1, 100.0]);
    let r = Tensor::from(1.0f64);
    let found = odeint_with(&OdeOptions::dormand_prince().max_steps(8), &Tensor::from(1.0f64), &times, |t, y| {
        (t * 50.0).cos() * &r - y
    });
    let y: Vec<f64> = found.y.to().unwrap();
    assert!(y[0] == 1.0 && y[1].is_finite() && y[2].is_nan(), "{y:?}");
    assert!(!found.success.to::<bool>().unwrap());
    let (made, rejected): (i64, i64) = (found.steps.to().unwrap(), found.rejected.to().unwrap());
    assert_eq!(made + rejected, 8);
    // What was reached has a derivative all the same.
    let slope: f64 = grad(&found.y.slice(1), &r).to().unwrap();
    assert!(slope.is_finite() && slope != 0.0, "{slope}");
    // A solution that goes off to infinity runs out as well.
    let blown = odeint_with(&OdeOptions::default(), &Tensor::from(1.0f64), &Tensor::from([0.0f64, 2.0]), |_, y| y * y);
    assert!(blown.y.to::<Vec<f64>>().unwrap()[1].is_nan() && !blown.success.to::<bool>().unwrap());
}

#[test]
fn trajectories_are_batched() {
    let rates = Tensor::from([0.5f64, 1.0, 4.0]);
    let times = Tensor::from([0.0f64, 1.0]);
    let end = |options: &OdeOptions, r: &Tensor| {
        odeint_with(options, &Tensor::from(1.0f64), &times, |_, y| -(y * r)).y.slice(-1)
    };
    let want: Vec<f64> = [0.5f64, 1.0, 4.0].iter().map(|r| (-r).exp()).collect();
    let slopes: Vec<f64> = want.iter().map(|e| -e).collect();
    for options in [OdeOptions::rk4(60), OdeOptions::dormand_prince().rtol(1e-9).atol(1e-10).max_steps(100)] {
        // Each example has steps of its own.
        check(&vmap(&rates, 0, |r| end(&options, r)), &want, 1e-7);
        check(&grad(&vmap(&rates, 0, |r| end(&options, r)).sum(), &rates), &slopes, 1e-6);
    }
}

#[test]
fn sizes_and_numbers_of_times_may_be_names() {
    let y0 = Tensor::input("y0", F32, ["n"]);
    let times = Tensor::input("times", F32, ["t"]).assume("t >= 1");
    for options in [OdeOptions::rk4(10), OdeOptions::dormand_prince()] {
        let y = odeint_with(&options, &y0, &times, |_, y| -y).y;
        check_type(&y, "f32[t, n]");
        let mut f = Function::new("f").output("y", &y).compile(Options::default()).unwrap();
        for (n, t) in [(1usize, 1usize), (3, 4)] {
            let at: Vec<f32> = (0..t).map(|i| i as f32 * 0.5).collect();
            let out = f.run([("y0", Array::full(&[n], 2.0f32.into())), ("times", Array::from(at.clone()))]).unwrap();
            let y: Vec<f32> = out.unpack().unwrap();
            for (i, v) in y.iter().enumerate() {
                assert!((v - 2.0 * (-at[i / n]).exp()).abs() < 1e-5, "{y:?}");
            }
        }
    }
}

#[test]
fn wrong_equations_are_named() {
    let (y, times) = (Tensor::from([1.0f64, 2.0]), Tensor::from([0.0f64, 1.0]));
    let line = line!() + 1;
    let bad = odeint(&y, &times, |_, y| y.sum());
    assert_eq!(
        broken(&bad),
        "odeint: operand 0 is f64[]; the function must give f64[2], the type of the initial value"
    );
    assert!(bad.check().unwrap_err().to_string().contains(&format!("ode.rs:{line}:")));
    assert!(broken(&odeint(&y, &Tensor::from(1.0f64), |_, y| y.clone())).ends_with("times must be a vector"));
    let named = Tensor::input("times", F64, ["t"]);
    assert!(broken(&odeint(&y, &named, |_, y| y.clone())).contains("one time or more"));
    assert!(broken(&odeint_with(&OdeOptions::rk4(0), &y, &times, |_, y| y.clone()).y).contains("0 steps"));
    assert!(broken(&odeint(&Tensor::from([1i64]), &times, |_, y| y.clone())).contains("floats of one dtype"));
}

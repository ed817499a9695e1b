//! The NaN trap: it names the first operation, in values and gradients, on every backend, and leaves variables alone.

use lehr::prelude::*;

fn trap(backend: Backend) -> Options {
    Options::default().backend(backend).trap_nan(true)
}

#[test]
fn it_names_the_operation_and_its_line() {
    let x = Tensor::input("x", F32, ["n"]);
    let line = line!() + 1;
    let root = (&x - 1).sqrt();
    let y = (root * 2).sum().exp();
    for backend in crate::backends() {
        let mut f = Function::new("f").output("s", &x.sum()).output("y", &y).compile(trap(backend)).unwrap();
        f.run([("x", [1.0f32, 2.0])]).unwrap();
        let e = f.run([("x", [1.0f32, 0.0, -3.0])]).unwrap_err();
        let lehr::Error::Nan(nan) = &e else { panic!("{e}") };
        let origin = nan.origin.as_ref().unwrap();
        assert_eq!((origin.op.as_str(), origin.count), ("sqrt", (2, 3)));
        assert_eq!(origin.operands[0].1, [-4.0, 0.0]);
        let text = e.to_string();
        assert!(
            text.starts_with("f: the output `y` has a NaN; the first is made by `sqrt`, 2 of 3 elements of %"),
            "{text}"
        );
        assert!(text.contains(&format!("--> tests/facade/nans.rs:{line}:")) && text.contains("= help"), "{text}");
        // It can be called again.
        f.run([("x", [1.0f32, 2.0])]).unwrap();
    }
}

#[test]
fn it_looks_into_gradients_and_bodies() {
    let x = Tensor::input("x", F32, ["n"]);
    let line = line!() + 1;
    let norm = checkpoint(&x, Checkpoint::Nothing, |x| x.square().sum().sqrt());
    let dx = grad(&norm, &x);
    for backend in crate::backends() {
        let mut f = Function::new("f").output("norm", &norm).output("dx", &dx).compile(trap(backend)).unwrap();
        f.run([("x", [3.0f32, 4.0])]).unwrap();
        let e = f.run([("x", [0.0f32, 0.0])]).unwrap_err().to_string();
        // 0 times the slope of the root at 0.
        assert!(e.starts_with("f: the output `dx` has a NaN; the first is made by `mul`"), "{e}");
        assert!(e.contains(&format!("nans.rs:{line}:")), "{e}");
    }
}

#[test]
fn variables_keep_their_values() {
    let w = Tensor::variable("w", [4.0f32, 9.0]);
    let step = Tensor::input("step", F32, ());
    let line = line!() + 1;
    let new = (&w - &step).sqrt();
    for backend in crate::backends() {
        let f = Function::new("f").output("sum", &w.sum()).update(&w, &new);
        let mut f = f.compile(trap(backend)).unwrap();
        f.run([("step", 0.0f32)]).unwrap();
        assert_eq!(f.state().get("w").unwrap(), Array::from([2.0f32, 3.0]));
        let e = f.run([("step", 2.5f32)]).unwrap_err().to_string();
        assert!(
            e.starts_with("f: the new value of the variable `w` has a NaN; the first is made by `sqrt`, 1 of 2"),
            "{e}"
        );
        assert!(e.contains(&format!("nans.rs:{line}:")), "{e}");
        assert_eq!(f.state().get("w").unwrap(), Array::from([2.0f32, 3.0]));
        f.run([("step", 0.0f32)]).unwrap();
        assert_eq!(f.state().get("w").unwrap(), Array::from([2.0f32.sqrt(), 3.0f32.sqrt()]));
    }
}

#[test]
fn what_is_given_with_a_nan_is_named() {
    let (x, y) = (Tensor::input("x", F64, ["n"]), Tensor::input("y", F64, ()));
    for backend in crate::backends() {
        let mut f = Function::new("f").output("z", &(x.exp() * &y)).compile(trap(backend)).unwrap();
        let e = f.run((vec![1.0f64, 2.0], f64::NAN)).unwrap_err().to_string();
        assert!(e.starts_with("f: the output `z` has a NaN; `y` was given with one: 1 of 1 elements"), "{e}");
    }
}

#[test]
fn a_nan_that_is_selected_away_is_none() {
    let x = Tensor::input("x", F32, ["n"]);
    let root = Tensor::select(&x.ge(0), x.sqrt(), 0);
    for backend in crate::backends() {
        let mut f = Function::new("f").output("y", &root).compile(trap(backend)).unwrap();
        let y: Vec<f32> = f.run([("x", [4.0f32, -1.0])]).unwrap().unpack().unwrap();
        assert_eq!(y, [2.0, 0.0]);
        // And it is not blamed for another.
        let mut f = Function::new("f").output("y", &(&root + x.log())).compile(trap(backend)).unwrap();
        let e = f.run([("x", [4.0f32, -1.0])]).unwrap_err().to_string();
        assert!(e.contains("made by `log`"), "{e}");
    }
}

#[test]
fn it_is_off_unless_asked_for() {
    let x = Tensor::input("x", F32, ["n"]);
    for backend in crate::backends() {
        let mut f = Function::new("f").output("y", &x.log()).compile(Options::default().backend(backend)).unwrap();
        let y: Vec<f32> = f.run([("x", [-1.0f32])]).unwrap().unpack().unwrap();
        assert!(y[0].is_nan());
    }
}

#[test]
fn it_looks_into_loops_and_branches() {
    use lehr::control::{cond, scan, while_loop};
    let xs = Tensor::input("xs", F32, ["n"]).assume("n >= 1");
    let line = line!() + 1;
    let looped = scan(&Tensor::from(0.0f32), &xs, |sum, x| (sum + x.sqrt(), ())).0;
    let first = xs.slice(0);
    let other = line!() + 1;
    let chosen = cond(&first.lt(0), || first.log(), || first.exp());
    let third = line!() + 1;
    let repeated = while_loop(&first, |x| x.gt(-2), |x| (x - 1.5).sqrt());
    for backend in crate::backends() {
        let says = |y: &Tensor, xs: Vec<f32>, op: &str, line: u32| {
            let mut f = Function::new("f").output("y", y).compile(trap(backend)).unwrap();
            let e = f.run([("xs", xs)]).unwrap_err().to_string();
            assert!(e.contains(&format!("made by `{op}`")) && e.contains(&format!("nans.rs:{line}:")), "{e}");
        };
        says(&looped, vec![1.0, 4.0, -1.0, 9.0], "sqrt", line);
        says(&chosen, vec![-1.0], "log", other);
        says(&repeated, vec![4.0], "sqrt", third);
    }
}

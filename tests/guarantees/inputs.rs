//! Inputs that do not fit, and inputs that are unusual but right.

use lehr::prelude::*;
use ndarray::{Array2, s};

fn first_line(e: &lehr::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

/// `c += sum(x)`; gives `x @ w`.
fn counting() -> Executable {
    let (x, w) = (Tensor::input("x", F32, ("n", "k")), Tensor::input("w", F32, ("k", 2)));
    let c = Tensor::variable("c", 0.0f32);
    let f = Function::new("count").inputs(&[&x, &w]).output("y", &x.matmul(&w)).update(&c, &(&c + &x.sum()));
    f.compile(crate::cpu()).unwrap()
}

fn ones(shape: &[usize]) -> Array {
    Array::full(shape, 1.0f32.into())
}

#[test]
fn refused_calls_leave_executable_and_state_whole() {
    let _turn = crate::alone();
    let mut f = counting();
    let (x, w) = (ones(&[4, 3]), ones(&[3, 2]));
    let count = |f: &Executable| f.state().get("c").unwrap().item().unwrap().to_f64();
    let bad: Vec<(Vec<(&str, Array)>, &str)> = vec![
        (vec![("x", x.clone())], "count: the input `w`: f32[k, 2] is missing"),
        (vec![("x", x.clone()), ("v", w.clone())], "count: there is no input `v`"),
        (vec![("x", x.clone()), ("w", w.clone()), ("w", w.clone())], "count: the input `w` is given twice"),
        (
            vec![("x", ones(&[12])), ("w", w.clone())],
            "count: the input `x` is f32[n, k], the array is f32[12]; it must have 2 dims",
        ),
        (
            vec![("x", Array::from([[1.0f64]])), ("w", w.clone())],
            "count: the input `x` is f32[n, k], the array is f64[1, 1]; dtypes must agree",
        ),
        (
            vec![("x", x.clone()), ("w", ones(&[3, 5]))],
            "count: the input `w` is f32[k, 2], the array is f32[3, 5]; `2` is 2, not 5",
        ),
        (
            vec![("x", x.clone()), ("w", ones(&[4, 2]))],
            "count: the input `w` is f32[k, 2], the array is f32[4, 2]; `k` is 3, not 4",
        ),
        // NumPy refuses it too: nothing is broadcast that was not asked for.
        (
            vec![("x", x.clone()), ("w", ones(&[1, 2]))],
            "count: the input `w` is f32[k, 2], the array is f32[1, 2]; `k` is 3, not 1",
        ),
    ];
    let mut calls = 0.0;
    for (inputs, want) in bad {
        let line = line!() + 1;
        let e = f.run(inputs).unwrap_err();
        assert_eq!(first_line(&e), want);
        assert!(e.to_string().contains(&format!("inputs.rs:{line}:")), "{e}");
        assert_eq!(count(&f), 12.0 * calls);
        let y: Vec<f32> = f.run([&x, &w]).unwrap().unpack().unwrap();
        calls += 1.0;
        assert_eq!(y, [3.0; 8]);
        assert_eq!(count(&f), 12.0 * calls);
    }
    assert_eq!(first_line(&f.run([&x, &w, &w]).unwrap_err()), "count: more than 2 inputs are given");
    let mut wrong = [ones(&[4, 3])];
    assert!(f.run_into([&x, &w], &mut wrong).is_err());
    assert_eq!(wrong[0], ones(&[4, 3]));
    assert_eq!(count(&f), 12.0 * calls);
}

#[test]
fn empty_arrays_and_scalars_are_right() {
    let _turn = crate::alone();
    let mut f = counting();
    let y = f.run([&ones(&[0, 3]), &ones(&[3, 2])]).unwrap().unpack::<Array>().unwrap();
    assert_eq!(y.shape(), [0, 2]);
    let y = f.run([&ones(&[2, 0]), &ones(&[0, 2])]).unwrap().unpack::<Vec<f32>>().unwrap();
    assert_eq!(y, [0.0; 4]);
    assert_eq!(f.state().get("c").unwrap(), Array::scalar(0.0f32));

    let x = Tensor::input("x", F32, ["n"]);
    let mut f = Function::new("folds").output("sum", &x.sum()).output("mean", &x.mean()).output("max", &x.max());
    f = f.output("exp", &x.exp());
    let mut f = f.compile(crate::cpu()).unwrap();
    let (sum, mean, max, exp): (f32, f32, f32, Array) = f.run([&ones(&[0])]).unwrap().unpack().unwrap();
    assert!(sum == 0.0 && mean.is_nan() && max == f32::NEG_INFINITY && exp.is_empty(), "{sum} {mean} {max} {exp:?}");

    let s = Tensor::input("s", F64, ());
    let mut f = Function::new("scalar").output("y", &(&s * &s + 1)).compile(crate::cpu()).unwrap();
    assert_eq!(f.run([3.0f64]).unwrap().unpack::<f64>().unwrap(), 10.0);
}

#[test]
fn nan_and_infinity_go_through() {
    let _turn = crate::alone();
    let x = Tensor::input("x", F32, ["n"]);
    let f = Function::new("f").output("relu", &x.relu()).output("exp", &x.exp()).output("max", &x.max());
    let mut f = f.compile(crate::cpu()).unwrap();
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let (relu, exp, max): (Vec<f32>, Vec<f32>, f32) = f.run([[inf, -inf, -0.0]]).unwrap().unpack().unwrap();
    assert_eq!((relu[0], relu[1], exp[0], exp[1], exp[2], max), (inf, 0.0, inf, 0.0, 1.0, inf));
    let (relu, exp, max): (Vec<f32>, Vec<f32>, f32) = f.run([[1.0, nan, 2.0]]).unwrap().unpack().unwrap();
    assert!(relu[1].is_nan() && exp[1].is_nan() && max.is_nan(), "{relu:?} {exp:?} {max}");
    assert_eq!((relu[0], relu[2]), (1.0, 2.0));
}

#[test]
fn arrays_need_not_be_contiguous() {
    let _turn = crate::alone();
    let x = Tensor::input("x", F32, ("n", "m"));
    let mut f = Function::new("double").output("y", &(&x * 2)).compile(crate::cpu()).unwrap();
    let a = Array2::from_shape_fn((6, 4), |(i, j)| (10 * i + j) as f32);
    for view in [a.t(), a.slice(s![..;2, 1..3]), a.slice(s![..;-1, ..;-2]), a.slice(s![2..2, ..])] {
        let y = f.run([view.to_owned().view()]).unwrap().unpack::<Array>().unwrap();
        let z = f.run([view]).unwrap().unpack::<Array>().unwrap();
        assert_eq!(y, z);
        assert_eq!(z.shape(), view.shape());
        let want: Vec<f32> = view.iter().map(|x| 2.0 * x).collect();
        assert_eq!(z.as_slice::<f32>().unwrap(), want);
    }
}

#[test]
fn a_chain_of_100_000_nodes_compiles_and_runs() {
    let _turn = crate::alone();
    let x = Tensor::input("x", F32, ["n"]);
    let mut y = x.clone();
    for _ in 0..50_000 {
        y = &y + 1;
        y = &y * &x;
    }
    let mut f = Function::new("chain").output("y", &y).compile(crate::cpu()).unwrap();
    let y: Vec<f32> = f.run([[0.0f32, 0.5]]).unwrap().unpack().unwrap();
    // y = x (1 + x (1 + …)) = x / (1 - x).
    assert_eq!(y, [0.0, 1.0]);
}

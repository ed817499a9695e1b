//! Calls: inputs by name and position, sizes, failed calls, several executables over one state.

use lehr::prelude::*;
use ndarray::{Array2, s};

fn affine() -> Executable {
    let (x, b) = (Tensor::input("x", F32, ("n", 2)), Tensor::input("b", F32, 2));
    Function::new("affine").inputs(&[&x, &b]).output("y", &(&x * 2 + &b)).compile(crate::interp()).unwrap()
}

fn first_line(e: &lehr::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn inputs_come_by_name_by_position_and_mixed() {
    let mut f = affine();
    let (x, b) = (Array::from([[1.0f32, 2.0]]), Array::from([10.0f32, 20.0]));
    let want = [12.0f32, 24.0];
    let flat = |o: Outputs| o.unpack::<Vec<f32>>().unwrap();
    assert_eq!(flat(f.run([("x", &x), ("b", &b)]).unwrap()), want);
    assert_eq!(flat(f.run([("b", &b), ("x", &x)]).unwrap()), want);
    assert_eq!(flat(f.run([&x, &b]).unwrap()), want);
    assert_eq!(flat(f.run((&x, &b)).unwrap()), want);
    assert_eq!(flat(f.run(([[1.0f32, 2.0]], vec![10.0f32, 20.0])).unwrap()), want);
    assert_eq!(flat(f.run((("b", [10.0f32, 20.0]), ("x", &x))).unwrap()), want);
    assert_eq!(flat(f.run(vec![("x".to_owned(), x), ("b".to_owned(), b)]).unwrap()), want);
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_the_executable_goes_on() {
    let mut f = affine();
    let x = Array::from([[1.0f32, 2.0]]);
    let b = Array::from([0.0f32, 0.0]);
    let mut fail = |inputs: Vec<(&str, Array)>| first_line(&f.run(inputs).unwrap_err());
    let (xc, bc) = (x.clone(), b.clone());
    assert_eq!(fail(vec![("x", x.clone())]), "affine: the input `b`: f32[2] is missing");
    assert_eq!(fail(vec![("x", x.clone()), ("bb", b.clone())]), "affine: there is no input `bb`");
    assert_eq!(fail(vec![("x", x.clone()), ("x", x.clone())]), "affine: the input `x` is given twice");
    let wide = Array::from([[1.0f64, 2.0]]);
    let e = "affine: the input `x` is f32[n, 2], the array is f64[1, 2]; dtypes must agree";
    assert_eq!(fail(vec![("x", wide), ("b", b.clone())]), e);
    let e = "affine: the input `x` is f32[n, 2], the array is f32[2]; it must have 2 dims";
    assert_eq!(fail(vec![("x", b.clone()), ("b", b.clone())]), e);
    let e = "affine: the input `x` is f32[n, 2], the array is f32[1, 3]; `2` is 2, not 3";
    assert_eq!(fail(vec![("x", Array::from([[1.0f32, 2.0, 3.0]])), ("b", b.clone())]), e);
    let e = f.run([&x, &b, &b]).unwrap_err();
    assert_eq!(first_line(&e), "affine: more than 2 inputs are given");
    let e = f.run([("x", &x), ("biass", &b)]).unwrap_err().to_string();
    assert!(e.contains("the inputs are `x`, `b`"), "{e}");
    let y: Vec<f32> = f.run([xc, bc]).unwrap().unpack().unwrap();
    assert_eq!(y, [2.0, 4.0]);
}

#[test]
fn an_input_error_has_the_line_of_the_call_and_a_suggestion() {
    let mut f = affine();
    let line = line!() + 1;
    let e = f.run([("X", [[1.0f32, 2.0]])]).unwrap_err().to_string();
    assert!(e.contains(&format!("run.rs:{line}:")), "{e}");
    assert!(e.contains("did you mean `x`?"), "{e}");
}

#[test]
fn a_name_is_one_size_in_all_inputs() {
    let (x, y) = (Tensor::input("x", F32, ["n"]), Tensor::input("y", F32, ["n"]));
    let mut f = Function::new("dot").output("d", &x.matmul(&y)).compile(crate::interp()).unwrap();
    let e = f.run((vec![1.0f32; 3], vec![1.0f32; 4])).unwrap_err();
    assert_eq!(first_line(&e), "dot: the input `y` is f32[n], the array is f32[4]; `n` is 3, not 4");
    let d: f32 = f.run((vec![1.0f32; 5], vec![1.0f32; 5])).unwrap().unpack().unwrap();
    assert_eq!(d, 5.0);
}

#[test]
fn sizes_are_solved_and_assumptions_checked() {
    let x = Tensor::input("x", F32, ["2*n"]).assume("n >= 2");
    let y = x.reshape(("n", 2)).sum_axes(1);
    let mut f = Function::new("pairs").output("y", &y).compile(crate::interp()).unwrap();
    let sums: Vec<f32> = f.run([vec![1.0f32; 6]]).unwrap().unpack().unwrap();
    assert_eq!(sums, [2.0; 3]);
    let odd = first_line(&f.run([vec![1.0f32; 5]]).unwrap_err());
    assert!(odd.contains("`2*n` is 5 for no 64-bit integer `n`"), "{odd}");
    let small = first_line(&f.run([vec![1.0f32; 2]]).unwrap_err());
    assert!(small.contains("`n >= 2` does not hold for n = 1"), "{small}");
    let product = Tensor::input("x", F32, ["n*m"]);
    let mut f = Function::new("p").output("y", &product).compile(crate::interp()).unwrap();
    let e = first_line(&f.run([vec![1.0f32; 6]]).unwrap_err());
    assert_eq!(e, "p: the sizes of the inputs do not say what `m*n` is made of");
}

#[test]
fn ndarray_views_of_any_layout_and_empty_batches_are_taken() {
    let mut f = affine();
    let a = Array2::from_shape_fn((2, 3), |(i, j)| (3 * i + j) as f32);
    let y: Vec<f32> = f.run((a.t(), [0.0f32, 0.0])).unwrap().unpack().unwrap();
    assert_eq!(y, [0.0, 6.0, 2.0, 8.0, 4.0, 10.0]);
    let y: Vec<f32> = f.run((a.slice(s![..;-1, ..;2]), [0.0f32, 0.0])).unwrap().unpack().unwrap();
    assert_eq!(y, [6.0, 10.0, 0.0, 4.0]);
    let out = f.run((Array2::<f32>::zeros((0, 2)), [0.0f32, 0.0])).unwrap();
    assert_eq!(out.arrays()[0].shape(), [0, 2]);
}

#[test]
fn results_are_extracted_by_type_and_name() {
    let x = Tensor::input("x", F32, ["n"]);
    let f = Function::new("stats").output("sum", &x.sum()).output("at", &x.argmax(0)).output("twice", &(&x * 2));
    let mut f = f.compile(crate::interp()).unwrap();
    let out = f.run([vec![1.0f32, 3.0]]).unwrap();
    assert_eq!(out.get::<f32>("sum").unwrap(), 4.0);
    assert_eq!(out.get::<ndarray::ArrayD<f32>>("twice").unwrap().shape(), [2]);
    assert_eq!(first_line(&out.get::<f64>("sum").unwrap_err()), "stats: the output `sum` is f32[], asked for one f64");
    assert_eq!(
        first_line(&out.get::<f32>("twice").unwrap_err()),
        "stats: the output `twice` is f32[2], asked for one f32"
    );
    assert!(out.get::<f32>("summ").unwrap_err().to_string().contains("did you mean `sum`?"));
    let (sum, at, twice): (f32, i64, Vec<f32>) = out.clone().unpack().unwrap();
    assert_eq!((sum, at, twice), (4.0, 1, vec![2.0, 6.0]));
    assert_eq!(first_line(&out.unpack::<f32>().unwrap_err()), "stats: 1 outputs are asked for, and there are 3");
}

#[test]
fn results_are_written_into_given_arrays() {
    let mut f = affine();
    let (x, b) = (Array::from([[1.0f32, 2.0]]), Array::from([0.0f32, 1.0]));
    let mut out = [Array::zeros(F32, &[1, 2])];
    f.run_into([&x, &b], &mut out).unwrap();
    assert_eq!(out[0].as_slice::<f32>().unwrap(), [2.0, 5.0]);
    let mut wrong = [Array::zeros(F32, &[2, 2])];
    let e = first_line(&f.run_into([&x, &b], &mut wrong).unwrap_err());
    assert_eq!(e, "affine: the output `y` is f32[1, 2], asked for f32[2, 2]");
    let e = first_line(&f.run_into([&x, &b], &mut []).unwrap_err());
    assert_eq!(e, "affine: 0 outputs are asked for, and there are 1");
}

#[test]
fn two_executables_share_a_state() {
    let w = Tensor::variable("w", 1.0f32);
    let mut up = Function::new("up").update(&w, &(&w + 1)).compile(crate::interp()).unwrap();
    let mut read = Function::new("read").output("w", &w).compile(crate::interp()).unwrap().with_state(up.state());
    let mut alone = Function::new("alone").output("w", &w).compile(crate::interp()).unwrap();
    up.run(()).unwrap();
    up.run(()).unwrap();
    assert_eq!(read.run(()).unwrap().unpack::<f32>().unwrap(), 3.0);
    assert_eq!(alone.run(()).unwrap().unpack::<f32>().unwrap(), 1.0);
    let mut other = up.clone();
    other.run(()).unwrap();
    assert_eq!(read.run(()).unwrap().unpack::<f32>().unwrap(), 4.0);
}

#[test]
fn reads_see_the_value_at_the_start_of_the_call() {
    let (a, b) = (Tensor::variable("a", 1.0f32), Tensor::variable("b", 2.0f32));
    let f = Function::new("swap").output("sum", &(&a + &b)).update(&a, &b).update(&b, &a);
    let mut f = f.compile(crate::interp()).unwrap();
    let sum: f32 = f.run(()).unwrap().unpack().unwrap();
    assert_eq!(sum, 3.0);
    assert_eq!(f.state().get("a").unwrap(), Array::from(2.0f32));
    assert_eq!(f.state().get("b").unwrap(), Array::from(1.0f32));
}

#[test]
fn a_failed_call_leaves_the_state_whole() {
    let w = Tensor::variable("w", [1.0f32, 2.0]);
    let x = Tensor::input("x", F32, 2);
    let mut f = Function::new("f").output("y", &w.sum()).update(&w, &(&w + &x)).compile(crate::interp()).unwrap();
    let before = f.state().get("w").unwrap();
    f.run([[1.0f32, 1.0, 1.0]]).unwrap_err();
    f.run_into(([1.0f32, 1.0],), &mut [Array::zeros(F32, &[3])]).unwrap_err();
    assert_eq!(f.state().get("w").unwrap(), before);
    f.run(([1.0f32, 1.0],)).unwrap();
    assert_eq!(f.state().get("w").unwrap(), Array::from([2.0f32, 3.0]));
}

#[test]
fn executables_on_threads_share_a_program() {
    let x = Tensor::input("x", F32, ["n"]);
    let f = Function::new("f").output("y", &x.exp().sum()).compile(crate::interp()).unwrap();
    let sums: Vec<f32> = std::thread::scope(|s| {
        let runs: Vec<_> = (1..5)
            .map(|n| {
                let mut f = f.clone();
                s.spawn(move || f.run([vec![0.0f32; n]]).unwrap().unpack::<f32>().unwrap())
            })
            .collect();
        runs.into_iter().map(|r| r.join().unwrap()).collect()
    });
    assert_eq!(sums, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn equal_expressions_over_other_data_share_a_program() {
    let value = |x: f32| -> f32 { (Tensor::from([x, 1.0]).exp().sum() * 0.0 + x).to().unwrap() };
    assert_eq!((value(1.0), value(2.0)), (1.0, 2.0));
    let open = Tensor::input("x", F32, ()) + 1;
    assert_eq!(first_line(&open.eval().unwrap_err()), "eval: the input `x`: f32[] is missing");
    assert_eq!(open.to_string(), "f32[]");
}

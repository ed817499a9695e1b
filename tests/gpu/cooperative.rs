//! Products by cooperative matrices, where the device has them, against the evaluator.

use lehr::Tuning;

use super::*;

/// Options for a device with cooperative matrices, and whether it is software; `None`, and a printed reason, where there is none.
fn multiplying() -> Option<(Options, bool, MutexGuard<'static, ()>)> {
    let (options, turn) = gpu()?;
    let probe = Function::new("probe").output("y", &Tensor::from(1.0f32)).compile(options.clone());
    let name = probe.unwrap_or_else(|e| panic!("{e}")).explain().device.map(|d| d.name);
    let adapters = lehr::devices::adapters().expect("a list");
    let device = adapters.into_iter().find(|a| Some(&a.name) == name.as_ref()).expect("is listed");
    if device.features.iter().any(|f| f == "cooperative matrices") {
        return Some((options.tuning(Tuning::Off), device.kind == "software", turn));
    }
    println!("skipped: the device has no cooperative matrices");
    None
}

fn random(i: u64, shape: &[usize]) -> Tensor {
    Tensor::from(init::normal(Key::new(i), shape, 0.0, 1.0))
}

/// Products of all kinds of shapes, each with the products of absolute values, which errors are a part of.
fn products(dtype: DType) -> Vec<(Tensor, Tensor)> {
    let pair = |i, x: &[usize], y: &[usize]| (random(i, x).cast(dtype), random(i + 1, y).cast(dtype));
    let of = |(x, y): (Tensor, Tensor)| (x.matmul(&y), x.cast(F32).abs().matmul(&y.cast(F32).abs()));
    let (x, w) = pair(1, &[37, 65], &[65, 43]);
    let bias = random(3, &[43]).cast(dtype);
    let (z, absolute) = of((x.clone(), w.clone()));
    vec![
        of(pair(10, &[1, 1], &[1, 1])),
        of(pair(12, &[17, 33], &[33, 65])),
        of(pair(14, &[128, 128], &[128, 128])),
        of(pair(16, &[3, 33, 20], &[3, 20, 40])),
        of((w.transpose(), x.transpose())),
        of(pair(18, &[30, 2000], &[2000, 31])),
        ((&z + &bias).relu(), &absolute + &bias.cast(F32).abs()),
        of(pair(20, &[0, 33], &[33, 20])),
        of(pair(22, &[33, 0], &[0, 20])),
    ]
}

/// Checks a device against the evaluator, to a part of the sum of absolute products.
#[track_caller]
fn near(dtype: DType, options: &Options, part: f64) {
    let evaluator = Options::default().backend(Backend::Interp);
    let all = products(dtype);
    let named = |of: &dyn Fn(&(Tensor, Tensor)) -> Tensor| -> Vec<(String, Tensor)> {
        all.iter().enumerate().map(|(i, pair)| (format!("y{i}"), of(pair).cast(F32))).collect()
    };
    let run = |all: &[(String, Tensor)], options: &Options| -> Vec<Array> {
        let all: Vec<(&str, Tensor)> = all.iter().map(|(name, t)| (name.as_str(), t.clone())).collect();
        values(&all, options)
    };
    let (results, absolute) = (named(&|(z, _)| z.clone()), named(&|(_, a)| a.clone()));
    let (got, want, scale) = (run(&results, options), run(&results, &evaluator), run(&absolute, &evaluator));
    for (i, ((got, want), scale)) in got.iter().zip(&want).zip(&scale).enumerate() {
        assert_eq!(got.shape(), want.shape());
        let numbers = |a: &Array| a.as_slice::<f32>().expect("f32").iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        for ((g, w), s) in numbers(got).into_iter().zip(numbers(want)).zip(numbers(scale)) {
            assert!((g - w).abs() <= part * s, "{dtype}, product {i}: {g} is not {w}");
        }
    }
}

/// The shaders of a product.
fn shaders(dtype: DType, options: &Options) -> String {
    let (x, y) = (Tensor::input("x", dtype, [64, 80]), Tensor::input("y", dtype, [80, 96]));
    let f = Function::new("f").output("z", &x.matmul(&y)).compile(options.clone()).unwrap_or_else(|e| panic!("{e}"));
    f.explain().device.map(|d| d.shaders.join("\n")).unwrap_or_default()
}

#[test]
fn half_precision_takes_them_without_asking() {
    let Some((options, software, _turn)) = multiplying() else { return };
    // Software gains nothing by them, and takes them only if asked.
    assert_eq!(shaders(F16, &options).contains("coopMultiplyAdd"), !software);
    let options = options.reduced_precision(software);
    assert!(shaders(F16, &options).contains("coopMultiplyAdd"));
    assert!(!shaders(DType::BF16, &options).contains("coopMultiplyAdd"));
    // Rounded once, from sums in `f32` that may be rounded otherwise.
    near(F16, &options, 0.5f64.powi(10));
}

#[test]
fn single_precision_takes_them_where_that_is_allowed() {
    let Some((options, _, _turn)) = multiplying() else { return };
    assert!(!shaders(F32, &options).contains("coop"));
    near(F32, &options, 1e-6);
    let reduced = options.reduced_precision(true);
    assert!(shaders(F32, &reduced).contains("coopMultiplyAdd"));
    // Two roundings of factors, and sums as ever.
    near(F32, &reduced, 0.5f64.powi(10) + 1e-6);
}

#[test]
fn factors_that_halves_do_not_hold_become_infinite() {
    let Some((options, _, _turn)) = multiplying() else { return };
    let x = Tensor::from(vec![65504.0f32, 65520.0, -1e6, 2e-8]).reshape([4, 1]) * Tensor::ones(F32, [1, 40]);
    let y = Tensor::ones(F32, [40, 32]) * 0.5f32;
    let z = |options: &Options| {
        let all = values(&[("z", x.matmul(&y))], options);
        let z = all[0].as_slice::<f32>().expect("f32").to_vec();
        [0, 1, 2, 3].map(|row| z[row * 32 + 31])
    };
    let exact = z(&options);
    assert_eq!(exact[..3], [1_310_080.0, 1_310_400.0, -2e7]);
    // Few rows have a form of their own, which rounds nothing.
    assert_eq!(z(&options.clone().reduced_precision(true)), exact);
    let tall = Tensor::concat(&[&x, &x, &x, &x], 0);
    let all = values(&[("z", tall.matmul(&y))], &options.reduced_precision(true));
    let z = all[0].as_slice::<f32>().expect("f32");
    assert_eq!([z[0], z[32], z[64], z[96]], [1_310_080.0, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
}

#[test]
fn what_is_measured_with_and_without_them_is_told_apart() {
    let Some((options, _, _turn)) = multiplying() else { return };
    let (x, y) = (random(1, &[96, 520]), random(2, &[520, 80]));
    let z = |options: &Options| values(&[("z", x.matmul(&y))], options).swap_remove(0);
    let always = options.tuning(Tuning::Always);
    let reduced = always.clone().reduced_precision(true);
    // In turns: a choice of one is none of the other.
    let (exact, rough) = (z(&always), z(&reduced));
    assert!(exact.data().bit_eq(z(&always).data()) && rough.data().bit_eq(z(&reduced).data()));
    let near = |a: &Array, b: &Array, part: f32| {
        let (a, b) = (a.as_slice::<f32>().expect("f32"), b.as_slice::<f32>().expect("f32"));
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= part)
    };
    let want = values(&[("z", x.matmul(&y))], &Options::default().backend(Backend::Interp)).swap_remove(0);
    assert!(near(&exact, &want, 1e-3));
    assert!(near(&rough, &want, 0.5));
}

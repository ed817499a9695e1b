//! Products in the forms that are fastest by measurement.

use lehr::Tuning;

use super::*;

/// A product with an epilogue, one of few rows with a long sum, and one of a batch.
fn function() -> Function {
    let size = |name, shape: &[usize]| Tensor::input(name, F32, shape.to_vec());
    let (x, w, v) = (size("x", &[80, 300]), size("w", &[300, 72]), size("v", &[3, 72, 40]));
    let y = (x.matmul(&w) + 0.5f32).relu();
    let z = y.slice(0..2).matmul(&w.transpose());
    Function::new("f").output("y", &y).output("z", &z).output("b", &y.matmul(&v))
}

#[test]
fn measured_products_agree_and_are_named() {
    let Some((options, _turn)) = gpu() else { return };
    let random = |i, shape: &[usize]| init::normal(Key::new(i), shape, 0.0, 1.0);
    let inputs = [random(1, &[80, 300]), random(2, &[300, 72]), random(3, &[3, 72, 40])];
    let run = |options: Options| {
        let mut exe = function().compile(options).unwrap_or_else(|e| panic!("{e}"));
        let results: Vec<Array> = exe.run(inputs.as_slice()).unwrap_or_else(|e| panic!("{e}")).into_iter().collect();
        (results, exe.explain().to_string())
    };
    let (want, plain) = run(options.clone().tuning(Tuning::Off));
    assert!(!plain.contains("by measurement"), "{plain}");
    let (got, text) = run(options.clone().tuning(Tuning::Always));
    for (g, w) in got.iter().zip(&want) {
        let (g, w) = (g.as_slice::<f32>().expect("f32"), w.as_slice::<f32>().expect("f32"));
        let most = w.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        assert!(g.iter().zip(w).all(|(g, w)| (g - w).abs() <= 1e-5 * most));
    }
    // Programs that are equal run the same shaders.
    let (again, same) = run(options.tuning(Tuning::Always));
    assert_eq!(text, same);
    assert!(again.iter().zip(&got).all(|(a, b)| a.data().bit_eq(b.data())));
    let has_clock =
        lehr::devices::adapters().expect("a list").iter().any(|a| a.features.iter().any(|f| f == "timestamps"));
    assert_eq!(text.contains("fastest by measurement: "), has_clock, "{text}");
}

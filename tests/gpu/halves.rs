//! Products of half precision against the evaluator.

use super::*;

/// A unit in the last place of the greatest element: a sum that differs in its last bits may be rounded the other way.
fn unit(dtype: DType) -> f64 {
    if dtype == F16 { 0.5f64.powi(10) } else { 0.5f64.powi(7) }
}

/// Results in `f32`, which holds any of half precision.
fn floats(all: &[Tensor], options: &Options) -> Vec<Vec<f32>> {
    let wide: Vec<Tensor> = all.iter().map(|t| t.cast(F32)).collect();
    let named: Vec<(String, &Tensor)> = wide.iter().enumerate().map(|(i, t)| (format!("y{i}"), t)).collect();
    let named: Vec<(&str, Tensor)> = named.iter().map(|(name, t)| (name.as_str(), (*t).clone())).collect();
    values(&named, options).iter().map(|a| a.as_slice::<f32>().expect("f32").to_vec()).collect()
}

#[test]
fn products_agree_with_the_evaluator() {
    let Some((options, _turn)) = gpu() else { return };
    let evaluator = Options::default().backend(Backend::Interp);
    let random = |i, shape: &[usize]| Tensor::from(init::normal(Key::new(i), shape, 0.0, 1.0));
    for dtype in [F16, DType::BF16] {
        let of = |i, shape: &[usize]| random(i, shape).cast(dtype);
        let (x, w, b) = (of(1, &[37, 65]), of(2, &[65, 43]), of(3, &[43]));
        let (batch, square) = (of(4, &[3, 33, 20]), of(5, &[64, 64]));
        let all = [
            x.matmul(&w),
            w.transpose().matmul(&x.transpose()),
            (x.matmul(&w) + &b).relu(),
            batch.matmul(&batch.swap_axes(1, 2)),
            square.matmul(&square),
            of(6, &[1, 700]).matmul(&of(7, &[700, 90])),
            of(8, &[30, 2000]).matmul(&of(9, &[2000, 31])),
        ];
        for (i, (got, want)) in floats(&all, &options).iter().zip(&floats(&all, &evaluator)).enumerate() {
            let most = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for (g, w) in got.iter().zip(want) {
                assert!(f64::from((g - w).abs()) <= unit(dtype) * f64::from(most), "{dtype} {i}: {g} and {w}");
            }
        }
    }
}

#[test]
fn operands_are_read_as_they_lie() {
    let Some((options, _turn)) = gpu() else { return };
    for dtype in [F16, DType::BF16] {
        let (x, y) = (Tensor::input("x", dtype, [20, 30]), Tensor::input("y", dtype, [30, 40]));
        let f = Function::new("f").output("z", &x.matmul(&y));
        let text = f.compile(options.clone()).unwrap_or_else(|e| panic!("{e}")).explain().to_string();
        assert!(text.contains(&format!("contract {dtype}")), "{text}");
    }
}

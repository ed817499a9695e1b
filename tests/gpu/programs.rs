//! Programs: sizes that change, networks, what is refused, and what is said of them.

use lehr::prelude::*;
use lehr::{DeviceChoice, Error};

use crate::{agree, gpu};

#[test]
fn one_program_takes_every_size() {
    let Some((options, _turn)) = gpu() else { return };
    let x = Tensor::input("x", F32, ["n", "m"]);
    let f = Function::new("f").output("y", &(&x * 2.0 + x.sum_axes(0))).output("n", &x.max_axes(-1));
    let mut f = f.compile(options).unwrap();
    for (n, m) in [(2, 3), (7, 70), (1, 1), (2, 3), (3, 0), (300, 5)] {
        let rows: Vec<f32> = (0..n * m).map(|i| i as f32).collect();
        let sums: Vec<f32> = (0..m).map(|j| (0..n).map(|i| rows[i * m + j]).sum()).collect();
        let want: Vec<f32> = rows.iter().enumerate().map(|(i, x)| x * 2.0 + sums[i % m]).collect();
        let out = f.run([("x", Array::new(&[n, m], rows).unwrap())]).unwrap();
        let y: Vec<f32> = out.get("y").unwrap();
        assert_eq!(y, want, "[{n}, {m}]");
    }
}

#[test]
fn products_and_attention_and_convolutions_agree() {
    let (a, b) = (random::normal(Key::new(1), F32, (3, 17, 40)), random::normal(Key::new(2), F32, (3, 40, 9)));
    let q = random::normal(Key::new(3), F32, (2, 2, 11, 8));
    let y = nn::attention(&q, &(&q * 0.5), &q, &nn::AttentionOptions::new().causal());
    agree(
        &[
            ("product", a.matmul(&b)),
            ("slope", grad(&a.matmul(&b).square().sum(), &a)),
            ("attention", y.clone()),
            ("of_queries", grad(&y.square().sum(), &q)),
        ],
        1e-4,
    );
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let f = Function::new("f").output("y", &Tensor::from(1.0f32).exp());
    let e = f.compile(Options::default().backend(Backend::Gpu).device("no such device")).unwrap_err();
    assert!(matches!(e, Error::Gpu(_)));
    let text = e.to_string();
    assert!(text.starts_with("gpu: ") && text.contains("help: "), "{text}");
    assert_eq!(DeviceChoice::from("no such device").to_string(), "no such device");
}

#[test]
fn an_explanation_says_what_runs_where() {
    let Some((options, _turn)) = gpu() else { return };
    let x = Tensor::input("x", F32, ("n", 8));
    let w = Tensor::variable("w", init::normal(Key::new(1), &[8, 4], 0.0, 1.0));
    let f = Function::new("f").output("y", &x.matmul(&w).tanh());
    let explanation = f.explain(&options).unwrap();
    let device = explanation.device.as_ref().unwrap();
    assert!(device.dispatches() >= 1 && device.shaders.iter().all(|s| s.contains("@compute")));
    assert_eq!(device.on_host().count(), 0);
    let text = explanation.to_string();
    for part in [
        "== device ",
        "workgroups on b",
        "sent in each call, in bytes: x (32*n)",
        "stays there, in bytes: w (128)",
        "read back, in bytes: y (16*n)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

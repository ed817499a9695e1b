//! The workloads.

use std::time::Instant;

use lehr::prelude::*;
use lehr::{Error, Literal};

use crate::Config;
use crate::check::{against_interp, at, close};
use crate::measure::{Line, ms, summary, time};
use crate::networks;

/// Why a workload has no line.
#[derive(Debug)]
pub enum Failure {
    /// lehr refused it.
    Lehr(Error),
    /// A result is wrong.
    Mismatch(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Lehr(e)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lehr(e) => write!(f, "{e}"),
            Self::Mismatch(m) => write!(f, "wrong result: {m}"),
        }
    }
}

/// A workload's name and what runs it.
pub type Row = (&'static str, fn(&Config) -> Result<Line, Failure>);

/// Every workload that can be expressed.
pub fn all() -> Vec<Row> {
    vec![
        ("gemm_512", |c| gemm(c, 512)),
        ("gemm_1024", |c| gemm(c, 1024)),
        ("gemm_2048", |c| gemm(c, 2048)),
        ("chain_l2", |c| chain(c, 65_536)),
        ("chain_dram", |c| chain(c, 16_777_216)),
        ("axpy_dram", axpy),
        ("softmax", softmax),
        ("layernorm", layernorm),
        ("attn_2048", attention),
        ("attn_2048_grad", attention_grad),
        ("sum_all", |c| sum(c, None)),
        ("sum_axis0", |c| sum(c, Some(0))),
        ("mlp_train", mlp_train),
        ("cnn_train", networks::cnn_train),
        ("gpt_train", networks::gpt_train),
        ("gpt_fwd", networks::gpt_fwd),
        ("resnet18_fwd", networks::resnet18_fwd),
        ("mlp_b1", mlp_b1),
        ("scalar_grad", scalar_grad),
        ("poly_batch", poly_batch),
        ("deep_10", |c| deep(c, 10)),
        ("deep_100", |c| deep(c, 100)),
        ("deep_1000", |c| deep(c, 1000)),
    ]
}

/// Random normal numbers.
pub fn normal(seed: u64, shape: &[usize]) -> Array {
    init::normal(Key::new(seed), shape, 0.0, 1.0)
}

fn gemm(config: &Config, n: usize) -> Result<Line, Failure> {
    let inputs = vec![normal(1, &[n, n]), normal(2, &[n, n])];
    let build = || {
        let (a, b) = (Tensor::input("a", F32, (n, n)), Tensor::input("b", F32, (n, n)));
        Ok(Function::new("gemm").output("c", &a.matmul(&b)))
    };
    time(config, inputs, build, |x, y| {
        for (i, j) in [(0, 0), (n / 3, n / 2), (n - 1, n - 1)] {
            let want: f64 = (0..n).map(|k| at(&x[0], i * n + k) * at(&x[1], k * n + j)).sum();
            close("an element", at(&y[0], i * n + j), want, 1e-3)?;
        }
        Ok(())
    })
}

fn chain(config: &Config, n: usize) -> Result<Line, Failure> {
    let build = || {
        let x = Tensor::input("x", F32, [n]);
        let y = (1.5 * &x + 0.5).tanh() * x.sigmoid() + &x * &x;
        Ok(Function::new("chain").output("y", &y))
    };
    time(config, vec![normal(1, &[n])], build, |x, y| {
        for i in (0..n).step_by(n / 1000) {
            let v = at(&x[0], i);
            let want = (1.5 * v + 0.5).tanh() / (1.0 + (-v).exp()) + v * v;
            close("an element", at(&y[0], i), want, 1e-6)?;
        }
        Ok(())
    })
}

fn axpy(config: &Config) -> Result<Line, Failure> {
    let n = 16_777_216;
    let build = || {
        let (x, y0) = (Tensor::input("x", F32, [n]), Tensor::input("y0", F32, [n]));
        Ok(Function::new("axpy").output("y", &(2.5 * &x + &y0)))
    };
    time(config, vec![normal(1, &[n]), normal(2, &[n])], build, |x, y| {
        for i in (0..n).step_by(n / 1000) {
            close("an element", at(&y[0], i), 2.5 * at(&x[0], i) + at(&x[1], i), 1e-6)?;
        }
        Ok(())
    })
}

fn softmax(config: &Config) -> Result<Line, Failure> {
    let (rows, n) = (4096, 1024);
    let build = || {
        let x = Tensor::input("x", F32, (rows, n));
        Ok(Function::new("softmax").output("y", &x.softmax(-1)))
    };
    time(config, vec![normal(1, &[rows, n])], build, |x, y| {
        for r in [0, rows / 2, rows - 1] {
            let sum: f64 = (0..n).map(|j| at(&x[0], r * n + j).exp()).sum();
            for j in 0..n {
                close("an element", at(&y[0], r * n + j), at(&x[0], r * n + j).exp() / sum, 1e-6)?;
            }
        }
        Ok(())
    })
}

fn layernorm(config: &Config) -> Result<Line, Failure> {
    let (rows, n) = (4096, 1024);
    let build = || {
        let x = Tensor::input("x", F32, (rows, n));
        let (scale, bias) = (Tensor::input("scale", F32, [n]), Tensor::input("bias", F32, [n]));
        Ok(Function::new("layernorm").output("y", &(x.layer_norm(-1, 1e-5) * scale + bias)))
    };
    let inputs = vec![normal(1, &[rows, n]), normal(2, &[n]), normal(3, &[n])];
    time(config, inputs, build, |x, y| {
        for r in [0, rows / 2, rows - 1] {
            let row = |j: usize| at(&x[0], r * n + j);
            let mean = (0..n).map(row).sum::<f64>() / n as f64;
            let var = (0..n).map(|j| (row(j) - mean).powi(2)).sum::<f64>() / n as f64;
            for j in 0..n {
                let want = (row(j) - mean) / (var + 1e-5).sqrt() * at(&x[1], j) + at(&x[2], j);
                close("an element", at(&y[0], r * n + j), want, 1e-5)?;
            }
        }
        Ok(())
    })
}

/// Batch, heads, positions and features of the attention rows.
const ATTENTION: [usize; 4] = [1, 8, 2048, 64];

fn attention(config: &Config) -> Result<Line, Failure> {
    let inputs: Vec<Array> = (1..4).map(|i| normal(i, &ATTENTION)).collect();
    let build = || {
        let [q, k, v] = ["q", "k", "v"].map(|name| Tensor::input(name, F32, ATTENTION));
        let y = nn::attention(&q, &k, &v, &nn::AttentionOptions::new().causal());
        Ok(Function::new("attention").output("y", &y))
    };
    time(config, inputs, build, |x, y| {
        let [_, heads, n, d] = ATTENTION;
        for (h, i) in [(0, 0), (3, 1), (5, n / 3), (heads - 1, n - 1)] {
            let row = |a: &Array, i: usize| -> Vec<f64> { (0..d).map(|c| at(a, (h * n + i) * d + c)).collect() };
            let q = row(&x[0], i);
            let scores: Vec<f64> =
                (0..=i).map(|j| q.iter().zip(row(&x[1], j)).map(|(a, b)| a * b).sum::<f64>() / 8.0).collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            for (c, got) in row(&y[0], i).into_iter().enumerate() {
                let want = (0..=i).map(|j| scores[j].exp() * at(&x[2], (h * n + j) * d + c)).sum::<f64>() / sum;
                close("an element", got, want, 1e-5)?;
            }
        }
        Ok(())
    })
}

/// The value and gradients of a weighted sum of the same attention.
fn attention_grad(config: &Config) -> Result<Line, Failure> {
    let inputs: Vec<Array> = (1..5).map(|i| normal(i, &ATTENTION)).collect();
    let build = || {
        let [q, k, v, w] = ["q", "k", "v", "w"].map(|name| Tensor::input(name, F32, ATTENTION));
        let y = nn::attention(&q, &k, &v, &nn::AttentionOptions::new().causal());
        let (value, (dq, dk, dv)) = value_and_grad(&(y * &w).sum(), &(q, k, v));
        let f = Function::new("attention_grad").output("value", &value).output("dq", &dq);
        Ok(f.output("dk", &dk).output("dv", &dv))
    };
    time(config, inputs, build, |x, y| {
        // Only the last query sees the last key, so that its cotangent is a closed form.
        let [_, heads, n, d] = ATTENTION;
        for h in [0, heads - 1] {
            let row = |a: &Array, i: usize| -> Vec<f64> { (0..d).map(|c| at(a, (h * n + i) * d + c)).collect() };
            let q = row(&x[0], n - 1);
            let scores: Vec<f64> =
                (0..n).map(|j| q.iter().zip(row(&x[1], j)).map(|(a, b)| a * b).sum::<f64>() / 8.0).collect();
            let weight = scores[n - 1].exp() / scores.iter().map(|s| s.exp()).sum::<f64>();
            let w = row(&x[3], n - 1);
            for (got, w) in row(&y[3], n - 1).into_iter().zip(&w) {
                close("a gradient by the last value", got, weight * w, 1e-5)?;
            }
            // By the last query: the weighted deviations of keys.
            let slopes: Vec<f64> = (0..n).map(|j| w.iter().zip(row(&x[2], j)).map(|(a, b)| a * b).sum()).collect();
            let total: f64 = scores.iter().map(|s| s.exp()).sum();
            let p: Vec<f64> = scores.iter().map(|s| s.exp() / total).collect();
            let mean: f64 = p.iter().zip(&slopes).map(|(p, s)| p * s).sum();
            for (c, got) in row(&y[1], n - 1).into_iter().enumerate() {
                let term = |j: usize| p[j] * (slopes[j] - mean) * at(&x[1], (h * n + j) * d + c);
                let want = (0..n).map(term).sum::<f64>() / 8.0;
                close("a gradient by the last query", got, want, 1e-5)?;
            }
        }
        Ok(())
    })
}

fn sum(config: &Config, axis: Option<i64>) -> Result<Line, Failure> {
    let n = 4096;
    let build = || {
        let x = Tensor::input("x", F32, (n, n));
        let y = match axis {
            Some(a) => x.sum_axes(a),
            None => x.sum(),
        };
        Ok(Function::new("sum").output("y", &y))
    };
    time(config, vec![normal(1, &[n, n])], build, |x, y| {
        if axis.is_none() {
            let want: f64 = (0..n * n).map(|i| at(&x[0], i)).sum();
            return close("the sum", at(&y[0], 0), want, 1e-2);
        }
        for j in 0..n {
            let want: f64 = (0..n).map(|i| at(&x[0], i * n + j)).sum();
            close("a column's sum", at(&y[0], j), want, 1e-4)?;
        }
        Ok(())
    })
}

/// A multi-layer perceptron with relu between its layers.
#[derive(Tree)]
struct Mlp {
    layers: Vec<Dense>,
}

impl Mlp {
    fn new(sizes: &[usize]) -> Self {
        let mut keys = Keys::new(7);
        Self { layers: sizes.windows(2).map(|w| Dense::new(w[0], w[1], &mut keys)).collect() }
    }

    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, cx);
            if i + 1 < self.layers.len() {
                x = x.relu();
            }
        }
        x
    }
}

fn mlp_train(config: &Config) -> Result<Line, Failure> {
    let model = Mlp::new(&[784, 512, 256, 10]);
    let labels: Vec<i64> = (0..128).map(|i| (i * 7) % 10).collect();
    let inputs = vec![normal(1, &[128, 784]), Array::from(labels)];
    let build = || {
        let (x, y) = (Tensor::input("x", F32, (128, 784)), Tensor::input("y", I64, [128]));
        let logits = model.forward(&x, &mut Context::train());
        let loss = losses::softmax_cross_entropy(&logits, &y).mean();
        Adam::new(1e-3).minimize(&loss, &model)
    };
    time(config, inputs, build, |x, y| against_interp(&build, x, y))
}

fn mlp_b1(config: &Config) -> Result<Line, Failure> {
    let model = Mlp::new(&[64, 32, 10]);
    let build = || {
        let x = Tensor::input("x", F32, (1, 64));
        Ok(Function::new("mlp_b1").output("logits", &model.forward(&x, &mut Context::eval())))
    };
    time(config, vec![normal(1, &[1, 64])], build, |x, y| against_interp(&build, x, y))
}

fn scalar_grad(config: &Config) -> Result<Line, Failure> {
    let build = || {
        let x = Tensor::input("x", F32, ());
        let (value, slope) = value_and_grad(&(&x * &x + 2.0 * &x), &x);
        Ok(Function::new("scalar_grad").output("value", &value).output("slope", &slope))
    };
    time(config, vec![Array::scalar(3.0f32)], build, |_, y| {
        close("the value", at(&y[0], 0), 15.0, 1e-6)?;
        close("the slope", at(&y[1], 0), 8.0, 1e-6)
    })
}

/// The forward pass at 50 batch sizes, from nothing: all is in `ms`.
fn poly_batch(config: &Config) -> Result<Line, Failure> {
    let model = Mlp::new(&[784, 512, 256, 10]);
    let inputs: Vec<Array> = (1..=50).map(|b| normal(b as u64, &[b, 784])).collect();
    let build = || {
        let x = Tensor::input("x", F32, ("batch", 784));
        Ok::<_, Error>(Function::new("poly").output("logits", &model.forward(&x, &mut Context::eval())))
    };
    let mut totals = Vec::new();
    let mut last = None;
    for _ in 0..5 {
        let start = Instant::now();
        let mut exe = build()?.compile(config.options.clone())?;
        for x in &inputs {
            last = Some(exe.run(std::slice::from_ref(x))?);
        }
        totals.push(ms(start.elapsed()));
        if config.first {
            break;
        }
    }
    if let Some(out) = last {
        against_interp(&build, &inputs[49..], out.arrays())?;
    }
    let first = totals[0];
    Ok(summary(totals, first, "fresh"))
}

fn deep(config: &Config, depth: usize) -> Result<Line, Failure> {
    let scale = Literal::from(0.05f32);
    let weights: Vec<(Tensor, Tensor)> = (0..depth)
        .map(|i| {
            let w = init::normal(Key::new(i as u64), &[64, 64], 0.0, 0.01);
            (Tensor::variable(&format!("w{i}"), w), Tensor::variable(&format!("b{i}"), Array::full(&[64], scale)))
        })
        .collect();
    let build = || {
        let mut x = Tensor::input("x", F32, (8, 64));
        for (w, b) in &weights {
            x = &x + (x.matmul(w) + b).relu();
        }
        let (value, slopes) = value_and_grad(&x.sum(), &weights);
        let mut f = Function::new("deep").output("value", &value);
        for (i, (w, b)) in slopes.iter().enumerate() {
            f = f.output(&format!("w{i}"), w).output(&format!("b{i}"), b);
        }
        Ok(f)
    };
    time(config, vec![normal(1, &[8, 64])], build, |x, y| {
        // The evaluator takes long for a thousand layers, and the sum of so many is checked by its value.
        if depth <= 100 { against_interp(&build, x, y) } else { Ok(()) }
    })
}

//! The workloads that are whole networks: their layers, and one step of training or one forward pass.

use lehr::models::{Gpt, GptConfig, ResNet};
use lehr::nn::{Conv, MaxPool};
use lehr::prelude::*;

use crate::Config;
use crate::check::against_interp;
use crate::measure::{Line, time};
use crate::rows::{Failure, normal};

/// Two convolutions, a maximum over windows and two dense layers.
#[derive(Tree)]
struct Cnn {
    conv1: Conv,
    conv2: Conv,
    hidden: Dense,
    out: Dense,
}

impl Cnn {
    fn new() -> Self {
        let mut keys = Keys::new(7);
        Self {
            conv1: Conv::new(1, 32, [3, 3], ConvOptions::new(), &mut keys),
            conv2: Conv::new(32, 64, [3, 3], ConvOptions::new(), &mut keys),
            hidden: Dense::new(12 * 12 * 64, 128, &mut keys),
            out: Dense::new(128, 10, &mut keys),
        }
    }

    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let x = self.conv1.forward(x, cx).relu();
        let x = self.conv2.forward(&x, cx).relu();
        let x = MaxPool::new(2).forward(&x, cx);
        let x = self.hidden.forward(&x.flatten_from(1), cx).relu();
        self.out.forward(&x, cx)
    }
}

pub fn cnn_train(config: &Config) -> Result<Line, Failure> {
    let model = Cnn::new();
    let step = |batch: usize| {
        let (x, y) = (Tensor::input("x", F32, (batch, 28, 28, 1)), Tensor::input("y", I64, [batch]));
        let logits = model.forward(&x, &mut Context::train());
        let loss = losses::softmax_cross_entropy(&logits, &y).mean();
        Adam::new(1e-3).minimize(&loss, &model)
    };
    let inputs = |batch: usize| {
        let labels: Vec<i64> = (0..batch as i64).map(|i| (i * 7) % 10).collect();
        vec![normal(1, &[batch, 28, 28, 1]), Array::from(labels)]
    };
    time(
        config,
        inputs(64),
        || step(64),
        |_, _| {
            // The evaluator takes minutes for the whole batch, and a part of it goes the same ways.
            let mut exe = step(2)?.compile(config.options.clone())?;
            let out = exe.run(inputs(2).as_slice())?;
            against_interp(&|| step(2), &inputs(2), out.arrays())
        },
    )
}

pub fn resnet18_fwd(config: &Config) -> Result<Line, Failure> {
    let model = ResNet::resnet18(3, 1000, &mut Keys::new(7));
    let build = |size: usize| {
        let x = Tensor::input("x", F32, (1, size, size, 3));
        Ok(Function::new("resnet18").output("logits", &model.forward(&x, &mut Context::eval())))
    };
    time(
        config,
        vec![normal(1, &[1, 224, 224, 3])],
        || build(224),
        |_, _| {
            let small = [normal(1, &[1, 32, 32, 3])];
            let mut exe = build(32)?.compile(config.options.clone())?;
            let out = exe.run(small.as_slice())?;
            against_interp(&|| build(32), &small, out.arrays())
        },
    )
}

/// A decoder of 4 layers, 4 heads and 256 features over a vocabulary of 1000.
fn gpt() -> Gpt {
    let config = GptConfig { vocabulary: 1000, context: 128, features: 256, heads: 4, layers: 4 };
    Gpt::new(config, &mut Keys::new(7))
}

/// Tokens in rows, with every part of the vocabulary among them.
fn tokens(rows: usize, time: usize, seed: i64) -> Array {
    let ids: Vec<i64> = (0..(rows * time) as i64).map(|i| (i * 7919 + seed) % 1000).collect();
    // The count is the shape's.
    Array::new(&[rows, time], ids).unwrap_or_else(|_| Array::zeros(I64, &[rows, time]))
}

pub fn gpt_train(config: &Config) -> Result<Line, Failure> {
    let model = gpt();
    let step = |rows: usize, time: usize| {
        let (x, y) = (Tensor::input("x", I64, (rows, time)), Tensor::input("y", I64, (rows, time)));
        let logits = model.forward(&x, &mut Context::train());
        let loss = losses::softmax_cross_entropy(&logits, &y).mean();
        Adam::new(1e-3).minimize(&loss, &model)
    };
    let inputs = |rows: usize, time: usize| vec![tokens(rows, time, 0), tokens(rows, time, 1)];
    time(
        config,
        inputs(8, 128),
        || step(8, 128),
        |_, _| {
            let small = inputs(2, 24);
            let mut exe = step(2, 24)?.compile(config.options.clone())?;
            let out = exe.run(small.as_slice())?;
            against_interp(&|| step(2, 24), &small, out.arrays())
        },
    )
}

pub fn gpt_fwd(config: &Config) -> Result<Line, Failure> {
    let model = gpt();
    let build = || {
        let x = Tensor::input("x", I64, (1, 128));
        Ok(Function::new("gpt").output("logits", &model.forward(&x, &mut Context::eval())))
    };
    time(config, vec![tokens(1, 128, 0)], build, |x, y| against_interp(&build, x, y))
}

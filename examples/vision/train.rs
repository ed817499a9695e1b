//! Training a convolutional network on handwritten digits.

use std::path::Path;
use std::time::{Duration, Instant};

use lehr::nn::{BatchNorm, Conv, Dropout, MaxPool};
use lehr::prelude::*;

/// How to train.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs the programs.
    pub backend: Backend,
    /// Decides split, initial weights and the order of examples.
    pub seed: u64,
    /// Passes over the training set.
    pub epochs: usize,
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { backend: Backend::default(), seed: 0, epochs: 40, progress: false }
    }
}

/// Three convolutions with batch normalisation, a maximum over windows, and two dense layers.
#[derive(Tree)]
pub struct Network {
    blocks: Vec<Block>,
    hidden: Dense,
    out: Dense,
}

/// A convolution of 3×3 that keeps the size, normalised, with relu.
#[derive(Tree)]
struct Block {
    conv: Conv,
    norm: BatchNorm,
}

impl Block {
    fn new(inputs: usize, outputs: usize, keys: &mut Keys) -> Self {
        let options = ConvOptions::new().padding(Padding::Same);
        Self { conv: Conv::without_bias(inputs, outputs, [3, 3], options, keys), norm: BatchNorm::new(outputs) }
    }

    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let x = self.conv.forward(x, cx);
        self.norm.forward(&x, cx).relu()
    }
}

impl Network {
    /// A network with fresh weights.
    pub fn new(keys: &mut Keys) -> Self {
        Self {
            blocks: vec![Block::new(1, 32, keys), Block::new(32, 32, keys), Block::new(32, 64, keys)],
            hidden: Dense::new(4 * 4 * 64, 64, keys),
            out: Dense::glorot(64, 10, keys),
        }
    }

    /// A number for each class, from 64 pixels between 0 and 16.
    pub fn forward(&self, pixels: &Tensor, cx: &mut Context) -> Tensor {
        let mut x = (pixels / 16.0).reshape((-1, 8, 8, 1));
        for (i, block) in self.blocks.iter().enumerate() {
            x = cx.scope(&format!("block{i}"), |cx| block.forward(&x, cx));
            if i == 1 {
                x = MaxPool::new(2).forward(&x, cx);
            }
        }
        let x = self.hidden.forward(&Dropout::new(0.3).forward(&x.flatten_from(1), cx), cx).relu();
        self.out.forward(&Dropout::new(0.3).forward(&x, cx), cx)
    }
}

/// What a whole run gave.
pub struct Report {
    /// The accuracy on the held-out examples.
    pub accuracy: f64,
    /// The loss of each step.
    pub losses: Vec<f32>,
    /// Time from graph to code, of both programs.
    pub compiling: Duration,
    /// Time of training.
    pub running: Duration,
}

/// Loads, compiles, trains and tests on a fifth that is held out.
pub fn run(csv: &Path, config: &Config) -> lehr::Result<Report> {
    let (train, test) = Dataset::csv(csv)?.label("label")?.split(0.8, Key::new(config.seed));
    let model = Network::new(&mut Keys::new(config.seed));
    let (x, y) = (Tensor::input("x", F32, ("batch", 64)), Tensor::input("y", I64, ["batch"]));
    let options = Options::default().backend(config.backend);

    // In training, statistics are those of the batch, and the running ones move on; in prediction, they are used.
    let mut cx = Context::train_with(Key::new(config.seed));
    let loss = losses::softmax_cross_entropy(&model.forward(&x, &mut cx), &y).mean();
    let mut step = Adam::new(1e-3).minimize(&loss, &model)?.updates_of(&cx).compile(options.clone())?;
    let class = model.forward(&x, &mut Context::eval()).argmax(-1);
    let right = class.eq(&y).mean();
    let predict = Function::new("predict").output("accuracy", &right).named(&model).compile(options)?;
    let mut predict = predict.with_state(step.state());
    let compiling = step.compile_time() + predict.compile_time();

    let start = Instant::now();
    let loader = train.shuffle(config.seed).batch(64).epochs(config.epochs);
    let loader = if config.progress { loader.progress() } else { loader };
    let mut losses = Vec::new();
    for batch in loader {
        let loss: f32 = step.run(&batch)?.unpack()?;
        batch.note(&format!("epoch {} loss {loss:.4}", batch.epoch() + 1));
        losses.push(loss);
    }
    let running = start.elapsed();
    let accuracy: f32 = predict.run(test.all())?.unpack()?;
    Ok(Report { accuracy: f64::from(accuracy), losses, compiling, running })
}

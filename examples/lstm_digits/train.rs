//! A classifier that sees an image as a sequence of eight rows.

use std::path::Path;
use std::time::{Duration, Instant};

use lehr::nn::Lstm;
use lehr::prelude::*;

/// Rows of an image, and pixels of a row.
const SIDE: usize = 8;
/// Digits.
const CLASSES: usize = 10;
/// Numbers that the classifier remembers from row to row.
const UNITS: usize = 64;

/// How to train.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs the programs.
    pub backend: Backend,
    /// Decides split, initial weights and the order of examples.
    pub seed: u64,
    /// Passes over the training set.
    pub epochs: usize,
    /// Examples of a step.
    pub batch: usize,
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { backend: Backend::default(), seed: 0, epochs: 30, batch: 64, progress: false }
    }
}

/// Reads the rows from top to bottom, and names the digit from what is remembered at the end.
#[derive(Tree)]
pub struct Reader {
    lstm: Lstm,
    out: Dense,
}

impl Reader {
    /// A reader with fresh weights.
    pub fn new(keys: &mut Keys) -> Self {
        Self { lstm: Lstm::new(SIDE, UNITS, keys), out: Dense::glorot(UNITS, CLASSES, keys) }
    }

    /// A number for each class, from pixels `[batch, 64]` between 0 and 16.
    pub fn forward(&self, pixels: &Tensor, cx: &mut Context) -> Tensor {
        let rows = (pixels / 16.0).reshape(("batch", SIDE, SIDE));
        let (_, last) = cx.scope("lstm", |cx| self.lstm.run(&rows, None, cx));
        cx.scope("out", |cx| self.out.forward(&last.h, cx))
    }
}

/// What a whole run gave.
pub struct Report {
    /// The loss of each step.
    pub losses: Vec<f32>,
    /// The accuracy on the held-out fifth of the examples.
    pub accuracy: f64,
    /// Time from graph to code, of both programs.
    pub compiling: Duration,
    /// Time of training.
    pub running: Duration,
}

/// Loads, compiles, trains and tests.
pub fn run(csv: &Path, config: &Config) -> lehr::Result<Report> {
    let (train, test) = Dataset::csv(csv)?.label("label")?.split(0.8, Key::new(config.seed));
    let model = Reader::new(&mut Keys::new(config.seed));
    let x = Tensor::input("x", F32, ("batch", SIDE * SIDE));
    let y = Tensor::input("y", I64, ["batch"]);
    let logits = model.forward(&x, &mut Context::train());
    let loss = losses::softmax_cross_entropy(&logits, &y).mean();
    let class = logits.argmax(-1);

    let options = Options::default().backend(config.backend);
    let mut step = Adam::new(1e-2).minimize(&loss, &model)?.compile(options.clone())?;
    let predict = Function::new("predict").output("class", &class).named(&model).compile(options)?;
    let mut predict = predict.with_state(step.state());

    let start = Instant::now();
    let loader = train.shuffle(config.seed).batch(config.batch).epochs(config.epochs);
    let mut losses = Vec::new();
    for batch in if config.progress { loader.progress() } else { loader } {
        let loss: f32 = step.run(&batch)?.unpack()?;
        batch.note(&format!("epoch {} loss {loss:.4}", batch.epoch() + 1));
        losses.push(loss);
    }
    let running = start.elapsed();

    let found: Vec<i64> = predict.run(test.all())?.unpack()?;
    let labels = test.column("y")?.as_slice::<i64>().unwrap_or_default().to_vec();
    let right = found.iter().zip(&labels).filter(|(a, b)| a == b).count();
    let accuracy = right as f64 / labels.len().max(1) as f64;
    Ok(Report { losses, accuracy, compiling: step.compile_time() + predict.compile_time(), running })
}

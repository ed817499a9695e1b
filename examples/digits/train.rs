//! Training a classifier of handwritten digits: the model, its step, its accuracy, its files.

use std::path::Path;
use std::time::{Duration, Instant};

use lehr::prelude::*;

/// Pixels of an image of 8×8.
pub const PIXELS: usize = 64;
/// Digits.
pub const CLASSES: usize = 10;

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

/// Two hidden layers with relu.
#[derive(Tree)]
pub struct Classifier {
    first: Dense,
    second: Dense,
    out: Dense,
}

impl Classifier {
    /// A classifier with fresh weights.
    pub fn new(keys: &mut Keys) -> Self {
        Self {
            first: Dense::new(PIXELS, 128, keys),
            second: Dense::new(128, 64, keys),
            out: Dense::glorot(64, CLASSES, keys),
        }
    }

    /// A number for each class, from pixels between 0 and 16.
    pub fn forward(&self, pixels: &Tensor, cx: &mut Context) -> Tensor {
        let x = pixels / 16.0;
        let h = cx.scope("first", |cx| self.first.forward(&x, cx).relu());
        let h = cx.scope("second", |cx| self.second.forward(&h, cx).relu());
        cx.scope("out", |cx| self.out.forward(&h, cx))
    }
}

/// The training set and the test set: a fifth is held out.
pub fn load(csv: &Path, seed: u64) -> lehr::Result<(Dataset, Dataset)> {
    Ok(Dataset::csv(csv)?.label("label")?.split(0.8, Key::new(seed)))
}

/// The model, and the programs over its state.
pub struct Trainer {
    /// The model.
    pub model: Classifier,
    /// One step: forward, loss, gradients, Adam, all variables updated.
    pub step: Executable,
    /// The most likely class of each example.
    pub predict: Executable,
}

impl Trainer {
    /// A fresh model and its compiled programs.
    pub fn new(config: &Config) -> lehr::Result<Self> {
        Self::with_options(config, &Options::default().backend(config.backend))
    }

    /// A fresh model, its programs compiled in a given way.
    pub fn with_options(config: &Config, options: &Options) -> lehr::Result<Self> {
        let model = Classifier::new(&mut Keys::new(config.seed));
        let x = Tensor::input("x", F32, ("batch", PIXELS));
        let y = Tensor::input("y", I64, ["batch"]);

        let logits = model.forward(&x, &mut Context::train());
        let loss = losses::softmax_cross_entropy(&logits, &y).mean();
        let class = logits.argmax(-1);
        let accuracy = class.eq(&y).mean();

        let step = Adam::new(2e-3).minimize(&loss, &model)?.output("accuracy", &accuracy).compile(options.clone())?;
        let predict = Function::new("predict").output("class", &class).named(&model).compile(options.clone())?;
        let predict = predict.with_state(step.state());
        Ok(Self { model, step, predict })
    }

    /// Trains; gives the loss of each step.
    pub fn train(&mut self, train: &Dataset, config: &Config) -> lehr::Result<Vec<f32>> {
        let loader = train.shuffle(config.seed).batch(config.batch).epochs(config.epochs);
        let loader = if config.progress { loader.progress() } else { loader };
        let mut losses = Vec::new();
        for batch in loader {
            let (loss, accuracy): (f32, f32) = self.step.run(&batch)?.unpack()?;
            batch.note(&format!("epoch {} loss {loss:.4} accuracy {:.1} %", batch.epoch() + 1, 100.0 * accuracy));
            losses.push(loss);
        }
        Ok(losses)
    }

    /// The predicted class of each example.
    pub fn classes(&mut self, data: &Dataset) -> lehr::Result<Vec<i64>> {
        self.predict.run(data.all())?.unpack()
    }

    /// The part of examples that are predicted rightly.
    pub fn accuracy(&mut self, data: &Dataset) -> lehr::Result<f64> {
        let found = self.classes(data)?;
        let labels = labels(data)?;
        let right = found.iter().zip(&labels).filter(|(a, b)| a == b).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    }

    /// Writes the weights of the model, without the optimiser's variables.
    pub fn save(&self, path: &Path) -> lehr::Result<()> {
        self.step.state().save_model(&self.model, path)
    }

    /// Reads the weights of the model.
    pub fn load(&self, path: &Path) -> lehr::Result<()> {
        self.step.state().load_model(&self.model, path)
    }
}

/// The labels of a data set.
pub fn labels(data: &Dataset) -> lehr::Result<Vec<i64>> {
    Ok(data.column("y")?.as_slice::<i64>().unwrap_or_default().to_vec())
}

/// What a whole run gave.
pub struct Report {
    /// The trained model.
    pub trainer: Trainer,
    /// The held-out examples.
    pub test: Dataset,
    /// The loss of each step.
    pub losses: Vec<f32>,
    /// The accuracy on the held-out examples.
    pub accuracy: f64,
    /// Time from graph to code, of both programs.
    pub compiling: Duration,
    /// Time of training.
    pub running: Duration,
}

/// Loads, compiles, trains and tests.
pub fn run(csv: &Path, config: &Config) -> lehr::Result<Report> {
    let (train, test) = load(csv, config.seed)?;
    let mut trainer = Trainer::new(config)?;
    let compiling = trainer.step.compile_time() + trainer.predict.compile_time();
    let start = Instant::now();
    let losses = trainer.train(&train, config)?;
    let running = start.elapsed();
    let accuracy = trainer.accuracy(&test)?;
    Ok(Report { trainer, test, losses, accuracy, compiling, running })
}

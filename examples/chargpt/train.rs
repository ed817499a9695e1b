//! A character model: its step, its samples, its files.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lehr::models::{Gpt, GptConfig};
use lehr::prelude::*;

use super::text::{Random, Text};

/// How to train.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs the programs.
    pub backend: Backend,
    /// Decides initial weights, windows and samples.
    pub seed: u64,
    /// Steps of training.
    pub steps: usize,
    /// Windows of a step.
    pub rows: usize,
    /// Sizes of the model; the vocabulary is the text's.
    pub model: GptConfig,
    /// Steps between two reports.
    pub every: usize,
    /// Where all variables go at the end, and come from at the start if the file is there.
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let model = GptConfig { vocabulary: 0, context: 64, features: 128, heads: 4, layers: 3 };
        Self { backend: Backend::default(), seed: 0, steps: 600, rows: 16, model, every: 100, file: None }
    }
}

/// The programs over one state.
pub struct Trainer {
    step: Executable,
    next: Executable,
    context: usize,
}

impl Trainer {
    /// A fresh model for a text, and its compiled programs.
    pub fn new(config: &Config, text: &Text) -> lehr::Result<Self> {
        let sizes = GptConfig { vocabulary: text.vocabulary(), ..config.model };
        let model = Gpt::new(sizes, &mut Keys::new(config.seed));
        let options = Options::default().backend(config.backend);
        let time = sizes.context;

        let (x, y) = (Tensor::input("x", I64, ("rows", time)), Tensor::input("y", I64, ("rows", time)));
        let loss = losses::softmax_cross_entropy(&model.forward(&x, &mut Context::train()), &y).mean();
        let step = Adam::new(2e-3).minimize(&loss, &model)?.compile(options.clone())?;

        // The character after a position, drawn from the softmax of its logits: the greatest of logits plus Gumbel noise.
        let (window, position) = (Tensor::input("window", I64, (1, time)), Tensor::input("position", I64, ()));
        let (key, temperature) = (Tensor::input("key", U32, [2]), Tensor::input("temperature", F32, ()));
        let logits = model.forward(&window, &mut Context::eval()).slice(0).take(&position, 0);
        let noise = -(-random::uniform(&key, F32, [sizes.vocabulary]).maximum(1e-20).log()).log();
        let next = (logits / &temperature + noise).argmax(-1);
        let next = Function::new("next").inputs(&[&window, &position, &key, &temperature]).output("id", &next);
        let next = next.named(&model).compile(options)?.with_state(step.state());
        Ok(Self { step, next, context: time })
    }

    /// Trains; calls `report` with step, mean loss since the last report, and characters a second.
    pub fn train(
        &mut self,
        config: &Config,
        text: &Text,
        mut report: impl FnMut(&mut Self, usize, f32, f64) -> lehr::Result<()>,
    ) -> lehr::Result<()> {
        let mut random = Random(config.seed);
        let (mut sum, mut count, mut since) = (0.0, 0, Instant::now());
        for step in 1..=config.steps {
            let (x, y) = text.windows(config.rows, self.context, &mut random);
            let loss: f32 = self.step.run([x, y])?.unpack()?;
            (sum, count) = (sum + loss, count + 1);
            if step % config.every == 0 || step == config.steps {
                let rate = (count * config.rows * self.context) as f64 / since.elapsed().as_secs_f64();
                report(self, step, sum / count as f32, rate)?;
                (sum, count, since) = (0.0, 0, Instant::now());
            }
        }
        Ok(())
    }

    /// So many characters after a beginning.
    pub fn sample(&mut self, text: &Text, start: &str, count: usize, seed: u64) -> lehr::Result<String> {
        let mut ids = text.encode(start);
        if ids.is_empty() {
            ids.push(0);
        }
        for i in 0..count {
            let seen = &ids[ids.len().saturating_sub(self.context)..];
            let mut window = seen.to_vec();
            window.resize(self.context, 0);
            let window =
                Array::new(&[1, self.context], window).unwrap_or_else(|_| Array::zeros(I64, &[1, self.context]));
            let key = Array::from(vec![seed as u32, i as u32]);
            let inputs = [window, Array::scalar(seen.len() as i64 - 1), key, Array::scalar(0.8f32)];
            ids.push(self.next.run(inputs)?.unpack::<i64>()?);
        }
        Ok(text.decode(&ids))
    }

    /// Writes all variables, those of the optimiser too.
    pub fn save(&self, path: &Path) -> lehr::Result<()> {
        self.step.state().save(path)
    }

    /// Goes on from saved variables.
    pub fn load(&self, path: &Path) -> lehr::Result<()> {
        self.step.state().load(path)
    }
}

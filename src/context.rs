//! What layers are called with besides their input: the mode, random keys, scope names, and the updates that they leave.

use crate::random::{self, Key};
use crate::scope;
use crate::tensor::Tensor;

/// The context of one forward pass.
///
/// A training context holds a random key as a variable, `rng`, which each call moves on: give its updates to the function with
/// [`Function::updates_of`](crate::Function::updates_of).
/// ```
/// use lehr::prelude::*;
/// let mut cx = Context::train();
/// let y = nn::dropout(&Tensor::input("x", F32, ["n"]), 0.5, &mut cx);
/// let mut f = Function::new("f").output("y", &y).updates_of(&cx).compile(Options::default())?;
/// let first: Vec<f32> = f.run([vec![1.0f32; 64]])?.unpack()?;
/// let second: Vec<f32> = f.run([vec![1.0f32; 64]])?.unpack()?;
/// assert_ne!(first, second);
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    train: bool,
    seed: Key,
    rng: Option<Tensor>,
    drawn: u32,
    updates: Vec<(Tensor, Tensor)>,
}

impl Context {
    /// A context for training, with the key of seed 0.
    pub fn train() -> Self {
        Self::train_with(Key::new(0))
    }

    /// A context for training; `key` starts the stream of random numbers.
    pub fn train_with(key: Key) -> Self {
        Self { train: true, seed: key, rng: None, drawn: 0, updates: Vec::new() }
    }

    /// A context for evaluation: no dropout, running statistics are used and not updated.
    pub fn eval() -> Self {
        Self { train: false, ..Self::train() }
    }

    /// Whether it is for training.
    pub fn is_train(&self) -> bool {
        self.train
    }

    /// A fresh random key, different on each call of the compiled function.
    #[track_caller]
    pub fn key(&mut self) -> Tensor {
        let rng = match &self.rng {
            Some(rng) => rng.clone(),
            None => {
                let rng = Tensor::buffer("rng", self.seed.words());
                // The key moves on by a number that no layer draws.
                self.updates.push((rng.clone(), random::fold_in(&rng, u32::MAX)));
                self.rng = Some(rng.clone());
                rng
            }
        };
        let key = random::fold_in(&rng, self.drawn);
        self.drawn += 1;
        key
    }

    /// Leaves the new value of a variable, such as a running statistic.
    pub fn update(&mut self, variable: &Tensor, value: &Tensor) {
        self.updates.push((variable.clone(), value.clone()));
    }

    /// The updates left so far: variable and new value.
    pub fn updates(&self) -> &[(Tensor, Tensor)] {
        &self.updates
    }

    /// Runs `f`; the nodes it makes stand in a group of this name in dumps.
    pub fn scope<R>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        scope::within(name, || f(self))
    }
}

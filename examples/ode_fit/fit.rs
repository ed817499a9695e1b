//! Lotka and Volterra's equations, and their parameters from data: `x' = a x - b x y`, `y' = d x y - c y`.
//!
//! The integration, its gradient and the whole minimisation are one program.

use std::time::{Duration, Instant};

use lehr::prelude::*;
use lehr::solve::{MinimizeOptions, OdeOptions, minimize_with, odeint_with};

/// What the parameters are called: rates of birth and being eaten of the prey, of death and growth of the predators.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// The parameters that the data are made with.
pub const TRUE: [f64; 4] = [1.1, 0.4, 0.4, 0.1];
/// Where the fit starts.
const GUESS: [f64; 4] = [0.8, 0.3, 0.5, 0.15];
/// The numbers of prey and predators at first.
const START: [f64; 2] = [10.0, 5.0];
/// The last time.
const END: f64 = 12.0;
/// Steps of the integration from one observation to the next.
const STEPS: usize = 8;

/// How to fit.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs the programs.
    pub backend: Backend,
    /// Decides the noise.
    pub seed: u64,
    /// Observations.
    pub points: usize,
    /// Their relative error.
    pub noise: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { backend: Backend::default(), seed: 0, points: 41, noise: 0.05 }
    }
}

/// Times, and the numbers of prey and predators.
pub struct Series {
    /// The times.
    pub times: Vec<f64>,
    /// Prey, and predators.
    pub counts: [Vec<f64>; 2],
}

/// What a fit gave.
pub struct Fit {
    /// The parameters.
    pub found: [f64; 4],
    /// The mean squared relative error.
    pub error: f64,
    /// Steps of the minimisation.
    pub iterations: i64,
    /// Whether it ended at a minimum.
    pub converged: bool,
    /// The observations.
    pub data: Series,
    /// The fitted solution, closely.
    pub curve: Series,
    /// Time from graph to code.
    pub compiling: Duration,
    /// Time of the minimisation.
    pub running: Duration,
}

/// Prey and predators at some times, for parameters in the order of their names.
fn populations(options: &OdeOptions, parameters: &[Tensor], times: &Tensor) -> (Tensor, Tensor) {
    let [a, b, c, d] = parameters else { unreachable!("there are four parameters") };
    let start = START.map(Tensor::constant);
    let [x, y] = odeint_with(options, &start, times, |_, [x, y]| {
        let meetings = x * y;
        [a * x - b * &meetings, d * &meetings - c * y]
    })
    .y;
    (x, y)
}

fn grid(points: usize) -> Vec<f64> {
    (0..points).map(|i| END * i as f64 / (points - 1) as f64).collect()
}

/// The solution for fixed parameters, with tight tolerances.
fn series(parameters: [f64; 4], points: usize, options: &Options) -> lehr::Result<Series> {
    let times = grid(points);
    let exact = OdeOptions::dormand_prince().rtol(1e-8).atol(1e-8).max_steps(2000);
    let (x, y) = populations(&exact, &parameters.map(Tensor::from), &Tensor::from(times.clone()));
    let mut f = Function::new("populations").output("prey", &x).output("predators", &y).compile(options.clone())?;
    let (x, y): (Vec<f64>, Vec<f64>) = f.run(())?.unpack()?;
    Ok(Series { times, counts: [x, y] })
}

/// Makes data, and finds the parameters again.
pub fn run(config: &Config) -> lehr::Result<Fit> {
    let options = Options::default().backend(config.backend);
    let mut data = series(TRUE, config.points, &options)?;
    let noise: Vec<f64> = random::normal(Key::new(config.seed), F64, 2 * config.points).to()?;
    for (count, n) in data.counts.iter_mut().flatten().zip(noise) {
        *count *= (config.noise * n).exp();
    }

    let times = Tensor::input("times", F64, config.points);
    let (prey, predators) = (Tensor::input("prey", F64, config.points), Tensor::input("predators", F64, config.points));
    // Logarithms of the parameters keep these positive, and those of the counts make errors relative.
    let guess = GUESS.map(|p| Tensor::constant(p.ln()));
    let best = minimize_with(&MinimizeOptions::lbfgs().tolerance(1e-7), &guess, |logs| {
        let parameters: Vec<Tensor> = logs.iter().map(Tensor::exp).collect();
        let (x, y) = populations(&OdeOptions::rk4(STEPS), &parameters, &times);
        (losses::mse(&x.log(), prey.log()) + losses::mse(&y.log(), predators.log())).mean() * 0.5
    });
    let f = Function::new("fit")
        .output("logs", &Tensor::stack(&best.x, 0))
        .output("error", &best.value)
        .output("iterations", &best.iterations)
        .output("converged", &best.converged);
    let mut fit = f.compile(options.clone())?;
    let start = Instant::now();
    let [x, y] = &data.counts;
    let out = fit.run([("times", data.times.as_slice()), ("prey", x), ("predators", y)])?;
    let running = start.elapsed();
    let (logs, error, iterations, converged): (Vec<f64>, f64, i64, bool) = out.unpack()?;
    let mut found = [0.0; 4];
    found.iter_mut().zip(&logs).for_each(|(p, log)| *p = log.exp());
    let curve = series(found, 241, &options)?;
    Ok(Fit { found, error, iterations, converged, data, curve, compiling: fit.compile_time(), running })
}

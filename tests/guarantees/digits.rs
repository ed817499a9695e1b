//! The digits example: how well it learns, that saved weights say the same, and that its numbers depend on nothing else.

#[path = "../../examples/digits/train.rs"]
#[allow(dead_code)]
pub(crate) mod train;

use std::path::PathBuf;

use lehr::prelude::*;
use train::{Config, Trainer, load, run};

pub(crate) fn csv() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv")
}

pub(crate) fn config(seed: u64) -> Config {
    Config { backend: Backend::Cpu, seed, ..Config::default() }
}

/// The losses of the first steps of a seed, and the weights after them.
fn first_steps(options: Options, steps: usize) -> (Vec<f32>, State) {
    let (data, _) = load(&csv(), 0).unwrap();
    let mut trainer = Trainer::with_options(&config(0), &options).unwrap();
    let mut losses = Vec::new();
    for batch in data.shuffle(0).batch(64).epochs(30).into_iter().take(steps) {
        let (loss, _): (f32, f32) = trainer.step.run(&batch).unwrap().unpack().unwrap();
        losses.push(loss);
    }
    (losses, trainer.step.state().snapshot())
}

#[test]
fn accuracy_over_five_seeds_and_again_from_saved_weights() {
    let _turn = crate::alone();
    let folder = std::env::temp_dir().join(format!("lehr-guarantees-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut accuracies = Vec::new();
    for seed in 0..5 {
        let report = run(&csv(), &config(seed)).unwrap();
        let file = folder.join(format!("{seed}.safetensors"));
        report.trainer.save(&file).unwrap();
        // A model that has seen nothing, whose fresh weights are those of another seed.
        let mut again = Trainer::new(&config(seed + 100)).unwrap();
        let (_, test) = load(&csv(), seed).unwrap();
        assert!(again.accuracy(&test).unwrap() < 0.5, "untrained weights classify");
        again.load(&file).unwrap();
        assert_eq!(again.accuracy(&test).unwrap(), report.accuracy, "seed {seed}");
        accuracies.push(report.accuracy);
    }
    std::fs::remove_dir_all(folder).unwrap();
    let mean = accuracies.iter().sum::<f64>() / 5.0;
    println!("{accuracies:?}, mean {mean}");
    assert!(mean >= 0.97, "{accuracies:?}");
    assert!(accuracies.iter().all(|&a| a >= 0.955), "{accuracies:?}");
}

#[test]
fn interp_and_cpu_lose_alike() {
    let _turn = crate::alone();
    let (cpu, _) = first_steps(crate::cpu(), 50);
    let (interp, _) = first_steps(Options::default().backend(Backend::Interp), 50);
    assert_eq!(cpu.len(), 50);
    for (i, (a, b)) in cpu.iter().zip(&interp).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs(), "step {i}: {a} is not {b}");
    }
}

#[test]
fn runs_give_the_same_bits_on_any_number_of_threads() {
    let _turn = crate::alone();
    let (losses, state) = first_steps(crate::cpu().threads(1), 100);
    for threads in [1, 2] {
        let (again, other) = first_steps(crate::cpu().threads(threads), 100);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&losses), bits(&again), "{threads} threads");
        assert!(!state.names().is_empty());
        for name in state.names() {
            assert!(state.get(&name).unwrap().bit_eq(&other.get(&name).unwrap()), "{name}, {threads} threads");
        }
    }
}

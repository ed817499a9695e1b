//! The digits example on the reference backend, a few epochs only.

#[path = "../../examples/digits/train.rs"]
#[allow(dead_code)]
mod train;

use std::path::Path;

use lehr::prelude::*;
use train::{Config, Trainer, load, run};

fn csv() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv")
}

fn config() -> Config {
    Config { backend: Backend::Interp, epochs: 8, ..Config::default() }
}

#[test]
fn digits_train_and_their_weights_give_the_accuracy_again() {
    let report = run(&csv(), &config()).unwrap();
    assert!(report.accuracy >= 0.95, "{}", report.accuracy);
    assert!(report.losses[0] > 4.0 * report.losses[report.losses.len() - 1], "{:?}", report.losses);
    let file = std::env::temp_dir().join(format!("lehr-digits-{}.safetensors", std::process::id()));
    report.trainer.save(&file).unwrap();
    let mut again = Trainer::new(&Config { seed: 9, ..config() }).unwrap();
    again.load(&file).unwrap();
    let test = load(&csv(), 0).unwrap().1;
    assert_eq!(again.accuracy(&test).unwrap(), report.accuracy);
    std::fs::remove_file(file).unwrap();
}

#[test]
fn training_is_deterministic() {
    let (data, _) = load(&csv(), 0).unwrap();
    let data = data.take(&(0..200).collect::<Vec<_>>());
    let losses = || Trainer::new(&config()).unwrap().train(&data, &Config { epochs: 2, ..config() }).unwrap();
    assert_eq!(losses(), losses());
}

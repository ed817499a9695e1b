//! Trains a convolutional network on handwritten digits.
//!
//! `cargo run --release --example vision -- [--backend interp|cpu|gpu] [--seed N] [--epochs N]`

mod train;

use std::path::Path;
use std::process::ExitCode;

use train::{Config, run};

fn main() -> ExitCode {
    let config = match arguments(std::env::args().skip(1)) {
        Ok(config) => config,
        Err(message) => {
            eprintln!("{message}\nusage: vision [--backend interp|cpu|gpu] [--seed N] [--epochs N]");
            return ExitCode::from(2);
        }
    };
    match report(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn report(config: &Config) -> lehr::Result<()> {
    let report = run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv"), config)?;
    if let (Some(first), Some(last)) = (report.losses.first(), report.losses.last()) {
        println!("loss: {first:.4} at the start, {last:.4} at the end");
    }
    println!("test accuracy: {:.1} %", 100.0 * report.accuracy);
    println!(
        "compiling {:.1} ms, training {:.2} s",
        report.compiling.as_secs_f64() * 1e3,
        report.running.as_secs_f64()
    );
    Ok(())
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<Config, String> {
    let mut config = Config { progress: true, ..Config::default() };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--backend" => config.backend = value()?.parse().map_err(|e: lehr::UnknownBackend| e.to_string())?,
            "--seed" => config.seed = number(&value()?)?,
            "--epochs" => config.epochs = number(&value()?)? as usize,
            _ => return Err(format!("there is no option {arg}")),
        }
    }
    Ok(config)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

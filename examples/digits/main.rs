//! Trains a classifier of handwritten digits.
//!
//! `cargo run --release --example digits -- [--backend interp|cpu|gpu] [--seed N] [--epochs N] [--explain]`

mod show;
mod train;

use std::path::Path;
use std::process::ExitCode;

use train::{Config, Trainer, load, run};

fn main() -> ExitCode {
    let (config, explain) = match arguments(std::env::args().skip(1)) {
        Ok(all) => all,
        Err(message) => {
            eprintln!("{message}\nusage: digits [--backend interp|cpu|gpu] [--seed N] [--epochs N] [--explain]");
            return ExitCode::from(2);
        }
    };
    match report(&config, explain) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn report(config: &Config, explain: bool) -> lehr::Result<()> {
    let csv = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits.csv");
    let report = run(&csv, config)?;
    let (mut trainer, test) = (report.trainer, report.test);
    let found = trainer.classes(&test)?;
    let labels = train::labels(&test)?;

    if let (Some(first), Some(last)) = (report.losses.first(), report.losses.last()) {
        println!("loss: {first:.4} at the start, {last:.4} at the end");
    }
    println!("test accuracy: {:.1} %", 100.0 * report.accuracy);
    println!("\n{}", show::confusion(&labels, &found));
    println!("{}", show::digits(&test, &labels, &found, 4)?);
    println!(
        "compiling {:.1} ms, training {:.2} s",
        report.compiling.as_secs_f64() * 1e3,
        report.running.as_secs_f64()
    );

    let file = std::env::temp_dir().join(format!("digits-{}.safetensors", std::process::id()));
    trainer.save(&file)?;
    let mut again = Trainer::new(config)?;
    again.load(&file)?;
    let accuracy = again.accuracy(&load(&csv, config.seed)?.1)?;
    println!("saved and loaded again: test accuracy: {:.1} %", 100.0 * accuracy);
    std::fs::remove_file(&file).map_err(|source| lehr::Error::Io { path: file, source })?;

    if explain {
        println!("\n{}", show::passes(trainer.step.program()));
    }
    Ok(())
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<(Config, bool), String> {
    let mut config = Config { progress: true, ..Config::default() };
    let mut explain = false;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--backend" => config.backend = value()?.parse().map_err(|e: lehr::UnknownBackend| e.to_string())?,
            "--seed" => config.seed = number(&value()?)?,
            "--epochs" => config.epochs = number(&value()?)? as usize,
            "--explain" => explain = true,
            _ => return Err(format!("there is no option {arg}")),
        }
    }
    Ok((config, explain))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

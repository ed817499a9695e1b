//! Trains a small transformer to continue a text, character by character, and shows what it says as it learns.
//!
//! `cargo run --release --example chargpt -- [--text FILE] [--steps N] [--file STATE.safetensors] [--seed N] [--backend B]`
//!
//! Without `--text` it reads lehr's own documentation. With `--file` it goes on from there if the file exists, and saves there.

mod text;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use text::Text;
use train::{Config, Trainer};

/// What lehr ships that is worth reading.
const OWN: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "PERFORMANCE.md"];

fn main() -> ExitCode {
    let (config, file) = match arguments(std::env::args().skip(1)) {
        Ok(all) => all,
        Err(message) => {
            eprintln!(
                "{message}\nusage: chargpt [--text FILE] [--steps N] [--file STATE] [--seed N] [--backend interp|cpu]"
            );
            return ExitCode::from(2);
        }
    };
    match run(&config, file.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config, file: Option<&Path>) -> lehr::Result<()> {
    let text = Text::new(&read(file)?);
    let least = config.model.context + 2;
    if text.len() < least {
        return Err(lehr::Error::Io {
            path: file.unwrap_or(Path::new("the text")).to_owned(),
            source: std::io::Error::other(format!("it has {} characters, and needs {least}", text.len())),
        });
    }
    println!("{} characters, {} different ones", text.len(), text.vocabulary());
    let mut trainer = Trainer::new(config, &text)?;
    if let Some(state) = config.file.as_deref().filter(|f| f.exists()) {
        trainer.load(state)?;
        println!("going on from {}", state.display());
    }
    trainer.train(config, &text, |trainer, step, loss, rate| {
        println!("\nstep {step}: loss {loss:.3}, {rate:.0} characters a second");
        println!("{}", trainer.sample(&text, "The ", 120, step as u64)?);
        Ok(())
    })?;
    if let Some(state) = &config.file {
        trainer.save(state)?;
        println!("\nsaved to {}", state.display());
    }
    Ok(())
}

fn read(file: Option<&Path>) -> lehr::Result<String> {
    let one = |path: PathBuf| std::fs::read_to_string(&path).map_err(|source| lehr::Error::Io { path, source });
    match file {
        Some(path) => one(path.to_owned()),
        None => OWN.iter().map(|name| one(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))).collect(),
    }
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<(Config, Option<PathBuf>), String> {
    let (mut config, mut file) = (Config::default(), None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--text" => file = Some(value()?.into()),
            "--steps" => config.steps = number(&value()?)? as usize,
            "--file" => config.file = Some(value()?.into()),
            "--seed" => config.seed = number(&value()?)?,
            "--backend" => config.backend = value()?.parse().map_err(|e: lehr::UnknownBackend| e.to_string())?,
            _ => return Err(format!("there is no option {arg}")),
        }
    }
    Ok((config, file))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

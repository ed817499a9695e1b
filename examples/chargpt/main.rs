//! Trains a small transformer to continue a text, character by character, and shows what it says as it learns.
//!
//! `cargo run --release --example chargpt -- [--text FILE] [--steps N] [--file STATE.safetensors] [--seed N] [--backend B]`
//!
//! Without `--text` it reads lehr's own documentation and source code. With `--file` it goes on from there if the file exists, and saves there.

mod text;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use text::Text;
use train::{Config, Trainer};

fn main() -> ExitCode {
    let (config, file) = match arguments(std::env::args().skip(1)) {
        Ok(all) => all,
        Err(message) => {
            eprintln!(
                "{message}\nusage: chargpt [--text FILE] [--steps N] [--file STATE] [--seed N] [--backend interp|cpu|gpu]"
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

/// The text of a file, or all that lehr ships that is worth reading: what documents it, and the source of what users name.
fn read(file: Option<&Path>) -> lehr::Result<String> {
    let failed = |path: &Path, source: std::io::Error| lehr::Error::Io { path: path.to_owned(), source };
    let mut waiting = match file {
        Some(path) => vec![path.to_owned()],
        None => ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "src"]
            .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
            .to_vec(),
    };
    let mut text = String::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let mut inside = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(|e| failed(&path, e))? {
                inside.push(entry.map_err(|e| failed(&path, e))?.path());
            }
            // The same text in every run.
            inside.sort();
            waiting.extend(inside.into_iter().filter(|p| p.is_dir() || p.extension().is_some_and(|e| e == "rs")));
        } else {
            text.push_str(&std::fs::read_to_string(&path).map_err(|e| failed(&path, e))?);
        }
    }
    Ok(text)
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

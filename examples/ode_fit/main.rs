//! Fits the parameters of a differential equation, of hares and lynxes, to noisy counts, and draws both.
//!
//! `cargo run --release --example ode_fit -- [--backend interp|cpu|gpu] [--seed N] [--out FILE.svg]`

mod fit;
mod plot;

use std::path::PathBuf;
use std::process::ExitCode;

use fit::{Config, NAMES, TRUE, run};

fn main() -> ExitCode {
    let (config, out) = match arguments(std::env::args().skip(1)) {
        Ok(all) => all,
        Err(message) => {
            eprintln!("{message}\nusage: ode_fit [--backend interp|cpu|gpu] [--seed N] [--out FILE.svg]");
            return ExitCode::from(2);
        }
    };
    match report(&config, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn report(config: &Config, out: PathBuf) -> lehr::Result<()> {
    let fit = run(config)?;
    println!("parameter   true    fitted");
    for ((name, want), found) in NAMES.iter().zip(TRUE).zip(fit.found) {
        println!("{name:<9} {want:>6.3}  {found:>8.4}");
    }
    let end = if fit.converged { "converged" } else { "not converged" };
    println!("error {:.5} after {} iterations, {end}", fit.error, fit.iterations);
    println!(
        "compiling {:.1} ms, fitting {:.1} ms",
        fit.compiling.as_secs_f64() * 1e3,
        fit.running.as_secs_f64() * 1e3
    );
    match std::fs::write(&out, plot::svg(&fit)) {
        Ok(()) => println!("drawn in {}", out.display()),
        Err(source) => return Err(lehr::Error::Io { path: out, source }),
    }
    Ok(())
}

fn arguments(mut args: impl Iterator<Item = String>) -> Result<(Config, PathBuf), String> {
    let mut config = Config::default();
    let mut out = std::env::temp_dir().join("ode_fit.svg");
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--backend" => config.backend = value()?.parse().map_err(|e: lehr::UnknownBackend| e.to_string())?,
            "--seed" => config.seed = value()?.parse().map_err(|_| "the seed is no number".to_owned())?,
            "--out" => out = value()?.into(),
            _ => return Err(format!("there is no option {arg}")),
        }
    }
    Ok((config, out))
}

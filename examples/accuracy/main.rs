//! The error of every elementary function of one `f32`, as compiled code computes it, over all 2³² arguments.
//!
//! `cargo run --release --example accuracy -- [--every N] [--vectors auto|avx512|avx2|portable] [NAME …]`
//!
//! Prints the worst error in units of the last place, where it is, and the documented bound; fails where the bound is exceeded.

mod sweep;

use std::process::ExitCode;

use lehr::Vectors;
use sweep::{functions, worst};

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}\nusage: accuracy [--every N] [--vectors auto|avx512|avx2|portable] [NAME …]");
            ExitCode::from(2)
        }
    }
}

fn run(mut args: impl Iterator<Item = String>) -> Result<bool, String> {
    let (mut every, mut vectors, mut names) = (1u64, Vectors::Auto, Vec::new());
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--every" => every = value()?.parse().map_err(|_| "--every takes a number".to_owned())?,
            "--vectors" => vectors = value()?.parse().map_err(|e| format!("{e}"))?,
            name if functions().iter().any(|f| f.name == name) => names.push(arg),
            other => return Err(format!("there is no function or option {other}")),
        }
    }
    let mut within = true;
    println!("{:10} {:>10} {:>10}  at", "function", "worst ULP", "bound");
    for f in functions().into_iter().filter(|f| names.is_empty() || names.iter().any(|n| n == f.name)) {
        let found = worst(&f, every.max(1), vectors).map_err(|e| e.to_string())?;
        within &= found.ulp <= f.bound;
        println!("{:10} {:10.4} {:10.2}  {:e}", f.name, found.ulp, f.bound, found.at);
    }
    Ok(within)
}

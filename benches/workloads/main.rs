//! The workload runner: `cargo bench --bench workloads -- [NAME ...] [--backend cpu|interp|gpu] [--threads N] [--vectors V] [--into] [--explain] [--timed] [--cache] [--first]`.
//!
//! Prints one JSON line a workload on stdout and nothing else there:
//! `{"fw":"lehr","name":"gemm_512","ms":…,"min_ms":…,"first_ms":…,"n":…,"rss_mb":…,"init_mb":…,"out":"fresh"}`.
//! With `--explain`, the kernels of each workload and their machine code go to stderr.
//! With `--backend gpu` also `"dispatches"` of a call, `"encode_us"`, the time to record one in calls that are recorded and dropped,
//! and `"encode_in_call_us"`, the same in calls that run. With `--timed`, the device times each dispatch, and the times go to stderr.
//! With `--cache`, code is kept from process to process in the user's cache folder, and taken from there; else nothing is.
//! With `--first`, the first call is the only one, which profilers like.
//! `ms` is the median of the calls after warm-up, `first_ms` the time from nothing built to the first result.
//! `rss_mb` is the peak until the second result, before the first is checked, and `init_mb` the size at the start.
//! Every workload checks its result once, against a closed form or the reference evaluator, and the runner exits with 1 on a
//! mismatch. Workloads whose operations do not exist yet are named on stderr.

mod check;
mod measure;
mod networks;
mod rows;

use std::process::ExitCode;

use lehr::prelude::*;
use lehr::{Cache, Vectors};

/// How workloads run.
#[derive(Clone, Debug)]
pub struct Config {
    /// What runs them.
    pub options: Options,
    /// Whether results go into arrays that are handed over.
    pub into: bool,
    /// Whether kernels are explained on stderr.
    pub explain: bool,
    /// Whether a device's times are printed on stderr.
    pub timed: bool,
    /// Whether the first call is the only one.
    pub first: bool,
}

/// Workloads that wait for their operations.
const WAITING: [&str; 5] = ["solve_1000", "svd_300", "sort_1m", "cumsum_1m", "gpu rows"];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("workloads: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let init_mb = measure::peak_mb();
    let mut names = Vec::new();
    let mut config = Config {
        options: Options::default().threads(2).cache(Cache::off()),
        into: false,
        explain: false,
        timed: false,
        first: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--bench" => {}
            // Named by the system: the variable that keeps caches out of `cargo bench` is not to overrule who asks for one.
            "--cache" => config.options = config.options.cache(Cache::of_system().ok_or("there is no cache folder")?),
            "--first" => config.first = true,
            "--into" => config.into = true,
            "--timed" => {
                config.timed = true;
                config.options = config.options.time_dispatches(true);
            }
            "--explain" => config.explain = true,
            "--threads" => {
                let n = value()?.parse().map_err(|_| "--threads takes a number".to_owned())?;
                config.options = config.options.threads(n);
            }
            "--vectors" => {
                let vectors: Vectors = value()?.parse().map_err(|e| format!("{e}"))?;
                config.options = config.options.vectors(vectors);
            }
            "--backend" => {
                let backend: Backend = value()?.parse().map_err(|e| format!("{e}"))?;
                config.options = config.options.backend(backend);
            }
            name if name.starts_with("--") => return Err(format!("unknown option {name}")),
            name => names.push(name.to_owned()),
        }
    }
    let rows = rows::all();
    if let Some(unknown) = names.iter().find(|n| !rows.iter().any(|r| r.0 == n.as_str())) {
        let known: Vec<&str> = rows.iter().map(|r| r.0).collect();
        return Err(format!(
            "there is no workload `{unknown}`; there are {}, waiting for operations: {}",
            known.join(", "),
            WAITING.join(", ")
        ));
    }
    for (name, row) in rows {
        if names.is_empty() || names.iter().any(|n| n == name) {
            let line = row(&config).map_err(|e| format!("{name}: {e}"))?;
            println!("{}", line.json(name, init_mb));
        }
    }
    if names.is_empty() {
        eprintln!("waiting for operations: {}", WAITING.join(", "));
    }
    Ok(())
}

//! The command line program: explains, runs and checks graphs in `.lehr` files.
//!
//! It exits with 0 where all is well, with 1 where a file or its inputs are wrong, and with 2 where it is called wrongly.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lehr::{Backend, DeviceChoice, Vectors};

mod check;
mod devices;
mod explain;
mod failure;
mod file;
mod run;

use failure::Failure;

/// Explains, runs and checks graphs in the text form of lehr.
#[derive(Parser)]
#[command(name = "lehr", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what each pass changes, what is fused and why, kernels, the plan and its memory.
    Explain(Explain),
    /// Run a graph on arrays from an npz file.
    Run(Run),
    /// Say what is wrong with a file of graphs or kernels, under the lines it is about.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// List the devices of the backend gpu, with what each has.
    Devices,
}

#[derive(Args)]
struct Explain {
    /// The file with the graph.
    file: PathBuf,
    /// Print the graph as it is after this pass; `name:2` is the pass's second run.
    #[arg(long, value_name = "PASS")]
    after: Option<String>,
    /// `dot` and `json` print the graph after the last pass that ran.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What it is compiled for.
    #[arg(long, default_value_t)]
    backend: Backend,
    /// The vectors of native code: auto, avx512, avx2 or portable.
    #[arg(long, default_value_t)]
    vectors: Vectors,
    /// The graph, if the file has several.
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// Print numbers for this size; may be given several times.
    #[arg(long, value_name = "NAME=SIZE", value_parser = size)]
    at: Vec<(String, i64)>,
    /// Also print Cranelift's IR of each kernel.
    #[arg(long)]
    clif: bool,
    /// Also print the machine code of each kernel.
    #[arg(long)]
    asm: bool,
    /// Also print the text of each shader.
    #[arg(long)]
    wgsl: bool,
    /// The device, on the backend gpu: its position among `lehr devices`, or a part of its name.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// Also print how long each pass took.
    #[arg(long)]
    timings: bool,
}

#[derive(Args)]
struct Run {
    /// The file with the graph.
    file: PathBuf,
    /// Inputs, variables and captured arrays, by name.
    #[arg(long, value_name = "NPZ")]
    inputs: PathBuf,
    /// Where outputs and new values of variables go, by name.
    #[arg(long, value_name = "NPZ")]
    outputs: PathBuf,
    /// What runs it.
    #[arg(long, default_value_t)]
    backend: Backend,
    /// The vectors of native code: auto, avx512, avx2 or portable.
    #[arg(long, default_value_t)]
    vectors: Vectors,
    /// The graph, if the file has several.
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// The device, on the backend gpu: its position among `lehr devices`, or a part of its name.
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    /// How many threads it may use; all cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// Graphviz.
    Dot,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Explain(args) => explain::explain(&args).and_then(|text| print(&text)),
        Command::Run(args) => run::run(&args),
        Command::Devices => devices::devices().and_then(|text| print(&text)),
        Command::Check { file } => check::check(&file).and_then(|text| print(&text)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nobody left to tell if the error output is closed.
            let _ = writeln!(io::stderr(), "error: {}", failure.to_string().trim_end());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Prints to the standard output; a reader that has seen enough is no error.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn size(text: &str) -> Result<(String, i64), String> {
    let parts = text.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse::<i64>().ok()?)));
    parts.filter(|(_, value)| *value >= 0).ok_or_else(|| "a size is NAME=NUMBER, as in batch=128".to_owned())
}

//! Timing: first call, warm-up, median and minimum of the rest.

use std::time::{Duration, Instant};

use lehr::explain::ExplainOptions;
use lehr::prelude::*;

use crate::Config;
use crate::rows::Failure;

/// How often a call is recorded and dropped.
const REHEARSALS: usize = 51;

/// What a workload's line says.
#[derive(Clone, Debug)]
pub struct Line {
    /// Median of the calls, in milliseconds.
    pub ms: f64,
    /// Least of the calls, in milliseconds.
    pub min_ms: f64,
    /// From nothing built to the first result, in milliseconds.
    pub first_ms: f64,
    /// Calls timed.
    pub n: usize,
    /// Peak resident memory in MiB until the second result, before the first is checked; `None` is until now.
    pub rss_mb: Option<f64>,
    /// Whether results are fresh arrays or written into given ones.
    pub out: &'static str,
    /// On a device: what recording took.
    pub recording: Option<Recording>,
}

/// What recording calls for a device takes, by the median.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// Dispatches of a call.
    pub dispatches: u64,
    /// Microseconds a dispatch in calls that run: with the device at work, which takes the processor's caches if it is software.
    pub in_calls: f64,
    /// The same of calls that are recorded one after the other and dropped; `None` where calls cannot be.
    pub alone: Option<f64>,
}

impl Recording {
    fn json(&self) -> String {
        let Self { dispatches, in_calls, alone } = self;
        let alone = alone.map_or_else(String::new, |us| format!(",\"encode_us\":{us:.3}"));
        format!(",\"dispatches\":{dispatches},\"encode_in_call_us\":{in_calls:.3}{alone}")
    }
}

impl Line {
    /// The line, for a process that took `init_mb` at its start.
    pub fn json(&self, name: &str, init_mb: f64) -> String {
        let Self { ms, min_ms, first_ms, n, rss_mb, out, recording } = self;
        let recorded = recording.as_ref().map_or_else(String::new, Recording::json);
        let rss = rss_mb.unwrap_or_else(peak_mb);
        format!(
            "{{\"fw\":\"lehr\",\"name\":\"{name}\",\"ms\":{ms:.6},\"min_ms\":{min_ms:.6},\"first_ms\":{first_ms:.3},\
             \"n\":{n},\"rss_mb\":{rss:.1},\"init_mb\":{init_mb:.1},\"out\":\"{out}\"{recorded}}}"
        )
    }
}

/// Times a function from building its graph on.
///
/// `build` makes the function; `check` looks at the first call's results.
pub fn time(
    config: &Config,
    inputs: Vec<Array>,
    build: impl FnOnce() -> Result<Function, lehr::Error>,
    check: impl FnOnce(&[Array], &[Array]) -> Result<(), Failure>,
) -> Result<Line, Failure> {
    let start = Instant::now();
    let mut exe = build()?.compile(config.options.clone())?;
    let first = exe.run(inputs.as_slice())?;
    let first_ms = ms(start.elapsed());
    if config.first {
        return Ok(summary(Vec::new(), first_ms, "fresh"));
    }
    // The second call may keep what the first did not. The evaluator, which checks, would count as the program's memory.
    drop(exe.run(inputs.as_slice())?);
    let rss_mb = Some(peak_mb());
    check(&inputs, first.arrays())?;
    if config.explain {
        let code =
            ExplainOptions { source: false, passes: false, groups: false, plan: false, ..ExplainOptions::default() };
        eprintln!("{}", exe.explain_with(&ExplainOptions { asm: true, memory: false, ..code }));
    }
    let mut recorded = Vec::with_capacity(2000);
    let mut given: Vec<Array> = first.into_iter().collect();
    let (times, out) = if config.into {
        (calls(|| recording(&mut exe, &mut recorded, |e| e.run_into(inputs.as_slice(), &mut given)))?, "into")
    } else {
        drop(given);
        // The arrays of a call are dropped after it, as a caller's variable would be overwritten.
        (calls(|| recording(&mut exe, &mut recorded, |e| e.run(inputs.as_slice()).map(drop)))?, "fresh")
    };
    if config.timed {
        let all =
            ExplainOptions { source: false, passes: false, groups: false, kernels: false, ..ExplainOptions::default() };
        eprintln!("{}", exe.explain_with(&all));
    }
    let recording = match middle(recorded) {
        Some((dispatches, in_calls)) => {
            let mut alone = Vec::with_capacity(REHEARSALS);
            for _ in 0..REHEARSALS {
                alone.extend(exe.rehearse(inputs.as_slice())?.map(|(n, time)| each(n, time)));
            }
            Some(Recording { dispatches, in_calls, alone: middle(alone).map(|(_, us)| us) })
        }
        None => None,
    };
    Ok(Line { rss_mb, recording, ..summary(times, first_ms, out) })
}

/// The median by the second part.
fn middle(mut all: Vec<(u64, f64)>) -> Option<(u64, f64)> {
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.get(all.len() / 2).copied()
}

/// Dispatches, and the microseconds of each.
fn each(dispatches: u64, time: Duration) -> (u64, f64) {
    (dispatches, ms(time) * 1e3 / dispatches as f64)
}

/// A call, and what it has recorded for a device.
fn recording(
    exe: &mut Executable,
    recorded: &mut Vec<(u64, f64)>,
    call: impl FnOnce(&mut Executable) -> Result<(), lehr::Error>,
) -> Result<(), lehr::Error> {
    let before = exe.recorded();
    call(exe)?;
    let after = exe.recorded();
    let dispatches = after.0 - before.0;
    if dispatches > 0 {
        recorded.push(each(dispatches, after.1 - before.1));
    }
    Ok(())
}

/// A line from the times of calls.
pub fn summary(mut times: Vec<f64>, first_ms: f64, out: &'static str) -> Line {
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(first_ms);
    let min = times.first().copied().unwrap_or(first_ms);
    Line { ms: median, min_ms: min, first_ms, n: times.len(), rss_mb: None, out, recording: None }
}

/// Calls for 3 seconds or 2,000 times, at least 5 times, after a warm-up of a tenth of that.
fn calls(mut call: impl FnMut() -> Result<(), lehr::Error>) -> Result<Vec<f64>, lehr::Error> {
    let warm = Instant::now();
    for _ in 0..200 {
        call()?;
        if warm.elapsed() > Duration::from_millis(300) {
            break;
        }
    }
    let mut times = Vec::with_capacity(2000);
    let start = Instant::now();
    while times.len() < 5 || (times.len() < 2000 && start.elapsed() < Duration::from_secs(3)) {
        let t = Instant::now();
        call()?;
        times.push(ms(t.elapsed()));
    }
    Ok(times)
}

/// A duration in milliseconds.
pub fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// Peak resident memory in MiB; 0 where the system does not tell.
pub fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kb: f64 = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0.0);
    kb / 1024.0
}

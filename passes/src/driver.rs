//! Runs a list of passes: verifies, checks reports, times, counts, observes, stops.

use std::time::Instant;

use crate::pass::{Outcome, Pass, PassCx, PassError, PassRecord, Stage};

/// What is told of each pass that has run, with its result.
pub type Observer<'a, T> = dyn FnMut(&PassRecord, &T) + 'a;

/// Runs passes in order. `observe` is called after each, also where nothing changed.
///
/// # Errors
/// A pass's own error; with [`crate::pass::PassOptions::verify`], an ill-formed value or a false report.
pub fn run_passes<T: Stage>(
    passes: &[&dyn Pass<T>],
    input: T,
    cx: &mut PassCx,
    observe: &mut Observer<'_, T>,
) -> Result<T, PassError> {
    let mut value = input;
    if cx.options.verify && !cx.stopped {
        verify(&value, || "before the first pass".to_owned())?;
    }
    for pass in passes {
        if cx.stopped {
            break;
        }
        if cx.options.disable.iter().any(|name| name == pass.name()) {
            continue;
        }
        value = run_pass(*pass, value, cx, observe)?;
    }
    Ok(value)
}

/// Refuses options that name passes which are not among `known`.
pub fn check_names(cx: &PassCx, known: &[&'static str]) -> Result<(), PassError> {
    let stop = cx.options.stop_after.iter().map(|s| s.split(':').next().unwrap_or(s));
    for name in cx.options.disable.iter().map(String::as_str).chain(stop) {
        if !known.contains(&name) {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            return Err(PassError::UnknownPass { name: name.to_owned(), known });
        }
    }
    Ok(())
}

fn run_pass<T: Stage>(
    pass: &dyn Pass<T>,
    value: T,
    cx: &mut PassCx,
    observe: &mut Observer<'_, T>,
) -> Result<T, PassError> {
    let name = pass.name();
    cx.rules.clear();
    let start = Instant::now();
    let outcome = pass.run(&value, cx)?;
    let duration = start.elapsed();
    let nodes_before = value.size();
    let changed = matches!(outcome, Outcome::Changed(_));
    if let (true, Outcome::Changed(new)) = (cx.options.verify, &outcome) {
        verify(new, || format!("after `{name}`"))?;
        if new.fingerprint() == value.fingerprint() {
            return Err(PassError::FalseReport { pass: name });
        }
    }
    let value = outcome.or(value);
    let rules = std::mem::take(&mut cx.rules);
    let record = PassRecord { name, changed, nodes_before, nodes_after: value.size(), rules, duration };
    observe(&record, &value);
    cx.records.push(record);
    cx.stopped = cx.options.stop_after.as_deref().is_some_and(|stop| is_last(stop, name, cx));
    Ok(value)
}

/// Whether the run of `name` that has just been recorded is the one that `stop` names.
fn is_last(stop: &str, name: &str, cx: &PassCx) -> bool {
    let (want, nth) = match stop.split_once(':') {
        None => (stop, 1),
        Some((want, nth)) => (want, nth.parse().unwrap_or(1)),
    };
    want == name && cx.records.iter().filter(|r| r.name == name).count() >= nth
}

fn verify<T: Stage>(value: &T, when: impl FnOnce() -> String) -> Result<(), PassError> {
    value.verify().map_err(|source| PassError::Verify { when: when(), source })
}

//! The same graphs on a device, where the machine has one. `LEHR_GPU_GRAPHS` sets how many.
//!
//! Integers and what is exact agree to the bit. Where the evaluation gives a bound, a device may be off by [`SLACK`] bounds:
//! division, square roots and fused products have errors of their own there (2.5 units in the last place for a division).

use std::sync::Arc;

use lehr::ir::Array;
use lehr::ir::eval;
use lehr::ir::target::DeviceChoice;
use lehr::passes::compile::compile;
use lehr::passes::pass::{PassCx, PassOptions};
use lehr_backends::gpu::{Arg, Device, Program};

use crate::bound::{self, Rules};
use crate::generate::{Case, Limits, all_focuses};

/// Bounds that a device may be off.
pub(crate) const SLACK: f64 = 8.0;

/// What checks looked at.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) dispatches: usize,
    /// Steps on the host.
    pub(crate) hosts: usize,
    pub(crate) elements: usize,
    /// Elements of which nothing is known.
    pub(crate) unchecked: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.dispatches += other.dispatches;
        self.hosts += other.hosts;
        self.elements += other.elements;
        self.unchecked += other.unchecked;
    }
}

#[test]
fn random_graphs_agree_on_a_device() {
    let device = match Device::open(&DeviceChoice::Best) {
        Ok(device) => device,
        Err(e) => return println!("skipped: {e}"),
    };
    let seed = crate::variable("LEHR_SEED").unwrap_or(20_240_607);
    let graphs = crate::variable("LEHR_GPU_GRAPHS").unwrap_or(40) as usize;
    let first = crate::variable("LEHR_FIRST").unwrap_or(0) as usize;
    let focuses = all_focuses();
    let mut failures = Vec::new();
    let (mut checked, mut total) = (0, Counts::default());
    for i in first..first + graphs {
        // Spread over all focuses, of which few graphs would see the first only.
        let case = crate::case_of(seed, i * 7, &focuses, Limits::FULL);
        match check(&case, &device, false) {
            Ok(counts) => {
                checked += 1;
                total.add(counts);
            }
            Err(Some(e)) => failures.push(format!("graph {i}: {e}")),
            // The evaluator refuses it: nothing to compare with.
            Err(None) => {}
        }
    }
    println!("{checked} graphs, {total:?}, on {}", device.name());
    assert!(failures.is_empty(), "{} of {graphs} fail\n{}", failures.len(), failures.join("\n"));
    assert!(checked * 2 > graphs && total.dispatches > 2 * total.hosts, "too little ran on the device");
}

/// Compares what a device makes of a graph, and counts its dispatches and its steps on the host; no error text where the evaluator
/// refuses the graph. Where it is `free`, chains of arithmetic may be computed in other ways.
pub(crate) fn check(case: &Case, device: &Arc<Device>, free: bool) -> Result<Counts, Option<String>> {
    let bindings = eval::bind(&case.graph, &case.args).map_err(|_| None)?;
    let want = bound::evaluate(&case.graph, &case.args, Rules { bindings: &bindings, free }).map_err(|_| None)?;
    let fail = |e: &dyn std::fmt::Display| Some(format!("{e}\n{}", case.graph));
    let (runs, mut counts) = run(case, device).map_err(|e| fail(&e))?;
    for got in runs {
        for (k, ((w, bounds), g)) in want.values.iter().zip(&want.bounds).zip(&got).enumerate() {
            if (w.dtype(), w.shape()) != (g.dtype(), g.shape()) {
                return Err(fail(&format!("result {k}: {}{:?}", g.dtype(), g.shape())));
            }
            counts.elements += w.len();
            counts.unchecked += bounds.iter().flatten().filter(|e| e.is_infinite()).count();
            let slack = bounds.as_ref().map(|b| b.iter().map(|e| e * SLACK).collect::<Vec<f64>>());
            if let Some(i) = (0..w.len()).find(|&i| !agrees(w, g, slack.as_deref(), i)) {
                let (x, y) = (w.data().get(i), g.data().get(i));
                let text = format!("result {k}, element {i}: {y:?} is not {x:?} within {:?}", slack.map(|b| b[i]));
                return Err(fail(&text));
            }
        }
    }
    Ok(counts)
}

/// What a device makes of a graph, twice: the second run also finds the first one's leftovers in the slots.
pub(crate) fn run(case: &Case, device: &Arc<Device>) -> Result<(Vec<Vec<Array>>, Counts), String> {
    let fail = |e: &dyn std::fmt::Display| e.to_string();
    let cx = &mut PassCx::new(PassOptions::default());
    let plan = compile(case.graph.clone(), &device.target(), cx).map_err(|e| fail(&e))?.plan;
    let program = Program::new(plan, device).map_err(|e| fail(&e))?;
    let mut instance = program.instance();
    let args: Vec<Arg<'_>> = case.args.iter().map(Arg::Host).collect();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut got = vec![Array::scalar(false); case.graph.outputs().len()];
        for update in instance.run(&args, &mut got).map_err(|e| fail(&e))? {
            got.push(update.download().map_err(|e| fail(&e))?);
        }
        runs.push(got);
    }
    let (dispatches, hosts) = program.counts();
    Ok((runs, Counts { dispatches, hosts, ..Counts::default() }))
}

fn agrees(want: &Array, got: &Array, bounds: Option<&[f64]>, i: usize) -> bool {
    let (Some(w), Some(g)) = (want.data().get(i), got.data().get(i)) else { return false };
    let (x, y) = (w.to_f64(), g.to_f64());
    match bounds.map(|b| b[i]) {
        Some(e) if e.is_infinite() => true,
        _ if w.dtype().is_float() && x.is_nan() => y.is_nan(),
        Some(e) if w.dtype().is_float() => x == y || (x - y).abs() <= e,
        // A zero has any sign, and what is smaller than the least normal number may be one.
        None if w.dtype().is_float() => x == y || x.abs().max(y.abs()) < bound::normal(w.dtype()),
        _ => w.bits() == g.bits(),
    }
}

//! Forms of products, chosen by measuring them on the device.
//!
//! When a program is compiled, each of its products of known sizes that was not met before runs in every form that is worth a try
//! ([`Choice::all`]), on operands of its own. A form that gives other results than the default is out, whatever its time ([`measure`]).
//! A choice is made once for a product's text, a device and its driver, and never again: the programs of a process that are equal
//! run the same shaders, and so do those of later processes where choices are kept on disk ([`Keep`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lehr_ir::Plan;
use lehr_ir::kernel::Kernel;
use lehr_ir::plan::{Contract, Step, StepKind};
use lehr_ir::target::Tuning;
use wgpu::Features;

use super::contract::choice::{Choice, canonical};
use super::contract::dispatches;
use super::device::Device;
use super::keep::{Keep, Kind};
use super::wgsl::WgslTarget;

mod measure;

use measure::Trial;

/// The time for one product, of which the last form may take more.
const PRODUCT: Duration = Duration::from_millis(500);
/// The time for all products of a program.
const PROGRAM: Duration = Duration::from_secs(4);

/// What was chosen, by the keys of products.
#[derive(Debug, Default)]
pub(super) struct Choices(Mutex<BTreeMap<String, Choice>>);

impl Choices {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Choice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    /// What was chosen for a step: `None` if it is no product, or nothing was measured.
    pub fn choice(&self, step: &Step, plan: &Plan, tuning: Tuning, target: &WgslTarget) -> Option<Choice> {
        match &step.kind {
            StepKind::Contract(c) if self.tunes(tuning) => {
                self.choices.lock().get(&key(c, &plan.kernels, target)).copied()
            }
            _ => None,
        }
    }

    /// Whether forms are measured here.
    fn tunes(&self, tuning: Tuning) -> bool {
        let wanted = match tuning {
            Tuning::Always => true,
            Tuning::Auto => !self.is_software,
            _ => false,
        };
        wanted && self.device.features().contains(Features::TIMESTAMP_QUERY)
    }

    /// Chooses for all products of a program that have not been met yet.
    pub(super) fn tune(&self, plans: &[&Plan], tuning: Tuning, target: &WgslTarget, keep: Option<&Keep>) {
        if self.tunes(tuning) {
            self.tune_within([PRODUCT, PROGRAM], plans, target, keep);
        }
    }

    /// Chooses, in at most so much time for each product and for all.
    fn tune_within(
        &self,
        [one, all_of_them]: [Duration; 2],
        plans: &[&Plan],
        target: &WgslTarget,
        keep: Option<&Keep>,
    ) {
        let start = Instant::now();
        let mut kept: Option<BTreeMap<String, String>> = None;
        let mut new = BTreeMap::new();
        for plan in plans {
            for step in &plan.steps {
                let StepKind::Contract(c) = &step.kind else { continue };
                let all = Choice::all(c, target);
                let key = key(c, &plan.kernels, target);
                if all.len() < 2 || self.choices.lock().contains_key(&key) {
                    continue;
                }
                let kept = kept.get_or_insert_with(|| keep.map(|k| self.kept(k)).unwrap_or_default());
                let before = kept.get(&key).and_then(|word| all.iter().find(|c| c.word() == *word));
                let choice = before.copied().unwrap_or_else(|| {
                    let left = all_of_them.saturating_sub(start.elapsed()).min(one);
                    match self.fastest(c, plan, (&all, target), Instant::now() + left) {
                        Some(choice) => {
                            new.insert(key.clone(), choice.word());
                            choice
                        }
                        // The default, and for as long as this process lives: equal programs are to stay equal.
                        None => all[0],
                    }
                });
                self.choices.lock().entry(key).or_insert(choice);
            }
        }
        if let (Some(keep), false) = (keep, new.is_empty()) {
            // What other processes have chosen meanwhile stays.
            new.extend(self.kept(keep));
            let text: String = new.iter().map(|(key, word)| format!("{key} {word}\n")).collect();
            keep.write(Kind::Products, self.identity(), text.as_bytes());
        }
    }

    /// The fastest of the choices that give the results of the first; `None` if that was not found out.
    fn fastest(
        &self,
        c: &Contract,
        plan: &Plan,
        (all, target): (&[Choice], &WgslTarget),
        until: Instant,
    ) -> Option<Choice> {
        let mut trials = Vec::with_capacity(all.len());
        for &choice in all {
            trials.push(dispatches(c, &plan.kernels, Some(choice), target).unwrap_or_default());
        }
        let fastest = Trial::of(self, plan, c, &trials)?.fastest(&trials, until)?;
        all.get(fastest).copied()
    }

    /// The words that were kept, by the keys of products.
    fn kept(&self, keep: &Keep) -> BTreeMap<String, String> {
        let text = keep.read(Kind::Products, self.identity()).and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = |line: &str| line.split_once(' ').map(|(key, word)| (key.to_owned(), word.to_owned()));
        text.unwrap_or_default().lines().filter_map(pair).collect()
    }
}

/// What a product is known by: a hash of its text, of the build, whose forms may be others than yesterday's, and of whether it may
/// take cooperative matrices.
fn key(c: &Contract, kernels: &[std::sync::Arc<Kernel>], target: &WgslTarget) -> String {
    let mut hasher = blake3::Hasher::new();
    if let Some(cooperative) = target.cooperative.filter(|m| m.takes(c.dtype)) {
        hasher.update(format!("cooperative {}\n", cooperative.size).as_bytes());
    }
    hasher.update(env!("LEHR_BACKENDS_SOURCES").as_bytes()).update(canonical(c, kernels).as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests;

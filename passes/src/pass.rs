//! What a pass is: its trait, what it may ask of the driver, and what is recorded of it.
//!
//! A pass maps one stage's value to a new one of the same stage, or says that nothing changed.
//! Each single rewrite asks for fuel first, so that a budget can bisect a miscompile to the rewrite that causes it.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use lehr_ir::eval::EvalError;
use lehr_ir::{Graph, OpError};

use crate::rematerialize::Rematerialize;

/// A stage of compilation: what the driver has to know of the values that passes map.
pub trait Stage: Sized {
    /// The invariants; an error prints the whole value with what is wrong.
    fn verify(&self) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// A hash of the structure: values that differ in more than source lines have different ones.
    fn fingerprint(&self) -> u128;

    /// How large it is, in nodes or steps.
    fn size(&self) -> usize;
}

impl Stage for Graph {
    fn verify(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        lehr_ir::graph::verify::verify(self).map_err(Into::into)
    }

    fn fingerprint(&self) -> u128 {
        u128::from(Graph::fingerprint(self))
    }

    fn size(&self) -> usize {
        self.node_count()
    }
}

/// A step of the pipeline inside one stage.
///
/// A pass keeps the types and the meaning of all outputs and updates, and visits O(nodes).
pub trait Pass<T> {
    /// Its name: a verb in snake case.
    fn name(&self) -> &'static str;

    /// Maps a value. `cx` gives fuel and counts the rules that fire.
    fn run(&self, input: &T, cx: &mut PassCx) -> Result<Outcome<T>, PassError>;
}

/// What a pass gives back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// Nothing: the input goes on as it is.
    Unchanged,
    /// A value that differs from the input in structure.
    Changed(T),
}

impl<T> Outcome<T> {
    /// `Changed` if it is so, else `Unchanged`.
    pub fn when(changed: bool, value: T) -> Self {
        if changed { Self::Changed(value) } else { Self::Unchanged }
    }

    /// The value that goes on, where the input was `input`.
    pub fn or(self, input: T) -> T {
        match self {
            Self::Unchanged => input,
            Self::Changed(value) => value,
        }
    }
}

/// How the driver runs passes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassOptions {
    /// Whether to verify the input and the result of each pass, and check what it reports.
    /// On in builds with debug assertions.
    pub verify: bool,
    /// The pass after which to stop: its name, or `name:2` for its second run.
    pub stop_after: Option<String>,
    /// The passes to leave out, by name, in all their runs.
    pub disable: Vec<String>,
    /// How many rewrites may be applied; all if not given.
    pub fuel: Option<u64>,
    /// Whether cheap values are computed again to save memory.
    pub rematerialize: Rematerialize,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self {
            verify: cfg!(debug_assertions),
            stop_after: None,
            disable: Vec::new(),
            fuel: None,
            rematerialize: Rematerialize::default(),
        }
    }
}

/// What is recorded of one run of a pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PassRecord {
    /// The pass.
    pub name: &'static str,
    /// Whether it changed its input.
    pub changed: bool,
    /// The size of its input.
    pub nodes_before: usize,
    /// The size of its result.
    pub nodes_after: usize,
    /// How often each of its rules fired.
    pub rules: BTreeMap<&'static str, u32>,
    /// How long it ran, without verification.
    pub duration: Duration,
}

/// The state of one compilation's passes: fuel, counters and records, over all its stages.
#[derive(Clone, Debug, Default)]
pub struct PassCx {
    pub(crate) options: PassOptions,
    pub(crate) records: Vec<PassRecord>,
    pub(crate) stopped: bool,
    pub(crate) rules: BTreeMap<&'static str, u32>,
    spent: u64,
}

impl PassCx {
    /// The state at the start of a compilation.
    pub fn new(options: PassOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Asks to apply one rewrite. If it may be, it is counted under the rule's name.
    #[must_use]
    pub fn fuel(&mut self, rule: &'static str) -> bool {
        if self.options.fuel.is_some_and(|fuel| self.spent >= fuel) {
            return false;
        }
        self.spent += 1;
        *self.rules.entry(rule).or_default() += 1;
        true
    }

    /// How many rewrites have been applied.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// What has run, in order.
    pub fn records(&self) -> &[PassRecord] {
        &self.records
    }

    /// Whether a pass that was to be the last has run: later stages do nothing.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The options.
    pub fn options(&self) -> &PassOptions {
        &self.options
    }
}

/// Why a pipeline gives no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// A pass made, or was given, an ill-formed value: a bug of the pass before.
    #[error("internal error: the value {when} is ill-formed\n{source}")]
    Verify {
        /// When: `after <pass>`, or `before the first pass`.
        when: String,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A pass reported a change, and its result is its input: a bug of the pass.
    #[error("internal error: pass `{pass}` reported a change and made none")]
    FalseReport {
        /// The pass.
        pass: &'static str,
    },
    /// An option names a pass that is not in the pipeline.
    #[error("there is no pass `{name}` here; the passes are {}", known.join(", "))]
    UnknownPass {
        /// The name.
        name: String,
        /// The passes there are.
        known: Vec<&'static str>,
    },
    /// An operation that a pass emits was refused.
    #[error(transparent)]
    Op(#[from] OpError),
    /// A constant cannot be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A stage of another kind, such as lowering, failed.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

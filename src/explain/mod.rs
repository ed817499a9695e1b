//! What a function becomes, stage by stage, as a value that prints: passes, fusion groups, kernels, the plan and its memory.
//!
//! An [`Explanation`] is made by compiling again with an observer, so that programs that nobody asks about keep no stages.
//! Its text has no times and no addresses: the same function on the same kind of machine prints the same, and can be
//! snapshot-tested. Values keep their numbers from pass to pass as far as they can be followed, so that a line of a diff is a
//! line that changed.
//!
//! ```
//! use lehr::prelude::*;
//! let x = Tensor::input("x", F32, ["n"]);
//! let f = Function::new("f").output("y", &((&x * 1) + 2).tanh());
//! let explanation = f.explain(&Options::default().backend(Backend::Interp))?;
//! assert!(explanation.to_string().starts_with("explain @f on interp"));
//! assert!(explanation.passes.iter().any(|p| p.name == "simplify" && p.changed));
//! # Ok::<(), lehr::Error>(())
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Symbol;
use lehr_ir::graph::Graph;
use lehr_ir::kernel::Cost;
use lehr_ir::loc::Loc;
use lehr_ir::{Dim, Plan, Type};
use lehr_passes::fuse::GroupKind;

use crate::cache::KernelCounts;
use crate::error::{Error, Result, list, nearest};
use crate::executable::Executable;
use crate::function::Function;
use crate::options::{Backend, Options};
use crate::program::Program;

mod collect;
mod cost;
mod device;
mod diff;
mod number;
mod print;

#[cfg(feature = "cpu")]
pub(crate) use collect::Listing;
pub use device::{DeviceExplanation, DeviceForm, DeviceStep, DispatchExplanation};

/// What a function becomes. `Display` prints the sections that its options ask for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The function's name.
    pub name: String,
    /// What it is compiled for.
    pub backend: Backend,
    /// The graph as built.
    pub source: Graph,
    /// The graph after the last pass that ran.
    pub graph: Graph,
    /// The passes that ran, in order.
    pub passes: Vec<PassExplanation>,
    /// The fusion groups in the order they run; none on a backend without kernels.
    pub groups: Vec<GroupExplanation>,
    /// The distinct kernels in the plan's order; none on a backend without kernels.
    pub kernels: Vec<KernelExplanation>,
    /// The plan, on a backend that has one.
    pub plan: Option<Plan>,
    /// What a device does with the plan, on the backend `gpu`.
    pub device: Option<DeviceExplanation>,
    /// The memory of a call, where there is a plan.
    pub memory: Option<MemoryExplanation>,
    /// The cost of a call in all its steps, where there is a plan.
    pub total: Option<Cost>,
    /// How many kernels the program compiled and how many a cache had, where it is a program that is explained.
    pub kernel_counts: Option<KernelCounts>,
    /// Why there is nothing more, if a stage failed.
    pub failure: Option<String>,
    options: ExplainOptions,
    sizes: Bindings,
    /// The numbers of the values of `source` in the text.
    source_numbers: Vec<u32>,
}

/// One run of a pass.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PassExplanation {
    /// The pass.
    pub name: String,
    /// Whether it changed anything.
    pub changed: bool,
    /// Nodes before it.
    pub nodes_before: usize,
    /// Nodes after it.
    pub nodes_after: usize,
    /// How often each of its rules fired.
    pub rules: BTreeMap<String, u32>,
    /// The lines of the graph's text that changed.
    pub diff: Vec<Change>,
    /// How long it ran.
    pub duration: Duration,
}

/// A line that is in one of two texts only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// In the text before.
    Removed(String),
    /// In the text after.
    Added(String),
}

/// Nodes that are one step of the plan, or several where a reduction is split.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GroupExplanation {
    /// What kind of step.
    pub kind: GroupKind,
    /// The shape it iterates over.
    pub domain: Vec<Dim>,
    /// The axes of the domain that it reduces.
    pub reduced: Vec<usize>,
    /// The members, in order.
    pub members: Vec<Member>,
    /// Why they are one group.
    pub fused: String,
    /// Why nothing else is in it.
    pub ended: Vec<String>,
}

/// A node of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// Its first result as the text of the graph spells it: `%7`.
    pub value: String,
    /// The operation's name.
    pub op: String,
    /// The type of its first result.
    pub ty: Type,
    /// The user's line.
    pub loc: Loc,
}

/// A kernel, for all launches of it together.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KernelExplanation {
    /// Its name.
    pub name: String,
    /// How many steps launch it.
    pub launches: usize,
    /// What all its launches cost, over the function's sizes.
    pub cost: Cost,
    /// The user's lines that went into it.
    pub locs: Vec<Loc>,
    /// What makes its code: the wide emitter's vectors, or Cranelift and why not wider vectors.
    pub emitter: String,
    /// Its text.
    pub text: String,
    /// Cranelift's IR as emitted, if asked for; empty where Cranelift did not make the code.
    pub clif: Option<String>,
    /// Machine code as text, if asked for.
    pub asm: Option<String>,
}

/// The memory of one call, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MemoryExplanation {
    /// Of the arena that temporaries share, or of all slots.
    pub arena: Dim,
    /// Of the temporaries that are alive at once, at the step where that is most: no arena could be smaller.
    /// Where sizes are not known, the step is that for sizes of 64.
    pub alive: Dim,
    /// Of all temporaries, had each its own place.
    pub unshared: Dim,
    /// Temporaries that are computed in the place of another.
    pub in_place: usize,
    /// New values of variables that are computed in the place of the old, wherever nobody else holds these.
    pub updates_in_place: usize,
    /// How many values are computed again to save memory, and the arena had they not been.
    pub rematerialized: Option<(usize, Dim)>,
    /// Of inputs, variables and captured arrays.
    pub arguments: Dim,
    /// Of outputs, and of new values of variables that are not computed in the place of the old.
    pub results: Dim,
    /// Of constants.
    pub constants: Dim,
    /// Of everything together: what a call holds at most.
    pub peak: Dim,
    /// Of the plans inside loops and branches, whose arenas lie among the temporaries.
    pub blocks: Vec<BlockMemory>,
}

/// The temporaries of a plan inside a loop or branch, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BlockMemory {
    /// The plan's name.
    pub name: String,
    /// Of its arena.
    pub arena: Dim,
    /// Of its temporaries that are alive at once, as [`MemoryExplanation::alive`].
    pub alive: Dim,
}

/// Which sections an explanation has.
///
/// ```
/// use lehr::explain::ExplainOptions;
/// let options = ExplainOptions { clif: true, ..ExplainOptions::default() };
/// assert!(options.passes && options.clif && !options.asm);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExplainOptions {
    /// The graph as built.
    pub source: bool,
    /// Each pass, with what it changed.
    pub passes: bool,
    /// Fusion groups with reasons.
    pub groups: bool,
    /// Each kernel's cost and text.
    pub kernels: bool,
    /// The plan.
    pub plan: bool,
    /// The memory plan and the cost of a call.
    pub memory: bool,
    /// Cranelift's IR of each kernel.
    pub clif: bool,
    /// The machine code of each kernel.
    pub asm: bool,
    /// The text of each shader.
    pub wgsl: bool,
    /// How long each pass took, and how many kernels a cache had; not the same from one time to the next.
    pub timings: bool,
}

/// Everything but code and times.
impl Default for ExplainOptions {
    fn default() -> Self {
        Self {
            source: true,
            passes: true,
            groups: true,
            kernels: true,
            plan: true,
            memory: true,
            clif: false,
            asm: false,
            wgsl: false,
            timings: false,
        }
    }
}

impl Explanation {
    /// What a graph becomes.
    ///
    /// # Errors
    /// A pass or a backend that refuses it.
    pub fn of_graph(graph: &Graph, options: &Options, explain: &ExplainOptions) -> Result<Self> {
        let (explanation, error) = collect::collect(graph, options, explain);
        error.map_or(Ok(explanation), Err)
    }

    /// The same, with numbers for these sizes beside each polynomial.
    ///
    /// # Errors
    /// A name that is no size of the function.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ["batch"]);
    /// let f = Function::new("f").output("y", &(&x + 1)).explain(&Options::default())?.at([("batch", 128)])?;
    /// assert!(f.at([("btch", 1)]).is_err());
    /// # Ok::<(), lehr::Error>(())
    /// ```
    pub fn at<'a>(mut self, sizes: impl IntoIterator<Item = (&'a str, i64)>) -> Result<Self> {
        let known = collect::sizes(&self.source);
        for (name, value) in sizes {
            let symbol = known.iter().find(|s| s.as_str() == name);
            let bound = symbol.map(|s| self.sizes.bind(s, value));
            match bound {
                Some(Ok(())) => {}
                Some(Err(conflict)) => {
                    return Err(self.refuse(conflict.to_string(), "give each size one value".to_owned()));
                }
                None => {
                    let names = known.iter().map(Symbol::as_str);
                    let help = match nearest(name, names.clone()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the sizes are {}", list(names)),
                    };
                    return Err(self.refuse(format!("there is no size `{name}`"), help));
                }
            }
        }
        Ok(self)
    }

    fn refuse(&self, rule: String, help: String) -> Error {
        Error::Function { function: self.name.clone(), rule, help, loc: Loc::UNKNOWN }
    }
}

impl Function {
    /// What the function becomes with these options.
    ///
    /// # Errors
    /// As [`Function::compile`].
    pub fn explain(&self, options: &Options) -> Result<Explanation> {
        self.explain_with(options, &ExplainOptions::default())
    }

    /// As [`Function::explain`], with these sections.
    ///
    /// # Errors
    /// As [`Function::compile`].
    pub fn explain_with(&self, options: &Options, explain: &ExplainOptions) -> Result<Explanation> {
        Explanation::of_graph(&self.graph()?, options, explain)
    }
}

impl Program {
    /// What it was made from, and how. A stage that fails now, which it did not before, is in [`Explanation::failure`].
    pub fn explain(&self) -> Explanation {
        self.explain_with(&ExplainOptions::default())
    }

    /// As [`Program::explain`], with these sections.
    pub fn explain_with(&self, explain: &ExplainOptions) -> Explanation {
        let mut explanation = collect::collect(self.source_graph(), self.options(), explain).0;
        explanation.kernel_counts = Some(self.kernel_counts());
        explanation
    }
}

impl Executable {
    /// As [`Program::explain`], with the times of its calls so far where they are measured.
    pub fn explain(&self) -> Explanation {
        self.explain_with(&ExplainOptions::default())
    }

    /// As [`Program::explain_with`], with the times of its calls so far where they are measured.
    pub fn explain_with(&self, explain: &ExplainOptions) -> Explanation {
        #[cfg_attr(not(feature = "gpu"), allow(unused_mut, reason = "only devices measure"))]
        let mut explanation = self.program().explain_with(explain);
        #[cfg(feature = "gpu")]
        if let (Some(device), Some(times)) = (&mut explanation.device, self.dispatch_times()) {
            device.note(times);
        }
        explanation
    }
}

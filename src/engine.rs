//! The seam between the facade and what runs a program.
//!
//! An engine is given arrays that have been checked already, and either writes all outputs and all new values of variables, or
//! fails and leaves the variables as they were.

use std::sync::OnceLock;
use std::time::Duration;

use lehr_ir::bindings::Bindings;
use lehr_ir::graph::Graph;
use lehr_ir::{Array, Target};
use lehr_passes::PassCx;

use crate::cache::KernelCounts;
use crate::error::{Error, Result};
use crate::function::Source;
use crate::options::{Backend, Options};
use crate::state::Value;
use crate::trap::Trap;

#[cfg(feature = "cpu")]
pub(crate) mod cpu;
#[cfg(feature = "gpu")]
pub(crate) mod gpu;
mod interp;

#[cfg(feature = "cpu")]
use cpu::Cpu;
#[cfg(feature = "gpu")]
use gpu::Gpu;
use interp::Interp;

/// Whether native code is in this build.
pub(crate) const HAS_CPU: bool = cfg!(feature = "cpu");

/// What runs a program; shared by all its executables.
#[derive(Debug)]
pub(crate) enum Engine {
    /// The reference evaluator.
    Interp(Interp),
    /// Native code.
    #[cfg(feature = "cpu")]
    Cpu(Cpu),
    /// Shaders on a device.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

/// What an engine keeps between the calls of one executable.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The evaluator's arguments, one for each parameter.
    pub(crate) args: Vec<Array>,
    /// Where the next call's new values of variables go: the values before the last call.
    #[cfg(feature = "cpu")]
    pub(crate) spares: Vec<Array>,
    /// For each update, whether its place holds the variable's value during a call, to be overwritten.
    #[cfg(feature = "cpu")]
    pub(crate) lent: Vec<bool>,
    /// Memory of the compiled program.
    #[cfg(feature = "cpu")]
    pub(crate) instance: Option<lehr_backends::cpu::Instance>,
    /// Memory on the device.
    #[cfg(feature = "gpu")]
    pub(crate) device: Option<gpu::Kept>,
}

/// One call: arrays that fit the signature, and where results go.
pub(crate) struct Call<'a> {
    /// What each parameter of the graph stands for.
    pub(crate) sources: &'a [Source],
    /// The inputs, in order.
    pub(crate) inputs: &'a [Array],
    /// The values of a state.
    pub(crate) values: Values<'a>,
    /// Where among the values each variable of the program is.
    pub(crate) slots: &'a [usize],
    /// Which variables the updates set, in order.
    pub(crate) updates: &'a [usize],
    /// The captured arrays, in order.
    pub(crate) data: &'a [Array],
    /// The values of the named sizes.
    pub(crate) bindings: &'a Bindings,
    /// The outputs, of the right dtypes and shapes, to be overwritten.
    pub(crate) outputs: &'a mut [Array],
    /// What looks for NaN in the results and for indices out of range before variables change, if that is asked for.
    pub(crate) trap: Option<&'a Trap<'a>>,
}

/// The values of a state: shared where the program only reads, else for this call alone.
pub(crate) enum Values<'a> {
    /// For a program without updates.
    Shared(&'a [Value]),
    /// For a program with updates.
    Exclusive(&'a mut [Value]),
}

impl Call<'_> {
    /// The array that a parameter stands for, on the host.
    pub(crate) fn argument(&self, source: Source) -> Result<&Array> {
        match source {
            Source::Input(i) => self.inputs.get(i).ok_or_else(missing),
            Source::Variable(i) => self.value(i)?.host(),
            Source::Data(i) => self.data.get(i).ok_or_else(missing),
        }
    }

    /// The value of a variable of the program.
    pub(crate) fn value(&self, variable: usize) -> Result<&Value> {
        let slot = *self.slots.get(variable).ok_or_else(missing)?;
        let value = match &self.values {
            Values::Shared(values) => values.get(slot),
            Values::Exclusive(values) => values.get(slot),
        };
        value.ok_or_else(missing)
    }
}

fn missing() -> Error {
    Error::internal("a call has fewer arrays than parameters")
}

/// What a backend lowers for; `None` if it walks the graph instead.
pub(crate) fn target(options: &Options) -> Result<Option<Target>> {
    match options.backend {
        Backend::Interp => Ok(None),
        #[cfg(feature = "cpu")]
        Backend::Cpu => cpu::target(options.vectors).map(Some),
        #[cfg(not(feature = "cpu"))]
        Backend::Cpu => Err(not_built("cpu")),
        #[cfg(feature = "gpu")]
        Backend::Gpu => gpu::target(options).map(Some),
        #[cfg(not(feature = "gpu"))]
        Backend::Gpu => Err(not_built("gpu")),
    }
}

#[cfg(not(all(feature = "cpu", feature = "gpu")))]
pub(crate) fn not_built(backend: &str) -> Error {
    Error::Backend(format!("`{backend}` is not in this build; enable the feature `{backend}`"))
}

#[cfg(feature = "cpu")]
pub(crate) use lehr_backends::cpu::{Loops, with_widest_vectors};

#[cfg(not(feature = "cpu"))]
pub(crate) trait Loops {
    fn run(self);
}

#[cfg(not(feature = "cpu"))]
pub(crate) fn with_widest_vectors(loops: impl Loops) {
    loops.run();
}

/// How many threads the process may run at once. The system is asked only once, since it looks through files for the answer.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// What native code wants of memory for elements that is about to be touched for the first time: arrays in large pages are also read
/// faster.
pub(crate) fn fresh<T>(elements: &[T]) {
    #[cfg(feature = "cpu")]
    lehr_backends::cpu::prefer_huge_pages(elements.as_ptr().cast(), size_of_val(elements));
    #[cfg(not(feature = "cpu"))]
    let _ = elements;
}

/// As [`fresh`], for storage of any type.
pub(crate) fn fresh_data(data: &lehr_ir::Data) {
    #[cfg(feature = "cpu")]
    lehr_backends::cpu::prefer_huge_pages(data.as_ptr(), data.byte_len());
    #[cfg(not(feature = "cpu"))]
    let _ = data;
}

impl Engine {
    /// Makes a graph that has gone through the graph passes ready to run.
    pub(crate) fn compile(graph: &Graph, options: &Options, _: &mut PassCx) -> Result<Self> {
        match options.backend {
            Backend::Interp => Ok(Self::Interp(Interp::new(graph))),
            #[cfg(feature = "cpu")]
            Backend::Cpu => Cpu::compile(graph, options).map(Self::Cpu),
            #[cfg(not(feature = "cpu"))]
            Backend::Cpu => Err(not_built("cpu")),
            #[cfg(feature = "gpu")]
            Backend::Gpu => Gpu::compile(graph, options).map(Self::Gpu),
            #[cfg(not(feature = "gpu"))]
            Backend::Gpu => Err(not_built("gpu")),
        }
    }

    /// How many kernels were compiled, and how many were there.
    pub(crate) fn kernel_counts(&self) -> KernelCounts {
        match self {
            Self::Interp(_) => KernelCounts::default(),
            #[cfg(feature = "cpu")]
            Self::Cpu(cpu) => cpu.kernel_counts(),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.kernel_counts(),
        }
    }

    /// Records a call for a device and drops it: the dispatches, and the time. `None` where calls are not recorded.
    pub(crate) fn rehearse(&self, workspace: &mut Workspace, call: &Call<'_>) -> Result<Option<(u64, Duration)>> {
        #[cfg(feature = "gpu")]
        if let Self::Gpu(gpu) = self {
            return Ok(gpu.rehearse(workspace, call)?.map(|r| (r.dispatches, r.time)));
        }
        let _ = (workspace, call);
        Ok(None)
    }

    /// Runs a call.
    pub(crate) fn run(&self, workspace: &mut Workspace, call: Call<'_>) -> Result<()> {
        match self {
            Self::Interp(interp) => interp.run(workspace, call),
            #[cfg(feature = "cpu")]
            Self::Cpu(cpu) => cpu.run(workspace, call),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.run(workspace, call),
        }
    }
}

//! Compiled programs: immutable, shared between executables and threads.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lehr_ir::eval::indices::IndexWatch;
use lehr_ir::expr::Variable;
use lehr_ir::graph::{Graph, Output};
use lehr_ir::loc::Loc;
use lehr_ir::{Array, Facts, Type};
use lehr_passes::{PassCx, PassRecord, pipeline};

use crate::cache::KernelCounts;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::function::{Source, Traced};
use crate::options::Options;

/// What compiling a function gave: code and its signature, without a workspace or state. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    pub(crate) code: Arc<Code>,
    pub(crate) leaves: Arc<Leaves>,
}

/// What programs that differ only in their leaves share.
pub(crate) struct Code {
    pub(crate) signature: Signature,
    /// The graph before any pass.
    pub(crate) source: Graph,
    /// The graph after the graph passes.
    pub(crate) graph: Graph,
    pub(crate) engine: Engine,
    /// What each parameter of the graph stands for.
    pub(crate) sources: Vec<Source>,
    /// The variables that updates set, in order, as positions among the variables.
    pub(crate) updates: Vec<usize>,
    pub(crate) options: Options,
    /// What indices depend on, where they are checked.
    pub(crate) indices: Option<IndexWatch>,
    pub(crate) records: Vec<PassRecord>,
    pub(crate) compile_time: Duration,
}

/// What a program captured: arguments of its code, not part of it.
#[derive(Default)]
pub(crate) struct Leaves {
    /// The variables, with the names that the function knows them by.
    pub(crate) variables: Vec<(Arc<Variable>, String)>,
    /// The captured arrays.
    pub(crate) data: Vec<Array>,
}

/// What a program takes and gives.
#[derive(Clone, PartialEq, Debug)]
pub struct Signature {
    /// The function's name.
    pub name: String,
    /// The inputs in the order of positions, each with its type.
    pub inputs: Vec<(String, Type)>,
    /// The outputs in order, each with its type.
    pub outputs: Vec<(String, Type)>,
    /// What the function assumes of sizes.
    pub facts: Facts,
}

impl Program {
    pub(crate) fn compile(traced: Traced, options: &Options, loc: &Loc) -> Result<Self> {
        let start = Instant::now();
        let Traced { graph: source, sources, variables, data } = traced;
        let signature = signature(&source, &sources);
        check_sizes(&source, &signature, loc)?;
        let mut cx = PassCx::new(options.passes.clone());
        let target = engine::target(options)?;
        let graph = pipeline::optimize_for(source.clone(), target.as_ref(), &mut cx)?;
        let engine = Engine::compile(&graph, options, &mut cx)?;
        let updates = source.updates().iter().filter_map(|u| match sources.get(u.param as usize) {
            Some(&Source::Variable(i)) => Some(i),
            _ => None,
        });
        let updates = updates.collect();
        let (records, options) = (cx.records().to_vec(), options.clone());
        let indices = options.check_indices.then(|| IndexWatch::of(&source)).flatten();
        let compile_time = start.elapsed();
        let code = Code { signature, source, graph, engine, sources, updates, options, indices, records, compile_time };
        Ok(Self { code: Arc::new(code), leaves: Arc::new(Leaves { variables, data }) })
    }

    /// The same code over the variables and arrays of an equal graph.
    pub(crate) fn with_leaves(&self, traced: Traced) -> Self {
        let leaves = Leaves { variables: traced.variables, data: traced.data };
        Self { code: Arc::clone(&self.code), leaves: Arc::new(leaves) }
    }

    /// The code alone.
    pub(crate) fn without_leaves(&self) -> Self {
        Self { code: Arc::clone(&self.code), leaves: Arc::default() }
    }

    /// What it takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.code.signature
    }

    /// The graph before any pass.
    pub fn source_graph(&self) -> &Graph {
        &self.code.source
    }

    /// The graph after the graph passes.
    pub fn graph(&self) -> &Graph {
        &self.code.graph
    }

    /// The options it was compiled with.
    pub fn options(&self) -> &Options {
        &self.code.options
    }

    /// The passes that ran, in order.
    pub fn passes(&self) -> &[PassRecord] {
        &self.code.records
    }

    /// How long it took from the function's graph to code.
    pub fn compile_time(&self) -> Duration {
        self.code.compile_time
    }

    /// How many of its kernels were compiled, and how many came from the cache of [`Options::cache`].
    pub fn kernel_counts(&self) -> KernelCounts {
        self.code.engine.kernel_counts()
    }

    /// The names of the variables that it reads or updates.
    pub fn variables(&self) -> impl ExactSizeIterator<Item = &str> {
        self.leaves.variables.iter().map(|(_, name)| name.as_str())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({})", self.code.signature)
    }
}

/// Prints `step(x: f32[batch, 64]) -> (loss: f32[])`.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |all: &[(String, Type)]| {
            let parts: Vec<String> = all.iter().map(|(n, ty)| format!("{n}: {ty}")).collect();
            parts.join(", ")
        };
        write!(f, "{}({}) -> ({})", self.name, list(&self.inputs), list(&self.outputs))
    }
}

fn signature(graph: &Graph, sources: &[Source]) -> Signature {
    let params = graph.params().iter().zip(graph.param_types()).zip(sources);
    let inputs = params.filter(|(_, s)| matches!(s, Source::Input(_))).map(|((p, ty), _)| (p.name.clone(), ty.clone()));
    Signature {
        name: graph.name.clone(),
        inputs: inputs.collect(),
        outputs: output_names(graph).into_iter().zip(graph.output_types().cloned()).collect(),
        facts: graph.facts.clone(),
    }
}

/// The outputs' names; one that has none, as can be in a graph that was read from text, gets one from its position.
fn output_names(graph: &Graph) -> Vec<String> {
    let taken = |name: &str| graph.outputs().iter().any(|o| o.name == name);
    let name = |(i, o): (usize, &Output)| {
        let mut name = o.name.clone();
        if name.is_empty() {
            name = format!("out_{i}");
            while taken(&name) {
                name.push('_');
            }
        }
        name
    };
    graph.outputs().iter().enumerate().map(name).collect()
}

/// Refuses a name of a size that no input gives a value.
fn check_sizes(graph: &Graph, signature: &Signature, loc: &Loc) -> Result<()> {
    let mut given = BTreeSet::new();
    for dim in signature.inputs.iter().flat_map(|(_, ty)| &ty.shape) {
        given.extend(dim.symbols());
    }
    let of_values = (0..graph.value_count() as u32).flat_map(|v| &graph.ty(lehr_ir::graph::Value(v)).shape);
    for dim in of_values {
        // Most dims are constants, which have no symbols to look at.
        if dim.as_const().is_some() {
            continue;
        }
        if let Some(symbol) = dim.symbols().find(|s| !given.contains(s)) {
            return Err(Error::Function {
                function: signature.name.clone(),
                rule: format!("no input gives the size `{symbol}`"),
                help: format!("give an input a dim `{symbol}`, or use a number"),
                loc: loc.clone(),
            });
        }
    }
    Ok(())
}

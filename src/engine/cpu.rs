//! Native code as an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lehr_backends::cpu::code::{Emitter, With};
use lehr_backends::cpu::{Cache, Compiler, Options as CodeOptions, Pool, Program};
use lehr_ir::graph::Graph;
use lehr_ir::kernel::Kernel;
use lehr_ir::target::Vectors;
use lehr_ir::{Array, Target};
use lehr_passes::compile::lower_to_plan;

use super::{Call, Values, Workspace};
use crate::cache::KernelCounts;
use crate::error::{Error, Result};
use crate::explain::Listing;
use crate::options::Options;

/// A compiled program and the threads that run it.
#[derive(Debug)]
pub(crate) struct Cpu {
    program: Arc<Program>,
    pool: Arc<Pool>,
    /// Why the cache was not used, if it was to be.
    refused: Option<String>,
}

impl Cpu {
    pub(crate) fn compile(graph: &Graph, options: &Options) -> Result<Self> {
        let machine = Machine::get(options.vectors)?;
        let lowered = lower_to_plan(graph, &machine.target, options.passes.rematerialize);
        let plan = lowered.map_err(|e| Error::Backend(e.to_string()))?.plan;
        // Opened anew each time, which costs two system calls: folders come and go.
        let (cache, refused) = match options.cache.resolve().map(|(folder, most)| Cache::open(&folder, most)) {
            Some(Ok(cache)) => (Some(cache), None),
            Some(Err(why)) => (None, Some(why.to_string())),
            None => (None, None),
        };
        // The threads that will run the program have nothing to do yet.
        let pool = Host::get().pool(options.threads);
        let with = With { cache: cache.as_ref(), pool: Some(&pool) };
        let program = Program::new_with(plan, &machine.compiler, with).map_err(|e| Error::Backend(e.to_string()))?;
        Ok(Self { program, pool, refused })
    }

    /// How many kernels were compiled, and how many were there.
    pub(crate) fn kernel_counts(&self) -> KernelCounts {
        let reports = self.program.code().reports();
        let cached = reports.iter().filter(|r| r.emitter == Emitter::Cache).count();
        KernelCounts { compiled: reports.len() - cached, cached, refused: self.refused.clone() }
    }

    /// New values go to spare arrays, or to where the old lie if the plan allows it and nobody else holds these. They take effect
    /// together when all steps have run.
    pub(crate) fn run(&self, workspace: &mut Workspace, mut call: Call<'_>) -> Result<()> {
        let instance = workspace.instance.get_or_insert_with(|| self.program.instance());
        workspace.args.clear();
        for &source in call.sources {
            workspace.args.push(call.argument(source)?.clone());
        }
        if workspace.spares.len() != call.updates.len() {
            workspace.spares.resize(call.updates.len(), Array::scalar(false));
        }
        self.lend(&mut call, &workspace.args, &mut workspace.spares, &mut workspace.lent);
        let spares = &mut workspace.spares;
        let done = instance.run(&self.pool, &mut workspace.args, call.outputs, spares);
        let trap = call.trap.filter(|_| done.is_ok());
        let found = trap.map_or(Ok(()), |t| t.check(&workspace.args, call.bindings, call.outputs, spares));
        // The arguments are let go before anything is swapped, so that old values are unshared when they are written next.
        workspace.args.clear();
        let done = done.map_err(|e| Error::Backend(e.to_string())).and(found);
        if let Values::Exclusive(values) = &mut call.values {
            for ((&variable, spare), lent) in call.updates.iter().zip(spares).zip(&workspace.lent) {
                if let Some(slot) = call.slots.get(variable).and_then(|&s| values.get_mut(s))
                    && (done.is_ok() || *lent)
                {
                    slot.swap(spare);
                }
            }
        }
        done
    }

    /// Puts the values of variables that may be overwritten where their new values go, and what is there in their place.
    fn lend(&self, call: &mut Call<'_>, args: &[Array], spares: &mut [Array], lent: &mut Vec<bool>) {
        lent.clear();
        lent.resize(spares.len(), false);
        let Values::Exclusive(values) = &mut call.values else { return };
        if call.trap.is_some() {
            // What is checked when all steps have run may have to be taken back.
            return;
        }
        let plan = self.program.plan();
        for (i, (&variable, spare)) in call.updates.iter().zip(spares).enumerate() {
            let value = plan.updates.get(i).and_then(|&p| args.get(p as usize));
            let slot = call.slots.get(variable).and_then(|&s| values.get_mut(s));
            // The state and the argument have it, and nobody else.
            if let (Some(true), Some(2), Some(slot)) = (plan.in_place.get(i), value.map(Array::owners), slot) {
                if spare.len() > 1 {
                    // A second array, which an earlier call needed.
                    *spare = Array::scalar(false);
                }
                slot.swap(spare);
                lent[i] = true;
            }
        }
    }
}

/// What programs are lowered for.
pub(crate) fn target(vectors: Vectors) -> Result<Target> {
    Ok(Machine::get(vectors)?.target.clone())
}

/// What makes each kernel's code.
pub(crate) fn emitters(kernels: &[Arc<Kernel>], vectors: Vectors) -> Result<Vec<String>> {
    let compiler = &Machine::get(vectors)?.compiler;
    Ok(kernels.iter().map(|k| compiler.emitter(k).to_string()).collect())
}

/// The code of kernels as text.
pub(crate) fn listings(kernels: &[Arc<Kernel>], vectors: Vectors) -> Result<Vec<Listing>> {
    let kernels: Vec<&Kernel> = kernels.iter().map(|k| &**k).collect();
    let compiler = Compiler::new(CodeOptions { vectors, texts: true, ..CodeOptions::default() });
    let unit = compiler.and_then(|c| c.compile(&kernels)).map_err(|e| Error::Backend(e.to_string()))?;
    Ok(unit.reports().iter().map(|r| Listing { clif: r.clif.clone(), asm: r.disassembly.clone() }).collect())
}

/// Makes the next installations of code fail, or succeed again.
pub(crate) fn fail_installation(fail: bool) -> Result<()> {
    Machine::get(Vectors::Auto)?.compiler.fail_installation(fail);
    Ok(())
}

/// The compiler for a choice of vectors, and what programs are lowered for.
struct Machine {
    compiler: Compiler,
    target: Target,
}

impl Machine {
    fn get(vectors: Vectors) -> Result<Arc<Self>> {
        let mut machines = Host::get().machines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = machines.get(&vectors) {
            return Ok(Arc::clone(machine));
        }
        let options = CodeOptions { vectors, ..CodeOptions::default() };
        let compiler = Compiler::new(options).map_err(|e| Error::Backend(e.to_string()))?;
        let facts = compiler.target();
        let (vector_bytes, fma) = (facts.vector_bytes, facts.fma);
        let target = Target { name: "cpu".to_owned(), vector_bytes, fma, ..Target::default() };
        let machine = Arc::new(Self { compiler, target });
        machines.insert(vectors, Arc::clone(&machine));
        Ok(machine)
    }
}

/// What all programs of a process share: a compiler for each choice of vectors, and a pool for each number of threads asked for.
#[derive(Default)]
struct Host {
    machines: Mutex<BTreeMap<Vectors, Arc<Machine>>>,
    pools: Mutex<BTreeMap<usize, Arc<Pool>>>,
}

impl Host {
    fn get() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(Self::default)
    }

    fn pool(&self, threads: Option<usize>) -> Arc<Pool> {
        let n = threads.unwrap_or_else(super::cores).max(1);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pools.entry(n).or_insert_with(|| Arc::new(Pool::new(n))))
    }
}

//! The one process-wide object: a default runtime, which keeps the programs of evaluated expressions.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lehr_ir::Array;
use lehr_ir::graph::Graph;

use crate::error::Result;
use crate::executable::Executable;
use crate::function::{Function, Traced};
use crate::options::Options;
use crate::program::Program;
use crate::state::State;
use crate::tensor::Tensor;

/// How many programs of expressions are kept.
const KEPT: usize = 64;

/// Evaluates closed tensors; equal expressions over other data are compiled once.
#[derive(Debug, Default)]
pub struct Runtime {
    options: Options,
    /// The latest used last.
    programs: Mutex<Vec<(u64, Program)>>,
}

impl Runtime {
    /// A runtime that compiles with these options.
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self { options, programs: Mutex::new(Vec::new()) })
    }

    /// The default runtime, which [`Tensor::eval`] uses.
    pub fn global() -> &'static Arc<Self> {
        static GLOBAL: OnceLock<Arc<Runtime>> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new(Options::default()))
    }

    /// The values of tensors that have no inputs, computed together. Variables have the values of `state`.
    ///
    /// # Errors
    /// The errors that the tensors carry; inputs that are left open.
    #[track_caller]
    pub fn eval(&self, tensors: &[&Tensor], state: &State) -> Result<Vec<Array>> {
        let mut f = Function::new("eval");
        for (i, t) in tensors.iter().enumerate() {
            f = f.output(&format!("out_{i}"), t);
        }
        let program = self.program(f.trace()?)?;
        Ok(Executable::new(program, state.clone()).run(())?.into_iter().collect())
    }

    fn program(&self, traced: Traced) -> Result<Program> {
        let key = traced.graph.fingerprint();
        if let Some(known) = self.find(key, &traced.graph) {
            return Ok(known.with_leaves(traced));
        }
        let program = Program::compile(traced, &self.options, &lehr_ir::Loc::UNKNOWN)?;
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if programs.len() >= KEPT {
            programs.remove(0);
        }
        // What is kept must not hold on to captured arrays.
        programs.push((key, program.without_leaves()));
        Ok(program)
    }

    fn find(&self, key: u64, graph: &Graph) -> Option<Program> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let at = programs.iter().position(|(k, p)| *k == key && p.source_graph() == graph)?;
        let entry = programs.remove(at);
        let program = entry.1.clone();
        programs.push(entry);
        Some(program)
    }
}

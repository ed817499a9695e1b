//! The reference evaluator as an engine.

use lehr_ir::Array;
use lehr_ir::eval::{Evaluated, evaluate_bound};
use lehr_ir::graph::Graph;

use super::{Call, Values, Workspace};
use crate::error::{Error, Result};
use crate::function::Source;

/// Walks the graph with each operation's reference semantics.
#[derive(Debug)]
pub(crate) struct Interp {
    graph: Graph,
}

impl Interp {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self { graph: graph.clone() }
    }

    /// New values are all computed before any variable changes.
    pub(crate) fn run(&self, workspace: &mut Workspace, call: Call<'_>) -> Result<()> {
        let missing = || Error::internal("a call has fewer arrays than parameters");
        workspace.args.clear();
        for source in call.sources {
            let array: Option<&Array> = match *source {
                Source::Input(i) => call.inputs.get(i),
                Source::Variable(i) => call.slots.get(i).and_then(|&slot| call.values.get(slot)),
                Source::Data(i) => call.data.get(i),
            };
            workspace.args.push(array.ok_or_else(missing)?.clone());
        }
        let Evaluated { outputs, updates } = evaluate_bound(&self.graph, &workspace.args, call.bindings)?;
        let found = call.trap.map_or(Ok(()), |trap| trap.check(&workspace.args, call.bindings, &outputs, &updates));
        workspace.args.clear();
        found?;
        for (out, value) in call.outputs.iter_mut().zip(outputs) {
            *out = value;
        }
        if let Values::Exclusive(values) = call.values {
            for (&variable, value) in call.updates.iter().zip(updates) {
                if let Some(slot) = call.slots.get(variable).and_then(|&s| values.get_mut(s)) {
                    *slot = value;
                }
            }
        }
        Ok(())
    }
}

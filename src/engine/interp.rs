//! The reference evaluator as an engine.

use lehr_ir::eval::{Evaluated, evaluate_bound};
use lehr_ir::graph::Graph;

use super::{Call, Values, Workspace};
use crate::error::Result;

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
        workspace.args.clear();
        for &source in call.sources {
            workspace.args.push(call.argument(source)?.clone());
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
                    *slot = value.into();
                }
            }
        }
        Ok(())
    }
}

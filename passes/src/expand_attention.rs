//! Puts primitives in place of the forward derivative of attention, which no backend has tiles for.
//!
//! What is left of it after reverse mode is dead: reverse mode transposes it into `attention_grad`.
//! So forward mode and second derivatives alone store the scores.

use lehr_ir::graph::Graph;
use lehr_ir::ops::{Op, RuleError};
use lehr_ir::{OpError, Rule};

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// The pass.
#[derive(Clone, Copy, Debug)]
pub struct ExpandAttention;

impl Pass<Graph> for ExpandAttention {
    fn name(&self) -> &'static str {
        "expand_attention"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        expand(graph, cx, &mut Regions::default())
    }
}

fn expand(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    let concerns = |op: &Op| matches!(op, Op::AttentionTangent(_)) || !op.regions().is_empty();
    if !graph.nodes().any(|(_, n)| concerns(&n.op)) {
        return Ok(Outcome::Unchanged);
    }
    let mut new = Rebuild::new(graph);
    let mut changed = false;
    for (_, node) in graph.nodes() {
        if let Op::AttentionTangent(tangent) = &node.op
            && cx.fuel("expand_attention")
        {
            new.at(node);
            let operands = new.operands(node);
            let found = tangent.by_primitives(&mut new.b, &operands).map_err(|e| refused(node.op.name(), e))?;
            new.set(node, found.into_iter().flatten());
            changed = true;
            continue;
        }
        match regions.map(&node.op, &mut |region, regions| expand(region, cx, regions))? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

fn refused(op: &str, e: RuleError) -> OpError {
    match e {
        RuleError::Op(e) => e,
        other => OpError::new(op, Vec::new(), Rule::new(other.to_string(), "report it"), lehr_ir::Loc::UNKNOWN),
    }
}

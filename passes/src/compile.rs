//! From a user's graph to a plan: the whole pipeline, in order, with what each stage gave.

use lehr_ir::plan::verify::{PlanError, Verified, verify};
use lehr_ir::{Graph, OpError, Target};

use crate::fuse::{Fusion, fuse};
use crate::lower::lower;
use crate::pass::{PassCx, PassError};
use crate::pipeline;
use crate::plan_memory::{MemoryReport, plan_memory};
use crate::rematerialize::{Rematerialize, rematerialize};

/// What compiling a graph gave, stage by stage.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph after the graph passes.
    pub graph: Graph,
    /// Which of its nodes became one kernel, and why.
    pub fusion: Fusion,
    /// The plan, with memory planned.
    pub plan: Verified,
    /// What the memory plan came to.
    pub memory: MemoryReport,
}

/// Why a graph has no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A graph pass failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// An operation has no lowering.
    #[error(transparent)]
    Lower(#[from] OpError),
    /// The plan breaks an invariant: a defect of lehr.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Compiles a graph for a target.
pub fn compile(graph: Graph, target: &Target, cx: &mut PassCx) -> Result<Compiled, CompileError> {
    let graph = pipeline::optimize_for(graph, Some(target), cx)?;
    let Lowered { graph: again, fusion, plan, memory } = lower_to_plan(&graph, target, cx.options.rematerialize)?;
    Ok(Compiled { graph: again.unwrap_or(graph), fusion, plan, memory })
}

/// What lowering a graph gave.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The graph, if values are computed again in it.
    pub graph: Option<Graph>,
    /// Which nodes became one kernel, and why.
    pub fusion: Fusion,
    /// The plan, with memory planned.
    pub plan: Verified,
    /// What the memory plan came to.
    pub memory: MemoryReport,
}

/// The plan of a graph that has gone through the graph passes, with values computed again where that saves memory.
pub fn lower_to_plan(graph: &Graph, target: &Target, how: Rematerialize) -> Result<Lowered, CompileError> {
    let (fusion, plan, memory) = plan_of(graph, target)?;
    if how.applies(&memory.arena)
        && let Some((again, count)) = rematerialize(graph, &fusion)
    {
        let (fusion, plan, mut less) = plan_of(&again, target)?;
        let saves = less.arena != memory.arena && graph.facts.decide_ge(&memory.arena, &less.arena) == Some(true);
        if saves {
            less.rematerialized = Some((count, memory.arena));
            return Ok(Lowered { graph: Some(again), fusion, plan, memory: less });
        }
    }
    Ok(Lowered { graph: None, fusion, plan, memory })
}

/// Fuses, lowers and plans the memory of a graph that is ready for it.
pub fn plan_of(graph: &Graph, target: &Target) -> Result<(Fusion, Verified, MemoryReport), CompileError> {
    // Fusion is the last look at the graph: nothing may change it between here and lowering.
    let fusion = fuse(graph, target);
    let mut plan = lower(graph, &fusion, target)?;
    // Offsets come last, when every step and every buffer is known.
    let memory = plan_memory(&mut plan, target.memory);
    Ok((fusion, verify(plan)?, memory))
}

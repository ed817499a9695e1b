//! Compiles a graph with an observer and puts together what each stage gave.

use std::collections::BTreeSet;
use std::sync::Arc;

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Symbol;
use lehr_ir::graph::print::PrintOptions;
use lehr_ir::graph::{Graph, Value};
use lehr_ir::kernel::{Cost, Kernel};
use lehr_ir::plan::{Place, StepKind};
use lehr_ir::{Dim, Plan};
use lehr_passes::compile::{Lowered, lower_to_plan};
use lehr_passes::fuse::{Fusion, Group, GroupKind};
use lehr_passes::plan_memory::{self, MemoryReport};
use lehr_passes::{PassCx, PassRecord, pipeline};

use super::cost::{add, plan_cost, step_cost};
use super::diff::diff;
use super::number::Numbers;
use super::{
    BlockMemory, ExplainOptions, Explanation, GroupExplanation, KernelExplanation, Member, MemoryExplanation,
    PassExplanation,
};
use crate::error::{Error, Result};
use crate::options::Options;

/// The stages of a graph's compilation, as far as they went, and why they went no further.
pub(super) fn collect(graph: &Graph, options: &Options, explain: &ExplainOptions) -> (Explanation, Option<Error>) {
    let numbers = Numbers::of(graph);
    let mut explanation = Explanation {
        name: graph.name.clone(),
        backend: options.backend,
        source: graph.clone(),
        graph: graph.clone(),
        passes: Vec::new(),
        groups: Vec::new(),
        kernels: Vec::new(),
        plan: None,
        device: None,
        memory: None,
        total: None,
        kernel_counts: None,
        failure: None,
        options: explain.clone(),
        sizes: Bindings::default(),
        source_numbers: numbers.printed().to_vec(),
    };
    let error = fill(&mut explanation, numbers, options).err();
    explanation.failure = error.as_ref().map(ToString::to_string);
    (explanation, error)
}

/// The names of sizes in a graph's signature.
pub(super) fn sizes(graph: &Graph) -> BTreeSet<Symbol> {
    graph.param_types().flat_map(|ty| &ty.shape).flat_map(Dim::symbols).collect()
}

fn fill(e: &mut Explanation, mut numbers: Numbers, options: &Options) -> Result<()> {
    let mut cx = PassCx::new(options.passes.clone());
    let mut before = e.source.clone();
    let mut text = text_of(&before, &numbers);
    let passes = &mut e.passes;
    let mut observe = |record: &PassRecord, after: &Graph| {
        let mut changes = Vec::new();
        if record.changed {
            numbers = numbers.follow(&before, after);
            let new = text_of(after, &numbers);
            changes = diff(&text, &new);
            text = new;
            before = after.clone();
        }
        passes.push(PassExplanation {
            name: record.name.to_owned(),
            changed: record.changed,
            nodes_before: record.nodes_before,
            nodes_after: record.nodes_after,
            rules: record.rules.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            diff: changes,
            duration: record.duration,
        });
    };
    let target = crate::engine::target(options)?;
    let done = pipeline::optimize_observed(e.source.clone(), target.as_ref(), &mut cx, &mut observe);
    e.graph = before;
    done?;
    if cx.is_stopped() {
        return Ok(());
    }
    let Some(target) = target else { return Ok(()) };
    let lowered = lower_to_plan(&e.graph, &target, options.passes.rematerialize);
    let Lowered { graph, fusion, plan, memory } = lowered.map_err(|e| Error::Backend(e.to_string()))?;
    if let Some(graph) = graph {
        numbers = numbers.follow(&e.graph, &graph);
        e.graph = graph;
    }
    let plan = plan.into_inner();
    e.groups = groups(&e.graph, &fusion, &numbers);
    e.memory = Some(memory_of(&plan, memory));
    e.kernels = kernels(&plan, &e.options, options)?;
    e.total = Some(plan_cost(&plan));
    #[cfg(feature = "gpu")]
    if options.backend == crate::options::Backend::Gpu {
        e.device = Some(super::device::explain(&plan, options)?);
    }
    e.plan = Some(plan);
    Ok(())
}

fn text_of(graph: &Graph, numbers: &Numbers) -> String {
    let options = PrintOptions { blobs: false, ..PrintOptions::default() };
    graph.display_numbered(options, numbers.printed()).to_string()
}

fn groups(graph: &Graph, fusion: &Fusion, numbers: &Numbers) -> Vec<GroupExplanation> {
    let member = |id: &lehr_ir::graph::NodeId| {
        let node = graph.node(*id);
        Member {
            value: format!("%{}", numbers.printed()[node.result().index()]),
            op: node.op.name().to_owned(),
            ty: graph.ty(node.result()).clone(),
            loc: node.loc.clone(),
        }
    };
    let group = |g: u32, group: &Group| GroupExplanation {
        kind: group.kind,
        domain: group.domain.to_vec(),
        reduced: group.reduced.to_vec(),
        members: group.members.iter().map(member).collect(),
        fused: if fusion.epilogue_of[g as usize].is_some() {
            "elementwise, on blocks of the matrix product before it while they are cached".to_owned()
        } else {
            why_fused(group).to_owned()
        },
        ended: why_ended(graph, fusion, group),
    };
    fusion.order.iter().map(|&g| group(g, &fusion.groups[g as usize])).collect()
}

fn why_fused(group: &Group) -> &'static str {
    match (group.kind, group.members.len(), group.reduced.is_empty()) {
        (GroupKind::Contract, ..) => "a matrix product is a library call of its own",
        (GroupKind::Attend, ..) => "attention makes a tile of scores at a time, and is a step of its own",
        (GroupKind::Scatter, ..) => "a scatter writes where its indices say, and is a step of its own",
        (GroupKind::Control, ..) => "a loop or a choice runs plans of its own",
        (GroupKind::Host, ..) => "no kernel computes it: the evaluator runs it on the host",
        (GroupKind::Kernel, 1, _) => "one operation",
        (GroupKind::Kernel, _, true) => "elementwise: each reads the others only at the place it is computed at",
        (GroupKind::Kernel, _, false) => {
            "reductions over the same axes, with what they read and what reads them row by row"
        }
    }
}

/// Why nothing else is in a group: what was refused, or else where its values go.
fn why_ended(graph: &Graph, fusion: &Fusion, group: &Group) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for reason in &group.reasons {
        if !reasons.contains(reason) {
            reasons.push(reason.clone());
        }
    }
    let mine = |v: Value| {
        graph.def_node(v).is_some_and(|n| group.members.iter().any(|m| graph.node(*m).result() == n.result()))
    };
    for output in graph.outputs().iter().filter(|o| mine(o.value)) {
        reasons.push(format!("gives the output `{}`", output.name));
    }
    for update in graph.updates().iter().filter(|u| mine(u.value)) {
        let name = graph.params().get(update.param as usize).map_or("", |p| &p.name);
        reasons.push(format!("gives the new value of `{name}`"));
    }
    if reasons.is_empty() {
        let deepest = fusion.order.last().is_some_and(|&g| std::ptr::eq(&fusion.groups[g as usize], group));
        let reason = if deepest { "nothing follows it" } else { "what reads it also reads a later group" };
        reasons.push(reason.to_owned());
    }
    reasons
}

fn memory_of(plan: &Plan, report: MemoryReport) -> MemoryExplanation {
    let sum = |which: &dyn Fn(&Place) -> bool| -> Dim {
        let chosen = plan.buffers.iter().filter(|b| which(&b.place));
        chosen.map(|b| &b.len * b.dtype.size() as i64).sum()
    };
    let arguments = sum(&|p| matches!(p, Place::Param(_)));
    let results = sum(&|p| match p {
        Place::NewVariable(u) => plan.in_place.get(*u as usize) != Some(&true),
        p => matches!(p, Place::Output(_)),
    });
    let constants = sum(&|p| matches!(p, Place::Constant(_)));
    let peak = &(&(&arguments + &results) + &constants) + &report.arena;
    let MemoryReport { arena, alive, unshared, in_place, updates_in_place, rematerialized } = report;
    let block = |p: &&Plan| BlockMemory {
        name: p.name.clone(),
        arena: &p.arena + &p.slots.iter().cloned().sum(),
        alive: plan_memory::alive(p),
    };
    let blocks = plan.with_nested().iter().skip(1).map(block).collect();
    MemoryExplanation {
        arena,
        alive,
        unshared,
        in_place,
        updates_in_place,
        rematerialized,
        arguments,
        results,
        constants,
        peak,
        blocks,
    }
}

fn kernels(plan: &Plan, explain: &ExplainOptions, options: &Options) -> Result<Vec<KernelExplanation>> {
    let plans = plan.with_nested();
    let all: Vec<Arc<Kernel>> = plans.iter().flat_map(|p| &p.kernels).cloned().collect();
    let listings = if explain.clif || explain.asm { listings(&all, options)? } else { Vec::new() };
    let emitters = emitters(&all, options)?;
    let mut out: Vec<KernelExplanation> = Vec::with_capacity(all.len());
    for (i, kernel) in all.iter().enumerate() {
        let listing = listings.get(i);
        out.push(KernelExplanation {
            name: kernel.name.clone(),
            launches: 0,
            cost: Cost::default(),
            locs: Vec::new(),
            emitter: emitters.get(i).cloned().unwrap_or_default(),
            text: kernel.to_string(),
            clif: listing.filter(|_| explain.clif).map(|l| l.clif.clone()),
            asm: listing.filter(|_| explain.asm).map(|l| l.asm.clone()),
        });
    }
    let mut first = 0;
    for plan in plans {
        for step in &plan.steps {
            let runs = match &step.kind {
                StepKind::Launch(launch) => launch.kernel,
                StepKind::Contract(contract) => match &contract.epilogue {
                    Some(e) => e.kernel,
                    None => continue,
                },
                _ => continue,
            };
            let Some(kernel) = out.get_mut(first + runs as usize) else { continue };
            kernel.launches += 1;
            kernel.cost = add(std::mem::take(&mut kernel.cost), &step_cost(plan, &step.kind));
            for loc in &step.locs {
                if !kernel.locs.contains(loc) {
                    kernel.locs.push(loc.clone());
                }
            }
        }
        first += plan.kernels.len();
    }
    Ok(out)
}

/// The code of a kernel as text.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) clif: String,
    pub(crate) asm: String,
}

#[cfg(feature = "cpu")]
fn listings(kernels: &[Arc<Kernel>], options: &Options) -> Result<Vec<Listing>> {
    if options.backend != crate::options::Backend::Cpu {
        return Ok(Vec::new());
    }
    crate::engine::cpu::listings(kernels, options.vectors)
}

#[cfg(not(feature = "cpu"))]
fn listings(kernels: &[Arc<Kernel>], _: &Options) -> Result<Vec<Listing>> {
    Ok(kernels.iter().map(|_| Listing { clif: String::new(), asm: String::new() }).collect())
}

#[cfg(feature = "cpu")]
fn emitters(kernels: &[Arc<Kernel>], options: &Options) -> Result<Vec<String>> {
    if options.backend != crate::options::Backend::Cpu {
        return Ok(Vec::new());
    }
    crate::engine::cpu::emitters(kernels, options.vectors)
}

#[cfg(not(feature = "cpu"))]
fn emitters(_: &[Arc<Kernel>], _: &Options) -> Result<Vec<String>> {
    Ok(Vec::new())
}

//! Takes out of loops and branches what nobody needs: results, carries and operands.
//!
//! Derivatives leave much behind: a forward loop stacks what only an unused tangent would have needed, a backward loop carries
//! cotangents that nobody asks for. A carry is needed if its last value is used, if the condition looks at it, or if a needed
//! result of an iteration depends on it. A carry that every iteration hands on as it is becomes something that iterations only
//! see, and its result is its initial value. A choice by a constant index becomes a call of the branch.

use std::sync::Arc;

use lehr_ir::Literal;
use lehr_ir::graph::{Graph, Node, Region, Value};
use lehr_ir::ops::{Call, Case, Op, Scan, While};

use crate::derivative::project;
use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct PruneRegions;

impl Pass<Graph> for PruneRegions {
    fn name(&self) -> &'static str {
        "prune_regions"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        prune(graph, cx, &mut Regions::default())
    }
}

/// What becomes of an operation.
struct Pruned {
    op: Op,
    /// The operands that stay, in their new order.
    operands: Vec<usize>,
    /// What each result becomes.
    results: Vec<Becomes>,
}

/// What becomes of a result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// The new operation's result at this position.
    Result(usize),
    /// The operand at this position.
    Operand(usize),
    /// Nobody needs it.
    Nothing,
}

fn prune(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    if graph.nodes().all(|(_, n)| n.op.regions().is_empty()) {
        return Ok(Outcome::Unchanged);
    }
    let mut used = vec![false; graph.value_count()];
    graph.roots().for_each(|v| used[v.index()] = true);
    let mut pruned: Vec<Option<Pruned>> = (0..graph.node_count()).map(|_| None).collect();
    let mut live = vec![true; graph.node_count()];
    for (id, node) in graph.nodes().rev() {
        let wanted: Vec<bool> = node.results().map(|v| used[v.index()]).collect();
        live[id.index()] = wanted.contains(&true);
        if !live[id.index()] {
            continue;
        }
        let new = prune_op(graph, node, &wanted)?.filter(|_| cx.fuel("prune"));
        match &new {
            None => node.operands.iter().for_each(|v| used[v.index()] = true),
            Some(new) => {
                let handed_on = new.results.iter().filter_map(|r| match r {
                    Becomes::Operand(i) => Some(i),
                    Becomes::Result(_) | Becomes::Nothing => None,
                });
                new.operands.iter().chain(handed_on).for_each(|&i| used[node.operands[i].index()] = true);
            }
        }
        pruned[id.index()] = new;
    }
    let mut changed = live.contains(&false);
    let mut new = Rebuild::new(graph);
    for ((id, node), pruned) in graph.nodes().zip(pruned) {
        if !live[id.index()] {
            continue;
        }
        let op = pruned.as_ref().map_or(&node.op, |p| &p.op);
        let inner = regions.map(op, &mut |body, regions| prune(body, cx, regions))?;
        changed |= inner.is_some() || pruned.is_some();
        let Some(p) = pruned else {
            new.copy_as(node, inner.unwrap_or_else(|| node.op.clone()));
            continue;
        };
        // The memo knows regions by their address, so those made here have to outlive it.
        regions.keep(&p.op);
        let op = inner.unwrap_or(p.op);
        let operands = p.operands.iter().map(|&i| new.get(node.operands[i])).collect();
        new.at(node);
        let of = |i: usize| p.results.iter().position(|r| *r == Becomes::Result(i));
        let results: Vec<Value> = node.results().collect();
        let kept = (0..).map_while(of).map(|old| graph.ty(results[old]).clone()).collect();
        let id = new.b.push(op, operands, kept);
        let made: Vec<Value> = new.b.graph().node(id).results().collect();
        for (&old, becomes) in results.iter().zip(&p.results) {
            match *becomes {
                Becomes::Result(i) => new.set_value(old, made[i]),
                Becomes::Operand(i) => new.set_value(old, new.get(node.operands[i])),
                Becomes::Nothing => {}
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

fn prune_op(graph: &Graph, node: &Node, wanted: &[bool]) -> Result<Option<Pruned>, PassError> {
    Ok(match &node.op {
        Op::Scan(scan) => prune_scan(scan, wanted)?,
        Op::While(l) => prune_while(l, wanted)?,
        Op::Case(case) => prune_case(graph, node, case, wanted)?,
        _ => None,
    })
}

fn prune_scan(scan: &Scan, wanted: &[bool]) -> Result<Option<Pruned>, PassError> {
    let body = &scan.body;
    let Needs { outputs, params, handed_on } = needs(body, scan.consts, scan.carries, wanted, None);
    let of = |range: std::ops::Range<usize>| range.filter(|&i| params[i]).collect::<Vec<_>>();
    let fixed = scan.consts + scan.carries;
    let mut consts = of(0..scan.consts);
    consts.extend((0..scan.carries).filter(|&i| handed_on[i] && params[scan.consts + i]).map(|i| scan.consts + i));
    let carries: Vec<usize> = (0..scan.carries).filter(|&i| outputs[i]).map(|i| scan.consts + i).collect();
    let rows = of(fixed..body.params().len());
    let kept: Vec<usize> = (0..outputs.len()).filter(|&i| outputs[i]).collect();
    let (n_consts, n_carries) = (consts.len(), carries.len());
    let operands: Vec<usize> = consts.into_iter().chain(carries).chain(rows).collect();
    if is_identity(&operands, body.params().len()) && kept.len() == outputs.len() {
        return Ok(None);
    }
    let op = Scan {
        body: part(body, &operands, &kept)?,
        consts: n_consts,
        carries: n_carries,
        length: scan.length.clone(),
        reverse: scan.reverse,
    };
    let results = becomes(&kept, outputs.len(), |i| (i < scan.carries && handed_on[i]).then(|| scan.consts + i));
    Ok(Some(Pruned { op: op.into(), operands, results }))
}

fn prune_while(l: &While, wanted: &[bool]) -> Result<Option<Pruned>, PassError> {
    let (body, n) = (&l.body, l.carries());
    let Needs { outputs, params, handed_on } = needs(body, l.consts, n, wanted, Some(&l.cond));
    let mut operands: Vec<usize> = (0..l.consts).filter(|&i| params[i]).collect();
    operands.extend((0..n).filter(|&i| handed_on[i] && params[l.consts + i]).map(|i| l.consts + i));
    let consts = operands.len();
    operands.extend((0..n).filter(|&i| outputs[i]).map(|i| l.consts + i));
    let kept: Vec<usize> = (0..n).filter(|&i| outputs[i]).collect();
    if is_identity(&operands, body.params().len()) && kept.len() == n {
        return Ok(None);
    }
    let op = While { cond: part(&l.cond, &operands, &[0])?, body: part(body, &operands, &kept)?, consts };
    let results = becomes(&kept, n, |i| handed_on[i].then(|| l.consts + i));
    Ok(Some(Pruned { op: op.into(), operands, results }))
}

fn prune_case(graph: &Graph, node: &Node, case: &Case, wanted: &[bool]) -> Result<Option<Pruned>, PassError> {
    let results: Vec<Becomes> = (0..wanted.len()).map(Becomes::Result).collect();
    let all: Vec<usize> = (1..node.operands.len()).collect();
    let first = &case.branches[0];
    let chosen = match index_of(graph, node.operands[0]) {
        Some(i) => Some(&case.branches[case.clamp(i)]),
        None => case.branches.iter().all(|b| Arc::ptr_eq(b, first)).then_some(first),
    };
    if let Some(region) = chosen {
        let call = Call::new(region.name.clone(), Arc::clone(region));
        return Ok(Some(Pruned { op: call.into(), operands: all, results }));
    }
    let kept: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i]).collect();
    let params: Vec<Vec<bool>> = case.branches.iter().map(|b| params_of(b, wanted)).collect();
    let needed: Vec<usize> = (0..first.params().len()).filter(|&i| params.iter().any(|p| p[i])).collect();
    if kept.len() == wanted.len() && needed.len() == first.params().len() {
        return Ok(None);
    }
    let branches = case.branches.iter().map(|b| part(b, &needed, &kept)).collect::<Result<_, _>>()?;
    let operands = std::iter::once(0).chain(needed.iter().map(|i| i + 1)).collect();
    Ok(Some(Pruned { op: Case { branches }.into(), operands, results: becomes(&kept, wanted.len(), |_| None) }))
}

/// What of a loop is needed.
struct Needs {
    /// For each output of the body, whether the loop has to give it.
    outputs: Vec<bool>,
    /// For each parameter of the body, whether an iteration needs it.
    params: Vec<bool>,
    /// For each carry, whether the body gives it back as it is.
    handed_on: Vec<bool>,
}

fn needs(body: &Graph, consts: usize, carries: usize, wanted: &[bool], cond: Option<&Graph>) -> Needs {
    let is_own = |i: usize| body.outputs()[i].value == body.param_value(consts + i);
    let handed_on: Vec<bool> = (0..carries).map(is_own).collect();
    let mut outputs = wanted.to_vec();
    for (out, own) in outputs.iter_mut().zip(&handed_on) {
        *out &= !own;
    }
    let of_cond = cond.map(|c| params_of(c, &[true]));
    loop {
        let mut params = params_of(body, &outputs);
        if let Some(of_cond) = &of_cond {
            params.iter_mut().zip(of_cond).for_each(|(p, c)| *p |= c);
        }
        let mut grown = false;
        for i in 0..carries {
            grown |= params[consts + i] && !handed_on[i] && !std::mem::replace(&mut outputs[i], true);
        }
        if !grown {
            // A carry that is given is taken, even if no iteration looks at it.
            for i in (0..carries).filter(|&i| outputs[i]) {
                params[consts + i] = true;
            }
            return Needs { outputs, params, handed_on };
        }
    }
}

/// The parameters that some outputs depend on.
fn params_of(graph: &Graph, outputs: &[bool]) -> Vec<bool> {
    let mut needed = vec![false; graph.value_count()];
    for (o, _) in graph.outputs().iter().zip(outputs).filter(|(_, wanted)| **wanted) {
        needed[o.value.index()] = true;
    }
    for (_, node) in graph.nodes().rev() {
        if node.results().any(|v| needed[v.index()]) {
            node.operands.iter().for_each(|v| needed[v.index()] = true);
        }
    }
    needed.truncate(graph.params().len());
    needed
}

fn part(region: &Region, params: &[usize], outputs: &[usize]) -> Result<Region, PassError> {
    Ok(Arc::new(project(region, params, outputs)?))
}

fn becomes(kept: &[usize], count: usize, operand: impl Fn(usize) -> Option<usize>) -> Vec<Becomes> {
    let of = |i: usize| match (operand(i), kept.iter().position(|&k| k == i)) {
        (Some(operand), _) => Becomes::Operand(operand),
        (None, Some(at)) => Becomes::Result(at),
        (None, None) => Becomes::Nothing,
    };
    (0..count).map(of).collect()
}

fn is_identity(order: &[usize], count: usize) -> bool {
    order.len() == count && order.iter().enumerate().all(|(i, &o)| i == o)
}

/// The value of an index that is a constant.
fn index_of(graph: &Graph, v: Value) -> Option<i64> {
    match &graph.def_node(v)?.op {
        Op::Constant(c) => c.value.item().map(|l: Literal| l.to_f64() as i64),
        _ => None,
    }
}

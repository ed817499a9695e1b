//! Batching of loops and branches: their regions over a batch, and a loop or a branch again where that is possible.

use std::sync::Arc;

use lehr_ir::Dim;
use lehr_ir::graph::{Builder, ParamKind, Region, Value};
use lehr_ir::ops::{Case, CompareOp, Op, ReduceOp, Scan, While};
use smallvec::SmallVec;

use super::{BatchError, Bodies};

/// Which of several values have the batch dim.
type Flags = SmallVec<[bool; 4]>;
/// The results of an operation, and which of them have the batch dim.
type Batched = (SmallVec<[Value; 2]>, Flags);

impl Bodies {
    /// A loop or branch over a batch; `None` for operations that are no such.
    pub(super) fn control(
        &mut self,
        b: &mut Builder,
        op: &Op,
        operands: &[Value],
        flags: &[bool],
        size: &Dim,
    ) -> Result<Option<Batched>, BatchError> {
        match op {
            Op::Scan(scan) => self.scan(b, scan, operands, flags, size).map(Some),
            Op::While(l) => self.while_loop(b, l, operands, flags, size).map(Some),
            Op::Case(case) => self.case(b, case, operands, flags, size).map(Some),
            _ => Ok(None),
        }
    }

    /// Rows keep their axis in front, so the batch dim of what is scanned moves behind it, and back in what is stacked.
    fn scan(
        &mut self,
        b: &mut Builder,
        scan: &Scan,
        operands: &[Value],
        flags: &[bool],
        size: &Dim,
    ) -> Result<Batched, BatchError> {
        let fixed = scan.consts + scan.carries;
        let (body, flags, out) = self.carried(b, &scan.body, scan.consts, scan.carries, flags, size)?;
        let mut args: SmallVec<[Value; 4]> = operands.into();
        for (i, v) in args.iter_mut().enumerate().filter(|(i, _)| flags[*i]) {
            if i >= fixed {
                *v = swap_first(b, *v)?;
            } else if i >= scan.consts {
                *v = with_batch(b, *v, operands[i], &scan.body, i, size)?;
            }
        }
        let id = b.add_node(Scan { body, ..scan.clone() }.into(), &args)?;
        let mut results: SmallVec<[Value; 2]> = b.graph().node(id).results().collect();
        for (i, v) in results.iter_mut().enumerate().skip(scan.carries) {
            if out[i] {
                *v = swap_first(b, *v)?;
            }
        }
        Ok((results, out))
    }

    /// A condition that depends on the batch keeps the loop going until no example does; those that are through keep their values.
    fn while_loop(
        &mut self,
        b: &mut Builder,
        l: &While,
        operands: &[Value],
        flags: &[bool],
        size: &Dim,
    ) -> Result<Batched, BatchError> {
        let carries = l.carries();
        let (body, grown, out) = self.carried(b, &l.body, l.consts, carries, flags, size)?;
        let (cond, of_cond) = self.region_with(&l.cond, &grown, &[false], size, b)?;
        let (op, flags, out) = if of_cond[0] {
            // Every carry may stop at another iteration.
            let mut flags = grown;
            flags[l.consts..].fill(true);
            let body = self.region(&l.body, &flags, size, b)?;
            let cond = self.region(&l.cond, &flags, size, b)?;
            let op = While {
                cond: any_goes(&cond)?,
                body: step_of_those_that_go(&cond, &body, l.consts)?,
                consts: l.consts,
            };
            (op, flags, SmallVec::from_elem(true, carries))
        } else {
            (While { cond, body, consts: l.consts }, grown, out)
        };
        let mut args: SmallVec<[Value; 4]> = operands.into();
        for (i, v) in args.iter_mut().enumerate().skip(l.consts).filter(|(i, _)| flags[*i]) {
            *v = with_batch(b, *v, operands[i], &l.body, i, size)?;
        }
        let id = b.add_node(op.into(), &args)?;
        Ok((b.graph().node(id).results().collect(), out))
    }

    /// An index that is one for all examples stays a choice; else every branch runs and each example takes its own.
    fn case(
        &mut self,
        b: &mut Builder,
        case: &Case,
        operands: &[Value],
        flags: &[bool],
        size: &Dim,
    ) -> Result<Batched, BatchError> {
        let n = case.branches.first().map_or(0, |r| r.outputs().len());
        if !flags[0] {
            let mut out: SmallVec<[bool; 4]> = SmallVec::from_elem(false, n);
            for region in &case.branches {
                let (_, batched) = self.region_with(region, &flags[1..], &vec![false; n], size, b)?;
                out.iter_mut().zip(batched).for_each(|(o, is)| *o |= is);
            }
            let mut branches = SmallVec::new();
            for region in &case.branches {
                branches.push(self.region_with(region, &flags[1..], &out, size, b)?.0);
            }
            let id = b.add_node(Case { branches }.into(), operands)?;
            return Ok((b.graph().node(id).results().collect(), out));
        }
        let last = case.branches.len() - 1;
        let mut results: SmallVec<[Value; 2]> = SmallVec::new();
        for (i, region) in case.branches.iter().enumerate().rev() {
            let region = if flags[1..].contains(&true) {
                self.region(region, &flags[1..], size, b)?
            } else {
                Arc::clone(region)
            };
            let call = lehr_ir::ops::Call::new(region.name.clone(), region);
            let id = b.add_node(call.into(), &operands[1..])?;
            let mut outs: SmallVec<[Value; 2]> = b.graph().node(id).results().collect();
            if !flags[1..].contains(&true) {
                for v in &mut outs {
                    *v = add_batch(b, *v, size)?;
                }
            }
            if i == last {
                results = outs;
                continue;
            }
            // Indices below the first branch choose it, those above the last one that.
            let limit = b.full_like(operands[0], i as f64)?;
            let here = b.compare(if i == 0 { CompareOp::Le } else { CompareOp::Eq }, operands[0], limit)?;
            for (result, new) in results.iter_mut().zip(outs) {
                *result = choose(b, here, new, *result)?;
            }
        }
        Ok((results, SmallVec::from_elem(true, n)))
    }

    /// A loop's body over a batch, with what of its parameters and outputs is batched: a carry is if it becomes so in any
    /// iteration.
    fn carried(
        &mut self,
        b: &Builder,
        body: &Region,
        consts: usize,
        carries: usize,
        flags: &[bool],
        size: &Dim,
    ) -> Result<(Region, Flags, Flags), BatchError> {
        let mut flags: Flags = flags.into();
        loop {
            let mut must = vec![false; body.outputs().len()];
            must[..carries].copy_from_slice(&flags[consts..consts + carries]);
            let (region, out) = self.region_with(body, &flags, &must, size, b)?;
            if out[..carries] == flags[consts..consts + carries] {
                return Ok((region, flags, out));
            }
            flags[consts..consts + carries].copy_from_slice(&out[..carries]);
        }
    }
}

/// Whether any example goes on.
fn any_goes(cond: &Region) -> Result<Region, BatchError> {
    let mut b = Builder::with_graph(without_outputs(cond));
    let go = cond.outputs()[0].value;
    let any = b.reduce(ReduceOp::Any, go, &[0])?;
    b.output("go", any);
    Ok(b.into_region())
}

/// The new carries of the examples that go on, and the old ones of the others.
fn step_of_those_that_go(cond: &Region, body: &Region, consts: usize) -> Result<Region, BatchError> {
    let mut b = Builder::new(body.name.clone());
    b.set_facts(body.facts.clone());
    let params: Vec<Value> = body
        .params()
        .iter()
        .zip(body.param_types())
        .map(|(p, ty)| b.param(p.name.clone(), ParamKind::Input, ty.clone()))
        .collect();
    let go = b.inline(cond, &params)[0];
    let new = b.inline(body, &params);
    for (o, (&old, new)) in body.outputs().iter().zip(params[consts..].iter().zip(new)) {
        let v = choose(&mut b, go, new, old)?;
        b.output(o.name.clone(), v);
    }
    Ok(b.into_region())
}

/// The graph with the same nodes and no outputs.
fn without_outputs(graph: &Region) -> lehr_ir::Graph {
    let mut b = Builder::like(graph);
    for (_, node) in graph.nodes() {
        b.copy_node(graph, node, node.operands.clone());
    }
    b.finish()
}

/// `here ? x : y` by example, where `here` has the batch dim alone.
fn choose(b: &mut Builder, here: Value, x: Value, y: Value) -> Result<Value, BatchError> {
    let shape = b.ty(x).shape.clone();
    let here = if shape.len() == 1 { here } else { b.broadcast(here, &shape, &[0])? };
    Ok(b.select(here, x, y)?)
}

/// A carry's initial value, repeated if it has no batch dim and its later values have one.
fn with_batch(
    b: &mut Builder,
    v: Value,
    operand: Value,
    body: &Region,
    param: usize,
    size: &Dim,
) -> Result<Value, BatchError> {
    let one = body.ty(body.param_value(param)).rank();
    if b.ty(operand).rank() > one { Ok(v) } else { add_batch(b, v, size) }
}

fn add_batch(b: &mut Builder, v: Value, size: &Dim) -> Result<Value, BatchError> {
    let ty = b.ty(v).clone();
    let shape: Vec<Dim> = std::iter::once(size.clone()).chain(ty.shape.iter().cloned()).collect();
    let axes: Vec<usize> = (1..=ty.rank()).collect();
    Ok(b.broadcast(v, &shape, &axes)?)
}

/// The first two dims exchanged.
fn swap_first(b: &mut Builder, v: Value) -> Result<Value, BatchError> {
    let mut perm: Vec<usize> = (0..b.ty(v).rank()).collect();
    perm.swap(0, 1);
    Ok(b.transpose(v, &perm)?)
}

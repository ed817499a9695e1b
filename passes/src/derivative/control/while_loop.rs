//! Loops on a condition: forward mode only, as a loop over values and tangents.

use lehr_ir::graph::{Builder, Graph, Region, Value};
use lehr_ir::ops::{Partials, While};
use smallvec::SmallVec;

use super::super::calls::Bodies;
use super::super::error::Cause;
use super::super::extract::{Names, coerce};
use super::super::linearize::{Linearized, Request, linearize};
use super::{Linear, RegionBuilder, or_zeros, type_of};
use crate::inline_calls::with_outer_facts;

impl Bodies {
    /// The loop as it is, for the values, and one that carries the tangents along: its results that are values are not used, so
    /// that what does not depend on tangents stays apart from what does.
    pub(in super::super) fn linearize_while(
        &mut self,
        b: &mut Builder,
        l: &While,
        operands: &[Value],
        tangents: &[Option<Value>],
    ) -> Result<Linear, Cause> {
        let id = b.add_node(l.clone().into(), operands)?;
        let results: SmallVec<[Value; 2]> = b.graph().node(id).results().collect();
        let n = results.len();
        let body = with_outer_facts(&l.body, b.graph());
        let inexact: Vec<bool> = body.output_types().map(|ty| ty.dtype.is_inexact()).collect();
        let mut active: Vec<bool> = tangents.iter().map(Option::is_some).collect();
        let lin = loop {
            let request = Request { graph: &body, active: &active, order: None, outputs: &inexact, extra: Vec::new() };
            let lin = linearize(&request, self)?;
            let mut grown = false;
            for (i, o) in body.outputs().iter().enumerate().filter(|(i, _)| inexact[*i]) {
                grown |= lin.tangents[o.value.index()].is_some() && !std::mem::replace(&mut active[l.consts + i], true);
            }
            if !grown {
                break lin;
            }
        };
        let carries: Vec<usize> = (0..n).filter(|&i| active[l.consts + i]).collect();
        if carries.is_empty() {
            return Ok((results, SmallVec::from_elem(None, n)));
        }
        let const_tangents: Vec<Value> = tangents[..l.consts].iter().flatten().copied().collect();
        let mut args: Vec<Value> = operands[..l.consts].to_vec();
        args.extend(&const_tangents);
        args.extend(&operands[l.consts..]);
        for &i in &carries {
            let ty = type_of(b.graph(), operands[l.consts + i]);
            args.push(or_zeros(b, tangents[l.consts + i], &ty)?);
        }
        let joint = While {
            cond: cond(l, &body, &active),
            body: joint_body(l, &body, lin, &active)?,
            consts: l.consts + const_tangents.len(),
        };
        let id = b.add_node(joint.into(), &args)?;
        let all: Vec<Value> = b.graph().node(id).results().collect();
        let mut out: Partials = SmallVec::from_elem(None, n);
        for (k, &i) in carries.iter().enumerate() {
            out[i] = Some(all[n + k]);
        }
        Ok((results, out))
    }
}

/// Parameters in the order of the joint loop: consts, their tangents, carries, their tangents; and those of the values alone.
fn params(r: &mut RegionBuilder, l: &While, body: &Graph, active: &[bool]) -> (Vec<Value>, Vec<Value>) {
    let (mut values, mut tangents) = (Vec::new(), Vec::new());
    for range in [0..l.consts, l.consts..active.len()] {
        values.extend(r.params_of(body, range.clone()));
        for i in range.filter(|&i| active[i]) {
            let name = format!("{}.tangent", body.params()[i].name);
            tangents.push(r.param(&name, type_of(body, body.param_value(i))));
        }
    }
    (values, tangents)
}

fn cond(l: &While, body: &Graph, active: &[bool]) -> Region {
    let mut r = RegionBuilder::new(l.cond.name.clone(), &l.cond);
    let (values, _) = params(&mut r, l, body, active);
    let made = r.b.inline(&l.cond, &values);
    r.output("go", made[0]);
    r.finish()
}

fn joint_body(l: &While, body: &Graph, lin: Linearized, active: &[bool]) -> Result<Region, Cause> {
    let Linearized { mut sweep, primal, tangents: found, .. } = lin;
    let mut names = Names::default();
    for o in body.outputs() {
        sweep.b.output(super::unique(&o.name, &mut names), primal[o.value.index()]);
    }
    for (i, o) in body.outputs().iter().enumerate().filter(|(i, _)| active[l.consts + i]) {
        let ty = type_of(body, body.param_value(l.consts + i));
        let t = match found[o.value.index()] {
            Some(t) => coerce(&mut sweep.b, t, &ty)?,
            None => sweep.b.zeros(&ty)?,
        };
        sweep.b.output(super::unique(&format!("{}.tangent", o.name), &mut names), t);
    }
    // Its parameters are the values, then the tangents; the loop wants them in another order.
    let made = sweep.b.finish();
    let mut r = RegionBuilder::new(format!("{}.jvp", body.name), body);
    let (values, tangents) = params(&mut r, l, body, active);
    let args: Vec<Value> = values.into_iter().chain(tangents).collect();
    let outs = r.b.inline(&made, &args);
    for (o, &v) in made.outputs().iter().zip(&outs) {
        r.output(&o.name, v);
    }
    Ok(r.finish())
}

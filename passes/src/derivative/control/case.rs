//! Branches: a choice of forward branches that also give what the tangents need, and a choice of linear ones.

use lehr_ir::Type;
use lehr_ir::graph::{Builder, Region, Value};
use lehr_ir::ops::{Case, Partials};
use smallvec::SmallVec;

use super::super::calls::Bodies;
use super::super::error::Cause;
use super::super::split::Residual;
use super::{Linear, Parts, RegionBuilder, type_of};
use crate::inline_calls::with_outer_facts;

/// Where a linear branch finds a residual.
#[derive(Clone, Copy)]
enum Source {
    /// The operand at this position, the index not counted.
    Operand(usize),
    /// The result at this position.
    Result(usize),
    /// The slot at this position: a result of the forward choice, after the others.
    Slot(usize),
}

impl Bodies {
    pub(in super::super) fn linearize_case(
        &mut self,
        b: &mut Builder,
        case: &Case,
        operands: &[Value],
        tangents: &[Option<Value>],
        wanted: &[bool],
    ) -> Result<Linear, Cause> {
        let branches: Vec<Region> = case.branches.iter().map(|r| with_outer_facts(r, b.graph())).collect();
        let active: Vec<bool> = tangents[1..].iter().map(Option::is_some).collect();
        let parts = branches.iter().map(|r| self.parts(r, &active, wanted)).collect::<Result<Vec<_>, _>>()?;
        let n = branches[0].outputs().len();
        let varies: Vec<bool> = (0..n).map(|i| parts.iter().any(|p| p.tangents[i].is_some())).collect();

        let mut slots: Vec<Type> = Vec::new();
        let sources: Vec<Vec<Source>> = parts.iter().map(|p| sources(p, n, &mut slots)).collect();
        let op = if slots.is_empty() {
            case.clone()
        } else {
            let forward = |((r, p), s): ((&Region, &Parts), &Vec<Source>)| forward_branch(r, p, s, &slots);
            Case { branches: branches.iter().zip(&parts).zip(&sources).map(forward).collect::<Result<_, _>>()? }
        };
        let id = b.add_node(op.into(), operands)?;
        let all: Vec<Value> = b.graph().node(id).results().collect();
        let results: SmallVec<[Value; 2]> = all[..n].iter().copied().collect();
        let mut out: Partials = SmallVec::from_elem(None, n);
        if !varies.contains(&true) {
            return Ok((results, out));
        }

        // All linear branches take the same: operands and results that any of them needs, the slots, the tangents.
        let needs = |which: &dyn Fn(&Source) -> Option<usize>| {
            let mut all: Vec<usize> = sources.iter().flatten().filter_map(which).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let shared = Shared {
            operands: needs(&|s| if let Source::Operand(i) = s { Some(*i) } else { None }),
            results: needs(&|s| if let Source::Result(i) = s { Some(*i) } else { None }),
            slots: &slots,
            varies: &varies,
            active: &active,
        };
        let mut args = vec![operands[0]];
        args.extend(shared.operands.iter().map(|&i| operands[1 + i]));
        args.extend(shared.results.iter().map(|&i| all[i]));
        args.extend(&all[n..]);
        args.extend(tangents[1..].iter().flatten());
        let linear = |((r, p), s): ((&Region, &Parts), &Vec<Source>)| linear_branch(r, p, s, &shared);
        let op = Case { branches: branches.iter().zip(&parts).zip(&sources).map(linear).collect::<Result<_, _>>()? };
        let id = b.add_node(op.into(), &args)?;
        let mut lin = b.graph().node(id).results();
        for (t, _) in out.iter_mut().zip(&varies).filter(|(_, varies)| **varies) {
            *t = lin.next();
        }
        Ok((results, out))
    }

    pub(in super::super) fn transpose_case(
        &mut self,
        b: &mut Builder,
        case: &Case,
        operands: &[Value],
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, Cause> {
        let branches: Vec<Region> = case.branches.iter().map(|r| with_outer_facts(r, b.graph())).collect();
        let linear = &linear[1..];
        let given: Vec<bool> = cotangents.iter().map(Option::is_some).collect();
        let rules =
            branches.iter().map(|r| self.transposed(r, "case", linear, &given)).collect::<Result<Vec<_>, _>>()?;
        let found: Vec<usize> =
            (0..linear.len()).filter(|&i| rules.iter().any(|rule| rule.cotangents[i].is_some())).collect();
        let mut out: Partials = SmallVec::from_elem(None, operands.len());
        if found.is_empty() {
            return Ok(out);
        }
        let known: Vec<usize> = (0..linear.len()).filter(|&i| !linear[i]).collect();
        let mut transposed = SmallVec::new();
        for (region, rule) in branches.iter().zip(&rules) {
            let mut r = RegionBuilder::new(format!("{}.t", region.name.trim_end_matches(".lin")), region);
            let params = r.params_of(&rule.body, 0..rule.body.params().len());
            let made = r.b.inline(&rule.body, &params);
            for &i in &found {
                let ty = type_of(region, region.param_value(i));
                let name = format!("{}.grad", region.params()[i].name.trim_end_matches(".tangent"));
                r.output_or_zeros(&name, rule.cotangents[i].map(|at| made[at]), &ty)?;
            }
            transposed.push(r.finish());
        }
        let mut args = vec![operands[0]];
        args.extend(known.iter().map(|&i| operands[1 + i]));
        args.extend(cotangents.iter().flatten());
        let id = b.add_node(Case { branches: transposed }.into(), &args)?;
        for (&i, v) in found.iter().zip(b.graph().node(id).results()) {
            out[1 + i] = Some(v);
        }
        Ok(out)
    }
}

/// What all linear branches of a choice take and give.
struct Shared<'a> {
    operands: Vec<usize>,
    results: Vec<usize>,
    slots: &'a [Type],
    varies: &'a [bool],
    active: &'a [bool],
}

/// Where a branch's residuals are found; those that are neither operands nor results get slots, which branches share by type.
fn sources(parts: &Parts, n: usize, slots: &mut Vec<Type>) -> Vec<Source> {
    let mut taken = vec![false; slots.len()];
    let mut out = Vec::new();
    for residual in &parts.residuals {
        out.push(match *residual {
            Residual::Param(i) => Source::Operand(i),
            Residual::Output(o) if o < n => Source::Result(o),
            Residual::Output(o) => {
                let ty = parts.known.ty(parts.known.outputs()[o].value);
                let free = (0..slots.len()).find(|&s| !taken[s] && slots[s] == *ty);
                let slot = free.unwrap_or_else(|| {
                    slots.push(ty.clone());
                    taken.push(false);
                    slots.len() - 1
                });
                taken[slot] = true;
                Source::Slot(slot)
            }
        });
    }
    out
}

fn forward_branch(region: &Region, parts: &Parts, sources: &[Source], slots: &[Type]) -> Result<Region, Cause> {
    let mut r = RegionBuilder::new(format!("{}.fwd", region.name), region);
    let params = r.params_of(region, 0..region.params().len());
    let made = r.b.inline(&parts.known, &params);
    for (o, &v) in region.outputs().iter().zip(&made) {
        r.output(&o.name, v);
    }
    let mut values: Vec<Option<Value>> = vec![None; slots.len()];
    for (residual, source) in parts.residuals.iter().zip(sources) {
        if let (Residual::Output(o), Source::Slot(s)) = (*residual, *source) {
            values[s] = Some(made[o]);
        }
    }
    for (k, (value, ty)) in values.into_iter().zip(slots).enumerate() {
        r.output_or_zeros(&format!("r{k}"), value, ty)?;
    }
    Ok(r.finish())
}

fn linear_branch(region: &Region, parts: &Parts, sources: &[Source], shared: &Shared<'_>) -> Result<Region, Cause> {
    let mut r = RegionBuilder::new(format!("{}.lin", region.name), region);
    let operand = |i: usize| (region.params()[i].name.clone(), type_of(region, region.param_value(i)));
    let mut by_operand = vec![None; region.params().len()];
    for &i in &shared.operands {
        let (name, ty) = operand(i);
        by_operand[i] = Some(r.param(&name, ty));
    }
    let mut by_result = vec![None; region.outputs().len()];
    for &i in &shared.results {
        let o = &region.outputs()[i];
        by_result[i] = Some(r.param(&o.name, type_of(region, o.value)));
    }
    let by_slot: Vec<Value> =
        shared.slots.iter().enumerate().map(|(k, ty)| r.param(&format!("r{k}"), ty.clone())).collect();
    let mut args: Vec<Value> = Vec::new();
    for source in sources {
        let value = match *source {
            Source::Operand(i) => by_operand[i],
            Source::Result(i) => by_result[i],
            Source::Slot(i) => Some(by_slot[i]),
        };
        args.extend(value);
    }
    for i in (0..shared.active.len()).filter(|&i| shared.active[i]) {
        let (name, ty) = operand(i);
        args.push(r.param(&format!("{name}.tangent"), ty));
    }
    let made = r.b.inline(&parts.unknown, &args);
    for (i, o) in region.outputs().iter().enumerate().filter(|(i, _)| shared.varies[*i]) {
        let ty = type_of(region, o.value);
        r.output_or_zeros(&format!("{}.tangent", o.name), parts.tangents[i].map(|at| made[at]), &ty)?;
    }
    Ok(r.finish())
}

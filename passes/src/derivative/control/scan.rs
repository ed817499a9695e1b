//! Scans: a forward scan that stacks what the tangents need, a linear scan, and its transpose in the other direction.

use lehr_ir::graph::{Builder, Graph, Region, Value};
use lehr_ir::ops::{Partials, RuleError, Scan};
use smallvec::SmallVec;

use super::super::calls::Bodies;
use super::super::error::Cause;
use super::super::linearize::depends;
use super::super::split::Residual;
use super::{Linear, Parts, RegionBuilder, or_zeros, type_of};
use crate::inline_calls::with_outer_facts;

/// Where the linear body finds a residual.
enum Source {
    /// What every iteration sees: the operand at this position.
    Const(usize),
    /// A row: the operand at this position.
    Row(usize),
    /// A row of what the forward scan stacks: its result at this position.
    Stacked(usize),
}

impl Bodies {
    pub(in super::super) fn linearize_scan(
        &mut self,
        b: &mut Builder,
        scan: &Scan,
        operands: &[Value],
        tangents: &[Option<Value>],
        wanted: &[bool],
    ) -> Result<Linear, Cause> {
        let body = with_outer_facts(&scan.body, b.graph());
        let (active, parts) = self.scan_parts(scan, &body, tangents, wanted)?;
        let (forward, sources, extra) = forward_body(scan, &body, &parts);
        let n = body.outputs().len();
        let op = if extra { Scan { body: forward, ..scan.clone() } } else { scan.clone() };
        let id = b.add_node(op.into(), operands)?;
        let all: Vec<Value> = b.graph().node(id).results().collect();
        let results: SmallVec<[Value; 2]> = all[..n].iter().copied().collect();

        let carries: Vec<usize> = (0..scan.carries).filter(|&i| active[scan.consts + i]).collect();
        if parts.tangents.iter().all(Option::is_none) && carries.is_empty() {
            return Ok((results, SmallVec::from_elem(None, n)));
        }
        // Consts: residuals that do not change, tangents of consts. Carries: tangents. Rows: residuals, tangents of rows.
        let mut consts: Vec<Value> = Vec::new();
        let mut rows: Vec<Value> = Vec::new();
        for source in &sources {
            match *source {
                Source::Const(i) => consts.push(operands[i]),
                Source::Row(i) => rows.push(operands[i]),
                Source::Stacked(i) => rows.push(all[i]),
            }
        }
        let first_row = scan.consts + scan.carries;
        consts.extend(tangents[..scan.consts].iter().flatten());
        rows.extend(tangents[first_row..].iter().flatten());
        let count = consts.len();
        let mut args = consts;
        for &i in &carries {
            let at = scan.consts + i;
            let ty = type_of(b.graph(), operands[at]);
            args.push(or_zeros(b, tangents[at], &ty)?);
        }
        args.extend(rows);
        let linear = linear_body(scan, &body, &parts, &active, &sources)?;
        let op = Scan { body: linear, consts: count, carries: carries.len(), ..scan.clone() };
        let id = b.add_node(op.into(), &args)?;
        let lin: Vec<Value> = b.graph().node(id).results().collect();
        let mut out: Partials = SmallVec::from_elem(None, n);
        for (k, &i) in carries.iter().enumerate() {
            out[i] = Some(lin[k]);
        }
        let mut at = carries.len();
        for i in scan.carries..n {
            if parts.tangents[i].is_some() {
                out[i] = Some(lin[at]);
                at += 1;
            }
        }
        Ok((results, out))
    }

    /// Which parameters vary, carries through the iterations included, and the body in two parts.
    fn scan_parts(
        &mut self,
        scan: &Scan,
        body: &Region,
        tangents: &[Option<Value>],
        wanted: &[bool],
    ) -> Result<(Vec<bool>, Parts), Cause> {
        let mut active: Vec<bool> = tangents.iter().map(Option::is_some).collect();
        // What a carry's tangent is needed for shows only in later iterations, so all are asked for.
        let inexact = body.output_types().map(|ty| ty.dtype.is_inexact());
        let asked: Vec<bool> =
            inexact.enumerate().map(|(i, inexact)| inexact && (i < scan.carries || wanted[i])).collect();
        loop {
            let parts = self.parts(body, &active, &asked)?;
            let mut grown = false;
            for (i, tangent) in parts.tangents.iter().take(scan.carries).enumerate() {
                grown |= tangent.is_some() && !std::mem::replace(&mut active[scan.consts + i], true);
            }
            if !grown {
                return Ok((active, parts));
            }
        }
    }

    pub(in super::super) fn transpose_scan(
        &mut self,
        b: &mut Builder,
        scan: &Scan,
        operands: &[Value],
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, Cause> {
        let body = with_outer_facts(&scan.body, b.graph());
        let (nc, first_row) = (scan.consts, scan.consts + scan.carries);
        let linear = linear_params(scan, &body, linear);
        if linear[nc..first_row].contains(&false) {
            return Err(RuleError::Missing(
                "a scan that carries both what is linear in the tangents and what is not has no transpose; carry the \
                 others in a scan of their own"
                    .to_owned(),
            )
            .into());
        }
        // Rows of results without a cotangent have no part in this; carries have one in all iterations but the last.
        let given: Vec<bool> = (0..body.outputs().len()).map(|i| i < scan.carries || cotangents[i].is_some()).collect();
        let rule = self.transposed(&body, "scan", &linear, &given)?;

        let mut r = RegionBuilder::new(body_name(&body, ".t"), &body);
        let ty = |i: usize| type_of(&body, body.param_value(i));
        let base = |i: usize| body.params()[i].name.trim_end_matches(".tangent").to_owned();
        let of = |range: std::ops::Range<usize>, is: bool| range.filter(|&i| linear[i] == is).collect::<Vec<_>>();
        let (known, summed) = (of(0..nc, false), of(0..nc, true));
        let (known_rows, linear_rows) = (of(first_row..linear.len(), false), of(first_row..linear.len(), true));
        let known_values: Vec<Value> = known.iter().map(|&i| r.param(&base(i), ty(i))).collect();
        let carried: Vec<Value> = (nc..first_row).map(|i| r.param(&format!("{}.cotangent", base(i)), ty(i))).collect();
        let sums: Vec<Value> = summed.iter().map(|&i| r.param(&format!("{}.sum", base(i)), ty(i))).collect();
        let row_values: Vec<Value> = known_rows.iter().map(|&i| r.param(&base(i), ty(i))).collect();
        let mut cts: Vec<Value> = carried.clone();
        for (o, _) in body.outputs().iter().zip(&given).skip(scan.carries).filter(|(_, given)| **given) {
            let name = format!("{}.cotangent", o.name.trim_end_matches(".tangent"));
            cts.push(r.param(&name, type_of(&body, o.value)));
        }
        let args: Vec<Value> = known_values.into_iter().chain(row_values).chain(cts).collect();
        let made = r.b.inline(&rule.body, &args);
        let ct = |i: usize| rule.cotangents[i].map(|at| made[at]);
        for i in nc..first_row {
            r.output_or_zeros(&format!("{}.cotangent", base(i)), ct(i), &ty(i))?;
        }
        for (&i, &sum) in summed.iter().zip(&sums) {
            let sum = match ct(i) {
                Some(ct) => r.b.add(sum, ct)?,
                None => sum,
            };
            r.output(&format!("{}.sum", base(i)), sum);
        }
        let stacked: Vec<usize> = linear_rows.into_iter().filter(|&i| rule.cotangents[i].is_some()).collect();
        for &i in &stacked {
            r.output_or_zeros(&format!("{}.grad", base(i)), ct(i), &ty(i))?;
        }

        let mut args: Vec<Value> = known.iter().map(|&i| operands[i]).collect();
        for i in nc..first_row {
            let ty = type_of(b.graph(), operands[i]);
            args.push(or_zeros(b, cotangents[i - nc], &ty)?);
        }
        for &i in &summed {
            let ty = type_of(b.graph(), operands[i]);
            args.push(b.zeros(&ty)?);
        }
        args.extend(known_rows.iter().map(|&i| operands[i]));
        args.extend(cotangents[scan.carries..].iter().flatten());
        let op = Scan {
            body: r.finish(),
            consts: known.len(),
            carries: scan.carries + summed.len(),
            length: scan.length.clone(),
            reverse: !scan.reverse,
        };
        let id = b.add_node(op.into(), &args)?;
        let results: Vec<Value> = b.graph().node(id).results().collect();
        let mut out: Partials = SmallVec::from_elem(None, operands.len());
        let places = (nc..first_row).chain(summed).chain(stacked);
        for (i, &v) in places.zip(&results) {
            out[i] = Some(v);
        }
        Ok(out)
    }
}

/// The forward body: the region's outputs, then what is stacked; and where the linear body finds each residual.
///
/// The last value says whether it gives more than the region does.
fn forward_body(scan: &Scan, body: &Region, parts: &Parts) -> (Region, Vec<Source>, bool) {
    let n = body.outputs().len();
    let first_row = scan.consts + scan.carries;
    let mut r = RegionBuilder::new(body_name(body, ".fwd"), body);
    let params = r.params_of(body, 0..body.params().len());
    let made = r.b.inline(&parts.known, &params);
    for (o, &v) in body.outputs().iter().zip(&made) {
        r.output(&o.name, v);
    }
    let mut stacked = n;
    let mut sources = Vec::new();
    for (k, residual) in parts.residuals.iter().enumerate() {
        let value = match *residual {
            Residual::Param(i) if i < scan.consts => {
                sources.push(Source::Const(i));
                continue;
            }
            Residual::Param(i) if i >= first_row => {
                sources.push(Source::Row(i));
                continue;
            }
            // Already stacked.
            Residual::Output(o) if (scan.carries..n).contains(&o) => {
                sources.push(Source::Stacked(o));
                continue;
            }
            Residual::Param(i) => params[i],
            Residual::Output(o) => made[o],
        };
        r.output(&format!("r{k}"), value);
        sources.push(Source::Stacked(stacked));
        stacked += 1;
    }
    (r.finish(), sources, stacked > n)
}

/// The linear body, its parameters in a scan's order.
fn linear_body(
    scan: &Scan,
    body: &Region,
    parts: &Parts,
    active: &[bool],
    sources: &[Source],
) -> Result<Region, Cause> {
    let unknown = &parts.unknown;
    let m = parts.residuals.len();
    let first_row = scan.consts + scan.carries;
    let mut r = RegionBuilder::new(body_name(body, ".lin"), body);
    let residual = |r: &mut RegionBuilder, k: usize| r.params_of(unknown, k..k + 1)[0];
    let mut args: Vec<Value> = vec![Value(0); unknown.params().len()];
    for (k, _) in sources.iter().enumerate().filter(|(_, s)| matches!(s, Source::Const(_))) {
        args[k] = residual(&mut r, k);
    }
    // Tangents follow the residuals in the order of the parameters: consts, carries, rows.
    let tangents: Vec<usize> = (0..active.len()).filter(|&i| active[i]).collect();
    let tangent = |r: &mut RegionBuilder, args: &mut Vec<Value>, range: std::ops::Range<usize>| {
        for (k, _) in tangents.iter().enumerate().filter(|(_, i)| range.contains(i)) {
            args[m + k] = r.params_of(unknown, m + k..m + k + 1)[0];
        }
    };
    tangent(&mut r, &mut args, 0..scan.consts);
    tangent(&mut r, &mut args, scan.consts..first_row);
    for (k, _) in sources.iter().enumerate().filter(|(_, s)| !matches!(s, Source::Const(_))) {
        args[k] = residual(&mut r, k);
    }
    tangent(&mut r, &mut args, first_row..active.len());
    let made = r.b.inline(unknown, &args);
    for (i, o) in body.outputs().iter().enumerate() {
        let value = parts.tangents[i].map(|at| made[at]);
        if i < scan.carries {
            if active[scan.consts + i] {
                let ty = type_of(body, body.param_value(scan.consts + i));
                r.output_or_zeros(&format!("{}.tangent", o.name), value, &ty)?;
            }
        } else if let Some(v) = value {
            r.output(&format!("{}.tangent", o.name), v);
        }
    }
    Ok(r.finish())
}

/// For each parameter of a body, whether it depends on a linear operand: carries do through earlier iterations too.
fn linear_params(scan: &Scan, body: &Graph, operands: &[bool]) -> Vec<bool> {
    let mut linear = operands.to_vec();
    loop {
        let varies = depends(body, &linear);
        let mut grown = false;
        for (i, o) in body.outputs().iter().take(scan.carries).enumerate() {
            grown |= varies[o.value.index()] && !std::mem::replace(&mut linear[scan.consts + i], true);
        }
        if !grown {
            return linear;
        }
    }
}

fn body_name(body: &Graph, suffix: &str) -> String {
    let base = body.name.trim_end_matches(".lin");
    format!("{base}{suffix}")
}

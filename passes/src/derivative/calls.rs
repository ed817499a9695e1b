//! Derivatives of calls: of the body as a whole, made once for all calls that share it.

use std::rc::Rc;
use std::sync::Arc;

use lehr_ir::graph::{Builder, Graph, ParamKind, Region, Value};
use lehr_ir::ops::{Call, Op, Partials};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::DiffError;
use super::error::Cause;
use super::extract::{Cut, Names, NewParam, extract, unique};
use super::keep::{Keep, keep_of, open_kept};
use super::linearize::{Linearized, Request, Sweep, depends, linearize};
use super::own_vjp;
use super::split::{Residual, Side, split};
use super::transpose::transpose;
use crate::inline_calls::with_outer_facts;

/// What a call's rule depends on: the body, its own derivative, what varies and what is asked for.
type Key = (*const Graph, Option<*const Graph>, Keep, SmallVec<[bool; 8]>);

/// The derivatives of bodies made so far.
#[derive(Default)]
pub(super) struct Bodies {
    linear: FxHashMap<Key, Rc<Linear>>,
    transposed: FxHashMap<Key, Rc<Transposed>>,
    /// An address is only a key while its region lives.
    kept: Vec<Region>,
    /// Whether the linear part will be transposed, and is never run itself.
    reverse: bool,
}

/// A call, linearised.
struct Linear {
    /// The forward body where it gives more than the call itself does.
    forward: Option<Region>,
    /// From residuals and tangents to tangents.
    body: Region,
    /// Where the residuals come from: an operand, or a result of the forward call.
    residuals: Vec<Residual>,
    /// For each result of the call, the result of `body` that is its tangent.
    tangents: Vec<Option<usize>>,
}

/// A linear region, transposed.
pub(super) struct Transposed {
    /// From the parameters it is not linear in, and the cotangents, to cotangents.
    pub(super) body: Region,
    /// For each parameter, the result of `body` that is its cotangent.
    pub(super) cotangents: Vec<Option<usize>>,
}

impl Bodies {
    /// For a derivative in reverse mode.
    pub(super) fn reverse() -> Self {
        Self { reverse: true, ..Self::default() }
    }

    /// Emits a call and its linear part: the results and their tangents.
    pub(super) fn linearize(
        &mut self,
        b: &mut Builder,
        call: &Call,
        operands: &[Value],
        tangents: &[Option<Value>],
        wanted: &[bool],
    ) -> Result<(SmallVec<[Value; 2]>, Partials), Cause> {
        own_vjp::check_captured(call, tangents)?;
        if let Some(vjp) = &call.vjp {
            return own_vjp::linearize(b, call, vjp, operands, tangents, self.reverse);
        }
        let active: SmallVec<[bool; 8]> = tangents.iter().map(Option::is_some).collect();
        let rule = self.linear(b, call, &active, wanted)?;
        let n = call.body.outputs().len();
        let op = match &rule.forward {
            None => call.clone(),
            Some(body) => Call {
                name: format!("{}.fwd", call.name),
                attrs: call.attrs.clone(),
                body: Arc::clone(body),
                jvp: None,
                vjp: None,
            },
        };
        let forward = b.add_node(op.into(), operands)?;
        let all: SmallVec<[Value; 4]> = b.graph().node(forward).results().collect();
        let results = all[..n].into();
        if rule.tangents.iter().all(Option::is_none) {
            return Ok((results, SmallVec::from_elem(None, n)));
        }
        let mut args: SmallVec<[Value; 4]> = SmallVec::new();
        for r in &rule.residuals {
            args.push(match *r {
                Residual::Param(i) => operands[i],
                Residual::Output(i) => all[i],
            });
        }
        args.extend(tangents.iter().flatten().copied());
        let name = format!("{}.lin", call.name);
        let id = b.add_node(Call::new(name, Arc::clone(&rule.body)).into(), &args)?;
        let lin: SmallVec<[Value; 4]> = b.graph().node(id).results().collect();
        Ok((results, rule.tangents.iter().map(|t| t.map(|t| lin[t])).collect()))
    }

    /// Emits the transpose of a linear call: the operands' cotangents.
    pub(super) fn transpose(
        &mut self,
        b: &mut Builder,
        call: &Call,
        operands: &[Value],
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, Cause> {
        if let Some(vjp) = call.vjp.as_ref().filter(|v| v.fwd.is_none()) {
            return own_vjp::transpose(b, call, vjp, operands, linear, cotangents);
        }
        let given: SmallVec<[bool; 8]> = cotangents.iter().map(Option::is_some).collect();
        let rule = self.transposed(&call.body, &call.name, linear, &given)?;
        let known = operands.iter().zip(linear).filter(|(_, linear)| !**linear).map(|(&v, _)| v);
        let args: SmallVec<[Value; 4]> = known.chain(cotangents.iter().flatten().copied()).collect();
        if rule.cotangents.iter().all(Option::is_none) {
            return Ok(SmallVec::from_elem(None, operands.len()));
        }
        let name = format!("{}.t", call.name.strip_suffix(".lin").unwrap_or(&call.name));
        let id = b.add_node(Call::new(name, Arc::clone(&rule.body)).into(), &args)?;
        let results: SmallVec<[Value; 4]> = b.graph().node(id).results().collect();
        Ok(rule.cotangents.iter().map(|c| c.map(|c| results[c])).collect())
    }

    fn linear(&mut self, b: &Builder, call: &Call, active: &[bool], wanted: &[bool]) -> Result<Rc<Linear>, DiffError> {
        let keep = keep_of(call);
        let flags = active.iter().chain(wanted).copied().collect();
        let key = (Arc::as_ptr(&call.body), call.jvp.as_ref().map(Arc::as_ptr), keep.clone(), flags);
        if let Some(rule) = self.linear.get(&key) {
            return Ok(Rc::clone(rule));
        }
        let body = with_outer_facts(&call.body, b.graph());
        let (joint, tangents) = match &call.jvp {
            Some(jvp) => with_own_rule(call, &with_outer_facts(jvp, b.graph()), active, wanted)?,
            None => self.through_body(&body, active, wanted)?,
        };
        let joint = open_kept(joint, active.len(), &keep);
        let (joint, tangents) = without_zeros(joint, tangents, active.len())?;
        let known: Vec<bool> = (0..joint.params().len()).map(|i| i < active.len()).collect();
        let parts = split(&joint, &known, keep)?;
        let n = call.body.outputs().len();
        if parts.outputs[..n].iter().any(|side| matches!(side, Side::Unknown(_))) {
            // A derivative of the call's own whose results depend on the tangents.
            return Err(DiffError::NotLinear { op: call.name.clone(), loc: b.loc.clone() });
        }
        let more = parts.known.outputs().len() > n;
        let place = |at: usize| match parts.outputs[at] {
            Side::Unknown(i) => Some(i),
            Side::Known(_) => None,
        };
        let rule = Rc::new(Linear {
            forward: more.then(|| Arc::new(parts.known.named(format!("{}.fwd", call.body.name)))),
            body: Arc::new(parts.unknown.named(format!("{}.lin", call.body.name))),
            tangents: tangents.iter().map(|t| t.and_then(place)).collect(),
            residuals: parts.residuals,
        });
        self.keep(call);
        self.linear.insert(key, Rc::clone(&rule));
        Ok(rule)
    }

    /// The body with tangents of its active parameters: outputs are its own, then the tangents that there are,
    /// at the positions given for each of its outputs.
    fn through_body(
        &mut self,
        body: &Graph,
        active: &[bool],
        wanted: &[bool],
    ) -> Result<(Graph, Vec<Option<usize>>), DiffError> {
        let request = Request { graph: body, active, order: None, outputs: wanted, extra: Vec::new() };
        let Linearized { sweep, primal, tangents, .. } = linearize(&request, self)?;
        let of = |v: Value, wanted: bool| tangents[v.index()].filter(|_| wanted);
        let primal = body.outputs().iter().map(|o| primal[o.value.index()]).collect::<Vec<_>>();
        let tangents = body.outputs().iter().zip(wanted).map(|(o, &w)| of(o.value, w)).collect::<Vec<_>>();
        Ok(joint(sweep.b, body, &primal, &tangents))
    }

    /// The transpose of a region in its parameters that are `linear`, for cotangents of the outputs that are `given`.
    pub(super) fn transposed(
        &mut self,
        region: &Region,
        name: &str,
        linear: &[bool],
        given: &[bool],
    ) -> Result<Rc<Transposed>, DiffError> {
        let flags = linear.iter().chain(given).copied().collect();
        let key = (Arc::as_ptr(region), None, Keep::Used, flags);
        if let Some(rule) = self.transposed.get(&key) {
            return Ok(Rc::clone(rule));
        }
        let body = &**region;
        let (graph, cts) = with_cotangents(body, given);
        let mut flags = linear.to_vec();
        flags.resize(graph.params().len(), false);
        let mut sweep = Sweep::of(graph, &flags);
        let outputs = body.outputs().iter().zip(given).filter(|(_, given)| **given);
        let seeds: Vec<(Value, Value)> = outputs
            .zip(&cts)
            .map(|((o, _), &ct)| (shifted(body, o.value, cts.len()), ct))
            // An output that does not depend on a linear operand has no part in this.
            .filter(|(v, _)| sweep.linear[v.index()])
            .collect();
        let cotangents = transpose(&mut sweep, &seeds, None, self).map_err(|fault| {
            let all = vec![true; body.outputs().len()];
            let varies = depends(body, linear);
            super::error::locate(body, fault.at, fault.cause, &varies, &all)
        })?;
        let rule = Rc::new(gather(body, name, linear, &cts, sweep, &cotangents)?);
        self.kept.push(Arc::clone(region));
        self.transposed.insert(key, Rc::clone(&rule));
        Ok(rule)
    }

    fn keep(&mut self, call: &Call) {
        self.kept.push(Arc::clone(&call.body));
        self.kept.extend(call.jvp.clone());
    }
}

/// A graph with outputs: the primal ones, then the tangents that there are, with their positions.
fn joint(mut b: Builder, body: &Graph, primal: &[Value], tangents: &[Option<Value>]) -> (Graph, Vec<Option<usize>>) {
    let mut names = Names::default();
    for (o, &v) in body.outputs().iter().zip(primal) {
        b.output(unique(&o.name, &mut names), v);
    }
    let mut at = primal.len();
    let mut places = Vec::new();
    for (o, t) in body.outputs().iter().zip(tangents) {
        places.push(t.map(|t| {
            b.output(unique(&format!("{}.tangent", o.name), &mut names), t);
            at += 1;
            at - 1
        }));
    }
    (b.finish(), places)
}

/// A call's own derivative, for the tangents of some operands only: the others' are zeros.
fn with_own_rule(
    call: &Call,
    jvp: &Region,
    active: &[bool],
    wanted: &[bool],
) -> Result<(Graph, Vec<Option<usize>>), DiffError> {
    let n = call.body.params().len();
    let inexact: Vec<usize> = (0..n).filter(|&i| call.body.ty(call.body.param_value(i)).dtype.is_inexact()).collect();
    let mut b = Builder::new(call.body.name.clone());
    b.set_facts(jvp.facts.clone());
    let mut args: Vec<Value> = Vec::new();
    for (i, p) in jvp.params().iter().take(n).enumerate() {
        args.push(b.param(p.name.clone(), p.kind, jvp.ty(jvp.param_value(i)).clone()));
    }
    let mut zeros = Vec::new();
    for (k, &i) in inexact.iter().enumerate() {
        let value = jvp.param_value(n + k);
        if active[i] {
            args.push(b.param(jvp.params()[n + k].name.clone(), ParamKind::Input, jvp.ty(value).clone()));
        } else {
            // Its place; nodes come after all parameters.
            zeros.push((args.len(), jvp.ty(value).clone()));
            args.push(Value(0));
        }
    }
    for (at, ty) in zeros {
        args[at] = b.zeros(&ty)?;
    }
    let outputs = b.inline(jvp, &args);
    let m = call.body.outputs().len();
    let mut tangents = outputs[m..].iter().copied();
    let of_each: Vec<Option<Value>> = call
        .body
        .output_types()
        .zip(wanted)
        .map(|(ty, wanted)| if ty.dtype.is_inexact() { tangents.next().filter(|_| *wanted) } else { None })
        .collect();
    let (graph, places) = joint(b, &call.body, &outputs[..m], &of_each);
    Ok((open_mixed_calls(graph, n), places))
}

/// Leaves out the tangents that do not depend on the tangents' parameters, which start at `first`: they are zeros.
fn without_zeros(
    graph: Graph,
    mut tangents: Vec<Option<usize>>,
    first: usize,
) -> Result<(Graph, Vec<Option<usize>>), DiffError> {
    let flags: Vec<bool> = (0..graph.params().len()).map(|i| i >= first).collect();
    let varies = depends(&graph, &flags);
    let is_zero = |at: usize| !varies[graph.outputs()[at].value.index()];
    if !tangents.iter().flatten().any(|&at| is_zero(at)) {
        return Ok((graph, tangents));
    }
    let mut kept: Vec<usize> = (0..tangents.len()).collect();
    for t in &mut tangents {
        *t = t.filter(|&at| !is_zero(at));
        if let Some(at) = t {
            kept.push(*at);
            *at = kept.len() - 1;
        }
    }
    let outputs = kept.iter().map(|&i| (graph.outputs()[i].name.clone(), graph.outputs()[i].value)).collect();
    let params = graph
        .params()
        .iter()
        .zip(graph.param_values())
        .map(|(p, value)| NewParam { value, name: p.name.clone(), kind: p.kind, loc: p.loc.clone() })
        .collect();
    let cut = Cut { name: graph.name.clone(), params, outputs, updates: Vec::new(), recompute: None };
    Ok((extract(&graph, cut)?, tangents))
}

/// Puts calls in place that take tangents and give results that are none, so that each node is wholly linear or wholly not.
///
/// The parameters from `first` on are tangents.
fn open_mixed_calls(mut graph: Graph, first: usize) -> Graph {
    loop {
        let flags: Vec<bool> = (0..graph.params().len()).map(|i| i >= first).collect();
        let linear = depends(&graph, &flags);
        let mixed = |op: &Op, operands: &[Value]| {
            let Op::Call(call) = op else { return false };
            let inner: Vec<bool> = operands.iter().map(|v| linear[v.index()]).collect();
            let inside = depends(&call.body, &inner);
            inner.contains(&true) && call.body.outputs().iter().any(|o| !inside[o.value.index()])
        };
        if !graph.nodes().any(|(_, n)| mixed(&n.op, &n.operands)) {
            return graph;
        }
        let mut b = Builder::like(&graph);
        let mut map: Vec<Value> = graph.param_values().collect();
        for (_, node) in graph.nodes() {
            let args: SmallVec<[Value; 3]> = node.operands.iter().map(|v| map[v.index()]).collect();
            if let Op::Call(call) = &node.op
                && mixed(&node.op, &node.operands)
            {
                (b.loc, b.scope, b.tag) = (node.loc.clone(), node.scope, node.tag);
                map.extend(b.inline(&call.body, &args));
            } else {
                let id = b.copy_node(&graph, node, args);
                map.extend(b.graph().node(id).results());
            }
        }
        for o in graph.outputs() {
            b.output(o.name.clone(), map[o.value.index()]);
        }
        graph = b.finish();
    }
}

/// A body without outputs, with a parameter more for each cotangent given.
fn with_cotangents(body: &Graph, given: &[bool]) -> (Graph, Vec<Value>) {
    let mut b = Builder::like(body);
    let mut names: Names = body.params().iter().map(|p| p.name.clone()).collect();
    let mut cts = Vec::new();
    for (o, _) in body.outputs().iter().zip(given).filter(|(_, given)| **given) {
        let base = o.name.strip_suffix(".tangent").unwrap_or(&o.name);
        let name = unique(&format!("{base}.cotangent"), &mut names);
        cts.push(b.param(name, ParamKind::Input, body.ty(o.value).clone()));
    }
    for (_, node) in body.nodes() {
        let operands = node.operands.iter().map(|&v| shifted(body, v, cts.len())).collect();
        b.copy_node(body, node, operands);
    }
    (b.finish(), cts)
}

/// A value of a body after `more` parameters have been added to it.
fn shifted(body: &Graph, v: Value, more: usize) -> Value {
    if v.index() < body.params().len() { v } else { Value(v.0 + more as u32) }
}

/// The graph from the operands that a body is not linear in, and cotangents, to the cotangents of the others.
fn gather(
    body: &Graph,
    name: &str,
    linear: &[bool],
    cts: &[Value],
    sweep: Sweep,
    cotangents: &[Option<Value>],
) -> Result<Transposed, DiffError> {
    let graph = sweep.b.finish();
    let param = |v: Value| {
        let p = &graph.params()[v.index()];
        NewParam { value: v, name: p.name.clone(), kind: p.kind, loc: p.loc.clone() }
    };
    let known = body.param_values().zip(linear).filter(|(_, linear)| !**linear).map(|(v, _)| v);
    let params = known.chain(cts.iter().copied()).map(param).collect();
    let mut outputs = Vec::new();
    let mut names = Names::default();
    let mut places = Vec::new();
    for (v, _) in body.param_values().zip(linear) {
        let ct = cotangents[v.index()].filter(|_| linear[v.index()]);
        places.push(ct.map(|ct| {
            let base = &body.params()[v.index()].name;
            let base = base.strip_suffix(".tangent").unwrap_or(base);
            outputs.push((unique(&format!("{base}.grad"), &mut names), ct));
            outputs.len() - 1
        }));
    }
    let base = body.name.strip_suffix(".lin").unwrap_or(if body.name.is_empty() { name } else { &body.name });
    let cut = Cut { name: format!("{base}.t"), params, outputs, updates: Vec::new(), recompute: None };
    Ok(Transposed { body: Arc::new(extract(&graph, cut)?), cotangents: places })
}

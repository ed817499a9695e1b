//! A part of a graph as a graph of its own.

use lehr_ir::graph::{Builder, Graph, ParamKind, ScopeId, Value};
use lehr_ir::{Loc, OpError, Rule, Type};
use rustc_hash::{FxHashMap, FxHashSet};

use super::DiffError;
use crate::inline_calls::map_scope;
use crate::rebuild::Operands;

/// What to take out of a graph.
pub(super) struct Cut<'a> {
    /// The new graph's name.
    pub(super) name: String,
    /// The values that become parameters.
    pub(super) params: Vec<NewParam>,
    /// The values that become outputs, with their names.
    pub(super) outputs: Vec<(String, Value)>,
    /// The values that become updates, with the new graph's parameter.
    pub(super) updates: Vec<(u32, Value)>,
    /// The nodes that are computed a second time, and so get a tag.
    pub(super) recompute: Option<&'a [bool]>,
}

/// A value that becomes a parameter.
pub(super) struct NewParam {
    /// The value.
    pub(super) value: Value,
    /// The parameter's name.
    pub(super) name: String,
    /// Who gives it.
    pub(super) kind: ParamKind,
    /// The user's line.
    pub(super) loc: Loc,
}

/// The nodes that lie between the parameters and the outputs of a cut.
///
/// # Errors
/// [`DiffError::NotLinear`] if an output needs a parameter that the cut leaves out.
pub(super) fn extract(from: &Graph, cut: Cut<'_>) -> Result<Graph, DiffError> {
    let mut b = Builder::new(cut.name);
    b.set_facts(from.facts.clone());
    let mut map: Vec<Option<Value>> = vec![None; from.value_count()];
    for p in &cut.params {
        b.loc = p.loc.clone();
        let v = b.param(p.name.clone(), p.kind, from.ty(p.value).clone());
        map[p.value.index()] = Some(v);
    }
    let mut needed = vec![false; from.value_count()];
    let roots = cut.outputs.iter().map(|(_, v)| v).chain(cut.updates.iter().map(|(_, v)| v));
    for v in roots {
        needed[v.index()] = true;
    }
    let is_live = |node: &lehr_ir::graph::Node, needed: &[bool]| {
        node.results().any(|v| needed[v.index()] && map[v.index()].is_none())
    };
    let mut live = vec![false; from.node_count()];
    for (id, node) in from.nodes().rev() {
        if is_live(node, &needed) {
            live[id.index()] = true;
            for v in &node.operands {
                needed[v.index()] = true;
            }
        }
    }
    // Above the tags inside bodies too, or what is computed again would be merged with what a body computes again itself.
    let fresh = highest_tag(from, &mut FxHashMap::default()) + 1;
    let mut scopes = FxHashMap::default();
    for (id, node) in from.nodes().filter(|(id, _)| live[id.index()]) {
        let operands: Option<Operands> = node.operands.iter().map(|v| map[v.index()]).collect();
        let Some(operands) = operands else {
            return Err(DiffError::NotLinear { op: node.op.name().to_owned(), loc: node.loc.clone() });
        };
        b.loc = node.loc.clone();
        b.scope = map_scope(&mut b, from, node.scope, ScopeId::ROOT, &mut scopes);
        b.tag = if cut.recompute.is_some_and(|r| r[id.index()]) { fresh } else { node.tag };
        let types = node.results().map(|v| from.ty(v).clone()).collect();
        let new = b.push(node.op.clone(), operands, types);
        for (old, new) in node.results().zip(b.graph().node(new).results()) {
            map[old.index()].get_or_insert(new);
        }
    }
    let bound = |v: Value| {
        let unbound = || DiffError::NotLinear { op: "an output".to_owned(), loc: Loc::UNKNOWN };
        map[v.index()].ok_or_else(unbound)
    };
    for (name, v) in cut.outputs {
        b.output(name, bound(v)?);
    }
    for (param, v) in cut.updates {
        b.update(param, bound(v)?);
    }
    Ok(b.finish())
}

/// A region with some of its parameters and outputs, in another order.
pub(crate) fn project(region: &Graph, params: &[usize], outputs: &[usize]) -> Result<Graph, OpError> {
    let param = |&i: &usize| {
        let p = &region.params()[i];
        NewParam { value: region.param_value(i), name: p.name.clone(), kind: p.kind, loc: p.loc.clone() }
    };
    let output = |&i: &usize| (region.outputs()[i].name.clone(), region.outputs()[i].value);
    let cut = Cut {
        name: region.name.clone(),
        params: params.iter().map(param).collect(),
        outputs: outputs.iter().map(output).collect(),
        updates: Vec::new(),
        recompute: None,
    };
    extract(region, cut).map_err(|e| {
        let rule = Rule::new(e.to_string(), "report this as a defect of lehr");
        OpError::new("prune_regions", Vec::new(), rule, Loc::UNKNOWN)
    })
}

fn highest_tag(graph: &Graph, known: &mut FxHashMap<*const Graph, u32>) -> u32 {
    if let Some(&tag) = known.get(&std::ptr::from_ref(graph)) {
        return tag;
    }
    let mut highest = 0;
    for (_, node) in graph.nodes() {
        highest = highest.max(node.tag);
        for region in node.op.regions() {
            highest = highest.max(highest_tag(region, known));
        }
    }
    known.insert(std::ptr::from_ref(graph), highest);
    highest
}

/// The names that are taken.
pub(super) type Names = FxHashSet<String>;

/// A name that is not among `taken`, which it joins: `base`, or `base.2` and so on.
pub(super) fn unique(base: &str, taken: &mut Names) -> String {
    let mut name = base.to_owned();
    let mut n = 2;
    while taken.contains(&name) {
        name = format!("{base}.{n}");
        n += 1;
    }
    taken.insert(name.clone());
    name
}

/// A value of a type whose dims may be spelled differently, in this spelling.
pub(super) fn coerce(b: &mut Builder, v: Value, ty: &Type) -> Result<Value, OpError> {
    b.reshape(v, &ty.shape)
}

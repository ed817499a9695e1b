//! Makes a failing graph smaller while it fails, and writes it as a file that the suite can keep.

use std::collections::BTreeSet;
use std::fmt::Write;

use lehr::ir::graph::{Builder, Def, Graph, NodeId, ParamKind, Value};
use lehr::ir::{Array, DType, eval};

use crate::generate::Case;

/// The case without what no output and no update needs. Parameters that give symbols their sizes stay.
pub(crate) fn prune(case: &Case) -> Case {
    let all: Vec<usize> = (0..case.graph.outputs().len()).collect();
    rebuild(case, &all, true, &BTreeSet::new(), &[])
}

/// The smallest case found that still fails: fewer results, and parameters in place of nodes.
pub(crate) fn shrink(mut case: Case, fails: &dyn Fn(&Case) -> bool) -> Case {
    let none = BTreeSet::new();
    for _ in 0..8 {
        let before = weight(&case);
        let outputs = case.graph.outputs().len();
        let mut tries: Vec<Case> = (0..outputs).map(|o| rebuild(&case, &[o], false, &none, &[])).collect();
        tries.push(rebuild(&case, &[], true, &none, &[]));
        for without in 0..outputs {
            let rest: Vec<usize> = (0..outputs).filter(|&o| o != without).collect();
            tries.push(rebuild(&case, &rest, true, &none, &[]));
        }
        if let Some(better) = tries.into_iter().find(|t| weight(t) < before && fails(t)) {
            case = better;
            continue;
        }
        let Some(values) = every_value(&case) else { return case };
        let all: Vec<usize> = (0..outputs).collect();
        let mut cut = BTreeSet::new();
        for (id, _) in case.graph.nodes() {
            cut.insert(id);
            if !fails(&rebuild(&case, &all, true, &cut, &values)) {
                cut.remove(&id);
            }
        }
        case = rebuild(&case, &all, true, &cut, &values);
        if weight(&case) >= before {
            return case;
        }
    }
    case
}

fn weight(case: &Case) -> usize {
    3 * case.graph.node_count() + case.graph.outputs().len() + case.graph.updates().len()
}

/// Keeps some outputs, and the updates or not; the results of `cut` nodes become parameters.
fn rebuild(case: &Case, outputs: &[usize], updates: bool, cut: &BTreeSet<NodeId>, values: &[Array]) -> Case {
    let graph = &case.graph;
    let mut live = vec![false; graph.value_count()];
    for &o in outputs {
        live[graph.outputs()[o].value.index()] = true;
    }
    for u in graph.updates().iter().filter(|_| updates) {
        live[u.value.index()] = true;
        live[u.param as usize] = true;
    }
    for (i, p) in graph.params().iter().enumerate() {
        live[i] |= p.name.starts_with("size_");
    }
    for (id, node) in graph.nodes().rev() {
        if node.results().any(|v| live[v.index()]) && !cut.contains(&id) {
            node.results().for_each(|v| live[v.index()] = true);
            node.operands.iter().for_each(|v| live[v.index()] = true);
        }
    }
    let mut b = Builder::new("g");
    b.set_facts(graph.facts.clone());
    let (mut map, mut args) = (vec![Value(u32::MAX); graph.value_count()], Vec::new());
    for (i, p) in graph.params().iter().enumerate().filter(|(i, _)| live[*i]) {
        map[i] = b.param(p.name.clone(), p.kind, graph.ty(Value(i as u32)).clone());
        args.push(case.args[i].clone());
    }
    for (i, live) in live.iter().enumerate() {
        let v = Value(i as u32);
        if let (true, Def::Node(id, _)) = (live, graph.def(v))
            && cut.contains(&id)
        {
            map[i] = b.param(format!("cut_{i}"), ParamKind::Input, graph.ty(v).clone());
            args.push(values[i].clone());
        }
    }
    for (id, node) in graph.nodes() {
        if cut.contains(&id) || !node.results().any(|v| live[v.index()]) {
            continue;
        }
        let types = node.results().map(|v| graph.ty(v).clone()).collect();
        let new = b.push(node.op.clone(), node.operands.iter().map(|v| map[v.index()]).collect(), types);
        for (old, new) in node.results().zip(b.graph().node(new).results().collect::<Vec<_>>()) {
            map[old.index()] = new;
        }
    }
    for (i, &o) in outputs.iter().enumerate() {
        b.output(format!("o{i}"), map[graph.outputs()[o].value.index()]);
    }
    for u in graph.updates().iter().filter(|_| updates) {
        b.update(map[u.param as usize].0, map[u.value.index()]);
    }
    Case { graph: b.finish(), args }
}

/// What the evaluator gives for every value, in order.
fn every_value(case: &Case) -> Option<Vec<Array>> {
    let bindings = eval::bind(&case.graph, &case.args).ok()?;
    let mut values = case.args.clone();
    for (_, node) in case.graph.nodes() {
        let operands: Vec<&Array> = node.operands.iter().map(|v| &values[v.index()]).collect();
        let results = eval::evaluate_op(&node.op, &operands, &bindings).ok()?;
        values.extend(results);
    }
    Some(values)
}

/// The case as a graph file, its arrays in the header.
pub(crate) fn text(case: &Case) -> String {
    let mut out = String::new();
    for (p, a) in case.graph.params().iter().zip(&case.args) {
        let _ = write!(out, "; {}: {:?}", p.name, a.shape());
        for i in 0..a.len() {
            if let Some(l) = a.data().get(i) {
                let _ = write!(out, " {l}");
            }
        }
        out.push('\n');
    }
    out + &case.graph.to_string()
}

/// The arrays that a file's header gives for its graph's parameters.
pub(crate) fn args(graph: &Graph, header: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Array>, String> {
    let param = |name: &str, dtype: DType| -> Option<Array> {
        let line = header(name)?;
        let (shape, elements) = line.trim().strip_prefix('[')?.split_once(']')?;
        let shape: Vec<usize> =
            shape.split(',').filter(|s| !s.trim().is_empty()).map(|s| s.trim().parse().ok()).collect::<Option<_>>()?;
        let mut array = Array::zeros(dtype, &shape);
        let words: Vec<&str> = elements.split_whitespace().collect();
        if words.len() != array.len() {
            return None;
        }
        for (i, word) in words.iter().enumerate() {
            array.make_mut().set(i, lehr::ir::Literal::parse(dtype, word)?)?;
        }
        Some(array)
    };
    let params = graph.params().iter().zip(graph.param_types());
    params.map(|(p, ty)| param(&p.name, ty.dtype).ok_or_else(|| format!("no array for `{}`", p.name))).collect()
}

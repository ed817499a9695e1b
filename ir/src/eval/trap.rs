//! Where a NaN comes from: the graph once more, node by node, up to the first that makes one.

use smallvec::SmallVec;

use super::regions::find_in_regions;
use super::{EvalCx, EvalError, at, last_uses};
use crate::array::Array;
use crate::bindings::Bindings;
use crate::graph::{Def, Graph, Value};
use crate::loc::Loc;
use crate::ops::Op;

/// The first value with a NaN that was not made from another one.
#[derive(Clone, PartialEq, Debug)]
pub struct Origin {
    /// The operation that made it, or `input` for an argument.
    pub op: String,
    /// The node, or the argument's name, as dumps write it.
    pub name: String,
    /// The user's line.
    pub loc: Loc,
    /// How many of its elements are NaN, and of how many.
    pub count: (usize, usize),
    /// The operands, each with its least and greatest element.
    pub operands: Vec<(String, [f64; 2])>,
}

/// Whether an array of floats has a NaN.
pub fn has_nan(a: &Array) -> bool {
    count_nan(a) > 0
}

fn count_nan(a: &Array) -> usize {
    if let Some(x) = a.as_slice::<f32>() {
        return x.iter().filter(|x| x.is_nan()).count();
    }
    if let Some(x) = a.as_slice::<f64>() {
        return x.iter().filter(|x| x.is_nan()).count();
    }
    if !a.dtype().is_float() {
        return 0;
    }
    (0..a.len()).filter(|&i| a.data().get(i).is_some_and(|x| x.to_f64().is_nan())).count()
}

/// Evaluates a graph on arrays that are known to fit, and finds where the NaN of its first output or update that has one comes from;
/// `None` if none has one.
///
/// A NaN that is selected away is no cause. Calls, branches and the iteration of a loop that makes the first NaN are looked into, so
/// that the node is one that the user wrote.
///
/// # Errors
/// As the evaluation of its operations.
pub fn first_nan(graph: &Graph, args: &[Array], bindings: &Bindings) -> Result<Option<Origin>, EvalError> {
    let mut origins = Vec::new();
    let causes = trace(graph, args, bindings, &Loc::UNKNOWN, &mut origins)?;
    let found = graph.roots().find_map(|v| causes[v.index()]);
    Ok(found.map(|i| origins.swap_remove(i)))
}

/// For each value with a NaN, the earliest origin that it depends on through values with NaN.
fn trace(
    graph: &Graph,
    args: &[Array],
    bindings: &Bindings,
    outer: &Loc,
    origins: &mut Vec<Origin>,
) -> Result<Vec<Option<usize>>, EvalError> {
    let cx = EvalCx { bindings };
    let last = last_uses(graph);
    let mut values: Vec<Option<Array>> = vec![None; graph.value_count()];
    let mut causes: Vec<Option<usize>> = vec![None; graph.value_count()];
    for ((v, p), a) in graph.param_values().zip(graph.params()).zip(args) {
        if has_nan(a) {
            causes[v.index()] = Some(origins.len());
            let loc = if p.loc.is_known() { &p.loc } else { outer };
            origins.push(origin("input", p.name.clone(), loc, a, Vec::new()));
        }
        values[v.index()] = Some(a.clone());
    }
    let missing = || EvalError::Count { graph: graph.name.clone(), want: graph.params().len(), got: args.len() };
    for (id, node) in graph.nodes() {
        let operands: Option<Vec<Array>> = node.operands.iter().map(|v| values[v.index()].clone()).collect();
        let operands = operands.ok_or_else(missing)?;
        let refs: SmallVec<[&Array; 4]> = operands.iter().collect();
        let results = node.op.story().eval(&cx, &refs).map_err(|e| at(e, &node.loc))?;
        let loc = if node.loc.is_known() { &node.loc } else { outer };
        let known = node.operands.iter().filter_map(|v| causes[v.index()]).min();
        for (v, a) in node.results().zip(&results).filter(|(_, a)| has_nan(a)) {
            if known.is_some() {
                causes[v.index()] = known;
                continue;
            }
            causes[v.index()] = inside(&node.op, &operands, bindings, loc, origins)?;
            causes[v.index()].get_or_insert_with(|| {
                let around = node.operands.iter().zip(&operands).map(|(&v, a)| (name(graph, v), range(a))).collect();
                origins.push(origin(node.op.name(), name(graph, v), loc, a, around));
                origins.len() - 1
            });
        }
        for (v, a) in node.results().zip(results) {
            values[v.index()] = Some(a);
        }
        for v in node.operands.iter().filter(|v| last[v.index()] == Some(id)) {
            values[v.index()] = None;
        }
    }
    Ok(causes)
}

/// The origin inside an operation that holds regions, whose operands have no NaN and whose results have; `None` for other operations.
fn inside(
    op: &Op,
    operands: &[Array],
    bindings: &Bindings,
    loc: &Loc,
    origins: &mut Vec<Origin>,
) -> Result<Option<usize>, EvalError> {
    find_in_regions(op, operands, bindings, |turn| {
        if turn.outputs.is_some_and(|out| !out.iter().any(has_nan)) {
            return Ok(None);
        }
        let causes = trace(turn.region, turn.args, bindings, loc, origins)?;
        Ok(turn.region.roots().find_map(|v| causes[v.index()]))
    })
}

fn origin(op: &str, name: String, loc: &Loc, a: &Array, operands: Vec<(String, [f64; 2])>) -> Origin {
    Origin { op: op.to_owned(), name, loc: loc.clone(), count: (count_nan(a), a.len()), operands }
}

fn name(graph: &Graph, v: Value) -> String {
    match graph.def(v) {
        Def::Param(i) => graph.params()[i as usize].name.clone(),
        // As text numbers them: results only.
        Def::Node(..) => format!("%{}", v.index() - graph.params().len()),
    }
}

fn range(a: &Array) -> [f64; 2] {
    let each = (0..a.len()).filter_map(|i| a.data().get(i)).map(|x| x.to_f64());
    each.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
}

//! Which index is out of range: the part of a graph that indices depend on, once more.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::regions::find_in_regions;
use super::{EvalCx, EvalError, at};
use crate::array::Array;
use crate::bindings::Bindings;
use crate::graph::{Graph, Node, NodeId};
use crate::loc::Loc;
use crate::ops::Op;

/// An index at which a window of its operand does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexFault {
    /// The operation: `gather` or `scatter`.
    pub op: String,
    /// The user's line.
    pub loc: Loc,
    /// The index.
    pub index: i64,
    /// Where it stands among the index vectors.
    pub position: Vec<usize>,
    /// The dim of the operand that it is for.
    pub dim: usize,
    /// The size of that dim.
    pub size: usize,
    /// The size of the window along it.
    pub window: usize,
}

/// The part of a graph that has to be evaluated to look at all indices.
#[derive(Debug)]
pub struct IndexWatch {
    /// For each node, whether indices depend on it.
    needed: Vec<bool>,
    /// For nodes that hold regions with indices, the parts of these, in order.
    inside: FxHashMap<NodeId, SmallVec<[Option<IndexWatch>; 2]>>,
}

impl IndexWatch {
    /// The part of this graph; `None` if no index of it can be out of range.
    pub fn of(graph: &Graph) -> Option<Self> {
        let mut watch = Self { needed: vec![false; graph.node_count()], inside: FxHashMap::default() };
        let mut wanted = vec![false; graph.value_count()];
        let mut any = false;
        let all: Vec<(NodeId, &Node)> = graph.nodes().collect();
        for &(id, node) in all.iter().rev() {
            let regions: SmallVec<[Option<Self>; 2]> = match &node.op {
                // Its other regions are rules that do not run.
                Op::Call(call) => SmallVec::from_iter([Self::of(&call.body)]),
                op => op.regions().into_iter().map(|r| Self::of(r)).collect(),
            };
            let holds = regions.iter().any(Option::is_some);
            if holds {
                watch.inside.insert(id, regions);
            }
            if node.results().any(|v| wanted[v.index()]) {
                watch.needed[id.index()] = true;
            }
            let watched = vectors(&node.op).is_some();
            any |= watched || holds;
            if watch.needed[id.index()] || holds {
                node.operands.iter().for_each(|v| wanted[v.index()] = true);
            } else if watched {
                wanted[node.operands[1].index()] = true;
            }
        }
        any.then_some(watch)
    }

    /// The first index that is out of range when the graph runs on these arguments, which are known to fit.
    ///
    /// # Errors
    /// As the evaluation of what indices depend on.
    pub fn first(&self, graph: &Graph, args: &[Array], bindings: &Bindings) -> Result<Option<IndexFault>, EvalError> {
        let cx = EvalCx { bindings };
        let mut values: Vec<Option<Array>> = vec![None; graph.value_count()];
        for (v, a) in graph.param_values().zip(args) {
            values[v.index()] = Some(a.clone());
        }
        let missing = || EvalError::Count { graph: graph.name.clone(), want: graph.params().len(), got: args.len() };
        for (id, node) in graph.nodes() {
            if let Some(windows) = vectors(&node.op) {
                let indices = values[node.operands[1].index()].as_ref().ok_or_else(missing)?;
                let operand = cx.sizes(&graph.ty(node.operands[0]).shape)?;
                let sizes = match &node.op {
                    Op::Gather(g) => cx.sizes(&g.slice_sizes)?,
                    _ => {
                        let updates = cx.sizes(&graph.ty(node.operands[2]).shape)?;
                        scatter_windows(&node.op, operand.len(), &updates)
                    }
                };
                if let Some(fault) = misfit(&node.op, windows, indices, &operand, &sizes) {
                    return Ok(Some(IndexFault { loc: node.loc.clone(), ..fault }));
                }
            }
            let inside = self.inside.get(&id);
            if !self.needed[id.index()] && inside.is_none() {
                continue;
            }
            let operands: Option<Vec<Array>> = node.operands.iter().map(|v| values[v.index()].clone()).collect();
            let operands = operands.ok_or_else(missing)?;
            if let Some(regions) = inside
                && let Some(mut fault) = find_in_regions(&node.op, &operands, bindings, |turn| {
                    let watch = regions.get(turn.which).and_then(Option::as_ref);
                    watch.map_or(Ok(None), |watch| watch.first(turn.region, turn.args, bindings))
                })?
            {
                if !fault.loc.is_known() {
                    fault.loc = node.loc.clone();
                }
                return Ok(Some(fault));
            }
            if self.needed[id.index()] {
                let refs: SmallVec<[&Array; 4]> = operands.iter().collect();
                let results = node.op.story().eval(&cx, &refs).map_err(|e| at(e, &node.loc))?;
                for (v, a) in node.results().zip(results) {
                    values[v.index()] = Some(a);
                }
            }
        }
        Ok(None)
    }
}

/// The dims of the operand that the entries of an operation's index vectors are for.
fn vectors(op: &Op) -> Option<&[usize]> {
    match op {
        Op::Gather(g) => Some(&g.start_index_map),
        Op::Scatter(s) => Some(&s.scatter_dims_to_operand_dims),
        _ => None,
    }
}

fn scatter_windows(op: &Op, rank: usize, updates: &[usize]) -> crate::array::Sizes {
    match op {
        Op::Scatter(s) => s.window_sizes(rank, updates, &1).into_iter().collect(),
        _ => crate::array::Sizes::from_elem(1, rank),
    }
}

fn misfit(op: &Op, map: &[usize], indices: &Array, operand: &[usize], sizes: &[usize]) -> Option<IndexFault> {
    let batch = &indices.shape()[..indices.rank().checked_sub(1)?];
    (0..indices.len()).find_map(|i| {
        let dim = map[i % map.len()];
        // What i64 cannot hold is beyond any size.
        let index = indices.data().get(i)?.to_i64().unwrap_or(i64::MAX);
        let fits =
            usize::try_from(index).is_ok_and(|at| at.checked_add(sizes[dim]).is_some_and(|end| end <= operand[dim]));
        (!fits).then(|| IndexFault {
            op: op.name().to_owned(),
            loc: Loc::UNKNOWN,
            index,
            position: super::walk::unravel(i / map.len(), batch).to_vec(),
            dim,
            size: operand[dim],
            window: sizes[dim],
        })
    })
}

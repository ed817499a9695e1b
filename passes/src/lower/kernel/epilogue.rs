//! Maps as epilogues of contractions: kernels over a row and a range of columns.

use lehr_ir::Facts;
use lehr_ir::dim::Dim;
use lehr_ir::graph::{NodeId, Value};
use lehr_ir::kernel::{AxisKind, Kernel};
use lehr_ir::plan::{BufferId, Epilogue};
use smallvec::SmallVec;

use super::GroupKernel;
use crate::fuse::Group;
use crate::lower::Lowerer;
use crate::lower::body::Body;
use crate::lower::domain::{self, Axis, collapse, product, unflatten};

/// The member of a map whose result takes the place of a product of the same type.
///
/// It is computed from the product, so that no backend can move the load of the product behind the store over it.
pub(in crate::lower) fn epilogue_result(l: &Lowerer<'_>, group: &Group, product: Value) -> Option<Value> {
    let ty = l.graph.ty(product);
    let mut from_product: SmallVec<[NodeId; 16]> = SmallVec::new();
    for &m in &group.members {
        let node = l.graph.node(m);
        let depends = node.operands.iter().any(|&v| match l.behind(v) {
            Some((id, v)) => v == product || from_product.contains(&id),
            None => false,
        });
        if depends {
            if let Some(v) = node.results().find(|&v| l.needed[v.index()] && l.graph.ty(v) == ty) {
                return Some(v);
            }
            from_product.push(m);
        }
    }
    None
}

/// A map as a kernel over rows and a range of columns, the last `columns` dims of its domain; `None` if it is none of that kind.
pub(in crate::lower) fn epilogue<'a>(
    l: &mut Lowerer<'a>,
    g: u32,
    group: &'a Group,
    columns: usize,
) -> Option<(Kernel, Vec<BufferId>)> {
    let k = GroupKernel::new(l, g, group);
    if k.is_void() {
        return None;
    }
    let uses = k.trial(l);
    let rank = group.domain.len();
    let last: SmallVec<[usize; 4]> = (rank - columns.min(rank)..rank).collect();
    // Rows and columns stay apart as if columns were folded.
    let walked = collapse(&group.domain, &last, &uses, &l.axes);
    let mut wide = walked.iter().filter(|a| a.reduced && !a.extent.is_one());
    if k.atoms.get() || wide.next().is_none() || wide.next().is_some() {
        return None;
    }
    let (p, j) = (l.loops.parallel.clone(), l.loops.lane.clone());
    let size = |name: &str| Dim::symbol(name).unwrap_or(Dim::ZERO);
    let (first, extent) = (size(Epilogue::FIRST_COLUMN), size(Epilogue::COLUMNS));
    let outer: SmallVec<[&Axis; 4]> = walked.iter().filter(|a| !a.reduced).collect();
    let mut rows = unflatten(&p.at, &outer).into_iter();
    let column = |a: &Axis| if a.extent.is_one() { Dim::ZERO } else { &first + &j.at };
    let at: Vec<Dim> = walked.iter().filter_map(|a| if a.reduced { Some(column(a)) } else { rows.next() }).collect();
    let index = domain::index(rank, &walked, &at);
    let inside = k.inside();
    let mut body = Body::new(k.graph, l, &inside, Facts::default());
    body.open(&j.symbol);
    k.map_body(&mut body, &index);
    body.close(&j.symbol, AxisKind::Lane, extent, Vec::new());
    let (kernel, buffers) = body.finish(k.name(), &p.symbol, product(outer.iter().copied()), k.locs());
    (kernel.sizes.len() <= Epilogue::MOST_SIZES && kernel.tiles.is_empty()).then_some((kernel, buffers))
}

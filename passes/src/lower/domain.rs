//! The loops of a group: which axes of its domain become one, and which expression stands for each.

use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::{Facts, Shape};
use smallvec::SmallVec;

use super::body::Uses;
use crate::views::Axes;

/// A run of adjacent axes of the domain that is walked as one.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The number of its indices.
    pub(super) extent: Dim,
    /// The last axis of the domain in it; the others are read at 0.
    pub(super) last: usize,
    /// Whether it is reduced.
    pub(super) reduced: bool,
}

/// Joins adjacent axes, both reduced or neither, wherever every use moves through them as through one.
pub(super) fn collapse(domain: &Shape, reduced: &[usize], uses: &Uses, axes: &Axes) -> SmallVec<[Axis; 4]> {
    let mut out: SmallVec<[Axis; 4]> = SmallVec::new();
    for (i, d) in domain.iter().enumerate() {
        let is_reduced = reduced.contains(&i);
        // A dim of size 1 is read at 0, and would make poor lanes.
        if reduced.is_empty() && d.is_one() {
            continue;
        }
        if let Some(before) = out.last_mut()
            && before.reduced == is_reduced
            && joins(axes.symbol(before.last), axes.symbol(i), d, uses)
        {
            before.extent = &before.extent * d;
            before.last = i;
            continue;
        }
        out.push(Axis { extent: d.clone(), last: i, reduced: is_reduced });
    }
    out
}

/// Whether `outer*size + inner` stands for both axes in every use.
pub(super) fn joins(outer: &Symbol, inner: &Symbol, size: &Dim, uses: &Uses) -> bool {
    let pinned = uses.pinned.iter().any(|d| d.mentions(outer) || d.mentions(inner));
    !pinned
        && uses.flat.iter().all(|d| {
            let (Some((a, _)), Some((b, rest))) = (d.split_linear(outer), d.split_linear(inner)) else { return false };
            // Products of the two axes would show in the coefficients.
            !a.mentions(inner) && !b.mentions(outer) && a == &b * size && !rest.mentions(inner)
        })
}

/// What is known inside the loops: each axis is within its extent.
pub(super) fn facts_of(facts: &Facts, domain: &Shape, axes: &Axes) -> Facts {
    let mut known = facts.clone();
    for (i, d) in domain.iter().enumerate() {
        // A range that contradicts itself is that of an empty loop; nothing is to be known of what never runs.
        let _ = known.range(axes.symbol(i), Dim::from(0), d.clone());
    }
    known
}

/// The index of the domain when each axis of `walked` stands at `at`.
pub(super) fn index(rank: usize, walked: &[Axis], at: &[Dim]) -> Shape {
    let mut index: Shape = SmallVec::from_elem(Dim::from(0), rank);
    for (axis, d) in walked.iter().zip(at) {
        index[axis.last] = d.clone();
    }
    index
}

/// Splits the index of a flat loop over `axes` into their indices.
pub(super) fn unflatten(flat: &Dim, axes: &[&Axis]) -> SmallVec<[Dim; 4]> {
    let mut out: SmallVec<[Dim; 4]> = SmallVec::from_elem(flat.clone(), axes.len());
    let mut rest = flat.clone();
    for (i, axis) in axes.iter().enumerate().rev() {
        if i == 0 {
            out[0] = rest.clone();
        } else {
            out[i] = rest.modulo(&axis.extent);
            rest = rest.floordiv(&axis.extent);
        }
    }
    out
}

/// The product of extents.
pub(super) fn product<'a>(axes: impl IntoIterator<Item = &'a Axis>) -> Dim {
    axes.into_iter().fold(Dim::from(1), |n, a| &n * &a.extent)
}

/// The axes of generated loops, made once.
#[derive(Clone, Debug)]
pub(super) struct LoopAxes {
    /// The parallel axis.
    pub(super) parallel: LoopAxis,
    /// The axis over vector lanes, and the innermost reduced one.
    pub(super) lane: LoopAxis,
    /// The reduced axes around it.
    pub(super) reduced: Vec<LoopAxis>,
}

/// The axis of a loop, as a symbol and as an index.
#[derive(Clone, Debug)]
pub(super) struct LoopAxis {
    pub(super) symbol: Symbol,
    pub(super) at: Dim,
}

impl LoopAxes {
    pub(super) fn new() -> Self {
        Self { parallel: axis("_p"), lane: axis("_j"), reduced: (0..6).map(|i| axis(&format!("_r{i}"))).collect() }
    }

    /// The reduced axis at this depth.
    pub(super) fn reduced(&mut self, depth: usize) -> LoopAxis {
        while self.reduced.len() <= depth {
            let next = axis(&format!("_r{}", self.reduced.len()));
            self.reduced.push(next);
        }
        self.reduced[depth].clone()
    }
}

fn axis(name: &str) -> LoopAxis {
    // The names above are all valid spellings.
    let at = Dim::symbol(name).unwrap_or(Dim::ZERO);
    let symbol = Symbol::new(name).unwrap_or_else(|_| unreachable!("`{name}` is a symbol"));
    LoopAxis { symbol, at }
}

//! Padding by rows: filled, then copied under one condition a row, so that wide code has no lane to ask.

use lehr_ir::dim::Dim;
use lehr_ir::graph::Node;
use lehr_ir::kernel::{AxisKind, Guard};
use lehr_ir::ops::Op;
use lehr_ir::{Facts, Shape};
use smallvec::SmallVec;

use super::GroupKernel;
use crate::lower::Lowerer;
use crate::lower::body::{Body, Uses};
use crate::lower::domain::{self, Axis, LoopAxis};
use crate::views::padded_index;

/// A `pad` whose last dims are one row in memory, of its result and of its operand.
pub(super) struct PaddedRuns<'a> {
    node: &'a Node,
    /// The first of these dims: the innermost that is padded.
    first: usize,
    /// Elements of a row of the result, and of the operand.
    run: Dim,
    inner: Dim,
}

impl<'a> GroupKernel<'a> {
    /// A group that is one `pad` without holes in its last dims, where the operand's last dims move as one.
    pub(super) fn padded_runs(&self, l: &mut Lowerer<'a>) -> Option<PaddedRuns<'a>> {
        let [m] = self.group.members[..] else { return None };
        let node = self.graph.node(m);
        let Op::Pad(pad) = &node.op else { return None };
        let (from, to) = (&self.graph.ty(node.operands[0]).shape, &self.group.domain);
        let padded = |i: &usize| !pad.low[*i].is_zero() || !pad.high[*i].is_zero() || pad.interior[*i] > 0;
        let first = (0..to.len()).rev().find(padded)?;
        let (run, inner) = (product(&to[first..]), product(&from[first..]));
        let grows = |d: &Dim| d.as_const().is_some_and(|n| n >= 0);
        let simple = pad.interior[first] == 0 && grows(&pad.low[first]) && grows(&pad.high[first]);
        // A long row is cut for the threads, which a map over lanes does.
        let short = run.as_const().is_some_and(|n| n <= 2 * l.target.map_chunk);
        if !simple || !short || first == 0 || self.atoms.get() || !self.moves_as_one(l, node, from, first) {
            return None;
        }
        Some(PaddedRuns { node, first, run, inner })
    }

    /// Whether one index goes through the operand's dims from `first` on, as the operand is read here.
    fn moves_as_one(&self, l: &mut Lowerer<'a>, node: &Node, shape: &[Dim], first: usize) -> bool {
        let inside = self.inside();
        let index: Shape = l.axes.index(shape.len()).iter().cloned().collect();
        let mut body = Body::new(self.graph, l, &inside, Facts::default());
        body.uses = Some(Uses::default());
        body.value(node.operands[0], &index);
        let uses = body.uses.take().unwrap_or_default();
        (first..shape.len() - 1).all(|i| domain::joins(l.axes.symbol(i), l.axes.symbol(i + 1), &shape[i + 1], &uses))
    }

    /// Rows of padding, then the operand's rows into those that are inside: no lane has a condition of its own.
    pub(super) fn pad_by_runs(&self, l: &mut Lowerer<'a>, pad: &PaddedRuns<'a>) {
        let PaddedRuns { node, first, run, inner } = pad;
        let Op::Pad(attrs) = &node.op else { return };
        let (p, j) = (l.loops.parallel.clone(), l.loops.lane.clone());
        let outer = self.group.domain[..*first].iter().enumerate();
        let outer: Vec<Axis> = outer.map(|(i, d)| Axis { extent: d.clone(), last: i, reduced: false }).collect();
        let iterations = domain::product(&outer);
        let facts = self.facts(&[(&p, &iterations), (&j, run)]);
        let at = domain::unflatten(&p.at, &outer.iter().collect::<SmallVec<[&Axis; 4]>>());
        // Where a row starts, and where the operand's first element lands in it.
        let rank = self.group.domain.len();
        let mut start = domain::index(rank, &outer, &at);
        let mut inside = start.clone();
        inside[*first] = attrs.low[*first].clone();
        let Some((mut from, guard)) = padded_index(self.graph, node, &inside) else { return };
        let guard = Guard(guard.0.into_iter().filter(|d| d.as_const().is_none_or(|n| n < 0)).collect());
        start[rank - 1] = &start[rank - 1] + &j.at;
        inside[rank - 1] = &inside[rank - 1] + &j.at;
        from[*first..].fill(Dim::from(0));
        from[rank - 1] = j.at.clone();

        let group = self.inside();
        let mut body = Body::new(self.graph, l, &group, facts);
        self.fill_and_copy(&mut body, node, [(&start, run), (&inside, inner)], &from, (&p, &j, guard));
        let (kernel, buffers) = body.finish(self.name(), &p.symbol, iterations, self.locs());
        l.launch(kernel, buffers, self.reason("padding by rows"));
    }

    /// A group that is one `pad` whose rows of lanes are inside the operand or outside as a whole: the node, where it reads, and
    /// under which condition.
    pub(super) fn padded_rows(&self, index: &[Dim], lane: &LoopAxis) -> Option<(&'a Node, Shape, Guard)> {
        let [m] = self.group.members[..] else { return None };
        let node = self.graph.node(m);
        let (at, guard) = padded_index(self.graph, node, index)?;
        let even = !guard.is_always() && !guard.0.iter().any(|d| d.mentions(&lane.symbol)) && !self.atoms.get();
        even.then_some((node, at, guard))
    }

    /// Rows of padding, then rows of the operand over those that are inside: no lane has a condition of its own.
    pub(super) fn pad_rows(
        &self,
        body: &mut Body<'_, Lowerer<'a>>,
        node: &'a Node,
        index: &[Dim],
        at: &[Dim],
        guard: Guard,
        (p, j, extent): (&LoopAxis, &LoopAxis, &Dim),
    ) {
        let own = self.member_index(self.group.members[0], index);
        self.fill_and_copy(body, node, [(&own, extent), (&own, extent)], at, (p, j, guard));
    }

    /// A row of padding, and where the guard holds, the elements of the operand from `from` on over it; each row with its index and
    /// extent.
    fn fill_and_copy(
        &self,
        body: &mut Body<'_, Lowerer<'a>>,
        node: &'a Node,
        [(row, extent), (inside, inner)]: [(&[Dim], &Dim); 2],
        from: &[Dim],
        (p, j, guard): (&LoopAxis, &LoopAxis, Guard),
    ) {
        let store = |body: &mut Body<'_, Lowerer<'a>>, (value, read), at: &[Dim], extent: &Dim| {
            let (memory, flat) = self.output(body, node.result(), at);
            body.open(&j.symbol);
            let element = body.value(value, read);
            body.store(memory, flat, element);
            body.close(&j.symbol, AxisKind::Lane, extent.clone(), Vec::new());
        };
        store(body, (node.operands[1], &[]), row, extent);
        let always = guard.is_always();
        if !always {
            body.open_if(&p.symbol);
        }
        store(body, (node.operands[0], from), inside, inner);
        if !always {
            body.close_if(guard);
        }
    }
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::from(1), |n, d| &n * d)
}

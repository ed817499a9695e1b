//! Kernels of groups: a map, a fold over the innermost axis (rows), or a fold over outer axes (columns).
//!
//! - A *map* walks its domain flat where it can, in chunks of a fixed size, over threads and lanes.
//! - *Rows*: one iteration of the parallel loop is one row of the axes that stay; each phase is a loop over the reduced axes,
//!   with the innermost over virtual lanes. A fold of very many elements to very few is split in two kernels.
//! - *Columns*: the innermost axis stays, so it is the lane axis; accumulators lie in tiles, and the reduced axes are walked
//!   outside it, row by row, so that memory is read in order.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{NodeId, Value};
use lehr_ir::kernel::{Access, AxisKind, Combiner, Memory, Reduction, ScalarOp, Var};
use lehr_ir::ops::MapEmitter;
use lehr_ir::{Facts, Literal, Loc, Shape};
use smallvec::SmallVec;

use super::Lowerer;
use super::body::{Body, Kept, Surroundings, Uses};
use super::domain::{self, Axis, LoopAxis, collapse, product, unflatten};
use super::fold_of;
use super::phases::{self, Level, Phases};
use crate::fuse::{Group, Lie};
use crate::views::flat_index;

mod epilogue;
mod pad;

pub(super) use epilogue::{epilogue, epilogue_result};

/// Lowers one group to one kernel, or two.
pub(super) fn lower_group<'a>(l: &mut Lowerer<'a>, g: u32, group: &'a Group) {
    let k = GroupKernel::new(l, g, group);
    if k.is_void() {
        // Buffers without elements are as good as written.
        return;
    }
    if group.reduced.iter().any(|&a| group.domain[a].is_zero()) {
        return k.neutral(l);
    }
    let uses = k.trial(l);
    let walked = collapse(&group.domain, &group.reduced, &uses, &l.axes);
    if group.reduced.is_empty() {
        match k.padded_runs(l) {
            Some(pad) => k.pad_by_runs(l, &pad),
            None => k.map(l, &walked),
        }
    } else if walked.last().is_some_and(|a| !a.reduced) {
        k.columns(l, &walked);
    } else if let Some(split) = k.split(l, &walked) {
        k.split_rows(l, &walked, split);
    } else {
        k.rows(l, &walked);
    }
}

struct GroupKernel<'a> {
    g: u32,
    group: &'a Group,
    phases: Phases,
    fusion: &'a crate::fuse::Fusion,
    graph: &'a lehr_ir::Graph,
    /// Whether index maps need facts to be simplified.
    atoms: std::cell::Cell<bool>,
}

/// How a large fold is split: partial results per remaining index.
struct Split {
    partials: i64,
}

impl<'a> GroupKernel<'a> {
    fn new(l: &Lowerer<'a>, g: u32, group: &'a Group) -> Self {
        let phases = phases::order(l.graph, group, &l.fusion.embeddings);
        Self { g, group, phases, fusion: l.fusion, graph: l.graph, atoms: std::cell::Cell::new(false) }
    }

    /// Whether nothing it gives has an element.
    fn is_void(&self) -> bool {
        (0..self.group.domain.len()).any(|a| self.group.domain[a].is_zero() && !self.group.reduced.contains(&a))
    }

    /// Folds over nothing give their neutral elements; what follows them is computed as ever.
    fn neutral(&self, l: &mut Lowerer<'a>) {
        let inside = self.inside();
        let p = l.loops.parallel.clone();
        let walked: Vec<Axis> = (0..self.group.domain.len())
            .filter(|a| !self.group.reduced.contains(a))
            .map(|a| Axis { extent: self.group.domain[a].clone(), last: a, reduced: false })
            .collect();
        let outer: SmallVec<[&Axis; 4]> = walked.iter().collect();
        let at = unflatten(&p.at, &outer);
        let index = domain::index(self.group.domain.len(), &walked, &at);
        let iterations = product(&walked);
        let facts = self.facts(&[(&p, &iterations)]);
        let needed: Vec<NodeId> = self.group.members.iter().copied().filter(|&m| self.is_needed(l, m)).collect();
        let mut body = Body::new(self.graph, l, &inside, facts);
        for &m in &self.group.members {
            let node = self.graph.node(m);
            if let Some(combiner) = fold_of(node) {
                let identity = combiner.identity(self.graph.ty(node.result()).dtype);
                for (v, value) in node.results().zip(identity) {
                    let var = body.literal(value);
                    body.keep(v, Kept::Var(var));
                }
            }
            if self.phases.slots[&m].level != Level::Full && needed.contains(&m) {
                self.store_results(&mut body, m, &index);
            }
        }
        let (kernel, buffers) = body.finish(self.name(), &p.symbol, iterations, self.locs());
        l.launch(kernel, buffers, self.reason("folded over nothing"));
    }

    fn inside(&self) -> impl Fn(NodeId) -> bool + use<'a> {
        let (fusion, g) = (self.fusion, self.g);
        move |id| fusion.group_of[id.index()] == Some(g)
    }

    /// Writes every member once at an index over the domain's own axes, to see how memory is walked.
    fn trial(&self, l: &mut Lowerer<'a>) -> Uses {
        let uses = self.trial_with(l, Facts::default());
        let has_atom =
            |d: &Dim| d.terms().iter().any(|t| t.factors().iter().any(|f| matches!(f, lehr_ir::dim::Factor::Atom(_))));
        if !uses.flat.iter().any(has_atom) {
            return uses;
        }
        self.atoms.set(true);
        let facts = domain::facts_of(&self.graph.facts, &self.group.domain, &l.axes);
        self.trial_with(l, facts)
    }

    fn trial_with(&self, l: &mut Lowerer<'a>, facts: Facts) -> Uses {
        let inside = self.inside();
        let index: Shape = l.axes.index(self.group.domain.len()).iter().cloned().collect();
        let needed: Vec<bool> = self.group.members.iter().map(|&m| self.is_needed(l, m)).collect();
        let mut body = Body::new(self.graph, l, &inside, facts);
        body.uses = Some(Uses::default());
        for (&m, needed) in self.group.members.iter().zip(needed) {
            let node = self.graph.node(m);
            if fold_of(node).is_some() {
                let v = body.value(node.operands[0], &index);
                if node.results().len() > 1
                    && let Some(u) = &mut body.uses
                {
                    // The position along the axis is part of the result.
                    u.pinned.extend(self.group.reduced.iter().map(|&a| index[a].clone()));
                }
                for (r, value) in node.results().enumerate() {
                    let kept = if r == 0 { v } else { body.literal(Literal::from(0i64)) };
                    body.keep(value, Kept::Var(kept));
                }
            }
            if needed {
                self.store_results(&mut body, m, &index);
            }
        }
        body.uses.take().unwrap_or_default()
    }

    fn is_needed(&self, l: &Lowerer<'_>, m: NodeId) -> bool {
        self.graph.node(m).results().any(|v| l.needed[v.index()])
    }

    /// The index of a member for an index of the domain.
    fn member_index(&self, m: NodeId, index: &[Dim]) -> Shape {
        let lies = &self.fusion.embeddings[m.index()];
        lies.iter().map(|l| if let Lie::Axis(a) = l { index[*a].clone() } else { Dim::from(0) }).collect()
    }

    /// Stores what other steps need of a member.
    fn store_results(&self, body: &mut Body<'_, Lowerer<'a>>, m: NodeId, index: &[Dim]) {
        let at = self.member_index(m, index);
        for v in self.graph.node(m).results() {
            if body.around.needed[v.index()] {
                let value = body.value(v, &at);
                let (memory, flat) = self.output(body, v, &at);
                body.store(memory, flat, value);
            }
        }
    }

    fn output(&self, body: &mut Body<'_, Lowerer<'a>>, v: Value, at: &[Dim]) -> (Memory, Dim) {
        let ty = self.graph.ty(v);
        let buffer = body.around.buffer(v);
        let memory = body.bind(buffer, ty.dtype, Access::Write);
        (memory, flat_index(&ty.shape, at))
    }

    fn facts(&self, axes: &[(&LoopAxis, &Dim)]) -> Facts {
        if !self.atoms.get() {
            return Facts::default();
        }
        let mut facts = self.graph.facts.clone();
        for (axis, extent) in axes {
            // An empty loop's facts do not matter.
            let _ = facts.range(&axis.symbol, Dim::from(0), (*extent).clone());
        }
        facts
    }

    fn name(&self) -> String {
        let graph = self.graph;
        let mut names: Vec<&str> = Vec::new();
        for &m in &self.group.members {
            let node = graph.node(m);
            let name: &str = match fold_of(node) {
                Some(c) => c.name(),
                None => node.op.name(),
            };
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        if names.len() > 4 {
            let last = names[names.len() - 1];
            return format!("{}_{}_to_{last}", names[0], names[1]);
        }
        names.join("_")
    }

    fn locs(&self) -> Vec<Loc> {
        locs(self.graph, self.group)
    }

    fn reason(&self, shape: &str) -> String {
        let mut text = format!("{} operations, {shape}", self.group.members.len());
        for r in &self.group.reasons {
            text.push_str("; ");
            text.push_str(r);
        }
        text
    }

    fn map(&self, l: &mut Lowerer<'a>, walked: &[Axis]) {
        let inside = self.inside();
        let (p, j) = (l.loops.parallel.clone(), l.loops.lane.clone());
        let rank = self.group.domain.len();
        let Some((inner, outer)) = walked.split_last() else {
            let mut body = Body::new(self.graph, l, &inside, Facts::default());
            self.map_body(&mut body, &domain::index(rank, &[], &[]));
            let (kernel, buffers) = body.finish(self.name(), &p.symbol, Dim::from(1), self.locs());
            return l.launch(kernel, buffers, self.reason("a scalar"));
        };
        let outer: SmallVec<[&Axis; 4]> = outer.iter().collect();
        let chunks = Chunks::of(&inner.extent, l.target.map_chunk, outer.is_empty());
        let (at, extent, iterations) = chunks.place(&p.at, &j.at, &outer, inner);
        let index = domain::index(rank, walked, &at);
        let facts = self.facts(&[(&p, &iterations), (&j, &extent)]);
        let mut body = Body::new(self.graph, l, &inside, facts);
        if let Some((node, at, guard)) = self.padded_rows(&index, &j) {
            self.pad_rows(&mut body, node, &index, &at, guard, (&p, &j, &extent));
        } else {
            body.open(&j.symbol);
            self.map_body(&mut body, &index);
            body.close(&j.symbol, AxisKind::Lane, extent, Vec::new());
        }
        let (kernel, buffers) = body.finish(self.name(), &p.symbol, iterations, self.locs());
        l.launch(kernel, buffers, self.reason("elementwise"));
    }

    fn map_body(&self, body: &mut Body<'_, Lowerer<'a>>, index: &[Dim]) {
        for &m in &self.group.members {
            self.store_results(body, m, index);
        }
    }

    /// The members of a level and phase.
    fn at(&self, level: Level, phase: u32) -> impl Iterator<Item = NodeId> {
        let slots = &self.phases.slots;
        self.group.members.iter().copied().filter(move |m| slots[m].level == level && slots[m].phase == phase)
    }

    fn rows(&self, l: &mut Lowerer<'a>, walked: &[Axis]) {
        let inside = self.inside();
        let p = l.loops.parallel.clone();
        let outer: SmallVec<[&Axis; 4]> = walked.iter().filter(|a| !a.reduced).collect();
        let inner: SmallVec<[&Axis; 4]> = walked.iter().filter(|a| a.reduced).collect();
        let loops = self.reduced_loops(l, inner.len());
        let mut outer_at = unflatten(&p.at, &outer).into_iter();
        let mut inner_at = loops.iter().map(|a| a.at.clone());
        let at: Vec<Dim> =
            walked.iter().filter_map(|a| if a.reduced { inner_at.next() } else { outer_at.next() }).collect();
        let index = domain::index(self.group.domain.len(), walked, &at);
        let iterations = product(outer.iter().copied());
        let mut ranges: Vec<(&LoopAxis, &Dim)> = vec![(&p, &iterations)];
        ranges.extend(loops.iter().zip(&inner).map(|(a, x)| (a, &x.extent)));
        let facts = self.facts(&ranges);
        let lanes = l.target.reduce_lanes;
        let needed: Vec<NodeId> = self.group.members.iter().copied().filter(|&m| self.is_needed(l, m)).collect();
        let kept = phases::to_keep(self.graph, self.group, &self.phases, &|m| needed.contains(&m));
        let row_len = product(inner.iter().copied()).as_const().and_then(|n| u32::try_from(n).ok());
        let tile_limit = u64::from(l.target.max_tile_bytes);
        let mut result = if l.target.rows_in_results { self.last_result(&needed) } else { None };
        let mut body = Body::new(self.graph, l, &inside, facts);
        for phase in 0..=self.phases.count {
            for m in self.at(Level::Outer, phase) {
                if needed.contains(&m) {
                    self.store_results(&mut body, m, &index);
                }
            }
            if phase == self.phases.count {
                break;
            }
            for a in &loops {
                body.open(&a.symbol);
            }
            let mut reductions = self.fold_values(&mut body, phase, &index);
            let mut keep_later: Vec<(Value, Kept)> = Vec::new();
            for m in self.at(Level::Full, phase) {
                if needed.contains(&m) {
                    self.store_results(&mut body, m, &index);
                }
            }
            for &(m, _) in kept.iter().filter(|(_, first)| *first == phase) {
                let v = self.graph.node(m).result();
                let at = self.member_index(m, &index);
                if body.around.needed[v.index()] && self.phases.slots[&m].phase == phase {
                    let (memory, flat) = self.output(&mut body, v, &at);
                    keep_later.push((v, Kept::Memory(memory, flat)));
                } else if phase + 1 < self.phases.count
                    && let Some(last) = result.take_if(|last| self.graph.ty(*last).dtype == self.graph.ty(v).dtype)
                {
                    let value = body.value(v, &at);
                    let (memory, flat) = self.output(&mut body, last, &index);
                    body.store(memory, flat.clone(), value);
                    keep_later.push((v, Kept::Memory(memory, flat)));
                } else if let Some(len) = row_len
                    && body.tile_bytes() + u64::from(len) * self.graph.ty(v).dtype.size() as u64 <= tile_limit
                {
                    let value = body.value(v, &at);
                    let tile = body.tile(self.graph.ty(v).dtype, len);
                    let extents: Vec<Dim> = inner.iter().map(|a| a.extent.clone()).collect();
                    let ats: Vec<Dim> = loops.iter().map(|a| a.at.clone()).collect();
                    let flat = flat_index(&extents, &ats);
                    body.store(tile, flat.clone(), value);
                    keep_later.push((v, Kept::Memory(tile, flat)));
                }
            }
            let folds = !reductions.is_empty();
            for (depth, (a, x)) in loops.iter().zip(&inner).enumerate().rev() {
                let innermost = depth + 1 == loops.len();
                let kind = match (folds, innermost) {
                    (true, true) => AxisKind::Reduce(lanes),
                    (true, false) => AxisKind::Reduce(1),
                    (false, true) => AxisKind::Lane,
                    (false, false) => AxisKind::Serial,
                };
                let around = if depth > 0 && folds { self.chain(&mut body, &reductions) } else { Vec::new() };
                let own = std::mem::replace(&mut reductions, around);
                let results: Vec<SmallVec<[Var; 2]>> = own.iter().map(|r| r.results.clone()).collect();
                body.close(&a.symbol, kind, x.extent.clone(), own);
                if depth == 0 && folds {
                    for (m, vars) in self.at(Level::Fold, phase).zip(results) {
                        for (v, var) in self.graph.node(m).results().zip(vars) {
                            body.keep(v, Kept::Var(var));
                        }
                    }
                }
            }
            for (v, k) in keep_later {
                body.keep(v, k);
            }
            for m in self.at(Level::Fold, phase) {
                if needed.contains(&m) {
                    self.store_results(&mut body, m, &index);
                }
            }
        }
        let (kernel, buffers) = body.finish(self.name(), &p.symbol, iterations, self.locs());
        l.launch(kernel, buffers, self.reason("folded along rows"));
    }

    /// The result that the last loops of all store, and nothing else with it: until then its memory is free. It lies as the domain does,
    /// so that each iteration has an element of its own.
    fn last_result(&self, needed: &[NodeId]) -> Option<Value> {
        let last = self.phases.count.checked_sub(1)?;
        let stored = |m: &NodeId| self.phases.slots[m].level == Level::Full && needed.contains(m);
        let mut all = self.group.members.iter().copied().filter(stored);
        let (m, None) = (all.next()?, all.next()) else { return None };
        let folds = self.at(Level::Fold, last).next().is_some();
        let alone = self.phases.slots[&m].phase == last && !folds && self.graph.node(m).results().len() == 1;
        let lies = &self.fusion.embeddings[m.index()];
        let as_domain = lies.len() == self.group.domain.len()
            && lies.iter().enumerate().all(|(d, lie)| matches!(lie, Lie::Axis(a) if *a == d));
        (alone && as_domain).then(|| self.graph.node(m).result())
    }

    fn reduced_loops(&self, l: &mut Lowerer<'a>, n: usize) -> Vec<LoopAxis> {
        let lane = l.loops.lane.clone();
        (0..n).map(|i| if i + 1 == n { lane.clone() } else { l.loops.reduced(i) }).collect()
    }

    /// What each fold of a phase takes in, at an index.
    fn fold_values(&self, body: &mut Body<'_, Lowerer<'a>>, phase: u32, index: &[Dim]) -> Vec<Reduction> {
        let mut out = Vec::new();
        for m in self.at(Level::Fold, phase) {
            let values = self.fold_operands(body, m, index);
            if let Some(combiner) = fold_of(self.graph.node(m)) {
                out.push(body.reduction(combiner, &values));
            }
        }
        out
    }

    fn fold_operands(&self, body: &mut Body<'_, Lowerer<'a>>, m: NodeId, index: &[Dim]) -> SmallVec<[Var; 2]> {
        let node = self.graph.node(m);
        let mut values: SmallVec<[Var; 2]> = SmallVec::from_iter([body.value(node.operands[0], index)]);
        if node.results().len() > 1 {
            let position = body.index_value(&index[self.group.reduced[0]]);
            values.push(position);
        }
        values
    }

    /// Reductions, one loop further out, of what inner ones give.
    fn chain(&self, body: &mut Body<'_, Lowerer<'a>>, inner: &[Reduction]) -> Vec<Reduction> {
        inner.iter().map(|r| body.chained(r)).collect()
    }

    /// Whether a fold is so much larger than its result that it is split.
    fn split(&self, l: &Lowerer<'_>, walked: &[Axis]) -> Option<Split> {
        let outer = product(walked.iter().filter(|a| !a.reduced)).as_const()?;
        let [inner] = walked.iter().filter(|a| a.reduced).collect::<SmallVec<[&Axis; 2]>>()[..] else { return None };
        let n = inner.extent.as_const()?;
        let members = &self.group.members;
        let simple = members.iter().all(|&m| {
            let plain = self.graph.node(m).results().len() == 1;
            plain && !(self.phases.slots[&m].level == Level::Full && self.is_needed(l, m))
        });
        let worth = outer <= 4 && n > 2 * l.target.reduce_chunk && self.phases.count == 1 && simple;
        worth.then(|| Split {
            partials: n.div_euclid(l.target.reduce_chunk) + i64::from(n % l.target.reduce_chunk != 0),
        })
    }

    /// A fold in two kernels: partial results of chunks, then their fold and what follows it.
    fn split_rows(&self, l: &mut Lowerer<'a>, walked: &[Axis], split: Split) {
        let inside = self.inside();
        let (p, j) = (l.loops.parallel.clone(), l.loops.lane.clone());
        let outer: SmallVec<[&Axis; 4]> = walked.iter().filter(|a| !a.reduced).collect();
        let Some(inner) = walked.iter().find(|a| a.reduced) else { return };
        let (chunk, lanes) = (l.target.reduce_chunk, l.target.reduce_lanes);
        let partials = Dim::from(split.partials);
        let rows = product(outer.iter().copied());
        let folds: Vec<NodeId> = self.at(Level::Fold, 0).collect();
        let buffers: Vec<_> = folds
            .iter()
            .map(|&m| {
                let dtype = self.graph.ty(self.graph.node(m).result()).dtype;
                l.temp(dtype, &rows * &partials)
            })
            .collect();
        // First the partial results: iteration p is chunk p mod partials of row p floordiv partials.
        let c = p.at.modulo(&partials);
        let row = p.at.floordiv(&partials);
        let iterations = &rows * &partials;
        let extent = chunk_extent(&inner.extent, chunk, &c);
        let position = &(&c * chunk) + &j.at;
        let index = self.walked_index(walked, unflatten(&row, &outer), &position);
        let facts = self.facts(&[(&p, &iterations), (&j, &extent)]);
        let mut body = Body::new(self.graph, l, &inside, facts);
        body.open(&j.symbol);
        let reductions = self.fold_values(&mut body, 0, &index);
        let results: Vec<Var> = reductions.iter().map(|r| r.results[0]).collect();
        body.close(&j.symbol, AxisKind::Reduce(lanes), extent, reductions);
        for ((&b, &m), var) in buffers.iter().zip(&folds).zip(results) {
            let memory = body.bind(b, self.graph.ty(self.graph.node(m).result()).dtype, Access::Write);
            body.store(memory, p.at.clone(), var);
        }
        let (kernel, args) = body.finish(format!("{}_partial", self.name()), &p.symbol, iterations, self.locs());
        l.launch(kernel, args, self.reason("folded in chunks"));
        // Then their fold, and what follows it.
        let index = self.walked_index(walked, unflatten(&p.at, &outer), &Dim::from(0));
        let needed: Vec<NodeId> = self.group.members.iter().copied().filter(|&m| self.is_needed(l, m)).collect();
        let mut body = Body::new(self.graph, l, &inside, Facts::default());
        body.open(&j.symbol);
        let mut reductions = Vec::new();
        for (&b, &m) in buffers.iter().zip(&folds) {
            let node = self.graph.node(m);
            let memory = body.bind(b, self.graph.ty(node.result()).dtype, Access::Read);
            let partial = body.load_here(memory, &(&p.at * &partials) + &j.at);
            if let Some(combiner) = fold_of(node) {
                reductions.push(body.reduction(combiner, &[partial]));
            }
        }
        let results: Vec<Var> = reductions.iter().map(|r| r.results[0]).collect();
        body.close(&j.symbol, AxisKind::Reduce(lanes), partials, reductions);
        for (&m, var) in folds.iter().zip(results) {
            body.keep(self.graph.node(m).result(), Kept::Var(var));
        }
        for &m in &needed {
            self.store_results(&mut body, m, &index);
        }
        let (kernel, args) = body.finish(self.name(), &p.symbol, rows, self.locs());
        l.launch(kernel, args, "the fold of the chunks, and what follows it".to_owned());
    }

    fn walked_index(&self, walked: &[Axis], outer: SmallVec<[Dim; 4]>, inner: &Dim) -> Shape {
        let mut outer = outer.into_iter();
        let at: Vec<Dim> =
            walked.iter().filter_map(|a| if a.reduced { Some(inner.clone()) } else { outer.next() }).collect();
        domain::index(self.group.domain.len(), walked, &at)
    }

    fn columns(&self, l: &mut Lowerer<'a>, walked: &[Axis]) {
        let inside = self.inside();
        let (p, j) = (l.loops.parallel.clone(), l.loops.lane.clone());
        let Some(lane) = walked.last() else { return };
        let kept_axes: SmallVec<[&Axis; 4]> = walked[..walked.len() - 1].iter().filter(|a| !a.reduced).collect();
        let reduced: SmallVec<[&Axis; 4]> = walked.iter().filter(|a| a.reduced).collect();
        let loops: Vec<LoopAxis> = (0..reduced.len()).map(|i| l.loops.reduced(i)).collect();
        let chunks = Chunks::of_columns(&lane.extent);
        let (placed, extent, iterations) = chunks.place(&p.at, &j.at, &kept_axes, lane);
        let rank = self.group.domain.len();
        let index_at = |last: Dim| {
            let mut placed = placed.iter().cloned();
            let outer = loops[..loops.len() - 1].iter().map(|a| a.at.clone());
            let mut inner_at = outer.chain([last]);
            let at: Vec<Dim> =
                walked.iter().filter_map(|a| if a.reduced { inner_at.next() } else { placed.next() }).collect();
            domain::index(rank, walked, &at)
        };
        let Some((rows, around)) = loops.split_last() else { return };
        let index = index_at(rows.at.clone());
        let mut ranges: Vec<(&LoopAxis, &Dim)> = vec![(&p, &iterations), (&j, &extent)];
        ranges.extend(loops.iter().zip(&reduced).map(|(a, x)| (a, &x.extent)));
        let facts = self.facts(&ranges);
        let row_count = reduced[reduced.len() - 1].extent.clone();
        let needed: Vec<NodeId> = self.group.members.iter().copied().filter(|&m| self.is_needed(l, m)).collect();
        let mut body = Body::new(self.graph, l, &inside, facts);
        let lane_loop = |body: &mut Body<'_, Lowerer<'a>>, write: &mut dyn FnMut(&mut Body<'_, Lowerer<'a>>)| {
            body.open(&j.symbol);
            write(body);
            body.close(&j.symbol, AxisKind::Lane, extent.clone(), Vec::new());
        };
        for phase in 0..=self.phases.count {
            // What stands between the loops is kept in tiles, since it has a value for each lane.
            let between: Vec<NodeId> = self.at(Level::Outer, phase).collect();
            let stored: Vec<NodeId> = if phase == 0 {
                Vec::new()
            } else {
                self.at(Level::Fold, phase - 1).filter(|m| needed.contains(m)).collect()
            };
            if !between.is_empty() || !stored.is_empty() {
                let mut tiles: Vec<(Value, Memory)> = Vec::new();
                lane_loop(&mut body, &mut |body| {
                    for &m in &stored {
                        self.store_results(body, m, &index);
                    }
                    for &m in &between {
                        let v = self.graph.node(m).result();
                        let at = self.member_index(m, &index);
                        let value = body.value(v, &at);
                        if needed.contains(&m) {
                            self.store_results(body, m, &index);
                        }
                        if phase < self.phases.count {
                            let tile = body.tile(self.graph.ty(v).dtype, chunks.width());
                            body.store(tile, j.at.clone(), value);
                            tiles.push((v, tile));
                        }
                    }
                });
                for (v, tile) in tiles {
                    body.keep(v, Kept::Memory(tile, j.at.clone()));
                }
            }
            if phase == self.phases.count {
                break;
            }
            let folds: Vec<NodeId> = self.at(Level::Fold, phase).collect();
            let tiles: Vec<SmallVec<[Memory; 2]>> = folds
                .iter()
                .map(|&m| {
                    let dtypes = self.graph.node(m).results().map(|v| self.graph.ty(v).dtype);
                    dtypes.map(|d| body.tile(d, chunks.width())).collect()
                })
                .collect();
            if !folds.is_empty() {
                lane_loop(&mut body, &mut |body| self.clear(body, &folds, &tiles, &j.at));
            }
            for a in around {
                body.open(&a.symbol);
            }
            // Several rows at a time share one load and store of each accumulator; the order of the fold stays the same.
            let together = self.rows_together();
            let blocks = row_count.floordiv(Dim::from(together));
            let whole = &blocks * together;
            for (count, from, rows_each) in
                [(blocks.clone(), Dim::ZERO, together), (&row_count - &whole, whole.clone(), 1)]
            {
                if count.is_zero() {
                    continue;
                }
                body.open(&rows.symbol);
                lane_loop(&mut body, &mut |body| {
                    let mut acc: Vec<SmallVec<[Var; 2]>> = tiles
                        .iter()
                        .map(|tiles| tiles.iter().map(|&t| body.load_here(t, j.at.clone())).collect())
                        .collect();
                    for row in 0..rows_each {
                        let at = index_at(&(&(&rows.at * rows_each) + &from) + &Dim::from(row));
                        for (&m, acc) in folds.iter().zip(&mut acc) {
                            let values = self.fold_operands(body, m, &at);
                            if let Some(combiner) = fold_of(self.graph.node(m)) {
                                *acc = combine(body, combiner, acc, &values);
                            }
                        }
                        for m in self.at(Level::Full, phase) {
                            if needed.contains(&m) {
                                self.store_results(body, m, &at);
                            }
                        }
                    }
                    for (tiles, acc) in tiles.iter().zip(acc) {
                        for (&t, v) in tiles.iter().zip(acc) {
                            body.store(t, j.at.clone(), v);
                        }
                    }
                });
                body.close(&rows.symbol, AxisKind::Serial, count, Vec::new());
            }
            for (a, x) in around.iter().zip(&reduced).rev() {
                body.close(&a.symbol, AxisKind::Serial, x.extent.clone(), Vec::new());
            }
            for (&m, tiles) in folds.iter().zip(&tiles) {
                for (v, &t) in self.graph.node(m).results().zip(tiles) {
                    body.keep(v, Kept::Memory(t, j.at.clone()));
                }
            }
        }
        let (kernel, buffers) = body.finish(self.name(), &p.symbol, iterations, self.locs());
        l.launch(kernel, buffers, self.reason("folded along columns"));
    }

    /// How many rows a column kernel folds at a time: fewer, the more code one row is.
    fn rows_together(&self) -> i64 {
        match self.group.members.len() {
            // What is known of the rows' index is stated for one row at a time.
            _ if self.atoms.get() => 1,
            0..=4 => 8,
            5..=12 => 4,
            _ => 1,
        }
    }

    /// Sets accumulators to the identities of their folds.
    fn clear(&self, body: &mut Body<'_, Lowerer<'a>>, folds: &[NodeId], tiles: &[SmallVec<[Memory; 2]>], at: &Dim) {
        for (&m, tiles) in folds.iter().zip(tiles) {
            let node = self.graph.node(m);
            let Some(combiner) = fold_of(node) else { continue };
            let identity = combiner.identity(self.graph.ty(node.result()).dtype);
            for (&t, value) in tiles.iter().zip(identity) {
                let value = body.literal(value);
                body.store(t, at.clone(), value);
            }
        }
    }
}

/// The lines that a group comes from: the first few, without repeats.
pub(super) fn locs(graph: &lehr_ir::Graph, group: &Group) -> Vec<Loc> {
    let mut out: Vec<Loc> = Vec::new();
    for &m in &group.members {
        let loc = &graph.node(m).loc;
        if out.len() < 6 && loc.is_known() && !out.contains(loc) {
            out.push(loc.clone());
        }
    }
    out
}

/// One step of a fold, by scalar operations, with the accumulator first: the order of a plain left fold.
fn combine<S: Surroundings>(
    body: &mut Body<'_, S>,
    combiner: Combiner,
    acc: &[Var],
    new: &[Var],
) -> SmallVec<[Var; 2]> {
    let one = |v| SmallVec::from_iter([v]);
    match combiner {
        Combiner::Sum => one(body.apply(ScalarOp::Add, &[acc[0], new[0]])),
        Combiner::Prod => one(body.apply(ScalarOp::Mul, &[acc[0], new[0]])),
        Combiner::Max => one(body.apply(ScalarOp::Max, &[acc[0], new[0]])),
        Combiner::Min => one(body.apply(ScalarOp::Min, &[acc[0], new[0]])),
        Combiner::Any => one(body.apply(ScalarOp::Or, &[acc[0], new[0]])),
        Combiner::All => one(body.apply(ScalarOp::And, &[acc[0], new[0]])),
        Combiner::ArgMax | Combiner::ArgMin => {
            let ahead = if combiner == Combiner::ArgMax { ScalarOp::Gt } else { ScalarOp::Lt };
            let better = body.apply(ahead, &[new[0], acc[0]]);
            // The first NaN wins over any number.
            let (new_nan, number) =
                (body.apply(ScalarOp::Ne, &[new[0], new[0]]), body.apply(ScalarOp::Eq, &[acc[0], acc[0]]));
            let first_nan = body.apply(ScalarOp::And, &[new_nan, number]);
            // Among equals the lesser position wins; positions ascend, so this matters for the identity only.
            let equal = body.apply(ScalarOp::Eq, &[new[0], acc[0]]);
            let earlier = body.apply(ScalarOp::Lt, &[new[1], acc[1]]);
            let tie = body.apply(ScalarOp::And, &[equal, earlier]);
            let take = body.apply(ScalarOp::Or, &[better, first_nan]);
            let take = body.apply(ScalarOp::Or, &[take, tie]);
            let value = body.apply(ScalarOp::Select, &[take, new[0], acc[0]]);
            let position = body.apply(ScalarOp::Select, &[take, new[1], acc[1]]);
            [value, position].into_iter().collect()
        }
    }
}

/// How the innermost axis is cut for threads.
struct Chunks {
    /// Indices of one chunk; `None` if the axis is not cut.
    size: Option<i64>,
    width: u32,
}

impl Chunks {
    /// Chunks of a map: an axis alone is always cut unless it is known to be short, others only if they are long.
    fn of(extent: &Dim, chunk: i64, alone: bool) -> Self {
        let cut = match extent.as_const() {
            Some(n) => n > if alone { chunk } else { 2 * chunk },
            None => alone,
        };
        Self { size: cut.then_some(chunk), width: 0 }
    }

    /// Chunks of columns: a fixed number for each size, so that accumulators fit the first cache.
    fn of_columns(extent: &Dim) -> Self {
        const LEAST: i64 = 64;
        const MOST: i64 = 1024;
        let size = match extent.as_const() {
            Some(n) if n <= LEAST => return Self { size: None, width: u32::try_from(n).unwrap_or(1).max(1) },
            Some(n) => (n / 8 / LEAST * LEAST).clamp(LEAST, MOST),
            None => 256,
        };
        Self { size: Some(size), width: size as u32 }
    }

    /// Elements that a tile over one chunk has.
    fn width(&self) -> u32 {
        self.width
    }

    /// The indices of outer axes and the inner one, the lane loop's extent, and the number of parallel iterations.
    fn place(&self, p: &Dim, j: &Dim, outer: &[&Axis], inner: &Axis) -> (Vec<Dim>, Dim, Dim) {
        let rows = product(outer.iter().copied());
        let Some(chunk) = self.size else {
            let mut at = unflatten(p, outer).to_vec();
            at.push(j.clone());
            return (at, inner.extent.clone(), rows);
        };
        let count = inner.extent.ceildiv(Dim::from(chunk));
        let (row, c) =
            if outer.is_empty() { (Dim::from(0), p.clone()) } else { (p.floordiv(&count), p.modulo(&count)) };
        let mut at = unflatten(&row, outer).to_vec();
        at.push(&(&c * chunk) + j);
        (at, chunk_extent(&inner.extent, chunk, &c), &rows * &count)
    }
}

/// Indices of chunk `c`: the last one may be shorter.
fn chunk_extent(extent: &Dim, chunk: i64, c: &Dim) -> Dim {
    match extent.as_const() {
        Some(n) if n % chunk == 0 => Dim::from(chunk),
        _ => Dim::from(chunk).minimum(extent - &(c * chunk)),
    }
}

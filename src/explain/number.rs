//! Numbers of values that last from pass to pass.
//!
//! A pass rebuilds the graph, and with it the order of definition that numbers come from: one node less would rename all that
//! follow. So nodes are followed by what they compute: a node that applies the same operation to the same operands keeps its
//! number, as does one that stands for the same operation on the same line with some other operands. What is new gets a new number.

use std::collections::HashMap;

use lehr_ir::Type;
use lehr_ir::graph::{Graph, Node};
use lehr_ir::loc::Loc;
use lehr_ir::ops::Op;
use rustc_hash::{FxBuildHasher, FxHashSet};
use smallvec::SmallVec;

/// The numbers of all values of a graph, and the first that was never given.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// For each value; a parameter's is its position, and is not printed.
    numbers: Vec<u32>,
    next: u32,
}

impl Numbers {
    /// The numbers that a graph prints with by itself.
    pub(super) fn of(graph: &Graph) -> Self {
        let params = graph.params().len() as u32;
        let numbers = (0..graph.value_count() as u32).map(|v| v.checked_sub(params).unwrap_or(v)).collect();
        Self { numbers, next: graph.value_count() as u32 - params }
    }

    /// The numbers, by value.
    pub(super) fn printed(&self) -> &[u32] {
        &self.numbers
    }

    /// The numbers of the graph that a pass made of this one.
    pub(super) fn follow(&self, before: &Graph, after: &Graph) -> Self {
        let mut old = Old::of(before, self);
        let params = after.params().len();
        let mut numbers: Vec<u32> = (0..params as u32).collect();
        numbers.reserve(after.value_count());
        let mut next = self.next;
        for (_, node) in after.nodes() {
            let found = old.find(after, node, &numbers);
            for (i, v) in node.results().enumerate() {
                let number = found.and_then(|first| self.numbers.get(first as usize + i).copied());
                debug_assert_eq!(v.index(), numbers.len());
                numbers.push(number.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                }));
            }
        }
        Self { numbers, next }
    }
}

/// What is computed, in terms of numbers that last.
#[derive(PartialEq, Eq, Hash)]
struct Same<'g> {
    what: What<'g>,
    operands: Operands,
    results: usize,
}

type Operands = SmallVec<[Operand; 3]>;

#[derive(PartialEq, Eq, Hash)]
enum What<'g> {
    Op(&'g Op),
    /// Bodies are compared by the call's name: they are rewritten as a whole, and can be large.
    Call(&'g str),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Operand {
    Param(u32),
    Result(u32),
}

/// Where something of one name and type stands.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'g> {
    op: &'g str,
    loc: &'g Loc,
    ty: &'g Type,
    results: usize,
}

/// The nodes of the graph before, by what they compute and where they stand; each is given out once.
/// A node is known by the index of its first result.
struct Old<'g> {
    same: HashMap<Same<'g>, Vec<u32>, FxBuildHasher>,
    alike: HashMap<Alike<'g>, Vec<(u32, Operands)>, FxBuildHasher>,
    taken: FxHashSet<u32>,
}

impl<'g> Old<'g> {
    fn of(graph: &'g Graph, numbers: &Numbers) -> Self {
        let mut old = Self { same: HashMap::default(), alike: HashMap::default(), taken: FxHashSet::default() };
        // From the last to the first, so that the first is popped first.
        for (_, node) in graph.nodes().rev() {
            let first = node.result().0;
            let same = same(graph, node, &numbers.numbers);
            old.alike.entry(alike(graph, node)).or_default().push((first, same.operands.clone()));
            old.same.entry(same).or_default().push(first);
        }
        old
    }

    fn find(&mut self, graph: &'g Graph, node: &'g Node, numbers: &[u32]) -> Option<u32> {
        let same = same(graph, node, numbers);
        let exact = self.same.get_mut(&same).and_then(|all| pop(all, &self.taken));
        let found = exact.or_else(|| {
            // What has no line of its own is like too much else.
            let all = self.alike.get_mut(&alike(graph, node)).filter(|_| node.loc.is_known())?;
            pop_alike(all, &same.operands, &self.taken)
        });
        found.inspect(|first| {
            self.taken.insert(*first);
        })
    }
}

/// How many nodes of one line are compared to find the one that a node was.
const COMPARED: usize = 8;

/// The candidate that has the most operands in common; one without any only if there is no other.
fn pop_alike(all: &mut Vec<(u32, Operands)>, operands: &Operands, taken: &FxHashSet<u32>) -> Option<u32> {
    while all.last().is_some_and(|(first, _)| taken.contains(first)) {
        all.pop();
    }
    let window = (all.len().saturating_sub(COMPARED)..all.len()).rev();
    let common = |i: usize| all[i].1.iter().zip(operands).filter(|(a, b)| a == b).count();
    let free: SmallVec<[(usize, usize); COMPARED]> =
        window.filter(|&i| !taken.contains(&all[i].0)).map(|i| (common(i), i)).collect();
    // Of several that are equally alike, the one that comes first in the graph, which is the last of the list.
    let &(most, at) = free.iter().max_by_key(|(common, i)| (*common, *i))?;
    (most > 0 || free.len() == 1).then(|| all.remove(at).0)
}

fn pop(all: &mut Vec<u32>, taken: &FxHashSet<u32>) -> Option<u32> {
    while let Some(first) = all.pop() {
        if !taken.contains(&first) {
            return Some(first);
        }
    }
    None
}

fn same<'g>(graph: &Graph, node: &'g Node, numbers: &[u32]) -> Same<'g> {
    let params = graph.params().len();
    let operand = |v: &lehr_ir::graph::Value| match numbers.get(v.index()) {
        Some(&n) if v.index() >= params => Operand::Result(n),
        _ => Operand::Param(v.0),
    };
    let what = match &node.op {
        Op::Call(call) => What::Call(&call.name),
        op if !op.regions().is_empty() => What::Call(op.name()),
        op => What::Op(op),
    };
    Same { what, operands: node.operands.iter().map(operand).collect(), results: node.results().len() }
}

fn alike<'g>(graph: &'g Graph, node: &'g Node) -> Alike<'g> {
    Alike { op: node.op.name(), loc: &node.loc, ty: graph.ty(node.result()), results: node.results().len() }
}

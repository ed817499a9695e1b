//! Evaluates what depends on constants alone, with the evaluator's semantics.
//!
//! A folded constant is never larger than its operands plus 4 KiB, and evaluating it costs a bounded amount of work.
//! Broadcasts and iotas stay as they are, since a kernel generates them for nothing, but what is computed from them is folded
//! (they are evaluated when something is); a result of equal elements becomes a broadcast scalar for the same reason.
//! Nothing with a symbolic shape is folded, nor calls and operations of other crates.
//! Floating-point legality: elementary functions are evaluated in `f64` and rounded once, which is at least as accurate as
//! the kernel that would have computed them.

use std::cell::OnceCell;

use lehr_ir::array::Array;
use lehr_ir::bindings::Bindings;
use lehr_ir::graph::{Graph, Node, Value};
use lehr_ir::ops::{Broadcast, Constant, Op};
use lehr_ir::{Type, eval};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// How much larger than its operands a folded constant may be, in bytes.
pub const MAX_GROWTH: usize = 4096;

/// The most scalar operations that folding one node may cost.
pub const MAX_WORK: usize = 1 << 22;

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct FoldConstants;

impl Pass<Graph> for FoldConstants {
    fn name(&self) -> &'static str {
        "fold_constants"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        fold_constants(graph, cx, &mut Regions::default())
    }
}

fn fold_constants(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    let mut changed = false;
    let mut new = Rebuild::new(graph);
    let mut known: Vec<Option<Known>> = vec![None; graph.value_count()];
    for (_, node) in graph.nodes() {
        let folded = fold(graph, node, &known);
        if let Some(Folded::Constants(results)) = &folded
            && cx.fuel("fold")
        {
            changed = true;
            new.at(node);
            for (v, array) in node.results().zip(results) {
                let value = emit(&mut new, graph.ty(v), array)?;
                new.set_value(v, value);
                known[v.index()] = Some(Known::of(array));
            }
            continue;
        }
        match regions.map(&node.op, &mut |body, regions| fold_constants(body, cx, regions))? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
        if let Some(Folded::Generated(k)) = folded {
            known[node.result().index()] = Some(k);
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// A value that is known at compile time.
#[derive(Clone)]
struct Known {
    /// The value, evaluated when it is asked for; `None` if that fails.
    array: OnceCell<Option<Array>>,
    /// What it takes up in the program: nothing of note for what a kernel generates.
    bytes: usize,
}

impl Known {
    fn of(array: &Array) -> Self {
        Self { bytes: array.data().byte_len(), array: OnceCell::from(Some(array.clone())) }
    }
}

/// The value of a known operand.
fn value<'k>(graph: &Graph, v: Value, known: &'k [Option<Known>]) -> Option<&'k Array> {
    let cell = &known[v.index()].as_ref()?.array;
    cell.get_or_init(|| evaluate(graph, graph.def_node(v)?, known)?.into_iter().next()).as_ref()
}

/// The results of a node whose operands are known. One that fails on them fails when it runs, with the user's line.
fn evaluate(graph: &Graph, node: &Node, known: &[Option<Known>]) -> Option<SmallVec<[Array; 1]>> {
    let operands = node.operands.iter().map(|&v| value(graph, v, known));
    let operands: SmallVec<[&Array; 3]> = operands.collect::<Option<_>>()?;
    eval::evaluate_op(&node.op, &operands, &Bindings::default()).ok()
}

enum Folded {
    /// The node becomes constants.
    Constants(SmallVec<[Array; 1]>),
    /// The node stays, and its value is known.
    Generated(Known),
}

/// What is known of a node's results; `None` if it is not, or must not be, evaluated.
fn fold(graph: &Graph, node: &Node, known: &[Option<Known>]) -> Option<Folded> {
    let generates = match &node.op {
        Op::Constant(c) => {
            return Some(Folded::Generated(Known::of(&c.value)));
        }
        Op::Call(_) | Op::Case(_) | Op::While(_) | Op::Scan(_) | Op::Extern(_) => return None,
        Op::Broadcast(_) | Op::Iota(_) => true,
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Convert(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::ReduceWindow(_)
        | Op::Dot(_)
        | Op::Convolution(_)
        | Op::Attention(_)
        | Op::AttentionTangent(_)
        | Op::AttentionGrad(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::RandomBits(_) => false,
    };
    let operands: SmallVec<[&Known; 3]> =
        node.operands.iter().map(|v| known[v.index()].as_ref()).collect::<Option<_>>()?;
    let bytes: usize = operands.iter().map(|k| k.bytes).sum();
    let mut size = 0usize;
    let mut count = 0usize;
    for v in node.results() {
        let n = elements(graph.ty(v))?;
        count = count.checked_add(n)?;
        size = size.checked_add(n.checked_mul(graph.ty(v).dtype.size())?)?;
    }
    if size > bytes.saturating_add(MAX_GROWTH) || work(graph, node, count)? > MAX_WORK {
        return None;
    }
    if generates {
        // What it is generated from is evaluated here, so that evaluation never goes deep.
        for &v in &node.operands {
            value(graph, v, known)?;
        }
        return Some(Folded::Generated(Known { array: OnceCell::new(), bytes: bytes.min(size) }));
    }
    Some(Folded::Constants(evaluate(graph, node, known)?))
}

fn elements(ty: &Type) -> Option<usize> {
    lehr_ir::array::checked_count(&ty.static_shape()?)
}

/// About how many scalar operations a node costs.
fn work(graph: &Graph, node: &Node, results: usize) -> Option<usize> {
    let mut inputs = 0usize;
    for &v in &node.operands {
        inputs = inputs.checked_add(elements(graph.ty(v))?)?;
    }
    if let Op::Dot(dims) = &node.op {
        let x = graph.ty(node.operands[0]).static_shape()?;
        let depth = dims.lhs_contract.iter().try_fold(1usize, |n, &d| n.checked_mul(x[d]))?;
        return results.checked_mul(depth)?.checked_add(inputs);
    }
    if let Op::Convolution(op) = &node.op {
        // Each result takes in a whole window of all channels.
        let kernel = graph.ty(node.operands[1]).static_shape()?;
        let depth = kernel[op.batch..kernel.len() - 1].iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        return results.checked_mul(depth)?.checked_add(inputs);
    }
    if let Op::ReduceWindow(op) = &node.op {
        return results.checked_mul(op.taps())?.checked_add(inputs);
    }
    if let Op::Attention(_) | Op::AttentionTangent(_) | Op::AttentionGrad(_) = &node.op {
        // Each query meets each key.
        let k = graph.ty(node.operands[1]).static_shape()?;
        return inputs.checked_mul(k[k.len() - 2])?.checked_add(results);
    }
    results.checked_add(inputs)
}

/// A constant in the new graph: a scalar, broadcast, if all elements are equal.
fn emit(new: &mut Rebuild<'_>, ty: &Type, array: &Array) -> Result<Value, PassError> {
    let first = array.data().get(0);
    let splat = first.filter(|&l| (1..array.len()).all(|i| array.data().get(i) == Some(l)));
    let Some(l) = splat.filter(|_| array.rank() > 0) else {
        return Ok(new.b.op(Constant { value: array.clone() }.into(), &[])?);
    };
    let scalar = new.b.scalar(l);
    let op = Broadcast { shape: ty.shape.clone(), axes: SmallVec::new() };
    Ok(new.b.op(op.into(), &[scalar])?)
}

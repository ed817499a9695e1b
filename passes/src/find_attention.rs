//! Finds attention that is written out, and puts the operation in its place.
//!
//! From a product of weights and values it walks back: weights are exponentials over their sums, of scores less their greatest, as
//! softmax is; scores are products of queries and keys, scaled, a bias added, and then masked. What it finds becomes one
//! `attention`, where
//! - no value in between has another use, so that nothing is computed twice. A graph with the gradient of the written-out form
//!   keeps the weights for it, and stays as it is: take gradients of the operation itself;
//! - a mask chooses −∞, or, under a causal mask by which every query sees a key, a number of −1e9 or less.
//!
//! # Floating-point legality
//! Sums run in another order, as those of a product do anyway. A number of −1e9 or less counts as −∞, which is the same unless all
//! scores that a query may see are about as low. Weights below the least normal number are 0. What a query may not attend to has no
//! part in its result even where that is not finite, where the written-out form multiplies it by 0.
//! A query that sees nothing gets NaN, as there.

use lehr_ir::graph::{Def, Graph, Node, NodeId, Value};
use lehr_ir::ops::{Attention, BinaryOp, CompareOp, DotDims, Empty, Op, ReduceOp, Scores, UnaryOp};
use lehr_ir::{DType, Dim, Literal};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// The pass.
#[derive(Clone, Copy, Debug)]
pub struct FindAttention;

impl Pass<Graph> for FindAttention {
    fn name(&self) -> &'static str {
        "find_attention"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        find(graph, cx, &mut Regions::default())
    }
}

/// The greatest number that a causal mask may have in place of −∞.
const LOW: f64 = -1e9;

fn find(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    let exponentials = graph.nodes().any(|(_, n)| n.op == Op::Unary(UnaryOp::Exp));
    if !exponentials && graph.nodes().all(|(_, n)| n.op.regions().is_empty()) {
        return Ok(Outcome::Unchanged);
    }
    let users = Users::of(graph);
    let mut new = Rebuild::new(graph);
    let mut changed = false;
    for (id, node) in graph.nodes() {
        if let Some(found) = found_at(graph, &users, id) {
            new.at(node);
            if let Some(result) = found.emit(graph, node, &mut new)?
                && cx.fuel("find_attention")
            {
                new.set_value(node.result(), result);
                changed = true;
                continue;
            }
        }
        match regions.map(&node.op, &mut |region, regions| find(region, cx, regions))? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// Who reads each value.
struct Users {
    nodes: Vec<SmallVec<[NodeId; 2]>>,
    leaves: Vec<bool>,
}

impl Users {
    fn of(graph: &Graph) -> Self {
        let mut nodes = vec![SmallVec::new(); graph.value_count()];
        let mut leaves = vec![false; graph.value_count()];
        for (id, node) in graph.nodes() {
            for v in &node.operands {
                nodes[v.index()].push(id);
            }
        }
        graph.roots().for_each(|v| leaves[v.index()] = true);
        Self { nodes, leaves }
    }

    /// Whether all that reads some nodes' results is among them, or is `root`.
    fn stays_inside(&self, graph: &Graph, inside: &[NodeId], root: NodeId) -> bool {
        inside.iter().all(|&id| {
            let v = graph.node(id).result();
            !self.leaves[v.index()] && self.nodes[v.index()].iter().all(|u| *u == root || inside.contains(u))
        })
    }
}

/// An attention that is written out.
struct Found {
    /// Queries, keys, values: each with the order in which its dims become batch, positions and features.
    operands: [(Value, Order); 3],
    scale: f64,
    causal: bool,
    bias: Option<Value>,
    mask: Option<Value>,
    /// Whether the product of weights and values comes out with features before queries.
    flipped: bool,
}

type Order = SmallVec<[usize; 4]>;

fn found_at(graph: &Graph, users: &Users, root: NodeId) -> Option<Found> {
    let node = graph.node(root);
    let Op::Dot(dims) = &node.op else { return None };
    if !matches!(graph.ty(node.result()).dtype, DType::F32 | DType::F64) {
        return None;
    }
    (0..2).find_map(|side| {
        let mut walk = Walk { graph, inside: Vec::new(), tag: node.tag };
        let found = walk.weighted(node, dims, side)?;
        users.stays_inside(graph, &walk.inside, root).then_some(found)
    })
}

/// A walk back from a product, which takes down what it passes.
struct Walk<'g> {
    graph: &'g Graph,
    inside: Vec<NodeId>,
    tag: u32,
}

impl<'g> Walk<'g> {
    /// A product whose operand `side` is weights.
    fn weighted(&mut self, node: &Node, dims: &DotDims, side: usize) -> Option<Found> {
        let (weights, values) = (node.operands[side], node.operands[1 - side]);
        let (w, v) = sides(dims, side);
        let n = self.graph.ty(weights).rank().checked_sub(2)?;
        let in_order = w.0.iter().copied().eq(0..n) && w.1.as_slice() == [n + 1];
        if !in_order {
            return None;
        }
        let values = (values, matrix(self.graph, values, v.0, v.1, true)?);

        let e = self.normalised(weights)?;
        let d = self.unary(e, UnaryOp::Exp)?;
        let (s, tops) = self.binary(d, BinaryOp::Sub)?;
        self.row(tops, ReduceOp::Max, s)?;
        let mut found = self.scores(s, values)?;
        found.flipped = side == 1;
        Some(found)
    }

    /// What weights are before they are divided by their sums, or multiplied by the reciprocals of these.
    fn normalised(&mut self, weights: Value) -> Option<Value> {
        if let Some((e, sums)) = self.binary(weights, BinaryOp::Div) {
            self.row(sums, ReduceOp::Sum, e)?;
            return Some(e);
        }
        let (x, y) = self.binary(weights, BinaryOp::Mul)?;
        [(x, y), (y, x)].into_iter().find_map(|(e, by)| {
            let repeated = self.repeated(by, e)?;
            let (one, sums) = self.step(repeated).filter(|n| n.op == Op::Binary(BinaryOp::Div)).map(two)?;
            let fits = self.number(one) == Some(1.0) && self.is_fold(sums, ReduceOp::Sum, e);
            fits.then(|| {
                self.enter(by);
                self.enter(repeated);
                self.enter(sums);
                e
            })
        })
    }

    /// Scores, from the outermost operation on.
    fn scores(&mut self, s: Value, values: (Value, Order)) -> Option<Found> {
        let pairs = self.graph.ty(s).shape.clone();
        let n = pairs.len() - 2;
        let mut found_mask = None;
        let mut at = s;
        if let Some(node) = self.step(at).filter(|n| n.op == Op::Select(lehr_ir::ops::Select)) {
            let (c, x, y) = (node.operands[0], node.operands[1], node.operands[2]);
            let (scores, fill, open) = match (self.number(y), self.number(x)) {
                (Some(fill), _) => (x, fill, true),
                (None, Some(fill)) => (y, fill, false),
                (None, None) => return None,
            };
            if self.graph.ty(c).shape != pairs {
                return None;
            }
            self.enter(at);
            found_mask = Some((c, fill, open));
            at = scores;
        }
        let mut bias = None;
        if let Some((x, y)) = self.step(at).filter(|n| n.op == Op::Binary(BinaryOp::Add)).map(two) {
            // Products are on one side, whatever is done to them.
            let side = [(x, y), (y, x)].into_iter().find(|(s, _)| self.leads_to_product(*s))?;
            self.enter(at);
            (at, bias) = (side.0, Some(side.1));
        }
        let mut scale = 1.0;
        while let Some((op, x, y)) = self.step(at).and_then(scaling) {
            let (inner, c) = match (self.number(y), self.number(x)) {
                (Some(c), _) => (x, c),
                (None, Some(c)) if op == BinaryOp::Mul => (y, c),
                _ => return None,
            };
            scale = if op == BinaryOp::Mul { scale * c } else { scale / c };
            self.enter(at);
            at = inner;
        }
        let node = self.step(at)?;
        let Op::Dot(dims) = &node.op else { return None };
        self.enter(at);
        let (q, k) = (node.operands[0], node.operands[1]);
        let q = (q, matrix(self.graph, q, &dims.lhs_batch, &dims.lhs_contract, false)?);
        let k = (k, matrix(self.graph, k, &dims.rhs_batch, &dims.rhs_contract, false)?);
        if dims.lhs_batch.len() != n {
            return None;
        }
        let mut found = Found { operands: [q, k, values], scale, causal: false, bias, mask: None, flipped: false };
        let Some((mask, fill, open)) = found_mask else { return Some(found) };
        let (queries, keys) = (&pairs[n], &pairs[n + 1]);
        let causal = self.is_causal(mask, open, queries, keys);
        // Of scores that are all low, but finite, softmax would take the mean.
        let sees = causal && self.graph.facts.decide_ge(keys, queries) == Some(true);
        if !(fill == f64::NEG_INFINITY || (fill <= LOW && sees)) {
            return None;
        }
        found.causal = causal;
        if !causal {
            // A mask of what may not be seen would have to be turned around first.
            found.mask = open.then_some(mask);
            found.mask?;
        }
        Some(found)
    }

    /// The node of a value, if it is one that the pattern may pass.
    fn step(&self, v: Value) -> Option<&'g Node> {
        let node = self.graph.def_node(v)?;
        (node.tag == self.tag && node.results().len() == 1).then_some(node)
    }

    /// Takes down that the node of a value is part of the pattern.
    fn enter(&mut self, v: Value) {
        if let Def::Node(id, _) = self.graph.def(v) {
            self.inside.push(id);
        }
    }

    fn unary(&mut self, v: Value, op: UnaryOp) -> Option<Value> {
        let node = self.step(v).filter(|n| n.op == Op::Unary(op))?;
        self.enter(v);
        Some(node.operands[0])
    }

    fn binary(&mut self, v: Value, op: BinaryOp) -> Option<(Value, Value)> {
        let node = self.step(v).filter(|n| n.op == Op::Binary(op))?;
        self.enter(v);
        Some(two(node))
    }

    /// Whether a value is a fold of `of` over its last dim, repeated along it.
    fn row(&mut self, v: Value, op: ReduceOp, of: Value) -> Option<()> {
        let fold = self.repeated(v, of)?;
        self.is_fold(fold, op, of).then(|| {
            self.enter(v);
            self.enter(fold);
        })
    }

    /// What a value repeats along the last dim of another.
    fn repeated(&self, v: Value, of: Value) -> Option<Value> {
        let node = self.step(v)?;
        let Op::Broadcast(b) = &node.op else { return None };
        let shape = &self.graph.ty(of).shape;
        let fits = b.axes.iter().copied().eq(0..shape.len().checked_sub(1)?) && b.shape == *shape;
        fits.then_some(node.operands[0])
    }

    /// Whether a value is a fold of another over its last dim.
    fn is_fold(&self, v: Value, op: ReduceOp, of: Value) -> bool {
        let Some(node) = self.step(v) else { return false };
        let Op::Reduce(r) = &node.op else { return false };
        r.op == op && r.axes.len() == 1 && r.axes[0] + 1 == self.graph.ty(of).rank() && node.operands[0] == of
    }

    /// Whether a value is a product of matrices, scaled or not.
    fn leads_to_product(&self, mut v: Value) -> bool {
        while let Some((_, x, y)) = self.step(v).and_then(scaling) {
            v = if self.number(x).is_some() { y } else { x };
        }
        self.step(v).is_some_and(|n| matches!(n.op, Op::Dot(_)))
    }

    /// The number that all elements of a value are.
    fn number(&self, v: Value) -> Option<f64> {
        self.literal(v).filter(|l| l.dtype().is_float()).map(|l| l.to_f64())
    }

    fn literal(&self, v: Value) -> Option<Literal> {
        let node = self.graph.def_node(v)?;
        match &node.op {
            Op::Constant(c) if c.value.len() == 1 => c.value.data().get(0),
            Op::Broadcast(_) => self.literal(node.operands[0]),
            _ => None,
        }
    }

    /// Whether a mask lets query `i` of `n` see keys up to `i + keys - n`; with `open` false, it says what is hidden.
    fn is_causal(&self, mask: Value, open: bool, queries: &Dim, keys: &Dim) -> bool {
        let more = keys - queries;
        let Some(node) = self.graph.def_node(mask) else { return false };
        match &node.op {
            // The mask is repeated for each entry of a batch.
            Op::Broadcast(b) => {
                let rank = b.shape.len();
                let last = b.axes.iter().copied().eq(rank - b.axes.len()..rank) && b.axes.len() >= 2;
                last && self.is_causal(node.operands[0], open, queries, keys)
            }
            Op::Unary(UnaryOp::Not) => self.is_causal(node.operands[0], !open, queries, keys),
            Op::Constant(c) => {
                let (Some(&[n, m]), Some(all)) = (c.value.shape().last_chunk(), c.value.as_slice::<bool>()) else {
                    return false;
                };
                // One that has other dims than these two is repeated along none.
                c.value.len() == n * m
                    && n > 0
                    && all.iter().enumerate().all(|(i, &seen)| (seen == open) == (i % m + n <= i / m + m))
            }
            Op::Compare(op) => {
                let rank = self.graph.ty(mask).rank();
                let place = |v: Value| self.position(v).and_then(|(axis, by)| Some((rank.checked_sub(axis + 1)?, by)));
                let (Some(x), Some(y)) = (place(node.operands[0]), place(node.operands[1])) else { return false };
                // As a comparison of the query's place with the key's.
                let (op, query, key) = match (x, y) {
                    ((1, x), (0, y)) => (*op, x, y),
                    ((0, x), (1, y)) => (flipped(*op), y, x),
                    _ => return false,
                };
                // i + query >= j + key, that is, j <= i + (query - key).
                let reach = match (op, open) {
                    (CompareOp::Ge, true) | (CompareOp::Lt, false) => Some(query - key),
                    (CompareOp::Gt, true) | (CompareOp::Le, false) => Some(query - key - 1),
                    _ => None,
                };
                reach.is_some_and(|reach| self.graph.facts.decide_eq(&Dim::from(reach), &more) == Some(true))
            }
            _ => false,
        }
    }

    /// The axis along which a value counts positions, and from where.
    fn position(&self, v: Value) -> Option<(usize, i64)> {
        let node = self.graph.def_node(v)?;
        match &node.op {
            Op::Iota(i) => Some((i.axis, 0)),
            Op::Constant(c) => {
                // Few positions are folded into a constant.
                let wide: Order = (0..c.value.rank()).filter(|&i| c.value.shape()[i] != 1).collect();
                let &[axis] = &wide[..] else { return None };
                let at = |i: usize| c.value.data().get(i).filter(|l| l.dtype().is_integer()).and_then(|l| l.to_i64());
                let first = at(0)?;
                (0..c.value.len()).all(|i| at(i) == first.checked_add_unsigned(i as u64)).then_some((axis, first))
            }
            Op::Broadcast(b) => self.position(node.operands[0]).map(|(axis, by)| (b.axes[axis], by)),
            Op::Convert(c) if matches!(c.dtype, DType::I32 | DType::I64) => self.position(node.operands[0]),
            Op::Reshape(r) => {
                // Dims of size 1 that are new or gone move the axis.
                let (axis, by) = self.position(node.operands[0])?;
                let from = self.graph.ty(node.operands[0]);
                let wide = |shape: &[Dim]| {
                    shape.iter().enumerate().filter(|(_, d)| !d.is_one()).map(|(i, _)| i).collect::<Order>()
                };
                let (before, after) = (wide(&from.shape), wide(&r.shape));
                let at = before.iter().position(|&a| a == axis)?;
                let same = before.len() == after.len()
                    && before.iter().zip(&after).all(|(&a, &b)| from.shape[a] == r.shape[b]);
                same.then_some((after[at], by))
            }
            Op::Binary(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let (x, y) = two(node);
                let number = |v: Value| self.literal(v).and_then(|l| l.to_i64());
                match (op, number(x), number(y)) {
                    (BinaryOp::Add, _, Some(c)) => self.position(x).map(|(axis, by)| (axis, by + c)),
                    (BinaryOp::Add, Some(c), _) => self.position(y).map(|(axis, by)| (axis, by + c)),
                    (BinaryOp::Sub, _, Some(c)) => self.position(x).map(|(axis, by)| (axis, by - c)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl Found {
    /// Emits the operation in place of a node; `None` where it cannot be shown to be of the same type, and what was emitted is dead.
    fn emit(&self, graph: &Graph, node: &Node, new: &mut Rebuild<'_>) -> Result<Option<Value>, PassError> {
        let mut args: SmallVec<[Value; 5]> = SmallVec::new();
        for (v, order) in &self.operands {
            let v = new.get(*v);
            args.push(new.b.transpose(v, order)?);
        }
        args.extend(self.bias.iter().chain(&self.mask).map(|&v| new.get(v)));
        let scores = Scores {
            causal: self.causal,
            bias: self.bias.is_some(),
            mask: self.mask.is_some(),
            ..Scores::new(self.scale)
        };
        let op = Op::from(Attention { scores, empty: Empty::Nan });
        if new.b.infer(&op, &args).is_err() {
            return Ok(None);
        }
        let id = new.b.add_node(op, &args)?;
        let mut out = new.b.graph().node(id).result();
        if self.flipped {
            let rank = graph.ty(self.operands[0].0).rank();
            let order: Order = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            out = new.b.transpose(out, &order)?;
        }
        // Dims that are known to be equal may be spelt otherwise.
        Ok((new.b.ty(out) == graph.ty(node.result())).then_some(out))
    }
}

type Dims<'a> = (&'a SmallVec<[usize; 4]>, &'a SmallVec<[usize; 4]>);

/// Batch and contracted dims of one operand, then of the other.
fn sides(d: &DotDims, side: usize) -> (Dims<'_>, Dims<'_>) {
    let (l, r) = ((&d.lhs_batch, &d.lhs_contract), (&d.rhs_batch, &d.rhs_contract));
    if side == 0 { (l, r) } else { (r, l) }
}

/// The order of an operand's dims that makes it matrices under batch dims: positions, then features. Of values, positions are
/// contracted; of queries and keys, features.
fn matrix(graph: &Graph, v: Value, batch: &[usize], contract: &[usize], of_values: bool) -> Option<Order> {
    let rank = graph.ty(v).rank();
    let free: Order = (0..rank).filter(|d| !batch.contains(d) && !contract.contains(d)).collect();
    let (&[free], &[contract]) = (&free[..], contract) else { return None };
    let last = if of_values { [contract, free] } else { [free, contract] };
    Some(batch.iter().copied().chain(last).collect())
}

fn two(node: &Node) -> (Value, Value) {
    (node.operands[0], node.operands[1])
}

/// A multiplication or division.
fn scaling(node: &Node) -> Option<(BinaryOp, Value, Value)> {
    match node.op {
        Op::Binary(op @ (BinaryOp::Mul | BinaryOp::Div)) => Some((op, node.operands[0], node.operands[1])),
        _ => None,
    }
}

/// The comparison with operands exchanged.
fn flipped(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::Le => CompareOp::Ge,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::Ge => CompareOp::Le,
        CompareOp::Eq | CompareOp::Ne => op,
    }
}

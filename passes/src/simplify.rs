//! Algebraic simplification by named, directional rules.
//!
//! The graph is rebuilt in one sweep. Each node, its operands simplified already, is offered to the rules of its kind, and to
//! those of what replaces it, until none applies. A rule looks at the new graph and returns a [`Patch`]: an existing value, or
//! a few nodes, which are simplified in turn as they are emitted.
//! A rule is early-checked: it has seen all it needs before it says anything, and the patch has the type of what it replaces.
//!
//! # Floating-point legality
//! Rules keep every bit of every result, −0, infinities and NaN included; only *which* NaN comes out is not part of an
//! operation's meaning. Nothing is reassociated. What a rule is allowed beyond this stands in its row as [`Legality`].
//! So `x + 0` stays for floats, since it turns −0 into 0, and `x + -0` goes; `x * 0` stays, and `x - x`.

use lehr_ir::facts::Facts;
use lehr_ir::graph::{Builder, Graph, Node, Value};
use lehr_ir::ops::{Op, OpKind};
use lehr_ir::{Dim, Kind, Literal, Type};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Rebuild, Regions};

mod arithmetic;
mod broadcast;
mod contract;
mod logic;
mod shape;

/// How often what replaces a node may be replaced again: far more than any chain of rules needs.
const MAX_STEPS: usize = 32;
/// How deep the nodes of patches may nest.
const MAX_DEPTH: usize = 8;

/// What a rule keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Legality {
    /// Every bit, in every dtype it applies to.
    Exact,
    /// Every bit; it applies to integers and bool only.
    Integers,
    /// The result is the correctly rounded one, where the operation it replaces may be an ULP away.
    Rounding,
}

/// A rewrite.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// The kinds of operation it starts from.
    pub kinds: &'static [OpKind],
    /// What it keeps.
    pub legality: Legality,
    /// The law.
    pub doc: &'static str,
    /// What replaces a node, if the rule applies to it.
    pub apply: fn(&Site<'_>) -> Option<Patch>,
}

/// Every rule, grouped by theme; those of one kind are tried in this order.
pub const RULES: &[&[Rule]] = &[arithmetic::RULES, logic::RULES, broadcast::RULES, shape::RULES, contract::RULES];

/// The pass, also inside regions.
#[derive(Clone, Debug)]
pub struct Simplify {
    by_kind: Vec<Vec<&'static Rule>>,
}

impl Simplify {
    /// The pass with all rules.
    pub fn new() -> Self {
        Self::with(|_| true)
    }

    /// The pass with some of the rules.
    pub fn with(keep: impl Fn(&Rule) -> bool) -> Self {
        let of = |kind: &OpKind| {
            let all = RULES.iter().copied().flatten();
            all.filter(|r| r.kinds.contains(kind) && keep(r)).collect()
        };
        Self { by_kind: OpKind::ALL.iter().map(of).collect() }
    }
}

impl Default for Simplify {
    fn default() -> Self {
        Self::new()
    }
}

impl Pass<Graph> for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        self.simplify(graph, cx, &mut Regions::default())
    }
}

impl Simplify {
    fn simplify(&self, graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
        let mut changed = false;
        let mut new = Rebuild::new(graph);
        for (_, node) in graph.nodes() {
            if let Some(op) = regions.map(&node.op, &mut |body, regions| self.simplify(body, cx, regions))? {
                changed = true;
                new.copy_as(node, op);
                continue;
            }
            if self.by_kind[node.op.kind() as usize].is_empty() {
                new.copy(node);
                continue;
            }
            let operands = new.operands(node);
            new.at(node);
            let ty = graph.ty(node.result());
            match self.rewrite(&mut new.b, &node.op, &operands, ty, cx, 0)? {
                Some(value) => {
                    changed = true;
                    new.set_value(node.result(), value);
                }
                None => {
                    new.copy(node);
                }
            }
        }
        Ok(Outcome::when(changed, new.finish()))
    }

    /// The value that stands for an operation by the rules; `None` if none applies.
    fn rewrite(
        &self,
        b: &mut Builder,
        op: &Op,
        operands: &[Value],
        ty: &Type,
        cx: &mut PassCx,
        depth: usize,
    ) -> Result<Option<Value>, PassError> {
        let mut current: Option<(Op, Operands)> = None;
        for _ in 0..MAX_STEPS {
            let (op, operands) = current.as_ref().map_or((op, operands), |(op, operands)| (op, operands.as_slice()));
            match self.step(b, op, operands, ty, cx, depth)? {
                Step::Done(value) => return Ok(Some(value)),
                Step::Again(op, operands) => current = Some((op, operands)),
                Step::Stay => break,
            }
        }
        let Some((op, operands)) = current else { return Ok(None) };
        let id = b.push(op, operands, [ty.clone()].into_iter().collect());
        Ok(Some(b.graph().node(id).result()))
    }

    fn step(
        &self,
        b: &mut Builder,
        op: &Op,
        operands: &[Value],
        ty: &Type,
        cx: &mut PassCx,
        depth: usize,
    ) -> Result<Step, PassError> {
        for rule in &self.by_kind[op.kind() as usize] {
            let site = Site { graph: b.graph(), op, operands, ty };
            let Some(patch) = (rule.apply)(&site) else { continue };
            let fits = match patch.result {
                Arg::Value(v) => b.ty(v) == ty,
                Arg::Step(i) => i + 1 == patch.steps.len() && (i == 0 || depth < MAX_DEPTH),
            };
            if !fits {
                continue;
            }
            // The nodes before the last are emitted first, to know its type; if it is not the one wanted they are dead.
            let mut values: SmallVec<[Value; 4]> = SmallVec::new();
            let last = patch.steps.len().saturating_sub(usize::from(matches!(patch.result, Arg::Step(_))));
            let value = |values: &[Value], a: &Arg| match *a {
                Arg::Value(v) => v,
                Arg::Step(i) => values[i],
            };
            for (op, args) in &patch.steps[..last] {
                let args: Operands = args.iter().map(|a| value(&values, a)).collect();
                values.push(self.emit(b, op, args, cx, depth + 1)?);
            }
            match (patch.result, patch.steps.into_iter().nth(last)) {
                (Arg::Step(_), Some((op, args))) => {
                    let args: Operands = args.iter().map(|a| value(&values, a)).collect();
                    if b.infer(&op, &args).is_ok_and(|types| types[0] == *ty) && cx.fuel(rule.name) {
                        return Ok(Step::Again(op, args));
                    }
                }
                (result, _) => {
                    if cx.fuel(rule.name) {
                        return Ok(Step::Done(value(&values, &result)));
                    }
                }
            }
        }
        Ok(Step::Stay)
    }

    /// A node of a patch, simplified in turn.
    fn emit(
        &self,
        b: &mut Builder,
        op: &Op,
        operands: Operands,
        cx: &mut PassCx,
        depth: usize,
    ) -> Result<Value, PassError> {
        let types = b.infer(op, &operands)?;
        if let Some(value) = self.rewrite(b, op, &operands, &types[0], cx, depth)? {
            return Ok(value);
        }
        let id = b.push(op.clone(), operands, types);
        Ok(b.graph().node(id).result())
    }
}

/// What a rule makes of an operation.
#[expect(clippy::large_enum_variant, reason = "it lives for one step, and a box would cost more than the move")]
enum Step {
    /// A value that is there.
    Done(Value),
    /// Another operation, which is offered to the rules again.
    Again(Op, Operands),
    /// No rule applies.
    Stay,
}

/// What a rule looks at: an operation on simplified operands, and the graph that they are in.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    graph: &'a Graph,
    op: &'a Op,
    operands: &'a [Value],
    ty: &'a Type,
}

impl<'a> Site<'a> {
    /// The operation.
    fn op(&self) -> &'a Op {
        self.op
    }

    /// Operand `i`.
    fn operand(&self, i: usize) -> Value {
        self.operands[i]
    }

    /// The node that defines a value, unless that is a parameter.
    fn def(&self, v: Value) -> Option<&'a Node> {
        self.graph.def_node(v)
    }

    fn type_of(&self, v: Value) -> &'a Type {
        self.graph.ty(v)
    }

    fn shape_of(&self, v: Value) -> &'a [Dim] {
        &self.graph.ty(v).shape
    }

    fn facts(&self) -> &'a Facts {
        &self.graph.facts
    }

    /// Whether the result, and operands of its dtype, are floats.
    fn is_float(&self) -> bool {
        self.ty.dtype.is_float()
    }

    /// Whether the result is of integers or bool.
    fn is_discrete(&self) -> bool {
        matches!(self.ty.dtype.kind(), Kind::Bool | Kind::Signed | Kind::Unsigned)
    }

    /// The element of a value whose elements are one constant.
    fn splat(&self, mut v: Value) -> Option<Literal> {
        loop {
            let node = self.def(v)?;
            if let Op::Constant(c) = &node.op {
                return c.value.item();
            }
            if !matches!(node.op, Op::Broadcast(_) | Op::Reshape(_)) {
                return None;
            }
            v = node.operands[0];
        }
    }

    /// The two operands in both orders, where the second one is a splat.
    fn with_splat(&self) -> impl Iterator<Item = (Value, Literal)> {
        let (x, y) = (self.operands[0], self.operands[1]);
        [(x, y), (y, x)].into_iter().filter_map(|(v, c)| self.splat(c).map(|l| (v, l)))
    }
}

/// An argument of a patch's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Arg {
    /// A value of the graph.
    Value(Value),
    /// The result of an earlier node of the patch.
    Step(usize),
}

/// What replaces a node: a value that is there, or the last of a few new nodes.
#[derive(Clone, Debug)]
pub struct Patch {
    steps: SmallVec<[(Op, SmallVec<[Arg; 3]>); 2]>,
    result: Arg,
}

impl Patch {
    /// A value that is there.
    fn value(v: Value) -> Option<Self> {
        Some(Self { steps: SmallVec::new(), result: Arg::Value(v) })
    }

    /// One operation.
    fn op(op: impl Into<Op>, operands: &[Value]) -> Option<Self> {
        Some(Self::empty().then(op, operands.iter().map(|&v| Arg::Value(v))))
    }

    /// One operand put through one operation, and then another.
    fn chain(first: impl Into<Op>, x: Value, second: impl Into<Op>) -> Option<Self> {
        Some(Self::empty().then(first, [Arg::Value(x)]).then(second, [Arg::Step(0)]))
    }

    /// A constant of one element, in a shape.
    fn splat(value: Literal, ty: &Type) -> Option<Self> {
        Some(Self::empty().and_splat(value, ty))
    }

    fn empty() -> Self {
        // Replaced by the first step.
        Self { steps: SmallVec::new(), result: Arg::Step(0) }
    }

    /// Adds an operation, whose result is the patch's.
    fn then(mut self, op: impl Into<Op>, args: impl IntoIterator<Item = Arg>) -> Self {
        self.result = Arg::Step(self.steps.len());
        self.steps.push((op.into(), args.into_iter().collect()));
        self
    }

    /// Adds a constant of one element in a shape.
    fn and_splat(self, value: Literal, ty: &Type) -> Self {
        let scalar = lehr_ir::ops::Constant { value: lehr_ir::Array::from_literal(value) };
        let patch = self.then(scalar, []);
        if ty.shape.is_empty() {
            return patch;
        }
        let scalar = patch.result;
        patch.then(lehr_ir::ops::Broadcast { shape: ty.shape.clone(), axes: SmallVec::new() }, [scalar])
    }
}

//! Why a derivative cannot be built, and the way from the output to the operation that is to blame.

use std::fmt;

use lehr_ir::graph::{Graph, NodeId, Value};
use lehr_ir::ops::{Op, RuleError};
use lehr_ir::{Loc, OpError, Type};

/// Why a derivative cannot be built.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// An operation on the way has no derivative, or the derivative no transpose.
    #[error(transparent)]
    Missing(Box<Missing>),
    /// The gradient of something that is not a scalar.
    #[error(
        "grad: output `{name}` is {ty}; only a scalar has a gradient\n  = help: reduce it, as with mean(), or ask for vjp or jacobian"
    )]
    NotScalar {
        /// The output.
        name: String,
        /// Its type.
        ty: Box<Type>,
    },
    /// A derivative of or by something that does not vary.
    #[error("grad: {role} `{name}` is {ty}; only floats vary\n  = help: convert it to a float dtype, or leave it out")]
    NotInexact {
        /// `parameter` or `output`.
        role: &'static str,
        /// Its name.
        name: String,
        /// Its type.
        ty: Box<Type>,
    },
    /// A parameter that the graph does not have.
    #[error("grad: `{graph}` has no parameter {index}; it has {count}")]
    NoParam {
        /// The graph.
        graph: String,
        /// The position asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// An output that the graph does not have.
    #[error("grad: `{graph}` has no output {index}; it has {count}")]
    NoOutput {
        /// The graph.
        graph: String,
        /// The position asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A parameter or output that is named twice.
    #[error("grad: `{name}` is named twice; name it once")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// A derivative that depends on a tangent in more than a linear way: a bug of an operation's rule.
    #[error("internal error: the derivative of `{op}` is not linear in its tangents{}", at(loc))]
    NotLinear {
        /// The operation that uses a tangent as if it were a value.
        op: String,
        /// The user's line.
        loc: Loc,
    },
    /// An operation that a rule emits was refused: a bug of the rule.
    #[error("internal error: a derivative rule emits an operation that is refused\n{0}")]
    Op(#[from] OpError),
}

fn at(loc: &Loc) -> String {
    if loc.is_known() { format!("\n  --> {loc}") } else { String::new() }
}

/// An operation without a derivative, and how it lies between output and input.
///
/// ```text
/// grad: `random_walk` has no derivative rule; give its ExternOp one
///   --> src/main.rs:9:5
///   output `loss`
///     reduce         src/main.rs:11:9
///   > random_walk    src/main.rs:9:5
///     mul            src/main.rs:8:20
///   input `w`
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The operation.
    pub op: String,
    /// What it lacks, and the remedy.
    pub reason: String,
    /// The user's line.
    pub loc: Loc,
    /// The output that is differentiated.
    pub output: String,
    /// The input that it is differentiated by.
    pub input: String,
    /// The operations from the output to the input.
    pub path: Vec<Step>,
    /// Which of them it is.
    pub culprit: usize,
}

/// One operation of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The operation's name; for a call, the composite's.
    pub op: String,
    /// The user's line.
    pub loc: Loc,
}

/// The most operations of a path that are printed on either side of the one to blame.
const SHOWN: usize = 8;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grad: {}{}", self.reason, at(&self.loc))?;
        write!(f, "\n  output `{}`", self.output)?;
        let shown = self.culprit.saturating_sub(SHOWN)..(self.culprit + SHOWN + 1).min(self.path.len());
        let width = self.path[shown.clone()].iter().map(|s| s.op.chars().count()).max().unwrap_or(0);
        if shown.start > 0 {
            write!(f, "\n    … {} more", shown.start)?;
        }
        for i in shown.clone() {
            let step = &self.path[i];
            let mark = if i == self.culprit { ">" } else { " " };
            let line = match step.loc.is_known() {
                true => format!("  {mark} {:width$}  {}", step.op, step.loc),
                false => format!("  {mark} {}", step.op),
            };
            write!(f, "\n{line}")?;
        }
        if shown.end < self.path.len() {
            write!(f, "\n    … {} more", self.path.len() - shown.end)?;
        }
        write!(f, "\n  input `{}`", self.input)
    }
}

impl std::error::Error for Missing {}

/// What went wrong at a node.
pub(super) enum Cause {
    /// Its rule.
    Rule(RuleError),
    /// The derivative of its body.
    Body(DiffError),
}

impl From<RuleError> for Cause {
    fn from(e: RuleError) -> Self {
        Self::Rule(e)
    }
}

impl From<OpError> for Cause {
    fn from(e: OpError) -> Self {
        Self::Rule(e.into())
    }
}

impl From<DiffError> for Cause {
    fn from(e: DiffError) -> Self {
        Self::Body(e)
    }
}

/// The error of a node, with the path through it. `varies` says which values depend on an input asked for,
/// `wanted` which outputs are differentiated.
pub(super) fn locate(graph: &Graph, id: NodeId, cause: Cause, varies: &[bool], wanted: &[bool]) -> DiffError {
    let node = graph.node(id);
    let (inner, culprit, op, reason, loc) = match cause {
        Cause::Rule(RuleError::Missing(reason)) => (Vec::new(), 0, name(&node.op), reason, node.loc.clone()),
        Cause::Rule(RuleError::Op(e)) => return DiffError::Op(e),
        Cause::Body(DiffError::Missing(m)) => (m.path, m.culprit + 1, m.op, m.reason, m.loc),
        Cause::Body(other) => return other,
        Cause::Rule(other) => (Vec::new(), 0, name(&node.op), other.to_string(), node.loc.clone()),
    };
    let (before, output) = towards_output(graph, id, wanted);
    let (after, input) = towards_input(graph, id, varies);
    let culprit = before.len() + culprit;
    let here = Step { op: name(&node.op), loc: node.loc.clone() };
    let path = before.into_iter().chain([here]).chain(inner).chain(after).collect();
    // A body's node may have no line of its own, and then its call's is the user's.
    let loc = if loc.is_known() { loc } else { node.loc.clone() };
    DiffError::Missing(Box::new(Missing { op, reason, loc, output, input, path, culprit }))
}

/// The operations after a node on a way to an output that is differentiated, outermost first, and the output.
fn towards_output(graph: &Graph, id: NodeId, wanted: &[bool]) -> (Vec<Step>, String) {
    // For each value that depends on the node, the operand through which it does.
    let mut via: Vec<Option<Value>> = vec![None; graph.value_count()];
    for v in graph.node(id).results() {
        via[v.index()] = Some(v);
    }
    for (_, node) in graph.nodes().skip(id.index() + 1) {
        let from = node.operands.iter().copied().find(|v| via[v.index()].is_some());
        for v in node.results() {
            via[v.index()] = from;
        }
    }
    let mut outputs = graph.outputs().iter().zip(wanted).filter(|(_, wanted)| **wanted);
    let Some((output, _)) = outputs.find(|(o, _)| via[o.value.index()].is_some()) else {
        return (Vec::new(), String::new());
    };
    let mut steps = Vec::new();
    let mut at = output.value;
    while let Some(from) = via[at.index()].filter(|&from| from != at) {
        steps.extend(graph.def_node(at).map(step));
        at = from;
    }
    (steps, output.name.clone())
}

/// The operations before a node on a way to an input that varies, and the input.
fn towards_input(graph: &Graph, id: NodeId, varies: &[bool]) -> (Vec<Step>, String) {
    let mut steps = Vec::new();
    let mut node = graph.node(id);
    loop {
        let Some(&v) = node.operands.iter().find(|v| varies[v.index()]) else { return (steps, String::new()) };
        match graph.def_node(v) {
            Some(next) => {
                steps.push(step(next));
                node = next;
            }
            None => return (steps, graph.params()[v.index()].name.clone()),
        }
    }
}

fn step(node: &lehr_ir::graph::Node) -> Step {
    Step { op: name(&node.op), loc: node.loc.clone() }
}

fn name(op: &Op) -> String {
    if let Op::Call(c) = op { c.name.clone() } else { op.name().to_owned() }
}

//! The immutable expression DAG behind the user's handle.
//!
//! An [`Expr`] is one result of a shared node: `Clone + Send + Sync`, without lifetimes or a backend parameter.
//! Nothing is computed here: a transformation [imports](import) what is reachable into an arena [`Graph`], runs there, and
//! [exports](export) new nodes.
//! An ill-typed operation gives an expression that carries its error; everything made from it carries it on.
//! Dropping and walking are iterative, so that a chain of 100,000 nodes does not overflow a stack.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::array::Array;
use crate::error::{OpError, Rule};
use crate::facts::{Fact, Facts};
use crate::graph::{Builder, Graph, ParamKind, Value};
use crate::loc::Loc;
use crate::ops::{self, Op, Types};
use crate::ty::Type;

mod captures;

pub use captures::captures;

/// One result of a node of the DAG.
#[derive(Clone)]
pub struct Expr {
    node: Arc<ExprNode>,
    result: u32,
}

/// A node of the DAG.
#[derive(Debug)]
struct ExprNode {
    kind: ExprKind,
    types: Types,
    facts: Facts,
    loc: Loc,
    scope: ScopePath,
}

/// The names of the scopes around a node, shared between nodes; `None` at the root.
pub type ScopePath = Option<Arc<str>>;

/// What a node is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most nodes are operations, and each node is allotted once")]
enum ExprKind {
    Input(Arc<str>),
    Variable(Arc<Variable>),
    Data(Array),
    Apply(Op, SmallVec<[Expr; 3]>),
    Assume(Expr),
    Invalid(Errors),
}

/// The distinct errors that an expression carries, in the order they were met.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors(Arc<[Arc<OpError>]>);

/// A leaf with identity: a weight, a moment, a running statistic, a random key.
///
/// Its values live in a state outside the graph. Two variables are the same only if they are one object.
#[derive(Debug)]
pub struct Variable {
    /// The name that dumps and saved files start from.
    pub name: String,
    /// Its type; all dims are constants.
    pub ty: Type,
    /// The value that a fresh state gives it.
    pub initial: Array,
    /// Whether optimisers train it, rather than a forward pass updating it.
    pub trainable: bool,
}

impl Expr {
    /// A placeholder, given by the caller on each call.
    pub fn input(name: &str, ty: Type, loc: Loc) -> Self {
        Self::leaf(ExprKind::Input(name.into()), ty, loc)
    }

    /// A captured array.
    pub fn data(array: Array, loc: Loc) -> Self {
        let ty = Type::new(array.dtype(), array.shape().iter().copied());
        Self::leaf(ExprKind::Data(array), ty, loc)
    }

    /// A reading of a variable: its value at the start of the call.
    pub fn variable(variable: &Arc<Variable>, loc: Loc) -> Self {
        let ty = variable.ty.clone();
        Self::leaf(ExprKind::Variable(Arc::clone(variable)), ty, loc)
    }

    /// An expression that only carries an error.
    pub fn invalid(error: OpError) -> Self {
        Self::with_errors(Errors(Arc::new([Arc::new(error)])))
    }

    /// An expression that only carries errors.
    pub fn with_errors(errors: Errors) -> Self {
        Self::node(ExprKind::Invalid(errors), Types::new(), Facts::default(), Loc::UNKNOWN, None)
    }

    fn leaf(kind: ExprKind, ty: Type, loc: Loc) -> Self {
        Self::node(kind, SmallVec::from_iter([ty]), Facts::default(), loc, None)
    }

    fn node(kind: ExprKind, types: Types, facts: Facts, loc: Loc, scope: ScopePath) -> Self {
        Self { node: Arc::new(ExprNode { kind, types, facts, loc, scope }), result: 0 }
    }

    /// An operation; gives one expression for each result, or one that carries the errors.
    pub fn apply(op: Op, operands: &[Self], loc: Loc, scope: ScopePath) -> SmallVec<[Self; 1]> {
        if let Some(errors) = errors_of(operands) {
            return SmallVec::from_iter([Self::with_errors(errors)]);
        }
        let facts = match merged_facts(operands, op.name(), &loc) {
            Ok(facts) => facts,
            Err(e) => return SmallVec::from_iter([Self::invalid(e)]),
        };
        let types: SmallVec<[&Type; 4]> = operands.iter().filter_map(Self::ty).collect();
        match ops::infer(&op, &types, &facts, &loc) {
            Err(e) => SmallVec::from_iter([Self::invalid(e)]),
            Ok(types) => {
                let kind = ExprKind::Apply(op, operands.iter().cloned().collect());
                Self::node(kind, types, facts, loc, scope).results()
            }
        }
    }

    /// All results of this expression's node.
    fn results(self) -> SmallVec<[Self; 1]> {
        (0..self.node.types.len() as u32).map(|result| Self { node: Arc::clone(&self.node), result }).collect()
    }

    /// The same value, where `fact` is known from here on.
    pub fn assume(&self, fact: Fact, loc: Loc) -> Self {
        let Some(ty) = self.ty() else { return self.clone() };
        let mut facts = self.node.facts.clone();
        if let Err(e) = facts.assume(fact) {
            let rule = Rule::new(e.to_string(), "assume what can hold for some sizes");
            return Self::invalid(OpError::new("assume", vec![ty.clone()], rule, loc));
        }
        let types = SmallVec::from_iter([ty.clone()]);
        Self::node(ExprKind::Assume(self.clone()), types, facts, loc, None)
    }

    /// Its type, unless it carries errors.
    pub fn ty(&self) -> Option<&Type> {
        self.node.types.get(self.result as usize)
    }

    /// The errors it carries.
    pub fn errors(&self) -> Option<&Errors> {
        if let ExprKind::Invalid(e) = &self.node.kind { Some(e) } else { None }
    }

    /// What is known of the symbols of its type.
    pub fn facts(&self) -> &Facts {
        &self.node.facts
    }

    /// The user's line that made it.
    pub fn loc(&self) -> &Loc {
        &self.node.loc
    }

    /// The array, if this is captured data.
    pub fn as_data(&self) -> Option<&Array> {
        if let ExprKind::Data(a) = &self.node.kind { Some(a) } else { None }
    }

    /// The variable, if this reads one.
    pub fn as_variable(&self) -> Option<&Arc<Variable>> {
        if let ExprKind::Variable(v) = &self.node.kind { Some(v) } else { None }
    }

    /// The name, if this is a placeholder.
    pub fn as_input(&self) -> Option<&str> {
        if let ExprKind::Input(n) = &self.node.kind { Some(n) } else { None }
    }

    /// Whether both are the same result of the same node.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.node, &other.node) && self.result == other.result
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.node) as usize
    }

    fn result_key(&self) -> (usize, u32) {
        (self.key(), self.result)
    }

    /// The names of the scopes around it when it was made.
    pub fn scope(&self) -> Option<&str> {
        self.node.scope.as_deref()
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.node.kind, self.ty()) {
            (ExprKind::Invalid(e), _) => write!(f, "Expr(invalid: {})", e.iter().next().map_or("", OpError::op)),
            (ExprKind::Input(n), Some(ty)) => write!(f, "Expr(input {n}: {ty})"),
            (ExprKind::Variable(v), Some(ty)) => write!(f, "Expr(variable {}: {ty})", v.name),
            (ExprKind::Data(_), Some(ty)) => write!(f, "Expr(data: {ty})"),
            (ExprKind::Apply(op, _), Some(ty)) => write!(f, "Expr({op}: {ty})"),
            (ExprKind::Assume(_), Some(ty)) => write!(f, "Expr(assume: {ty})"),
            (_, None) => f.write_str("Expr(?)"),
        }
    }
}

impl Drop for ExprNode {
    fn drop(&mut self) {
        let mut stack: Vec<Expr> = Vec::new();
        take_operands(&mut self.kind, &mut stack);
        while let Some(e) = stack.pop() {
            // Only the last owner goes on; everyone else just lets go.
            if let Some(mut node) = Arc::into_inner(e.node) {
                take_operands(&mut node.kind, &mut stack);
            }
        }
    }
}

fn take_operands(kind: &mut ExprKind, out: &mut Vec<Expr>) {
    match std::mem::replace(kind, ExprKind::Input(Arc::default())) {
        ExprKind::Apply(_, operands) => out.extend(operands),
        ExprKind::Assume(e) => out.push(e),
        ExprKind::Input(_) | ExprKind::Variable(_) | ExprKind::Data(_) | ExprKind::Invalid(_) => {}
    }
}

impl Errors {
    /// The errors, in the order they were met.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &OpError> {
        self.0.iter().map(|e| &**e)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, e) in self.iter().enumerate() {
            write!(f, "{}{e}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The union of the errors that expressions carry.
pub fn errors_of<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Option<Errors> {
    let mut all: Vec<Arc<OpError>> = Vec::new();
    for e in exprs {
        for error in e.errors().iter().flat_map(|e| e.0.iter()) {
            if !all.iter().any(|known| Arc::ptr_eq(known, error) || known == error) {
                all.push(Arc::clone(error));
            }
        }
    }
    (!all.is_empty()).then(|| Errors(all.into()))
}

fn merged_facts(operands: &[Expr], op: &str, loc: &Loc) -> Result<Facts, OpError> {
    let mut facts = Facts::default();
    for e in operands {
        if e.node.facts.is_empty() || e.node.facts == facts {
            continue;
        }
        if facts.is_empty() {
            facts = e.node.facts.clone();
        } else if let Err(error) = facts.merge(&e.node.facts) {
            let types = operands.iter().filter_map(Expr::ty).cloned().collect();
            let rule = Rule::new(error.to_string(), "make the assumptions of the operands agree");
            return Err(OpError::new(op, types, rule, loc.clone()));
        }
    }
    Ok(facts)
}

/// A leaf that became a parameter of an imported graph.
#[derive(Clone, Debug)]
pub enum Leaf {
    /// A placeholder.
    Input(Expr),
    /// A variable.
    Variable(Arc<Variable>),
    /// A captured array.
    Data(Array),
}

/// A graph made from expressions.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph; it has no outputs or updates yet.
    pub graph: Graph,
    /// The values of the roots, in order.
    pub roots: Vec<Value>,
    /// What each parameter of the graph stands for: inputs, then variables, then data.
    pub leaves: Vec<Leaf>,
    /// The expression that each parameter was: what [`export`] takes, so that what comes back has the same leaves.
    pub args: Vec<Expr>,
}

/// Makes a graph of everything reachable from `roots`.
///
/// `first` become the first parameters in that order, used or not: inputs, variables, or any other expressions, which then are
/// cut off from what they were made of. Remaining leaves follow in the order they are met: inputs, variables, data.
/// # Errors
/// The errors that the roots carry; one name used for two inputs of different types.
pub fn import(name: &str, roots: &[Expr], first: &[Expr]) -> Result<Imported, Errors> {
    if let Some(errors) = errors_of(roots.iter().chain(first)) {
        return Err(errors);
    }
    let order = topological(roots, first);
    let mut b = Builder::new(name);
    let mut import =
        Import { values: HashMap::default(), names: HashMap::default(), leaves: Vec::new(), args: Vec::new() };
    for e in first {
        import.leaf(&mut b, e)?;
    }
    for kind in [ParamKind::Input, ParamKind::Variable, ParamKind::Data] {
        for e in &order {
            if e.leaf_kind() == Some(kind) {
                import.leaf(&mut b, e)?;
            }
        }
    }
    let mut facts = Facts::default();
    for e in roots.iter().chain(&order) {
        if !e.node.facts.is_empty() && facts != e.node.facts {
            let merged = facts.merge(&e.node.facts);
            merged.map_err(|error| import_error("import", e, error.to_string()))?;
        }
    }
    b.set_facts(facts);
    for e in &order {
        match &e.node.kind {
            ExprKind::Apply(op, operands) => {
                let operands: SmallVec<[Value; 3]> = operands.iter().filter_map(|o| import.value(o)).collect();
                b.loc = e.node.loc.clone();
                b.scope = b.scope_of_path(e.node.scope.as_deref().map_or("", visible_scope));
                let id = b.push(op.clone(), operands, e.node.types.clone());
                for (result, v) in (0..).zip(b.graph().node(id).results()) {
                    // A result that is a parameter stays one.
                    import.values.entry((e.key(), result)).or_insert(v);
                }
            }
            ExprKind::Assume(of) => {
                if let Some(v) = import.value(of) {
                    import.values.entry((e.key(), 0)).or_insert(v);
                }
            }
            ExprKind::Input(_) | ExprKind::Variable(_) | ExprKind::Data(_) | ExprKind::Invalid(_) => {}
        }
    }
    let roots = roots.iter().filter_map(|e| import.value(e)).collect();
    Ok(Imported { graph: b.finish(), roots, leaves: import.leaves, args: import.args })
}

/// A path of scopes without those around the innermost region, which a component `#…` marks: a region has scopes of its own.
fn visible_scope(path: &str) -> &str {
    match path.rfind('#') {
        Some(mark) => path[mark..].split_once('/').map_or("", |(_, inner)| inner),
        None => path,
    }
}

struct Import {
    /// By node and result.
    values: HashMap<(usize, u32), Value, FxBuildHasher>,
    names: HashMap<String, (Value, Type), FxBuildHasher>,
    leaves: Vec<Leaf>,
    args: Vec<Expr>,
}

impl Import {
    fn value(&self, e: &Expr) -> Option<Value> {
        self.values.get(&(e.key(), e.result)).copied()
    }

    fn leaf(&mut self, b: &mut Builder, e: &Expr) -> Result<(), Errors> {
        if self.values.contains_key(&(e.key(), e.result)) {
            return Ok(());
        }
        let Some(ty) = e.ty() else { return Ok(()) };
        let (kind, wish, leaf) = match &e.node.kind {
            ExprKind::Input(n) => {
                if let Some((v, known)) = self.names.get(&**n) {
                    if known == ty {
                        let v = *v;
                        self.values.insert((e.key(), e.result), v);
                        return Ok(());
                    }
                    let message = format!("the input `{n}` is also made as {known}");
                    return Err(import_error("input", e, message));
                }
                (ParamKind::Input, n.to_string(), Leaf::Input(e.clone()))
            }
            ExprKind::Variable(v) => {
                // A variable may be read by several nodes.
                if let Some(i) = self.leaves.iter().position(|l| matches!(l, Leaf::Variable(w) if Arc::ptr_eq(v, w))) {
                    self.values.insert((e.key(), e.result), Value(i as u32));
                    return Ok(());
                }
                (ParamKind::Variable, v.name.clone(), Leaf::Variable(Arc::clone(v)))
            }
            ExprKind::Data(a) => (ParamKind::Data, "data".to_owned(), Leaf::Data(a.clone())),
            ExprKind::Apply(..) | ExprKind::Assume(_) => (ParamKind::Input, "arg".to_owned(), Leaf::Input(e.clone())),
            ExprKind::Invalid(_) => return Ok(()),
        };
        let unique = kind == ParamKind::Input && matches!(e.node.kind, ExprKind::Input(_));
        let name = if unique { wish } else { self.fresh_name(&wish) };
        b.loc = e.node.loc.clone();
        let v = b.param(name.clone(), kind, ty.clone());
        self.names.insert(name, (v, ty.clone()));
        self.values.insert((e.key(), e.result), v);
        self.leaves.push(leaf);
        self.args.push(e.clone());
        Ok(())
    }

    fn fresh_name(&self, wish: &str) -> String {
        if !self.names.contains_key(wish) && wish != "data" && wish != "arg" {
            return wish.to_owned();
        }
        let mut i = self.leaves.len();
        loop {
            let name = format!("{wish}_{i}");
            if !self.names.contains_key(&name) {
                return name;
            }
            i += 1;
        }
    }
}

impl Expr {
    fn leaf_kind(&self) -> Option<ParamKind> {
        match self.node.kind {
            ExprKind::Input(_) => Some(ParamKind::Input),
            ExprKind::Variable(_) => Some(ParamKind::Variable),
            ExprKind::Data(_) => Some(ParamKind::Data),
            ExprKind::Apply(..) | ExprKind::Assume(_) | ExprKind::Invalid(_) => None,
        }
    }

    fn operands(&self) -> &[Self] {
        match &self.node.kind {
            ExprKind::Apply(_, operands) => operands,
            ExprKind::Assume(e) => std::slice::from_ref(e),
            ExprKind::Input(_) | ExprKind::Variable(_) | ExprKind::Data(_) | ExprKind::Invalid(_) => &[],
        }
    }
}

fn import_error(op: &str, e: &Expr, message: String) -> Errors {
    let rule = Rule::new(message, "give inputs of different types different names, and assume what can hold together");
    let error = OpError::new(op, e.ty().cloned().into_iter().collect(), rule, e.node.loc.clone());
    Errors(Arc::new([Arc::new(error)]))
}

/// The nodes reachable from `roots`, operands first, without what lies behind `cut`.
fn topological(roots: &[Expr], cut: &[Expr]) -> Vec<Expr> {
    let cut: HashSet<(usize, u32), FxBuildHasher> = cut.iter().map(Expr::result_key).collect();
    topological_within(roots, &|e| !cut.contains(&e.result_key()))
}

/// The nodes reachable from `roots` through those that `enters` holds for, operands first.
fn topological_within(roots: &[Expr], enters: &dyn Fn(&Expr) -> bool) -> Vec<Expr> {
    let mut seen: HashSet<usize, FxBuildHasher> = HashSet::default();
    let mut order = Vec::new();
    // Each frame is a node and how many of its operands have been entered.
    let mut stack: Vec<(Expr, usize)> = Vec::new();
    for root in roots {
        if enters(root) && seen.insert(root.key()) {
            stack.push((root.clone(), 0));
        }
        while let Some((e, next)) = stack.last_mut() {
            if let Some(operand) = e.operands().get(*next).cloned() {
                *next += 1;
                if enters(&operand) && seen.insert(operand.key()) {
                    stack.push((operand, 0));
                }
            } else if let Some((e, _)) = stack.pop() {
                order.push(e);
            }
        }
    }
    order
}

/// The graph's outputs as expressions, where `args` are its parameters.
///
/// Locations and scopes of the graph's nodes carry over; the scopes stand inside those `around`.
pub fn export(graph: &Graph, args: &[Expr], around: &ScopePath) -> Vec<Expr> {
    let mut paths: HashMap<u32, ScopePath, FxBuildHasher> = HashMap::default();
    let mut values: Vec<Expr> = args.to_vec();
    for (_, node) in graph.nodes() {
        let operands: SmallVec<[Expr; 3]> = node.operands.iter().map(|v| values[v.index()].clone()).collect();
        let scope = paths.entry(node.scope.0).or_insert_with(|| {
            let path = graph.scope_path(node.scope);
            match around {
                None => (!path.is_empty()).then(|| path.into()),
                Some(around) if path.is_empty() => Some(Arc::clone(around)),
                Some(around) => Some(format!("{around}/{path}").into()),
            }
        });
        let types: Types = node.results().map(|v| graph.ty(v).clone()).collect();
        let kind = ExprKind::Apply(node.op.clone(), operands);
        let e = Expr::node(kind, types, graph.facts.clone(), node.loc.clone(), scope.clone());
        values.extend(e.results());
    }
    graph.outputs().iter().map(|o| values[o.value.index()].clone()).collect()
}

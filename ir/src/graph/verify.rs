//! Checks that a graph means something. The invariants, of the graph and of each region in it:
//!
//! **Values**
//! - Parameters are the first values, in order; the results of the nodes follow, in order.
//! - An operand is older than its node; outputs and updates are values of the graph.
//! - A type has at most [`MAX_RANK`] dims. No dim is faulty, and no constant dim is negative.
//! - Each symbol in the type of a result, or in an operation's dims, occurs in a parameter's type or in a fact.
//!   Inside a region the symbols of the graphs around it count too: a name is one size everywhere.
//!
//! **Operations**
//! - The number of operands is the operation's arity.
//! - Shape inference, run again on the operands, gives as many results, of the same dtypes and of dims that are provably equal.
//! - Attributes nest at most [`MAX_ATTR_DEPTH`] deep, regions at most [`MAX_REGION_DEPTH`].
//!
//! **Signature**
//! - Names of parameters are unique; so are names of outputs.
//! - An update names a variable and a value of its type; a variable has at most one.
//!
//! **Scopes**
//! - A node's scope exists. The root comes first; each other scope has a name without `/` and an older parent.
//! - Scopes nest at most [`MAX_SCOPE_DEPTH`] deep.
//!
//! **Regions**
//! - A region is closed: its parameters are inputs, as many as the operands and of their types; it updates no variable.
//! - Its outputs are the node's results.
//! - A call's own derivative takes the operands, then tangents of the inexact ones,
//!   and gives the results, then tangents of the inexact ones.
//! - A call's own reverse rule has a forward graph from the operands to the results, then residuals,
//!   and a backward graph from the residuals, then cotangents of the inexact results, to cotangents of the inexact operands.
//!
//! A region that several operations share is checked once, so the work is linear in the graph as it lies in memory.
//! The error prints the whole graph with each message under the line it is about.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::parse::TypeList;
use super::print::{Line, Notes, Site, annotated};
use super::{Def, Graph, Node, NodeId, ParamKind, ScopeId, Value};
use crate::attrs::{Attr, Attrs};
use crate::dim::{Dim, Symbol};
use crate::error::OpError;
use crate::facts::Facts;
use crate::ops::{self, Op, Types, Vjp};
use crate::ty::Type;

/// The most dims of a type.
pub const MAX_RANK: usize = 64;
/// The deepest nesting of scopes.
pub const MAX_SCOPE_DEPTH: usize = 64;
/// The deepest nesting of regions; it bounds every recursion over graphs.
pub const MAX_REGION_DEPTH: usize = 32;
/// The deepest nesting of attributes in braces.
pub const MAX_ATTR_DEPTH: usize = 4;
/// The most errors reported.
const MAX_ERRORS: usize = 100;

/// Checks every invariant of this module's list.
///
/// # Errors
/// Every breach found, up to a hundred.
pub fn verify(graph: &Graph) -> Result<(), VerifyErrors> {
    check(graph, true)
}

/// Checks everything but shape inference, for graphs whose types have just been inferred.
pub(super) fn structure(graph: &Graph) -> Result<(), VerifyErrors> {
    check(graph, false)
}

/// Whether two lists of types are as long, of the same dtypes, and of dims that are provably equal.
pub(super) fn agree(a: &[Type], b: &[Type], facts: &Facts) -> bool {
    let same = |(a, b): (&Type, &Type)| {
        a == b
            || (a.dtype == b.dtype
                && a.rank() == b.rank()
                && a.shape.iter().zip(&b.shape).all(|(x, y)| facts.decide_eq(x, y) == Some(true)))
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// What a graph breaks, and the graph.
///
/// `Display` prints the graph with the messages under the lines they are about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyErrors {
    graph: String,
    errors: Vec<VerifyError>,
    text: String,
}

/// One broken invariant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyError {
    /// Where.
    pub site: Site,
    /// Which.
    pub kind: VerifyErrorKind,
}

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The table of values is not parameters, then results.
    #[error("the table of values is not parameters first, then results in order")]
    Arena,
    /// A value that does not exist.
    #[error("value {0} does not exist")]
    UnknownValue(Value),
    /// An operand that is not older than its node.
    #[error("operand {0} is not defined above")]
    NotOlder(usize),
    /// A type with too many dims.
    #[error("{0} has more than {MAX_RANK} dims")]
    Rank(Type),
    /// A dim that is faulty or negative.
    #[error("dim {0} is no size")]
    Dim(Dim),
    /// A symbol that nothing declares.
    #[error("symbol `{0}` is in no parameter's type and in no fact; add an assumption about it, such as `{0} >= 0`")]
    Symbol(Symbol),
    /// The operation refuses its operands.
    #[error("{0}")]
    Op(OpError),
    /// Results of other types than the inferred ones.
    #[error("its type is {stated}, but the operation gives {inferred}")]
    Types {
        /// The types it has.
        stated: TypeList,
        /// The types inferred.
        inferred: TypeList,
    },
    /// Nesting of attributes or regions.
    #[error("{0} nest more than {1} deep")]
    TooDeep(&'static str, usize),
    /// Two parameters of one name.
    #[error("two parameters are named \"{0}\"")]
    ParamName(String),
    /// Two outputs of one name.
    #[error("two outputs are named \"{0}\"")]
    OutputName(String),
    /// An update of what is no variable.
    #[error("parameter {0} is no variable")]
    NotVariable(u32),
    /// A second update.
    #[error("variable \"{0}\" is updated twice")]
    UpdatedTwice(String),
    /// An update of another type.
    #[error("variable \"{name}\" is {variable}, and its new value is {value}")]
    UpdateType {
        /// The variable.
        name: String,
        /// Its type.
        variable: Box<Type>,
        /// The type of the new value.
        value: Box<Type>,
    },
    /// A scope that does not exist.
    #[error("{0} does not exist")]
    UnknownScope(ScopeId),
    /// A scope that is ill-formed.
    #[error(
        "{0} named \"{1}\" is ill-formed: a scope has an older parent, a name without `/`, and at most {MAX_SCOPE_DEPTH} around it"
    )]
    Scope(ScopeId, String),
    /// A region whose parameter is a variable or data.
    #[error("parameter \"{0}\" of a region is no input")]
    RegionParam(String),
    /// A region that updates a variable.
    #[error("a region updates a variable")]
    RegionUpdate,
    /// A reverse derivative's forward graph of another signature.
    #[error("the forward graph of the reverse rule is from {stated} where the call is from {expected}, then residuals")]
    Forward {
        /// Parameters and results it has.
        stated: Signature,
        /// Parameters and results it must have.
        expected: Signature,
    },
    /// A reverse derivative's backward graph of another signature.
    #[error(
        "the backward graph of the reverse rule is from {stated} where residuals and cotangents of the results to cotangents of the operands are from {expected}"
    )]
    Backward {
        /// Parameters and outputs it has.
        stated: Signature,
        /// Parameters and outputs it must have.
        expected: Signature,
    },
    /// The linear part of a call with a reverse rule, outside a transformation.
    #[error("the linear part of a reverse rule is left over: it can be transposed and not run")]
    LinearPart,
    /// A derivative of another signature.
    #[error("the derivative is from {stated} where the call asks for {expected}")]
    Derivative {
        /// Parameters and outputs it has.
        stated: Signature,
        /// Parameters and outputs it must have.
        expected: Signature,
    },
}

/// The types of parameters and outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// Of the parameters.
    pub params: TypeList,
    /// Of the outputs.
    pub outputs: TypeList,
}

impl VerifyErrors {
    /// The errors found.
    pub fn errors(&self) -> &[VerifyError] {
        &self.errors
    }

    /// The first error in a clause, and how many follow.
    pub fn summary(&self) -> String {
        let first = self.errors.first().map(|e| e.kind.to_string()).unwrap_or_default();
        match self.errors.len() {
            0 | 1 => format!("graph @{}: {first}", self.graph),
            n => format!("graph @{}: {first} (and {} more)", self.graph, n - 1),
        }
    }
}

impl fmt::Display for VerifyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.errors.len() == 1 { "" } else { "s" };
        writeln!(f, "graph @{} breaks {} invariant{plural}", self.graph, self.errors.len())?;
        f.write_str(&self.text)
    }
}

impl std::error::Error for VerifyErrors {}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) to ({})", self.params, self.outputs)
    }
}

fn check(graph: &Graph, infer: bool) -> Result<(), VerifyErrors> {
    let mut verifier = Verifier { infer, errors: Vec::new(), total: 0, path: Vec::new(), regions: HashMap::default() };
    let outermost = verifier.graph(graph, 0);
    for (line, symbol) in outermost.free.iter() {
        verifier.error(*line, VerifyErrorKind::Symbol(symbol.clone()));
    }
    if verifier.errors.is_empty() {
        return Ok(());
    }
    let mut notes = Notes::new();
    for e in &verifier.errors {
        notes.entry(e.site.clone()).or_default().push(e.kind.to_string());
    }
    Err(VerifyErrors { graph: graph.name.clone(), errors: verifier.errors, text: annotated(graph, &notes) })
}

struct Verifier {
    infer: bool,
    errors: Vec<VerifyError>,
    /// How many errors there are, those beyond the limit counted.
    total: usize,
    path: Vec<(NodeId, String)>,
    regions: HashMap<*const Graph, Checked, FxBuildHasher>,
}

/// What the graph around a region has to know of it.
#[derive(Clone)]
struct Checked {
    /// How deep regions nest inside it.
    height: usize,
    /// Whether nothing in it is broken.
    sound: bool,
    /// The symbols it uses and does not declare, each with the first line that does so.
    free: Rc<Vec<(Line, Symbol)>>,
}

impl Verifier {
    fn error(&mut self, line: Line, kind: VerifyErrorKind) {
        self.total += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(VerifyError { site: Site { path: self.path.clone(), line }, kind });
        }
    }

    fn graph(&mut self, graph: &Graph, depth: usize) -> Checked {
        self.arena(graph);
        self.names(graph);
        self.scopes(graph);
        let mut symbols = Symbols::declared(graph);
        let mut height = 0;
        for (id, node) in graph.nodes() {
            height = height.max(self.node(graph, id, node, &mut symbols, depth));
        }
        self.roots(graph);
        Checked { height, sound: true, free: Rc::new(symbols.free) }
    }

    fn arena(&mut self, graph: &Graph) {
        let params = (0..graph.params.len() as u32).map(Def::Param);
        let results = graph.nodes().flat_map(|(id, node)| (0..node.results).map(move |i| Def::Node(id, i)));
        if !graph.values.iter().map(|v| v.def).eq(params.chain(results)) {
            self.error(Line::Header, VerifyErrorKind::Arena);
        }
        for value in &graph.values {
            let line = match value.def {
                Def::Param(_) => Line::Header,
                Def::Node(id, _) => Line::Node(id),
            };
            if value.ty.rank() > MAX_RANK {
                self.error(line, VerifyErrorKind::Rank(value.ty.clone()));
            }
            for dim in &value.ty.shape {
                if dim.fault().is_some() || dim.as_const().is_some_and(|c| c < 0) {
                    self.error(line, VerifyErrorKind::Dim(dim.clone()));
                }
            }
        }
    }

    fn names(&mut self, graph: &Graph) {
        let mut taken: HashSet<&str, FxBuildHasher> = HashSet::default();
        for param in &graph.params {
            if !taken.insert(&param.name) {
                self.error(Line::Header, VerifyErrorKind::ParamName(param.name.clone()));
            }
        }
        taken.clear();
        for output in &graph.outputs {
            if !taken.insert(&output.name) {
                self.error(Line::Return, VerifyErrorKind::OutputName(output.name.clone()));
            }
        }
    }

    fn scopes(&mut self, graph: &Graph) {
        let mut depths: Vec<usize> = Vec::with_capacity(graph.scopes.len());
        for (i, scope) in graph.scopes.iter().enumerate() {
            let parent = depths.get(scope.parent.index()).copied();
            let well_formed = match (i, parent) {
                (0, _) => scope.parent == ScopeId::ROOT && scope.name.is_empty(),
                (_, None) => false,
                (_, Some(depth)) => depth < MAX_SCOPE_DEPTH && !scope.name.is_empty() && !scope.name.contains('/'),
            };
            if !well_formed {
                self.error(Line::Header, VerifyErrorKind::Scope(ScopeId(i as u32), scope.name.clone()));
            }
            depths.push(if i == 0 { 0 } else { parent.map_or(0, |d| d + 1) });
        }
    }

    /// Gives the height of the regions that the node holds.
    fn node(&mut self, graph: &Graph, id: NodeId, node: &Node, symbols: &mut Symbols, depth: usize) -> usize {
        let line = Line::Node(id);
        if node.scope.index() >= graph.scopes.len() {
            self.error(line, VerifyErrorKind::UnknownScope(node.scope));
        }
        let mut sound = true;
        for (i, v) in node.operands.iter().enumerate() {
            if v.index() >= node.first.index() {
                sound = false;
                self.error(line, VerifyErrorKind::NotOlder(i));
            }
        }
        let before = self.total;
        let (height, whole) = self.attrs(line, id, &node.op.story().attrs(), symbols, (depth, 1));
        sound &= whole && self.total == before;
        let types: SmallVec<[&Type; 1]> = node.results().filter_map(|v| type_of(graph, v)).collect();
        for dim in types.iter().flat_map(|t| &t.shape) {
            symbols.use_dim(line, dim);
        }
        // Only now: an operation is asked only about values and regions that are sound.
        if self.infer && sound {
            let operands: SmallVec<[&Type; 4]> = node.operands.iter().filter_map(|&v| type_of(graph, v)).collect();
            match ops::infer(&node.op, &operands, &graph.facts, &node.loc) {
                Err(e) => self.error(line, VerifyErrorKind::Op(e)),
                Ok(inferred) => {
                    let stated: Types = types.iter().map(|&t| t.clone()).collect();
                    if !agree(&stated, &inferred, &graph.facts) {
                        let (stated, inferred) = (TypeList(stated), TypeList(inferred));
                        self.error(line, VerifyErrorKind::Types { stated, inferred });
                    }
                }
            }
        }
        if let Op::Call(call) = &node.op {
            if let Some(jvp) = &call.jvp {
                self.derivative(line, &call.body, jvp, &graph.facts);
            }
            if let Some(vjp) = &call.vjp {
                self.reverse_rule(line, &call.body, vjp, &graph.facts);
            }
        }
        height
    }

    /// Checks what attributes hold; gives the height of the regions among them, and whether all are sound.
    fn attrs(
        &mut self,
        line: Line,
        id: NodeId,
        attrs: &Attrs,
        symbols: &mut Symbols,
        (around, nesting): (usize, usize),
    ) -> (usize, bool) {
        if nesting > MAX_ATTR_DEPTH {
            self.error(line, VerifyErrorKind::TooDeep("attributes", MAX_ATTR_DEPTH));
            return (0, false);
        }
        let (mut height, mut sound) = (0, true);
        for (name, attr) in &attrs.0 {
            match attr {
                Attr::Int(_) | Attr::Ints(_) | Attr::Name(_) | Attr::Str(_) | Attr::Float(_) | Attr::Array(_) => {}
                Attr::Dims(dims) => dims.iter().for_each(|d| symbols.use_dim(line, d)),
                Attr::Map(inner) => {
                    let (inner_height, whole) = self.attrs(line, id, inner, symbols, (around, nesting + 1));
                    height = height.max(inner_height);
                    sound &= whole;
                }
                Attr::Region(body) => {
                    let checked = self.region(line, id, name, body, around + 1);
                    height = height.max(checked.height + 1);
                    sound &= checked.sound;
                    checked.free.iter().for_each(|(_, s)| symbols.use_symbol(line, s));
                }
            }
        }
        (height, sound)
    }

    fn region(&mut self, line: Line, id: NodeId, name: &str, body: &Arc<Graph>, depth: usize) -> Checked {
        let key = Arc::as_ptr(body);
        let known = self.regions.get(&key).cloned();
        let too_deep = depth + known.as_ref().map_or(0, |k| k.height) > MAX_REGION_DEPTH;
        if too_deep {
            self.error(line, VerifyErrorKind::TooDeep("regions", MAX_REGION_DEPTH));
            return Checked { height: 0, sound: false, free: Rc::default() };
        }
        if let Some(known) = known {
            return known;
        }
        let before = self.total;
        self.path.push((id, name.to_owned()));
        for param in body.params.iter().filter(|p| p.kind != ParamKind::Input) {
            self.error(Line::Header, VerifyErrorKind::RegionParam(param.name.clone()));
        }
        if !body.updates.is_empty() {
            self.error(Line::Header, VerifyErrorKind::RegionUpdate);
        }
        let mut checked = self.graph(body, depth);
        checked.sound = self.total == before;
        self.path.pop();
        self.regions.insert(key, checked.clone());
        checked
    }

    fn derivative(&mut self, line: Line, body: &Graph, jvp: &Graph, facts: &Facts) {
        let with_tangents = |types: Types| {
            let inexact: Types = types.iter().filter(|t| t.dtype.is_inexact()).cloned().collect();
            TypeList(types.into_iter().chain(inexact).collect())
        };
        let expected = Signature {
            params: with_tangents(body.param_types().cloned().collect()),
            outputs: with_tangents(output_types(body)),
        };
        let stated =
            Signature { params: TypeList(jvp.param_types().cloned().collect()), outputs: TypeList(output_types(jvp)) };
        let agrees = |a: &TypeList, b: &TypeList| agree(&a.0, &b.0, facts);
        if !agrees(&stated.params, &expected.params) || !agrees(&stated.outputs, &expected.outputs) {
            self.error(line, VerifyErrorKind::Derivative { stated, expected });
        }
    }

    fn reverse_rule(&mut self, line: Line, body: &Graph, Vjp { fwd, bwd }: &Vjp, facts: &Facts) {
        let Some(fwd) = fwd else { return self.error(line, VerifyErrorKind::LinearPart) };
        let inexact = |types: Types| types.into_iter().filter(|t| t.dtype.is_inexact());
        let (params, results): (Types, Types) = (body.param_types().cloned().collect(), output_types(body));
        let stated = |g: &Graph| (g.param_types().cloned().collect::<Types>(), output_types(g));
        let agrees = |a: &Types, b: &Types| agree(a, b, facts);
        let (fwd_params, mut fwd_outputs) = stated(fwd);
        let residuals: Types = fwd_outputs.drain(results.len().min(fwd_outputs.len())..).collect();
        if !agrees(&fwd_params, &params) || !agrees(&fwd_outputs, &results) {
            let stated = Signature { params: TypeList(fwd_params), outputs: TypeList(fwd_outputs) };
            let expected = Signature { params: TypeList(params), outputs: TypeList(results) };
            return self.error(line, VerifyErrorKind::Forward { stated, expected });
        }
        let expected_params: Types = residuals.into_iter().chain(inexact(results)).collect();
        let expected_outputs: Types = inexact(params).collect();
        let (bwd_params, bwd_outputs) = stated(bwd);
        if !agrees(&bwd_params, &expected_params) || !agrees(&bwd_outputs, &expected_outputs) {
            let stated = Signature { params: TypeList(bwd_params), outputs: TypeList(bwd_outputs) };
            let expected = Signature { params: TypeList(expected_params), outputs: TypeList(expected_outputs) };
            self.error(line, VerifyErrorKind::Backward { stated, expected });
        }
    }

    fn roots(&mut self, graph: &Graph) {
        for output in &graph.outputs {
            if type_of(graph, output.value).is_none() {
                self.error(Line::Return, VerifyErrorKind::UnknownValue(output.value));
            }
        }
        let mut updated: HashSet<u32, FxBuildHasher> = HashSet::default();
        for (i, update) in (0..).zip(&graph.updates) {
            let line = Line::Update(i);
            let variable = graph.params.get(update.param as usize).filter(|p| p.kind == ParamKind::Variable);
            let Some(variable) = variable else {
                self.error(line, VerifyErrorKind::NotVariable(update.param));
                continue;
            };
            if !updated.insert(update.param) {
                self.error(line, VerifyErrorKind::UpdatedTwice(variable.name.clone()));
            }
            match (type_of(graph, Value(update.param)), type_of(graph, update.value)) {
                (_, None) => self.error(line, VerifyErrorKind::UnknownValue(update.value)),
                (Some(a), Some(b)) if !agree(std::slice::from_ref(a), std::slice::from_ref(b), &graph.facts) => {
                    let (variable_ty, value) = (Box::new(a.clone()), Box::new(b.clone()));
                    let name = variable.name.clone();
                    self.error(line, VerifyErrorKind::UpdateType { name, variable: variable_ty, value });
                }
                _ => {}
            }
        }
    }
}

/// The symbols of one graph.
struct Symbols {
    declared: BTreeSet<Symbol>,
    /// Dims that have been looked at.
    seen: HashSet<Dim, FxBuildHasher>,
    free: Vec<(Line, Symbol)>,
}

impl Symbols {
    fn declared(graph: &Graph) -> Self {
        let mut declared: BTreeSet<Symbol> = graph.facts.facts().flat_map(|f| f.symbols()).collect();
        declared.extend(graph.param_types().flat_map(|t| &t.shape).flat_map(Dim::symbols));
        Self { declared, seen: HashSet::default(), free: Vec::new() }
    }

    fn use_dim(&mut self, line: Line, dim: &Dim) {
        if dim.as_const().is_none() && !self.seen.contains(dim) {
            self.seen.insert(dim.clone());
            dim.symbols().for_each(|s| self.use_symbol(line, &s));
        }
    }

    fn use_symbol(&mut self, line: Line, symbol: &Symbol) {
        // A symbol is reported once.
        if self.declared.insert(symbol.clone()) {
            self.free.push((line, symbol.clone()));
        }
    }
}

fn type_of(graph: &Graph, v: Value) -> Option<&Type> {
    graph.values.get(v.index()).map(|d| &d.ty)
}

fn output_types(graph: &Graph) -> Types {
    graph.outputs.iter().filter_map(|o| type_of(graph, o.value)).cloned().collect()
}

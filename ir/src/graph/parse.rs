//! Reads graphs from text: the inverse of [`print`](super::print).
//!
//! ```text
//! file    := {'; ' KEY ': ' VALUE} {graph | blob}
//! graph   := 'graph' '@' NAME '(' [param, …] ')' {KIND '(' [param, …] ')'} ['assume' '(' fact, … ')'] '->' '(' [type, …] ')' '{' {item} [return] {update} '}'
//! KIND    := 'input' | 'var' | 'data'
//! param   := VALUE ':' type [STRING]
//! item    := path '{' {item} '}' | results '=' OP [VALUE, …] [attrs] ':' types ['in' path] ['tag' INTEGER]
//! results := VALUE, … | '_'
//! types   := type, … | '()'
//! path    := NAME {'/' NAME}
//! return  := 'return' [VALUE [STRING], …]
//! update  := 'update' VALUE '=' VALUE
//! attrs   := '{' [NAME '=' attr, …] '}'
//! attr    := INTEGER | '[' INTEGER, … ']' | '(' dim, … ')' | NAME | STRING | LITERAL ':' DTYPE | elements ':' type | attrs | graph
//! elements := LITERAL | '[' elements, … ']' | 'blob' '(' LABEL ')'
//! blob    := 'blob' LABEL ':' type '=' '"' BASE64 '"'          (at the start of a line)
//! ```
//!
//! A `VALUE` is `%` and a number or name; each is defined once, above its uses.
//! A `NAME` is bare or quoted. A constant may have its elements in place of attributes: `%0 = const [1.0, 2.0] : f32[2]`.
//! `in` and `tag` stand on the line where the types end, so that a scope may have any name.
//! `;` starts a comment that ends with the line; after a node, or a parameter on its own line, `; FILE:LINE:COLUMN` is its location.
//!
//! Each operation is inferred again and must agree with the types that the text gives.
//! What is returned satisfies the [verifier](super::verify). The parser is safe on any text: length, nesting and counts are bounded,
//! and errors say where.

mod attr;
mod cursor;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use self::cursor::{Cursor, Place, parts, shorten};
use super::print::{continues_name, kind_name, starts_name};
use super::verify::{self, VerifyErrors};
use super::{Builder, Graph, ParamKind, ScopeId, Value};
use crate::array::Array;
use crate::attrs::{AttrError, Attrs};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::facts::{Fact, FactError, Facts};
use crate::loc::Loc;
use crate::ops::{Extern, ExternOp, Op, Types};
use crate::ty::{Shape, Type};

/// The longest text the parser takes, in bytes.
pub const MAX_TEXT: usize = 256 << 20;
/// The most nodes in a text, those of regions counted.
pub const MAX_NODES: usize = 1 << 21;
/// The most facts of one graph.
pub const MAX_FACTS: usize = 256;

/// Text that is no graph.
///
/// ```text
/// line 3, column 8: expected `=`
///   3 |   %0 - const 1.0 : f32[]
///     |      ^
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The line's text, or the part around the column.
    pub source: String,
    /// What is wrong there.
    pub kind: Box<ParseErrorKind>,
    /// How many characters of `source` stand before the column.
    offset: usize,
}

/// What is wrong at a place in text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else should stand here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// The text is too long.
    #[error("the text has more than {MAX_TEXT} bytes")]
    TooLong,
    /// Too much nesting.
    #[error("{0} are nested too deeply")]
    TooDeep(&'static str),
    /// Too much of something.
    #[error("more than {0} {1}")]
    TooMany(usize, &'static str),
    /// A dim.
    #[error("{0}")]
    Dim(crate::dim::ParseError),
    /// A fact, or one that contradicts the others.
    #[error("{0}")]
    Fact(FactError),
    /// No dtype has this name.
    #[error("{0}")]
    UnknownDType(crate::dtype::UnknownDType),
    /// A literal that its dtype does not have.
    #[error("`{0}` is no literal of {1}")]
    Literal(String, DType),
    /// A blob that the side table lacks.
    #[error("`blob({0})` is not in the text; add a line `blob {0} : TYPE = \"BASE64\"`")]
    UnknownBlob(String),
    /// A blob of another type.
    #[error("`blob({0})` is not of type {1}")]
    BlobType(String, Type),
    /// Data that does not fill the type.
    #[error("this is not base64 of as many bytes as {0} has")]
    BlobData(Type),
    /// A value that nothing above defines.
    #[error("`%{0}` is not defined above")]
    Undefined(String),
    /// A second definition.
    #[error("{0} is defined twice")]
    Redefined(String),
    /// An operation's name or attributes.
    #[error("{0}")]
    Attr(AttrError),
    /// Operands that the operation refuses.
    #[error("{0}")]
    Op(OpError),
    /// A type that differs from the inferred one.
    #[error("the text says {written}, but the operation gives {inferred}")]
    Disagree {
        /// The types in the text.
        written: TypeList,
        /// The types inferred.
        inferred: TypeList,
    },
    /// The graph breaks an invariant.
    #[error("{}", .0.summary())]
    Invalid(VerifyErrors),
}

/// Types, printed as in text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeList(pub Types);

/// A file: comment lines at its top of the form `; key: value`, and graphs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Keys and values, in order.
    pub headers: Vec<(String, String)>,
    /// The graphs, in order.
    pub graphs: Vec<Graph>,
}

/// Makes the operations of other crates from their names and attributes.
pub type ExternReader<'a> = &'a dyn Fn(&str, &Attrs) -> Option<Arc<dyn ExternOp>>;

impl Graph {
    /// Reads a text that is one graph, its side table and comments.
    ///
    /// # Errors
    /// [`ParseError`] with the place of the first mistake.
    ///
    /// ```
    /// use lehr_ir::graph::Graph;
    /// let text = "graph @double(%x: f32[n]) -> (f32[n]) {\n  %0 = add %x, %x : f32[n]\n  return %0 \"y\"\n}\n";
    /// let graph = Graph::parse(text)?;
    /// assert_eq!(graph.to_string(), text);
    /// # Ok::<(), lehr_ir::graph::parse::ParseError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_with(text, &|_, _| None)
    }

    /// The same, where `externs` is asked first for each operation, and makes those of other crates.
    ///
    /// # Errors
    /// As [`Graph::parse`].
    pub fn parse_with(text: &str, externs: ExternReader<'_>) -> Result<Self, ParseError> {
        let mut graphs = read(text, externs, 1)?;
        // Exactly one was read.
        graphs.pop().ok_or_else(|| ParseError {
            line: 1,
            column: 1,
            source: String::new(),
            kind: Box::new(ParseErrorKind::Expected("`graph`")),
            offset: 0,
        })
    }
}

impl FromStr for Graph {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Reads a file of any number of graphs.
///
/// # Errors
/// [`ParseError`] with the place of the first mistake.
pub fn parse_file(text: &str) -> Result<File, ParseError> {
    Ok(File { headers: headers(text), graphs: read(text, &|_, _| None, usize::MAX)? })
}

impl File {
    /// The value of the first header of this key.
    pub fn header(&self, key: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}, column {}: {}", self.line, self.column, self.kind)?;
        let number = self.line.to_string();
        writeln!(f, "  {number} | {}", self.source)?;
        write!(f, "  {0:1$} | {0:2$}^", "", number.len(), self.offset)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for TypeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("()");
        }
        for (i, ty) in self.0.iter().enumerate() {
            write!(f, "{}{ty}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

type Parsed<T> = Result<T, ParseError>;
type Blobs<'t> = HashMap<&'t str, Array, FxBuildHasher>;

fn read(text: &str, externs: ExternReader<'_>, at_most: usize) -> Parsed<Vec<Graph>> {
    let mut cursor = Cursor::new(text)?;
    let blobs = side_table(text, externs)?;
    let mut reader = Reader::new(&mut cursor, &blobs, externs);
    let mut graphs = Vec::new();
    while !reader.cursor.at_end() {
        if reader.cursor.peek_word() == "blob" {
            reader.cursor.skip_line();
        } else if graphs.len() < at_most {
            graphs.push(reader.verified()?);
        } else {
            return Err(reader.cursor.expected("the end of the text after one graph"));
        }
    }
    if graphs.is_empty() && at_most == 1 {
        return Err(reader.cursor.expected("`graph`"));
    }
    Ok(graphs)
}

/// The arrays of all lines that start with `blob`, which may stand below their uses.
fn side_table<'t>(text: &'t str, externs: ExternReader<'_>) -> Parsed<Blobs<'t>> {
    let mut blobs = Blobs::default();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("blob ") {
            let mut cursor = Cursor::new(text)?;
            cursor.go_to(start);
            let place = cursor.place();
            let empty = Blobs::default();
            let (name, array) = Reader::new(&mut cursor, &empty, externs).blob()?;
            if blobs.insert(name, array).is_some() {
                return Err(place.error(ParseErrorKind::Redefined(format!("`blob {}`", shorten(name)))));
            }
        }
        start += line.len();
    }
    Ok(blobs)
}

fn headers(text: &str) -> Vec<(String, String)> {
    let comments = text.lines().map_while(|line| {
        let line = line.trim();
        if line.is_empty() { Some("") } else { line.strip_prefix(';') }
    });
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| continues_name(b) || b == b'-');
    let pair = |comment: &str| {
        let (key, value) = comment.split_once(':')?;
        is_key(key.trim()).then(|| (key.trim().to_owned(), value.trim().to_owned()))
    };
    comments.filter_map(pair).collect()
}

/// What is known while a text is read.
struct Reader<'c, 't> {
    cursor: &'c mut Cursor<'t>,
    blobs: &'c Blobs<'t>,
    externs: ExternReader<'c>,
    /// Types by their text, which repeats a lot.
    types: HashMap<&'t str, Type, FxBuildHasher>,
    /// Graphs around the place.
    regions: usize,
    /// Braces of attributes around the place, in the innermost graph.
    braces: usize,
    nodes: usize,
}

/// What is known while one graph is read.
struct Body<'t> {
    builder: Builder,
    values: HashMap<&'t str, Value, FxBuildHasher>,
}

impl<'c, 't> Reader<'c, 't> {
    fn new(cursor: &'c mut Cursor<'t>, blobs: &'c Blobs<'t>, externs: ExternReader<'c>) -> Self {
        Self { cursor, blobs, externs, types: HashMap::default(), regions: 0, braces: 0, nodes: 0 }
    }

    fn verified(&mut self) -> Parsed<Graph> {
        let place = self.cursor.place();
        let graph = self.graph()?;
        // Types have been compared node by node.
        verify::structure(&graph).map_err(|e| place.error(ParseErrorKind::Invalid(e)))?;
        Ok(graph)
    }

    fn graph(&mut self) -> Parsed<Graph> {
        // A graph inside the outermost one is a region.
        if self.regions > verify::MAX_REGION_DEPTH {
            return Err(self.cursor.place().error(ParseErrorKind::TooDeep("regions")));
        }
        self.regions += 1;
        let braces = std::mem::take(&mut self.braces);
        self.keyword("graph", "`graph`")?;
        self.cursor.token("@", "`@`")?;
        let name = self.cursor.name("a graph's name")?;
        let mut body = Body { builder: Builder::new(name), values: HashMap::default() };
        self.params(&mut body, ParamKind::Input)?;
        let kinds = [ParamKind::Input, ParamKind::Variable, ParamKind::Data];
        while let Some(kind) = kinds.into_iter().find(|&k| self.cursor.eat_word(kind_name(k))) {
            self.params(&mut body, kind)?;
        }
        if self.cursor.eat_word("assume") {
            body.builder.set_facts(self.facts()?);
        }
        self.cursor.token("->", "`->`")?;
        let place = self.cursor.place();
        self.cursor.token("(", "`(`")?;
        let types = if self.cursor.looking_at(")") { Types::new() } else { self.types()? };
        self.cursor.token(")", "`)`")?;
        self.cursor.token("{", "`{`")?;
        self.items(&mut body)?;
        self.results(&mut body)?;
        self.cursor.token("}", "`}`")?;
        self.regions -= 1;
        self.braces = braces;
        let graph = body.builder.finish();
        let inferred: Types = graph.output_types().cloned().collect();
        if !verify::agree(&types, &inferred, &graph.facts) {
            let (written, inferred) = (TypeList(types), TypeList(inferred));
            return Err(place.error(ParseErrorKind::Disagree { written, inferred }));
        }
        Ok(graph)
    }

    fn params(&mut self, body: &mut Body<'t>, kind: ParamKind) -> Parsed<()> {
        self.cursor.token("(", "`(`")?;
        while !self.cursor.eat(")") {
            let place = self.cursor.place();
            let id = self.cursor.value()?;
            self.cursor.token(":", "`:`")?;
            let ty = self.ty()?;
            let name = if self.cursor.looking_at("\"") { self.cursor.string()? } else { id.to_owned() };
            let more = self.cursor.eat(",");
            body.builder.loc = self.location();
            let value = body.builder.param(name, kind, ty);
            define(body, id, value, place)?;
            if !more && !self.cursor.looking_at(")") {
                return Err(self.cursor.expected("`,` or `)`"));
            }
        }
        Ok(())
    }

    fn facts(&mut self) -> Parsed<Facts> {
        self.cursor.token("(", "`(`")?;
        let place = self.cursor.place();
        let text = self.cursor.until(b")");
        let mut facts = Facts::default();
        for (i, part) in parts(text).enumerate() {
            let place = place.within(part, 0);
            if i == MAX_FACTS {
                return Err(place.error(ParseErrorKind::TooMany(MAX_FACTS, "facts")));
            }
            let fact: Fact = part.parse().map_err(|e| dim_error(e, part, place))?;
            facts.assume(fact).map_err(|e| place.error(ParseErrorKind::Fact(e)))?;
        }
        self.cursor.token(")", "`)`")?;
        Ok(facts)
    }

    /// Nodes and blocks, up to what ends the graph.
    fn items(&mut self, body: &mut Body<'t>) -> Parsed<()> {
        let mut blocks: Vec<ScopeId> = Vec::new();
        loop {
            let scope = blocks.last().copied().unwrap_or(ScopeId::ROOT);
            if self.cursor.looking_at("}") {
                if blocks.pop().is_none() {
                    return Ok(());
                }
                self.cursor.eat("}");
                continue;
            }
            let word = self.cursor.peek_word();
            if word == "_" || self.cursor.looking_at("%") {
                self.node(body, scope)?;
            } else if blocks.is_empty() && matches!(word, "return" | "update") {
                return Ok(());
            } else {
                let inner = self.path(body, scope, "a node, a scope's name, `return` or `}`")?;
                self.cursor.token("{", "`{`")?;
                if blocks.len() == verify::MAX_SCOPE_DEPTH {
                    return Err(self.cursor.place().error(ParseErrorKind::TooDeep("blocks")));
                }
                blocks.push(inner);
            }
        }
    }

    fn node(&mut self, body: &mut Body<'t>, outer: ScopeId) -> Parsed<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.cursor.place().error(ParseErrorKind::TooMany(MAX_NODES, "nodes")));
        }
        let mut names: SmallVec<[(&'t str, Place<'t>); 1]> = SmallVec::new();
        if !self.cursor.eat_word("_") {
            loop {
                let place = self.cursor.place();
                names.push((self.cursor.value()?, place));
                if !self.cursor.eat(",") {
                    break;
                }
            }
        }
        self.cursor.token("=", "`=`")?;
        let op_place = self.cursor.place();
        let op_name = self.cursor.word("an operation")?;
        let mut operands: SmallVec<[Value; 3]> = SmallVec::new();
        while self.cursor.looking_at("%") {
            operands.push(self.operand(body)?);
            if !self.cursor.eat(",") {
                break;
            }
        }
        let (op, types, type_place) = if op_name == "const" && !self.cursor.looking_at("{") {
            self.bare_constant()?
        } else {
            let attrs = if self.cursor.looking_at("{") { self.attrs()? } else { Attrs::new() };
            let op = self.op(op_name, attrs).map_err(|e| op_place.error(ParseErrorKind::Attr(e)))?;
            self.cursor.token(":", "`:`")?;
            let place = self.cursor.place();
            let types = if self.cursor.eat("()") { Types::new() } else { self.types()? };
            (op, types, place)
        };
        let scope = if self.cursor.eat_word_on_line("in") { self.path(body, outer, "a scope's name")? } else { outer };
        let tag = if self.cursor.eat_word_on_line("tag") { self.cursor.integer("a tag below 2^32")? } else { 0 };
        let b = &mut body.builder;
        (b.loc, b.scope, b.tag) = (self.location(), scope, tag);
        let inferred = b.infer(&op, &operands).map_err(|e| op_place.error(ParseErrorKind::Op(e)))?;
        if !verify::agree(&types, &inferred, b.facts()) {
            let (written, inferred) = (TypeList(types), TypeList(inferred));
            return Err(type_place.error(ParseErrorKind::Disagree { written, inferred }));
        }
        if names.len() != types.len() {
            return Err(op_place.expected("as many results as types"));
        }
        // The text's types stay, so that printing gives the text back.
        let id = b.push(op, operands, types);
        let results = b.graph().node(id).results();
        for ((name, place), value) in names.into_iter().zip(results) {
            define(body, name, value, place)?;
        }
        Ok(())
    }

    /// The elements and the type of a constant.
    fn bare_constant(&mut self) -> Parsed<(Op, Types, Place<'t>)> {
        let place = self.cursor.place();
        let text = self.cursor.until(b":\n");
        self.cursor.token(":", "`:` and the constant's type")?;
        let type_place = self.cursor.place();
        let ty = self.ty()?;
        let value = self.array(&ty, text, place)?;
        Ok((crate::ops::Constant { value }.into(), SmallVec::from_iter([ty]), type_place))
    }

    fn op(&self, name: &str, attrs: Attrs) -> Result<Op, AttrError> {
        if let Some(op) = (self.externs)(name, &attrs) {
            return Ok(Extern(op).into());
        }
        Op::from_attrs(name, attrs)
    }

    fn results(&mut self, body: &mut Body<'t>) -> Parsed<()> {
        if self.cursor.eat_word("return") {
            let mut taken: HashSet<String, FxBuildHasher> = HashSet::default();
            while self.cursor.looking_at("%") {
                let place = self.cursor.place();
                let value = self.operand(body)?;
                let name = if self.cursor.looking_at("\"") { self.cursor.string()? } else { String::new() };
                if !taken.insert(name.clone()) {
                    return Err(place.error(ParseErrorKind::Redefined(format!("output \"{}\"", shorten(&name)))));
                }
                body.builder.output(name, value);
                if !self.cursor.eat(",") {
                    break;
                }
            }
        }
        while self.cursor.eat_word("update") {
            let place = self.cursor.place();
            let variable = self.operand(body)?;
            self.cursor.token("=", "`=`")?;
            let value = self.operand(body)?;
            if variable.index() >= body.builder.graph().params().len() {
                return Err(place.expected("a variable"));
            }
            body.builder.update(variable.0, value);
        }
        Ok(())
    }

    fn operand(&mut self, body: &Body<'t>) -> Parsed<Value> {
        let place = self.cursor.place();
        let name = self.cursor.value()?;
        let value = body.values.get(name).copied();
        value.ok_or_else(|| place.error(ParseErrorKind::Undefined(shorten(name))))
    }

    /// A scope's path inside `outer`.
    fn path(&mut self, body: &mut Body<'t>, outer: ScopeId, what: &'static str) -> Parsed<ScopeId> {
        let mut scope = outer;
        for depth in 0.. {
            let place = self.cursor.place();
            let name = self.cursor.name(what)?;
            if depth == verify::MAX_SCOPE_DEPTH {
                return Err(place.error(ParseErrorKind::TooMany(verify::MAX_SCOPE_DEPTH, "scopes inside each other")));
            }
            scope = body.builder.subscope(scope, &name);
            if !self.cursor.eat("/") {
                break;
            }
        }
        Ok(scope)
    }

    fn types(&mut self) -> Parsed<Types> {
        let mut types = Types::from_iter([self.ty()?]);
        while self.cursor.eat(",") {
            types.push(self.ty()?);
        }
        Ok(types)
    }

    fn ty(&mut self) -> Parsed<Type> {
        let dtype = self.dtype()?;
        self.shaped(dtype)
    }

    fn dtype(&mut self) -> Parsed<DType> {
        let place = self.cursor.place();
        let word = self.cursor.word("a dtype")?;
        word.parse().map_err(|_| place.error(ParseErrorKind::UnknownDType(crate::dtype::UnknownDType(shorten(word)))))
    }

    /// The type of a dtype and the dims that stand here.
    fn shaped(&mut self, dtype: DType) -> Parsed<Type> {
        self.cursor.token("[", "`[`")?;
        let place = self.cursor.place();
        let text = self.cursor.until(b"]");
        self.cursor.token("]", "`]`")?;
        if let Some(ty) = self.types.get(text) {
            return Ok(ty.with_dtype(dtype));
        }
        let shape: Shape = dims(text, place)?.into();
        let ty = Type { dtype, shape };
        self.types.insert(text, ty.clone());
        Ok(ty)
    }

    /// The location in the comment that ends this line.
    fn location(&mut self) -> Loc {
        self.cursor.line_comment().and_then(Loc::parse).unwrap_or_default()
    }

    fn keyword(&mut self, word: &str, what: &'static str) -> Parsed<()> {
        if self.cursor.eat_word(word) { Ok(()) } else { Err(self.cursor.expected(what)) }
    }
}

fn define<'t>(body: &mut Body<'t>, name: &'t str, value: Value, place: Place<'t>) -> Parsed<()> {
    match body.values.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(place.error(ParseErrorKind::Redefined(format!("`%{}`", shorten(name))))),
    }
}

/// Dims separated by commas.
fn dims(text: &str, place: Place<'_>) -> Parsed<Vec<Dim>> {
    let mut dims = Vec::new();
    for part in parts(text) {
        let place = place.within(part, 0);
        if dims.len() == verify::MAX_RANK {
            return Err(place.error(ParseErrorKind::TooMany(verify::MAX_RANK, "dims")));
        }
        dims.push(part.parse().map_err(|e| dim_error(e, part, place))?);
    }
    Ok(dims)
}

fn dim_error(e: crate::dim::ParseError, part: &str, place: Place<'_>) -> ParseError {
    place.within(part, e.position).error(ParseErrorKind::Dim(e))
}

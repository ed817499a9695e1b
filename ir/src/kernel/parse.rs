//! Reads kernels from text: the inverse of [`print`](super::print).
//!
//! ```text
//! kernel    := 'kernel' '@' NAME '(' [buffer {',' buffer}] ')' ['sizes' '(' NAME, … ')'] ['tiles' '(' tile, … ')'] '{' loop '}'
//! buffer    := ('read' | 'write' | 'readwrite') NAME ':' DTYPE '[' dim ']'
//! tile      := NAME ':' DTYPE '[' INTEGER ']'
//! loop      := ('parallel' | 'serial' | 'lane' | 'reduce' '(' INTEGER ')') NAME 'in' '0' '..' dim '{' {stmt} '}' ['->' reduction, …]
//! reduction := (VAR | '(' VAR, … ')') '=' COMBINER '(' VAR, … ')'
//! stmt      := loop | VAR '=' expr | 'store' NAME '[' dim ']' ',' VAR [guard] | guard '{' {stmt} '}'
//! expr      := 'const' LITERAL ':' DTYPE | 'index' dim | 'load' NAME '[' dim ']' [guard 'else' VAR] | OP VAR, …
//! guard     := 'if' '(' [dim, …] ')'
//! ```
//!
//! `;` starts a comment that ends with the line. Within a kernel, a comment of the form `; from FILE:LINE:COLUMN, …` is read as its
//! source lines. `const` and `index` end with the line; the guard of a load or store stands on the line of its index or value.
//!
//! The parser resolves names and computes dtypes; whether the kernel makes sense is the verifier's question. It is safe on any text:
//! length, nesting and counts are bounded, and errors say where.

mod cursor;

pub(super) use cursor::{in_kernel_name, in_name, in_symbol};

use std::collections::BTreeMap;
use std::str::FromStr;

use smallvec::SmallVec;

use self::cursor::Cursor;
use super::{
    Access, AxisKind, Buffer, Combiner, Expr, Guard, Kernel, Loop, Memory, Reduction, ScalarOp, Stmt, Tile, Var,
};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::literal::Literal;

/// The longest text the parser takes, in bytes.
pub const MAX_TEXT: usize = 4 << 20;
/// The deepest nesting of blocks the parser takes.
pub const MAX_DEPTH: usize = 64;
/// The most statements, buffers, or other members of one list in a text.
pub const MAX_COUNT: usize = 1 << 17;

/// Text that is no kernel.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong there.
    pub kind: ParseErrorKind,
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
    /// Blocks are nested too deeply.
    #[error("blocks are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// There is too much of something.
    #[error("more than {MAX_COUNT} {0}")]
    TooMany(&'static str),
    /// An index expression or a size.
    #[error("{0}")]
    Dim(crate::dim::ParseErrorKind),
    /// A literal that its dtype does not have.
    #[error("`{0}` is no literal of {1}")]
    Literal(String, DType),
    /// No dtype has this name.
    #[error("`{0}` is no dtype")]
    UnknownDType(String),
    /// No operation has this name.
    #[error("`{0}` is no scalar operation")]
    UnknownOp(String),
    /// No combiner has this name.
    #[error("`{0}` is no combiner; there are sum, prod, max, min, any, all, arg_max and arg_min")]
    UnknownCombiner(String),
    /// No buffer or tile has this name.
    #[error("`{0}` is neither a buffer nor a tile of this kernel")]
    UnknownMemory(String),
    /// A variable is used above its definition, or never defined.
    #[error("{0} is not defined above")]
    Undefined(Var),
    /// A variable is defined twice.
    #[error("{0} is defined twice")]
    Redefined(Var),
    /// Variables are not numbered from 0 without gaps.
    #[error("{0} is missing: variables are numbered from %0 without gaps")]
    Gap(Var),
    /// An operation does not take these operands.
    #[error("{op} does not take ({})", spell(.operands))]
    Operands {
        /// The operation.
        op: ScalarOp,
        /// The dtypes it was given.
        operands: Vec<DType>,
    },
}

fn spell(dtypes: &[DType]) -> String {
    dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
}

impl Kernel {
    /// Reads a text that is one kernel and comments.
    ///
    /// # Errors
    /// [`ParseError`] with the place of the first mistake.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut cursor = Cursor::new(text)?;
        let kernel = Reader::new(&mut cursor).kernel()?;
        cursor.end()?;
        Ok(kernel)
    }

    /// Reads a text that is any number of kernels and comments.
    ///
    /// # Errors
    /// [`ParseError`] with the place of the first mistake.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ParseError> {
        let mut cursor = Cursor::new(text)?;
        let mut kernels = Vec::new();
        while !cursor.at_end() {
            kernels.push(Reader::new(&mut cursor).kernel()?);
        }
        Ok(kernels)
    }
}

impl FromStr for Kernel {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// What is known while one kernel is read.
struct Reader<'c, 't> {
    cursor: &'c mut Cursor<'t>,
    memories: BTreeMap<String, (Memory, DType)>,
    vars: BTreeMap<u32, DType>,
    depth: usize,
    stmts: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'c, 't> Reader<'c, 't> {
    fn new(cursor: &'c mut Cursor<'t>) -> Self {
        Self { cursor, memories: BTreeMap::new(), vars: BTreeMap::new(), depth: 0, stmts: 0 }
    }

    fn kernel(mut self) -> Parsed<Kernel> {
        self.cursor.keyword("kernel", "`kernel`")?;
        self.cursor.token("@", "`@`")?;
        let name = self.cursor.kernel_name()?.to_owned();
        self.cursor.start_sources();
        let buffers = self.list("buffers", Self::buffer)?;
        for (i, b) in (0..).zip(&buffers) {
            self.memories.entry(b.name.clone()).or_insert((Memory::Buffer(i), b.dtype));
        }
        let sizes = if self.cursor.eat_keyword("sizes") { self.list("sizes", Self::symbol)? } else { Vec::new() };
        let tiles = if self.cursor.eat_keyword("tiles") { self.list("tiles", Self::tile)? } else { Vec::new() };
        for (i, t) in (0..).zip(&tiles) {
            self.memories.entry(t.name.clone()).or_insert((Memory::Tile(i), t.dtype));
        }
        self.cursor.token("{", "`{`")?;
        let Some(kind) = self.axis_kind()? else {
            return Err(self.cursor.expected("a loop"));
        };
        let body = self.repeat(kind)?;
        self.cursor.token("}", "`}`")?;
        let locs = self.cursor.take_sources();
        let vars = self.dense_vars()?;
        Ok(Kernel { name, sizes, buffers, tiles, vars, body, locs })
    }

    fn dense_vars(&self) -> Parsed<Vec<DType>> {
        for (i, var) in (0..).zip(self.vars.keys()) {
            if i != *var {
                return Err(self.cursor.error(ParseErrorKind::Gap(Var(i))));
            }
        }
        Ok(self.vars.values().copied().collect())
    }

    fn buffer(&mut self) -> Parsed<Buffer> {
        let found = Access::ALL.into_iter().find(|a| self.cursor.eat_keyword(a.name()));
        let Some(access) = found else {
            return Err(self.cursor.expected("`read`, `write` or `readwrite`"));
        };
        let name = self.cursor.name("a buffer's name")?.to_owned();
        self.cursor.token(":", "`:`")?;
        let dtype = self.dtype()?;
        let len = self.index()?;
        Ok(Buffer { name, dtype, len, access })
    }

    fn tile(&mut self) -> Parsed<Tile> {
        let name = self.cursor.name("a tile's name")?.to_owned();
        self.cursor.token(":", "`:`")?;
        let dtype = self.dtype()?;
        self.cursor.token("[", "`[`")?;
        let len = self.cursor.integer("a number of elements below 2^32")?;
        self.cursor.token("]", "`]`")?;
        Ok(Tile { name, dtype, len })
    }

    /// The kind of the loop that starts here, if one does.
    fn axis_kind(&mut self) -> Parsed<Option<AxisKind>> {
        let plain = [("parallel", AxisKind::Parallel), ("serial", AxisKind::Serial), ("lane", AxisKind::Lane)];
        if let Some((_, kind)) = plain.into_iter().find(|(word, _)| self.cursor.eat_keyword(word)) {
            return Ok(Some(kind));
        }
        if !self.cursor.eat_keyword("reduce") {
            return Ok(None);
        }
        self.cursor.token("(", "`(`")?;
        let lanes = self.cursor.integer("a number of virtual lanes")?;
        self.cursor.token(")", "`)`")?;
        Ok(Some(AxisKind::Reduce(lanes)))
    }

    fn repeat(&mut self, kind: AxisKind) -> Parsed<Loop> {
        let axis = self.symbol()?;
        self.cursor.keyword("in", "`in`")?;
        self.cursor.token("0", "`0`")?;
        self.cursor.token("..", "`..`")?;
        let extent = self.dim(b"{")?;
        let body = self.block()?;
        let mut reductions = Vec::new();
        if self.cursor.eat("->") {
            loop {
                reductions.push(self.reduction()?);
                if !self.cursor.eat(",") {
                    break;
                }
                self.count(reductions.len(), "reductions")?;
            }
        }
        Ok(Loop { axis, kind, extent, body, reductions })
    }

    fn reduction(&mut self) -> Parsed<Reduction> {
        let results: SmallVec<[Var; 2]> = if self.cursor.looking_at("(") {
            self.list("results", |r| r.cursor.var())?.into()
        } else {
            SmallVec::from_iter([self.cursor.var()?])
        };
        self.cursor.token("=", "`=`")?;
        let place = self.cursor.place();
        let name = self.cursor.name("a combiner")?;
        let Some(combiner) = Combiner::ALL.into_iter().find(|c| c.name() == name) else {
            return Err(place.error(ParseErrorKind::UnknownCombiner(name.to_owned())));
        };
        let values: SmallVec<[Var; 2]> = self.list("values", Self::used)?.into();
        if values.len() != results.len() {
            return Err(place.error(ParseErrorKind::Expected("as many values as results")));
        }
        for (result, value) in results.iter().zip(&values) {
            let dtype = self.dtype_of(*value)?;
            self.define(*result, dtype)?;
        }
        Ok(Reduction { combiner, values, results })
    }

    fn block(&mut self) -> Parsed<Vec<Stmt>> {
        self.cursor.token("{", "`{`")?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.cursor.error(ParseErrorKind::TooDeep));
        }
        let mut stmts = Vec::new();
        while !self.cursor.eat("}") {
            self.stmts += 1;
            self.count(self.stmts, "statements")?;
            stmts.push(self.stmt()?);
        }
        self.depth -= 1;
        Ok(stmts)
    }

    fn stmt(&mut self) -> Parsed<Stmt> {
        if self.cursor.looking_at("%") {
            let place = self.cursor.place();
            let var = self.cursor.var()?;
            self.cursor.token("=", "`=`")?;
            let (expr, dtype) = self.expr()?;
            self.define(var, dtype).map_err(|e| place.error(e.kind))?;
            return Ok(Stmt::Let { var, expr });
        }
        if self.cursor.eat_keyword("store") {
            let (memory, _) = self.memory()?;
            let index = self.index()?;
            self.cursor.token(",", "`,`")?;
            let value = self.used()?;
            let guard = self.trailing_guard()?;
            return Ok(Stmt::Store { memory, index, value, guard });
        }
        if let Some(guard) = self.guard()? {
            return Ok(Stmt::If { guard, body: self.block()? });
        }
        match self.axis_kind()? {
            Some(kind) => Ok(Stmt::Loop(self.repeat(kind)?)),
            None => Err(self.cursor.expected("a statement or `}`")),
        }
    }

    fn expr(&mut self) -> Parsed<(Expr, DType)> {
        if self.cursor.eat_keyword("const") {
            let place = self.cursor.place();
            let text = self.cursor.until(b":", "a literal, then `:` and its dtype")?;
            self.cursor.token(":", "`:`")?;
            let dtype = self.dtype()?;
            let unreadable = || place.error(ParseErrorKind::Literal(cursor::shorten(text), dtype));
            let literal = Literal::parse(dtype, text).ok_or_else(unreadable)?;
            return Ok((Expr::Const(literal), dtype));
        }
        if self.cursor.eat_keyword("index") {
            return Ok((Expr::Index(self.dim(b"")?), DType::I64));
        }
        if self.cursor.eat_keyword("load") {
            let (memory, dtype) = self.memory()?;
            let index = self.index()?;
            let guard = self.trailing_guard()?;
            let other = if self.cursor.eat_keyword("else") { Some(self.used()?) } else { None };
            return Ok((Expr::Load { memory, index, guard, other }, dtype));
        }
        let place = self.cursor.place();
        let name = self.cursor.op_name()?;
        let op: ScalarOp = name.parse().map_err(|_| place.error(ParseErrorKind::UnknownOp(cursor::shorten(name))))?;
        let mut operands: SmallVec<[Var; 3]> = SmallVec::from_iter([self.used()?]);
        while self.cursor.eat(",") {
            operands.push(self.used()?);
            self.count(operands.len(), "operands")?;
        }
        let dtypes = operands.iter().map(|v| self.dtype_of(*v)).collect::<Parsed<Vec<_>>>()?;
        match op.result(&dtypes) {
            Some(dtype) => Ok((Expr::Apply(op, operands), dtype)),
            None => Err(place.error(ParseErrorKind::Operands { op, operands: dtypes })),
        }
    }

    /// The guard of a load or store, if one follows on its line.
    fn trailing_guard(&mut self) -> Parsed<Guard> {
        let guard = if self.cursor.on_this_line() { self.guard()? } else { None };
        Ok(guard.unwrap_or_default())
    }

    /// A guard, if one starts here.
    fn guard(&mut self) -> Parsed<Option<Guard>> {
        if !self.cursor.eat_keyword("if") {
            return Ok(None);
        }
        let dims = self.list("conditions", |r| r.dim(b",)"))?;
        Ok(Some(Guard(dims.into())))
    }

    fn memory(&mut self) -> Parsed<(Memory, DType)> {
        let place = self.cursor.place();
        let name = self.cursor.name("the name of a buffer or tile")?;
        self.memories
            .get(name)
            .copied()
            .ok_or_else(|| place.error(ParseErrorKind::UnknownMemory(cursor::shorten(name))))
    }

    /// An index expression in brackets.
    fn index(&mut self) -> Parsed<Dim> {
        self.cursor.token("[", "`[`")?;
        let dim = self.dim(b"]")?;
        self.cursor.token("]", "`]`")?;
        Ok(dim)
    }

    /// An index expression up to one of `stops` or the end of the line.
    fn dim(&mut self, stops: &[u8]) -> Parsed<Dim> {
        let place = self.cursor.place();
        let text = self.cursor.until(stops, "an index expression")?;
        text.parse()
            .map_err(|e: crate::dim::ParseError| place.after(text, e.position).error(ParseErrorKind::Dim(e.kind)))
    }

    fn symbol(&mut self) -> Parsed<Symbol> {
        let place = self.cursor.place();
        let name = self.cursor.symbol_name()?;
        Symbol::new(name).map_err(|_| place.error(ParseErrorKind::Expected("a name of at most 200 bytes")))
    }

    fn dtype(&mut self) -> Parsed<DType> {
        let place = self.cursor.place();
        let name = self.cursor.name("a dtype")?;
        name.parse().map_err(|_| place.error(ParseErrorKind::UnknownDType(cursor::shorten(name))))
    }

    /// A variable that must be defined above.
    fn used(&mut self) -> Parsed<Var> {
        let place = self.cursor.place();
        let var = self.cursor.var()?;
        self.dtype_of(var).map_err(|e| place.error(e.kind))?;
        Ok(var)
    }

    fn dtype_of(&self, var: Var) -> Parsed<DType> {
        self.vars.get(&var.0).copied().ok_or_else(|| self.cursor.error(ParseErrorKind::Undefined(var)))
    }

    fn define(&mut self, var: Var, dtype: DType) -> Parsed<()> {
        match self.vars.insert(var.0, dtype) {
            None => Ok(()),
            Some(_) => Err(self.cursor.error(ParseErrorKind::Redefined(var))),
        }
    }

    /// Items in parentheses, with commas between.
    fn list<T>(&mut self, what: &'static str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.cursor.token("(", "`(`")?;
        let mut items = Vec::new();
        if self.cursor.eat(")") {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            self.count(items.len(), what)?;
            if self.cursor.eat(")") {
                return Ok(items);
            }
            self.cursor.token(",", "`,` or `)`")?;
        }
    }

    fn count(&self, n: usize, what: &'static str) -> Parsed<()> {
        if n > MAX_COUNT { Err(self.cursor.error(ParseErrorKind::TooMany(what))) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;

//! The text of a kernel, and the same text with messages under the lines that they are about.
//!
//! [`parse`](super::parse) reads it back: `parse(print(k)) == k` for a verified kernel whose source files print as
//! [`Loc::short`] spells them. Variables print under their own numbers, so a change in one line shows as a change in one line.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::{ANONYMOUS, Access, AxisKind, Expr, Guard, Kernel, Loop, Memory, Reduction, Stmt, Var};
use crate::loc::Loc;

/// A line of a kernel's text, which errors point at.
///
/// Statements are numbered in text order; the outermost loop is statement 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Site {
    /// The line with the operands.
    Header,
    /// The (first) line of a statement.
    Stmt(u32),
    /// The last line of a loop, which holds its reductions.
    End(u32),
}

/// The text of a kernel with `notes` under the lines they name, as comments that [`parse`](super::parse) skips.
pub fn annotated<'n>(kernel: &Kernel, notes: impl IntoIterator<Item = (Site, &'n dyn fmt::Display)>) -> String {
    let mut by_site: BTreeMap<Site, Vec<String>> = BTreeMap::new();
    for (site, note) in notes {
        by_site.entry(site).or_default().push(note.to_string());
    }
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = Printer { kernel, out: &mut text, notes: &by_site, anonymous: false, next: 0, indent: 0 }.kernel();
    text
}

/// The text of one line, trimmed; empty for a site that the kernel does not have.
pub fn line(kernel: &Kernel, site: Site) -> String {
    // A mark under the line finds it whatever the line looks like.
    let text = annotated(kernel, [(site, &MARK as &dyn fmt::Display)]);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|l| l.ends_with(MARK)).and_then(|mark| lines.get(mark.checked_sub(1)?));
    at.map(|l| l.trim().to_owned()).unwrap_or_default()
}

const MARK: &str = "\u{1}";

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { kernel: self, out: f, notes: &BTreeMap::new(), anonymous: false, next: 0, indent: 0 }.kernel()
    }
}

/// The text of [`Kernel::anonymous`], without making that.
pub(super) struct Canonical<'a>(pub(super) &'a Kernel);

impl fmt::Display for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printer { kernel: self.0, out: f, notes: &BTreeMap::new(), anonymous: true, next: 0, indent: 0 }.kernel()
    }
}

impl fmt::Display for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for AxisKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parallel => f.write_str("parallel"),
            Self::Serial => f.write_str("serial"),
            Self::Lane => f.write_str("lane"),
            Self::Reduce(lanes) => write!(f, "reduce({lanes})"),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("if (")?;
        list(f, &self.0)?;
        f.write_str(")")
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.results.as_slice() {
            [one] => write!(f, "{one}")?,
            several => {
                f.write_str("(")?;
                list(f, several)?;
                f.write_str(")")?;
            }
        }
        write!(f, " = {}(", self.combiner.name())?;
        list(f, &self.values)?;
        f.write_str(")")
    }
}

struct Printer<'a, W> {
    kernel: &'a Kernel,
    out: &'a mut W,
    notes: &'a BTreeMap<Site, Vec<String>>,
    /// Whether the name and the source lines are left out.
    anonymous: bool,
    next: u32,
    indent: usize,
}

impl<W: Write> Printer<'_, W> {
    fn kernel(&mut self) -> fmt::Result {
        let kernel = self.kernel;
        write!(self.out, "kernel @{}(", if self.anonymous { ANONYMOUS } else { &kernel.name })?;
        for (i, b) in kernel.buffers.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(self.out, "{comma}{} {}: {}[{}]", b.access, b.name, b.dtype, b.len)?;
        }
        self.out.write_str(")")?;
        if !kernel.sizes.is_empty() {
            self.out.write_str(" sizes(")?;
            list(self.out, &kernel.sizes)?;
            self.out.write_str(")")?;
        }
        if !kernel.tiles.is_empty() {
            self.out.write_str(" tiles(")?;
            for (i, t) in kernel.tiles.iter().enumerate() {
                let comma = if i == 0 { "" } else { ", " };
                write!(self.out, "{comma}{}: {}[{}]", t.name, t.dtype, t.len)?;
            }
            self.out.write_str(")")?;
        }
        self.out.write_str(" {")?;
        self.end_line(Site::Header)?;
        self.indent = 1;
        let root = self.number();
        self.repeat(root, &kernel.body)?;
        if !self.anonymous {
            self.sources(&kernel.locs)?;
        }
        self.out.write_str("}\n")
    }

    /// The comment that names source lines; characters that would end an entry print as `_`.
    fn sources(&mut self, locs: &[Loc]) -> fmt::Result {
        let known: Vec<String> = locs.iter().filter_map(Loc::short).map(|l| l.replace(is_unprintable, "_")).collect();
        if known.is_empty() {
            return Ok(());
        }
        self.margin()?;
        self.out.write_str("; from ")?;
        list(self.out, &known)?;
        self.out.write_str("\n")
    }

    fn block(&mut self, stmts: &[Stmt]) -> fmt::Result {
        self.indent += 1;
        for stmt in stmts {
            self.stmt(stmt)?;
        }
        self.indent -= 1;
        Ok(())
    }

    fn stmt(&mut self, stmt: &Stmt) -> fmt::Result {
        let number = self.number();
        match stmt {
            Stmt::Let { var, expr } => {
                self.margin()?;
                write!(self.out, "{var} = ")?;
                self.expr(expr)?;
                self.end_line(Site::Stmt(number))
            }
            Stmt::Store { memory, index, value, guard } => {
                self.margin()?;
                write!(self.out, "store {}[{index}], {value}", self.memory(*memory))?;
                if !guard.is_always() {
                    write!(self.out, " {guard}")?;
                }
                self.end_line(Site::Stmt(number))
            }
            Stmt::Loop(l) => self.repeat(number, l),
            Stmt::If { guard, body } => {
                self.margin()?;
                write!(self.out, "{guard} {{")?;
                self.end_line(Site::Stmt(number))?;
                self.block(body)?;
                self.margin()?;
                self.out.write_str("}")?;
                self.end_line(Site::End(number))
            }
        }
    }

    fn repeat(&mut self, number: u32, l: &Loop) -> fmt::Result {
        self.margin()?;
        write!(self.out, "{} {} in 0..{} {{", l.kind, l.axis, l.extent)?;
        self.end_line(Site::Stmt(number))?;
        self.block(&l.body)?;
        self.margin()?;
        self.out.write_str("}")?;
        if !l.reductions.is_empty() {
            self.out.write_str(" -> ")?;
            list(self.out, &l.reductions)?;
        }
        self.end_line(Site::End(number))
    }

    fn expr(&mut self, expr: &Expr) -> fmt::Result {
        match expr {
            Expr::Const(c) => write!(self.out, "const {c} : {}", c.dtype()),
            Expr::Index(dim) => write!(self.out, "index {dim}"),
            Expr::Load { memory, index, guard, other } => {
                write!(self.out, "load {}[{index}]", self.memory(*memory))?;
                if !guard.is_always() {
                    write!(self.out, " {guard}")?;
                }
                match other {
                    Some(other) => write!(self.out, " else {other}"),
                    None => Ok(()),
                }
            }
            Expr::Apply(op, operands) => {
                write!(self.out, "{op} ")?;
                list(self.out, operands)
            }
        }
    }

    /// The name of a memory; a place that does not exist prints as one that cannot be parsed.
    fn memory(&self, memory: Memory) -> String {
        self.kernel.memory_name(memory).map_or_else(|| format!("?{memory:?}"), str::to_owned)
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn margin(&mut self) -> fmt::Result {
        margin(self.out, self.indent)
    }

    fn end_line(&mut self, site: Site) -> fmt::Result {
        self.out.write_str("\n")?;
        for note in self.notes.get(&site).into_iter().flatten() {
            for part in note.lines() {
                margin(self.out, self.indent)?;
                writeln!(self.out, "; ^ {part}")?;
            }
        }
        Ok(())
    }
}

fn margin(out: &mut impl Write, indent: usize) -> fmt::Result {
    (0..indent).try_for_each(|_| out.write_str("  "))
}

fn list<T: fmt::Display>(out: &mut impl Write, items: &[T]) -> fmt::Result {
    items
        .iter()
        .enumerate()
        .try_for_each(|(i, item)| if i == 0 { write!(out, "{item}") } else { write!(out, ", {item}") })
}

fn is_unprintable(c: char) -> bool {
    c == ',' || c.is_control()
}

//! The text of a graph, which [`parse`](super::parse) reads back: `parse(print(g)) == g` for a verified graph.
//!
//! ```text
//! graph @digits(%x: f32[batch, 64]) var(%w: f32[64, 10] "hidden weight") assume(batch >= 1) -> (f32[batch, 10]) {
//!   %0 = const 16.0 : f32[]
//!   %1 = broadcast %0 {shape = (batch, 64), axes = []} : f32[batch, 64]   ; main.rs:23:32
//!   hidden {
//!     %2 = div %x, %1 : f32[batch, 64]                                    ; main.rs:11:26
//!     …
//!   }
//!   return %3 "logits"
//!   update %w = %4
//! }
//! ```
//!
//! Parameters go by their names, results by numbers in order of definition: a change in one line shows as a change in one line.
//! A run of nodes of one scope prints as a block, a lone node of a scattered scope with ` in path/of/scope`.
//! Arrays of more than 64 elements print as `blob(<hash>)`, with the data in lines after the graph.
//! Locations are comments: `{}` prints the last component of a path, so that a dump is the same on every machine,
//! and `{:#}` prints it in full.
//!
//! A graph that the verifier refuses prints too: what does not exist is marked with a `?`.
//! A region that several operations share prints with each of them.

mod array;
mod blocks;
mod spell;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use self::array::{Blobs, push_elements, type_text};
use self::blocks::Blocks;
pub(super) use self::blocks::scope_names;
pub(super) use self::spell::{base64, continues_name, from_base64, starts_name};
use self::spell::{param_names, push_name, push_quoted};
use super::{Graph, Node, NodeId, ParamKind, Value};
use crate::attrs::{Attr, Attrs};
use crate::loc::Loc;
use crate::ops::Op;
use crate::ty::Type;

/// The column at which locations stand, where a line is not longer.
const LOCATION_COLUMN: usize = 64;
/// The longest first line of a graph that stays on one line.
const HEADER_WIDTH: usize = 120;

/// Which locations a text shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Locations {
    /// None.
    Hidden,
    /// The last component of each path.
    #[default]
    Short,
    /// Whole paths.
    Full,
}

/// How a graph prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrintOptions {
    /// Which locations are shown.
    pub locations: Locations,
    /// Whether the data of large constants follows the graph. Without it a text with such constants does not parse.
    pub blobs: bool,
}

impl Default for PrintOptions {
    fn default() -> Self {
        Self { locations: Locations::Short, blobs: true }
    }
}

/// A graph with the way it prints, from [`Graph::display`].
#[derive(Clone, Copy, Debug)]
pub struct Printed<'g> {
    graph: &'g Graph,
    options: PrintOptions,
    numbers: &'g [u32],
}

impl Graph {
    /// The graph's text with options.
    pub fn display(&self, options: PrintOptions) -> Printed<'_> {
        Printed { graph: self, options, numbers: &[] }
    }

    /// The same, where the result with the index `i` among all values goes by `numbers[i]`; regions keep their own numbers.
    ///
    /// So two graphs print with one name for what they have in common. Numbers must differ for a text that parses.
    pub fn display_numbered<'g>(&'g self, options: PrintOptions, numbers: &'g [u32]) -> Printed<'g> {
        Printed { graph: self, options, numbers }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let locations = if f.alternate() { Locations::Full } else { Locations::Short };
        fmt::Display::fmt(&self.display(PrintOptions { locations, ..PrintOptions::default() }), f)
    }
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notes = Notes::new();
        let mut printer = Printer::new(f, self.options, &notes);
        printer.numbers = self.numbers;
        printer.text(self.graph)
    }
}

/// A place in a graph's text that a message can stand under.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Site {
    /// The nodes whose regions lead there, each with the name of the attribute that holds the region; empty for the graph itself.
    pub path: Vec<(NodeId, String)>,
    /// The line.
    pub line: Line,
}

/// A line of one graph's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Line {
    /// The first line.
    Header,
    /// A node.
    Node(NodeId),
    /// The outputs.
    Return,
    /// The update at this position.
    Update(u32),
}

/// Messages by place.
pub(super) type Notes = BTreeMap<Site, Vec<String>>;

/// The text of a graph with messages under the lines they are about, without regions and data that no message is about.
pub(super) fn annotated(graph: &Graph, notes: &Notes) -> String {
    let mut out = String::new();
    let options = PrintOptions { blobs: false, ..PrintOptions::default() };
    // Writing to a `String` cannot fail.
    let _ = Printer::new(&mut out, options, notes).text(graph);
    out
}

struct Printer<'a> {
    out: &'a mut dyn fmt::Write,
    options: PrintOptions,
    notes: &'a Notes,
    /// The numbers of the outermost graph's values, where they are not in order of definition.
    numbers: &'a [u32],
    /// The line being written.
    line: String,
    /// The region being written.
    path: Vec<(NodeId, String)>,
    blobs: Blobs,
}

impl<'a> Printer<'a> {
    fn new(out: &'a mut dyn fmt::Write, options: PrintOptions, notes: &'a Notes) -> Self {
        Self { out, options, notes, numbers: &[], line: String::new(), path: Vec::new(), blobs: Blobs::default() }
    }

    fn text(&mut self, graph: &Graph) -> fmt::Result {
        self.graph(graph, 0)?;
        self.end_line(None)?;
        if self.options.blobs {
            for line in std::mem::take(&mut self.blobs).lines() {
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }

    /// Writes a graph from the place where the line stands, and leaves the closing brace on the line.
    fn graph(&mut self, graph: &Graph, indent: usize) -> fmt::Result {
        let names = param_names(graph);
        self.header(graph, &names, indent)?;
        self.note(Line::Header, indent + 1)?;
        let mut blocks = Blocks::new(graph);
        for (id, node) in graph.nodes() {
            let open = blocks.depth_open();
            let step = blocks.step(id.index());
            for i in 0..step.closed {
                self.start_line(indent + open - i);
                self.line.push('}');
                self.end_line(None)?;
            }
            let mut depth = indent + open - step.closed;
            for head in step.opened {
                depth += 1;
                self.start_line(depth);
                self.line.push_str(&head);
                self.line.push_str(" {");
                self.end_line(None)?;
            }
            self.start_line(depth + 1);
            self.node(graph, &names, id, node, &step.suffix, depth + 1)?;
            self.end_line(Some(&node.loc))?;
            self.note(Line::Node(id), depth + 1)?;
        }
        for depth in (1..=blocks.depth_open()).rev() {
            self.start_line(indent + depth);
            self.line.push('}');
            self.end_line(None)?;
        }
        self.results(graph, &names, indent + 1)?;
        self.start_line(indent);
        self.line.push('}');
        Ok(())
    }

    fn header(&mut self, graph: &Graph, names: &[String], indent: usize) -> fmt::Result {
        let start = self.line.len();
        self.header_start(graph);
        for (i, group) in groups(graph).into_iter().enumerate() {
            self.group_start(i, group.0);
            for (place, &param) in group.1.iter().enumerate() {
                self.line.push_str(if place > 0 { ", " } else { "" });
                self.param(graph, names, param);
            }
            self.line.push(')');
        }
        self.header_end(graph);
        if self.line.chars().count() <= HEADER_WIDTH {
            return self.end_line(None);
        }
        // Too long: a line for each parameter.
        self.line.truncate(start);
        self.header_start(graph);
        for (i, group) in groups(graph).into_iter().enumerate() {
            self.group_start(i, group.0);
            for &param in &group.1 {
                self.end_line(param.checked_sub(1).filter(|_| param != group.1[0]).map(|p| &graph.params[p].loc))?;
                self.start_line(indent + 1);
                self.param(graph, names, param);
                self.line.push(',');
            }
            if let Some(&last) = group.1.last() {
                self.end_line(Some(&graph.params[last].loc))?;
                self.start_line(indent);
            }
            self.line.push(')');
        }
        self.header_end(graph);
        self.end_line(None)
    }

    fn header_start(&mut self, graph: &Graph) {
        self.line.push_str("graph @");
        push_name(&mut self.line, &graph.name);
    }

    fn group_start(&mut self, place: usize, kind: ParamKind) {
        if place > 0 {
            self.line.push(' ');
            self.line.push_str(kind_name(kind));
        }
        self.line.push('(');
    }

    fn header_end(&mut self, graph: &Graph) {
        if !graph.facts.is_empty() {
            self.push(format_args!(" assume({})", graph.facts));
        }
        self.line.push_str(" -> (");
        for (i, output) in graph.outputs.iter().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { "" });
            self.ty(graph, output.value);
        }
        self.line.push_str(") {");
    }

    fn param(&mut self, graph: &Graph, names: &[String], i: usize) {
        let name = &graph.params[i].name;
        self.push(format_args!("%{}: ", names[i]));
        self.ty(graph, graph.param_value(i));
        if names[i] != *name {
            self.line.push(' ');
            push_quoted(&mut self.line, name);
        }
    }

    fn node(
        &mut self,
        graph: &Graph,
        names: &[String],
        id: NodeId,
        node: &Node,
        suffix: &str,
        indent: usize,
    ) -> fmt::Result {
        for (i, v) in node.results().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { "" });
            self.value(graph, names, v);
        }
        self.line.push_str(if node.results == 0 { "_ = " } else { " = " });
        self.line.push_str(node.op.name());
        for (i, &v) in node.operands.iter().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { " " });
            self.value(graph, names, v);
        }
        if !self.bare_constant(graph, node) {
            let attrs = node.op.story().attrs();
            if !attrs.0.is_empty() {
                self.line.push(' ');
                self.attrs(&attrs, Some(id), indent)?;
            }
        }
        self.line.push_str(" : ");
        for (i, v) in node.results().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { "" });
            self.ty(graph, v);
        }
        if node.results == 0 {
            self.line.push_str("()");
        }
        if !suffix.is_empty() {
            self.push(format_args!(" in {suffix}"));
        }
        if node.tag != 0 {
            self.push(format_args!(" tag {}", node.tag));
        }
        Ok(())
    }

    /// Writes the value of a constant whose type the line shows anyway: `const 16.0 : f32[]`.
    fn bare_constant(&mut self, graph: &Graph, node: &Node) -> bool {
        let Op::Constant(constant) = &node.op else { return false };
        let shown = node.results == 1
            && type_of(graph, node.first).is_some_and(|t| t.to_string() == type_text(&constant.value));
        if shown {
            self.line.push(' ');
            self.array(&constant.value);
        }
        shown
    }

    fn results(&mut self, graph: &Graph, names: &[String], indent: usize) -> fmt::Result {
        self.start_line(indent);
        self.line.push_str("return");
        for (i, output) in graph.outputs.iter().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { " " });
            self.value(graph, names, output.value);
            if !output.name.is_empty() {
                self.line.push(' ');
                push_quoted(&mut self.line, &output.name);
            }
        }
        self.end_line(None)?;
        self.note(Line::Return, indent)?;
        for (i, update) in (0..).zip(&graph.updates) {
            self.start_line(indent);
            match names.get(update.param as usize) {
                Some(name) => self.push(format_args!("update %{name} = ")),
                None => self.push(format_args!("update %?{} = ", update.param)),
            }
            self.value(graph, names, update.value);
            self.end_line(None)?;
            self.note(Line::Update(i), indent)?;
        }
        Ok(())
    }

    /// Writes attributes in braces. `holder` is the node that a region among them belongs to.
    fn attrs(&mut self, attrs: &Attrs, holder: Option<NodeId>, indent: usize) -> fmt::Result {
        self.line.push('{');
        for (i, (name, attr)) in attrs.0.iter().enumerate() {
            self.line.push_str(if i > 0 { ", " } else { "" });
            push_name(&mut self.line, name);
            self.line.push_str(" = ");
            match attr {
                Attr::Int(v) => self.push(format_args!("{v}")),
                Attr::Ints(v) => self.list("[", v, "]"),
                Attr::Dims(v) => self.list("(", v, ")"),
                Attr::Name(v) => push_name(&mut self.line, v),
                Attr::Str(v) => push_quoted(&mut self.line, v),
                Attr::Float(v) => self.push(format_args!("{v} : {}", v.dtype())),
                Attr::Array(v) => {
                    self.array(v);
                    self.push(format_args!(" : {}", type_text(v)));
                }
                Attr::Map(v) => self.attrs(v, holder, indent)?,
                Attr::Region(body) => {
                    if let Some(id) = holder {
                        self.path.push((id, name.clone()));
                    }
                    if self.notes.is_empty() || self.noted() {
                        self.graph(body, indent)?;
                    } else {
                        // Shared regions can make the text exponentially longer than the graph in memory.
                        // With notes, only regions that a note is about are written out.
                        self.line.push_str("graph @");
                        push_name(&mut self.line, &body.name);
                        self.line.push_str(" {…}");
                    }
                    if holder.is_some() {
                        self.path.pop();
                    }
                }
            }
        }
        self.line.push('}');
        Ok(())
    }

    /// Whether there is a note inside the region being written.
    fn noted(&self) -> bool {
        let first = Site { path: self.path.clone(), line: Line::Header };
        self.notes.range(first..).next().is_some_and(|(site, _)| site.path.starts_with(&self.path))
    }

    fn array(&mut self, array: &crate::array::Array) {
        if array.len() > array::INLINE {
            let name = self.blobs.name(array);
            self.push(format_args!("blob({name})"));
        } else {
            push_elements(&mut self.line, array);
        }
    }

    fn list(&mut self, open: &str, items: &[impl fmt::Display], close: &str) {
        self.line.push_str(open);
        for (i, item) in items.iter().enumerate() {
            self.push(format_args!("{}{item}", if i > 0 { ", " } else { "" }));
        }
        self.line.push_str(close);
    }

    fn value(&mut self, graph: &Graph, names: &[String], v: Value) {
        match names.get(v.index()) {
            Some(name) => self.push(format_args!("%{name}")),
            None if self.path.is_empty() && v.index() < self.numbers.len() => {
                self.push(format_args!("%{}", self.numbers[v.index()]));
            }
            None if v.index() < graph.values.len() => self.push(format_args!("%{}", v.index() - names.len())),
            None => self.push(format_args!("%?{}", v.index())),
        }
    }

    fn ty(&mut self, graph: &Graph, v: Value) {
        match type_of(graph, v) {
            Some(ty) => self.push(format_args!("{ty}")),
            None => self.line.push('?'),
        }
    }

    fn push(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.line.write_fmt(text);
    }

    fn start_line(&mut self, indent: usize) {
        self.line.extend(std::iter::repeat_n("  ", indent));
    }

    /// Ends the line, with a location in a comment if there is one to show.
    fn end_line(&mut self, loc: Option<&Loc>) -> fmt::Result {
        let shown = loc.and_then(|l| match self.options.locations {
            Locations::Hidden => None,
            Locations::Short => l.short(),
            Locations::Full => l.is_known().then(|| l.to_string()),
        });
        if let Some(text) = shown {
            let width = self.line.chars().count();
            self.line.extend(std::iter::repeat_n(' ', LOCATION_COLUMN.saturating_sub(width).max(2)));
            self.line.push_str("; ");
            self.line.extend(text.chars().map(|c| if c.is_control() { '?' } else { c }));
        }
        self.out.write_str(self.line.trim_end_matches(' '))?;
        self.line.clear();
        self.out.write_char('\n')
    }

    fn note(&mut self, line: Line, indent: usize) -> fmt::Result {
        if self.notes.is_empty() {
            return Ok(());
        }
        let site = Site { path: self.path.clone(), line };
        for message in self.notes.get(&site).into_iter().flatten() {
            for (i, text) in message.lines().enumerate() {
                self.start_line(indent);
                self.push(format_args!("; {}{text}", if i == 0 { "^ error: " } else { "  " }));
                self.end_line(None)?;
            }
        }
        Ok(())
    }
}

fn type_of(graph: &Graph, v: Value) -> Option<&Type> {
    graph.values.get(v.index()).map(|d| &d.ty)
}

/// The word before a group of parameters.
pub(super) fn kind_name(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Input => "input",
        ParamKind::Variable => "var",
        ParamKind::Data => "data",
    }
}

/// Runs of parameters of one kind, after a first group of inputs that may be empty.
fn groups(graph: &Graph) -> Vec<(ParamKind, Vec<usize>)> {
    let mut groups = vec![(ParamKind::Input, Vec::new())];
    for (i, param) in graph.params.iter().enumerate() {
        match groups.last_mut() {
            Some((kind, members)) if *kind == param.kind => members.push(i),
            _ => groups.push((param.kind, vec![i])),
        }
    }
    groups
}

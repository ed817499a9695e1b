//! A graph as Graphviz DOT: a box for each operation, a cluster for each scope, an ellipse for each parameter and output.

use std::fmt::{self, Write};

use petgraph::visit::IntoEdgeReferences;

use super::print::scope_names;
use super::visit::NodeView;
use super::{Def, Graph, NodeId, ParamKind, ScopeId, Value};
use crate::attrs::Attr;

impl Graph {
    /// The graph in the DOT language, for a graph that the verifier accepts. The bodies of calls are not drawn.
    ///
    /// Edges carry the type of the value and, at an operation of several operands, its position among them.
    pub fn to_dot(&self) -> String {
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = write_dot(self, &mut out);
        out
    }
}

fn write_dot(graph: &Graph, out: &mut String) -> fmt::Result {
    writeln!(out, "digraph {} {{", Quoted(&graph.name))?;
    writeln!(out, "  node [shape=box, fontname=\"monospace\"]\n  edge [fontname=\"monospace\"]")?;
    for (i, param) in graph.params.iter().enumerate() {
        let style = match param.kind {
            ParamKind::Input => "solid",
            ParamKind::Variable => "bold",
            ParamKind::Data => "dashed",
        };
        let label = format!("{}\n{}", param.name, graph.ty(graph.param_value(i)));
        writeln!(out, "  param{i} [shape=ellipse, style={style}, label={}]", Quoted(&label))?;
    }
    clusters(graph, out)?;
    let view = NodeView::new(graph);
    for edge in view.edge_references() {
        let (from, to) = (edge.source, edge.target);
        write_edge(graph, out, &from.to_string(), to, edge.operand, edge.value)?;
    }
    for (id, node) in graph.nodes() {
        for (operand, &value) in (0..).zip(&node.operands) {
            if let Def::Param(i) = graph.def(value) {
                write_edge(graph, out, &format!("param{i}"), id, operand, value)?;
            }
        }
    }
    for (i, output) in graph.outputs.iter().enumerate() {
        let label = format!("{}\n{}", output.name, graph.ty(output.value));
        writeln!(out, "  output{i} [shape=ellipse, label={}]", Quoted(&label))?;
        writeln!(out, "  {} -> output{i}", vertex(graph, output.value))?;
    }
    for update in &graph.updates {
        writeln!(out, "  {} -> param{} [style=dashed, constraint=false]", vertex(graph, update.value), update.param)?;
    }
    writeln!(out, "}}")
}

/// The operations, inside clusters that nest as the scopes do.
fn clusters(graph: &Graph, out: &mut String) -> fmt::Result {
    let mut children: Vec<Vec<ScopeId>> = vec![Vec::new(); graph.scopes.len()];
    for (i, scope) in graph.scopes.iter().enumerate().skip(1) {
        if let Some(siblings) = children.get_mut(scope.parent.index()) {
            siblings.push(ScopeId(i as u32));
        }
    }
    let mut members: Vec<Vec<NodeId>> = vec![Vec::new(); graph.scopes.len()];
    for (id, node) in graph.nodes() {
        if let Some(nodes) = members.get_mut(node.scope.index()) {
            nodes.push(id);
        }
    }
    // An explicit stack of scopes to open, and of braces to write when one is done.
    let mut stack = vec![Some(ScopeId::ROOT)];
    let mut depth = 1;
    while let Some(next) = stack.pop() {
        let Some(scope) = next else {
            depth -= 1;
            writeln!(out, "{:1$}}}", "", 2 * depth)?;
            continue;
        };
        if scope != ScopeId::ROOT {
            let label = scope_names(graph, scope).and_then(|n| n.last().copied()).unwrap_or_default();
            writeln!(out, "{:2$}subgraph cluster{} {{", "", scope.0, 2 * depth)?;
            depth += 1;
            writeln!(out, "{:2$}label={}", "", Quoted(label), 2 * depth)?;
            stack.push(None);
        }
        for &id in &members[scope.index()] {
            writeln!(out, "{:2$}{id} [label={}]", "", Quoted(&label(graph, id)), 2 * depth)?;
        }
        stack.extend(children[scope.index()].iter().rev().copied().map(Some));
    }
    Ok(())
}

/// An operation's name, its attributes but regions, and its types.
fn label(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let mut label = node.op.name().to_owned();
    for (name, attr) in &node.op.story().attrs().0 {
        match attr {
            Attr::Int(v) => label += &format!("\n{name} = {v}"),
            Attr::Ints(v) => label += &format!("\n{name} = {v:?}"),
            Attr::Dims(v) => label += &format!("\n{name} = {v:?}"),
            Attr::Name(v) | Attr::Str(v) => label += &format!("\n{name} = {v}"),
            Attr::Float(v) => label += &format!("\n{name} = {v}"),
            Attr::Array(v) if v.rank() == 0 => label += &format!("\n{v}"),
            // Too large for a box.
            Attr::Array(_) | Attr::Map(_) | Attr::Region(_) => {}
        }
    }
    for v in node.results() {
        label += &format!("\n{}", graph.ty(v));
    }
    label
}

fn write_edge(graph: &Graph, out: &mut String, from: &str, to: NodeId, operand: u32, value: Value) -> fmt::Result {
    let ty = graph.ty(value);
    let label = if graph.node(to).operands.len() > 1 { format!("{operand}: {ty}") } else { ty.to_string() };
    writeln!(out, "  {from} -> {to} [label={}]", Quoted(&label))
}

fn vertex(graph: &Graph, value: Value) -> String {
    match graph.def(value) {
        Def::Param(i) => format!("param{i}"),
        Def::Node(id, _) => id.to_string(),
    }
}

/// A quoted DOT string, with line breaks as `\n`.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => f.write_char('?')?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

//! Reads `.lehr` files and chooses a graph of theirs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lehr::ir::graph::Graph;
use lehr::ir::graph::parse::{MAX_TEXT, ParseError, ParseErrorKind, parse_file};
use lehr::ir::loc::Loc;

use crate::failure::Failure;

/// How many characters of a line are shown.
const SHOWN: usize = 110;

/// The file's text, which may be anything as long as it is UTF-8.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let fail = |source| Failure::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more than the parser takes, so that it says what is wrong with a longer file.
    File::open(path).map_err(fail)?.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    String::from_utf8(bytes).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        Failure::Text(format!("this is not UTF-8\n  --> {}:{line}:{column}", path.display()))
    })
}

/// The graph of this name, or the only one; and its place in the file.
pub(crate) fn graph(path: &Path, name: Option<&str>) -> Result<(Graph, Loc), Failure> {
    let text = read(path)?;
    let graphs = parse_file(&text).map_err(|e| Failure::Text(inline(path, &text, &e)))?.graphs;
    let refuse = |rule: String, help: String| Failure::Graph { path: path.to_owned(), rule, help };
    let names: Vec<String> = graphs.iter().map(|g| format!("`{}`", g.name)).collect();
    let found = match name {
        Some(name) => graphs.into_iter().enumerate().find(|(_, g)| g.name == name).ok_or_else(|| {
            let help = if names.is_empty() {
                "the file has no graph".to_owned()
            } else {
                format!("the graphs are {}", names.join(", "))
            };
            refuse(format!("there is no graph `{name}`"), help)
        })?,
        None if graphs.len() > 1 => {
            let help = format!("choose one of {} with --graph", names.join(", "));
            return Err(refuse(format!("the file has {} graphs", graphs.len()), help));
        }
        None => graphs.into_iter().enumerate().next().ok_or_else(|| {
            refuse(
                "the file has no graph".to_owned(),
                "write one: `graph @NAME(PARAMETERS) -> (TYPES) { … }`".to_owned(),
            )
        })?,
    };
    let heads = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("graph"));
    let line = heads.map(|(i, _)| i as u32 + 1).nth(found.0).unwrap_or(1);
    Ok((found.1, Loc::new(&path.display().to_string(), line, 1)))
}

/// A parse error under the line it is about, with the lines around it.
pub(crate) fn inline(path: &Path, text: &str, error: &ParseError) -> String {
    if let ParseErrorKind::Invalid(errors) = &*error.kind {
        // Its text is the graph, with each message under its line.
        return format!("{}\n  --> {}:{}:{}\n{errors}", errors.summary(), path.display(), error.line, error.column);
    }
    annotate(path, text, error.line, error.column, &error.kind.to_string())
}

/// A message under the place it is about, with the lines around it; lines and columns count from 1.
pub(crate) fn annotate(path: &Path, text: &str, line: u32, column: u32, message: &str) -> String {
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let mut out = format!("{first}\n  --> {}:{line}:{column}\n", path.display());
    let (at, column) = (line as usize, column.max(1) as usize);
    // A long line is shown from where the place is in sight.
    let skip = if column > SHOWN { column - SHOWN / 2 } else { 0 };
    let width = (at + 1).to_string().len();
    let lines: Vec<(usize, &str)> = text.lines().enumerate().skip(at.saturating_sub(3)).take(4).collect();
    for (i, source) in lines.into_iter().map(|(i, l)| (i + 1, l)).filter(|(i, _)| *i <= at + 1) {
        let shown: String =
            source.chars().skip(skip).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(format!(" {i:width$} | {shown}").trim_end());
        out.push('\n');
        if i == at {
            out.push_str(&format!(" {:width$} | {:2$}^ {first}\n", "", "", column - 1 - skip));
        }
    }
    for line in rest.lines() {
        out.push_str(&format!(" {:width$} {line}\n", ""));
    }
    out
}

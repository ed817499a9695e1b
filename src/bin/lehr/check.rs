//! `lehr check`.

use std::path::Path;

use lehr::ir::Facts;
use lehr::ir::graph::parse::parse_file;
use lehr::ir::kernel::{Kernel, verify};

use crate::failure::Failure;
use crate::file;

/// What the file holds, one line each, if all of it is well.
pub(crate) fn check(path: &Path) -> Result<String, Failure> {
    let text = file::read(path)?;
    if is_kernels(&text) { kernels(path, &text) } else { graphs(path, &text) }
}

/// Whether the first word is that of a kernel.
fn is_kernels(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with(';'));
    lines.next().is_some_and(|line| line.starts_with("kernel"))
}

fn graphs(path: &Path, text: &str) -> Result<String, Failure> {
    let file = parse_file(text).map_err(|e| Failure::Text(file::inline(path, text, &e)))?;
    let line = |g: &lehr::ir::Graph| format!("ok: graph @{}, {} nodes\n", g.name, g.node_count());
    Ok(file.graphs.iter().map(line).collect())
}

fn kernels(path: &Path, text: &str) -> Result<String, Failure> {
    let kernels = Kernel::parse_all(text)
        .map_err(|e| Failure::Text(file::annotate(path, text, e.line, e.column, &e.kind.to_string())))?;
    let mut out = String::new();
    for kernel in &kernels {
        if let Err(errors) = verify::verify(kernel, &Facts::default()) {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            let report = verify::report(kernel, &errors);
            return Err(Failure::Text(format!("kernel @{}: {first}\n  --> {}\n{report}", kernel.name, path.display())));
        }
        out.push_str(&format!("ok: kernel @{}, {} buffers\n", kernel.name, kernel.buffers.len()));
    }
    Ok(out)
}

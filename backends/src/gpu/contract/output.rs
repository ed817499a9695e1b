//! Where finished sums go: into the result, or into scratch memory if they are parts.

use lehr_ir::kernel::Access;

use super::address::{self, Index};
use super::epilogue::Finish;
use super::parts::Parts;
use super::{Product, Side};
use crate::gpu::dispatch::Bound;
use crate::gpu::wgsl::WgslError;
use crate::gpu::wgsl::source::{Source, Text};

/// What becomes of the sums of a dispatch.
pub(super) struct Output<'p, 'c> {
    pub(super) product: &'p Product<'c>,
    /// Whether the sums are parts of sums.
    pub(super) parts: Option<Parts>,
    /// What runs on each sum that is whole.
    pub(super) finish: Option<Finish<'c>>,
}

impl<'c> Output<'_, 'c> {
    /// What runs on each sum here.
    pub(super) fn finish(&self) -> Option<&Finish<'c>> {
        self.finish.as_ref().filter(|_| self.parts.is_none())
    }

    /// Binds what is written, and defines functions that write it: `store_4(base, row, column, values)` for four columns at once,
    /// or `store(base, row, column, value)`, or `finish(row, column, sum)`. Gives lines that say what `base` is over `batch`, and
    /// with parts `part`.
    pub(super) fn define(&self, source: &mut Source, four: bool) -> Result<Vec<String>, WgslError> {
        if let Some(finish) = self.finish() {
            finish.define(source, self.product)?;
            if finish.replaces_result() {
                return Ok(Vec::new());
            }
        }
        let four = four && self.finish().is_none();
        let Product { element, left, right, .. } = self.product;
        let count = |source: &mut Source, side: &Side<'_>| source.number(counted(side.name), side.count);
        let (rows, columns) = (count(source, left)?, count(source, right)?);
        let (bound, row, column, base) = match self.parts {
            Some(parts) => {
                let base = format!("(part * {} + batch) * {rows} * {columns}", self.product.batch);
                let bound = Bound::Scratch(0, parts.bytes(self.product));
                (bound, Index::Even(columns.clone()), Index::Even("1".to_owned()), base)
            }
            None => {
                let out = self.product.out;
                let row = Index::new(source, "out_row", left.out)?;
                let column = Index::new(source, "out_column", right.out)?;
                (Bound::Plan(out.buffer), row, column, address::base(source, "out", out)?)
            }
        };
        let wide = four && self.is_wide();
        let (name, element) = if self.parts.is_some() { ("partial", element.unrounded()) } else { ("out", *element) };
        let buffer = source.bind(name, bound, Access::Write, &element.array_written(wide));
        let at = |column: &Index, to: &str| sum(&["base".to_owned(), row.at("row"), column.at(to)]);
        let mut text = Text::default();
        if four {
            text.open(format!("fn store_4(base: i32, row: i32, column: i32, values: vec4<{}>) {{", element.name));
            if wide {
                text.open(format!("if (row < {rows} && column < {columns}) {{"));
                text.line(element.store_4(source, &buffer, &at(&column, "column"), "values"));
                text.close("}");
            } else {
                for (i, component) in ["x", "y", "z", "w"].into_iter().enumerate() {
                    let to = if i == 0 { "column".to_owned() } else { format!("column + {i}") };
                    text.open(format!("if (row < {rows} && {to} < {columns}) {{"));
                    let lines = element.store(source, &buffer, &at(&column, &to), &format!("values.{component}"));
                    lines.iter().for_each(|line| text.line(line));
                    text.close("}");
                }
            }
        } else {
            text.open(format!("fn store(base: i32, row: i32, column: i32, value: {}) {{", element.name));
            let lines = element.store(source, &buffer, &at(&column, "column"), "value");
            lines.iter().for_each(|line| text.line(line));
        }
        text.close("}");
        source.function(text.join());
        Ok(vec![format!("let base = {base};")])
    }

    /// Lines that write one sum.
    pub(super) fn element(
        &self,
        source: &mut Source,
        row: &str,
        column: &str,
        value: &str,
    ) -> Result<Vec<String>, WgslError> {
        let mut lines = Vec::new();
        if self.finish().is_none_or(|f| !f.replaces_result()) {
            lines.push(format!("store(base, {row}, {column}, {value});"));
        }
        if self.finish().is_some() {
            let rows = source.number("rows", self.product.left.count)?;
            // An epilogue reads what the result has.
            let value = self.product.element.rounded(source, value);
            lines.push(format!("finish(batch * {rows} + {row}, {column}, {value});"));
        }
        Ok(lines)
    }

    /// Whether four columns from each fourth on are an aligned vector.
    fn is_wide(&self) -> bool {
        let Product { element, left, right, out, .. } = self.product;
        if element.bytes != 4 {
            return false;
        }
        match self.parts {
            Some(_) => address::is_multiple(right.count, 4),
            None => address::has_vectors(out, right.out, right.count, left.out),
        }
    }
}

/// What the number of a side's vectors is called.
pub(super) fn counted(side: &str) -> &'static str {
    if side == "left" { "rows" } else { "columns" }
}

/// A sum of what is not 0.
pub(super) fn sum(terms: &[String]) -> String {
    let kept: Vec<&str> = terms.iter().map(String::as_str).filter(|t| *t != "0").collect();
    if kept.is_empty() { "0".to_owned() } else { kept.join(" + ") }
}

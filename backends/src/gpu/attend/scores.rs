//! What pairs of queries and keys have besides their products: whether they are seen, bias, and values of queries.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::Access;
use lehr_ir::plan::{Attend, BufferId, Grid};

use super::super::contract::address;
use super::super::dispatch::Bound;
use super::super::wgsl::WgslError;
use super::super::wgsl::source::{Source, Text};
use super::super::wgsl::storage::Storage;
use super::view;
use crate::gpu::wgsl::{Unsupported, WgslTarget};

/// Defines `sees(batch, query, key)`: whether there is such a pair, and neither causality nor mask hides it.
pub(super) fn define_sees(source: &mut Source, attend: &Attend, target: &WgslTarget) -> Result<(), WgslError> {
    let queries = source.number("queries", &attend.queries)?;
    let keys = source.number("keys", &attend.keys)?;
    let mut text = Text::default();
    text.line("// Whether there is such a pair, and nothing hides it.");
    text.open("fn sees(batch: i32, query: i32, key: i32) -> bool {");
    text.open(format!("if (query >= {queries} || key >= {keys}) {{"));
    text.line("return false;");
    text.close("}");
    if attend.scores.causal {
        text.open(format!("if (key + {queries} > query + {keys}) {{"));
        text.line("return false;");
        text.close("}");
    }
    match &attend.mask {
        Some(mask) => {
            let storage = Storage::of(DType::Bool, target);
            let storage = storage.ok_or(Unsupported::DType { dtype: DType::Bool, place: "a mask".to_owned() })?;
            let buffer = source.bind("mask", Bound::Plan(mask.buffer), Access::Read, storage.element(false));
            text.line(format!("let at = u32({});", place(source, attend, mask, "mask")?));
            text.line(format!("return extractBits({buffer}[at >> 2u], (at & 3u) << 3u, 8u) != 0u;"));
        }
        None => text.line("return true;"),
    }
    text.close("}");
    source.function(text.join());
    Ok(())
}

/// Defines `bias_at(batch, query, key)`, 0 beyond the edges.
pub(super) fn define_bias(source: &mut Source, attend: &Attend, bias: &Grid) -> Result<(), WgslError> {
    let queries = source.number("queries", &attend.queries)?;
    let keys = source.number("keys", &attend.keys)?;
    let buffer = source.bind("bias", Bound::Plan(bias.buffer), Access::Read, "f32");
    let mut text = Text::default();
    text.open("fn bias_at(batch: i32, query: i32, key: i32) -> f32 {");
    text.open(format!("if (query >= {queries} || key >= {keys}) {{"));
    text.line("return 0.0f;");
    text.close("}");
    text.line(format!("return {buffer}[{}];", place(source, attend, bias, "bias")?));
    text.close("}");
    source.function(text.join());
    Ok(())
}

/// Defines `<name>_at(batch, query)`, 0 beyond the edge. An `lse` of −∞, that of a query with no weights, is 0 too.
pub(super) fn define_row(source: &mut Source, attend: &Attend, name: &str, buffer: BufferId) -> Result<(), WgslError> {
    let queries = source.number("queries", &attend.queries)?;
    let buffer = source.bind(name, Bound::Plan(buffer), Access::Read, "f32");
    let mut text = Text::default();
    text.open(format!("fn {name}_at(batch: i32, query: i32) -> f32 {{"));
    text.open(format!("if (query >= {queries}) {{"));
    text.line("return 0.0f;");
    text.close("}");
    text.line(format!("let x = {buffer}[batch * {queries} + query];"));
    if name == "lse" {
        text.line("return select(x, 0.0f, bitcast<u32>(x) == 0xff800000u);");
    } else {
        text.line("return x;");
    }
    text.close("}");
    source.function(text.join());
    Ok(())
}

/// Where a pair's element of a grid is, over `batch`, `query` and `key`.
fn place(source: &mut Source, attend: &Attend, grid: &Grid, name: &str) -> Result<String, WgslError> {
    let matrix = view::matrix(attend, grid, &attend.queries, &attend.keys)?;
    let base = address::base(source, name, &matrix)?;
    let row = address::Index::new(source, &format!("{name}_query"), &matrix.row)?.at("query");
    let column = address::Index::new(source, &format!("{name}_key"), &matrix.column)?.at("key");
    let kept: Vec<String> = [base, row, column].into_iter().filter(|t| t != "0").collect();
    Ok(if kept.is_empty() { "0".to_owned() } else { kept.join(" + ") })
}

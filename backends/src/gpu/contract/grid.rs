//! Which tile of the result a workgroup makes, and which terms it sums.

use lehr_ir::dim::Dim;

use super::output::Output;
use super::{Product, Side};
use crate::gpu::wgsl::WgslError;
use crate::gpu::wgsl::source::Source;

/// The tiles of so many rows and columns that a product has, in all matrices of the batch.
pub(super) fn tiles(product: &Product<'_>, size: i64) -> Dim {
    let tiles = |side: &Side<'_>| side.count.ceildiv(size);
    &(product.batch * &tiles(&product.left)) * &tiles(&product.right)
}

/// The workgroups: one for each tile, of each part of its sums.
pub(super) fn groups(product: &Product<'_>, output: &Output<'_, '_>, size: i64) -> Dim {
    let tiles = tiles(product, size);
    output.parts.map_or_else(|| tiles.clone(), |parts| &tiles * parts.count)
}

/// Lines that find the tile: `first_row`, `first_column`, `batch`, and `part` if there are parts.
pub(super) fn place(
    source: &mut Source,
    product: &Product<'_>,
    output: &Output<'_, '_>,
    size: i64,
) -> Result<(), WgslError> {
    let number = source.number("groups", &groups(product, output, size))?;
    source.begin(&number);
    let across = source.number("tiles_across", &product.right.count.ceildiv(size))?;
    let down = source.number("tiles_down", &product.left.count.ceildiv(size))?;
    let batches = source.number("batches", product.batch)?;
    source.line(format!("let first_column = linear % {across} * {size};"));
    source.line(format!("let first_row = linear / {across} % {down} * {size};"));
    if output.parts.is_some() {
        let tiles = source.number("tiles", &tiles(product, size))?;
        source.line(format!("let batch = linear / ({across} * {down}) % {batches};"));
        source.line(format!("let part = linear / {tiles};"));
    } else {
        source.line(format!("let batch = linear / ({across} * {down});"));
    }
    Ok(())
}

/// Lines that find the terms, as expressions: the first, and the one after the last.
pub(super) fn terms(
    source: &mut Source,
    product: &Product<'_>,
    output: &Output<'_, '_>,
) -> Result<(String, String), WgslError> {
    let terms = source.number("terms", product.sum)?;
    let Some(parts) = output.parts else { return Ok(("0".to_owned(), terms)) };
    source.line(format!("let begin = part * {};", parts.terms));
    source.line(format!("let end = min(begin + {}, {terms});", parts.terms));
    Ok(("begin".to_owned(), "end".to_owned()))
}

//! Views of attention as matrices that panels are fetched from.

use lehr_ir::dim::Dim;
use lehr_ir::plan::{Attend, BufferId, Digits, Grid, Matrix};

use super::super::contract::address;
use super::super::wgsl::WgslError;

/// A grid as a matrix of rows by columns.
pub(super) fn matrix(attend: &Attend, grid: &Grid, rows: &Dim, columns: &Dim) -> Result<Matrix, WgslError> {
    let batch = Digits::new(attend.batch.iter().cloned().zip(grid.batch.iter().cloned()));
    let batch = batch.ok_or(WgslError::Limit {
        what: "leading dims of an attention",
        need: attend.batch.len() as u64,
        limit: Digits::MOST as u64,
    })?;
    Ok(Matrix {
        buffer: grid.buffer,
        offset: grid.offset.clone(),
        batch,
        row: Digits::even(rows.clone(), grid.row.clone()),
        column: Digits::even(columns.clone(), grid.column.clone()),
    })
}

/// Whether a buffer may be bound as vectors of four columns: all views of it allow that.
pub(super) fn is_wide(attend: &Attend, buffer: BufferId) -> Result<bool, WgslError> {
    for (grid, rows, columns) in attend.grids() {
        if grid.buffer != buffer {
            continue;
        }
        let is = |other: &Option<Grid>| other.as_ref().is_some_and(|o| std::ptr::eq(o, grid));
        let matrix = matrix(attend, grid, rows, columns)?;
        let single = is(&attend.bias) || is(&attend.mask);
        if single || !address::has_vectors(&matrix, &matrix.column, columns, &matrix.row) {
            return Ok(false);
        }
    }
    Ok(true)
}

//! Tables of numbers in CSV files.

use std::path::Path;

use lehr_ir::Array;

use super::{DataError, Dataset};
use crate::error::{Error, Result};

/// Reads a table with a header line into `x`.
pub(super) fn read(path: &Path) -> Result<Dataset> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(|e| error(path, e))?;
    let fields: Vec<String> = reader.headers().map_err(|e| error(path, e))?.iter().map(str::to_owned).collect();
    let mut values: Vec<f32> = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut rows = 0;
    while reader.read_record(&mut record).map_err(|e| error(path, e))? {
        for (text, column) in record.iter().zip(&fields) {
            values.push(text.parse().map_err(|_| DataError::Field {
                path: path.to_owned(),
                line: record.position().map_or(0, csv::Position::line),
                column: column.clone(),
                text: text.to_owned(),
            })?);
        }
        rows += 1;
    }
    let x = Array::new(&[rows, fields.len()], values)
        .map_err(|e| DataError::Malformed { path: path.to_owned(), reason: e.to_string() })?;
    Ok(Dataset { columns: vec![("x".into(), x)], fields, rows })
}

fn error(path: &Path, e: csv::Error) -> Error {
    let reason = e.to_string();
    match e.into_kind() {
        csv::ErrorKind::Io(source) => Error::io(path, source),
        _ => DataError::Malformed { path: path.to_owned(), reason }.into(),
    }
}

/// Moves a field of `x` into `y`.
pub(super) fn label(mut data: Dataset, field: &str) -> Result<Dataset> {
    let known = || DataError::NoColumn { name: field.to_owned(), known: data.fields.clone() };
    let at = data.fields.iter().position(|f| f == field).ok_or_else(known)?;
    let x = data.column("x")?.clone();
    let width = data.fields.len();
    let all = x.as_slice::<f32>().ok_or_else(known)?;
    let labels: Vec<f32> = all.iter().skip(at).step_by(width).copied().collect();
    let rest: Vec<f32> = all.iter().enumerate().filter(|(i, _)| i % width != at).map(|(_, v)| *v).collect();
    let x = Array::new(&[data.rows, width - 1], rest).map_err(|e| Error::internal(e.to_string()))?;
    let y = if labels.iter().all(|v| v.fract() == 0.0) {
        Array::from(labels.iter().map(|&v| v as i64).collect::<Vec<_>>())
    } else {
        Array::from(labels)
    };
    data.fields.remove(at);
    data.columns.retain(|(n, _)| &**n != "x" && &**n != "y");
    data.columns.extend([("x".into(), x), ("y".into(), y)]);
    Ok(data)
}

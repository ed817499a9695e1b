//! Variables in safetensors files.

use std::path::{Path, PathBuf};

use lehr_ir::{Array, DType, Data, Type};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result, list};

/// A variable that is not as asked for, or a file that does not hold what it should.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// No variable has this name.
    #[error("state: there is no variable `{name}`\n  = help: {}", suggestion(near.as_deref(), known))]
    Unknown {
        /// The name.
        name: String,
        /// The variable that it may stand for.
        near: Option<String>,
        /// The variables there are.
        known: Vec<String>,
    },
    /// A tensor that was to be a variable reads none.
    #[error("state: the tensor is no variable\n  = help: give one made by Tensor::variable or Tensor::buffer")]
    NoVariable,
    /// A value has another dtype or shape than its variable.
    #[error(
        "state: the variable `{name}` is {ty}, the array is {got}; dtype and shape must agree\n  = help: convert or reshape the array"
    )]
    Type {
        /// The variable.
        name: String,
        /// Its type.
        ty: Box<Type>,
        /// The array's type.
        got: Box<Type>,
    },
    /// A file lacks a variable.
    #[error("state: the variable `{name}` is missing\n  = help: load a file that was saved from the same variables")]
    Missing {
        /// The variable.
        name: String,
    },
    /// A dtype that one side has no spelling for.
    #[error("state: `{name}` has the dtype {dtype}, which the other side does not have\n  = help: convert it first")]
    DType {
        /// The variable.
        name: String,
        /// The dtype.
        dtype: String,
    },
    /// A file that is no safetensors file, or a broken one.
    #[error("state: it is no well-formed safetensors file: {reason}\n  = help: save it again")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// What is wrong with a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<StateError>,
    },
}

fn suggestion(near: Option<&str>, known: &[String]) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the variables are {}", list(known.iter().map(String::as_str))),
    }
}

/// Writes arrays; the file appears whole or not at all.
pub(super) fn save(path: &Path, all: Vec<(String, Array)>) -> Result<()> {
    let mut bytes = Vec::with_capacity(all.len());
    for (name, array) in &all {
        let Some(dtype) = spelling(array.dtype()) else {
            return Err(StateError::DType { name: name.clone(), dtype: array.dtype().to_string() }.into());
        };
        bytes.push((dtype, array.shape().to_vec(), array.data().to_le_bytes()));
    }
    let mut views = Vec::with_capacity(all.len());
    for ((name, _), (dtype, shape, bytes)) in all.iter().zip(&bytes) {
        let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| malformed(path, e.to_string()))?;
        views.push((name.as_str(), view));
    }
    let file = safetensors::serialize(views, None).map_err(|e| malformed(path, e.to_string()))?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, file).map_err(|e| Error::io(&part, e))?;
    std::fs::rename(&part, path).map_err(|e| Error::io(path, e))
}

/// Reads all arrays of a file.
pub(super) fn load(path: &Path) -> Result<Vec<(String, Array)>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| malformed(path, e.to_string()))?;
    let mut out = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        let Some(dtype) = dtype_of(view.dtype()) else {
            let e = StateError::DType { name: name.to_owned(), dtype: format!("{:?}", view.dtype()) };
            return Err(StateError::File { path: path.to_owned(), source: Box::new(e) }.into());
        };
        let array = Data::from_le_bytes(dtype, view.data()).and_then(|d| Array::from_data(view.shape(), d).ok());
        match array {
            Some(array) => out.push((name.to_owned(), array)),
            None => return Err(malformed(path, format!("the bytes of `{name}` do not fill its shape"))),
        }
    }
    Ok(out)
}

fn malformed(path: &Path, reason: String) -> Error {
    StateError::File { path: path.to_owned(), source: Box::new(StateError::Malformed { reason }) }.into()
}

/// The format's spelling of a dtype.
fn spelling(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::C64 => Dtype::C64,
        DType::C128 => return None,
    })
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&d| spelling(d) == Some(dtype))
}

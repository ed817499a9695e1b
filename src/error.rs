//! What can go wrong, in families: the user's graph, its compilation, its inputs, state, files.
//!
//! Ill-typed operations and missing derivatives do not appear where they happen: the tensor carries them, and whatever returns a
//! `Result` reports all distinct roots as [`Error::Graph`], each with the line it was born on.

use std::path::PathBuf;

use lehr_ir::eval::EvalError;
use lehr_ir::expr::Errors;
use lehr_ir::loc::Loc;
use lehr_passes::PassError;

use crate::data::DataError;
use crate::gradcheck::GradCheckError;
use crate::indices::IndexError;
use crate::inputs::InputError;
use crate::nan::NanError;
use crate::outputs::OutputError;
use crate::state::StateError;

/// Any error of lehr.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Operations that cannot be built, derivatives included, each with the line of source it was born on.
    #[error(transparent)]
    Graph(#[from] Errors),
    /// A function that cannot be compiled as it is described.
    #[error("{function}: {rule}{}\n  = help: {help}", at(loc))]
    Function {
        /// The function.
        function: String,
        /// What is wrong.
        rule: String,
        /// What to do.
        help: String,
        /// The user's line.
        loc: Loc,
    },
    /// A pass failed.
    #[error(transparent)]
    Pass(Box<PassError>),
    /// The backend cannot take the program.
    #[error("backend: {0}")]
    Backend(String),
    /// A device cannot take or run a program.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(Box<lehr_backends::gpu::GpuError>),
    /// An input of a call: its name, dtype or shape, or the sizes that it gives to names.
    #[error(transparent)]
    Input(Box<InputError>),
    /// A result asked for by a wrong name or as a wrong type.
    #[error(transparent)]
    Output(Box<OutputError>),
    /// A variable or a file of variables.
    #[error(transparent)]
    State(Box<StateError>),
    /// Evaluation failed on the reference backend.
    #[error(transparent)]
    Eval(Box<EvalError>),
    /// A result with a NaN, where these are trapped.
    #[error(transparent)]
    Nan(Box<NanError>),
    /// An index out of range, where these are checked.
    #[error(transparent)]
    Index(Box<IndexError>),
    /// Derivatives that differ from finite differences.
    #[error(transparent)]
    GradCheck(Box<GradCheckError>),
    /// A data set or array file.
    #[error(transparent)]
    Data(Box<DataError>),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A defect of lehr.
    #[error("internal error: {0}; this is a defect of lehr, please report it")]
    Internal(String),
}

/// A result with any error of lehr.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }
}

/// The line of source, as errors end with it.
pub(crate) fn at(loc: &Loc) -> String {
    if loc.is_known() { format!("\n  --> {loc}") } else { String::new() }
}

macro_rules! boxed {
    ($($Variant:ident($ty:ty);)*) => { $(
        impl From<$ty> for Error {
            fn from(e: $ty) -> Self {
                Self::$Variant(Box::new(e))
            }
        }
    )* };
}

boxed! {
    Pass(PassError);
    Input(InputError);
    Nan(NanError);
    Index(IndexError);
    GradCheck(GradCheckError);
    Output(OutputError);
    State(StateError);
    Eval(EvalError);
    Data(DataError);
}

#[cfg(feature = "gpu")]
boxed! {
    Gpu(lehr_backends::gpu::GpuError);
}

/// The name of a list that is most like a wrong one, if any is alike.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wrong.chars().count().div_ceil(3).max(1);
    names
        .into_iter()
        .map(|n| (distance(wrong, n), n))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, n)| n)
}

/// How many letters must be put in, left out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A list of names for a message.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

//! Why the program stops, and how it exits then.

use std::io;
use std::path::PathBuf;

use lehr::ir::loc::Loc;
use lehr::passes::PassError;

/// Why the program stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The standard output cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A file's text is wrong; the message has its place.
    #[error("{0}")]
    Text(String),
    /// The file does not have the one graph that is asked for.
    #[error("{}: {rule}\n  = help: {help}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        rule: String,
        /// What to do.
        help: String,
    },
    /// A graph has no JSON.
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    /// What lehr says.
    #[error(transparent)]
    Lehr(lehr::Error),
    /// A pass that there is not.
    #[error("{0}\n  = help: run `lehr explain FILE` to see all passes in order")]
    Pass(PassError),
}

impl Failure {
    /// 2 for a call of the program that cannot be meant, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Pass(_) => 2,
            Self::Read { .. }
            | Self::Output(_)
            | Self::Text(_)
            | Self::Graph { .. }
            | Self::Json(_)
            | Self::Lehr(_) => 1,
        }
    }

    /// An error of lehr about the graph at `place`, where it would name a line of this program.
    pub(crate) fn about(place: &Loc, error: lehr::Error) -> Self {
        match error {
            lehr::Error::Pass(e) if matches!(*e, PassError::UnknownPass { .. }) => Self::Pass(*e),
            lehr::Error::Function { function, rule, help, .. } => {
                Self::Lehr(lehr::Error::Function { function, rule, help, loc: place.clone() })
            }
            lehr::Error::Input(mut e) => {
                e.loc = place.clone();
                Self::Lehr(lehr::Error::Input(e))
            }
            other => Self::Lehr(other),
        }
    }
}

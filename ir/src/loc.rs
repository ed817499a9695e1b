//! Where in the user's source a node was born.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A line of the user's source, or nothing for what lehr made without one.
///
/// A location comes from [`Location::caller`] or from a parsed text, which is why the file name may be shared or static.
/// It never takes part in equality of operations: two equal nodes born on different lines are one value.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Loc(Option<Place>);

#[derive(Clone, Debug)]
struct Place {
    file: File,
    line: u32,
    column: u32,
}

#[derive(Clone, Debug)]
enum File {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Loc {
    /// No location.
    pub const UNKNOWN: Self = Self(None);

    /// The location that a `#[track_caller]` function was called from.
    #[track_caller]
    pub fn caller() -> Self {
        Self::from(Location::caller())
    }

    /// A location read from a file.
    pub fn new(file: &str, line: u32, column: u32) -> Self {
        Self(Some(Place { file: File::Shared(file.into()), line, column }))
    }

    /// Whether a location is known.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The file, line and column, if known.
    pub fn parts(&self) -> Option<(&str, u32, u32)> {
        self.0.as_ref().map(|p| (p.file.as_str(), p.line, p.column))
    }

    /// The spelling of dumps: the last component of the path, so that a dump is the same on every machine.
    pub fn short(&self) -> Option<String> {
        let (file, line, column) = self.parts()?;
        let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
        Some(format!("{name}:{line}:{column}"))
    }

    /// Reads `file:line:column`.
    pub fn parse(s: &str) -> Option<Self> {
        let (rest, column) = s.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        (!file.is_empty()).then_some(())?;
        Some(Self::new(file, line.parse().ok()?, column.parse().ok()?))
    }
}

impl From<&'static Location<'static>> for Loc {
    fn from(l: &'static Location<'static>) -> Self {
        Self(Some(Place { file: File::Static(l.file()), line: l.line(), column: l.column() }))
    }
}

impl File {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(s) => s,
            Self::Shared(s) => s,
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        (self.file.as_str(), self.line, self.column) == (other.file.as_str(), other.line, other.column)
    }
}

impl Eq for Place {}

impl std::hash::Hash for Place {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.file.as_str(), self.line, self.column).hash(state);
    }
}

impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Some((file, line, column)) => write!(f, "{file}:{line}:{column}"),
            None => f.write_str("<unknown>"),
        }
    }
}

impl Serialize for Loc {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map(|_| self.to_string()).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Loc {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(d)? {
            None => Ok(Self::UNKNOWN),
            Some(s) => Self::parse(&s).ok_or_else(|| serde::de::Error::custom("expected file:line:column")),
        }
    }
}

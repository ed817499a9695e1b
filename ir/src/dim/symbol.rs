//! Names of unknown integers: a size, a loop axis or a scalar variable.
//!
//! A symbol is its spelling, so two graphs built apart agree on what `batch` is, and no global table exists.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of an unknown integer, ordered by its spelling.
///
/// Valid spellings match `[A-Za-z_%][A-Za-z0-9_.%]*` and have at most [`Symbol::MAX_LEN`] bytes.
#[derive(Clone)]
pub struct Symbol(Arc<str>);

/// A spelling that is no valid [`Symbol`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{spelling}` is not a symbol: a symbol starts with a letter, `_` or `%`, continues with letters, digits, `_`, `.` or `%`, and has at most {max} bytes",
    max = Symbol::MAX_LEN
)]
pub struct SymbolError {
    /// The refused spelling, cut after [`Symbol::MAX_LEN`] characters.
    pub spelling: String,
}

impl Symbol {
    /// The longest valid spelling in bytes, which bounds the text of any dimension.
    pub const MAX_LEN: usize = 200;

    /// Makes a symbol from its spelling.
    ///
    /// # Errors
    /// [`SymbolError`] where the spelling is not valid.
    pub fn new(spelling: &str) -> Result<Self, SymbolError> {
        if is_valid(spelling) {
            Ok(Self(Arc::from(spelling)))
        } else {
            Err(SymbolError { spelling: spelling.chars().take(Self::MAX_LEN).collect() })
        }
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a symbol that no user can spell, for quantities the solver introduces.
    pub(crate) fn hidden(spelling: String) -> Self {
        debug_assert!(!is_valid(&spelling));
        Self(Arc::from(spelling))
    }
}

/// Whether a byte may start a symbol.
pub(crate) fn starts_symbol(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte == b'%'
}

/// Whether a byte may stand inside a symbol.
pub(crate) fn continues_symbol(byte: u8) -> bool {
    starts_symbol(byte) || byte.is_ascii_digit() || byte == b'.'
}

fn is_valid(spelling: &str) -> bool {
    let bytes = spelling.as_bytes();
    bytes.len() <= Symbol::MAX_LEN
        && bytes.first().is_some_and(|&b| starts_symbol(b))
        && bytes.iter().all(|&b| continues_symbol(b))
}

impl PartialEq for Symbol {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Symbol {}

impl PartialOrd for Symbol {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Symbol {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

// Hashes as its spelling, as `Borrow<str>` demands.
impl Hash for Symbol {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Symbol {
    type Error = SymbolError;

    fn try_from(spelling: &str) -> Result<Self, SymbolError> {
        Self::new(spelling)
    }
}

impl std::str::FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(spelling: &str) -> Result<Self, SymbolError> {
        Self::new(spelling)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Symbol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Symbol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spelling = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&spelling).map_err(serde::de::Error::custom)
    }
}

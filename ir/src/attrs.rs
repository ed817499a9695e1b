//! Attributes: an operation's parameters as named values, the one form that text, JSON and fingerprints share.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::Graph;

/// The value of an attribute.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Attr {
    /// An integer: `axis = 1`.
    Int(i64),
    /// Integers: `axes = [0, 1]`.
    Ints(Vec<i64>),
    /// Dims: `shape = (batch, 2*n)`.
    Dims(Vec<Dim>),
    /// A lower-case identifier: `kind = sum`, `dtype = f32`.
    Name(String),
    /// A quoted string: `label = "attention"`.
    Str(String),
    /// An exact float: `eps = 1e-5`.
    Float(crate::literal::Literal),
    /// An array: `value = [1.0, 2.0] : f32[2]`, or `blob(<hash>)` above 64 elements.
    Array(Array),
    /// Nested attributes: `attrs = {eps = 1e-5}`.
    Map(Attrs),
    /// A region: a closed graph.
    Region(Arc<Graph>),
}

/// Named values, in the order the operation declares them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attrs(pub Vec<(String, Attr)>);

/// An attribute that is missing, of the wrong form, or unknown.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttrError {
    /// A needed attribute is not there.
    #[error("attribute `{0}` is missing")]
    Missing(String),
    /// It is there, with a value of another form.
    #[error("attribute `{name}` must be {expected}")]
    Form {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The operation has no such attribute.
    #[error("attribute `{0}` is not one of this operation's")]
    Unknown(String),
    /// No operation has this name.
    #[error("there is no operation `{0}`")]
    UnknownOp(String),
}

impl Attrs {
    /// No attributes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: Attr) -> Self {
        self.0.push((name.to_owned(), value));
        self
    }

    /// Adds axes or other small non-negative integers.
    #[must_use]
    pub fn with_axes(self, name: &str, axes: &[usize]) -> Self {
        self.with(name, Attr::Ints(axes.iter().map(|&a| i64::try_from(a).unwrap_or(i64::MAX)).collect()))
    }

    /// Adds dims.
    #[must_use]
    pub fn with_dims(self, name: &str, dims: &[Dim]) -> Self {
        self.with(name, Attr::Dims(dims.to_vec()))
    }

    /// Adds a small non-negative integer.
    #[must_use]
    pub fn with_int(self, name: &str, value: usize) -> Self {
        self.with(name, Attr::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    /// Adds an identifier.
    #[must_use]
    pub fn with_name(self, name: &str, value: &str) -> Self {
        self.with(name, Attr::Name(value.to_owned()))
    }

    /// The attribute of this name.
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

/// Takes attributes out by name; [`Reader::finish`] refuses what is left.
#[derive(Debug)]
pub struct Reader {
    left: Vec<(String, Attr)>,
}

impl Reader {
    /// A reader over `attrs`.
    pub fn new(attrs: Attrs) -> Self {
        Self { left: attrs.0 }
    }

    /// An error if an attribute has not been taken.
    pub fn finish(self) -> Result<(), AttrError> {
        self.left.into_iter().next().map_or(Ok(()), |(name, _)| Err(AttrError::Unknown(name)))
    }

    /// The attribute of this name, if it is there.
    pub fn optional(&mut self, name: &str) -> Option<Attr> {
        let i = self.left.iter().position(|(n, _)| n == name)?;
        Some(self.left.remove(i).1)
    }

    /// The attribute of this name.
    pub fn take(&mut self, name: &str) -> Result<Attr, AttrError> {
        self.optional(name).ok_or_else(|| AttrError::Missing(name.to_owned()))
    }

    /// Integers.
    pub fn ints(&mut self, name: &str) -> Result<Vec<i64>, AttrError> {
        match self.take(name)? {
            Attr::Ints(v) => Ok(v),
            _ => Err(form(name, "a list of integers")),
        }
    }

    /// An integer.
    pub fn int(&mut self, name: &str) -> Result<i64, AttrError> {
        match self.take(name)? {
            Attr::Int(v) => Ok(v),
            _ => Err(form(name, "an integer")),
        }
    }

    /// A non-negative integer, such as an axis.
    pub fn axis(&mut self, name: &str) -> Result<usize, AttrError> {
        usize::try_from(self.int(name)?).map_err(|_| form(name, "an integer ≥ 0"))
    }

    /// Non-negative integers, such as axes.
    pub fn axes(&mut self, name: &str) -> Result<SmallVec<[usize; 4]>, AttrError> {
        let ints = self.ints(name)?;
        ints.into_iter().map(|v| usize::try_from(v).map_err(|_| form(name, "a list of integers ≥ 0"))).collect()
    }

    /// Dims.
    pub fn dims(&mut self, name: &str) -> Result<Vec<Dim>, AttrError> {
        match self.take(name)? {
            Attr::Dims(v) => Ok(v),
            _ => Err(form(name, "a list of dims in parentheses")),
        }
    }

    /// An identifier.
    pub fn name(&mut self, name: &str) -> Result<String, AttrError> {
        match self.take(name)? {
            Attr::Name(v) => Ok(v),
            _ => Err(form(name, "an identifier")),
        }
    }

    /// A quoted string.
    pub fn string(&mut self, name: &str) -> Result<String, AttrError> {
        match self.take(name)? {
            Attr::Str(v) => Ok(v),
            _ => Err(form(name, "a quoted string")),
        }
    }

    /// A dtype.
    pub fn dtype(&mut self, name: &str) -> Result<DType, AttrError> {
        self.name(name)?.parse().map_err(|_| form(name, "a dtype"))
    }

    /// An array.
    pub fn array(&mut self, name: &str) -> Result<Array, AttrError> {
        match self.take(name)? {
            Attr::Array(v) => Ok(v),
            _ => Err(form(name, "an array")),
        }
    }

    /// A region.
    pub fn region(&mut self, name: &str) -> Result<Arc<Graph>, AttrError> {
        match self.take(name)? {
            Attr::Region(v) => Ok(v),
            _ => Err(form(name, "a region")),
        }
    }

    /// One of a set of identifiers.
    pub fn choice<T: Copy>(
        &mut self,
        name: &str,
        all: &[T],
        spell: impl Fn(T) -> &'static str,
    ) -> Result<T, AttrError> {
        let s = self.name(name)?;
        all.iter().copied().find(|&t| spell(t) == s).ok_or_else(|| form(name, "one of the operation's choices"))
    }
}

/// An attribute of the wrong form.
pub fn form(name: &str, expected: &'static str) -> AttrError {
    AttrError::Form { name: name.to_owned(), expected }
}

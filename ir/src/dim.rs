//! A dimension: a canonical integer polynomial over named symbols.
//!
//! One type serves the sizes of tensors (`2*batch + 1`) and the index maps of kernels (`i*m + j`).
//! Every operation returns the canonical form, so two dimensions are equal exactly when their difference is 0.
//!
//! The canonical form is a sum of terms, each an `i64` coefficient times a product of symbols and atoms.
//! Two kinds of atom suffice: `floordiv(a, b)` and `min(a, b)`.
//! The others are written with these: `mod(a, b) = a - b*floordiv(a, b)` and `max(a, b) = a + b - min(a, b)`.
//! So `4*floordiv(n, 4) + mod(n, 4)` is `n`, and `min(a, b) + max(a, b)` is `a + b`.
//! Text, and [`Dim::readable_terms`], turn such sums back into `mod` and `max`.
//!
//! Arithmetic never wraps and never panics.
//! An operation without a representable result gives a *faulty* dimension, which carries its [`Fault`] and passes it on.
//!
//! Canonicalisation keeps the value wherever the written expression has one.
//! It may drop an undefined part that is multiplied by zero or cancels: `0*floordiv(1, n)` is 0 although `n` may be 0.

mod atom;
mod eval;
mod ops;
mod parse;
mod poly;
mod print;
mod readable;
mod serial;
mod symbol;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub use atom::{Atom, AtomKind};
pub use eval::DimError;
pub(crate) use parse::Parser;
pub use parse::{ParseError, ParseErrorKind};
pub(crate) use poly::{Body, Monomial, Terms, gcd};
pub use poly::{Factor, Term};
pub use symbol::{Symbol, SymbolError};

/// A canonical integer polynomial over [`Symbol`]s, with `floordiv` and `min` as opaque factors.
///
/// Constants are stored in place; anything else is one shared allocation with its hash.
/// `Ord` is a fixed total order for deterministic output and says nothing about values.
///
/// ```
/// # use lehr_ir::dim::Dim;
/// let n = Dim::symbol("n")?;
/// let rows = (&n * 2 + 1) * &n;
/// assert_eq!(rows.to_string(), "2*n*n + n");
/// assert_eq!(rows, "n*(2*n + 1)".parse::<Dim>()?);
/// assert_eq!(n.floordiv(4) * 4 + n.modulo(4), n);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Dim(Repr);

#[derive(Clone)]
enum Repr {
    Const(i64),
    Poly(Arc<Body>),
    Fault(Fault),
}

/// Why a dimension has no representable form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A coefficient left the range of `i64`.
    #[error("a coefficient does not fit in 64 bits")]
    Overflow,
    /// A divisor is the constant zero.
    #[error("division by zero")]
    DivisionByZero,
    /// The expression exceeds [`Dim::MAX_WEIGHT`], [`Dim::MAX_DEPTH`] or [`Dim::MAX_DEGREE`].
    #[error("the expression is too large")]
    TooLarge,
}

impl Dim {
    /// Zero.
    pub const ZERO: Self = Self(Repr::Const(0));
    /// One.
    pub const ONE: Self = Self(Repr::Const(1));
    /// The most terms and factors, counted through all atoms; it bounds every walk.
    pub const MAX_WEIGHT: usize = 4096;
    /// The deepest nesting of atoms; it bounds every recursion.
    pub const MAX_DEPTH: usize = 32;
    /// The most factors in one term.
    pub const MAX_DEGREE: usize = 32;

    /// The dimension that is one named unknown.
    ///
    /// # Errors
    /// [`SymbolError`] where the spelling is not valid.
    pub fn symbol(spelling: &str) -> Result<Self, SymbolError> {
        Symbol::new(spelling).map(Self::from)
    }

    /// The value of a constant.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(value) => Some(value),
            Repr::Poly(_) | Repr::Fault(_) => None,
        }
    }

    /// The symbol, where the dimension is one symbol and nothing else.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms() {
            [term] if term.coefficient() == 1 => match term.factors() {
                [Factor::Symbol(symbol)] => Some(symbol),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether this is the constant 0.
    pub fn is_zero(&self) -> bool {
        self.as_const() == Some(0)
    }

    /// Whether this is the constant 1.
    pub fn is_one(&self) -> bool {
        self.as_const() == Some(1)
    }

    /// Why this dimension has no representable form, if so.
    pub fn fault(&self) -> Option<Fault> {
        match self.0 {
            Repr::Fault(fault) => Some(fault),
            Repr::Const(_) | Repr::Poly(_) => None,
        }
    }

    /// This dimension, or the error that it carries.
    ///
    /// # Errors
    /// The [`Fault`] of a faulty dimension.
    pub fn checked(self) -> Result<Self, Fault> {
        match self.fault() {
            Some(fault) => Err(fault),
            None => Ok(self),
        }
    }

    /// The terms of the canonical form that are no constant, highest degree first; see also [`Dim::constant_part`].
    ///
    /// Atoms in them are [`AtomKind::FloorDiv`] or [`AtomKind::Min`].
    pub fn terms(&self) -> &[Term] {
        match &self.0 {
            Repr::Poly(body) => body.symbolic_terms(),
            Repr::Const(_) | Repr::Fault(_) => &[],
        }
    }

    /// The constant addend; 0 for a faulty dimension.
    pub fn constant_part(&self) -> i64 {
        match &self.0 {
            Repr::Const(value) => *value,
            Repr::Poly(body) => body.constant(),
            Repr::Fault(_) => 0,
        }
    }

    /// The terms as text shows them, constant included: sums that form a `mod` or a `max` are shown as such.
    ///
    /// Their sum is this dimension, and this is the walk for code generation: a `mod` costs one remainder.
    /// Empty for 0 and for a faulty dimension.
    pub fn readable_terms(&self) -> Vec<Term> {
        readable::readable_terms(self)
    }

    /// Every symbol that occurs, inside atoms too, in order and once.
    pub fn symbols(&self) -> std::collections::btree_set::IntoIter<Symbol> {
        let mut found = BTreeSet::new();
        self.collect_symbols(&mut found);
        found.into_iter()
    }

    /// Whether the symbol occurs, inside atoms too.
    pub fn mentions(&self, symbol: &Symbol) -> bool {
        self.factors().any(|factor| factor.mentions(symbol))
    }

    /// Writes `self` as `coefficient*symbol + rest`, neither part mentioning the symbol.
    ///
    /// `None` where the symbol occurs in a higher power or inside an atom, and for a faulty dimension.
    /// An absent symbol has coefficient 0.
    pub fn split_linear(&self, symbol: &Symbol) -> Option<(Self, Self)> {
        if self.fault().is_some() {
            return None;
        }
        let (mut coefficient, mut rest) = (Terms::new(), Terms::new());
        for term in self.all_terms().iter() {
            let mut others = Monomial::new();
            let mut power = 0;
            for factor in term.factors() {
                match factor {
                    Factor::Symbol(s) if s == symbol => power += 1,
                    Factor::Atom(atom) if atom.mentions(symbol) => return None,
                    Factor::Symbol(_) | Factor::Atom(_) => others.push(factor.clone()),
                }
            }
            match power {
                0 => rest.push(term.clone()),
                1 => coefficient.push(Term::new(term.coefficient(), others)),
                _ => return None,
            }
        }
        Some((Self::from_sorted(coefficient), Self::from_sorted(rest)))
    }

    pub(crate) fn factors(&self) -> impl Iterator<Item = &Factor> {
        self.terms().iter().flat_map(Term::factors)
    }

    pub(crate) fn collect_symbols(&self, into: &mut BTreeSet<Symbol>) {
        for factor in self.factors() {
            match factor {
                Factor::Symbol(symbol) => {
                    if !into.contains(symbol) {
                        into.insert(symbol.clone());
                    }
                }
                Factor::Atom(atom) => {
                    atom.lhs().collect_symbols(into);
                    atom.rhs().collect_symbols(into);
                }
            }
        }
    }

    pub(crate) fn weight(&self) -> usize {
        match &self.0 {
            Repr::Poly(body) => body.weight(),
            Repr::Const(_) | Repr::Fault(_) => 1,
        }
    }

    pub(crate) fn depth(&self) -> usize {
        match &self.0 {
            Repr::Poly(body) => body.depth(),
            Repr::Const(_) | Repr::Fault(_) => 0,
        }
    }

    fn hash_word(&self) -> u64 {
        match &self.0 {
            Repr::Const(value) => poly::mix(1, value.cast_unsigned()),
            Repr::Poly(body) => body.hash_word(),
            Repr::Fault(fault) => poly::mix(2, *fault as u64),
        }
    }
}

impl Default for Dim {
    fn default() -> Self {
        Self::ZERO
    }
}

impl From<Fault> for Dim {
    fn from(fault: Fault) -> Self {
        Self(Repr::Fault(fault))
    }
}

impl PartialEq for Dim {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Const(a), Repr::Const(b)) => a == b,
            (Repr::Poly(a), Repr::Poly(b)) => Arc::ptr_eq(a, b) || a == b,
            (Repr::Fault(a), Repr::Fault(b)) => a == b,
            (Repr::Const(_) | Repr::Poly(_) | Repr::Fault(_), _) => false,
        }
    }
}

impl Eq for Dim {}

impl PartialOrd for Dim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dim {
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(repr: &Repr) -> u8 {
            match repr {
                Repr::Const(_) => 0,
                Repr::Poly(_) => 1,
                Repr::Fault(_) => 2,
            }
        }
        match (&self.0, &other.0) {
            (Repr::Const(a), Repr::Const(b)) => a.cmp(b),
            (Repr::Poly(a), Repr::Poly(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Repr::Poly(a), Repr::Poly(b)) => a.cmp(b),
            (Repr::Fault(a), Repr::Fault(b)) => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)),
        }
    }

    // Whoever writes `a.min(b)` means the sizes, never the order of spelling, so these give the symbolic functions.
    fn min(self, other: Self) -> Self {
        self.minimum(other)
    }

    fn max(self, other: Self) -> Self {
        self.maximum(other)
    }

    fn clamp(self, low: Self, high: Self) -> Self {
        self.maximum(low).minimum(high)
    }
}

impl Hash for Dim {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_word());
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

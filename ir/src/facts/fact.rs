//! One fact: its normal form, its text and its check.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{FactError, FactViolation};
use crate::dim::{Dim, Factor, ParseError, ParseErrorKind, Parser, Symbol};

/// A statement about symbols.
///
/// Text has the comparisons `==`, `>=`, `<=`, `>` and `<`, and `signed(i)`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fact {
    /// The symbol may be negative, which symbols by default are not.
    Signed(Symbol),
    /// The two sides are equal.
    Eq(Dim, Dim),
    /// The first side is at least the second.
    Ge(Dim, Dim),
}

/// What a fact says once both sides are brought together.
pub(super) enum Normal {
    Always,
    Never,
    Sometimes(Fact),
}

impl Fact {
    /// `a == b`.
    pub fn eq(a: impl Into<Dim>, b: impl Into<Dim>) -> Self {
        Self::Eq(a.into(), b.into())
    }

    /// `a >= b`.
    pub fn ge(a: impl Into<Dim>, b: impl Into<Dim>) -> Self {
        Self::Ge(a.into(), b.into())
    }

    /// `a < b`.
    pub fn lt(a: impl Into<Dim>, b: impl Into<Dim>) -> Self {
        Self::Ge(b.into(), a.into() + 1)
    }

    /// `dim` is a multiple of `divisor`: `mod(dim, divisor) == 0`.
    pub fn divides(divisor: impl Into<Dim>, dim: impl Into<Dim>) -> Self {
        Self::Eq(dim.into().modulo(divisor), Dim::ZERO)
    }

    /// Every symbol that occurs, in order and once.
    pub fn symbols(&self) -> std::collections::btree_set::IntoIter<Symbol> {
        let mut found = BTreeSet::new();
        match self {
            Self::Signed(symbol) => {
                found.insert(symbol.clone());
            }
            Self::Eq(a, b) | Self::Ge(a, b) => {
                a.collect_symbols(&mut found);
                b.collect_symbols(&mut found);
            }
        }
        found.into_iter()
    }

    /// Checks the fact for given values; [`Fact::Signed`] always holds.
    ///
    /// # Errors
    /// [`FactViolation`] where the fact is false or has no truth value.
    pub fn check(&self, value_of: &impl Fn(&Symbol) -> Option<i64>) -> Result<(), FactViolation> {
        let (Self::Eq(a, b) | Self::Ge(a, b)) = self else {
            return Ok(());
        };
        let unchecked = |error| FactViolation::Unchecked { fact: self.clone(), error };
        let a = a.eval(value_of).map_err(unchecked)?;
        let b = b.eval(value_of).map_err(unchecked)?;
        let holds = match self {
            Self::Eq(..) => a == b,
            Self::Ge(..) => a >= b,
            Self::Signed(_) => true,
        };
        if holds {
            return Ok(());
        }
        let values = self.symbols().filter_map(|s| value_of(&s).map(|v| (s, v)));
        Err(FactViolation::Violated { fact: self.clone(), values: values.collect() })
    }

    /// The fact with what is common to both sides removed, each side having positive terms only.
    pub(super) fn normalised(&self) -> Result<Normal, FactError> {
        let faulty = || FactError::Faulty { fact: self.clone() };
        let (Self::Eq(a, b) | Self::Ge(a, b)) = self else {
            return Ok(Normal::Sometimes(self.clone()));
        };
        let difference = (a - b).checked().map_err(|_| faulty())?;
        if let Some(value) = difference.as_const() {
            let holds = match self {
                Self::Eq(..) => value == 0,
                Self::Ge(..) => value >= 0,
                Self::Signed(_) => true,
            };
            return Ok(if holds { Normal::Always } else { Normal::Never });
        }
        let is_equation = matches!(self, Self::Eq(..));
        let Some(reduced) = divide_out(&difference, is_equation) else {
            return Ok(Normal::Never);
        };
        let (mut more, mut less) = readable_sides(&reduced).ok_or_else(faulty)?;
        if is_equation {
            // `n == 2*m` and `mod(n, 4) == 0` read better than their mirror images.
            let rank = |dim: &Dim| (dim.as_const().is_some(), dim.as_symbol().is_none());
            if (rank(&less), &less) < (rank(&more), &more) {
                std::mem::swap(&mut more, &mut less);
            }
            return Ok(Normal::Sometimes(Self::Eq(more, less)));
        }
        // `x >= -3` reads better than `x + 3 >= 0`.
        let moved = if less.as_const().is_some() { more.constant_part() } else { 0 };
        Ok(Normal::Sometimes(Self::Ge(more - moved, less - moved)))
    }
}

/// Divides `difference`, compared with 0, by what divides all its symbolic coefficients.
///
/// An inequality's constant is rounded down; an equation whose constant does not divide has no solution.
pub(super) fn divide_out(difference: &Dim, is_equation: bool) -> Option<Dim> {
    let common = difference.terms().iter().fold(0, |g, term| crate::dim::gcd(g, term.coefficient().unsigned_abs()));
    let Ok(common) = i64::try_from(common) else {
        return Some(difference.clone());
    };
    if common <= 1 {
        return Some(difference.clone());
    }
    if is_equation && difference.constant_part() % common != 0 {
        return None;
    }
    Some(difference.map_coefficients(|c| c.div_euclid(common)))
}

/// `(p, n)` with `difference = p - n` and only positive readable terms on either side.
fn readable_sides(difference: &Dim) -> Option<(Dim, Dim)> {
    let (mut more, mut less) = (Dim::ZERO, Dim::ZERO);
    for term in difference.readable_terms() {
        let mut dim = Dim::from(term.coefficient());
        for factor in term.factors() {
            dim *= match factor {
                Factor::Symbol(symbol) => Dim::from(symbol),
                Factor::Atom(atom) => atom.kind().apply(atom.lhs(), atom.rhs()),
            };
        }
        if term.coefficient() > 0 {
            more += dim;
        } else {
            less -= dim;
        }
    }
    Some((more.checked().ok()?, less.checked().ok()?))
}

/// Prints `n >= 1`, `n <= 128`, `n < m`, `n == 2*m`, `mod(n, 4) == 0` or `signed(i)`.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed(symbol) => write!(f, "signed({symbol})"),
            Self::Eq(a, b) => write!(f, "{a} == {b}"),
            Self::Ge(a, b) if b.as_const().is_some() => write!(f, "{a} >= {b}"),
            Self::Ge(a, b) if a.as_const().is_none() && b.constant_part() >= 1 => {
                write!(f, "{} < {a}", b - 1)
            }
            Self::Ge(a, b) => write!(f, "{b} <= {a}"),
        }
    }
}

impl fmt::Debug for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fact {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text)?;
        if let Some(symbol) = parser.call_of("signed")? {
            parser.end()?;
            return Ok(Self::Signed(symbol));
        }
        let lhs = parser.sum()?;
        let comparison = ["==", ">=", "<=", ">", "<"].into_iter().find(|comparison| parser.eat(comparison));
        let Some(comparison) = comparison else {
            return Err(parser.error(ParseErrorKind::Expected("`==`, `>=`, `<=`, `>` or `<`")));
        };
        let rhs = parser.sum()?;
        parser.end()?;
        let fact = match comparison {
            "==" => Self::Eq(lhs, rhs),
            ">=" => Self::Ge(lhs, rhs),
            "<=" => Self::Ge(rhs, lhs),
            ">" => Self::lt(rhs, lhs),
            _ => Self::lt(lhs, rhs),
        };
        match &fact {
            Self::Eq(a, b) | Self::Ge(a, b) => {
                for side in [a, b] {
                    if let Some(fault) = side.fault() {
                        return Err(parser.error(ParseErrorKind::Fault(fault)));
                    }
                }
            }
            Self::Signed(_) => {}
        }
        Ok(fact)
    }
}

impl TryFrom<&str> for Fact {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

/// Serialises as text.
impl Serialize for Fact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

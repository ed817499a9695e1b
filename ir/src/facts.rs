//! What is known about symbols, and what follows from it.
//!
//! A [`Facts`] is a set of equations and inequalities between dimensions.
//! Unless declared [`Fact::Signed`], a symbol is an integer of at least 0.
//!
//! Answers are sound and incomplete: `Some(true)` and `Some(false)` hold for all values that satisfy the facts
//! and for which both sides have a value, and `None` says that no proof was found.
//! The work of every proof is bounded.

mod fact;
mod prove;
mod range;
mod simplify;
mod solve;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dim::{Dim, DimError, Symbol};
pub use fact::Fact;
use solve::Solved;

/// A set of facts, cheap to clone; the default set is empty and allocates nothing.
///
/// ```
/// # use lehr_ir::{dim::{Dim, Symbol}, facts::Facts};
/// let mut facts = Facts::default();
/// facts.range(&Symbol::new("j")?, 0, Dim::symbol("m")?)?;
/// let row: Dim = "floordiv(i*m + j, m)".parse()?;
/// assert_eq!(facts.simplify(&row).to_string(), "i");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Facts(Option<Arc<Known>>);

#[derive(Clone)]
struct Known {
    facts: BTreeSet<Fact>,
    solved: Solved,
}

/// Why a fact was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactError {
    /// The fact cannot hold together with those already known.
    #[error("`{fact}` contradicts what is known: {}", list(known))]
    Contradiction {
        /// The refused fact.
        fact: Fact,
        /// The facts known before.
        known: Vec<Fact>,
    },
    /// A side of the fact has no representable form.
    #[error("the fact `{fact}` has no representable form")]
    Faulty {
        /// The refused fact.
        fact: Fact,
    },
}

/// A fact that given values do not satisfy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactViolation {
    /// The fact is false.
    #[error("`{fact}` does not hold for {}", assignments(values))]
    Violated {
        /// The fact.
        fact: Fact,
        /// Its symbols and their values.
        values: Vec<(Symbol, i64)>,
    },
    /// The fact has no truth value.
    #[error("`{fact}` cannot be checked: {error}")]
    Unchecked {
        /// The fact.
        fact: Fact,
        /// Why a side has no value.
        error: DimError,
    },
}

impl Facts {
    /// Adds a fact; on an error nothing changes.
    ///
    /// # Errors
    /// [`FactError::Contradiction`] where the fact is found to contradict the others, which is not always found.
    /// [`FactError::Faulty`] where it contains a faulty dimension.
    pub fn assume(&mut self, fact: Fact) -> Result<(), FactError> {
        self.assume_all([fact])
    }

    /// Adds `low <= symbol < high`; both bounds may be symbolic.
    ///
    /// Where `low` may be negative the symbol is declared signed.
    ///
    /// # Errors
    /// As [`Facts::assume`]; a range of constants without an element is a contradiction.
    pub fn range(&mut self, symbol: &Symbol, low: impl Into<Dim>, high: impl Into<Dim>) -> Result<(), FactError> {
        let (dim, low) = (Dim::from(symbol), low.into());
        let signed = self.decide_ge(&low, &Dim::ZERO) != Some(true);
        let signed = signed.then(|| Fact::Signed(symbol.clone()));
        // At least 0 is what every symbol is.
        let lower = (!low.is_zero()).then(|| Fact::ge(&dim, low));
        let upper = Fact::lt(dim, high);
        self.assume_all(signed.into_iter().chain(lower).chain([upper]))
    }

    /// Adds all facts of another set; on an error nothing changes.
    ///
    /// # Errors
    /// As [`Facts::assume`].
    pub fn merge(&mut self, other: &Self) -> Result<(), FactError> {
        if self.is_empty() {
            *self = other.clone();
            return Ok(());
        }
        if self == other {
            return Ok(());
        }
        self.assume_all(other.facts().cloned())
    }

    /// The facts in order, in normal form: what cancels between two sides is gone.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.0.iter().flat_map(|known| &known.facts)
    }

    /// Whether nothing is known beyond the default.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether two dimensions are equal.
    pub fn decide_eq(&self, a: &Dim, b: &Dim) -> Option<bool> {
        if a == b {
            return a.fault().is_none().then_some(true);
        }
        let difference = (a - b).checked().ok()?;
        match difference.as_const() {
            Some(value) => Some(value == 0),
            None => self.solved().decide_zero(&difference),
        }
    }

    /// Whether `a >= b`.
    pub fn decide_ge(&self, a: &Dim, b: &Dim) -> Option<bool> {
        let difference = (a - b).checked().ok()?;
        match difference.as_const() {
            Some(value) => Some(value >= 0),
            None => self.solved().decide_nonnegative(&difference),
        }
    }

    /// The least and greatest value, where bounds are found; best effort.
    ///
    /// A bound outside `i64` counts as none.
    pub fn interval(&self, dim: &Dim) -> (Option<i64>, Option<i64>) {
        if dim.fault().is_some() {
            return (None, None);
        }
        if let Some(value) = dim.as_const() {
            return (Some(value), Some(value));
        }
        let range = self.solved().interval(dim);
        let narrow = |bound: Option<i128>| bound.and_then(|b| i64::try_from(b).ok());
        (narrow(range.low), narrow(range.high))
    }

    /// An equal dimension, written more simply where the facts allow it.
    ///
    /// Symbols that an equation determines are replaced.
    /// The result has the same value wherever the facts hold and `dim` has one.
    #[must_use]
    pub fn simplify(&self, dim: &Dim) -> Dim {
        if dim.terms().is_empty() || (self.is_empty() && dim.depth() == 0) {
            return dim.clone();
        }
        self.solved().simplify(dim)
    }

    /// Checks every fact for given values, and that symbols not declared signed are at least 0.
    ///
    /// # Errors
    /// The first fact in order that is violated or cannot be evaluated.
    pub fn check(&self, value_of: &impl Fn(&Symbol) -> Option<i64>) -> Result<(), FactViolation> {
        let mut symbols = BTreeSet::new();
        for fact in self.facts() {
            symbols.extend(fact.symbols());
        }
        for symbol in symbols {
            if self.solved().is_signed(&symbol) {
                continue;
            }
            Fact::ge(&symbol, 0).check(value_of)?;
        }
        self.facts().try_for_each(|fact| fact.check(value_of))
    }

    fn assume_all(&mut self, facts: impl IntoIterator<Item = Fact>) -> Result<(), FactError> {
        let mut all = self.0.as_ref().map_or_else(BTreeSet::new, |known| known.facts.clone());
        let count = all.len();
        for fact in facts {
            let contradiction = |fact| FactError::Contradiction { fact, known: self.facts().cloned().collect() };
            match fact.normalised()? {
                fact::Normal::Always => {}
                fact::Normal::Never => return Err(contradiction(fact)),
                fact::Normal::Sometimes(normal) => {
                    if self.refutes(&normal) {
                        return Err(contradiction(normal));
                    }
                    all.insert(normal);
                }
            }
        }
        if all.len() == count {
            return Ok(());
        }
        let solved = Solved::new(&all).map_err(|solve::Contradiction(fact)| FactError::Contradiction {
            known: all.iter().filter(|other| **other != fact).cloned().collect(),
            fact,
        })?;
        self.0 = Some(Arc::new(Known { facts: all, solved }));
        Ok(())
    }

    fn refutes(&self, fact: &Fact) -> bool {
        match fact {
            Fact::Eq(a, b) => self.decide_eq(a, b) == Some(false),
            Fact::Ge(a, b) => self.decide_ge(a, b) == Some(false),
            Fact::Signed(_) => false,
        }
    }

    fn solved(&self) -> &Solved {
        static NOTHING: Solved = Solved::nothing();
        self.0.as_ref().map_or(&NOTHING, |known| &known.solved)
    }
}

fn list(facts: &[Fact]) -> String {
    if facts.is_empty() {
        return "a symbol is an integer of at least 0".to_owned();
    }
    let texts: Vec<String> = facts.iter().map(|fact| format!("`{fact}`")).collect();
    texts.join(", ")
}

fn assignments(values: &[(Symbol, i64)]) -> String {
    let texts: Vec<String> = values.iter().map(|(s, v)| format!("{s} = {v}")).collect();
    texts.join(", ")
}

impl PartialEq for Facts {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.facts == b.facts,
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

impl Eq for Facts {}

impl Hash for Facts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for fact in self.facts() {
            fact.hash(state);
        }
    }
}

/// Prints the facts in order, separated by `, `.
impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fact) in self.facts().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            write!(f, "{fact}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.facts()).finish()
    }
}

/// Serialises as the sequence of the facts' texts.
impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.facts())
    }
}

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut facts = Self::default();
        facts.assume_all(Vec::<Fact>::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        Ok(facts)
    }
}

//! The values of symbols, found by matching dimensions with sizes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dim::{Dim, DimError, Symbol};

/// A small map from symbols to values, ordered by symbol.
///
/// ```
/// # use lehr_ir::{bindings::Bindings, dim::Dim};
/// let mut bindings = Bindings::default();
/// bindings.unify(&"2*n + 1".parse()?, 9)?;
/// assert_eq!(bindings.eval(&"n*n".parse()?)?, 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Symbol, i64)>", into = "Vec<(Symbol, i64)>")]
pub struct Bindings(Vec<(Symbol, i64)>);

/// A symbol that would have two values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{symbol}` is {first} and cannot be {second} as well")]
pub struct Conflict {
    /// The symbol.
    pub symbol: Symbol,
    /// The value it has.
    pub first: i64,
    /// The value refused.
    pub second: i64,
}

/// What [`Bindings::unify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unified {
    /// The pattern has this value already.
    Matched,
    /// The symbol was bound, for the pattern to have this value.
    Bound(Symbol, i64),
    /// The pattern has several unbound symbols, or one not linearly; another pattern may bind them.
    Deferred,
}

/// Why a dimension cannot have a given value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnifyError {
    /// The pattern has another value.
    #[error("`{pattern}` is {expected}, not {actual}")]
    Mismatch {
        /// The dimension.
        pattern: Dim,
        /// Its value.
        expected: i64,
        /// The value refused.
        actual: i64,
    },
    /// The symbol would not be an integer.
    #[error("`{pattern}` is {actual} for no 64-bit integer `{symbol}`")]
    NotInteger {
        /// The dimension.
        pattern: Dim,
        /// The unbound symbol.
        symbol: Symbol,
        /// The value refused.
        actual: i64,
    },
    /// The symbol would be negative.
    #[error("`{pattern}` is {actual} only for `{symbol}` = {value}, which is negative")]
    Negative {
        /// The dimension.
        pattern: Dim,
        /// The unbound symbol.
        symbol: Symbol,
        /// The value it would have.
        value: i64,
        /// The value refused.
        actual: i64,
    },
    /// The pattern has no value.
    #[error("`{pattern}` cannot be evaluated: {error}")]
    Unevaluated {
        /// The dimension.
        pattern: Dim,
        /// Why it has no value.
        error: DimError,
    },
}

impl Bindings {
    /// Gives a symbol its value; giving the same value again is allowed.
    ///
    /// # Errors
    /// [`Conflict`] where the symbol has another value; nothing changes then.
    pub fn bind(&mut self, symbol: &Symbol, value: i64) -> Result<(), Conflict> {
        match self.place(symbol) {
            Ok(place) if self.0[place].1 == value => Ok(()),
            Ok(place) => Err(Conflict { symbol: symbol.clone(), first: self.0[place].1, second: value }),
            Err(place) => {
                self.0.insert(place, (symbol.clone(), value));
                Ok(())
            }
        }
    }

    /// The value of a symbol.
    pub fn get(&self, symbol: &Symbol) -> Option<i64> {
        self.place(symbol).ok().map(|place| self.0[place].1)
    }

    /// The value of a dimension.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    pub fn eval(&self, dim: &Dim) -> Result<i64, DimError> {
        dim.eval(&|symbol| self.get(symbol))
    }

    /// Makes the pattern have the value `actual`.
    ///
    /// A pattern `a*s + b` with one unbound symbol is solved for it, a bound pattern is compared.
    ///
    /// # Errors
    /// [`UnifyError`] where the pattern has another value, has none,
    /// or would need a symbol that is negative or no integer; nothing changes then.
    pub fn unify(&mut self, pattern: &Dim, actual: i64) -> Result<Unified, UnifyError> {
        let bound = pattern.substitute(&|symbol| self.get(symbol).map(Dim::from));
        if let Some(fault) = bound.fault() {
            // Too large a substitution may still have a value.
            let unevaluated = |error| UnifyError::Unevaluated { pattern: pattern.clone(), error };
            if pattern.symbols().any(|symbol| self.get(&symbol).is_none()) {
                return Err(unevaluated(fault.into()));
            }
            let value = self.eval(pattern).map_err(unevaluated)?;
            return compare(pattern, value, actual);
        }
        let mut unbound = bound.symbols();
        let symbol = match (unbound.next(), unbound.next()) {
            (None, _) => return compare(pattern, bound.constant_part(), actual),
            (Some(symbol), None) => symbol,
            (Some(_), Some(_)) => return Ok(Unified::Deferred),
        };
        let Some((coefficient, rest)) = bound.split_linear(&symbol) else {
            return Ok(Unified::Deferred);
        };
        let (Some(a), Some(b)) = (coefficient.as_const(), rest.as_const()) else {
            return Ok(Unified::Deferred);
        };
        let value = solve(a.into(), i128::from(actual) - i128::from(b));
        let Some(value) = value else {
            return Err(UnifyError::NotInteger { pattern: pattern.clone(), symbol, actual });
        };
        if value < 0 {
            return Err(UnifyError::Negative { pattern: pattern.clone(), symbol, value, actual });
        }
        if let Err(place) = self.place(&symbol) {
            self.0.insert(place, (symbol.clone(), value));
        }
        Ok(Unified::Bound(symbol, value))
    }

    /// The symbols and their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, i64)> {
        self.0.iter().map(|(symbol, value)| (symbol, *value))
    }

    /// How many symbols have a value.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no symbol has a value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, symbol: &Symbol) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(symbol))
    }
}

/// `x` with `a*x = b`, where it is an integer of 64 bits.
fn solve(a: i128, b: i128) -> Option<i64> {
    if b.checked_rem(a)? != 0 {
        return None;
    }
    i64::try_from(b.checked_div(a)?).ok()
}

fn compare(pattern: &Dim, expected: i64, actual: i64) -> Result<Unified, UnifyError> {
    if expected == actual {
        Ok(Unified::Matched)
    } else {
        Err(UnifyError::Mismatch { pattern: pattern.clone(), expected, actual })
    }
}

impl TryFrom<Vec<(Symbol, i64)>> for Bindings {
    type Error = Conflict;

    fn try_from(pairs: Vec<(Symbol, i64)>) -> Result<Self, Conflict> {
        let mut bindings = Self::default();
        for (symbol, value) in pairs {
            bindings.bind(&symbol, value)?;
        }
        Ok(bindings)
    }
}

impl From<Bindings> for Vec<(Symbol, i64)> {
    fn from(bindings: Bindings) -> Self {
        bindings.0
    }
}

/// Prints `m = 2, n = 3`.
impl fmt::Display for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (symbol, value)) in self.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { ", " })?;
            write!(f, "{symbol} = {value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Dim {
        text.parse().unwrap()
    }

    /// Unifies the pairs in order: the bindings, or the error of the first that fails.
    fn check(pairs: &[(&str, i64)], expect: &str) {
        let mut bindings = Bindings::default();
        let all = pairs.iter().try_for_each(|(pattern, actual)| {
            let before = bindings.clone();
            bindings.unify(&dim(pattern), *actual).map(drop).inspect_err(|_| assert_eq!(bindings, before))
        });
        let found = all.map_or_else(|error| error.to_string(), |()| bindings.to_string());
        assert_eq!(found, expect, "{pairs:?}");
    }

    #[test]
    fn patterns_are_solved_and_compared() {
        check(&[("2*n + 1", 9), ("m", 3), ("n*m", 12)], "m = 3, n = 4");
        check(&[("n", 4), ("n*m + 1", 13)], "m = 3, n = 4");
        check(&[("10 - n", 4)], "n = 6");
        check(&[("7", 7)], "");
        check(&[("n*m", 6), ("n", 2)], "n = 2");
        check(&[("7", 8)], "`7` is 7, not 8");
        check(&[("n", 4), ("n + 1", 4)], "`n + 1` is 5, not 4");
        check(&[("2*n", 5)], "`2*n` is 5 for no 64-bit integer `n`");
        check(&[("n + 3", 1)], "`n + 3` is 1 only for `n` = -2, which is negative");
        check(&[("n", 0), ("floordiv(4, n)", 1)], "`floordiv(4, n)` cannot be evaluated: division by zero");
        check(&[("n", i64::MAX), ("n*n", 1)], "`n*n` cannot be evaluated: the value does not fit in 64 bits");
        check(&[("n - 9223372036854775807", 1)], "`n - 9223372036854775807` is 1 for no 64-bit integer `n`");
    }

    #[test]
    fn outcomes_are_told() {
        let mut bindings = Bindings::default();
        let n = Symbol::new("n").unwrap();
        assert_eq!(bindings.unify(&dim("n*m"), 6), Ok(Unified::Deferred));
        assert_eq!(bindings.unify(&dim("n*n"), 4), Ok(Unified::Deferred));
        assert_eq!(bindings.unify(&dim("n"), 2), Ok(Unified::Bound(n.clone(), 2)));
        assert_eq!(bindings.unify(&dim("n*n"), 4), Ok(Unified::Matched));
        assert_eq!(bindings.bind(&n, 2), Ok(()));
        let conflict = bindings.bind(&n, 3).unwrap_err();
        assert_eq!(conflict.to_string(), "`n` is 2 and cannot be 3 as well");
        assert_eq!((bindings.get(&n), bindings.len()), (Some(2), 1));
    }

    #[test]
    fn serde_round_trip() {
        let mut bindings = Bindings::default();
        for (name, value) in [("z", 1), ("a", 2)] {
            bindings.bind(&Symbol::new(name).unwrap(), value).unwrap();
        }
        let json = serde_json::to_string(&bindings).unwrap();
        assert_eq!(json, r#"[["a",2],["z",1]]"#);
        assert_eq!(serde_json::from_str::<Bindings>(&json).unwrap(), bindings);
        assert!(serde_json::from_str::<Bindings>(r#"[["a",2],["a",3]]"#).is_err());
    }
}

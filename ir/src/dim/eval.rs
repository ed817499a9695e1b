//! The value of a dimension, and the dimension with symbols replaced.

use super::{AtomKind, Dim, Factor, Fault, Symbol, Term};

/// Why a dimension has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DimError {
    /// A symbol has no value.
    #[error("`{0}` has no value")]
    Unbound(Symbol),
    /// The value, or one on the way to it, does not fit.
    #[error("the value does not fit in 64 bits")]
    Overflow,
    /// A divisor is zero.
    #[error("division by zero")]
    DivisionByZero,
    /// The dimension is faulty for a reason other than these.
    #[error("{0}")]
    Faulty(Fault),
}

impl From<Fault> for DimError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Overflow => Self::Overflow,
            Fault::DivisionByZero => Self::DivisionByZero,
            Fault::TooLarge => Self::Faulty(fault),
        }
    }
}

impl Dim {
    /// The value, given the values of the symbols.
    ///
    /// Intermediate values have 128 bits.
    ///
    /// # Errors
    /// [`DimError`] where a symbol has no value, a divisor is zero, or the value does not fit in 64 bits.
    pub fn eval(&self, value_of: &impl Fn(&Symbol) -> Option<i64>) -> Result<i64, DimError> {
        if let Some(value) = self.as_const() {
            return Ok(value);
        }
        i64::try_from(self.eval_wide(value_of)?).map_err(|_| DimError::Overflow)
    }

    /// Replaces symbols, inside atoms too, all at once; `None` keeps a symbol.
    #[must_use]
    pub fn substitute(&self, replacement: &impl Fn(&Symbol) -> Option<Dim>) -> Dim {
        self.map_factors(&mut |factor| match factor {
            Factor::Symbol(symbol) => replacement(symbol),
            Factor::Atom(atom) => {
                let lhs = atom.lhs().substitute(replacement);
                let rhs = atom.rhs().substitute(replacement);
                (lhs != *atom.lhs() || rhs != *atom.rhs()).then(|| atom.kind().apply(&lhs, &rhs))
            }
        })
    }

    /// Replaces the factors for which `replacement` gives something, without descending into atoms.
    pub(crate) fn map_factors(&self, replacement: &mut impl FnMut(&Factor) -> Option<Dim>) -> Dim {
        let mut kept = Vec::new();
        let mut changed = Vec::new();
        for term in self.terms() {
            let mut product = Dim::ONE;
            let mut others = super::Monomial::new();
            let mut any = false;
            for factor in term.factors() {
                match replacement(factor) {
                    Some(dim) => {
                        any = true;
                        product *= dim;
                    }
                    None => others.push(factor.clone()),
                }
            }
            if any {
                changed.push(product * Dim::from_term(Term::new(term.coefficient(), others)));
            } else {
                kept.push(term.clone());
            }
        }
        if changed.is_empty() {
            return self.clone();
        }
        for dim in &changed {
            if let Some(fault) = dim.fault() {
                return fault.into();
            }
            if kept.len() > 16 * Dim::MAX_WEIGHT {
                return Fault::TooLarge.into();
            }
            kept.extend(dim.all_terms().iter().cloned());
        }
        Dim::from_unsorted(kept) + self.constant_part()
    }

    fn eval_wide(&self, value_of: &impl Fn(&Symbol) -> Option<i64>) -> Result<i128, DimError> {
        if let Some(fault) = self.fault() {
            return Err(fault.into());
        }
        let mut sum = i128::from(self.constant_part());
        for term in self.terms() {
            let mut product = i128::from(term.coefficient());
            for factor in term.factors() {
                let value = match factor {
                    Factor::Symbol(symbol) => {
                        i128::from(value_of(symbol).ok_or_else(|| DimError::Unbound(symbol.clone()))?)
                    }
                    Factor::Atom(atom) => {
                        apply(atom.kind(), atom.lhs().eval_wide(value_of)?, atom.rhs().eval_wide(value_of)?)?
                    }
                };
                product = product.checked_mul(value).ok_or(DimError::Overflow)?;
            }
            sum = sum.checked_add(product).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }
}

fn apply(kind: AtomKind, lhs: i128, rhs: i128) -> Result<i128, DimError> {
    match kind {
        AtomKind::FloorDiv => floor_divide(lhs, rhs),
        AtomKind::Mod => {
            let product = rhs.checked_mul(floor_divide(lhs, rhs)?);
            product.and_then(|product| lhs.checked_sub(product)).ok_or(DimError::Overflow)
        }
        AtomKind::Min => Ok(lhs.min(rhs)),
        AtomKind::Max => Ok(lhs.max(rhs)),
    }
}

fn floor_divide(lhs: i128, rhs: i128) -> Result<i128, DimError> {
    if rhs == 0 {
        return Err(DimError::DivisionByZero);
    }
    // The narrow division is several times faster and nearly always enough.
    let (quotient, remainder) = match (i64::try_from(lhs), i64::try_from(rhs)) {
        (Ok(l), Ok(r)) if r != -1 => (i128::from(l / r), i128::from(l % r)),
        _ => (lhs.checked_div(rhs).ok_or(DimError::Overflow)?, lhs.checked_rem(rhs).ok_or(DimError::Overflow)?),
    };
    let round_down = remainder != 0 && (remainder < 0) != (rhs < 0);
    Ok(quotient - i128::from(round_down))
}

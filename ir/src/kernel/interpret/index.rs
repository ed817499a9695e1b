//! Index expressions over registers.

use crate::dim::{AtomKind, Dim, DimError, Factor, Symbol};

/// An index expression with the sizes put in and the other symbols resolved to registers, which hold `i64` bits.
///
/// Values on the way have 128 bits, as in [`Dim::eval`].
pub(super) enum Index {
    /// `constant + Σ coefficient * register`.
    Affine { constant: i64, terms: Vec<(i64, u32)> },
    /// Anything else.
    General(Sum),
    /// No value, which is an error only where it is evaluated.
    Faulty(DimError),
}

/// `constant + Σ coefficient * Π factor`.
pub(super) struct Sum {
    constant: i64,
    terms: Vec<(i64, Vec<Part>)>,
}

enum Part {
    Register(u32),
    Atom(AtomKind, Sum, Sum),
}

impl Index {
    /// Compiles `dim`; `size_of` gives the sizes and `register_of` the rest.
    pub(super) fn new(
        dim: &Dim,
        size_of: &impl Fn(&Symbol) -> Option<i64>,
        register_of: &impl Fn(&Symbol) -> Option<u32>,
    ) -> Self {
        let dim = dim.substitute(&|s| size_of(s).map(Dim::from));
        if let Some(fault) = dim.fault() {
            return Self::Faulty(fault.into());
        }
        match Sum::new(&dim, register_of) {
            Err(error) => Self::Faulty(error),
            Ok(sum) => match sum.affine() {
                Some(terms) => Self::Affine { constant: sum.constant, terms },
                None => Self::General(sum),
            },
        }
    }

    #[inline]
    pub(super) fn eval(&self, registers: &[u64]) -> Result<i64, DimError> {
        let value = match self {
            Self::Affine { constant, terms } => {
                let mut products =
                    terms.iter().map(|(c, r)| i128::from(*c) * i128::from(registers[*r as usize].cast_signed()));
                products.try_fold(i128::from(*constant), i128::checked_add).ok_or(DimError::Overflow)?
            }
            Self::General(sum) => sum.eval(registers)?,
            Self::Faulty(error) => return Err(error.clone()),
        };
        i64::try_from(value).map_err(|_| DimError::Overflow)
    }
}

impl Sum {
    fn new(dim: &Dim, register_of: &impl Fn(&Symbol) -> Option<u32>) -> Result<Self, DimError> {
        let part = |factor: &Factor| match factor {
            Factor::Symbol(s) => register_of(s).map(Part::Register).ok_or_else(|| DimError::Unbound(s.clone())),
            Factor::Atom(a) => {
                Ok(Part::Atom(a.kind(), Self::new(a.lhs(), register_of)?, Self::new(a.rhs(), register_of)?))
            }
        };
        let mut sum = Self { constant: dim.constant_part(), terms: Vec::new() };
        for term in dim.terms() {
            sum.terms.push((term.coefficient(), term.factors().iter().map(part).collect::<Result<_, _>>()?));
        }
        Ok(sum)
    }

    /// The terms, if each is a multiple of one register.
    fn affine(&self) -> Option<Vec<(i64, u32)>> {
        let single = |(c, parts): &(i64, Vec<Part>)| match parts.as_slice() {
            [Part::Register(r)] => Some((*c, *r)),
            _ => None,
        };
        self.terms.iter().map(single).collect()
    }

    fn eval(&self, registers: &[u64]) -> Result<i128, DimError> {
        let mut sum = i128::from(self.constant);
        for (coefficient, parts) in &self.terms {
            let mut product = i128::from(*coefficient);
            for part in parts {
                let value = match part {
                    Part::Register(r) => i128::from(registers[*r as usize].cast_signed()),
                    Part::Atom(kind, lhs, rhs) => apply(*kind, lhs.eval(registers)?, rhs.eval(registers)?)?,
                };
                product = product.checked_mul(value).ok_or(DimError::Overflow)?;
            }
            sum = sum.checked_add(product).ok_or(DimError::Overflow)?;
        }
        Ok(sum)
    }
}

fn apply(kind: AtomKind, lhs: i128, rhs: i128) -> Result<i128, DimError> {
    let floordiv = || {
        if rhs == 0 {
            return Err(DimError::DivisionByZero);
        }
        let quotient = lhs.checked_div(rhs).ok_or(DimError::Overflow)?;
        let round_down = quotient * rhs != lhs && (lhs < 0) != (rhs < 0);
        Ok(quotient - i128::from(round_down))
    };
    match kind {
        AtomKind::FloorDiv => floordiv(),
        AtomKind::Mod => lhs
            .checked_rem_euclid(rhs)
            .map(|r| if r != 0 && rhs < 0 { r + rhs } else { r })
            .ok_or(DimError::DivisionByZero),
        AtomKind::Min => Ok(lhs.min(rhs)),
        AtomKind::Max => Ok(lhs.max(rhs)),
    }
}

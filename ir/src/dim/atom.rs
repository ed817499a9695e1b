//! `floordiv` and `min` in canonical form, and `mod` and `max` written with them.

use std::cmp::Ordering;
use std::sync::Arc;

use super::poly::{Monomial, Terms, gcd, mix};
use super::{Dim, Factor, Fault, Symbol, Term};

/// Which function an [`Atom`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AtomKind {
    /// The quotient rounded down.
    FloorDiv,
    /// The remainder of that quotient; only in readable terms.
    Mod,
    /// The smaller argument.
    Min,
    /// The larger argument; only in readable terms.
    Max,
}

impl AtomKind {
    /// The name in text.
    pub fn name(self) -> &'static str {
        match self {
            Self::FloorDiv => "floordiv",
            Self::Mod => "mod",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// The kind with this name in text.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::FloorDiv, Self::Mod, Self::Min, Self::Max].into_iter().find(|kind| kind.name() == name)
    }

    /// Applies the function, giving the canonical form.
    pub fn apply(self, lhs: &Dim, rhs: &Dim) -> Dim {
        match self {
            Self::FloorDiv => floordiv(lhs, rhs),
            Self::Mod => lhs - rhs * floordiv(lhs, rhs),
            Self::Min => min(lhs, rhs),
            Self::Max => lhs + rhs - min(lhs, rhs),
        }
    }
}

/// A function of two dimensions that stands as a factor in a term.
#[derive(Clone, Debug)]
pub struct Atom(Arc<AtomBody>);

#[derive(Debug)]
struct AtomBody {
    kind: AtomKind,
    lhs: Dim,
    rhs: Dim,
    hash: u64,
}

impl Atom {
    /// The function.
    pub fn kind(&self) -> AtomKind {
        self.0.kind
    }

    /// The first argument: the dividend of a quotient or remainder.
    pub fn lhs(&self) -> &Dim {
        &self.0.lhs
    }

    /// The second argument: the divisor of a quotient or remainder.
    pub fn rhs(&self) -> &Dim {
        &self.0.rhs
    }

    /// Whether the symbol occurs in an argument.
    pub fn mentions(&self, symbol: &Symbol) -> bool {
        self.lhs().mentions(symbol) || self.rhs().mentions(symbol)
    }

    /// Makes an atom as it stands; the arguments are those of a canonical atom, or of a readable one.
    pub(super) fn raw(kind: AtomKind, lhs: Dim, rhs: Dim) -> Self {
        let hash = mix(mix(mix(5, kind as u64), lhs.hash_word()), rhs.hash_word());
        Self(Arc::new(AtomBody { kind, lhs, rhs, hash }))
    }

    pub(super) fn hash_word(&self) -> u64 {
        self.0.hash
    }

    pub(super) fn weight(&self) -> usize {
        1 + self.lhs().weight() + self.rhs().weight()
    }

    pub(super) fn depth(&self) -> usize {
        1 + self.lhs().depth().max(self.rhs().depth())
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.kind() == other.kind()
                && self.lhs() == other.lhs()
                && self.rhs() == other.rhs())
    }
}

impl Eq for Atom {}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        self.kind()
            .cmp(&other.kind())
            .then_with(|| self.lhs().cmp(other.lhs()))
            .then_with(|| self.rhs().cmp(other.rhs()))
    }
}

impl Dim {
    /// The quotient rounded towards minus infinity.
    ///
    /// A constant divisor of zero gives a [`Fault::DivisionByZero`].
    /// `floordiv(4*n + m, 4)` is `n + floordiv(m, 4)`: with a constant divisor every coefficient left inside is in `0..divisor`.
    #[must_use]
    pub fn floordiv(&self, divisor: impl Into<Dim>) -> Dim {
        floordiv(self, &divisor.into())
    }

    /// The quotient rounded towards plus infinity, of a positive divisor: `floordiv(self + divisor - 1, divisor)`.
    #[must_use]
    pub fn ceildiv(&self, divisor: impl Into<Dim>) -> Dim {
        let divisor = divisor.into();
        floordiv(&(self + &divisor - 1), &divisor)
    }

    /// The remainder of [`Dim::floordiv`]; it has the sign of the divisor.
    #[must_use]
    pub fn modulo(&self, divisor: impl Into<Dim>) -> Dim {
        AtomKind::Mod.apply(self, &divisor.into())
    }

    /// The smaller value of two dimensions.
    #[must_use]
    pub fn minimum(&self, other: impl Into<Dim>) -> Dim {
        min(self, &other.into())
    }

    /// The larger value of two dimensions.
    #[must_use]
    pub fn maximum(&self, other: impl Into<Dim>) -> Dim {
        AtomKind::Max.apply(self, &other.into())
    }
}

/// Divides polynomials; see [`Dim::floordiv`].
fn floordiv(lhs: &Dim, rhs: &Dim) -> Dim {
    if let Some(fault) = lhs.fault().or(rhs.fault()) {
        return fault.into();
    }
    match rhs.as_const() {
        Some(0) => Fault::DivisionByZero.into(),
        Some(1) => lhs.clone(),
        Some(-1) => -lhs,
        Some(divisor) if divisor < 0 => floordiv(&-lhs, &-rhs),
        Some(divisor) => floordiv_const(lhs, divisor),
        None => floordiv_symbolic(lhs, rhs),
    }
}

/// Divides by a constant of at least 2, by these identities for integers `q`, `k` and `b, d, g > 0`:
///
/// - `floor((d*q + r)/d) = q + floor(r/d)`
/// - `floor((g*p + k)/(g*d)) = floor((p + floor(k/g))/d)`
/// - `floor((floor(a/b) + q)/d) = floor((a + b*q)/(b*d))`
///
/// Source: Graham, Knuth, Patashnik, "Concrete Mathematics", section 3.2, equation 3.10.
fn floordiv_const(lhs: &Dim, divisor: i64) -> Dim {
    let mut divisor = divisor;
    let mut quotient = Dim::ZERO;
    let mut rest = lhs.clone();
    loop {
        quotient = &quotient + rest.map_coefficients(|c| c.div_euclid(divisor));
        rest = rest.map_coefficients(|c| c.rem_euclid(divisor));
        if quotient.fault().is_some() || rest.fault().is_some() || rest.as_const().is_some() {
            // A constant rest is in `0..divisor`, so its quotient is 0.
            return if rest.fault().is_some() { rest } else { quotient };
        }
        let common =
            rest.terms().iter().fold(divisor.unsigned_abs(), |g, term| gcd(g, term.coefficient().unsigned_abs()));
        // The common divisor divides `divisor`, so it fits.
        let common = i64::try_from(common).unwrap_or(1);
        rest = rest.map_coefficients(|c| c.div_euclid(common));
        divisor /= common;
        if divisor == 1 {
            return quotient + rest;
        }
        match unnest(&rest, divisor) {
            Some((inner, product)) => (rest, divisor) = (inner, product),
            None => break,
        }
    }
    quotient + Dim::from(Factor::Atom(Atom::raw(AtomKind::FloorDiv, rest, Dim::from(divisor))))
}

/// `floor((floor(a/b) + q)/d)` as the dividend `a + b*q` and the divisor `b*d`.
///
/// `None` unless exactly one term qualifies as `floor(a/b)`, since with two the choice would not be canonical.
fn unnest(rest: &Dim, divisor: i64) -> Option<(Dim, i64)> {
    let mut candidates = rest.terms().iter().filter_map(|term| match term.factors() {
        [Factor::Atom(atom)] if term.coefficient() == 1 && atom.kind() == AtomKind::FloorDiv => {
            atom.rhs().as_const().map(|inner| (term, atom, inner))
        }
        _ => None,
    });
    let (Some((term, atom, inner)), None) = (candidates.next(), candidates.next()) else {
        return None;
    };
    let others = rest - Dim::from_term(term.clone());
    let lhs = atom.lhs() + others * inner;
    let product = divisor.checked_mul(inner)?;
    lhs.fault().is_none().then_some((lhs, product))
}

/// Divides by a polynomial, whose sign and zeros are unknown: only common constant factors are removed.
fn floordiv_symbolic(lhs: &Dim, rhs: &Dim) -> Dim {
    let leads_negative = rhs.terms().first().is_some_and(|t| t.coefficient() < 0);
    let (lhs, rhs) = if leads_negative { (-lhs, -rhs) } else { (lhs.clone(), rhs.clone()) };
    if let Some(fault) = lhs.fault().or(rhs.fault()) {
        return fault.into();
    }
    let common = i64::try_from(gcd(lhs.content(), rhs.content())).unwrap_or(1);
    let lhs = lhs.map_coefficients(|c| c / common);
    let rhs = rhs.map_coefficients(|c| c / common);
    if rhs.is_one() {
        return lhs;
    }
    Factor::Atom(Atom::raw(AtomKind::FloorDiv, lhs, rhs)).into()
}

/// The smaller of two polynomials.
///
/// With `a - b = g*(p - n)`, `p` and `n` having positive coefficients without a common divisor,
/// `min(a, b) = b - g*n + g*min(p, n)`, which depends on nothing but the two values.
fn min(a: &Dim, b: &Dim) -> Dim {
    let difference = a - b;
    if let Some(fault) = difference.fault() {
        return fault.into();
    }
    if let Some(difference) = difference.as_const() {
        return if difference <= 0 { a.clone() } else { b.clone() };
    }
    let Ok(common) = i64::try_from(difference.content()) else {
        return Fault::Overflow.into();
    };
    let (positive, negative) = difference.split_signs();
    if let Some(fault) = positive.fault().or(negative.fault()) {
        return fault.into();
    }
    let base = b - &negative;
    let p = positive.map_coefficients(|c| c / common);
    let n = negative.map_coefficients(|c| c / common);
    // A constant reads better as the second argument.
    let (lhs, rhs) = if (p.as_const().is_some(), &p) <= (n.as_const().is_some(), &n) { (p, n) } else { (n, p) };
    let mut factors = Monomial::new();
    factors.push(Factor::Atom(Atom::raw(AtomKind::Min, lhs, rhs)));
    let mut terms = Terms::new();
    terms.push(Term::new(common, factors));
    base + Dim::from_sorted(terms)
}

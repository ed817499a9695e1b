//! Interval arithmetic over dimensions in solved space.
//!
//! A bound is `None` where it is infinite or leaves 128 bits.
//! Ranges speak of the values a dimension has; where a divisor is 0 it has none, so a divisor of at least 0 counts as at least 1.

use super::solve::Solved;
use crate::dim::{Atom, AtomKind, Dim, Factor, Term};

/// All integers from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: Option<i128>,
    pub(super) high: Option<i128>,
}

/// How many quotients are bounded by their dividends, one inside the other, in one range.
const RELAXATIONS: usize = 2;

/// The weight above which a dimension is bounded term by term only, since more would be slow.
const MAX_WEIGHT: usize = 64;

impl Solved {
    /// The range of a dimension in the user's symbols.
    pub(super) fn interval(&self, dim: &Dim) -> Range {
        self.range(&self.enter(dim))
    }

    /// The range of a dimension in solved space.
    pub(super) fn range(&self, dim: &Dim) -> Range {
        self.relaxed_range(dim, RELAXATIONS)
    }

    fn relaxed_range(&self, dim: &Dim, relaxations: usize) -> Range {
        if dim.fault().is_some() {
            return Range::ALL;
        }
        let mut range = self.sum_range(&dim.all_terms());
        if dim.depth() == 0 || relaxations == 0 || dim.weight() > MAX_WEIGHT {
            return range;
        }
        let readable = dim.readable_terms();
        if readable.len() != dim.all_terms().len() {
            range = range.intersect(self.sum_range(&readable));
        }
        for term in dim.terms() {
            if let Some(relaxed) = self.relax(dim, term, relaxations - 1) {
                range = range.intersect(relaxed);
            }
        }
        range
    }

    /// Bounds `dim` by writing its term `c*m*floordiv(a, b)` as `c*m*(a - r)/b` with `0 <= r < b`, for a constant `b`.
    fn relax(&self, dim: &Dim, term: &Term, relaxations: usize) -> Option<Range> {
        let atom = term.factors().iter().find_map(|factor| match factor {
            Factor::Atom(atom) if atom.kind() == AtomKind::FloorDiv => Some(atom),
            Factor::Atom(_) | Factor::Symbol(_) => None,
        })?;
        let divisor = atom.rhs().as_const().filter(|&b| b > 0)?;
        let others = term.without(&[Factor::Atom(atom.clone())])?;
        let multiple = Dim::from_term(Term::new(term.coefficient(), others));
        let rest = dim - Dim::from_term(term.clone());
        let scaled = rest * divisor + &multiple * atom.lhs();
        let remainder = Range { low: Some(0), high: Some(i128::from(divisor) - 1) };
        let scaled = self.relaxed_range(&scaled, relaxations);
        let slack = self.sum_range(&multiple.all_terms()).times(remainder);
        Some(scaled.plus(slack.negated()).divided(i128::from(divisor)))
    }

    fn sum_range(&self, terms: &[Term]) -> Range {
        terms.iter().fold(Range::exactly(0), |sum, term| {
            let coefficient = Range::exactly(term.coefficient().into());
            let product = term
                .powers()
                .fold(coefficient, |product, (factor, power)| product.times(self.factor_range(factor).power(power)));
            sum.plus(product)
        })
    }

    fn factor_range(&self, factor: &Factor) -> Range {
        match factor {
            Factor::Symbol(symbol) => self.symbol_range(symbol),
            Factor::Atom(atom) => self.atom_range(atom),
        }
    }

    fn atom_range(&self, atom: &Atom) -> Range {
        let (lhs, rhs) = (self.range(atom.lhs()), self.range(atom.rhs()));
        match atom.kind() {
            AtomKind::Min => {
                Range { low: lhs.low.zip(rhs.low).map(|(a, b)| a.min(b)), high: either(lhs.high, rhs.high, i128::min) }
            }
            AtomKind::Max => {
                Range { low: either(lhs.low, rhs.low, i128::max), high: lhs.high.zip(rhs.high).map(|(a, b)| a.max(b)) }
            }
            AtomKind::FloorDiv => match rhs.as_divisor() {
                Some(divisor) => lhs.quotient(divisor),
                None => Range::ALL,
            },
            AtomKind::Mod => match rhs.as_divisor() {
                Some(divisor) => {
                    let below = divisor.high.map(|b| b.saturating_sub(1));
                    // The remainder of what is at least 0 is at most that.
                    let within = lhs.high.filter(|_| lhs.low.is_some_and(|a| a >= 0));
                    Range { low: Some(0), high: either(below, within, i128::min) }
                }
                None => Range::ALL,
            },
        }
    }
}

impl Range {
    pub(super) const ALL: Self = Self { low: None, high: None };

    pub(super) const fn at_least(low: i128) -> Self {
        Self { low: Some(low), high: None }
    }

    const fn exactly(value: i128) -> Self {
        Self { low: Some(value), high: Some(value) }
    }

    /// What `c*x + high >= 0` says of `x`.
    pub(super) fn solving(c: i128, high: i128) -> Self {
        match c {
            0 => Self::ALL,
            // `x >= ceil(-high/c)`, which is `-floor(high/c)`.
            c if c > 0 => Self { low: high.div_euclid(c).checked_neg(), high: None },
            c => Self { low: None, high: Some(high.div_euclid(-c)) },
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.low.zip(self.high).is_some_and(|(low, high)| low > high)
    }

    pub(super) fn intersect(self, other: Self) -> Self {
        Self { low: either(self.low, other.low, i128::max), high: either(self.high, other.high, i128::min) }
    }

    pub(super) fn is_nonnegative(self) -> bool {
        self.low.is_some_and(|low| low >= 0)
    }

    pub(super) fn is_nonpositive(self) -> bool {
        self.high.is_some_and(|high| high <= 0)
    }

    fn plus(self, other: Self) -> Self {
        let add = |a: Option<i128>, b: Option<i128>| a?.checked_add(b?);
        Self { low: add(self.low, other.low), high: add(self.high, other.high) }
    }

    fn negated(self) -> Self {
        Self { low: self.high.and_then(i128::checked_neg), high: self.low.and_then(i128::checked_neg) }
    }

    fn times(self, other: Self) -> Self {
        let corners = self.ends().map(|a| other.ends().map(|b| a.times(b)));
        let corners = corners.into_iter().flatten();
        Self { low: corners.clone().min().and_then(End::finite), high: corners.max().and_then(End::finite) }
    }

    fn ends(self) -> [End; 2] {
        [self.low.map_or(End::NegativeInfinity, End::Finite), self.high.map_or(End::Infinity, End::Finite)]
    }

    fn power(self, power: usize) -> Self {
        let product = (1..power).fold(self, |product, _| product.times(self));
        if power.is_multiple_of(2) { product.intersect(Self::at_least(0)) } else { product }
    }

    /// The values `x` with `divisor*x` in this range.
    fn divided(self, divisor: i128) -> Self {
        Self {
            low: self.low.and_then(|low| low.checked_neg()?.div_euclid(divisor).checked_neg()),
            high: self.high.map(|high| high.div_euclid(divisor)),
        }
    }

    /// This range as a divisor; `None` where it may be negative.
    fn as_divisor(self) -> Option<Self> {
        self.is_nonnegative().then(|| self.intersect(Self::at_least(1)))
    }

    /// The quotients rounded down by a divisor of at least 1.
    fn quotient(self, divisor: Self) -> Self {
        let least = divisor.low.unwrap_or(1);
        // Dividing by more moves towards 0 from above and towards -1 from below.
        let by_most = |a: i128| match divisor.high {
            Some(most) if most >= 1 => a.div_euclid(most),
            _ => {
                if a >= 0 {
                    0
                } else {
                    -1
                }
            }
        };
        Self {
            low: self.low.map(|a| if a >= 0 { by_most(a) } else { a.div_euclid(least) }),
            high: self.high.map(|a| if a >= 0 { a.div_euclid(least) } else { by_most(a) }),
        }
    }
}

/// One end of a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    NegativeInfinity,
    Finite(i128),
    Infinity,
}

impl End {
    /// The product, which is infinite where it leaves 128 bits.
    fn times(self, other: Self) -> Self {
        match (self, other) {
            // Zero times an infinity is zero, since every value is finite.
            (Self::Finite(0), _) | (_, Self::Finite(0)) => Self::Finite(0),
            (Self::Finite(a), Self::Finite(b)) if let Some(c) = a.checked_mul(b) => Self::Finite(c),
            _ if self.is_negative() == other.is_negative() => Self::Infinity,
            _ => Self::NegativeInfinity,
        }
    }

    fn is_negative(self) -> bool {
        self < Self::Finite(0)
    }

    fn finite(self) -> Option<i128> {
        match self {
            Self::Finite(value) => Some(value),
            Self::NegativeInfinity | Self::Infinity => None,
        }
    }
}

/// Combines two bounds, of which one may be missing.
fn either(a: Option<i128>, b: Option<i128>, choose: fn(i128, i128) -> i128) -> Option<i128> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
    }
}

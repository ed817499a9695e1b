//! Simpler spellings of a dimension, where facts allow them.
//!
//! Quotients are taken apart from the inside out.
//! With `b >= 1` and `a = b*q + r`, `floordiv(a, b)` is `q + floordiv(r, b)`.
//! With `0 <= r < b` the second part is 0.
//! With `b = g*c`, `a = g*p + s` and `0 <= s < g`, `floordiv(a, b)` is `floordiv(p, c)`.

use super::prove::exact_quotient;
use super::solve::Solved;
use crate::dim::{Atom, AtomKind, Dim, Factor, Monomial, Term, gcd};

/// The steps of one polynomial division.
const MAX_DIVISION_STEPS: usize = 64;

impl Solved {
    /// An equal dimension in the user's symbols.
    pub(super) fn simplify(&self, dim: &Dim) -> Dim {
        let simple = self.leave(&self.simplify_entered(&self.enter(dim)));
        // An intermediate result may have been too large.
        if simple.fault().is_some() { dim.clone() } else { simple }
    }

    /// An equal dimension, both in solved space.
    pub(super) fn simplify_entered(&self, dim: &Dim) -> Dim {
        if dim.depth() == 0 {
            return dim.clone();
        }
        let simple = dim.map_factors(&mut |factor| match factor {
            Factor::Symbol(_) => None,
            Factor::Atom(atom) => Some(self.simplify_atom(atom)),
        });
        self.rewrite(simple)
    }

    fn simplify_atom(&self, atom: &Atom) -> Dim {
        let lhs = self.simplify_entered(atom.lhs());
        let rhs = self.simplify_entered(atom.rhs());
        match atom.kind() {
            AtomKind::FloorDiv => self.divide(&lhs, &rhs),
            AtomKind::Min if self.proves_nonnegative(&(&rhs - &lhs)) => lhs,
            AtomKind::Min if self.proves_nonnegative(&(&lhs - &rhs)) => rhs,
            AtomKind::Min | AtomKind::Mod | AtomKind::Max => atom.kind().apply(&lhs, &rhs),
        }
    }

    fn divide(&self, lhs: &Dim, rhs: &Dim) -> Dim {
        if !self.proves_nonnegative(&(rhs - 1)) {
            return lhs.floordiv(rhs);
        }
        let (quotient, rest) = long_division(lhs, rhs);
        match self.small_quotient(&rest, rhs) {
            Some(small) => quotient + small,
            None => quotient + self.divide_reduced(&rest, rhs),
        }
    }

    /// `floordiv(lhs, rhs)` where that is a constant.
    fn small_quotient(&self, lhs: &Dim, rhs: &Dim) -> Option<i64> {
        if lhs.is_zero() {
            return Some(0);
        }
        if let Some(divisor) = rhs.as_const() {
            let range = self.range(lhs);
            if let (Some(low), Some(high)) = (range.low, range.high) {
                let quotient = low.div_euclid(divisor.into());
                if quotient == high.div_euclid(divisor.into()) {
                    return i64::try_from(quotient).ok();
                }
            }
        }
        if self.is_below(lhs, rhs) {
            return Some(0);
        }
        let is_negative_digit = self.proves_nonnegative(&(lhs + rhs)) && self.proves_nonnegative(&(-lhs - 1));
        is_negative_digit.then_some(-1)
    }

    /// Whether `0 <= lhs < rhs`.
    fn is_below(&self, lhs: &Dim, rhs: &Dim) -> bool {
        self.proves_nonnegative(lhs) && self.proves_nonnegative(&(rhs - lhs - 1))
    }

    /// Divides where no multiple of the divisor can be split off.
    fn divide_reduced(&self, lhs: &Dim, rhs: &Dim) -> Dim {
        for common in common_factors(lhs, rhs) {
            let Some(divisor) = exact_quotient(rhs, &common) else {
                continue;
            };
            let (quotient, rest) = long_division(lhs, &common);
            let fits = self.proves_nonnegative(&(&common - 1))
                && self.proves_nonnegative(&(&divisor - 1))
                && self.is_below(&rest, &common);
            if fits {
                return self.divide(&quotient, &divisor);
            }
        }
        if let [term] = lhs.terms()
            && let (1, [Factor::Atom(atom)]) = (term.coefficient(), term.factors())
            && atom.kind() == AtomKind::FloorDiv
            && lhs.constant_part() == 0
            && self.proves_nonnegative(&(atom.rhs() - 1))
        {
            let product = atom.rhs() * rhs;
            if product.fault().is_none() {
                return self.divide(atom.lhs(), &product);
            }
        }
        lhs.floordiv(rhs)
    }
}

/// `(q, r)` with `lhs = rhs*q + r`, by dividing by the first term of `rhs`; `r` has no more terms than `lhs`.
fn long_division(lhs: &Dim, rhs: &Dim) -> (Dim, Dim) {
    let (mut quotient, mut rest) = (Dim::ZERO, lhs.clone());
    let divisor = rhs.all_terms();
    let Some(lead) = divisor.first() else {
        return (quotient, rest);
    };
    for _ in 0..MAX_DIVISION_STEPS {
        let step = rest.all_terms().iter().find_map(|term| {
            let factors = term.without(lead.factors())?;
            let coefficient = term.coefficient().checked_div_euclid(lead.coefficient())?;
            (coefficient != 0).then(|| Dim::from_term(Term::new(coefficient, factors)))
        });
        let Some(step) = step else { break };
        rest -= &step * rhs;
        quotient += step;
    }
    let is_better = rest.all_terms().len() <= lhs.all_terms().len();
    if is_better && rest.fault().is_none() && quotient.fault().is_none() {
        (quotient, rest)
    } else {
        (Dim::ZERO, lhs.clone())
    }
}

/// What a divisor of one term has in common with single terms of the dividend, largest first.
fn common_factors(lhs: &Dim, rhs: &Dim) -> Vec<Dim> {
    let terms = rhs.all_terms();
    let [divisor] = &*terms else {
        return Vec::new();
    };
    let mut found: Vec<Term> = lhs
        .terms()
        .iter()
        .filter_map(|term| {
            let common = gcd(term.coefficient().unsigned_abs(), divisor.coefficient().unsigned_abs());
            let factors = shared(term.factors(), divisor.factors());
            Some(Term::new(i64::try_from(common).ok()?, factors))
        })
        .filter(|common| common.coefficient() != 1 || !common.factors().is_empty())
        .collect();
    found.sort_by(|a, b| {
        let size = |term: &Term| (term.factors().len(), term.coefficient());
        size(b).cmp(&size(a)).then_with(|| a.cmp(b))
    });
    found.dedup();
    let candidates = found.into_iter().map(Dim::from_term);
    candidates.filter(|common| common != rhs).collect()
}

/// The factors two sorted products have in common.
fn shared(a: &[Factor], b: &[Factor]) -> Monomial {
    let mut others = b.iter().peekable();
    let mut common = Monomial::new();
    for factor in a {
        while others.next_if(|other| *other < factor).is_some() {}
        if others.next_if(|other| *other == factor).is_some() {
            common.push(factor.clone());
        }
    }
    common
}

//! Finds `mod` and `max` in canonical sums, for text and for code generation.
//!
//! A term `-q*b*floordiv(a, b)` together with the terms of `q*a` is `q*mod(a, b)`.
//! A term `-q*min(a, b)` together with the terms of `q*(a + b)` is `q*max(a, b)`.
//! The terms taken must stand in the sum with the same signs and at least their coefficients,
//! so what is left stays representable and the text parses back to the same sum.

use std::cmp::Ordering;

use super::poly::{Monomial, compare_monomials};
use super::{Atom, AtomKind, Dim, Factor, Term};

/// How deep products of gathered factors are found.
const MAX_PASSES: usize = 4;

/// The terms of `dim`, constant included, with sums that form `mod` or `max` gathered.
pub(super) fn readable_terms(dim: &Dim) -> Vec<Term> {
    let mut rest: Vec<Term> = dim.all_terms().to_vec();
    if dim.depth() == 0 {
        return rest;
    }
    // A product of remainders shows after its factors were found, so passes repeat.
    for _ in 0..MAX_PASSES {
        let found = gather_all(&mut rest);
        if found.is_empty() {
            break;
        }
        rest.extend(found);
        rest.sort();
    }
    rest
}

/// Removes from the sum what can be gathered, and returns the gathered terms.
fn gather_all(rest: &mut Vec<Term>) -> Vec<Term> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < rest.len() {
        let Some((left, term)) = gather(rest, at) else {
            at += 1;
            continue;
        };
        // A place passed over stays passed over, since a smaller sum admits no more readings.
        let here = rest[at].factors();
        at = left.partition_point(|t| compare_monomials(t.factors(), here) == Ordering::Less);
        *rest = left;
        found.push(term);
    }
    found
}

/// Tries to read the term at `at` as part of a `mod` or `max`: what is left of the sum, and the gathered term.
fn gather(rest: &[Term], at: usize) -> Option<(Vec<Term>, Term)> {
    let term = &rest[at];
    for factor in term.factors() {
        let Factor::Atom(atom) = factor else { continue };
        let others = term.without(std::slice::from_ref(factor))?;
        for (scale, gathered) in readings(term.coefficient(), others, atom) {
            let canonical = gathered.kind().apply(gathered.lhs(), gathered.rhs());
            let sum = Dim::from_term(scale.clone()) * canonical;
            if let Some(left) = take(rest, &sum) {
                let mut factors: Monomial = scale.factors().into();
                factors.push(Factor::Atom(gathered));
                factors.sort();
                return Some((left, Term::new(scale.coefficient(), factors)));
            }
        }
    }
    None
}

/// The `mod` or `max` atoms, each with its scale, whose canonical sum has the term `coefficient * others * atom`.
fn readings(coefficient: i64, others: Monomial, atom: &Atom) -> Vec<(Term, Atom)> {
    let Some(negated) = coefficient.checked_neg() else {
        return Vec::new();
    };
    let (lhs, rhs) = (atom.lhs(), atom.rhs());
    match atom.kind() {
        AtomKind::Min => {
            let max = Atom::raw(AtomKind::Max, lhs.clone(), rhs.clone());
            vec![(Term::new(negated, others), max)]
        }
        AtomKind::FloorDiv => {
            let mut readings = Vec::new();
            let terms = rhs.all_terms();
            if let Some(lead) = terms.first()
                && negated % lead.coefficient() == 0
                && let Some(scale) = Term::new(1, others.clone()).without(lead.factors())
            {
                let whole = Atom::raw(AtomKind::Mod, lhs.clone(), rhs.clone());
                readings.push((Term::new(negated / lead.coefficient(), scale), whole));
            }
            // `mod(floordiv(a, b), k)` is `floordiv(a, b) - k*floordiv(a, b*k)`.
            if let Some(product) = rhs.as_const() {
                let k = negated.unsigned_abs();
                let divides = k > 1 && k < product.unsigned_abs();
                if divides && product.unsigned_abs().is_multiple_of(k) {
                    // `k` is below `product`, so it fits.
                    let k = i64::try_from(k).unwrap_or(1);
                    let digit = Atom::raw(AtomKind::Mod, lhs.floordiv(product / k), k.into());
                    readings.push((Term::new(negated.signum(), others), digit));
                }
            }
            readings
        }
        AtomKind::Mod | AtomKind::Max => Vec::new(),
    }
}

/// `rest - sum`, if every term of `sum` stands in `rest` with the same sign and at least its coefficient.
fn take(rest: &[Term], sum: &Dim) -> Option<Vec<Term>> {
    // A remainder that is 0 takes nothing, and would be found for ever.
    if sum.fault().is_some() || sum.is_zero() {
        return None;
    }
    let sum = sum.all_terms();
    let mut wanted = sum.iter().peekable();
    let mut left = Vec::with_capacity(rest.len());
    for term in rest {
        let Some(part) = wanted.next_if(|part| compare_monomials(part.factors(), term.factors()) == Ordering::Equal)
        else {
            left.push(term.clone());
            continue;
        };
        let (have, take) = (term.coefficient(), part.coefficient());
        if have.signum() != take.signum() || have.unsigned_abs() < take.unsigned_abs() {
            return None;
        }
        if have != take {
            left.push(Term::new(have - take, term.factors().into()));
        }
    }
    wanted.peek().is_none().then_some(left)
}

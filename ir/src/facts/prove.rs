//! Proofs of `dim >= 0`, by interval and by elimination.
//!
//! Where the interval does not tell, a known inequality `g >= 0` is used to remove a term:
//! if `e*d - c*g >= 0` with `c >= 0` and `e > 0`, then `d >= 0`.
//! This is a Fourier-Motzkin step (Schrijver, "Theory of Linear and Integer Programming", section 12.2),
//! with the extension that `c` may be a polynomial of known sign, which `i*m + j < n*m` needs.
//! A `min` is split into its two cases, and a quotient is bounded by its dividend.

use super::fact::divide_out;
use super::range::Range;
use super::solve::Solved;
use crate::dim::{Atom, AtomKind, Dim, Factor, Term};

/// The longest chain of eliminations.
const MAX_CHAIN: usize = 6;

/// The work of one proof; looking at a dimension costs its weight.
const MAX_WORK: usize = 800;

impl Solved {
    /// Whether a dimension of the user's symbols is 0.
    pub(super) fn decide_zero(&self, dim: &Dim) -> Option<bool> {
        let entered = self.enter(dim).checked().ok()?;
        if let Some(value) = entered.as_const() {
            return Some(value == 0);
        }
        // `2*n + 1` is never 0.
        let Some(reduced) = divide_out(&entered, true) else {
            return Some(false);
        };
        let range = self.range(&reduced);
        if range.low.is_some_and(|low| low > 0) || range.high.is_some_and(|high| high < 0) {
            return Some(false);
        }
        let negated = -&reduced;
        if self.proves_nonnegative(&(&reduced - 1)) || self.proves_nonnegative(&(&negated - 1)) {
            return Some(false);
        }
        let simplified = self.simplify_entered(&reduced);
        if simplified.is_zero() || (self.proves_nonnegative(&reduced) && self.proves_nonnegative(&negated)) {
            return Some(true);
        }
        None
    }

    /// Whether a dimension of the user's symbols is at least 0.
    pub(super) fn decide_nonnegative(&self, dim: &Dim) -> Option<bool> {
        let entered = self.enter(dim).checked().ok()?;
        if self.proves_nonnegative(&entered) {
            return Some(true);
        }
        self.proves_nonnegative(&(-entered - 1)).then_some(false)
    }

    /// Whether a dimension in solved space is proved to be at least 0.
    pub(super) fn proves_nonnegative(&self, dim: &Dim) -> bool {
        let mut search = Search { solved: self, work: MAX_WORK, assumed: Vec::new() };
        search.nonnegative(dim, MAX_CHAIN)
    }
}

struct Search<'a> {
    solved: &'a Solved,
    /// What work is left.
    work: usize,
    /// What holds in the case under way.
    assumed: Vec<Dim>,
}

impl Search<'_> {
    fn nonnegative(&mut self, dim: &Dim, chain: usize) -> bool {
        if dim.fault().is_some() || self.work == 0 {
            return false;
        }
        self.work = self.work.saturating_sub(dim.weight());
        let reduced = divide_out(&self.solved.rewrite(dim.clone()), false);
        let dim = reduced.as_ref().unwrap_or(dim);
        let range = self.solved.range(dim);
        if range.is_nonnegative() {
            return true;
        }
        if chain == 0 || range.high.is_some_and(|high| high < 0) {
            return false;
        }
        if let Some(atom) = find_atom(dim, AtomKind::Min) {
            return self.by_cases(dim, &atom, chain);
        }
        self.by_known(dim, chain) || self.by_bounds(dim, chain) || self.by_quotients(dim, chain)
    }

    /// Splits a `min` into its cases; in each, the other argument is known to be at least the one taken.
    fn by_cases(&mut self, dim: &Dim, atom: &Atom, chain: usize) -> bool {
        let (lhs, rhs) = (atom.lhs(), atom.rhs());
        [(lhs, rhs), (rhs, lhs)].into_iter().all(|(case, other)| {
            self.assumed.push(other - case);
            let proved = self.nonnegative(&replace_atom(dim, atom, case), chain - 1);
            self.assumed.pop();
            proved
        })
    }

    /// Uses the known inequalities.
    fn by_known(&mut self, dim: &Dim, chain: usize) -> bool {
        let solved = self.solved;
        let assumed = self.assumed.clone();
        solved.nonnegative.iter().chain(&assumed).any(|known| {
            known
                .terms()
                .iter()
                .any(|pivot| self.eliminate(dim, known, pivot).is_some_and(|next| self.nonnegative(&next, chain - 1)))
        })
    }

    /// Uses the constant bounds of symbols whose coefficient is not constant: `n*m - m >= 0` where `n >= 1`.
    fn by_bounds(&mut self, dim: &Dim, chain: usize) -> bool {
        dim.symbols().any(|symbol| {
            let Some((coefficient, _)) = dim.split_linear(&symbol) else {
                return false;
            };
            if coefficient.as_const().is_some() {
                return false;
            }
            let Range { low, high } = self.solved.symbol_range(&symbol);
            let narrow = |bound: Option<i128>| bound.and_then(|b| i64::try_from(b).ok());
            let from_below = narrow(low).map(|low| Dim::from(&symbol) - low);
            let from_above = narrow(high).map(|high| high - Dim::from(&symbol));
            [from_below, from_above].into_iter().flatten().any(|known| {
                known.terms().iter().any(|pivot| {
                    self.eliminate(dim, &known, pivot).is_some_and(|next| self.nonnegative(&next, chain - 1))
                })
            })
        })
    }

    /// `|e|*dim - |c|*known`, where `pivot` of `known` has coefficient `e` and stands in `dim` times `c` of the same sign.
    fn eliminate(&mut self, dim: &Dim, known: &Dim, pivot: &Term) -> Option<Dim> {
        self.work = self.work.checked_sub(1)?;
        let multiple = multiple_of(dim, pivot.factors())?;
        let range = self.solved.range(&multiple);
        let multiple = match pivot.coefficient() > 0 {
            true if range.is_nonnegative() => multiple,
            false if range.is_nonpositive() => -multiple,
            true | false => return None,
        };
        let scale = pivot.coefficient().checked_abs()?;
        let next = dim * scale - multiple * known;
        next.fault().is_none().then_some(next)
    }

    /// Bounds quotients by their dividends: `a - b + 1 <= b*floordiv(a, b) <= a` where `b >= 1`.
    fn by_quotients(&mut self, dim: &Dim, chain: usize) -> bool {
        let Some(atom) = find_atom(dim, AtomKind::FloorDiv) else {
            return false;
        };
        let divisor = atom.rhs();
        if !self.nonnegative(&(divisor - 1), chain - 1) {
            return false;
        }
        let factor = Factor::Atom(atom.clone());
        let Some(multiple) = multiple_of(dim, std::slice::from_ref(&factor)) else {
            return false;
        };
        if multiple.factors().any(|other| *other == factor) {
            return false;
        }
        let range = self.solved.range(&multiple);
        let bound = if range.is_nonnegative() {
            atom.lhs() - divisor + 1
        } else if range.is_nonpositive() {
            atom.lhs().clone()
        } else {
            return false;
        };
        let rest = dim - &multiple * Dim::from(factor);
        // Where the divisor already stands in the multiple, `dim` need not be scaled by it.
        let next = match exact_quotient(&multiple, divisor) {
            Some(quotient) => rest + quotient * bound,
            None => rest * divisor + multiple * bound,
        };
        self.nonnegative(&next, chain - 1)
    }
}

/// What `factors` are multiplied by in `dim`; `None` where they do not occur.
fn multiple_of(dim: &Dim, factors: &[Factor]) -> Option<Dim> {
    let found: Vec<Term> =
        dim.terms().iter().filter_map(|term| Some(Term::new(term.coefficient(), term.without(factors)?))).collect();
    (!found.is_empty()).then(|| Dim::from_unsorted(found))
}

/// `dividend / divisor` where it is exact and the divisor is one term.
pub(super) fn exact_quotient(dividend: &Dim, divisor: &Dim) -> Option<Dim> {
    let terms = divisor.all_terms();
    let [divisor] = &*terms else { return None };
    let quotient: Option<Vec<Term>> = dividend
        .all_terms()
        .iter()
        .map(|term| {
            let exact = term.coefficient().checked_rem(divisor.coefficient())? == 0;
            let coefficient = term.coefficient().checked_div(divisor.coefficient())?;
            let factors = term.without(divisor.factors())?;
            exact.then(|| Term::new(coefficient, factors))
        })
        .collect();
    quotient.map(Dim::from_unsorted)
}

fn find_atom(dim: &Dim, kind: AtomKind) -> Option<Atom> {
    dim.factors().find_map(|factor| match factor {
        Factor::Atom(atom) if atom.kind() == kind => Some(atom.clone()),
        Factor::Atom(_) | Factor::Symbol(_) => None,
    })
}

fn replace_atom(dim: &Dim, atom: &Atom, by: &Dim) -> Dim {
    dim.map_factors(&mut |factor| match factor {
        Factor::Atom(found) if found == atom => Some(by.clone()),
        Factor::Atom(_) | Factor::Symbol(_) => None,
    })
}

//! Facts solved: what equations determine, what inequalities bound.
//!
//! Reasoning happens in *solved space*, where every equation that can be has been used up:
//!
//! - `n == 2*m` replaces `n` by `2*m`;
//! - `mod(n, 4) == 1` replaces `n` by `4*q + 1` with a hidden symbol `q`, which stands for `floordiv(n, 4)`;
//! - an equation that is neither becomes a rewrite rule for its most complicated term.
//!
//! Inequalities are then written in solved space, and constant bounds of symbols are propagated through them.

use std::collections::{BTreeMap, BTreeSet};

use super::Fact;
use super::fact::divide_out;
use super::range::Range;
use crate::dim::{AtomKind, Dim, Factor, Symbol, Term};

/// The facts, ready to answer questions.
#[derive(Clone)]
pub(super) struct Solved {
    /// What determined symbols are, in terms of those that are left.
    replaced: BTreeMap<Symbol, Dim>,
    /// What hidden symbols stand for.
    hidden: BTreeMap<Symbol, Dim>,
    /// Rewrite rules in solved space.
    rules: Vec<Rule>,
    /// Rewrite rules for text: `4*floordiv(n, 4)` is `n` where 4 divides `n`.
    restoring: Vec<Rule>,
    /// Dimensions in solved space that are at least 0.
    pub(super) nonnegative: Vec<Dim>,
    /// Constant bounds of symbols left.
    ranges: BTreeMap<Symbol, Range>,
    signed: BTreeSet<Symbol>,
}

/// A fact that cannot hold together with the others.
pub(super) struct Contradiction(pub(super) Fact);

/// An equation used from left to right: `zero`, which is 0, is subtracted to cancel its `pivot`.
#[derive(Clone)]
struct Rule {
    pivot: Term,
    zero: Dim,
}

/// How often rules are applied to one dimension, and bounds propagated through all inequalities.
const MAX_REWRITES: usize = 64;
const MAX_ROUNDS: usize = 8;

impl Solved {
    pub(super) const fn nothing() -> Self {
        Self {
            replaced: BTreeMap::new(),
            hidden: BTreeMap::new(),
            rules: Vec::new(),
            restoring: Vec::new(),
            nonnegative: Vec::new(),
            ranges: BTreeMap::new(),
            signed: BTreeSet::new(),
        }
    }

    pub(super) fn new(facts: &BTreeSet<Fact>) -> Result<Self, Contradiction> {
        let mut solved = Self::nothing();
        let mut equations = Vec::new();
        for fact in facts {
            match fact {
                Fact::Signed(symbol) => {
                    solved.signed.insert(symbol.clone());
                }
                Fact::Eq(a, b) => equations.push((a - b, fact)),
                Fact::Ge(..) => {}
            }
        }
        solved.solve_equations(equations)?;
        for fact in facts {
            if let Fact::Ge(a, b) = fact {
                let difference = solved.enter(&(a - b));
                solved.require(difference, fact)?;
            }
        }
        solved.propagate(facts)?;
        Ok(solved)
    }

    /// The dimension in solved space.
    pub(super) fn enter(&self, dim: &Dim) -> Dim {
        let replaced = if self.replaced.is_empty() {
            dim.clone()
        } else {
            dim.substitute(&|symbol| self.replaced.get(symbol).cloned())
        };
        rewrite(replaced, &self.rules)
    }

    /// The dimension back in the user's symbols.
    pub(super) fn leave(&self, dim: &Dim) -> Dim {
        if self.hidden.is_empty() {
            return dim.clone();
        }
        let visible = dim.substitute(&|symbol| self.hidden.get(symbol).cloned());
        rewrite(visible, &self.restoring)
    }

    /// Applies the rules of solved space.
    pub(super) fn rewrite(&self, dim: Dim) -> Dim {
        rewrite(dim, &self.rules)
    }

    pub(super) fn is_signed(&self, symbol: &Symbol) -> bool {
        self.signed.contains(symbol)
    }

    /// The constant bounds of a symbol of solved space.
    pub(super) fn symbol_range(&self, symbol: &Symbol) -> Range {
        match self.ranges.get(symbol) {
            Some(range) => *range,
            None if self.is_signed(symbol) => Range::ALL,
            None => Range::at_least(0),
        }
    }

    fn solve_equations(&mut self, mut pending: Vec<(Dim, &Fact)>) -> Result<(), Contradiction> {
        // Each round solves one equation for good, so that what it determines can help the others.
        loop {
            let mut solved_one = false;
            let mut unsolved = Vec::new();
            for (difference, fact) in pending {
                let contradiction = || Contradiction(fact.clone());
                let entered = self.enter(&difference);
                if entered.fault().is_some() {
                    continue;
                }
                match entered.as_const() {
                    Some(0) => continue,
                    Some(_) => return Err(contradiction()),
                    None => {}
                }
                let reduced = divide_out(&entered, true).ok_or_else(contradiction)?;
                if let Some((symbol, value)) = determined(&reduced) {
                    self.replace(symbol, value, fact)?;
                    solved_one = true;
                } else if let Some((symbol, modulus, remainder)) =
                    congruence(&reduced).map_err(|Unsolvable| contradiction())?
                {
                    self.hide(symbol, modulus, remainder, fact)?;
                    solved_one = true;
                } else {
                    unsolved.push((reduced, fact));
                }
            }
            pending = unsolved;
            if !solved_one {
                break;
            }
        }
        for (difference, fact) in pending {
            let entered = self.enter(&difference);
            match entered.as_const() {
                Some(0) => continue,
                Some(_) => return Err(Contradiction(fact.clone())),
                None => {}
            }
            self.require(entered.clone(), fact)?;
            self.require(-&entered, fact)?;
            self.rules.extend(Rule::new(entered));
        }
        Ok(())
    }

    /// Uses `symbol == value`.
    fn replace(&mut self, symbol: Symbol, value: Dim, fact: &Fact) -> Result<(), Contradiction> {
        if !self.is_signed(&symbol) {
            self.require(value.clone(), fact)?;
        }
        for old in self.replaced.values_mut().chain(&mut self.nonnegative) {
            *old = old.substitute(&|s| (*s == symbol).then(|| value.clone()));
        }
        self.replaced.insert(symbol, value);
        Ok(())
    }

    /// Uses `mod(symbol, modulus) == remainder`.
    fn hide(&mut self, symbol: Symbol, modulus: i64, remainder: i64, fact: &Fact) -> Result<(), Contradiction> {
        let quotient = Symbol::hidden(format!("{symbol}/{modulus}"));
        let visible = self.hidden.get(&symbol).cloned().unwrap_or_else(|| Dim::from(&symbol));
        let meaning = visible.floordiv(modulus);
        let pivot = &meaning * modulus;
        let zero = &pivot + remainder - visible;
        self.restoring.extend(Rule::removing(&pivot, zero));
        self.hidden.insert(quotient.clone(), meaning);
        if self.is_signed(&symbol) {
            self.signed.insert(quotient.clone());
        }
        self.replace(symbol, Dim::from(quotient) * modulus + remainder, fact)
    }

    /// Adds `dim >= 0`, for a dimension in solved space.
    fn require(&mut self, dim: Dim, fact: &Fact) -> Result<(), Contradiction> {
        if dim.fault().is_some() {
            return Ok(());
        }
        match dim.as_const() {
            Some(value) if value < 0 => return Err(Contradiction(fact.clone())),
            Some(_) => return Ok(()),
            None => {}
        }
        let reduced = divide_out(&dim, false).unwrap_or(dim);
        if !self.nonnegative.contains(&reduced) {
            self.nonnegative.push(reduced);
        }
        Ok(())
    }

    /// Narrows the constant bounds of symbols by every inequality that is linear in them.
    fn propagate(&mut self, facts: &BTreeSet<Fact>) -> Result<(), Contradiction> {
        self.nonnegative.retain(|dim| dim.fault().is_none());
        // Later equations may have changed what earlier ones required.
        for _ in 0..MAX_ROUNDS {
            let mut changed = false;
            for dim in &self.nonnegative {
                if self.range(dim).high.is_some_and(|high| high < 0) {
                    return Err(blame(facts));
                }
                for symbol in dim.symbols() {
                    let Some((coefficient, rest)) = dim.split_linear(&symbol) else {
                        continue;
                    };
                    let (Some(c), Some(high)) = (coefficient.as_const(), self.range(&rest).high) else {
                        continue;
                    };
                    let bound = Range::solving(i128::from(c), high);
                    let old = self.symbol_range(&symbol);
                    let new = old.intersect(bound);
                    if new.is_empty() {
                        return Err(blame(facts));
                    }
                    if new != old {
                        self.ranges.insert(symbol, new);
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        Ok(())
    }
}

/// The fact named where all together are contradictory: the last in order.
fn blame(facts: &BTreeSet<Fact>) -> Contradiction {
    // There is one, since without facts nothing is contradictory.
    let last = facts.last().cloned();
    Contradiction(last.unwrap_or_else(|| Fact::eq(0, 1)))
}

/// The greatest symbol that `zero == 0` determines, having coefficient 1 or -1, and its value.
fn determined(zero: &Dim) -> Option<(Symbol, Dim)> {
    zero.symbols().rev().find_map(|symbol| {
        let (coefficient, rest) = zero.split_linear(&symbol)?;
        let value = match coefficient.as_const()? {
            1 => -rest,
            -1 => rest,
            _ => return None,
        };
        value.fault().is_none().then_some((symbol, value))
    })
}

/// An equation without a solution.
struct Unsolvable;

/// `(s, c, r)` where `zero == 0` says `mod(s, c) == r` of one symbol.
fn congruence(zero: &Dim) -> Result<Option<(Symbol, i64, i64)>, Unsolvable> {
    for term in zero.terms() {
        let [Factor::Atom(atom)] = term.factors() else {
            continue;
        };
        let (AtomKind::FloorDiv, Some(modulus)) = (atom.kind(), atom.rhs().as_const()) else {
            continue;
        };
        // `zero` must be `scale*mod(a, modulus) - rest` with a constant rest.
        if term.coefficient() % modulus != 0 || term.coefficient() == i64::MIN {
            continue;
        }
        let scale = -(term.coefficient() / modulus);
        let rest = atom.lhs().modulo(modulus) * scale - zero;
        let Some(rest) = rest.as_const() else {
            continue;
        };
        let remainder = rest.checked_div(scale).unwrap_or(-1);
        if rest.checked_rem(scale) != Some(0) || !(0..modulus).contains(&remainder) {
            return Err(Unsolvable);
        }
        if let Some(found) = invert(atom.lhs(), modulus, remainder) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Solves `a*s + b ≡ remainder (mod modulus)` for the symbol `s`.
fn invert(dividend: &Dim, modulus: i64, remainder: i64) -> Option<(Symbol, i64, i64)> {
    let [term] = dividend.terms() else {
        return None;
    };
    let [Factor::Symbol(symbol)] = term.factors() else {
        return None;
    };
    let wide = i128::from(modulus);
    let inverse = inverse_modulo(i128::from(term.coefficient()), wide)?;
    let target = i128::from(remainder) - i128::from(dividend.constant_part());
    let solution = target.rem_euclid(wide) * inverse % wide;
    Some((symbol.clone(), modulus, i64::try_from(solution).ok()?))
}

/// The inverse of `a` modulo `m` by Euclid's extended algorithm; `None` where they have a common divisor.
fn inverse_modulo(a: i128, m: i128) -> Option<i128> {
    let (mut r, mut next_r) = (a.rem_euclid(m), m);
    let (mut x, mut next_x) = (1_i128, 0_i128);
    while next_r != 0 {
        let quotient = r / next_r;
        (r, next_r) = (next_r, r - quotient * next_r);
        (x, next_x) = (next_x, x - quotient * next_x);
    }
    (r == 1).then(|| x.rem_euclid(m))
}

impl Rule {
    /// Makes a rule that removes the most complicated term of `zero`: the deepest, then the first.
    fn new(zero: Dim) -> Option<Self> {
        let depth = |term: &Term| Dim::from_term(term.clone()).depth();
        let deepest = zero.terms().iter().map(depth).max()?;
        let pivot = zero.terms().iter().find(|term| depth(term) == deepest)?;
        let pivot = pivot.clone();
        Some(Self { pivot, zero })
    }

    /// Makes a rule that removes the one term of `pivot`.
    fn removing(pivot: &Dim, zero: Dim) -> Option<Self> {
        let [pivot] = pivot.terms() else { return None };
        let pivot = pivot.clone();
        zero.terms().contains(&pivot).then_some(Self { pivot, zero })
    }
}

fn rewrite(mut dim: Dim, rules: &[Rule]) -> Dim {
    if rules.is_empty() {
        return dim;
    }
    for _ in 0..MAX_REWRITES {
        let next = rules.iter().find_map(|rule| {
            dim.terms().iter().find_map(|term| {
                let factors = term.without(rule.pivot.factors())?;
                let quotient = term.coefficient().checked_div(rule.pivot.coefficient())?;
                let remainder = term.coefficient().checked_rem(rule.pivot.coefficient())?;
                let next = &dim - Dim::from_term(Term::new(quotient, factors)) * &rule.zero;
                (remainder == 0 && next.fault().is_none()).then_some(next)
            })
        });
        match next {
            Some(next) => dim = next,
            None => break,
        }
    }
    dim
}

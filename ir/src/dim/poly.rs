//! The stored polynomial: sorted terms, their sum and their product.
//!
//! Terms are ordered by falling degree, then by their factors, constant last.
//! The order is kept when two monomials are multiplied by a third, so a scaled polynomial needs no sorting.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Atom, Dim, Fault, Repr, Symbol};

/// A product of factors, sorted, with a power written as repetition.
pub(crate) type Monomial = SmallVec<[Factor; 2]>;

/// Terms under construction or stored.
pub(crate) type Terms = SmallVec<[Term; 2]>;

/// One factor of a term.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factor {
    /// An unknown.
    Symbol(Symbol),
    /// A function of two dimensions.
    Atom(Atom),
}

impl Factor {
    /// Whether the symbol is this factor or occurs in it.
    pub fn mentions(&self, symbol: &Symbol) -> bool {
        match self {
            Self::Symbol(s) => s == symbol,
            Self::Atom(atom) => atom.mentions(symbol),
        }
    }

    fn hash_word(&self) -> u64 {
        match self {
            Self::Symbol(symbol) => symbol.as_str().as_bytes().chunks(8).fold(3, |hash, chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                mix(hash, u64::from_le_bytes(word))
            }),
            Self::Atom(atom) => atom.hash_word(),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Symbol(_) => 1,
            Self::Atom(atom) => atom.weight(),
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Symbol(_) => 0,
            Self::Atom(atom) => atom.depth(),
        }
    }
}

impl From<Factor> for Dim {
    fn from(factor: Factor) -> Self {
        let mut factors = Monomial::new();
        factors.push(factor);
        Self::from_term(Term::new(1, factors))
    }
}

/// A nonzero coefficient times a product of factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    coefficient: i64,
    factors: Monomial,
}

impl Term {
    pub(crate) fn new(coefficient: i64, factors: Monomial) -> Self {
        Self { coefficient, factors }
    }

    /// The coefficient, never 0.
    pub fn coefficient(&self) -> i64 {
        self.coefficient
    }

    /// The factors in order, a power as repetition; none for a constant.
    pub fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// The distinct factors in order, each with its power, at least 1.
    pub fn powers(&self) -> impl Iterator<Item = (&Factor, usize)> {
        self.factors.chunk_by(|a, b| a == b).map(|run| (&run[0], run.len()))
    }

    /// This term without `divisor`'s factors, coefficient 1; `None` where one of them is missing.
    pub(crate) fn without(&self, divisor: &[Factor]) -> Option<Monomial> {
        let mut left = Monomial::new();
        let mut wanted = divisor.iter().peekable();
        for factor in &self.factors {
            if wanted.peek() == Some(&factor) {
                wanted.next();
            } else {
                left.push(factor.clone());
            }
        }
        wanted.peek().is_none().then_some(left)
    }
}

/// The order of terms: higher degree first, then by factors.
pub(crate) fn compare_monomials(a: &[Factor], b: &[Factor]) -> Ordering {
    b.len().cmp(&a.len()).then_with(|| a.cmp(b))
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_monomials(&self.factors, &other.factors).then_with(|| self.coefficient.cmp(&other.coefficient))
    }
}

/// The shared part of a dimension that is not constant.
pub(crate) struct Body {
    hash: u64,
    weight: u32,
    depth: u32,
    terms: Terms,
}

impl Body {
    pub(super) fn symbolic_terms(&self) -> &[Term] {
        match self.terms.split_last() {
            Some((last, others)) if last.factors.is_empty() => others,
            _ => &self.terms,
        }
    }

    pub(super) fn constant(&self) -> i64 {
        match self.terms.last() {
            Some(last) if last.factors.is_empty() => last.coefficient,
            _ => 0,
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.weight as usize
    }

    pub(super) fn depth(&self) -> usize {
        self.depth as usize
    }

    pub(super) fn hash_word(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.terms == other.terms
    }
}

impl Eq for Body {}

impl PartialOrd for Body {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Body {
    fn cmp(&self, other: &Self) -> Ordering {
        self.terms.cmp(&other.terms)
    }
}

/// The terms of any dimension, constant included; a constant's term is made on the fly.
pub(crate) enum AllTerms<'a> {
    Stored(&'a [Term]),
    Made(Option<Term>),
}

impl std::ops::Deref for AllTerms<'_> {
    type Target = [Term];

    fn deref(&self) -> &[Term] {
        match self {
            Self::Stored(terms) => terms,
            Self::Made(term) => term.as_slice(),
        }
    }
}

impl Dim {
    pub(crate) fn all_terms(&self) -> AllTerms<'_> {
        match &self.0 {
            Repr::Poly(body) => AllTerms::Stored(&body.terms),
            Repr::Const(0) | Repr::Fault(_) => AllTerms::Made(None),
            Repr::Const(value) => AllTerms::Made(Some(Term::new(*value, Monomial::new()))),
        }
    }

    pub(crate) fn from_term(term: Term) -> Self {
        let mut terms = Terms::new();
        if term.coefficient != 0 {
            terms.push(term);
        }
        Self::from_sorted(terms)
    }

    /// Makes a dimension from terms in order, distinct and with nonzero coefficients.
    pub(crate) fn from_sorted(terms: Terms) -> Self {
        match terms.as_slice() {
            [] => return Self::ZERO,
            [only] if only.factors.is_empty() => return Self(Repr::Const(only.coefficient)),
            _ => {}
        }
        let (mut hash, mut weight, mut depth) = (0, 0_usize, 0);
        for term in &terms {
            hash = mix(hash, term.coefficient.cast_unsigned());
            weight += 1;
            for factor in &term.factors {
                hash = mix(hash, factor.hash_word());
                weight += factor.weight();
                depth = depth.max(factor.depth());
            }
            if weight > Self::MAX_WEIGHT || term.factors.len() > Self::MAX_DEGREE {
                return Fault::TooLarge.into();
            }
        }
        if depth > Self::MAX_DEPTH {
            return Fault::TooLarge.into();
        }
        Self(Repr::Poly(Arc::new(Body {
            hash,
            // Both are below the limits just checked, which fit.
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            terms,
        })))
    }

    /// Makes a dimension from terms in any order, equal monomials allowed.
    pub(crate) fn from_unsorted(mut terms: Vec<Term>) -> Self {
        terms.sort_unstable_by(|a, b| compare_monomials(&a.factors, &b.factors));
        let mut merged = Terms::new();
        let mut terms = terms.into_iter().peekable();
        while let Some(mut term) = terms.next() {
            let mut sum = i128::from(term.coefficient);
            while let Some(same) = terms.next_if(|next| next.factors == term.factors) {
                sum += i128::from(same.coefficient);
            }
            if sum != 0 {
                let Ok(sum) = i64::try_from(sum) else {
                    return Fault::Overflow.into();
                };
                term.coefficient = sum;
                merged.push(term);
            }
        }
        Self::from_sorted(merged)
    }

    /// `self + scale*other`.
    pub(crate) fn add_scaled(&self, other: &Self, scale: i64) -> Self {
        if let Some(fault) = self.fault().or(other.fault()) {
            return fault.into();
        }
        if let (Repr::Const(a), Repr::Const(b)) = (&self.0, &other.0) {
            return match b.checked_mul(scale).and_then(|b| a.checked_add(b)) {
                Some(sum) => Self(Repr::Const(sum)),
                None => Fault::Overflow.into(),
            };
        }
        if scale == 0 || other.is_zero() {
            return self.clone();
        }
        if scale == 1 && self.is_zero() {
            return other.clone();
        }
        let (a, b) = (self.all_terms(), other.all_terms());
        merge(&a, &b, scale).map_or_else(Self::from, Self::from_sorted)
    }

    /// `self * other`.
    pub(crate) fn times(&self, other: &Self) -> Self {
        if let Some(fault) = self.fault().or(other.fault()) {
            return fault.into();
        }
        match (&self.0, &other.0) {
            (Repr::Const(a), Repr::Const(b)) => {
                return a.checked_mul(*b).map_or(Fault::Overflow.into(), |product| Self(Repr::Const(product)));
            }
            (Repr::Const(0), _) | (_, Repr::Const(0)) => return Self::ZERO,
            (Repr::Const(1), _) => return other.clone(),
            (_, Repr::Const(1)) => return self.clone(),
            _ => {}
        }
        let (a, b) = (self.all_terms(), other.all_terms());
        match (&*a, &*b) {
            ([one], many) | (many, [one]) => {
                let scaled: Result<Terms, Fault> = many.iter().map(|term| multiply(one, term)).collect();
                scaled.map_or_else(Self::from, Self::from_sorted)
            }
            (a, b) => {
                if a.len() * b.len() > 4 * Self::MAX_WEIGHT {
                    return Fault::TooLarge.into();
                }
                let products: Result<Vec<Term>, Fault> =
                    a.iter().flat_map(|x| b.iter().map(move |y| multiply(x, y))).collect();
                products.map_or_else(Self::from, Self::from_unsorted)
            }
        }
    }

    /// The greatest common divisor of the coefficients, constant included; 0 for the constant 0.
    pub(crate) fn content(&self) -> u64 {
        self.all_terms().iter().fold(0, |g, term| gcd(g, term.coefficient.unsigned_abs()))
    }

    /// Rebuilds with each coefficient mapped; terms mapped to 0 vanish.
    pub(crate) fn map_coefficients(&self, map: impl Fn(i64) -> i64) -> Self {
        if self.fault().is_some() {
            return self.clone();
        }
        let terms = self.all_terms();
        Self::from_sorted(
            terms
                .iter()
                .filter_map(|term| {
                    let coefficient = map(term.coefficient);
                    (coefficient != 0).then(|| Term::new(coefficient, term.factors.clone()))
                })
                .collect(),
        )
    }

    /// `(p, n)` with `self = p - n`, both with positive coefficients only.
    pub(crate) fn split_signs(&self) -> (Self, Self) {
        let positive = self.map_coefficients(|c| c.max(0));
        let negative = (-self).map_coefficients(|c| c.max(0));
        (positive, negative)
    }
}

/// The greatest common divisor; `gcd(0, x) = x`.
pub(crate) fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Folds a word into a hash, by Fowler's multiply-and-rotate scheme with a 64-bit odd constant.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn merge(a: &[Term], b: &[Term], scale: i64) -> Result<Terms, Fault> {
    let mut out = Terms::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => compare_monomials(&x.factors, &y.factors),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(out),
        };
        let x = (order != Ordering::Greater).then(|| a.next()).flatten();
        let y = (order != Ordering::Less).then(|| b.next()).flatten();
        let left = x.map_or(0, |x| i128::from(x.coefficient));
        let right = y.map_or(0, |y| i128::from(y.coefficient) * i128::from(scale));
        let sum = i64::try_from(left + right).map_err(|_| Fault::Overflow)?;
        if let (true, Some(term)) = (sum != 0, x.or(y)) {
            out.push(Term::new(sum, term.factors.clone()));
        }
    }
}

fn multiply(a: &Term, b: &Term) -> Result<Term, Fault> {
    let coefficient = a.coefficient.checked_mul(b.coefficient).ok_or(Fault::Overflow)?;
    let mut factors = Monomial::with_capacity(a.factors.len() + b.factors.len());
    let (mut x, mut y) = (a.factors.iter().peekable(), b.factors.iter().peekable());
    loop {
        let from_a = match (x.peek(), y.peek()) {
            (Some(p), Some(q)) => p <= q,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        if let Some(factor) = if from_a { x.next() } else { y.next() } {
            factors.push(factor.clone());
        }
    }
    Ok(Term::new(coefficient, factors))
}

//! Index expressions as 64-bit integer arithmetic.
//!
//! A sum is added up level by level, from the terms that only sizes decide to those of the innermost loop, so that each partial sum
//! stands in the outermost loop where it is known (Cranelift's loop-invariant motion moves it there). Divisions by sizes would
//! trap and so are never moved by Cranelift; they are computed by hand at the head of the outermost loop that knows their operands.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use lehr_ir::dim::{Atom, AtomKind, Dim, DimError, Factor, Symbol, Term};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Guard, Stmt, Var};

use super::value::Val;
use super::walk;
use super::{EmitError, Emitter};

/// An index split for addressing: `base + varying`, plus a constant.
pub(super) struct Split {
    /// The sum of the terms that do not change in the innermost loop, if any.
    pub(super) base: Option<Value>,
    /// The sum of the others, if any.
    pub(super) varying: Option<Value>,
    /// The constant addend.
    pub(super) constant: i64,
}

impl Emitter<'_, '_> {
    /// The value of an index expression at one lane.
    pub(super) fn index(&mut self, dim: &Dim, lane: usize) -> Result<Value, EmitError> {
        let split = self.split_index(dim, lane)?;
        let sum = self.sum(split.base, split.varying);
        Ok(match sum {
            None => self.constant(types::I64, split.constant),
            Some(v) if split.constant == 0 => v,
            Some(v) => self.b.ins().iadd_imm_s(v, split.constant),
        })
    }

    /// The value of an index expression in the parts that addressing wants.
    pub(super) fn split_index(&mut self, dim: &Dim, lane: usize) -> Result<Split, EmitError> {
        if let Some(fault) = dim.fault() {
            return Err(EmitError::Index(DimError::from(fault)));
        }
        let mut constant = 0_i64;
        let mut terms = Vec::new();
        for term in dim.readable_terms() {
            if term.factors().is_empty() {
                constant = constant.wrapping_add(term.coefficient());
            } else {
                let level = self.level_of(&term);
                terms.push((level, term));
            }
        }
        terms.sort_by_key(|(level, _)| *level);
        let (mut base, mut varying) = (None, None);
        for (level, term) in terms {
            let v = self.term(&term, lane)?;
            let slot = if level == self.level { &mut varying } else { &mut base };
            *slot = Some(match *slot {
                Some(sum) => self.b.ins().iadd(sum, v),
                None => v,
            });
        }
        Ok(Split { base, varying, constant })
    }

    /// Whether all conditions of a guard hold at one lane, as an 8-bit bool; `None` for the guard that always holds.
    pub(super) fn guard(&mut self, guard: &Guard, lane: usize) -> Result<Option<Value>, EmitError> {
        let mut all = None;
        for dim in &guard.0 {
            let v = self.index(dim, lane)?;
            let holds = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, v, 0);
            all = Some(match all {
                Some(a) => self.b.ins().band(a, holds),
                None => holds,
            });
        }
        Ok(all)
    }

    /// Whether a value depends on the lane of the vectorised loop, if there is one.
    pub(super) fn varies(&self, dim: &Dim) -> bool {
        let Some(lanes) = &self.lanes else { return false };
        dim.symbols().any(|s| s == lanes.axis || self.varying_var(&s))
    }

    /// Whether the guard depends on the lane.
    pub(super) fn guard_varies(&self, guard: &Guard) -> bool {
        guard.0.iter().any(|d| self.varies(d))
    }

    /// The step from one lane to the next: `Some(0)` and so on for constants, `None` for anything else.
    pub(super) fn lane_step(&self, dim: &Dim) -> Option<i64> {
        if !self.varies(dim) {
            return Some(0);
        }
        let lanes = self.lanes.as_ref()?;
        let (coefficient, rest) = dim.split_linear(&lanes.axis)?;
        if self.varies(&rest) {
            return None;
        }
        coefficient.as_const()
    }

    /// Computes the divisions of the statements whose operands are all known here, so that inner loops find them done.
    pub(super) fn hoist_divisions(&mut self, stmts: &[Stmt]) -> Result<(), EmitError> {
        let mut found = Vec::new();
        let mut collect = |dim: &Dim| collect_divisions(dim, &mut found);
        walk::dims(stmts, &mut collect);
        let inside = walk::defined(stmts);
        for atom in found {
            let term = Dim::from(Factor::Atom(atom.clone()));
            // A variable of the statements may still have its value from an earlier copy of them.
            let known = term
                .symbols()
                .all(|s| self.symbol_known(&s) && Var::from_symbol(&s).is_none_or(|v| !inside.contains(&v)));
            let known = known && !self.varies(&term);
            if known && !self.divisions.iter().any(|(a, _)| *a == atom) {
                let v = self.atom(&atom, 0)?;
                self.divisions.push((atom, v));
            }
        }
        Ok(())
    }

    fn term(&mut self, term: &Term, lane: usize) -> Result<Value, EmitError> {
        let mut factors: Vec<(u32, &Factor)> = term.factors().iter().map(|f| (self.factor_level(f), f)).collect();
        factors.sort_by_key(|(level, _)| *level);
        let mut product: Option<Value> = None;
        for (_, factor) in factors {
            let v = match factor {
                Factor::Symbol(s) => self.symbol(s, lane)?,
                Factor::Atom(atom) => self.atom(atom, lane)?,
            };
            product = Some(match product {
                Some(p) => self.b.ins().imul(p, v),
                None => v,
            });
        }
        let c = term.coefficient();
        Ok(match product {
            None => self.constant(types::I64, c),
            Some(p) if c == 1 => p,
            Some(p) if c > 0 && (c as u64).is_power_of_two() => {
                self.b.ins().ishl_imm_u(p, i64::from(c.trailing_zeros()))
            }
            Some(p) => self.b.ins().imul_imm_s(p, c),
        })
    }

    fn symbol(&mut self, symbol: &Symbol, lane: usize) -> Result<Value, EmitError> {
        if let Some(var) = Var::from_symbol(symbol) {
            let v = self.var(var)?.clone();
            return Ok(self.lane(DType::I64, &v, lane));
        }
        if let Some(lanes) = &self.lanes
            && lanes.axis == *symbol
        {
            let base = lanes.base;
            return Ok(if lane == 0 { base } else { self.b.ins().iadd_imm_s(base, lane as i64) });
        }
        match self.bound(symbol) {
            Some(bound) => Ok(bound.value),
            None => Err(EmitError::Index(DimError::Unbound(symbol.clone()))),
        }
    }

    fn atom(&mut self, atom: &Atom, lane: usize) -> Result<Value, EmitError> {
        if let Some((_, v)) = self.divisions.iter().find(|(a, _)| a == atom) {
            return Ok(*v);
        }
        match atom.kind() {
            AtomKind::FloorDiv | AtomKind::Mod => self.division(atom, lane),
            AtomKind::Min | AtomKind::Max => {
                let (a, b) = (self.index(atom.lhs(), lane)?, self.index(atom.rhs(), lane)?);
                let cc = if atom.kind() == AtomKind::Min { IntCC::SignedLessThan } else { IntCC::SignedGreaterThan };
                let first = self.b.ins().icmp(cc, a, b);
                Ok(self.b.ins().select(first, a, b))
            }
        }
    }

    fn division(&mut self, atom: &Atom, lane: usize) -> Result<Value, EmitError> {
        let modulo = atom.kind() == AtomKind::Mod;
        let a = self.index(atom.lhs(), lane)?;
        if let Some(d) = atom.rhs().as_const().filter(|d| *d > 0) {
            if (d as u64).is_power_of_two() {
                let bits = i64::from(d.trailing_zeros());
                return Ok(if modulo { self.b.ins().band_imm_s(a, d - 1) } else { self.b.ins().sshr_imm_u(a, bits) });
            }
            let q = if self.never_negative(atom.lhs()) {
                self.b.ins().udiv_imm_u(a, d)
            } else {
                // Truncation rounds negative quotients up; the sign of the remainder corrects it.
                let q = self.b.ins().sdiv_imm_s(a, d);
                let back = self.b.ins().imul_imm_s(q, d);
                let r = self.b.ins().isub(a, back);
                let borrow = self.b.ins().sshr_imm_u(r, 63);
                self.b.ins().iadd(q, borrow)
            };
            if !modulo {
                return Ok(q);
            }
            let back = self.b.ins().imul_imm_s(q, d);
            return Ok(self.b.ins().isub(a, back));
        }
        let b = self.index(atom.rhs(), lane)?;
        let q = self.floor_divide(a, b);
        if !modulo {
            return Ok(q);
        }
        let back = self.b.ins().imul(q, b);
        Ok(self.b.ins().isub(a, back))
    }

    /// The floored quotient; any value, but no trap, by zero.
    fn floor_divide(&mut self, a: Value, b: Value) -> Value {
        // The divisors 0 and −1 could trap: they divide by 1 instead, and −1 negates the dividend.
        let plus_one = self.b.ins().iadd_imm_s(b, 1);
        let special = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, plus_one, 1);
        let one = self.constant(types::I64, 1);
        let safe = self.b.ins().select(special, one, b);
        let q = self.b.ins().sdiv(a, safe);
        let back = self.b.ins().imul(q, safe);
        let r = self.b.ins().isub(a, back);
        let signs = self.b.ins().bxor(r, safe);
        let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let inexact = self.b.ins().icmp_imm_s(IntCC::NotEqual, r, 0);
        let borrow = self.b.ins().band(negative, inexact);
        let borrow = self.b.ins().uextend(types::I64, borrow);
        let q = self.b.ins().isub(q, borrow);
        let negated = self.b.ins().ineg(a);
        let by_minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
        self.b.ins().select(by_minus_one, negated, q)
    }

    /// Whether all terms are products of sizes, axes and quotients of such with coefficients that are not negative.
    fn never_negative(&self, dim: &Dim) -> bool {
        dim.constant_part() >= 0
            && dim.terms().iter().all(|t| {
                t.coefficient() > 0
                    && t.factors().iter().all(|f| match f {
                        Factor::Symbol(s) => Var::from_symbol(s).is_none(),
                        Factor::Atom(a) => self.never_negative(a.lhs()) && self.never_negative(a.rhs()),
                    })
            })
    }

    fn sum(&mut self, a: Option<Value>, b: Option<Value>) -> Option<Value> {
        match (a, b) {
            (Some(a), Some(b)) => Some(self.b.ins().iadd(a, b)),
            (a, b) => a.or(b),
        }
    }

    /// The loop depth at which a term is known.
    fn level_of(&self, term: &Term) -> u32 {
        term.factors().iter().map(|f| self.factor_level(f)).max().unwrap_or(0)
    }

    fn factor_level(&self, factor: &Factor) -> u32 {
        match factor {
            Factor::Symbol(s) => self.symbol_level(s),
            Factor::Atom(a) => {
                a.lhs().symbols().chain(a.rhs().symbols()).map(|s| self.symbol_level(&s)).max().unwrap_or(0)
            }
        }
    }

    fn symbol_level(&self, symbol: &Symbol) -> u32 {
        match self.bound(symbol) {
            Some(bound) => bound.level,
            None => self.level,
        }
    }

    pub(super) fn symbol_known(&self, symbol: &Symbol) -> bool {
        match Var::from_symbol(symbol) {
            Some(var) => self.var(var).is_ok(),
            None => self.bound(symbol).is_some(),
        }
    }

    fn varying_var(&self, symbol: &Symbol) -> bool {
        Var::from_symbol(symbol).is_some_and(|v| matches!(self.var(v), Ok(Val::Lanes(_))))
    }
}

/// The quotients and remainders by something other than a constant, innermost first.
fn collect_divisions(dim: &Dim, into: &mut Vec<Atom>) {
    for term in dim.readable_terms() {
        for factor in term.factors() {
            if let Factor::Atom(atom) = factor {
                collect_divisions(atom.lhs(), into);
                collect_divisions(atom.rhs(), into);
                let division = matches!(atom.kind(), AtomKind::FloorDiv | AtomKind::Mod);
                if division && atom.rhs().as_const().is_none() && !into.contains(atom) {
                    into.push(atom.clone());
                }
            }
        }
    }
}

//! Index expressions as `i32` arithmetic.

use lehr_ir::dim::{Atom, AtomKind, Dim, DimError, Factor, Symbol, Term};
use lehr_ir::kernel::{Guard, Var};

use super::WgslError;
use super::helpers::Helper;
use super::printer::{Printer, i32_text, var_name};

impl Printer<'_> {
    /// An index expression: a sum, to be put in parentheses inside of anything but brackets, commas and comparisons.
    pub(super) fn index(&mut self, dim: &Dim) -> Result<String, WgslError> {
        if let Some(fault) = dim.fault() {
            return Err(DimError::from(fault).into());
        }
        let mut sum = String::new();
        for term in dim.readable_terms() {
            let text = self.term(&term)?;
            match text.strip_prefix('-') {
                _ if sum.is_empty() => sum = text,
                Some(positive) => sum.push_str(&format!(" - {positive}")),
                None => sum.push_str(&format!(" + {text}")),
            }
        }
        if sum.is_empty() {
            sum.push('0');
        }
        Ok(sum)
    }

    /// The conjunction of a guard's conditions.
    pub(super) fn guard(&mut self, guard: &Guard) -> Result<String, WgslError> {
        let conditions: Result<Vec<String>, WgslError> =
            guard.0.iter().map(|d| Ok(format!("{} >= 0", self.index(d)?))).collect();
        Ok(conditions?.join(" && "))
    }

    fn term(&mut self, term: &Term) -> Result<String, WgslError> {
        let factors: Result<Vec<String>, WgslError> = term.factors().iter().map(|f| self.factor(f)).collect();
        let product = factors?.join(" * ");
        Ok(match term.coefficient() {
            c if product.is_empty() => i32_text(c)?,
            1 => product,
            -1 => format!("-{product}"),
            c => format!("{} * {product}", i32_text(c)?),
        })
    }

    fn factor(&mut self, factor: &Factor) -> Result<String, WgslError> {
        match factor {
            Factor::Symbol(symbol) => self.symbol(symbol),
            Factor::Atom(atom) => self.atom(atom),
        }
    }

    fn symbol(&self, symbol: &Symbol) -> Result<String, WgslError> {
        let axis = self.axes.iter().rev().find(|(s, _)| *s == symbol).map(|(_, name)| name.clone());
        let found = axis.or_else(|| Var::from_symbol(symbol).map(var_name)).or_else(|| self.size_name(symbol));
        found.ok_or_else(|| DimError::Unbound(symbol.clone()).into())
    }

    fn atom(&mut self, atom: &Atom) -> Result<String, WgslError> {
        let (a, b) = (self.index(atom.lhs())?, self.index(atom.rhs())?);
        // Shifts and masks round down, as floored division does.
        let power = atom.rhs().as_const().filter(|d| *d > 0 && (*d as u64).is_power_of_two());
        Ok(match (atom.kind(), power) {
            (AtomKind::FloorDiv, Some(d)) => format!("(({a}) >> {}u)", d.trailing_zeros()),
            (AtomKind::Mod, Some(d)) => format!("(({a}) & {})", d - 1),
            (AtomKind::FloorDiv, None) => {
                self.helpers.add(Helper::FloorDiv);
                format!("floor_div({a}, {b})")
            }
            (AtomKind::Mod, None) => {
                self.helpers.add(Helper::FloorMod);
                format!("floor_mod({a}, {b})")
            }
            (AtomKind::Min, _) => format!("min({a}, {b})"),
            (AtomKind::Max, _) => format!("max({a}, {b})"),
        })
    }
}

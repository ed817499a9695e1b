//! Index expressions as `i32` arithmetic.

use lehr_ir::dim::{Atom, AtomKind, Dim, DimError, Factor, Symbol, Term};
use lehr_ir::kernel::{Guard, Var};

use super::WgslError;
use super::helpers::Helper;
use super::printer::{Printer, i32_text, i64_text, var_name};

/// The width of index arithmetic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// Of axes and sizes.
    Narrow,
    /// Of variables, on a device that has 64-bit integers.
    Wide,
}

impl Printer<'_> {
    /// An index expression: a sum, to be put in parentheses inside of anything but brackets, commas and comparisons.
    pub(super) fn index(&mut self, dim: &Dim) -> Result<String, WgslError> {
        match self.width(dim) {
            Width::Narrow => self.sum(dim, Width::Narrow),
            Width::Wide => Ok(format!("i32({})", self.sum(dim, Width::Wide)?)),
        }
    }

    /// An index expression as the value of a variable.
    pub(super) fn index_value(&mut self, dim: &Dim) -> Result<String, WgslError> {
        let width = self.width(dim);
        let sum = self.sum(dim, width)?;
        // Mesa 22 gets comparisons of widened values with constants wrong, unless it cannot tell that they were widened.
        Ok(if width == Width::Narrow && self.has_i64() { format!("(i64({sum}) ^ i64(params.zero))") } else { sum })
    }

    /// The conjunction of a guard's conditions.
    pub(super) fn guard(&mut self, guard: &Guard) -> Result<String, WgslError> {
        let condition = |d: &Dim| {
            let width = self.width(d);
            let zero = if width == Width::Wide { "0li" } else { "0" };
            Ok(format!("{} >= {zero}", self.sum(d, width)?))
        };
        let conditions: Result<Vec<String>, WgslError> = guard.0.iter().map(condition).collect();
        Ok(conditions?.join(" && "))
    }

    fn width(&self, dim: &Dim) -> Width {
        let wide = self.has_i64() && dim.symbols().any(|s| Var::from_symbol(&s).is_some());
        if wide { Width::Wide } else { Width::Narrow }
    }

    fn sum(&mut self, dim: &Dim, width: Width) -> Result<String, WgslError> {
        if let Some(fault) = dim.fault() {
            return Err(DimError::from(fault).into());
        }
        let mut sum = String::new();
        for term in dim.readable_terms() {
            let text = self.term(&term, width)?;
            // Of an axis or size that is known to be 0.
            if text == "0" {
                continue;
            }
            match text.strip_prefix('-') {
                _ if sum.is_empty() => sum = text,
                Some(positive) => sum.push_str(&format!(" - {positive}")),
                None => sum.push_str(&format!(" + {text}")),
            }
        }
        if sum.is_empty() {
            sum.push_str(if width == Width::Wide { "0li" } else { "0" });
        }
        Ok(sum)
    }

    fn term(&mut self, term: &Term, width: Width) -> Result<String, WgslError> {
        let factors: Result<Vec<String>, WgslError> = term.factors().iter().map(|f| self.factor(f, width)).collect();
        let factors = factors?;
        if factors.iter().any(|f| f == "0") {
            return Ok("0".to_owned());
        }
        let product = factors.join(" * ");
        Ok(match term.coefficient() {
            c if product.is_empty() => constant(c, width)?,
            1 => product,
            -1 => format!("-{product}"),
            c => format!("{} * {product}", constant(c, width)?),
        })
    }

    fn factor(&mut self, factor: &Factor, width: Width) -> Result<String, WgslError> {
        match factor {
            Factor::Symbol(symbol) => self.symbol(symbol, width),
            Factor::Atom(atom) => self.atom(atom, width),
        }
    }

    fn symbol(&self, symbol: &Symbol, width: Width) -> Result<String, WgslError> {
        let axis = self.axes.iter().rev().find(|(s, _)| *s == symbol).map(|(_, name)| name.clone());
        let narrow = axis.or_else(|| self.size_name(symbol));
        let found = match (narrow, width) {
            (Some(name), Width::Narrow) => Some(name),
            (Some(name), Width::Wide) => Some(format!("i64({name})")),
            (None, _) => Var::from_symbol(symbol).map(var_name),
        };
        found.ok_or_else(|| DimError::Unbound(symbol.clone()).into())
    }

    fn atom(&mut self, atom: &Atom, width: Width) -> Result<String, WgslError> {
        let (a, b) = (self.sum(atom.lhs(), width)?, self.sum(atom.rhs(), width)?);
        // Shifts and masks round down, as floored division does.
        let power = atom.rhs().as_const().filter(|d| *d > 0 && (*d as u64).is_power_of_two());
        let wide = width == Width::Wide;
        let (div, modulo) =
            if wide { (Helper::FloorDivI64, Helper::FloorModI64) } else { (Helper::FloorDiv, Helper::FloorMod) };
        let suffix = if wide { "_i64" } else { "" };
        Ok(match (atom.kind(), power) {
            (AtomKind::FloorDiv, Some(d)) => format!("(({a}) >> {}u)", d.trailing_zeros()),
            (AtomKind::Mod, Some(d)) => format!("(({a}) & {})", constant(d - 1, width)?),
            (AtomKind::FloorDiv, None) => {
                self.helpers.add(div);
                format!("floor_div{suffix}({a}, {b})")
            }
            (AtomKind::Mod, None) => {
                self.helpers.add(modulo);
                format!("floor_mod{suffix}({a}, {b})")
            }
            (AtomKind::Min, _) => format!("min({a}, {b})"),
            (AtomKind::Max, _) => format!("max({a}, {b})"),
        })
    }
}

fn constant(value: i64, width: Width) -> Result<String, WgslError> {
    match width {
        Width::Narrow => i32_text(value),
        Width::Wide => Ok(i64_text(value)),
    }
}

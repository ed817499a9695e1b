//! Text of a dimension, which parses back to the same dimension.

use std::fmt;

use super::{Dim, Factor, Term};

/// Prints `2*n + 3*floordiv(n, 4) - 1`; a faulty dimension prints as `<reason>`, which does not parse.
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = self.fault() {
            return write!(f, "<{fault}>");
        }
        if let Some(value) = self.as_const() {
            return write!(f, "{value}");
        }
        let mut terms = self.readable_terms();
        // `n - m` reads better than `-m + n`.
        if let Some(positive) = terms.iter().position(|term| term.coefficient() > 0) {
            terms[..=positive].rotate_right(1);
        }
        for (place, term) in terms.iter().enumerate() {
            let negative = term.coefficient() < 0;
            f.write_str(match (place, negative) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            })?;
            write_magnitude(term, f)?;
        }
        Ok(())
    }
}

fn write_magnitude(term: &Term, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let magnitude = term.coefficient().unsigned_abs();
    let mut separator = "";
    if magnitude != 1 || term.factors().is_empty() {
        write!(f, "{magnitude}")?;
        separator = "*";
    }
    for factor in term.factors() {
        f.write_str(separator)?;
        separator = "*";
        match factor {
            Factor::Symbol(symbol) => write!(f, "{symbol}")?,
            Factor::Atom(atom) => {
                write!(f, "{}({}, {})", atom.kind().name(), atom.lhs(), atom.rhs())?;
            }
        }
    }
    Ok(())
}

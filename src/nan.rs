//! Results with a NaN, and where it comes from.

use std::fmt;

use lehr_ir::eval::trap::Origin;

/// A result with a NaN.
#[derive(Clone, PartialEq, Debug)]
pub struct NanError {
    /// The function.
    pub function: String,
    /// The first result that has one, such as "the output `loss`".
    pub result: String,
    /// Where it comes from; `None` if the reference evaluator gives no NaN where the backend does.
    pub origin: Option<Origin>,
}

impl fmt::Display for NanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, result, origin } = self;
        write!(f, "{function}: {result} has a NaN; ")?;
        let Some(Origin { op, name, loc, count: (nan, all), operands }) = origin else {
            return f.write_str(
                "the reference evaluator gives none for the same arguments\n  = help: a value is near the edge of its dtype, or of an operation's domain; compare with the backend `interp`",
            );
        };
        if op == "input" {
            write!(f, "`{name}` was given with one: {nan} of {all} elements{}", crate::error::at(loc))?;
            return f.write_str("\n  = help: check what the function is called with");
        }
        write!(f, "the first is made by `{op}`, {nan} of {all} elements of {name}")?;
        for (i, (operand, [low, high])) in operands.iter().enumerate() {
            write!(f, "{}{operand} in [{low}, {high}]", if i == 0 { ", from " } else { " and " })?;
        }
        write!(f, "{}", crate::error::at(loc))?;
        f.write_str("\n  = help: keep the operands inside the operation's domain; in a gradient, the line is that of the operation differentiated")
    }
}

impl std::error::Error for NanError {}

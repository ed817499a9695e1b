//! The errors of a user's graph: which op, which operand types, which rule, what to do, and where.

use std::fmt;

use crate::loc::Loc;
use crate::ty::Type;

/// A rule that operands break, as a shape rule reports it: the op and its operands are added by whoever called it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What must hold and does not, in one clause.
    pub rule: String,
    /// What the user can do about it.
    pub help: String,
}

impl Rule {
    /// A broken rule and its remedy.
    pub fn new(rule: impl Into<String>, help: impl Into<String>) -> Self {
        Self { rule: rule.into(), help: help.into() }
    }
}

/// An operation that cannot be built, with everything a user needs to mend it.
///
/// ```text
/// dot: operand 0 is f32[batch, 64], operand 1 is f32[63, 128]; contracted dims 64 and 63 must be equal
///   --> src/main.rs:11:40
///   = help: transpose or reshape an operand so that the contracted dims agree
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpError(Box<Detail>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Detail {
    op: String,
    operands: Vec<Type>,
    rule: Rule,
    loc: Loc,
}

impl OpError {
    /// An error of `op` on operands of these types, born at `loc`.
    pub fn new(op: impl Into<String>, operands: Vec<Type>, rule: Rule, loc: Loc) -> Self {
        Self(Box::new(Detail { op: op.into(), operands, rule, loc }))
    }

    /// The operation's name.
    pub fn op(&self) -> &str {
        &self.0.op
    }

    /// The operand types.
    pub fn operands(&self) -> &[Type] {
        &self.0.operands
    }

    /// The broken rule.
    pub fn rule(&self) -> &str {
        &self.0.rule.rule
    }

    /// The remedy.
    pub fn help(&self) -> &str {
        &self.0.rule.help
    }

    /// The user's line.
    pub fn loc(&self) -> &Loc {
        &self.0.loc
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Detail { op, operands, rule, loc } = &*self.0;
        write!(f, "{op}: ")?;
        for (i, ty) in operands.iter().enumerate() {
            write!(f, "{}operand {i} is {ty}", if i > 0 { ", " } else { "" })?;
        }
        write!(f, "{}{}", if operands.is_empty() { "" } else { "; " }, rule.rule)?;
        if loc.is_known() {
            write!(f, "\n  --> {loc}")?;
        }
        if !rule.help.is_empty() {
            write!(f, "\n  = help: {}", rule.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for OpError {}

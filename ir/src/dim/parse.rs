//! Reads dimensions from text.
//!
//! ```text
//! sum     := ['-'] product (('+' | '-') product)*
//! product := power ('*' power)*
//! power   := primary ['^' integer]
//! primary := integer | symbol | function '(' sum ',' sum ')' | '(' sum ')'
//! ```
//!
//! The functions are `floordiv`, `mod`, `min` and `max`; a name that no parenthesis follows is a symbol.

use std::str::FromStr;

use super::symbol::{continues_symbol, starts_symbol};
use super::{AtomKind, Dim, Fault, Symbol};

/// Text that is no dimension, or no fact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {kind}")]
pub struct ParseError {
    /// The byte of the text at which the error shows.
    pub position: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong at a place in text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Something else should stand here.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A name is followed by a parenthesis and is no function.
    #[error("`{0}` is not a function; there are floordiv, mod, min and max")]
    UnknownFunction(String),
    /// The name is too long.
    #[error("a symbol has at most {} bytes", Symbol::MAX_LEN)]
    LongSymbol,
    /// The text is too long.
    #[error("the text has more than {} bytes", Dim::MAX_TEXT)]
    LongText,
    /// Parentheses are nested too deeply.
    #[error("parentheses are nested more than {} deep", Dim::MAX_NESTING)]
    DeepNesting,
    /// The expression up to here has no representable form.
    #[error("{0}")]
    Fault(Fault),
}

impl Dim {
    /// The longest text the parser takes, in bytes; every printed dimension is shorter.
    pub const MAX_TEXT: usize = 1 << 20;
    /// The deepest nesting of parentheses the parser takes.
    pub const MAX_NESTING: usize = 64;
}

impl FromStr for Dim {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser::new(text)?;
        let dim = parser.sum()?;
        parser.end()?;
        Ok(dim)
    }
}

impl TryFrom<&str> for Dim {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

/// The terms visited in parsing one text; a printed dimension needs at most about a quarter.
const MAX_WORK: usize = 1 << 23;

/// A place in a text, shared with the parser of facts.
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
    work: usize,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, ParseError> {
        let parser = Self { text, at: 0, nesting: 0, work: 0 };
        if text.len() > Dim::MAX_TEXT {
            return Err(parser.error(ParseErrorKind::LongText));
        }
        Ok(parser)
    }

    pub(crate) fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError { position: self.at, kind }
    }

    pub(crate) fn end(&mut self) -> Result<(), ParseError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(ParseErrorKind::Expected("an operator or the end"))),
        }
    }

    /// Consumes `token` after white space, if it stands there.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(crate) fn sum(&mut self) -> Result<Dim, ParseError> {
        let mut total = Dim::ZERO;
        let mut negative = self.eat("-");
        loop {
            let product = self.product(negative)?;
            self.spend(total.all_terms().len())?;
            total = self.sound(total + product)?;
            if self.eat("+") {
                negative = false;
            } else if self.eat("-") {
                negative = true;
            } else {
                return Ok(total);
            }
        }
    }

    /// Consumes `name(symbol)`, if `name(` stands here.
    pub(crate) fn call_of(&mut self, name: &str) -> Result<Option<Symbol>, ParseError> {
        let start = self.at;
        if !(self.eat(name) && self.eat("(")) {
            self.at = start;
            return Ok(None);
        }
        self.peek();
        let position = self.at;
        let symbol = Symbol::new(self.take_while(continues_symbol))
            .map_err(|_| ParseError { position, kind: ParseErrorKind::Expected("a symbol") })?;
        self.expect(")", "`)`")?;
        Ok(Some(symbol))
    }

    fn product(&mut self, negative: bool) -> Result<Dim, ParseError> {
        // The sign goes in first, so that the least integer parses.
        let mut product = self.power(negative)?;
        while self.eat("*") {
            let factor = self.power(false)?;
            self.spend(product.all_terms().len() * factor.all_terms().len())?;
            product = self.sound(product * factor)?;
        }
        Ok(product)
    }

    fn power(&mut self, negative: bool) -> Result<Dim, ParseError> {
        let base = self.primary(negative)?;
        if !self.eat("^") {
            return Ok(base);
        }
        // Undo the sign: `-n^2` is the negated square.
        let base = if negative { self.sound(-base)? } else { base };
        self.peek();
        let exponent = self.digits();
        let Ok(exponent) = exponent.parse::<usize>() else {
            return Err(self.error(ParseErrorKind::Expected("a small positive exponent")));
        };
        let mut power = Dim::from(if negative { -1 } else { 1 });
        if base.as_const().is_none_or(|c| !(-1..=1).contains(&c)) && exponent > 64 {
            return Err(self.error(ParseErrorKind::Fault(Fault::TooLarge)));
        }
        // Powers of -1, 0 and 1 repeat with period 2.
        let rounds = if exponent > 64 { 64 + exponent % 2 } else { exponent };
        for _ in 0..rounds {
            self.spend(power.all_terms().len() * base.all_terms().len())?;
            power = self.sound(power * &base)?;
        }
        Ok(power)
    }

    fn primary(&mut self, negative: bool) -> Result<Dim, ParseError> {
        let found = match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let inner = self.nested(Self::sum)?;
                self.expect(")", "`)`")?;
                inner
            }
            Some(byte) if byte.is_ascii_digit() => return self.integer(negative),
            Some(byte) if starts_symbol(byte) => self.name()?,
            _ => {
                return Err(self.error(ParseErrorKind::Expected("an integer, a symbol, a function or `(`")));
            }
        };
        self.sound(if negative { -found } else { found })
    }

    fn integer(&mut self, negative: bool) -> Result<Dim, ParseError> {
        let digits = self.digits();
        let value = digits.parse::<i128>().ok();
        let value = value.map(|v| if negative { -v } else { v });
        match value.and_then(|v| i64::try_from(v).ok()) {
            Some(value) => Ok(value.into()),
            None => Err(self.error(ParseErrorKind::Fault(Fault::Overflow))),
        }
    }

    fn name(&mut self) -> Result<Dim, ParseError> {
        let start = self.at;
        let name = self.take_while(continues_symbol);
        if self.peek() != Some(b'(') {
            return Symbol::new(name)
                .map(Dim::from)
                .map_err(|_| ParseError { position: start, kind: ParseErrorKind::LongSymbol });
        }
        let Some(kind) = AtomKind::from_name(name) else {
            return Err(ParseError {
                position: start,
                kind: ParseErrorKind::UnknownFunction(name.chars().take(Symbol::MAX_LEN).collect()),
            });
        };
        self.at += 1;
        let (lhs, rhs) = self.nested(|parser| {
            let lhs = parser.sum()?;
            parser.expect(",", "`,`")?;
            Ok((lhs, parser.sum()?))
        })?;
        self.expect(")", "`)`")?;
        self.sound(kind.apply(&lhs, &rhs))
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.nesting >= Dim::MAX_NESTING {
            return Err(self.error(ParseErrorKind::DeepNesting));
        }
        self.nesting += 1;
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    pub(crate) fn expect(&mut self, token: &str, what: &'static str) -> Result<(), ParseError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(ParseErrorKind::Expected(what))) }
    }

    /// Counts work, since a long text may otherwise take quadratic time.
    fn spend(&mut self, work: usize) -> Result<(), ParseError> {
        self.work += 1 + work;
        if self.work > MAX_WORK {
            return Err(self.error(ParseErrorKind::Fault(Fault::TooLarge)));
        }
        Ok(())
    }

    fn sound(&self, dim: Dim) -> Result<Dim, ParseError> {
        dim.checked().map_err(|fault| self.error(ParseErrorKind::Fault(fault)))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// The next byte after white space, which is skipped.
    fn peek(&mut self) -> Option<u8> {
        self.take_while(|byte| byte.is_ascii_whitespace());
        self.text.as_bytes().get(self.at).copied()
    }

    fn digits(&mut self) -> &'a str {
        self.take_while(|byte| byte.is_ascii_digit())
    }

    /// Consumes ASCII bytes while they satisfy `accept`.
    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.bytes().position(|byte| !accept(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }
}

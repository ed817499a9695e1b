//! A place in a text, and the tokens there.

use super::{MAX_TEXT, ParseError, ParseErrorKind, Var};
use crate::loc::Loc;

/// A place in the text of kernels.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    sources: Vec<Loc>,
}

/// A place to report errors at.
#[derive(Clone, Copy)]
pub(super) struct Place<'t> {
    text: &'t str,
    at: usize,
}

impl Place<'_> {
    pub(super) fn error(self, kind: ParseErrorKind) -> ParseError {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        // The text is shorter than 2^32 bytes, except where its length is the error.
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ParseError { line: narrow(line), column: narrow(column), kind }
    }

    /// The place `offset` bytes into `part`, which starts here.
    pub(super) fn after(self, part: &str, offset: usize) -> Self {
        Self { at: self.at + offset.min(part.len()), ..self }
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Result<Self, ParseError> {
        let cursor = Self { text, at: 0, sources: Vec::new() };
        if text.len() > MAX_TEXT { Err(cursor.error(ParseErrorKind::TooLong)) } else { Ok(cursor) }
    }

    pub(super) fn error(&self, kind: ParseErrorKind) -> ParseError {
        Place { text: self.text, at: self.at }.error(kind)
    }

    pub(super) fn expected(&mut self, what: &'static str) -> ParseError {
        self.place().error(ParseErrorKind::Expected(what))
    }

    /// The place of the next token.
    pub(super) fn place(&mut self) -> Place<'t> {
        self.skip();
        Place { text: self.text, at: self.at }
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip();
        self.rest().is_empty()
    }

    pub(super) fn end(&mut self) -> Result<(), ParseError> {
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the text")) }
    }

    /// Forgets the source lines seen so far.
    pub(super) fn start_sources(&mut self) {
        self.sources.clear();
    }

    pub(super) fn take_sources(&mut self) -> Vec<Loc> {
        std::mem::take(&mut self.sources)
    }

    pub(super) fn looking_at(&mut self, token: &str) -> bool {
        self.skip();
        self.rest().starts_with(token)
    }

    /// Consumes `token` if it stands here.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.looking_at(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn token(&mut self, token: &str, what: &'static str) -> Result<(), ParseError> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// Consumes `word` if it stands here and no longer name does.
    pub(super) fn eat_keyword(&mut self, word: &str) -> bool {
        self.skip();
        let found = self.peek_while(in_name) == word;
        if found {
            self.at += word.len();
        }
        found
    }

    /// Whether the next token stands on this line.
    pub(super) fn on_this_line(&self) -> bool {
        self.rest().bytes().find(|b| !matches!(b, b' ' | b'\t' | b'\r')).is_some_and(|b| b != b'\n' && b != b';')
    }

    pub(super) fn keyword(&mut self, word: &str, what: &'static str) -> Result<(), ParseError> {
        if self.eat_keyword(word) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// A name of letters, digits and `_`.
    pub(super) fn name(&mut self, what: &'static str) -> Result<&'t str, ParseError> {
        self.word(what, in_name)
    }

    pub(super) fn kernel_name(&mut self) -> Result<&'t str, ParseError> {
        self.word("a kernel's name", in_kernel_name)
    }

    pub(super) fn op_name(&mut self) -> Result<&'t str, ParseError> {
        self.word("an expression", |b| in_name(b) || b == b'.')
    }

    pub(super) fn symbol_name(&mut self) -> Result<&'t str, ParseError> {
        self.word("a name", in_symbol)
    }

    pub(super) fn integer(&mut self, what: &'static str) -> Result<u32, ParseError> {
        let place = self.place();
        let digits = self.take_while(|b| b.is_ascii_digit());
        digits.parse().map_err(|_| place.error(ParseErrorKind::Expected(what)))
    }

    pub(super) fn var(&mut self) -> Result<Var, ParseError> {
        let place = self.place();
        let text = self.take_while(|b| b == b'%' || b.is_ascii_digit());
        Var::from_text(text).ok_or_else(|| place.error(ParseErrorKind::Expected("a variable such as `%3`")))
    }

    /// The text up to one of `stops` outside of parentheses, the end of the line or a comment; not empty.
    pub(super) fn until(&mut self, stops: &[u8], what: &'static str) -> Result<&'t str, ParseError> {
        let place = self.place();
        let mut depth = 0_usize;
        let text = self.take_while(|b| {
            let stop = b == b'\n' || b == b';' || (depth == 0 && stops.contains(&b));
            match b {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            !stop
        });
        let text = text.trim_ascii_end();
        if text.is_empty() { Err(place.error(ParseErrorKind::Expected(what))) } else { Ok(text) }
    }

    fn word(&mut self, what: &'static str, accept: impl Fn(u8) -> bool) -> Result<&'t str, ParseError> {
        let place = self.place();
        let word = self.take_while(accept);
        let starts_well = word.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if starts_well { Ok(word) } else { Err(place.error(ParseErrorKind::Expected(what))) }
    }

    /// Skips white space and comments, and notes the source lines that comments name.
    fn skip(&mut self) {
        loop {
            self.take_while(|b| b.is_ascii_whitespace());
            if !self.rest().starts_with(';') {
                return;
            }
            let comment = self.take_while(|b| b != b'\n');
            if let Some(list) = comment.strip_prefix("; from ") {
                let locs: Option<Vec<Loc>> = list.split(',').map(|l| Loc::parse(l.trim())).collect();
                self.sources.extend(locs.unwrap_or_default());
            }
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek_while(&self, mut accept: impl FnMut(u8) -> bool) -> &'t str {
        let rest = self.rest();
        let len = rest.bytes().position(|b| !accept(b)).unwrap_or(rest.len());
        // Every set of bytes used here ends at an ASCII byte or takes all others, so this is a character's boundary.
        rest.get(..len).unwrap_or("")
    }

    fn take_while(&mut self, accept: impl FnMut(u8) -> bool) -> &'t str {
        let taken = self.peek_while(accept);
        self.at += taken.len();
        taken
    }
}

/// A word that comes from the text, cut so that an error stays short.
pub(super) fn shorten(word: &str) -> String {
    word.chars().take(80).collect()
}

/// Whether a byte may stand in the name of a buffer or tile.
pub(in crate::kernel) fn in_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// Whether a byte may stand in the name of a size or an axis.
pub(in crate::kernel) fn in_symbol(b: u8) -> bool {
    in_name(b) || b == b'.'
}

/// Whether a byte may stand in the name of a kernel.
pub(in crate::kernel) fn in_kernel_name(b: u8) -> bool {
    in_name(b) || matches!(b, b'.' | b'-' | b'+' | b'/')
}

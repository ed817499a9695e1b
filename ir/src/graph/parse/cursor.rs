//! A place in a text, and the tokens there.

use super::{MAX_TEXT, ParseError, ParseErrorKind, Parsed};
use crate::graph::print::{continues_name, starts_name};

/// The widest excerpt of a line that an error shows, in characters.
const EXCERPT: usize = 160;

/// A place in the text of graphs.
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

/// A place to report errors at.
#[derive(Clone, Copy)]
pub(super) struct Place<'t> {
    text: &'t str,
    at: usize,
}

impl Place<'_> {
    pub(super) fn error(self, kind: ParseErrorKind) -> ParseError {
        let (before, after) = self.text.split_at_checked(self.at).unwrap_or((self.text, ""));
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let start = before.rsplit('\n').next().unwrap_or("");
        let rest = after.split(['\n', '\r']).next().unwrap_or("");
        let column = start.chars().count() + 1;
        // Of a long line, the part around the place.
        let skipped = column.saturating_sub(EXCERPT / 2);
        let source: String = start.chars().chain(rest.chars().take(EXCERPT)).skip(skipped).take(EXCERPT).collect();
        // The text is shorter than 2^32 bytes, except where its length is the error.
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ParseError {
            line: narrow(line),
            column: narrow(column),
            source,
            offset: column - 1 - skipped.min(column - 1),
            kind: Box::new(kind),
        }
    }

    pub(super) fn expected(self, what: &'static str) -> ParseError {
        self.error(ParseErrorKind::Expected(what))
    }

    /// The place of `part`'s byte at `offset`; `part` is a part of the text.
    pub(super) fn within(self, part: &str, offset: usize) -> Self {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        let at = start.map_or(self.at, |s| s + offset.min(part.len()));
        if at <= self.text.len() { Self { at, ..self } } else { self }
    }
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Parsed<Self> {
        let cursor = Self { text, at: 0 };
        if text.len() > MAX_TEXT { Err(cursor.place().error(ParseErrorKind::TooLong)) } else { Ok(cursor) }
    }

    /// The place of the next token.
    pub(super) fn place(&self) -> Place<'t> {
        Place { text: self.text, at: self.next() }
    }

    pub(super) fn expected(&self, what: &'static str) -> ParseError {
        self.place().expected(what)
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest_from(self.next()).is_empty()
    }

    /// Goes to a byte of the text, which must start a character.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Skips the line that the next token stands on.
    pub(super) fn skip_line(&mut self) {
        self.skip();
        self.take_while(|b| b != b'\n');
    }

    pub(super) fn looking_at(&self, token: &str) -> bool {
        self.rest_from(self.next()).starts_with(token)
    }

    /// Consumes `token` if it stands here; if not, white space and comments stay too.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let at = self.next();
        let found = self.rest_from(at).starts_with(token);
        if found {
            self.at = at + token.len();
        }
        found
    }

    pub(super) fn token(&mut self, token: &str, what: &'static str) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(what)) }
    }

    /// The bare name that stands here; empty if none does.
    pub(super) fn peek_word(&self) -> &'t str {
        word_at_start(self.rest_from(self.next()))
    }

    /// Consumes `word` if it stands here and no longer name does; if not, white space and comments stay too.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let at = self.next();
        let found = word_at_start(self.rest_from(at)) == word;
        if found {
            self.at = at + word.len();
        }
        found
    }

    /// The same, on this line.
    pub(super) fn eat_word_on_line(&mut self, word: &str) -> bool {
        self.take_while(|b| b == b' ' || b == b'\t');
        let found = word_at_start(self.rest_from(self.at)) == word;
        if found {
            self.at += word.len();
        }
        found
    }

    pub(super) fn word(&mut self, what: &'static str) -> Parsed<&'t str> {
        let at = self.next();
        let word = word_at_start(self.rest_from(at));
        if word.is_empty() {
            return Err(self.expected(what));
        }
        self.at = at + word.len();
        Ok(word)
    }

    /// A bare or quoted name.
    pub(super) fn name(&mut self, what: &'static str) -> Parsed<String> {
        if self.looking_at("\"") { self.string() } else { self.word(what).map(str::to_owned) }
    }

    /// What stands after `%`: a number or a name.
    pub(super) fn value(&mut self) -> Parsed<&'t str> {
        let place = self.place();
        self.token("%", "a value such as `%3` or `%x`")?;
        let name = self.take_while(continues_name);
        if name.is_empty() { Err(place.expected("a value such as `%3` or `%x`")) } else { Ok(name) }
    }

    /// Letters, digits, `_` and `.`.
    pub(super) fn label(&mut self, what: &'static str) -> Parsed<&'t str> {
        let place = self.place();
        self.skip();
        let label = self.take_while(continues_name);
        if label.is_empty() { Err(place.expected(what)) } else { Ok(label) }
    }

    pub(super) fn integer(&mut self, what: &'static str) -> Parsed<u32> {
        let place = self.place();
        self.skip();
        self.take_while(|b| b.is_ascii_digit()).parse().map_err(|_| place.expected(what))
    }

    /// The text between quotes, as it stands there.
    pub(super) fn raw_string(&mut self, what: &'static str) -> Parsed<&'t str> {
        let place = self.place();
        self.token("\"", what)?;
        let mut escaped = false;
        let text = self.take_while(|b| {
            let more = b != b'\n' && (b != b'"' || escaped);
            escaped = b == b'\\' && !escaped;
            more
        });
        if !self.rest_from(self.at).starts_with('"') {
            return Err(place.expected("a closing quote on the same line"));
        }
        self.at += 1;
        Ok(text)
    }

    /// A quoted string.
    pub(super) fn string(&mut self) -> Parsed<String> {
        let place = self.place();
        let raw = self.raw_string("a quoted string")?;
        unescaped(raw).ok_or_else(|| place.expected("an escape such as `\\n`, `\\\"`, `\\\\` or `\\u{e9}`"))
    }

    /// The text up to one of `stops` outside of parentheses and brackets, a comment or a quote; trimmed.
    pub(super) fn until(&mut self, stops: &[u8]) -> &'t str {
        self.skip();
        let mut depth = 0_usize;
        let text = self.take_while(|b| {
            let stop = matches!(b, b';' | b'"') || (depth == 0 && stops.contains(&b));
            match b {
                b'(' | b'[' => depth += 1,
                b')' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            !stop
        });
        text.trim_ascii_end()
    }

    /// The comment that ends this line, if nothing else does.
    pub(super) fn line_comment(&mut self) -> Option<&'t str> {
        self.take_while(|b| b == b' ' || b == b'\t');
        if !self.rest_from(self.at).starts_with(';') {
            return None;
        }
        self.at += 1;
        Some(self.take_while(|b| b != b'\n').trim())
    }

    /// Where the next token starts, after white space and comments.
    fn next(&self) -> usize {
        let mut at = self.at;
        loop {
            let rest = self.rest_from(at);
            let blank = rest.len() - rest.trim_ascii_start().len();
            at += blank;
            let rest = self.rest_from(at);
            if !rest.starts_with(';') {
                return at;
            }
            at += rest.bytes().position(|b| b == b'\n').unwrap_or(rest.len());
        }
    }

    fn skip(&mut self) {
        self.at = self.next();
    }

    fn rest_from(&self, at: usize) -> &'t str {
        self.text.get(at..).unwrap_or("")
    }

    fn take_while(&mut self, mut accept: impl FnMut(u8) -> bool) -> &'t str {
        let rest = self.rest_from(self.at);
        let len = rest.bytes().position(|b| !accept(b)).unwrap_or(rest.len());
        // Every set of bytes used here ends at an ASCII byte or takes all others, so this is a character's boundary.
        let taken = rest.get(..len).unwrap_or("");
        self.at += taken.len();
        taken
    }
}

fn word_at_start(text: &str) -> &str {
    if !text.bytes().next().is_some_and(starts_name) {
        return "";
    }
    let len = text.bytes().position(|b| !continues_name(b)).unwrap_or(text.len());
    text.get(..len).unwrap_or("")
}

fn unescaped(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '0' => '\0',
            c @ ('"' | '\\' | '\'') => c,
            'u' => {
                let (code, rest) = chars.as_str().strip_prefix('{')?.split_once('}')?;
                chars = rest.chars();
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(out)
}

/// The parts of a list between commas outside of parentheses and brackets; none for white space.
pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let items = list.split(move |c| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let blank = list.trim_ascii().is_empty();
    items.filter(move |_| !blank).map(str::trim_ascii)
}

/// Text in an error message, cut so that the message stays short.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

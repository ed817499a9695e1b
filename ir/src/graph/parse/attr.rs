//! Attributes and arrays.

use super::cursor::{Place, parts, shorten};
use super::{ParseErrorKind, Parsed, Reader};
use crate::array::{Array, Data, checked_count};
use crate::attrs::{Attr, Attrs};
use crate::dtype::{DType, Kind};
use crate::graph::print::from_base64;
use crate::graph::verify;
use crate::literal::Literal;
use crate::ty::Type;

impl<'t> Reader<'_, 't> {
    /// Attributes in braces.
    pub(super) fn attrs(&mut self) -> Parsed<Attrs> {
        self.cursor.token("{", "`{`")?;
        if self.braces == verify::MAX_ATTR_DEPTH {
            return Err(self.cursor.place().error(ParseErrorKind::TooDeep("attributes")));
        }
        self.braces += 1;
        let mut attrs = Attrs::new();
        while !self.cursor.eat("}") {
            if !attrs.0.is_empty() {
                self.cursor.token(",", "`,` or `}`")?;
            }
            let name = self.cursor.name("the name of an attribute")?;
            self.cursor.token("=", "`=`")?;
            let value = self.attr()?;
            attrs.0.push((name, value));
        }
        self.braces -= 1;
        Ok(attrs)
    }

    fn attr(&mut self) -> Parsed<Attr> {
        if self.cursor.looking_at("\"") {
            return self.cursor.string().map(Attr::Str);
        }
        if self.cursor.looking_at("{") {
            return self.attrs().map(Attr::Map);
        }
        if self.cursor.peek_word() == "graph" {
            let body = self.graph()?;
            return Ok(Attr::Region(body.into()));
        }
        let place = self.cursor.place();
        let text = self.cursor.until(b",}:");
        if !self.cursor.eat(":") {
            return plain(text, place);
        }
        let dtype = self.dtype()?;
        if !self.cursor.looking_at("[") {
            return literal(dtype, text, place).map(Attr::Float);
        }
        let ty = self.shaped(dtype)?;
        self.array(&ty, text, place).map(Attr::Array)
    }

    /// The array of a type whose elements, or whose name in the side table, are `text`.
    pub(super) fn array(&mut self, ty: &Type, text: &'t str, place: Place<'t>) -> Parsed<Array> {
        let Some(shape) = ty.static_shape() else {
            return Err(place.expected("a type of constant dims for an array"));
        };
        if let Some(name) = text.strip_prefix("blob(").and_then(|t| t.strip_suffix(')')) {
            return match self.blobs.get(name.trim_ascii()) {
                Some(a) if a.dtype() == ty.dtype && a.shape() == shape.as_slice() => Ok(a.clone()),
                Some(_) => Err(place.error(ParseErrorKind::BlobType(shorten(name), ty.clone()))),
                None => Err(place.error(ParseErrorKind::UnknownBlob(shorten(name)))),
            };
        }
        elements(ty.dtype, &shape, text, place)
    }

    /// The array of a line of the side table.
    pub(super) fn blob(&mut self) -> Parsed<(&'t str, Array)> {
        self.cursor.word("`blob`")?;
        let name = self.cursor.label("the name of a blob")?;
        self.cursor.token(":", "`:`")?;
        let ty = self.ty()?;
        self.cursor.token("=", "`=`")?;
        let place = self.cursor.place();
        let data = self.cursor.raw_string("base64 text in quotes")?;
        let bad = || place.error(ParseErrorKind::BlobData(ty.clone()));
        let shape = ty.static_shape().ok_or_else(bad)?;
        let data = from_base64(data).and_then(|bytes| Data::from_le_bytes(ty.dtype, &bytes)).ok_or_else(bad)?;
        Array::from_data(&shape, data).map(|array| (name, array)).map_err(|_| bad())
    }
}

/// An attribute without a type.
fn plain(text: &str, place: Place<'_>) -> Parsed<Attr> {
    let inside = |open, close| text.strip_prefix(open).and_then(|t| t.strip_suffix(close));
    if let Some(list) = inside('[', ']') {
        let ints = parts(list).map(|t| t.parse().map_err(|_| place.within(t, 0).expected("an integer of 64 bits")));
        return ints.collect::<Parsed<_>>().map(Attr::Ints);
    }
    if let Some(list) = inside('(', ')') {
        return super::dims(list, place).map(Attr::Dims);
    }
    if let Ok(value) = text.parse() {
        return Ok(Attr::Int(value));
    }
    let mut bytes = text.bytes();
    if bytes.next().is_some_and(super::starts_name) && bytes.all(super::continues_name) {
        return Ok(Attr::Name(text.to_owned()));
    }
    Err(place.expected("an integer, a name, a string, or a list in `[]`, `()` or `{}`"))
}

fn literal(dtype: DType, text: &str, place: Place<'_>) -> Parsed<Literal> {
    Literal::parse(dtype, text).ok_or_else(|| place.error(ParseErrorKind::Literal(shorten(text), dtype)))
}

/// Elements in nested brackets, which must follow the shape.
fn elements(dtype: DType, shape: &[usize], text: &str, place: Place<'_>) -> Parsed<Array> {
    let misfit = |at: &str| place.within(at, 0).expected("elements in nested brackets as the shape demands");
    let count = checked_count(shape).ok_or_else(|| misfit(text))?;
    if count == 0 {
        let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        return match inside {
            Some(t) if t.trim_ascii().is_empty() => Ok(Array::zeros(dtype, shape)),
            _ => Err(misfit(text)),
        };
    }
    // Each element takes a byte or more, so a false count cannot ask for more memory than the text has earned.
    if count > text.len() {
        return Err(misfit(text));
    }
    let mut blocks: Vec<usize> = Vec::with_capacity(shape.len());
    for &size in shape.iter().rev() {
        blocks.push(blocks.last().copied().unwrap_or(1) * size);
    }
    let mut data = Data::zeros(dtype, count);
    let mut rest = text;
    for i in 0..count {
        if i > 0 {
            rest = rest.trim_ascii_start().strip_prefix(',').ok_or_else(|| misfit(rest))?;
        }
        for _ in blocks.iter().filter(|&&n| i % n == 0) {
            rest = rest.trim_ascii_start().strip_prefix('[').ok_or_else(|| misfit(rest))?;
        }
        let (element, after) = rest.split_at(element_len(rest, dtype));
        let value = literal(dtype, element, place.within(element, 0))?;
        data.set(i, value).ok_or_else(|| misfit(element))?;
        rest = after;
        for _ in blocks.iter().filter(|&&n| (i + 1) % n == 0) {
            rest = rest.trim_ascii_start().strip_prefix(']').ok_or_else(|| misfit(rest))?;
        }
    }
    if !rest.trim_ascii().is_empty() {
        return Err(misfit(rest));
    }
    Array::from_data(shape, data).map_err(|_| misfit(text))
}

/// How many bytes the element at the start of `rest` takes.
fn element_len(rest: &str, dtype: DType) -> usize {
    if dtype.kind() == Kind::Complex {
        // `(1.0, nan(0x7fc00001))` has commas and parentheses of its own.
        let mut depth = 0_usize;
        for (i, b) in rest.bytes().enumerate() {
            match b {
                b'(' => depth += 1,
                b')' if depth <= 1 => return i + 1,
                b')' => depth -= 1,
                b'[' | b']' => return i,
                _ => {}
            }
        }
        return rest.len();
    }
    rest.bytes().position(|b| matches!(b, b',' | b'[' | b']')).unwrap_or(rest.len())
}

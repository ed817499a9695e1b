//! How names are spelled: bare where they are identifiers, else quoted; and bytes as base64.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::graph::Graph;

/// Words that start a line inside a graph, and so cannot be bare names of scopes.
const KEYWORDS: [&str; 3] = ["_", "return", "update"];

/// Whether a byte may start a bare name.
pub(in crate::graph) fn starts_name(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

/// Whether a byte may stand inside a bare name.
pub(in crate::graph) fn continues_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'.'
}

/// Whether a name needs no quotes.
pub(super) fn is_bare(name: &str) -> bool {
    name.bytes().next().is_some_and(starts_name) && name.bytes().all(continues_name)
}

/// A name, quoted if it has to be.
pub(super) fn push_name(out: &mut String, name: &str) {
    if is_bare(name) {
        out.push_str(name);
    } else {
        push_quoted(out, name);
    }
}

/// A component of a scope path, quoted if it has to be.
pub(super) fn push_scope(out: &mut String, name: &str) {
    if is_bare(name) && !KEYWORDS.contains(&name) {
        out.push_str(name);
    } else {
        push_quoted(out, name);
    }
}

/// A string in quotes, on one line.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out.push('"');
}

/// What the parameters of a graph are called after `%`: their names, or something close to them that is bare and unique.
pub(super) fn param_names(graph: &Graph) -> Vec<String> {
    let names = || graph.params().iter().map(|p| p.name.as_str());
    let mut taken: BTreeSet<String> = names().filter(|n| is_bare(n)).map(str::to_owned).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut suffixes: BTreeMap<String, usize> = BTreeMap::new();
    let spell = |name| {
        if is_bare(name) && seen.insert(name) {
            return name.to_owned();
        }
        let base = sanitised(name);
        if taken.insert(base.clone()) {
            return base;
        }
        let suffix = suffixes.entry(base.clone()).or_insert(1);
        loop {
            *suffix += 1;
            let candidate = format!("{base}_{suffix}");
            if taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    };
    names().map(spell).collect()
}

fn sanitised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let keep = u8::try_from(c).is_ok_and(continues_name);
        if out.is_empty() && !u8::try_from(c).is_ok_and(starts_name) {
            out.push('_');
        }
        if keep {
            out.push(c);
        } else if out != "_" {
            out.push('_');
        }
    }
    if out.is_empty() { "_".to_owned() } else { out }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes in base64 with padding (RFC 4648, section 4).
pub(in crate::graph) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, &b| (w << 8) | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = (word >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { BASE64[sextet as usize].into() } else { '=' });
        }
    }
    out
}

/// The bytes of a base64 text; `None` unless it is exactly what [`base64`] writes.
pub(in crate::graph) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let sextet = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for &b in chunk {
            word = (word << 6) | u32::from(sextet(b)?);
        }
        word <<= 6 * (4 - chunk.len());
        let bytes = word.to_be_bytes();
        // Bits that no byte takes must be 0, so that each sequence of bytes has one text.
        let len = chunk.len() * 6 / 8;
        if bytes[1 + len..].iter().any(|&b| b != 0) || chunk.len() == 1 {
            return None;
        }
        out.extend_from_slice(&bytes[1..1 + len]);
    }
    Some(out)
}

/// A 64-bit word in hexadecimal.
pub(super) fn hex(word: u64) -> String {
    let mut out = String::with_capacity(16);
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{word:016x}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc_and_reads_back() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_base64(&base64(&all)), Some(all));
        for bad in ["Zg", "Zh==", "Z===", "====", "Zm9", "Zm9*", "=Zm9"] {
            assert_eq!(from_base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn quoted_names_stay_on_one_line() {
        let mut out = String::new();
        push_quoted(&mut out, "a\"b\\c\nd\u{7f}é'");
        assert_eq!(out, r#""a\"b\\c\nd\u{7f}é'""#);
    }
}

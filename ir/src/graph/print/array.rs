//! Arrays in text: exact elements in nested brackets, or a name for what stands in the side table.

use indexmap::IndexMap;

use super::spell::{base64, hex};
use crate::array::Array;

/// The most elements that print in place.
pub(super) const INLINE: usize = 64;

/// The arrays of a side table, by name, in order of first use.
#[derive(Default)]
pub(super) struct Blobs(IndexMap<String, Array>);

impl Blobs {
    /// The name of an array, which is the hash of its type and bytes.
    pub(super) fn name(&mut self, array: &Array) -> String {
        let base = hex(content_hash(array));
        let mut name = base.clone();
        // Different arrays of one hash are told apart by a counter.
        for n in 1.. {
            match self.0.get(&name) {
                Some(known) if known.bit_eq(array) => return name,
                Some(_) => name = format!("{base}_{n}"),
                None => break,
            }
        }
        self.0.insert(name.clone(), array.clone());
        name
    }

    /// The lines of the table: name, type and data.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, array)| {
            format!("blob {name} : {} = \"{}\"", type_text(array), base64(&array.data().to_le_bytes()))
        })
    }
}

/// The type of an array, `f32[2, 3]`.
pub(super) fn type_text(array: &Array) -> String {
    let dims: Vec<String> = array.shape().iter().map(ToString::to_string).collect();
    format!("{}[{}]", array.dtype(), dims.join(", "))
}

/// The elements, exactly, in nested brackets; a 0-d array has none, an array without elements is `[]`.
pub(super) fn push_elements(out: &mut String, array: &Array) {
    if array.is_empty() {
        out.push_str("[]");
        return;
    }
    // The number of elements in one index of each dim and all inside it.
    let mut blocks: Vec<usize> = Vec::with_capacity(array.rank());
    for &size in array.shape().iter().rev() {
        blocks.push(blocks.last().copied().unwrap_or(1) * size);
    }
    for i in 0..array.len() {
        if i > 0 {
            out.push_str(", ");
        }
        let starting = blocks.iter().filter(|&&n| i % n == 0).count();
        let ending = blocks.iter().filter(|&&n| (i + 1) % n == 0).count();
        out.extend(std::iter::repeat_n('[', starting));
        if let Some(element) = array.data().get(i) {
            out.push_str(&element.to_string());
        }
        out.extend(std::iter::repeat_n(']', ending));
    }
}

/// FNV-1a over the type's text and the elements' little-endian bytes: it names data in snapshots, so it never changes.
fn content_hash(array: &Array) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = type_text(array).as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    array.data().to_le_bytes().iter().fold(hash, fnv)
}

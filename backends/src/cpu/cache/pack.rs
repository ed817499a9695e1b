//! The file of a unit's code.
//!
//! Numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `lehrcode` |
//! | 32 | BLAKE3 of all bytes that follow |
//! | 24 | the unit's key |
//! | 4 | number of kernels |
//! | 24 + 4 + 4 a kernel | its key, the alignment of its code, bytes of its code |
//! | rest | the code of each kernel, one after the other |

use super::key::Key;

const MAGIC: &[u8; 8] = b"lehrcode";
const CHECKSUM: usize = 32;
/// The most that code may ask to be aligned to: a page.
const MOST_ALIGNED: u32 = 4096;

/// The code of one kernel: position-independent, without relocations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Machine {
    /// What its address has to be a multiple of.
    pub(crate) alignment: u32,
    /// The code, entered at its first byte, with its constants.
    pub(crate) bytes: Vec<u8>,
}

/// The code of one kernel, with its key.
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) code: Machine,
}

/// The file of a unit.
pub(super) fn encode(unit: &Key, kernels: &[(Key, &Machine)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&unit.0);
    body.extend_from_slice(&(kernels.len() as u32).to_le_bytes());
    for (key, code) in kernels {
        body.extend_from_slice(&key.0);
        body.extend_from_slice(&code.alignment.to_le_bytes());
        body.extend_from_slice(&(code.bytes.len() as u32).to_le_bytes());
    }
    for (_, code) in kernels {
        body.extend_from_slice(&code.bytes);
    }
    let mut file = MAGIC.to_vec();
    file.extend_from_slice(blake3::hash(&body).as_bytes());
    file.extend_from_slice(&body);
    file
}

/// What a file of this unit holds; `None` unless each of its bytes is as it was written.
pub(super) fn decode(unit: &Key, file: &[u8]) -> Option<Vec<Entry>> {
    let mut rest = file.strip_prefix(MAGIC)?;
    let checksum: [u8; CHECKSUM] = take(&mut rest, CHECKSUM)?.try_into().ok()?;
    if blake3::hash(rest) != blake3::Hash::from_bytes(checksum) || take(&mut rest, Key::BYTES)? != unit.0 {
        return None;
    }
    // What follows was written by `encode`; it is checked all the same, for the sake of who reads this.
    let count = number(&mut rest)?;
    let mut heads = Vec::new();
    for _ in 0..count {
        let key = Key(take(&mut rest, Key::BYTES)?.try_into().ok()?);
        heads.push((key, number(&mut rest)?, number(&mut rest)? as usize));
    }
    let mut entries = Vec::with_capacity(heads.len());
    for (key, alignment, bytes) in heads {
        if !alignment.is_power_of_two() || alignment > MOST_ALIGNED || bytes == 0 {
            return None;
        }
        entries.push(Entry { key, code: Machine { alignment, bytes: take(&mut rest, bytes)?.to_vec() } });
    }
    rest.is_empty().then_some(entries)
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?))
}

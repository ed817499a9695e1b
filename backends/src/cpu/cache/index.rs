//! Which pack has each kernel, and how much all packs are.
//!
//! The index is a file of records of 64 bytes, appended to by one write a pack. A record that is damaged is skipped, so that what
//! can happen to the file (a write cut short, two at once on a file system without atomic appends) loses a hit and no more.

use std::collections::BTreeMap;

use super::key::Key;
use crate::folder::Folder;

const NAME: &str = "index";
const RECORD: usize = 64;
const CHECKSUM: usize = 8;
/// The most bytes of an index that are read; beyond, it is made anew.
const MOST: u64 = 64 << 20;

/// That a pack has a kernel, or how many bytes it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// The kernel; [`Key::NONE`] in the record of the pack's size.
    pub(super) kernel: Key,
    pub(super) pack: Key,
    /// Bytes of the pack; 0 in records of kernels.
    pub(super) bytes: u64,
}

/// The index as it was when it was read.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The packs of each kernel, the oldest first.
    packs: BTreeMap<Key, Vec<Key>>,
    /// The bytes of each pack.
    sizes: BTreeMap<Key, u64>,
    missing: bool,
}

impl Record {
    fn encode(&self) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        let (kernel, rest) = record.split_at_mut(Key::BYTES);
        let (pack, rest) = rest.split_at_mut(Key::BYTES);
        let (bytes, checksum) = rest.split_at_mut(8);
        kernel.copy_from_slice(&self.kernel.0);
        pack.copy_from_slice(&self.pack.0);
        bytes.copy_from_slice(&self.bytes.to_le_bytes());
        checksum.copy_from_slice(&self.checksum());
        record
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let (kernel, rest) = record.split_at_checked(Key::BYTES)?;
        let (pack, rest) = rest.split_at_checked(Key::BYTES)?;
        let (bytes, checksum) = rest.split_at_checked(8)?;
        let record = Self {
            kernel: Key(kernel.try_into().ok()?),
            pack: Key(pack.try_into().ok()?),
            bytes: u64::from_le_bytes(bytes.try_into().ok()?),
        };
        (checksum == record.checksum()).then_some(record)
    }

    /// Against accidents only: a wrong record names a pack that does not have the kernel, which is found out there.
    fn checksum(&self) -> [u8; CHECKSUM] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.kernel.0).update(&self.pack.0).update(&self.bytes.to_le_bytes());
        let mut checksum = [0; CHECKSUM];
        hasher.finalize_xof().fill(&mut checksum);
        checksum
    }
}

impl Index {
    /// The index of a folder; an empty one if there is none.
    pub(super) fn read(folder: &Folder) -> Self {
        let Some(file) = folder.read(NAME, MOST) else { return Self { missing: true, ..Self::default() } };
        let mut index = Self::default();
        for record in file.bytes.chunks_exact(RECORD).filter_map(Record::decode) {
            if record.kernel == Key::NONE {
                index.sizes.insert(record.pack, record.bytes);
            } else {
                index.packs.entry(record.kernel).or_default().push(record.pack);
            }
        }
        index
    }

    /// Whether there was none that could be read.
    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// The packs that have a kernel, the newest first.
    pub(super) fn packs_with(&self, kernel: &Key) -> impl Iterator<Item = &Key> {
        self.packs.get(kernel).into_iter().flatten().rev()
    }

    /// Bytes of all packs.
    pub(super) fn total(&self) -> u64 {
        self.sizes.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Adds records.
    pub(super) fn append(folder: &Folder, records: &[Record]) {
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        folder.append(NAME, RECORD, &bytes);
    }

    /// Makes the index anew for packs of these sizes, with what it knows of them.
    pub(super) fn rewrite(folder: &Folder, sizes: &BTreeMap<Key, u64>) {
        let old = Self::read(folder);
        let mut bytes = Vec::new();
        for (&pack, &size) in sizes {
            bytes.extend_from_slice(&Record { kernel: Key::NONE, pack, bytes: size }.encode());
        }
        for (&kernel, packs) in &old.packs {
            // One pack is enough to find a kernel: the newest that is left.
            if let Some(&pack) = packs.iter().rev().find(|p| sizes.contains_key(p)) {
                bytes.extend_from_slice(&Record { kernel, pack, bytes: 0 }.encode());
            }
        }
        // An index that cannot be written is out of date, which costs hits.
        let _ = folder.write(NAME, &bytes);
    }
}

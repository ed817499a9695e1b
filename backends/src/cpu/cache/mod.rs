//! Machine code kept on disk from process to process.
//!
//! A [`Cache`] is a folder. The code of a unit (the kernels of one program) is one file, a *pack*, named by the unit's key, so that a
//! program that was compiled before is one file to open whatever the number of its kernels. An *index* beside the packs says in
//! which pack each kernel is, so that a new program takes the kernels that others have brought; it grows by one write a pack.
//! (A file a kernel instead would cost a new program of 25 kernels 3 ms, at 0.13 ms a file.)
//!
//! # What makes it safe to run what is found
//! - A [`Key`] is a cryptographic hash over all that code depends on: the kernel's canonical text, the emitter's settings, the
//!   processor's features, and the identity of this build of lehr ([`key`]). So another build, another machine that shares the home
//!   folder, or a kernel made up to collide never meets code that is not its own.
//! - A pack has a checksum over all its bytes; what does not match it, to the bit and to the length, counts as absent, and is replaced
//!   by what is then compiled ([`pack`]).
//! - The folder is its user's alone: it is made so, and one that somebody else owns or may write to is refused. So is a file in it
//!   that somebody else owns or may write to ([`crate::folder`]).
//! - A file appears under its name complete or not at all (written beside, then renamed), so that processes need no lock.
//!
//! # What happens when it does not work
//! Nothing: [`Cache::open`] says why it cannot be used, and from then on a lookup that fails is a miss, and code that cannot be
//! written is not kept. A cache never makes a compilation fail.
//!
//! # Size
//! The index knows the bytes of all packs. When a new pack would exceed the limit, the packs that were used least lately are deleted
//! until three quarters of the limit are left ([`Cache::sweep`]).

use std::path::Path;

mod index;
pub(super) mod key;
mod pack;
#[cfg(test)]
mod tests;

pub use crate::folder::CacheError;
use crate::folder::Folder;
use index::{Index, Record};
pub(super) use key::{Identity, Key};
use pack::Entry;
pub(super) use pack::Machine;

/// Code on disk. Cheap to open; it holds no file open and no lock.
///
/// ```no_run
/// use lehr_backends::cpu::{Cache, Compiler, Options};
/// use lehr_backends::cpu::code::With;
/// # let kernels = [];
/// let cache = Cache::open("/home/me/.cache/lehr".as_ref(), 256 << 20)?;
/// let compiler = Compiler::new(Options::default())?;
/// let unit = compiler.compile_with(&kernels, With { cache: Some(&cache), ..With::default() })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cache {
    folder: Folder,
    limit: u64,
}

/// What a lookup found.
pub(super) struct Found {
    /// The code of each kernel that was there.
    pub(super) code: Vec<Option<Machine>>,
    /// Whether all came from the unit's own pack, so that there is nothing to keep.
    pub(super) whole: bool,
    index: Index,
}

impl Cache {
    /// The cache in a folder, which is made if it is not there; it holds at most `limit` bytes.
    ///
    /// # Errors
    /// [`CacheError`] where the folder is none of this user's own, or cannot be made.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, CacheError> {
        Ok(Self { folder: Folder::open(folder)?, limit })
    }

    /// The code of the kernels of a unit, as far as there is any.
    pub(super) fn find(&self, unit: &Key, kernels: &[Key]) -> Found {
        if let Some(entries) = self.pack(unit)
            && entries.len() == kernels.len()
            && entries.iter().zip(kernels).all(|(e, k)| e.key == *k)
        {
            let code = entries.into_iter().map(|e| Some(e.code)).collect();
            return Found { code, whole: true, index: Index::default() };
        }
        let index = Index::read(&self.folder);
        let mut code: Vec<Option<Machine>> = kernels.iter().map(|_| None).collect();
        let mut tried = vec![*unit];
        for i in 0..kernels.len() {
            if code[i].is_some() {
                continue;
            }
            for pack in index.packs_with(&kernels[i]) {
                if tried.contains(pack) {
                    continue;
                }
                tried.push(*pack);
                // A pack that is read for one kernel serves all others that it has.
                for entry in self.pack(pack).into_iter().flatten() {
                    if let Some(at) = kernels.iter().position(|k| *k == entry.key) {
                        code[at].get_or_insert(entry.code);
                    }
                }
                if code[i].is_some() {
                    break;
                }
            }
        }
        Found { code, whole: false, index }
    }

    /// Keeps the code of a unit; `found` is what the lookup gave. Nothing is kept if that fails.
    pub(super) fn keep(&self, unit: &Key, kernels: &[(Key, &Machine)], found: &Found) {
        let bytes = pack::encode(unit, kernels);
        let size = bytes.len() as u64;
        if size > self.limit {
            return;
        }
        if found.index.total().saturating_add(size) > self.limit || found.index.is_missing() {
            self.sweep(self.limit.saturating_sub(size));
        }
        if self.folder.write(&unit.file_name(), &bytes).is_err() {
            return;
        }
        let new = kernels.iter().zip(&found.code).filter(|(_, code)| code.is_none()).map(|((key, _), _)| *key);
        // The first record has the pack's size, whether or not a kernel is new.
        let first = Record { kernel: Key::NONE, pack: *unit, bytes: size };
        let records: Vec<Record> =
            std::iter::once(first).chain(new.map(|kernel| Record { kernel, pack: *unit, bytes: 0 })).collect();
        Index::append(&self.folder, &records);
    }

    /// The contents of a pack that is there and whole. It then counts as used.
    fn pack(&self, key: &Key) -> Option<Vec<Entry>> {
        let file = self.folder.read(&key.file_name(), self.limit)?;
        let entries = pack::decode(key, &file.bytes)?;
        file.touch();
        Some(entries)
    }

    /// Deletes the packs that were used least lately until at most `most` bytes are left, and three quarters of the limit if any has
    /// to go, and makes the index anew.
    fn sweep(&self, most: u64) {
        let mut packs = self.folder.list(|name| Key::from_file_name(name).is_some());
        let mut total: u64 = packs.iter().map(|p| p.bytes).sum();
        if total > most {
            packs.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
            let target = most.min(self.limit / 4 * 3);
            let mut kept = Vec::new();
            for pack in packs {
                if total > target && self.folder.delete(&pack.name) {
                    total -= pack.bytes;
                } else {
                    kept.push(pack);
                }
            }
            packs = kept;
        }
        let sizes = packs.iter().filter_map(|p| Some((Key::from_file_name(&p.name)?, p.bytes)));
        Index::rewrite(&self.folder, &sizes.collect());
    }
}

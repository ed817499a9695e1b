//! What a device keeps on disk from process to process: compiled pipelines, and the forms of products that were measured.
//!
//! A file belongs to one adapter and one version of its driver, whose names are in its own name and, with all its bytes, under its
//! checksum. A file of another device, of another format, or one that was damaged counts as absent, and is replaced by the next
//! that is written. The folder is its user's alone, as for machine code ([`crate::folder`]), and a file appears complete or not at
//! all. What cannot be kept is made again; nothing fails for it.

use std::path::Path;

use crate::folder::{CacheError, Folder};

/// What the first bytes of a file are; the digit is the format's version.
const MAGIC: &[u8] = b"lehr gpu 1\n";
const CHECKSUM: usize = 32;
/// The most bytes of a file: what grows beyond is begun anew.
const MOST: u64 = 64 << 20;

/// A folder for what devices keep.
#[derive(Debug)]
pub struct Keep {
    folder: Folder,
    most: u64,
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// What the driver has compiled.
    Pipelines,
    /// How products are computed.
    Products,
}

impl Keep {
    /// What is kept in a folder, which is made if it is not there; no file has more than `most` bytes.
    ///
    /// # Errors
    /// [`CacheError`] where the folder is none of this user's own, or cannot be made.
    pub fn open(folder: &Path, most: u64) -> Result<Self, CacheError> {
        Ok(Self { folder: Folder::open(folder)?, most: most.min(MOST) })
    }

    /// What a device has kept; `None` if that is nothing, or is not to be trusted.
    pub(super) fn read(&self, kind: Kind, device: &str) -> Option<Vec<u8>> {
        let file = self.folder.read(&name(kind, device), self.most)?;
        let rest = file.bytes.strip_prefix(MAGIC)?;
        let (sum, payload) = rest.split_at_checked(CHECKSUM)?;
        (sum == checksum(kind, device, payload)).then(|| payload.to_vec())
    }

    /// Keeps this for a device, in place of what was there.
    pub(super) fn write(&self, kind: Kind, device: &str, payload: &[u8]) {
        let bytes = [MAGIC, &checksum(kind, device, payload), payload].concat();
        if bytes.len() as u64 <= self.most {
            // A folder that is full costs the next process what this one has paid.
            let _ = self.folder.write(&name(kind, device), &bytes);
        }
    }
}

/// The name of a file.
pub(super) fn name(kind: Kind, device: &str) -> String {
    let hash = blake3::hash(device.as_bytes()).to_hex();
    let kind = match kind {
        Kind::Pipelines => "pipelines",
        Kind::Products => "products",
    };
    format!("{kind}-{}.gpu", &hash[..32])
}

fn checksum(kind: Kind, device: &str, payload: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{kind:?}\n{device}\n").as_bytes()).update(payload);
    *hasher.finalize().as_bytes()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A folder of its own for a test, which deletes it.
    struct Place(std::path::PathBuf);

    impl Place {
        fn new(test: &str) -> Self {
            Self(std::env::temp_dir().join(format!("lehr-keep-{test}-{}", std::process::id())))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_kept_is_read_back_by_its_device_only() {
        let place = Place::new("back");
        let keep = Keep::open(&place.0, 1 << 20).expect("a folder");
        assert_eq!(keep.read(Kind::Pipelines, "one"), None);
        keep.write(Kind::Pipelines, "one", b"code");
        let again = Keep::open(&place.0, 1 << 20).expect("a folder");
        assert_eq!(again.read(Kind::Pipelines, "one").as_deref(), Some(&b"code"[..]));
        assert_eq!(again.read(Kind::Products, "one"), None);
        assert_eq!(again.read(Kind::Pipelines, "two"), None);
        // A file under another device's name is foreign still.
        let path = |device| place.0.join(name(Kind::Pipelines, device));
        std::fs::copy(path("one"), path("two")).expect("is copied");
        assert_eq!(again.read(Kind::Pipelines, "two"), None);
    }

    #[test]
    fn what_is_damaged_or_too_large_is_absent() {
        let place = Place::new("damaged");
        let keep = Keep::open(&place.0, 100).expect("a folder");
        keep.write(Kind::Products, "one", b"forms");
        let path = place.0.join(name(Kind::Products, "one"));
        let whole = std::fs::read(&path).expect("is there");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("is written");
            assert_eq!(keep.read(Kind::Products, "one"), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("is written");
            assert_eq!(keep.read(Kind::Products, "one"), None, "the first {at} bytes");
        }
        keep.write(Kind::Products, "one", &[0; 100]);
        assert_eq!(keep.read(Kind::Products, "one"), None, "nothing too large is written");
        keep.write(Kind::Products, "one", b"forms");
        assert_eq!(keep.read(Kind::Products, "one").as_deref(), Some(&b"forms"[..]));
    }
}

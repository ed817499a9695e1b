//! A folder that keeps things between processes: whose it is, and how files in it are read and written.
#![cfg_attr(not(feature = "cpu"), allow(dead_code, reason = "machine code alone is listed, counted and deleted"))]

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Why a folder is not used as a cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("the cache {}: {error}; name a folder that can be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something else has its name.
    #[error("the cache {} is no folder; name a folder", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else could put code there.
    #[error("the cache {} can be written to by others than this user; give it to this user with mode 0700", path.display())]
    Others {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody knows who could.
    #[error("this system does not tell whose a folder is, so no cache is used")]
    System,
}

/// A folder that is this user's alone.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// A file as it was read.
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    file: std::fs::File,
    used: Option<SystemTime>,
}

/// A file, from the outside.
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) used: SystemTime,
}

/// How long a use stays the latest known: renewing it costs a write to the disk.
const RENEWED_AFTER: Duration = Duration::from_secs(60);
/// How old a file that was begun and not completed has to be before it counts as left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// What the name of a file that is being written starts with.
const BEGUN: &str = ".new-";

impl File {
    /// Notes that the file has been used.
    pub(crate) fn touch(&self) {
        let now = SystemTime::now();
        let recent = self.used.and_then(|t| now.duration_since(t).ok()).is_some_and(|age| age < RENEWED_AFTER);
        if !recent {
            // Where that is not allowed, the file goes earlier than it should.
            let _ = self.file.set_modified(now);
        }
    }
}

impl Folder {
    /// A file's bytes; `None` if it is not there, is larger than `most`, or is not this user's alone.
    pub(crate) fn read(&self, name: &str, most: u64) -> Option<File> {
        use std::io::Read;
        let file = owner::open(&self.path.join(name)).ok()?;
        // What is asked is the open file, so that nobody can exchange it in between.
        let meta = file.metadata().ok()?;
        if !meta.is_file() || meta.len() > most || !owner::is_own(&meta) {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).ok()? + 1);
        (&file).take(most.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        Some(File { bytes, used: meta.modified().ok(), file })
    }

    /// Makes a file appear with all its bytes, in the place of one that has its name.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        use std::io::Write;
        let (begun, mut file) = self.begin()?;
        let written = file.write_all(bytes).and_then(|()| {
            drop(file);
            std::fs::rename(&begun, self.path.join(name))
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&begun);
        }
        written
    }

    /// A new file under a name that nobody else has.
    fn begin(&self) -> io::Result<(PathBuf, std::fs::File)> {
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let thread = format!("{:?}", std::thread::current().id());
        let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
        // Machines that share the folder may have equal process numbers, and clocks that agree.
        for attempt in 0..16 {
            let path = self.path.join(format!("{BEGUN}{}-{digits}-{start:x}-{attempt}", std::process::id()));
            match owner::create(&path) {
                Ok(file) => return Ok((path, file)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Adds whole records to the end of a file, by one write, behind what makes up for a record that was cut short.
    pub(crate) fn append(&self, name: &str, record: usize, records: &[u8]) {
        use std::io::Write;
        let Ok(mut file) = owner::append(&self.path.join(name)) else { return };
        let Ok(meta) = file.metadata() else { return };
        if !meta.is_file() || !owner::is_own(&meta) {
            return;
        }
        let cut = (meta.len() % record as u64) as usize;
        let mut bytes = vec![0; if cut == 0 { 0 } else { record - cut }];
        bytes.extend_from_slice(records);
        // What is lost is known to the pack itself.
        let _ = file.write_all(&bytes);
    }

    /// All files with such names. What was begun long ago and never completed is deleted on the way.
    pub(crate) fn list(&self, named: impl Fn(&str) -> bool) -> Vec<Listed> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if name.starts_with(BEGUN) {
                if used.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
                    self.delete(&name);
                }
            } else if named(&name) && meta.is_file() {
                files.push(Listed { name, bytes: meta.len(), used });
            }
        }
        files
    }

    /// Deletes a file; says whether it is gone.
    pub(crate) fn delete(&self, name: &str) -> bool {
        match std::fs::remove_file(self.path.join(name)) {
            Ok(()) => true,
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[cfg(unix)]
mod owner {
    //! Who may do what, on Unix.

    use std::fs::{DirBuilder, File, Metadata, OpenOptions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::Path;

    use super::{CacheError, Folder};

    /// Neither a link that is followed nor a pipe that is waited for: neither is put here by this program.
    const FLAGS: i32 = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits() as i32;
    /// The rights of groups and others to write.
    const OTHERS_WRITE: u32 = 0o022;

    impl Folder {
        /// A folder that this user owns and nobody else may write to; made with mode 0700 if it is not there.
        pub(crate) fn open(path: &Path) -> Result<Self, CacheError> {
            let fail = |error| CacheError::Folder { path: path.to_owned(), error };
            let meta = match path.symlink_metadata() {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail)?;
                    path.symlink_metadata().map_err(fail)?
                }
                Err(e) => return Err(fail(e)),
            };
            if !meta.is_dir() {
                return Err(CacheError::NoFolder { path: path.to_owned() });
            }
            if !is_own(&meta) {
                return Err(CacheError::Others { path: path.to_owned() });
            }
            Ok(Self { path: path.to_owned() })
        }
    }

    /// Whether a file or folder is this user's, and nobody else may write to it.
    pub(super) fn is_own(meta: &Metadata) -> bool {
        meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & OTHERS_WRITE == 0
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(FLAGS).open(path)
    }

    pub(super) fn create(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    pub(super) fn append(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(FLAGS).open(path)
    }
}

#[cfg(not(unix))]
mod owner {
    //! Where nobody can be asked whose a file is, there is no cache.

    use std::fs::{File, Metadata};
    use std::io;
    use std::path::Path;

    use super::{CacheError, Folder};

    impl Folder {
        /// Refuses every folder.
        pub(crate) fn open(_: &Path) -> Result<Self, CacheError> {
            Err(CacheError::System)
        }
    }

    pub(super) fn is_own(_: &Metadata) -> bool {
        false
    }

    pub(super) fn open(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn create(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn append(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

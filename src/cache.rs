//! Where compiled code is kept, so that another process that compiles the same takes it from there.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where compiled code is kept between processes, and how much of it.
///
/// By default it is the folder `lehr` in the user's cache folder (`$XDG_CACHE_HOME`, else `~/.cache`), with at most 256 MiB.
/// The environment variable `LEHR_CACHE` gives another default: a folder, or `off`.
///
/// Code is found by all that it depends on, the processor and the build of lehr among it, and checked to the bit before it is used.
/// The folder has to be the user's alone: it is made with mode 0700, and one that others own or may write to is refused. Where it
/// cannot be used, everything is compiled, and [`KernelCounts::refused`] says why; no compilation fails for it.
/// There is no cache on systems other than Unix.
///
/// On a device it is the driver's compiled shaders that are kept, where `lehr devices` lists a `pipeline cache`.
///
/// ```
/// use lehr::{Cache, Options};
/// let folder = std::env::temp_dir().join("lehr-doc");
/// let options = Options::default().cache(Cache::folder(&folder).max_bytes(64 << 20));
/// assert_eq!(Options::default().cache, Cache::user());
/// assert_ne!(options.cache, Cache::off());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cache {
    place: Place,
    max_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Place {
    User,
    Off,
    Folder(PathBuf),
}

/// How many kernels of a program were compiled, and how many were there already.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct KernelCounts {
    /// Compiled when the program was.
    pub compiled: usize,
    /// Taken from the cache.
    pub cached: usize,
    /// Why the cache was not used, if it was to be.
    pub refused: Option<String>,
}

/// The bytes that are kept if nothing is said.
const MAX_BYTES: u64 = 256 << 20;

impl Cache {
    /// The user's cache folder, or what the environment says instead.
    pub const fn user() -> Self {
        Self { place: Place::User, max_bytes: MAX_BYTES }
    }

    /// None: everything is compiled, and nothing is kept.
    pub const fn off() -> Self {
        Self { place: Place::Off, max_bytes: 0 }
    }

    /// This folder, whatever the environment says. It is made when it is first used.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::Folder(path.into()), max_bytes: MAX_BYTES }
    }

    /// The user's cache folder as the system names it, whatever `LEHR_CACHE` says; `None` if it names none.
    pub fn of_system() -> Option<Self> {
        system_folder(variable).map(Self::folder)
    }

    /// The same, with at most so many bytes on disk: what was used least lately goes.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The folder and the most bytes in it; `None` if there is to be none.
    #[cfg(any(feature = "cpu", feature = "gpu"))]
    pub(crate) fn resolve(&self) -> Option<(PathBuf, u64)> {
        let folder = match &self.place {
            Place::Off => None,
            Place::Folder(path) => Some(path.clone()),
            Place::User => user_folder(variable),
        };
        folder.map(|f| (f, self.max_bytes))
    }
}

/// The user's cache folder.
impl Default for Cache {
    fn default() -> Self {
        Self::user()
    }
}

/// A variable of the environment that is not empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|v| !v.is_empty())
}

/// What `LEHR_CACHE` names, else the system.
#[cfg(any(feature = "cpu", feature = "gpu"))]
fn user_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    match variable("LEHR_CACHE") {
        Some(own) => (own != "off").then(|| PathBuf::from(own)),
        None => system_folder(variable),
    }
}

/// By the XDG Base Directory Specification, which says that a path that is not absolute is to be ignored.
fn system_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.map(|b| b.join("lehr"))
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], folder: Option<&str>) {
        let variable = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.into());
        assert_eq!(user_folder(variable), folder.map(PathBuf::from), "{variables:?}");
    }

    #[test]
    fn the_environment_names_the_folder() {
        check(&[], None);
        check(&[("HOME", "/home/me")], Some("/home/me/.cache/lehr"));
        check(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/x")], Some("/x/lehr"));
        check(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "x")], Some("/home/me/.cache/lehr"));
        check(&[("HOME", "home"), ("XDG_CACHE_HOME", "x")], None);
        check(&[("HOME", "/home/me"), ("LEHR_CACHE", "/own")], Some("/own"));
        check(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/x"), ("LEHR_CACHE", "off")], None);
    }

    #[test]
    fn a_folder_that_is_named_is_not_overruled() {
        assert_eq!(Cache::folder("/a").max_bytes(7).resolve(), Some((PathBuf::from("/a"), 7)));
        assert_eq!(Cache::off().resolve(), None);
    }
}

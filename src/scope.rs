//! The group that new nodes belong to.
//!
//! Operators have no room for a context, so the open scopes of a thread stand in a thread-local path.
//! It changes how dumps are grouped, and tells what was made while the body of a loop or branch was traced: such a path has a
//! component `#…`, which no dump shows.

use std::cell::RefCell;

use lehr_ir::expr::ScopePath;

thread_local! {
    static CURRENT: RefCell<ScopePath> = const { RefCell::new(None) };
}

/// The path of the open scopes.
pub(crate) fn current() -> ScopePath {
    CURRENT.with(|c| c.borrow().clone())
}

/// Runs `f` with one more scope open; closed again also if `f` panics.
pub(crate) fn within<R>(name: &str, f: impl FnOnce() -> R) -> R {
    open(&name.replace(['/', '#'], "."), f)
}

/// Runs `f` as the body of a region. The mark is not that of any other region.
pub(crate) fn within_region<R>(mark: u64, f: impl FnOnce() -> R) -> R {
    open(&component(mark), f)
}

/// Whether something with this path was made while the region was traced.
pub(crate) fn is_within(path: Option<&str>, mark: u64) -> bool {
    path.is_some_and(|p| p.split('/').any(|c| c == component(mark)))
}

/// The path of the innermost region that is open.
pub(crate) fn region() -> ScopePath {
    let path = current()?;
    let mark = path.rfind('#')?;
    let end = path[mark..].find('/').map_or(path.len(), |i| mark + i);
    Some(path[..end].into())
}

fn component(mark: u64) -> String {
    format!("#{mark}")
}

fn open<R>(name: &str, f: impl FnOnce() -> R) -> R {
    let outer = current();
    let path = match &outer {
        Some(path) => format!("{path}/{name}"),
        None => name.to_owned(),
    };
    let _restore = Restore(outer);
    CURRENT.with(|c| *c.borrow_mut() = Some(path.into()));
    f()
}

/// Runs `f` outside all scopes, for bodies of composites.
pub(crate) fn outside<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore(CURRENT.with(|c| c.borrow_mut().take()));
    f()
}

struct Restore(ScopePath);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.with(|c| *c.borrow_mut() = self.0.take());
    }
}

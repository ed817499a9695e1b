//! The group that new nodes belong to.
//!
//! Operators have no room for a context, so the open scopes of a thread stand in a thread-local path.
//! It changes how dumps are grouped and nothing else.

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
    let outer = current();
    let name = name.replace('/', ".");
    let path = match &outer {
        Some(path) => format!("{path}/{name}"),
        None => name,
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

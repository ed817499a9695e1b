//! Identifiers.
//!
//! Each kind of thing has a prefix (`buf_`, `tile_`, `size_`, `at_`, `v`, `t`) that no keyword and no reserved word begins with,
//! so whatever a kernel calls its arrays and axes, the module has names of its own.

use std::collections::BTreeSet;

/// Gives identifiers that are all different.
#[derive(Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// `prefix` with what of `name` may stand in an identifier, and a number where that is taken.
    pub(super) fn fresh(&mut self, prefix: &str, name: &str) -> String {
        let base = format!("{prefix}{}", word(name));
        let numbered = (2_u64..).map(|n| format!("{base}_{n}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|n| !self.0.contains(n));
        let free = free.unwrap_or(base);
        self.0.insert(free.clone());
        free
    }
}

/// A name with everything but letters, digits and underscores replaced; scopes of axes may share one.
pub(super) fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

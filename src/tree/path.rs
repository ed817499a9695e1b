//! Where a leaf stands in a structure.

/// Where a leaf stands in a structure: fields after dots and positions in brackets, as `blocks[2].attn.q`.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// The root.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path as text; empty at the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `f` one step further inside, at a field.
    ///
    /// A name that starts with a bracket is a position, or a path that starts with one, and joins without a dot.
    pub fn within<R>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.0.len();
        self.push(name);
        let result = f(self);
        self.0.truncate(len);
        result
    }

    /// Runs `f` inside the element at a position.
    pub fn within_index<R>(&mut self, i: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        self.within(&format!("[{i}]"), f)
    }

    fn push(&mut self, name: &str) {
        if !self.0.is_empty() && !name.is_empty() && !name.starts_with('[') {
            self.0.push('.');
        }
        self.0.push_str(name);
    }
}

/// Two paths, one inside the other.
pub(crate) fn join(outer: &str, inner: &str) -> String {
    let mut path = Path(outer.to_owned());
    path.push(inner);
    path.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_dots_and_positions_stand_in_brackets() {
        let mut path = Path::new();
        path.within("blocks", |p| {
            p.within_index(2, |p| p.within("attn", |p| assert_eq!(p.as_str(), "blocks[2].attn")));
        });
        path.within_index(0, |p| p.within_index(1, |p| assert_eq!(p.as_str(), "[0][1]")));
        assert_eq!(path.as_str(), "");
        assert_eq!(join("adam.m", "[0].weight"), "adam.m[0].weight");
        assert_eq!(join("adam.m", "weight"), "adam.m.weight");
        assert_eq!((join("", "w"), join("w", "")), ("w".to_owned(), "w".to_owned()));
    }
}

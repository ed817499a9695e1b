//! Things by the path names of a structure's leaves.

use std::fmt;
use std::ops::Index;

use super::{Path, Tree};
use crate::tensor::Tensor;

/// One thing for each leaf of a struct, by the leaf's path name inside the struct, in order.
///
/// It stands in for the struct where its leaves become something other than tensors, as in a Jacobian.
/// ```
/// use lehr::prelude::*;
/// #[derive(Tree)]
/// struct Line { slope: Tensor, offset: Tensor }
/// let line = Line { slope: Tensor::from(2.0f64), offset: Tensor::from(1.0f64) };
/// let loss = &line.slope * &line.slope * &line.offset;
/// let h = hessian(&loss, &line);
/// assert_eq!(h["slope"].offset.to_string(), "4");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named<L>(Vec<(String, L)>);

impl<L> Named<L> {
    /// What `f` makes of each leaf of a structure.
    pub fn of<T: Tree + ?Sized>(tree: &T, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> L) -> Self {
        let outer = path.as_str().len();
        let mut all = Vec::new();
        tree.visit(path, &mut |path, t| {
            let name = path.as_str()[outer..].trim_start_matches('.').to_owned();
            all.push((name, f(path, t)));
        });
        Self(all)
    }

    /// What belongs to the leaf of this path name.
    pub fn get(&self, name: &str) -> Option<&L> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, l)| l)
    }

    /// All of it, in the order of the leaves.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &L)> {
        self.0.iter().map(|(n, l)| (n.as_str(), l))
    }

    /// How many leaves there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What belongs to the leaf of a path name.
///
/// # Panics
/// If there is no such leaf, as maps do; [`Named::get`] does not.
impl<L> Index<&str> for Named<L> {
    type Output = L;

    fn index(&self, name: &str) -> &L {
        match self.get(name) {
            Some(l) => l,
            None => panic!("there is no leaf `{name}`; there are {}", Names(self)),
        }
    }
}

struct Names<'a, L>(&'a Named<L>);

impl<L> fmt::Display for Names<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::list(self.0.iter().map(|(n, _)| n)))
    }
}

impl<T: Tree> Tree for Named<T> {
    type Mapped = Named<T::Mapped>;
    type Each<L> = Named<T::Each<L>>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        for (name, t) in &self.0 {
            path.within(name, |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self::Mapped {
        Named(self.0.iter().map(|(n, t)| (n.clone(), path.within(n, |path| t.map(path, f)))).collect())
    }

    fn each<L>(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> L) -> Self::Each<L> {
        Named(self.0.iter().map(|(n, t)| (n.clone(), path.within(n, |path| t.each(path, f)))).collect())
    }
}

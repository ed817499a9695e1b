//! Structures of tensors: models, tuples, lists. Their leaves have path names such as `hidden.weight`.

use std::collections::BTreeMap;

use crate::tensor::Tensor;

pub use lehr_derive::Tree;

/// Where a leaf stands in a structure: names and positions, joined by dots.
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

    /// Runs `f` one step further inside.
    pub fn within<R>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let len = self.0.len();
        if len > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        let result = f(self);
        self.0.truncate(len);
        result
    }

    /// Runs `f` inside the element at a position.
    pub fn within_index<R>(&mut self, i: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        self.within(&i.to_string(), f)
    }
}

/// A structure with tensors at its leaves.
///
/// Implemented for tensors, references, `Vec`, arrays, `Option`, tuples, string maps and, without leaves, for numbers and text;
/// structs derive it.
/// ```
/// use lehr::prelude::*;
/// #[derive(Tree)]
/// struct Layer { weight: Tensor, bias: Option<Tensor>, scale: f64 }
/// let layer = Layer { weight: Tensor::variable("w", [1.0f32]), bias: None, scale: 2.0 };
/// assert_eq!(lehr::tree::names(&layer), ["weight"]);
/// ```
pub trait Tree {
    /// The same structure with owned tensors at its leaves: what gradients come in.
    type Mapped;

    /// Calls `f` with each leaf in order.
    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor));

    /// The structure with each leaf replaced.
    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self::Mapped;
}

/// The leaves in order.
pub fn leaves<T: Tree + ?Sized>(tree: &T) -> Vec<Tensor> {
    named_leaves(tree).into_iter().map(|(_, t)| t).collect()
}

/// The path names of the leaves in order.
pub fn names<T: Tree + ?Sized>(tree: &T) -> Vec<String> {
    named_leaves(tree).into_iter().map(|(n, _)| n).collect()
}

/// The leaves in order, each with its path name.
pub fn named_leaves<T: Tree + ?Sized>(tree: &T) -> Vec<(String, Tensor)> {
    let mut out = Vec::new();
    tree.visit(&mut Path::new(), &mut |path, t| out.push((path.as_str().to_owned(), t.clone())));
    out
}

/// The structure with other leaves in place of its own, in order; its own again where there are too few.
pub(crate) fn with_leaves<T: Tree>(tree: &T, leaves: Vec<Tensor>) -> T::Mapped {
    let mut leaves = leaves.into_iter();
    tree.map(&mut Path::new(), &mut |_, t| leaves.next().unwrap_or_else(|| t.clone()))
}

impl Tree for Tensor {
    type Mapped = Self;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        f(path, self);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        f(path, self)
    }
}

impl<T: Tree + ?Sized> Tree for &T {
    type Mapped = T::Mapped;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        (**self).visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> T::Mapped {
        (**self).map(path, f)
    }
}

impl<T: Tree + ?Sized> Tree for Box<T> {
    type Mapped = Box<T::Mapped>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        (**self).visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Box<T::Mapped> {
        Box::new((**self).map(path, f))
    }
}

impl<T: Tree> Tree for [T] {
    type Mapped = Vec<T::Mapped>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        for (i, t) in self.iter().enumerate() {
            path.within_index(i, |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Vec<T::Mapped> {
        self.iter().enumerate().map(|(i, t)| path.within_index(i, |path| t.map(path, f))).collect()
    }
}

impl<T: Tree> Tree for Vec<T> {
    type Mapped = Vec<T::Mapped>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        self.as_slice().visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Vec<T::Mapped> {
        self.as_slice().map(path, f)
    }
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    type Mapped = [T::Mapped; N];

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        self.as_slice().visit(path, f);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> [T::Mapped; N] {
        std::array::from_fn(|i| path.within_index(i, |path| self[i].map(path, f)))
    }
}

impl<T: Tree> Tree for Option<T> {
    type Mapped = Option<T::Mapped>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        if let Some(t) = self {
            t.visit(path, f);
        }
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Option<T::Mapped> {
        self.as_ref().map(|t| t.map(path, f))
    }
}

impl<T: Tree> Tree for BTreeMap<String, T> {
    type Mapped = BTreeMap<String, T::Mapped>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        for (name, t) in self {
            path.within(name, |path| t.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self::Mapped {
        self.iter().map(|(name, t)| (name.clone(), path.within(name, |path| t.map(path, f)))).collect()
    }
}

macro_rules! leafless {
    ($($ty:ty),*) => { $(
        impl Tree for $ty {
            type Mapped = Self;

            fn visit(&self, _: &mut Path, _: &mut dyn FnMut(&Path, &Tensor)) {}

            fn map(&self, _: &mut Path, _: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
                self.clone()
            }
        }
    )* };
}

leafless!((), bool, i32, i64, u32, u64, usize, f32, f64, String, crate::DType, crate::random::Key);

macro_rules! tuples {
    ($(($($T:ident $i:tt),+))*) => { $(
        impl<$($T: Tree),+> Tree for ($($T,)+) {
            type Mapped = ($($T::Mapped,)+);

            fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
                $(path.within_index($i, |path| self.$i.visit(path, f));)+
            }

            fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self::Mapped {
                ($(path.within_index($i, |path| self.$i.map(path, f)),)+)
            }
        }
    )* };
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

//! Structures of tensors: models, tuples, lists. Their leaves have path names such as `blocks[2].attn.q`.
//!
//! Every transformation takes and gives trees: gradients come in the structure of what they are by, a Jacobian in the structure
//! of the outputs with the structure of the inputs at each leaf. Path names reach dumps, states, files and errors.

use crate::tensor::Tensor;

mod containers;
mod named;
mod path;

pub use lehr_derive::Tree;
pub use named::Named;
pub use path::Path;
pub(crate) use path::join;

/// A structure with tensors at its leaves.
///
/// Implemented for tensors, references, `Box`, `Vec`, arrays, `Option`, tuples, maps (a `HashMap` in the order of its keys) and,
/// without leaves, for numbers and text; structs and enums derive it.
/// ```
/// use lehr::prelude::*;
/// #[derive(Tree)]
/// struct Layer { weight: Tensor, bias: Option<Tensor>, scale: f64 }
/// let layer = |name| Layer { weight: Tensor::variable(name, [1.0f32]), bias: None, scale: 2.0 };
/// assert_eq!(lehr::tree::names(&layer("w")), ["weight"]);
/// assert_eq!(lehr::tree::names(&vec![layer("a"), layer("b")]), ["[0].weight", "[1].weight"]);
/// ```
pub trait Tree {
    /// The same structure with owned tensors at its leaves: what gradients come in.
    type Mapped;

    /// The same structure with something else at its leaves: what Jacobians come in.
    ///
    /// A struct's fields are tensors, so derived structures have a list by path names in this place, [`Named`].
    type Each<L>;

    /// Calls `f` with each leaf in order.
    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor));

    /// The structure with each leaf replaced.
    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self::Mapped;

    /// The structure with something else in place of each leaf.
    fn each<L>(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> L) -> Self::Each<L>;
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
pub(crate) fn with_leaves<T: Tree + ?Sized>(tree: &T, leaves: Vec<Tensor>) -> T::Mapped {
    let mut leaves = leaves.into_iter();
    tree.map(&mut Path::new(), &mut |_, t| leaves.next().unwrap_or_else(|| t.clone()))
}

impl Tree for Tensor {
    type Mapped = Self;
    type Each<L> = L;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        f(path, self);
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Self {
        f(path, self)
    }

    fn each<L>(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> L) -> L {
        f(path, self)
    }
}

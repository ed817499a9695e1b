//! Layers one after another.

use crate::context::Context;
use crate::nn::{Dense, Dropout};
use crate::tensor::Tensor;
use crate::tree::{Named, Path, Tree};

/// One step of a [`Sequential`].
pub trait Layer: Send + Sync {
    /// The layer's output.
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor;

    /// Calls `f` with each weight, as [`Tree::visit`].
    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        let _ = (path, f);
    }
}

impl Layer for Dense {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

impl Layer for Dropout {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }
}

/// A function without weights, such as an activation: `Tensor::relu`.
impl<F: Fn(&Tensor) -> Tensor + Send + Sync> Layer for F {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        self(x)
    }
}

/// Layers one after another; weights are named by position, as `[0].weight`.
///
/// ```
/// use lehr::prelude::*;
/// let mut keys = Keys::new(0);
/// let model = nn::Sequential::new()
///     .with(Dense::new(64, 32, &mut keys))
///     .with(Tensor::relu)
///     .with(Dense::new(32, 10, &mut keys));
/// assert_eq!(lehr::tree::names(&model), ["[0].weight", "[0].bias", "[2].weight", "[2].bias"]);
/// ```
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Layer>>);

impl Sequential {
    /// No layers: the output is the input.
    pub fn new() -> Self {
        Self::default()
    }

    /// One layer more at the end.
    #[must_use]
    pub fn with(mut self, layer: impl Layer + 'static) -> Self {
        self.0.push(Box::new(layer));
        self
    }

    /// The output of the last layer.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        let mut x = x.clone();
        for layer in &self.0 {
            x = layer.forward(&x, cx);
        }
        x
    }
}

/// Visited only: layers behind `dyn` are not made anew with other weights, so mapping gives the leaves as a list.
impl Tree for Sequential {
    type Mapped = Vec<Tensor>;
    type Each<L> = Named<L>;

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        for (i, layer) in self.0.iter().enumerate() {
            path.within_index(i, |path| layer.visit(path, f));
        }
    }

    fn map(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> Tensor) -> Vec<Tensor> {
        let mut out = Vec::new();
        self.visit(path, &mut |path, t| out.push(f(path, t)));
        out
    }

    fn each<L>(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor) -> L) -> Named<L> {
        Named::of(self, path, f)
    }
}

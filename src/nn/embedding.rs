//! Vectors for integers.

use crate::context::Context;
use crate::init;
use crate::nn::Layer;
use crate::random::Keys;
use crate::tensor::Tensor;
use crate::tree::{Path, Tree};

/// A trained vector for each integer of a vocabulary.
///
/// # Shapes
/// `weight: [vocabulary, features]`; ids of any shape and integer dtype, the result `[ids…, features]`.
/// Ids below 0 count as 0, and those beyond the vocabulary as its last; with [`Options::check_indices`](crate::Options::check_indices)
/// they are an error of the call.
/// # Gradient
/// To the vectors that were looked up, added up where an id occurs again.
/// # Errors
/// Ids that are no integers.
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::Embedding;
/// let layer = Embedding::new(1000, 64, &mut Keys::new(0));
/// let y = layer.forward(&Tensor::input("ids", I64, ("batch", 128)), &mut Context::eval());
/// assert_eq!(y.ty()?.to_string(), "f32[batch, 128, 64]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Embedding {
    /// `[vocabulary, features]`.
    pub weight: Tensor,
}

impl Embedding {
    /// Vectors of normally distributed numbers with deviation 0.02, as in GPT-2.
    #[track_caller]
    pub fn new(vocabulary: usize, features: usize, keys: &mut Keys) -> Self {
        Self { weight: Tensor::variable("weight", init::normal(keys.next(), &[vocabulary, features], 0.0, 0.02)) }
    }

    /// The vectors of the ids.
    #[track_caller]
    pub fn forward(&self, ids: &Tensor, _: &mut Context) -> Tensor {
        if let Some(dtype) = ids.dtype().filter(|d| !d.is_integer()) {
            let rule = format!("ids must be integers, not {dtype}");
            let help = "convert them with cast, or give the rows' positions";
            return Tensor::refuse("embedding", &[&self.weight, ids], &rule, help, lehr_ir::Loc::caller());
        }
        self.weight.rows_nearest(ids)
    }

    /// The products of features with all vectors, `[…, vocabulary]`: a language model's output that shares its input's weights.
    ///
    /// # Source
    /// Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017.
    #[track_caller]
    pub fn attend(&self, x: &Tensor) -> Tensor {
        x.matmul(&self.weight.transpose())
    }
}

impl Layer for Embedding {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }

    fn visit(&self, path: &mut Path, f: &mut dyn FnMut(&Path, &Tensor)) {
        Tree::visit(self, path, f);
    }
}

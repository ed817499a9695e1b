//! Pooling layers.

use crate::context::Context;
use crate::nn::Layer;
use crate::tensor::{PerDim, PoolOptions, Tensor, avg_pool, max_pool};

/// The greatest element of each window: [`max_pool`] as a layer.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::MaxPool;
/// let x = Tensor::from([1.0f32, 5.0, 2.0, -1.0]).reshape((1, 4, 1));
/// assert_eq!(MaxPool::new(2).forward(&x, &mut Context::eval()).to_string(), "[[[5],[2]]]");
/// ```
#[derive(Clone, Debug)]
pub struct MaxPool {
    size: PerDim,
    options: PoolOptions,
}

impl MaxPool {
    /// Windows of this size, side by side.
    pub fn new(size: impl Into<PerDim>) -> Self {
        Self::with(size, PoolOptions::new())
    }

    /// Windows of this size, laid as the options say.
    pub fn with(size: impl Into<PerDim>, options: PoolOptions) -> Self {
        Self { size: size.into(), options }
    }

    /// See [`max_pool`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        max_pool(x, self.size.clone(), self.options.clone())
    }
}

/// The mean of each window: [`avg_pool`] as a layer.
///
/// ```
/// use lehr::prelude::*;
/// use lehr::nn::AvgPool;
/// let x = Tensor::from([1.0f32, 5.0, 2.0, -1.0]).reshape((1, 4, 1));
/// assert_eq!(AvgPool::new(2).forward(&x, &mut Context::eval()).to_string(), "[[[3],[0.5]]]");
/// ```
#[derive(Clone, Debug)]
pub struct AvgPool {
    size: PerDim,
    options: PoolOptions,
}

impl AvgPool {
    /// Windows of this size, side by side.
    pub fn new(size: impl Into<PerDim>) -> Self {
        Self::with(size, PoolOptions::new())
    }

    /// Windows of this size, laid as the options say.
    pub fn with(size: impl Into<PerDim>, options: PoolOptions) -> Self {
        Self { size: size.into(), options }
    }

    /// See [`avg_pool`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, _: &mut Context) -> Tensor {
        avg_pool(x, self.size.clone(), self.options.clone())
    }
}

impl Layer for MaxPool {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }
}

impl Layer for AvgPool {
    #[track_caller]
    fn forward(&self, x: &Tensor, cx: &mut Context) -> Tensor {
        Self::forward(self, x, cx)
    }
}

//! Models that many programs start from, written with the layers of [`nn`](crate::nn).

mod resnet;

pub use resnet::{ResNet, Residual};

//! Models that many programs start from, written with the layers of [`nn`](crate::nn).

mod gpt;
mod resnet;

pub use gpt::{Gpt, GptBlock, GptConfig};
pub use resnet::{ResNet, Residual};

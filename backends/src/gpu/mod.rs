//! The GPU backend: kernels as text in the WebGPU Shading Language.
//!
//! Text only for now: nothing here talks to a device. [`wgsl::print`] turns any verified kernel within its dtypes into one shader module.

pub mod attend;
pub mod contract;
pub mod dispatch;
#[cfg(test)]
mod harness;
pub mod wgsl;

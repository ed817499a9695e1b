//! Consumers of a plan. Each turns kernels into something that runs; none knows a tensor operation or a pass.
//!
//! - [`cpu`] (feature `cpu`): native code through Cranelift, a thread pool, and an own matrix product.
//! - [`gpu`] (feature `gpu`): WGSL, run by wgpu on a device.
#![deny(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(any(feature = "cpu", feature = "gpu"))]
pub mod folder;
#[cfg(feature = "gpu")]
pub mod gpu;

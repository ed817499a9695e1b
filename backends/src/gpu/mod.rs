//! The GPU backend: kernels as text in the WebGPU Shading Language, and plans run by wgpu.
//!
//! A [`Program`] is a plan whose steps have become dispatches of compiled shaders ([`step`] says how each runs), immutable and
//! shared. An [`Instance`] is what one caller needs to run it: buffers, and for each set of sizes met so far the plan's steps with
//! all numbers worked out. A call records commands and submits them in chunks; it waits only for what the host reads.
//! Variables stay on the device from call to call, as [`Resident`] arrays.
//!
//! Each slot of the memory plan is a buffer of its own, because devices track use by whole buffers: what is read and what is
//! written by one dispatch are never the same buffer, except where one operand is both.

pub mod adapter;
pub mod attend;
mod bench;
mod bound;
mod clock;
pub mod contract;
mod cooperative;
pub mod device;
pub mod dispatch;
pub mod error;
#[cfg(test)]
mod harness;
mod host;
mod instance;
mod keep;
pub mod layout;
mod memory;
mod pipeline;
mod pipeline_cache;
pub mod program;
mod record;
mod run;
pub mod step;
#[cfg(test)]
mod tests;
mod tune;
pub mod vendor;
pub mod wgsl;

pub use adapter::{AdapterFacts, adapters};
pub use clock::Spent;
pub use device::Device;
pub use error::GpuError;
pub use instance::{Arg, Instance};
pub use keep::Keep;
pub use memory::Resident;
pub use program::{Products, Program};
pub use record::Recorded;

//! The CPU backend: runs plans by native code.
//!
//! A [`Program`] is a plan with its compiled kernels, immutable and shared. An [`Instance`] is what one thread needs to run it:
//! memory for temporaries, and for each set of sizes met so far the plan's steps with all numbers worked out.
//! So a steady call looks up its sizes, fills in the caller's pointers and walks a list; it allocates nothing.
//!
//! `unsafe` stands in `code` (calling and freeing code), `run` (raw buffers), `pages` (advice to the system), `widest` (code for what the processor has), `pool`, `contract` and
//! `attend` (threads, packing, SIMD).

#[expect(unsafe_code, reason = "SIMD kernels over raw buffers")]
pub mod attend;
pub mod cache;
pub mod code;
#[expect(unsafe_code, reason = "SIMD kernels and packing over raw buffers")]
pub mod contract;
pub mod emit;
pub mod isa;
mod memory;
mod pages;
mod patience;
#[expect(unsafe_code, reason = "jobs shared between threads without a copy")]
pub mod pool;
mod prepack;
pub mod program;
mod run;
pub mod table;
pub mod wide;
mod widest;

pub use cache::{Cache, CacheError};
pub use code::{CompileError, Compiler, Options};
pub use pages::prefer_huge_pages;
pub use pool::Pool;
pub use program::{Instance, Program, RunError};
pub use widest::{Loops, with_widest_vectors};

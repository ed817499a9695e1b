//! Control flow: loops and branches whose bodies are closures over tensors.
//!
//! A body is traced once into a region of the graph, with placeholders for what changes. Tensors that it captures come in from
//! around it: a loop computes once what does not depend on an iteration. Loops compile to loops: ten thousand iterations compile
//! as fast as ten.
//!
//! ```
//! use lehr::prelude::*;
//! use lehr::control::scan;
//! // Running totals of a sequence.
//! let xs = Tensor::from([1.0f32, 2.0, 3.0]);
//! let (total, sums) = scan(&Tensor::from(0.0f32), &xs, |sum, x| {
//!     let sum = sum + x;
//!     (sum.clone(), sum)
//! });
//! assert_eq!(total.to_string(), "6");
//! assert_eq!(sums.to_string(), "[1,3,6]");
//! ```

mod associative_scan;
mod branch;
mod scan;
pub(crate) mod trace;
mod while_loop;

pub use associative_scan::associative_scan;
pub use branch::{cond, switch};
pub use scan::{ScanOptions, map, scan, scan_with};
pub use while_loop::{Bound, fori_loop, while_loop};

//! Everything between a user's graph and a backend: graph passes, derivatives and batching, lowering to a plan, plan passes.
//!
//! A pass maps a stage to itself ([`pass::Pass`]); [`driver::run_passes`] runs a list of them, [`pipeline`] holds the lists.
//! [`derivative`] and [`batch`] run when a user asks for them, not in the pipeline.
#![forbid(unsafe_code)]

pub mod batch;
pub mod compile;
pub mod derivative;
pub mod driver;
pub mod eliminate_common;
pub mod eliminate_dead;
pub mod expand_attention;
pub mod find_attention;
pub mod fold_constants;
pub mod fuse;
pub mod inline_calls;
pub mod legalize_convolution;
pub mod lower;
pub mod pass;
pub mod pipeline;
pub mod plan_memory;
pub mod prune_regions;
mod rebuild;
pub mod rematerialize;
pub mod simplify;
pub mod split_windows;
mod views;
pub mod widen_products;

pub use pass::{Outcome, Pass, PassCx, PassError, PassOptions, PassRecord, Stage};

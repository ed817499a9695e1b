//! The language of lehr: types, symbolic dims, the graph and its operations, the evaluator, kernel IR and plans.
//!
//! This crate knows no pass and no device. See `ARCHITECTURE.md` for the map.
#![deny(unsafe_code)]

pub mod array;
pub mod attrs;
pub mod bindings;
pub mod dim;
pub mod dtype;
pub mod error;
pub mod eval;
pub mod expr;
pub mod facts;
pub mod graph;
pub mod kernel;
pub mod literal;
pub mod loc;
pub mod narrow;
pub mod ops;
pub mod plan;
pub mod target;
pub mod ty;

/// A hash of this crate's sources: what is computed by other sources may be other.
pub const SOURCES: &str = env!("LEHR_IR_SOURCES");

pub use array::{Array, Data, Element};
pub use dim::Dim;
pub use dtype::{DType, Kind};
pub use error::{OpError, Rule};
pub use facts::Facts;
pub use graph::{Builder, Graph};
pub use literal::Literal;
pub use loc::Loc;
pub use ops::Op;
pub use plan::Plan;
pub use target::Target;
pub use ty::{Shape, Type};

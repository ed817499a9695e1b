//! What every kernel must satisfy.
//!
//! # Invariants
//! Text:
//! 1. Names are words that the parser reads; buffers and tiles have distinct names, sizes too; an axis is named neither like a
//!    size nor like an axis around it.
//! 2. Blocks nest at most [`MAX_DEPTH`] deep; lists and statements number at most [`MAX_COUNT`]; tiles take at most
//!    [`MAX_TILE_BYTES`] together.
//!
//! Types:
//!
//! 3. No dtype is complex: complex arithmetic is written with its parts, or stays in library calls.
//! 4. An operation has the name that reads back as itself: `sqrt` is the operation, not the function.
//!    Each variable is defined once, has the dtype that its definition gives ([`ScalarOp::result`]), and is used where it is visible.
//! 5. A symbol in an index or a guard is a size, an axis around it, or a visible `i64` variable; in an extent a size or an outer
//!    axis; in a buffer's length a size. No index expression is faulty.
//! 6. Loads and stores have the dtype of their memory. A load has `else` exactly if it has a guard. An `if` has a guard.
//!
//! Loops:
//!
//! 7. The outermost loop is parallel and no other is.
//! 8. Exactly the reduce loops have reductions; their lanes are a power of two, at most [`MAX_LANES`].
//! 9. A reduction folds variables that the block of its own loop defines, of dtypes that its combiner takes.
//! 10. No extent is provably negative.
//!
//! Memory:
//!
//! 11. `read` buffers are not stored to. Tiles and `write` buffers are loaded only where a store comes before, in text order or in an
//!     earlier iteration of a serial loop.
//! 12. No index that is evaluated without a condition (no guard, no `if` around) is provably outside of its memory.
//! 13. Iterations of a parallel, lane or reduce loop do not store to one place: the index of a store without a condition mentions
//!     the axis, or a variable defined under it, unless the loop provably runs at most once; and where its strides on two axes
//!     are constant, they do not meet.
//!
//! 10, 12 and 13 are errors only where they are proved to fail; the interpreter finds the rest of 10 and 12 at run time.
//! What two iterations store through computed indices, and whether one loads what another stores, is the author's word.

mod bounds;
mod races;
mod structure;

use std::fmt;

use super::print::{self, Site};
use super::{AxisKind, Combiner, Kernel, Memory, ScalarOp, Var};
use crate::dim::Symbol;
use crate::dtype::DType;
use crate::facts::Facts;

pub use super::parse::{MAX_COUNT, MAX_DEPTH};
pub(in crate::kernel) use structure::check as check_structure;

/// The most virtual lanes of a reduce loop.
pub const MAX_LANES: u32 = 1024;
/// The most bytes that the tiles of a kernel take together.
pub const MAX_TILE_BYTES: u64 = 1 << 24;

/// A kernel that satisfies the invariants; emitters take nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'k>(&'k Kernel);

impl<'k> Verified<'k> {
    /// The kernel.
    pub fn kernel(self) -> &'k Kernel {
        self.0
    }
}

impl std::ops::Deref for Verified<'_> {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.0
    }
}

/// Checks the invariants, given what is known of the kernel's sizes.
///
/// # Errors
/// Every violation found, in text order; bounds and races are looked for only where the structure is sound.
pub fn verify<'k>(kernel: &'k Kernel, facts: &Facts) -> Result<Verified<'k>, Vec<VerifyError>> {
    let mut errors = structure::check(kernel);
    if errors.is_empty() {
        errors.extend(bounds::check(kernel, facts));
        errors.extend(races::check(kernel, facts));
        errors.sort_by_key(|e| e.site);
    }
    if errors.is_empty() { Ok(Verified(kernel)) } else { Err(errors) }
}

/// The kernel with the messages under the lines they are about.
pub fn report(kernel: &Kernel, errors: &[VerifyError]) -> String {
    print::annotated(kernel, errors.iter().map(|e| (e.site, &e.fault as &dyn fmt::Display)))
}

/// An invariant that a kernel breaks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct VerifyError {
    /// The line.
    pub site: Site,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line of a kernel.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A name that the parser would not read.
    #[error("`{0}` is no name")]
    Name(String),
    /// One name for two things.
    #[error("the name `{0}` is taken")]
    DuplicateName(String),
    /// A list or the number of statements.
    #[error("more than {MAX_COUNT} of one kind")]
    TooMany,
    /// Nesting.
    #[error("blocks are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Tiles are meant for fast memory.
    #[error("tiles take {0} bytes; at most {MAX_TILE_BYTES} are allowed")]
    TileBytes(u64),
    /// A complex dtype.
    #[error("{0} has no scalar operations")]
    Complex(DType),
    /// An index expression without a representable form.
    #[error("faulty index expression: {0}")]
    Dim(crate::dim::Fault),
    /// A symbol of an index expression.
    #[error("`{0}` is not a size, an axis around this line or an `i64` variable")]
    UnknownSymbol(Symbol),
    /// A variable in an index expression.
    #[error("{0} is {1}; an index takes i64")]
    IndexType(Var, DType),
    /// A use out of scope or before the definition.
    #[error("{0} is not visible here")]
    NotVisible(Var),
    /// A variable without dtype.
    #[error("{0} has no dtype: the kernel's list of variables is shorter")]
    NotDeclared(Var),
    /// A variable with a dtype but no definition.
    #[error("{0} is never defined")]
    NeverDefined(Var),
    /// A second definition.
    #[error("{0} is defined twice")]
    Redefined(Var),
    /// A dtype other than the declared one.
    #[error("{var} is declared {declared} and defined as {found}")]
    DeclaredType {
        /// The variable.
        var: Var,
        /// The dtype in the list of variables.
        declared: DType,
        /// What the definition gives.
        found: DType,
    },
    /// Operands that an operation does not take.
    #[error("{0} does not take {1:?}")]
    Operands(ScalarOp, Vec<DType>),
    /// A call whose name is that of a machine operation.
    #[error("`{0}` is an operation, not a call")]
    OtherOp(String),
    /// A buffer or tile that is not there.
    #[error("{0:?} does not exist")]
    NoMemory(Memory),
    /// A value of another dtype than its memory.
    #[error("the value is {got}, the memory {want}")]
    MemoryType {
        /// The memory's dtype.
        want: DType,
        /// The value's dtype.
        got: DType,
    },
    /// A guarded load without a value for the other case, or the reverse.
    #[error("a load has `else` exactly if it has a guard")]
    GuardWithoutOther,
    /// An `if` without conditions.
    #[error("`if` without a condition")]
    EmptyIf,
    /// The outermost loop.
    #[error("the outermost loop must be parallel")]
    RootNotParallel,
    /// Another parallel loop.
    #[error("only the outermost loop is parallel")]
    InnerParallel,
    /// A number of virtual lanes.
    #[error("{0} virtual lanes; a power of two up to {MAX_LANES} is needed")]
    Lanes(u32),
    /// A reduce loop without reductions.
    #[error("a reduce loop needs a reduction")]
    NothingReduced,
    /// Reductions on another loop.
    #[error("a {0} loop has no reductions")]
    ReductionOutside(AxisKind),
    /// A number of values or results.
    #[error("{} takes {} value(s) and gives as many results", .0.name(), .0.arity())]
    ReductionArity(Combiner),
    /// Dtypes that a combiner does not fold.
    #[error("{} does not fold {dtypes:?}", .combiner.name())]
    ReductionTypes {
        /// The combiner.
        combiner: Combiner,
        /// The dtypes it was given.
        dtypes: Vec<DType>,
    },
    /// A reduced variable that another block defines.
    #[error("{0} is not defined in the block of this loop")]
    ReducedOutside(Var),
    /// A store to a buffer that is only read.
    #[error("`{0}` is only read")]
    StoreToRead(String),
    /// A load of what nobody stored.
    #[error("`{0}` is loaded before anything is stored to it")]
    LoadBeforeStore(String),
    /// A negative extent.
    #[error("the extent {0} is negative")]
    NegativeExtent(crate::dim::Dim),
    /// An index out of bounds.
    #[error("the index reaches {reaches}, outside of 0..{len}")]
    OutOfBounds {
        /// A value that the index takes.
        reaches: crate::dim::Dim,
        /// The length of the memory.
        len: crate::dim::Dim,
    },
    /// Iterations that store to one place.
    #[error("iterations of the {kind} axis {axis} store to one place")]
    Race {
        /// The kind of the loop.
        kind: AxisKind,
        /// Its axis.
        axis: Symbol,
    },
}

#[cfg(test)]
mod tests;

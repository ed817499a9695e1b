//! What a step of a plan asks of a device: shaders, what is bound to them, and how many workgroups run.

use std::sync::Arc;

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::{Dim, DimError};
use lehr_ir::kernel::Access;
use lehr_ir::plan::BufferId;
use smallvec::SmallVec;

/// The most workgroups in one dimension of a grid.
pub const MAX_GROUPS: u64 = 65_535;

/// One dispatch of one shader.
///
/// The module's entry point is `main`. In group 0, the parameter block is a uniform at binding 0, operand `i` a storage buffer at
/// binding `i + 1`. Nothing in the text depends on the value of a symbol, so that a new size compiles nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispatch {
    /// The module. Equal texts are one pipeline.
    pub text: Arc<str>,
    /// What is bound, in order. No buffer comes twice.
    pub operands: SmallVec<[Operand; 6]>,
    /// The parameter block's 32-bit words, each an `i32` over symbols.
    pub words: Vec<Dim>,
    /// How many workgroups run.
    pub groups: Dim,
}

/// A buffer of a dispatch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operand {
    /// Which.
    pub buffer: Bound,
    /// What the shader does with it.
    pub access: Access,
}

/// What an operand is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Bound {
    /// A buffer of the plan.
    Plan(BufferId),
    /// Memory for this step alone, by position, so many bytes: partial results.
    Scratch(u32, Dim),
}

/// A grid `[x, y]` of at least so many workgroups, and of as few as that allows; shaders count `y * x_groups + x` and leave where that
/// is too much. `None` where the numbers would leave the range of index values.
pub fn grid(groups: u64) -> Option<[u32; 2]> {
    let (x, y) = (groups.min(MAX_GROUPS), groups.div_ceil(MAX_GROUPS));
    i32::try_from(x.checked_mul(y)?).ok()?;
    Some([u32::try_from(x).ok()?, u32::try_from(y).ok()?])
}

impl Dispatch {
    /// The parameter block for some sizes.
    ///
    /// # Errors
    /// Sizes that cannot be evaluated. A word that is no `i32` is `None`.
    pub fn block(&self, bindings: &Bindings) -> Result<Option<Vec<i32>>, DimError> {
        let words = self.words.iter().map(|w| Ok(i32::try_from(bindings.eval(w)?).ok()));
        words.collect()
    }
}

//! How an operation becomes a step of a plan: what a story tells the fuser and the lowering.

use crate::dim::Dim;
use crate::graph::Region;
use crate::kernel::{Combiner, Guard, ScalarOp, Var};
use crate::literal::Literal;

use super::{Case, Convolution, DotDims, Scan, Scatter, While};

/// The kind of step that an operation becomes.
#[derive(Clone, Copy, Debug)]
pub enum Lowering<'a> {
    /// Each element of the result is a scalar expression of elements of the operands ([`super::Operation::emit`]).
    Map {
        /// How elements are addressed.
        access: Access,
    },
    /// A fold of the operand over axes; for the arg combiners, of the operand and the position along the one axis.
    Reduce {
        /// How two partial results combine.
        combiner: Combiner,
        /// The axes folded, ascending.
        axes: &'a [usize],
    },
    /// A contraction, for the backend's matrix product.
    Contract(&'a DotDims),
    /// A convolution: sums of products over windows.
    Convolve(&'a Convolution),
    /// An attention or its gradient, for the backend's tiles of scores.
    Attend,
    /// A scatter: a copy of the operand, then updates in order.
    Scatter(&'a Scatter),
    /// A region, put in place before fusion.
    Inline(&'a Region),
    /// A loop over rows: the body becomes a plan of its own, which a step repeats.
    Scan(&'a Scan),
    /// A loop on a condition: both regions become plans of their own.
    While(&'a While),
    /// A choice: each branch becomes a plan of its own.
    Case(&'a Case),
    /// No lowering: the evaluator's semantics run on the host.
    Host,
}

/// How a map addresses its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Every operand at the result's own index.
    Elementwise,
    /// The one operand at an affine function of the result's index, with no arithmetic: it can be read through.
    View,
    /// Anything else: guards, several places, indices from data.
    General,
}

/// Where a map operation writes the scalar expression of one element.
pub trait MapEmitter {
    /// Operand `i` at an index.
    fn operand(&mut self, i: usize, index: &[Dim]) -> Var;
    /// Operand `i` at an index where the guard holds, `other` elsewhere.
    fn operand_if(&mut self, i: usize, index: &[Dim], guard: Guard, other: Var) -> Var;
    /// A scalar operation.
    fn apply(&mut self, op: ScalarOp, args: &[Var]) -> Var;
    /// The dtype of a variable.
    fn dtype(&self, v: Var) -> crate::DType;
    /// A literal.
    fn literal(&mut self, value: Literal) -> Var;
    /// The value of an index expression, as `i64`.
    fn index_value(&mut self, index: &Dim) -> Var;
    /// An `i64` variable, clamped into `0..extent`, for use in index expressions.
    fn index_of(&mut self, var: Var, extent: &Dim) -> Dim;
    /// An `i64` variable for use in index expressions, as it is; the caller guards it.
    fn index_raw(&mut self, var: Var) -> Dim;
    /// How many operands there are.
    fn operand_count(&self) -> usize;
    /// The shape of operand `i`.
    fn operand_shape(&self, i: usize) -> Vec<Dim>;
    /// The dtype of operand `i`.
    fn operand_dtype(&self, i: usize) -> crate::DType;
    /// The element at a row-major position of a constant array operation's own value.
    fn table(&mut self, value: &crate::array::Array, index: &[Dim]) -> Var;
    /// Records that an operation that is no map was asked for one, and gives a placeholder.
    fn unsupported(&mut self, op: &str) -> Var;
}

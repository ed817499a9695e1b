//! Contractions as dispatches.
//!
//! Rows of the left operand meet columns of the right one in one of these forms, chosen from shapes alone or by measuring
//! ([`choice`]):
//!
//! - [`tiled`]: a workgroup makes a tile of the result, and keeps the sums in registers.
//! - [`few`]: one side has at most [`few::MOST`] vectors, so that each element of the other is used hardly more than once.
//! - [`cooperative`]: the same tiles as matrices that subgroups hold and multiply together, of `f16` or rounded to it, where a device
//!   has them.
//! - Any with its sum in several parts, where the result is too small to occupy a device: parts are written to scratch memory, and
//!   a second dispatch adds them, always in the same order ([`parts`]).
//!
//! An epilogue is a function of the same dispatch that gets each sum ([`epilogue`]); where it cannot be, it is a launch of its own.
//!
//! An index of several digits becomes a function of the module, an index of one digit a product. Strides and sizes that are
//! constants stand in the text, the others in the parameter block, and so do offsets.
//! Operands of half precision are read as they lie and summed in `f32`; the sum is rounded once ([`element`]).
//! Whatever lies beyond an operand's edges counts as 0 on both sides, so that nothing is multiplied with it.
//! Buffers have at least 16 bytes: what an index beyond an edge reads instead is the first element.

use std::sync::Arc;

use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::Kernel;
use lehr_ir::plan::{Contract, Digits, Matrix};

use super::dispatch::{Bound, Dispatch};
use super::wgsl::{self, WgslError, WgslTarget};

pub(in crate::gpu) mod address;
pub mod choice;
mod cooperative;
pub(in crate::gpu) mod element;
mod epilogue;
pub(in crate::gpu) mod fetch;
mod few;
mod grid;
mod output;
pub(in crate::gpu) mod panel;
mod parts;
#[cfg(test)]
mod tests;
pub(in crate::gpu) mod tiled;

use choice::{Choice, Form};
use element::Element;
use epilogue::Finish;
use output::Output;

/// The shaders that run a contraction, in order.
///
/// Without a choice, the shape decides.
///
/// # Errors
/// [`WgslError`] for a dtype that the target does not have, and for what exceeds it.
pub fn dispatches(
    contract: &Contract,
    kernels: &[Arc<Kernel>],
    choice: Option<Choice>,
    target: &WgslTarget,
) -> Result<Vec<Dispatch>, WgslError> {
    let element = Element::of(contract.dtype, target)?;
    if [&contract.batch, &contract.m, &contract.n].iter().any(|d| d.is_zero()) {
        return Ok(Vec::new());
    }
    let product = Product::of(contract, element);
    if let Some(finish) = Finish::of(contract, kernels, target) {
        match whole(&product, Some(finish), choice, target) {
            // What exceeds a dispatch together may be within its limits one by one.
            Err(WgslError::Limit { .. }) => {}
            result => return result,
        }
    }
    let mut all = whole(&product, None, choice, target)?;
    if let Some(e) = &contract.epilogue {
        let kernel = kernels.get(e.kernel as usize).ok_or(WgslError::Invalid("a kernel that does not exist"))?;
        let rows = &contract.batch * &contract.m;
        all.push(wgsl::launch(kernel, &e.buffers, &e.sizes, &rows, target)?);
    }
    Ok(all)
}

/// The dispatches of a product that ends with what finishes its sums.
fn whole(
    product: &Product<'_>,
    finish: Option<Finish<'_>>,
    choice: Option<Choice>,
    target: &WgslTarget,
) -> Result<Vec<Dispatch>, WgslError> {
    let choice = choice.unwrap_or_else(|| Choice::of(product, target));
    let parts = choice.cut(product);
    let output = Output { product, parts, finish };
    let main = match choice.form {
        Form::Few(form) => few::dispatch(product, &form, &output, target)?,
        Form::Cooperative(shape) => cooperative::by(shape, product, &output, target)?,
        Form::Tiles(tiling) => tiled::by(tiling, product, &output, target)?,
    };
    let mut all = vec![main];
    if let Some(parts) = parts {
        all.push(parts::add(product, parts, finish, target)?);
    }
    Ok(all)
}

/// A contraction as its dispatches see it: of two sides that are alike.
struct Product<'c> {
    dtype: DType,
    element: Element,
    batch: &'c Dim,
    /// The length of the sum.
    sum: &'c Dim,
    left: Side<'c>,
    right: Side<'c>,
    out: &'c Matrix,
}

/// An operand, and one index of the result.
#[derive(Clone, Copy)]
pub(in crate::gpu) struct Side<'c> {
    /// How text calls it: `left` or `right` in products.
    pub(in crate::gpu) name: &'static str,
    /// What text calls a vector.
    pub(in crate::gpu) vector: &'static str,
    pub(in crate::gpu) matrix: &'c Matrix,
    /// How many vectors: the rows of the left operand, the columns of the right one.
    pub(in crate::gpu) count: &'c Dim,
    /// How the operand's index of vectors moves.
    pub(in crate::gpu) vectors: &'c Digits,
    /// How the operand's index of the sum moves.
    pub(in crate::gpu) sum: &'c Digits,
    /// How the result's index of vectors moves.
    pub(in crate::gpu) out: &'c Digits,
}

impl<'c> Product<'c> {
    fn of(c: &'c Contract, element: Element) -> Self {
        let a = |name, vector| Side {
            name,
            vector,
            matrix: &c.a,
            count: &c.m,
            vectors: &c.a.row,
            sum: &c.a.column,
            out: &c.c.row,
        };
        let b = |name, vector| Side {
            name,
            vector,
            matrix: &c.b,
            count: &c.n,
            vectors: &c.b.column,
            sum: &c.b.row,
            out: &c.c.column,
        };
        // Neighbours in the result are neighbours among the invocations, so columns are what the result has close together:
        // where that is its rows, the product is computed transposed.
        let turned = c.epilogue.is_none() && address::is_close(&c.c.row) && !address::is_close(&c.c.column);
        let (left, right) =
            if turned { (b("left", "row"), a("right", "column")) } else { (a("left", "row"), b("right", "column")) };
        Self { dtype: c.dtype, element, batch: &c.batch, sum: &c.k, left, right, out: &c.c }
    }

    /// The number of vectors on the side that has fewer, as far as they are known.
    fn least(&self) -> Option<i64> {
        [&self.left, &self.right].into_iter().filter_map(|s| s.count.as_const()).min()
    }

    /// The lines at the top of its modules.
    fn title(&self) -> String {
        let (left, right) = (&self.left, &self.right);
        let batch = if self.batch.is_one() { String::new() } else { format!("{} times ", self.batch) };
        format!("Product of matrices, {batch}[{}, {}] by [{}, {}].", left.count, self.sum, self.sum, right.count)
    }
}

impl Side<'_> {
    fn bound(&self) -> Bound {
        Bound::Plan(self.matrix.buffer)
    }
}

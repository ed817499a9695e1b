//! Sums in several parts, for results too small to occupy a device.

use lehr_ir::dim::Dim;
use lehr_ir::kernel::Access;

use super::Product;
use super::epilogue::Finish;
use super::output::Output;
use crate::gpu::dispatch::{Bound, Dispatch};
use crate::gpu::wgsl::source::Source;
use crate::gpu::wgsl::{WgslError, WgslTarget};

/// As many workgroups as are ever tried.
const GROUPS: i64 = 4096;
/// The fewest terms of a part.
const TERMS: i64 = 256;
/// The most parts.
const MOST: i64 = 64;
/// The invocations of a workgroup that adds parts.
const ADDERS: u32 = 64;

/// How a sum is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parts {
    /// How many parts there are.
    pub(super) count: i64,
    /// The terms of each but the last.
    pub(super) terms: i64,
}

impl Parts {
    /// The bytes of all parts.
    pub(super) fn bytes(self, product: &Product<'_>) -> Dim {
        &results(product) * (self.count * product.element.bytes as i64)
    }
}

/// In how many parts the sum of a product is cut if nothing was measured, for a form with so many workgroups where `enough` occupy a
/// device: by its shape alone, and only if all of that is known.
pub(super) fn count(product: &Product<'_>, groups: &Dim, enough: i64) -> i64 {
    let (Some(sum), Some(groups)) = (product.sum.as_const(), groups.as_const().filter(|g| *g > 0)) else { return 1 };
    (enough / groups).min(sum / TERMS).clamp(1, MOST)
}

/// How the sum of a product is cut into about so many parts, if it is.
pub(super) fn cut(product: &Product<'_>, parts: i64) -> Option<Parts> {
    let sum = product.sum.as_const().filter(|_| parts > 1)?;
    // Whole steps of any form.
    let terms = (sum.checked_add(parts - 1)? / parts).checked_add(TERMS - 1)? / TERMS * TERMS;
    let count = sum.checked_add(terms - 1)?.checked_div(terms)?;
    (count > 1).then_some(Parts { count, terms })
}

/// The numbers of parts that are worth measuring for a form with so many workgroups.
pub(super) fn counts(product: &Product<'_>, groups: &Dim) -> impl Iterator<Item = i64> {
    let (sum, groups) = (product.sum.as_const().unwrap_or(0), groups.as_const().unwrap_or(i64::MAX));
    let useful = move |parts: i64| sum / parts >= TERMS && groups.saturating_mul(parts) <= GROUPS;
    [1, 2, 4, 8, 16, 32].into_iter().filter(move |&parts| parts == 1 || useful(parts))
}

/// The dispatch that adds the parts, in order, each element by an invocation of its own.
pub(super) fn add(
    product: &Product<'_>,
    parts: Parts,
    finish: Option<Finish<'_>>,
    target: &WgslTarget,
) -> Result<Dispatch, WgslError> {
    let Product { element, left, right, .. } = product;
    let mut source = Source::new([
        product.title(),
        format!("The {} parts of its sums, of {} terms each, are added in order.", parts.count, parts.terms),
    ]);
    let total = results(product);
    let all = source.number("results", &total)?;
    let (rows, columns) = (source.number("rows", left.count)?, source.number("columns", right.count)?);
    let ty = element.name;
    let partial = source.bind("partial", Bound::Scratch(0, parts.bytes(product)), Access::Read, ty);
    let output = Output { product, parts: None, finish };
    let base = output.define(&mut source, false)?;
    let groups = total.ceildiv(i64::from(ADDERS));
    let number = source.number("groups", &groups)?;
    source.begin(&number);
    source.line(format!("let i = linear * {ADDERS} + lane;"));
    source.open(format!("if (i >= {all}) {{"));
    source.line("return;");
    source.close("}");
    source.line(format!("var sum = {ty}(0);"));
    source.open(format!("for (var part = 0; part < {}; part++) {{", parts.count));
    source.line(format!("sum += {partial}[part * {all} + i];"));
    source.close("}");
    source.line(format!("let column = i % {columns};"));
    source.line(format!("let row = i / {columns} % {rows};"));
    source.line(format!("let batch = i / ({columns} * {rows});"));
    base.iter().for_each(|line| source.line(line));
    for line in output.element(&mut source, "row", "column", "sum")? {
        source.line(line);
    }
    source.dispatch(ADDERS, groups, target)
}

fn results(product: &Product<'_>) -> Dim {
    &(product.batch * product.left.count) * product.right.count
}

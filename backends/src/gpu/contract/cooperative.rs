//! Products by cooperative matrices: tiles whose sums the subgroups of a workgroup hold, and add to by instructions for matrices.
//!
//! Operands pass through workgroup memory as in [`tiled`](super::tiled), but there they are `f16`: those that are so anyway lose
//! nothing, those in `f32` are rounded. Products of two `f16` are exact in `f32`, and sums are in `f32`. From workgroup memory each
//! subgroup loads the matrices of its own part of the tile, and through it sums go out, one matrix a subgroup at a time, so that any
//! strides, edges and epilogues are those of the other forms.
//!
//! How many subgroups a workgroup has is left to the device. As many have a part of the tile as there are where subgroups have their
//! greatest size; where there are more, those beyond compute what others do, and nobody reads it. Instructions for matrices
//! need all invocations of a subgroup, so none stands under a condition that differs within a workgroup.

use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;

use super::output::Output;
use super::panel::{self, plus};
use super::{Product, grid};
use crate::gpu::dispatch::Dispatch;
use crate::gpu::vendor::Defaults;
use crate::gpu::wgsl::source::Source;
use crate::gpu::wgsl::{WgslError, WgslTarget, limit};

/// The most matrices of sums that a subgroup holds: they lie in its registers.
const MOST_SUMS: i64 = 16;
/// Elements of `f16` beyond a tile's vectors from one term to the next: what is loaded together then lies in different banks, and
/// begins at multiples of 16 bytes, as loads of matrices want it.
const PADDING: i64 = 8;

/// The shape of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// Rows and columns of a workgroup's tile.
    pub(super) size: i64,
    /// Invocations of a workgroup.
    pub(super) invocations: i64,
    /// Terms that pass through workgroup memory at once.
    pub(super) depth: i64,
}

/// How the subgroups of a workgroup share a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Split {
    /// Rows and columns of a matrix.
    matrix: i64,
    /// How many parts there are, one below another and side by side.
    parts: [i64; 2],
    /// Rows and columns of matrices in a part.
    sums: [i64; 2],
    /// The most subgroups that a workgroup may have.
    most: i64,
}

impl Shape {
    const SMALL: Self = Self { size: 32, invocations: 64, depth: 32 };
    const MIDDLE: Self = Self { size: 64, invocations: 128, depth: 32 };
    const LARGE: Self = Self { size: 128, invocations: 256, depth: 32 };
    /// The shapes that are worth measuring.
    pub(super) const ALL: [Self; 5] = [
        Self::MIDDLE,
        Self::LARGE,
        Self::SMALL,
        Self { size: 128, invocations: 256, depth: 16 },
        Self { size: 64, invocations: 128, depth: 16 },
    ];

    /// The tile for a shape: the largest that gives enough workgroups, where cooperative matrices are the first choice. They are not
    /// where the size of subgroups is open, so that some may be idle.
    pub(super) fn of(product: &Product<'_>, target: &WgslTarget) -> Option<Self> {
        target.subgroups.filter(|s| s.least == s.most)?;
        let enough = Defaults::of(target.vendor).groups;
        let fits = |shape: &Self, groups: i64| {
            let many = shape.groups(product).as_const().is_none_or(|count| count >= groups);
            many && product.least().is_none_or(|least| least > shape.size / 2)
        };
        let mut all = Self::all(product, target).filter(|s| s.depth == Self::SMALL.depth).collect::<Vec<_>>();
        all.sort_by_key(|s| -s.size);
        let smallest = all.pop()?;
        // Symbolic sizes count as large, but not as the largest.
        let known = smallest.groups(product).as_const().is_some();
        let of = |s: &Self| fits(s, if s.size == Self::LARGE.size { enough } else { enough / 2 });
        Some(all.into_iter().find(|s| of(s) && (known || s.size < Self::LARGE.size)).unwrap_or(smallest))
    }

    /// The shapes that are worth measuring for a product, if its target multiplies it so.
    pub(super) fn all(product: &Product<'_>, target: &WgslTarget) -> impl Iterator<Item = Self> {
        let takes = target.cooperative.is_some_and(|c| c.takes(product.dtype));
        let (target, least) = (*target, product.least());
        Self::ALL.into_iter().filter(move |s| {
            let fits = s.size == Self::SMALL.size || least.is_none_or(|least| least > s.size / 2);
            takes && fits && s.runs(&target)
        })
    }

    /// The workgroups of a product whose sums are whole.
    pub(super) fn groups(self, product: &Product<'_>) -> Dim {
        grid::tiles(product, self.size)
    }

    /// Whether a target has what it needs.
    pub(super) fn runs(self, target: &WgslTarget) -> bool {
        let bytes = |split: Split| 2 * 2 * self.depth * self.stride() + 4 * split.most * split.matrix * split.matrix;
        self.split(target).is_some_and(|split| u64::try_from(bytes(split)).is_ok_and(|b| b <= target.workgroup_bytes))
            && target.f16
            && self.invocations <= i64::from(target.most_invocations)
            && self.size * self.depth / 16 <= self.invocations
    }

    /// Elements from one term to the next in workgroup memory.
    fn stride(self) -> i64 {
        self.size + PADDING
    }

    /// How subgroups share the tile; `None` where they cannot, or there are none.
    fn split(self, target: &WgslTarget) -> Option<Split> {
        let (matrix, subgroups) = (i64::from(target.cooperative?.size), target.subgroups?);
        let (least, most) = (i64::from(subgroups.least), i64::from(subgroups.most));
        let even = [subgroups.least, subgroups.most].into_iter().all(u32::is_power_of_two);
        if !even || self.invocations % most != 0 || self.depth % matrix != 0 || self.size % matrix != 0 {
            return None;
        }
        let across = self.size / matrix;
        let used = (self.invocations / most).min(across * across);
        // As square as powers of two are.
        let down = 1 << (used.ilog2() / 2);
        let parts = [down, used / down];
        let sums = parts.map(|parts| across / parts);
        let fits = sums.iter().all(|n| *n > 0) && sums[0] * sums[1] <= MOST_SUMS;
        fits.then_some(Split { matrix, parts, sums, most: self.invocations / least })
    }
}

/// The dispatch of a product by tiles of a certain shape.
pub(super) fn by(
    shape: Shape,
    product: &Product<'_>,
    output: &Output<'_, '_>,
    target: &WgslTarget,
) -> Result<Dispatch, WgslError> {
    let lacking = || limit("cooperative matrices", 1, 0);
    let split = shape.split(target).ok_or_else(lacking)?;
    if !target.cooperative.is_some_and(|c| c.takes(product.dtype)) {
        return Err(lacking());
    }
    let Shape { size, invocations, depth } = shape;
    let (stride, matrix, ty) = (shape.stride(), split.matrix, product.element.name);
    let rounded = if product.dtype == DType::F16 { "" } else { ", from factors rounded to f16" };
    let mut source = Source::new([
        product.title(),
        format!("A workgroup of {invocations} makes a tile of {size} by {size} in cooperative matrices{rounded},"),
        format!("{depth} terms at a time."),
    ]);
    source.use_cooperative();
    let panels = panel::both(&mut source, product, output, [size, depth, invocations])?;
    for panel in &panels {
        source.share(&format!("{}_tile", panel.side.name), "f16", 2, (depth * stride) as u64);
        panel.define_keep(&mut source, ty, stride);
    }
    let base = output.define(&mut source, true)?;
    source.share("sums", ty, 4, (split.most * matrix * matrix) as u64);
    grid::place(&mut source, product, output, size)?;
    for panel in &panels {
        panel.begin(&mut source, &format!("first_{}", panel.side.vector));
        panel.declare(&mut source, ty);
    }
    split.place(&mut source);
    let (from, to) = grid::terms(&mut source, product, output)?;
    source.open(format!("if ({from} < {to}) {{"));
    panels.iter().for_each(|p| p.fetch(&mut source, &from));
    source.close("}");
    source.open(format!("for (var first = {from}; first < {to}; first += {depth}) {{"));
    panels.iter().for_each(|p| p.keep_halves(&mut source, stride));
    source.line("workgroupBarrier();");
    source.line("// What comes next is on its way while this is multiplied.");
    source.open(format!("if (first + {depth} < {to}) {{"));
    panels.iter().for_each(|p| p.fetch(&mut source, &format!("first + {depth}")));
    source.close("}");
    split.multiply(&mut source, depth, stride);
    source.line("workgroupBarrier();");
    source.close("}");
    base.iter().for_each(|line| source.line(line));
    for (i, j) in split.all() {
        split.hand_out(&mut source, [i, j], invocations, product, output)?;
    }
    source.dispatch(invocations as u32, grid::groups(product, output, size), target)
}

impl Split {
    /// A part's matrices: row, and column.
    fn all(self) -> impl Iterator<Item = (i64, i64)> {
        let [rows, columns] = self.sums;
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }

    /// Lines that find this subgroup's part of the tile, and declare its sums, which are 0.
    fn place(self, source: &mut Source) {
        let Self { matrix, parts: [down, across], sums: [rows, columns], .. } = self;
        source.line("// Rows and columns of the tile that this subgroup sums up.");
        source.line(format!("let piece = i32(subgroup) % {};", down * across));
        source.line(format!("let row_piece = piece / {across} * {};", rows * matrix));
        source.line(format!("let column_piece = piece % {across} * {};", columns * matrix));
        for (i, j) in self.all() {
            source.line(format!("var sum_{i}_{j}: coop_mat{matrix}x{matrix}<f32, C>;"));
        }
    }

    /// Lines that add the products of a step. A term's vectors lie side by side, so that the left matrices are there by columns, the
    /// right ones by rows.
    fn multiply(self, source: &mut Source, depth: i64, stride: i64) {
        let Self { matrix, sums: [rows, columns], .. } = self;
        source.open(format!("for (var k = 0; k < {depth}; k += {matrix}) {{"));
        let at = |piece: &str, i: i64| plus(&format!("k * {stride} + {piece}"), i * matrix);
        for i in 0..rows {
            let at = at("row_piece", i);
            source.line(format!(
                "let left_{i} = coopLoad<coop_mat{matrix}x{matrix}<f16, A>>(&left_tile[{at}], {stride}u);"
            ));
        }
        for j in 0..columns {
            let at = at("column_piece", j);
            source.line(format!(
                "let right_{j} = coopLoadT<coop_mat{matrix}x{matrix}<f16, B>>(&right_tile[{at}], {stride}u);"
            ));
        }
        for (i, j) in self.all() {
            source.line(format!("sum_{i}_{j} = coopMultiplyAdd(left_{i}, right_{j}, sum_{i}_{j});"));
        }
        source.close("}");
    }

    /// Lines that hand out one matrix of each subgroup: it passes through workgroup memory, so that neighbours get neighbours.
    fn hand_out(
        self,
        source: &mut Source,
        [i, j]: [i64; 2],
        invocations: i64,
        product: &Product<'_>,
        output: &Output<'_, '_>,
    ) -> Result<(), WgslError> {
        let Self { matrix, parts: [down, across], sums: [rows, columns], .. } = self;
        let elements = matrix * matrix;
        // How many columns an invocation takes at once.
        let once = if output.finish().is_some() { 1 } else { 4 };
        source.line(format!("coopStoreT(sum_{i}_{j}, &sums[subgroup * {elements}u], {matrix}u);"));
        source.line("workgroupBarrier();");
        source.open(format!("for (var i = lane; i < {}; i += {invocations}) {{", down * across * elements / once));
        source.line(format!("let piece = i / {};", elements / once));
        let row = plus(&format!("first_row + piece / {across} * {}", rows * matrix), i * matrix);
        source.line(format!("let row = {row} + i / {} % {matrix};", matrix / once));
        let column = plus(&format!("first_column + piece % {across} * {}", columns * matrix), j * matrix);
        if once == 1 {
            source.line(format!("let column = {column} + i % {matrix};"));
            let counts = (source.number("rows", product.left.count)?, source.number("columns", product.right.count)?);
            source.open(format!("if (row < {} && column < {}) {{", counts.0, counts.1));
            for line in output.element(source, "row", "column", "sums[i]")? {
                source.line(line);
            }
            source.close("}");
        } else {
            source.line(format!("let column = {column} + i % {} * 4;", matrix / once));
            source.line("let values = vec4<f32>(sums[i * 4], sums[i * 4 + 1], sums[i * 4 + 2], sums[i * 4 + 3]);");
            source.line("store_4(base, row, column, values);");
        }
        source.close("}");
        source.line("workgroupBarrier();");
        Ok(())
    }
}

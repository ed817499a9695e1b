//! Products by tiles: operands pass through workgroup memory, sums stay in registers.

use lehr_ir::dim::Dim;

use super::element::Element;
use super::output::Output;
use super::panel::{plus, stride};
use super::{Product, grid, panel};
use crate::gpu::dispatch::Dispatch;
use crate::gpu::vendor::{Defaults, Vendor};
use crate::gpu::wgsl::source::Source;
use crate::gpu::wgsl::{WgslError, WgslTarget};

/// The shape of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gpu) struct Tiling {
    /// Rows and columns of a workgroup's tile.
    pub(in crate::gpu) size: i64,
    /// Rows and columns of an invocation's part of it: 4, or 8 in two halves of the tile.
    pub(in crate::gpu) each: i64,
    /// Terms that pass through workgroup memory at once.
    pub(in crate::gpu) depth: i64,
}

impl Tiling {
    pub(in crate::gpu) const SMALL: Self = Self { size: 32, each: 4, depth: 16 };
    pub(in crate::gpu) const MIDDLE: Self = Self { size: 64, each: 4, depth: 16 };
    pub(in crate::gpu) const LARGE: Self = Self { size: 128, each: 8, depth: 8 };

    /// The tile for a shape: the largest that gives enough workgroups. Symbolic sizes count as large.
    pub(super) fn of(product: &Product<'_>, vendor: Vendor) -> Self {
        let Defaults { large, middle, small, groups: enough, .. } = Defaults::of(vendor);
        let groups = |tiling: Self| tiling.groups(product).as_const();
        let fits = |tiling: Self| product.least().is_none_or(|least| least > tiling.size / 2);
        if product.element.bytes > 4 {
            return Self::SMALL;
        }
        match (groups(large), groups(middle)) {
            (Some(count), _) if count >= enough && fits(large) => large,
            (None, _) if fits(middle) => middle,
            (_, Some(count)) if count >= enough / 2 && fits(middle) => middle,
            _ => small,
        }
    }

    /// With twice the depth, where memory allows: then every invocation of a large workgroup fetches something.
    pub(super) fn deepened(self, element: Element, target: &WgslTarget) -> Self {
        let deep = Self { depth: 2 * self.depth, ..self };
        let bytes = 8 * deep.depth * stride(self.size) * element.bytes as i64;
        let fits = u64::try_from(bytes).is_ok_and(|b| b <= target.workgroup_bytes);
        if fits && 2 * deep.blocks() <= self.invocations() { deep } else { self }
    }

    /// The workgroups of a product whose sums are whole.
    pub(super) fn groups(self, product: &Product<'_>) -> Dim {
        grid::tiles(product, self.size)
    }

    /// The shapes that are worth measuring, on a target that can run them.
    pub(super) fn all(product: &Product<'_>, target: &WgslTarget) -> impl Iterator<Item = Self> {
        let of = |size, each, depth| Self { size, each, depth };
        let shapes = [
            of(64, 4, 16),
            of(128, 8, 8),
            of(64, 8, 16),
            of(128, 8, 16),
            of(64, 8, 8),
            of(32, 4, 16),
            of(64, 4, 32),
            of(32, 4, 32),
        ];
        let least = product.least();
        // Elements of 8 bytes take twice the registers.
        let small = product.element.bytes > 4;
        let (element, target) = (product.element, *target);
        shapes.into_iter().filter(move |t| {
            let fits = t.size == Self::SMALL.size || !small && least.is_none_or(|least| least > t.size / 2);
            fits && t.runs(element, &target)
        })
    }

    /// Whether a target has what it needs.
    pub(super) fn runs(self, element: Element, target: &WgslTarget) -> bool {
        let groups = 2 * self.depth * stride(self.size);
        let bytes = 4 * groups * element.bytes as i64;
        let strip = self.size / self.each * self.size / 4;
        u64::try_from(bytes).is_ok_and(|b| b <= target.workgroup_bytes)
            && self.invocations() <= i64::from(target.most_invocations)
            && self.blocks() <= self.invocations()
            && strip <= groups
    }

    fn invocations(self) -> i64 {
        (self.size / self.each) * (self.size / self.each)
    }

    /// Blocks of four vectors by four terms that an operand has in a step.
    fn blocks(self) -> i64 {
        self.size * self.depth / 16
    }
}

/// The dispatch of a product by tiles of a certain shape.
pub(super) fn by(
    tiling: Tiling,
    product: &Product<'_>,
    output: &Output<'_, '_>,
    target: &WgslTarget,
) -> Result<Dispatch, WgslError> {
    let Tiling { size, each, depth } = tiling;
    let ty = product.element.name;
    let mut source = Source::new([
        product.title(),
        format!(
            "A workgroup of {} makes a tile of {size} by {size}, {each} by {each} an invocation, {depth} terms at a time.",
            tiling.invocations()
        ),
    ]);
    let panels = panel::both(&mut source, product, output, [size, depth, tiling.invocations()])?;
    let base = output.define(&mut source, true)?;
    source.share("tile", &format!("vec4<{ty}>"), 4 * product.element.bytes, (2 * depth * stride(tiling.size)) as u64);
    grid::place(&mut source, product, output, size)?;
    for panel in &panels {
        panel.begin(&mut source, &format!("first_{}", panel.side.vector));
        panel.declare(&mut source, ty);
    }
    let across = size / each;
    source.line("// Rows and columns of four that this invocation sums up.");
    source.line(format!("let row_lane = lane / {across};"));
    source.line(format!("let column_lane = lane % {across};"));
    for (row, group) in sums(each) {
        source.line(format!("var sum_{row}_{group} = vec4<{ty}>();"));
    }
    let (from, to) = grid::terms(&mut source, product, output)?;
    source.open(format!("if ({from} < {to}) {{"));
    panels.iter().for_each(|p| p.fetch(&mut source, &from));
    source.close("}");
    source.open(format!("for (var first = {from}; first < {to}; first += {depth}) {{"));
    panels.iter().for_each(|p| p.keep(&mut source));
    source.line("workgroupBarrier();");
    source.line("// What comes next is on its way while this is summed up.");
    source.open(format!("if (first + {depth} < {to}) {{"));
    panels.iter().for_each(|p| p.fetch(&mut source, &format!("first + {depth}")));
    source.close("}");
    multiply(&mut source, tiling, ty);
    source.line("workgroupBarrier();");
    source.close("}");
    base.iter().for_each(|line| source.line(line));
    if output.finish().is_some() {
        finish(&mut source, tiling, product, output)?;
    } else {
        for (row, group) in sums(each) {
            let (half, i) = (row / 4, row % 4);
            let at = |lane: &str, more: i64| plus(&format!("first_{lane} + {lane}_lane * 4"), more);
            let (to_row, to_column) = (at("row", half * size / 2 + i), at("column", group * size / 2));
            source.line(format!("store_4(base, {to_row}, {to_column}, sum_{row}_{group});"));
        }
    }
    source.dispatch(tiling.invocations() as u32, grid::groups(product, output, size), target)
}

/// Lines that add the products of a step.
fn multiply(source: &mut Source, tiling: Tiling, ty: &str) {
    let (step, halves) = (stride(tiling.size), tiling.each / 4);
    source.open(format!("for (var k = 0; k < {}; k++) {{", tiling.depth));
    for half in 0..halves {
        let at = plus(&format!("k * {step} + row_lane"), half * tiling.size / 8);
        source.line(format!("let left_{half} = tile[{at}];"));
    }
    for half in 0..halves {
        let at = plus(&format!("k * {step} + column_lane"), tiling.depth * step + half * tiling.size / 8);
        source.line(format!("let right_{half} = tile[{at}];"));
    }
    for (row, group) in sums(tiling.each) {
        let one = format!("left_{}.{}", row / 4, COMPONENTS.get(row as usize % 4).copied().unwrap_or_default());
        let sum = format!("sum_{row}_{group}");
        source.line(format!("{sum} = fma(vec4<{ty}>({one}), right_{group}, {sum});"));
    }
    source.close("}");
}

/// Lines that hand the sums to the epilogue: a row of each invocation at a time passes through workgroup memory, so that neighbours
/// get neighbours and the epilogue stands in the text once.
fn finish(
    source: &mut Source,
    tiling: Tiling,
    product: &Product<'_>,
    output: &Output<'_, '_>,
) -> Result<(), WgslError> {
    let Tiling { size, each, .. } = tiling;
    let (rows, columns) = (source.number("rows", product.left.count)?, source.number("columns", product.right.count)?);
    source.open(format!("for (var strip = 0; strip < {each}; strip++) {{"));
    source.line(format!("let at = row_lane * {} + column_lane;", size / 4));
    source.open("switch (strip) {");
    for row in 0..each {
        source.open(format!("case {row}: {{"));
        for group in 0..each / 4 {
            source.line(format!("tile[{}] = sum_{row}_{group};", plus("at", group * size / 8)));
        }
        source.close("}");
    }
    source.line("default: {}");
    source.close("}");
    source.line("workgroupBarrier();");
    let elements = size / each * size;
    source.open(format!("for (var i = lane; i < {elements}; i += {}) {{", tiling.invocations()));
    source.line(format!("let row = first_row + i / {size} * 4 + strip % 4 + strip / 4 * {};", size / 2));
    source.line(format!("let column = first_column + i % {size};"));
    source.open(format!("if (row < {rows} && column < {columns}) {{"));
    for line in output.element(source, "row", "column", "tile[i >> 2u][i & 3]")? {
        source.line(line);
    }
    source.close("}");
    source.close("}");
    source.line("workgroupBarrier();");
    source.close("}");
    Ok(())
}

const COMPONENTS: [&str; 4] = ["x", "y", "z", "w"];

/// An invocation's sums: row, and group of four columns.
fn sums(each: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..each).flat_map(move |row| (0..each / 4).map(move |group| (row, group)))
}

//! How parts of operands pass through workgroup memory.

use lehr_ir::dim::Dim;

use super::address::is_multiple;
use super::fetch::{self, Fetch};
use super::output::{Output, counted};
use super::{Product, Side};
use crate::gpu::wgsl::WgslError;
use crate::gpu::wgsl::source::{Source, Text};

/// A part of an operand, so many vectors by so many terms, that a workgroup fetches together: a block of four by four an invocation.
///
/// In the array `tile` it has the vectors of each term side by side, in groups of four.
pub(in crate::gpu) struct Panel<'c> {
    pub(in crate::gpu) side: Side<'c>,
    pub(in crate::gpu) fetch: Fetch,
    /// How many vectors.
    pub(in crate::gpu) size: i64,
    /// How many terms.
    pub(in crate::gpu) depth: i64,
    /// The first invocation that fetches a block.
    pub(in crate::gpu) first_lane: i64,
    /// Invocations of the workgroup.
    pub(in crate::gpu) lanes: i64,
    /// Where it begins in the array.
    pub(in crate::gpu) start: i64,
}

/// Binds the operands of a product, defines how their blocks are fetched, and gives their parts for a tile of so many vectors a
/// side and so many terms.
pub(super) fn both<'c>(
    source: &mut Source,
    product: &Product<'c>,
    output: &Output<'_, 'c>,
    [size, depth, lanes]: [i64; 3],
) -> Result<[Panel<'c>; 2], WgslError> {
    let [left_wide, right_wide] = fetch::wide(product, output.finish());
    // The first invocations fetch blocks of the left operand, the last ones of the right.
    let last_lanes = lanes - size * depth / 16;
    let mut panel = |side: Side<'c>, wide, first_lane, start| -> Result<Panel<'c>, WgslError> {
        let fetch = Fetch::new(source, product.element, &side, product.sum, wide)?;
        let edge = |source: &mut Source, name: &str, dim: &Dim, step: i64| -> Result<Option<String>, WgslError> {
            if is_multiple(dim, step) { Ok(None) } else { source.number(name, dim).map(Some) }
        };
        let count = edge(source, counted(side.name), side.count, size)?;
        let terms = edge(source, "terms", product.sum, depth)?;
        fetch.block(source, &side, product.element.name, count.as_deref(), terms.as_deref());
        Ok(Panel { side, fetch, size, depth, first_lane, lanes, start })
    };
    let left = panel(product.left, left_wide, 0, 0)?;
    let right = panel(product.right, right_wide, last_lanes, depth * stride(size))?;
    Ok([left, right])
}

impl Panel<'_> {
    /// Groups of four vectors from one term to the next: one more than there are, so that what is written together lies in different
    /// banks.
    pub(in crate::gpu) fn stride(&self) -> i64 {
        stride(self.size)
    }

    /// Lines that find what this invocation fetches, among vectors from `first` on.
    pub(in crate::gpu) fn begin(&self, source: &mut Source, first: &str) {
        let name = self.side.name;
        let (across, down) = (self.depth / 4, self.size / 4);
        let block = match self.first_lane {
            0 => "lane".to_owned(),
            first => format!("(lane - {first})"),
        };
        source.line(format!("// This invocation's block of {name}: four {}s by four terms.", self.side.vector));
        let (term, lane) = if self.fetch.along_sum {
            (format!("{block} % {across} * 4"), format!("{block} / {across}"))
        } else {
            (format!("{block} / {down} * 4"), format!("{block} % {down}"))
        };
        source.line(format!("let {name}_term = {term};"));
        source.line(format!("let {name}_lane = {lane};"));
        source.line(format!("let {name}_first = {first} + {name}_lane * 4;"));
        let at = [0, 1, 2, 3].map(|i| self.fetch.vectors.at(&plus(&format!("{name}_first"), i)));
        let base = if self.fetch.base == "0" { String::new() } else { format!("{} + ", self.fetch.base) };
        source.line(format!("let {name}_at = {base}vec4<i32>({});", at.join(", ")));
    }

    /// A line that declares what [`Panel::fetch`] assigns.
    pub(in crate::gpu) fn declare(&self, source: &mut Source, ty: &str) {
        source.line(format!("var {}_next: mat4x4<{ty}>;", self.side.name));
    }

    /// Lines that fetch the blocks of the step that begins at a term.
    pub(in crate::gpu) fn fetch(&self, source: &mut Source, first: &str) {
        let name = self.side.name;
        let first = if first == "0" { String::new() } else { format!("{first} + ") };
        self.begin_if(source);
        source.line(format!("{name}_next = {name}_block({name}_at, {name}_first, {first}{name}_term);"));
        self.end_if(source);
    }

    /// Lines that put what has been fetched into workgroup memory.
    pub(in crate::gpu) fn keep(&self, source: &mut Source) {
        let (name, stride) = (self.side.name, self.stride());
        self.begin_if(source);
        for i in 0..4 {
            let at = plus(&format!("{name}_term * {stride} + {name}_lane"), self.start + i * stride);
            source.line(format!("tile[{at}] = {name}_next[{i}];"));
        }
        self.end_if(source);
    }

    /// Defines `<name>_keep(at, block)`, which puts a block as `f16` into an array of the operand's own, `<name>_tile`, with so many
    /// elements from one term to the next.
    pub(super) fn define_keep(&self, source: &mut Source, ty: &str, stride: i64) {
        let name = self.side.name;
        let mut text = Text::default();
        text.open(format!("fn {name}_keep(at: i32, block: mat4x4<{ty}>) {{"));
        for term in 0..4 {
            for (vector, component) in ["x", "y", "z", "w"].into_iter().enumerate() {
                let at = plus("at", term * stride + vector as i64);
                text.line(format!("{name}_tile[{at}] = f16(block[{term}].{component});"));
            }
        }
        text.close("}");
        source.function(text.join());
    }

    /// Lines that put what has been fetched into the operand's own array of `f16`.
    pub(super) fn keep_halves(&self, source: &mut Source, stride: i64) {
        let name = self.side.name;
        self.begin_if(source);
        source.line(format!("{name}_keep({name}_term * {stride} + {name}_lane * 4, {name}_next);"));
        self.end_if(source);
    }

    fn blocks(&self) -> i64 {
        self.size * self.depth / 16
    }

    fn begin_if(&self, source: &mut Source) {
        let (first, last) = (self.first_lane, self.first_lane + self.blocks());
        match (first == 0, last == self.lanes) {
            (true, true) => {}
            (true, false) => source.open(format!("if (lane < {last}) {{")),
            (false, true) => source.open(format!("if (lane >= {first}) {{")),
            (false, false) => source.open(format!("if (lane >= {first} && lane < {last}) {{")),
        }
    }

    fn end_if(&self, source: &mut Source) {
        if self.blocks() != self.lanes {
            source.close("}");
        }
    }
}

/// Groups of four vectors from one term to the next.
pub(in crate::gpu) fn stride(size: i64) -> i64 {
    size / 4 + 1
}

/// A sum with a constant.
pub(in crate::gpu) fn plus(text: &str, constant: i64) -> String {
    if constant == 0 { text.to_owned() } else { format!("{text} + {constant}") }
}

//! Kernels that run on finished sums, element by element, before these leave the invocation.
//!
//! Such a kernel is a loop over columns inside of a loop over rows. Its body becomes a function of row, column and sum: what it loads of
//! the result is the sum, and what it stores over the result is what the dispatch writes.

use std::sync::Arc;

use lehr_ir::kernel::{AxisKind, Expr, Kernel, Loop, Memory, Stmt};
use lehr_ir::plan::{BufferId, Contract, Epilogue};

use super::Product;
use crate::gpu::wgsl::printer::Printer;
use crate::gpu::wgsl::source::{Source, Text};
use crate::gpu::wgsl::{self, WgslError, WgslTarget};

/// The kernel of an epilogue whose body can be a function.
#[derive(Clone, Copy)]
pub(super) struct Finish<'c> {
    epilogue: &'c Epilogue,
    kernel: &'c Kernel,
    target: &'c WgslTarget,
    result: BufferId,
    /// What is computed once a row.
    row: &'c [Stmt],
    /// The loop over columns.
    columns: &'c Loop,
}

impl<'c> Finish<'c> {
    /// The epilogue of a contraction as a function, where it has that form.
    pub(super) fn of(contract: &'c Contract, kernels: &'c [Arc<Kernel>], target: &'c WgslTarget) -> Option<Self> {
        let epilogue = contract.epilogue.as_ref()?;
        let kernel = kernels.get(epilogue.kernel as usize)?;
        let (last, row) = kernel.body.body.split_last()?;
        let Stmt::Loop(columns) = last else { return None };
        let straight = row.iter().all(|s| matches!(s, Stmt::Let { .. }));
        if !straight || columns.kind != AxisKind::Lane || !kernel.tiles.is_empty() {
            return None;
        }
        let finish = Self { epilogue, kernel, target, result: contract.c.buffer, row, columns };
        // What is loaded of the result before the loop would not be that of one column.
        let early = row
            .iter()
            .any(|s| matches!(s, Stmt::Let { expr: Expr::Load { memory, .. }, .. } if finish.is_result(*memory)));
        (!early).then_some(finish)
    }

    /// Whether it reads or writes a buffer other than the result.
    pub(super) fn touches(&self, buffer: BufferId) -> bool {
        self.epilogue.buffers.contains(&buffer)
    }

    /// Whether it writes over the result.
    pub(super) fn replaces_result(&self) -> bool {
        let mut all = self.epilogue.buffers.iter().zip(&self.kernel.buffers);
        all.any(|(id, b)| *id == self.result && b.access.stores())
    }

    /// Defines `finish(row, column, sum)`; rows are counted over the whole batch.
    pub(super) fn define(&self, source: &mut Source, product: &Product<'_>) -> Result<(), WgslError> {
        let (epilogue, kernel) = (self.epilogue, self.kernel);
        let mut places = Vec::new();
        for (i, (id, b)) in epilogue.buffers.iter().zip(&kernel.buffers).enumerate() {
            // A result that is only read is at hand and needs no binding.
            let only_read = *id == self.result && !self.replaces_result();
            let place = if only_read {
                wgsl::printer::Place { name: b.name.clone(), atomic: false, at_hand: None }
            } else {
                wgsl::place(source, kernel, &epilogue.buffers, i, self.target)?
            };
            places.push(wgsl::printer::Place { at_hand: (*id == self.result).then(|| "sum".to_owned()), ..place });
        }
        let mut sizes = Vec::new();
        for (i, (name, value)) in kernel.sizes.iter().zip(&epilogue.sizes).enumerate() {
            sizes.push(match i as u32 {
                i if i == epilogue.first_column => "0".to_owned(),
                i if i == epilogue.columns => source.number("columns", product.right.count)?,
                _ => source.number(&format!("size_{}", name.as_str()), value)?,
            });
        }
        let mut printer = Printer::new(kernel, self.target, places, sizes)?;
        printer.one_element(&[(&kernel.body.axis, "at_row"), (&self.columns.axis, "at_column")]);
        printer.block(self.row)?;
        printer.block(&self.columns.body)?;
        let (helpers, body) = printer.into_text();
        let mut text = Text::default();
        text.line(format!("// What becomes of an element of the product: kernel @{}.", kernel.name));
        text.open(format!("fn finish(at_row: i32, at_column: i32, sum: {}) {{", product.element.name));
        text.append(body);
        text.close("}");
        source.help(helpers);
        source.function(text.join());
        Ok(())
    }

    fn is_result(&self, memory: Memory) -> bool {
        match memory {
            Memory::Buffer(i) => self.epilogue.buffers.get(i as usize) == Some(&self.result),
            Memory::Tile(_) => false,
        }
    }
}

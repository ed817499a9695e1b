//! Constants of vectorised loops, in memory.
//!
//! Cranelift moves vector constants out of loops without regard to register pressure, and recipes have a dozen each, so a loop of two or
//! three functions would spill all the time. Here constants lie in a stack slot that the function fills once, and each part of a group
//! loads them through a base of its own that the loop's axis takes part in. So a load can leave the loop as little as the axis, and as
//! the operand of one instruction it becomes part of that instruction.

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{Function, InstBuilder, MemFlagsData, StackSlot, Type, Value, types};

use super::Emitter;

/// The constants so far, and the bases of the loop that is being emitted.
pub(super) struct Pool {
    slot: StackSlot,
    words: Vec<u32>,
    bases: Vec<Value>,
}

impl Pool {
    /// An empty pool in a slot that is resized later.
    pub(super) fn new(slot: StackSlot) -> Self {
        Self { slot, words: Vec::new(), bases: Vec::new() }
    }

    /// Writes the constants at the end of the entry block.
    pub(super) fn fill(self, function: &mut Function) {
        function.sized_stack_slots[self.slot].size = 16 * self.words.len() as u32;
        let Some(entry) = function.layout.entry_block() else { return };
        let mut cursor = FuncCursor::new(function);
        cursor.goto_last_inst(entry);
        for (i, word) in self.words.iter().enumerate() {
            let bits = u128::from(*word) * 0x1_0000_0001_0000_0001_0000_0001;
            let data = cursor.func.dfg.constants.insert(bits.to_le_bytes().as_slice().into());
            let v = cursor.ins().vconst(types::I32X4, data);
            let base = cursor.ins().stack_addr(types::I64, self.slot, 0);
            cursor.ins().store(MemFlagsData::trusted(), v, base, 16 * i as i32);
        }
    }
}

impl Emitter<'_, '_> {
    /// Makes the bases for a group whose first lane is at `axis`.
    pub(super) fn pool_bases(&mut self, axis: Value, group: usize) {
        let slot = self.pool.slot;
        self.pool.bases.clear();
        for first in (0..group).step_by(4) {
            // No axis is negative, so its sign is 0, which only Cranelift does not know.
            let axis = self.b.ins().iadd_imm_s(axis, first as i64);
            let zero = self.b.ins().ushr_imm_u(axis, 63);
            let start = self.b.ins().stack_addr(types::I64, slot, 0);
            let base = self.b.ins().iadd(start, zero);
            self.pool.bases.push(base);
        }
    }

    /// A constant in each lane of one part.
    pub(super) fn pooled(&mut self, ty: Type, bits: u32, part: usize) -> Value {
        let i = self.pool.words.iter().position(|w| *w == bits).unwrap_or_else(|| {
            self.pool.words.push(bits);
            self.pool.words.len() - 1
        });
        let base = self.pool.bases[part];
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        self.b.ins().load(ty, flags, base, 16 * i as i32)
    }
}

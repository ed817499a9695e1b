//! A list of instructions with labels.
//!
//! The first failure is kept until the end, so that emission reads as a list.

use std::collections::BTreeMap;

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, FastFormatter, IcedError, Instruction, InstructionBlock, MemoryOperand,
    Register,
};

use super::WideError;
use super::size::Size;

/// A place in the code that jumps name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(u64);

/// The last operand of an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Src {
    Register(Register),
    Memory(MemoryOperand),
}

#[derive(Default)]
pub(super) struct Assembler {
    instructions: Vec<Instruction>,
    labels: u64,
    // The label of the next instruction.
    pending: Option<Label>,
    failure: Option<String>,
    // Constants in memory behind the code, by bits and by how many times they stand there.
    pool: BTreeMap<(Size, u64, usize), Label>,
}

impl Assembler {
    /// The bytes of all instructions.
    pub(super) fn finish(mut self, listing: bool) -> Result<super::Code, WideError> {
        if self.pending.is_some() {
            self.op(Code::Nopd);
        }
        for ((size, bits, times), label) in std::mem::take(&mut self.pool) {
            self.bind(label);
            let constant = || match size {
                Size::Four => Instruction::with_declare_dword_1(bits as u32),
                Size::Eight => Instruction::with_declare_qword_1(bits),
            };
            (0..times).for_each(|_| self.push(Ok(constant())));
        }
        if let Some(failure) = self.failure {
            return Err(WideError::Assemble(failure));
        }
        let block = InstructionBlock::new(&self.instructions, 0);
        let encoded = BlockEncoder::encode(64, block, BlockEncoderOptions::NONE);
        let bytes = encoded.map(|r| r.code_buffer).map_err(|e| WideError::Assemble(e.to_string()))?;
        let listing = if listing { self.listing() } else { String::new() };
        Ok(super::Code { bytes, listing })
    }

    /// The instructions as text, with labels by number.
    fn listing(&self) -> String {
        let mut formatter = FastFormatter::new();
        let mut text = String::new();
        for instruction in &self.instructions {
            if instruction.ip() != 0 {
                text.push_str(&format!("{:x}h:\n", instruction.ip()));
            }
            text.push_str("  ");
            formatter.format(instruction, &mut text);
            text.push('\n');
        }
        text
    }

    /// A label that is bound later.
    pub(super) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels)
    }

    /// Puts a label before the next instruction.
    pub(super) fn bind(&mut self, label: Label) {
        if self.pending.is_some() {
            self.op(Code::Nopd);
        }
        self.pending = Some(label);
    }

    /// A constant in memory: broadcast to all elements, or standing there so many times.
    pub(super) fn pooled(&mut self, size: Size, bits: u64, times: Option<usize>) -> MemoryOperand {
        let key = (size, bits, times.unwrap_or(1));
        let label = match self.pool.get(&key) {
            Some(label) => *label,
            None => {
                let label = self.label();
                self.pool.insert(key, label);
                label
            }
        };
        let none = Register::None;
        MemoryOperand::new(Register::RIP, none, 1, label.0 as i64, 8, times.is_none(), none)
    }

    /// A constant in memory as one element.
    pub(super) fn pooled_word(&mut self, size: Size, bits: u64) -> MemoryOperand {
        MemoryOperand { is_broadcast: false, ..self.pooled(size, bits, None) }
    }

    /// The number of instructions so far, to change the next one later.
    pub(super) fn position(&self) -> usize {
        self.instructions.len()
    }

    /// Changes the 32-bit immediate of an instruction.
    pub(super) fn patch(&mut self, position: usize, immediate: i32) {
        if let Some(instruction) = self.instructions.get_mut(position) {
            instruction.set_immediate32(immediate as u32);
        }
    }

    pub(super) fn jump(&mut self, code: Code, to: Label) {
        self.push(Instruction::with_branch(code, to.0));
    }

    pub(super) fn op(&mut self, code: Code) {
        self.push(Ok(Instruction::with(code)));
    }

    pub(super) fn r(&mut self, code: Code, a: Register) {
        self.push(Instruction::with1(code, a));
    }

    pub(super) fn m(&mut self, code: Code, a: MemoryOperand) {
        self.push(Instruction::with1(code, a));
    }

    pub(super) fn rr(&mut self, code: Code, a: Register, b: Register) {
        self.push(Instruction::with2(code, a, b));
    }

    pub(super) fn ri(&mut self, code: Code, a: Register, b: i32) {
        self.push(Instruction::with2(code, a, b));
    }

    pub(super) fn rm(&mut self, code: Code, a: Register, b: MemoryOperand) {
        self.push(Instruction::with2(code, a, b));
    }

    pub(super) fn mr(&mut self, code: Code, a: MemoryOperand, b: Register) {
        self.push(Instruction::with2(code, a, b));
    }

    pub(super) fn mi(&mut self, code: Code, a: MemoryOperand, b: i32) {
        self.push(Instruction::with2(code, a, b));
    }

    pub(super) fn rrr(&mut self, code: Code, a: Register, b: Register, c: Register) {
        self.push(Instruction::with3(code, a, b, c));
    }

    pub(super) fn rrs(&mut self, code: Code, a: Register, b: Register, c: Src) {
        match c {
            Src::Register(c) => self.rrr(code, a, b, c),
            Src::Memory(c) => self.rrm(code, a, b, c),
        }
    }

    /// As [`Assembler::rrs`], under mask register k2.
    pub(super) fn rrs_k2(&mut self, code: Code, a: Register, b: Register, c: Src) {
        let made = match c {
            Src::Register(c) => Instruction::with3(code, a, b, c),
            Src::Memory(c) => Instruction::with3(code, a, b, c),
        };
        self.push(made.map(|mut i| {
            i.set_op_mask(Register::K2);
            i
        }));
    }

    pub(super) fn rrsi(&mut self, code: Code, a: Register, b: Register, c: Src, d: i32) {
        match c {
            Src::Register(c) => self.push(Instruction::with4(code, a, b, c, d)),
            Src::Memory(c) => self.push(Instruction::with4(code, a, b, c, d)),
        }
    }

    pub(super) fn rrsr(&mut self, code: Code, a: Register, b: Register, c: Src, d: Register) {
        match c {
            Src::Register(c) => self.push(Instruction::with4(code, a, b, c, d)),
            Src::Memory(c) => self.push(Instruction::with4(code, a, b, c, d)),
        }
    }

    pub(super) fn rri(&mut self, code: Code, a: Register, b: Register, c: i32) {
        self.push(Instruction::with3(code, a, b, c));
    }

    pub(super) fn rrm(&mut self, code: Code, a: Register, b: Register, c: MemoryOperand) {
        self.push(Instruction::with3(code, a, b, c));
    }

    pub(super) fn mri(&mut self, code: Code, a: MemoryOperand, b: Register, c: i32) {
        self.push(Instruction::with3(code, a, b, c));
    }

    pub(super) fn rrmi(&mut self, code: Code, a: Register, b: Register, c: MemoryOperand, d: i32) {
        self.push(Instruction::with4(code, a, b, c, d));
    }

    pub(super) fn mrr(&mut self, code: Code, a: MemoryOperand, b: Register, c: Register) {
        self.push(Instruction::with3(code, a, b, c));
    }

    pub(super) fn rrri(&mut self, code: Code, a: Register, b: Register, c: Register, d: i32) {
        self.push(Instruction::with4(code, a, b, c, d));
    }

    pub(super) fn rrrr(&mut self, code: Code, a: Register, b: Register, c: Register, d: Register) {
        self.push(Instruction::with4(code, a, b, c, d));
    }

    /// A 64-bit constant in a general register.
    pub(super) fn constant(&mut self, a: Register, value: i64) {
        match i32::try_from(value) {
            Ok(value) => self.push(Instruction::with2(Code::Mov_rm64_imm32, a, value)),
            Err(_) => self.push(Instruction::with2(Code::Mov_r64_imm64, a, value)),
        }
    }

    /// A vector load or store under mask register k1; a load zeroes the other elements.
    pub(super) fn masked_load(&mut self, code: Code, a: Register, b: MemoryOperand) {
        self.push(Instruction::with2(code, a, b).map(|mut i| {
            i.set_op_mask(Register::K1);
            i.set_zeroing_masking(true);
            i
        }));
    }

    /// See [`Assembler::masked_load`]; the other elements of memory are not touched.
    pub(super) fn masked_store(&mut self, code: Code, a: MemoryOperand, b: Register) {
        self.push(Instruction::with2(code, a, b).map(|mut i| {
            i.set_op_mask(Register::K1);
            i
        }));
    }

    /// See [`Assembler::masked_store`]; with an immediate.
    pub(super) fn masked_store_with(&mut self, code: Code, a: MemoryOperand, b: Register, immediate: i32) {
        self.push(Instruction::with3(code, a, b, immediate).map(|mut i| {
            i.set_op_mask(Register::K1);
            i
        }));
    }

    fn push(&mut self, instruction: Result<Instruction, IcedError>) {
        match instruction {
            Ok(mut instruction) => {
                if let Some(label) = self.pending.take() {
                    instruction.set_ip(label.0);
                }
                self.instructions.push(instruction);
            }
            Err(e) => {
                self.failure.get_or_insert_with(|| e.to_string());
            }
        }
    }
}

/// `[base + offset]`.
pub(super) fn at(base: Register, offset: i32) -> MemoryOperand {
    MemoryOperand::with_base_displ(base, i64::from(offset))
}

/// `[base + index·scale + offset]`.
pub(super) fn indexed(base: Register, index: Register, scale: u32, offset: i32) -> MemoryOperand {
    MemoryOperand::with_base_index_scale_displ_size(base, index, scale, i64::from(offset), 1)
}

/// A place in the stack frame.
pub(super) fn frame(offset: i32) -> MemoryOperand {
    at(Register::RSP, offset)
}

/// A place in the stack frame, by the lane that runs.
pub(super) fn frame_lane(offset: i32, scale: u32) -> MemoryOperand {
    indexed(Register::RSP, Register::R15, scale, offset)
}

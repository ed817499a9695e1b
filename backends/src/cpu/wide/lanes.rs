//! What runs lane by lane, by general registers and the x87 unit, between places in the frame.

use iced_x86::{Code, Register};
use lehr_ir::dim::Dim;
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;

use super::assembler::{Src, frame, frame_lane};
use super::emitter::Emitter;
use super::segment::{At, Bin, Index, Wide};
use super::size::Size;
use super::vector::SCRATCH;
use super::{Unsupported, WideError};

impl<'k> Emitter<'k> {
    /// Runs `body` for each active lane, with its number in `r15`; for the first only where the result does not vary or no loop is
    /// vectorised.
    pub(super) fn each_lane(
        &mut self,
        varying: bool,
        body: impl FnOnce(&mut Self) -> Result<(), WideError>,
    ) -> Result<(), WideError> {
        let lane = self.lane.as_ref().map(|l| (l.base, l.current));
        self.asm.rr(Code::Xor_r32_rm32, Register::R15D, Register::R15D);
        let Some((base, current)) = lane else { return body(self) };
        let again = self.asm.label();
        self.asm.bind(again);
        self.asm.rm(Code::Mov_r64_rm64, Register::RAX, frame(base));
        self.asm.rr(Code::Add_r64_rm64, Register::RAX, Register::R15);
        self.asm.mr(Code::Mov_rm64_r64, frame(current), Register::RAX);
        let outer = std::mem::replace(&mut self.in_lane, true);
        let result = body(self);
        self.in_lane = outer;
        if varying {
            self.asm.r(Code::Inc_rm64, Register::R15);
            self.asm.rr(Code::Cmp_r64_rm64, Register::R15, Register::R14);
            self.asm.jump(Code::Jl_rel32_64, again);
        }
        result
    }

    /// Gives all lanes of a vector in the frame the first one's element, unless each has its own.
    pub(super) fn splat_in_frame(&mut self, place: i32, size: Size, varying: bool) {
        if self.lane.is_none() || !varying {
            self.v_splat(size, SCRATCH, frame(place));
            self.v_store(frame(place), SCRATCH);
        }
    }

    /// The quotient or remainder of integers, or the remainder of floats.
    pub(super) fn divide_each(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        args: &[i32],
        result: i32,
        varying: bool,
    ) -> Result<(), WideError> {
        let &[a, b] = args else { return Err(WideError::Invalid("a division without two operands")) };
        let remainder = op == ScalarOp::Rem;
        let size = self.size_of(dtype);
        self.each_lane(varying, |e| {
            match dtype.kind() {
                Kind::Float => e.float_remainder(size, a, b, result),
                Kind::Signed | Kind::Unsigned => {
                    e.get_lane(Register::RAX, a, size);
                    e.get_lane(Register::RCX, b, size);
                    if dtype == DType::I32 {
                        e.asm.rr(Code::Movsxd_r64_rm32, Register::RAX, Register::EAX);
                        e.asm.rr(Code::Movsxd_r64_rm32, Register::RCX, Register::ECX);
                    }
                    if dtype == DType::U64 {
                        e.divide_unsigned(remainder);
                    } else {
                        // Zero-extended operands divide alike as signed 64-bit integers.
                        e.divide(remainder);
                    }
                    e.put_lane(result, size, Register::RAX);
                }
                Kind::Bool | Kind::Complex => return Err(Unsupported::Op { op, dtype }.into()),
            }
            Ok(())
        })?;
        self.splat_in_frame(result, size, varying);
        Ok(())
    }

    /// The truncated quotient or remainder of `rax` by `rcx` in `rax`; 0 by zero, and no trap on the least value over −1.
    pub(super) fn divide(&mut self, remainder: bool) {
        let (zero, minus_one, done) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.rr(Code::Test_rm64_r64, Register::RCX, Register::RCX);
        self.asm.jump(Code::Je_rel32_64, zero);
        self.asm.ri(Code::Cmp_rm64_imm8, Register::RCX, -1);
        self.asm.jump(Code::Je_rel32_64, minus_one);
        self.asm.op(Code::Cqo);
        self.asm.r(Code::Idiv_rm64, Register::RCX);
        if remainder {
            self.asm.rr(Code::Mov_r64_rm64, Register::RAX, Register::RDX);
        }
        self.asm.jump(Code::Jmp_rel32_64, done);
        self.asm.bind(minus_one);
        if !remainder {
            self.asm.r(Code::Neg_rm64, Register::RAX);
            self.asm.jump(Code::Jmp_rel32_64, done);
        }
        self.asm.bind(zero);
        self.asm.rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX);
        self.asm.bind(done);
    }

    /// The quotient or remainder of `rax` by `rcx` without sign in `rax`; 0 by zero.
    fn divide_unsigned(&mut self, remainder: bool) {
        let (zero, done) = (self.asm.label(), self.asm.label());
        self.asm.rr(Code::Test_rm64_r64, Register::RCX, Register::RCX);
        self.asm.jump(Code::Je_rel32_64, zero);
        self.asm.rr(Code::Xor_r32_rm32, Register::EDX, Register::EDX);
        self.asm.r(Code::Div_rm64, Register::RCX);
        if remainder {
            self.asm.rr(Code::Mov_r64_rm64, Register::RAX, Register::RDX);
        }
        self.asm.jump(Code::Jmp_rel32_64, done);
        self.asm.bind(zero);
        self.asm.rr(Code::Xor_r32_rm32, Register::EAX, Register::EAX);
        self.asm.bind(done);
    }

    /// C's `fmod`: the x87 instruction takes exact steps until nothing is left to subtract.
    fn float_remainder(&mut self, size: Size, a: i32, b: i32, result: i32) {
        let again = self.asm.label();
        let (load, store) = match size {
            Size::Four => (Code::Fld_m32fp, Code::Fstp_m32fp),
            Size::Eight => (Code::Fld_m64fp, Code::Fstp_m64fp),
        };
        let scale = size.bytes();
        self.asm.m(load, frame_lane(b, scale));
        self.asm.m(load, frame_lane(a, scale));
        self.asm.bind(again);
        self.asm.op(Code::Fprem);
        self.asm.r(Code::Fnstsw_AX, Register::AX);
        self.asm.ri(Code::Test_rm32_imm32, Register::EAX, 0x400);
        self.asm.jump(Code::Jne_rel32_64, again);
        self.asm.m(store, frame_lane(result, scale));
        self.asm.r(Code::Fstp_sti, Register::ST0);
    }

    /// The vectorised axis in each lane; the lanes beyond the active ones count on.
    pub(super) fn counter(&mut self, d: u8) {
        if let Some(base) = self.lane.as_ref().map(|l| l.base) {
            self.v_splat(Size::Eight, SCRATCH, frame(base));
            let numbers = Src::Memory(frame(self.counter_numbers));
            self.v_bin_with(Bin::IAdd, Size::Eight, d, SCRATCH, numbers);
        }
    }

    /// An index expression as a 64-bit variable, or as a vector in the frame.
    pub(super) fn index_each(
        &mut self,
        dim: &'k Dim,
        into: Option<Wide>,
        result: i32,
        varying: bool,
    ) -> Result<(), WideError> {
        self.each_lane(varying, |e| {
            e.index(dim)?;
            match into {
                Some(wide) => e.put_wide(wide, Register::RAX),
                None => e.put_lane(result, Size::Eight, Register::RAX),
            }
            Ok(())
        })?;
        if into.is_none() {
            self.splat_in_frame(result, Size::Eight, varying);
        }
        Ok(())
    }

    /// Where the first of two candidates wins; elsewhere its index becomes the second's.
    pub(super) fn pick_each(&mut self, first: &At, second: &Index, args: &[i32], result: i32) -> Result<(), WideError> {
        let &[certain, tie] = args else { return Err(WideError::Invalid("a choice without two conditions")) };
        let varying = self.lane.is_some();
        self.each_lane(varying, |e| {
            match second {
                Index::Wide(wide) => e.get_wide(Register::RDX, *wide),
                Index::At(at) => {
                    e.partial_wide(at);
                    e.asm.rm(Code::Mov_r64_rm64, Register::RDX, super::assembler::at(Register::RAX, 0));
                }
            }
            e.partial_wide(first);
            e.asm.rm(Code::Mov_r64_rm64, Register::RCX, super::assembler::at(Register::RAX, 0));
            let (wins, loses, done) = (e.asm.label(), e.asm.label(), e.asm.label());
            e.asm.mi(Code::Cmp_rm32_imm8, frame_lane(certain, 4), 0);
            e.asm.jump(Code::Jne_rel32_64, wins);
            e.asm.mi(Code::Cmp_rm32_imm8, frame_lane(tie, 4), 0);
            e.asm.jump(Code::Je_rel32_64, loses);
            e.asm.rr(Code::Cmp_r64_rm64, Register::RCX, Register::RDX);
            e.asm.jump(Code::Jle_rel32_64, wins);
            e.asm.bind(loses);
            e.asm.mr(Code::Mov_rm64_r64, super::assembler::at(Register::RAX, 0), Register::RDX);
            e.asm.mi(Code::Mov_rm32_imm32, frame_lane(result, 4), 0);
            e.asm.jump(Code::Jmp_rel32_64, done);
            e.asm.bind(wins);
            e.asm.mi(Code::Mov_rm32_imm32, frame_lane(result, 4), -1);
            e.asm.bind(done);
            Ok(())
        })?;
        self.splat_in_frame(result, Size::Four, varying);
        Ok(())
    }
}

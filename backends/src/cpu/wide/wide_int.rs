//! Arithmetic on 64-bit variables in kernels whose other values are narrower; they are index values there.

use iced_x86::{Code, Register};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::ScalarOp;

use super::assembler::{frame, frame_lane};
use super::emitter::Emitter;
use super::segment::{Operand, Wide};
use super::size::Size;
use super::{Unsupported, WideError};

impl Emitter<'_> {
    pub(super) fn get_wide(&mut self, r: Register, wide: Wide) {
        let from = if wide.varying { frame_lane(wide.offset, 8) } else { frame(wide.offset) };
        self.asm.rm(Code::Mov_r64_rm64, r, from);
    }

    pub(super) fn put_wide(&mut self, wide: Wide, r: Register) {
        let to = if wide.varying { frame_lane(wide.offset, 8) } else { frame(wide.offset) };
        self.asm.mr(Code::Mov_rm64_r64, to, r);
    }

    /// An operation with a 64-bit operand or result.
    #[expect(clippy::too_many_arguments, reason = "the parts of one node")]
    pub(super) fn wide_each(
        &mut self,
        op: ScalarOp,
        dtype: DType,
        operands: &[Operand],
        into: Option<Wide>,
        args: &[i32],
        result: i32,
        varying: bool,
    ) -> Result<(), WideError> {
        self.each_lane(varying, |e| {
            let registers =
                [(Register::RAX, Register::EAX), (Register::RCX, Register::ECX), (Register::RDX, Register::EDX)];
            for (operand, (register, half)) in operands.iter().zip(registers) {
                match operand {
                    Operand::Wide(wide) => e.get_wide(register, *wide),
                    Operand::Value(i, dtype) => {
                        let place = *args.get(*i).ok_or(WideError::Invalid("an operand that is missing"))?;
                        // A bool is −1 here, which only selection and the conversion below see.
                        if *dtype == DType::U32 {
                            e.asm.rm(Code::Mov_r32_rm32, half, frame_lane(place, 4));
                        } else {
                            e.asm.rm(Code::Movsxd_r64_rm32, register, frame_lane(place, 4));
                        }
                    }
                }
            }
            let float = op == ScalarOp::Convert(DType::F32);
            e.wide_op(op, dtype)?;
            match into {
                Some(wide) => e.put_wide(wide, Register::RAX),
                None if float => e.asm.mr(Code::VEX_Vmovss_m32_xmm, frame_lane(result, 4), Register::XMM0),
                None => e.asm.mr(Code::Mov_rm32_r32, frame_lane(result, 4), Register::EAX),
            }
            Ok(())
        })?;
        if into.is_none() {
            self.splat_in_frame(result, Size::Four, varying);
        }
        Ok(())
    }

    /// The operation on `rax`, `rcx` and `rdx`, with the result in `rax`, or in `xmm0` for an f32.
    fn wide_op(&mut self, op: ScalarOp, dtype: DType) -> Result<(), WideError> {
        let (a, b) = (Register::RAX, Register::RCX);
        match op {
            ScalarOp::Add => self.asm.rr(Code::Add_r64_rm64, a, b),
            ScalarOp::Sub => self.asm.rr(Code::Sub_r64_rm64, a, b),
            ScalarOp::Mul => self.asm.rr(Code::Imul_r64_rm64, a, b),
            ScalarOp::Div => self.divide(false),
            ScalarOp::Rem => self.divide(true),
            ScalarOp::And => self.asm.rr(Code::And_r64_rm64, a, b),
            ScalarOp::Or => self.asm.rr(Code::Or_r64_rm64, a, b),
            ScalarOp::Xor => self.asm.rr(Code::Xor_r64_rm64, a, b),
            ScalarOp::Not => self.asm.r(Code::Not_rm64, a),
            ScalarOp::Neg => self.asm.r(Code::Neg_rm64, a),
            ScalarOp::Abs => {
                self.asm.rr(Code::Mov_r64_rm64, Register::RDX, a);
                self.asm.ri(Code::Sar_rm64_imm8, Register::RDX, 63);
                self.asm.rr(Code::Xor_r64_rm64, a, Register::RDX);
                self.asm.rr(Code::Sub_r64_rm64, a, Register::RDX);
            }
            ScalarOp::Max | ScalarOp::Min => {
                self.asm.rr(Code::Cmp_r64_rm64, b, a);
                let code = if op == ScalarOp::Max { Code::Cmovg_r64_rm64 } else { Code::Cmovl_r64_rm64 };
                self.asm.rr(code, a, b);
            }
            // The count is taken modulo 64 by the instruction.
            ScalarOp::Shl => self.asm.rr(Code::Shl_rm64_CL, a, Register::CL),
            ScalarOp::Shr => self.asm.rr(Code::Sar_rm64_CL, a, Register::CL),
            ScalarOp::Eq => self.wide_compare(Code::Sete_rm8),
            ScalarOp::Ne => self.wide_compare(Code::Setne_rm8),
            ScalarOp::Lt => self.wide_compare(Code::Setl_rm8),
            ScalarOp::Le => self.wide_compare(Code::Setle_rm8),
            ScalarOp::Gt => self.wide_compare(Code::Setg_rm8),
            ScalarOp::Ge => self.wide_compare(Code::Setge_rm8),
            ScalarOp::Select => {
                self.asm.rr(Code::Test_rm64_r64, a, a);
                self.asm.rr(Code::Cmove_r64_rm64, b, Register::RDX);
                self.asm.rr(Code::Mov_r64_rm64, a, b);
            }
            ScalarOp::Convert(to) => match (dtype, to) {
                (DType::I64, DType::F32) => {
                    self.asm.rrr(Code::VEX_Vcvtsi2ss_xmm_xmm_rm64, Register::XMM0, Register::XMM0, a)
                }
                (DType::I64, DType::Bool) => {
                    self.asm.rr(Code::Xor_r32_rm32, Register::ECX, Register::ECX);
                    self.wide_compare(Code::Setne_rm8);
                }
                (DType::Bool, DType::I64) => self.asm.r(Code::Neg_rm64, a),
                (DType::I64 | DType::I32 | DType::U32, DType::I64) | (DType::I64, DType::I32 | DType::U32) => {}
                (_, _) => return Err(Unsupported::Op { op, dtype }.into()),
            },
            ScalarOp::Bitcast(DType::I64) if dtype == DType::I64 => {}
            ScalarOp::Bitcast(_)
            | ScalarOp::Call(_)
            | ScalarOp::Fma
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt => return Err(Unsupported::Op { op, dtype }.into()),
        }
        Ok(())
    }

    /// All bits set in `rax` where `rax` and `rcx` compare so.
    fn wide_compare(&mut self, set: Code) {
        self.asm.rr(Code::Cmp_r64_rm64, Register::RAX, Register::RCX);
        self.asm.r(set, Register::AL);
        self.asm.rr(Code::Movzx_r32_rm8, Register::EAX, Register::AL);
        self.asm.r(Code::Neg_rm64, Register::RAX);
    }
}

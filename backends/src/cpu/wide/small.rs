//! Vectors to and from memory of one and two bytes an element: bools, which are masks in registers, and half precision, which is f32.
//!
//! AVX2 has no masks for elements this small, so what is under a mask goes element by element between memory and a register.

use iced_x86::{Code, MemoryOperand, Register};
use lehr_ir::dtype::DType;

use super::Width;
use super::emitter::Emitter;
use super::segment::{Bin, Un};
use super::size::Size;
use super::vector::{SCRATCH, SCRATCH_2};

impl Emitter<'_> {
    /// Neighbours in memory; of the active lanes, and of no matter elsewhere, if so.
    pub(super) fn v_load_small(&mut self, dtype: DType, d: u8, from: MemoryOperand, active: bool) {
        match (self.width, active) {
            (Width::Avx512, true) => {
                let (code, r) = (widening(dtype, self.size, true), self.vector(d));
                self.asm.masked_load(code, r, from);
            }
            (Width::Avx512, false) => {
                let half = dtype != DType::Bool && self.size == Size::Eight;
                let r = if half { self.half(d) } else { self.vector(d) };
                self.asm.rm(widening(dtype, self.size, false), r, from);
            }
            (Width::Avx2, true) => {
                self.insert_active(dtype, from);
                let (code, r) = self.widening_avx2(dtype, d);
                self.asm.rr(code, r, Register::XMM0);
            }
            (Width::Avx2, false) => {
                let (code, r) = self.widening_avx2(dtype, d);
                self.asm.rm(code, r, from);
            }
        }
        match (dtype, self.width) {
            (DType::Bool, Width::Avx512) => {
                let top = 8 * self.size.bytes() as u8 - 1;
                self.v_un(Un::Shl(top), self.size, d, d);
                self.v_un(Un::ShrS(top), self.size, d, d);
            }
            (DType::Bool, Width::Avx2) => {
                self.v_constant(self.size, SCRATCH_2, 0);
                self.v_bin(Bin::ISub, self.size, d, SCRATCH_2, d);
            }
            (DType::BF16, _) => self.v_un(Un::Shl(16), Size::Four, d, d),
            (_, _) => {}
        }
    }

    /// Neighbours to memory; of the active lanes if so.
    pub(super) fn v_store_small(&mut self, dtype: DType, to: MemoryOperand, a: u8, active: bool) {
        if self.width == Width::Avx2 {
            return self.store_small_avx2(dtype, to, a, active);
        }
        let mut from = a;
        match dtype {
            DType::Bool => {
                self.v_un(Un::IAbs, self.size, SCRATCH, a);
                from = SCRATCH;
            }
            DType::BF16 => {
                self.v_un(Un::ShrU(16), Size::Four, SCRATCH, a);
                from = SCRATCH;
            }
            _ => {}
        }
        let code = narrowing(dtype, self.size, active);
        let half = dtype != DType::Bool && self.size == Size::Eight && !active;
        let r = if half { self.half(from) } else { self.vector(from) };
        match (dtype, active) {
            (DType::F16, true) => self.asm.masked_store_with(code, to, r, 0),
            (DType::F16, false) => self.asm.mri(code, to, r, 0),
            (_, true) => self.asm.masked_store(code, to, r),
            (_, false) => self.asm.mr(code, to, r),
        }
    }

    /// The elements of the active lanes, side by side in the scratch register, by their loads one by one.
    fn insert_active(&mut self, dtype: DType, from: MemoryOperand) {
        self.v_bin(Bin::Xor, Size::Four, SCRATCH, SCRATCH, SCRATCH);
        let code = match dtype {
            DType::Bool => Code::VEX_Vpinsrb_xmm_xmm_r32m8_imm8,
            _ => Code::VEX_Vpinsrw_xmm_xmm_r32m16_imm8,
        };
        self.each_active(dtype, from, |e, place, lane| {
            e.asm.rrmi(code, Register::XMM0, Register::XMM0, place, lane);
        });
    }

    /// AVX2's store, through the scratch register.
    fn store_small_avx2(&mut self, dtype: DType, to: MemoryOperand, a: u8, active: bool) {
        let (xmm, scratch) = (Register::XMM0 + u32::from(a), Register::XMM0);
        match (dtype, self.size) {
            (DType::Bool, size) => {
                if size == Size::Four {
                    let whole = self.vector(a);
                    self.asm.rri(Code::VEX_Vextractf128_xmmm128_ymm_imm8, scratch, whole, 1);
                    self.asm.rrr(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, scratch, xmm, scratch);
                } else {
                    self.v_un(Un::Truncate, Size::Four, SCRATCH, a);
                    self.asm.rrr(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, scratch, scratch, scratch);
                }
                self.asm.rrr(Code::VEX_Vpacksswb_xmm_xmm_xmmm128, scratch, scratch, scratch);
                self.asm.rr(Code::VEX_Vpabsb_xmm_xmmm128, scratch, scratch);
            }
            (DType::BF16, size) => {
                self.v_un(Un::ShrU(16), Size::Four, SCRATCH, a);
                if size == Size::Four {
                    self.asm.rri(Code::VEX_Vextractf128_xmmm128_ymm_imm8, Register::XMM1, Register::YMM0, 1);
                } else {
                    self.v_move(SCRATCH_2, SCRATCH);
                }
                self.asm.rrr(Code::VEX_Vpackusdw_xmm_xmm_xmmm128, scratch, scratch, Register::XMM1);
            }
            (_, Size::Four) => {
                let whole = self.vector(a);
                self.asm.rri(Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, scratch, whole, 0);
            }
            (_, Size::Eight) => self.asm.rri(Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8, scratch, xmm, 0),
        }
        if active {
            let code = match dtype {
                DType::Bool => Code::VEX_Vpextrb_r32m8_xmm_imm8,
                _ => Code::VEX_Vpextrw_r32m16_xmm_imm8,
            };
            return self.each_active(dtype, to, |e, place, lane| e.asm.mri(code, place, scratch, lane));
        }
        match self.lanes() * dtype.size() {
            4 => self.asm.mr(Code::VEX_Vmovd_rm32_xmm, to, scratch),
            8 => self.asm.mr(Code::VEX_Vmovq_xmmm64_xmm, to, scratch),
            _ => self.asm.mr(Code::VEX_Vmovups_xmmm128_xmm, to, scratch),
        }
    }

    /// Runs `one` with the place and the number of each lane below `r14`.
    fn each_active(&mut self, dtype: DType, first: MemoryOperand, mut one: impl FnMut(&mut Self, MemoryOperand, i32)) {
        let done = self.asm.label();
        for lane in 0..self.lanes() as i32 {
            self.asm.ri(Code::Cmp_rm64_imm8, Register::R14, lane);
            self.asm.jump(Code::Jle_rel32_64, done);
            let displacement = first.displacement + i64::from(lane) * dtype.size() as i64;
            one(self, MemoryOperand { displacement, displ_size: 1, ..first }, lane);
        }
        self.asm.bind(done);
    }

    /// AVX2's instruction that makes elements as wide as they are in registers, and its result.
    fn widening_avx2(&self, dtype: DType, d: u8) -> (Code, Register) {
        let (whole, half) = (self.vector(d), self.half(d));
        match (dtype, self.size) {
            (DType::Bool, Size::Four) => (Code::VEX_Vpmovzxbd_ymm_xmmm64, whole),
            (DType::Bool, Size::Eight) => (Code::VEX_Vpmovzxbq_ymm_xmmm32, whole),
            (DType::BF16, Size::Four) => (Code::VEX_Vpmovzxwd_ymm_xmmm128, whole),
            (DType::BF16, Size::Eight) => (Code::VEX_Vpmovzxwd_xmm_xmmm64, half),
            (_, Size::Four) => (Code::VEX_Vcvtph2ps_ymm_xmmm128, whole),
            (_, Size::Eight) => (Code::VEX_Vcvtph2ps_xmm_xmmm64, half),
        }
    }
}

/// AVX-512's instruction that makes elements of memory as wide as they are in registers, of a kernel whose widest elements have this
/// size. Under a mask, elements beyond the lanes are not touched, so whole registers do there.
fn widening(dtype: DType, size: Size, active: bool) -> Code {
    let half = size == Size::Eight && !active;
    match (dtype, half) {
        (DType::Bool, _) if size == Size::Four => Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
        (DType::Bool, _) => Code::EVEX_Vpmovzxbq_zmm_k1z_xmmm64,
        (DType::BF16, false) => Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256,
        (DType::BF16, true) => Code::EVEX_Vpmovzxwd_ymm_k1z_xmmm128,
        (_, false) => Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae,
        (_, true) => Code::EVEX_Vcvtph2ps_ymm_k1z_xmmm128,
    }
}

/// See [`widening`].
fn narrowing(dtype: DType, size: Size, active: bool) -> Code {
    let half = size == Size::Eight && !active;
    match (dtype, half) {
        (DType::Bool, _) if size == Size::Four => Code::EVEX_Vpmovdb_xmmm128_k1z_zmm,
        (DType::Bool, _) => Code::EVEX_Vpmovqb_xmmm64_k1z_zmm,
        (DType::BF16, false) => Code::EVEX_Vpmovdw_ymmm256_k1z_zmm,
        (DType::BF16, true) => Code::EVEX_Vpmovdw_xmmm128_k1z_ymm,
        (_, false) => Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae,
        (_, true) => Code::EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8,
    }
}

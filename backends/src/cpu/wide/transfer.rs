//! Vectors to and from memory, each dtype at its own width: whole groups of lanes, and the active lanes alone.

use iced_x86::{Code, MemoryOperand, Register};
use lehr_ir::dtype::DType;

use super::Width;
use super::emitter::Emitter;
use super::size::Size;
use super::vector::SCRATCH;

impl Emitter<'_> {
    /// Neighbours in memory; of the active lanes, and zero elsewhere, if so.
    pub(super) fn v_load_elements(&mut self, dtype: DType, d: u8, from: MemoryOperand, active: bool) {
        match (dtype, active) {
            (DType::Bool | DType::F16 | DType::BF16, _) => self.v_load_small(dtype, d, from, active),
            (_, true) => self.v_load_active(self.size_of(dtype), d, from),
            (_, false) => self.v_load_lanes(self.size_of(dtype), d, from),
        }
    }

    /// Neighbours to memory; of the active lanes if so.
    pub(super) fn v_store_elements(&mut self, dtype: DType, to: MemoryOperand, a: u8, active: bool) {
        match (dtype, active) {
            (DType::Bool | DType::F16 | DType::BF16, _) => self.v_store_small(dtype, to, a, active),
            (_, true) => self.v_store_active(self.size_of(dtype), to, a),
            (_, false) => self.v_store_lanes(self.size_of(dtype), to, a),
        }
    }

    /// As many elements as there are lanes.
    pub(super) fn v_load_lanes(&mut self, size: Size, d: u8, from: MemoryOperand) {
        if size == self.size {
            return self.v_load(d, from);
        }
        let code = self.code(Code::EVEX_Vmovups_ymm_k1z_ymmm256, Code::VEX_Vmovups_xmm_xmmm128);
        self.asm.rm(code, self.half(d), from);
    }

    /// As many elements as there are lanes.
    pub(super) fn v_store_lanes(&mut self, size: Size, to: MemoryOperand, a: u8) {
        if size == self.size {
            return self.v_store(to, a);
        }
        let code = self.code(Code::EVEX_Vmovups_ymmm256_k1z_ymm, Code::VEX_Vmovups_xmmm128_xmm);
        self.asm.mr(code, to, self.half(a));
    }

    /// Loads the active lanes, zero elsewhere.
    pub(super) fn v_load_active(&mut self, size: Size, d: u8, from: MemoryOperand) {
        let (r, half) = (self.vector(d), self.half(d));
        match (self.width, size, self.size) {
            (Width::Avx512, Size::Four, _) => self.asm.masked_load(Code::EVEX_Vmovups_zmm_k1z_zmmm512, r, from),
            (Width::Avx512, Size::Eight, _) => self.asm.masked_load(Code::EVEX_Vmovupd_zmm_k1z_zmmm512, r, from),
            (Width::Avx2, Size::Four, Size::Four) => {
                self.asm.rrm(Code::VEX_Vmaskmovps_ymm_ymm_m256, r, Register::YMM15, from);
            }
            (Width::Avx2, Size::Four, Size::Eight) => {
                self.asm.rrm(Code::VEX_Vmaskmovps_xmm_xmm_m128, half, Register::XMM14, from);
            }
            (Width::Avx2, Size::Eight, _) => {
                self.asm.rrm(Code::VEX_Vmaskmovpd_ymm_ymm_m256, r, Register::YMM15, from);
            }
        }
    }

    /// Stores the active lanes.
    pub(super) fn v_store_active(&mut self, size: Size, to: MemoryOperand, a: u8) {
        let (r, half) = (self.vector(a), self.half(a));
        match (self.width, size, self.size) {
            (Width::Avx512, Size::Four, _) => self.asm.masked_store(Code::EVEX_Vmovups_zmmm512_k1z_zmm, to, r),
            (Width::Avx512, Size::Eight, _) => self.asm.masked_store(Code::EVEX_Vmovupd_zmmm512_k1z_zmm, to, r),
            (Width::Avx2, Size::Four, Size::Four) => {
                self.asm.mrr(Code::VEX_Vmaskmovps_m256_ymm_ymm, to, Register::YMM15, r);
            }
            (Width::Avx2, Size::Four, Size::Eight) => {
                self.asm.mrr(Code::VEX_Vmaskmovps_m128_xmm_xmm, to, Register::XMM14, half);
            }
            (Width::Avx2, Size::Eight, _) => {
                self.asm.mrr(Code::VEX_Vmaskmovpd_m256_ymm_ymm, to, Register::YMM15, r);
            }
        }
    }

    /// Stores the first element.
    pub(super) fn v_store_first(&mut self, size: Size, to: MemoryOperand, a: u8) {
        self.v_move(SCRATCH, a);
        match size {
            Size::Four => self.asm.mr(Code::VEX_Vmovss_m32_xmm, to, Register::XMM0),
            Size::Eight => self.asm.mr(Code::VEX_Vmovsd_m64_xmm, to, Register::XMM0),
        }
    }
}

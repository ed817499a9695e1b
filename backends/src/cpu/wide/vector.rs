//! Vector instructions of both widths.
//!
//! Vector registers 0 and 1 are scratch. AVX-512 keeps the mask of the active lanes in k1 and compares into k2;
//! AVX2 keeps the mask in vector register 15.

use iced_x86::{Code, MemoryOperand, Register};

use super::Width;
use super::assembler::frame;
use super::emitter::Emitter;
use super::segment::{Bin, Element, Order, Un};

/// A scratch register.
pub(super) const SCRATCH: u8 = 0;
/// Another scratch register.
pub(super) const SCRATCH_2: u8 = 1;
/// The mask of AVX2.
const MASK: u8 = 15;

/// The registers that values may have.
pub(super) fn allocatable(width: Width) -> std::ops::Range<u8> {
    match width {
        Width::Avx2 => 2..MASK,
        Width::Avx512 => 2..32,
    }
}

impl Emitter<'_> {
    /// The whole vector register of a number.
    pub(super) fn vector(&self, n: u8) -> Register {
        match self.width {
            Width::Avx2 => Register::YMM0 + u32::from(n),
            Width::Avx512 => Register::ZMM0 + u32::from(n),
        }
    }

    fn code(&self, avx512: Code, avx2: Code) -> Code {
        match self.width {
            Width::Avx2 => avx2,
            Width::Avx512 => avx512,
        }
    }

    pub(super) fn v_move(&mut self, d: u8, a: u8) {
        if d != a {
            let code = self.code(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, Code::VEX_Vmovaps_ymm_ymmm256);
            self.asm.rr(code, self.vector(d), self.vector(a));
        }
    }

    pub(super) fn v_load(&mut self, d: u8, from: MemoryOperand) {
        let code = self.code(Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256);
        self.asm.rm(code, self.vector(d), from);
    }

    pub(super) fn v_store(&mut self, to: MemoryOperand, a: u8) {
        let code = self.code(Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm);
        self.asm.mr(code, to, self.vector(a));
    }

    /// Loads the active lanes, zero elsewhere.
    pub(super) fn v_load_active(&mut self, d: u8, from: MemoryOperand) {
        let d = self.vector(d);
        match self.width {
            Width::Avx512 => self.asm.masked_load(Code::EVEX_Vmovups_zmm_k1z_zmmm512, d, from),
            Width::Avx2 => self.asm.rrm(Code::VEX_Vmaskmovps_ymm_ymm_m256, d, Register::YMM15, from),
        }
    }

    /// Stores the active lanes.
    pub(super) fn v_store_active(&mut self, to: MemoryOperand, a: u8) {
        let a = self.vector(a);
        match self.width {
            Width::Avx512 => self.asm.masked_store(Code::EVEX_Vmovups_zmmm512_k1z_zmm, to, a),
            Width::Avx2 => self.asm.mrr(Code::VEX_Vmaskmovps_m256_ymm_ymm, to, Register::YMM15, a),
        }
    }

    /// Stores the first element.
    pub(super) fn v_store_first(&mut self, to: MemoryOperand, a: u8) {
        self.v_move(SCRATCH, a);
        self.asm.mr(Code::VEX_Vmovss_m32_xmm, to, Register::XMM0);
    }

    /// One element of memory in every element.
    pub(super) fn v_splat(&mut self, d: u8, from: MemoryOperand) {
        let code = self.code(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32);
        self.asm.rm(code, self.vector(d), from);
    }

    /// The low half of `rax` in every element.
    pub(super) fn v_splat_eax(&mut self, d: u8) {
        let d = self.vector(d);
        match self.width {
            Width::Avx512 => self.asm.rr(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, d, Register::EAX),
            Width::Avx2 => {
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, Register::XMM0, Register::EAX);
                self.asm.rr(Code::VEX_Vpbroadcastd_ymm_xmmm32, d, Register::XMM0);
            }
        }
    }

    pub(super) fn v_constant(&mut self, d: u8, bits: u32) {
        if bits == 0 {
            return self.v_bin(Bin::Xor, d, d, d);
        }
        self.asm.ri(Code::Mov_rm32_imm32, Register::EAX, bits as i32);
        self.v_splat_eax(d);
    }

    /// Makes the lanes below `r14` the active ones; there are at most as many as a vector has.
    pub(super) fn v_activate(&mut self) {
        match self.width {
            Width::Avx512 => {
                self.asm.ri(Code::Mov_rm32_imm32, Register::EAX, -1);
                self.asm.rrr(Code::VEX_Bzhi_r32_rm32_r32, Register::EAX, Register::EAX, Register::R14D);
                self.asm.rr(Code::VEX_Kmovw_kr_r32, Register::K1, Register::EAX);
            }
            Width::Avx2 => {
                let numbers = frame(self.lane_numbers);
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, Register::XMM0, Register::R14D);
                self.asm.rr(Code::VEX_Vpbroadcastd_ymm_xmmm32, Register::YMM0, Register::XMM0);
                self.asm.rrm(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, Register::YMM15, Register::YMM0, numbers);
            }
        }
    }

    pub(super) fn v_bin(&mut self, op: Bin, d: u8, a: u8, b: u8) {
        let (avx512, avx2) = match op {
            Bin::Add => (Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
            Bin::Sub => (Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
            Bin::Mul => (Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
            Bin::Div => (Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
            Bin::Max => (Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
            Bin::Min => (Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
            Bin::IAdd => (Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256),
            Bin::ISub => (Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsubd_ymm_ymm_ymmm256),
            Bin::IMul => (Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmulld_ymm_ymm_ymmm256),
            Bin::MaxS => (Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmaxsd_ymm_ymm_ymmm256),
            Bin::MaxU => (Code::EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmaxud_ymm_ymm_ymmm256),
            Bin::MinS => (Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpminsd_ymm_ymm_ymmm256),
            Bin::MinU => (Code::EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpminud_ymm_ymm_ymmm256),
            Bin::And => (Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpand_ymm_ymm_ymmm256),
            Bin::Or => (Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpor_ymm_ymm_ymmm256),
            Bin::Xor => (Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpxor_ymm_ymm_ymmm256),
            Bin::AndNot => (Code::EVEX_Vpandnd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpandn_ymm_ymm_ymmm256),
            Bin::Shl => (Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsllvd_ymm_ymm_ymmm256),
            Bin::ShrU => (Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsrlvd_ymm_ymm_ymmm256),
            Bin::ShrS => (Code::EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsravd_ymm_ymm_ymmm256),
        };
        self.asm.rrr(self.code(avx512, avx2), self.vector(d), self.vector(a), self.vector(b));
    }

    pub(super) fn v_un(&mut self, op: Un, d: u8, a: u8) {
        let (r, s) = (self.vector(d), self.vector(a));
        let round = self.code(Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Code::VEX_Vroundps_ymm_ymmm256_imm8);
        // Rounding modes, with the inexact exception suppressed.
        match op {
            Un::Round => return self.asm.rri(round, r, s, 8),
            Un::Floor => return self.asm.rri(round, r, s, 9),
            Un::Ceil => return self.asm.rri(round, r, s, 10),
            Un::Trunc => return self.asm.rri(round, r, s, 11),
            Un::Shl(n) => {
                let code = self.code(Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8);
                return self.asm.rri(code, r, s, i32::from(n));
            }
            Un::ShrS(n) => {
                let code = self.code(Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrad_ymm_ymm_imm8);
                return self.asm.rri(code, r, s, i32::from(n));
            }
            Un::Sqrt | Un::ToInt | Un::ToFloat | Un::IAbs => {}
        }
        let (avx512, avx2) = match op {
            Un::Sqrt => (Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256),
            Un::ToInt => (Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, Code::VEX_Vcvttps2dq_ymm_ymmm256),
            Un::ToFloat => (Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256),
            Un::IAbs | Un::Round | Un::Floor | Un::Ceil | Un::Trunc | Un::Shl(_) | Un::ShrS(_) => {
                (Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32, Code::VEX_Vpabsd_ymm_ymmm256)
            }
        };
        self.asm.rr(self.code(avx512, avx2), r, s);
    }

    /// All bits set where the comparison holds. Reads both operands before it writes `d`.
    pub(super) fn v_compare(&mut self, order: Order, element: Element, d: u8, a: u8, b: u8) {
        let float = match order {
            Order::Eq => 0x00,
            Order::Ne => 0x04,
            Order::Lt => 0x11,
            Order::Le => 0x12,
            Order::Gt => 0x1e,
            Order::Ge => 0x1d,
            Order::Unordered => 0x03,
        };
        let integer = match order {
            Order::Eq => 0,
            Order::Lt => 1,
            Order::Le => 2,
            Order::Ne => 4,
            Order::Ge => 5,
            Order::Gt => 6,
            // No integer is.
            Order::Unordered => 3,
        };
        let (x, y) = (self.vector(a), self.vector(b));
        match (self.width, element) {
            (Width::Avx2, Element::F32) => {
                self.asm.rrri(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, self.vector(d), x, y, float);
            }
            (Width::Avx2, Element::Signed | Element::Unsigned) => self.compare_integers_avx2(order, element, d, a, b),
            (Width::Avx512, Element::F32) => {
                self.asm.rrri(Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, Register::K2, x, y, float);
                self.asm.rr(Code::EVEX_Vpmovm2d_zmm_kr, self.vector(d), Register::K2);
            }
            (Width::Avx512, Element::Signed | Element::Unsigned) => {
                let signed = element == Element::Signed;
                let code = if signed {
                    Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8
                } else {
                    Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8
                };
                self.asm.rrri(code, Register::K2, x, y, integer);
                self.asm.rr(Code::EVEX_Vpmovm2d_zmm_kr, self.vector(d), Register::K2);
            }
        }
    }

    /// AVX2 compares for equality and, signed, for greater.
    fn compare_integers_avx2(&mut self, order: Order, element: Element, d: u8, a: u8, b: u8) {
        let (code, x, y, negate) = match order {
            Order::Eq => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, a, b, false),
            Order::Ne | Order::Unordered => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, a, b, true),
            Order::Gt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, a, b, false),
            Order::Le => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, a, b, true),
            Order::Lt => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, b, a, false),
            Order::Ge => (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, b, a, true),
        };
        let ordered = !matches!(order, Order::Eq | Order::Ne | Order::Unordered);
        if element == Element::Unsigned && ordered {
            // With the highest bit flipped, unsigned order is signed order. The constant goes through both scratch registers.
            self.v_constant(SCRATCH_2, 1 << 31);
            self.v_bin(Bin::Xor, SCRATCH, x, SCRATCH_2);
            self.v_bin(Bin::Xor, SCRATCH_2, y, SCRATCH_2);
            self.asm.rrr(code, self.vector(SCRATCH), self.vector(SCRATCH), self.vector(SCRATCH_2));
        } else {
            self.asm.rrr(code, self.vector(SCRATCH), self.vector(x), self.vector(y));
        }
        if negate {
            self.v_constant_ones(SCRATCH_2);
            self.v_bin(Bin::Xor, SCRATCH, SCRATCH, SCRATCH_2);
        }
        self.v_move(d, SCRATCH);
    }

    fn v_constant_ones(&mut self, d: u8) {
        let d = self.vector(d);
        self.asm.rrr(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, d, d, d);
    }

    /// `a·b + c`; `d` may be any of them.
    pub(super) fn v_fma(&mut self, d: u8, a: u8, b: u8, c: u8) {
        let multiply =
            self.code(Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256);
        let add = self.code(Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256);
        let reg = |e: &Self, n| e.vector(n);
        if d == c {
            self.asm.rrr(add, reg(self, d), reg(self, a), reg(self, b));
        } else if d == a {
            self.asm.rrr(multiply, reg(self, d), reg(self, b), reg(self, c));
        } else if d == b {
            self.asm.rrr(multiply, reg(self, d), reg(self, a), reg(self, c));
        } else {
            self.v_move(d, c);
            self.asm.rrr(add, reg(self, d), reg(self, a), reg(self, b));
        }
    }

    /// `m ? a : b` for masks of all bits or none; `d` may be any of them.
    pub(super) fn v_select(&mut self, d: u8, m: u8, a: u8, b: u8) {
        let (r, rm, ra, rb) = (self.vector(d), self.vector(m), self.vector(a), self.vector(b));
        if self.width == Width::Avx2 {
            return self.asm.rrrr(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, r, rb, ra, rm);
        }
        let code = Code::EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8;
        // The truth tables of a choice between the other two operands by the first, second and third of (d, x, y).
        if d == a {
            self.asm.rrri(code, r, rm, rb, 0xe2);
        } else if d == b {
            self.asm.rrri(code, r, rm, ra, 0xb8);
        } else {
            self.v_move(d, m);
            self.asm.rrri(code, r, ra, rb, 0xca);
        }
    }
}

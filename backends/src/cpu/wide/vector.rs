//! Vector instructions of both widths.
//!
//! Vector registers 0 and 1 are scratch. AVX-512 keeps the mask of the active lanes in k1 and compares into k2;
//! AVX2 keeps the mask in vector register 15.

use iced_x86::{Code, MemoryOperand, Register};

use super::Width;
use super::assembler::{Src, frame};
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
        let b = Src::Register(self.vector(b));
        self.v_bin_with(op, d, a, b);
    }

    /// The same with its second operand anywhere.
    pub(super) fn v_bin_with(&mut self, op: Bin, d: u8, a: u8, b: Src) {
        let (avx512, avx2) = match op {
            Bin::Add => (Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
            Bin::Sub => (Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
            Bin::Mul => (Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
            Bin::Div => (Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
            Bin::Max => (Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
            Bin::Min => (Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
            // AVX2 has none, and segments for it make none.
            Bin::Scale => (Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er, Code::INVALID),
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
        self.asm.rrs(self.code(avx512, avx2), self.vector(d), self.vector(a), b);
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
        match (self.width, element) {
            (Width::Avx2, Element::F32) => {
                let (x, y) = (self.vector(a), self.vector(b));
                self.asm.rrri(Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, self.vector(d), x, y, float_predicate(order));
            }
            (Width::Avx2, Element::Signed | Element::Unsigned) => self.compare_integers_avx2(order, element, d, a, b),
            (Width::Avx512, _) => {
                let b = Src::Register(self.vector(b));
                self.compare_to_mask(order, element, a, b);
                self.asm.rr(Code::EVEX_Vpmovm2d_zmm_kr, self.vector(d), Register::K2);
            }
        }
    }

    /// Sets k2 where the comparison holds.
    pub(super) fn compare_to_mask(&mut self, order: Order, element: Element, a: u8, b: Src) {
        let (code, predicate) = match element {
            Element::F32 => (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, float_predicate(order)),
            Element::Signed => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, integer_predicate(order)),
            Element::Unsigned => (Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8, integer_predicate(order)),
        };
        self.asm.rrsi(code, Register::K2, self.vector(a), b, predicate);
    }

    /// `x` and `y` compare so ? `a` : `b`. Only AVX-512 takes `y` from memory.
    pub(super) fn v_choose(&mut self, (order, element): (Order, Element), d: u8, x: u8, y: Src, a: Src, b: u8) {
        match (self.width, y) {
            (Width::Avx2, Src::Register(y)) => {
                let y = (y as u32 - Register::YMM0 as u32) as u8;
                self.v_compare(order, element, SCRATCH, x, y);
                let code = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
                self.asm.rrsr(code, self.vector(d), self.vector(b), a, self.vector(SCRATCH));
            }
            (_, _) => {
                self.compare_to_mask(order, element, x, y);
                self.asm.rrs_k2(Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, self.vector(d), self.vector(b), a);
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

    /// `a·b + c` with one operand in memory, and which one; `d` may be any of the others.
    pub(super) fn v_fma_memory(&mut self, d: u8, [x, y]: [u8; 2], from: MemoryOperand, addend: bool) {
        let code = |e: &Self, avx512, avx2| e.code(avx512, avx2);
        let x213 = code(self, Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256);
        let x231 = code(self, Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256);
        let x132 = code(self, Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256);
        // With the addend in memory, the factors are x and y; else x is a factor and y the addend.
        let (code, other) = match (addend, d == x, d == y) {
            (true, _, true) => (x213, x),
            (true, true, _) => (x213, y),
            (true, ..) => {
                self.v_move(d, x);
                (x213, y)
            }
            (false, _, true) => (x231, x),
            (false, true, _) => (x132, y),
            (false, ..) => {
                self.v_move(d, y);
                (x231, x)
            }
        };
        self.asm.rrm(code, self.vector(d), self.vector(other), from);
    }

    /// Bools of memory, of the active lanes, zero elsewhere. AVX-512 only.
    pub(super) fn v_load_bools(&mut self, d: u8, from: MemoryOperand, active: bool) {
        let code = Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128;
        let r = self.vector(d);
        if active {
            self.asm.masked_load(code, r, from)
        } else {
            self.asm.rm(code, r, from)
        }
        self.v_un(Un::Shl(31), d, d);
        self.v_un(Un::ShrS(31), d, d);
    }

    /// Stores the active lanes as bools. AVX-512 only.
    pub(super) fn v_store_bools(&mut self, to: MemoryOperand, a: u8, active: bool) {
        self.v_un(Un::IAbs, SCRATCH, a);
        let (code, r) = (Code::EVEX_Vpmovdb_xmmm128_k1z_zmm, self.vector(SCRATCH));
        if active { self.asm.masked_store(code, to, r) } else { self.asm.mr(code, to, r) }
    }

    /// The elements moved down by `n`, a power of two below the number of lanes; what comes in above is of no matter.
    pub(super) fn v_rotate(&mut self, d: u8, a: u8, n: u8) {
        let (r, s) = (self.vector(d), self.vector(a));
        match (self.width, n) {
            (Width::Avx512, _) => {
                self.asm.rrri(Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8, r, s, s, i32::from(n));
            }
            (Width::Avx2, 4) => self.asm.rrri(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, r, s, s, 1),
            (Width::Avx2, 2) => self.asm.rri(Code::VEX_Vpermilps_ymm_ymmm256_imm8, r, s, 0b1110),
            (Width::Avx2, _) => self.asm.rri(Code::VEX_Vpermilps_ymm_ymmm256_imm8, r, s, 1),
        }
    }

    /// The first element in every element.
    pub(super) fn v_first(&mut self, d: u8, a: u8) {
        let code = self.code(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_xmm);
        self.asm.rr(code, self.vector(d), Register::XMM0 + u32::from(a));
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

fn float_predicate(order: Order) -> i32 {
    match order {
        Order::Eq => 0x00,
        Order::Ne => 0x04,
        Order::Lt => 0x11,
        Order::Le => 0x12,
        Order::Gt => 0x1e,
        Order::Ge => 0x1d,
        Order::Unordered => 0x03,
    }
}

fn integer_predicate(order: Order) -> i32 {
    match order {
        Order::Eq => 0,
        Order::Lt => 1,
        Order::Le => 2,
        Order::Ne => 4,
        Order::Ge => 5,
        Order::Gt => 6,
        // No integer is.
        Order::Unordered => 3,
    }
}

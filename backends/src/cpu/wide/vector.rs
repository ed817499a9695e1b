//! Vector instructions of both widths.
//!
//! Vector registers 0 and 1 are scratch. AVX-512 keeps the mask of the active lanes in k1 and compares into k2;
//! AVX2 keeps the mask in vector register 15, and in 14 the mask of four-byte elements where there are wider ones.

use iced_x86::{Code, MemoryOperand, Register};

use super::Width;
use super::assembler::{Src, frame};
use super::codes::{self, Codes, Fma, Halves};
use super::emitter::Emitter;
use super::segment::{Bin, Element, Order, Un};
use super::size::Size;

/// A scratch register.
pub(super) const SCRATCH: u8 = 0;
/// Another scratch register.
pub(super) const SCRATCH_2: u8 = 1;

/// The registers that values may have.
pub(super) fn allocatable(width: Width, size: Size) -> std::ops::Range<u8> {
    match (width, size) {
        (Width::Avx2, Size::Four) => 2..15,
        (Width::Avx2, Size::Eight) => 2..14,
        (Width::Avx512, _) => 2..32,
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

    /// The low half of a vector register.
    pub(super) fn half(&self, n: u8) -> Register {
        match self.width {
            Width::Avx2 => Register::XMM0 + u32::from(n),
            Width::Avx512 => Register::YMM0 + u32::from(n),
        }
    }

    pub(super) fn code(&self, avx512: Code, avx2: Code) -> Code {
        self.of((avx512, avx2))
    }

    fn of(&self, (avx512, avx2): Codes) -> Code {
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

    /// One element of memory in every element.
    pub(super) fn v_splat(&mut self, size: Size, d: u8, from: MemoryOperand) {
        let codes = match size {
            Size::Four => (Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32),
            Size::Eight => (Code::EVEX_Vbroadcastsd_zmm_k1z_xmmm64, Code::VEX_Vbroadcastsd_ymm_m64),
        };
        self.asm.rm(self.of(codes), self.vector(d), from);
    }

    /// A general register, of which four bytes may count, in every element.
    pub(super) fn v_splat_register(&mut self, size: Size, d: u8, from: Register) {
        let d = self.vector(d);
        let from = if size == Size::Four { low_half(from) } else { from };
        match (self.width, size) {
            (Width::Avx512, Size::Four) => self.asm.rr(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, d, from),
            (Width::Avx512, Size::Eight) => self.asm.rr(Code::EVEX_Vpbroadcastq_zmm_k1z_r64, d, from),
            (Width::Avx2, Size::Four) => {
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, Register::XMM0, from);
                self.asm.rr(Code::VEX_Vpbroadcastd_ymm_xmmm32, d, Register::XMM0);
            }
            (Width::Avx2, Size::Eight) => {
                self.asm.rr(Code::VEX_Vmovq_xmm_rm64, Register::XMM0, from);
                self.asm.rr(Code::VEX_Vpbroadcastq_ymm_xmmm64, d, Register::XMM0);
            }
        }
    }

    pub(super) fn v_constant(&mut self, size: Size, d: u8, bits: u64) {
        if bits == 0 {
            return self.v_bin(Bin::Xor, size, d, d, d);
        }
        match size {
            Size::Four => self.asm.ri(Code::Mov_rm32_imm32, Register::EAX, bits as i32),
            Size::Eight => self.asm.constant(Register::RAX, bits.cast_signed()),
        }
        self.v_splat_register(size, d, Register::RAX);
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
                if self.size == Size::Four {
                    self.asm.rrm(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, Register::YMM15, Register::YMM0, numbers);
                } else {
                    self.asm.rrm(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, Register::YMM14, Register::YMM0, numbers);
                    self.asm.rr(Code::VEX_Vpmovsxdq_ymm_xmmm128, Register::YMM15, Register::XMM14);
                }
            }
        }
    }

    pub(super) fn v_bin(&mut self, op: Bin, size: Size, d: u8, a: u8, b: u8) {
        let b = Src::Register(self.vector(b));
        self.v_bin_with(op, size, d, a, b);
    }

    /// The same with its second operand anywhere.
    pub(super) fn v_bin_with(&mut self, op: Bin, size: Size, d: u8, a: u8, b: Src) {
        self.asm.rrs(self.of(codes::bin(op, size)), self.vector(d), self.vector(a), b);
    }

    /// An operation whose result has elements of a size.
    pub(super) fn v_un(&mut self, op: Un, size: Size, d: u8, a: u8) {
        if (op, self.width) == (Un::Truncate, Width::Avx2) {
            // The low halves of elements 2 and 3 come down beside those of elements 0 and 1.
            let free = self.half(if a == SCRATCH { SCRATCH_2 } else { SCRATCH });
            self.asm.rri(Code::VEX_Vextractf128_xmmm128_ymm_imm8, free, self.vector(a), 1);
            return self.asm.rrri(
                Code::VEX_Vshufps_xmm_xmm_xmmm128_imm8,
                self.half(d),
                self.half(a),
                free,
                0b10_00_10_00,
            );
        }
        if op == Un::RoundF16 {
            let (r, half) = (self.vector(d), self.half(d));
            let to = self.code(Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8);
            let back = self.code(Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, Code::VEX_Vcvtph2ps_ymm_xmmm128);
            // To nearest, whatever the control register says.
            self.asm.rri(to, half, self.vector(a), 0);
            return self.asm.rr(back, r, half);
        }
        let unary = codes::un(op, size);
        let code = self.of(unary.codes);
        let (r, s) = match unary.halves {
            Halves::None => (self.vector(d), self.vector(a)),
            Halves::Operand => (self.vector(d), self.half(a)),
            Halves::Result => (self.half(d), self.vector(a)),
        };
        match unary.immediate {
            Some(immediate) => self.asm.rri(code, r, s, immediate),
            None => self.asm.rr(code, r, s),
        }
    }

    /// All bits set where the comparison holds. Reads both operands before it writes `d`.
    pub(super) fn v_compare(&mut self, order: Order, element: Element, d: u8, a: u8, b: u8) {
        match (self.width, element) {
            (Width::Avx2, Element::Float(size)) => {
                let (x, y) = (self.vector(a), self.vector(b));
                let code = match size {
                    Size::Four => Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
                    Size::Eight => Code::VEX_Vcmppd_ymm_ymm_ymmm256_imm8,
                };
                self.asm.rrri(code, self.vector(d), x, y, codes::float_predicate(order));
            }
            (Width::Avx2, Element::Signed(_) | Element::Unsigned(_)) => {
                self.compare_integers_avx2(order, element, d, a, b);
            }
            (Width::Avx512, _) => {
                let b = Src::Register(self.vector(b));
                self.compare_to_mask(order, element, a, b);
                let code = match element.size() {
                    Size::Four => Code::EVEX_Vpmovm2d_zmm_kr,
                    Size::Eight => Code::EVEX_Vpmovm2q_zmm_kr,
                };
                self.asm.rr(code, self.vector(d), Register::K2);
            }
        }
    }

    /// Sets k2 where the comparison holds.
    pub(super) fn compare_to_mask(&mut self, order: Order, element: Element, a: u8, b: Src) {
        let (code, predicate) = codes::compare(order, element);
        self.asm.rrsi(code, Register::K2, self.vector(a), b, predicate);
    }

    /// `x` and `y` compare so ? `a` : `b`, which are elements of a size. Only AVX-512 takes `y` from memory.
    pub(super) fn v_choose(&mut self, compare: (Order, Element), size: Size, d: u8, [x, y]: [Src; 2], a: Src, b: u8) {
        let (order, element) = compare;
        let x = self.number(x);
        match (self.width, y) {
            (Width::Avx2, Src::Register(_)) => {
                let y = self.number(y);
                self.v_compare(order, element, SCRATCH, x, y);
                match (element.size(), size) {
                    (Size::Four, Size::Eight) => self.v_un(Un::SignExtend, size, SCRATCH, SCRATCH),
                    (Size::Eight, Size::Four) => self.v_un(Un::Truncate, size, SCRATCH, SCRATCH),
                    (Size::Four, Size::Four) | (Size::Eight, Size::Eight) => {}
                }
                let code = blend_avx2(size);
                self.asm.rrsr(code, self.vector(d), self.vector(b), a, self.vector(SCRATCH));
            }
            (_, _) => {
                self.compare_to_mask(order, element, x, y);
                self.asm.rrs_k2(blend_k2(size), self.vector(d), self.vector(b), a);
            }
        }
    }

    /// The number of a vector register; the scratch register's for memory, which none of its callers has.
    fn number(&self, r: Src) -> u8 {
        match r {
            Src::Register(r) => (r as u32 - self.vector(0) as u32) as u8,
            Src::Memory(_) => SCRATCH,
        }
    }

    /// AVX2 compares for equality and, signed, for greater.
    fn compare_integers_avx2(&mut self, order: Order, element: Element, d: u8, a: u8, b: u8) {
        let size = element.size();
        let (equal, greater) = match size {
            Size::Four => (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256),
            Size::Eight => (Code::VEX_Vpcmpeqq_ymm_ymm_ymmm256, Code::VEX_Vpcmpgtq_ymm_ymm_ymmm256),
        };
        let (code, x, y, negate) = match order {
            Order::Eq => (equal, a, b, false),
            Order::Ne | Order::Unordered => (equal, a, b, true),
            Order::Gt => (greater, a, b, false),
            Order::Le => (greater, a, b, true),
            Order::Lt => (greater, b, a, false),
            Order::Ge => (greater, b, a, true),
        };
        let ordered = !matches!(order, Order::Eq | Order::Ne | Order::Unordered);
        if matches!(element, Element::Unsigned(_)) && ordered {
            // With the highest bit flipped, unsigned order is signed order. The constant goes through both scratch registers.
            self.v_constant(size, SCRATCH_2, size.sign());
            self.v_bin(Bin::Xor, size, SCRATCH, x, SCRATCH_2);
            self.v_bin(Bin::Xor, size, SCRATCH_2, y, SCRATCH_2);
            self.asm.rrr(code, self.vector(SCRATCH), self.vector(SCRATCH), self.vector(SCRATCH_2));
        } else {
            self.asm.rrr(code, self.vector(SCRATCH), self.vector(x), self.vector(y));
        }
        if negate {
            self.v_constant_ones(SCRATCH_2);
            self.v_bin(Bin::Xor, size, SCRATCH, SCRATCH, SCRATCH_2);
        }
        self.v_move(d, SCRATCH);
    }

    fn v_constant_ones(&mut self, d: u8) {
        let d = self.vector(d);
        self.asm.rrr(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, d, d, d);
    }

    /// `a·b + c`; `d` may be any of them.
    pub(super) fn v_fma(&mut self, size: Size, d: u8, a: u8, b: u8, c: u8) {
        let (multiply, add) = (self.of(codes::fma(Fma::FactorAddend, size)), self.of(codes::fma(Fma::Addend, size)));
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
    pub(super) fn v_fma_memory(&mut self, size: Size, d: u8, [x, y]: [u8; 2], from: MemoryOperand, addend: bool) {
        let [x213, x231, x132] =
            [Fma::FactorAddend, Fma::Addend, Fma::Factor].map(|form| self.of(codes::fma(form, size)));
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

    /// The elements moved down by `n`, a power of two below the number of lanes; what comes in above is of no matter.
    pub(super) fn v_rotate(&mut self, size: Size, d: u8, a: u8, n: u8) {
        let (r, s) = (self.vector(d), self.vector(a));
        // In fours of bytes.
        let fours = n * (size.bytes() / 4) as u8;
        match (self.width, fours) {
            (Width::Avx512, _) => {
                self.asm.rrri(Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8, r, s, s, i32::from(fours));
            }
            (Width::Avx2, 4) => self.asm.rrri(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, r, s, s, 1),
            (Width::Avx2, 2) => self.asm.rri(Code::VEX_Vpermilps_ymm_ymmm256_imm8, r, s, 0b1110),
            (Width::Avx2, _) => self.asm.rri(Code::VEX_Vpermilps_ymm_ymmm256_imm8, r, s, 1),
        }
    }

    /// The first element in every element.
    pub(super) fn v_first(&mut self, size: Size, d: u8, a: u8) {
        let codes = match size {
            Size::Four => (Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_xmm),
            Size::Eight => (Code::EVEX_Vbroadcastsd_zmm_k1z_xmmm64, Code::VEX_Vbroadcastsd_ymm_xmm),
        };
        self.asm.rr(self.of(codes), self.vector(d), Register::XMM0 + u32::from(a));
    }

    /// `m ? a : b` for masks of all bits or none, which may be of another size than `a` and `b`; `d` may be any of them.
    pub(super) fn v_select(&mut self, mask: Size, size: Size, d: u8, m: u8, a: u8, b: u8) {
        let (r, ra, rb) = (self.vector(d), self.vector(a), self.vector(b));
        if mask != size && self.width == Width::Avx512 {
            let code = if mask == Size::Four { Code::EVEX_Vpmovd2m_kr_zmm } else { Code::EVEX_Vpmovq2m_kr_zmm };
            self.asm.rr(code, Register::K2, self.vector(m));
            return self.asm.rrs_k2(blend_k2(size), r, rb, Src::Register(ra));
        }
        let m = if mask == size {
            m
        } else {
            let op = if size == Size::Eight { Un::SignExtend } else { Un::Truncate };
            self.v_un(op, size, SCRATCH, m);
            SCRATCH
        };
        let rm = self.vector(m);
        if self.width == Width::Avx2 {
            return self.asm.rrrr(blend_avx2(size), r, rb, ra, rm);
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

fn blend_k2(size: Size) -> Code {
    match size {
        Size::Four => Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32,
        Size::Eight => Code::EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64,
    }
}

fn blend_avx2(size: Size) -> Code {
    match size {
        Size::Four => Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm,
        Size::Eight => Code::VEX_Vblendvpd_ymm_ymm_ymmm256_ymm,
    }
}

/// The low four bytes of `rax`, `rcx`, `rdx` or `r15`.
pub(super) fn low_half(r: Register) -> Register {
    match r {
        Register::RCX => Register::ECX,
        Register::RDX => Register::EDX,
        Register::R15 => Register::R15D,
        _ => Register::EAX,
    }
}

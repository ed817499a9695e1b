//! Which instruction an operation is, for AVX-512 and for AVX2. `INVALID` stands where AVX2 has none, and segments for it make none.

use iced_x86::Code;

use super::segment::{Bin, Element, Order, Un};
use super::size::Size;

/// AVX-512's instruction and AVX2's.
pub(super) type Codes = (Code, Code);

/// An operation of two vectors of elements of a size.
pub(super) fn bin(op: Bin, size: Size) -> Codes {
    match size {
        Size::Four => bin_four(op),
        Size::Eight => bin_eight(op),
    }
}

fn bin_four(op: Bin) -> Codes {
    match op {
        Bin::Add => (Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256),
        Bin::Sub => (Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vsubps_ymm_ymm_ymmm256),
        Bin::Mul => (Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vmulps_ymm_ymm_ymmm256),
        Bin::Div => (Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vdivps_ymm_ymm_ymmm256),
        Bin::Max => (Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
        Bin::Min => (Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, Code::VEX_Vminps_ymm_ymm_ymmm256),
        Bin::Scale => (Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er, Code::INVALID),
        Bin::IAdd => (Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256),
        Bin::ISub => (Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpsubd_ymm_ymm_ymmm256),
        Bin::IMul => (Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpmulld_ymm_ymm_ymmm256),
        Bin::MulLow => (Code::INVALID, Code::INVALID),
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
    }
}

fn bin_eight(op: Bin) -> Codes {
    match op {
        Bin::Add => (Code::EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vaddpd_ymm_ymm_ymmm256),
        Bin::Sub => (Code::EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vsubpd_ymm_ymm_ymmm256),
        Bin::Mul => (Code::EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vmulpd_ymm_ymm_ymmm256),
        Bin::Div => (Code::EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vdivpd_ymm_ymm_ymmm256),
        Bin::Max => (Code::EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae, Code::VEX_Vmaxpd_ymm_ymm_ymmm256),
        Bin::Min => (Code::EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae, Code::VEX_Vminpd_ymm_ymm_ymmm256),
        Bin::Scale => (Code::EVEX_Vscalefpd_zmm_k1z_zmm_zmmm512b64_er, Code::INVALID),
        Bin::IAdd => (Code::EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpaddq_ymm_ymm_ymmm256),
        Bin::ISub => (Code::EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpsubq_ymm_ymm_ymmm256),
        Bin::IMul => (Code::EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
        Bin::MulLow => (Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpmuludq_ymm_ymm_ymmm256),
        Bin::MaxS => (Code::EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
        Bin::MaxU => (Code::EVEX_Vpmaxuq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
        Bin::MinS => (Code::EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
        Bin::MinU => (Code::EVEX_Vpminuq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
        Bin::And => (Code::EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpand_ymm_ymm_ymmm256),
        Bin::Or => (Code::EVEX_Vporq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpor_ymm_ymm_ymmm256),
        Bin::Xor => (Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpxor_ymm_ymm_ymmm256),
        Bin::AndNot => (Code::EVEX_Vpandnq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpandn_ymm_ymm_ymmm256),
        Bin::Shl => (Code::EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpsllvq_ymm_ymm_ymmm256),
        Bin::ShrU => (Code::EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64, Code::VEX_Vpsrlvq_ymm_ymm_ymmm256),
        Bin::ShrS => (Code::EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64, Code::INVALID),
    }
}

/// Which halves of registers an operation of one vector takes and gives, and whether it has an immediate.
#[derive(Clone, Copy)]
pub(super) struct Unary {
    pub(super) codes: Codes,
    pub(super) halves: Halves,
    pub(super) immediate: Option<i32>,
}

/// Which register is half a vector.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Halves {
    None,
    Operand,
    Result,
}

/// An operation of one vector whose result has elements of a size. [`Un::Truncate`] of AVX2 and [`Un::RoundF16`] are two instructions,
/// and none here.
pub(super) fn un(op: Un, size: Size) -> Unary {
    let plain = |four, eight| Unary {
        codes: if size == Size::Four { four } else { eight },
        halves: Halves::None,
        immediate: None,
    };
    let with = |four, eight, immediate| Unary { immediate: Some(immediate), ..plain(four, eight) };
    let wider = |codes| Unary { codes, halves: Halves::Operand, immediate: None };
    let narrower = |codes| Unary { codes, halves: Halves::Result, immediate: None };
    let no_avx2 = |code| (code, Code::INVALID);
    let none = (Code::INVALID, Code::INVALID);
    let round = (
        (Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, Code::VEX_Vroundps_ymm_ymmm256_imm8),
        (Code::EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae, Code::VEX_Vroundpd_ymm_ymmm256_imm8),
    );
    match op {
        // Rounding modes, with the inexact exception suppressed.
        Un::Round => with(round.0, round.1, 8),
        Un::Floor => with(round.0, round.1, 9),
        Un::Ceil => with(round.0, round.1, 10),
        Un::Trunc => with(round.0, round.1, 11),
        Un::Shl(n) => with(
            (Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpslld_ymm_ymm_imm8),
            (Code::EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8, Code::VEX_Vpsllq_ymm_ymm_imm8),
            i32::from(n),
        ),
        Un::ShrU(n) => with(
            (Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrld_ymm_ymm_imm8),
            (Code::EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8, Code::VEX_Vpsrlq_ymm_ymm_imm8),
            i32::from(n),
        ),
        Un::ShrS(n) => with(
            (Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpsrad_ymm_ymm_imm8),
            no_avx2(Code::EVEX_Vpsraq_zmm_k1z_zmmm512b64_imm8),
            i32::from(n),
        ),
        Un::Sqrt => plain(
            (Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, Code::VEX_Vsqrtps_ymm_ymmm256),
            (Code::EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er, Code::VEX_Vsqrtpd_ymm_ymmm256),
        ),
        Un::ToInt => plain(
            (Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, Code::VEX_Vcvttps2dq_ymm_ymmm256),
            no_avx2(Code::EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae),
        ),
        Un::ToUnsigned => plain(none, no_avx2(Code::EVEX_Vcvttpd2uqq_zmm_k1z_zmmm512b64_sae)),
        Un::ToFloat => plain(
            (Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, Code::VEX_Vcvtdq2ps_ymm_ymmm256),
            no_avx2(Code::EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er),
        ),
        Un::UnsignedToFloat => plain(none, no_avx2(Code::EVEX_Vcvtuqq2pd_zmm_k1z_zmmm512b64_er)),
        Un::IAbs => plain(
            (Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32, Code::VEX_Vpabsd_ymm_ymmm256),
            no_avx2(Code::EVEX_Vpabsq_zmm_k1z_zmmm512b64),
        ),
        Un::ToF32 => narrower(no_avx2(Code::EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er)),
        Un::UnsignedToF32 => narrower(no_avx2(Code::EVEX_Vcvtuqq2ps_ymm_k1z_zmmm512b64_er)),
        Un::Promote => wider((Code::EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae, Code::VEX_Vcvtps2pd_ymm_xmmm128)),
        Un::Demote => narrower((Code::EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er, Code::VEX_Vcvtpd2ps_xmm_ymmm256)),
        Un::ToF64 => wider((Code::EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er, Code::VEX_Vcvtdq2pd_ymm_xmmm128)),
        Un::ToI32 => narrower((Code::EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae, Code::VEX_Vcvttpd2dq_xmm_ymmm256)),
        Un::SignExtend => wider((Code::EVEX_Vpmovsxdq_zmm_k1z_ymmm256, Code::VEX_Vpmovsxdq_ymm_xmmm128)),
        Un::ZeroExtend => wider((Code::EVEX_Vpmovzxdq_zmm_k1z_ymmm256, Code::VEX_Vpmovzxdq_ymm_xmmm128)),
        Un::RoundF16 => plain(none, none),
        Un::Truncate => narrower(no_avx2(Code::EVEX_Vpmovqd_ymmm256_k1z_zmm)),
    }
}

/// Which operand of `a·b + c` an instruction overwrites, and which one may be in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fma {
    /// A factor; the other factor may.
    Factor,
    /// A factor; the addend may.
    FactorAddend,
    /// The addend; a factor may.
    Addend,
}

/// A fused multiply-add on elements of a size.
pub(super) fn fma(form: Fma, size: Size) -> Codes {
    match (form, size) {
        (Fma::Factor, Size::Four) => {
            (Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256)
        }
        (Fma::Factor, Size::Eight) => {
            (Code::EVEX_Vfmadd132pd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vfmadd132pd_ymm_ymm_ymmm256)
        }
        (Fma::FactorAddend, Size::Four) => {
            (Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256)
        }
        (Fma::FactorAddend, Size::Eight) => {
            (Code::EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vfmadd213pd_ymm_ymm_ymmm256)
        }
        (Fma::Addend, Size::Four) => {
            (Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256)
        }
        (Fma::Addend, Size::Eight) => {
            (Code::EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er, Code::VEX_Vfmadd231pd_ymm_ymm_ymmm256)
        }
    }
}

/// AVX-512's comparison into a mask register, with its predicate.
pub(super) fn compare(order: Order, element: Element) -> (Code, i32) {
    match element {
        Element::Float(Size::Four) => (Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, float_predicate(order)),
        Element::Float(Size::Eight) => (Code::EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae, float_predicate(order)),
        Element::Signed(Size::Four) => (Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8, integer_predicate(order)),
        Element::Signed(Size::Eight) => (Code::EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8, integer_predicate(order)),
        Element::Unsigned(Size::Four) => (Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8, integer_predicate(order)),
        Element::Unsigned(Size::Eight) => (Code::EVEX_Vpcmpuq_kr_k1_zmm_zmmm512b64_imm8, integer_predicate(order)),
    }
}

pub(super) fn float_predicate(order: Order) -> i32 {
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

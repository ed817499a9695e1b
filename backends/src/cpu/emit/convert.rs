//! Conversions between dtypes, reinterpretation of bits, and the rounding of `f16` and `bf16`.
//!
//! `f16` and `bf16` are computed in `f32` and rounded after each operation. For `+ - * / sqrt` the double rounding is innocuous,
//! because 24 bits are at least twice 11 plus 2 (Figueroa, "When is double rounding innocuous?", SIGNUM Newsletter 30, 1995).

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;

use super::value::{Parts, Val, Width, scalar_type, signed, width};
use super::{EmitError, Emitter};
use crate::cpu::table::Entry;

impl Emitter<'_, '_> {
    /// Converts a scalar; complex dtypes never come here.
    pub(super) fn convert_scalar(&mut self, from: DType, to: DType, v: Value) -> Value {
        if from == to {
            return v;
        }
        if to == DType::Bool {
            return self.nonzero(from, v);
        }
        match (from.kind(), to.kind()) {
            (Kind::Bool, Kind::Float) => {
                let ty = scalar_type(to);
                let (one, zero) = (self.constant_f64(ty, 1.0), self.constant_f64(ty, 0.0));
                self.b.ins().select(v, one, zero)
            }
            (Kind::Bool, _) => self.b.ins().uextend(scalar_type(to), v),
            (Kind::Float, Kind::Float) => self.float_to_float(from, to, v),
            (Kind::Float, _) => {
                let wide = to.size() == 8;
                let ty = if wide { types::I64 } else { types::I32 };
                let v = if signed(to) {
                    self.b.ins().fcvt_to_sint_sat(ty, v)
                } else {
                    self.b.ins().fcvt_to_uint_sat(ty, v)
                };
                self.saturate(to, v)
            }
            (_, Kind::Float) => {
                let half = matches!(to, DType::F16 | DType::BF16);
                if half && from.size() == 8 {
                    let odd = self.call_table(if signed(from) { Entry::OddFromI64 } else { Entry::OddFromU64 }, &[v]);
                    return self.narrow(to, odd);
                }
                // Integers of 32 bits are exact in f64.
                let through = if half { DType::F64 } else { to };
                let ty = scalar_type(through);
                let f =
                    if signed(from) { self.b.ins().fcvt_from_sint(ty, v) } else { self.b.ins().fcvt_from_uint(ty, v) };
                self.float_to_float(through, to, f)
            }
            (_, _) => {
                let v = match (from.size() == 8, to.size() == 8) {
                    (false, true) if signed(from) => self.b.ins().sextend(types::I64, v),
                    (false, true) => self.b.ins().uextend(types::I64, v),
                    (true, false) => self.b.ins().ireduce(types::I32, v),
                    (true, true) | (false, false) => v,
                };
                self.wrap(to, v)
            }
        }
    }

    /// Converts a lane-varying value.
    pub(super) fn convert_lanes(&mut self, from: DType, to: DType, v: &Val) -> Result<Val, EmitError> {
        if from == to {
            return Ok(v.clone());
        }
        let parts: Parts = self.parts(from, v);
        let lanes = |parts: Parts| Ok(Val::Lanes(parts));
        if to == DType::Bool {
            return lanes(parts.iter().map(|p| self.nonzero(from, *p)).collect());
        }
        match (from.kind(), to.kind()) {
            (Kind::Bool, _) => {
                let masks = self.mask(v, width(to));
                let ty = super::value::vector_type(to);
                let one = match to.kind() {
                    Kind::Float => self.constant_f64(ty, 1.0),
                    Kind::Bool | Kind::Signed | Kind::Unsigned | Kind::Complex => self.constant(ty, 1),
                };
                let bits = |e: &mut Self, m: Value| {
                    let m = e.recast(m, ty);
                    e.b.ins().band(m, one)
                };
                lanes(masks.iter().map(|m| bits(self, *m)).collect())
            }
            (Kind::Float, Kind::Float) => match (width(from), width(to)) {
                (Width::W32, Width::W32) => lanes(parts.iter().map(|p| self.narrow(to, *p)).collect()),
                (Width::W32, Width::W64) => lanes(parts.iter().flat_map(|p| self.promote(*p)).collect()),
                (Width::W64, Width::W32) if to == DType::F32 => {
                    lanes(parts.chunks(2).map(|p| self.demote(p[0], p[1])).collect())
                }
                (Width::W64, _) => self.per_lane(ScalarOp::Convert(to), &[from], to, std::slice::from_ref(v)),
            },
            (Kind::Float, _) => match (width(from), width(to)) {
                (Width::W32, Width::W32) => {
                    let one = |e: &mut Self, p: Value| {
                        let v = if signed(to) {
                            e.b.ins().fcvt_to_sint_sat(types::I32X4, p)
                        } else {
                            e.b.ins().fcvt_to_uint_sat(types::I32X4, p)
                        };
                        e.saturate(to, v)
                    };
                    lanes(parts.iter().map(|p| one(self, *p)).collect())
                }
                (Width::W32 | Width::W64, _) => {
                    self.per_lane(ScalarOp::Convert(to), &[from], to, std::slice::from_ref(v))
                }
            },
            (_, Kind::Float) => match (width(from), width(to)) {
                (Width::W32, Width::W32) if to == DType::F32 && (signed(from) || from.size() < 4) => {
                    lanes(parts.iter().map(|p| self.b.ins().fcvt_from_sint(types::F32X4, *p)).collect())
                }
                (Width::W32, Width::W64) if signed(from) || from.size() < 4 => {
                    let halves = |e: &mut Self, p: Value| {
                        let (low, high) = (e.b.ins().swiden_low(p), e.b.ins().swiden_high(p));
                        [low, high].map(|h| e.b.ins().fcvt_from_sint(types::F64X2, h))
                    };
                    lanes(parts.iter().flat_map(|p| halves(self, *p)).collect())
                }
                (Width::W32 | Width::W64, _) => {
                    self.per_lane(ScalarOp::Convert(to), &[from], to, std::slice::from_ref(v))
                }
            },
            (_, _) => {
                let parts: Parts = match (width(from), width(to)) {
                    (Width::W32, Width::W64) if signed(from) => {
                        parts.iter().flat_map(|p| [self.b.ins().swiden_low(*p), self.b.ins().swiden_high(*p)]).collect()
                    }
                    (Width::W32, Width::W64) => {
                        parts.iter().flat_map(|p| [self.b.ins().uwiden_low(*p), self.b.ins().uwiden_high(*p)]).collect()
                    }
                    (Width::W64, Width::W32) => parts.chunks(2).map(|p| self.even_words(p[0], p[1])).collect(),
                    (Width::W32, Width::W32) | (Width::W64, Width::W64) => parts,
                };
                lanes(parts.iter().map(|p| self.wrap(to, *p)).collect())
            }
        }
    }

    /// The same bits of a scalar as another dtype of the same size.
    pub(super) fn bitcast_scalar(&mut self, from: DType, to: DType, v: Value) -> Value {
        self.bitcast_register(from, to, v)
    }

    /// The same bits of a lane-varying value.
    pub(super) fn bitcast_lanes(&mut self, from: DType, to: DType, v: &Val) -> Result<Val, EmitError> {
        let parts = self.parts(from, v);
        Ok(Val::Lanes(parts.iter().map(|p| self.bitcast_register(from, to, *p)).collect()))
    }

    fn bitcast_register(&mut self, from: DType, to: DType, v: Value) -> Value {
        let bits = match from {
            DType::F16 | DType::BF16 => self.half_bits(from, v),
            DType::F32 => self.as_int(v),
            DType::F64 => self.as_int(v),
            DType::Bool
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::C64
            | DType::C128 => v,
        };
        match to {
            DType::F16 | DType::BF16 => {
                let bits = self.wrap(DType::U16, bits);
                self.half_from_bits(to, bits)
            }
            DType::F32 | DType::F64 => self.as_float(bits),
            DType::Bool
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::C64
            | DType::C128 => self.wrap(to, bits),
        }
    }

    /// `v != 0` as a bool or mask; true for NaN.
    fn nonzero(&mut self, from: DType, v: Value) -> Value {
        let ty = self.type_of(v);
        if from.kind() == Kind::Float {
            let zero = self.constant_f64(ty, 0.0);
            return self.b.ins().fcmp(FloatCC::NotEqual, v, zero);
        }
        let zero = self.constant(ty, 0);
        self.b.ins().icmp(IntCC::NotEqual, v, zero)
    }

    /// Clamps a 32-bit integer to a narrower dtype.
    fn saturate(&mut self, to: DType, v: Value) -> Value {
        if to.size() >= 4 {
            return v;
        }
        let ty = self.type_of(v);
        let bits = 8 * to.size() as i64;
        let (low, high) = if signed(to) { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
        let high = self.constant(ty, high);
        if !signed(to) {
            let above = self.b.ins().icmp(IntCC::UnsignedGreaterThan, v, high);
            return self.choose(above, high, v);
        }
        let low = self.constant(ty, low);
        let above = self.b.ins().icmp(IntCC::SignedGreaterThan, v, high);
        let v = self.choose(above, high, v);
        let below = self.b.ins().icmp(IntCC::SignedLessThan, v, low);
        self.choose(below, low, v)
    }

    /// Converts between float dtypes, scalars only.
    fn float_to_float(&mut self, from: DType, to: DType, v: Value) -> Value {
        match (from == DType::F64, to == DType::F64) {
            (false, true) => self.b.ins().fpromote(types::F64, v),
            (true, false) if to == DType::F32 => self.b.ins().fdemote(types::F32, v),
            (true, false) => {
                let odd = self.demote_to_odd(v);
                self.narrow(to, odd)
            }
            (true, true) => v,
            (false, false) => self.narrow(to, v),
        }
    }

    /// An `f64` in `f32`, rounded to odd, so that a second rounding to fewer bits is as if it were the only one
    /// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57, 2008).
    fn demote_to_odd(&mut self, v: Value) -> Value {
        let near = self.b.ins().fdemote(types::F32, v);
        let back = self.b.ins().fpromote(types::F64, near);
        let (size, back_size) = (self.b.ins().fabs(v), self.b.ins().fabs(back));
        let bits = self.as_int(near);
        let one = self.constant(types::I32, 1);
        let inexact = self.b.ins().fcmp(FloatCC::OrderedNotEqual, v, back);
        let above = self.b.ins().fcmp(FloatCC::GreaterThan, back_size, size);
        let less = self.b.ins().isub(bits, one);
        let truncated = self.b.ins().select(above, less, bits);
        let odd = self.b.ins().bor(truncated, one);
        let r = self.b.ins().select(inexact, odd, bits);
        self.as_float(r)
    }

    /// Rounds an `f32` register to the precision of `dtype`, to nearest even.
    pub(super) fn narrow(&mut self, dtype: DType, v: Value) -> Value {
        match dtype {
            DType::BF16 => {
                let bits = self.bf16_rounded(v);
                self.as_float(bits)
            }
            DType::F16 => self.f16_rounded(v),
            DType::F32
            | DType::F64
            | DType::Bool
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::C64
            | DType::C128 => v,
        }
    }

    /// The 16 bits of a half-precision value, zero-extended.
    pub(super) fn half_bits(&mut self, dtype: DType, v: Value) -> Value {
        let bits = self.as_int(v);
        let ty = self.type_of(bits);
        if dtype == DType::BF16 {
            return self.shr(bits, 16);
        }
        let sign_mask = self.constant(ty, 0x8000_0000_u32 as i32 as i64);
        let sign = self.b.ins().band(bits, sign_mask);
        let size = self.b.ins().bxor(bits, sign);
        // Below 2^-14 the count of 2^-24 stands in the low bits of |v| + 0.5.
        let fsize = self.as_float(size);
        let fty = self.type_of(fsize);
        let half = self.constant_f64(fty, 0.5);
        let sum = self.b.ins().fadd(fsize, half);
        let sum = self.as_int(sum);
        let half_bits = self.constant(ty, 0x3f00_0000);
        let subnormal = self.b.ins().isub(sum, half_bits);
        let shifted = self.shr(size, 13);
        let rebias = self.constant(ty, 112 << 10);
        let normal = self.b.ins().isub(shifted, rebias);
        let special_bits = self.constant(ty, 0x7c00);
        let low = self.constant(ty, 0x7fff);
        let special = self.b.ins().bor(shifted, special_bits);
        let special = self.b.ins().band(special, low);
        let least_normal = self.constant(ty, 113 << 23);
        let is_small = self.b.ins().icmp(IntCC::SignedLessThan, size, least_normal);
        let r = self.choose(is_small, subnormal, normal);
        let infinity = self.constant(ty, 0x7f80_0000);
        let is_finite = self.b.ins().icmp(IntCC::SignedLessThan, size, infinity);
        let r = self.choose(is_finite, r, special);
        let sign = self.shr(sign, 16);
        self.b.ins().bor(r, sign)
    }

    /// A half-precision value from its 16 bits, zero-extended.
    pub(super) fn half_from_bits(&mut self, dtype: DType, bits: Value) -> Value {
        if dtype == DType::BF16 {
            let up = self.shl(bits, 16);
            return self.as_float(up);
        }
        let ty = self.type_of(bits);
        let sign_mask = self.constant(ty, 0x8000);
        let sign = self.b.ins().band(bits, sign_mask);
        let size = self.b.ins().bxor(bits, sign);
        let shifted = self.shl(size, 13);
        let rebias = self.constant(ty, 112 << 23);
        let normal = self.b.ins().iadd(shifted, rebias);
        // An exponent of all ones takes the bias twice, which gives all ones again.
        let special = self.b.ins().iadd(normal, rebias);
        let special_from = self.constant(ty, 0x7c00);
        let is_special = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, size, special_from);
        let r = self.choose(is_special, special, normal);
        let fty = if ty.is_vector() { types::F32X4 } else { types::F32 };
        let count = self.b.ins().fcvt_from_sint(fty, size);
        let unit = self.constant_f64(fty, f64::exp2(-24.0));
        let subnormal = self.b.ins().fmul(count, unit);
        let subnormal = self.as_int(subnormal);
        let least_normal = self.constant(ty, 0x400);
        let is_small = self.b.ins().icmp(IntCC::SignedLessThan, size, least_normal);
        let r = self.choose(is_small, subnormal, r);
        let sign = self.shl(sign, 16);
        let r = self.b.ins().bor(r, sign);
        self.as_float(r)
    }

    fn bf16_rounded(&mut self, v: Value) -> Value {
        let bits = self.as_int(v);
        let ty = self.type_of(bits);
        let rounded = self.drop_bits(bits, 16);
        let mask = self.constant(ty, 0xffff_0000_u32 as i32 as i64);
        let quiet = self.constant(ty, 0x0040_0000);
        let nan = self.b.ins().bor(bits, quiet);
        let nan = self.b.ins().band(nan, mask);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
        self.choose(is_nan, nan, rounded)
    }

    fn f16_rounded(&mut self, v: Value) -> Value {
        let bits = self.as_int(v);
        let ty = self.type_of(bits);
        let sign_mask = self.constant(ty, 0x8000_0000_u32 as i32 as i64);
        let sign = self.b.ins().band(bits, sign_mask);
        let size = self.b.ins().bxor(bits, sign);
        let rounded = self.drop_bits(size, 13);
        // What reaches 2^16 is infinite.
        let infinity = self.constant(ty, 0x7f80_0000);
        let overflow = self.constant(ty, 143 << 23);
        let is_large = self.b.ins().icmp(IntCC::SignedGreaterThanOrEqual, rounded, overflow);
        let r = self.choose(is_large, infinity, rounded);
        // Subnormal results are multiples of 2^-24, the spacing of f32 numbers between 0.5 and 1.
        let fsize = self.as_float(size);
        let fty = self.type_of(fsize);
        let half = self.constant_f64(fty, 0.5);
        let sum = self.b.ins().fadd(fsize, half);
        let small = self.b.ins().fsub(sum, half);
        let small = self.as_int(small);
        let least_normal = self.constant(ty, 113 << 23);
        let is_small = self.b.ins().icmp(IntCC::SignedLessThan, size, least_normal);
        let r = self.choose(is_small, small, r);
        let quiet = self.constant(ty, 0x0040_0000);
        let kept = self.constant(ty, 0x7fff_e000);
        let nan = self.b.ins().bor(size, quiet);
        let nan = self.b.ins().band(nan, kept);
        let is_nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
        let r = self.choose(is_nan, nan, r);
        let r = self.b.ins().bor(r, sign);
        self.as_float(r)
    }

    /// Rounds integer bits to a multiple of `2^n`, ties to even.
    fn drop_bits(&mut self, bits: Value, n: i64) -> Value {
        let ty = self.type_of(bits);
        let down = self.shr(bits, n);
        let one = self.constant(ty, 1);
        let odd = self.b.ins().band(down, one);
        let almost_half = self.constant(ty, (1 << (n - 1)) - 1);
        let sum = self.b.ins().iadd(bits, almost_half);
        let sum = self.b.ins().iadd(sum, odd);
        let mask = self.constant(ty, i64::from(-1_i32 << n));
        self.b.ins().band(sum, mask)
    }

    fn promote(&mut self, p: Value) -> [Value; 2] {
        let low = self.b.ins().fvpromote_low(p);
        let swapped = self.shuffle(p, p, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15]);
        let swapped = self.recast(swapped, types::F32X4);
        let high = self.b.ins().fvpromote_low(swapped);
        [low, high]
    }

    fn demote(&mut self, low: Value, high: Value) -> Value {
        let (low, high) = (self.b.ins().fvdemote(low), self.b.ins().fvdemote(high));
        let r = self.shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
        self.recast(r, types::F32X4)
    }

    fn shr(&mut self, v: Value, n: i64) -> Value {
        let count = self.constant(types::I32, n);
        self.b.ins().ushr(v, count)
    }

    fn shl(&mut self, v: Value, n: i64) -> Value {
        let count = self.constant(types::I32, n);
        self.b.ins().ishl(v, count)
    }

    fn as_int(&mut self, v: Value) -> Value {
        let ty = self.type_of(v).as_int();
        self.recast(v, ty)
    }

    fn as_float(&mut self, v: Value) -> Value {
        let ty = match self.type_of(v) {
            types::I32X4 => types::F32X4,
            types::I64X2 => types::F64X2,
            types::I64 => types::F64,
            _ => types::F32,
        };
        self.recast(v, ty)
    }
}

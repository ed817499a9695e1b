//! Conversions between dtypes as nodes of the segment.
//!
//! Floats to integers truncate and saturate, with 0 for NaN; what the instructions give for values out of range is mended here.

use lehr_ir::dtype::{DType, Kind};

use super::Width;
use super::segment::{Bin, Element, Op, Order, Segment, Un, V};
use super::size::Size;

const DOUBLE: Element = Element::Float(Size::Eight);

impl Segment<'_> {
    /// A value of one dtype in another; `None` where there is no code.
    pub(super) fn convert(&mut self, from: DType, to: DType, a: V) -> Option<V> {
        if from == to {
            return Some(a);
        }
        match (from, to) {
            // They are f32 numbers already.
            (DType::F16 | DType::BF16, to) => self.convert(DType::F32, to, a),
            (DType::F32, DType::F16 | DType::BF16) => Some(self.narrow(to, a)),
            (DType::Bool, DType::F16 | DType::BF16) => self.convert(from, DType::F32, a),
            (from, DType::Bool) => {
                let element = element(from)?;
                let zero = self.constant(element.size(), 0);
                Some(self.compare(Order::Ne, element, a, zero))
            }
            (DType::Bool, to) => {
                let (size, one) = match to {
                    DType::F32 => (Size::Four, u64::from(1.0_f32.to_bits())),
                    DType::F64 => (Size::Eight, 1.0_f64.to_bits()),
                    DType::I32 | DType::U32 => (Size::Four, 1),
                    DType::I64 | DType::U64 => (Size::Eight, 1),
                    _ => return None,
                };
                let one = self.constant(size, one);
                if self.size_of(a) == size {
                    return Some(self.bin(Bin::And, a, one));
                }
                // A choice takes a mask of any size, often from a mask register.
                let zero = self.constant(size, 0);
                Some(self.select(a, one, zero))
            }
            (DType::I32 | DType::U32, DType::I32 | DType::U32) => Some(a),
            (DType::I64 | DType::U64, DType::I64 | DType::U64) => Some(a),
            (DType::I32, DType::I64 | DType::U64) => Some(self.push(Op::Un(Un::SignExtend), Size::Eight, &[a])),
            (DType::U32, DType::I64 | DType::U64) => Some(self.push(Op::Un(Un::ZeroExtend), Size::Eight, &[a])),
            (DType::I64 | DType::U64, DType::I32 | DType::U32) => {
                Some(self.push(Op::Un(Un::Truncate), Size::Four, &[a]))
            }
            (DType::F32, DType::F64) => Some(self.push(Op::Un(Un::Promote), Size::Eight, &[a])),
            (DType::F64, DType::F32) => Some(self.push(Op::Un(Un::Demote), Size::Four, &[a])),
            (DType::I32, DType::F32) => Some(self.un(Un::ToFloat, a)),
            (DType::U32, DType::F32) => Some(self.unsigned_to_float(a)),
            (DType::I32, DType::F64) => Some(self.push(Op::Un(Un::ToF64), Size::Eight, &[a])),
            (DType::U32, DType::F64) => Some(self.unsigned_to_double(a)),
            (DType::I64 | DType::U64, DType::F64) => Some(self.long_to_double(from == DType::I64, a)),
            (DType::I64 | DType::U64, DType::F32) => {
                let op = if from == DType::I64 { Un::ToF32 } else { Un::UnsignedToF32 };
                (self.width == Width::Avx512).then(|| self.push(Op::Un(op), Size::Four, &[a]))
            }
            (DType::F32, DType::I32) => Some(self.float_to_signed(Element::F32, a)),
            (DType::F32, DType::U32) => Some(self.float_to_unsigned(a)),
            (DType::F64, DType::I32) => Some(self.double_to_signed(a)),
            (DType::F64, DType::U32) => Some(self.double_to_unsigned(a)),
            (DType::F32, DType::I64 | DType::U64) => {
                let a = self.convert(DType::F32, DType::F64, a)?;
                self.convert(DType::F64, to, a)
            }
            (DType::F64, DType::I64) if self.width == Width::Avx512 => Some(self.float_to_signed(DOUBLE, a)),
            (DType::F64, DType::U64) if self.width == Width::Avx512 => {
                // The second operand where the first is NaN.
                let zero = self.constant(Size::Eight, 0);
                let a = self.bin(Bin::Max, a, zero);
                Some(self.un(Un::ToUnsigned, a))
            }
            (_, _) => None,
        }
    }

    /// Rounds f32 numbers to the precision of a dtype of two bytes, to nearest even.
    pub(super) fn narrow(&mut self, dtype: DType, a: V) -> V {
        match dtype {
            DType::F16 => self.un(Un::RoundF16, a),
            DType::BF16 => {
                let [one, almost_half, kept, quiet] =
                    [1, 0x7fff, 0xffff_0000, 0x0040_0000].map(|bits| self.constant(Size::Four, bits));
                let last = self.un(Un::ShrU(16), a);
                let odd = self.bin(Bin::And, last, one);
                let v = self.bin(Bin::IAdd, a, almost_half);
                let v = self.bin(Bin::IAdd, v, odd);
                let nan = self.bin(Bin::Or, a, quiet);
                let is_nan = self.compare(Order::Unordered, Element::F32, a, a);
                let v = self.select(is_nan, nan, v);
                self.bin(Bin::And, v, kept)
            }
            _ => a,
        }
    }

    fn f32(&mut self, c: f32) -> V {
        self.constant(Size::Four, u64::from(c.to_bits()))
    }

    pub(super) fn f64(&mut self, c: f64) -> V {
        self.constant(Size::Eight, c.to_bits())
    }

    /// The upper half times 2^16 plus the lower half, both exact, with one rounding.
    fn unsigned_to_float(&mut self, a: V) -> V {
        let (sixteen, low_bits) = (self.constant(Size::Four, 16), self.constant(Size::Four, 0xffff));
        let scale = self.f32(65_536.0);
        let high = self.bin(Bin::ShrU, a, sixteen);
        let high = self.un(Un::ToFloat, high);
        let low = self.bin(Bin::And, a, low_bits);
        let low = self.un(Un::ToFloat, low);
        self.push(Op::Fma, Size::Four, &[high, scale, low])
    }

    /// As a signed integer less 2^31, and that added again; all of it is exact.
    fn unsigned_to_double(&mut self, a: V) -> V {
        let (sign, half) = (self.constant(Size::Four, Size::Four.sign()), self.f64(2_147_483_648.0));
        let a = self.bin(Bin::Xor, a, sign);
        let a = self.push(Op::Un(Un::ToF64), Size::Eight, &[a]);
        self.bin(Bin::Add, a, half)
    }

    /// Without the instruction: the halves stand in the low bits of floats whose exponents say what they are worth; these less what was
    /// added are exact, and their sum is rounded once.
    fn long_to_double(&mut self, signed: bool, a: V) -> V {
        if self.width == Width::Avx512 {
            return self.un(if signed { Un::ToFloat } else { Un::UnsignedToFloat }, a);
        }
        // A signed upper half is taken from 2^31 on.
        let (sign, low_unit, high_unit) = (2_f64.powi(63), 2_f64.powi(52), 2_f64.powi(84));
        let added = if signed { high_unit + sign } else { high_unit };
        let (low_bits, thirty_two) = (self.constant(Size::Eight, 0xffff_ffff), self.constant(Size::Eight, 32));
        let (low_unit_bits, high_bits) = (self.f64(low_unit), self.f64(added));
        let less = self.f64(added + low_unit);
        let low = self.bin(Bin::And, a, low_bits);
        let low = self.bin(Bin::Or, low, low_unit_bits);
        let high = self.bin(Bin::ShrU, a, thirty_two);
        let high = self.bin(Bin::Xor, high, high_bits);
        let high = self.bin(Bin::Sub, high, less);
        self.bin(Bin::Add, high, low)
    }

    /// To the integer of the float's size. The instruction gives the least integer for NaN and for what is too large.
    fn float_to_signed(&mut self, element: Element, a: V) -> V {
        let limit = match element.size() {
            Size::Four => self.f32(2_147_483_648.0),
            Size::Eight => self.f64(9_223_372_036_854_775_808.0),
        };
        let v = self.un(Un::ToInt, a);
        let large = self.compare(Order::Ge, element, a, limit);
        let v = self.bin(Bin::Xor, v, large);
        let nan = self.compare(Order::Unordered, element, a, a);
        self.bin(Bin::AndNot, nan, v)
    }

    /// From 2^31 on the conversion is of `a` less 2^31.
    fn float_to_unsigned(&mut self, a: V) -> V {
        let (zero, half, end) = (self.f32(0.0), self.f32(2_147_483_648.0), self.f32(4_294_967_296.0));
        let sign = self.constant(Size::Four, Size::Four.sign());
        // The second operand where the first is NaN.
        let a = self.bin(Bin::Max, a, zero);
        let large = self.compare(Order::Ge, Element::F32, a, half);
        let less = self.bin(Bin::And, large, half);
        let rest = self.bin(Bin::Sub, a, less);
        let v = self.un(Un::ToInt, rest);
        let back = self.bin(Bin::And, large, sign);
        let v = self.bin(Bin::Xor, v, back);
        let beyond = self.compare(Order::Ge, Element::F32, a, end);
        self.bin(Bin::Or, v, beyond)
    }

    /// Both ends are f64 numbers, so that a value between them converts.
    fn double_to_signed(&mut self, a: V) -> V {
        let (least, greatest) = (self.f64(f64::from(i32::MIN)), self.f64(f64::from(i32::MAX)));
        let nan = self.compare(Order::Unordered, DOUBLE, a, a);
        let a = self.bin(Bin::AndNot, nan, a);
        let a = self.bin(Bin::Max, a, least);
        let a = self.bin(Bin::Min, a, greatest);
        self.push(Op::Un(Un::ToI32), Size::Four, &[a])
    }

    /// Whole numbers less 2^31 convert as signed ones.
    fn double_to_unsigned(&mut self, a: V) -> V {
        let (zero, greatest, half) = (self.f64(0.0), self.f64(f64::from(u32::MAX)), self.f64(2_147_483_648.0));
        let sign = self.constant(Size::Four, Size::Four.sign());
        // The second operand where the first is NaN.
        let a = self.bin(Bin::Max, a, zero);
        let a = self.bin(Bin::Min, a, greatest);
        let a = self.un(Un::Trunc, a);
        let a = self.bin(Bin::Sub, a, half);
        let v = self.push(Op::Un(Un::ToI32), Size::Four, &[a]);
        self.bin(Bin::Xor, v, sign)
    }
}

/// What a dtype's values are in registers; `None` for bools, which are masks, and for what is not held.
pub(super) fn element(dtype: DType) -> Option<Element> {
    let size = match dtype {
        DType::F16 | DType::BF16 | DType::F32 | DType::I32 | DType::U32 => Size::Four,
        DType::F64 | DType::I64 | DType::U64 => Size::Eight,
        _ => return None,
    };
    match dtype.kind() {
        Kind::Float => Some(Element::Float(size)),
        Kind::Signed => Some(Element::Signed(size)),
        Kind::Unsigned => Some(Element::Unsigned(size)),
        Kind::Bool | Kind::Complex => None,
    }
}

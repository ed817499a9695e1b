//! Scalar operations on 32-bit values as nodes of the segment. A bool has all bits set or none.

use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;
use lehr_ir::kernel::recipes::{self, Emit};

use super::segment::{Bin, Each, Element, Op, Order, Segment, Un, V};
use super::{Unsupported, WideError};

impl Segment<'_> {
    /// One operation on operands of these dtypes; `varying` says whether the result differs from lane to lane.
    pub(super) fn apply(&mut self, op: ScalarOp, dtypes: &[DType], args: &[V], varying: bool) -> Result<V, WideError> {
        let dtype = *dtypes.first().ok_or(WideError::Invalid("an operation without operands"))?;
        let result = match (op, args) {
            (ScalarOp::Call(f), _) if dtype == DType::F32 && args.len() == f.arity() => {
                Some(recipes::emit(f, self, args))
            }
            (ScalarOp::Select, [c, a, b]) => Some(self.select(*c, *a, *b)),
            (ScalarOp::Convert(to), [a]) => self.convert(dtype, to, *a),
            (ScalarOp::Bitcast(to), [a]) => (to.size() == 4 && dtype.size() == 4).then_some(*a),
            (ScalarOp::Div | ScalarOp::Rem, [_, _]) if dtype.is_integer() || op == ScalarOp::Rem => {
                Some(self.push(Op::Each(Each::Divide { op, dtype }, varying), args))
            }
            (_, [a]) => self.unary(op, dtype, *a),
            (_, [a, b]) => match dtype.kind() {
                Kind::Float => self.float_op(op, *a, *b),
                Kind::Signed | Kind::Unsigned => self.int_op(op, dtype, *a, *b),
                Kind::Bool => self.bool_op(op, *a, *b),
                Kind::Complex => None,
            },
            (ScalarOp::Fma, _) if dtype == DType::F32 => Some(self.push(Op::Fma, args)),
            (_, _) => None,
        };
        result.ok_or_else(|| Unsupported::Op { op, dtype }.into())
    }

    fn unary(&mut self, op: ScalarOp, dtype: DType, a: V) -> Option<V> {
        let (float, integer) = (dtype == DType::F32, dtype.is_integer());
        Some(match op {
            ScalarOp::Not if !float => self.not(a),
            ScalarOp::Neg if integer => {
                let zero = self.constant(0);
                self.bin(Bin::ISub, zero, a)
            }
            ScalarOp::Neg if float => self.neg(a),
            ScalarOp::Abs if dtype.kind() == Kind::Signed => self.un(Un::IAbs, a),
            ScalarOp::Abs if integer => a,
            ScalarOp::Abs if float => self.abs(a),
            ScalarOp::Sqrt if float => self.un(Un::Sqrt, a),
            ScalarOp::Floor if float => self.un(Un::Floor, a),
            ScalarOp::Ceil if float => self.un(Un::Ceil, a),
            ScalarOp::Trunc if float => self.un(Un::Trunc, a),
            ScalarOp::Round if float => self.un(Un::Round, a),
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Rem
            | ScalarOp::Max
            | ScalarOp::Min
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::And
            | ScalarOp::Or
            | ScalarOp::Xor
            | ScalarOp::Not
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Eq
            | ScalarOp::Ne
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Gt
            | ScalarOp::Ge
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        })
    }

    fn float_op(&mut self, op: ScalarOp, a: V, b: V) -> Option<V> {
        if let Some(order) = order(op) {
            return Some(self.compare(order, Element::F32, a, b));
        }
        let bin = match op {
            ScalarOp::Add => Bin::Add,
            ScalarOp::Sub => Bin::Sub,
            ScalarOp::Mul => Bin::Mul,
            ScalarOp::Div => Bin::Div,
            // The instruction gives `b` where either is NaN, so a NaN in `a` is what it misses.
            ScalarOp::Max | ScalarOp::Min => {
                let extreme = self.bin(if op == ScalarOp::Max { Bin::Max } else { Bin::Min }, a, b);
                let nan = self.compare(Order::Unordered, Element::F32, a, a);
                return Some(self.select(nan, a, extreme));
            }
            ScalarOp::Rem
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::And
            | ScalarOp::Or
            | ScalarOp::Xor
            | ScalarOp::Not
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Eq
            | ScalarOp::Ne
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Gt
            | ScalarOp::Ge
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        };
        Some(self.bin(bin, a, b))
    }

    fn int_op(&mut self, op: ScalarOp, dtype: DType, a: V, b: V) -> Option<V> {
        let signed = dtype.kind() == Kind::Signed;
        if let Some(order) = order(op) {
            return Some(self.compare(order, if signed { Element::Signed } else { Element::Unsigned }, a, b));
        }
        let bin = match op {
            ScalarOp::Add => Bin::IAdd,
            ScalarOp::Sub => Bin::ISub,
            ScalarOp::Mul => Bin::IMul,
            ScalarOp::Max if signed => Bin::MaxS,
            ScalarOp::Max => Bin::MaxU,
            ScalarOp::Min if signed => Bin::MinS,
            ScalarOp::Min => Bin::MinU,
            ScalarOp::And => Bin::And,
            ScalarOp::Or => Bin::Or,
            ScalarOp::Xor => Bin::Xor,
            ScalarOp::Shl | ScalarOp::Shr => {
                let bits = self.constant(31);
                let count = self.bin(Bin::And, b, bits);
                let shift = match op {
                    ScalarOp::Shl => Bin::Shl,
                    _ if signed => Bin::ShrS,
                    _ => Bin::ShrU,
                };
                return Some(self.bin(shift, a, count));
            }
            ScalarOp::Div
            | ScalarOp::Rem
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::Not
            | ScalarOp::Eq
            | ScalarOp::Ne
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Gt
            | ScalarOp::Ge
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        };
        Some(self.bin(bin, a, b))
    }

    /// False < true.
    fn bool_op(&mut self, op: ScalarOp, a: V, b: V) -> Option<V> {
        Some(match op {
            ScalarOp::And | ScalarOp::Min => self.bin(Bin::And, a, b),
            ScalarOp::Or | ScalarOp::Max => self.bin(Bin::Or, a, b),
            ScalarOp::Xor | ScalarOp::Ne => self.bin(Bin::Xor, a, b),
            ScalarOp::Lt => self.bin(Bin::AndNot, a, b),
            ScalarOp::Gt => self.bin(Bin::AndNot, b, a),
            ScalarOp::Eq => {
                let differ = self.bin(Bin::Xor, a, b);
                self.not(differ)
            }
            ScalarOp::Le => {
                let greater = self.bin(Bin::AndNot, b, a);
                self.not(greater)
            }
            ScalarOp::Ge => {
                let less = self.bin(Bin::AndNot, a, b);
                self.not(less)
            }
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Rem
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::Not
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        })
    }

    fn convert(&mut self, from: DType, to: DType, a: V) -> Option<V> {
        let word = |d| matches!(d, DType::I32 | DType::U32);
        Some(match (from, to) {
            (from, to) if from == to => a,
            (from, to) if word(from) && word(to) => a,
            (from, DType::Bool) => {
                let zero = self.constant(0);
                let element = if from == DType::F32 { Element::F32 } else { Element::Signed };
                self.compare(Order::Ne, element, a, zero)
            }
            (DType::Bool, to) => {
                let one = self.constant(if to == DType::F32 { 1.0_f32.to_bits() } else { 1 });
                self.bin(Bin::And, a, one)
            }
            (DType::I32, DType::F32) => self.un(Un::ToFloat, a),
            (DType::U32, DType::F32) => self.unsigned_to_float(a),
            (DType::F32, DType::I32) => self.float_to_signed(a),
            (DType::F32, DType::U32) => self.float_to_unsigned(a),
            (_, _) => return None,
        })
    }

    /// The upper half times 2^16 plus the lower half, both exact, with one rounding.
    fn unsigned_to_float(&mut self, a: V) -> V {
        let (sixteen, low_bits, scale) = (self.constant(16), self.constant(0xffff), self.f32(65_536.0));
        let high = self.bin(Bin::ShrU, a, sixteen);
        let high = self.un(Un::ToFloat, high);
        let low = self.bin(Bin::And, a, low_bits);
        let low = self.un(Un::ToFloat, low);
        self.push(Op::Fma, &[high, scale, low])
    }

    /// Saturates, and gives 0 for NaN: the instruction gives the least i32 for both and for what is too large.
    fn float_to_signed(&mut self, a: V) -> V {
        let limit = self.f32(2_147_483_648.0);
        let v = self.un(Un::ToInt, a);
        let large = self.compare(Order::Ge, Element::F32, a, limit);
        let v = self.bin(Bin::Xor, v, large);
        let nan = self.compare(Order::Unordered, Element::F32, a, a);
        self.bin(Bin::AndNot, nan, v)
    }

    /// Saturates, and gives 0 for NaN; from 2^31 on the conversion is of `a` less 2^31.
    fn float_to_unsigned(&mut self, a: V) -> V {
        let (zero, half, end, sign) =
            (self.f32(0.0), self.f32(2_147_483_648.0), self.f32(4_294_967_296.0), self.constant(1 << 31));
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
}

fn order(op: ScalarOp) -> Option<Order> {
    match op {
        ScalarOp::Eq => Some(Order::Eq),
        ScalarOp::Ne => Some(Order::Ne),
        ScalarOp::Lt => Some(Order::Lt),
        ScalarOp::Le => Some(Order::Le),
        ScalarOp::Gt => Some(Order::Gt),
        ScalarOp::Ge => Some(Order::Ge),
        ScalarOp::Add
        | ScalarOp::Sub
        | ScalarOp::Mul
        | ScalarOp::Div
        | ScalarOp::Rem
        | ScalarOp::Max
        | ScalarOp::Min
        | ScalarOp::Fma
        | ScalarOp::Neg
        | ScalarOp::Abs
        | ScalarOp::Floor
        | ScalarOp::Ceil
        | ScalarOp::Trunc
        | ScalarOp::Round
        | ScalarOp::Sqrt
        | ScalarOp::And
        | ScalarOp::Or
        | ScalarOp::Xor
        | ScalarOp::Not
        | ScalarOp::Shl
        | ScalarOp::Shr
        | ScalarOp::Select
        | ScalarOp::Convert(_)
        | ScalarOp::Bitcast(_)
        | ScalarOp::Call(_) => None,
    }
}

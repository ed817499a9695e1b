//! Scalar operations as nodes of the segment. A bool has all bits set or none.

use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;
use lehr_ir::kernel::recipes;

use super::convert::element;
use super::segment::{Bin, Each, Element, Op, Order, Segment, Un, V};
use super::size::Size;
use super::{Unsupported, WideError, Width};

impl Segment<'_> {
    /// One operation on operands of these dtypes; `varying` says whether the result differs from lane to lane.
    pub(super) fn apply(&mut self, op: ScalarOp, dtypes: &[DType], args: &[V], varying: bool) -> Result<V, WideError> {
        let dtype = *dtypes.first().ok_or(WideError::Invalid("an operation without operands"))?;
        let v = self.apply_unrounded(op, dtype, args, varying)?;
        // Half precision is computed as f32 is. What is not named here gives numbers of the dtype anyway, or rounds by itself.
        Ok(match op {
            ScalarOp::Add | ScalarOp::Sub | ScalarOp::Mul | ScalarOp::Div => self.narrow(dtype, v),
            ScalarOp::Fma | ScalarOp::Sqrt | ScalarOp::Call(_) => self.narrow(dtype, v),
            _ => v,
        })
    }

    fn apply_unrounded(&mut self, op: ScalarOp, dtype: DType, args: &[V], varying: bool) -> Result<V, WideError> {
        let result = match (op, args) {
            (ScalarOp::Call(f), _) if dtype == DType::F64 => self.double_function(f, args),
            (ScalarOp::Call(f), _) if dtype.is_float() && args.len() == f.arity() => Some(recipes::emit(f, self, args)),
            (ScalarOp::Select, [c, a, b]) => {
                let (a, b) = self.alike(*a, *b);
                Some(self.select(*c, a, b))
            }
            (ScalarOp::Convert(to), [a]) => self.convert(dtype, to, *a),
            (ScalarOp::Bitcast(to), [a]) => (to.size() == dtype.size() && to.size() >= 4).then_some(*a),
            (ScalarOp::Div | ScalarOp::Rem, [a, _]) if dtype.is_integer() || op == ScalarOp::Rem => {
                Some(self.push(Op::Each(Each::Divide { op, dtype }, varying), self.size_of(*a), args))
            }
            (_, [a]) => self.unary(op, dtype, *a),
            (_, [a, b]) => match (dtype.kind(), element(dtype)) {
                (Kind::Float, Some(element)) => self.float_op(op, element, *a, *b),
                (Kind::Signed | Kind::Unsigned, Some(element)) => self.int_op(op, element, *a, *b),
                (Kind::Bool, _) => {
                    let (a, b) = self.alike(*a, *b);
                    self.bool_op(op, a, b)
                }
                (_, _) => None,
            },
            (ScalarOp::Fma, [a, ..]) if dtype.is_float() => Some(self.push(Op::Fma, self.size_of(*a), args)),
            (_, _) => None,
        };
        result.ok_or_else(|| Unsupported::Op { op, dtype }.into())
    }

    fn unary(&mut self, op: ScalarOp, dtype: DType, a: V) -> Option<V> {
        let (float, integer, size) = (dtype.is_float(), dtype.is_integer(), self.size_of(a));
        Some(match op {
            ScalarOp::Not if !float => self.not(a),
            ScalarOp::Neg if integer => {
                let zero = self.constant(size, 0);
                self.bin(Bin::ISub, zero, a)
            }
            ScalarOp::Neg if float => {
                let sign = self.constant(size, size.sign());
                self.bin(Bin::Xor, a, sign)
            }
            ScalarOp::Abs if dtype.kind() == Kind::Signed => self.signed_abs(a),
            ScalarOp::Abs if integer => a,
            ScalarOp::Abs if float => {
                let rest = self.constant(size, size.sign() - 1);
                self.bin(Bin::And, a, rest)
            }
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

    fn float_op(&mut self, op: ScalarOp, element: Element, a: V, b: V) -> Option<V> {
        if let Some(order) = order(op) {
            return Some(self.compare(order, element, a, b));
        }
        let bin = match op {
            ScalarOp::Add => Bin::Add,
            ScalarOp::Sub => Bin::Sub,
            ScalarOp::Mul => Bin::Mul,
            ScalarOp::Div => Bin::Div,
            // The instruction gives `b` where either is NaN, so a NaN in `a` is what it misses.
            ScalarOp::Max | ScalarOp::Min => {
                let extreme = self.bin(if op == ScalarOp::Max { Bin::Max } else { Bin::Min }, a, b);
                let nan = self.compare(Order::Unordered, element, a, a);
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

    fn int_op(&mut self, op: ScalarOp, element: Element, a: V, b: V) -> Option<V> {
        let (signed, size) = (matches!(element, Element::Signed(_)), element.size());
        if let Some(order) = order(op) {
            return Some(self.compare(order, element, a, b));
        }
        if (size, self.width) == (Size::Eight, Width::Avx2)
            && let Some(v) = self.composed(op, element, a, b)
        {
            return Some(v);
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
                let bits = self.constant(size, 8 * u64::from(size.bytes()) - 1);
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

    /// What AVX2 has no instruction for on 64-bit integers.
    fn composed(&mut self, op: ScalarOp, element: Element, a: V, b: V) -> Option<V> {
        let size = element.size();
        match op {
            // The products of one low half and one high half count 2^32 times.
            ScalarOp::Mul => {
                let half = self.constant(size, 32);
                let (high_a, high_b) = (self.bin(Bin::ShrU, a, half), self.bin(Bin::ShrU, b, half));
                let (one, other) = (self.bin(Bin::MulLow, high_a, b), self.bin(Bin::MulLow, a, high_b));
                let cross = self.bin(Bin::IAdd, one, other);
                let cross = self.bin(Bin::Shl, cross, half);
                let low = self.bin(Bin::MulLow, a, b);
                Some(self.bin(Bin::IAdd, low, cross))
            }
            ScalarOp::Max | ScalarOp::Min => {
                let order = if op == ScalarOp::Max { Order::Gt } else { Order::Lt };
                let better = self.compare(order, element, a, b);
                Some(self.select(better, a, b))
            }
            // Zeros come in where the sign bit does not, so a negative number is shifted as its complement.
            ScalarOp::Shr if matches!(element, Element::Signed(_)) => {
                let (bits, zero) = (self.constant(size, 63), self.constant(size, 0));
                let count = self.bin(Bin::And, b, bits);
                let negative = self.compare(Order::Lt, element, a, zero);
                let v = self.bin(Bin::Xor, a, negative);
                let v = self.bin(Bin::ShrU, v, count);
                Some(self.bin(Bin::Xor, v, negative))
            }
            _ => None,
        }
    }

    fn signed_abs(&mut self, a: V) -> V {
        let size = self.size_of(a);
        if (size, self.width) != (Size::Eight, Width::Avx2) {
            return self.un(Un::IAbs, a);
        }
        let zero = self.constant(size, 0);
        let negative = self.compare(Order::Lt, Element::Signed(size), a, zero);
        let v = self.bin(Bin::Xor, a, negative);
        self.bin(Bin::ISub, v, negative)
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

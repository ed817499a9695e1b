//! `convert`: the value in another dtype.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, batch_elementwise, one, partial,
};
use crate::array::{Array, Data};
use crate::attrs::Attrs;
use crate::dim::Dim;
use crate::dtype::{DType, Kind};
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::Type;

/// The value in another dtype.
///
/// # Shapes
/// The operand's.
/// # Gradient
/// The cotangent converted back, between inexact dtypes; none from or to integers and bool.
/// # Numerics
/// Float to integer truncates toward zero and saturates, NaN gives 0; integers wrap; to bool is `x != 0`;
/// to a narrower float rounds to nearest, ties to even.
/// # Errors
/// To or from a complex dtype.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Convert {
    /// The result's dtype.
    pub dtype: DType,
}

impl Operation for Convert {
    fn name(&self) -> &str {
        "convert"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_name("dtype", self.dtype.name())
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        if operands[0].dtype.kind() == Kind::Complex || self.dtype.kind() == Kind::Complex {
            return Err(Rule::new("it converts between real dtypes", "take the real or imaginary part"));
        }
        one(operands[0].with_dtype(self.dtype))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let mut out = Data::zeros(self.dtype, x.len());
        for i in 0..x.len() {
            let Some(l) = x.data().get(i) else { break };
            out.set(i, convert(l, self.dtype));
        }
        Ok(SmallVec::from_iter([Array::from_data(x.shape(), out)?]))
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(partial(match tangents[0] {
            Some(t) if self.dtype.is_inexact() => Some(b.convert(t, self.dtype)?),
            _ => None,
        }))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let dtype = b.ty(at.operands[0]).dtype;
        let ct = cotangents[0].map(|ct| b.convert(ct, dtype)).transpose()?;
        Ok(partial(ct))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        batch_elementwise((*self).into(), b, operands, batched, size)
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::Elementwise }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let x = e.operand(0, index);
        if e.dtype(x) == self.dtype { x } else { e.apply(ScalarOp::Convert(self.dtype), &[x]) }
    }
}

/// A literal in another real dtype, by the operation's rules.
pub fn convert(l: Literal, dtype: DType) -> Literal {
    let from = l.dtype().kind();
    match (from, dtype.kind()) {
        (Kind::Bool | Kind::Signed | Kind::Unsigned, Kind::Bool) => Literal::from(l.bits()[0] != 0),
        // Signed values are sign-extended before they are cut to the new width.
        (Kind::Bool | Kind::Signed, Kind::Signed | Kind::Unsigned) => {
            Literal::from_bits(dtype, [l.to_i64().unwrap_or_default() as u64, 0])
        }
        (Kind::Unsigned, Kind::Signed | Kind::Unsigned) => Literal::from_bits(dtype, l.bits()),
        // One rounding, from the integer itself.
        (Kind::Signed, Kind::Float) if dtype == DType::F32 => Literal::from(l.to_i64().unwrap_or_default() as f32),
        (Kind::Unsigned, Kind::Float) if dtype == DType::F32 => Literal::from(l.bits()[0] as f32),
        _ => Literal::from_f64(dtype, l.to_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_saturate_truncate_and_wrap() {
        let c = |l: Literal, d| convert(l, d);
        assert_eq!(c(Literal::from(-1.9f32), DType::I32), Literal::from(-1i32));
        assert_eq!(c(Literal::from(f32::NAN), DType::I8), Literal::from(0i8));
        assert_eq!(c(Literal::from(1e20f64), DType::I16), Literal::from(i16::MAX));
        assert_eq!(c(Literal::from(300i32), DType::U8), Literal::from(44u8));
        assert_eq!(c(Literal::from(-1i8), DType::U32), Literal::from(u32::MAX));
        assert_eq!(c(Literal::from(u64::MAX), DType::I64), Literal::from(-1i64));
        assert_eq!(c(Literal::from(0.5f32), DType::Bool), Literal::from(true));
        assert_eq!(c(Literal::from((1i64 << 53) + 1), DType::F32), Literal::from(((1i64 << 53) + 1) as f32));
    }
}

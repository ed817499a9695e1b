//! A linear operation without a kernel: compiled programs call it on the host.

use lehr::Tensor;
use lehr::custom_op::{Extern, ExternOp, custom_op};
use lehr::ir::attrs::{Attr, Attrs};
use lehr::ir::eval::{EvalCx, EvalError};
use lehr::ir::graph::{Builder, Value};
use lehr::ir::ops::{Arity, Arrays, At, Partials, RuleError, Types};
use lehr::ir::{Array, Data, Dim, Facts, Literal, Rule, Type};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// The sums of the elements so far along the last dim, from the front or from the back.
///
/// # Gradient
/// It is linear: its tangent is the running sum of the tangent, its transpose the running sum from the other end.
#[derive(Clone, Copy, Debug)]
pub struct RunningSum {
    /// Whether it starts from the back.
    pub from_back: bool,
}

/// The sums of the elements so far along the last dim.
#[track_caller]
pub fn running_sum(x: &Tensor) -> Tensor {
    custom_op(RunningSum { from_back: false }, &[x])
}

impl RunningSum {
    fn add(self, b: &mut Builder, x: Value) -> Result<Value, RuleError> {
        Ok(b.op(Extern(Arc::new(self)).into(), &[x])?)
    }
}

impl ExternOp for RunningSum {
    fn name(&self) -> &str {
        "example.running_sum"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("from_back", Attr::Int(i64::from(self.from_back)))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        if !x.dtype.is_float() {
            return Err(Rule::new("it takes floats", "cast the operand to a float dtype"));
        }
        if x.rank() == 0 {
            return Err(Rule::new("a scalar has no last dim", "give it one or more dims"));
        }
        Ok(smallvec![x.clone()])
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let n = x.shape().last().copied().unwrap_or(1);
        let mut out = Data::zeros(x.dtype(), x.len());
        let mut sum = 0.0;
        for k in 0..x.len() {
            if k % n == 0 {
                sum = 0.0;
            }
            let row = k - k % n;
            let i = if self.from_back { row + n - 1 - k % n } else { k };
            sum += x.data().get(i).map_or(f64::NAN, |x| x.to_f64());
            out.set(i, Literal::from_f64(x.dtype(), sum));
        }
        Ok(smallvec![Array::from_data(x.shape(), out)?])
    }

    fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(smallvec![None]) };
        Ok(smallvec![Some(self.add(b, t)?)])
    }

    fn transpose(
        &self,
        b: &mut Builder,
        _: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(smallvec![None]) };
        let other = Self { from_back: !self.from_back };
        Ok(smallvec![Some(other.add(b, ct)?)])
    }

    /// The batch dim stands first, so the last dim is the one it was.
    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        Ok(smallvec![self.add(b, operands[0])?])
    }
}

//! An elementwise operation: its kernel fuses with what stands around it.

use lehr::Tensor;
use lehr::custom_op::{Extern, ExternOp, custom_op};
use lehr::ir::eval::{EvalCx, EvalError};
use lehr::ir::graph::{Builder, Value};
use lehr::ir::kernel::{ScalarOp, Var};
use lehr::ir::ops::{Arity, Arrays, At, MapEmitter, Partials, RuleError, Types, UnaryOp};
use lehr::ir::{Array, Data, Dim, Facts, Literal, Rule, Type};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// `x / (1 + |x|)`.
///
/// # Gradient
/// `1 / (1 + |x|)²`.
#[derive(Debug)]
pub struct Softsign;

/// `x / (1 + |x|)` of each element.
#[track_caller]
pub fn softsign(x: &Tensor) -> Tensor {
    custom_op(Softsign, &[x])
}

impl ExternOp for Softsign {
    fn name(&self) -> &str {
        "example.softsign"
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        if operands[0].dtype.is_float() {
            return Ok(smallvec![operands[0].clone()]);
        }
        Err(Rule::new("it takes floats", "cast the operand to a float dtype"))
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let mut out = Data::zeros(x.dtype(), x.len());
        for i in 0..x.len() {
            let v = x.data().get(i).map_or(f64::NAN, |x| x.to_f64());
            out.set(i, Literal::from_f64(x.dtype(), v / (1.0 + v.abs())));
        }
        Ok(smallvec![Array::from_data(x.shape(), out)?])
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(smallvec![None]) };
        let size = b.unary(UnaryOp::Abs, at.operands[0])?;
        let below = b.offset(size, 1.0)?;
        let square = b.mul(below, below)?;
        Ok(smallvec![Some(b.div(t, square)?)])
    }

    /// The batch is one dim more, and each element is computed alone.
    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        Ok(smallvec![b.op(Extern(Arc::new(Self)).into(), operands)?])
    }

    fn is_elementwise(&self) -> bool {
        true
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let x = e.operand(0, index);
        let one = e.literal(Literal::from_f64(e.dtype(x), 1.0));
        let size = e.apply(ScalarOp::Abs, &[x]);
        let below = e.apply(ScalarOp::Add, &[one, size]);
        e.apply(ScalarOp::Div, &[x, below])
    }
}

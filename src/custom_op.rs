//! Operations that another crate defines.
//!
//! An operation is a type with its whole story: [`ExternOp`] asks for a name, a shape rule and semantics on arrays, and takes a
//! derivative, a transpose, a batching rule and a kernel where there are some. What is not given is missing, and a transformation
//! that needs it says so. `examples/custom_op` has two of them, one with a kernel and one that runs on the host.

use std::sync::Arc;

use lehr_ir::loc::Loc;
pub use lehr_ir::ops::{Extern, ExternOp};

use crate::closure::apply_all;
use crate::tensor::Tensor;

/// The first result of an operation that another crate defines.
///
/// # Errors
/// Operands that the operation's own shape rule refuses, or another number of them than it takes.
/// ```
/// use lehr::ir::ops::{Arity, Arrays, Types};
/// use lehr::ir::{Array, Facts, Rule, Type, eval::{EvalCx, EvalError}};
/// use lehr::custom_op::{ExternOp, custom_op};
/// use lehr::prelude::*;
///
/// /// `x` rounded to a multiple of 10.
/// #[derive(Debug)]
/// struct Tens;
///
/// impl ExternOp for Tens {
///     fn name(&self) -> &str { "example.tens" }
///     fn arity(&self) -> Arity { Arity::Exactly(1) }
///     fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
///         match operands[0].dtype {
///             F32 => Ok([operands[0].clone()].into()),
///             _ => Err(Rule::new("it takes f32", "cast the operand")),
///         }
///     }
///     fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
///         let x = operands[0].as_slice::<f32>().unwrap_or_default();
///         Ok([Array::new(operands[0].shape(), x.iter().map(|x| (x / 10.0).round() * 10.0).collect())?].into())
///     }
/// }
///
/// assert_eq!(custom_op(Tens, &[&Tensor::from([4.0f32, 17.0])]).to_string(), "[0,20]");
/// let e = custom_op(Tens, &[&Tensor::from(1i64)]).check().unwrap_err();
/// assert!(e.to_string().starts_with("example.tens: operand 0 is i64[]; it takes f32"));
/// ```
#[track_caller]
pub fn custom_op(op: impl ExternOp + 'static, operands: &[&Tensor]) -> Tensor {
    let mut all = custom_ops(op, operands);
    all.swap_remove(0)
}

/// All results of an operation that another crate defines; one that carries the error if the operands are refused.
///
/// # Errors
/// As [`custom_op`].
#[track_caller]
pub fn custom_ops(op: impl ExternOp + 'static, operands: &[&Tensor]) -> Vec<Tensor> {
    let loc = Loc::caller();
    let operands: Vec<Tensor> = operands.iter().map(|&t| t.clone()).collect();
    let found = apply_all(Extern(Arc::new(op)), &operands, &loc);
    if found.is_empty() {
        return vec![Tensor::refuse("custom_op", &[], "the operation has no result", "give it one or more", loc)];
    }
    found
}

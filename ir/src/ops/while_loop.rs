//! `while`: a region applied to carried values as long as another holds.

use std::sync::Arc;

use smallvec::SmallVec;

use super::region::{by_driver, check_carries, check_region};
use super::{Arity, Arrays, At, Lowering, Operation, Partials, RuleError, Types};
use crate::array::Array;
use crate::attrs::{Attr, AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Rule;
use crate::eval::{self, EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Region, Value};
use crate::ty::Type;

/// A loop whose number of iterations depends on data.
///
/// `carry = body(consts, carry)` while `cond(consts, carry)`; the results are the last carries.
/// # Shapes
/// Operands: `consts` values that every iteration sees, then the initial carries. Both regions take them in this order; the
/// condition gives one `bool[]`, the body the new carries, of the same types.
/// # Gradient
/// Forward: a `while` whose carries are values and tangents. There is no reverse mode, since what an unknown number of
/// iterations would have to keep has no size: a [`Scan`](super::Scan) has one.
/// # Batching
/// If the condition depends on the batch, the loop runs until the last example is through, and each keeps its values from when
/// its condition failed.
/// # Errors
/// Regions of other parameters than the operands, a condition that is no `bool[]`, carries that change their type.
/// # Source
/// StableHLO's `while`, JAX's `lax.while_loop`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct While {
    /// From consts and carries to whether to go on.
    pub cond: Region,
    /// From consts and carries to carries.
    pub body: Region,
    /// How many operands every iteration sees.
    pub consts: usize,
}

impl While {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { consts: r.axis("consts")?, cond: r.region("cond")?, body: r.region("body")? })
    }

    /// How many values are carried.
    pub fn carries(&self) -> usize {
        self.body.params().len().saturating_sub(self.consts)
    }
}

impl Operation for While {
    fn name(&self) -> &str {
        "while"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .with_int("consts", self.consts)
            .with("cond", Attr::Region(Arc::clone(&self.cond)))
            .with("body", Attr::Region(Arc::clone(&self.body)))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.body.params().len())
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        if operands.len() < self.consts {
            return Err(Rule::new(
                format!("it names {} consts, and has {} operands", self.consts, operands.len()),
                "count the consts among the operands",
            ));
        }
        check_region("condition", &self.cond, operands.iter().copied(), facts)?;
        check_region("body", &self.body, operands.iter().copied(), facts)?;
        let types: SmallVec<[&Type; 1]> = self.cond.output_types().collect();
        if types.len() != 1 || types[0].dtype != DType::Bool || types[0].rank() != 0 {
            let given: Vec<String> = types.iter().map(|t| t.to_string()).collect();
            return Err(Rule::new(
                format!("the condition gives ({}), and must give one bool[]", given.join(", ")),
                "compare, and reduce with all() or any()",
            ));
        }
        let carries = operands.len() - self.consts;
        check_carries("body", &self.body, self.consts, carries, facts)?;
        if self.body.outputs().len() != carries {
            return Err(Rule::new(
                format!("the body gives {} results for {carries} carries", self.body.outputs().len()),
                "give a new value for each carry, in order",
            ));
        }
        Ok(operands[self.consts..].iter().map(|&t| t.clone()).collect())
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let mut args: Vec<Array> = operands.iter().map(|&a| a.clone()).collect();
        loop {
            let go = eval::evaluate_bound(&self.cond, &args, cx.bindings)?.outputs;
            if go.first().and_then(Array::item) != Some(crate::Literal::from(true)) {
                break;
            }
            let out = eval::evaluate_bound(&self.body, &args, cx.bindings)?.outputs;
            args.truncate(self.consts);
            args.extend(out);
        }
        Ok(args.drain(self.consts..).collect())
    }

    /// The driver of `lehr-passes` differentiates the body.
    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(by_driver(self.name()))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(by_driver(self.name()))
    }

    fn batch(&self, _: &mut Builder, _: &[Value], _: &[bool], _: &Dim) -> Result<SmallVec<[Value; 1]>, RuleError> {
        Err(by_driver(self.name()))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::While(self)
    }
}

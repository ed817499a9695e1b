//! `scan`: a region applied in sequence to the slices of arrays, with values carried along.

use std::sync::Arc;

use smallvec::SmallVec;

use super::region::{by_driver, check_carries, check_region, row, set_row, stacked};
use super::{Arity, Arrays, At, Lowering, Operation, Partials, RuleError, Types, check_equal};
use crate::array::{Array, Data};
use crate::attrs::{Attr, AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{self, EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Region, Value};
use crate::ty::Type;

/// A loop of a known number of iterations over the first axis of arrays.
///
/// `(carry[i+1], y[i]) = body(consts, carry[i], x[i])` for `i` in `0..length`, or from the last to the first; the results are
/// the last carries, then the `y`s stacked in order of `i`, whatever the direction.
/// # Shapes
/// Operands: `consts` values that every iteration sees, then `carries` initial values, then arrays `[length, ...]` that are read
/// row by row. The body takes them in this order, the rows without their first dim, and gives the new carries, of the same types,
/// then a row of each stacked result. With `length` 0 the carries are the initial ones.
/// # Gradient
/// Forward: a scan whose carries are values and tangents, split into a scan that keeps what the tangents need, stacked, and a
/// linear one. Reverse: the linear scan in the other direction, which carries the cotangents of carries and consts.
/// # Batching
/// Carries that depend on the batch get a batch dim; the loop stays one loop.
/// # Errors
/// A body of other parameters than the operands, carries that change their type, arrays of another length.
/// # Source
/// JAX's `lax.scan`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scan {
    /// From consts, carries and rows to carries and rows.
    pub body: Region,
    /// How many operands every iteration sees.
    pub consts: usize,
    /// How many values are carried.
    pub carries: usize,
    /// The number of iterations.
    pub length: Dim,
    /// Whether it runs from the last row to the first.
    pub reverse: bool,
}

impl Scan {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let length = r.dims("length")?;
        let [length] =
            <[Dim; 1]>::try_from(length).map_err(|_| crate::attrs::form("length", "one dim in parentheses"))?;
        Ok(Self {
            consts: r.axis("consts")?,
            carries: r.axis("carries")?,
            length,
            reverse: r.choice("order", &[false, true], order)?,
            body: r.region("body")?,
        })
    }

    /// How many operands are read row by row.
    pub fn rows(&self) -> usize {
        self.body.params().len().saturating_sub(self.consts + self.carries)
    }
}

fn order(reverse: bool) -> &'static str {
    if reverse { "reverse" } else { "forward" }
}

impl Operation for Scan {
    fn name(&self) -> &str {
        "scan"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .with_int("consts", self.consts)
            .with_int("carries", self.carries)
            .with_dims("length", std::slice::from_ref(&self.length))
            .with_name("order", order(self.reverse))
            .with("body", Attr::Region(Arc::clone(&self.body)))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(self.body.params().len())
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let fixed = self.consts + self.carries;
        if operands.len() < fixed {
            return Err(Rule::new(
                format!("it names {fixed} consts and carries, and has {} operands", operands.len()),
                "count consts and carries among the operands",
            ));
        }
        let mut args: SmallVec<[Type; 8]> = SmallVec::new();
        for (i, ty) in operands.iter().enumerate() {
            let mut ty = (*ty).clone();
            if i >= fixed {
                if ty.rank() == 0 {
                    return Err(Rule::new(
                        format!("operand {i} is read row by row and has no axis"),
                        "give it a first axis of the loop's length, or pass it to every iteration",
                    ));
                }
                let n = ty.shape.remove(0);
                check_equal("the loop's length and the first dim of a scanned operand,", &self.length, &n, facts)?;
            }
            args.push(ty);
        }
        check_region("body", &self.body, args.iter(), facts)?;
        check_carries("body", &self.body, self.consts, self.carries, facts)?;
        let out = self.body.output_types().enumerate();
        Ok(out
            .map(|(i, ty)| if i < self.carries { args[self.consts + i].clone() } else { stacked(ty, &self.length) })
            .collect())
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let n = cx.size(&self.length)?;
        let fixed = self.consts + self.carries;
        let mut args: Vec<Array> = operands[..fixed].iter().map(|&a| a.clone()).collect();
        let mut stacks = Vec::new();
        for ty in self.body.output_types().skip(self.carries) {
            let mut shape = cx.sizes(&ty.shape)?;
            shape.insert(0, n);
            stacks.push((shape.clone(), Data::zeros(ty.dtype, shape.iter().product())));
        }
        for step in 0..n {
            let i = if self.reverse { n - 1 - step } else { step };
            args.truncate(fixed);
            for xs in &operands[fixed..] {
                args.push(row(xs, i)?);
            }
            let mut out = eval::evaluate_bound(&self.body, &args, cx.bindings)?.outputs.into_iter();
            for carry in &mut args[self.consts..fixed] {
                if let Some(next) = out.next() {
                    *carry = next;
                }
            }
            for ((_, data), y) in stacks.iter_mut().zip(out) {
                set_row(data, i, &y)?;
            }
        }
        let mut results: Arrays = args.drain(self.consts..fixed).collect();
        for (shape, data) in stacks {
            results.push(Array::from_data(&shape, data)?);
        }
        Ok(results)
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
        Lowering::Scan(self)
    }
}

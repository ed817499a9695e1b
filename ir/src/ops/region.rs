//! What operations that hold regions have in common: the checks of a region against its operands, and rows of arrays.

use super::{RuleError, Types};
use crate::array::{Array, Data};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::EvalError;
use crate::facts::Facts;
use crate::graph::Graph;
use crate::ty::Type;

/// Refuses a region that updates variables, or whose parameters are not of the types of what it is applied to.
pub(super) fn check_region<'a>(
    what: &str,
    region: &Graph,
    args: impl ExactSizeIterator<Item = &'a Type>,
    facts: &Facts,
) -> Result<(), Rule> {
    if !region.updates().is_empty() {
        return Err(Rule::new(
            format!("the {what} updates variables"),
            "return the new values and update them outside",
        ));
    }
    if region.params().len() != args.len() {
        return Err(Rule::new(
            format!("the {what} takes {} parameters, and is applied to {} values", region.params().len(), args.len()),
            "build it for the operands",
        ));
    }
    for (i, (ty, want)) in args.zip(region.param_types()).enumerate() {
        if !same_type(ty, want, facts) {
            return Err(Rule::new(
                format!("parameter {i} of the {what} is {want}, and is applied to {ty}"),
                "build it for the types of the operands",
            ));
        }
    }
    Ok(())
}

/// Refuses carries that come out of a region as other types than they go in as.
pub(super) fn check_carries(
    what: &str,
    region: &Graph,
    consts: usize,
    carries: usize,
    facts: &Facts,
) -> Result<(), Rule> {
    if region.outputs().len() < carries {
        return Err(Rule::new(
            format!("the {what} gives {} results, fewer than the {carries} values carried", region.outputs().len()),
            "give a new value for each carry, in order",
        ));
    }
    for (i, (before, after)) in region.param_types().skip(consts).zip(region.output_types()).take(carries).enumerate() {
        if !same_type(before, after, facts) {
            let name = &region.params()[consts + i].name;
            return Err(Rule::new(
                format!(
                    "carry {i} (`{name}`) is {before} before an iteration and {after} after it; it must keep its type"
                ),
                "cast, reshape or broadcast it so that both are one type",
            ));
        }
    }
    Ok(())
}

/// Whether two types are provably equal.
pub(super) fn same_type(a: &Type, b: &Type, facts: &Facts) -> bool {
    a == b
        || (a.dtype == b.dtype
            && a.rank() == b.rank()
            && a.shape.iter().zip(&b.shape).all(|(x, y)| facts.decide_eq(x, y) == Some(true)))
}

/// A type with one more dim in front.
pub(super) fn stacked(ty: &Type, length: &Dim) -> Type {
    let mut ty = ty.clone();
    ty.shape.insert(0, length.clone());
    ty
}

/// The types of a region's outputs.
pub(super) fn output_types(region: &Graph) -> Types {
    region.output_types().cloned().collect()
}

/// Row `i` of an array along its first axis.
pub(crate) fn row(array: &Array, i: usize) -> Result<Array, EvalError> {
    let shape = array.shape().get(1..).unwrap_or_default();
    let n: usize = shape.iter().product();
    Ok(Array::from_data(shape, array.data().gather(i * n..(i + 1) * n))?)
}

/// Writes an array as row `i` of the rows in `data`.
pub(super) fn set_row(data: &mut Data, i: usize, row: &Array) -> Result<(), EvalError> {
    let n = row.len();
    let misfit = || crate::array::LengthMismatch { len: n, shape: row.shape().to_vec() };
    data.copy_into(i * n, row.data()).ok_or_else(misfit)?;
    Ok(())
}

/// The refusal of operations with regions to be transformed alone.
pub(super) fn by_driver(op: &str) -> RuleError {
    RuleError::Missing(format!("`{op}` is transformed by applying the transformation to what it holds"))
}

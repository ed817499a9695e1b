//! `case`: one of several regions, chosen by an index.

use std::sync::Arc;

use smallvec::SmallVec;

use super::region::{by_driver, check_region, output_types, same_type};
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

/// One of several branches applied to operands; only the chosen one runs.
///
/// `y = branches[clamp(index, 0, n - 1)](operands)`.
/// # Shapes
/// Operands: the index, an `i32[]`, then what every branch takes. The branches give results of the same types.
/// # Gradient
/// A `case` of the branches' derivatives; none in the index. What a branch keeps for its tangent is zeros where another ran.
/// # Batching
/// A batched index makes every branch run and a choice by element; otherwise the branches are batched and stay a `case`.
/// # Errors
/// No branch, an index that is no `i32[]`, branches of other parameters than the operands or of unlike results.
/// # Source
/// StableHLO's `case`, JAX's `lax.switch`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Case {
    /// The branches, one or more.
    pub branches: SmallVec<[Region; 2]>,
}

impl Case {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let mut branches = SmallVec::from_iter([r.region("branch0")?]);
        loop {
            match r.optional(&format!("branch{}", branches.len())) {
                Some(Attr::Region(region)) => branches.push(region),
                Some(_) => return Err(crate::attrs::form("branch", "a region")),
                None => return Ok(Self { branches }),
            }
        }
    }

    /// The branch that an index chooses.
    pub fn clamp(&self, index: i64) -> usize {
        usize::try_from(index).unwrap_or(0).min(self.branches.len().saturating_sub(1))
    }
}

impl Operation for Case {
    fn name(&self) -> &str {
        "case"
    }

    fn attrs(&self) -> Attrs {
        let branches = self.branches.iter().enumerate();
        branches.fold(Attrs::new(), |a, (i, r)| a.with(&format!("branch{i}"), Attr::Region(Arc::clone(r))))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1 + self.branches.first().map_or(0, |b| b.params().len()))
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let Some(first) = self.branches.first() else {
            return Err(Rule::new("it has no branch", "give one branch or more"));
        };
        if operands[0].dtype != DType::I32 || operands[0].rank() != 0 {
            return Err(Rule::new(
                format!("the index is {}, and must be i32[]", operands[0]),
                "convert a bool or another integer, and give one index; vmap chooses for each example",
            ));
        }
        for (i, branch) in self.branches.iter().enumerate() {
            check_region(&format!("branch {i}"), branch, operands[1..].iter().copied(), facts)?;
            let same = branch.outputs().len() == first.outputs().len()
                && branch.output_types().zip(first.output_types()).all(|(a, b)| same_type(a, b, facts));
            if !same {
                let list = |r: &Region| r.output_types().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(Rule::new(
                    format!("branch 0 gives ({}) and branch {i} gives ({})", list(first), list(branch)),
                    "make all branches give the same types",
                ));
            }
        }
        Ok(output_types(first))
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let index = operands[0].item().map_or(0, |l| l.to_f64() as i64);
        let args: Vec<Array> = operands[1..].iter().map(|&a| a.clone()).collect();
        Ok(eval::evaluate_bound(&self.branches[self.clamp(index)], &args, cx.bindings)?.outputs.into())
    }

    /// The driver of `lehr-passes` differentiates the branches.
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
        Lowering::Case(self)
    }
}

//! `iota`: positions along an axis.

use smallvec::SmallVec;

use super::lower::Access;
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Types, check_axis, one, partial};
use crate::array::{Array, Data};
use crate::attrs::{Attr, AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::{DType, Kind};
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// `out[i…] = i[axis]`, in any dtype but bool.
///
/// # Shapes
/// `shape`.
/// # Gradient
/// None: it does not vary.
/// # Numerics
/// A position that the dtype cannot hold wraps (integers) or rounds (floats).
/// # Errors
/// A bool dtype; an axis outside the shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Iota {
    /// Element type.
    pub dtype: DType,
    /// The result's shape.
    pub shape: Shape,
    /// The axis counted along.
    pub axis: usize,
}

impl Iota {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { dtype: r.dtype("dtype")?, shape: r.dims("shape")?.into(), axis: r.axis("axis")? })
    }
}

impl Operation for Iota {
    fn name(&self) -> &str {
        "iota"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .with_name("dtype", self.dtype.name())
            .with_dims("shape", &self.shape)
            .with("axis", Attr::Int(self.axis as i64))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(0)
    }

    fn infer(&self, _: &[&Type], _: &Facts) -> Result<Types, Rule> {
        if self.dtype.kind() == Kind::Bool {
            return Err(Rule::new("positions have no bool form", "ask for an integer dtype and compare"));
        }
        check_axis(self.axis, self.shape.len())?;
        one(Type { dtype: self.dtype, shape: self.shape.clone() })
    }

    fn eval(&self, cx: &EvalCx<'_>, _: &[&Array]) -> Result<Arrays, EvalError> {
        let shape = cx.sizes(&self.shape)?;
        let n = shape[self.axis];
        let row: Vec<Literal> = (0..n).map(|i| Literal::from_i64(self.dtype, i as i64)).collect();
        let mut line = Data::zeros(self.dtype, n);
        for (i, l) in row.into_iter().enumerate() {
            line.set(i, l);
        }
        let inner: usize = shape[self.axis + 1..].iter().product();
        let count: usize = shape.iter().product();
        let data = line.gather((0..count).map(|i| i / inner % n));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, _: &mut Builder, _: At<'_>, _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(partial(None))
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Ok(Partials::new())
    }

    fn batch(&self, b: &mut Builder, _: &[Value], _: &[bool], size: &Dim) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let shape: Vec<Dim> = std::iter::once(size.clone()).chain(self.shape.iter().cloned()).collect();
        Ok(SmallVec::from_iter([b.iota(self.dtype, &shape, self.axis + 1)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let i = e.index_value(&index[self.axis]);
        if self.dtype == DType::I64 { i } else { e.apply(ScalarOp::Convert(self.dtype), &[i]) }
    }
}

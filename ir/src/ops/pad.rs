//! `pad`: padding at edges and between elements.

use smallvec::SmallVec;

use super::lower::Access;
use super::slice::{check_ge, check_rank, check_sound, optional_axes, table_positions};
use super::{Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Slice, Types, one, partial};
use crate::array::Array;
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{Guard, Var};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// `x` with copies of a scalar between its elements and at its edges; negative amounts trim.
///
/// `out[o…] = x[(o - low) / (interior + 1), …]` where every quotient is whole and inside `x`, the scalar elsewhere.
///
/// # Shapes
/// Operands `x` and a scalar of its dtype. `low`, `high` and `interior` have an entry for each dim.
/// A dim `n` first spreads to `max((n - 1) * (interior + 1) + 1, 0)`, then grows by `low` before and `high` after.
/// `low` and `high` may be symbolic and negative; the sum is provably at least 0.
/// # Gradient
/// Linear in both operands. The cotangent of `x` undoes the edges and takes every `interior + 1`-th element.
/// The cotangent of the scalar is the sum over the padding alone, so that what `x` receives takes no part in its rounding.
/// # Numerics
/// Exact: elements are copied.
/// # Errors
/// Lists of a length other than the rank; a padding value that is no scalar or of another dtype; a size that is negative or
/// not provably at least 0.
/// # Source
/// StableHLO specification, `pad`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pad {
    /// What is added before each dim; trimmed if negative.
    pub low: Shape,
    /// What is added after each dim; trimmed if negative.
    pub high: Shape,
    /// What is added between neighbours along each dim.
    pub interior: SmallVec<[usize; 4]>,
}

impl Pad {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let (low, high): (Shape, Shape) = (r.dims("low")?.into(), r.dims("high")?.into());
        let interior = match optional_axes(r, "interior")? {
            interior if interior.is_empty() => SmallVec::from_elem(0, low.len()),
            interior => interior,
        };
        Ok(Self { low, high, interior })
    }

    /// The size that `n` elements have with `interior` more between neighbours.
    pub fn spread(n: &Dim, interior: usize, facts: &Facts) -> Dim {
        if interior == 0 {
            return n.clone();
        }
        let spread = (n - 1) * (Dim::from(interior) + 1) + 1;
        if facts.decide_ge(n, &Dim::ONE) == Some(true) { spread } else { spread.maximum(0) }
    }

    /// The mask of the padding: true where the result holds the scalar, for an `x` of this shape.
    fn mask(&self, b: &mut Builder, shape: &[Dim]) -> Result<Value, RuleError> {
        let inside = b.full(Literal::from(false), shape)?;
        let outside = b.scalar(Literal::from(true));
        Ok(b.op(self.clone().into(), &[inside, outside])?)
    }

    fn cotangent_of_operand(&self, b: &mut Builder, x: Value, ct: Value) -> Result<Value, RuleError> {
        let (shape, padded) = (b.ty(x).shape.clone(), b.ty(ct).shape.clone());
        let steps: SmallVec<[usize; 4]> = self.interior.iter().map(|i| i + 1).collect();
        // Whole steps are kept, so that the size of the strided window is the operand's without a case for size 0.
        let whole: Shape = shape.iter().zip(&steps).map(|(n, &step)| n * Dim::from(step)).collect();
        let undo = Self {
            low: self.low.iter().map(|low| -low).collect(),
            high: (0..shape.len()).map(|d| &whole[d] - &padded[d] + &self.low[d]).collect(),
            interior: SmallVec::from_elem(0, shape.len()),
        };
        let zero = b.scalar(Literal::zero(b.ty(ct).dtype));
        let trimmed = b.op(undo.into(), &[ct, zero])?;
        if steps.iter().all(|&s| s == 1) {
            return Ok(trimmed);
        }
        let start = SmallVec::from_elem(Dim::ZERO, shape.len());
        Ok(b.op(Slice { start, limit: whole, stride: steps }.into(), &[trimmed])?)
    }

    fn cotangent_of_value(&self, b: &mut Builder, x: Value, ct: Value) -> Result<Value, RuleError> {
        let shape = b.ty(x).shape.clone();
        let mask = self.mask(b, &shape)?;
        let zeros = b.zeros(&b.ty(ct).clone())?;
        let outside = b.select(mask, ct, zeros)?;
        let axes: Vec<usize> = (0..shape.len()).collect();
        Ok(b.sum(outside, &axes)?)
    }
}

impl Operation for Pad {
    fn name(&self) -> &str {
        "pad"
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with_dims("low", &self.low).with_dims("high", &self.high);
        if self.interior.iter().all(|&i| i == 0) { attrs } else { attrs.with_axes("interior", &self.interior) }
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let (x, value) = (operands[0], operands[1]);
        check_rank("low", self.low.len(), x.rank())?;
        check_rank("high", self.high.len(), x.rank())?;
        check_rank("interior", self.interior.len(), x.rank())?;
        if value.rank() != 0 || value.dtype != x.dtype {
            return Err(Rule::new(
                format!("the padding value must be {}[]", x.dtype),
                "pass a scalar, converted to the operand's dtype",
            ));
        }
        let shape = (0..x.rank())
            .map(|d| &self.low[d] + Self::spread(&x.shape[d], self.interior[d], facts) + &self.high[d])
            .collect();
        let shape = check_sound(shape)?;
        for (d, size) in shape.iter().enumerate() {
            // What spreads is never negative, so edges that add up to 0 or more suffice; the prover may not see this in the sum.
            if facts.decide_ge(&(&self.low[d] + &self.high[d]), &Dim::ZERO) != Some(true) {
                check_ge(&format!("the size of dim {d} of the result"), size, &Dim::ZERO, facts)?;
            }
        }
        one(Type { dtype: x.dtype, shape })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let (x, value) = (operands[0], operands[1]);
        let strides = walk::row_major(x.shape());
        let mut tables = Vec::with_capacity(x.rank());
        for d in 0..x.rank() {
            let (low, high) = (cx.dim(&self.low[d])?, cx.dim(&self.high[d])?);
            let n = x.shape()[d];
            let spread = Self::spread(&n.into(), self.interior[d], &Facts::default());
            let size = cx.size(&(spread + low + high))?;
            let step = self.interior[d].saturating_add(1);
            let source = |o: usize| {
                let p = usize::try_from((o as i64).checked_sub(low)?).ok()?;
                (p % step == 0 && p / step < n).then(|| p / step * strides[d] as usize)
            };
            tables.push((0..size).map(source).collect::<Vec<_>>());
        }
        let shape = tables.iter().map(Vec::len).collect();
        // The scalar stands behind the elements, where every position without a source points.
        let mut elements = x.data().clone();
        elements.resize(x.len() + 1);
        if let Some(value) = value.data().get(0) {
            elements.set(x.len(), value);
        }
        let data = elements.gather(table_positions(&shape, &tables, x.len()));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        if tangents.iter().all(Option::is_none) {
            return Ok(partial(None));
        }
        let mut operands: SmallVec<[Value; 2]> = SmallVec::new();
        for (&t, &x) in tangents.iter().zip(at.operands) {
            operands.push(match t {
                Some(t) => t,
                None => b.zeros(&b.ty(x).clone())?,
            });
        }
        Ok(partial(Some(b.op(self.clone().into(), &operands)?)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let mut out: Partials = SmallVec::from_elem(None, 2);
        let Some(ct) = cotangents[0] else { return Ok(out) };
        if linear[0] {
            out[0] = Some(self.cotangent_of_operand(b, at.operands[0], ct)?);
        }
        if linear[1] {
            out[1] = Some(self.cotangent_of_value(b, at.operands[0], ct)?);
        }
        Ok(out)
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let mut op = self.clone();
        op.low.insert(0, Dim::ZERO);
        op.high.insert(0, Dim::ZERO);
        op.interior.insert(0, 0);
        let x = if batched[0] { operands[0] } else { super::add_batch(b, operands[0], size)? };
        if !batched[1] {
            return Ok(SmallVec::from_iter([b.op(op.into(), &[x, operands[1]])?]));
        }
        // Each example has its own scalar: pad with any, then put the right one over the padding.
        let zero = b.scalar(Literal::zero(b.ty(x).dtype));
        let padded = b.op(op.clone().into(), &[x, zero])?;
        let shape = b.ty(padded).shape.clone();
        let mask = op.mask(b, &b.ty(x).shape.clone())?;
        let values = b.broadcast(operands[1], &shape, &[0])?;
        Ok(SmallVec::from_iter([b.select(mask, values, padded)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let shape = e.operand_shape(0);
        let mut guard = Guard::always();
        let mut at = Vec::with_capacity(index.len());
        for d in 0..index.len() {
            let p = &index[d] - &self.low[d];
            let step = Dim::from(self.interior[d]) + 1;
            let source = p.floordiv(&step);
            if self.low[d].as_const().is_none_or(|low| low > 0) {
                guard.0.push(p.clone());
            }
            if self.high[d].as_const().is_none_or(|high| high > 0) {
                guard.0.push(&shape[d] - 1 - &source);
            }
            if self.interior[d] > 0 {
                guard.0.push(-p.modulo(&step));
            }
            at.push(source);
        }
        if guard.is_always() {
            return e.operand(0, &at);
        }
        let other = e.operand(1, &[]);
        e.operand_if(0, &at, guard, other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use crate::DType;
    use smallvec::smallvec;

    fn pad(low: &[i64], high: &[i64], interior: &[usize]) -> Pad {
        let dims = |v: &[i64]| v.iter().map(|&d| Dim::from(d)).collect();
        Pad { low: dims(low), high: dims(high), interior: interior.into() }
    }

    fn cases() -> Vec<Pad> {
        vec![
            pad(&[1, 0], &[0, 2], &[0, 0]),
            pad(&[-1, 1], &[1, -1], &[0, 1]),
            pad(&[0, -2], &[3, -1], &[2, 1]),
            pad(&[0, 0], &[-2, -1], &[0, 1]),
            pad(&[-1, 0], &[0, 0], &[0, 0]),
        ]
    }

    #[test]
    fn pads_edges_between_and_negatively() {
        let x = floats(&[3], &[1., 2., 3.]);
        let v = floats(&[], &[9.]);
        assert_eq!(run(&pad(&[2], &[1], &[0]), &[&x, &v]), floats(&[6], &[9., 9., 1., 2., 3., 9.]));
        assert_eq!(run(&pad(&[0], &[1], &[2]), &[&x, &v]), floats(&[8], &[1., 9., 9., 2., 9., 9., 3., 9.]));
        assert_eq!(run(&pad(&[-1], &[-2], &[1]), &[&x, &v]), floats(&[2], &[9., 2.]));
        assert_eq!(run(&pad(&[-4], &[4], &[0]), &[&x, &v]), floats(&[3], &[9., 9., 9.]));
        let none = floats(&[0], &[]);
        assert_eq!(run(&pad(&[1], &[0], &[3]), &[&none, &v]), floats(&[1], &[9.]));
    }

    #[test]
    fn emitted_elements_agree() {
        let (x, v) = (counting(&[2, 4]), floats(&[], &[-50.]));
        for op in cases() {
            check_emit(&op, &[&x, &v]);
        }
    }

    #[test]
    fn rules_agree_with_the_definition() {
        let v = floats(&[], &[5.]);
        for op in cases() {
            for which in [[true, true], [true, false], [false, true]] {
                check_tangent(&op, &[counting(&[2, 4]), v.clone()], &which);
            }
            check_transpose(&op, &[counting(&[2, 4]), v.clone()], &[true, true]);
            check_batch(&op, &[counting(&[3, 2, 4]), v.clone()], &[true, false]);
            check_batch(&op, &[counting(&[3, 2, 4]), counting(&[3])], &[true, true]);
            check_batch(&op, &[counting(&[2, 4]), counting(&[3])], &[false, true]);
        }
    }

    #[test]
    fn symbolic_sizes() {
        let n = sym("n");
        let (x, v) = (Type::new(DType::F32, [n.clone()]), Type::scalar(DType::F32));
        let facts = Facts::default();
        let up = Pad { low: smallvec![n.clone()], high: smallvec![Dim::from(3)], interior: smallvec![0] };
        assert_eq!(infer(up, &[&x, &v], &facts).unwrap().shape[0], &n * 2 + 3);
        let down = Pad { low: smallvec![Dim::from(-2)], high: smallvec![Dim::ZERO], interior: smallvec![0] };
        let e = infer(down, &[&x, &v], &facts).unwrap_err();
        assert_eq!(e.help(), "state it: assume(\"n - 2 >= 0\")");
    }

    #[test]
    fn the_transpose_of_symbolic_padding_has_the_operands_type() {
        let n = sym("n");
        for interior in [0, 2] {
            let mut b = Builder::new("test");
            let kind = crate::graph::ParamKind::Input;
            let x = b.param("x", kind, Type::new(DType::F32, [n.clone()]));
            let v = b.param("v", kind, Type::scalar(DType::F32));
            let op = Pad { low: smallvec![n.clone()], high: smallvec![Dim::ONE], interior: smallvec![interior] };
            let y = b.op(op.clone().into(), &[x, v]).unwrap();
            let ct = b.zeros(&b.ty(y).clone()).unwrap();
            let at = At { operands: &[x, v], results: &[] };
            let back = op.transpose(&mut b, at, &[true, true], &[Some(ct)]).unwrap();
            assert_eq!(b.ty(back[0].unwrap()), b.ty(x));
            assert_eq!(b.ty(back[1].unwrap()), b.ty(v));
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        let (x, v) = (Type::new(DType::F32, [2]), Type::scalar(DType::F32));
        assert_eq!(refusal(pad(&[0], &[0, 1], &[0]), &[&x, &v]), "`high` has 2 entries, and the operand has 1 dims");
        let wrong = Type::scalar(DType::F64);
        assert_eq!(refusal(pad(&[0], &[0], &[0]), &[&x, &wrong]), "the padding value must be f32[]");
        assert_eq!(
            refusal(pad(&[-3], &[0], &[0]), &[&x, &v]),
            "the size of dim 0 of the result is -1 and must be at least 0"
        );
    }
}

//! `concat`: joining along an axis.

use smallvec::SmallVec;

use super::lower::Access;
use super::slice::check_sound;
use super::{
    Arity, Arrays, At, Lowering, MapEmitter, Operation, Partials, RuleError, Slice, Types, batch_all, check_axis,
    check_equal, one, partial,
};
use crate::array::{Array, Data, Sizes};
use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{Guard, Var};
use crate::literal::Literal;
use crate::ty::Type;

/// The operands one after another along an axis.
///
/// `out[…, o_k + i, …] = x_k[…, i, …]` where `o_k` is the sum of the earlier operands' sizes along the axis.
///
/// # Shapes
/// One operand or more, of one dtype and rank, equal in all dims but `axis`, which adds up.
/// # Gradient
/// Linear in all operands. The transpose slices.
/// # Numerics
/// Exact: elements are copied.
/// # Errors
/// An axis outside the rank; operands that differ in dtype, rank or another dim.
/// # Source
/// StableHLO specification, `concatenate`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Concat {
    /// The axis joined along.
    pub axis: usize,
}

impl Operation for Concat {
    fn name(&self) -> &str {
        "concat"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("axis", Attr::Int(i64::try_from(self.axis).unwrap_or(i64::MAX)))
    }

    fn arity(&self) -> Arity {
        Arity::AtLeast(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let first = operands[0];
        check_axis(self.axis, first.rank())?;
        let mut shape = first.shape.clone();
        for (i, ty) in operands.iter().enumerate().skip(1) {
            if ty.dtype != first.dtype || ty.rank() != first.rank() {
                return Err(Rule::new(
                    format!("operands must have one dtype and rank, and operand {i} differs from operand 0"),
                    "convert or reshape an operand",
                ));
            }
            for d in (0..first.rank()).filter(|&d| d != self.axis) {
                check_equal("dims", &first.shape[d], &ty.shape[d], facts)?;
            }
            shape[self.axis] += &ty.shape[self.axis];
        }
        one(Type { dtype: first.dtype, shape: check_sound(shape)? })
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let first = operands[0];
        let mut shape: Sizes = first.shape().into();
        shape[self.axis] = operands.iter().map(|x| x.shape()[self.axis]).sum();
        let outer: usize = shape[..self.axis].iter().product();
        let inner: usize = shape[self.axis + 1..].iter().product();
        // Each operand gives one run of elements for each index before the axis.
        let sources: Vec<(Vec<u8>, usize)> = operands
            .iter()
            .map(|x| (x.data().to_le_bytes(), x.shape()[self.axis] * inner * x.dtype().size()))
            .collect();
        let mut bytes = Vec::with_capacity(sources.iter().map(|(b, _)| b.len()).sum());
        for o in 0..outer {
            for (source, run) in &sources {
                bytes.extend_from_slice(&source[o * run..(o + 1) * run]);
            }
        }
        let data = Data::from_le_bytes(first.dtype(), &bytes).unwrap_or_else(|| Data::zeros(first.dtype(), 0));
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        if tangents.iter().all(Option::is_none) {
            return Ok(partial(None));
        }
        let mut operands: SmallVec<[Value; 4]> = SmallVec::new();
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
        let mut out: Partials = SmallVec::from_elem(None, at.operands.len());
        let Some(ct) = cotangents[0] else { return Ok(out) };
        let shape = b.ty(ct).shape.clone();
        let mut start = Dim::ZERO;
        for (i, &x) in at.operands.iter().enumerate() {
            let limit = &start + &b.ty(x).shape[self.axis];
            if linear[i] {
                let part = Slice::along(&shape, self.axis, start, limit.clone());
                out[i] = Some(b.op(part.into(), &[ct])?);
            }
            start = limit;
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
        let all = batch_all(b, operands, batched, size)?;
        Ok(SmallVec::from_iter([b.op(Self { axis: self.axis + 1 }.into(), &all)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Map { access: Access::General }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        if e.operand_count() == 1 {
            return e.operand(0, index);
        }
        let mut value = e.literal(Literal::zero(e.operand_dtype(0)));
        let mut start = Dim::ZERO;
        for i in 0..e.operand_count() {
            let size = &e.operand_shape(i)[self.axis];
            let mut at = index.to_vec();
            at[self.axis] = &index[self.axis] - &start;
            // The first operand starts at 0 and the last ends with the result, which leaves one side to guard.
            let mut guard = Guard::always();
            if i > 0 {
                guard.0.push(at[self.axis].clone());
            }
            if i + 1 < e.operand_count() {
                guard.0.push(size - 1 - &at[self.axis]);
            }
            start += size;
            value = e.operand_if(i, &at, guard, value);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use crate::DType;

    #[test]
    fn joins_along_each_axis() {
        let (x, y) = (floats(&[2, 1], &[1., 2.]), floats(&[2, 2], &[3., 4., 5., 6.]));
        assert_eq!(run(&Concat { axis: 1 }, &[&x, &y]), floats(&[2, 3], &[1., 3., 4., 2., 5., 6.]));
        assert_eq!(run(&Concat { axis: 0 }, &[&y, &y]).shape(), [4, 2]);
        assert_eq!(run(&Concat { axis: 0 }, &[&x]), x);
        let bits = Array::new(&[1], vec![f32::from_bits(0x7fc0_1234)]).unwrap();
        assert_eq!(
            run(&Concat { axis: 0 }, &[&bits, &bits]).data().gather(1..2).to_le_bytes(),
            bits.data().to_le_bytes()
        );
    }

    #[test]
    fn emitted_elements_agree() {
        let parts = [counting(&[2, 3]), counting(&[2, 0]), floats(&[2, 1], &[70., 80.]), counting(&[2, 2])];
        let refs: Vec<&Array> = parts.iter().collect();
        check_emit(&Concat { axis: 1 }, &refs);
        check_emit(&Concat { axis: 1 }, &refs[..1]);
        check_emit(&Concat { axis: 1 }, &refs[1..3]);
        check_emit(&Concat { axis: 0 }, &[&parts[0], &parts[0]]);
    }

    #[test]
    fn rules_agree_with_the_definition() {
        let op = Concat { axis: 1 };
        let parts = [counting(&[2, 3]), counting(&[2, 1]), counting(&[2, 2])];
        check_tangent(&op, &parts, &[true, false, true]);
        check_transpose(&op, &parts, &[true, true, true]);
        check_batch(&op, &[counting(&[4, 2, 3]), counting(&[2, 1])], &[true, false]);
        check_batch(&op, &[counting(&[2, 3]), counting(&[4, 2, 1])], &[false, true]);
    }

    #[test]
    fn symbolic_sizes_add_up() {
        let (n, m) = (sym("n"), sym("m"));
        let (x, y) = (Type::new(DType::F32, [n.clone(), m.clone()]), Type::new(DType::F32, [&n * 2, m.clone()]));
        let facts = Facts::default();
        assert_eq!(infer(Concat { axis: 0 }, &[&x, &y], &facts).unwrap().shape[0], &n * 3);
        let e = infer(Concat { axis: 1 }, &[&x, &y], &facts).unwrap_err();
        assert_eq!(e.rule(), "dims n and 2*n must be equal, which cannot be decided");
    }

    #[test]
    fn the_transpose_of_symbolic_parts_has_the_operands_types() {
        let (n, m) = (sym("n"), sym("m"));
        let mut b = Builder::new("test");
        let kind = crate::graph::ParamKind::Input;
        let parts = [n.clone(), m, n].map(|d| Type::new(DType::F32, [d]));
        let v: Vec<Value> = parts.iter().enumerate().map(|(i, t)| b.param(format!("p{i}"), kind, t.clone())).collect();
        let op = Concat { axis: 0 };
        let y = b.op(op.clone().into(), &v).unwrap();
        let at = At { operands: &v, results: &[] };
        let cts = op.transpose(&mut b, at, &[true; 3], &[Some(y)]).unwrap();
        for (ct, ty) in cts.iter().zip(&parts) {
            assert_eq!(b.ty(ct.unwrap()), ty);
        }
    }

    #[test]
    fn unlike_operands_are_refused() {
        let ty = |shape: [i64; 2]| Type::new(DType::F32, shape);
        assert_eq!(refusal(Concat { axis: 2 }, &[&ty([1, 2])]), "axis 2 is outside the 2 dims of the operand");
        assert_eq!(refusal(Concat { axis: 0 }, &[&ty([1, 2]), &ty([1, 3])]), "dims 2 and 3 must be equal");
        let other = Type::new(DType::F64, [1, 2]);
        assert_eq!(
            refusal(Concat { axis: 0 }, &[&ty([1, 2]), &other]),
            "operands must have one dtype and rank, and operand 1 differs from operand 0"
        );
        assert_eq!(refusal(Concat { axis: 0 }, &[]), "it takes 1 operands or more, not 0");
    }
}

//! `dot`: the general dot product, with batch dims.

use smallvec::SmallVec;

use super::{Arity, Arrays, At, Lowering, Operation, Partials, RuleError, Types, check_axes, check_equal, one};
use crate::array::{Array, Data, Element, Sizes};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::Kind;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

type Axes = SmallVec<[usize; 4]>;

/// The sum of products over contracted dims, for each index of batch dims and free dims.
///
/// `out[b…, m…, n…] = Σ_k x[b, m, k] · y[b, k, n]`, where the operands' dims may stand in any order.
/// # Shapes
/// The batch dims, then the free dims of `x`, then those of `y`, each in the operand's order.
/// # Gradient
/// Each operand's is a dot of the cotangent with the other operand.
/// # Numerics
/// The evaluator sums floats in `f64` and rounds once; compiled code sums in the dtype, half
/// precision in `f32` with one rounding at the end, in an order fixed by the shape.
/// # Errors
/// Different dtypes; bool or complex operands; paired dims that are not provably equal.
/// # Source
/// StableHLO `dot_general`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct DotDims {
    /// Batch dims of operand 0.
    pub lhs_batch: Axes,
    /// Batch dims of operand 1, paired with those of operand 0 in order.
    pub rhs_batch: Axes,
    /// Contracted dims of operand 0.
    pub lhs_contract: Axes,
    /// Contracted dims of operand 1, paired with those of operand 0 in order.
    pub rhs_contract: Axes,
}

impl DotDims {
    /// `x[m, k] · y[k, n]`, with as many leading batch dims on both.
    pub fn matmul(batch: usize) -> Self {
        Self {
            lhs_batch: (0..batch).collect(),
            rhs_batch: (0..batch).collect(),
            lhs_contract: [batch + 1].as_slice().into(),
            rhs_contract: [batch].as_slice().into(),
        }
    }

    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let mut pair = |lhs: &str, rhs: &str| -> Result<(Axes, Axes), AttrError> { Ok((r.axes(lhs)?, r.axes(rhs)?)) };
        let (lhs_batch, rhs_batch) = pair("lhs_batch", "rhs_batch")?;
        let (lhs_contract, rhs_contract) = pair("lhs_contract", "rhs_contract")?;
        Ok(Self { lhs_batch, rhs_batch, lhs_contract, rhs_contract })
    }

    /// The dims of operand 0 that are neither batch nor contracted.
    pub fn lhs_free(&self, rank: usize) -> Axes {
        free(rank, &self.lhs_batch, &self.lhs_contract)
    }

    /// The dims of operand 1 that are neither batch nor contracted.
    pub fn rhs_free(&self, rank: usize) -> Axes {
        free(rank, &self.rhs_batch, &self.rhs_contract)
    }

    /// The same products with operands exchanged; free dims come out in the other order.
    fn flipped(&self) -> Self {
        Self {
            lhs_batch: self.rhs_batch.clone(),
            rhs_batch: self.lhs_batch.clone(),
            lhs_contract: self.rhs_contract.clone(),
            rhs_contract: self.lhs_contract.clone(),
        }
    }
}

fn free(rank: usize, batch: &[usize], contract: &[usize]) -> Axes {
    (0..rank).filter(|i| !batch.contains(i) && !contract.contains(i)).collect()
}

/// The cotangent of operand 0, given that `dims` says how the two were multiplied.
///
/// `swapped` says that `ct`'s free dims stand in the order of operand 1 before operand 0.
fn operand_cotangent(
    b: &mut Builder,
    dims: &DotDims,
    x: Value,
    y: Value,
    ct: Value,
    swapped: bool,
) -> Result<Value, RuleError> {
    let (x_rank, y_rank) = (b.ty(x).rank(), b.ty(y).rank());
    let (nb, x_free, y_free) = (dims.lhs_batch.len(), dims.lhs_free(x_rank), dims.rhs_free(y_rank));
    let first = nb + if swapped { 0 } else { x_free.len() };
    let back = DotDims {
        lhs_batch: (0..nb).collect(),
        rhs_batch: dims.rhs_batch.clone(),
        lhs_contract: (first..first + y_free.len()).collect(),
        rhs_contract: y_free,
    };
    let out = b.dot(ct, y, back)?;
    // The product has the batch dims, x's free dims, and then x's contracted dims in the order of y's dims.
    let mut contracted: SmallVec<[(usize, usize); 4]> =
        dims.rhs_contract.iter().copied().zip(dims.lhs_contract.iter().copied()).collect();
    contracted.sort_unstable();
    let order: Axes = dims
        .lhs_batch
        .iter()
        .copied()
        .chain(x_free.iter().copied())
        .chain(contracted.into_iter().map(|(_, l)| l))
        .collect();
    let perm: Axes = (0..x_rank).filter_map(|d| order.iter().position(|&o| o == d)).collect();
    Ok(b.transpose(out, &perm)?)
}

impl Operation for DotDims {
    fn name(&self) -> &str {
        "dot"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .with_axes("lhs_batch", &self.lhs_batch)
            .with_axes("rhs_batch", &self.rhs_batch)
            .with_axes("lhs_contract", &self.lhs_contract)
            .with_axes("rhs_contract", &self.rhs_contract)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(2)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let (x, y) = (operands[0], operands[1]);
        if x.dtype != y.dtype {
            return Err(Rule::new("operands must have one dtype", "convert an operand"));
        }
        if matches!(x.dtype.kind(), Kind::Bool | Kind::Complex) {
            return Err(Rule::new("it takes real numbers", "convert the operands"));
        }
        if self.lhs_batch.len() != self.rhs_batch.len() || self.lhs_contract.len() != self.rhs_contract.len() {
            return Err(Rule::new("batch and contracted dims come in pairs", "name as many dims of both operands"));
        }
        for (ty, batch, contract) in
            [(x, &self.lhs_batch, &self.lhs_contract), (y, &self.rhs_batch, &self.rhs_contract)]
        {
            let all: Axes = batch.iter().chain(contract).copied().collect();
            check_axes(&all, ty.rank())?;
        }
        for (&l, &r) in self.lhs_batch.iter().zip(&self.rhs_batch) {
            check_equal("batch dims", &x.shape[l], &y.shape[r], facts)?;
        }
        for (&l, &r) in self.lhs_contract.iter().zip(&self.rhs_contract) {
            check_equal("contracted dims", &x.shape[l], &y.shape[r], facts)?;
        }
        let mut shape: Shape = self.lhs_batch.iter().map(|&i| x.shape[i].clone()).collect();
        shape.extend(self.lhs_free(x.rank()).into_iter().map(|i| x.shape[i].clone()));
        shape.extend(self.rhs_free(y.rank()).into_iter().map(|i| y.shape[i].clone()));
        one(Type { dtype: x.dtype, shape })
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let (x, y) = (operands[0], operands[1]);
        let (x_free, y_free) = (self.lhs_free(x.rank()), self.rhs_free(y.rank()));
        let sizes = |a: &Array, axes: &[usize]| -> Sizes { axes.iter().map(|&i| a.shape()[i]).collect() };
        let mut shape = sizes(x, &self.lhs_batch);
        shape.extend(sizes(x, &x_free));
        shape.extend(sizes(y, &y_free));
        let m: usize = sizes(x, &x_free).iter().product();
        let n: usize = sizes(y, &y_free).iter().product();
        let k: usize = sizes(x, &self.lhs_contract).iter().product();
        // [batch, m, k] and [batch, k, n], row-major.
        let left = permuted(x, &[&self.lhs_batch, &x_free, &self.lhs_contract]);
        let right = permuted(y, &[&self.rhs_batch, &self.rhs_contract, &y_free]);
        let batch: usize = sizes(x, &self.lhs_batch).iter().product();
        let data = match (&left, &right) {
            (Data::F32(a), Data::F32(b)) => Data::F32(product(a, b, [batch, m, k, n])),
            (Data::F64(a), Data::F64(b)) => Data::F64(product(a, b, [batch, m, k, n])),
            _ => general_product(&left, &right, m, k, n, shape.iter().product()),
        };
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let left = tangents[0].map(|t| b.dot(t, at.operands[1], self.clone())).transpose()?;
        let right = tangents[1].map(|t| b.dot(at.operands[0], t, self.clone())).transpose()?;
        Ok(SmallVec::from_iter([super::add_partials(b, left, right)?]))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let Some(ct) = cotangents[0] else { return Ok(SmallVec::from_elem(None, 2)) };
        let (x, y) = (at.operands[0], at.operands[1]);
        match linear {
            [true, false] => Ok([Some(operand_cotangent(b, self, x, y, ct, false)?), None].into_iter().collect()),
            [false, true] => {
                Ok([None, Some(operand_cotangent(b, &self.flipped(), y, x, ct, true)?)].into_iter().collect())
            }
            _ => Err(RuleError::Missing("`dot` of two linear operands has no transpose".to_owned())),
        }
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let up = |axes: &Axes, by: bool| -> Axes { axes.iter().map(|a| a + usize::from(by)).collect() };
        let mut dims = Self {
            lhs_batch: up(&self.lhs_batch, batched[0]),
            rhs_batch: up(&self.rhs_batch, batched[1]),
            lhs_contract: up(&self.lhs_contract, batched[0]),
            rhs_contract: up(&self.rhs_contract, batched[1]),
        };
        if batched[0] && batched[1] {
            dims.lhs_batch.insert(0, 0);
            dims.rhs_batch.insert(0, 0);
            return Ok(SmallVec::from_iter([b.dot(operands[0], operands[1], dims)?]));
        }
        // One operand alone: its batch dim is a free dim, the first of its own, and moves to the front.
        let at = dims.lhs_batch.len() + if batched[0] { 0 } else { dims.lhs_free(b.ty(operands[0]).rank()).len() };
        let out = b.dot(operands[0], operands[1], dims)?;
        let rank = b.ty(out).rank();
        let perm: Axes = std::iter::once(at).chain((0..rank).filter(|&i| i != at)).collect();
        Ok(SmallVec::from_iter([b.transpose(out, &perm)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Contract(self)
    }
}

/// The elements with dims in the order of the groups.
fn permuted(a: &Array, groups: &[&Axes]) -> Data {
    let strides = walk::row_major(a.shape());
    let order: Axes = groups.iter().flat_map(|g| g.iter().copied()).collect();
    if order.is_sorted() {
        return a.data().clone();
    }
    let shape: Sizes = order.iter().map(|&i| a.shape()[i]).collect();
    let strides: SmallVec<[isize; 4]> = order.iter().map(|&i| strides[i]).collect();
    a.data().gather(walk::offsets(&shape, &strides, 0))
}

/// The batched product of floats, summed in `f64`.
fn product<T: Element + Into<f64> + num_traits::FromPrimitive>(
    a: &[T],
    b: &[T],
    [batch, m, k, n]: [usize; 4],
) -> Vec<T> {
    let mut out = Vec::with_capacity(batch * m * n);
    let mut row = vec![0.0f64; n];
    for p in 0..batch {
        for i in 0..m {
            row.fill(0.0);
            for l in 0..k {
                let x: f64 = a[(p * m + i) * k + l].into();
                let line = &b[(p * k + l) * n..][..n];
                row.iter_mut().zip(line).for_each(|(r, &y)| *r += x * y.into());
            }
            out.extend(row.iter().filter_map(|&r| T::from_f64(r)));
        }
    }
    out
}

/// The batched product of any dtype: floats in `f64`, integers wrapping.
fn general_product(a: &Data, b: &Data, m: usize, k: usize, n: usize, count: usize) -> Data {
    let dtype = a.dtype();
    let mut out = Data::zeros(dtype, count);
    for o in 0..count {
        let (p, i, j) = (o / (m * n), o / n % m, o % n);
        let (mut float, mut int) = (0.0, 0u64);
        for l in 0..k {
            let (Some(x), Some(y)) = (a.get((p * m + i) * k + l), b.get((p * k + l) * n + j)) else { break };
            if dtype.is_float() {
                float += x.to_f64() * y.to_f64();
            } else {
                int = int.wrapping_add(x.bits()[0].wrapping_mul(y.bits()[0]));
            }
        }
        out.set(
            o,
            if dtype.is_float() { Literal::from_f64(dtype, float) } else { Literal::from_bits(dtype, [int, 0]) },
        );
    }
    out
}

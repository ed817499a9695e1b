//! `scatter`: windows of updates combined into an operand at positions from data.

use num_complex::{Complex32, Complex64};
use smallvec::SmallVec;

use super::gather::{Starts, Windows, shifted, with_lists};
use super::slice::optional_axes;
use super::{
    Arity, Arrays, At, CompareOp, Gather, Lowering, MapEmitter, Operation, OutOfRange, Partials, RuleError, Types,
    batch_all, check_equal, not_linear, one, partial,
};
use crate::array::{Array, Element};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::{DType, Kind};
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{Guard, ScalarOp};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// How an update meets what is there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Combine {
    /// The update; the last one wins.
    Replace,
    /// The sum.
    Add,
    /// The product.
    Mul,
    /// The lesser; NaN if either is NaN.
    Min,
    /// The greater; NaN if either is NaN.
    Max,
}

impl Combine {
    /// Every way, in declaration order.
    pub const ALL: [Self; 5] = [Self::Replace, Self::Add, Self::Mul, Self::Min, Self::Max];

    /// The text spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// The scalar operation on what is there and the update; none for [`Combine::Replace`], which takes the update.
    pub const fn scalar(self) -> Option<ScalarOp> {
        match self {
            Self::Replace => None,
            Self::Add => Some(ScalarOp::Add),
            Self::Mul => Some(ScalarOp::Mul),
            Self::Min => Some(ScalarOp::Min),
            Self::Max => Some(ScalarOp::Max),
        }
    }

    fn takes(self, dtype: DType) -> bool {
        match self {
            Self::Replace => true,
            Self::Add | Self::Mul => dtype.kind() != Kind::Bool,
            Self::Min | Self::Max => dtype.kind() != Kind::Complex,
        }
    }

    /// The result of what is there and an update of the same dtype.
    fn apply(self, old: Literal, new: Literal) -> Literal {
        let dtype = old.dtype();
        let (a, b) = (old.bits()[0], new.bits()[0]);
        match (self, dtype.kind()) {
            (Self::Replace, _) => new,
            (Self::Add, Kind::Complex) => complex(old, new, |a, b| a + b, |a, b| a + b),
            (Self::Mul, Kind::Complex) => complex(old, new, |a, b| a * b, |a, b| a * b),
            (Self::Add, Kind::Float) => Literal::from_f64(dtype, old.to_f64() + new.to_f64()),
            (Self::Mul, Kind::Float) => Literal::from_f64(dtype, old.to_f64() * new.to_f64()),
            // Sums and products modulo 2^64 agree, in the low bits, with those of any width and signedness.
            (Self::Add, Kind::Bool | Kind::Signed | Kind::Unsigned) => {
                Literal::from_bits(dtype, [a.wrapping_add(b), 0])
            }
            (Self::Mul, Kind::Bool | Kind::Signed | Kind::Unsigned) => {
                Literal::from_bits(dtype, [a.wrapping_mul(b), 0])
            }
            (Self::Min | Self::Max, Kind::Float | Kind::Complex) => {
                let (x, y) = (old.to_f64(), new.to_f64());
                let keep = x.is_nan() || if self == Self::Min { x < y } else { x > y };
                if keep { old } else { new }
            }
            (Self::Min | Self::Max, Kind::Bool | Kind::Signed | Kind::Unsigned) => {
                let less = if dtype.kind() == Kind::Signed { old.to_i64() < new.to_i64() } else { a < b };
                if less == (self == Self::Min) { old } else { new }
            }
        }
    }
}

/// A function of two complex literals of one dtype.
fn complex(
    old: Literal,
    new: Literal,
    single: fn(Complex32, Complex32) -> Complex32,
    double: fn(Complex64, Complex64) -> Complex64,
) -> Literal {
    if let (Some(a), Some(b)) = (Complex32::from_literal(old), Complex32::from_literal(new)) {
        return single(a, b).literal();
    }
    match (Complex64::from_literal(old), Complex64::from_literal(new)) {
        (Some(a), Some(b)) => double(a, b).literal(),
        _ => old,
    }
}

/// `x` with windows of updates combined into it, where index vectors say.
///
/// The last dim of the indices is the index vector; the other dims are batch dims and are, in order, the dims of the updates
/// that are not in `update_window_dims`. Where an update goes is where [`Gather`] with the same dims takes an element from.
/// Updates are applied in the row-major order of their elements, so that the result has one value.
///
/// # Shapes
/// Operands `x`, indices of an integer dtype and rank 1 or more, and updates of `x`'s dtype. The result has `x`'s type.
/// The size of windows is the updates' size along `update_window_dims`, and 1 along inserted and batching dims.
/// With [`OutOfRange::Clip`] each is provably at most the dim of `x`.
/// # Gradient
/// `Replace` and `Add` are linear in `x` and updates together. The cotangent of updates is gathered, for `Replace` from those
/// that won alone. `Mul` has a derivative in `x` alone. For `Min` and `Max`, all that equal the result share its tangent evenly.
/// # Numerics
/// `Add` and `Mul` round after each update, in order. `Min` and `Max` give NaN if either is NaN, and the update if equal.
/// # Errors
/// Dims that repeat, lie outside a rank, or do not fit together; windows larger than `x`; `Add` or `Mul` of bool, `Min` or
/// `Max` of complex numbers.
/// # Source
/// StableHLO specification, `scatter`, with `index_vector_dim` last and a named combiner.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scatter {
    /// The dims of the updates that count inside a window, ascending.
    pub update_window_dims: SmallVec<[usize; 4]>,
    /// Dims of `x` that windows lack; they have size 1 there.
    pub inserted_window_dims: SmallVec<[usize; 4]>,
    /// Dims of `x` that run together with batch dims of the indices.
    pub input_batching_dims: SmallVec<[usize; 4]>,
    /// The batch dims of the indices that these run with, pairwise.
    pub scatter_indices_batching_dims: SmallVec<[usize; 4]>,
    /// The dim of `x` that each entry of an index vector is a position in.
    pub scatter_dims_to_operand_dims: SmallVec<[usize; 4]>,
    /// What becomes of windows that do not fit.
    pub mode: OutOfRange,
    /// How an update meets what is there.
    pub combine: Combine,
}

impl Scatter {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self {
            update_window_dims: optional_axes(r, "update_window_dims")?,
            inserted_window_dims: optional_axes(r, "inserted_window_dims")?,
            input_batching_dims: optional_axes(r, "input_batching_dims")?,
            scatter_indices_batching_dims: optional_axes(r, "scatter_indices_batching_dims")?,
            scatter_dims_to_operand_dims: optional_axes(r, "scatter_dims_to_operand_dims")?,
            mode: r.choice("mode", &OutOfRange::ALL, OutOfRange::name)?,
            combine: r.choice("combine", &Combine::ALL, Combine::name)?,
        })
    }

    /// Where in the operand the update at `update_index` goes; it goes nowhere unless the guard holds.
    ///
    /// The emitter's operands are the scatter's own: 0 is `x`, 1 the indices, 2 the updates.
    pub fn target(&self, e: &mut dyn MapEmitter, update_index: &[Dim]) -> (Vec<Dim>, Guard) {
        let (shape, updates) = (e.operand_shape(0), e.operand_shape(2));
        let sizes = self.window_sizes(shape.len(), &updates, &Dim::ONE);
        self.windows().place(e, &sizes, update_index)
    }

    /// The gather that takes, for each update, the element of `x` where it goes.
    ///
    /// `rank` is that of `x`, and `updates` the shape of the updates.
    pub fn gather(&self, rank: usize, updates: &[Dim]) -> Gather {
        Gather {
            offset_dims: self.update_window_dims.clone(),
            collapsed_slice_dims: self.inserted_window_dims.clone(),
            operand_batching_dims: self.input_batching_dims.clone(),
            start_indices_batching_dims: self.scatter_indices_batching_dims.clone(),
            start_index_map: self.scatter_dims_to_operand_dims.clone(),
            slice_sizes: self.window_sizes(rank, updates, &Dim::ONE).into(),
            mode: self.mode,
        }
    }

    fn windows(&self) -> Windows<'_> {
        Windows {
            offset: &self.update_window_dims,
            collapsed: &self.inserted_window_dims,
            operand_batching: &self.input_batching_dims,
            indices_batching: &self.scatter_indices_batching_dims,
            map: &self.scatter_dims_to_operand_dims,
            mode: self.mode,
        }
    }

    /// The size of windows along each dim of `x`.
    pub(crate) fn window_sizes<T: Clone>(&self, rank: usize, updates: &[T], one: &T) -> Vec<T> {
        let windows = self.windows();
        let mut sizes = vec![one.clone(); rank];
        for (d, &w) in windows.kept(rank).zip(&self.update_window_dims) {
            sizes[d] = updates[w].clone();
        }
        sizes
    }

    fn with(&self, combine: Combine) -> Self {
        Self { combine, ..self.clone() }
    }

    /// For each update, the element of `from` (shaped like `x`) where it goes; 0 for what is dropped.
    fn take(&self, b: &mut Builder, from: Value, indices: Value, updates: &[Dim]) -> Result<Value, RuleError> {
        let gather = self.gather(b.ty(from).rank(), updates);
        Ok(b.op(gather.into(), &[from, indices])?)
    }

    /// For each update, whether its value is what a replacement leaves.
    fn winners(&self, b: &mut Builder, x: &Type, indices: Value, updates: &Shape) -> Result<Value, RuleError> {
        let count = crate::ty::count(updates);
        let small = b.facts().interval(&count).1.is_some_and(|n| n < i64::from(i32::MAX));
        let dtype = if small { DType::I32 } else { DType::I64 };
        // Updates are numbered from 1: where none arrives, and where one is dropped, the number is 0.
        let ids = b.iota(dtype, &[count], 0)?;
        let ids = b.offset(ids, 1.0)?;
        let ids = b.reshape(ids, updates)?;
        let zeros = b.zeros(&x.with_dtype(dtype))?;
        let last = b.op(self.with(Combine::Replace).into(), &[zeros, indices, ids])?;
        let last = self.take(b, last, indices, updates)?;
        Ok(b.compare(CompareOp::Eq, last, ids)?)
    }

    fn linearize_extreme(
        &self,
        b: &mut Builder,
        at: At<'_>,
        tx: Option<Value>,
        tu: Option<Value>,
    ) -> Result<Value, RuleError> {
        let (x, indices, updates) = (at.operands[0], at.operands[1], at.operands[2]);
        let (y, dtype) = (at.results[0], b.ty(x).dtype);
        let shape = b.ty(updates).shape.clone();
        let add = self.with(Combine::Add);
        // 1 for each of x and updates that equals the result, 0 for the others.
        let from_x = b.compare(CompareOp::Eq, x, y)?;
        let from_x = b.convert(from_x, dtype)?;
        let reached = self.take(b, y, indices, &shape)?;
        let from_u = b.compare(CompareOp::Eq, updates, reached)?;
        let from_u = b.convert(from_u, dtype)?;
        let count = b.op(add.clone().into(), &[from_x, indices, from_u])?;
        let mut sum = match tx {
            Some(t) => b.mul(t, from_x)?,
            None => b.zeros(&b.ty(x).clone())?,
        };
        if let Some(t) = tu {
            let t = b.mul(t, from_u)?;
            sum = b.op(add.into(), &[sum, indices, t])?;
        }
        Ok(b.div(sum, count)?)
    }
}

impl Operation for Scatter {
    fn name(&self) -> &str {
        "scatter"
    }

    fn attrs(&self) -> Attrs {
        let lists: [(&str, &[usize]); 5] = [
            ("update_window_dims", &self.update_window_dims),
            ("inserted_window_dims", &self.inserted_window_dims),
            ("input_batching_dims", &self.input_batching_dims),
            ("scatter_indices_batching_dims", &self.scatter_indices_batching_dims),
            ("scatter_dims_to_operand_dims", &self.scatter_dims_to_operand_dims),
        ];
        with_lists(&lists).with_name("mode", self.mode.name()).with_name("combine", self.combine.name())
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(3)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let (x, indices, updates) = (operands[0], operands[1], operands[2]);
        if updates.dtype != x.dtype || !self.combine.takes(x.dtype) {
            return Err(Rule::new(
                format!("`{}` cannot combine {} into {}", self.combine.name(), updates.dtype, x.dtype),
                "convert x and updates to one dtype that the combination is defined for",
            ));
        }
        let batch_rank = indices.rank().saturating_sub(1);
        if updates.rank() != batch_rank + self.update_window_dims.len() {
            return Err(Rule::new(
                format!(
                    "the updates have {} dims, and there are {batch_rank} batch dims and {} window dims",
                    updates.rank(),
                    self.update_window_dims.len()
                ),
                "reshape the updates, or list the dims that count inside a window",
            ));
        }
        if self.update_window_dims.iter().any(|&w| w >= updates.rank()) {
            return Err(Rule::new("a window dim is outside the updates", "list dims of the updates"));
        }
        let sizes = self.window_sizes(x.rank(), &updates.shape, &Dim::ONE);
        self.windows().check(x, indices, &sizes, facts)?;
        let batch = updates.shape.iter().enumerate().filter(|(d, _)| !self.update_window_dims.contains(d));
        for ((_, got), want) in batch.zip(&indices.shape) {
            check_equal("batch dims of updates and indices,", got, want, facts)?;
        }
        one(x.clone())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let (x, indices, updates) = (operands[0], operands[1], operands[2]);
        let (windows, starts) = (self.windows(), Starts::new(indices));
        let sizes = self.window_sizes(x.rank(), updates.shape(), &1);
        let mut out = x.clone();
        let data = out.make_mut();
        for i in 0..updates.len() {
            let index = walk::unravel(i, updates.shape());
            let Some(at) = windows.locate(x.shape(), &sizes, &starts, &index) else { continue };
            if let (Some(old), Some(new)) = (data.get(at), updates.data().get(i)) {
                data.set(at, self.combine.apply(old, new));
            }
        }
        Ok(SmallVec::from_iter([out]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let (x, indices, updates) = (at.operands[0], at.operands[1], at.operands[2]);
        let (tx, tu) = (tangents[0], tangents[2]);
        if tx.is_none() && tu.is_none() {
            return Ok(partial(None));
        }
        let zeros_like = |b: &mut Builder, v: Value| b.zeros(&b.ty(v).clone());
        let out = match (self.combine, tx, tu) {
            (Combine::Add, Some(tx), None) => tx,
            // The last update wins for the tangents as it does for the values, since both go in one order.
            (Combine::Replace | Combine::Add, tx, tu) => {
                let tx = tx.map_or_else(|| zeros_like(b, x), Ok)?;
                let tu = tu.map_or_else(|| zeros_like(b, updates), Ok)?;
                b.op(self.clone().into(), &[tx, indices, tu])?
            }
            (Combine::Mul, Some(tx), None) => b.op(self.clone().into(), &[tx, indices, updates])?,
            (Combine::Mul, _, _) => {
                return Err(RuleError::Missing(
                    "`scatter` with `mul` has no derivative in the updates, since several may meet in one place"
                        .to_owned(),
                ));
            }
            (Combine::Min | Combine::Max, tx, tu) => self.linearize_extreme(b, at, tx, tu)?,
        };
        Ok(partial(Some(out)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        linear: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        let (x, indices, updates) = (at.operands[0], at.operands[1], at.operands[2]);
        let mut out: Partials = SmallVec::from_elem(None, 3);
        let Some(ct) = cotangents[0] else { return Ok(out) };
        let ty = b.ty(updates).clone();
        match self.combine {
            _ if linear[1] => return Err(not_linear(self.name())),
            Combine::Add => {
                if linear[0] {
                    out[0] = Some(ct);
                }
                if linear[2] {
                    out[2] = Some(self.take(b, ct, indices, &ty.shape)?);
                }
            }
            Combine::Replace => {
                let zeros = b.zeros(&ty)?;
                if linear[0] {
                    out[0] = Some(b.op(self.clone().into(), &[ct, indices, zeros])?);
                }
                if linear[2] {
                    let wins = self.winners(b, &b.ty(x).clone(), indices, &ty.shape)?;
                    let taken = self.take(b, ct, indices, &ty.shape)?;
                    out[2] = Some(b.select(wins, taken, zeros)?);
                }
            }
            Combine::Mul if !linear[2] => out[0] = Some(b.op(self.clone().into(), &[ct, indices, updates])?),
            Combine::Mul | Combine::Min | Combine::Max => return Err(not_linear(self.name())),
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
        op.update_window_dims = shifted(&self.update_window_dims);
        op.inserted_window_dims = shifted(&self.inserted_window_dims);
        op.input_batching_dims = shifted(&self.input_batching_dims);
        op.scatter_dims_to_operand_dims = shifted(&self.scatter_dims_to_operand_dims);
        // Indices that all examples share need no copies: the batch is then one more dim of the windows.
        let mut all = batch_all(b, operands, &[batched[0], true, batched[2]], size)?;
        if batched[1] {
            op.scatter_indices_batching_dims = shifted(&self.scatter_indices_batching_dims);
            op.input_batching_dims.insert(0, 0);
            op.scatter_indices_batching_dims.insert(0, 0);
        } else {
            op.update_window_dims.insert(0, 0);
        }
        all[1] = operands[1];
        Ok(SmallVec::from_iter([b.op(op.into(), &all)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Scatter(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gather::tests::ints;
    use super::super::slice::testing::*;
    use super::*;
    use smallvec::smallvec;

    /// Single elements of a vector, by number.
    fn elements(mode: OutOfRange, combine: Combine) -> Scatter {
        Scatter {
            update_window_dims: smallvec![],
            inserted_window_dims: smallvec![0],
            input_batching_dims: smallvec![],
            scatter_indices_batching_dims: smallvec![],
            scatter_dims_to_operand_dims: smallvec![0],
            mode,
            combine,
        }
    }

    /// Windows of a matrix, the index vector giving (column, row); the updates are [row, batch, column].
    fn patches(mode: OutOfRange, combine: Combine) -> Scatter {
        Scatter {
            update_window_dims: smallvec![0, 2],
            inserted_window_dims: smallvec![],
            scatter_dims_to_operand_dims: smallvec![1, 0],
            ..elements(mode, combine)
        }
    }

    /// Windows along the last dim, one batch dim of the operand running with the second of the indices.
    fn along(mode: OutOfRange, combine: Combine) -> Scatter {
        Scatter {
            update_window_dims: smallvec![2],
            inserted_window_dims: smallvec![],
            input_batching_dims: smallvec![0],
            scatter_indices_batching_dims: smallvec![1],
            scatter_dims_to_operand_dims: smallvec![1],
            ..elements(mode, combine)
        }
    }

    fn cases(combine: Combine) -> Vec<(Scatter, [Array; 3])> {
        let mut out = Vec::new();
        for mode in OutOfRange::ALL {
            let i = ints(&[6, 1], &[1, 3, 1, 4, -1, 1]);
            out.push((elements(mode, combine), [counting(&[4]), i, counting(&[6])]));
            let i = ints(&[4, 2], &[0, 0, 2, 1, 1, 1, -1, i64::MIN]);
            out.push((patches(mode, combine), [counting(&[3, 4]), i, counting(&[2, 4, 2])]));
            let i = ints(&[2, 3, 1], &[0, 2, 3, i64::MAX, 1, 2]);
            out.push((along(mode, combine), [counting(&[3, 4]), i, counting(&[2, 3, 2])]));
        }
        out
    }

    #[test]
    fn combines_in_row_major_order() {
        let x = floats(&[3], &[10., 20., 30.]);
        let (i, u) = (ints(&[4, 1], &[1, 1, 5, 0]), floats(&[4], &[2., 3., 7., 40.]));
        let rows = [
            (OutOfRange::Zero, Combine::Replace, [40., 3., 30.]),
            (OutOfRange::Clip, Combine::Replace, [40., 3., 7.]),
            (OutOfRange::Zero, Combine::Add, [50., 25., 30.]),
            (OutOfRange::Clip, Combine::Add, [50., 25., 37.]),
            (OutOfRange::Zero, Combine::Mul, [400., 120., 30.]),
            (OutOfRange::Clip, Combine::Min, [10., 2., 7.]),
            (OutOfRange::Clip, Combine::Max, [40., 20., 30.]),
        ];
        for (mode, combine, want) in rows {
            assert_eq!(run(&elements(mode, combine), &[&x, &i, &u]), floats(&[3], &want), "{combine:?}");
        }
    }

    #[test]
    fn combines_every_class_of_dtype() {
        let i = ints(&[1, 1], &[0]);
        fn check<T: Element>(i: &Array, combine: Combine, x: T, u: T, want: T) {
            let [x, u, want] = [x, u, want].map(|v| Array::new(&[1], vec![v]).unwrap());
            assert_eq!(run(&elements(OutOfRange::Clip, combine), &[&x, i, &u]), want, "{combine:?}");
        }
        check(&i, Combine::Add, i8::MAX, 1, i8::MIN);
        check(&i, Combine::Mul, -3i16, 5, -15);
        check(&i, Combine::Max, -3i32, 5, 5);
        check(&i, Combine::Min, u64::MAX, 5, 5);
        check(&i, Combine::Min, true, false, false);
        check(&i, Combine::Max, false, true, true);
        check(&i, Combine::Add, Complex32::new(1., 2.), Complex32::new(3., -1.), Complex32::new(4., 1.));
        check(&i, Combine::Mul, Complex64::new(1., 2.), Complex64::new(0., 1.), Complex64::new(-2., 1.));
        check(&i, Combine::Max, f32::NAN, 1.0, f32::NAN);
        check(&i, Combine::Min, 1.0, f32::NAN, f32::NAN);
    }

    #[test]
    fn emitted_targets_agree() {
        for (op, [x, i, u]) in cases(Combine::Replace) {
            let args = [&x, &i, &u];
            // Numbers of updates, scattered by the emitted targets and by the reference.
            let mut got = vec![0i64; x.len()];
            for position in 0..u.len() {
                let mut e = Scalars { args: &args, vars: Vec::new() };
                let index: Vec<Dim> = walk::unravel(position, u.shape()).into_iter().map(Dim::from).collect();
                let (at, guard) = op.target(&mut e, &index);
                if guard.0.iter().all(|d| d.as_const().unwrap() >= 0) {
                    let at = at.iter().zip(x.shape()).fold(0, |p, (d, n)| p * n + d.as_const().unwrap() as usize);
                    got[at] = position as i64 + 1;
                }
            }
            let numbers = ints(u.shape(), &(1..=u.len() as i64).collect::<Vec<_>>());
            let want = run(&op, &[&Array::zeros(DType::I64, x.shape()), &i, &numbers]);
            assert_eq!(want.as_slice::<i64>(), Some(&got[..]));
        }
    }

    #[test]
    fn linear_rules_agree_with_the_definition() {
        for combine in [Combine::Add, Combine::Replace] {
            for (op, args) in cases(combine) {
                for varying in [[true, false, true], [true, false, false], [false, false, true]] {
                    check_tangent(&op, &args, &varying);
                }
                check_transpose(&op, &args, &[true, false, true]);
            }
        }
        for (op, args) in cases(Combine::Mul) {
            check_tangent(&op, &args, &[true, false, false]);
            check_transpose(&op, &args, &[true, false, false]);
        }
    }

    #[test]
    fn extremes_share_the_tangent_evenly() {
        let args = [floats(&[3], &[5., 1., 4.]), ints(&[4, 1], &[0, 1, 1, 2]), floats(&[4], &[5., 3., 3., 2.])];
        let tangents = [floats(&[3], &[1., 10., 100.]), floats(&[4], &[3., 20., 40., 1000.])];
        let op = elements(OutOfRange::Zero, Combine::Max);
        assert_eq!(tangent(&op, &args, &[true, false, true], &tangents), floats(&[3], &[2., 30., 100.]));
        assert_eq!(tangent(&op, &args, &[false, false, true], &tangents[1..]), floats(&[3], &[1.5, 30., 0.]));
        assert_eq!(tangent(&op, &args, &[true, false, false], &tangents[..1]), floats(&[3], &[0.5, 0., 100.]));
    }

    #[test]
    fn batches_agree_with_examples() {
        let stack = |a: &Array| {
            let shape: Vec<usize> = [2].iter().chain(a.shape()).copied().collect();
            let n = a.len();
            Array::from_data(&shape, a.data().gather((0..2 * n).map(|i| if i < n { i } else { 2 * n - 1 - i })))
                .unwrap()
        };
        for combine in Combine::ALL {
            for (op, args) in cases(combine) {
                for which in 1..8 {
                    let batched = [which & 1 != 0, which & 2 != 0, which & 4 != 0];
                    let mut given = args.clone();
                    for (a, is) in given.iter_mut().zip(batched) {
                        if is {
                            *a = stack(a);
                        }
                    }
                    check_batch(&op, &given, &batched);
                }
            }
        }
    }

    #[test]
    fn products_have_no_derivative_in_the_updates() {
        let mut b = Builder::new("test");
        let kind = crate::graph::ParamKind::Input;
        let x = b.param("x", kind, Type::new(DType::F32, [3]));
        let i = b.param("i", kind, Type::new(DType::I64, [2, 1]));
        let u = b.param("u", kind, Type::new(DType::F32, [2]));
        let op = elements(OutOfRange::Clip, Combine::Mul);
        let y = b.op(op.clone().into(), &[x, i, u]).unwrap();
        let at = At { operands: &[x, i, u], results: &[y] };
        let e = op.linearize(&mut b, at, &[None, None, Some(u)]).unwrap_err();
        assert!(matches!(e, RuleError::Missing(reason) if reason.contains("no derivative in the updates")));
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (x, i) = (Type::new(DType::F32, [4]), Type::new(DType::I64, [5, 1]));
        let add = elements(OutOfRange::Clip, Combine::Add);
        assert_eq!(refusal(add.clone(), &[&x, &i, &Type::new(DType::F64, [5])]), "`add` cannot combine f64 into f32");
        let (flags, bits) = (Type::new(DType::Bool, [4]), Type::new(DType::Bool, [5]));
        assert_eq!(refusal(add.clone(), &[&flags, &i, &bits]), "`add` cannot combine bool into bool");
        assert_eq!(
            refusal(add.clone(), &[&x, &i, &Type::new(DType::F32, [5, 1])]),
            "the updates have 2 dims, and there are 1 batch dims and 0 window dims"
        );
        assert_eq!(
            refusal(add.clone(), &[&x, &i, &Type::new(DType::F32, [6])]),
            "batch dims of updates and indices, 6 and 5 must be equal"
        );
        let mut wide = add.clone();
        (wide.update_window_dims, wide.inserted_window_dims) = (smallvec![1], smallvec![]);
        assert_eq!(
            refusal(wide, &[&x, &i, &Type::new(DType::F32, [5, 9])]),
            "the size of dim 0 is 4 and must be at least 9"
        );
        let n = Type::new(DType::F32, [sym("n")]);
        let dropping = elements(OutOfRange::Zero, Combine::Add);
        assert_eq!(infer(dropping, &[&n, &i, &Type::new(DType::F32, [5])], &Facts::default()), Ok(n));
    }
}

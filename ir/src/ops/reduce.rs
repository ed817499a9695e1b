//! `reduce` and `arg_reduce`: folds over axes.

use smallvec::SmallVec;

use super::lower::Access;
use super::{
    Arity, Arrays, At, CompareOp, Concat, Lowering, MapEmitter, Operation, Partials, RuleError, Slice, Types,
    check_axes, check_axis, not_linear, one, partial,
};
use crate::array::{Array, Data, Sizes};
use crate::attrs::{Attr, AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::{DType, Kind};
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::builder::without_axes;
use crate::graph::{Builder, Value};
use crate::kernel::{Combiner, ScalarOp, Var};
use crate::literal::Literal;
use crate::ty::Type;

/// How a [`Reduce`] combines elements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ReduceOp {
    /// The sum; 0 over nothing.
    Sum,
    /// The product; 1 over nothing.
    Prod,
    /// The greatest, NaN if any is NaN; the dtype's least value over nothing.
    Max,
    /// The least, NaN if any is NaN; the dtype's greatest value over nothing.
    Min,
    /// Whether any holds; bool only.
    Any,
    /// Whether all hold; bool only.
    All,
}

impl ReduceOp {
    /// Every fold, in declaration order.
    pub const ALL: &[Self] = &[Self::Sum, Self::Prod, Self::Max, Self::Min, Self::Any, Self::All];

    /// The kernel's combiner.
    pub const fn combiner(self) -> Combiner {
        match self {
            Self::Sum => Combiner::Sum,
            Self::Prod => Combiner::Prod,
            Self::Max => Combiner::Max,
            Self::Min => Combiner::Min,
            Self::Any => Combiner::Any,
            Self::All => Combiner::All,
        }
    }
}

/// A fold over axes, which disappear.
///
/// # Shapes
/// The operand's without `axes`.
/// # Gradient
/// Sum: the cotangent repeated. Max and min: shared equally among the elements that attain the extreme (JAX's convention).
/// Prod: the product of the others. Over axes of known size it is that of a tree of products, exact with any number of zeros
/// and to any order, as JAX has it; over an axis of a named size it is exact in the first order, and in higher ones where nothing
/// is 0.
/// # Numerics
/// The evaluator folds floats in `f64` and rounds once. Compiled code folds in the dtype, in the order that
/// [`crate::kernel`] fixes from the shape alone.
/// # Errors
/// Sum and prod of bool (convert first); any and all of anything else; axes that repeat or lie outside.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reduce {
    /// How elements combine.
    pub op: ReduceOp,
    /// The axes folded, ascending.
    pub axes: SmallVec<[usize; 4]>,
}

impl Reduce {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let op = r.choice("op", ReduceOp::ALL, |op| op.combiner().name())?;
        Ok(Self { op, axes: r.axes("axes")? })
    }

    /// 1 at the elements that attain the extreme, over how many there are.
    fn shares(&self, b: &mut Builder, at: At<'_>) -> Result<Value, RuleError> {
        let x = at.operands[0];
        let ty = b.ty(x).clone();
        let extreme = b.broadcast_reduced(at.results[0], &ty.shape, &self.axes)?;
        let attains = b.compare(CompareOp::Eq, x, extreme)?;
        let ones = b.convert(attains, ty.dtype)?;
        let count = b.sum(ones, &self.axes)?;
        let count = b.broadcast_reduced(count, &ty.shape, &self.axes)?;
        Ok(b.div(ones, count)?)
    }

    /// The product's tangent, halves multiplied by halves until one element is left along each axis; `None` if an axis has a
    /// named size. Nothing is divided, so that zeros need no care in any order.
    fn tree_tangent(&self, b: &mut Builder, x: Value, t: Value) -> Result<Option<Value>, RuleError> {
        let sizes = self.axes.iter().map(|&a| b.ty(x).shape[a].as_const()).collect::<Option<SmallVec<[i64; 4]>>>();
        let Some(sizes) = sizes else { return Ok(None) };
        let (mut x, mut t) = (x, t);
        // From the last axis on, so that the axes before keep their numbers.
        for (&axis, size) in self.axes.iter().zip(sizes).rev() {
            if size == 0 {
                (x, t) = (b.reduce(ReduceOp::Prod, x, &[axis])?, b.sum(t, &[axis])?);
                continue;
            }
            let mut n = size;
            while n > 1 {
                let half = n / 2;
                let part = |b: &mut Builder, v: Value, from: i64, to: i64| {
                    let op = Slice::along(&b.ty(v).shape, axis, from.into(), to.into());
                    b.op(op.into(), &[v])
                };
                let [x0, t0] = [part(b, x, 0, half)?, part(b, t, 0, half)?];
                let [x1, t1] = [part(b, x, half, 2 * half)?, part(b, t, half, 2 * half)?];
                let (left, right) = (b.mul(t0, x1)?, b.mul(t1, x0)?);
                let (mut x2, mut t2) = (b.mul(x0, x1)?, b.add(left, right)?);
                if n % 2 == 1 {
                    let [x3, t3] = [part(b, x, n - 1, n)?, part(b, t, n - 1, n)?];
                    x2 = b.op(Concat { axis }.into(), &[x2, x3])?;
                    t2 = b.op(Concat { axis }.into(), &[t2, t3])?;
                }
                (x, t, n) = (x2, t2, half + n % 2);
            }
            let shape = without_axes(&b.ty(x).shape, &[axis]);
            (x, t) = (b.reshape(x, &shape)?, b.reshape(t, &shape)?);
        }
        Ok(Some(t))
    }

    /// The product of all other elements, for each element.
    fn others(&self, b: &mut Builder, at: At<'_>) -> Result<Value, RuleError> {
        let x = at.operands[0];
        let ty = b.ty(x).clone();
        let (zero, one) = (b.full_like(x, 0.0)?, b.full_like(x, 1.0)?);
        let is_zero = b.compare(CompareOp::Eq, x, zero)?;
        let safe = b.select(is_zero, one, x)?;
        // The product of the elements that are not zero, and how many are.
        let rest = b.reduce(ReduceOp::Prod, safe, &self.axes)?;
        let rest = b.broadcast_reduced(rest, &ty.shape, &self.axes)?;
        let zeros = b.convert(is_zero, ty.dtype)?;
        let zeros = b.sum(zeros, &self.axes)?;
        let zeros = b.broadcast_reduced(zeros, &ty.shape, &self.axes)?;
        let none = b.compare(CompareOp::Eq, zeros, zero)?;
        let single = b.compare(CompareOp::Eq, zeros, one)?;
        let quotient = b.div(rest, safe)?;
        let elsewhere = b.select(none, quotient, zero)?;
        let here = b.select(single, rest, zero)?;
        Ok(b.select(is_zero, here, elsewhere)?)
    }
}

impl Operation for Reduce {
    fn name(&self) -> &str {
        "reduce"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_name("op", self.op.combiner().name()).with_axes("axes", &self.axes)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        check_axes(&self.axes, x.rank())?;
        if !self.axes.is_sorted() {
            return Err(Rule::new("axes must ascend", "sort them"));
        }
        check_dtype(self.op, x.dtype)?;
        one(Type { dtype: x.dtype, shape: without_axes(&x.shape, &self.axes) })
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let view = Rows::new(x, &self.axes);
        let mut out = Data::zeros(x.dtype(), view.outer_count());
        for i in 0..view.outer_count() {
            let value = fold(self.op.combiner(), x.dtype(), view.row(i).filter_map(|p| x.data().get(p)));
            out.set(i, value);
        }
        Ok(SmallVec::from_iter([Array::from_data(&view.outer, out)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(partial(None)) };
        let weighted = match self.op {
            ReduceOp::Sum => t,
            ReduceOp::Max | ReduceOp::Min => {
                let w = self.shares(b, at)?;
                b.mul(t, w)?
            }
            ReduceOp::Prod => {
                if let Some(t) = self.tree_tangent(b, at.operands[0], t)? {
                    return Ok(partial(Some(t)));
                }
                let w = self.others(b, at)?;
                b.mul(t, w)?
            }
            ReduceOp::Any | ReduceOp::All => return Ok(partial(None)),
        };
        Ok(partial(Some(b.reduce(ReduceOp::Sum, weighted, &self.axes)?)))
    }

    fn transpose(
        &self,
        b: &mut Builder,
        at: At<'_>,
        _: &[bool],
        cotangents: &[Option<Value>],
    ) -> Result<Partials, RuleError> {
        if self.op != ReduceOp::Sum {
            return Err(not_linear(self.op.combiner().name()));
        }
        let shape = b.ty(at.operands[0]).shape.clone();
        let ct = cotangents[0].map(|ct| b.broadcast_reduced(ct, &shape, &self.axes)).transpose()?;
        Ok(partial(ct))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let axes: Vec<usize> = self.axes.iter().map(|a| a + 1).collect();
        Ok(SmallVec::from_iter([b.reduce(self.op, operands[0], &axes)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        // A fold over no axes gives the operand.
        if self.axes.is_empty() {
            return Lowering::Map { access: Access::Elementwise };
        }
        Lowering::Reduce { combiner: self.op.combiner(), axes: &self.axes }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        e.operand(0, index)
    }
}

/// Refuses operands that a fold does not take.
pub(super) fn check_dtype(op: ReduceOp, dtype: DType) -> Result<(), Rule> {
    let boolean = dtype.kind() == Kind::Bool;
    let name = op.combiner().name();
    match op {
        ReduceOp::Any | ReduceOp::All if !boolean => {
            Err(Rule::new(format!("{name} takes bool"), "compare the operand first"))
        }
        ReduceOp::Sum | ReduceOp::Prod if boolean => {
            Err(Rule::new(format!("{name} takes numbers"), "convert the operand to i64 to count, or use any or all"))
        }
        _ if dtype.kind() == Kind::Complex => {
            Err(Rule::new("it takes real operands", "reduce real and imaginary parts"))
        }
        _ => Ok(()),
    }
}

/// The scalar operation that combines two values.
pub(super) fn scalar_op(op: ReduceOp) -> ScalarOp {
    match op {
        ReduceOp::Sum => ScalarOp::Add,
        ReduceOp::Prod => ScalarOp::Mul,
        ReduceOp::Max => ScalarOp::Max,
        ReduceOp::Min => ScalarOp::Min,
        ReduceOp::Any => ScalarOp::Or,
        ReduceOp::All => ScalarOp::And,
    }
}

/// The extreme value along an axis and its position, the first among equals.
///
/// # Shapes
/// `T[S] → (T[S without axis], i64[S without axis])`.
/// # Gradient
/// To the element at the position found; none for the position.
/// # Numerics
/// The first NaN wins over any number.
/// # Errors
/// A complex operand; an axis outside the rank. Over an empty axis the value is the dtype's least (greatest) and the
/// position `i64::MAX`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ArgReduce {
    /// Whether the greatest is looked for, rather than the least.
    pub max: bool,
    /// The axis searched, which disappears.
    pub axis: [usize; 1],
}

impl ArgReduce {
    /// The search for the greatest (`max`) or least value along an axis.
    pub fn new(max: bool, axis: usize) -> Self {
        Self { max, axis: [axis] }
    }

    fn combiner(&self) -> Combiner {
        if self.max { Combiner::ArgMax } else { Combiner::ArgMin }
    }

    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let max = r.choice("op", &[true, false], |max| if max { "arg_max" } else { "arg_min" })?;
        Ok(Self::new(max, r.axis("axis")?))
    }
}

impl Operation for ArgReduce {
    fn name(&self) -> &str {
        "arg_reduce"
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with_name("op", self.combiner().name()).with("axis", Attr::Int(self.axis[0] as i64))
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        check_axis(self.axis[0], x.rank())?;
        if x.dtype.kind() == Kind::Complex {
            return Err(Rule::new("complex values have no order", "search the absolute value"));
        }
        let shape = without_axes(&x.shape, &self.axis);
        Ok([Type { dtype: x.dtype, shape: shape.clone() }, Type { dtype: DType::I64, shape }].into_iter().collect())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let view = Rows::new(x, &self.axis);
        let mut values = Data::zeros(x.dtype(), view.outer_count());
        let mut positions = vec![i64::MAX; view.outer_count()];
        for (i, position) in positions.iter_mut().enumerate() {
            let mut best = self.combiner().identity(x.dtype())[0];
            for (k, p) in view.row(i).enumerate() {
                let Some(l) = x.data().get(p) else { break };
                if *position == i64::MAX || beats(l, best, self.max) {
                    (best, *position) = (l, k as i64);
                }
            }
            values.set(i, best);
        }
        let positions = Array::new(&view.outer, positions)?;
        Ok([Array::from_data(&view.outer, values)?, positions].into_iter().collect())
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok([None, None].into_iter().collect()) };
        let shape = b.ty(at.operands[0]).shape.clone();
        let positions = b.iota(DType::I64, &shape, self.axis[0])?;
        let found = b.broadcast_reduced(at.results[1], &shape, &self.axis)?;
        let here = b.compare(CompareOp::Eq, positions, found)?;
        let zero = b.full_like(t, 0.0)?;
        let kept = b.select(here, t, zero)?;
        Ok([Some(b.sum(kept, &self.axis)?), None].into_iter().collect())
    }

    fn transpose(&self, _: &mut Builder, _: At<'_>, _: &[bool], _: &[Option<Value>]) -> Result<Partials, RuleError> {
        Err(not_linear(self.combiner().name()))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let id = b.add_node(Self::new(self.max, self.axis[0] + 1).into(), operands)?;
        Ok(b.graph().node(id).results().collect())
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Reduce { combiner: self.combiner(), axes: &self.axis }
    }
}

/// Whether `new` replaces `best` in a search from the front.
fn beats(new: Literal, best: Literal, max: bool) -> bool {
    let order = |l: Literal| l.to_i64().map_or_else(|| l.bits()[0] as i128, i128::from);
    if new.dtype().is_float() {
        let (n, b) = (new.to_f64(), best.to_f64());
        return !b.is_nan() && (n.is_nan() || if max { n > b } else { n < b });
    }
    if max { order(new) > order(best) } else { order(new) < order(best) }
}

/// Folds literals of one dtype: floats in `f64`, integers wrapping.
pub(super) fn fold(combiner: Combiner, dtype: DType, items: impl Iterator<Item = Literal>) -> Literal {
    let start = combiner.identity(dtype)[0];
    if dtype.is_float() {
        let step = |a: f64, l: Literal| {
            let x = l.to_f64();
            match combiner {
                Combiner::Sum => a + x,
                Combiner::Prod => a * x,
                Combiner::Max | Combiner::ArgMax => {
                    if x > a || x.is_nan() {
                        x
                    } else {
                        a
                    }
                }
                Combiner::Min | Combiner::ArgMin => {
                    if x < a || x.is_nan() {
                        x
                    } else {
                        a
                    }
                }
                Combiner::Any | Combiner::All => a,
            }
        };
        return Literal::from_f64(dtype, items.fold(start.to_f64(), step));
    }
    items.fold(start, |a, l| {
        let (x, y) = (a.bits()[0], l.bits()[0]);
        let wrapped = |bits| Literal::from_bits(dtype, [bits, 0]);
        match combiner {
            Combiner::Sum => wrapped(x.wrapping_add(y)),
            Combiner::Prod => wrapped(x.wrapping_mul(y)),
            Combiner::Any => Literal::from(x != 0 || y != 0),
            Combiner::All => Literal::from(x != 0 && y != 0),
            Combiner::Max | Combiner::ArgMax => {
                if beats(l, a, true) {
                    l
                } else {
                    a
                }
            }
            Combiner::Min | Combiner::ArgMin => {
                if beats(l, a, false) {
                    l
                } else {
                    a
                }
            }
        }
    })
}

/// The elements of an array grouped by what a fold over `axes` leaves.
struct Rows {
    outer: Sizes,
    outer_strides: SmallVec<[isize; 4]>,
    inner: Sizes,
    inner_strides: SmallVec<[isize; 4]>,
}

impl Rows {
    fn new(x: &Array, axes: &[usize]) -> Self {
        let strides = walk::row_major(x.shape());
        let kept = |i: &usize| !axes.contains(i);
        let all = 0..x.rank();
        Self {
            outer: all.clone().filter(kept).map(|i| x.shape()[i]).collect(),
            outer_strides: all.clone().filter(kept).map(|i| strides[i]).collect(),
            inner: axes.iter().map(|&i| x.shape()[i]).collect(),
            inner_strides: axes.iter().map(|&i| strides[i]).collect(),
        }
    }

    fn outer_count(&self) -> usize {
        self.outer.iter().product()
    }

    fn row(&self, i: usize) -> walk::Offsets {
        let index = walk::unravel(i, &self.outer);
        let base = index.iter().zip(&self.outer_strides).map(|(&i, &s)| i as isize * s).sum();
        walk::offsets(&self.inner, &self.inner_strides, base)
    }
}

//! `reduce_window`: folds over windows that slide.

use smallvec::SmallVec;

use super::lower::Access;
use super::reduce::{check_dtype, fold, scalar_op};
use super::slice::{check_rank, check_sound};
use super::window::{self, Taps, Window, Windows, fit};
use super::{
    Arity, Arrays, At, BinaryOp, CompareOp, Iota, Lowering, MapEmitter, Operation, Partials, ReduceOp, RuleError,
    Types, not_linear, one, partial,
};
use crate::array::{Array, Data, Sizes};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::{Dim, gcd};
use crate::dtype::DType;
use crate::error::{OpError, Rule};
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::kernel::{Guard, Var};
use crate::literal::Literal;
use crate::ty::{Shape, Type};

/// Windows of at most so many taps become straight-line code; larger ones are put together of smaller ones.
pub const MOST_TAPS: usize = 64;

/// The fold of each window of the operand.
///
/// `out[o…] = fold over w… of x'[o*stride + w*window_dilation - low, …]`, where `x'` is the operand with `base_dilation - 1` holes
/// between neighbours; holes and padding hold the fold's identity.
/// # Shapes
/// A window for each dim. Along each, `max(floordiv(low + (n - 1)*base_dilation + 1 + high - (size - 1)*window_dilation - 1,
/// stride) + 1, 0)`. Padding may be symbolic, and negative, which cuts off.
/// # Gradient
/// Sum: another windowed sum, with strides and holes exchanged; closed. Max and min: to the first tap, in row-major order, that
/// attains the extreme; where that is NaN, to the first tap. Prod: the product of the other taps, exact with any number of zeros.
/// # Numerics
/// The evaluator folds floats in `f64` and rounds once; compiled code folds in the dtype, in the order of the taps or, above
/// [`MOST_TAPS`] of them, of groups of taps that the shape fixes. Max and min are NaN if any tap is.
/// # Errors
/// As of [`super::Reduce`]; lists of a length other than the rank; strides and dilations of 0.
/// # Source
/// StableHLO specification, `reduce_window`. Derivatives of max and min as in XLA's `select_and_scatter`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReduceWindow {
    /// How elements combine.
    pub op: ReduceOp,
    /// The number of taps along each dim.
    pub sizes: SmallVec<[usize; 4]>,
    /// How windows lie along each dim.
    pub windows: Windows,
}

/// An equal computation by smaller windows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Smaller {
    /// One after the other.
    Then(ReduceWindow, ReduceWindow),
    /// The first taps and the others, combined.
    Both(ReduceWindow, ReduceWindow),
}

impl ReduceWindow {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        let op = r.choice("op", ReduceOp::ALL, |op| op.combiner().name())?;
        Ok(Self { op, sizes: r.axes("size")?, windows: window::read(r)? })
    }

    /// The number of taps of one window.
    pub fn taps(&self) -> usize {
        self.sizes.iter().fold(1, |n: usize, &k| n.saturating_mul(k))
    }

    /// How many windows there are along each dim of an operand of this shape.
    pub fn counts(&self, shape: &[Dim], facts: &Facts) -> Shape {
        let windows = self.windows.iter().zip(&self.sizes).zip(shape);
        windows.map(|((w, &k), n)| w.count(n, &k.into(), facts)).collect()
    }

    /// What holes and padding hold.
    pub fn identity(&self, dtype: DType) -> Literal {
        self.op.combiner().identity(dtype)[0]
    }

    /// The same over every element alone, but for some dims.
    fn only(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut new = self.clone();
        for d in 0..self.sizes.len() {
            if !keep(d) {
                (new.sizes[d], new.windows[d]) = (1, Window::default());
            }
        }
        new
    }

    /// An equal computation by smaller windows, for windows of more than [`MOST_TAPS`] taps.
    ///
    /// Folds are separable: one dim comes after another, the last one first, so that ties are still decided in row-major order.
    /// Along one dim, taps are folded in runs of equal length, runs are folded, and a shorter last run is combined with them.
    pub fn smaller(&self) -> Option<Smaller> {
        if self.taps() <= MOST_TAPS {
            return None;
        }
        let wide: SmallVec<[usize; 4]> = (0..self.sizes.len()).filter(|&d| self.sizes[d] > 1).collect();
        let &last = wide.last()?;
        if wide.len() > 1 {
            return Some(Smaller::Then(self.only(|d| d == last), self.only(|d| d != last)));
        }
        let k = self.sizes[last];
        // The longest run that divides the window; where there is none worth it, the rest is a window of its own.
        let run = (8..=MOST_TAPS).rev().find(|r| k.is_multiple_of(*r)).unwrap_or(MOST_TAPS);
        let w = &self.windows[last];
        let rest = k % run;
        if rest > 0 {
            let taken = Dim::from(k - rest) * Dim::from(w.window_dilation);
            let (mut head, mut tail) = (self.clone(), self.clone());
            head.sizes[last] = k - rest;
            head.windows[last].padding.1 -= Dim::from(rest) * Dim::from(w.window_dilation);
            tail.sizes[last] = rest;
            tail.windows[last].padding.0 -= taken;
            return Some(Smaller::Both(head, tail));
        }
        // Runs start at multiples of what divides both the stride and the length of a run.
        let length = run.checked_mul(w.window_dilation)?;
        let step = gcd(w.stride as u64, length as u64) as usize;
        let (mut runs, mut all) = (self.clone(), self.only(|d| d != last));
        runs.sizes[last] = run;
        runs.windows[last].stride = step;
        for d in 0..self.sizes.len() {
            if d != last {
                runs.windows[d] = Window::default();
            }
        }
        all.sizes[last] = k / run;
        all.windows[last] = Window { stride: w.stride / step, window_dilation: length / step, ..Window::default() };
        Some(Smaller::Then(runs, all))
    }

    /// Whether windows lie side by side along every dim, so that each element is of one window at most.
    fn is_apart(&self) -> bool {
        let apart = |(w, &k): (&Window, &usize)| w.stride == k && w.window_dilation == 1 && w.base_dilation == 1;
        self.windows.iter().zip(&self.sizes).all(apart)
    }

    /// The shape in which each dim of windows that lie apart becomes two, windows and taps; and the dims of taps.
    fn split_shape(&self, counts: &[Dim]) -> (Shape, SmallVec<[usize; 4]>) {
        let (mut shape, mut taps) = (Shape::new(), SmallVec::new());
        for (count, &k) in counts.iter().zip(&self.sizes) {
            shape.push(count.clone());
            if k != 1 {
                taps.push(shape.len());
                shape.push(Dim::from(k));
            }
        }
        (shape, taps)
    }

    /// What to add before and after an operand so that windows that lie apart cover all of it.
    fn cover(&self, shape: &[Dim], counts: &[Dim]) -> (Shape, Shape) {
        let low: Shape = self.windows.iter().map(|w| w.padding.0.clone()).collect();
        let covered = counts.iter().zip(&self.sizes).map(|(o, &k)| o * Dim::from(k));
        let high = covered.zip(shape).zip(&low).map(|((c, n), low)| c - n - low).collect();
        (low, high)
    }

    /// All taps of a value, in row-major order.
    fn taps_of(&self, b: &mut Builder, x: Value, fill: Literal) -> Result<Vec<Value>, OpError> {
        let counts = self.counts(&b.ty(x).shape, b.facts());
        let dims: Vec<usize> = (0..self.sizes.len()).collect();
        let taps = Taps::new(b, x, &dims, &self.windows, &self.sizes, &counts, fill)?;
        (0..self.taps()).map(|i| taps.at(b, &walk::unravel(i, &self.sizes))).collect()
    }

    /// The tangent where the result is an element of each window: that of the first tap that attains it.
    fn extreme_tangent(&self, b: &mut Builder, x: Value, y: Value, t: Value) -> Result<Value, OpError> {
        let out = b.ty(y).clone();
        if self.taps() == 0 {
            return b.zeros(&out);
        }
        let identity = self.identity(out.dtype);
        let taps = self.taps_of(b, x, identity)?;
        let beaten = if self.op == ReduceOp::Max { CompareOp::Lt } else { CompareOp::Gt };
        // The number of the first tap that is not beaten, found from the last to the first.
        let number = |b: &mut Builder, i: usize| b.full(Literal::from_i64(DType::I32, i as i64), &out.shape);
        let mut first = number(b, taps.len() - 1)?;
        for (i, &tap) in taps.iter().enumerate().rev().skip(1) {
            let beaten = b.compare(beaten, tap, y)?;
            let here = number(b, i)?;
            first = b.select(beaten, first, here)?;
        }
        if self.is_apart() {
            return self.spread_choice(b, x, first, t);
        }
        let tangents = self.taps_of(b, t, Literal::zero(out.dtype))?;
        let zero = b.zeros(&out)?;
        let mut sum: Option<Value> = None;
        for (i, &tangent) in tangents.iter().enumerate() {
            let here = number(b, i)?;
            let chosen = b.compare(CompareOp::Eq, first, here)?;
            let part = b.select(chosen, tangent, zero)?;
            sum = super::add_partials(b, sum, Some(part))?;
        }
        Ok(sum.unwrap_or(zero))
    }

    /// The tangent of the chosen tap of windows that lie apart: each element looks at its own window, and none at its edges.
    fn spread_choice(&self, b: &mut Builder, x: Value, first: Value, t: Value) -> Result<Value, OpError> {
        let (shape, counts) = (b.ty(x).shape.clone(), b.ty(first).shape.clone());
        let (low, high) = self.cover(&shape, &counts);
        let (split, taps) = self.split_shape(&counts);
        let zero = Literal::zero(b.ty(t).dtype);
        let mut kept = fit(b, t, &low, &high, zero)?;
        if !taps.is_empty() {
            // Numbers of taps and choices are read through views at each element, so that one pass over the elements is all.
            let shape = b.ty(kept).shape.clone();
            let number = self.numbers(b, &counts, &split, &taps)?;
            let number = b.reshape(number, &shape)?;
            let chosen = b.broadcast_reduced(first, &split, &taps)?;
            let chosen = b.reshape(chosen, &shape)?;
            let here = b.compare(CompareOp::Eq, number, chosen)?;
            let zeros = b.full(zero, &shape)?;
            kept = b.select(here, kept, zeros)?;
        }
        let kept = b.reshape(kept, &split)?;
        b.sum(kept, &taps)
    }

    /// The number of each tap, in row-major order, where each dim is split in two.
    fn numbers(&self, b: &mut Builder, counts: &[Dim], split: &[Dim], taps: &[usize]) -> Result<Value, OpError> {
        let rank = counts.len();
        let mut shape: Shape = counts.into();
        shape.push(taps.iter().map(|&d| split[d].clone()).product());
        let number = b.op(Iota { dtype: DType::I32, shape: shape.clone(), axis: rank }.into(), &[])?;
        shape.truncate(rank);
        shape.extend(taps.iter().map(|&d| split[d].clone()));
        let number = b.reshape(number, &shape)?;
        // Each dim of taps goes behind that of its windows.
        let (mut windows, mut inner) = (0..rank, rank..rank + taps.len());
        let perm: Vec<usize> =
            (0..split.len()).filter_map(|d| if taps.contains(&d) { inner.next() } else { windows.next() }).collect();
        b.transpose(number, &perm)
    }

    /// The product's tangent: taps are multiplied in pairs until one is left; nothing is divided, so that zeros need no care.
    fn product_tangent(&self, b: &mut Builder, x: Value, t: Value) -> Result<Value, OpError> {
        let dtype = b.ty(x).dtype;
        let xs = self.taps_of(b, x, Literal::one(dtype))?;
        let ts = self.taps_of(b, t, Literal::zero(dtype))?;
        let mut level: Vec<(Value, Value)> = xs.into_iter().zip(ts).collect();
        while level.len() > 1 {
            let mut next = Vec::with_capacity(level.len().div_ceil(2));
            for pair in level.chunks(2) {
                next.push(match *pair {
                    [(x, tx), (y, ty)] => {
                        let (left, right) = (b.mul(tx, y)?, b.mul(ty, x)?);
                        (b.mul(x, y)?, b.add(left, right)?)
                    }
                    _ => pair[0],
                });
            }
            level = next;
        }
        match level.first() {
            Some(&(_, t)) => Ok(t),
            None => {
                let shape = self.counts(&b.ty(x).shape, b.facts());
                b.zeros(&Type { dtype, shape })
            }
        }
    }

    /// The tangent of windows that are put together of smaller ones, and the result that they give.
    fn tangent_by_parts(&self, b: &mut Builder, x: Value, t: Value) -> Result<(Value, Value), OpError> {
        match self.smaller() {
            None => {
                let y = b.op(self.clone().into(), &[x])?;
                Ok((y, self.tangent(b, x, y, t)?))
            }
            Some(Smaller::Then(first, second)) => {
                let (x, t) = first.tangent_by_parts(b, x, t)?;
                second.tangent_by_parts(b, x, t)
            }
            Some(Smaller::Both(head, tail)) => {
                let (y0, t0) = head.tangent_by_parts(b, x, t)?;
                let (y1, t1) = tail.tangent_by_parts(b, x, t)?;
                let y = b.binary(self.binary(), y0, y1)?;
                if self.op == ReduceOp::Prod {
                    let (left, right) = (b.mul(t0, y1)?, b.mul(t1, y0)?);
                    return Ok((y, b.add(left, right)?));
                }
                let beaten = if self.op == ReduceOp::Max { CompareOp::Lt } else { CompareOp::Gt };
                let beaten = b.compare(beaten, y0, y)?;
                Ok((y, b.select(beaten, t1, t0)?))
            }
        }
    }

    fn tangent(&self, b: &mut Builder, x: Value, y: Value, t: Value) -> Result<Value, OpError> {
        match self.op {
            ReduceOp::Prod => self.product_tangent(b, x, t),
            _ => self.extreme_tangent(b, x, y, t),
        }
    }

    /// The fold of two values.
    pub fn binary(&self) -> BinaryOp {
        match self.op {
            ReduceOp::Sum => BinaryOp::Add,
            ReduceOp::Prod => BinaryOp::Mul,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::Any => BinaryOp::Or,
            ReduceOp::All => BinaryOp::And,
        }
    }

    /// The cotangent of a sum: repeated for each tap where windows lie apart, and otherwise a windowed sum.
    fn sum_cotangent(&self, b: &mut Builder, x: Value, ct: Value) -> Result<Value, OpError> {
        let (shape, counts) = (b.ty(x).shape.clone(), b.ty(ct).shape.clone());
        if self.is_apart() && self.taps() > 0 {
            let (split, taps) = self.split_shape(&counts);
            let spread = b.broadcast_reduced(ct, &split, &taps)?;
            let covered: Shape = counts.iter().zip(&self.sizes).map(|(o, &k)| o * Dim::from(k)).collect();
            let spread = b.reshape(spread, &covered)?;
            // What was added is cut off again, and the other way round.
            let (low, high) = self.cover(&shape, &counts);
            let undo = |d: &Shape| d.iter().map(|d| -d).collect::<Shape>();
            return fit(b, spread, &undo(&low), &undo(&high), Literal::zero(b.ty(ct).dtype));
        }
        let facts = b.facts();
        let windows = (0..shape.len())
            .map(|d| self.windows[d].transposed(&shape[d], &self.sizes[d].into(), &counts[d], facts))
            .collect();
        b.op(Self { windows, ..self.clone() }.into(), &[ct])
    }
}

impl Operation for ReduceWindow {
    fn name(&self) -> &str {
        "reduce_window"
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with_name("op", self.op.combiner().name()).with_axes("size", &self.sizes);
        window::attrs(attrs, &self.windows)
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], facts: &Facts) -> Result<Types, Rule> {
        let x = operands[0];
        check_rank("size", self.sizes.len(), x.rank())?;
        check_rank("stride", self.windows.len(), x.rank())?;
        window::check(&self.windows)?;
        check_dtype(self.op, x.dtype)?;
        one(Type { dtype: x.dtype, shape: check_sound(self.counts(&x.shape, facts))? })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let x = operands[0];
        let (mut low, mut shape) = (Vec::new(), Sizes::new());
        for (d, w) in self.windows.iter().enumerate() {
            let known = Window { padding: (cx.dim(&w.padding.0)?.into(), cx.dim(&w.padding.1)?.into()), ..w.clone() };
            low.push(cx.dim(&w.padding.0)?);
            shape.push(cx.size(&known.count(&x.shape()[d].into(), &self.sizes[d].into(), &Facts::default()))?);
        }
        let strides = walk::row_major(x.shape());
        let identity = self.identity(x.dtype());
        let count: usize = shape.iter().product();
        let mut out = Data::zeros(x.dtype(), count);
        for o in 0..count {
            let at = walk::unravel(o, &shape);
            let tap = |i: usize| {
                let index = walk::unravel(i, &self.sizes);
                let position = (0..x.rank()).try_fold(0, |sum, d| {
                    let place = self.windows[d].place(low[d], x.shape()[d], at[d], index[d])?;
                    Some(sum + place * strides[d].unsigned_abs())
                });
                position.map_or(Some(identity), |p| x.data().get(p))
            };
            out.set(o, fold(self.op.combiner(), x.dtype(), (0..self.taps()).filter_map(tap)));
        }
        Ok(SmallVec::from_iter([Array::from_data(&shape, out)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let Some(t) = tangents[0] else { return Ok(partial(None)) };
        let x = at.operands[0];
        Ok(partial(match self.op {
            ReduceOp::Any | ReduceOp::All => None,
            ReduceOp::Sum => Some(b.op(self.clone().into(), &[t])?),
            ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min if self.smaller().is_some() => {
                Some(self.tangent_by_parts(b, x, t)?.1)
            }
            ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min => Some(self.tangent(b, x, at.results[0], t)?),
        }))
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
        let ct = cotangents[0].map(|ct| self.sum_cotangent(b, at.operands[0], ct)).transpose()?;
        Ok(partial(ct))
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        _: &[bool],
        _: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let mut op = self.clone();
        op.sizes.insert(0, 1);
        op.windows.insert(0, Window::default());
        Ok(SmallVec::from_iter([b.op(op.into(), operands)?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        if self.taps() > MOST_TAPS { Lowering::Host } else { Lowering::Map { access: Access::General } }
    }

    fn emit(&self, e: &mut dyn MapEmitter, index: &[Dim]) -> Var {
        let shape = e.operand_shape(0);
        let counts = self.counts(&shape, &Facts::default());
        let combine = scalar_op(self.op);
        let identity = e.literal(self.identity(e.operand_dtype(0)));
        // A sum starts from 0, which turns a sum of −0 alone into 0; the other folds' identities change nothing.
        let mut folded = (self.op == ReduceOp::Sum).then_some(identity);
        for i in 0..self.taps() {
            let tap = walk::unravel(i, &self.sizes);
            let mut guard = Guard::always();
            let mut at = Vec::with_capacity(index.len());
            for (d, w) in self.windows.iter().enumerate() {
                at.push(element(w, &index[d], tap[d], &shape[d], &counts[d], &mut guard));
            }
            let value = if guard.is_always() { e.operand(0, &at) } else { e.operand_if(0, &at, guard, identity) };
            folded = Some(match folded {
                Some(folded) => e.apply(combine, &[folded, value]),
                None => value,
            });
        }
        folded.unwrap_or(identity)
    }
}

/// The element of the base that a tap sees, and what must hold for it to be there.
fn element(w: &Window, window: &Dim, tap: usize, base: &Dim, count: &Dim, guard: &mut Guard) -> Dim {
    let offset = Dim::from(tap) * Dim::from(w.window_dilation) - &w.padding.0;
    let place = window * Dim::from(w.stride) + &offset;
    if offset.as_const().is_none_or(|o| o < 0) {
        guard.0.push(place.clone());
    }
    let step = Dim::from(w.base_dilation);
    let source = place.floordiv(&step);
    let last = ((count - 1) * Dim::from(w.stride) + &offset).floordiv(&step);
    // Without padding at the end, windows end with the base at the latest.
    let inside = w.padding.1.as_const().is_some_and(|high| high <= 0)
        || (base - 1 - last).as_const().is_some_and(|room| room >= 0);
    if !inside {
        guard.0.push(base - 1 - &source);
    }
    if w.base_dilation > 1 {
        guard.0.push(-place.modulo(&step));
    }
    source
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;

    fn window(stride: usize, low: i64, high: i64, base_dilation: usize, window_dilation: usize) -> Window {
        Window { stride, padding: (low.into(), high.into()), base_dilation, window_dilation }
    }

    fn of(op: ReduceOp, sizes: &[usize], windows: &[Window]) -> ReduceWindow {
        ReduceWindow { op, sizes: sizes.into(), windows: windows.into() }
    }

    /// Windows and shapes of operands.
    fn cases() -> Vec<(Vec<usize>, Vec<Window>, Vec<usize>)> {
        vec![
            (vec![], vec![], vec![]),
            (vec![2], vec![window(1, 0, 0, 1, 1)], vec![5]),
            (vec![2], vec![window(2, 0, 0, 1, 1)], vec![5]),
            (vec![2], vec![window(2, 1, 0, 1, 1)], vec![5]),
            (vec![3], vec![window(3, -1, -1, 1, 1)], vec![5]),
            (vec![3], vec![window(3, -1, 2, 1, 1)], vec![9]),
            (vec![3], vec![window(2, 1, 1, 1, 1)], vec![6]),
            (vec![2], vec![window(3, 2, 1, 2, 3)], vec![5]),
            (vec![2, 3], vec![window(2, 0, 0, 1, 1), window(3, 1, 0, 1, 1)], vec![4, 5]),
            (vec![3, 1, 2], vec![window(1, 1, 1, 1, 1), window(1, 0, 0, 1, 1), window(2, 0, 1, 1, 1)], vec![3, 2, 4]),
            (vec![1], vec![window(2, 0, 0, 1, 1)], vec![5]),
            (vec![4], vec![window(1, 0, 0, 1, 1)], vec![2]),
            (vec![0], vec![window(1, 0, 0, 1, 1)], vec![2]),
            (vec![2], vec![window(1, 1, 1, 1, 1)], vec![0]),
        ]
    }

    #[test]
    fn folds_each_window() {
        let x = floats(&[5], &[1., 5., 2., 4., 3.]);
        let max = of(ReduceOp::Max, &[2], &[window(2, 0, 1, 1, 1)]);
        assert_eq!(run(&max, &[&x]), floats(&[3], &[5., 4., 3.]));
        let sum = of(ReduceOp::Sum, &[3], &[window(1, 1, 0, 1, 1)]);
        assert_eq!(run(&sum, &[&x]), floats(&[4], &[6., 8., 11., 9.]));
        let min = of(ReduceOp::Min, &[2], &[window(1, 2, 0, 1, 2)]);
        assert_eq!(run(&min, &[&x]), floats(&[5], &[1., 5., 1., 4., 2.]));
        let prod = of(ReduceOp::Prod, &[2], &[window(1, 0, 0, 2, 1)]);
        assert_eq!(run(&prod, &[&x]), floats(&[8], &[1., 5., 5., 2., 2., 4., 4., 3.]));
        let nan = floats(&[3], &[1., f64::NAN, 0.]);
        assert!(
            run(&of(ReduceOp::Max, &[2], &[window(1, 0, 0, 1, 1)]), &[&nan]).as_slice::<f64>().unwrap()[1].is_nan()
        );
        let any = of(ReduceOp::Any, &[2], &[window(1, 1, 0, 1, 1)]);
        assert_eq!(run(&any, &[&Array::from([false, true])]), Array::from([false, true]));
    }

    #[test]
    fn emitted_elements_agree() {
        for (sizes, windows, shape) in cases() {
            // The scalars of these tests are whole numbers.
            let x = counting(&shape);
            let whole = x.as_slice::<f64>().unwrap().iter().map(|&v| v as i64).collect();
            let x = Array::new(&shape, whole).unwrap();
            for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min] {
                check_emit(&of(op, &sizes, &windows), &[&x]);
            }
        }
    }

    #[test]
    fn rules_agree_with_the_definition() {
        for (sizes, windows, shape) in cases() {
            let sum = of(ReduceOp::Sum, &sizes, &windows);
            check_tangent(&sum, &[counting(&shape)], &[true]);
            check_transpose(&sum, &[counting(&shape)], &[true]);
            for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod] {
                check_batch(&of(op, &sizes, &windows), &[counting(&[&[2], &shape[..]].concat())], &[true]);
            }
        }
    }

    /// The tangent by the definition: of the first tap that attains the extreme.
    fn first_of(op: &ReduceWindow, x: &Array, t: &Array) -> Array {
        let y = run(op, &[x]);
        let (xs, ts) = (x.as_slice::<f64>().unwrap(), t.as_slice::<f64>().unwrap());
        let identity = op.identity(DType::F64).to_f64();
        let tangent = |o: usize| {
            let at = walk::unravel(o, y.shape());
            let taps = (0..op.taps()).map(|i| {
                let index = walk::unravel(i, &op.sizes);
                let place = (0..x.rank()).try_fold(0, |flat, d| {
                    let low = op.windows[d].padding.0.as_const().unwrap();
                    Some(flat * x.shape()[d] + op.windows[d].place(low, x.shape()[d], at[d], index[d])?)
                });
                place.map_or((identity, 0.0), |p| (xs[p], ts[p]))
            });
            let best = y.as_slice::<f64>().unwrap()[o];
            taps.into_iter().find(|(x, _)| *x == best).map_or(0.0, |(_, t)| t)
        };
        Array::new(y.shape(), (0..y.len()).map(tangent).collect()).unwrap()
    }

    #[test]
    fn the_first_tap_that_attains_an_extreme_takes_the_tangent() {
        for (sizes, windows, shape) in cases() {
            let n: usize = shape.iter().product();
            // Many ties.
            let x = Array::new(&shape, (0..n).map(|i| f64::from(u8::from(i * 5 % 7 < 4))).collect()).unwrap();
            let t = counting(&shape);
            for fold in [ReduceOp::Max, ReduceOp::Min] {
                let op = of(fold, &sizes, &windows);
                let got = tangent(&op, std::slice::from_ref(&x), &[true], std::slice::from_ref(&t));
                assert_eq!(got, first_of(&op, &x, &t), "{op:?}");
            }
        }
    }

    #[test]
    fn a_product_is_differentiated_at_zeros() {
        let x = floats(&[5], &[2., 0., 3., 0., 5.]);
        let t = floats(&[5], &[1., 10., 100., 1000., 10000.]);
        let op = of(ReduceOp::Prod, &[3], &[window(1, 1, 0, 1, 1)]);
        // Windows _20, 203, 030 and 305.
        let got = tangent(&op, &[x], &[true], &[t]);
        assert_eq!(got, floats(&[4], &[20., 60., 0., 15000.]));
    }

    #[test]
    fn large_windows_are_put_together_of_small_ones() {
        let shapes: [(&[usize], &[Window], &[usize]); 6] = [
            (&[9, 9], &[window(1, 4, 4, 1, 1), window(2, 1, 0, 1, 1)], &[11, 10]),
            (&[100], &[window(100, 0, 0, 1, 1)], &[300]),
            (&[67], &[window(3, 2, 5, 1, 1)], &[90]),
            (&[130], &[window(2, 0, 7, 1, 2)], &[300]),
            (&[96], &[window(1, 3, 3, 2, 1)], &[60]),
            (&[3, 71], &[window(3, 0, 0, 1, 1), window(71, 0, 0, 1, 1)], &[6, 142]),
        ];
        for (sizes, windows, shape) in shapes {
            for fold in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min] {
                let op = of(fold, sizes, windows);
                assert!(op.smaller().is_some());
                let n: usize = shape.iter().product();
                let x = Array::new(shape, (0..n).map(|i| (i * 37 % 11) as f64).collect()).unwrap();
                assert_eq!(by_parts(&op, &x), run(&op, &[&x]), "{op:?}");
                if fold == ReduceOp::Sum {
                    check_transpose(&op, &[x], &[true]);
                    continue;
                }
                let t = counting(shape);
                let got = tangent(&op, std::slice::from_ref(&x), &[true], std::slice::from_ref(&t));
                assert_eq!(got, first_of(&op, &x, &t), "{op:?}");
            }
        }
    }

    fn by_parts(op: &ReduceWindow, x: &Array) -> Array {
        match op.smaller() {
            None => run(op, &[x]),
            Some(Smaller::Then(first, second)) => by_parts(&second, &by_parts(&first, x)),
            Some(Smaller::Both(head, tail)) => run(&op.binary(), &[&by_parts(&head, x), &by_parts(&tail, x)]),
        }
    }

    #[test]
    fn bad_windows_are_refused() {
        let x = Type::new(DType::F32, [4]);
        let sum = |sizes: &[usize], windows: &[Window]| of(ReduceOp::Sum, sizes, windows);
        let one = [window(1, 0, 0, 1, 1)];
        assert_eq!(refusal(sum(&[2, 2], &one), &[&x]), "`size` has 2 entries, and the operand has 1 dims");
        assert_eq!(refusal(sum(&[2], &[]), &[&x]), "`stride` has 0 entries, and the operand has 1 dims");
        assert_eq!(refusal(sum(&[2], &[window(0, 0, 0, 1, 1)]), &[&x]), "the stride of window dim 0 is 0");
        let bools = Type::new(DType::Bool, [4]);
        assert_eq!(refusal(sum(&[2], &one), &[&bools]), "sum takes numbers");
        assert_eq!(refusal(of(ReduceOp::Any, &[2], &one), &[&x]), "any takes bool");
    }
}

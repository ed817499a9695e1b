//! `convolution`: sums of products over windows that slide.

use smallvec::SmallVec;

use super::window::{self, Window, Windows};
use super::{Arity, Arrays, At, Lowering, Operation, Partials, Reverse, RuleError, Types, check_equal, one};
use crate::array::{Array, Data, Sizes};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::dtype::Kind;
use crate::error::Rule;
use crate::eval::{EvalCx, EvalError, walk};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::literal::Literal;
use crate::ops::slice::check_sound;
use crate::ty::{Shape, Type};

/// The sum over a window and channels of products with a kernel, for each place of the window.
///
/// `out[b…, n, o…, co] = Σ_{w…, ci} lhs'[b…, n, o*stride + w*window_dilation - low…, ci] · rhs[b…, w…, ci, co]`, where `lhs'` is
/// the operand with `base_dilation - 1` zeros between neighbours and zeros outside. The kernel is not reversed.
/// Other layouts are transposes around it, a group is a batch dim, and a reversed kernel is a `reverse`.
/// # Shapes
/// `lhs [b…, n, base…, ci]`, rhs `[b…, taps…, ci, co]`, result `[b…, n, windows…, co]`, where along each window dim
/// `windows = max(floordiv(low + (base - 1)*base_dilation + 1 + high - (taps - 1)*window_dilation - 1, stride) + 1, 0)`.
/// Padding may be symbolic, and negative, which cuts off.
/// # Gradient
/// Closed: by `lhs`, a convolution of the cotangent with the reversed kernel, its channels exchanged and strides become holes;
/// by `rhs`, a convolution of `lhs` with the cotangent as a kernel, `n` and `ci` exchanged, and strides become dilation.
/// # Numerics
/// The evaluator sums floats in `f64` and rounds once; compiled code sums in the dtype in an order fixed by the shape.
/// Integers wrap. A product of padding with a weight that is not finite is left out or NaN; which of them is not part of the
/// operation's meaning.
/// # Errors
/// Different dtypes; bool or complex operands; a rank that does not fit; batch dims or channels that are not provably equal;
/// strides and dilations of 0. A window larger than the padded operand is legal and gives no places.
/// # Source
/// StableHLO specification, `convolution`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Convolution {
    /// How many leading dims of both operands are batch dims.
    pub batch: usize,
    /// The windows, one for each dim between `n` and the channels.
    pub windows: Windows,
}

impl Convolution {
    pub(super) fn read(r: &mut Reader) -> Result<Self, AttrError> {
        Ok(Self { batch: r.axis("batch")?, windows: window::read(r)? })
    }

    /// The number of window dims.
    pub fn spatial(&self) -> usize {
        self.windows.len()
    }

    /// The places of the window along each window dim, from the operands' shapes.
    pub fn counts(&self, lhs: &[Dim], rhs: &[Dim], facts: &Facts) -> Shape {
        let of = |(d, w): (usize, &Window)| w.count(&lhs[self.batch + 1 + d], &rhs[self.batch + d], facts);
        self.windows.iter().enumerate().map(of).collect()
    }

    /// Window dim by window dim: the base, the taps, and how many places there are.
    fn along(&self, b: &Builder, lhs: Value, rhs: Value, result: Value) -> Vec<[Dim; 3]> {
        let (first, of) = (self.batch + 1, |v: Value, d: usize| b.ty(v).shape[d].clone());
        (0..self.spatial()).map(|d| [of(lhs, first + d), of(rhs, self.batch + d), of(result, first + d)]).collect()
    }

    fn lhs_cotangent(&self, b: &mut Builder, lhs: Value, rhs: Value, ct: Value) -> Result<Value, RuleError> {
        let along = self.along(b, lhs, rhs, ct);
        let windows = self.windows.iter().zip(&along).map(|(w, [n, k, o])| w.transposed(n, k, o, b.facts())).collect();
        let axes: SmallVec<[usize; 4]> = (self.batch..self.batch + self.spatial()).collect();
        let mut kernel = rhs;
        if !axes.is_empty() {
            kernel = b.op(Reverse { axes }.into(), &[rhs])?;
        }
        let kernel = b.transpose(kernel, &swapped(b.ty(rhs).rank(), b.ty(rhs).rank() - 2, b.ty(rhs).rank() - 1))?;
        Ok(b.op(Self { batch: self.batch, windows }.into(), &[ct, kernel])?)
    }

    fn rhs_cotangent(&self, b: &mut Builder, lhs: Value, rhs: Value, ct: Value) -> Result<Value, RuleError> {
        let along = self.along(b, lhs, rhs, ct);
        let windows = self.windows.iter().zip(&along).map(|(w, [n, k, o])| w.exchanged(n, k, o, b.facts())).collect();
        // Channels are what there are many of, and examples are what is summed over.
        let (rank, first) = (b.ty(lhs).rank(), self.batch);
        let base = b.transpose(lhs, &swapped(rank, first, rank - 1))?;
        // [b…, n, windows…, co] becomes [b…, windows…, n, co], and [b…, ci, taps…, co] the kernel's layout.
        let inward: Vec<usize> = (0..first).chain(first + 1..rank - 1).chain([first, rank - 1]).collect();
        let kernel = b.transpose(ct, &inward)?;
        let out = b.op(Self { batch: self.batch, windows }.into(), &[base, kernel])?;
        Ok(b.transpose(out, &inward)?)
    }

    /// The sizes of an evaluation and the element type's sums of products.
    fn sums<T: Copy>(
        &self,
        cx: &EvalCx<'_>,
        [lhs, rhs]: [&Array; 2],
        [x, y]: [&[T]; 2],
        zero: T,
        add_product: impl Fn(T, T, T) -> T,
    ) -> Result<(Sizes, Vec<T>), EvalError> {
        let (nb, s) = (self.batch, self.spatial());
        let (xs, ys) = (lhs.shape(), rhs.shape());
        let (base, taps) = (&xs[nb + 1..nb + 1 + s], &ys[nb..nb + s]);
        let (n, ci, co) = (xs[nb], xs[nb + 1 + s], ys[nb + s + 1]);
        let (mut low, mut places) = (Vec::new(), Sizes::new());
        for (d, w) in self.windows.iter().enumerate() {
            let known = Window { padding: (cx.dim(&w.padding.0)?.into(), cx.dim(&w.padding.1)?.into()), ..w.clone() };
            low.push(cx.dim(&w.padding.0)?);
            places.push(cx.size(&known.count(&base[d].into(), &taps[d].into(), &Facts::default()))?);
        }
        let shape: Sizes = xs[..=nb].iter().chain(&places).chain([&co]).copied().collect();
        let batch: usize = xs[..nb].iter().product();
        let [base_count, tap_count, place_count] = [base, taps, &places].map(|sizes| sizes.iter().product::<usize>());
        let mut out = vec![zero; shape.iter().product()];
        if out.is_empty() {
            return Ok((shape, out));
        }
        for place in 0..place_count {
            let at = walk::unravel(place, &places);
            // Which taps see an element at this place, and which element.
            let seen: Vec<(usize, usize)> = (0..tap_count)
                .filter_map(|tap| {
                    let index = walk::unravel(tap, taps);
                    let element = (0..s).try_fold(0, |flat, d| {
                        Some(flat * base[d] + self.windows[d].place(low[d], base[d], at[d], index[d])?)
                    })?;
                    Some((tap, element))
                })
                .collect();
            for example in 0..batch * n {
                let row = &mut out[(example * place_count + place) * co..][..co];
                for &(tap, element) in &seen {
                    let line = &x[(example * base_count + element) * ci..][..ci];
                    let weights = &y[(example / n * tap_count + tap) * ci * co..][..ci * co];
                    for (&x, weights) in line.iter().zip(weights.chunks_exact(co)) {
                        row.iter_mut().zip(weights).for_each(|(r, &w)| *r = add_product(*r, x, w));
                    }
                }
            }
        }
        Ok((shape, out))
    }
}

/// The identity permutation with two dims exchanged.
fn swapped(rank: usize, a: usize, b: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(a, b);
    perm
}

impl Operation for Convolution {
    fn name(&self) -> &str {
        "convolution"
    }

    fn attrs(&self) -> Attrs {
        window::attrs(Attrs::new().with_int("batch", self.batch), &self.windows)
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
        let rank = self.batch.saturating_add(self.spatial()).saturating_add(2);
        for (i, ty) in operands.iter().enumerate() {
            if ty.rank() != rank {
                return Err(Rule::new(
                    format!(
                        "{} batch and {} window dims make {rank} dims, and operand {i} has {}",
                        self.batch,
                        self.spatial(),
                        ty.rank()
                    ),
                    "reshape or broadcast the operand",
                ));
            }
        }
        window::check(&self.windows)?;
        for d in 0..self.batch {
            check_equal("batch dims", &x.shape[d], &y.shape[d], facts)?;
        }
        check_equal("channels", &x.shape[rank - 1], &y.shape[rank - 2], facts)?;
        let mut shape: Shape = x.shape[..=self.batch].iter().cloned().collect();
        shape.extend(self.counts(&x.shape, &y.shape, facts));
        shape.push(y.shape[rank - 1].clone());
        one(Type { dtype: x.dtype, shape: check_sound(shape)? })
    }

    fn eval(&self, cx: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        let arrays = [operands[0], operands[1]];
        let dtype = arrays[0].dtype();
        let literals = |a: &Array| (0..a.len()).filter_map(|i| a.data().get(i)).collect::<Vec<Literal>>();
        let (shape, data) = if dtype.is_float() {
            let [x, y] = arrays.map(|a| literals(a).iter().map(Literal::to_f64).collect::<Vec<f64>>());
            let (shape, sums) = self.sums(cx, arrays, [&x, &y], 0.0, |sum, x, y| sum + x * y)?;
            (shape, of_literals(dtype, sums.into_iter().map(|v| Literal::from_f64(dtype, v))))
        } else {
            let [x, y] = arrays.map(|a| literals(a).into_iter().map(|l| l.bits()[0]).collect::<Vec<u64>>());
            let add = |sum: u64, x: u64, y: u64| sum.wrapping_add(x.wrapping_mul(y));
            let (shape, sums) = self.sums(cx, arrays, [&x, &y], 0, add)?;
            (shape, of_literals(dtype, sums.into_iter().map(|v| Literal::from_bits(dtype, [v, 0]))))
        };
        Ok(SmallVec::from_iter([Array::from_data(&shape, data)?]))
    }

    fn linearize(&self, b: &mut Builder, at: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
        let op = |b: &mut Builder, x: Value, y: Value| b.op(self.clone().into(), &[x, y]);
        let left = tangents[0].map(|t| op(b, t, at.operands[1])).transpose()?;
        let right = tangents[1].map(|t| op(b, at.operands[0], t)).transpose()?;
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
            [true, false] => Ok([Some(self.lhs_cotangent(b, x, y, ct)?), None].into_iter().collect()),
            [false, true] => Ok([None, Some(self.rhs_cotangent(b, x, y, ct)?)].into_iter().collect()),
            _ => Err(RuleError::Missing("`convolution` of two linear operands has no transpose".to_owned())),
        }
    }

    fn batch(
        &self,
        b: &mut Builder,
        operands: &[Value],
        batched: &[bool],
        size: &Dim,
    ) -> Result<SmallVec<[Value; 1]>, RuleError> {
        let (x, y) = (operands[0], operands[1]);
        if batched[0] && batched[1] {
            let op = Self { batch: self.batch + 1, windows: self.windows.clone() };
            return Ok(SmallVec::from_iter([b.op(op.into(), &[x, y])?]));
        }
        // One operand alone: its batch dim becomes part of `n`, or of the channels that come out.
        let (at, last) = (self.batch, self.batch + self.spatial() + 1);
        let (merged, at) = if batched[0] { (at, at) } else { (last, last) };
        let operand = if batched[0] { x } else { y };
        let inner = b.transpose(operand, &moved(b.ty(operand).rank(), 0, merged))?;
        let mut shape = b.ty(inner).shape.clone();
        let own = shape.remove(merged + 1);
        shape[merged] = size * &own;
        let inner = b.reshape(inner, &shape)?;
        let operands = if batched[0] { [inner, y] } else { [x, inner] };
        let out = b.op(self.clone().into(), &operands)?;
        let mut shape = b.ty(out).shape.clone();
        shape[at] = own;
        shape.insert(at, size.clone());
        let out = b.reshape(out, &shape)?;
        Ok(SmallVec::from_iter([b.transpose(out, &moved(shape.len(), at, 0))?]))
    }

    fn lowering(&self) -> Lowering<'_> {
        Lowering::Convolve(self)
    }
}

/// The permutation that takes the dim `from` to the place `to` and leaves the others in order.
fn moved(rank: usize, from: usize, to: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).filter(|&d| d != from).collect();
    perm.insert(to, from);
    perm
}

fn of_literals(dtype: crate::DType, values: impl ExactSizeIterator<Item = Literal>) -> Data {
    let mut data = Data::zeros(dtype, values.len());
    for (i, l) in values.enumerate() {
        data.set(i, l);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::super::slice::testing::*;
    use super::*;
    use crate::DType;
    use crate::facts::Fact;
    use smallvec::smallvec;

    fn window(stride: usize, low: i64, high: i64, base_dilation: usize, window_dilation: usize) -> Window {
        Window { stride, padding: (low.into(), high.into()), base_dilation, window_dilation }
    }

    fn of(batch: usize, windows: &[Window]) -> Convolution {
        Convolution { batch, windows: windows.into() }
    }

    /// The result by the definition: over every place, tap and channel, with an operand that is there or not.
    fn by_definition(op: &Convolution, x: &Array, y: &Array) -> Array {
        let shape = run(op, &[x, y]).shape().to_vec();
        let (nb, s) = (op.batch, op.spatial());
        let (xv, yv) = (x.as_slice::<f64>().unwrap(), y.as_slice::<f64>().unwrap());
        let flat = |shape: &[usize], index: &[usize]| index.iter().zip(shape).fold(0, |at, (i, n)| at * n + i);
        let mut out = Vec::new();
        for position in 0..shape.iter().product() {
            let o = walk::unravel(position, &shape);
            let mut sum = 0.0;
            for (p, weight) in yv.iter().enumerate() {
                // An element of the kernel: batch, taps, and the two channels.
                let w = walk::unravel(p, y.shape());
                if w[..nb] != o[..nb] || w[nb + s + 1] != o[nb + s + 1] {
                    continue;
                }
                let mut at = o[..=nb].to_vec();
                for (d, win) in op.windows.iter().enumerate() {
                    let low = win.padding.0.as_const().unwrap();
                    let q = (o[nb + 1 + d] * win.stride + w[nb + d] * win.window_dilation) as i64 - low;
                    let e = win.base_dilation as i64;
                    let inside = q >= 0 && q % e == 0 && q / e < x.shape()[nb + 1 + d] as i64;
                    at.push(if inside { (q / e) as usize } else { usize::MAX });
                }
                at.push(w[nb + s]);
                if !at.contains(&usize::MAX) {
                    sum += xv[flat(x.shape(), &at)] * weight;
                }
            }
            out.push(sum);
        }
        Array::new(&shape, out).unwrap()
    }

    /// Operations with shapes of operands.
    fn cases() -> Vec<(Convolution, Vec<usize>, Vec<usize>)> {
        vec![
            (of(0, &[]), vec![2, 3], vec![3, 2]),
            (of(0, &[window(1, 0, 0, 1, 1)]), vec![2, 5, 2], vec![3, 2, 3]),
            (of(0, &[window(2, 1, 2, 1, 2)]), vec![1, 6, 2], vec![3, 2, 1]),
            (of(0, &[window(3, 2, 0, 2, 1)]), vec![2, 4, 1], vec![2, 1, 2]),
            (of(0, &[window(2, 3, -1, 3, 2)]), vec![1, 5, 1], vec![4, 1, 1]),
            (of(0, &[window(1, -2, -1, 1, 1)]), vec![1, 6, 1], vec![2, 1, 1]),
            (of(0, &[window(1, 1, 0, 1, 1), window(2, 0, 1, 1, 1)]), vec![2, 3, 4, 2], vec![2, 3, 2, 2]),
            (of(1, &[window(2, 1, 1, 1, 1)]), vec![3, 2, 5, 1], vec![3, 3, 1, 2]),
            (of(2, &[window(1, 0, 0, 1, 1)]), vec![2, 1, 1, 3, 2], vec![2, 1, 2, 2, 1]),
            // A window larger than the padded operand, taps of size 0, and nothing to convolve.
            (of(0, &[window(1, 0, 0, 1, 1)]), vec![1, 2, 1], vec![4, 1, 1]),
            (of(0, &[window(1, 0, 0, 1, 1)]), vec![1, 2, 1], vec![0, 1, 1]),
            (of(0, &[window(1, 2, 1, 2, 1)]), vec![1, 0, 1], vec![2, 1, 1]),
            (of(0, &[window(1, 0, 0, 1, 1)]), vec![0, 3, 2], vec![2, 2, 1]),
            (of(0, &[window(1, 0, 0, 1, 1)]), vec![1, 3, 0], vec![2, 0, 2]),
        ]
    }

    #[test]
    fn sums_products_over_windows() {
        let x = floats(&[1, 4, 1], &[1., 2., 3., 4.]);
        let k = floats(&[2, 1, 1], &[10., 1.]);
        assert_eq!(run(&of(0, &[window(1, 0, 0, 1, 1)]), &[&x, &k]), floats(&[1, 3, 1], &[12., 23., 34.]));
        assert_eq!(run(&of(0, &[window(2, 1, 0, 1, 1)]), &[&x, &k]), floats(&[1, 2, 1], &[1., 23.]));
        assert_eq!(run(&of(0, &[window(1, 0, 0, 1, 3)]), &[&x, &k]), floats(&[1, 1, 1], &[14.]));
        let spread = of(0, &[window(1, 1, 1, 2, 1)]);
        assert_eq!(run(&spread, &[&x, &k]), floats(&[1, 8, 1], &[1., 10., 2., 20., 3., 30., 4., 40.]));
    }

    #[test]
    fn the_result_is_the_definitions() {
        for (op, x, y) in cases() {
            let (x, y) = (counting(&x), counting(&y));
            assert_eq!(run(&op, &[&x, &y]), by_definition(&op, &x, &y), "{op:?}");
        }
    }

    #[test]
    fn rules_agree_with_the_definition() {
        for (op, x, y) in cases() {
            let args = [counting(&x), counting(&y)];
            for which in [[true, false], [false, true]] {
                check_tangent(&op, &args, &which);
                check_transpose(&op, &args, &which);
            }
            let with = |shape: &[usize]| [&[2], shape].concat();
            check_batch(&op, &[counting(&with(&x)), counting(&with(&y))], &[true, true]);
            check_batch(&op, &[counting(&with(&x)), counting(&y)], &[true, false]);
            check_batch(&op, &[counting(&x), counting(&with(&y))], &[false, true]);
        }
    }

    #[test]
    fn integers_wrap() {
        let (x, k) = (Array::new(&[1, 2, 1], vec![100u8, 200]).unwrap(), Array::new(&[2, 1, 1], vec![2u8, 3]).unwrap());
        let got = run(&of(0, &[window(1, 0, 0, 1, 1)]), &[&x, &k]);
        assert_eq!(got, Array::new(&[1, 1, 1], vec![((200 + 600) % 256) as u8]).unwrap());
        let (x, k) = (Array::new(&[1, 1], vec![-7i32]).unwrap(), Array::new(&[1, 1], vec![i32::MAX]).unwrap());
        assert_eq!(run(&of(0, &[]), &[&x, &k]), Array::new(&[1, 1], vec![i32::MAX.wrapping_mul(-7)]).unwrap());
    }

    #[test]
    fn symbolic_sizes_and_their_gradients() {
        let (n, m) = (sym("n"), sym("m"));
        let mut facts = Facts::default();
        facts.assume(Fact::ge(m.clone(), 3)).unwrap();
        for (w, plain) in
            [(window(1, 1, 1, 1, 1), true), (window(2, 0, 1, 1, 2), false), (window(1, 2, 0, 3, 1), false)]
        {
            for facts in [Facts::default(), facts.clone()] {
                let mut b = Builder::new("test");
                b.set_facts(facts);
                let kind = crate::graph::ParamKind::Input;
                let x = b.param("x", kind, Type::new(DType::F32, [n.clone(), m.clone(), 2.into()]));
                let y = b.param("y", kind, Type::new(DType::F32, [3, 2, 4]));
                let op = of(0, std::slice::from_ref(&w));
                let out = b.op(op.clone().into(), &[x, y]).unwrap();
                if plain {
                    assert_eq!(b.ty(out).shape[1], m);
                }
                let ct = b.zeros(&b.ty(out).clone()).unwrap();
                for linear in [[true, false], [false, true]] {
                    let at = At { operands: &[x, y], results: &[] };
                    let back = op.transpose(&mut b, at, &linear, &[Some(ct)]).unwrap();
                    let (i, of) = if linear[0] { (0, x) } else { (1, y) };
                    let (got, want) = (b.ty(back[i].unwrap()).clone(), b.ty(of).clone());
                    assert_eq!(got, want, "{w:?}");
                }
            }
        }
    }

    #[test]
    fn bad_operands_are_refused() {
        let f = |shape: &[usize]| Type::new(DType::F32, shape.iter().copied());
        let plain = of(0, &[window(1, 0, 0, 1, 1)]);
        let said = |op: &Convolution, x: &Type, y: &Type| refusal(op.clone(), &[x, y]);
        let (x, y) = (f(&[1, 5, 2]), f(&[3, 2, 4]));
        assert_eq!(said(&plain, &x, &Type::new(DType::F64, [3, 2, 4])), "operands must have one dtype");
        let bools = Type::new(DType::Bool, [1, 5, 2]);
        assert_eq!(said(&plain, &bools, &bools), "it takes real numbers");
        assert_eq!(said(&plain, &x, &f(&[3, 3, 2, 4])), "0 batch and 1 window dims make 3 dims, and operand 1 has 4");
        assert_eq!(said(&plain, &x, &f(&[3, 3, 4])), "channels 2 and 3 must be equal");
        assert_eq!(said(&of(1, &[]), &f(&[2, 1, 2]), &f(&[3, 2, 4])), "batch dims 2 and 3 must be equal");
        assert_eq!(said(&of(0, &[window(0, 0, 0, 1, 1)]), &x, &y), "the stride of window dim 0 is 0");
        assert_eq!(said(&of(0, &[window(1, 0, 0, 0, 1)]), &x, &y), "the base dilation of window dim 0 is 0");
        assert_eq!(said(&of(0, &[window(1, 0, 0, 1, 0)]), &x, &y), "the window dilation of window dim 0 is 0");
        let huge = window(1, i64::MAX, 0, 1, 1);
        assert!(said(&of(0, &[huge]), &x, &y).starts_with("a size of the result cannot be represented"));
        let symbolic = Window { padding: (sym("p"), Dim::ZERO), ..Window::default() };
        let ty = infer(of(0, &[symbolic]), &[&x, &y], &Facts::default()).unwrap();
        assert_eq!(ty.shape, smallvec![Dim::ONE, sym("p") + 3, Dim::from(4)] as Shape);
    }
}

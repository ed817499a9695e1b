//! Brings convolutions into forms that a target without any of its own has code for.
//!
//! - Where there is nothing to add up, the result is zeros.
//! - Holes in the operand, which the gradient of a strided convolution and a transposed one have, are not convolved over: results
//!   whose windows meet elements at the same taps form a class, and each class is a small convolution with those taps alone.
//! - What padding is left becomes a `pad` of the operand.
//! - A kernel of one tap is a matrix product, and so is one that covers the whole operand.
//! - Depthwise convolutions, with one channel a batch entry, are sums over taps of products, with batch entries innermost, and
//!   their gradients by the kernel are sums of products for each tap: elementwise kernels do both at the speed of memory.
//!
//! What stays is a convolution without padding and holes.
//! Floating-point legality: only the order of a sum changes, which its meaning leaves open, and products with padding.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Builder, Graph, Value};
use lehr_ir::ops::window::fit;
use lehr_ir::ops::{Convolution, DotDims, Op, Pad, Slice, Window};
use lehr_ir::{Literal, OpError, Shape};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Operands, Regions, provable, rewrite_nodes};

mod classes;
mod depthwise;

use classes::Classes;
use depthwise::{few_places, few_taps, sum_for_each_place, sum_of_taps};

/// The pass, also inside regions.
#[derive(Clone, Copy, Debug)]
pub struct LegalizeConvolution {
    /// Whether it does anything.
    pub active: bool,
}

impl Pass<Graph> for LegalizeConvolution {
    fn name(&self) -> &'static str {
        "legalize_convolution"
    }

    fn run(&self, graph: &Graph, cx: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
        if !self.active {
            return Ok(Outcome::Unchanged);
        }
        let concerned = |op: &Op| matches!(op, Op::Convolution(_));
        rewrite_nodes(graph, cx, &mut Regions::default(), concerned, &mut |b, node, operands, cx| {
            let Op::Convolution(op) = &node.op else { return Ok(None) };
            Ok(rewrite(b, op, operands[0], operands[1], cx)?.map(|v| Operands::from_iter([v])))
        })
    }
}

/// A convolution, brought into the forms above as far as it goes.
fn emit(b: &mut Builder, op: &Convolution, x: Value, y: Value, cx: &mut PassCx) -> Result<Value, PassError> {
    match rewrite(b, op, x, y, cx)? {
        Some(value) => Ok(value),
        None => Ok(b.op(op.clone().into(), &[x, y])?),
    }
}

/// What stands for a convolution; `None` if it stays.
fn rewrite(b: &mut Builder, op: &Convolution, x: Value, y: Value, cx: &mut PassCx) -> Result<Option<Value>, PassError> {
    if let Some(shape) = nothing(b, op, x, y)
        && cx.fuel("zeros_of_nothing")
    {
        let dtype = b.ty(x).dtype;
        return Ok(Some(b.full(Literal::zero(dtype), &shape)?));
    }
    if let Some(classes) = Classes::of(b, op, y)
        && cx.fuel("split_holes")
        && let Some(value) = provable(classes.convolve(b, op, x, y, cx))?
    {
        return Ok(Some(value));
    }
    if !op.windows.iter().all(Window::is_plain) {
        if !cx.fuel("pad_operand") {
            return Ok(None);
        }
        let (plain, x) = padded(b, op, x)?;
        return emit(b, &plain, x, y, cx).map(Some);
    }
    if has_one_tap(b, op, y) && cx.fuel("product_of_one_tap") {
        return Ok(Some(one_tap(b, op, x, y)?));
    }
    if covers(b, op, x, y) && cx.fuel("product_of_all") {
        return Ok(Some(product_of_all(b, op, x, y)?));
    }
    if let Some(taps) = few_taps(b, op, y)
        && cx.fuel("sum_of_taps")
    {
        return Ok(Some(sum_of_taps(b, op, x, y, &taps)?));
    }
    if let Some(places) = few_places(b, op, x, y)
        && cx.fuel("sum_for_each_place")
    {
        return Ok(Some(sum_for_each_place(b, op, x, y, &places)?));
    }
    Ok(None)
}

/// The result's shape, where there is nothing to add up.
fn nothing(b: &Builder, op: &Convolution, x: Value, y: Value) -> Option<Shape> {
    let (xs, ys) = (&b.ty(x).shape, &b.ty(y).shape);
    let mut shape: Shape = xs[..=op.batch].iter().cloned().collect();
    shape.extend(op.counts(xs, ys, b.facts()));
    shape.extend(ys.last().cloned());
    shape.iter().chain(xs).chain(ys).any(Dim::is_zero).then_some(shape)
}

/// The convolution over its operand with padding and holes put in.
fn padded(b: &mut Builder, op: &Convolution, x: Value) -> Result<(Convolution, Value), OpError> {
    let rank = b.ty(x).rank();
    let none: Shape = SmallVec::from_elem(Dim::ZERO, rank);
    let mut pad = Pad { low: none.clone(), high: none, interior: SmallVec::from_elem(0, rank) };
    let mut plain = op.clone();
    for (d, w) in plain.windows.iter_mut().enumerate() {
        let at = op.batch + 1 + d;
        (pad.low[at], pad.high[at]) = std::mem::take(&mut w.padding);
        pad.interior[at] = w.base_dilation - 1;
        w.base_dilation = 1;
    }
    Ok((plain, pad_behind(b, x, pad)?))
}

/// A value padded with zeros; what is transposed is padded before that, as it lies in memory.
fn pad_behind(b: &mut Builder, x: Value, pad: Pad) -> Result<Value, OpError> {
    if let Some(node) = b.graph().def_node(x)
        && let Op::Transpose(t) = &node.op
    {
        let (inner, perm, inverse) = (node.operands[0], t.perm.clone(), t.inverse());
        let dims = |list: &Shape| inverse.iter().map(|&d| list[d].clone()).collect::<Shape>();
        let pad = Pad {
            low: dims(&pad.low),
            high: dims(&pad.high),
            interior: inverse.iter().map(|&d| pad.interior[d]).collect(),
        };
        let inner = pad_behind(b, inner, pad)?;
        return b.transpose(inner, &perm);
    }
    if let Some(value) = pad_behind_reshape(b, x, &pad)? {
        return Ok(value);
    }
    let zero = Literal::zero(b.ty(x).dtype);
    if pad.interior.iter().all(|&i| i == 0) {
        return fit(b, x, &pad.low, &pad.high, zero);
    }
    let zero = b.scalar(zero);
    b.op(pad.into(), &[x, zero])
}

/// The same for what is reshaped in other dims than those that are padded, as where channels fall into groups.
fn pad_behind_reshape(b: &mut Builder, x: Value, pad: &Pad) -> Result<Option<Value>, OpError> {
    let inner = match b.graph().def_node(x) {
        Some(node) if matches!(node.op, Op::Reshape(_)) => node.operands[0],
        _ => return Ok(None),
    };
    let (from, to) = (b.ty(inner).shape.clone(), b.ty(x).shape.clone());
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let padded = |d: usize| !(pad.low[d].is_zero() && pad.high[d].is_zero() && pad.interior[d] == 0);
    if (same..to.len()).any(padded) {
        return Ok(None);
    }
    let dims = |list: &Shape| (0..from.len()).map(|d| if d < same { list[d].clone() } else { Dim::ZERO }).collect();
    let inner_pad = Pad {
        low: dims(&pad.low),
        high: dims(&pad.high),
        interior: (0..from.len()).map(|d| if d < same { pad.interior[d] } else { 0 }).collect(),
    };
    let inner = pad_behind(b, inner, inner_pad)?;
    let shape: Shape = b.ty(inner).shape[..same].iter().chain(&to[same..]).cloned().collect();
    b.reshape(inner, &shape).map(Some)
}

fn has_one_tap(b: &Builder, op: &Convolution, y: Value) -> bool {
    b.ty(y).shape[op.batch..op.batch + op.spatial()].iter().all(Dim::is_one)
}

/// A kernel of one tap: a product of channels at every place that a window takes.
fn one_tap(b: &mut Builder, op: &Convolution, x: Value, y: Value) -> Result<Value, OpError> {
    let (nb, s) = (op.batch, op.spatial());
    let shape = b.ty(x).shape.clone();
    let mut taken = Slice {
        start: SmallVec::from_elem(Dim::ZERO, shape.len()),
        limit: shape.clone(),
        stride: SmallVec::from_elem(1, shape.len()),
    };
    for (d, w) in op.windows.iter().enumerate() {
        taken.stride[nb + 1 + d] = w.stride;
    }
    let whole = taken.stride.iter().all(|&s| s == 1);
    let x = if whole { x } else { b.op(taken.into(), &[x])? };
    let mut kernel = b.ty(y).shape.clone();
    kernel.drain(nb..nb + s);
    let y = b.reshape(y, &kernel)?;
    let batch: SmallVec<[usize; 4]> = (0..nb).collect();
    let dims = DotDims {
        lhs_batch: batch.clone(),
        rhs_batch: batch,
        lhs_contract: [nb + 1 + s].as_slice().into(),
        rhs_contract: [nb].as_slice().into(),
    };
    b.dot(x, y, dims)
}

/// Whether the one window takes in the whole operand along every dim.
fn covers(b: &Builder, op: &Convolution, x: Value, y: Value) -> bool {
    let (xs, ys) = (&b.ty(x).shape, &b.ty(y).shape);
    let counts = op.counts(xs, ys, b.facts());
    op.windows.iter().enumerate().all(|(d, w)| {
        let same = b.facts().decide_eq(&xs[op.batch + 1 + d], &ys[op.batch + d]) == Some(true);
        counts[d].is_one() && w.window_dilation == 1 && same
    })
}

/// A window over everything: a product of all places and channels at once.
fn product_of_all(b: &mut Builder, op: &Convolution, x: Value, y: Value) -> Result<Value, OpError> {
    let (nb, s) = (op.batch, op.spatial());
    let mut shape: Shape = b.ty(x).shape[..=nb].iter().cloned().collect();
    shape.extend(std::iter::repeat_n(Dim::ONE, s));
    shape.extend(b.ty(y).shape.last().cloned());
    let batch: SmallVec<[usize; 4]> = (0..nb).collect();
    let dims = DotDims {
        lhs_batch: batch.clone(),
        rhs_batch: batch,
        lhs_contract: (nb + 1..nb + s + 2).collect(),
        rhs_contract: (nb..nb + s + 1).collect(),
    };
    let product = b.dot(x, y, dims)?;
    b.reshape(product, &shape)
}

/// Every index into a shape, in row-major order.
fn indices(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let count: usize = sizes.iter().product();
    (0..count).map(move |i| lehr_ir::eval::walk::unravel(i, sizes).to_vec())
}

fn static_dims(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|d| usize::try_from(d.as_const()?).ok()).collect()
}

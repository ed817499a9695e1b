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
use lehr_ir::ops::window::{Taps, fit};
use lehr_ir::ops::{Concat, Convolution, DotDims, Op, Pad, Slice, Window, Windows};
use lehr_ir::{Literal, OpError, Shape};
use smallvec::SmallVec;

use crate::pass::{Outcome, Pass, PassCx, PassError};
use crate::rebuild::{Rebuild, Regions};

/// The most terms of a sum that is written out.
const MOST_TERMS: usize = 64;

/// The most small convolutions that one becomes.
const MOST_CLASSES: usize = 64;

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
        if self.active { legalize(graph, cx, &mut Regions::default()) } else { Ok(Outcome::Unchanged) }
    }
}

fn legalize(graph: &Graph, cx: &mut PassCx, regions: &mut Regions) -> Result<Outcome<Graph>, PassError> {
    let concerned = |op: &Op| matches!(op, Op::Convolution(_)) || !op.regions().is_empty();
    if !graph.nodes().any(|(_, n)| concerned(&n.op)) {
        return Ok(Outcome::Unchanged);
    }
    let mut changed = false;
    let mut new = Rebuild::new(graph);
    for (_, node) in graph.nodes() {
        if let Op::Convolution(op) = &node.op {
            let operands = new.operands(node);
            new.at(node);
            // Sizes that fit and are not provably so leave the node as it is.
            let found = provable(rewrite(&mut new.b, op, operands[0], operands[1], cx))?.flatten();
            if let Some(value) = found.filter(|&v| new.b.ty(v) == graph.ty(node.result())) {
                changed = true;
                new.set_value(node.result(), value);
                continue;
            }
        }
        match regions.map(&node.op, &mut |body, regions| legalize(body, cx, regions))? {
            Some(op) => {
                changed = true;
                new.copy_as(node, op);
            }
            None => {
                new.copy(node);
            }
        }
    }
    Ok(Outcome::when(changed, new.finish()))
}

/// What was made; `None` where an operation was refused, since it cannot be shown that sizes fit.
pub(crate) fn provable<T>(made: Result<T, PassError>) -> Result<Option<T>, PassError> {
    match made {
        Ok(value) => Ok(Some(value)),
        Err(PassError::Op(_)) => Ok(None),
        Err(e) => Err(e),
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

/// How the results of a convolution over holes fall into classes, window dim by window dim.
struct Classes {
    dims: Vec<Vec<Class>>,
}

/// The results `classes * t + r` for all `t`, along one dim.
#[derive(Clone)]
struct Class {
    /// The first tap that meets elements.
    first: usize,
    /// The distance to the next one.
    step: usize,
    /// How many there are.
    taps: usize,
    /// The windows over elements; padding after them is set when the sizes are known.
    window: Window,
}

impl Classes {
    /// The classes; `None` for a convolution without holes, and where what decides is not known or there would be too many.
    fn of(b: &Builder, op: &Convolution, y: Value) -> Option<Self> {
        if op.windows.iter().all(|w| w.base_dilation == 1) {
            return None;
        }
        let taps = static_dims(&b.ty(y).shape[op.batch..op.batch + op.spatial()])?;
        let dims = op.windows.iter().zip(taps).map(|(w, k)| along(w, k)).collect::<Option<Vec<_>>>()?;
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.len()))?;
        (count <= MOST_CLASSES).then_some(Self { dims })
    }

    fn convolve(
        &self,
        b: &mut Builder,
        op: &Convolution,
        x: Value,
        y: Value,
        cx: &mut PassCx,
    ) -> Result<Value, PassError> {
        let (nb, s) = (op.batch, op.spatial());
        let (xs, ys) = (b.ty(x).shape.clone(), b.ty(y).shape.clone());
        let counts = op.counts(&xs, &ys, b.facts());
        let sizes: Vec<usize> = self.dims.iter().map(Vec::len).collect();
        // Every class has as many results; what is too many is cut off in the end.
        let each: Shape = counts.iter().zip(&sizes).map(|(o, &c)| o.ceildiv(c)).collect();
        let mut part: Shape = xs[..=nb].iter().cloned().collect();
        part.extend(each.iter().cloned());
        part.push(Dim::ONE);
        part.extend(ys.last().cloned());
        let chosen = |index: &[usize]| index.iter().zip(&self.dims).map(|(&i, d)| &d[i]).collect::<Vec<&Class>>();
        let around = |b: &Builder, classes: &[&Class]| -> Vec<(Dim, Dim)> {
            let of = |(d, class): (usize, &&Class)| {
                let reach = class.window.reach(&class.taps.into(), b.facts());
                let needed = (&each[d] - 1) * Dim::from(class.window.stride) + reach;
                let low = class.window.padding.0.clone();
                let high = needed - &low - &xs[nb + 1 + d];
                (low, high)
            };
            classes.iter().enumerate().map(of).collect()
        };
        let all: Vec<Vec<(Dim, Dim)>> = indices(&sizes).map(|i| around(b, &chosen(&i))).collect();
        // Classes without taps are zeros, whatever lies around them.
        let met = indices(&sizes).zip(&all).filter(|(i, _)| chosen(i).iter().all(|c| c.taps > 0)).map(|(_, p)| p);
        let shared = Shared::new(b, x, nb, s, met)?;
        let mut parts = Vec::new();
        for (index, padding) in indices(&sizes).zip(&all) {
            let classes = chosen(&index);
            let value = if classes.iter().any(|c| c.taps == 0) {
                let mut shape = part.clone();
                shape.remove(nb + 1 + s);
                let dtype = b.ty(x).dtype;
                b.full(Literal::zero(dtype), &shape)?
            } else {
                let kernel = take_taps(b, y, nb, &classes)?;
                let (base, padding) = shared.for_class(x, padding);
                let with = |(class, padding): (&&Class, (Dim, Dim))| Window { padding, ..class.window.clone() };
                let windows = classes.iter().zip(padding).map(with).collect();
                emit(b, &Convolution { batch: nb, windows }, base, kernel, cx)?
            };
            parts.push(b.reshape(value, &part)?);
        }
        Ok(interleave(b, &parts, nb + 1, &sizes, &counts)?)
    }
}

/// An operand with as much padding as any class needs, so that classes cut off what is too much rather than pad each for itself.
struct Shared {
    padded: Option<(Value, Vec<(i64, i64)>)>,
}

impl Shared {
    /// `all` is the padding of each class. Nothing is shared where amounts are not known.
    fn new<'a>(
        b: &mut Builder,
        x: Value,
        batch: usize,
        spatial: usize,
        all: impl Iterator<Item = &'a Vec<(Dim, Dim)>>,
    ) -> Result<Self, OpError> {
        let known = |class: &Vec<(Dim, Dim)>| {
            class.iter().map(|(l, h)| Some((l.as_const()?, h.as_const()?))).collect::<Option<Vec<_>>>()
        };
        let Some(all) = all.map(known).collect::<Option<Vec<_>>>() else { return Ok(Self { padded: None }) };
        let mut most = vec![(0, 0); spatial];
        for class in &all {
            for (most, class) in most.iter_mut().zip(class) {
                *most = (most.0.max(class.0), most.1.max(class.1));
            }
        }
        if most.iter().all(|&m| m == (0, 0)) {
            return Ok(Self { padded: None });
        }
        let rank = b.ty(x).rank();
        let none: Shape = SmallVec::from_elem(Dim::ZERO, rank);
        let mut pad = Pad { low: none.clone(), high: none, interior: SmallVec::from_elem(0, rank) };
        for (d, &(low, high)) in most.iter().enumerate() {
            (pad.low[batch + 1 + d], pad.high[batch + 1 + d]) = (low.into(), high.into());
        }
        let padded = pad_behind(b, x, pad)?;
        Ok(Self { padded: Some((padded, most)) })
    }

    /// The operand for a class, and its padding there; a class that needs none takes the operand as it is.
    fn for_class(&self, x: Value, padding: &[(Dim, Dim)]) -> (Value, Vec<(Dim, Dim)>) {
        let grows = |d: &Dim| d.as_const().is_none_or(|d| d > 0);
        match &self.padded {
            Some((padded, most)) if padding.iter().any(|(low, high)| grows(low) || grows(high)) => {
                let left = padding.iter().zip(most).map(|((l, h), &(ml, mh))| (l - ml, h - mh)).collect();
                (*padded, left)
            }
            _ => (x, padding.to_vec()),
        }
    }
}

/// The classes along one dim.
fn along(w: &Window, taps: usize) -> Option<Vec<Class>> {
    let holes = w.base_dilation;
    if holes == 1 {
        return Some(vec![Class { first: 0, step: 1, taps, window: w.clone() }]);
    }
    let low = w.padding.0.as_const()?;
    let int = |n: usize| i64::try_from(n).ok();
    let (h, g) = (gcd(w.stride, holes), gcd(w.window_dilation, holes));
    let (e, s, d) = (int(holes)?, int(w.stride)?, int(w.window_dilation)?);
    let step = holes / g;
    let mut out = Vec::new();
    for r in 0..holes / h {
        let place = |tap: usize| int(r)?.checked_mul(s)?.checked_add(int(tap)?.checked_mul(d)?)?.checked_sub(low);
        let mut first = None;
        for tap in 0..step.min(taps) {
            if place(tap)?.rem_euclid(e) == 0 {
                first = Some((tap, -place(tap)? / e));
                break;
            }
        }
        let (first, low) = first.unwrap_or((taps, 0));
        let window = Window {
            stride: w.stride / h,
            padding: (low.into(), Dim::ZERO),
            base_dilation: 1,
            window_dilation: w.window_dilation / g,
        };
        out.push(Class { first, step, taps: (taps - first).div_ceil(step), window });
    }
    Some(out)
}

/// The taps of a kernel that the classes meet.
fn take_taps(b: &mut Builder, y: Value, first_dim: usize, classes: &[&Class]) -> Result<Value, OpError> {
    if classes.iter().all(|c| c.first == 0 && c.step == 1) {
        return Ok(y);
    }
    let shape = b.ty(y).shape.clone();
    let mut op = Slice {
        start: SmallVec::from_elem(Dim::ZERO, shape.len()),
        limit: shape.clone(),
        stride: SmallVec::from_elem(1, shape.len()),
    };
    for (d, class) in classes.iter().enumerate() {
        op.start[first_dim + d] = class.first.into();
        op.stride[first_dim + d] = class.step;
    }
    b.op(op.into(), &[y])
}

/// Results of classes, each with a dim of size 1 before the channels, put in turn along the dims from `first` on.
fn interleave(
    b: &mut Builder,
    parts: &[Value],
    first: usize,
    classes: &[usize],
    counts: &[Dim],
) -> Result<Value, OpError> {
    let s = classes.len();
    let all = if parts.len() == 1 { parts[0] } else { b.op(Concat { axis: first + s }.into(), parts)? };
    let mut shape = b.ty(all).shape.clone();
    let channels = shape[first + s + 1].clone();
    shape.truncate(first + s);
    let each: Shape = shape[first..].into();
    shape.extend(classes.iter().map(|&c| Dim::from(c)));
    shape.push(channels.clone());
    let all = b.reshape(all, &shape)?;
    let pairs = (0..s).flat_map(|d| [first + d, first + s + d]);
    let perm: Vec<usize> = (0..first).chain(pairs).chain([first + 2 * s]).collect();
    let all = b.transpose(all, &perm)?;
    shape.truncate(first);
    shape.extend(each.iter().zip(classes).map(|(n, &c)| n * Dim::from(c)));
    shape.push(channels);
    let all = b.reshape(all, &shape)?;
    let none: Shape = SmallVec::from_elem(Dim::ZERO, shape.len());
    let mut high = none.clone();
    for d in 0..s {
        high[first + d] = &counts[d] - &shape[first + d];
    }
    let zero = Literal::zero(b.ty(all).dtype);
    fit(b, all, &none, &high, zero)
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

/// The taps of a depthwise convolution that is worth writing out.
fn few_taps(b: &Builder, op: &Convolution, y: Value) -> Option<Vec<usize>> {
    let shape = &b.ty(y).shape;
    let taps = static_dims(&shape[op.batch..op.batch + op.spatial()])?;
    let [ci, co] = static_dims(&shape[op.batch + op.spatial()..])?.try_into().ok()?;
    let terms = taps.iter().try_fold(ci, |n, &k| n.checked_mul(k))?;
    let one_channel = ci.min(co) == 1;
    (op.batch > 0 && one_channel && (1..=MOST_TERMS).contains(&terms)).then_some(taps)
}

/// The sum over taps and channels of what a tap sees times its weight, batch entries innermost.
fn sum_of_taps(b: &mut Builder, op: &Convolution, x: Value, y: Value, taps: &[usize]) -> Result<Value, OpError> {
    let (nb, s) = (op.batch, op.spatial());
    let counts = op.counts(&b.ty(x).shape, &b.ty(y).shape, b.facts());
    let kernel = b.ty(y).shape.clone();
    let [ci, co] = [nb + s, nb + s + 1].map(|d| kernel[d].as_const().unwrap_or(1));
    // [n, places…, b…, ci], and for each term the weights [b…, co].
    let outward: Vec<usize> = (nb..=nb + s).chain(0..nb).chain([nb + s + 1]).collect();
    let base = b.transpose(x, &outward)?;
    let dims: Vec<usize> = (1..=s).collect();
    let seen = Taps::new(b, base, &dims, &op.windows, taps, &counts, Literal::zero(b.ty(x).dtype))?;
    let inward: Vec<usize> = (nb..=nb + s).chain(0..nb).chain([nb + s + 1]).collect();
    let weights = b.transpose(y, &inward)?;
    let mut whole: Shape = b.ty(base).shape[..1].iter().chain(&counts).cloned().collect();
    whole.extend(kernel[..nb].iter().cloned());
    // Where one channel comes out, batch entries are the innermost dim.
    if co != 1 {
        whole.push(co.into());
    }
    // It starts from 0, as every sum does, which turns one of −0 alone into 0.
    let mut sum = b.full(Literal::zero(b.ty(x).dtype), &whole)?;
    for index in indices(taps) {
        let tap = seen.at(b, &index)?;
        for c in 0..ci {
            let value = at(b, tap, &[(b.ty(tap).rank() - 1, c)])?;
            let places: Vec<(usize, i64)> = index.iter().map(|&w| w as i64).chain([c]).enumerate().collect();
            let mut weight = at(b, weights, &places)?;
            if co == 1 {
                weight = at(b, weight, &[(nb, 0)])?;
            }
            let rank = whole.len();
            let value = b.broadcast(value, &whole, &(0..=s + nb).collect::<Vec<_>>())?;
            let weight = b.broadcast(weight, &whole, &(1 + s..rank).collect::<Vec<_>>())?;
            let product = b.mul(value, weight)?;
            sum = b.add(sum, product)?;
        }
    }
    whole.truncate(1 + s + nb);
    whole.push(co.into());
    let sum = b.reshape(sum, &whole)?;
    let back: Vec<usize> = (1 + s..1 + s + nb).chain(0..=s).chain([1 + s + nb]).collect();
    b.transpose(sum, &back)
}

/// The places of a depthwise kernel gradient that is worth writing out: few of them, each over a large window.
fn few_places(b: &Builder, op: &Convolution, x: Value, y: Value) -> Option<Vec<usize>> {
    let (xs, ys) = (&b.ty(x).shape, &b.ty(y).shape);
    let places = static_dims(&op.counts(xs, ys, b.facts()))?;
    let [n, co] = static_dims(&[xs[op.batch].clone(), ys.last()?.clone()])?.try_into().ok()?;
    let terms = places.iter().try_fold(n, |n, &k| n.checked_mul(k))?;
    (op.batch > 0 && n.min(co) == 1 && (1..=MOST_TERMS).contains(&terms)).then_some(places)
}

/// For each place, the sum of products of all that its window takes in with the whole kernel, batch entries innermost.
fn sum_for_each_place(
    b: &mut Builder,
    op: &Convolution,
    x: Value,
    y: Value,
    places: &[usize],
) -> Result<Value, OpError> {
    let (nb, s) = (op.batch, op.spatial());
    let (xs, ys) = (b.ty(x).shape.clone(), b.ty(y).shape.clone());
    let (n, co) = (xs[nb].as_const().unwrap_or(1), ys[nb + s + 1].as_const().unwrap_or(1));
    // [n, ci, base…, b…] and [ci, taps…, b…, co].
    let outward: Vec<usize> = [nb, nb + s + 1].into_iter().chain(nb + 1..=nb + s).chain(0..nb).collect();
    let base = b.transpose(x, &outward)?;
    let inward: Vec<usize> = [nb + s].into_iter().chain(nb..nb + s).chain(0..nb).chain([nb + s + 1]).collect();
    let mut kernel = b.transpose(y, &inward)?;
    if co == 1 {
        kernel = at(b, kernel, &[(1 + s + nb, 0)])?;
    }
    // A place of the kernel over the base is a tap of windows as many as the kernel has taps.
    let windows: Windows = op
        .windows
        .iter()
        .map(|w| Window { stride: w.window_dilation, window_dilation: w.stride, ..Window::default() })
        .collect();
    let dims: Vec<usize> = (2..2 + s).collect();
    let zero = Literal::zero(b.ty(x).dtype);
    let seen = Taps::new(b, base, &dims, &windows, places, &ys[nb..nb + s], zero)?;
    let whole = b.ty(kernel).shape.clone();
    // Places are summed first, and then what may be many examples, so that there is work for several threads.
    let summed: Vec<usize> = (1..=s).collect();
    let mut parts: Vec<Vec<Value>> = vec![Vec::new(); n as usize];
    for index in indices(places) {
        let tap = seen.at(b, &index)?;
        for (c, parts) in (0..n).zip(&mut parts) {
            let value = at(b, tap, &[(0, c)])?;
            let value = b.broadcast(value, &whole, &(0..=s + nb).collect::<Vec<_>>())?;
            let product = b.mul(value, kernel)?;
            let sum = b.sum(product, &summed)?;
            let mut row = b.ty(sum).shape.clone();
            row.insert(0, Dim::ONE);
            parts.push(b.reshape(sum, &row)?);
        }
    }
    let parts: Vec<Value> = parts.into_iter().flatten().collect();
    let all = if parts.len() == 1 { parts[0] } else { b.op(Concat { axis: 0 }.into(), &parts)? };
    let all = b.sum(all, &[1])?;
    let mut shape: Shape = [n.into()].into_iter().chain(places.iter().map(|&p| p.into())).collect();
    shape.extend(xs[..nb].iter().cloned());
    shape.push(co.into());
    let all = b.reshape(all, &shape)?;
    let back: Vec<usize> = (1 + s..1 + s + nb).chain(0..=s).chain([1 + s + nb]).collect();
    b.transpose(all, &back)
}

/// The value at some places of some dims, which disappear.
fn at(b: &mut Builder, x: Value, places: &[(usize, i64)]) -> Result<Value, OpError> {
    let shape = b.ty(x).shape.clone();
    let mut op = Slice {
        start: SmallVec::from_elem(Dim::ZERO, shape.len()),
        limit: shape.clone(),
        stride: SmallVec::from_elem(1, shape.len()),
    };
    for &(d, place) in places {
        (op.start[d], op.limit[d]) = (place.into(), (place + 1).into());
    }
    let part = b.op(op.into(), &[x])?;
    let left: Shape =
        (0..shape.len()).filter(|d| places.iter().all(|(p, _)| p != d)).map(|d| shape[d].clone()).collect();
    b.reshape(part, &left)
}

/// Every index into a shape, in row-major order.
fn indices(sizes: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let count: usize = sizes.iter().product();
    (0..count).map(move |i| lehr_ir::eval::walk::unravel(i, sizes).to_vec())
}

fn static_dims(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|d| usize::try_from(d.as_const()?).ok()).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

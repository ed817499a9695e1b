//! Convolutions with one channel a batch entry, as sums of products with batch entries innermost.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Builder, Value};
use lehr_ir::ops::window::Taps;
use lehr_ir::ops::{Concat, Convolution, Slice, Window, Windows};
use lehr_ir::{Literal, OpError, Shape};
use smallvec::SmallVec;

use super::{indices, static_dims};

/// The most terms of a sum that is written out.
const MOST_TERMS: usize = 64;

/// The taps of a depthwise convolution that is worth writing out.
pub(super) fn few_taps(b: &Builder, op: &Convolution, y: Value) -> Option<Vec<usize>> {
    let shape = &b.ty(y).shape;
    let taps = static_dims(&shape[op.batch..op.batch + op.spatial()])?;
    let [ci, co] = static_dims(&shape[op.batch + op.spatial()..])?.try_into().ok()?;
    let terms = taps.iter().try_fold(ci, |n, &k| n.checked_mul(k))?;
    let one_channel = ci.min(co) == 1;
    (op.batch > 0 && one_channel && (1..=MOST_TERMS).contains(&terms)).then_some(taps)
}

/// The sum over taps and channels of what a tap sees times its weight, batch entries innermost.
pub(super) fn sum_of_taps(
    b: &mut Builder,
    op: &Convolution,
    x: Value,
    y: Value,
    taps: &[usize],
) -> Result<Value, OpError> {
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
pub(super) fn few_places(b: &Builder, op: &Convolution, x: Value, y: Value) -> Option<Vec<usize>> {
    let (xs, ys) = (&b.ty(x).shape, &b.ty(y).shape);
    let places = static_dims(&op.counts(xs, ys, b.facts()))?;
    let [n, co] = static_dims(&[xs[op.batch].clone(), ys.last()?.clone()])?.try_into().ok()?;
    let terms = places.iter().try_fold(n, |n, &k| n.checked_mul(k))?;
    (op.batch > 0 && n.min(co) == 1 && (1..=MOST_TERMS).contains(&terms)).then_some(places)
}

/// For each place, the sum of products of all that its window takes in with the whole kernel, batch entries innermost.
pub(super) fn sum_for_each_place(
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

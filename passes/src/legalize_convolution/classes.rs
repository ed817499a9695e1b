//! Convolutions over holes, as small convolutions that meet none.

use lehr_ir::dim::Dim;
use lehr_ir::graph::{Builder, Value};
use lehr_ir::ops::window::fit;
use lehr_ir::ops::{Concat, Convolution, Pad, Slice, Window};
use lehr_ir::{Literal, OpError, Shape};
use smallvec::SmallVec;

use super::{emit, indices, pad_behind, static_dims};
use crate::pass::{PassCx, PassError};

/// The most small convolutions that one becomes.
const MOST_CLASSES: usize = 64;

/// How the results of a convolution over holes fall into classes, window dim by window dim.
pub(super) struct Classes {
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
    pub(super) fn of(b: &Builder, op: &Convolution, y: Value) -> Option<Self> {
        if op.windows.iter().all(|w| w.base_dilation == 1) {
            return None;
        }
        let taps = static_dims(&b.ty(y).shape[op.batch..op.batch + op.spatial()])?;
        let dims = op.windows.iter().zip(taps).map(|(w, k)| along(w, k)).collect::<Option<Vec<_>>>()?;
        let count = dims.iter().try_fold(1usize, |n, d| n.checked_mul(d.len()))?;
        (count <= MOST_CLASSES).then_some(Self { dims })
    }

    pub(super) fn convolve(
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

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

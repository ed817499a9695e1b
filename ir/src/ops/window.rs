//! Windows that slide over dims: what convolutions and windowed folds share.
//!
//! Along one dim, the operand is the *base*. Holes come between its elements, padding at its edges, and windows of some number of
//! *taps* start at regular places; tap `w` of window `o` lies at `o*stride + w*window_dilation - low` of the base with its holes.

use smallvec::SmallVec;

use super::{Pad, Slice};
use crate::attrs::{AttrError, Attrs, Reader};
use crate::dim::Dim;
use crate::error::{OpError, Rule};
use crate::facts::Facts;
use crate::graph::{Builder, Value};
use crate::literal::Literal;
use crate::ty::Shape;

/// How windows lie along one dim. The number of their taps stands elsewhere.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// The distance from one window to the next, at least 1.
    pub stride: usize,
    /// What is added before and after the base with its holes; cut off if negative.
    pub padding: (Dim, Dim),
    /// The distance between neighbours of the base, at least 1: there are so many minus one holes between them.
    pub base_dilation: usize,
    /// The distance between neighbouring taps, at least 1.
    pub window_dilation: usize,
}

/// The windows along several dims.
pub type Windows = SmallVec<[Window; 4]>;

impl Default for Window {
    /// Windows at every place, without padding or holes.
    fn default() -> Self {
        Self { stride: 1, padding: (Dim::ZERO, Dim::ZERO), base_dilation: 1, window_dilation: 1 }
    }
}

impl Window {
    /// Windows at every so many places.
    pub fn strided(stride: usize) -> Self {
        Self { stride, ..Self::default() }
    }

    /// Whether the base is taken as it is, without padding and holes.
    pub fn is_plain(&self) -> bool {
        self.padding.0.is_zero() && self.padding.1.is_zero() && self.base_dilation == 1
    }

    /// The places from the first tap to the last, both included.
    pub fn reach(&self, taps: &Dim, facts: &Facts) -> Dim {
        Pad::spread(taps, self.window_dilation.saturating_sub(1), facts)
    }

    /// The base with its holes.
    pub fn spread(&self, base: &Dim, facts: &Facts) -> Dim {
        Pad::spread(base, self.base_dilation.saturating_sub(1), facts)
    }

    /// How many windows there are: all that fit into the padded base.
    pub fn count(&self, base: &Dim, taps: &Dim, facts: &Facts) -> Dim {
        let padded = &self.padding.0 + self.spread(base, facts) + &self.padding.1;
        let count = (padded - self.reach(taps, facts)).floordiv(self.stride) + 1;
        match (facts.decide_ge(&count, &Dim::ZERO), facts.decide_ge(&Dim::ZERO, &count)) {
            (Some(true), _) => count,
            (_, Some(true)) => Dim::ZERO,
            _ => count.maximum(0),
        }
    }

    /// The windows of the transposed map along this dim: over the results, to as many windows as the base has elements.
    ///
    /// Taps stand in reverse order, and what was stride becomes holes, and the other way round.
    pub fn transposed(&self, base: &Dim, taps: &Dim, results: &Dim, facts: &Facts) -> Self {
        let reach = self.reach(taps, facts);
        let low = &reach - 1 - &self.padding.0;
        let mut new = Self {
            stride: self.base_dilation,
            padding: (low.clone(), Dim::ZERO),
            base_dilation: self.stride,
            window_dilation: self.window_dilation,
        };
        // Exactly as many windows fit as the base has elements.
        let wanted = (base - 1) * Dim::from(self.base_dilation) + reach;
        new.padding.1 = wanted - low - new.spread(results, facts);
        new
    }

    /// The windows of the map from results to taps: each result is a tap of windows that slide from tap to tap.
    pub fn exchanged(&self, base: &Dim, taps: &Dim, results: &Dim, facts: &Facts) -> Self {
        let mut new = Self { stride: self.window_dilation, window_dilation: self.stride, ..self.clone() };
        let wanted = (taps - 1) * Dim::from(self.window_dilation) + new.reach(results, facts);
        new.padding.1 = wanted - &self.padding.0 - self.spread(base, facts);
        new
    }

    /// The place of a tap of a window as an index into the base, if there is an element: constants only.
    pub(super) fn place(&self, low: i64, base: usize, window: usize, tap: usize) -> Option<usize> {
        let at = |i: usize, step: usize| i64::try_from(i).ok()?.checked_mul(i64::try_from(step).ok()?);
        let place = at(window, self.stride)?.checked_add(at(tap, self.window_dilation)?)?.checked_sub(low)?;
        let place = usize::try_from(place).ok()?;
        (place % self.base_dilation == 0 && place / self.base_dilation < base).then(|| place / self.base_dilation)
    }
}

/// The windows as attributes; padding and dilations only where there are any.
pub(super) fn attrs(mut attrs: Attrs, windows: &[Window]) -> Attrs {
    let list = |f: fn(&Window) -> usize| windows.iter().map(f).collect::<SmallVec<[usize; 4]>>();
    attrs = attrs.with_axes("stride", &list(|w| w.stride));
    if windows.iter().any(|w| !w.padding.0.is_zero() || !w.padding.1.is_zero()) {
        attrs = attrs.with_dims("low", &windows.iter().map(|w| w.padding.0.clone()).collect::<Vec<_>>());
        attrs = attrs.with_dims("high", &windows.iter().map(|w| w.padding.1.clone()).collect::<Vec<_>>());
    }
    if windows.iter().any(|w| w.base_dilation != 1) {
        attrs = attrs.with_axes("base_dilation", &list(|w| w.base_dilation));
    }
    if windows.iter().any(|w| w.window_dilation != 1) {
        attrs = attrs.with_axes("window_dilation", &list(|w| w.window_dilation));
    }
    attrs
}

/// The windows that attributes describe.
pub(super) fn read(r: &mut Reader) -> Result<Windows, AttrError> {
    let stride = r.axes("stride")?;
    let n = stride.len();
    let mut dims = |name: &str| -> Result<Vec<Dim>, AttrError> {
        let list = match r.optional(name) {
            None => vec![Dim::ZERO; n],
            Some(attr) => Reader::new(Attrs::new().with(name, attr)).dims(name)?,
        };
        if list.len() == n { Ok(list) } else { Err(crate::attrs::form(name, "as long as `stride`")) }
    };
    let (low, high) = (dims("low")?, dims("high")?);
    let mut ints = |name: &str| -> Result<SmallVec<[usize; 4]>, AttrError> {
        let list = match r.optional(name) {
            None => SmallVec::from_elem(1, n),
            Some(attr) => Reader::new(Attrs::new().with(name, attr)).axes(name)?,
        };
        if list.len() == n { Ok(list) } else { Err(crate::attrs::form(name, "as long as `stride`")) }
    };
    let (base, window) = (ints("base_dilation")?, ints("window_dilation")?);
    let one = |(d, (low, high)): (usize, (Dim, Dim))| Window {
        stride: stride[d],
        padding: (low, high),
        base_dilation: base[d],
        window_dilation: window[d],
    };
    Ok(low.into_iter().zip(high).enumerate().map(one).collect())
}

/// Refuses steps of 0.
pub(super) fn check(windows: &[Window]) -> Result<(), Rule> {
    for (d, w) in windows.iter().enumerate() {
        for (what, step) in
            [("stride", w.stride), ("base dilation", w.base_dilation), ("window dilation", w.window_dilation)]
        {
            if step == 0 {
                return Err(Rule::new(format!("the {what} of window dim {d} is 0"), "ask for 1 or more"));
            }
        }
    }
    Ok(())
}

/// A value grown or cut at its edges; itself where nothing changes, and a slice where nothing is added.
pub fn fit(b: &mut Builder, x: Value, low: &[Dim], high: &[Dim], fill: Literal) -> Result<Value, OpError> {
    if low.iter().chain(high).all(Dim::is_zero) {
        return Ok(x);
    }
    let cuts = |d: &Dim| d.as_const().is_some_and(|d| d <= 0);
    if low.iter().chain(high).all(cuts) {
        let limit: Shape = b.ty(x).shape.iter().zip(high).map(|(n, high)| n + high).collect();
        let start: Shape = low.iter().map(|low| -low).collect();
        // What is cut may be more than there is, which padding knows how to refuse.
        let sound = (0..start.len()).all(|d| b.facts().decide_ge(&limit[d], &start[d]) == Some(true));
        if sound {
            let stride = SmallVec::from_elem(1, start.len());
            return b.op(Slice { start, limit, stride }.into(), &[x]);
        }
    }
    let fill = b.scalar(fill);
    let interior = SmallVec::from_elem(0, low.len());
    b.op(Pad { low: low.into(), high: high.into(), interior }.into(), &[x, fill])
}

/// All that windows see at each of their taps, as strided slices of the padded base.
#[derive(Clone, Debug)]
pub struct Taps {
    base: Value,
    dims: SmallVec<[Along; 4]>,
}

/// The taps along one dim.
#[derive(Clone, Debug)]
struct Along {
    dim: usize,
    /// The place of the first window's first tap.
    first: Dim,
    /// The distance from tap to tap.
    step: usize,
    /// The distance from window to window.
    stride: usize,
    /// How far the windows go.
    extent: Dim,
}

impl Taps {
    /// The taps of windows over some dims of a value; `counts` says how many windows there are along each.
    ///
    /// Where a tap may lie outside the base, the base is padded first, once for all taps.
    pub fn new(
        b: &mut Builder,
        x: Value,
        dims: &[usize],
        windows: &[Window],
        taps: &[usize],
        counts: &[Dim],
        fill: Literal,
    ) -> Result<Self, OpError> {
        let shape = b.ty(x).shape.clone();
        let mut pad = Pad {
            low: SmallVec::from_elem(Dim::ZERO, shape.len()),
            high: SmallVec::from_elem(Dim::ZERO, shape.len()),
            interior: SmallVec::from_elem(0, shape.len()),
        };
        let mut out = SmallVec::new();
        let mut inside = true;
        for (i, w) in windows.iter().enumerate() {
            let (d, count) = (dims[i], &counts[i]);
            let facts = b.facts();
            // The last window needs no room behind its first tap; a window that may not be there needs a whole stride.
            let some = facts.decide_ge(count, &Dim::ONE) == Some(true);
            let extent = if some { (count - 1) * Dim::from(w.stride) + 1 } else { count * Dim::from(w.stride) };
            let len = Dim::from(taps[i].saturating_sub(1)) * Dim::from(w.window_dilation) + &extent;
            let mut first = Dim::ZERO;
            let end = &len - &w.padding.0;
            let fits = w.base_dilation == 1
                && w.padding.0.as_const().is_some_and(|low| low <= 0)
                && facts.decide_ge(&shape[d], &end) == Some(true);
            if fits {
                first = -&w.padding.0;
            } else {
                inside = false;
                pad.low[d] = w.padding.0.clone();
                pad.interior[d] = w.base_dilation - 1;
                pad.high[d] = end - w.spread(&shape[d], facts);
            }
            out.push(Along { dim: d, first, step: w.window_dilation, stride: w.stride, extent });
        }
        let base = if inside {
            x
        } else {
            let fill = b.scalar(fill);
            b.op(pad.into(), &[x, fill])?
        };
        Ok(Self { base, dims: out })
    }

    /// The tap of an index into the window: an element for each window.
    pub fn at(&self, b: &mut Builder, index: &[usize]) -> Result<Value, OpError> {
        let shape = b.ty(self.base).shape.clone();
        let mut op = Slice {
            start: SmallVec::from_elem(Dim::ZERO, shape.len()),
            limit: shape,
            stride: SmallVec::from_elem(1, b.ty(self.base).rank()),
        };
        for (along, &tap) in self.dims.iter().zip(index) {
            let d = along.dim;
            op.start[d] = &along.first + Dim::from(tap) * Dim::from(along.step);
            op.limit[d] = &op.start[d] + &along.extent;
            op.stride[d] = along.stride;
        }
        b.op(op.into(), &[self.base])
    }
}

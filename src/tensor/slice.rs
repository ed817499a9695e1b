//! Windows: ranges, steps, single positions, new axes, ellipsis.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Reverse, Slice};
use lehr_ir::{Dim, Shape};
use smallvec::SmallVec;

use super::{Built, Tensor, settle, sound};

/// What is taken along one dim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Index {
    /// One position, counted from the end if negative; the dim disappears.
    At(i64),
    /// A range with a step. Ends count from the end if negative, and are cut to the dim as in NumPy.
    Range {
        /// The first position; if left out, the first in the direction of the step.
        start: Option<i64>,
        /// The end, not included; if left out, all that remain.
        stop: Option<i64>,
        /// The step, not 0; negative goes backwards.
        step: i64,
    },
    /// A new dim of size 1.
    New,
    /// As many whole dims as are left.
    Rest,
}

/// A new dim of size 1 (NumPy's `newaxis`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewAxis;

/// As many whole dims as are left (NumPy's `...`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ellipsis;

/// A range with a step: `by(.., -1)` goes backwards, `by(1..9, 2)` takes every second.
pub fn by(range: impl Into<Index>, step: i64) -> Index {
    match range.into() {
        Index::Range { start, stop, .. } => Index::Range { start, stop, step },
        other @ (Index::At(_) | Index::New | Index::Rest) => other,
    }
}

impl From<NewAxis> for Index {
    fn from(_: NewAxis) -> Self {
        Self::New
    }
}

impl From<Ellipsis> for Index {
    fn from(_: Ellipsis) -> Self {
        Self::Rest
    }
}

impl From<RangeFull> for Index {
    fn from(_: RangeFull) -> Self {
        Self::Range { start: None, stop: None, step: 1 }
    }
}

macro_rules! index_numbers {
    ($($ty:ty),*) => { $(
        impl From<$ty> for Index {
            fn from(i: $ty) -> Self {
                Self::At(position(i))
            }
        }

        impl From<Range<$ty>> for Index {
            fn from(r: Range<$ty>) -> Self {
                Self::Range { start: Some(position(r.start)), stop: Some(position(r.end)), step: 1 }
            }
        }

        impl From<RangeFrom<$ty>> for Index {
            fn from(r: RangeFrom<$ty>) -> Self {
                Self::Range { start: Some(position(r.start)), stop: None, step: 1 }
            }
        }

        impl From<RangeTo<$ty>> for Index {
            fn from(r: RangeTo<$ty>) -> Self {
                Self::Range { start: None, stop: Some(position(r.end)), step: 1 }
            }
        }

        impl From<RangeInclusive<$ty>> for Index {
            fn from(r: RangeInclusive<$ty>) -> Self {
                Self::Range { start: Some(position(*r.start())), stop: after(position(*r.end())), step: 1 }
            }
        }

        impl From<RangeToInclusive<$ty>> for Index {
            fn from(r: RangeToInclusive<$ty>) -> Self {
                Self::Range { start: None, stop: after(position(r.end)), step: 1 }
            }
        }

        impl Indices for $ty {
            fn indices(self) -> Vec<Index> {
                vec![self.into()]
            }
        }

        impl Indices for Range<$ty> {
            fn indices(self) -> Vec<Index> {
                vec![self.into()]
            }
        }

        impl Indices for RangeFrom<$ty> {
            fn indices(self) -> Vec<Index> {
                vec![self.into()]
            }
        }

        impl Indices for RangeTo<$ty> {
            fn indices(self) -> Vec<Index> {
                vec![self.into()]
            }
        }
    )* };
}

/// Indices, one a dim from the left: one, an array or vector, or a tuple of different kinds.
pub trait Indices {
    /// The indices.
    fn indices(self) -> Vec<Index>;
}

index_numbers!(i32, i64, usize, isize);

fn position<T: TryInto<i64>>(i: T) -> i64 {
    i.try_into().unwrap_or(i64::MAX)
}

/// The end of a range that includes its last position; the last of all has no position after it.
fn after(last: i64) -> Option<i64> {
    if last == -1 { None } else { Some(last.saturating_add(1)) }
}

impl Indices for Index {
    fn indices(self) -> Vec<Index> {
        vec![self]
    }
}

impl Indices for RangeFull {
    fn indices(self) -> Vec<Index> {
        vec![self.into()]
    }
}

impl Indices for NewAxis {
    fn indices(self) -> Vec<Index> {
        vec![Index::New]
    }
}

impl<T: Into<Index>, const N: usize> Indices for [T; N] {
    fn indices(self) -> Vec<Index> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Index>> Indices for Vec<T> {
    fn indices(self) -> Vec<Index> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! index_tuples {
    ($(($($T:ident $i:tt),+))*) => { $(
        impl<$($T: Into<Index>),+> Indices for ($($T,)+) {
            fn indices(self) -> Vec<Index> {
                vec![$(self.$i.into()),+]
            }
        }
    )* };
}

index_tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

impl Tensor {
    /// A window, by NumPy's basic indexing: positions, ranges, steps, new axes, ellipsis.
    ///
    /// Ends of ranges are cut to a dim of known size. Along a named size they must provably lie inside; state it with
    /// [`Tensor::assume`]. A negative step other than `by(.., -1)` needs a known size.
    /// # Gradient
    /// The cotangent padded with zeros.
    /// # Errors
    /// A position outside the dim; a step of 0; more indices than dims; more than one ellipsis.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::arange(12).reshape((3, 4));
    /// assert_eq!(x.slice((1, ..2)).to_string(), "[4,5]");
    /// assert_eq!(x.slice((by(.., -1), -1)).to_string(), "[11,7,3]");
    /// assert_eq!(x.slice((Ellipsis, 0, NewAxis)).to_string(), "[[0],[4],[8]]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn slice(&self, indices: impl Indices) -> Self {
        settle(self.try_slice(indices.indices(), &Loc::caller()))
    }

    fn try_slice(&self, indices: Vec<Index>, loc: &Loc) -> Built {
        sound(&[self])?;
        let refuse = |rule: String, help: &str| Self::refuse("slice", &[self], &rule, help, loc.clone());
        let used = indices.iter().filter(|i| matches!(i, Index::At(_) | Index::Range { .. })).count();
        let rests = indices.iter().filter(|i| **i == Index::Rest).count();
        if used > self.rank() {
            let rule = format!("{used} indices are given for {} dims", self.rank());
            return Err(refuse(rule, "give an index a dim at most"));
        }
        if rests > 1 {
            return Err(refuse(format!("{rests} ellipses are given"), "give one ellipsis at most"));
        }
        let mut spare = self.rank() - used;
        let mut window =
            Window { slice: Slice::along(self.shape(), 0, Dim::ZERO, Dim::ZERO), reverse: SmallVec::new() };
        window.slice.limit = self.shape().iter().cloned().collect();
        let (mut shape, mut d) = (Shape::new(), 0);
        for index in indices.iter().chain(if rests == 0 { &[Index::Rest][..] } else { &[] }) {
            match *index {
                Index::New => shape.push(Dim::ONE),
                Index::Rest => {
                    shape.extend(self.shape()[d..d + spare].iter().cloned());
                    d += spare;
                    spare = 0;
                }
                Index::At(i) => {
                    window.position(d, i, &self.shape()[d]).map_err(|(rule, help)| refuse(rule, help))?;
                    d += 1;
                }
                Index::Range { start, stop, step } => {
                    let size = window
                        .range(d, start, stop, step, &self.shape()[d])
                        .map_err(|(rule, help)| refuse(rule, help))?;
                    shape.push(size);
                    d += 1;
                }
            }
        }
        let mut out = self.clone();
        if !window.is_whole(self.shape()) {
            out = Self::apply(window.slice, &[&out], loc);
        }
        if !window.reverse.is_empty() {
            out = Self::apply(Reverse { axes: window.reverse }, &[&out], loc);
        }
        out.reshape_at(shape, loc)
    }
}

struct Window {
    slice: Slice,
    reverse: SmallVec<[usize; 4]>,
}

type Refusal = (String, &'static str);

impl Window {
    fn is_whole(&self, shape: &[Dim]) -> bool {
        self.slice.start.iter().all(Dim::is_zero)
            && self.slice.limit.as_slice() == shape
            && self.slice.stride.iter().all(|&s| s == 1)
    }

    fn position(&mut self, d: usize, i: i64, size: &Dim) -> Result<(), Refusal> {
        let at = if i < 0 { size + i } else { Dim::from(i) };
        if let Some(n) = size.as_const()
            && !(0..n).contains(&at.as_const().unwrap_or(-1))
        {
            return Err((
                format!("position {i} is outside dim {d} of size {n}"),
                "index from minus the size to the size minus 1",
            ));
        }
        self.slice.limit[d] = &at + 1;
        self.slice.start[d] = at;
        Ok(())
    }

    /// Sets the window along a dim; gives its size.
    fn range(
        &mut self,
        d: usize,
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
        size: &Dim,
    ) -> Result<Dim, Refusal> {
        if step == 0 {
            return Err((format!("the step along dim {d} is 0"), "step by 1 or more, or backwards by -1 or less"));
        }
        let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
        if let Some(n) = size.as_const() {
            return Ok(self.known(d, start, stop, step, stride, n));
        }
        if step < 0 {
            if (start, stop, step) != (None, None, -1) {
                let rule = format!("dim {d} has the unknown size {size}, and the range steps backwards");
                return Err((rule, "reverse the whole dim with by(.., -1) and slice the result"));
            }
            self.reverse.push(d);
            return Ok(size.clone());
        }
        let end = |i: i64| if i < 0 { size + i } else { Dim::from(i) };
        let (from, to) = (start.map_or(Dim::ZERO, end), stop.map_or_else(|| size.clone(), end));
        let count = (&to - &from).ceildiv(stride);
        (self.slice.start[d], self.slice.limit[d], self.slice.stride[d]) = (from, to, stride);
        Ok(count)
    }

    /// As [`Window::range`], for a dim of size `n`: ends are cut to it, as NumPy does.
    fn known(&mut self, d: usize, start: Option<i64>, stop: Option<i64>, step: i64, stride: usize, n: i64) -> Dim {
        let cut = |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(low, high);
        let (from, to) = if step > 0 {
            (start.map_or(0, |i| cut(i, 0, n)), stop.map_or(n, |i| cut(i, 0, n)))
        } else {
            (start.map_or(n - 1, |i| cut(i, -1, n - 1)), stop.map_or(-1, |i| cut(i, -1, n - 1)))
        };
        let span = if step > 0 { to - from } else { from - to };
        let stride_i = i64::try_from(stride).unwrap_or(i64::MAX);
        let count = if span <= 0 { 0 } else { (span - 1) / stride_i + 1 };
        // The lowest position taken, and one past the highest.
        let (low, high) = match (count, step > 0) {
            (0, _) => (0, 0),
            (_, true) => (from, from + (count - 1) * stride_i + 1),
            (_, false) => (from - (count - 1) * stride_i, from + 1),
        };
        if step < 0 && count > 1 {
            self.reverse.push(d);
        }
        let stride = if count > 1 { stride } else { 1 };
        (self.slice.start[d], self.slice.limit[d], self.slice.stride[d]) = (low.into(), high.into(), stride);
        count.into()
    }
}

//! What convolutions and pooling share: sizes per dim, padding, layouts.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Window, Windows};
use lehr_ir::{Dim, Facts};
use smallvec::SmallVec;

use super::Tensor;

/// A number for each window dim, or one for all of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PerDim(Numbers);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Numbers {
    All(i64),
    Each(SmallVec<[i64; 4]>),
}

/// What is added around an operand before windows slide over it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Padding {
    /// Nothing: windows lie inside the operand.
    #[default]
    Valid,
    /// As much as makes `ceil(size / stride)` windows, the smaller half before: TensorFlow's rule.
    Same,
    /// So much before and after each window dim; one pair stands for all of them. Negative amounts cut off.
    Explicit(SmallVec<[(i64, i64); 4]>),
}

/// Where the channels stand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Layout {
    /// Operands `[batch, window dims…, channels]`, kernels `[window dims…, in, out]`: NHWC and HWIO.
    #[default]
    ChannelsLast,
    /// Operands `[batch, channels, window dims…]`, kernels `[out, in, window dims…]`: NCHW and OIHW.
    ChannelsFirst,
}

macro_rules! integers {
    ($($ty:ty),*) => { $(
        impl From<$ty> for PerDim {
            fn from(n: $ty) -> Self {
                Self(Numbers::All(wide(n)))
            }
        }

        impl<const N: usize> From<[$ty; N]> for PerDim {
            fn from(all: [$ty; N]) -> Self {
                Self(Numbers::Each(all.into_iter().map(wide).collect()))
            }
        }

        impl From<&[$ty]> for PerDim {
            fn from(all: &[$ty]) -> Self {
                Self(Numbers::Each(all.iter().copied().map(wide).collect()))
            }
        }

        impl From<Vec<$ty>> for PerDim {
            fn from(all: Vec<$ty>) -> Self {
                all.as_slice().into()
            }
        }

        /// As much on both sides of every window dim.
        impl From<$ty> for Padding {
            fn from(n: $ty) -> Self {
                Self::Explicit(SmallVec::from_iter([(wide(n), wide(n))]))
            }
        }

        /// As much on both sides of each window dim.
        impl<const N: usize> From<[$ty; N]> for Padding {
            fn from(all: [$ty; N]) -> Self {
                Self::Explicit(all.into_iter().map(|n| (wide(n), wide(n))).collect())
            }
        }

        /// So much before and after each window dim.
        impl<const N: usize> From<[($ty, $ty); N]> for Padding {
            fn from(all: [($ty, $ty); N]) -> Self {
                Self::Explicit(all.into_iter().map(|(low, high)| (wide(low), wide(high))).collect())
            }
        }

        /// So much before and after each window dim.
        impl From<&[($ty, $ty)]> for Padding {
            fn from(all: &[($ty, $ty)]) -> Self {
                Self::Explicit(all.iter().map(|&(low, high)| (wide(low), wide(high))).collect())
            }
        }
    )* };
}

integers!(i32, i64, usize);

/// What does not fit is no size of anything, and refused as such.
fn wide(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// An operation's complaint: rule and remedy.
pub(super) type Complaint = (String, String);

impl PerDim {
    /// The numbers for so many dims, each at least 1.
    pub(super) fn steps(&self, what: &str, dims: usize) -> Result<SmallVec<[usize; 4]>, Complaint> {
        let at_least_one = |(d, n): (usize, i64)| match usize::try_from(n) {
            Ok(n) if n >= 1 => Ok(n),
            _ => Err((format!("the {what} of window dim {d} is {n}"), "ask for 1 or more".to_owned())),
        };
        self.numbers(what, dims)?.into_iter().enumerate().map(at_least_one).collect()
    }

    /// The numbers for so many dims.
    pub(super) fn numbers(&self, what: &str, dims: usize) -> Result<SmallVec<[i64; 4]>, Complaint> {
        match &self.0 {
            Numbers::All(n) => Ok(SmallVec::from_elem(*n, dims)),
            Numbers::Each(all) if all.len() == dims => Ok(all.clone()),
            Numbers::Each(all) => Err((
                format!("the {what} has {} entries for {dims} window dims", all.len()),
                "give one number for all window dims, or one for each".to_owned(),
            )),
        }
    }
}

impl Padding {
    /// The amounts before and after each dim, for windows that reach so far.
    pub(super) fn amounts(
        &self,
        bases: &[Dim],
        reach: &[Dim],
        strides: &[usize],
        facts: &Facts,
    ) -> Result<SmallVec<[(Dim, Dim); 4]>, Complaint> {
        let dims = bases.len();
        match self {
            Self::Valid => Ok(SmallVec::from_elem((Dim::ZERO, Dim::ZERO), dims)),
            Self::Same => Ok((0..dims).map(|d| same(&bases[d], &reach[d], strides[d], facts)).collect()),
            Self::Explicit(all) if all.len() == dims || all.len() == 1 => {
                let pair = |d: usize| all.get(d).or(all.first()).copied().unwrap_or_default();
                Ok((0..dims).map(|d| (pair(d).0.into(), pair(d).1.into())).collect())
            }
            Self::Explicit(all) => Err((
                format!("the padding has {} entries for {dims} window dims", all.len()),
                "give one pair for all window dims, or one for each".to_owned(),
            )),
        }
    }
}

fn same(base: &Dim, reach: &Dim, stride: usize, facts: &Facts) -> (Dim, Dim) {
    // With steps of 1, as many windows as elements ask for the same padding whatever their number.
    let total = if stride == 1 {
        reach - 1
    } else {
        let total = (base.ceildiv(stride) - 1) * Dim::from(stride) + reach - base;
        if facts.decide_ge(&total, &Dim::ZERO) == Some(true) { total } else { total.maximum(0) }
    };
    let low = total.floordiv(2);
    (low.clone(), total - low)
}

/// The windows over bases, or why there are none. `what` is what slides: a kernel or a window.
pub(super) fn windows(
    what: &str,
    bases: &[Dim],
    taps: &[Dim],
    strides: &[usize],
    dilations: &[usize],
    padding: &Padding,
    facts: &Facts,
) -> Result<Windows, Complaint> {
    let mut windows: Windows = strides
        .iter()
        .zip(dilations)
        .map(|(&stride, &window_dilation)| Window { stride, window_dilation, ..Window::default() })
        .collect();
    let reach: Vec<Dim> = windows.iter().zip(taps).map(|(w, k)| w.reach(k, facts)).collect();
    let amounts = padding.amounts(bases, &reach, strides, facts)?;
    for (d, (w, amounts)) in windows.iter_mut().zip(amounts).enumerate() {
        w.padding = amounts;
        let padded = &w.padding.0 + &bases[d] + &w.padding.1;
        if facts.decide_ge(&padded, &reach[d]) == Some(false) {
            return Err((
                format!("the {what} takes {} places of window dim {d}, and the padded operand has {padded}", reach[d]),
                format!("pad the operand, or take a smaller {what} or dilation"),
            ));
        }
    }
    Ok(windows)
}

/// A refusal at the user's line.
pub(super) fn refuse(op: &str, operands: &[&Tensor], (rule, help): &Complaint, loc: &Loc) -> Tensor {
    Tensor::refuse(op, operands, rule, help, loc.clone())
}

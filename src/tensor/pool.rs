//! Pooling: folds over windows that slide.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{BinaryOp, Broadcast, ReduceOp, ReduceWindow, Window, Windows};
use lehr_ir::{DType, Dim, Kind, Literal, Shape};
use smallvec::SmallVec;

use super::operand::{Operand, constant};
use super::window::{Complaint, Layout, Padding, PerDim, refuse, windows};
use super::{Built, Tensor, facts_of, settle, sound};

/// How [`max_pool`], [`avg_pool`] and [`reduce_window`] go over their operand.
///
/// ```
/// use lehr::{Padding, PoolOptions};
/// let options = PoolOptions::new().stride(1).padding(Padding::Same);
/// # let _ = options;
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PoolOptions {
    stride: Option<PerDim>,
    padding: Padding,
    dilation: PerDim,
    layout: Layout,
    count_include_pad: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            stride: None,
            padding: Padding::Valid,
            dilation: 1.into(),
            layout: Layout::default(),
            count_include_pad: false,
        }
    }
}

impl PoolOptions {
    /// Windows side by side, no padding, channels last.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The distance from one window to the next; the window's size if it is not given.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<PerDim>) -> Self {
        self.stride = Some(stride.into());
        self
    }

    /// What is added around the operand; a number is as much on every side.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Padding>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between neighbouring elements of a window.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<PerDim>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Where the channels stand.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Whether [`avg_pool`] counts padding as elements of value 0. It does not unless asked to.
    #[must_use]
    pub fn count_include_pad(mut self, count: bool) -> Self {
        self.count_include_pad = count;
        self
    }
}

/// The greatest element of each window, channel by channel.
///
/// # Shapes
/// `[n, base…, channels]` to `[n, windows…, channels]`, or channels first as the options say. Along each window dim
/// `windows = (low + base + high - (size - 1) * dilation - 1) / stride + 1`, rounded down.
/// # Gradient
/// To the first element, in row-major order, that attains the greatest; where that is NaN, to the window's first.
/// # Numerics
/// Exact. NaN if any element is NaN; padding is less than any element.
/// # Errors
/// A rank below 2; sizes and steps below 1; lists of another length than there are window dims; a window that is larger than the
/// padded operand; complex elements.
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(vec![1.0f32, 5.0, 2.0, 4.0]).reshape((1, 4, 1));
/// assert_eq!(max_pool(&x, 2, PoolOptions::new()).flatten().to_string(), "[5,4]");
/// ```
#[track_caller]
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "options are made where they are used")]
pub fn max_pool(x: &Tensor, size: impl Into<PerDim>, options: PoolOptions) -> Tensor {
    let op = if x.dtype() == Some(DType::Bool) { ReduceOp::Any } else { ReduceOp::Max };
    settle(Pool::of_channels("max_pool", x, &size.into(), &options, &Loc::caller()).map(|p| p.fold(op, x)))
}

/// The mean of each window, channel by channel.
///
/// # Shapes
/// As of [`max_pool`]. Integers and bool give `f32`.
/// # Gradient
/// The cotangent over the count, to each element of the window.
/// # Numerics
/// A sum in the dtype, divided by the count of elements that are no padding; NaN for a window of padding alone.
/// # Errors
/// As of [`max_pool`].
/// ```
/// use lehr::prelude::*;
/// let x = Tensor::from(vec![1.0f32, 5.0, 2.0]).reshape((1, 3, 1));
/// let same = PoolOptions::new().stride(1).padding(Padding::Same);
/// assert_eq!(avg_pool(&x, 2, same.clone()).flatten().to_string(), "[3,3.5,2]");
/// assert_eq!(avg_pool(&x, 2, same.count_include_pad(true)).flatten().to_string(), "[3,3.5,1]");
/// ```
#[track_caller]
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "options are made where they are used")]
pub fn avg_pool(x: &Tensor, size: impl Into<PerDim>, options: PoolOptions) -> Tensor {
    settle(try_avg_pool(x, &size.into(), &options, &Loc::caller()))
}

/// The fold of each window over all dims of a tensor.
///
/// Sizes, strides, padding and dilation have an entry for each dim, and the layout says nothing.
/// # Shapes
/// Along each dim `(low + base + high - (size - 1) * dilation - 1) / stride + 1`, rounded down.
/// # Gradient
/// Sum: the cotangent, to each element of the window. Max and min: to the first element that attains the extreme. Prod: the
/// product of the others, exact with any number of zeros.
/// # Errors
/// As of [`max_pool`]; sums and products of bool, and any and all of anything else.
/// ```
/// use lehr::{PoolOptions, Tensor, reduce_window};
/// use lehr::ir::ops::ReduceOp;
/// let x = Tensor::from([[1, 2, 3], [4, 5, 6]]);
/// let sums = reduce_window(&x, ReduceOp::Sum, [2, 2], PoolOptions::new().stride(1));
/// assert_eq!(sums.to_string(), "[[12,16]]");
/// ```
#[track_caller]
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "options are made where they are used")]
pub fn reduce_window(x: &Tensor, op: ReduceOp, size: impl Into<PerDim>, options: PoolOptions) -> Tensor {
    let loc = Loc::caller();
    let pool = Pool::new("reduce_window", x, 0, x.rank(), &size.into(), &options, &loc);
    settle(pool.map(|p| p.fold(op, x)))
}

fn try_avg_pool(x: &Tensor, size: &PerDim, options: &PoolOptions, loc: &Loc) -> Built {
    const OP: &str = "avg_pool";
    let pool = Pool::of_channels(OP, x, size, options, loc)?;
    let x = x.inexact(loc);
    let dtype = x.dtype().unwrap_or(DType::F32);
    if dtype.kind() == Kind::Complex {
        let complaint = ("it takes real operands".to_owned(), "pool real and imaginary parts".to_owned());
        return Err(refuse(OP, &[&x], &complaint, loc));
    }
    let sum = pool.fold(ReduceOp::Sum, &x);
    sound(&[&sum])?;
    let counts = |d: usize| !options.count_include_pad && !pool.windows[d].is_plain();
    // Elements that are counted window by window are counted along one dim each: counts multiply.
    let whole: i64 = (0..x.rank()).filter(|&d| !counts(d)).fold(1, |n: i64, d| n.saturating_mul(pool.sizes[d] as i64));
    let mut divisor = constant(Literal::from_i64(dtype, whole), loc);
    for d in (0..x.rank()).filter(|&d| counts(d)) {
        let one = constant(Literal::one(dtype), loc);
        let line = Shape::from_iter([x.shape()[d].clone()]);
        let ones = Tensor::apply(Broadcast { shape: line, axes: SmallVec::new() }, &[&one], loc);
        let op = ReduceWindow {
            op: ReduceOp::Sum,
            sizes: SmallVec::from_iter([pool.sizes[d]]),
            windows: SmallVec::from_iter([pool.windows[d].clone()]),
        };
        let count = Tensor::apply(op, &[&ones], loc);
        let spread = Broadcast { shape: sum.shape().into(), axes: SmallVec::from_iter([d]) };
        let count = Tensor::apply(spread, &[&count], loc);
        divisor = Tensor::binary(BinaryOp::Mul, &count.operand(), &divisor.operand(), loc);
    }
    Ok(Tensor::binary(BinaryOp::Div, &sum.operand(), &divisor.operand(), loc))
}

/// Windows over all dims of an operand.
struct Pool<'a> {
    sizes: SmallVec<[usize; 4]>,
    windows: Windows,
    loc: &'a Loc,
}

impl<'a> Pool<'a> {
    /// Windows over all dims but those of examples and channels.
    fn of_channels(op: &str, x: &Tensor, size: &PerDim, options: &PoolOptions, loc: &'a Loc) -> Result<Self, Tensor> {
        sound(&[x])?;
        if x.rank() < 2 {
            let rule = "the operand needs a dim of examples and one of channels".to_owned();
            let help = "add a dim of size 1 with `expand_dims`".to_owned();
            return Err(refuse(op, &[x], &(rule, help), loc));
        }
        let first = match options.layout {
            Layout::ChannelsLast => 1,
            Layout::ChannelsFirst => 2,
        };
        Self::new(op, x, first, x.rank() - 2, size, options, loc)
    }

    /// Windows over so many dims from one on.
    fn new(
        op: &str,
        x: &Tensor,
        first: usize,
        dims: usize,
        size: &PerDim,
        options: &PoolOptions,
        loc: &'a Loc,
    ) -> Result<Self, Tensor> {
        sound(&[x])?;
        let complain = |c: Complaint| refuse(op, &[x], &c, loc);
        let size = size.steps("size", dims).map_err(complain)?;
        let stride = match &options.stride {
            Some(stride) => stride.steps("stride", dims).map_err(complain)?,
            None => size.clone(),
        };
        let dilation = options.dilation.steps("dilation", dims).map_err(complain)?;
        let bases = &x.shape()[first..first + dims];
        let taps: Vec<Dim> = size.iter().map(|&k| k.into()).collect();
        let inner = windows("window", bases, &taps, &stride, &dilation, &options.padding, &facts_of(&[x]));
        let inner = inner.map_err(complain)?;
        let mut sizes: SmallVec<[usize; 4]> = SmallVec::from_elem(1, x.rank());
        let mut windows: Windows = SmallVec::from_elem(Window::default(), x.rank());
        for (d, (k, w)) in size.into_iter().zip(inner).enumerate() {
            (sizes[first + d], windows[first + d]) = (k, w);
        }
        Ok(Self { sizes, windows, loc })
    }

    fn fold(&self, op: ReduceOp, x: &Tensor) -> Tensor {
        let op = ReduceWindow { op, sizes: self.sizes.clone(), windows: self.windows.clone() };
        Tensor::apply(op, &[x], self.loc)
    }
}

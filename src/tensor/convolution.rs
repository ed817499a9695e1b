//! Convolutions, and their transposes.

use lehr_ir::loc::Loc;
use lehr_ir::ops::{Convolution, Reshape, Reverse, Transpose, Window, Windows};
use lehr_ir::{Dim, Shape};
use smallvec::SmallVec;

use super::window::{Complaint, Layout, Padding, PerDim, refuse, windows};
use super::{Built, Tensor, facts_of, settle};

/// How [`conv`] and [`conv_transpose`] go over their operand.
///
/// ```
/// use lehr::{ConvOptions, Layout, Padding};
/// let options = ConvOptions::new().stride([2, 1]).padding(Padding::Same).groups(4).layout(Layout::ChannelsFirst);
/// # let _ = options;
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ConvOptions {
    stride: PerDim,
    padding: Padding,
    dilation: PerDim,
    groups: usize,
    layout: Layout,
    output_padding: PerDim,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self {
            stride: 1.into(),
            padding: Padding::Valid,
            dilation: 1.into(),
            groups: 1,
            layout: Layout::default(),
            output_padding: 0.into(),
        }
    }
}

impl ConvOptions {
    /// Steps of 1, no padding, one group, channels last.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The distance from one place of the kernel to the next.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<PerDim>) -> Self {
        self.stride = stride.into();
        self
    }

    /// What is added around the operand; a number is as much on every side.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Padding>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between neighbouring taps of the kernel.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<PerDim>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Splits channels into so many groups, each convolved alone; as many as there are channels make it depthwise.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Where the channels stand, in operand, kernel and result.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The number of groups.
    pub(crate) fn group_count(&self) -> usize {
        self.groups
    }

    /// Whether channels stand last.
    pub(crate) fn is_channels_last(&self) -> bool {
        self.layout == Layout::ChannelsLast
    }

    /// How many places [`conv_transpose`] adds at the end of each window dim, beside explicit padding.
    #[must_use]
    pub fn output_padding(mut self, output_padding: impl Into<PerDim>) -> Self {
        self.output_padding = output_padding.into();
        self
    }
}

/// The convolution of a batch with a kernel, over any number of window dims, as neural networks use the word: the kernel is not
/// reversed.
///
/// `out[n, o…, co] = Σ_{w…, ci} x[n, o*stride + w*dilation - low…, ci] · kernel[w…, ci, co]`.
/// # Shapes
/// Channels last: `x [n, base…, in]`, kernel `[taps…, in / groups, out]`, result `[n, places…, out]`. Channels first:
/// `x [n, in, base…]`, kernel `[out, in / groups, taps…]`, result `[n, out, places…]`. Along each window dim
/// `places = (low + base + high - (taps - 1) * dilation - 1) / stride + 1`, rounded down. The operands take their common dtype.
/// # Gradient
/// By each operand a convolution of the cotangent with the other one.
/// # Numerics
/// Sums run in the dtype, in an order that the shape alone fixes; in `f64`, rounded once, on the reference backend.
/// # Errors
/// Ranks below 2 or that differ; channels that do not fit the kernel or the groups; steps below 1; lists of another length than
/// there are window dims; a kernel that is larger than the padded operand; bool.
/// ```
/// use lehr::prelude::*;
/// let image = Tensor::input("image", F32, ("batch", 28, 28, 1));
/// let kernel = Tensor::zeros(F32, (5, 5, 1, 32));
/// let features = conv(&image, &kernel, ConvOptions::new().stride(2).padding(Padding::Same));
/// assert_eq!(features.ty()?.to_string(), "f32[batch, 14, 14, 32]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "options are made where they are used")]
pub fn conv(x: &Tensor, kernel: &Tensor, options: ConvOptions) -> Tensor {
    settle(try_conv(x, kernel, &options, &Loc::caller()))
}

/// The transpose of [`conv`]: what its gradient by the operand does, as an operation of its own.
///
/// # Shapes
/// The kernel is that of the convolution whose transpose this is. Channels last: `x [n, base…, in]`, kernel
/// `[taps…, out / groups, in]` (as in Keras), result `[n, places…, out]`. Channels first: `x [n, in, base…]`, kernel
/// `[in, out / groups, taps…]` (as in PyTorch), result `[n, out, places…]`. With `reach = (taps - 1) * dilation + 1`, along each
/// window dim `places` is `base * stride` for [`Padding::Same`], `base * stride + max(reach - stride, 0)` for
/// [`Padding::Valid`], and `(base - 1) * stride + reach - low - high + output_padding` for explicit padding, of which there is
/// that much less in the result.
/// # Gradient
/// By each operand a convolution of the cotangent with the other one.
/// # Numerics
/// As of [`conv`].
/// # Errors
/// As of [`conv`]; padding that cuts off more than there is; output padding that is negative.
/// ```
/// use lehr::prelude::*;
/// let small = Tensor::zeros(F32, (1, 7, 7, 32));
/// let kernel = Tensor::zeros(F32, (4, 4, 16, 32));
/// let large = conv_transpose(&small, &kernel, ConvOptions::new().stride(2).padding(Padding::Same));
/// assert_eq!(large.ty()?.to_string(), "f32[1, 14, 14, 16]");
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "options are made where they are used")]
pub fn conv_transpose(x: &Tensor, kernel: &Tensor, options: ConvOptions) -> Tensor {
    settle(try_conv_transpose(x, kernel, &options, &Loc::caller()))
}

fn try_conv(x: &Tensor, kernel: &Tensor, options: &ConvOptions, loc: &Loc) -> Built {
    const OP: &str = "conv";
    let at = Operands::new(OP, x, kernel, options, loc)?;
    at.check_channels("in", &at.channels(), &at.kernel_dim(0), "out", &at.kernel_dim(1))?;
    let facts = facts_of(&[&at.x, &at.kernel]);
    let windows = windows("kernel", &at.bases(), &at.taps(), &at.stride, &at.dilation, &options.padding, &facts);
    let windows = windows.map_err(|c| at.refuse(&c))?;
    // [taps…, in, groups · out] becomes [groups, taps…, in, out].
    let mut kernel = at.kernel.clone();
    if at.groups > 1 {
        let s = at.spatial;
        let mut shape: Shape = kernel.shape()[..=s].into();
        shape.extend(at.grouped(&at.kernel_dim(1)));
        kernel = Tensor::apply(Reshape { shape }, &[&kernel], loc);
        let perm = std::iter::once(s + 1).chain(0..=s).chain([s + 2]).collect();
        kernel = Tensor::apply(Transpose { perm }, &[&kernel], loc);
    }
    Ok(at.convolve(&kernel, windows))
}

fn try_conv_transpose(x: &Tensor, kernel: &Tensor, options: &ConvOptions, loc: &Loc) -> Built {
    const OP: &str = "conv_transpose";
    let at = Operands::new(OP, x, kernel, options, loc)?;
    at.check_channels("in", &at.channels(), &(at.kernel_dim(1)).clone(), "in", &at.kernel_dim(1))?;
    let extra = options.output_padding.numbers("output padding", at.spatial).map_err(|c| at.refuse(&c))?;
    if let Some(d) = extra.iter().position(|&n| n < 0) {
        let rule = format!("the output padding of window dim {d} is {}", extra[d]);
        return Err(at.refuse(&(rule, "ask for 0 or more".to_owned())));
    }
    if extra.iter().any(|&n| n != 0) && !matches!(options.padding, Padding::Explicit(_)) {
        let rule = "output padding goes with explicit padding".to_owned();
        return Err(at.refuse(&(rule, "give the padding in numbers, such as `padding(0)`".to_owned())));
    }
    let facts = facts_of(&[&at.x, &at.kernel]);
    let (bases, taps) = (at.bases(), at.taps());
    let mut windows = Windows::new();
    let explicit = options.padding.amounts(&bases, &taps, &at.stride, &facts).map_err(|c| at.refuse(&c))?;
    for d in 0..at.spatial {
        let mut w = Window { base_dilation: at.stride[d], window_dilation: at.dilation[d], ..Window::default() };
        let reach = w.reach(&taps[d], &facts);
        // What the windows reach beyond the next element is cut off or, if they do not reach so far, made up for.
        let beyond = &reach - Dim::from(at.stride[d]);
        let (low, high) = match &options.padding {
            Padding::Valid => (Dim::ZERO, beyond.minimum(0)),
            Padding::Same => {
                let low = beyond.clone().maximum(0).floordiv(2);
                (low.clone(), beyond - low)
            }
            Padding::Explicit(_) => (explicit[d].0.clone(), &explicit[d].1 - extra[d]),
        };
        w.padding = (&reach - 1 - &low, &reach - 1 - &high);
        let places = &w.padding.0 + w.spread(&bases[d], &facts) + &w.padding.1 - &reach + 1;
        if facts.decide_ge(&places, &Dim::ZERO) == Some(false) {
            let rule = format!("the padding of window dim {d} leaves {places} places");
            return Err(at.refuse(&(rule, "take less padding".to_owned())));
        }
        windows.push(w);
    }
    // [taps…, out, groups · in] becomes [groups, taps…, in, out], with taps in reverse order.
    let s = at.spatial;
    let mut kernel = at.kernel.clone();
    if s > 0 {
        kernel = Tensor::apply(Reverse { axes: (0..s).collect() }, &[&kernel], loc);
    }
    let mut shape: Shape = kernel.shape()[..=s].into();
    let mut perm: SmallVec<[usize; 4]> = (0..s).chain([s + 1, s]).collect();
    if at.groups > 1 {
        shape.extend(at.grouped(&at.kernel_dim(1)));
        kernel = Tensor::apply(Reshape { shape }, &[&kernel], loc);
        perm = std::iter::once(s + 1).chain(0..s).chain([s + 2, s]).collect();
    }
    let kernel = Tensor::apply(Transpose { perm }, &[&kernel], loc);
    Ok(at.convolve(&kernel, windows))
}

/// The operands of a convolution, channels last, in one dtype.
struct Operands<'a> {
    op: &'static str,
    given: [&'a Tensor; 2],
    /// `[n, base…, in]`.
    x: Tensor,
    /// `[taps…, in, out]`.
    kernel: Tensor,
    spatial: usize,
    stride: SmallVec<[usize; 4]>,
    dilation: SmallVec<[usize; 4]>,
    groups: usize,
    layout: Layout,
    loc: &'a Loc,
}

impl<'a> Operands<'a> {
    fn new(
        op: &'static str,
        x: &'a Tensor,
        kernel: &'a Tensor,
        options: &ConvOptions,
        loc: &'a Loc,
    ) -> Result<Self, Tensor> {
        let (a, b) = x.numbers(op, kernel, loc)?;
        let given = [x, kernel];
        let refuse = |rule: String, help: &str| refuse(op, &given, &(rule, help.to_owned()), loc);
        if a.rank() < 2 {
            return Err(refuse(
                "the operand needs a dim of examples and one of channels".to_owned(),
                "add a dim of size 1 with `expand_dims`",
            ));
        }
        if a.rank() != b.rank() {
            return Err(refuse(
                format!("the kernel has {} dims, and the operand {}", b.rank(), a.rank()),
                "give the kernel a dim for each window dim, and channels in and out",
            ));
        }
        let spatial = a.rank() - 2;
        let complain = |c: Complaint| refuse(c.0, &c.1);
        let stride = options.stride.steps("stride", spatial).map_err(complain)?;
        let dilation = options.dilation.steps("dilation", spatial).map_err(complain)?;
        if options.groups == 0 {
            return Err(refuse("there are 0 groups".to_owned(), "ask for 1 or more"));
        }
        let (mut x, mut kernel) = (a, b);
        if options.layout == Layout::ChannelsFirst {
            let rank = spatial + 2;
            x = Tensor::apply(Transpose { perm: [0].into_iter().chain(2..rank).chain([1]).collect() }, &[&x], loc);
            kernel = Tensor::apply(Transpose { perm: (2..rank).chain([1, 0]).collect() }, &[&kernel], loc);
        }
        let (groups, layout) = (options.groups, options.layout);
        Ok(Self { op, given, x, kernel, spatial, stride, dilation, groups, layout, loc })
    }

    fn refuse(&self, complaint: &Complaint) -> Tensor {
        refuse(self.op, &self.given, complaint, self.loc)
    }

    fn bases(&self) -> Vec<Dim> {
        self.x.shape()[1..=self.spatial].to_vec()
    }

    fn taps(&self) -> Vec<Dim> {
        self.kernel.shape()[..self.spatial].to_vec()
    }

    fn channels(&self) -> Dim {
        self.x.shape()[self.spatial + 1].clone()
    }

    /// One of the kernel's two channel dims.
    fn kernel_dim(&self, i: usize) -> Dim {
        self.kernel.shape()[self.spatial + i].clone()
    }

    /// A number of channels as groups and channels in each.
    fn grouped(&self, channels: &Dim) -> [Dim; 2] {
        [Dim::from(self.groups), channels.floordiv(self.groups)]
    }

    /// Refuses channels that do not fit: the operand's, the kernel's for them, and those that are split among groups.
    fn check_channels(
        &self,
        what: &str,
        operand: &Dim,
        kernel: &Dim,
        split_name: &str,
        split: &Dim,
    ) -> Result<(), Tensor> {
        let facts = facts_of(&[&self.x, &self.kernel]);
        let groups = Dim::from(self.groups);
        for (name, n) in [(what, operand), (split_name, split)] {
            if facts.decide_eq(&n.modulo(&groups), &Dim::ZERO) != Some(true) {
                let rule = format!("{n} channels {name} do not divide into {groups} groups");
                return Err(self.refuse(&(rule, "choose a number of groups that divides all channels".to_owned())));
            }
        }
        // A kernel over groups sees the channels of one group, and its transpose gives them.
        let wanted = if split_name == what { operand.clone() } else { operand.floordiv(&groups) };
        match facts.decide_eq(&wanted, kernel) {
            Some(true) => Ok(()),
            found => {
                let of = if self.groups > 1 && wanted != *operand {
                    format!("{operand} channels in {groups} groups ask for a kernel of {wanted}")
                } else {
                    format!("{operand} channels ask for a kernel of as many")
                };
                let rule = format!("{of}, and it has {kernel} channels {what}");
                let help = match (found, self.layout) {
                    (None, _) => format!("state it: assume(\"{wanted} == {kernel}\")"),
                    (_, Layout::ChannelsLast) => {
                        "move the channels last, or give the layout as Layout::ChannelsFirst".to_owned()
                    }
                    (_, Layout::ChannelsFirst) => {
                        "move the channels first, or give the layout as Layout::ChannelsLast".to_owned()
                    }
                };
                Err(self.refuse(&(rule, help)))
            }
        }
    }

    /// The convolution with a kernel `[groups, taps…, in, out]`, without the first dim for one group, in the user's layout.
    fn convolve(&self, kernel: &Tensor, windows: Windows) -> Tensor {
        let (s, loc) = (self.spatial, self.loc);
        let mut out = if self.groups == 1 {
            Tensor::apply(Convolution { batch: 0, windows }, &[&self.x, kernel], loc)
        } else {
            // Groups become a batch dim, and channels again in the end.
            let mut shape: Shape = self.x.shape()[..=s].into();
            shape.extend(self.grouped(&self.channels()));
            let x = Tensor::apply(Reshape { shape }, &[&self.x], loc);
            let perm = std::iter::once(s + 1).chain(0..=s).chain([s + 2]).collect();
            let x = Tensor::apply(Transpose { perm }, &[&x], loc);
            let out = Tensor::apply(Convolution { batch: 1, windows }, &[&x, kernel], loc);
            let out = Tensor::apply(Transpose { perm: (1..=s + 1).chain([0, s + 2]).collect() }, &[&out], loc);
            if out.check().is_err() {
                return out;
            }
            let mut shape: Shape = out.shape()[..=s].into();
            shape.push(&out.shape()[s + 1] * &out.shape()[s + 2]);
            Tensor::apply(Reshape { shape }, &[&out], loc)
        };
        if self.layout == Layout::ChannelsFirst {
            let perm = [0, s + 1].into_iter().chain(1..=s).collect();
            out = Tensor::apply(Transpose { perm }, &[&out], loc);
        }
        out
    }
}

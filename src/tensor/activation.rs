//! Activations, and the composites over an axis: softmax and its kin.

use lehr_ir::DType;
use lehr_ir::attrs::{Attr, Attrs};
use lehr_ir::loc::Loc;

use super::operand::Operand;
use super::reduce::AxisList;
use super::{Built, Tensor, settle, sound};
use crate::composite::Composite;
use crate::shape::{Axes, IntoAxes, IntoAxis};

impl Tensor {
    /// `max(x, 0)`; NaN stays.
    ///
    /// # Gradient
    /// 1 above 0, 0 elsewhere, at 0 too (JAX's convention).
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([-1.0f32, 2.0]).relu().to_string(), "[0,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn relu(&self) -> Self {
        if self.dtype().is_none_or(|d| !d.is_inexact()) {
            return self.maximum(0);
        }
        let loc = Loc::caller();
        let call = Composite { name: "relu", attrs: Attrs::new(), operands: &[self], loc: &loc };
        // The slope of the maximum would be a half at 0.
        settle(
            call.shared_call_with_jvp(&|p| p[0].maximum(0), &|p, t| {
                [p[0].maximum(0), Self::select(&p[0].gt(0), &t[0], 0)]
            }),
        )
    }

    /// `x` from 0 on, `slope · x` below.
    ///
    /// # Gradient
    /// 1 from 0 on (JAX's convention), `slope` elsewhere.
    #[track_caller]
    #[must_use]
    pub fn leaky_relu(&self, slope: f64) -> Self {
        Self::select(&self.ge(0), self, self * slope)
    }

    /// `x` above 0, `alpha (e^x - 1)` below.
    ///
    /// # Gradient
    /// 1 above 0, `alpha e^x` elsewhere, at 0 too; finite everywhere.
    #[track_caller]
    #[must_use]
    pub fn elu(&self, alpha: f64) -> Self {
        // The exponential sees only what is not positive, so that its slope cannot overflow where it is not chosen. A choice,
        // since the slope of a minimum would be halved at 0.
        let positive = self.gt(0);
        let rest = Self::select(&positive, 0, self);
        Self::select(&positive, self, rest.expm1() * alpha)
    }

    /// `x Φ(x) = x/2 · (1 + erf(x/√2))`, the exact Gaussian error linear unit.
    ///
    /// # Gradient
    /// `Φ(x) + x φ(x)`.
    /// # Errors
    /// Complex numbers.
    /// # Source
    /// Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.
    #[track_caller]
    #[must_use]
    pub fn gelu(&self) -> Self {
        let loc = Loc::caller();
        let x = self.inexact(&loc);
        let call = Composite { name: "gelu", attrs: Attrs::new(), operands: &[&x], loc: &loc };
        settle(call.call(&|p| {
            let x = &p[0];
            x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
        }))
    }

    /// The approximation `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))` of [`Tensor::gelu`].
    ///
    /// # Gradient
    /// Of the approximation.
    #[track_caller]
    #[must_use]
    pub fn gelu_tanh(&self) -> Self {
        let loc = Loc::caller();
        let x = self.inexact(&loc);
        let call = Composite { name: "gelu_tanh", attrs: Attrs::new(), operands: &[&x], loc: &loc };
        settle(call.call(&|p| {
            let x = &p[0];
            let inner = (x + x * x * x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * 0.5 * (inner.tanh() + 1.0)
        }))
    }

    /// `x · sigmoid(x)`, also called swish.
    ///
    /// # Gradient
    /// `s + x s (1 - s)` with `s = sigmoid(x)`.
    #[track_caller]
    #[must_use]
    pub fn silu(&self) -> Self {
        self * self.sigmoid()
    }

    /// `log(1 + e^x)`, without overflow.
    ///
    /// # Gradient
    /// `sigmoid(x)`.
    /// # Numerics
    /// `max(x, 0) + log1p(e^-|x|)`.
    #[track_caller]
    #[must_use]
    pub fn softplus(&self) -> Self {
        let loc = Loc::caller();
        let x = self.inexact(&loc);
        let call = Composite { name: "softplus", attrs: Attrs::new(), operands: &[&x], loc: &loc };
        let value = |x: &Self| x.maximum(0) + (-x.abs()).exp().log1p();
        settle(call.shared_call_with_jvp(&|p| value(&p[0]), &|p, t| [value(&p[0]), &t[0] * p[0].sigmoid()]))
    }

    /// `log sigmoid(x)`, without underflow.
    ///
    /// # Gradient
    /// `sigmoid(-x)`.
    #[track_caller]
    #[must_use]
    pub fn log_sigmoid(&self) -> Self {
        -(-self).softplus()
    }

    /// `e^x / Σ e^x` along an axis.
    ///
    /// # Shapes
    /// Its own.
    /// # Gradient
    /// `y (c - Σ c y)`.
    /// # Numerics
    /// The greatest element is subtracted first, so that nothing overflows. A lane that holds NaN or +∞, or only −∞, is NaN.
    /// The sum, which is 1 or more, divides once: elements are multiplied by its reciprocal, for at most one more unit in the last
    /// place (half precision, whose reciprocals may be subnormal, divides each).
    /// # Errors
    /// An axis outside the rank.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1000.0f32, 1000.0]).softmax(0).to_string(), "[0.5,0.5]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn softmax(&self, axis: impl IntoAxis) -> Self {
        settle(self.try_softmax(axis.into_axis(), &Loc::caller()))
    }

    fn try_softmax(&self, axis: i64, loc: &Loc) -> Built {
        let (x, axes, attrs) = self.lanes("softmax", &axis.into_axes(), loc)?;
        let value = |x: &Self| {
            let e = (x - x.max_keepdims(&axes[..])).exp();
            match x.dtype() {
                Some(DType::F16 | DType::BF16) => &e / e.sum_keepdims(&axes[..]),
                _ => &e * e.sum_axes(&axes[..]).reciprocal().expand_dims(axes[0]),
            }
        };
        Composite { name: "softmax", attrs, operands: &[&x], loc }.shared_call_with_jvp(&|p| value(&p[0]), &|p, t| {
            let y = value(&p[0]);
            let mean = (&y * &t[0]).sum_keepdims(&axes[..]);
            [y.clone(), y * (&t[0] - mean)]
        })
    }

    /// `log softmax(x)` along an axis, accurate where softmax underflows.
    ///
    /// # Gradient
    /// `c - softmax(x) Σ c`.
    /// # Numerics
    /// `(x - max) - log Σ e^(x - max)`. A lane that holds NaN or +∞, or only −∞, is NaN.
    /// # Errors
    /// An axis outside the rank.
    #[track_caller]
    #[must_use]
    pub fn log_softmax(&self, axis: impl IntoAxis) -> Self {
        settle(self.try_log_softmax(axis.into_axis(), &Loc::caller()))
    }

    fn try_log_softmax(&self, axis: i64, loc: &Loc) -> Built {
        let (x, axes, attrs) = self.lanes("log_softmax", &axis.into_axes(), loc)?;
        let call = Composite { name: "log_softmax", attrs, operands: &[&x], loc };
        let parts = |x: &Self| {
            let d = x - x.max_keepdims(&axes[..]);
            let e = d.exp();
            let s = e.sum_keepdims(&axes[..]);
            (d - s.log(), e, s)
        };
        call.shared_call_with_jvp(&|p| parts(&p[0]).0, &|p, t| {
            let (y, e, s) = parts(&p[0]);
            let mean = (e * &t[0]).sum_keepdims(&axes[..]) / s;
            [y, &t[0] - mean]
        })
    }

    /// `log Σ e^x` over all axes.
    ///
    /// # Gradient
    /// The softmax.
    /// # Numerics
    /// Nothing overflows; −∞ over nothing or only −∞, +∞ where one is +∞.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([1000.0f32]).logsumexp().to_string(), "1000");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn logsumexp(&self) -> Self {
        settle(self.try_logsumexp(&Axes::All, false, &Loc::caller()))
    }

    /// [`Tensor::logsumexp`] over the given axes.
    ///
    /// # Errors
    /// An axis outside the rank, or named twice.
    #[track_caller]
    #[must_use]
    pub fn logsumexp_axes(&self, axes: impl IntoAxes) -> Self {
        settle(self.try_logsumexp(&axes.into_axes(), false, &Loc::caller()))
    }

    /// [`Tensor::logsumexp`] over the given axes, which stay as axes of size 1.
    ///
    /// # Errors
    /// An axis outside the rank, or named twice.
    #[track_caller]
    #[must_use]
    pub fn logsumexp_keepdims(&self, axes: impl IntoAxes) -> Self {
        settle(self.try_logsumexp(&axes.into_axes(), true, &Loc::caller()))
    }

    fn try_logsumexp(&self, axes: &Axes, keep: bool, loc: &Loc) -> Built {
        let (x, axes, attrs) = self.lanes("logsumexp", axes, loc)?;
        let y = Composite { name: "logsumexp", attrs, operands: &[&x], loc }.shared_call_with_jvp(
            &|p| logsumexp_parts(&p[0], &axes).0,
            &|p, t| {
                let (y, e, s) = logsumexp_parts(&p[0], &axes);
                let weighted = (e * &t[0]).sum_axes(&axes[..]);
                [y, weighted / s]
            },
        )?;
        Ok(if keep { y.restore_axes(&axes, loc) } else { y })
    }

    /// `(x - mean) / sqrt(var + eps)` over the given axes, without scale and shift.
    ///
    /// # Gradient
    /// Through mean and variance.
    /// # Errors
    /// An axis outside the rank, or named twice.
    /// # Source
    /// Ba, Kiros and Hinton, "Layer Normalization", 2016.
    #[track_caller]
    #[must_use]
    pub fn layer_norm(&self, axes: impl IntoAxes, eps: f64) -> Self {
        settle(self.try_layer_norm(&axes.into_axes(), eps, &Loc::caller()))
    }

    fn try_layer_norm(&self, axes: &Axes, eps: f64, loc: &Loc) -> Built {
        let (x, axes, attrs) = self.lanes("layer_norm", axes, loc)?;
        let attrs = attrs.with("eps", Attr::Float(eps.into()));
        Composite { name: "layer_norm", attrs, operands: &[&x], loc }.call(&|p| {
            let d = &p[0] - p[0].mean_keepdims(&axes[..]);
            let var = (&d * &d).mean_keepdims(&axes[..]);
            d * (var + eps).rsqrt()
        })
    }

    /// `self` as floats, the axes of a composite, and the attributes that name them.
    fn lanes(&self, op: &str, axes: &Axes, loc: &Loc) -> Result<(Self, AxisList, Attrs), Self> {
        sound(&[self])?;
        let axes = self.axes_at(op, axes, loc)?;
        let attrs = Attrs::new().with_axes("axes", &axes);
        Ok((self.inexact(loc), axes, attrs))
    }
}

/// The result, `e^(x - m)` and its sum, where `m` is the greatest element if that is finite, else 0.
pub(crate) fn logsumexp_parts(x: &Tensor, axes: &[usize]) -> (Tensor, Tensor, Tensor) {
    let top = x.max_keepdims(axes);
    let m = Tensor::select(&top.is_finite(), &top, 0.operand());
    let e = (x - &m).exp();
    let s = e.sum_axes(axes);
    (s.log() + m.squeeze(axes), e, s)
}

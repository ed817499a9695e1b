//! Elementwise arithmetic and functions.

use lehr_ir::loc::Loc;
use lehr_ir::ops::unary::Domain;
use lehr_ir::ops::{BinaryOp, UnaryOp};
use lehr_ir::{DType, Kind};

use super::operand::{Arg, Operand, align, common_dtype, to_dtype};
use super::{Built, Tensor, settle};

impl Tensor {
    /// An elementwise operation of two operands in their common dtype and shape.
    pub(crate) fn binary(op: BinaryOp, a: &Arg, b: &Arg, loc: &Loc) -> Self {
        settle(Self::try_binary(op, a, b, common_dtype(&[a, b]), loc))
    }

    /// `a / b`, with integers and bool converted to `f32`.
    pub(crate) fn true_divide(op: BinaryOp, a: &Arg, b: &Arg, loc: &Loc) -> Self {
        settle(Self::try_binary(op, a, b, float_dtype(common_dtype(&[a, b])), loc))
    }

    pub(crate) fn try_binary(op: BinaryOp, a: &Arg, b: &Arg, dtype: DType, loc: &Loc) -> Built {
        let name = lehr_ir::ops::Operation::name(&op).to_owned();
        let both = align(&name, &[a, b], dtype, loc)?;
        Ok(Self::apply(op, &[&both[0], &both[1]], loc))
    }

    pub(crate) fn unary(&self, op: UnaryOp, loc: &Loc) -> Self {
        match (op.row().domain, self.dtype()) {
            // The functions of floats take integers as f32; rounding leaves integers as they are.
            (Domain::Float, Some(d)) if d.is_integer() || d == DType::Bool => match op {
                UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Trunc | UnaryOp::Round if d.is_integer() => self.clone(),
                _ => Self::apply(op, &[&self.cast_at(DType::F32, loc)], loc),
            },
            _ => Self::apply(op, &[self], loc),
        }
    }
}

/// The dtype itself if inexact, else `f32`.
pub(crate) fn float_dtype(dtype: DType) -> DType {
    if dtype.is_inexact() { dtype } else { DType::F32 }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident = $Variant:ident, $gradient:literal, $x:literal => $y:literal;)*) => {
        impl Tensor { $(
            $(#[$doc])*
            ///
            /// # Shapes
            /// Its own.
            /// # Gradient
            #[doc = $gradient]
            /// # Errors
            /// A dtype outside its domain. Functions of floats take integers and bool as `f32`.
            /// # Example
            /// ```
            #[doc = "use lehr::Tensor;"]
            #[doc = concat!("assert_eq!(Tensor::from(", $x, ").", stringify!($name), "().to_string(), \"", $y, "\");")]
            /// ```
            #[track_caller]
            #[must_use]
            pub fn $name(&self) -> Self {
                self.unary(UnaryOp::$Variant, &Loc::caller())
            }
        )* }
    };
}

unary_methods! {
    /// `-x`; integers wrap. The operator `-` does the same.
    negative = Neg, "`-1`.", "1.5f32" => "-1.5";
    /// `|x|`.
    abs = Abs, "The sign of `x`; 0 at 0.", "-1.5f32" => "1.5";
    /// −1, 0 or 1 by the sign of `x`; keeps ±0 and NaN.
    sign = Sign, "0.", "-1.5f32" => "-1";
    /// Not of each bit; logical not for bool. The operator `!` does the same.
    bitwise_not = Not, "None.", "true" => "false";
    /// The greatest integer ≤ `x`.
    floor = Floor, "0.", "1.5f32" => "1";
    /// The least integer ≥ `x`.
    ceil = Ceil, "0.", "1.5f32" => "2";
    /// `x` rounded toward zero.
    trunc = Trunc, "0.", "-1.5f32" => "-1";
    /// `x` rounded to the nearest integer, ties to even.
    round = Round, "0.", "2.5f32" => "2";
    /// The square root; NaN below 0.
    sqrt = Sqrt, "`1 / (2 sqrt x)`, infinite at 0.", "4.0f32" => "2";
    /// `1 / sqrt(x)`.
    rsqrt = Rsqrt, "`-1/2 x^(-3/2)`.", "4.0f32" => "0.5";
    /// The cube root.
    cbrt = Cbrt, "`1 / (3 cbrt(x)²)`.", "8.0f32" => "2";
    /// `e^x`.
    exp = Exp, "Itself.", "0.0f32" => "1";
    /// `2^x`.
    exp2 = Exp2, "`ln 2 · 2^x`.", "3.0f32" => "8";
    /// `e^x - 1`, accurate near 0.
    expm1 = Expm1, "`e^x`.", "0.0f32" => "0";
    /// The natural logarithm; −∞ at 0, NaN below.
    log = Log, "`1 / x`.", "1.0f32" => "0";
    /// The logarithm to base 2.
    log2 = Log2, "`1 / (x ln 2)`.", "8.0f32" => "3";
    /// `log(1 + x)`, accurate near 0.
    log1p = Log1p, "`1 / (1 + x)`.", "0.0f32" => "0";
    /// The sine of an angle in radians.
    sin = Sin, "`cos x`.", "0.0f32" => "0";
    /// The cosine of an angle in radians.
    cos = Cos, "`-sin x`.", "0.0f32" => "1";
    /// The tangent of an angle in radians.
    tan = Tan, "`1 + tan² x`.", "0.0f32" => "0";
    /// The arc sine, in radians.
    asin = Asin, "`1 / sqrt(1 - x²)`.", "0.0f32" => "0";
    /// The arc cosine, in radians.
    acos = Acos, "`-1 / sqrt(1 - x²)`.", "1.0f32" => "0";
    /// The arc tangent, in radians.
    atan = Atan, "`1 / (1 + x²)`.", "0.0f32" => "0";
    /// The hyperbolic sine.
    sinh = Sinh, "`cosh x`.", "0.0f32" => "0";
    /// The hyperbolic cosine.
    cosh = Cosh, "`sinh x`.", "0.0f32" => "1";
    /// The hyperbolic tangent.
    tanh = Tanh, "`1 - tanh² x`.", "0.0f32" => "0";
    /// The inverse hyperbolic sine.
    asinh = Asinh, "`1 / sqrt(x² + 1)`.", "0.0f32" => "0";
    /// The inverse hyperbolic cosine.
    acosh = Acosh, "`1 / sqrt(x² - 1)`.", "1.0f32" => "0";
    /// The inverse hyperbolic tangent.
    atanh = Atanh, "`1 / (1 - x²)`.", "0.0f32" => "0";
    /// The logistic function `1 / (1 + e^-x)`.
    sigmoid = Logistic, "`y (1 - y)`.", "0.0f32" => "0.5";
    /// The error function.
    erf = Erf, "`2/√π · e^(-x²)`.", "0.0f32" => "0";
    /// `1 - erf(x)`, accurate for large `x`.
    erfc = Erfc, "`-2/√π · e^(-x²)`.", "0.0f32" => "1";
}

impl Tensor {
    /// `1 / x`; integers give `f32`.
    ///
    /// # Gradient
    /// `-1 / x²`.
    #[track_caller]
    #[must_use]
    pub fn reciprocal(&self) -> Self {
        1.0 / self
    }

    /// `x²`.
    ///
    /// # Gradient
    /// `2 x`.
    #[track_caller]
    #[must_use]
    pub fn square(&self) -> Self {
        self * self
    }

    /// `x` to the power `y`, with IEEE 754's special cases; small whole exponents multiply.
    ///
    /// # Shapes
    /// Broadcast.
    /// # Gradient
    /// `y x^(y-1)` and `x^y log x`; 0 where `y` is 0 and where `x` is 0.
    /// # Errors
    /// Operands that do not broadcast. Integers give `f32`, but for literal exponents from 0 to 4.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([2.0f32, 9.0]).pow(0.5).to_string(), "[1.4142135,3]");
    /// assert_eq!(Tensor::from([2, 3]).pow(2).to_string(), "[4,9]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn pow(&self, y: impl Operand) -> Self {
        let (loc, y) = (Loc::caller(), y.operand());
        let whole = match y {
            Arg::Weak(super::Scalar::Int(n)) => Some(n),
            Arg::Weak(super::Scalar::Float(v)) if v.fract() == 0.0 && v.abs() <= 4.0 => Some(v as i128),
            Arg::Weak(_) | Arg::Tensor(_) => None,
        };
        match whole {
            Some(1) => return self.clone(),
            Some(2) => return self * self,
            Some(3) => return self * self * self,
            Some(4) => {
                let sq = self * self;
                return &sq * &sq;
            }
            _ => {}
        }
        let x = Arg::Tensor(self.clone());
        let dtype = float_dtype(common_dtype(&[&x, &y]));
        settle(Self::try_binary(BinaryOp::Pow, &x, &y, dtype, &loc))
    }

    /// The greater of the two, NaN if either is NaN.
    ///
    /// # Gradient
    /// To the greater; half to each where they tie.
    #[track_caller]
    #[must_use]
    pub fn maximum(&self, other: impl Operand) -> Self {
        Self::binary(BinaryOp::Max, &Arg::Tensor(self.clone()), &other.operand(), &Loc::caller())
    }

    /// The lesser of the two, NaN if either is NaN.
    ///
    /// # Gradient
    /// To the lesser; half to each where they tie.
    #[track_caller]
    #[must_use]
    pub fn minimum(&self, other: impl Operand) -> Self {
        Self::binary(BinaryOp::Min, &Arg::Tensor(self.clone()), &other.operand(), &Loc::caller())
    }

    /// `x` held between two bounds; NaN stays.
    ///
    /// # Gradient
    /// To `x` between the bounds, to the bound outside.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([-2.0f32, 0.5, 3.0]).clip(0, 1).to_string(), "[0,0.5,1]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn clip(&self, low: impl Operand, high: impl Operand) -> Self {
        self.maximum(low).minimum(high)
    }

    /// The angle of the point `(x, y)` in radians, where `self` is `y`.
    ///
    /// # Gradient
    /// `x / (x² + y²)` and `-y / (x² + y²)`.
    #[track_caller]
    #[must_use]
    pub fn atan2(&self, x: impl Operand) -> Self {
        let (loc, y, x) = (Loc::caller(), Arg::Tensor(self.clone()), x.operand());
        let dtype = float_dtype(common_dtype(&[&y, &x]));
        settle(Self::try_binary(BinaryOp::Atan2, &y, &x, dtype, &loc))
    }

    /// The greatest integer ≤ `x / y`, in the common dtype; integers rounded down, 0 where `y` is 0.
    ///
    /// # Gradient
    /// 0.
    /// # Numerics
    /// Of the exact quotient: `1 / 0.1` rounds to 10, but 9 whole times the float next to 0.1 are in 1, as NumPy has it. With
    /// [`Tensor::remainder`], `x = q · y + r`. Where `y` is 0, floats give the quotient's infinity or NaN.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([7, -7]).floor_divide(2).to_string(), "[3,-4]");
    /// assert_eq!(Tensor::from([1.0f32]).floor_divide(0.1).to_string(), "[9]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn floor_divide(&self, y: impl Operand) -> Self {
        let (loc, y) = (Loc::caller(), y.operand());
        let x = Arg::Tensor(self.clone());
        let dtype = common_dtype(&[&x, &y]);
        let q = settle(Self::try_binary(BinaryOp::Div, &x, &y, dtype, &loc));
        match dtype.kind() {
            Kind::Float => {
                // Without the remainder, which is exact, the division is of a multiple of `y` but for roundings.
                let r = self.remainder(y.clone());
                let multiple = Self::binary(BinaryOp::Sub, &x, &r.operand(), &loc);
                let whole = Self::binary(BinaryOp::Div, &multiple.operand(), &y, &loc).round();
                let divisor = settle(to_dtype("floor_divide", &y, dtype, &loc));
                Self::select(&divisor.eq(0), q.floor(), whole)
            }
            Kind::Signed => {
                // Truncation went up where the remainder's sign is not the divisor's.
                let r = Self::binary(BinaryOp::Rem, &x, &y, &loc);
                let up = r.ne(0) & (r.lt(0) ^ is_negative(&y, &q));
                q - up
            }
            Kind::Bool | Kind::Unsigned | Kind::Complex => q,
        }
    }

    /// The remainder with the sign of the divisor, as NumPy's `%`: `x - y · floor(x / y)`.
    ///
    /// # Gradient
    /// `1`, and `-floor(x / y)`.
    /// ```
    /// use lehr::Tensor;
    /// assert_eq!(Tensor::from([7, -7]).remainder(3).to_string(), "[1,2]");
    /// ```
    #[track_caller]
    #[must_use]
    pub fn remainder(&self, y: impl Operand) -> Self {
        let (loc, y) = (Loc::caller(), y.operand());
        let r = Self::binary(BinaryOp::Rem, &Arg::Tensor(self.clone()), &y, &loc);
        let wrong = r.ne(0) & (r.lt(0) ^ is_negative(&y, &r));
        Self::select(&wrong, &r + y.clone(), &r)
    }

    /// Whether each element is NaN.
    #[track_caller]
    #[must_use]
    pub fn is_nan(&self) -> Self {
        self.ne(self)
    }

    /// Whether each element is neither infinite nor NaN; true for integers.
    #[track_caller]
    #[must_use]
    pub fn is_finite(&self) -> Self {
        if self.dtype().is_some_and(|d| !d.is_float()) {
            return self.eq(self);
        }
        self.abs().lt(f64::INFINITY)
    }
}

/// Whether an operand is below 0, in the shape of `like`.
#[track_caller]
fn is_negative(y: &Arg, like: &Tensor) -> Tensor {
    let zeros = Tensor::binary(BinaryOp::Mul, &Arg::Tensor(like.clone()), &0.operand(), &Loc::caller());
    Tensor::binary(BinaryOp::Add, &Arg::Tensor(zeros), y, &Loc::caller()).lt(0)
}

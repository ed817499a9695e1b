//! The user's handle: one value of a symbolic, immutable graph.
//!
//! A [`Tensor`] wraps a node of the DAG of `lehr-ir`. Methods add nodes; nothing is computed.
//! They are split by theme over the files of this folder. Each takes the caller's location once and hands it on.
//! An ill-typed operation gives a tensor that carries its error, so that no line of a model needs a `?`.

use std::fmt;

use lehr_ir::dim::Symbol;
use lehr_ir::expr::{self, Expr};
use lehr_ir::facts::{Fact, Facts};
use lehr_ir::loc::Loc;
use lehr_ir::ops::{Convert, Op};
use lehr_ir::{Array, DType, Dim, OpError, Rule, Type};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::scope;
use crate::shape::IntoShape;

mod activation;
mod compare;
mod convolution;
mod create;
mod elementwise;
mod eval;
mod index;
mod join;
mod linalg;
pub(crate) mod operand;
mod operators;
mod pool;
mod reduce;
mod reshape;
mod slice;
mod spread;
mod window;

pub(crate) use activation::logsumexp_parts;
pub use convolution::{ConvOptions, conv, conv_transpose};
pub use operand::{Arg, Operand, Scalar};
pub use pool::{PoolOptions, avg_pool, max_pool, reduce_window};
pub(crate) use reduce::size_value;
pub use slice::{Ellipsis, Index, Indices, NewAxis, by};
pub use window::{Layout, Padding, PerDim};

/// A value of a symbolic graph: a placeholder, a variable, data, or the result of an operation.
///
/// Cheap to clone, `Send` and `Sync`. Nothing is computed until a [`Function`](crate::Function) is compiled or
/// [`Tensor::eval`] is called.
/// ```
/// use lehr::prelude::*;
/// let a = Tensor::from([[1, 2], [3, 4]]);
/// let b = Tensor::from([[10], [20]]);
/// assert_eq!(a.matmul(&b).to_string(), "[[50],[110]]");
/// ```
#[derive(Clone)]
pub struct Tensor(pub(crate) Expr);

/// A tensor, or one that carries an error: what helpers pass to each other with `?`.
pub(crate) type Built = std::result::Result<Tensor, Tensor>;

/// Whichever of the two it is.
pub(crate) fn settle(built: Built) -> Tensor {
    match built {
        Ok(t) | Err(t) => t,
    }
}

impl Tensor {
    /// A placeholder, which the caller gives on each call.
    ///
    /// Dims are numbers, names, or polynomials of names such as `"2*n + 1"`; a name is one size everywhere.
    /// # Errors
    /// A name that is not made of letters, digits, `_`, `.` and `-`, starting with a letter; a dim that cannot be read, is
    /// negative, or uses a name that starts with `_` or `%`, which are reserved.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ("batch", 784));
    /// assert_eq!(x.ty()?.to_string(), "f32[batch, 784]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn input(name: &str, dtype: DType, shape: impl IntoShape) -> Self {
        let loc = Loc::caller();
        if !is_name(name) {
            let rule = format!("`{name}` is not a name");
            let help = "use letters, digits, `_`, `.` and `-`, starting with a letter";
            return Self::refuse("input", &[], &rule, help, loc);
        }
        match sizes("input", shape, &loc) {
            Ok(shape) => Self(Expr::input(name, Type { dtype, shape }, loc)),
            Err(bad) => bad,
        }
    }

    /// Its dtype and shape.
    ///
    /// # Errors
    /// The errors that it carries.
    pub fn ty(&self) -> Result<&Type> {
        match (self.0.ty(), self.0.errors()) {
            (Some(ty), _) => Ok(ty),
            (None, Some(e)) => Err(Error::Graph(e.clone())),
            (None, None) => Err(Error::internal("a tensor has neither a type nor an error")),
        }
    }

    /// Its element type; `None` if it carries an error.
    pub fn dtype(&self) -> Option<DType> {
        self.0.ty().map(|ty| ty.dtype)
    }

    /// Its dims, outermost first; empty for a scalar, and for a tensor that carries an error.
    pub fn shape(&self) -> &[Dim] {
        self.0.ty().map_or(&[], |ty| &ty.shape)
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// Nothing, or the errors that it carries: all distinct roots, each with the line it was born on.
    pub fn check(&self) -> Result<()> {
        self.ty().map(|_| ())
    }

    /// The line of source that made it, `src/model.rs:11:40`.
    pub fn location(&self) -> String {
        self.0.loc().to_string()
    }

    /// The same value, where a fact about sizes is taken as known from here on, such as `"n == 2*m"` or `"batch >= 1"`.
    ///
    /// It is checked once, when sizes are known.
    /// # Errors
    /// Text that is no fact, uses a reserved name, or contradicts what is known.
    /// ```
    /// use lehr::prelude::*;
    /// let x = Tensor::input("x", F32, ["n"]).assume("n >= 1");
    /// assert_eq!(x.slice(..1).ty()?.to_string(), "f32[1]");
    /// # Ok::<(), lehr::Error>(())
    /// ```
    #[track_caller]
    pub fn assume(&self, fact: &str) -> Self {
        let loc = Loc::caller();
        let fact: Fact = match fact.parse() {
            Ok(fact) => fact,
            Err(e) => {
                return Self::refuse("assume", &[self], &format!("{e}"), "write it as `n == 2*m` or `n >= 1`", loc);
            }
        };
        if let Some(reserved) = fact.symbols().find(is_reserved) {
            let rule = format!("`{reserved}` is a reserved name");
            return Self::refuse("assume", &[self], &rule, "start names of sizes with a letter", loc);
        }
        Self(self.0.assume(fact, loc))
    }

    /// The values in another dtype; itself if it has it.
    ///
    /// Float to integer truncates toward zero and saturates, NaN gives 0; integers wrap; to bool is `x != 0`.
    /// # Gradient
    /// Converted back between floats; none from or to integers and bool.
    /// # Errors
    /// To or from a complex dtype.
    /// ```
    /// use lehr::prelude::*;
    /// assert_eq!(Tensor::from([1.9f32, -1.9]).cast(I32).to_string(), "[1,-1]");
    /// ```
    #[track_caller]
    pub fn cast(&self, dtype: DType) -> Self {
        self.cast_at(dtype, &Loc::caller())
    }

    /// The values in another tensor's dtype.
    #[track_caller]
    #[must_use]
    pub fn cast_like(&self, other: &Self) -> Self {
        match other.dtype() {
            Some(dtype) => self.cast_at(dtype, &Loc::caller()),
            None => other.clone(),
        }
    }

    /// Whether both are the same value of the same graph, not equal ones.
    pub fn is(&self, other: &Self) -> bool {
        self.0.same(&other.0)
    }
}

/// What the other files build with.
impl Tensor {
    /// The first result of an operation.
    pub(crate) fn apply(op: impl Into<Op>, operands: &[&Self], loc: &Loc) -> Self {
        let operands: SmallVec<[Expr; 3]> = operands.iter().map(|t| t.0.clone()).collect();
        let mut results = Expr::apply(op.into(), &operands, loc.clone(), scope::current());
        Self(results.swap_remove(0))
    }

    /// Both results of an operation that has two.
    pub(crate) fn apply_two(op: impl Into<Op>, operands: &[&Self], loc: &Loc) -> (Self, Self) {
        let operands: SmallVec<[Expr; 3]> = operands.iter().map(|t| t.0.clone()).collect();
        let results = Expr::apply(op.into(), &operands, loc.clone(), scope::current());
        // An ill-typed operation has one result, which carries the error.
        let last = results.len() - 1;
        (Self(results[0].clone()), Self(results[last].clone()))
    }

    pub(crate) fn cast_at(&self, dtype: DType, loc: &Loc) -> Self {
        if self.dtype().is_none_or(|d| d == dtype) {
            self.clone()
        } else {
            Self::apply(Convert { dtype }, &[self], loc)
        }
    }

    /// A tensor that carries an error, or those of its operands if they carry any.
    pub(crate) fn refuse(op: &str, operands: &[&Self], rule: &str, help: &str, loc: Loc) -> Self {
        if let Err(bad) = sound(operands) {
            return bad;
        }
        let types = operands.iter().filter_map(|t| t.0.ty()).cloned().collect();
        Self(Expr::invalid(OpError::new(op, types, Rule::new(rule, help), loc)))
    }

    /// What is known of the sizes in its type.
    pub(crate) fn facts(&self) -> &Facts {
        self.0.facts()
    }
}

/// Refuses operands that carry errors: the error has the union of them.
pub(crate) fn sound(operands: &[&Tensor]) -> std::result::Result<(), Tensor> {
    match expr::errors_of(operands.iter().map(|t| &t.0)) {
        None => Ok(()),
        Some(errors) => Err(Tensor(Expr::with_errors(errors))),
    }
}

/// What is known of sizes from several operands together; contradictions are found when the operation is made.
pub(crate) fn facts_of(operands: &[&Tensor]) -> Facts {
    let mut all = Facts::default();
    for t in operands {
        // A contradiction is reported by the operation itself.
        let _ = all.merge(t.facts());
    }
    all
}

/// A shape of sizes: readable, and not negative.
pub(crate) fn sizes(op: &str, shape: impl IntoShape, loc: &Loc) -> std::result::Result<lehr_ir::Shape, Tensor> {
    let refuse = |rule: String| Tensor::refuse(op, &[], &rule, "give sizes ≥ 0 or names", loc.clone());
    let shape = shape.into_shape().map_err(|e| refuse(e.to_string()))?;
    match shape.iter().find(|d| d.as_const().is_some_and(|v| v < 0)) {
        Some(d) => Err(refuse(format!("the size {d} is negative"))),
        None => Ok(shape),
    }
}

/// Names that lehr itself gives to sizes.
pub(crate) fn is_reserved(symbol: &Symbol) -> bool {
    symbol.as_str().starts_with(['_', '%'])
}

/// Whether a user may call an input or a variable so.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 200
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether a variable may be called so: as an input, or a path such as `adam.m.blocks[2].weight`.
pub(crate) fn is_variable_name(name: &str) -> bool {
    is_name(&name.replace(['[', ']'], "_"))
}

/// Captures an array: a run-time argument of compiled code, never part of it.
impl From<Array> for Tensor {
    #[track_caller]
    fn from(array: Array) -> Self {
        Self(Expr::data(array, Loc::caller()))
    }
}

/// Captures an array, without a copy.
impl From<&Array> for Tensor {
    #[track_caller]
    fn from(array: &Array) -> Self {
        Self(Expr::data(array.clone(), Loc::caller()))
    }
}

impl From<&Tensor> for Tensor {
    fn from(t: &Tensor) -> Self {
        t.clone()
    }
}

/// A Rust type that is an array element: bool, integers, floats, `half`'s and complex numbers.
///
/// It is [`Element`](lehr_ir::Element) for a closed set of types, so that conversions from arrays of arrays can be told apart.
pub trait Number: lehr_ir::Element {}

macro_rules! numbers {
    ($($ty:ty),*) => { $(impl Number for $ty {})* };
}

numbers!(bool, i8, i16, i32, i64, u8, u16, u32, u64, half::f16, half::bf16, f32, f64);
numbers!(num_complex::Complex32, num_complex::Complex64);

macro_rules! from_rust {
    ($($(#[$doc:meta])* [$($generics:tt)*] $ty:ty;)*) => { $(
        $(#[$doc])*
        impl<$($generics)*> From<$ty> for Tensor {
            #[track_caller]
            fn from(value: $ty) -> Self {
                Self(Expr::data(Array::from(value), Loc::caller()))
            }
        }
    )* };
}

from_rust! {
    /// A captured scalar.
    [T: Number] T;
    /// A captured vector.
    [T: Number] Vec<T>;
    /// A captured vector.
    [T: Number] &[T];
    /// A captured vector.
    [T: Number, const N: usize] [T; N];
    /// A captured matrix, one inner array a row.
    [T: Number, const N: usize, const M: usize] [[T; N]; M];
    /// A captured stack of matrices.
    [T: Number, const N: usize, const M: usize, const L: usize] [[[T; N]; M]; L];
    /// A captured `ndarray` array; one that is not row-major is copied in logical order.
    [T: Number, S: ndarray::Data<Elem = T>, D: ndarray::Dimension] ndarray::ArrayBase<S, D>;
}

/// The type, or the errors; `Display` prints values where they are at hand.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.ty(), self.0.errors()) {
            (Some(ty), _) => write!(f, "Tensor({ty})"),
            (None, Some(e)) => write!(f, "Tensor({e})"),
            (None, None) => f.write_str("Tensor(?)"),
        }
    }
}

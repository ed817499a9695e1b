//! Derivatives against finite differences: a test for functions, layers, and operations of one's own.
//!
//! A function of trees is made a scalar by random weights, and moved along random directions, one input at a time.
//! The slope by central differences is compared with forward mode and reverse mode; for the second order the same is done with the
//! gradient in place of the function, which compares forward over reverse and reverse over reverse.

use std::fmt;

use lehr_ir::loc::Loc;
use lehr_ir::{Array, DType, Rule, Type};

use crate::closure::is_inexact;
use crate::error::Result;
use crate::function::Function;
use crate::options::{Backend, Options};
use crate::random::{self, Key, Keys};
use crate::tensor::Tensor;
use crate::transform::{grad, jvp};
use crate::tree::{self, Tree};

/// What [`gradcheck`] does.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct GradCheck {
    /// The highest order of derivatives.
    pub order: usize,
    /// How many directions each input is moved in.
    pub directions: usize,
    /// How far it is moved, times the directions, whose elements are about 1 in size.
    pub step: f64,
    /// The largest error, relative to the slope where that is above 1.
    pub tolerance: f64,
    /// Whether forward mode is checked; not for functions with a reverse rule of their own.
    pub forward: bool,
    /// What directions and weights are drawn from.
    pub key: Key,
    /// What runs the function.
    pub backend: Backend,
}

impl Default for GradCheck {
    fn default() -> Self {
        Self {
            order: 2,
            directions: 2,
            step: 1e-3,
            tolerance: 1e-6,
            forward: true,
            key: Key::new(0),
            backend: Backend::Interp,
        }
    }
}

impl GradCheck {
    /// The same, up to this order.
    #[must_use]
    pub fn order(self, order: usize) -> Self {
        Self { order, ..self }
    }

    /// The same, with this tolerance.
    #[must_use]
    pub fn tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// The same, with this step.
    #[must_use]
    pub fn step(self, step: f64) -> Self {
        Self { step, ..self }
    }

    /// The same in reverse mode alone.
    #[must_use]
    pub fn reverse_only(self) -> Self {
        Self { forward: false, ..self }
    }

    /// The same on this backend.
    #[must_use]
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }
}

/// Compares the derivatives of a function at a point with central differences, in `f64`.
///
/// Floats among the leaves of `at` are closed tensors, taken as `f64`; they are what the function is differentiated by. Other
/// leaves stay as they are. The difference is that of two steps, extrapolated, so that its own error is about the fourth power of
/// the step. A point within a step of a kink, such as 0 for relu, has no slope to compare with.
/// # Errors
/// [`Error::GradCheck`](crate::Error::GradCheck) with the whole report if a derivative is wrong; the errors of the function and its derivatives; a point
/// that is not closed or has no floats.
/// ```
/// use lehr::gradcheck::{GradCheck, gradcheck};
/// use lehr::prelude::*;
/// let (x, w) = (Tensor::from([0.3, -1.2]), Tensor::from([[0.5, 1.0], [-1.0, 2.0]]));
/// let report = gradcheck(&(&x, &w), &GradCheck::default(), |(x, w)| x.matmul(w).tanh())?;
/// assert_eq!(report.checks.len(), 16);
///
/// // Its gradient is wrong; the second derivative is that of the wrong gradient.
/// let wrong = custom_jvp("wrong", Tensor::sin, |x: &Tensor, t: &Tensor| (x.sin(), t * x.sin()));
/// let e = gradcheck(&x, &GradCheck::default(), |x| wrong.call(x)).unwrap_err();
/// assert!(e.to_string().starts_with("gradcheck: 4 of 8 derivatives"));
/// # Ok::<(), lehr::Error>(())
/// ```
#[track_caller]
pub fn gradcheck<I, O>(at: &I, options: &GradCheck, f: impl FnOnce(&I::Mapped) -> O) -> Result<Report>
where
    I: Tree + ?Sized,
    O: Tree,
{
    let loc = Loc::caller();
    let point = Point::new(at, &loc)?;
    let out = f(&tree::with_leaves(at, point.seen.clone()));
    let mut keys = Keys::of(options.key);
    let outs: Vec<Tensor> = tree::leaves(&out);
    outs.iter().try_for_each(Tensor::check)?;
    let floats: Vec<Tensor> = outs.iter().filter(|t| is_inexact(t)).map(|t| t.cast(DType::F64)).collect();
    let mut scalar = weighed(&floats, &mut keys);
    let mut report = Report { checks: Vec::new(), loc };
    for order in 1..=options.order {
        point.check(&scalar, order, options, &mut keys, &mut report.checks)?;
        if order < options.order {
            scalar = weighed(&grad(&scalar, &point.inputs), &mut keys);
        }
    }
    if report.failures().next().is_none() {
        return Ok(report);
    }
    Err(GradCheckError(report).into())
}

/// What was compared.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The comparisons, by order, input and direction.
    pub checks: Vec<Check>,
    loc: Loc,
}

/// A derivative beside its finite difference.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    /// The order: 1 for the function, 2 for its gradient.
    pub order: usize,
    /// The mode, which is the outer one of a second derivative.
    pub mode: Mode,
    /// The path name of the input that is moved; `input` if it has none.
    pub input: String,
    /// Which of the random directions it is moved in.
    pub direction: usize,
    /// The slope by finite differences.
    pub numeric: f64,
    /// The slope by the derivative.
    pub analytic: f64,
    /// How far they are apart, relative to the slope where that is above 1.
    pub error: f64,
    /// The most they may be apart.
    pub tolerance: f64,
}

/// A mode of differentiation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Tangents of outputs from tangents of inputs.
    Forward,
    /// Cotangents of inputs from cotangents of outputs.
    Reverse,
}

impl Report {
    /// The comparisons that fail; a NaN on either side does.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| !c.holds())
    }

    /// The largest error.
    pub fn worst(&self) -> f64 {
        self.checks.iter().map(|c| c.error).fold(0.0, f64::max)
    }
}

impl Check {
    /// Whether they agree.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { order, mode, input, direction, numeric, analytic, error, tolerance } = self;
        write!(f, "order {order}, {mode}, `{input}` in direction {direction}: numeric {numeric:.9e}, analytic ")?;
        write!(f, "{analytic:.9e}, error {error:.1e}, tolerance {tolerance:.1e}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in &self.checks {
            writeln!(f, "{} {c}", if c.holds() { " " } else { ">" })?;
        }
        Ok(())
    }
}

/// Derivatives that differ from finite differences.
#[derive(Clone, PartialEq, Debug)]
pub struct GradCheckError(pub Report);

impl fmt::Display for GradCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { checks, loc } = &self.0;
        let (wrong, all) = (self.0.failures().count(), checks.len());
        write!(f, "gradcheck: {wrong} of {all} derivatives differ from finite differences{}", crate::error::at(loc))?;
        for c in self.0.failures() {
            write!(f, "\n  {c}")?;
        }
        write!(
            f,
            "\n  = help: mend the rule that these have in common; at a kink, move the point; if the errors are small, change the step"
        )
    }
}

impl std::error::Error for GradCheckError {}

/// A point at which a function is looked at.
struct Point {
    /// What the function sees at its leaves: inputs for floats.
    seen: Vec<Tensor>,
    inputs: Vec<Tensor>,
    /// Placeholders for the directions.
    moves: Vec<Tensor>,
    names: Vec<String>,
    values: Vec<Array>,
}

impl Point {
    fn new<I: Tree + ?Sized>(at: &I, loc: &Loc) -> Result<Self> {
        let mut point =
            Self { seen: Vec::new(), inputs: Vec::new(), moves: Vec::new(), names: Vec::new(), values: Vec::new() };
        for (name, t) in tree::named_leaves(at) {
            if !is_inexact(&t) {
                t.check()?;
                point.seen.push(t);
                continue;
            }
            let value = t.cast(DType::F64).eval()?;
            let shape: Vec<usize> = value.shape().to_vec();
            let i = point.inputs.len();
            let input = Tensor::input(&format!("x{i}"), DType::F64, shape.clone());
            point.seen.push(input.clone());
            point.inputs.push(input);
            point.moves.push(Tensor::input(&format!("v{i}"), DType::F64, shape));
            point.names.push(if name.is_empty() { "input".to_owned() } else { name });
            point.values.push(value);
        }
        if point.inputs.is_empty() {
            let rule = Rule::new("the point has no floats", "give it a leaf to differentiate by");
            let types: Vec<Type> = tree::leaves(at).iter().filter_map(|t| t.0.ty().cloned()).collect();
            let error = lehr_ir::OpError::new("gradcheck", types, rule, loc.clone());
            Tensor(lehr_ir::expr::Expr::invalid(error)).check()?;
        }
        Ok(point)
    }

    /// Compares the slopes of a scalar.
    fn check(
        &self,
        scalar: &Tensor,
        order: usize,
        options: &GradCheck,
        keys: &mut Keys,
        checks: &mut Vec<Check>,
    ) -> Result<()> {
        let all: Vec<&Tensor> = self.inputs.iter().chain(&self.moves).collect();
        let compile = |f: Function| f.inputs(&all).compile(Options::default().backend(options.backend));
        let reverse =
            grad(scalar, &self.inputs).iter().zip(&self.moves).map(|(g, v)| (g * v).sum()).collect::<Vec<_>>();
        let mut slopes = Function::new("slopes").output("reverse", &sum(reverse));
        if options.forward {
            slopes = slopes.output("forward", &jvp(scalar, &self.inputs, &self.moves));
        }
        let (mut value, mut slopes) = (compile(Function::new("value").output("value", scalar))?, compile(slopes)?);
        for (i, name) in self.names.iter().enumerate() {
            for direction in 0..options.directions {
                let moves = self.direction(i, keys.next())?;
                let mut at = |h: f64| -> Result<f64> {
                    let moved = moved(&self.values[i], &moves[i], h);
                    let arrays =
                        self.values.iter().enumerate().map(|(k, x)| if k == i { moved.clone() } else { x.clone() });
                    value.run(arrays.chain(moves.iter().cloned()).collect::<Vec<Array>>())?.get("value")
                };
                let mut difference = |h: f64| -> Result<f64> { Ok((at(h)? - at(-h)?) / (2.0 * h)) };
                // Richardson's extrapolation: the errors of second order cancel.
                let numeric = (4.0 * difference(options.step / 2.0)? - difference(options.step)?) / 3.0;
                let given: Vec<Array> = self.values.iter().chain(&moves).cloned().collect();
                let found = slopes.run(given)?;
                let modes = [(Mode::Forward, "forward"), (Mode::Reverse, "reverse")];
                for (mode, output) in modes.into_iter().skip(usize::from(!options.forward)) {
                    let analytic: f64 = found.get(output)?;
                    let error = (analytic - numeric).abs() / numeric.abs().max(analytic.abs()).max(1.0);
                    let (input, tolerance) = (name.clone(), options.tolerance);
                    checks.push(Check { order, mode, input, direction, numeric, analytic, error, tolerance });
                }
            }
        }
        Ok(())
    }

    /// A random direction of one input; the others stay.
    fn direction(&self, i: usize, key: Key) -> Result<Vec<Array>> {
        let each = self.values.iter().enumerate().map(|(k, x)| match k == i {
            true => random::uniform(key, DType::F64, x.shape()).eval().map(|u| affine(&u, 2.0, -1.0)),
            false => Ok(Array::zeros(DType::F64, x.shape())),
        });
        each.collect()
    }
}

/// `x + h v`.
fn moved(x: &Array, v: &Array, h: f64) -> Array {
    zip(x, v, |x, v| x + h * v)
}

fn affine(x: &Array, scale: f64, offset: f64) -> Array {
    zip(x, x, |x, _| x * scale + offset)
}

fn zip(x: &Array, y: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
    let (a, b) = (x.as_slice::<f64>().unwrap_or_default(), y.as_slice::<f64>().unwrap_or_default());
    let all: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
    Array::new(x.shape(), all).unwrap_or_else(|_| x.clone())
}

/// Tensors made one number by random weights between 0.5 and 1.5.
fn weighed(all: &[Tensor], keys: &mut Keys) -> Tensor {
    let each = all.iter().map(|t| {
        let weights = random::uniform(keys.next(), DType::F64, t.shape()) + 0.5;
        (t * weights).sum()
    });
    sum(each.collect())
}

fn sum(all: Vec<Tensor>) -> Tensor {
    all.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros(DType::F64, ()))
}

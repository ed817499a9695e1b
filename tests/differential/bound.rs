//! Evaluates a graph together with a bound on how far other right answers may lie from each element.
//!
//! A running error analysis: each operation carries the bounds of its operands to its results and adds its own rounding, so that
//! cancellation, conditioning and the order of sums are taken into account. Operations that are exact, or rounded as IEEE 754
//! asks, add nothing: what is made by them alone must agree to the bit.
//! A device may reassociate, distribute and fuse, as WGSL allows: with [`Rules::free`], arithmetic on results of arithmetic adds
//! its rounding too.
//! An infinite bound means that nothing is known, as for a comparison of two values that may be equal: the element goes unchecked.

use lehr::ir::bindings::Bindings;
use lehr::ir::eval::{EvalCx, EvalError};
use lehr::ir::graph::Graph;
use lehr::ir::kernel::ScalarOp;
use lehr::ir::ops::{Arrays, BinaryOp, Combine, Op, Operation, Reduce, ReduceOp, ReduceWindow, Scatter, UnaryOp};
use lehr::ir::{Array, DType};

/// Bounds on the absolute error of each element; `None` where no other answer is right, signs of zeros included.
pub(crate) type Bound = Option<Vec<f64>>;

/// Values with their bounds.
#[derive(Debug)]
pub(crate) struct Bounded {
    pub(crate) values: Vec<Array>,
    pub(crate) bounds: Vec<Bound>,
}

/// By what rules a graph is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'b> {
    pub(crate) bindings: &'b Bindings,
    /// Whether chains of sums, products and quotients may be computed in other ways that are equal for real numbers.
    pub(crate) free: bool,
}

/// The outputs and then the updates of a graph.
pub(crate) fn evaluate(graph: &Graph, args: &[Array], rules: Rules<'_>) -> Result<Bounded, EvalError> {
    analyse(graph, args, &vec![None; args.len()], rules)
}

pub(crate) fn analyse(graph: &Graph, args: &[Array], bounds: &[Bound], rules: Rules<'_>) -> Result<Bounded, EvalError> {
    let cx = EvalCx { bindings: rules.bindings };
    let (mut values, mut errors) = (args.to_vec(), bounds.to_vec());
    for (_, node) in graph.nodes() {
        let xs: Vec<&Array> = node.operands.iter().map(|v| &values[v.index()]).collect();
        let es: Vec<&Bound> = node.operands.iter().map(|v| &errors[v.index()]).collect();
        let (ys, bounds) = if let Op::Call(call) = &node.op {
            let args: Vec<Array> = xs.into_iter().cloned().collect();
            let es: Vec<Bound> = es.into_iter().cloned().collect();
            let inner = analyse(&call.body, &args, &es, rules)?;
            (inner.values, inner.bounds)
        } else if let Some(done) = crate::control::control(&node.op, &xs, &es, rules)? {
            done
        } else if let Some(primitives) = crate::attention::by_primitives(&node.op, &xs) {
            // The operation rounds once what its primitives round step by step: they bound it too.
            let args: Vec<Array> = xs.iter().map(|&x| x.clone()).collect();
            let es: Vec<Bound> = es.into_iter().cloned().collect();
            (node.op.story().eval(&cx, &xs)?.into_vec(), analyse(&primitives, &args, &es, rules)?.bounds)
        } else {
            let ys = node.op.story().eval(&cx, &xs)?.into_vec();
            let bounds =
                (0..ys.len()).map(|i| bound(&node.op, &cx, rules.free, &xs, &es, &ys, i)).collect::<Result<_, _>>()?;
            (ys, bounds)
        };
        values.extend(ys);
        errors.extend(bounds);
    }
    let roots: Vec<usize> = graph.roots().map(|v| v.index()).collect();
    Ok(Bounded {
        values: roots.iter().map(|&i| values[i].clone()).collect(),
        bounds: roots.iter().map(|&i| errors[i].clone()).collect(),
    })
}

/// Twice the rounding unit of a float dtype, for two evaluations; and the distance of its least numbers.
pub(crate) fn unit(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F16 => (0.5f64.powi(10), 0.5f64.powi(24)),
        DType::BF16 => (0.5f64.powi(7), 0.5f64.powi(133)),
        DType::F32 => (f64::from(f32::EPSILON), f64::from(f32::from_bits(1))),
        _ => (2.0 * f64::EPSILON, f64::from_bits(1)),
    }
}

/// Units in the last place that an elementary function may be off, over both evaluations.
/// Narrow floats are computed in `f32` and rounded: what is a fraction of a unit there can take them to the other neighbour.
pub(crate) fn function_ulp(dtype: DType) -> f64 {
    if dtype.size() < 4 { 1.0 } else { 8.0 }
}

fn most(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => f64::from(f32::from_bits(0x7f7f_0000)),
        DType::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    }
}

/// The least number with all its bits.
pub(crate) fn normal(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 0.5f64.powi(14),
        DType::BF16 | DType::F32 => f64::from(f32::MIN_POSITIVE),
        _ => f64::MIN_POSITIVE,
    }
}

fn bound(
    op: &Op,
    cx: &EvalCx<'_>,
    free: bool,
    xs: &[&Array],
    es: &[&Bound],
    ys: &[Array],
    result: usize,
) -> Result<Bound, EvalError> {
    let y = &ys[result];
    let exact = es.iter().all(|e| e.is_none());
    if exact && !rounds(op, y.dtype()) {
        // One operation alone is exact. A bound of 0 says that another one on its result may be computed together with it.
        let first = free && y.dtype().is_float() && matches!(op, Op::Binary(f) if is_arithmetic(*f));
        return Ok(first.then(|| vec![0.0; y.len()]));
    }
    let x = |i: usize| numbers(xs[i]);
    let e = |i: usize| es[i].clone().unwrap_or_else(|| vec![0.0; xs[i].len()]);
    let n = numbers(y);
    let mut out: Vec<f64> = match op {
        Op::Constant(_) | Op::Iota(_) => return Ok(None),
        Op::Unary(f) => {
            let (x, e) = (x(0), e(0));
            (0..n.len()).map(|i| unary(*f, x[i], e[i], n[i], y.dtype())).collect()
        }
        Op::Binary(f) => {
            let (a, b, ea, eb) = (x(0), x(1), e(0), e(1));
            (0..n.len()).map(|i| binary(*f, free, [a[i], b[i]], [ea[i], eb[i]], n[i], y.dtype())).collect()
        }
        Op::Compare(_) => {
            let (a, b, ea, eb) = (x(0), x(1), e(0), e(1));
            let unsure = |i: usize| !(ea[i] + eb[i] == 0.0 || (a[i] - b[i]).abs() > ea[i] + eb[i]);
            (0..n.len()).map(|i| if unsure(i) { f64::INFINITY } else { 0.0 }).collect()
        }
        Op::Select(_) => {
            let (c, ec, ea, eb) = (x(0), e(0), e(1), e(2));
            let pick = |i: usize| if c[i] != 0.0 { ea[i] } else { eb[i] };
            (0..n.len()).map(|i| if ec[i] > 0.0 { f64::INFINITY } else { pick(i) }).collect()
        }
        Op::Convert(_) => {
            let (a, e) = (x(0), e(0));
            if y.dtype().is_float() {
                let (unit, least) = unit(y.dtype());
                (0..n.len()).map(|i| if e[i] == 0.0 { 0.0 } else { e[i] + unit * n[i].abs() + least }).collect()
            } else {
                // A step function: both ends of the interval must give the same.
                let step = |x: f64| lehr::ir::ops::convert::convert(lehr::ir::Literal::from(x), y.dtype());
                let sure = |i: usize| e[i] == 0.0 || (e[i].is_finite() && step(a[i] - e[i]) == step(a[i] + e[i]));
                (0..n.len()).map(|i| if sure(i) { 0.0 } else { f64::INFINITY }).collect()
            }
        }
        Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Pad(_)
        | Op::Concat(_) => {
            let moved: Vec<Array> = (0..xs.len()).map(|i| like(xs[i], e(i))).collect();
            numbers(&op.story().eval(cx, &moved.iter().collect::<Vec<_>>())?[0])
        }
        Op::Reduce(r) => reduce(r.op, &|op, x| Reduce { op, axes: r.axes.clone() }.eval(cx, &[x]), xs[0], e(0), y)?,
        Op::ReduceWindow(r) => reduce(r.op, &|op, x| ReduceWindow { op, ..r.clone() }.eval(cx, &[x]), xs[0], e(0), y)?,
        // Whether padding is multiplied with a weight that is not finite is open.
        Op::Convolution(_) if y.dtype().is_float() && x(1).iter().any(|w| !w.is_finite()) => {
            vec![f64::INFINITY; n.len()]
        }
        Op::ArgReduce(r) => {
            let worst = Reduce { op: ReduceOp::Max, axes: r.axis.as_slice().into() };
            let worst = numbers(&worst.eval(cx, &[&like(xs[0], e(0))])?[0]);
            let position = result == 1;
            worst.into_iter().map(|e| if position && e > 0.0 { f64::INFINITY } else { e.max(0.0) }).collect()
        }
        Op::Dot(_) | Op::Convolution(_) => {
            let dot = |a: Vec<f64>, b: Vec<f64>| -> Result<Vec<f64>, EvalError> {
                Ok(numbers(&op.story().eval(cx, &[&like(xs[0], a), &like(xs[1], b)])?[0]))
            };
            if !y.dtype().is_float() {
                unsure_if_any(&[e(0), e(1)], n.len())
            } else {
                let (unit, least) = unit(y.dtype());
                let (a, b) = (absolute(&x(0)), absolute(&x(1)));
                let ones = dot(vec![1.0; a.len()], vec![1.0; b.len()])?;
                let wide = |v: &[f64], e: Vec<f64>| v.iter().zip(e).map(|(v, e)| v + e).collect::<Vec<_>>();
                let size = dot(a.clone(), b.clone())?;
                let all = dot(wide(&a, e(0)), wide(&b, e(1)))?;
                (0..n.len())
                    .map(|i| {
                        let terms = ones[i] + 1.0;
                        let grown = if all[i] == size[i] { 0.0 } else { all[i] - size[i] };
                        limited(grown + terms * (unit * all[i] + least), all[i], y.dtype())
                    })
                    .collect()
            }
        }
        Op::Gather(_) => {
            if es[1].as_ref().is_some_and(|e| e.iter().any(|&e| e > 0.0)) {
                vec![f64::INFINITY; n.len()]
            } else {
                numbers(&op.story().eval(cx, &[&like(xs[0], e(0)), xs[1]])?[0])
            }
        }
        Op::Scatter(s) => scatter(s, cx, xs, [e(0), e(1), e(2)], y)?,
        Op::RandomBits(_) => unsure_if_any(&[e(0)], n.len()),
        // Regions and the primitives of attention are walked through, and operations of other crates are not generated.
        Op::Attention(_) | Op::AttentionTangent(_) | Op::AttentionGrad(_) => vec![f64::INFINITY; n.len()],
        Op::Call(_) | Op::Case(_) | Op::While(_) | Op::Scan(_) | Op::Extern(_) => vec![f64::INFINITY; n.len()],
    };
    for e in &mut out {
        if e.is_nan() {
            *e = f64::INFINITY;
        }
    }
    Ok(Some(out))
}

/// Whether two right evaluations of an operation on the same operands may differ.
fn rounds(op: &Op, dtype: DType) -> bool {
    let float = dtype.is_float();
    match op {
        Op::Unary(f) => float && matches!(f.row().scalar, ScalarOp::Call(_)),
        Op::Binary(f) => matches!(f, BinaryOp::Pow | BinaryOp::Atan2),
        // The extreme of zeros of both signs may have either.
        Op::Reduce(_) | Op::ArgReduce(_) | Op::ReduceWindow(_) | Op::Dot(_) | Op::Convolution(_) => float,
        Op::Attention(_) | Op::AttentionTangent(_) | Op::AttentionGrad(_) => float,
        Op::Scatter(s) => float && s.combine != Combine::Replace,
        Op::Constant(_)
        | Op::Iota(_)
        | Op::Compare(_)
        | Op::Select(_)
        | Op::Convert(_)
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Gather(_)
        | Op::RandomBits(_)
        | Op::Call(_)
        | Op::Case(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Extern(_) => false,
    }
}

fn unary(f: UnaryOp, x: f64, e: f64, y: f64, dtype: DType) -> f64 {
    let float = dtype.is_float();
    if !float {
        return if e > 0.0 { f64::INFINITY } else { 0.0 };
    }
    let (unit, least) = unit(dtype);
    let own = match f.row().scalar {
        ScalarOp::Call(_) => function_ulp(dtype) * (unit * y.abs() + least),
        ScalarOp::Sqrt if e > 0.0 => unit * y.abs() + least,
        _ => 0.0,
    };
    if y.is_infinite() && e == 0.0 {
        return 0.0;
    }
    if e == 0.0 {
        return if y.is_nan() { 0.0 } else { limited(own, y, dtype) };
    }
    let at = f.row().float;
    let (low, high) = (at(x - e), at(x + e));
    let ends = (low - y).abs().max((high - y).abs());
    let carried = match f {
        UnaryOp::Abs => e,
        // Even functions, whose least value may lie inside the interval.
        UnaryOp::Cosh => ends.max((y - 1.0) * f64::from(u8::from(x.abs() <= e))),
        UnaryOp::Sin | UnaryOp::Cos => e.min(2.0),
        UnaryOp::Tan => {
            let branch = |x: f64| (x / std::f64::consts::PI + 0.5).floor();
            if e < 1.0 && branch(x - e) == branch(x + e) { ends } else { f64::INFINITY }
        }
        UnaryOp::Neg
        | UnaryOp::Sign
        | UnaryOp::Not
        | UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Trunc
        | UnaryOp::Round
        | UnaryOp::Sqrt
        | UnaryOp::Cbrt
        | UnaryOp::Exp
        | UnaryOp::Exp2
        | UnaryOp::Expm1
        | UnaryOp::Log
        | UnaryOp::Log2
        | UnaryOp::Log1p
        | UnaryOp::Asin
        | UnaryOp::Acos
        | UnaryOp::Atan
        | UnaryOp::Sinh
        | UnaryOp::Tanh
        | UnaryOp::Asinh
        | UnaryOp::Acosh
        | UnaryOp::Atanh
        | UnaryOp::Logistic
        | UnaryOp::Erf
        | UnaryOp::Erfc => ends,
        // Monotone on each side of the pole.
        UnaryOp::Rsqrt => {
            if x > e {
                ends
            } else {
                f64::INFINITY
            }
        }
    };
    limited(carried * (1.0 + 4.0 * unit) + own, y, dtype)
}

fn binary(f: BinaryOp, free: bool, [a, b]: [f64; 2], [ea, eb]: [f64; 2], y: f64, dtype: DType) -> f64 {
    let e = ea + eb;
    if !dtype.is_float() {
        return if e > 0.0 { f64::INFINITY } else { 0.0 };
    }
    let (unit, least) = unit(dtype);
    let rounded = unit * y.abs() + least;
    match f {
        BinaryOp::Pow | BinaryOp::Atan2 if e == 0.0 => {
            if y.is_finite() {
                limited(function_ulp(dtype) * rounded, y, dtype)
            } else {
                0.0
            }
        }
        _ if e == 0.0 && free && is_arithmetic(f) && y.is_finite() => limited(rounded, y, dtype),
        _ if e == 0.0 => 0.0,
        // An infinity that is exact outweighs any error of the other.
        BinaryOp::Add | BinaryOp::Sub if y.is_infinite() && (a == y || b.abs() == y.abs()) && e.is_finite() => 0.0,
        BinaryOp::Add | BinaryOp::Sub => limited(e + rounded, y, dtype),
        BinaryOp::Mul => limited(a.abs() * eb + b.abs() * ea + ea * eb + rounded, y, dtype),
        BinaryOp::Div if b.abs() > eb => {
            limited((ea + eb * (a / b).abs()) / (b.abs() - eb) * (1.0 + 8.0 * unit) + rounded, y, dtype)
        }
        BinaryOp::Max | BinaryOp::Min => ea.max(eb),
        BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow | BinaryOp::Atan2 => f64::INFINITY,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr => f64::INFINITY,
    }
}

/// The operations that a device reassociates, distributes and fuses.
fn is_arithmetic(f: BinaryOp) -> bool {
    matches!(f, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
}

/// What folds an array, over axes or windows.
type Folder<'a> = dyn Fn(ReduceOp, &Array) -> Result<Arrays, EvalError> + 'a;

fn reduce(op: ReduceOp, folder: &Folder<'_>, x: &Array, e: Vec<f64>, y: &Array) -> Result<Vec<f64>, EvalError> {
    let dtype = y.dtype();
    let fold = |op: ReduceOp, v: Vec<f64>| -> Result<Vec<f64>, EvalError> { Ok(numbers(&folder(op, &like(x, v))?[0])) };
    let worst: Vec<f64> = fold(ReduceOp::Max, e.clone())?.into_iter().map(|e| e.max(0.0)).collect();
    let (unit, least) = unit(dtype);
    let a = absolute(&numbers(x));
    let wide: Vec<f64> = a.iter().zip(&e).map(|(a, e)| a + e).collect();
    let terms = fold(ReduceOp::Sum, vec![1.0; a.len()])?;
    Ok(match op {
        ReduceOp::Any | ReduceOp::All => worst,
        ReduceOp::Max | ReduceOp::Min => worst,
        ReduceOp::Sum | ReduceOp::Prod if !dtype.is_float() => {
            worst.into_iter().map(|e| if e > 0.0 { f64::INFINITY } else { 0.0 }).collect()
        }
        ReduceOp::Sum => {
            let (sum, errors) = (fold(ReduceOp::Sum, wide)?, fold(ReduceOp::Sum, e)?);
            (0..sum.len()).map(|i| limited(errors[i] + terms[i] * (unit * sum[i] + least), sum[i], dtype)).collect()
        }
        ReduceOp::Prod => {
            let (product, plain) = (fold(ReduceOp::Prod, wide.clone())?, fold(ReduceOp::Prod, a)?);
            let greatest = fold(ReduceOp::Prod, wide.iter().map(|w| w.max(1.0)).collect())?;
            let smallest = fold(ReduceOp::Prod, wide.iter().map(|w| w.min(1.0)).collect())?;
            let tiny = normal(dtype);
            (0..product.len())
                .map(|i| {
                    // A part of the product may be subnormal, where its relative error has no bound.
                    let lost = if smallest[i] < tiny { tiny * greatest[i] } else { 0.0 };
                    let own = 2.0 * terms[i] * (unit * product[i] + least * greatest[i]);
                    limited(product[i] - plain[i] + own + lost, greatest[i], dtype)
                })
                .collect()
        }
    })
}

fn scatter(
    s: &Scatter,
    cx: &EvalCx<'_>,
    xs: &[&Array],
    [ex, ei, eu]: [Vec<f64>; 3],
    y: &Array,
) -> Result<Vec<f64>, EvalError> {
    let dtype = y.dtype();
    let combine = |combine: Combine, x: Vec<f64>, u: Vec<f64>| -> Result<Vec<f64>, EvalError> {
        let s = Scatter { combine, ..s.clone() };
        Ok(numbers(&s.eval(cx, &[&like(xs[0], x), xs[1], &like(xs[2], u)])?[0]))
    };
    if ei.iter().any(|&e| e > 0.0) {
        return Ok(vec![f64::INFINITY; y.len()]);
    }
    let worst = combine(Combine::Max, ex.clone(), eu.clone())?;
    let (unit, least) = unit(dtype);
    let (x, u) = (absolute(&numbers(xs[0])), absolute(&numbers(xs[2])));
    let terms = combine(Combine::Add, vec![1.0; x.len()], vec![1.0; u.len()])?;
    let wide = |v: &[f64], e: &[f64]| v.iter().zip(e).map(|(v, e)| v + e).collect::<Vec<f64>>();
    Ok(match s.combine {
        Combine::Replace => combine(Combine::Replace, ex, eu)?,
        Combine::Min | Combine::Max => worst,
        Combine::Add | Combine::Mul if !dtype.is_float() => {
            worst.into_iter().map(|e| if e > 0.0 { f64::INFINITY } else { 0.0 }).collect()
        }
        Combine::Add => {
            let size = combine(Combine::Add, wide(&x, &ex), wide(&u, &eu))?;
            let errors = combine(Combine::Add, ex, eu)?;
            let own = |i: usize| if terms[i] > 1.0 { terms[i] * (unit * size[i] + least) } else { 0.0 };
            (0..size.len())
                .map(|i| if terms[i] > 1.0 { limited(errors[i] + own(i), size[i], dtype) } else { errors[i] })
                .collect()
        }
        Combine::Mul => {
            let size = combine(Combine::Mul, wide(&x, &ex), wide(&u, &eu))?;
            let plain = combine(Combine::Mul, x.clone(), u.clone())?;
            let over_one = |v: &[f64]| v.iter().map(|v| v.max(1.0)).collect::<Vec<f64>>();
            let greatest = combine(Combine::Mul, over_one(&wide(&x, &ex)), over_one(&wide(&u, &eu)))?;
            let tiny = normal(dtype);
            let own = |i: usize| terms[i] * (unit * size[i] + (least + tiny) * greatest[i]);
            (0..size.len())
                .map(|i| {
                    if terms[i] > 1.0 {
                        limited(size[i] - plain[i] + own(i), greatest[i], dtype)
                    } else {
                        size[i] - plain[i]
                    }
                })
                .collect()
        }
    })
}

/// An error, unless what was worked out on the way may have left the dtype's range.
fn limited(error: f64, size: f64, dtype: DType) -> f64 {
    if size.abs() + error < most(dtype) / 4.0 { error } else { f64::INFINITY }
}

fn unsure_if_any(errors: &[Vec<f64>], n: usize) -> Vec<f64> {
    let unsure = errors.iter().flatten().any(|&e| e > 0.0);
    vec![if unsure { f64::INFINITY } else { 0.0 }; n]
}

fn absolute(v: &[f64]) -> Vec<f64> {
    v.iter().map(|x| x.abs()).collect()
}

/// The elements as `f64`.
pub(crate) fn numbers(x: &Array) -> Vec<f64> {
    (0..x.len()).filter_map(|i| x.data().get(i)).map(|l| l.to_f64()).collect()
}

/// Numbers in the shape of an array.
fn like(x: &Array, v: Vec<f64>) -> Array {
    Array::new(x.shape(), v).expect("one number for each element")
}

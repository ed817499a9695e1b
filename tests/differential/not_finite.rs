//! NaN, infinities, zeros of both signs, subnormal and huge numbers on a device, where the machine has one, against the evaluator.
//!
//! One operation that is exact has the evaluator's bits, zeros' signs included. Functions and folds are near it wherever the result
//! is finite (to [`gpu::SLACK`] of the bounds of random graphs), and equal elsewhere. Two things are open: which NaN, and whether
//! what is subnormal counts as 0, as WGSL allows.

use std::cell::RefCell;
use std::sync::Arc;

use lehr::ir::graph::{Builder, Graph, ParamKind, Value};
use lehr::ir::kernel::ScalarOp;
use lehr::ir::ops::{ArgReduce, BinaryOp, CompareOp, DotDims, Reduce, ReduceOp, ReduceWindow, Select, UnaryOp, Window};
use lehr::ir::target::DeviceChoice;
use lehr::ir::{Array, DType, OpError, eval};
use lehr_backends::gpu::Device;

use crate::bound::{function_ulp, normal, numbers, unit};
use crate::generate::Case;
use crate::{gpu, retype};

const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const SPECIAL: [f64; 19] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -2.5,
    60000.0,
    3e38,
    -3e38,
    1e-40,
    -1e-40,
    3e-8,
    1.2e-38,
    88.9,
    -104.0,
    2_147_483_648.0,
];

#[test]
fn operations_of_one_element_agree() {
    with_device(|checks| {
        for dtype in FLOATS {
            let (x, y) = pairs(dtype);
            // Each is a graph of its own, where nothing else is known of its operands.
            for op in UnaryOp::ALL.iter().copied().filter(|op| *op != UnaryOp::Not) {
                let exact = !matches!(op.row().scalar, ScalarOp::Call(_) | ScalarOp::Sqrt);
                // Where a device rounds an `fma` twice, as WGSL allows, sines of large numbers are off by that part of them.
                let periodic = matches!(op, UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tan);
                let x = if periodic { &within(&x, 8.0) } else { &x };
                compare(checks, op_name(op, dtype), exact, &[x], |b, v| b.unary(op, v[0]));
            }
            for op in BinaryOp::ALL.iter().copied().filter(|op| takes_floats(*op)) {
                let exact = !matches!(op, BinaryOp::Div | BinaryOp::Pow | BinaryOp::Atan2 | BinaryOp::Rem);
                compare(checks, op_name(op, dtype), exact, &[&x, &y], |b, v| b.binary(op, v[0], v[1]));
                let twice = format!("{} twice", op_name(op, dtype));
                compare(checks, twice, exact, &[&x], |b, v| b.binary(op, v[0], v[0]));
                for c in [0.0, -0.0, f64::INFINITY] {
                    let right = format!("{} and {c:?}", op_name(op, dtype));
                    compare(checks, right, exact, &[&x], |b, v| {
                        let c = b.full_like(v[0], c)?;
                        b.binary(op, v[0], c)
                    });
                    let left = format!("{c:?} and {}", op_name(op, dtype));
                    compare(checks, left, exact, &[&x], |b, v| {
                        let c = b.full_like(v[0], c)?;
                        b.binary(op, c, v[0])
                    });
                }
            }
            for op in CompareOp::ALL.iter().copied() {
                compare(checks, op_name(op, dtype), true, &[&x, &y], |b, v| b.compare(op, v[0], v[1]));
                compare(checks, op_name(op, dtype), true, &[&x], |b, v| b.compare(op, v[0], v[0]));
            }
            compare(checks, op_name("select", dtype), true, &[&x, &y], |b, v| {
                let c = b.compare(CompareOp::Lt, v[0], v[1])?;
                b.op(Select.into(), &[c, v[0], v[1]])
            });
            for to in [DType::Bool, DType::I8, DType::U16, DType::I32, DType::U32, DType::F32, DType::F16, DType::BF16]
            {
                compare(checks, op_name(format!("to {to}"), dtype), true, &[&x], |b, v| b.convert(v[0], to));
            }
        }
    });
}

#[test]
fn folds_agree() {
    with_device(|checks| {
        for dtype in FLOATS {
            let x = rows(dtype);
            for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
                for axis in [0, 1] {
                    let fold = Reduce { op, axes: [axis].as_slice().into() };
                    compare(checks, format!("{op:?} {axis} {dtype}"), false, &[&x], |b, v| b.op(fold.into(), v));
                }
                let windows = [(1, 2), (2, 1)].map(|(_, stride)| Window {
                    stride,
                    padding: (1.into(), 0.into()),
                    base_dilation: 1,
                    window_dilation: 1,
                });
                let fold = ReduceWindow { op, sizes: [1, 3].as_slice().into(), windows: windows.as_slice().into() };
                compare(checks, format!("window {op:?} {dtype}"), false, &[&x], |b, v| b.op(fold.into(), v));
            }
            for max in [true, false] {
                for result in [0, 1] {
                    compare(checks, format!("arg {max} {dtype}"), false, &[&x], |b, v| {
                        let id = b.add_node(ArgReduce::new(max, 1).into(), v)?;
                        b.graph().node(id).results().nth(result).map_or_else(|| Ok(v[0]), Ok)
                    });
                }
            }
            compare(checks, format!("relu {dtype}"), true, &[&x], |b, v| {
                let zero = b.full_like(v[0], 0.0)?;
                b.binary(BinaryOp::Max, v[0], zero)
            });
            compare(checks, format!("softmax {dtype}"), false, &[&x], |b, v| {
                let shape = b.ty(v[0]).shape.clone();
                let top = b.reduce(ReduceOp::Max, v[0], &[1])?;
                let top = b.broadcast_reduced(top, &shape, &[1])?;
                let below = b.sub(v[0], top)?;
                let e = b.unary(UnaryOp::Exp, below)?;
                let total = b.sum(e, &[1])?;
                let total = b.broadcast_reduced(total, &shape, &[1])?;
                b.div(e, total)
            });
            let y = retype::array(&Array::new(&[6, 3], vec![0.5; 18]).expect("is as long"), dtype);
            compare(checks, format!("dot {dtype}"), false, &[&x, &y], |b, v| b.dot(v[0], v[1], DotDims::matmul(0)));
        }
    });
}

/// All pairs of special numbers.
fn pairs(dtype: DType) -> (Array, Array) {
    let n = SPECIAL.len();
    let of = |f: &dyn Fn(usize) -> f64| {
        let all: Vec<f64> = (0..n * n).map(f).collect();
        retype::array(&Array::new(&[n * n], all).expect("is as long"), dtype)
    };
    (of(&|i| SPECIAL[i / n]), of(&|i| SPECIAL[i % n]))
}

/// The numbers with what is finite and larger than a limit taken for the limit.
fn within(x: &Array, limit: f64) -> Array {
    let limited = |x: f64| if x.is_finite() { x.clamp(-limit, limit) } else { x };
    let all: Vec<f64> = numbers(x).into_iter().map(limited).collect();
    retype::array(&Array::new(x.shape(), all).expect("is as long"), x.dtype())
}

/// Rows whose folds do not depend on the order.
fn rows(dtype: DType) -> Array {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let rows = vec![
        [1.0, nan, 2.0, 0.5, -1.0, 3.0],
        [nan; 6],
        [1.0, 2.0, inf, 0.5, 1.0, 4.0],
        [-inf, 1.0, 2.0, -0.5, 1.0, 4.0],
        [-inf, inf, 1.0, 2.0, 3.0, 4.0],
        [-inf; 6],
        [inf; 6],
        [nan, inf, -inf, 0.0, 1.0, 2.0],
        [3.0, 2.0, -inf, -inf, nan, inf],
        [-0.0; 6],
        [-1.0, -2.0, -3.0, -0.5, -2.5, -7.0],
    ];
    let n = rows.len();
    retype::array(&Array::new(&[n, 6], rows.concat()).expect("is as long"), dtype)
}

fn op_name(op: impl std::fmt::Debug, dtype: DType) -> String {
    format!("{op:?} of {dtype}")
}

fn takes_floats(op: BinaryOp) -> bool {
    !matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr)
}

/// A device, and what it gets wrong.
struct Checks {
    device: Arc<Device>,
    wrong: RefCell<Vec<String>>,
}

fn with_device(check: impl FnOnce(&Checks)) {
    let device = match Device::open(&DeviceChoice::Best) {
        Ok(device) => device,
        Err(e) => return println!("skipped: {e}"),
    };
    let checks = Checks { device, wrong: RefCell::default() };
    check(&checks);
    let wrong = checks.wrong.into_inner();
    assert!(wrong.is_empty(), "{} are wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// Compares one operation's result with the evaluator's.
fn compare(
    checks: &Checks,
    name: impl std::fmt::Display,
    exact: bool,
    args: &[&Array],
    make: impl FnOnce(&mut Builder, &[Value]) -> Result<Value, OpError>,
) {
    let args: Vec<Array> = args.iter().map(|&x| x.clone()).collect();
    let graph = graph_of(&args, make).unwrap_or_else(|e| panic!("{name}: {e}"));
    let evaluate =
        |args: &[Array]| eval::evaluate(&graph, args).unwrap_or_else(|e| panic!("{name}: {e}")).outputs.remove(0);
    let want = evaluate(&args);
    // The same of operands as a device sees them for which what is subnormal counts as 0.
    let flushed = evaluate(&args.iter().map(flush).collect::<Vec<_>>());
    let (mut got, _) =
        gpu::run(&Case { graph, args: args.clone() }, &checks.device).unwrap_or_else(|e| panic!("{name}: {e}"));
    let got = got.remove(0).remove(0);
    let (x, y, z) = (numbers(&want), numbers(&got), numbers(&flushed));
    let parts: Vec<Vec<f64>> = args.iter().map(numbers).collect();
    let dtype = want.dtype();
    let has_subnormal =
        |i: usize| parts.iter().zip(&args).any(|(p, a)| p.get(i).is_some_and(|&x| is_subnormal(x, a.dtype())));
    let zero = |x: f64| if x == 0.0 || is_subnormal(x, dtype) { 0.0 } else { x };
    let wrong: Vec<String> = (0..x.len())
        .filter(|&i| !agrees(x[i], y[i], dtype, exact))
        .filter(|&i| !(has_subnormal(i) && agrees(zero(z[i]), zero(y[i]), dtype, exact)))
        .map(|i| {
            let of: Vec<f64> = parts.iter().filter(|p| p.len() == x.len()).map(|p| p[i]).collect();
            format!("{:?} is not {:?} of {of:?}", y[i], x[i])
        })
        .collect();
    if !wrong.is_empty() {
        checks.wrong.borrow_mut().push(format!("{name}: {}", wrong.join("; ")));
    }
}

fn graph_of(
    args: &[Array],
    make: impl FnOnce(&mut Builder, &[Value]) -> Result<Value, OpError>,
) -> Result<Graph, OpError> {
    let mut b = Builder::new("f");
    let types = args.iter().map(crate::table::build::type_of);
    let operands: Vec<Value> =
        types.enumerate().map(|(i, ty)| b.param(format!("x{i}"), ParamKind::Input, ty)).collect();
    let y = make(&mut b, &operands)?;
    b.output("y", y);
    Ok(b.finish())
}

/// An array with zeros, of the same sign, for what is subnormal.
fn flush(x: &Array) -> Array {
    let zero = |v: f64| if is_subnormal(v, x.dtype()) { 0.0f64.copysign(v) } else { v };
    let all: Vec<f64> = numbers(x).into_iter().map(zero).collect();
    retype::array(&Array::new(x.shape(), all).expect("is as long"), x.dtype())
}

fn is_subnormal(x: f64, dtype: DType) -> bool {
    dtype.is_float() && x != 0.0 && x.abs() < normal(dtype)
}

fn agrees(want: f64, got: f64, dtype: DType, exact: bool) -> bool {
    if want.is_nan() || !dtype.is_float() {
        return want.to_bits() == got.to_bits() || (want.is_nan() && got.is_nan());
    }
    if is_subnormal(want, dtype) && got.abs() < 2.0 * normal(dtype) {
        return true;
    }
    if exact || want.is_infinite() {
        return want.to_bits() == got.to_bits();
    }
    (want - got).abs() <= gpu::SLACK * function_ulp(dtype) * unit(dtype).0 * want.abs() + normal(dtype)
}

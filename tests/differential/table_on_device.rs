//! The table of operations on a device, where the machine has one: every row in every dtype that its operations take, and its
//! gradient in every float, against the evaluator.
//!
//! Tolerances are those of random graphs on a device ([`crate::gpu`]): what is exact agrees to the bit, anything else to
//! [`crate::gpu::SLACK`] bounds. Sums, products and quotients of others are not exact here: WGSL lets drivers reassociate,
//! distribute and fuse them, and the software one computes `2x + kx` as `(2 + k)x`.
//!
//! Drivers take some tens of milliseconds for a shader that they see first, and all pairs of rows and dtypes are some thousands of
//! shaders.
//! So each row runs in one dtype, the next row in the next one, unless `LEHR_GPU_TABLE` is `all`, or is a part of the names of the
//! pairs to run, as in `Tanh in f16`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lehr::ir::dtype::Kind;
use lehr::ir::graph::{Builder, ParamKind, Value};
use lehr::ir::ops::{BinaryOp, Op, UnaryOp};
use lehr::ir::target::DeviceChoice;
use lehr::ir::{Array, DType, Literal};
use lehr::passes::derivative::{jvp, value_and_grad};
use lehr_backends::gpu::Device;

use crate::generate::Case as Graphs;
use crate::gpu::{self, Counts};
use crate::retype;
use crate::table::build::{random, type_of};
use crate::table::{Case, all_cases};

const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];
const INTEGERS: [DType; 9] =
    [DType::Bool, DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];

#[test]
fn rows_of_floats_agree_on_a_device() {
    check(|| each(&FLOATS, forward));
}

#[test]
fn rows_of_integers_agree_on_a_device() {
    check(|| each(&INTEGERS, forward).into_iter().chain(INTEGERS.into_iter().flat_map(bits)).collect());
}

#[test]
fn gradients_of_rows_agree_on_a_device() {
    check(|| each(&FLOATS, gradient));
}

/// What is made of each row in each dtype, with a name.
fn each(dtypes: &[DType], make: impl Fn(&Case, DType) -> Option<Graphs>) -> Vec<(String, Graphs)> {
    let every = chosen().is_some();
    let of = |case: &Case, to: DType| Some((format!("{} in {to}", case.name), make(case, to)?));
    let mut turn = dtypes.iter().cycle();
    let mut all = Vec::new();
    for case in all_cases() {
        let mut found = (0..dtypes.len()).filter_map(|_| of(&case, *turn.next()?));
        if every {
            all.extend(found);
        } else {
            all.extend(found.next());
        }
    }
    all
}

/// A part of the names of the pairs to run, which is empty for all of them; `None` for a selection.
fn chosen() -> Option<String> {
    let part = std::env::var("LEHR_GPU_TABLE").ok()?;
    Some(if part == "all" { String::new() } else { part })
}

/// What a row computes, in a dtype; `None` where it does not take it.
fn forward(case: &Case, to: DType) -> Option<Graphs> {
    Some(Graphs { graph: retype::graph(&case.graph, DType::F64, to)?, args: args(&case.args, to) })
}

/// The gradient of what a row computes, or its tangents where there is no reverse mode.
fn gradient(case: &Case, to: DType) -> Option<Graphs> {
    if case.wrt.is_empty() {
        return None;
    }
    let mut args = args(&case.args, to);
    let graph = if case.reverse {
        let graph = retype::graph(&case.scalarized(), DType::F64, to)?;
        value_and_grad(&graph, graph.outputs().len() - 1, &case.wrt)
    } else {
        let moves = case.wrt.iter().map(|&i| random(case.args[i].shape(), -1., 1., 1000 + i as u64));
        args.extend(moves.map(|x| retype::array(&x, to)));
        jvp(&retype::graph(&case.graph, DType::F64, to)?, &case.wrt)
    };
    Some(Graphs { graph: graph.unwrap_or_else(|e| panic!("{}: {e}", case.name)), args })
}

/// A row's data in a dtype: integers of a few bits where it has numbers around 1.
fn args(args: &[Array], to: DType) -> Vec<Array> {
    let of = |x: &Array| {
        if x.dtype() != DType::F64 {
            return x.clone();
        }
        let mut numbers = x.clone();
        let data = numbers.make_mut();
        for i in 0..x.len() {
            let number = x.data().get(i).map_or(0.0, |l| l.to_f64());
            let number = match to {
                DType::Bool => f64::from(u8::from(number > 0.0)),
                _ if to.is_float() => number,
                _ if to.kind() == Kind::Signed => (8.0 * number).round(),
                _ => (8.0 * number).round().abs(),
            };
            data.set(i, Literal::from(number));
        }
        retype::array(&numbers, to)
    };
    args.iter().map(of).collect()
}

/// Operations that take no floats, in a dtype.
fn bits(to: DType) -> Vec<(String, Graphs)> {
    let types = [random(&[6], -2., 2., 1), random(&[6], -2., 2., 2)];
    let binary = [BinaryOp::And, BinaryOp::Or, BinaryOp::Xor, BinaryOp::Shl, BinaryOp::Shr];
    let ops = binary.into_iter().map(|op| (Op::from(op), 2)).chain([(UnaryOp::Not.into(), 1)]);
    let graph = |(op, arity): (Op, usize)| {
        let args = args(&types[..arity], to);
        let mut b = Builder::new("f");
        let operands = args.iter().enumerate().map(|(i, x)| b.param(format!("x{i}"), ParamKind::Input, type_of(x)));
        let operands: Vec<Value> = operands.collect();
        let result = b.op(op.clone(), &operands).ok()?;
        b.output("y", result);
        Some((format!("{} in {to}", op.name()), Graphs { graph: b.finish(), args }))
    };
    ops.filter_map(graph).collect()
}

/// Runs graphs on a device, on two threads.
fn check(all: impl FnOnce() -> Vec<(String, Graphs)>) {
    let device = match Device::open(&DeviceChoice::Best) {
        Ok(device) => device,
        Err(e) => return println!("skipped: {e}"),
    };
    let only = chosen().unwrap_or_default();
    let all: Vec<(String, Graphs)> = all().into_iter().filter(|(name, _)| name.contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let total = Mutex::new((0, Counts::default(), Vec::new()));
    let work = || {
        while let Some((name, graphs)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = gpu::check(graphs, &device, true);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match found {
                Ok(counts) => {
                    total.0 += 1;
                    total.1.add(counts);
                }
                Err(Some(e)) => total.2.push(format!("{name}: {e}")),
                // The evaluator refuses it: nothing to compare with.
                Err(None) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let (checked, counts, failures) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{checked} of {} graphs, {counts:?}, on {}", all.len(), device.name());
    assert!(failures.is_empty(), "{} fail\n{}", failures.len(), failures.join("\n"));
    assert!(checked == all.len() && counts.unchecked * 10 < counts.elements, "too little is checked");
}

//! Programs written twice, here and in `scripts/jax_programs*.py`: what lehr gives against what JAX gives.
//!
//! `programs.npz` holds, for each program, points and JAX's answers there (the script says how they are made). Each program is
//! compiled once for a dtype and a backend, into a function that gives its value, its gradient and its Hessian at the first
//! point, and its values and gradients under `vmap` over all points.

mod attention;
mod branches;
mod contractions;
mod edges;
mod elementwise;
mod harness;
mod indexing;
mod loops;
mod losses;
mod models;
mod nested;
mod reductions;
mod shapes;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::Answers;
use lehr::prelude::*;

/// Every answer, from the test's own folder.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/facade/jax/programs.npz");

/// A function of tensors.
type Body = Box<dyn Fn(&[Tensor]) -> Tensor + Send + Sync>;

/// A function of arrays, under the name that the script gives it.
pub(crate) struct Program {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    f: Body,
    /// Whether it goes through a loop of unknown length, which has forward mode only.
    forward: bool,
}

/// A program of arguments of these shapes.
fn program<const N: usize>(
    name: &'static str,
    shapes: [&[usize]; N],
    f: impl Fn(&[Tensor; N]) -> Tensor + Send + Sync + 'static,
) -> Program {
    let f = move |args: &[Tensor]| match args.try_into() {
        Ok(args) => f(args),
        Err(_) => unreachable!("a program is called with as many arguments as it has shapes"),
    };
    Program { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), f: Box::new(f), forward: false }
}

impl Program {
    /// Marks a program that is differentiated in forward mode.
    fn forward(self) -> Self {
        Self { forward: true, ..self }
    }
}

/// A scalar of another tensor's dtype.
fn number(like: &Tensor, value: f64) -> Tensor {
    Tensor::constant(value).cast_like(like)
}

/// A vector of another tensor's dtype.
fn vector(like: &Tensor, values: &[f64]) -> Tensor {
    Tensor::constant(values.to_vec()).cast_like(like)
}

/// Equal elements in another tensor's dtype.
fn filled(like: &Tensor, shape: &[usize], value: f64) -> Tensor {
    number(like, value).broadcast_to(shape)
}

fn all_programs() -> Vec<Program> {
    let groups = [
        elementwise::programs(),
        reductions::programs(),
        attention::programs(),
        contractions::programs(),
        shapes::programs(),
        indexing::programs(),
        losses::programs(),
        models::programs(),
        loops::programs(),
        branches::programs(),
        nested::programs(),
        edges::programs(),
        windows::programs(),
    ];
    groups.into_iter().flatten().collect()
}

#[test]
fn programs_agree_with_jax() {
    let programs = all_programs();
    let answers = harness::load(FILE);
    let (ours, theirs): (BTreeSet<&str>, BTreeSet<&str>) =
        (programs.iter().map(|p| p.name).collect(), answers.keys().map(String::as_str).collect());
    assert_eq!(ours.len(), programs.len(), "two programs have one name");
    let lacking = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).copied().collect::<Vec<_>>().join(", ");
    assert_eq!(ours, theirs, "only here: {}; only in the file: {}", lacking(&ours, &theirs), lacking(&theirs, &ours));

    let compared = compare_all(&programs, &answers);
    println!("{compared} programs compared with JAX, on {} backends, in f64 and f32", BACKENDS.len());
    assert!(compared >= 100, "{compared} programs were compared");
}

const BACKENDS: &[Backend] = &[Backend::Interp, Backend::Cpu];

/// Compares all programs on a few threads; gives how many were, and panics with all differences.
fn compare_all(programs: &[Program], answers: &BTreeMap<String, Answers>) -> usize {
    let (next, compared) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let faults = Mutex::new(Vec::new());
    let work = || {
        while let Some(p) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut found = Vec::new();
            for &backend in BACKENDS {
                for dtype in [F64, F32] {
                    let run = || harness::compare(p, &answers[p.name], dtype, backend);
                    // A panic in one program must not hide what is wrong with the others.
                    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                    let said = caught.unwrap_or_else(|_| Err(vec!["it panicked".to_owned()]));
                    found
                        .extend(said.err().into_iter().flatten().map(|e| format!("{} {dtype} {backend}: {e}", p.name)));
                }
            }
            compared.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut all) = faults.lock() {
                all.extend(found);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(work);
        }
    });
    let mut faults = faults.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    faults.sort();
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
    compared.into_inner()
}

/// Where lehr does not do as JAX does, with what JAX gives beside it.
#[test]
fn differences_from_jax_are_chosen() {
    let x = Tensor::from([0.0f64, f64::NAN]);
    // JAX chooses by x >= 0 and gives 1 and -1; 0 is the mean of the slopes on both sides.
    crate::check(&grad(&x.abs().sum(), &x), "[0,nan]");
    // JAX multiplies the exponent 0 by an infinite power and gives NaN, where the power is 1 for every base.
    let (base, exponent) = (Tensor::from(0.0f64), Tensor::from(0.0f64));
    crate::check(&grad(&base.pow(&exponent), &base), "0");
    // JAX fills with NaN.
    crate::check(&Tensor::from([1.0f64, 2.0]).take(&Tensor::from([5]), 0), "[0]");
    // JAX gives NaN, NumPy this.
    crate::check(&Tensor::from([1.0f64, -1.0]).floor_divide(0), "[inf,-inf]");
}

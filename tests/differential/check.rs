//! One graph, evaluated in every way there is, with the answers compared.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lehr::Vectors;
use lehr::ir::bindings::Bindings;
use lehr::ir::eval::{self, Evaluated};
use lehr::ir::graph::Graph;
use lehr::ir::kernel::interpret::Functions;
use lehr::ir::plan::StepKind;
use lehr::ir::plan::interpret;
use lehr::ir::{Array, Plan, Target};
use lehr::passes::compile::{compile, plan_of};
use lehr::passes::pass::{PassCx, PassOptions};
use lehr::passes::pipeline::optimize;
use lehr_backends::cpu::{Compiler, Options, Pool, Program};

use crate::bound::{self, Bound, Rules, numbers};
use crate::generate::Case;

/// What runs compiled graphs: compilers, a pool of one thread and one of two.
pub(crate) struct Machine {
    /// The one that chooses by kernel, then one for each kind of vectors that the machine has.
    compilers: Vec<Compiler>,
    target: Target,
    pools: [Pool; 2],
}

impl Machine {
    pub(crate) fn new() -> Self {
        let with = |vectors| Compiler::new(Options { vectors, threads: 1, ..Options::default() });
        let auto = with(Vectors::Auto).expect("a supported machine");
        let facts = auto.target();
        let target = Target { vector_bytes: facts.vector_bytes, fma: facts.fma, ..Target::default() };
        // What the machine lacks is left out.
        let forced = [Vectors::Portable, Vectors::Avx2, Vectors::Avx512].map(with).into_iter().flatten();
        Self { compilers: std::iter::once(auto).chain(forced).collect(), target, pools: [Pool::new(1), Pool::new(2)] }
    }
}

/// What a check looked at.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Stats {
    pub(crate) elements: usize,
    /// Elements whose bound is infinite.
    pub(crate) unchecked: usize,
    /// Graphs whose compiled result was compared with the plan interpreter's to the bit.
    pub(crate) to_the_bit: usize,
    /// Kernels with arrays of 64-bit elements, where the machine has wide vectors.
    pub(crate) long: usize,
    /// How many of them are wide code where that is asked for.
    pub(crate) long_and_wide: usize,
}

/// Why a graph fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The evaluator refuses it: nothing to compare with.
    Invalid(String),
    /// Two evaluations disagree, or one of them gives up.
    Mismatch(String),
}

/// Compares all evaluations of a graph.
pub(crate) fn check(case: &Case, machine: &Machine) -> Result<Stats, Failure> {
    let done = catch_unwind(AssertUnwindSafe(|| compare_all(case, machine)));
    done.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(Failure::Mismatch(format!("panic: {}", text.unwrap_or_default())))
    })
}

fn compare_all(case: &Case, machine: &Machine) -> Result<Stats, Failure> {
    let invalid = |e: eval::EvalError| Failure::Invalid(e.to_string());
    let bindings = eval::bind(&case.graph, &case.args).map_err(invalid)?;
    let want = bound::evaluate(&case.graph, &case.args, Rules { bindings: &bindings, free: false }).map_err(invalid)?;
    let mut stats = Stats::default();

    let inlined = inline_only(&case.graph)?;
    let (_, plain, _) = plan_of(&inlined, &machine.target).map_err(|e| wrong("plan without passes", &e))?;
    let got = interpreted(&plain, case, &bindings, Functions::Reference, "plan without passes")?;
    near(&want, &got, "plan without passes", &mut stats)?;

    let compiled = compile(case.graph.clone(), &machine.target, &mut PassCx::new(PassOptions::default()));
    let compiled = compiled.map_err(|e| wrong("compile", &e))?;
    let got = interpreted(&compiled.plan, case, &bindings, Functions::Reference, "plan")?;
    near(&want, &got, "plan", &mut stats)?;

    let recipe = interpreted(&compiled.plan, case, &bindings, Functions::Recipe, "plan with recipes")?;
    let plans = compiled.plan.with_nested();
    if let Some(widest) = machine.compilers.last().filter(|c| c.target().vector_bytes > 16) {
        let kernels = plans.iter().flat_map(|p| &p.kernels);
        for kernel in kernels.filter(|k| k.buffers.iter().any(|b| b.dtype.size() == 8)) {
            stats.long += 1;
            stats.long_and_wide += usize::from(widest.emitter(kernel).to_string().starts_with("AVX"));
        }
    }
    let library = plans.iter().any(|p| p.steps.iter().any(|s| matches!(s.kind, StepKind::Contract(_))));
    let mut first: Option<Vec<Array>> = None;
    for compiler in &machine.compilers {
        let program = Program::new(compiled.plan.clone(), compiler).map_err(|e| wrong("code", &e))?;
        let mut instance = program.instance();
        // The second run also finds the first one's leftovers in the arena, and variables that nobody else holds, which it may
        // overwrite with their new values.
        for (pool, in_place) in machine.pools.iter().zip([false, true].into_iter().cycle()) {
            let mut args = case.args.clone();
            let mut outputs = vec![Array::scalar(false); case.graph.outputs().len()];
            let mut updates = vec![Array::scalar(false); case.graph.updates().len()];
            for (place, &u) in updates.iter_mut().zip(&compiled.plan.updates).filter(|_| in_place) {
                args[u as usize].make_mut();
                *place = args[u as usize].clone();
            }
            instance.run(pool, &mut args, &mut outputs, &mut updates).map_err(|e| wrong("cpu", &e))?;
            outputs.append(&mut updates);
            match &first {
                None => first = Some(outputs),
                Some(first) => {
                    let what = format!("cpu and cpu with {:?} on {} threads", compiler.target(), pool.threads());
                    same(first, &outputs, &what)?;
                }
            }
        }
    }
    let got = first.unwrap_or_default();
    near(&want, &got, "cpu", &mut stats)?;
    if !library {
        same(&recipe, &got, "plan interpreter and cpu")?;
        stats.to_the_bit += 1;
    }
    Ok(stats)
}

/// The graph with calls put in place and nothing else done to it.
fn inline_only(graph: &Graph) -> Result<Graph, Failure> {
    let disable = ["eliminate_dead", "prune_regions", "fold_constants", "simplify", "eliminate_common"]
        .map(str::to_owned)
        .to_vec();
    let mut cx = PassCx::new(PassOptions { disable, ..PassOptions::default() });
    optimize(graph.clone(), &mut cx).map_err(|e| wrong("inlining", &e))
}

fn interpreted(
    plan: &Plan,
    case: &Case,
    bindings: &Bindings,
    functions: Functions,
    what: &str,
) -> Result<Vec<Array>, Failure> {
    let Evaluated { mut outputs, mut updates } =
        interpret::run(plan, &case.args, bindings, functions).map_err(|e| wrong(what, &e))?;
    outputs.append(&mut updates);
    Ok(outputs)
}

fn wrong(what: &str, e: &dyn std::error::Error) -> Failure {
    Failure::Mismatch(format!("{what}: {e}"))
}

/// Compares with the evaluator, each element to its bound.
fn near(want: &bound::Bounded, got: &[Array], what: &str, stats: &mut Stats) -> Result<(), Failure> {
    for (k, ((w, bound), g)) in want.values.iter().zip(&want.bounds).zip(got).enumerate() {
        if w.dtype() != g.dtype() || w.shape() != g.shape() {
            let text = format!("{what}, result {k}: {}{:?} is not {}{:?}", g.dtype(), g.shape(), w.dtype(), w.shape());
            return Err(Failure::Mismatch(text));
        }
        stats.elements += w.len();
        if let Some(i) = (0..w.len()).find(|&i| !agrees(w, g, bound, i, stats)) {
            let (x, y) = (w.data().get(i), g.data().get(i));
            let bound = bound.as_ref().map(|b| b[i]);
            return Err(Failure::Mismatch(format!(
                "{what}, result {k}, element {i}: {y:?} is not {x:?} within {bound:?}"
            )));
        }
    }
    Ok(())
}

fn agrees(want: &Array, got: &Array, bound: &Bound, i: usize, stats: &mut Stats) -> bool {
    let (Some(w), Some(g)) = (want.data().get(i), got.data().get(i)) else { return false };
    let (x, y) = (w.to_f64(), g.to_f64());
    match bound.as_ref().map(|b| b[i]) {
        Some(e) if e.is_infinite() => {
            stats.unchecked += 1;
            true
        }
        _ if w.dtype().is_float() && x.is_nan() => y.is_nan(),
        Some(e) if w.dtype().is_float() => x == y || (x - y).abs() <= e,
        _ => w.bits() == g.bits(),
    }
}

/// Compares to the bit, NaNs aside: which NaN an operation gives is not part of its meaning.
fn same(a: &[Array], b: &[Array], what: &str) -> Result<(), Failure> {
    for (k, (x, y)) in a.iter().zip(b).enumerate() {
        let (p, q) = (numbers(x), numbers(y));
        let equal = |i: usize| x.data().get(i) == y.data().get(i) && p[i].to_bits() == q[i].to_bits();
        if let Some(i) = (0..p.len()).find(|&i| !(equal(i) || p[i].is_nan() && q[i].is_nan())) {
            let (x, y) = (x.data().get(i), y.data().get(i));
            return Err(Failure::Mismatch(format!("{what}, result {k}, element {i}: {x:?} is not {y:?}")));
        }
    }
    Ok(())
}

//! The evaluator, plans and compiled code against each other, on random graphs and on graphs that once failed.
//!
//! `LEHR_SEED` sets the seed of a run, `LEHR_GRAPHS` the number of graphs.

mod attention;
mod bound;
mod check;
mod control;
mod generate;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "gpu")]
mod not_finite;
mod random;
#[cfg(feature = "gpu")]
mod retype;
#[cfg(feature = "gpu")]
mod shaders;
mod shrink;
mod sliding;
#[cfg(feature = "gpu")]
#[allow(dead_code, reason = "the tests of passes use all of it")]
#[path = "../table/mod.rs"]
mod table;
#[cfg(feature = "gpu")]
mod table_on_device;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use check::{Failure, Machine, Stats, check};
use generate::{Case, Focus, Limits, all_focuses, counted, generate};
use lehr::ir::graph::Graph;
use lehr::ir::graph::parse::parse_file;
use lehr::ir::ops::OpKind;
use random::Rng;

/// Operations that each graph must hold, beside those at random.
const FOCUSES: usize = 3;
/// How often each operation occurs on each dtype, at least.
const OCCURRENCES: usize = 50;

#[test]
fn random_graphs_agree_everywhere() {
    let seed = variable("LEHR_SEED").unwrap_or(20_240_607);
    let focuses = all_focuses();
    // Half as many again as have to be, as what is asked for may be refused for the shapes at hand.
    let enough = (OCCURRENCES * focuses.len()).div_ceil(FOCUSES) * 5 / 4;
    let graphs = variable("LEHR_GRAPHS").map_or(enough.max(2000), |n| n as usize);
    println!("seed {seed}, {graphs} graphs");

    let next = AtomicUsize::new(0);
    let total = Mutex::new((Stats::default(), BTreeMap::<Focus, usize>::new(), Vec::new()));
    let work = || {
        let machine = Machine::new();
        while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| i < graphs) {
            let case = case_of(seed, i, &focuses, Limits::FULL);
            let found = check(&case, &machine);
            let mut total = total.lock().expect("no other test panicked");
            count(&case.graph, &mut total.1);
            match found {
                Ok(s) => {
                    total.0.elements += s.elements;
                    total.0.unchecked += s.unchecked;
                    total.0.to_the_bit += s.to_the_bit;
                    total.0.long += s.long;
                    total.0.long_and_wide += s.long_and_wide;
                }
                Err(failure) => total.2.push((i, failure)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });

    let (stats, counts, mut failures) = total.into_inner().expect("no thread panicked");
    failures.sort_by_key(|f| f.0);
    print_table(&counts);
    println!("{stats:?}");
    if let Some((i, _)) = failures.first() {
        let known: Vec<String> = failures.iter().map(|(i, f)| format!("{i}: {f:?}")).collect();
        let smallest = explain(seed, *i, &focuses);
        panic!("seed {seed}: {} of {graphs} graphs fail\n{}\n{smallest}", failures.len(), known.join("\n"));
    }
    let rare: Vec<&Focus> = focuses.iter().filter(|f| counts.get(f).copied().unwrap_or(0) < OCCURRENCES).collect();
    assert!(graphs < 2000 || rare.is_empty(), "fewer than {OCCURRENCES} of {rare:?}");
    assert!(stats.unchecked * 10 < stats.elements, "too little is checked: {stats:?}");
    assert!(stats.to_the_bit * 2 > graphs, "too few graphs are compared to the bit: {stats:?}");
    assert!(stats.long_and_wide * 4 >= stats.long * 3, "too few kernels of 64-bit elements are wide: {stats:?}");
}

#[test]
fn graphs_that_failed_once_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/graphs");
    let machine = Machine::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "lehr"));
    files.sort();
    assert!(!files.is_empty(), "no file in {}", folder.display());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let parsed = parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for graph in parsed.graphs {
            let header = |key: &str| {
                let found = parsed.headers.iter().find(|(k, _)| k == key);
                found.map(|(_, v)| v.clone())
            };
            let args = shrink::args(&graph, &header).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if let Err(e) = check(&Case { graph, args }, &machine) {
                panic!("{}: {e:?}", file.display());
            }
        }
    }
}

#[test]
fn texts_of_cases_read_back() {
    let focuses = all_focuses();
    for i in 0..20 {
        let case = case_of(1, i, &focuses, Limits::FULL);
        let text = shrink::text(&case);
        let file = parse_file(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let args = shrink::args(&file.graphs[0], &|k| file.header(k).map(str::to_owned)).unwrap();
        assert_eq!(file.graphs[0].to_string(), case.graph.to_string());
        for (a, b) in args.iter().zip(&case.args) {
            assert!(a.shape() == b.shape() && (a.bit_eq(b) || bound::numbers(b).iter().any(|x| x.is_nan())), "{text}");
        }
    }
}

fn case_of(seed: u64, i: usize, all: &[Focus], limits: Limits) -> Case {
    let mine: Vec<Focus> = (0..FOCUSES).map(|k| all[(FOCUSES * i + k) % all.len()]).collect();
    generate(Rng::new(seed, i as u64), &mine, limits)
}

/// The smallest failing relative of a failing graph, as text.
fn explain(seed: u64, i: usize, focuses: &[Focus]) -> String {
    let machine = Machine::new();
    let fails = |c: &Case| matches!(check(c, &machine), Err(Failure::Mismatch(_)));
    let mut best = case_of(seed, i, focuses, Limits::FULL);
    for size in [1, 2, 3, 5, 9, i64::MAX] {
        for extra in [0, 1, 2, 4] {
            let case = case_of(seed, i, focuses, Limits { extra, size });
            if case.graph.node_count() < best.graph.node_count() && fails(&case) {
                best = case;
            }
        }
    }
    let small = shrink::shrink(best, &fails);
    let text = shrink::text(&small);
    let head: String = text.lines().map(|l| l.chars().take(2000).chain(['\n']).collect::<String>()).collect();
    format!("graph {i}: {:?}\n{head}", check(&small, &machine))
}

fn count(graph: &Graph, counts: &mut BTreeMap<Focus, usize>) {
    for (_, node) in graph.nodes() {
        *counts.entry(counted(graph, node)).or_default() += 1;
        for region in node.op.regions() {
            count(region, counts);
        }
    }
}

fn print_table(counts: &BTreeMap<Focus, usize>) {
    for &kind in OpKind::ALL {
        let row: Vec<String> = generate::DTYPES
            .iter()
            .map(|&d| format!("{d} {:5}", counts.get(&(kind, d)).copied().unwrap_or(0)))
            .collect();
        println!("{:12} {}", format!("{kind:?}"), row.join("  "));
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

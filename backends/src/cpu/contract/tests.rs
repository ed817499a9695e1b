//! Every way, instruction set and stride pattern against an exact product; the same bits for any number of threads.

mod problem;

use super::*;
use crate::cpu::pool::Pool;
use problem::{Case, Layout::*, Problem, READABLE, Random, Sample, WRITABLE, indices};

/// The instruction sets of this machine, and pools of 1 to 4 threads.
struct Bench {
    pools: Vec<Pool>,
    workspaces: Vec<Workspace>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            pools: (1..=4).map(Pool::new).collect(),
            workspaces: Isa::ALL.into_iter().filter_map(Workspace::with_isa).collect(),
        }
    }

    /// Checks a case on every instruction set, number of threads, and with a packed B.
    fn check<T: Sample>(&mut self, random: &mut Random, case: Case) {
        let problem = Problem::<T>::new(random, case);
        for workspace in &mut self.workspaces {
            for packed in [false, true] {
                let one = problem.run(&self.pools[0], workspace, packed);
                for pool in &self.pools[1..] {
                    let many = problem.run(pool, workspace, packed);
                    let same = one.iter().zip(&many).all(|(x, y)| x.bits() == y.bits());
                    assert!(same, "{case:?} {:?}: other bits with {} threads", workspace.isa(), pool.threads());
                }
            }
        }
    }
}

fn random_cases<T: Sample>(seed: u64) {
    let mut random = Random(seed);
    let mut bench = Bench::new();
    for _ in 0..300 {
        let case = Case {
            batch: random.below(4),
            m: random.below(71),
            n: random.below(71),
            k: random.below(71),
            a: random.pick(&READABLE),
            b: random.pick(&READABLE),
            c: random.pick(&WRITABLE),
            shared: (random.below(4) == 0, random.below(4) == 0),
            accumulate: random.below(2) == 0,
            epilogue: random.below(2) == 0,
        };
        bench.check::<T>(&mut random, case);
    }
}

#[test]
fn random_shapes_and_strides_f32() {
    random_cases::<f32>(1);
}

#[test]
fn random_shapes_and_strides_f64() {
    random_cases::<f64>(2);
}

#[test]
fn every_pair_of_layouts() {
    let mut random = Random(3);
    let mut bench = Bench::new();
    for a in READABLE {
        for b in READABLE {
            let c = random.pick(&WRITABLE);
            bench.check::<f32>(&mut random, Case { batch: 2, ..Case::plain(17, 19, 33) }.with(a, b, c));
            bench.check::<f32>(&mut random, Case::plain(3, 100, 40).with(a, b, c));
        }
    }
}

#[test]
fn few_rows_or_columns() {
    let mut random = Random(4);
    let mut bench = Bench::new();
    let shapes = [
        (1, 300, 150),
        (1, 600, 557),
        (2, 700, 500),
        (3, 550, 300),
        (4, 520, 331),
        (5, 260, 300),
        (8, 200, 17),
        (7, 1, 90),
        (1, 1, 1),
        (1, 90, 1),
    ];
    for (m, k, n) in shapes {
        for b in [RowMajor, ColMajor, Strided, Negative, NegativeColMajor] {
            for c in [RowMajor, ColMajor, Strided] {
                for a in [RowMajor, ColMajor] {
                    let epilogue = random.below(2) == 0;
                    let accumulate = random.below(2) == 0;
                    let case = Case { epilogue, accumulate, ..Case::plain(m, k, n).with(a, b, c) };
                    bench.check::<f32>(&mut random, case);
                    let turned = Case { epilogue, accumulate, ..Case::plain(n, k, m).with(b, a, c) };
                    bench.check::<f64>(&mut random, turned);
                }
            }
        }
    }
}

#[test]
fn large_shapes() {
    let mut random = Random(5);
    let mut bench = Bench::new();
    let shapes = [
        (150, 800, 130),
        (128, 260, 300),
        (31, 1000, 90),
        (300, 17, 290),
        (700, 90, 10),
        (33, 3000, 40),
        (2, 500, 1100),
    ];
    for (m, k, n) in shapes {
        let layouts = [
            (RowMajor, RowMajor, RowMajor),
            (RowMajor, ColMajor, PaddedRows),
            (ColMajor, PaddedRows, ColMajor),
            (Windows, RowMajor, RowMajor),
            (WindowsColMajor, Windows, PaddedRows),
            (Windows, Folded, ColMajor),
        ];
        // Windows of every shape would take long and show little.
        let layouts = if n > 100 { &layouts[..3] } else { &layouts[..] };
        for &(a, b, c) in layouts {
            let (accumulate, epilogue) = (random.below(2) == 0, random.below(2) == 0);
            let case = Case { accumulate, epilogue, ..Case::plain(m, k, n).with(a, b, c) };
            bench.check::<f32>(&mut random, case);
            bench.check::<f64>(&mut random, case);
        }
    }
}

/// Rows a multiple of 4 KiB apart crowd a cache set, so that they are packed from fewer rows or columns on.
#[test]
fn crowded_strides() {
    let mut random = Random(12);
    let mut bench = Bench::new();
    bench.pools.drain(2..);
    for (m, k, n) in [(20, 1024, 64), (20, 1024, 65), (320, 12, 1024), (321, 12, 1024), (1024, 12, 129)] {
        for a in [RowMajor, ColMajor] {
            bench
                .check::<f32>(&mut random, Case { epilogue: true, ..Case::plain(m, k, n).with(a, RowMajor, RowMajor) });
        }
    }
}

/// More than one super-block in each direction.
#[test]
fn super_blocks() {
    let mut random = Random(6);
    let mut bench = Bench::new();
    bench.workspaces.truncate(1);
    bench.pools.drain(2..);
    for (m, k, n) in [(70, 1000, 4200), (5200, 410, 70)] {
        let case = Case { epilogue: true, ..Case::plain(m, k, n).with(Strided, ColMajor, RowMajor) };
        bench.check::<f32>(&mut random, case);
    }
}

#[test]
fn batches() {
    let mut random = Random(7);
    let mut bench = Bench::new();
    for (batch, m, k, n) in [(3, 60, 80, 90), (40, 16, 20, 24), (9, 1, 64, 200), (33, 30, 40, 1)] {
        for shared in [(false, false), (false, true), (true, false), (true, true)] {
            for b in [RowMajor, ColMajor] {
                let case = Case { batch, shared, epilogue: true, ..Case::plain(m, k, n).with(RowMajor, b, RowMajor) };
                bench.check::<f32>(&mut random, case);
            }
        }
    }
}

/// Infinity meets zero, and a NaN meets everything in its row or column; nothing else is touched.
#[test]
fn nan_and_infinity_propagate() {
    let mut random = Random(8);
    let pool = Pool::new(2);
    for (m, k, n) in [(1, 40, 40), (3, 100, 33), (20, 30, 40), (40, 30, 3), (130, 70, 100)] {
        for (a, b) in [(RowMajor, RowMajor), (RowMajor, ColMajor), (ColMajor, Strided)] {
            let mut problem = Problem::<f32>::new(&mut random, Case::plain(m, k, n).with(a, b, RowMajor));
            for p in 0..k {
                let at = problem.a.at(0, m - 1, p);
                problem.a.data[at] = 0.0;
            }
            let infinity = problem.b.at(0, k / 2, n / 2);
            problem.b.data[infinity] = f32::INFINITY;
            let nan = problem.b.at(0, k - 1, n - 1);
            problem.b.data[nan] = f32::NAN;
            for isa in Isa::ALL {
                let Some(mut workspace) = Workspace::with_isa(isa) else {
                    continue;
                };
                let mut c = problem.c.clone();
                let job = Contraction {
                    batch: 1,
                    m,
                    n,
                    k,
                    a: problem.a.view(),
                    b: problem.b.view(),
                    c: c.view_mut(),
                    accumulate: false,
                    epilogue: None,
                };
                // SAFETY: the views lie in their buffers, and C is a buffer of its own.
                unsafe { contract(&job, &pool, &mut workspace) };
                for (_, i, j) in indices(1, m, n) {
                    let got = c.get(0, i, j);
                    let what = format!("{m}x{k}x{n} {a:?} {b:?} {isa:?} at ({i}, {j}): {got}");
                    if j == n - 1 || (j == n / 2 && i == m - 1) {
                        assert!(got.is_nan(), "{what}");
                    } else if j == n / 2 {
                        assert!(got.is_infinite(), "{what}");
                    } else {
                        assert!(got.is_finite(), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn k_of_zero_clears_or_keeps() {
    let mut random = Random(9);
    let mut bench = Bench::new();
    for accumulate in [false, true] {
        for epilogue in [false, true] {
            let case = Case { batch: 2, accumulate, epilogue, ..Case::plain(5, 0, 7) };
            bench.check::<f32>(&mut random, case);
        }
    }
}

/// A product computed in parts of its columns has the same bits: the tile around an element does not matter.
#[test]
fn bits_do_not_depend_on_the_tile() {
    let mut random = Random(10);
    let (pool, mut workspace) = (Pool::new(2), Workspace::new());
    let whole = Problem::<f32>::new(&mut random, Case::plain(100, 900, 90));
    let all = whole.run(&pool, &mut workspace, false);
    for cut in [20, 33, 47] {
        let mut part = Problem { case: Case { n: cut, ..whole.case }, ..Problem::new(&mut random, whole.case) };
        part.a = whole.a.clone();
        part.b = whole.b.clone();
        part.exact = part.solve();
        let some = part.run(&pool, &mut workspace, false);
        for (_, i, j) in indices(1, 100, cut) {
            assert_eq!(some[i * cut + j].bits(), all[i * 90 + j].bits(), "({i}, {j}) of {cut} columns");
        }
    }
}

#[test]
#[should_panic(expected = "shape of the packed operand")]
fn packed_operand_of_another_shape() {
    let mut random = Random(11);
    let (pool, mut workspace) = (Pool::new(1), Workspace::new());
    let problem = Problem::<f32>::new(&mut random, Case::plain(4, 5, 6));
    let mut c = problem.c.clone();
    // SAFETY: the views lie in their buffers, and C is a buffer of its own.
    unsafe {
        let b = PackedB::new(&problem.b.view(), 1, 5, 5, &pool, &workspace);
        let job = Contraction {
            batch: 1,
            m: 4,
            n: 6,
            k: 5,
            a: problem.a.view(),
            b: problem.b.view(),
            c: c.view_mut(),
            accumulate: false,
            epilogue: None,
        };
        contract_packed(&job, &b, &pool, &mut workspace);
    }
}

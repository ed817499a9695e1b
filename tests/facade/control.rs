//! Loops and branches: values, derivatives, batching, and what is refused.

use lehr::control::{ScanOptions, associative_scan, cond, fori_loop, map, scan, scan_with, switch, while_loop};
use lehr::prelude::*;

/// The tensor's value on both backends, which must agree.
fn value(t: &Tensor) -> String {
    let f = Function::new("f").output("y", t);
    let run = |backend| {
        let mut exe = f.compile(Options::default().backend(backend)).unwrap_or_else(|e| panic!("{e}"));
        let out = exe.run(()).unwrap_or_else(|e| panic!("{e}"));
        let array: Array = out.into_iter().next().expect("an output");
        array.to_string().replace(", ", ",")
    };
    let all: Vec<String> = Backend::available().iter().map(|&b| run(b)).collect();
    assert!(all.iter().all(|v| *v == all[0]), "{all:?}");
    all[0].clone()
}

#[track_caller]
fn check(t: &Tensor, want: &str) {
    assert_eq!(value(t), want);
}

#[track_caller]
fn refused(t: &Tensor, parts: &[&str]) {
    let message = t.check().expect_err("is refused").to_string();
    for part in parts {
        assert!(message.contains(part), "got\n{message}\nwant {part}");
    }
}

fn f(x: f32) -> Tensor {
    Tensor::from(x)
}

#[test]
fn scans_carry_and_stack() {
    let xs = Tensor::from([1.0f32, 2.0, 3.0]);
    let sums = |options| {
        scan_with(options, &(f(0.0), Tensor::from(0)), &xs, |(sum, i), x| {
            let sum = sum + x * 2;
            ((sum.clone(), i + 1), (sum, i.clone()))
        })
    };
    let ((total, count), (ys, is)) = sums(ScanOptions::default());
    check(&total, "12");
    check(&count, "3");
    check(&ys, "[2,6,12]");
    check(&is, "[0,1,2]");
    let ((total, _), (ys, is)) = sums(ScanOptions::default().reverse());
    check(&total, "12");
    check(&ys, "[12,10,6]");
    check(&is, "[2,1,0]");
    check(&map(&xs, |x| x * x), "[1,4,9]");
    // Structures of any form, and a carry that goes on unchanged.
    let (c, y) = scan(&vec![f(1.0), f(2.0)], &(xs.clone(), &xs), |c, (a, b)| {
        (vec![c[1].clone(), &c[0] + a * b], [c[0].clone()])
    });
    check(&c[0], "6");
    check(&c[1], "11");
    check(&y[0], "[1,2,2]");
}

#[test]
fn unrolled_scans_give_the_same() {
    let xs = Tensor::from([1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let run = |o: ScanOptions| {
        let (c, ys) = scan_with(o, &f(0.5), &xs, |c, x| (c * x + 1.0, c * 2.0));
        let all = Tensor::concat(&[ys.clone(), c.reshape(1)], 0);
        value(&Tensor::concat(&[all, grad(&(ys.sum() + &c), &xs)], 0))
    };
    for reverse in [false, true] {
        let with = |o: ScanOptions| if reverse { o.reverse() } else { o };
        let want = run(with(ScanOptions::default()));
        for k in [2, 3, 7, 9] {
            assert_eq!(run(with(ScanOptions::default().unroll(k))), want, "unrolled {k} times, reverse: {reverse}");
        }
    }
}

#[test]
fn empty_and_symbolic_scans() {
    let none = Tensor::zeros(F32, (0, 2));
    let (c, ys) = scan(&Tensor::from([3.0f32, 4.0]), &none, |c, x| (c + x, c * x));
    check(&c, "[3,4]");
    assert_eq!(ys.eval().unwrap().shape(), [0, 2]);
    let xs = Tensor::input("xs", F32, ("n", 2));
    let (c, ys) = scan(&Tensor::from([1.0f32, 1.0]), &xs, |c, x| (c + x, c.sum()));
    let g = grad(&(c.sum() + ys.sum()), &xs);
    let mut exe = Function::new("f").output("c", &c).output("g", &g).compile(Options::default()).unwrap();
    for n in [0usize, 1, 2, 5] {
        let out = exe.run([("xs", Array::full(&[n, 2], 1.0f32.into()))]).unwrap();
        let c: Vec<f32> = out.get("c").unwrap();
        assert_eq!(c, [1.0 + n as f32; 2]);
        let g: Array = out.get("g").unwrap();
        assert_eq!(g.shape(), [n, 2]);
    }
}

#[test]
fn counted_loops() {
    let x = f(2.0);
    check(&fori_loop(0, 4, &x, |i, y| y + i.cast(F32)), "8");
    check(&fori_loop(3, 1, &x, |_, y| y * 10), "2");
    check(&fori_loop(-2, 1, &Tensor::from(0i64), |i, y| y + i), "-3");
    let n = Tensor::from(5i32);
    check(&fori_loop(0, &n, &x, |_, y| y * 2), "64");
    check(&fori_loop(&n, 3, &x, |_, y| y * 2), "2");
}

#[test]
fn conditions_stop_loops() {
    let collatz = |n: i64| {
        while_loop(
            &(Tensor::from(n), Tensor::from(0)),
            |(n, _)| n.ne(1),
            |(n, steps)| (Tensor::select(&n.remainder(2).eq(0), n.floor_divide(2), n * 3 + 1), steps + 1),
        )
    };
    check(&collatz(27).1, "111");
    check(&collatz(1).1, "0");
    // Forward mode goes through; reverse mode is refused with a way out.
    let x = f(1.5);
    let y = while_loop(&x, |y| y.lt(100), |y| y * y);
    check(&y, "656.8408");
    let dy = jvp(&y, &x, &f(1.0));
    check(&dy, "7006.3022");
    refused(&grad(&y, &x), &["`while` has no reverse mode", "scan", "control.rs", "output `loss`"]);
}

#[test]
fn branches_are_chosen() {
    let x = f(3.0);
    let run = |p: bool| cond(&Tensor::from(p), || (&x * 2, Tensor::from(1)), || (x.exp(), Tensor::from(2)));
    check(&run(true).0, "6");
    check(&run(true).1, "1");
    check(&run(false).1, "2");
    check(&grad(&run(true).0, &x), "2");
    check(&grad(&run(false).0, &x), "20.085537");
    let pick = |i: i64| {
        let branches: [&dyn Fn() -> Tensor; 3] = [&|| x.clone(), &|| x.square(), &|| -&x];
        switch(&Tensor::from(i), branches)
    };
    check(&pick(0), "3");
    check(&pick(1), "9");
    check(&pick(2), "-3");
    check(&pick(-5), "3");
    check(&pick(i64::MAX), "-3");
    check(&grad(&pick(1), &x), "6");
    // Only one branch runs: the other would never end.
    let forever = || while_loop(&f(0.0), |x| x.ge(0), |x| x + 1);
    check(&cond(&x.gt(0), || x.clone(), forever), "3");
}

#[test]
fn derivatives_nest_through_loops() {
    let w = Tensor::from([0.5f64, -0.25]);
    let xs = Tensor::from([[1.0f64, 2.0], [0.5, -1.0], [2.0, 0.25]]);
    let net = |w: &Tensor| {
        let (h, ys) = scan(&Tensor::from([0.1f64, 0.2]), &xs, |h, x| {
            let h = (h * w + x).tanh();
            let y = cond(&h.sum().gt(0), || h.square().sum(), || h.sum());
            (h, y)
        });
        h.sum() + ys.sum()
    };
    let loss = net(&w);
    let g = grad(&loss, &w);
    let e = 1e-6;
    let shifted = |i: usize, by: f64| {
        let mut v = [0.5f64, -0.25];
        v[i] += by;
        Tensor::from(v)
    };
    let g_value: Vec<f64> = g.to().unwrap();
    for (i, got) in g_value.iter().enumerate() {
        let up: f64 = net(&shifted(i, e)).to().unwrap();
        let down: f64 = net(&shifted(i, -e)).to().unwrap();
        let want = (up - down) / (2.0 * e);
        assert!((got - want).abs() < 1e-7, "{i}: {got} and {want}");
    }
    // Second order, forward over reverse and reverse over forward.
    let v = Tensor::from([1.0f64, -2.0]);
    let fr: Vec<f64> = jvp(&g, &w, &v).to().unwrap();
    let rf: Vec<f64> = grad(&jvp(&loss, &w, &v), &w).to().unwrap();
    let rr: Vec<f64> = grad(&(&g * &v).sum(), &w).to().unwrap();
    for i in 0..2 {
        let grads = |by: f64| -> Vec<f64> {
            let w = Tensor::from([0.5 + by, -0.25 - 2.0 * by]);
            grad(&net(&w), &w).to().unwrap()
        };
        let want = (grads(e)[i] - grads(-e)[i]) / (2.0 * e);
        for got in [fr[i], rf[i], rr[i]] {
            assert!((got - want).abs() < 1e-6, "{i}: {got} and {want}");
        }
    }
}

#[test]
fn loops_are_batched() {
    let rows = Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let start = Tensor::from([10.0f32, 20.0]);
    let sum = |c: &Tensor, xs: &Tensor| scan(c, xs, |c, x| (c + x, c.clone()));
    let (c, ys) = vmap(&(&start, &rows), 0, |(c, xs)| sum(c, xs));
    check(&c, "[16,35]");
    check(&ys, "[[10,11,13],[20,24,29]]");
    // A carry that only becomes batched in the loop, and rows that are not.
    let (c, ys) = vmap(&start, 0, |s| scan(&f(0.0), &Tensor::from([1.0f32, 2.0]), |c, x| (c + s * x, x * 2)));
    check(&c, "[30,60]");
    check(&ys, "[[2,4],[2,4]]");
    // Each example runs to its own end.
    let ends = vmap(&Tensor::from([1i64, 50, 200]), 0, |n| while_loop(n, |n| n.lt(100), |n| n * 2));
    check(&ends, "[128,100,200]");
    // A condition that is one for all stays one.
    let powers = vmap(&Tensor::from([2i64, 3]), 0, |x| {
        while_loop(&(Tensor::from(0), x.clone()), |(i, _)| i.lt(3), |(i, y)| (i + 1, y * x)).1
    });
    check(&powers, "[16,81]");
    let chosen = vmap(&Tensor::from([1.0f32, -2.0, 4.0]), 0, |x| cond(&x.gt(0), || x.sqrt(), || x * 10));
    check(&chosen, "[1,-20,2]");
    let which = vmap(&Tensor::from([0i32, 1, 2, 7, -1]), 0, |i| {
        let branches: [&dyn Fn() -> Tensor; 3] = [&|| f(1.0), &|| i.cast(F32), &|| f(-1.0)];
        switch(i, branches)
    });
    check(&which, "[1,1,-1,-1,1]");
    let one = Tensor::from(true);
    check(&vmap(&start, 0, |x| cond(&one, || x * 2, || x.clone())), "[20,40]");
    // Gradients of each example, through the loop.
    let g = vmap(&rows, 0, |xs| {
        let (c, ()) = scan(&f(1.0), xs, |c, x| (c * x, ()));
        grad(&c, xs)
    });
    check(&g, "[[6,3,2],[30,24,20]]");
}

#[test]
fn prefixes_of_associative_operations() {
    for n in 1..9usize {
        let xs: Vec<i64> = (1..=n as i64).collect();
        let want: Vec<i64> = xs
            .iter()
            .scan(0, |s, x| {
                *s += x;
                Some(*s)
            })
            .collect();
        let got: Vec<i64> = associative_scan(&Tensor::from(xs), |a, b| a + b).to().unwrap();
        assert_eq!(got, want);
    }
    // Affine maps compose in order: (a, b) after (c, d).
    let (a, b) = (Tensor::from([2.0f32, 3.0, 4.0]), Tensor::from([1.0f32, 1.0, 1.0]));
    let (p, q) = associative_scan(&(a, b), |x, y| (&x.0 * &y.0, &x.1 * &y.0 + &y.1));
    check(&p, "[2,6,24]");
    check(&q, "[1,4,17]");
}

#[test]
fn mistakes_in_loops_name_both_lines() {
    let x = f(1.0);
    let (c, ()) = scan(&x, &Tensor::from([1.0f64]), |c, x| (c * x, ()));
    refused(
        &c,
        &[
            "scan: ",
            "the carry is f32[] before an iteration (tests/facade/control.rs:",
            "f64[] after it (tests",
            "keep its type",
        ],
    );
    refused(&while_loop(&x, |x| x.clone(), |x| x + 1), &["while_loop", "the condition", "bool[]"]);
    refused(&while_loop(&x, |x| x.lt(1), |x| x.reshape(1)), &["f32[] before an iteration", "f32[1] after it"]);
    refused(
        &cond(&Tensor::from(true), || x.clone(), || Tensor::from(1i64)),
        &["cond: ", "the false one gives i64[]", "the true one gives f32[]", "control.rs:"],
    );
    refused(&cond(&Tensor::from([true]), || x.clone(), || x.clone()), &["one bool[]", "vmap"]);
    refused(&cond(&x, || x.clone(), || x.clone()), &["a bool[]"]);
    refused(&switch(&x, [|| f(1.0)]), &["integer scalar"]);
    refused(&fori_loop(0, &x, &x, |_, y| y.clone()), &["a bound", "integer scalar"]);
    refused(&scan(&x, &(), |c, &()| (c.clone(), ())).0, &["no length is given", "times(n)"]);
    refused(&scan(&x, &x, |c, x| (c + x, ())).0, &["is scanned row by row and has no axis"]);
    let two = (Tensor::from([1.0f32, 2.0]), Tensor::from([1.0f32]));
    refused(&scan(&x, &two, |c, (a, b)| (c + a + b, ())).0, &["first dim of `x[0]`", "is 2", "`x[1]`", "is 1"]);
    let wrong = scan_with(ScanOptions::times(3), &x, &two.0, |c, x| (c + x, ())).0;
    refused(&wrong, &["the length asked for is 3", "is 2"]);
    refused(&scan_with(ScanOptions::times(-1), &x, &(), |c, &()| (c.clone(), ())).0, &["negative"]);
    // Errors of the body come out, with the line they were born on.
    let (c, ys) = scan(&x, &two.0, |c, x| (c + x, x.matmul(&Tensor::zeros(F32, (2, 2)))));
    refused(&c, &["matmul", "control.rs:"]);
    refused(&ys, &["matmul"]);
    // A value of the body that is used outside.
    let mut escaped = None;
    let _ = scan(&x, &two.0, |c, x| {
        escaped = Some(x * 2);
        (c + x, ())
    });
    let e = escaped.unwrap().eval().expect_err("is refused").to_string();
    assert!(e.contains("only inside the body given to `scan`") && e.contains("control.rs:"), "{e}");
}

#[test]
fn loops_print_and_read_back() {
    let xs = Tensor::input("xs", F32, ("n", 2));
    let w = Tensor::variable("w", [0.5f32, 2.0]);
    let (c, _) = scan(&Tensor::from([0.0f32, 1.0]), &xs, |c, x| ((c * &w + x).tanh(), ()));
    let y = while_loop(&c.sum(), |y| y.lt(3), |y| y + 1);
    let y = cond(&y.gt(1), || y.exp(), || y.clone());
    let graph = Function::new("f").output("y", &y).graph().unwrap();
    let text = graph.to_string();
    assert_eq!(lehr::ir::Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")), graph);
    let mut plain = graph.compact();
    plain.name = "loops".to_owned();
    insta::assert_snapshot!(lehr::snapshot::graph_text(&plain));
}

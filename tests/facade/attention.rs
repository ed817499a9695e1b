//! Attention: against the written-out form on every backend, what is one step and what is not, and bad input.

use lehr::ir::plan::StepKind;
use lehr::ir::{Graph, Target};
use lehr::nn::{AttentionOptions, MultiHeadAttention, attention};
use lehr::passes::compile::plan_of;
use lehr::prelude::*;

use crate::{broken, check, check_type};

fn numbers(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from(init::normal(Key::new(seed), shape, 0.0, 1.0))
}

/// The written-out form, with a mask of what may be seen.
fn written(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, mask: Option<&Tensor>) -> Tensor {
    let s = q.matmul(&k.swap_axes(-1, -2)) * scale;
    let s = match mask {
        Some(mask) => Tensor::select(mask, s, f64::NEG_INFINITY),
        None => s,
    };
    s.softmax(-1).matmul(v)
}

fn all(t: &[Tensor], backend: Backend) -> Vec<Vec<f64>> {
    let f = t.iter().enumerate().fold(Function::new("f"), |f, (i, t)| f.output(&format!("y{i}"), t));
    let mut f = f.compile(Options::default().backend(backend)).unwrap();
    let out = f.run(()).unwrap();
    let wide = |a: &Array| (0..a.len()).map(|i| a.data().get(i).unwrap().to_f64()).collect();
    out.arrays().iter().map(wide).collect()
}

/// Compares values and gradients of two ways to compute something, on every backend.
#[track_caller]
fn same(found: &Tensor, want: &Tensor, wrt: &[Tensor], bound: f64) {
    found.check().unwrap();
    let weights = numbers(99, &found.shape().iter().map(|d| d.as_const().unwrap() as usize).collect::<Vec<_>>());
    let with_grads = |y: &Tensor| {
        let mut out = vec![y.clone()];
        out.extend(grad(&(y * &weights).sum(), &wrt.to_vec()));
        out
    };
    let (found, want) = (with_grads(found), with_grads(want));
    let want = all(&want, Backend::Interp);
    for backend in crate::backends() {
        for (k, (g, w)) in all(&found, backend).iter().zip(&want).enumerate() {
            assert_eq!(g.len(), w.len());
            for (i, (g, w)) in g.iter().zip(w).enumerate() {
                assert!((g - w).abs() <= bound * (1.0 + w.abs()), "{backend}, result {k}, element {i}: {g}, not {w}");
            }
        }
    }
}

/// The causal mask of more keys than queries, or as many.
fn causal(queries: usize, keys: usize) -> Tensor {
    Tensor::ones(Bool, (queries, keys)).tril(keys as i64 - queries as i64)
}

#[test]
fn values_and_gradients_of_every_option() {
    let (q, k, v) = (numbers(1, &[2, 4, 33, 20]), numbers(2, &[2, 4, 70, 20]), numbers(3, &[2, 4, 70, 12]));
    let scale = 20f64.sqrt().recip();
    let wrt = [q.clone(), k.clone(), v.clone()];
    let plain = AttentionOptions::new;
    same(&attention(&q, &k, &v, &plain()), &written(&q, &k, &v, scale, None), &wrt, 1e-5);
    same(&attention(&q, &k, &v, &plain().scale(0.3)), &written(&q, &k, &v, 0.3, None), &wrt, 1e-5);
    let mask = causal(33, 70);
    same(&attention(&q, &k, &v, &plain().causal()), &written(&q, &k, &v, scale, Some(&mask)), &wrt, 1e-5);
    // A mask of keys for each batch entry, and one of pairs that serves all.
    for shape in [&[2, 1, 1, 70][..], &[33, 70], &[4, 1, 70]] {
        let mask = numbers(4, shape).gt(-0.5);
        same(&attention(&q, &k, &v, &plain().mask(&mask)), &written(&q, &k, &v, scale, Some(&mask)), &wrt, 1e-5);
    }
    for shape in [&[2, 4, 33, 70][..], &[4, 1, 70], &[33, 1]] {
        let bias = numbers(5, shape);
        let s = q.matmul(&k.swap_axes(-1, -2)) * scale + &bias;
        let wrt = [&wrt[..], std::slice::from_ref(&bias)].concat();
        same(&attention(&q, &k, &v, &plain().bias(&bias)), &s.softmax(-1).matmul(&v), &wrt, 1e-5);
    }
}

#[test]
fn grouped_heads_share_keys() {
    let (q, k, v) = (numbers(1, &[2, 6, 9, 8]), numbers(2, &[2, 3, 11, 8]), numbers(3, &[2, 3, 11, 5]));
    let (kk, vv) = (k.repeat(2, 1), v.repeat(2, 1));
    let mask = numbers(4, &[2, 6, 9, 11]).gt(-0.5);
    let options = AttentionOptions::new().mask(&mask);
    let want = written(&q, &kk, &vv, 8f64.sqrt().recip(), Some(&mask));
    same(&attention(&q, &k, &v, &options), &want, &[q.clone(), k, v], 1e-5);
    // One head of keys serves all, and no leading dims are needed.
    let (k, v) = (numbers(2, &[11, 8]), numbers(3, &[1, 11, 5]));
    same(
        &attention(&q, &k, &v, &AttentionOptions::new()),
        &written(&q, &k, &v, 8f64.sqrt().recip(), None),
        &[q, k, v],
        1e-5,
    );
}

#[test]
fn batches_of_examples() {
    let (q, k, v) = (numbers(1, &[3, 9, 8]), numbers(2, &[7, 8]), numbers(3, &[7, 3, 5]));
    let of = |q: &Tensor, k: &Tensor, v: &Tensor| attention(q, k, v, &AttentionOptions::new().causal());
    let mapped = vmap(&(&q, &k, &v), (Some(0), None, Some(1)), |(q, k, v)| of(q, k, v));
    let one = |i: i64| of(&q.slice(i), &k, &v.slice((.., i)));
    same(&mapped, &Tensor::stack(&[one(0), one(1), one(2)], 0), &[q.clone(), k.clone(), v.clone()], 1e-5);
}

#[test]
fn half_precision_is_computed_in_single() {
    for dtype in [F16, DType::BF16] {
        let [q, k, v] = [1, 2, 3].map(|i| numbers(i, &[5, 8]).cast(dtype));
        let y = attention(&q, &k, &v, &AttentionOptions::new());
        check_type(&y, &format!("{dtype}[5, 8]"));
        let wide = written(&q.cast(F32), &k.cast(F32), &v.cast(F32), 8f64.sqrt().recip(), None);
        let found = all(&[y, wide.cast(dtype)], Backend::Cpu);
        let off = found[0].iter().zip(&found[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off <= 0.01, "{off}");
    }
}

#[test]
fn sizes_may_be_names() {
    let [q, k] = ["q", "k"].map(|name| Tensor::input(name, F32, ("b", "t", "d")));
    let y = attention(&q, &k, &k, &AttentionOptions::new().causal());
    check_type(&y, "f32[b, t, d]");
    let dq = grad(&y.square().sum(), &q);
    for backend in crate::backends() {
        let f = Function::new("f").output("y", &y).output("dq", &dq);
        let mut f = f.compile(Options::default().backend(backend)).unwrap();
        for (b, t, d) in [(2, 5, 4), (1, 70, 16), (3, 1, 1), (0, 4, 4), (2, 0, 4)] {
            let x = init::normal(Key::new(1), &[b, t, d], 0.0, 1.0);
            let out = f.run([&x, &x]).unwrap();
            let mask = causal(t, t);
            let x = Tensor::from(x);
            let want = written(&x, &x, &x, (d as f64).sqrt().recip(), Some(&mask)).eval().unwrap();
            for i in 0..want.len() {
                let [a, b] = [&out.arrays()[0], &want].map(|a| a.data().get(i).unwrap().to_f64());
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}

#[test]
fn queries_that_see_nothing_get_zero() {
    let x = Tensor::from([[1.0f32], [2.0], [3.0]]);
    let mask = Tensor::from([[true, false, true], [false, false, false], [true, true, true]]);
    let y = attention(&x, &x, &x, &AttentionOptions::new().mask(&mask));
    for backend in crate::backends() {
        let found = all(&[y.slice(1), grad(&y.sum(), &x)], backend);
        assert_eq!(found[0], [0.0]);
        assert!(found[1].iter().all(|g| g.is_finite()), "{found:?}");
    }
    // More queries than keys under a causal mask: the first ones see none.
    check(&attention(&x, &x.slice(..1), &x.slice(..1), &AttentionOptions::new().causal()), "[[0],[0],[1]]");
}

/// A graph after the passes, its plan's steps of attention, and the most elements of a temporary.
fn planned(f: &Function) -> (Graph, usize, i64) {
    let graph = f.clone().compile(crate::interp()).unwrap().program().graph().clone();
    let (_, plan, _) = plan_of(&graph, &Target::default()).unwrap();
    let steps = plan.steps.iter().filter(|s| matches!(s.kind, StepKind::Attend(_))).count();
    let most = plan.buffers.iter().filter_map(|b| b.len.as_const()).max().unwrap_or(0);
    (graph, steps, most)
}

#[test]
fn no_scores_are_stored_in_either_direction() {
    let [q, k, v] = ["q", "k", "v"].map(|name| Tensor::input(name, F32, (2, 3, 256, 16)));
    let y = attention(&q, &k, &v, &AttentionOptions::new().causal());
    let (dq, dk, dv) = grad(&y.square().sum(), &(&q, &k, &v));
    let f = Function::new("f").output("y", &y).output("dq", &dq).output("dk", &dk).output("dv", &dv);
    assert_eq!((planned(&f).1, planned(&f).2), (2, 2 * 3 * 256 * 16));
    // Operands with heads after positions, and results that go there, are read as they lie.
    let q = Tensor::input("q", F32, (2, 256, 3, 16));
    let heads = q.swap_axes(1, 2);
    let y = attention(&heads, &heads, &heads, &AttentionOptions::new());
    let (graph, ..) = planned(&Function::new("f").output("y", &y));
    let (_, plan, _) = plan_of(&graph, &Target::default()).unwrap();
    assert_eq!(plan.steps.len(), 1);
}

/// How many steps of attention come of the written-out form of scores and values.
fn found_of(make: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> usize {
    let [q, k, v] = ["q", "k", "v"].map(|name| Tensor::input(name, F32, (2, 40, 16)));
    let (graph, steps, _) = planned(&Function::new("f").output("y", &make(&q, &k, &v)));
    // Shown where a test fails.
    println!("{}", graph.display(lehr::ir::graph::print::PrintOptions { blobs: true, ..Default::default() }));
    steps
}

#[test]
fn the_written_out_form_is_found() {
    let t = |k: &Tensor| k.swap_axes(-1, -2);
    let mask = Tensor::input("mask", Bool, (40, 40));
    let bias = Tensor::input("bias", F32, (2, 1, 40));
    assert_eq!(found_of(|q, k, v| written(q, k, v, 0.25, None)), 1);
    assert_eq!(found_of(|q, k, v| written(q, k, v, 0.25, Some(&causal(40, 40)))), 1);
    assert_eq!(found_of(|q, k, v| written(q, k, v, 1.0, Some(&mask))), 1);
    assert_eq!(found_of(|q, k, v| (q.matmul(&t(k)) / 4.0 + &bias).softmax(-1).matmul(v)), 1);
    assert_eq!(found_of(|q, k, v| (&bias + q.matmul(&t(k))).softmax(-1).matmul(v)), 1);
    // Features before queries.
    assert_eq!(found_of(|q, k, v| t(v).matmul(&t(&q.matmul(&t(k)).softmax(-1)))), 1);
    // Any low number serves under a causal mask, and however positions are compared.
    let places = Tensor::arange(40);
    let (rows, columns) = (places.expand_dims(1), places.expand_dims(0));
    let low = |seen: &Tensor, q: &Tensor, k: &Tensor| Tensor::select(seen, q.matmul(&t(k)), -1e9);
    assert_eq!(found_of(|q, k, v| low(&rows.ge(&columns), q, k).softmax(-1).matmul(v)), 1);
    assert_eq!(found_of(|q, k, v| low(&columns.le(&rows), q, k).softmax(-1).matmul(v)), 1);
    assert_eq!(found_of(|q, k, v| low(&columns.lt(&(&rows + 1)), q, k).softmax(-1).matmul(v)), 1);
    let hidden = columns.gt(&rows);
    let high = |q: &Tensor, k: &Tensor| Tensor::select(&hidden, -1e9, q.matmul(&t(k)));
    assert_eq!(found_of(|q, k, v| high(q, k).softmax(-1).matmul(v)), 1);
}

#[test]
fn what_is_nearly_attention_stays() {
    let t = |k: &Tensor| k.swap_axes(-1, -2);
    let mask = Tensor::input("mask", Bool, (40, 40));
    // Softmax over the queries, and none at all.
    assert_eq!(found_of(|q, k, v| q.matmul(&t(k)).softmax(-2).matmul(v)), 0);
    assert_eq!(found_of(|q, k, v| q.matmul(&t(k)).exp().matmul(v)), 0);
    // Something between softmax and values, or between products and softmax.
    assert_eq!(found_of(|q, k, v| (q.matmul(&t(k)).softmax(-1) * 2.0).matmul(v)), 0);
    assert_eq!(found_of(|q, k, v| q.matmul(&t(k)).tanh().softmax(-1).matmul(v)), 0);
    // A number that softmax may see: too high, or in a row that has nothing else.
    assert_eq!(found_of(|q, k, v| Tensor::select(&causal(40, 40), q.matmul(&t(k)), -100.0).softmax(-1).matmul(v)), 0);
    assert_eq!(found_of(|q, k, v| Tensor::select(&mask, q.matmul(&t(k)), -1e9).softmax(-1).matmul(v)), 0);
    assert_eq!(
        found_of(|q, k, v| Tensor::select(&causal(40, 40).tril(-1), q.matmul(&t(k)), -1e9).softmax(-1).matmul(v)),
        0
    );
    // Another use of the weights.
    assert_eq!(
        found_of(|q, k, v| {
            let w = q.matmul(&t(k)).softmax(-1);
            w.matmul(v).sum() + w.square().sum()
        }),
        0
    );
    // A gradient of the written-out form keeps the weights.
    assert_eq!(found_of(|q, k, v| grad(&written(q, k, v, 0.25, None).sum(), q)), 0);
}

/// What is found means what was written, on random masks too, and where nothing is seen.
#[test]
fn what_is_found_means_the_same() {
    let (q, k, v) = (numbers(1, &[2, 40, 16]), numbers(2, &[2, 40, 16]), numbers(3, &[2, 40, 16]));
    let mask = numbers(4, &[40, 40]).gt(1.0);
    let closed = Tensor::select(&Tensor::arange(40).expand_dims(1).ge(3), &mask, false);
    let written = [
        written(&q, &k, &v, 0.25, None),
        written(&q, &k, &v, 0.25, Some(&causal(40, 40))),
        written(&q, &k, &v, 0.25, Some(&mask)),
        written(&q, &k, &v, 0.25, Some(&closed)),
        (q.matmul(&k.swap_axes(-1, -2)) / 3.0 + numbers(5, &[40])).softmax(-1).matmul(&v),
    ];
    let weights = (q.matmul(&k.swap_axes(-1, -2)) / 4.0).softmax(-1);
    let flipped = v.swap_axes(-1, -2).matmul(&weights.swap_axes(-1, -2));
    let written = [&written[..], &[flipped]].concat();
    let plain = Options::default().backend(Backend::Interp).disable("find_attention");
    for y in &written {
        let f = Function::new("f").output("y", y);
        let want = f.clone().compile(plain.clone()).unwrap().run(()).unwrap();
        for backend in crate::backends() {
            let found = f.clone().compile(Options::default().backend(backend)).unwrap().run(()).unwrap();
            for i in 0..found.arrays()[0].len() {
                let [g, w] = [&found, &want].map(|o| o.arrays()[0].data().get(i).unwrap().to_f64());
                assert!((g - w).abs() < 1e-5 || (g.is_nan() && w.is_nan()), "{g}, not {w}");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_and_vectors() {
    let (q, k, v) = (numbers(1, &[3, 150, 40]), numbers(2, &[3, 170, 40]), numbers(3, &[3, 170, 24]));
    let y = attention(&q, &k, &v, &AttentionOptions::new().causal());
    let (dq, dk, dv) = grad(&y.square().sum(), &(&q, &k, &v));
    let f = Function::new("f").output("y", &y).output("dq", &dq).output("dk", &dk).output("dv", &dv);
    let mut first: Option<Vec<Array>> = None;
    for vectors in lehr::Vectors::ALL {
        for threads in [1, 2, 3] {
            // A machine may lack some vectors.
            let Ok(mut f) = f.clone().compile(Options::default().vectors(vectors).threads(threads)) else { continue };
            let out: Vec<Array> = f.run(()).unwrap().arrays().to_vec();
            let first = first.get_or_insert_with(|| out.clone());
            assert!(first.iter().zip(&out).all(|(a, b)| a.bit_eq(b)), "{vectors}, {threads} threads");
        }
    }
    assert!(first.is_some());
}

#[test]
fn bad_operands_are_refused() {
    let t = |shape: &[usize]| Tensor::zeros(F32, shape);
    let of = |q: &Tensor, k: &Tensor, v: &Tensor, o: &AttentionOptions| broken(&attention(q, k, v, o));
    let none = AttentionOptions::new();
    let x = t(&[2, 3, 4]);
    assert_eq!(
        of(&x, &t(&[2, 3, 5]), &x, &none),
        "attention: operand 0 is f32[2, 3, 4], operand 1 is f32[2, 3, 5], operand 2 is f32[2, 3, 4]; the features of queries and \
         keys, 4 and 5 must be equal"
    );
    assert!(of(&x, &x, &t(&[2, 4, 4]), &none).ends_with("the numbers of keys and values, 3 and 4 must be equal"));
    assert!(of(&t(&[4]), &x, &x, &none).ends_with("queries, keys and values have two dims or more"));
    let (q, k) = (t(&[2, 1, 3, 4]), t(&[3, 1, 3, 4]));
    assert!(of(&q, &k, &q, &none).ends_with("the leading dims do not broadcast"));
    let (q, k) = (t(&[1, 8, 3, 4]), t(&[1, 3, 3, 4]));
    assert!(of(&q, &k, &k, &none).ends_with("8 heads of queries are no multiple of the 3 heads of keys and values"));
    let e = of(&x, &x, &x, &none.clone().mask(&t(&[3, 3])));
    assert!(e.ends_with("a mask is bool, true where a query may attend to a key"), "{e}");
    let mask = Tensor::ones(Bool, (3, 4));
    assert!(
        of(&x, &x, &x, &none.clone().mask(&mask)).contains("must be equal"),
        "{}",
        of(&x, &x, &x, &none.mask(&mask))
    );
    assert!(
        of(&Tensor::zeros(DType::C64, (3, 4)), &x, &x, &AttentionOptions::new()).ends_with("it takes real numbers")
    );
}

#[test]
fn multi_head_attention() {
    let mut keys = Keys::new(3);
    let layer = MultiHeadAttention::new(16, 4, &mut keys).causal();
    let x = numbers(1, &[2, 7, 16]);
    let cx = &mut Context::eval();
    let y = layer.forward(&x, cx);
    check_type(&y, "f32[2, 7, 16]");
    let heads = |d: &Dense, cx: &mut Context| d.forward(&x, cx).reshape((2, 7, 4, 4)).swap_axes(1, 2);
    let (q, k, v) = (heads(&layer.query, cx), heads(&layer.key, cx), heads(&layer.value, cx));
    let z = written(&q, &k, &v, 0.5, Some(&causal(7, 7))).swap_axes(1, 2).reshape((2, 7, 16));
    let want = layer.out.forward(&z, cx);
    same(&y, &want, &[x.clone(), layer.query.weight.clone(), layer.key.weight.clone()], 1e-5);
    let grouped = MultiHeadAttention::new(16, 4, &mut keys).kv_heads(2, &mut keys);
    check_type(&grouped.key.weight, "f32[16, 8]");
    check_type(&grouped.attend(&x, &numbers(2, &[2, 5, 16]), &AttentionOptions::new(), cx), "f32[2, 7, 16]");
    let odd = MultiHeadAttention::new(16, 3, &mut keys);
    assert!(broken(&odd.forward(&x, cx)).ends_with("3 heads do not divide the projection's 16 features"));
}

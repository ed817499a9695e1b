//! Random numbers: determinism, ranges, the host against the graph.

use lehr::prelude::*;

use crate::{broken, check};

#[test]
fn keys_are_deterministic_and_different() {
    assert_eq!(Key::new(1), Key::new(1));
    assert_ne!(Key::new(1), Key::new(2));
    let split = Key::new(3).split(4);
    assert_eq!(split, Key::new(3).split(4));
    assert!((0..4).all(|i| (0..i).all(|j| split[i] != split[j])));
    let graph: Vec<u32> = random::fold_in(Key::new(3), 2).to().unwrap();
    assert_eq!(graph, Key::new(3).fold_in(2).words());
    assert_eq!(Key::new(u64::MAX).words(), [u32::MAX; 2]);
}

#[test]
fn the_stream_is_threefry() {
    // The known answer of the authors' Random123 distribution for key 0, counter 0.
    check(&random::bits(Key::new(0), U32, ()), "1797259609");
    let words: Vec<u32> = random::bits(Key::new(5), U32, 4).to().unwrap();
    assert_eq!(words, Key::new(5).words_of_stream().take(4).collect::<Vec<_>>());
}

#[test]
fn initialisers_are_the_graphs_numbers() {
    let shape = [37, 11];
    let host = init::uniform(Key::new(9), &shape, -0.5, 0.5);
    let graph = random::uniform(Key::new(9), F32, shape) - 0.5;
    assert_eq!(host, graph.eval().unwrap());
    // Normal numbers go through elementary functions, whose last bits are the backend's.
    let host: Vec<f32> = init::normal(Key::new(9), &shape, 0.0, 1.0).into_vec().unwrap();
    let graph: Vec<f32> = random::normal(Key::new(9), F32, shape).eval().unwrap().into_vec().unwrap();
    assert_eq!(host.len(), graph.len());
    for (h, g) in host.iter().zip(&graph) {
        assert!((h - g).abs() <= 1e-6 * (1.0 + h.abs()), "{h} {g}");
    }
}

#[test]
fn moments_are_those_of_the_distributions() {
    let n = 20_000;
    let u = random::uniform(Key::new(2), F32, n);
    let z = random::normal(Key::new(2), F32, n);
    let w = random::normal(Key::new(2), F64, n);
    let near = |t: Tensor, want: f64, eps: f64| {
        let found: f64 = t.cast(F64).to().unwrap();
        assert!((found - want).abs() < eps, "{found} {want}");
    };
    near(u.mean(), 0.5, 0.01);
    near(u.var(), 1.0 / 12.0, 0.005);
    near(z.mean(), 0.0, 0.03);
    near(z.var(), 1.0, 0.04);
    near(z.pow(4).mean(), 3.0, 0.25);
    near(w.mean(), 0.0, 0.03);
    near(w.var(), 1.0, 0.04);
    near(random::bernoulli(Key::new(2), 0.3, n).mean(), 0.3, 0.02);
    let d = random::randint(Key::new(2), I64, n, -2, 3);
    near(d.cast(F64).mean(), 0.0, 0.05);
    assert_eq!((d.min().to_string(), d.max().to_string()), ("-2".to_owned(), "2".to_owned()));
    assert!(u.ge(0).logical_and(u.lt(1)).all().to::<bool>().unwrap());
}

#[test]
fn bad_requests_are_refused() {
    assert!(broken(&random::uniform(Key::new(0), I32, 3)).contains("random numbers are floats, not i32"));
    assert!(broken(&random::randint(Key::new(0), I32, 3, 5, 5)).contains("cannot be drawn"));
    assert!(broken(&random::bits(Tensor::from([1, 2]), U32, 3)).contains("the key must be"));
}

#[test]
fn a_large_weight_is_quick() {
    let start = std::time::Instant::now();
    let w = init::he_uniform(Key::new(0), &[784, 512]);
    assert_eq!(w.shape(), [784, 512]);
    println!("784x512 he_uniform: {:?}", start.elapsed());
}

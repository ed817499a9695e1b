//! Memory against compute: values computed again where that lowers the planned peak.

use lehr::passes::rematerialize::Rematerialize;
use lehr::prelude::*;

/// Layers whose derivative needs two values of each: the activation, and what it is made into by cheap operations.
fn deep(layers: usize) -> Function {
    let x = Tensor::input("x", F32, (64, 32));
    let mut h = x.clone();
    let mut weights = Vec::new();
    for i in 0..layers {
        let w = Tensor::variable(&format!("w{i}"), Array::full(&[32, 32], 0.05f32.into()));
        h = h.matmul(&w).tanh();
        weights.push(w);
    }
    let loss = h.square().sum();
    let mut f = Function::new("deep").output("loss", &loss);
    for (i, g) in grad(&loss, &weights).iter().enumerate() {
        f = f.output(&format!("g{i}"), g);
    }
    f
}

#[cfg(feature = "cpu")]
#[test]
fn cheap_values_are_computed_again_where_it_lowers_the_peak() {
    let options = |how| Options::default().backend(Backend::Cpu).rematerialize(how);
    let f = deep(12);
    let memory = |how| f.explain(&options(how)).unwrap().memory.unwrap();
    let (kept, again) = (memory(Rematerialize::Never), memory(Rematerialize::Always));
    let (count, before) = again.rematerialized.clone().expect("values are computed again");
    assert_eq!(before, kept.arena);
    let (less, more) = (again.arena.as_const().unwrap(), kept.arena.as_const().unwrap());
    assert!(count >= 10 && less * 10 < more * 7, "{count} values: {less} bytes, {more} without");
    // Small temporaries lie in caches, where computing again costs more than it saves.
    assert_eq!(memory(Rematerialize::Auto).rematerialized, None);
    let text = f.explain(&options(Rematerialize::Always)).unwrap().to_string();
    assert!(
        text.contains(&format!("computed again to save memory: {count} values; the arena was {more} before")),
        "{text}"
    );

    let run = |how| -> Vec<Array> {
        let x: Vec<f32> = (0..64 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
        let mut exe = f.compile(options(how)).unwrap();
        exe.run([("x", Array::new(&[64, 32], x).unwrap())]).unwrap().into_iter().collect()
    };
    assert_eq!(run(Rematerialize::Never), run(Rematerialize::Always));
}

//! Layers and contexts.

use lehr::prelude::*;

use crate::{broken, check_type};

#[test]
fn dense_layers() {
    let layer = Dense::with(Array::from([[1.0f32], [2.0]]), Some(Array::from([10.0f32])));
    let x = Tensor::input("x", F32, ("n", 2));
    let y = layer.forward(&x, &mut Context::eval());
    check_type(&y, "f32[n, 1]");
    let mut f = Function::new("f").output("y", &y).compile(crate::interp()).unwrap();
    let found: Vec<f32> = f.run(([[1.0f32, 1.0], [0.0, 3.0]],)).unwrap().unpack().unwrap();
    assert_eq!(found, [13.0, 16.0]);
    check_type(&layer.forward(&Tensor::zeros(F32, (5, 4, 2)), &mut Context::eval()), "f32[5, 4, 1]");
}

#[test]
fn dropout_drops_in_training_only_and_anew_each_call() {
    let x = Tensor::input("x", F32, 1000);
    let mut eval = Context::eval();
    assert!(nn::dropout(&x, 0.5, &mut eval).is(&x));
    let mut cx = Context::train_with(Key::new(3));
    let y = nn::dropout(&x, 0.25, &mut cx);
    let z = nn::dropout(&x, 0.25, &mut cx);
    let f = Function::new("f").output("y", &y).output("z", &z).updates_of(&cx);
    let run = || {
        let mut f = f.compile(crate::interp()).unwrap();
        let mut all: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
        for _ in 0..2 {
            all.push(f.run([vec![3.0f32; 1000]].map(Array::from)).unwrap().unpack().unwrap());
        }
        all
    };
    let found = run();
    assert_eq!(found, run());
    assert_ne!(found[0].0, found[1].0);
    assert_ne!(found[0].0, found[0].1);
    let kept = found[0].0.iter().filter(|v| **v != 0.0).count();
    assert!((700..800).contains(&kept), "{kept}");
    assert!(found[0].0.iter().all(|&v| v == 0.0 || v == 4.0));
    assert!(broken(&nn::dropout(&x, 1.0, &mut cx)).contains("the rate 1 is not in [0, 1)"));
}

#[test]
fn sequences_of_layers() {
    let mut keys = Keys::new(0);
    let model = nn::Sequential::new()
        .with(Dense::new(4, 8, &mut keys))
        .with(Tensor::relu)
        .with(Dropout::new(0.1))
        .with(Dense::new(8, 3, &mut keys));
    let x = Tensor::input("x", F32, ("n", 4));
    check_type(&model.forward(&x, &mut Context::train()), "f32[n, 3]");
    assert_eq!(lehr::tree::names(&model), ["[0].weight", "[0].bias", "[3].weight", "[3].bias"]);
}

#[test]
fn scopes_group_nodes_and_nothing_else() {
    let x = Tensor::input("x", F32, 2);
    let mut cx = Context::eval();
    let plain = x.exp();
    let grouped = cx.scope("block", |cx| cx.scope("inner", |_| x.exp()));
    let f = Function::new("f").output("a", &plain).output("b", &grouped);
    let text = f.graph().unwrap().to_string();
    assert!(text.contains("block") && text.contains("inner"), "{text}");
    let mut f = f.compile(crate::interp()).unwrap();
    let (a, b): (Vec<f32>, Vec<f32>) = f.run(([1.0f32, 2.0],)).unwrap().unpack().unwrap();
    assert_eq!(a, b);
}

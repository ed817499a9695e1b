//! Structures of tensors and their names.

use std::collections::{BTreeMap, HashMap};

use lehr::prelude::*;
use lehr::tree;

#[derive(Tree)]
struct Block<A> {
    act: A,
    layers: Vec<Dense>,
    #[tree(skip)]
    note: std::rc::Rc<str>,
    rate: f64,
}

#[derive(Tree)]
struct Pair(Tensor, Option<Tensor>);

#[derive(Tree)]
struct Unit;

#[derive(Tree)]
enum Activation<A> {
    Relu,
    Scaled { by: A, note: &'static str },
    Both(Box<Activation<A>>, #[tree(skip)] std::rc::Rc<str>),
}

fn leaf(name: &str) -> Tensor {
    Tensor::variable(name, 1.0f32)
}

#[test]
fn leaves_are_named_by_path() {
    let mut keys = Keys::new(0);
    let layers = vec![Dense::new(1, 1, &mut keys), Dense { bias: None, ..Dense::new(1, 1, &mut keys) }];
    let block = Block { act: Pair(leaf("a"), None), layers, note: "x".into(), rate: 0.5 };
    assert_eq!(tree::names(&block), ["act[0]", "layers[0].weight", "layers[0].bias", "layers[1].weight"]);
    assert_eq!(tree::names(&Unit), Vec::<String>::new());
    let map = BTreeMap::from([("b".to_owned(), leaf("b")), ("a".to_owned(), leaf("a"))]);
    assert_eq!(tree::names(&(map, [leaf("x"), leaf("y")])), ["[0].a", "[0].b", "[1][0]", "[1][1]"]);
    assert_eq!(tree::names(&leaf("w")), [""]);
}

#[test]
fn gradients_have_the_shape_of_the_model() {
    let pair = Pair(Tensor::from(2.0f32), Some(Tensor::from(3.0f32)));
    let b = pair.1.clone().unwrap();
    let g = grad(&(&pair.0 * &b * &b), &pair);
    assert_eq!(g.0.to_string(), "9");
    assert_eq!(g.1.unwrap().to_string(), "12");
    let layer = Dense::new(2, 1, &mut Keys::new(0));
    let y = layer.forward(&Tensor::ones(F32, (3, 2)), &mut Context::eval());
    let block = Block { act: Unit, layers: vec![layer], note: "n".into(), rate: 1.0 };
    let g = grad(&y.sum(), &block);
    assert_eq!((&*g.note, g.rate), ("n", 1.0));
    assert_eq!(g.layers[0].weight.ty().unwrap().to_string(), "f32[2, 1]");
    assert_eq!(g.layers[0].bias.as_ref().unwrap().eval_in(&State::new()).unwrap(), Array::from([3.0f32]));
}

#[test]
fn names_reach_programs_and_states() {
    let layer = Dense::new(2, 1, &mut Keys::new(0));
    let block = Block { act: Unit, layers: vec![layer], note: "n".into(), rate: 1.0 };
    let x = Tensor::input("x", F32, ("n", 2));
    let y = block.layers[0].forward(&x, &mut Context::eval());
    let f = Function::new("f").output("y", &y).named(&block);
    let graph = f.graph().unwrap();
    let names: Vec<&str> = graph.params().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["x", "layers[0].weight", "layers[0].bias"]);
    let f = f.compile(crate::interp()).unwrap();
    assert_eq!(f.state().names(), ["layers[0].weight", "layers[0].bias"]);
    // Without a model, equal names are told apart by number.
    let two = leaf("w") + leaf("w");
    let f = Function::new("f").output("y", &two).compile(crate::interp()).unwrap();
    assert_eq!(f.state().names(), ["w", "w_1"]);
}

#[test]
fn enums_have_the_leaves_of_their_variant() {
    let (w, note) = (leaf("w"), "x");
    let act = Activation::Both(Box::new(Activation::Scaled { by: w.clone(), note }), "y".into());
    assert_eq!(tree::names(&[&act, &Activation::Relu]), ["[0][0].by"]);
    let Activation::Both(inner, kept) = grad(&(&w * &w).cast(F32), &act) else { panic!("another variant") };
    let Activation::Scaled { by, note } = *inner else { panic!("another variant") };
    assert_eq!((note, &*kept), ("x", "y"));
    assert_eq!(by.eval().unwrap(), Array::from(2.0f32));
    assert!(tree::leaves(&grad(&w, &Activation::<Tensor>::Relu)).is_empty());
}

#[test]
fn maps_come_in_the_order_of_their_keys() {
    let names: Vec<String> = (0..20).map(|i| format!("k{:02}", (i * 7) % 20)).collect();
    let map: HashMap<String, Tensor> = names.iter().map(|n| (n.clone(), leaf(n))).collect();
    let mut want = names.clone();
    want.sort();
    assert_eq!(tree::names(&map), want);
    let loss = map["k03"].clone() * &map["k11"];
    let gradient: HashMap<String, Tensor> = grad(&loss, &map);
    assert_eq!(gradient["k03"].eval().unwrap(), Array::from(1.0f32));
    assert_eq!(gradient["k00"].eval().unwrap(), Array::from(0.0f32));
    assert_eq!(tree::names(&(BTreeMap::from([(3, leaf("a"))]), Some(vec![leaf("b")]))), ["[0].3", "[1][0]"]);
}

#[test]
fn optimisers_and_files_use_the_same_names() {
    let model = vec![Dense::new(1, 1, &mut Keys::new(0)), Dense::new(1, 1, &mut Keys::new(1))];
    let x = Tensor::ones(F32, (1, 1));
    let y = model[1].forward(&model[0].forward(&x, &mut Context::eval()), &mut Context::eval());
    let step = Adam::new(0.1).minimize(&y.sum(), &model).unwrap().compile(crate::interp()).unwrap();
    let names = step.state().names();
    for name in ["[1].weight", "adam.m[1].weight", "adam.v[0].bias"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    let file = std::env::temp_dir().join(format!("lehr-{}-names.safetensors", std::process::id()));
    step.state().save_model(&("net", &model), &file).unwrap();
    let state = State::of(&("net", &model));
    let loaded = state.load_model(&("net", &model), &file);
    std::fs::remove_file(&file).unwrap();
    loaded.unwrap();
    assert_eq!(state.names()[0], "[1][0].weight");
    // A dump keeps the name, beside a bare one, and reads back.
    let graph = Function::new("f").output("y", &y).named_under("net", &model).graph().unwrap();
    let text = graph.to_string();
    assert!(text.contains(r#"%net_0_.weight: f32[1, 1] "net[0].weight""#), "{text}");
    assert_eq!(lehr::ir::Graph::parse(&text).unwrap(), graph);
}

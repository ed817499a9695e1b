//! Structures of tensors and their names.

use std::collections::BTreeMap;

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

fn leaf(name: &str) -> Tensor {
    Tensor::variable(name, 1.0f32)
}

#[test]
fn leaves_are_named_by_path() {
    let mut keys = Keys::new(0);
    let layers = vec![Dense::new(1, 1, &mut keys), Dense { bias: None, ..Dense::new(1, 1, &mut keys) }];
    let block = Block { act: Pair(leaf("a"), None), layers, note: "x".into(), rate: 0.5 };
    assert_eq!(tree::names(&block), ["act.0", "layers.0.weight", "layers.0.bias", "layers.1.weight"]);
    assert_eq!(tree::names(&Unit), Vec::<String>::new());
    let map = BTreeMap::from([("b".to_owned(), leaf("b")), ("a".to_owned(), leaf("a"))]);
    assert_eq!(tree::names(&(map, [leaf("x"), leaf("y")])), ["0.a", "0.b", "1.0", "1.1"]);
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
    assert_eq!(names, ["x", "layers.0.weight", "layers.0.bias"]);
    let f = f.compile(crate::interp()).unwrap();
    assert_eq!(f.state().names(), ["layers.0.weight", "layers.0.bias"]);
    // Without a model, equal names are told apart by number.
    let two = leaf("w") + leaf("w");
    let f = Function::new("f").output("y", &two).compile(crate::interp()).unwrap();
    assert_eq!(f.state().names(), ["w", "w_1"]);
}

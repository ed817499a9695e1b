//! Checked indices: a call names the one that is out of range, wherever it is, and leaves variables alone.

use lehr::control::while_loop;
use lehr::nn::Embedding;
use lehr::prelude::*;

fn checked(backend: Backend) -> Options {
    Options::default().backend(backend).check_indices(true)
}

fn fault(e: &lehr::Error) -> (i64, Vec<usize>, usize, usize) {
    let lehr::Error::Index(index) = e else { panic!("{e}") };
    let fault = &index.fault;
    (fault.index, fault.position.clone(), fault.dim, fault.size)
}

#[test]
fn an_embedding_names_the_id() {
    let layer = Embedding::new(10, 4, &mut Keys::new(0));
    let ids = Tensor::input("ids", I64, ("batch", 3));
    let line = line!() + 1;
    let y = layer.forward(&ids, &mut Context::eval());
    for backend in crate::backends() {
        let f = || Function::new("f").output("y", &y);
        let mut unchecked = f().compile(Options::default().backend(backend)).unwrap();
        let out: Array = unchecked.run([("ids", [[0i64, 12, -5]])]).unwrap().unpack().unwrap();
        let near: Array = unchecked.run([("ids", [[0i64, 9, 0]])]).unwrap().unpack().unwrap();
        assert_eq!(out, near, "unchecked, the nearest row is taken");

        let mut f = f().compile(checked(backend)).unwrap();
        f.run([("ids", [[0i64, 9, 5]])]).unwrap();
        let e = f.run([("ids", [[0i64, 1, 2], [3, 4, 10]])]).unwrap_err();
        assert_eq!(fault(&e), (10, vec![1, 2], 0, 10));
        let text = e.to_string();
        assert!(text.starts_with("f: gather: the index 10 at [1, 2] of the indices is outside of 0..=9"), "{text}");
        assert!(text.contains(&format!("--> tests/facade/indices.rs:{line}:")) && text.contains("= help"), "{text}");
        assert_eq!(fault(&f.run([("ids", [[0i64, -1, 2]])]).unwrap_err()), (-1, vec![0, 1], 0, 10));
        // It can be called again.
        f.run([("ids", [[0i64, 9, 5]])]).unwrap();
    }
}

#[test]
fn positions_from_the_end_are_in_range() {
    let (x, at) = (Tensor::input("x", F32, [3]), Tensor::input("at", I64, ["n"]));
    for backend in crate::backends() {
        let mut f = Function::new("f").output("y", &x.take(&at, 0)).compile(checked(backend)).unwrap();
        let y: Vec<f32> = f.run(([1.0f32, 2.0, 3.0], [-1i64, 0, -3])).unwrap().unpack().unwrap();
        assert_eq!(y, [3.0, 1.0, 1.0]);
        // The position is as the operation sees it, with the size added.
        assert_eq!(fault(&f.run(([1.0f32, 2.0, 3.0], [-1i64, -4])).unwrap_err()), (-1, vec![1], 0, 3));
        assert_eq!(fault(&f.run(([1.0f32, 2.0, 3.0], [3i64, 0])).unwrap_err()), (3, vec![0], 0, 3));
        f.run(([1.0f32, 2.0, 3.0], Vec::<i64>::new())).unwrap();
    }
}

#[test]
fn loops_branches_and_gradients_are_looked_into() {
    let (x, n) = (Tensor::input("x", F32, [4]), Tensor::input("n", I64, ()));
    let line = line!() + 4;
    let walked = while_loop(
        &Tensor::from(0i64),
        |i| i.lt(&n),
        |i| i + 1 + x.take(&i.expand_dims(0), 0).sum().cast(I64).clip(0, 0),
    );
    let ids = Tensor::input("ids", I64, ["k"]);
    let slope = grad(&x.take(&ids, 0).square().sum(), &x);
    for backend in crate::backends() {
        let mut f = Function::new("f").output("i", &walked).compile(checked(backend)).unwrap();
        f.run([("x", Array::from([1.0f32; 4])), ("n", Array::scalar(4i64))]).unwrap();
        let e = f.run([("x", Array::from([1.0f32; 4])), ("n", Array::scalar(6i64))]).unwrap_err();
        assert_eq!(fault(&e), (4, vec![0], 0, 4));
        assert!(e.to_string().contains(&format!("indices.rs:{line}:")), "{e}");

        let mut g = Function::new("g").output("slope", &slope).compile(checked(backend)).unwrap();
        g.run([("x", Array::from([1.0f32; 4])), ("ids", Array::from([3i64, 3]))]).unwrap();
        assert_eq!(
            fault(&g.run([("x", Array::from([1.0f32; 4])), ("ids", Array::from([3i64, 4]))]).unwrap_err()),
            (4, vec![1], 0, 4)
        );
    }
}

#[test]
fn variables_keep_their_values() {
    let (w, at) = (Tensor::variable("w", [1.0f32, 2.0]), Tensor::input("at", I64, [1]));
    let new = &w * 2.0 + w.take(&at, 0).sum();
    for backend in crate::backends() {
        let f = Function::new("f").output("sum", &w.sum()).update(&w, &new);
        let mut f = f.compile(checked(backend)).unwrap();
        f.run([("at", [0i64])]).unwrap();
        let before = f.state().get("w").unwrap();
        assert_eq!(fault(&f.run([("at", [2i64])]).unwrap_err()).0, 2);
        assert_eq!(f.state().get("w").unwrap(), before);
    }
}

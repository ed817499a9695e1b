//! Batching through the facade: axes of inputs and results, nesting, random keys.

use lehr::prelude::*;

use crate::{broken, check, check_type};

fn matrix() -> Tensor {
    Tensor::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]])
}

#[test]
fn each_leaf_has_an_axis_of_its_own() {
    let (m, v, w) = (matrix(), Tensor::from([10.0f32, 20.0]), Tensor::from([1.0f32, 0.0, -1.0]));
    check(&vmap(&(&m, &v), (0, 0), |(row, s)| row * s), "[[10,20,30],[80,100,120]]");
    check(&vmap(&(&m, &w), (1, 0), |(column, s)| column.sum() * s), "[5,0,-9]");
    check(&vmap(&(&m, &w), (0, None), |(row, w)| row.dot(w)), "[-2,-2]");
    check(&vmap(&(&m, [&v, &v]), (-2, Some(0)), |(row, [a, b])| row.sum() * a + b), "[70,320]");
    let lists: Vec<Option<i64>> = vec![Some(1), None, None];
    check(&vmap(&(&m, [&v, &v]), lists.as_slice(), |(c, [a, b])| c.dot(a) + b.sum()), "[120,150,180]");
    check(&vmap(&vec![m.clone(), w], vec![Some(1), Some(0)], |l| l[0].sum() + &l[1]), "[6,7,8]");
    // The whole of a structure that is not mapped is seen as it is.
    let seen = vmap(&(&m, (&v, &m)), (0, None), |(_, (v, m))| v.matmul(m));
    check(&seen, "[[90,120,150],[90,120,150]]");
}

#[test]
fn each_result_has_an_axis_of_its_own() {
    let m = matrix();
    let (t, s, one) = vmap_axes(&m, 0, (1, -1, None), |row| (row + 0, row.sum(), Tensor::from(7i64)));
    check(&t, "[[1,4],[2,5],[3,6]]");
    check(&s, "[6,15]");
    check(&one, "7");
    let cube = vmap_axes(&m, 1, 2, |c| c.outer(c));
    check_type(&cube, "f32[2, 2, 3]");
    check(&cube.slice((.., .., 1)), "[[4,10],[10,25]]");
    let e = broken(&vmap_axes(&m, 0, None, |row| row.sum()));
    assert_eq!(e, "vmap: operand 0 is f32[]; a result without an axis differs from slice to slice");
    assert!(broken(&vmap_axes(&m, 0, 3, |row| row + 0)).starts_with("vmap: operand 0 is f32[2, 3]; "));
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let m = matrix();
    assert_eq!(broken(&vmap(&m, None, Clone::clone)), "vmap: no tensor is mapped");
    assert!(broken(&vmap(&m, vec![Some(0), Some(0)], Clone::clone)).contains("2 axes are given for 1 leaves"));
    assert!(broken(&vmap(&m, 2, Clone::clone)).starts_with("vmap: operand 0 is f32[2, 3]"));
    let uneven = broken(&vmap(&(&m, &m), (0, 1), |(a, b)| a.sum() + b.sum()));
    assert!(uneven.contains("the batch sizes 2 and 3 must be equal"), "{uneven}");
    let line = line!() + 1;
    let e = vmap(&m, None, Clone::clone).check().unwrap_err().to_string();
    assert!(e.contains(&format!("batches.rs:{line}:")), "{e}");
}

#[test]
fn maps_nest() {
    let (a, b) = (matrix(), matrix() * 2);
    let outer = vmap(&a, 0, |r| vmap(&b, 0, |s| r.dot(s)));
    assert_eq!(outer.eval().unwrap(), a.matmul(&b.t()).eval().unwrap());
    let both = vmap_axes(&a, 1, 1, |c| vmap(&(c, &b), (0, 0), |(x, row)| row * x));
    check_type(&both, "f32[2, 3, 3]");
    check(&both.slice((1, 2, ..)), "[48,60,72]");
    let n = Tensor::input("x", F32, ("a", "b", 4));
    check_type(&vmap(&n, 0, |m| vmap_axes(m, 0, 1, |r| r.softmax(0))), "f32[a, 4, b]");
}

#[test]
fn split_keys_give_each_slice_a_stream_of_its_own() {
    let key = Key::new(3);
    let keys = random::split(key, 4);
    let host = key.split(4);
    for (i, k) in host.iter().enumerate() {
        assert_eq!(keys.slice(i).eval().unwrap(), Array::from(k.words()));
    }
    type Draw = fn(&Tensor) -> Tensor;
    let draws: [Draw; 5] = [
        |k| random::normal(k, F32, 5),
        |k| random::normal(k, F64, 3),
        |k| random::uniform(k, F16, (2, 2)),
        |k| random::randint(k, I32, 7, 0, 100),
        |k| random::bits(random::fold_in(k, 9), U64, 3),
    ];
    for draw in draws {
        let each = vmap(&keys, 0, draw);
        for (i, k) in host.iter().enumerate() {
            let one = draw(&Tensor::from(k.words()));
            assert_eq!(each.slice(i).eval().unwrap(), one.eval().unwrap());
        }
        // A key that is not mapped gives all slices the same.
        let rows = Tensor::from([[0u32; 2]; 2]);
        let same = vmap(&(&rows, &keys.slice(0)), (0, None), |(_, k)| draw(k));
        assert_eq!(same.slice(0).eval().unwrap(), same.slice(1).eval().unwrap());
    }
    // Keys split inside a map, and over a size that has a name.
    let nested = vmap(&keys, 0, |k| vmap(&random::split(k, 2), 0, |k| random::uniform(k, F32, ())));
    assert_eq!(nested.slice((2, 1)).eval().unwrap(), random::uniform(host[2].split(2)[1], F32, ()).eval().unwrap());
    let n = Tensor::input("x", F32, ["n"]);
    let noisy = vmap(&(&n, &random::split(key, "n")), 0, |(x, k)| x + random::normal(k, F32, ()));
    check_type(&noisy, "f32[n]");
    let mut f = Function::new("f").output("y", &noisy).compile(Options::default()).unwrap();
    let y: Vec<f32> = f.run([("x", [0.0f32; 4])]).unwrap().unpack().unwrap();
    let want: Vec<f32> = host.iter().map(|k| random::normal(*k, F32, ()).to().unwrap()).collect();
    assert_eq!(y, want);
}

#[test]
fn dropout_differs_from_example_to_example() {
    let x = Tensor::ones(F32, (3, 64));
    let keys = random::split(Key::new(0), 3);
    let y = vmap(&(&x, &keys), 0, |(x, k)| x * random::bernoulli(k, 0.5, 64));
    let rows: Vec<Vec<f32>> = (0..3).map(|i| y.slice(i).to().unwrap()).collect();
    assert!(rows[0] != rows[1] && rows[1] != rows[2]);
    let dx = grad(&y.sum(), &x);
    assert_eq!(dx.eval().unwrap(), y.eval().unwrap());
}

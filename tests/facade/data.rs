//! Data sets and their batches.

use std::path::PathBuf;

use lehr::prelude::*;

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("lehr-{}-{name}.csv", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn tables_become_columns() {
    let path = file("table", "a,b,label\n1,2.5,0\n3,4,1\n-1e3, 6 ,2\n");
    let data = Dataset::csv(&path).unwrap();
    assert_eq!(data.column("x").unwrap().shape(), [3, 3]);
    let data = data.label("label").unwrap();
    assert_eq!(data.column("x").unwrap(), &Array::from([[1.0f32, 2.5], [3.0, 4.0], [-1000.0, 6.0]]));
    assert_eq!(data.column("y").unwrap(), &Array::from([0i64, 1, 2]));
    let e = Dataset::csv(&path).unwrap().label("lable").unwrap_err().to_string();
    assert!(e.contains("there is no column `lable`") && e.contains("`a`, `b`, `label`"), "{e}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn bad_tables_are_refused_with_their_line() {
    let check = |name: &str, text: &str, expect: &str| {
        let path = file(name, text);
        let e = Dataset::csv(&path).unwrap_err().to_string();
        assert!(e.contains(expect), "{e}");
        std::fs::remove_file(path).unwrap();
    };
    check("word", "a,b\n1,2\n3,x\n", ":3: the field `b` is `x`, which is no number");
    check("ragged", "a,b\n1,2\n3\n", "line: 3");
    check("bytes", "a\n1\n\u{fffd}\n", "is no number");
    assert!(matches!(Dataset::csv("/nonexistent.csv").unwrap_err(), lehr::Error::Io { .. }));
    let e = Dataset::new([("x", Array::from([1.0f32])), ("y", Array::from([1i64, 2]))]).unwrap_err();
    assert!(e.to_string().contains("the column `y` has the shape [2], and there are 1 rows"), "{e}");
}

fn numbers(n: i64) -> Dataset {
    Dataset::new([("x", Array::from((0..n).collect::<Vec<_>>()))]).unwrap()
}

fn column(b: &lehr::data::Batch) -> Vec<i64> {
    b.column("x").unwrap().as_slice::<i64>().unwrap().to_vec()
}

#[test]
fn splits_take_each_example_once() {
    let (a, b) = numbers(10).split(0.7, Key::new(4));
    let mut all = [column(&a.all()), column(&b.all())].concat();
    assert_eq!((a.len(), b.len()), (7, 3));
    assert_ne!(all, (0..10).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert_eq!(column(&numbers(10).split(0.7, Key::new(4)).1.all()), column(&b.all()));
}

#[test]
fn batches_cover_each_epoch() {
    let data = numbers(10);
    let dealt: Vec<Vec<i64>> = data.batch(4).into_iter().map(|b| column(&b)).collect();
    assert_eq!(dealt, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    assert_eq!(data.batch(4).drop_last().into_iter().count(), 2);
    let shuffled =
        |seed| -> Vec<Vec<i64>> { data.shuffle(seed).batch(10).epochs(2).into_iter().map(|b| column(&b)).collect() };
    let two = shuffled(1);
    assert_eq!(two, shuffled(1));
    assert_ne!(two[0], two[1]);
    assert_ne!(two[0], shuffled(2)[0]);
    for mut epoch in two {
        epoch.sort_unstable();
        assert_eq!(epoch, (0..10).collect::<Vec<_>>());
    }
    let epochs: Vec<usize> = data.batch(6).epochs(2).into_iter().map(|b| b.epoch()).collect();
    assert_eq!(epochs, [0, 0, 1, 1]);
    assert_eq!(numbers(0).batch(3).epochs(5).into_iter().count(), 0);
    assert_eq!(data.batch(0).into_iter().count(), 10);
}

#[test]
fn executables_take_the_columns_they_have_inputs_for() {
    let data = Dataset::new([("y", Array::from([1.0f32, 2.0])), ("x", Array::from([3.0f32, 4.0]))]).unwrap();
    let (x, y) = (Tensor::input("x", F32, ["n"]), Tensor::input("y", F32, ["n"]));
    let mut both = Function::new("f").output("z", &(&x - &y)).compile(crate::interp()).unwrap();
    let mut one = Function::new("g").output("z", &(&x * 2)).compile(crate::interp()).unwrap();
    assert_eq!(both.run(data.all()).unwrap().unpack::<Vec<f32>>().unwrap(), [2.0, 2.0]);
    assert_eq!(one.run(data.all()).unwrap().unpack::<Vec<f32>>().unwrap(), [6.0, 8.0]);
}

#[cfg(feature = "npz")]
#[test]
fn numpy_files_round_trip() {
    use lehr::data::{load_npy, load_npz, save_npy, save_npz};
    let dir = std::env::temp_dir();
    let (npy, npz) =
        (dir.join(format!("lehr-{}.npy", std::process::id())), dir.join(format!("lehr-{}.npz", std::process::id())));
    let arrays = [
        ("a", Array::from([[1.5f32, f32::NAN]])),
        ("b", Array::from(7i64)),
        ("c", Array::from([true, false])),
        ("d", Array::zeros(F64, &[0, 2])),
    ];
    for (_, a) in &arrays {
        save_npy(&npy, a).unwrap();
        assert_eq!(&load_npy(&npy).unwrap(), a);
    }
    save_npz(&npz, arrays.iter().map(|(n, a)| (*n, a))).unwrap();
    let found = load_npz(&npz).unwrap();
    assert_eq!(found.len(), 4);
    for ((n, a), (m, b)) in arrays.iter().zip(&found) {
        assert_eq!((*n, a), (m.as_str(), b));
    }
    std::fs::write(&npy, b"\x93NUMPY garbage").unwrap();
    assert!(matches!(load_npy(&npy).unwrap_err(), lehr::Error::Data(_)));
    std::fs::remove_file(npy).unwrap();
    std::fs::remove_file(npz).unwrap();
}

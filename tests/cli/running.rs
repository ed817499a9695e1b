//! `lehr run`.

use super::{Array, Folder, check, load_npz, save_npz};

const ARGS: [&str; 5] = ["--inputs", "in.npz", "--outputs", "out.npz", "--backend"];

const GRAPH: &str = r#"graph @step(%x: f32[batch, 2]) var(%w: f32[2]) data(%k: f32[]) -> (f32[batch]) {
  %0 = dot %x, %w {lhs_batch = [], rhs_batch = [], lhs_contract = [1], rhs_contract = [0]} : f32[batch]
  %1 = broadcast %k {shape = (2), axes = []} : f32[2]
  %2 = mul %w, %1 : f32[2]
  return %0 "y"
  update %w = %2
}
"#;

fn values() -> [(&'static str, Array); 3] {
    [
        ("x", Array::from([[1.0f32, 2.0], [3.0, 4.0], [0.5, 0.25]])),
        ("w", Array::from([10.0f32, 1.0])),
        ("k", Array::scalar(2.0f32)),
    ]
}

fn write(folder: &Folder, values: &[(&str, Array)]) {
    save_npz(folder.0.join("in.npz"), values.iter().map(|(n, a)| (*n, a))).expect("written");
}

#[test]
fn outputs_and_new_values_are_written() {
    for backend in ["interp", "cpu"] {
        let folder = Folder::new(&format!("run-{backend}"));
        let file = folder.write("step.lehr", GRAPH);
        write(&folder, &values());
        let args = [&["run", file.as_str()], &ARGS[..], &[backend, "--threads", "2"]].concat();
        check(&folder.lehr(&args), 0);
        let out = load_npz(folder.0.join("out.npz")).expect("read");
        assert_eq!(
            out,
            [
                ("y".to_owned(), Array::from(vec![12.0f32, 34.0, 5.25])),
                ("w".to_owned(), Array::from(vec![20.0f32, 2.0]))
            ],
            "{backend}"
        );
    }
}

#[test]
fn every_dtype_makes_the_round_trip() {
    let arrays: [(&str, Array); 11] = [
        ("bool", Array::from([true, false])),
        ("i8", Array::from([-1i8, i8::MAX])),
        ("i16", Array::from([-1i16, i16::MAX])),
        ("i32", Array::from([-1i32, i32::MAX])),
        ("i64", Array::from([-1i64, i64::MAX])),
        ("u8", Array::from([1u8, u8::MAX])),
        ("u16", Array::from([1u16, u16::MAX])),
        ("u32", Array::from([1u32, u32::MAX])),
        ("u64", Array::from([1u64, u64::MAX])),
        ("f32", Array::from([-0.0f32, f32::NAN])),
        ("f64", Array::from([f64::INFINITY, 1e-310])),
    ];
    let folder = Folder::new("run-dtypes");
    let params: Vec<String> = arrays.iter().map(|(n, _)| format!("%{n}_in: {n}[2]")).collect();
    let types: Vec<String> = arrays.iter().map(|(n, _)| format!("{n}[2]")).collect();
    let results: Vec<String> = arrays.iter().map(|(n, _)| format!("%{n}_in \"{n}\"")).collect();
    let graph = format!(
        "graph @same({}) -> ({}) {{\n  return {}\n}}\n",
        params.join(", "),
        types.join(", "),
        results.join(", ")
    );
    let file = folder.write("same.lehr", graph);
    let inputs: Vec<(String, Array)> = arrays.iter().map(|(n, a)| (format!("{n}_in"), a.clone())).collect();
    save_npz(folder.0.join("in.npz"), inputs.iter().map(|(n, a)| (n.as_str(), a))).expect("written");
    for backend in ["interp", "cpu"] {
        let args = [&["run", file.as_str()], &ARGS[..], &[backend]].concat();
        check(&folder.lehr(&args), 0);
        let out = load_npz(folder.0.join("out.npz")).expect("read");
        let want: Vec<(String, Array)> = arrays.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect();
        assert_eq!(out, want, "{backend}");
    }
}

#[test]
fn wrong_inputs_are_refused_and_nothing_is_written() {
    let folder = Folder::new("run-bad");
    let file = folder.write("step.lehr", GRAPH);
    let out = folder.0.join("out.npz");
    if out.exists() {
        std::fs::remove_file(&out).expect("removed");
    }
    let [x, w, k] = values();
    let cases = [
        (vec![w.clone(), k.clone()], "the input `x`: f32[batch, 2] is missing"),
        (vec![x.clone(), k.clone()], "the variable `w`: f32[2] is missing"),
        (vec![x.clone(), w.clone()], "the captured array `k`: f32[] is missing"),
        (vec![("x", Array::from([[1.0f64, 2.0]])), w.clone(), k.clone()], "dtypes must agree"),
        (vec![("x", Array::from([1.0f32, 2.0])), w.clone(), k.clone()], "it must have 2 dims"),
        (vec![("x", Array::from([[1.0f32, 2.0, 3.0]])), w.clone(), k.clone()], "`x` is f32[batch, 2]"),
        (vec![x.clone(), ("w", Array::from([1.0f32])), k.clone()], "types must agree"),
        (vec![x, w, k, ("z", Array::scalar(1i64))], "there is no input `z`"),
    ];
    for (values, message) in cases {
        write(&folder, &values);
        let args = [&["run", file.as_str()], &ARGS[..], &["interp"]].concat();
        let (_, err) = check(&folder.lehr(&args), 1);
        assert!(err.contains(message), "{message}: {err}");
        assert!(err.contains("--> step.lehr:1:1") && err.contains("= help: ") && !err.contains(".rs:"), "{err}");
    }
    folder.write("in.npz", "not an archive");
    let args = [&["run", file.as_str()], &ARGS[..], &["interp"]].concat();
    let (_, err) = check(&folder.lehr(&args), 1);
    assert!(err.contains("in.npz"), "{err}");
    assert!(!out.exists());
}

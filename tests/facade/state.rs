//! States: values by name, files, hostile files.

use std::path::PathBuf;

use lehr::prelude::*;

/// A file of its own for each test, gone at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("lehr-{}-{name}.safetensors", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Tree)]
struct Model {
    hidden: Dense,
    scale: Tensor,
}

fn model() -> Model {
    Model { hidden: Dense::new(3, 2, &mut Keys::new(1)), scale: Tensor::variable("s", [1.5f64]) }
}

fn first_line(e: &lehr::Error) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn values_are_read_and_set_by_name() {
    let state = State::of(&model());
    assert_eq!(state.names(), ["hidden.weight", "hidden.bias", "scale"]);
    state.set("scale", [2.5f64]).unwrap();
    assert_eq!(state.get("scale").unwrap(), Array::from([2.5f64]));
    let e = state.set("scale", [2.5f32]).unwrap_err();
    assert_eq!(
        first_line(&e),
        "state: the variable `scale` is f64[1], the array is f32[1]; dtype and shape must agree"
    );
    assert!(state.get("scal").unwrap_err().to_string().contains("did you mean `scale`?"));
    let copy = state.snapshot();
    state.reset();
    assert_eq!(state.get("scale").unwrap(), Array::from([1.5f64]));
    assert_eq!(copy.get("scale").unwrap(), Array::from([2.5f64]));
}

#[test]
fn files_round_trip_every_dtype_and_bit() {
    let file = File::new("round");
    let arrays = [
        ("f", Array::from([f32::NAN, -0.0, f32::INFINITY, 1e-42])),
        ("d", Array::from([[1.0f64], [2.0]])),
        ("i", Array::from([i64::MIN, 7])),
        ("b", Array::from([true, false])),
        ("u", Array::from(3u8)),
        ("none", Array::zeros(F32, &[0, 3])),
    ];
    let leaves: Vec<Tensor> = arrays.iter().map(|(n, a)| Tensor::variable(n, a.clone())).collect();
    let state = State::new();
    let f = leaves.iter().fold(Function::new("f"), |f, t| f.update(t, t));
    let f = f.compile(crate::interp()).unwrap().with_state(&state);
    f.state().save(&file.0).unwrap();
    for (name, a) in &arrays {
        state.set(name, Array::zeros(a.dtype(), a.shape())).unwrap();
    }
    state.load(&file.0).unwrap();
    for (name, a) in &arrays {
        assert_eq!(&state.get(name).unwrap(), a, "{name}");
    }
}

#[test]
fn a_model_is_saved_alone_and_loaded_elsewhere() {
    let file = File::new("model");
    let m = model();
    let loss = (m.hidden.forward(&Tensor::ones(F32, (1, 3)), &mut Context::train()).sum() * m.scale.sum()).cast(F32);
    let mut step = Adam::new(0.1).minimize(&loss, &m).unwrap().compile(crate::interp()).unwrap();
    step.run(()).unwrap();
    step.state().save_model(&m, &file.0).unwrap();
    let other = model();
    let state = State::of(&other);
    state.load_model(&other, &file.0).unwrap();
    assert_eq!(state.get("hidden.weight").unwrap(), step.state().get("hidden.weight").unwrap());
    assert_ne!(state.get("scale").unwrap(), Array::from([1.5f64]));
    // All variables of the step are more than the model's.
    let e = step.state().load(&file.0).unwrap_err().to_string();
    assert!(e.contains("is missing"), "{e}");
}

#[test]
fn files_that_do_not_fit_change_nothing() {
    let file = File::new("fit");
    let a = State::of(&Model { scale: Tensor::variable("s", [2.0f64, 3.0]), ..model() });
    a.save(&file.0).unwrap();
    let state = State::of(&model());
    let before = state.get("hidden.weight").unwrap();
    a.set("hidden.weight", Array::zeros(F32, &[3, 2])).unwrap();
    let e = state.load(&file.0).unwrap_err().to_string();
    assert!(e.contains("the variable `scale` is f64[1], the array is f64[2]"), "{e}");
    assert_eq!(state.get("hidden.weight").unwrap(), before);
    let small = State::of(&("only", Tensor::variable("x", 1.0f32)).1);
    let e = small.load(&file.0).unwrap_err().to_string();
    assert!(e.contains("the variable `x` is missing"), "{e}");
    let e = State::new().load(&file.0).unwrap_err().to_string();
    assert!(e.contains("there is no variable `hidden.bias`"), "{e}");
}

#[test]
fn hostile_files_give_typed_errors() {
    let file = File::new("hostile");
    let state = State::of(&model());
    state.save(&file.0).unwrap();
    let good = std::fs::read(&file.0).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![Vec::new(), vec![0xff; 7], vec![0xff; 64], b"{}".to_vec()];
    cases.extend((0..good.len()).step_by(3).map(|n| good[..n].to_vec()));
    // Each byte of the header changed in turn.
    for i in 0..good.len().min(300) {
        let mut bad = good.clone();
        bad[i] ^= 0x5a;
        cases.push(bad);
    }
    let mut refused = 0;
    for bytes in cases {
        std::fs::write(&file.0, &bytes).unwrap();
        match state.load(&file.0) {
            Ok(()) => {}
            Err(lehr::Error::State(_)) => refused += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(refused > 200, "{refused}");
    assert!(matches!(state.load("/nonexistent/file").unwrap_err(), lehr::Error::Io { .. }));
}

//! What recording a call costs, and how long its dispatches take.

use lehr::control::cond;
use lehr::explain::DeviceForm;

use super::*;

/// A product, then maps over it.
fn function() -> Function {
    let x = Tensor::input("x", F32, (64, 64));
    let y = x.matmul(&x).softmax(-1);
    Function::new("f").output("y", &y).output("z", &y.sum())
}

#[test]
fn recorded_dispatches_are_counted() {
    let Some((options, _turn)) = gpu() else { return };
    let mut exe = function().compile(options).expect("compiles");
    let dispatches = exe.explain().device.expect("a device").dispatches() as u64;
    assert_eq!(exe.recorded(), (0, std::time::Duration::ZERO));
    for call in 1..=3 {
        exe.run([("x", Array::zeros(F32, &[64, 64]))]).expect("runs");
        let (recorded, time) = exe.recorded();
        assert_eq!(recorded, call * dispatches);
        assert!(!time.is_zero());
    }
}

#[test]
fn what_is_rehearsed_changes_nothing() {
    let Some((options, _turn)) = gpu() else { return };
    let total = Tensor::variable("total", 0.0f32);
    let x = Tensor::input("x", F32, ["n"]);
    let next = &total + x.sum();
    let f = Function::new("f").output("y", &next).update(&total, &next);
    let mut exe = f.compile(options.clone()).expect("compiles");
    let dispatches = exe.explain().device.expect("a device").dispatches() as u64;
    let given = [("x", Array::new(&[2], vec![1.0f32, 2.0]).expect("is as long"))];
    // Before the first call, between calls, and for sizes that no call has had.
    for call in 1..=3 {
        let (recorded, time) = exe.rehearse(given.clone()).expect("records").expect("depends on no value");
        assert_eq!(recorded, dispatches);
        assert!(!time.is_zero());
        exe.rehearse([("x", Array::zeros(F32, &[1000 * call]))]).expect("records").expect("depends on no value");
        let y: f32 = exe.run(given.clone()).expect("runs").unpack().expect("is a number");
        assert_eq!(y, 3.0 * call as f32);
        assert_eq!(exe.recorded().0, call as u64 * dispatches, "what is dropped does not count");
    }
    assert!(exe.rehearse([("x", Array::zeros(F32, &[]))]).is_err(), "inputs are checked");
    let chosen = cond(&x.sum().gt(0.0), || &x + 1.0, || &x - 1.0);
    let mut exe = Function::new("g").output("y", &chosen).compile(options).expect("compiles");
    assert_eq!(exe.rehearse(given).expect("is asked"), None, "a branch waits for what chooses it");
}

#[test]
fn dispatches_are_timed_if_that_is_asked_for() {
    let Some((options, _turn)) = gpu() else { return };
    let x = Array::full(&[64, 64], lehr::Literal::from(0.5f32));
    let mut plain = function().compile(options.clone()).expect("compiles");
    let want = plain.run([("x", x.clone())]).expect("runs");
    assert!(times(&plain).iter().all(Option::is_none), "nothing is measured unless it is asked for");
    let mut timed = match function().compile(options.time_dispatches(true)) {
        Ok(timed) => timed,
        Err(e) => {
            assert!(e.to_string().contains("no timestamps"), "{e}");
            println!("skipped: {e}");
            return;
        }
    };
    for call in 1..=3 {
        let got = timed.run([("x", x.clone())]).expect("runs");
        assert!(
            got.arrays().iter().zip(want.arrays()).all(|(g, w)| g.data().bit_eq(w.data())),
            "timing changes nothing"
        );
        assert!(times(&timed).iter().all(|t| t.is_some_and(|(runs, _)| runs == call)));
        // More often than there is room for times of dispatches that never run.
        for _ in 0..100 {
            timed.rehearse([("x", x.clone())]).expect("records").expect("depends on no value");
        }
    }
    let text = timed.explain().to_string();
    assert!(text.contains("mean of 3") && text.contains("GFLOP/s"), "{text}");
}

/// What explanations say of each dispatch's time.
fn times(exe: &Executable) -> Vec<Option<(u32, std::time::Duration)>> {
    let device = exe.explain().device.expect("a device");
    let all = device.steps.into_iter().filter_map(|s| match s.how {
        DeviceForm::Dispatches(all) => Some(all),
        _ => None,
    });
    all.flatten().map(|d| d.time).collect()
}

use std::sync::Arc;

use lehr_ir::target::DeviceChoice;

use super::*;

/// A device with cooperative matrices, if the machine has one; says so if not.
fn device() -> Option<Arc<Device>> {
    match Device::open(&DeviceChoice::Best) {
        Ok(device) if device.matrices.size.is_some() => Some(device),
        Ok(_) => {
            println!("skipped: the device has no cooperative matrices");
            None
        }
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

#[test]
fn matrices_multiply_as_they_should() {
    let Some(device) = device() else { return };
    for dtype in [DType::F16, DType::F32] {
        assert!(device.multiplies(dtype), "{dtype}");
    }
    assert!(!device.multiplies(DType::BF16));
    assert_eq!(device.live().0, 0, "what was tested is let go");
}

/// A plan of the product that is known.
fn plan(dtype: DType) -> Plan {
    let mut plan = Plan::of_signature(&lehr_ir::graph::Graph::new("product"));
    let kind = StepKind::Contract(Box::new(Known::new(dtype).contract().clone()));
    plan.steps.push(lehr_ir::plan::Step { kind, locs: smallvec::SmallVec::new(), reason: String::new() });
    plan
}

#[test]
fn a_device_that_multiplies_wrongly_has_none() {
    // One that takes everything and computes nothing.
    let mut device = Device::noop();
    let noop = Arc::get_mut(&mut device).expect("has one owner");
    noop.matrices = Matrices::new(Some(16));
    let subgroups = Some(crate::gpu::wgsl::Subgroups { least: 32, most: 32, named: false });
    noop.target = WgslTarget { f16: true, workgroup_bytes: 32_768, subgroups, ..noop.target };
    for dtype in [DType::F16, DType::F32] {
        let plan = plan(dtype);
        assert_eq!(device.shaders(&[&plan], true), device.target, "{dtype}");
        assert!(!device.multiplies(dtype));
    }
    // What went wrong is nobody else's error.
    assert!(device.check().is_ok());
}

#[test]
fn matrices_are_for_plans_that_have_products_and_for_whom_asks() {
    let Some(device) = device() else { return };
    let shaders = |dtype, reduced| device.shaders(&[&plan(dtype)], reduced).cooperative;
    let is = |halves, rounded| device.matrices.size.map(|size| Cooperative { size, halves, rounded });
    assert_eq!(shaders(DType::F32, false), None);
    assert_eq!(shaders(DType::BF16, true), None);
    assert!(device.matrices.rounded.get().is_none(), "nothing was tested that nobody needed");
    assert_eq!(shaders(DType::F32, true), is(false, true));
    assert_eq!(shaders(DType::F16, true), is(true, false));
    assert_eq!(shaders(DType::F16, false), is(true, false).filter(|_| !device.is_software));
    let both = [plan(DType::F16), plan(DType::F32)];
    assert_eq!(device.shaders(&[&both[0], &both[1]], true).cooperative, is(true, true));
}

/// What the ordinary form makes of the same factors is what the test wants, so that the two agree in all that it looks at.
#[test]
fn other_forms_pass_the_test_in_half_precision() {
    let Ok(device) = Device::open(&DeviceChoice::Best) else { return println!("skipped: there is no device") };
    let known = Known::new(DType::F16);
    let mut bench = Bench::new(&device);
    known.place(&mut bench).expect("fits");
    let form = dispatches(known.contract(), &[], None, &device.target).expect("has text");
    let got = bench.results(&bench.ready(&form).expect("compiles")).expect("runs");
    assert!(known.is(&got[0]));
}

#[test]
fn every_fault_is_found() {
    let Some(device) = device() else { return };
    let size = device.matrices.size.expect("has some");
    let target = WgslTarget { cooperative: Some(Cooperative { size, halves: true, rounded: true }), ..device.target };
    // What a driver might do, or text might say.
    let faults = [
        ("coopLoad<", "coopLoadT<"),
        ("coopStoreT", "coopStore"),
        ("first_row + ", "first_row + 1 + "),
        ("k += ", "k += 2 * "),
        ("let piece = i32(subgroup)", "let piece = 1 ^ i32(subgroup)"),
        ("@compute", "@computed"),
    ];
    for dtype in [DType::F16, DType::F32] {
        let known = Known::new(dtype);
        let mut bench = Bench::new(&device);
        known.place(&mut bench).expect("fits");
        let choice = Choice::cooperative(&target).next();
        let form = dispatches(known.contract(), &[], choice, &target).expect("has text");
        let right = bench.ready(&form).and_then(|ready| bench.results(&ready)).expect("runs");
        assert!(known.is(&right[0]));
        for (what, instead) in faults {
            let faulty: Vec<_> = form
                .iter()
                .map(|d| super::super::dispatch::Dispatch { text: d.text.replace(what, instead).into(), ..d.clone() })
                .collect();
            assert_ne!(faulty[0].text, form[0].text, "{what}");
            let got = bench.ready(&faulty).and_then(|ready| bench.results(&ready));
            assert!(!got.is_ok_and(|got| known.is(&got[0])), "{dtype}: {what} for {instead}");
            let _ = device.check();
        }
    }
}

/// Every kind of mistake in the numbers alone.
#[test]
fn a_result_is_compared_to_the_last_element() {
    for dtype in [DType::F16, DType::F32] {
        let known = Known::new(dtype);
        let bytes = known.bytes();
        assert!(known.is(&bytes));
        for at in 0..bytes.len() / dtype.size() {
            let mut wrong = bytes.clone();
            // The last bit of an element, which of an infinity makes a NaN; a NaN has many bits, so its exponent goes.
            let element = &mut wrong[at * dtype.size()..][..dtype.size()];
            element[0] ^= 1;
            if let Some(top) = element.last_mut().filter(|_| known.is_nan(at)) {
                *top = 0;
            }
            assert!(!known.is(&wrong), "{dtype}, element {at}");
        }
        assert!(!known.is(&bytes[1..]));
    }
}

use std::sync::Arc;

use lehr_ir::DType;
use lehr_ir::dim::Dim;
use lehr_ir::graph::Graph;
use lehr_ir::plan::{BufferDecl, BufferId, Digits, Matrix, Place};
use lehr_ir::target::DeviceChoice;

use super::*;

/// A device that measures, if the machine has one; says so if not.
fn device() -> Option<Arc<Device>> {
    match Device::open(&DeviceChoice::Best) {
        Ok(device) if device.tunes(Tuning::Always) => Some(device),
        Ok(_) => {
            println!("skipped: the device has no timestamps");
            None
        }
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

/// A plan of one product.
fn plan([m, n, k]: [i64; 3]) -> Plan {
    let matrix = |buffer, rows: i64, columns: i64| Matrix {
        buffer: BufferId(buffer),
        offset: Dim::ZERO,
        batch: Digits::default(),
        row: Digits::even(Dim::from(rows), Dim::from(columns)),
        column: Digits::even(Dim::from(columns), Dim::ONE),
    };
    let (a, b, c) = (matrix(0, m, k), matrix(1, k, n), matrix(2, m, n));
    let [m, n, k] = [m, n, k].map(Dim::from);
    let mut plan = Plan::of_signature(&Graph::new("product"));
    for len in [&m * &k, &k * &n, &m * &n] {
        plan.buffers.push(BufferDecl { dtype: DType::F32, len, place: Place::Slot(0) });
    }
    let c = Contract { dtype: DType::F32, batch: Dim::ONE, m, n, k, a, b, c, epilogue: None };
    let kind = StepKind::Contract(Box::new(c));
    plan.steps.push(Step { kind, locs: smallvec::SmallVec::new(), reason: String::new() });
    plan
}

fn product(plan: &Plan) -> &Contract {
    match &plan.steps[0].kind {
        StepKind::Contract(c) => c,
        _ => panic!("the step is a product"),
    }
}

#[test]
fn a_wrong_form_never_wins() {
    let Some(device) = device() else { return };
    let plan = plan([200, 136, 600]);
    let c = product(&plan);
    let right = dispatches(c, &[], None, &device.target).expect("has text");
    // One workgroup only: the fastest, and wrong almost everywhere. And one that leaves out the last term.
    let lazy: Vec<_> =
        right.iter().map(|d| super::super::dispatch::Dispatch { groups: Dim::ONE, ..d.clone() }).collect();
    let short = dispatches(&Contract { k: &c.k - 1, ..c.clone() }, &[], None, &device.target).expect("has text");
    let refused: Vec<_> = right
        .iter()
        .map(|d| super::super::dispatch::Dispatch { text: "this is no shader".into(), ..d.clone() })
        .collect();
    let forms = [right, lazy, short, refused, Vec::new()];
    let until = Instant::now() + Duration::from_secs(60);
    let trial = Trial::of(&device, &plan, c, &forms).expect("operands");
    assert_eq!(trial.fastest(&forms, until), Some(0));
    assert_eq!(trial.fastest(&forms, Instant::now()), None, "no time, no choice");
    drop(trial);
    assert_eq!(device.live().0, 0, "operands are let go");
}

#[cfg(unix)]
#[test]
fn choices_are_kept_and_read_back() {
    let Some(first) = device() else { return };
    let folder = std::env::temp_dir().join(format!("lehr-tune-tests-{}", std::process::id()));
    let keep = Keep::open(&folder, 1 << 20).expect("a folder");
    let plan = plan([96, 80, 512]);
    let (step, c) = (&plan.steps[0], product(&plan));
    first.tune(&[&plan], Tuning::Off, &first.target, Some(&keep));
    assert_eq!(
        first.choice(step, &plan, Tuning::Always, &first.target),
        None,
        "nothing is measured unless it is asked for"
    );
    if first.is_software {
        first.tune(&[&plan], Tuning::Auto, &first.target, Some(&keep));
        assert_eq!(first.choice(step, &plan, Tuning::Always, &first.target), None, "nor is it in software");
    }
    // However slow the machine is.
    first.tune_within([Duration::from_secs(120); 2], &[&plan], &first.target, Some(&keep));
    let chosen = first.choice(step, &plan, Tuning::Always, &first.target).expect("was measured");
    assert!(Choice::all(c, &first.target).contains(&chosen));
    assert_eq!(first.choice(step, &plan, Tuning::Off, &first.target), None);
    assert_eq!(first.kept(&keep), BTreeMap::from([(key(c, &[], &first.target), chosen.word())]));
    // Another device reads what is there, whatever it would find: the last choice, which is hardly the fastest.
    let last = *Choice::all(c, &first.target).last().expect("several");
    let text = format!("{} {}\n", key(c, &[], &first.target), last.word());
    keep.write(Kind::Products, first.identity(), text.as_bytes());
    let second = device().expect("opens again");
    second.tune(&[&plan], Tuning::Always, &second.target, Some(&keep));
    assert_eq!(second.choice(step, &plan, Tuning::Always, &second.target), Some(last));
    // A word that is no choice, and a damaged file, count as nothing.
    for (payload, whole) in [(format!("{} tiles-1-2-3-4\n", key(c, &[], &first.target)), true), (text, false)] {
        keep.write(Kind::Products, first.identity(), payload.as_bytes());
        if !whole {
            let path = folder.join(super::super::keep::name(Kind::Products, first.identity()));
            let bytes = std::fs::read(&path).expect("is there");
            std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("is written");
        }
        let third = device().expect("opens again");
        third.tune(&[&plan], Tuning::Always, &third.target, Some(&keep));
        assert!(third.choice(step, &plan, Tuning::Always, &third.target).is_some());
    }
    std::fs::remove_dir_all(&folder).expect("is removed");
}

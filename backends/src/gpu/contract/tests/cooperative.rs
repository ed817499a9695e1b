use super::super::choice::{Choice, Form};
use super::super::cooperative::Shape;
use super::*;
use crate::gpu::vendor::Vendor;
use crate::gpu::wgsl::{Cooperative, Subgroups};

const TAKEN: [DType; 2] = [DType::F16, DType::F32];

/// A target with cooperative matrices of this size, that multiplies anything by them.
fn with(size: u32, subgroups: [u32; 2], target: WgslTarget) -> WgslTarget {
    WgslTarget {
        workgroup_bytes: target.workgroup_bytes.max(32_768),
        f16: true,
        subgroups: Some(Subgroups { least: subgroups[0], most: subgroups[1], named: false }),
        cooperative: Some(Cooperative { size, halves: true, rounded: true }),
        ..target
    }
}

/// What the machine's device has, if it has cooperative matrices, else what a card has: then shaders are validated and not run.
fn multiplying() -> WgslTarget {
    let device = harness::device().and_then(|d| Some((d.matrices?, d.target.subgroups?, d.target)));
    device.map_or_else(|| with(16, [32, 32], WgslTarget::default()), |(size, s, t)| with(size, [s.least, s.most], t))
}

/// The choices of cooperative matrices by turns, without an end: drivers take long to compile each.
fn turns(target: &WgslTarget) -> impl Iterator<Item = Choice> {
    let all: Vec<Choice> = Choice::cooperative(target).collect();
    assert!(all.len() >= 3, "{all:?}");
    all.into_iter().cycle()
}

#[test]
fn products_are_exact() {
    let mut r = Random(41);
    let target = multiplying();
    let shapes = [
        [1, 1, 1, 1],
        [1, 17, 33, 65],
        [1, 128, 128, 128],
        [2, 64, 128, 64],
        [1, 130, 129, 37],
        [3, 40, 70, 9],
        [1, 33, 0, 5],
        [0, 33, 20, 5],
        [2, 33, 17, 0],
    ];
    let cases = TAKEN.into_iter().flat_map(|d| [(); 2].into_iter().flat_map(move |()| shapes.map(|s| (d, s))));
    for ((dtype, shape), choice) in cases.zip(turns(&target)) {
        let (c, lens) = contract(&mut r, dtype, shape);
        let dispatches = dispatches(&c, &[], Some(choice), &target).expect("has text");
        assert!(dispatches.iter().all(|d| d.text.contains("coop_mat")), "{choice}");
        check(&c, lens, &Bindings::default(), &dispatches, &mut r);
    }
}

#[test]
fn sums_are_cut() {
    let mut r = Random(43);
    let target = multiplying();
    let shapes = [[1, 33, 40, 3000], [2, 64, 50, 1100], [1, 70, 80, 600]];
    for ((dtype, shape), choice) in TAKEN.into_iter().flat_map(|d| shapes.map(|s| (d, s))).zip(turns(&target)) {
        let (c, lens) = contract(&mut r, dtype, shape);
        let dispatches = dispatches(&c, &[], Some(Choice { parts: 4, ..choice }), &target).expect("has text");
        assert_eq!(dispatches.len(), 2);
        check(&c, lens, &Bindings::default(), &dispatches, &mut r);
    }
}

#[test]
fn epilogues_run_with_every_shape() {
    let mut r = Random(47);
    let target = multiplying();
    let shapes = [[2, 70, 65, 40], [1, 129, 130, 33], [1, 40, 33, 0]];
    let cases = TAKEN.into_iter().flat_map(|d| [true, false].into_iter().flat_map(move |r| shapes.map(|s| (d, r, s))));
    for ((dtype, replaces, shape), choice) in cases.zip(turns(&target)) {
        let (f, lens) = finishing_of(&mut r, dtype, shape, replaces);
        let dispatches = dispatches(&f.contract, &f.kernels, Some(choice), &target).expect("has text");
        check_finishing(&f, lens, &dispatches, &mut r);
    }
}

/// A workgroup then has more subgroups than parts of a tile.
#[test]
fn subgroups_may_be_smaller_than_the_greatest() {
    let mut r = Random(53);
    let target = multiplying();
    let Subgroups { least, most, .. } = target.subgroups.expect("has subgroups");
    for more in [2, 4] {
        let open = with(target.cooperative.expect("has matrices").size, [least, most * more], target);
        for dtype in TAKEN {
            let (c, lens) = contract(&mut r, dtype, [1, 70, 130, 45]);
            let choices = Choice::cooperative(&open).collect::<Vec<_>>();
            assert!(!choices.is_empty());
            for choice in choices.into_iter().take(2) {
                let dispatches = dispatches(&c, &[], Some(choice), &open).expect("has text");
                check(&c, lens, &Bindings::default(), &dispatches, &mut r);
            }
        }
    }
}

#[test]
fn every_choice_computes_the_same() {
    let mut r = Random(59);
    let target = multiplying();
    for (dtype, [m, n, k]) in
        TAKEN.into_iter().flat_map(|d| [[70, 66, 40], [3, 50, 600], [33, 40, 520]].map(|s| (d, s)))
    {
        let (c, lens) = contract(&mut r, dtype, [2, m, n, k]);
        let choices = Choice::all(&c, &target);
        let words: std::collections::BTreeSet<String> = choices.iter().map(Choice::word).collect();
        assert_eq!(words.len(), choices.len(), "names are distinct");
        let has = |test: fn(&Form) -> bool| choices.iter().any(|c| test(&c.form));
        assert!(has(|f| matches!(f, Form::Cooperative(_))) && has(|f| !matches!(f, Form::Cooperative(_))), "{words:?}");
        for choice in choices {
            let dispatches = dispatches(&c, &[], Some(choice), &target).expect("has text");
            check(&c, lens, &Bindings::default(), &dispatches, &mut r);
        }
    }
}

#[test]
fn a_target_says_what_takes_matrices() {
    let form = |dtype, target: &WgslTarget| {
        let c = plain(dtype, [1024, 1024, 1024]);
        Choice::of(&Product::of(&c, Element::of(dtype, target).expect("is there")), target).form
    };
    let takes = |dtype, target: &WgslTarget| matches!(form(dtype, target), Form::Cooperative(_));
    let full = with(16, [32, 32], WgslTarget::default());
    assert!(takes(DType::F16, &full) && takes(DType::F32, &full));
    assert!(!takes(DType::BF16, &full));
    let cooperative =
        |halves, rounded| WgslTarget { cooperative: Some(Cooperative { size: 16, halves, rounded }), ..full };
    assert!(takes(DType::F16, &cooperative(true, false)) && !takes(DType::F32, &cooperative(true, false)));
    assert!(!takes(DType::F16, &cooperative(false, true)) && takes(DType::F32, &cooperative(false, true)));
    // Where some subgroups might be idle, measuring decides.
    let open = with(16, [32, 64], WgslTarget::default());
    assert!(!takes(DType::F16, &open));
    let c = plain(DType::F16, [1024, 1024, 1024]);
    assert!(Choice::all(&c, &open).iter().any(|c| matches!(c.form, Form::Cooperative(_))));
    for none in [
        WgslTarget { subgroups: None, ..full },
        WgslTarget { cooperative: None, ..full },
        WgslTarget { f16: false, ..full },
        with(16, [24, 24], WgslTarget::default()),
    ] {
        assert!(!takes(DType::F32, &none));
        assert_eq!(Choice::cooperative(&none).count(), 0);
    }
    // A choice of another target's is refused, not printed.
    let choice = Choice::cooperative(&full).next().expect("several");
    assert!(dispatches(&c, &[], Some(choice), &WgslTarget::default()).is_err());
}

#[test]
fn tiles_grow_with_products() {
    let size = |shape, target: &WgslTarget| {
        let c = plain(DType::F16, shape);
        let product = Product::of(&c, Element::of(DType::F16, target).expect("is there"));
        Shape::of(&product, target).map(|s| s.size)
    };
    let full = with(16, [32, 32], WgslTarget::default());
    let sizes = [[20, 30, 64], [512, 512, 64], [1024, 1024, 64], [4096, 4096, 64], [9, 4096, 64]];
    assert_eq!(sizes.map(|s| size(s, &full)), [32, 32, 64, 128, 32].map(Some));
    // Fewer units want fewer tiles.
    assert_eq!(size([512, 512, 64], &WgslTarget { vendor: Vendor::Apple, ..full }), Some(64));
    // A large tile takes more memory than every device has.
    assert_eq!(size([4096, 4096, 64], &WgslTarget { workgroup_bytes: 16_384, ..full }), Some(64));
}

#[test]
fn snapshots() {
    let target = with(16, [32, 32], WgslTarget::default());
    insta::assert_snapshot!("cooperative_f16", text(&plain(DType::F16, [70, 50, 40]), &target));
    let small = with(8, [32, 64], WgslTarget::default());
    let choice = Choice::cooperative(&small).next();
    let (f, _) = finishing_of(&mut Random(1), DType::F32, [1, 64, 64, 16], true);
    let all = dispatches(&f.contract, &f.kernels, choice, &small).expect("has text");
    insta::assert_snapshot!("cooperative_rounded", &*all[0].text);
}

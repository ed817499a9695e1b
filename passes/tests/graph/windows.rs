//! Convolutions and folds of windows, brought into other forms, against the evaluator.

use std::collections::BTreeMap;

use lehr_ir::array::Array;
use lehr_ir::graph::{Builder, Graph, ParamKind};
use lehr_ir::ops::{Convolution, Op, ReduceOp, ReduceWindow, Window};
use lehr_ir::{DType, Dim, Target, Type};
use lehr_passes::derivative::vjp;
use lehr_passes::driver::run_passes;
use lehr_passes::legalize_convolution::LegalizeConvolution;
use lehr_passes::pipeline::optimize_for;
use lehr_passes::split_windows::SplitWindows;
use lehr_passes::{Pass, PassCx, PassOptions};
use proptest::prelude::*;

use crate::support::{build, run};
use crate::table::windows::{all_convolutions, all_windows, large_windows, window};

type Fired = BTreeMap<&'static str, u32>;

/// Applies a pass, and says what fired.
fn apply(pass: &dyn Pass<Graph>, graph: &Graph) -> (Graph, Fired) {
    let mut cx = PassCx::new(PassOptions { verify: true, ..PassOptions::default() });
    let new = run_passes(&[pass], graph.clone(), &mut cx, &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    (new, cx.records()[0].rules.clone())
}

/// Small whole numbers, whose sums and products are exact.
fn whole(shape: &[usize], seed: usize) -> Array {
    let n: usize = shape.iter().product();
    Array::new(shape, (0..n).map(|i| ((i * 7 + seed * 3) % 11) as i32 - 5).collect()).unwrap()
}

/// A graph of one operation, in exact arithmetic.
fn of_one(op: impl Into<Op>, shapes: &[&[usize]]) -> (Graph, Vec<Array>) {
    let types: Vec<Type> = shapes.iter().map(|s| Type::new(DType::I32, s.iter().copied())).collect();
    let op = op.into();
    let graph = build(&types, |b, v| vec![b.op(op, v).unwrap()]);
    (graph, shapes.iter().enumerate().map(|(i, s)| whole(s, i)).collect())
}

/// What convolutions are after the pass: without padding and holes.
fn assert_legal(graph: &Graph) {
    for (_, node) in graph.nodes() {
        match &node.op {
            Op::Convolution(op) => assert!(op.windows.iter().all(Window::is_plain), "{graph}"),
            Op::ReduceWindow(op) => assert!(op.taps() <= lehr_ir::ops::reduce_window::MOST_TAPS, "{graph}"),
            _ => {}
        }
    }
}

const LEGALIZE: LegalizeConvolution = LegalizeConvolution { active: true };
const SPLIT: SplitWindows = SplitWindows { active: true };

#[test]
fn convolutions_keep_their_values() {
    let mut all = Fired::new();
    for (name, op, x, y) in all_convolutions() {
        let (graph, args) = of_one(op, &[&x, &y]);
        let (new, fired) = apply(&LEGALIZE, &graph);
        assert_eq!(run(&new, &args), run(&graph, &args), "{name}\n{new}");
        assert_legal(&new);
        fired.into_iter().for_each(|(rule, n)| *all.entry(rule).or_default() += n);
    }
    let rules: Vec<&str> = all.into_keys().collect();
    assert_eq!(
        rules,
        [
            "pad_operand",
            "product_of_all",
            "product_of_one_tap",
            "split_holes",
            "sum_for_each_place",
            "sum_of_taps",
            "zeros_of_nothing"
        ]
    );
}

#[test]
fn operands_may_be_constants_and_views() {
    for (name, op, x, y) in all_convolutions() {
        let rank = x.len();
        let graph = build(&[], |b, _| {
            let (x, y) = (b.constant(whole(&x, 0)), b.constant(whole(&y, 1)));
            // Behind a reshape of channels and a transpose of everything.
            let back: Vec<usize> = (0..rank).rev().collect();
            let mut flat = b.ty(x).shape.clone();
            flat.push(1.into());
            let z = b.reshape(x, &flat).unwrap();
            let z = b.reshape(z, &flat[..rank]).unwrap();
            let z = b.transpose(z, &back).unwrap();
            let z = b.neg(z).unwrap();
            let z = b.transpose(z, &back).unwrap();
            vec![b.op(op.clone().into(), &[x, y]).unwrap(), b.op(op.into(), &[z, y]).unwrap()]
        });
        let (new, _) = apply(&LEGALIZE, &graph);
        assert_eq!(run(&new, &[]), run(&graph, &[]), "{name}\n{new}");
        assert_legal(&new);
    }
}

#[test]
fn gradients_of_convolutions_keep_their_values() {
    for (name, op, x, y) in all_convolutions() {
        let types = [&x, &y].map(|s| Type::new(DType::F64, s.iter().copied()));
        let graph = build(&types, |b, v| vec![b.op(op.into(), v).unwrap()]);
        let gradient = vjp(&graph, &[0], &[0, 1]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let args: Vec<Array> = gradient
            .param_types()
            .enumerate()
            .map(|(i, ty)| {
                let values = whole(&ty.static_shape().unwrap(), i);
                let values = values.as_slice::<i32>().unwrap().iter().map(|&v| f64::from(v)).collect();
                Array::new(&ty.static_shape().unwrap(), values).unwrap()
            })
            .collect();
        let (new, _) = apply(&LEGALIZE, &gradient);
        assert_eq!(run(&new, &args), run(&gradient, &args), "{name}\n{new}");
        assert_legal(&new);
        // With the other passes around it, too.
        let target = Target::default();
        let mut cx = PassCx::new(PassOptions { verify: true, ..PassOptions::default() });
        let all = optimize_for(gradient.clone(), Some(&target), &mut cx).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(run(&all, &args), run(&gradient, &args), "{name}\n{all}");
    }
}

#[test]
fn holes_are_not_convolved_over() {
    // The gradient of a convolution with a stride of 2, by its operand: four small convolutions.
    let op = Convolution { batch: 0, windows: [window(1, 1, 2, 2, 1), window(1, 1, 2, 2, 1)].as_slice().into() };
    let (graph, _) = of_one(op, &[&[1, 4, 4, 2], &[3, 3, 2, 5]]);
    let (new, _) = apply(&LEGALIZE, &graph);
    let taps = |g: &Graph| -> i64 {
        let kernels = g.nodes().filter_map(|(_, n)| match &n.op {
            Op::Convolution(_) => Some(g.ty(n.operands[1]).shape[..2].iter().map(|d| d.as_const().unwrap()).product()),
            Op::Dot(_) => Some(1),
            _ => None,
        });
        kernels.sum::<i64>()
    };
    assert_eq!((taps(&graph), taps(&new)), (9, 9), "every tap belongs to one class\n{new}");
    let interior =
        |g: &Graph| g.nodes().any(|(_, n)| matches!(&n.op, Op::Pad(p) if p.interior.iter().any(|&i| i != 0)));
    assert!(!interior(&new), "{new}");
}

#[test]
fn depthwise_convolutions_have_channels_innermost() {
    let op = Convolution { batch: 1, windows: [window(1, 1, 1, 1, 1)].as_slice().into() };
    let (graph, _) = of_one(op, &[&[8, 2, 5, 1], &[8, 3, 1, 1]]);
    let (new, _) = apply(&LEGALIZE, &graph);
    let products = new.nodes().filter(|(_, n)| n.op.name() == "mul");
    for (_, node) in products {
        assert_eq!(new.ty(node.result()).shape.last(), Some(&Dim::from(8)), "{new}");
    }
    assert_eq!(new.nodes().filter(|(_, n)| n.op.name() == "mul").count(), 3);
}

#[test]
fn without_a_target_operations_stay_as_they_are() {
    let op = Convolution { batch: 0, windows: [window(1, 1, 2, 2, 1)].as_slice().into() };
    let (graph, _) = of_one(op, &[&[1, 4, 2], &[3, 2, 5]]);
    let mut cx = PassCx::new(PassOptions::default());
    assert_eq!(optimize_for(graph.clone(), None, &mut cx).unwrap(), graph);
    let plain = Target { legalize_windows: false, ..Target::default() };
    assert_eq!(optimize_for(graph.clone(), Some(&plain), &mut cx).unwrap(), graph);
    assert_ne!(optimize_for(graph.clone(), Some(&Target::default()), &mut cx).unwrap(), graph);
    let mut none = PassCx::new(PassOptions { fuel: Some(0), ..PassOptions::default() });
    assert_eq!(optimize_for(graph.clone(), Some(&Target::default()), &mut none).unwrap(), graph);
}

#[test]
fn folds_of_large_windows_keep_their_values() {
    let mut all = Fired::new();
    for (sizes, windows, shape) in all_windows().into_iter().chain(large_windows()) {
        for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod] {
            let fold = ReduceWindow { op, sizes: sizes.clone().into(), windows: windows.clone().into() };
            let (graph, args) = of_one(fold, &[&shape]);
            let (new, fired) = apply(&SPLIT, &graph);
            assert_eq!(run(&new, &args), run(&graph, &args), "{new}");
            assert_legal(&new);
            fired.into_iter().for_each(|(rule, n)| *all.entry(rule).or_default() += n);
        }
    }
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ["reduce_whole_dims", "split_large_windows"]);
}

#[test]
fn sizes_of_any_name_are_legalised() {
    let n = Dim::symbol("n").unwrap();
    let m = Dim::symbol("m").unwrap();
    for (batch, w) in
        [(0, window(1, 1, 1, 1, 1)), (0, window(2, 0, 0, 1, 1)), (0, window(1, 1, 1, 3, 1)), (1, window(1, 1, 1, 1, 1))]
    {
        let mut b = Builder::new("f");
        let lead: Vec<Dim> = std::iter::repeat_n(Dim::from(4), batch).collect();
        let dims = |rest: [Dim; 3]| lead.iter().cloned().chain(rest).collect::<Vec<Dim>>();
        let channels = if batch == 1 { 1 } else { 2 };
        let x = b.param("x", ParamKind::Input, Type::new(DType::F64, dims([n.clone(), m.clone(), channels.into()])));
        let y = b.param("y", ParamKind::Input, Type::new(DType::F64, dims([3.into(), channels.into(), 1.into()])));
        let op = Convolution { batch, windows: [w].as_slice().into() };
        let out = b.op(op.into(), &[x, y]).unwrap();
        b.output("out", out);
        let gradient = vjp(&b.finish(), &[0], &[0, 1]).unwrap();
        let (new, fired) = apply(&LEGALIZE, &gradient);
        assert!(!fired.is_empty(), "{gradient}");
        for (examples, size) in [(2, 5), (1, 3), (1, 1), (0, 4), (2, 0)] {
            let sized = |d: &Dim| d.substitute(&|s| Some(Dim::from(if s.as_str() == "n" { examples } else { size })));
            let args: Vec<Array> = gradient
                .param_types()
                .enumerate()
                .map(|(i, ty)| {
                    let shape: Vec<usize> =
                        ty.shape.iter().map(|d| usize::try_from(sized(d).as_const().unwrap()).unwrap()).collect();
                    let values = whole(&shape, i);
                    let values = values.as_slice::<i32>().unwrap().iter().map(|&v| f64::from(v)).collect();
                    Array::new(&shape, values).unwrap()
                })
                .collect();
            assert_eq!(run(&new, &args), run(&gradient, &args), "{new}");
        }
    }
}

/// Windows along one dim, the size of the operand, and the number of taps.
fn any_window() -> impl Strategy<Value = (Window, usize, usize)> {
    (1usize..4, -2i64..4, -2i64..4, 1usize..5, 1usize..4, 0usize..6, 0usize..5)
        .prop_map(|(s, low, high, e, d, n, k)| (window(s, low, high, e, d), n, k))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any convolution keeps its values.
    #[test]
    fn random_convolutions_keep_their_values(
        batch in prop::collection::vec(1usize..3, 0..3),
        dims in prop::collection::vec(any_window(), 0..3),
        (n, ci, co) in (0usize..3, 0usize..3, 0usize..4),
    ) {
        let op = Convolution { batch: batch.len(), windows: dims.iter().map(|(w, ..)| w.clone()).collect() };
        let x: Vec<usize> = batch.iter().copied().chain([n]).chain(dims.iter().map(|d| d.1)).chain([ci]).collect();
        let y: Vec<usize> = batch.iter().copied().chain(dims.iter().map(|d| d.2)).chain([ci, co]).collect();
        let (graph, args) = of_one(op, &[&x, &y]);
        let (new, _) = apply(&LEGALIZE, &graph);
        assert_legal(&new);
        prop_assert_eq!(run(&new, &args), run(&graph, &args), "{}\n{}", graph, new);
    }
}

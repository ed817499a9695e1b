//! The other passes, and the driver.

use std::sync::Arc;

use lehr_ir::array::Array;
use lehr_ir::graph::{Builder, Graph, ParamKind};
use lehr_ir::ops::{Call, DotDims, Op, UnaryOp};
use lehr_ir::{DType, Data, Literal, Loc, Type};
use lehr_passes::driver::run_passes;
use lehr_passes::eliminate_common::EliminateCommon;
use lehr_passes::eliminate_dead::EliminateDead;
use lehr_passes::fold_constants::FoldConstants;
use lehr_passes::inline_calls::InlineCalls;
use lehr_passes::pipeline::{GraphPasses, optimize};
use lehr_passes::widen_products::WidenProducts;
use lehr_passes::{Outcome, Pass, PassCx, PassError, PassOptions};

use crate::support::{build, f64s, random, run};
use crate::table::{all_cases, dims, softmax};

fn options() -> PassOptions {
    PassOptions { verify: true, ..PassOptions::default() }
}

fn apply(pass: &dyn Pass<Graph>, graph: &Graph) -> Graph {
    run_passes(&[pass], graph.clone(), &mut PassCx::new(options()), &mut |_, _| {}).unwrap_or_else(|e| panic!("{e}"))
}

fn count(graph: &Graph, name: &str) -> usize {
    graph.nodes().filter(|(_, n)| n.op.name() == name).count()
}

#[test]
fn constants_fold_into_scalars_where_their_elements_are_equal() {
    let graph = build(&[f64s(&[3])], |b, v| {
        let one = b.full_like(v[0], 1.0).unwrap();
        let two = b.add(one, one).unwrap();
        let e = b.unary(UnaryOp::Exp, two).unwrap();
        let c = b.constant(Array::from([1.0, 2.0, 3.0]));
        let c = b.mul(c, two).unwrap();
        let x = b.mul(v[0], e).unwrap();
        vec![b.add(x, c).unwrap()]
    });
    let folded = apply(&EliminateDead, &apply(&FoldConstants, &graph));
    insta::assert_snapshot!(folded);
    assert_eq!(run(&folded, &[random(&[3], 0., 1., 1)]), run(&graph, &[random(&[3], 0., 1., 1)]));
}

#[test]
fn folding_does_not_grow_constants() {
    let pad_to = |n: i64| {
        build(&[], |b, _| {
            let c = b.constant(Array::from([1.0, 2.0]));
            let zero = b.scalar(0.0.into());
            let pad = lehr_ir::ops::Pad { low: dims(&[0]), high: dims(&[n - 2]), interior: [0].as_slice().into() };
            vec![b.op(pad.into(), &[c, zero]).unwrap()]
        })
    };
    // The operands are 24 bytes.
    assert_eq!(count(&apply(&FoldConstants, &pad_to(515)), "pad"), 0);
    assert_eq!(count(&apply(&FoldConstants, &pad_to(516)), "pad"), 1);
    let symbolic = build(&[Type::new(DType::F64, [lehr_ir::Dim::symbol("n").unwrap()])], |b, v| {
        let one = b.full_like(v[0], 1.0).unwrap();
        vec![b.unary(UnaryOp::Exp, one).unwrap()]
    });
    assert_eq!(apply(&FoldConstants, &symbolic), symbolic);
}

#[test]
fn folding_costs_a_bounded_amount_of_work() {
    let product = |n: usize| {
        build(&[], |b, _| {
            let (x, y) = (b.constant(random(&[1, n], 0., 1., 1)), b.constant(random(&[n, 1], 0., 1., 2)));
            let big = b.dot(y, x, lehr_ir::ops::DotDims::matmul(0)).unwrap();
            vec![b.sum(big, &[0, 1]).unwrap()]
        })
    };
    assert_eq!(count(&apply(&FoldConstants, &product(20)), "dot"), 0);
    assert_eq!(count(&apply(&FoldConstants, &product(3000)), "dot"), 1);
}

#[test]
fn equal_nodes_merge_and_the_first_location_wins() {
    let graph = build(&[f64s(&[2]), f64s(&[2])], |b, v| {
        b.loc = Loc::new("a.rs", 1, 1);
        let x = b.add(v[0], v[1]).unwrap();
        b.loc = Loc::new("b.rs", 2, 2);
        let y = b.add(v[1], v[0]).unwrap();
        b.tag = 1;
        let z = b.add(v[0], v[1]).unwrap();
        let p = b.mul(x, y).unwrap();
        vec![b.sub(p, z).unwrap()]
    });
    let merged = apply(&EliminateCommon, &graph);
    assert_eq!(count(&merged, "add"), 2, "one for each tag\n{merged}");
    assert_eq!(merged.nodes().next().unwrap().1.loc.to_string(), "a.rs:1:1");
    let max = build(&[f64s(&[2]), f64s(&[2])], |b, v| {
        let x = b.binary(lehr_ir::ops::BinaryOp::Max, v[0], v[1]).unwrap();
        let y = b.binary(lehr_ir::ops::BinaryOp::Max, v[1], v[0]).unwrap();
        vec![b.mul(x, y).unwrap()]
    });
    assert_eq!(apply(&EliminateCommon, &max), max, "max is not commutative in its zeros");
}

#[test]
fn calls_of_equal_bodies_merge_and_bodies_are_merged_inside() {
    let graph = build(&[f64s(&[2, 3])], |b, v| {
        let x = b.op(softmax(&[2, 3], false).into(), v).unwrap();
        let y = b.op(softmax(&[2, 3], false).into(), v).unwrap();
        vec![b.add(x, y).unwrap()]
    });
    assert_eq!(count(&apply(&EliminateCommon, &graph), "call"), 1);
    let body = build(&[f64s(&[2])], |b, v| {
        let (x, y) = (b.unary(UnaryOp::Sin, v[0]).unwrap(), b.unary(UnaryOp::Sin, v[0]).unwrap());
        vec![b.mul(x, y).unwrap()]
    });
    let call = Call::new("square_sine", Arc::new(body));
    let graph = build(&[f64s(&[2])], |b, v| vec![b.op(call.into(), v).unwrap()]);
    let merged = apply(&EliminateCommon, &graph);
    let Op::Call(call) = &merged.nodes().next().unwrap().1.op else { panic!("{merged}") };
    assert_eq!(count(&call.body, "sin"), 1);
}

#[test]
fn dead_nodes_go_and_parameters_stay() {
    let graph = build(&[f64s(&[2]), f64s(&[2])], |b, v| {
        let s = b.unary(UnaryOp::Sin, v[1]).unwrap();
        b.unary(UnaryOp::Cos, s).unwrap();
        vec![b.neg(v[0]).unwrap()]
    });
    let live = apply(&EliminateDead, &graph);
    assert_eq!((live.node_count(), live.params().len()), (1, 2));
    // An update keeps what it needs.
    let mut b = Builder::new("train");
    let w = b.param("w", ParamKind::Variable, f64s(&[2]));
    let new = b.scale(w, 0.9).unwrap();
    b.update(0, new);
    let graph = b.finish();
    assert_eq!(apply(&EliminateDead, &graph), graph);
}

#[test]
fn bodies_come_in_place_down_to_the_bottom_under_their_names() {
    let case = all_cases().into_iter().find(|c| c.name == "call_nested").unwrap();
    let flat = apply(&InlineCalls::ALL, &case.graph);
    assert_eq!(count(&flat, "call"), 0);
    let scopes: Vec<String> = flat.nodes().map(|(_, n)| flat.scope_path(n.scope)).collect();
    assert!(scopes.contains(&"entropy/softmax".to_owned()) && scopes.contains(&"entropy".to_owned()), "{flat}");
    assert_eq!(run(&flat, &case.args), run(&case.graph, &case.args));
    let keep = InlineCalls { keep: |c| c.name == "softmax" };
    assert_eq!(count(&apply(&keep, &case.graph), "call"), 1);
}

#[test]
fn the_pipeline_keeps_the_values_of_every_operation() {
    for case in all_cases() {
        let optimized = optimize(case.graph.clone(), &mut PassCx::new(options())).unwrap_or_else(|e| panic!("{e}"));
        let (got, want) = (run(&optimized, &case.args), run(&case.graph, &case.args));
        for (g, w) in got.iter().zip(&want) {
            crate::support::assert_close(&format!("{}\n{optimized}", case.name), g, w, 1e-15);
        }
    }
}

fn some_graph() -> Graph {
    build(&[f64s(&[4])], |b, v| {
        let x = b.scale(v[0], 1.0).unwrap();
        let y = b.neg(x).unwrap();
        let y = b.neg(y).unwrap();
        let s = b.unary(UnaryOp::Sin, y).unwrap();
        let t = b.unary(UnaryOp::Sin, v[0]).unwrap();
        vec![b.add(s, t).unwrap()]
    })
}

#[test]
fn records_count_nodes_and_rules() {
    let mut cx = PassCx::new(options());
    optimize(some_graph(), &mut cx).unwrap();
    let lines: Vec<String> = cx
        .records()
        .iter()
        .map(|r| {
            let rules: Vec<String> = r.rules.iter().map(|(name, n)| format!("{name} {n}")).collect();
            let what = if r.changed { rules.join(", ") } else { "unchanged".to_owned() };
            format!("{}: {} -> {}: {what}", r.name, r.nodes_before, r.nodes_after)
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn passes_can_be_stopped_after_disabled_and_observed() {
    let stop = |at: &str| {
        let mut cx = PassCx::new(PassOptions { stop_after: Some(at.to_owned()), ..options() });
        optimize(some_graph(), &mut cx).unwrap();
        (cx.records().iter().map(|r| r.name).collect::<Vec<_>>(), cx.is_stopped())
    };
    assert_eq!(stop("simplify"), (vec!["eliminate_dead", "prune_regions", "fold_constants", "simplify"], true));
    assert_eq!(stop("simplify:2").0.len(), 8);

    let mut cx = PassCx::new(PassOptions { disable: vec!["simplify".to_owned()], ..options() });
    let graph = optimize(some_graph(), &mut cx).unwrap();
    assert_eq!(count(&graph, "neg"), 2);
    assert!(cx.records().iter().all(|r| r.name != "simplify"));

    let mut cx = PassCx::new(PassOptions { disable: vec!["simplfy".to_owned()], ..options() });
    let e = optimize(some_graph(), &mut cx).unwrap_err();
    assert_eq!(
        e.to_string(),
        "there is no pass `simplfy` here; the passes are eliminate_common, eliminate_dead, expand_attention, find_attention, fold_constants, inline_calls, legalize_convolution, prune_regions, simplify, split_windows, widen_products"
    );

    let mut seen = Vec::new();
    let passes = GraphPasses::default();
    passes.run(some_graph(), &mut PassCx::new(options()), &mut |r, g| seen.push((r.name, g.node_count()))).unwrap();
    assert_eq!(seen.len(), passes.list().len());
    assert_eq!(seen.last(), Some(&("eliminate_dead", 2)));
}

#[test]
fn fuel_bounds_the_rewrites_and_every_budget_gives_a_right_graph() {
    let args = [random(&[4], -1., 1., 1)];
    let want = run(&some_graph(), &args);
    let mut full = PassCx::new(options());
    optimize(some_graph(), &mut full).unwrap();
    assert!(full.spent() > 3);
    for fuel in 0..full.spent() {
        let mut cx = PassCx::new(PassOptions { fuel: Some(fuel), ..options() });
        let graph = optimize(some_graph(), &mut cx).unwrap();
        assert_eq!(cx.spent(), fuel);
        assert_eq!(run(&graph, &args), want);
        if fuel == 0 {
            assert_eq!(graph, some_graph());
        }
    }
}

#[test]
fn a_false_report_and_an_ill_formed_result_are_found() {
    struct Nothing;
    impl Pass<Graph> for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }
        fn run(&self, graph: &Graph, _: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
            Ok(Outcome::Changed(graph.clone()))
        }
    }
    struct Breaks;
    impl Pass<Graph> for Breaks {
        fn name(&self) -> &'static str {
            "breaks"
        }
        fn run(&self, graph: &Graph, _: &mut PassCx) -> Result<Outcome<Graph>, PassError> {
            let mut b = Builder::with_graph(graph.clone());
            let x = graph.param_value(0);
            let id = b.push(UnaryOp::Sin.into(), [x].into_iter().collect(), [f64s(&[7])].into_iter().collect());
            let v = b.graph().node(id).result();
            b.output("more", v);
            Ok(Outcome::Changed(b.finish()))
        }
    }
    let go = |pass: &dyn Pass<Graph>| {
        run_passes(&[pass], some_graph(), &mut PassCx::new(options()), &mut |_, _| {}).unwrap_err()
    };
    assert_eq!(go(&Nothing).to_string(), "internal error: pass `nothing` reported a change and made none");
    let e = go(&Breaks).to_string();
    assert!(e.starts_with("internal error: the value after `breaks` is ill-formed"), "{e}");
    assert!(e.contains("sin %x0"), "the error prints the graph\n{e}");
}

#[test]
fn dots_of_half_precision_are_widened_where_the_target_has_none() {
    let dot = |dtype| {
        let of = |shape: &[i64]| Type::new(dtype, dims(shape));
        build(&[of(&[3, 5]), of(&[5, 4])], |b, v| vec![b.dot(v[0], v[1], DotDims::matmul(0)).unwrap()])
    };
    let widened = |graph: &Graph, dots: &[DType]| {
        let pass = WidenProducts { dtypes: [DType::F16, DType::BF16].into_iter().collect(), dots: dots.into() };
        apply(&pass, graph)
    };
    for (dtype, other) in [(DType::F16, DType::BF16), (DType::BF16, DType::F16)] {
        let graph = dot(dtype);
        // Kept as they are, to the letter.
        for dots in [&[dtype][..], &[other, dtype]] {
            assert_eq!(widened(&graph, dots).to_string(), graph.to_string());
        }
        for dots in [&[][..], &[other]] {
            let wide = widened(&graph, dots);
            assert_eq!((count(&wide, "convert"), count(&wide, "dot")), (3, 1), "{wide}");
            let operands = [[3, 5], [5, 4]].map(|shape| {
                let mut data = Data::zeros(dtype, shape[0] * shape[1]);
                for i in 0..data.len() {
                    data.set(i, Literal::from_f64(dtype, ((i * 7) % 5) as f64 - 2.0)).unwrap();
                }
                Array::from_data(&shape, data).unwrap()
            });
            assert_eq!(run(&wide, &operands), run(&graph, &operands));
        }
    }
    // Other dtypes are nobody's business here.
    let single = dot(DType::F32);
    assert_eq!(widened(&single, &[]).to_string(), single.to_string());
    // What a target's contractions are decides.
    let listed = |contractions: &[DType]| {
        let target = lehr_ir::Target { contractions: contractions.to_vec(), ..lehr_ir::Target::default() };
        let passes = GraphPasses::new(|_| false).for_target(Some(&target));
        let graph = run_passes(&passes.list(), dot(DType::BF16), &mut PassCx::new(options()), &mut |_, _| {});
        count(&graph.unwrap_or_else(|e| panic!("{e}")), "convert")
    };
    assert_eq!(listed(&[DType::F32]), 3);
    assert_eq!(listed(&[DType::F32, DType::BF16]), 0);
}

//! Plans as shaders: which steps have them, and whether they are valid.

use std::collections::BTreeMap;

use lehr::ir::Target;
use lehr::ir::graph::Graph;
use lehr::ir::plan::{Plan, StepKind};
use lehr::models::{Gpt, GptConfig, ResNet};
use lehr::passes::compile::compile;
use lehr::passes::pass::{PassCx, PassOptions};
use lehr::prelude::*;
use lehr_backends::gpu::dispatch::Dispatch;
use lehr_backends::gpu::wgsl::{Cooperative, Subgroups, WgslError, WgslTarget};
use lehr_backends::gpu::{attend, contract, wgsl};

use crate::generate::{Limits, all_focuses};

/// A device that has everything.
fn rich() -> WgslTarget {
    WgslTarget {
        storage_buffers: 32,
        workgroup_bytes: 32_768,
        f16: true,
        i64: true,
        f64: true,
        ..WgslTarget::default()
    }
}

/// One that multiplies whatever it can by cooperative matrices.
fn multiplying() -> WgslTarget {
    WgslTarget {
        subgroups: Some(Subgroups { least: 32, most: 32, named: false }),
        cooperative: Some(Cooperative { size: 16, halves: true, rounded: true }),
        ..rich()
    }
}

fn plan(graph: Graph) -> Plan {
    // As many buffers as a device binds.
    let target = Target { max_buffers: 32, ..Target::default() };
    let done = compile(graph, &target, &mut PassCx::new(PassOptions::default()));
    done.unwrap_or_else(|e| panic!("{e}")).plan.into_inner()
}

/// The dispatches of each step that is a device's, or why there are none.
fn dispatches(plan: &Plan, target: &WgslTarget) -> Vec<Result<Vec<Dispatch>, WgslError>> {
    let all = plan.with_nested().into_iter().flat_map(|p| p.steps.iter().map(move |s| (p, s)));
    let of = |(p, s): (&Plan, &lehr::ir::plan::Step)| match &s.kind {
        StepKind::Launch(l) => {
            let kernel = &p.kernels[l.kernel as usize];
            Some(wgsl::launch(kernel, &l.buffers, &l.sizes, &l.iterations, target).map(|d| vec![d]))
        }
        StepKind::Contract(c) => Some(contract::dispatches(c, &p.kernels, None, target)),
        StepKind::Attend(a) => Some(attend::dispatches(a, target)),
        StepKind::Copy { .. } | StepKind::Host { .. } | StepKind::Loop(_) | StepKind::Branch(_) => None,
    };
    all.filter_map(of).collect()
}

/// Has naga take a module.
fn validate(text: &str) {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
    let flags = naga::valid::ValidationFlags::all();
    let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::all());
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    if let Err(e) = validator.validate(&module) {
        panic!("{}\n{text}", e.emit_to_string(text));
    }
}

/// How many steps have shaders, and how many do not, by reason.
fn survey(graphs: impl IntoIterator<Item = Graph>, target: &WgslTarget) -> (usize, BTreeMap<String, usize>) {
    let (mut there, mut missing) = (0, BTreeMap::new());
    for graph in graphs {
        for step in dispatches(&plan(graph), target) {
            match step {
                Ok(all) => {
                    all.iter().for_each(|d| validate(&d.text));
                    there += 1;
                }
                Err(e) => *missing.entry(e.to_string()).or_insert(0) += 1,
            }
        }
    }
    (there, missing)
}

#[test]
fn networks_have_shaders_for_every_step() {
    let gpt = || {
        let config = GptConfig { vocabulary: 100, context: 32, features: 64, heads: 4, layers: 2 };
        let model = Gpt::new(config, &mut Keys::new(7));
        let (x, y) = (Tensor::input("x", I64, ("n", 32)), Tensor::input("y", I64, ("n", 32)));
        let logits = model.forward(&x, &mut Context::train());
        let loss = losses::softmax_cross_entropy(&logits, &y).mean();
        Adam::new(1e-3).minimize(&loss, &model).and_then(|f| f.graph())
    };
    let resnet = || {
        let model = ResNet::resnet18(3, 10, &mut Keys::new(7));
        let (x, y) = (Tensor::input("x", F32, (2, 32, 32, 3)), Tensor::input("y", I64, [2]));
        let loss = losses::softmax_cross_entropy(&model.forward(&x, &mut Context::train()), &y).mean();
        Sgd::new(1e-2).minimize(&loss, &model).and_then(|f| f.graph())
    };
    let graphs = [gpt(), resnet()].map(|g| g.expect("is a graph"));
    let (there, missing) = survey(graphs.clone(), &rich());
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(there > 50, "{there} steps");
    assert_eq!(survey(graphs.clone(), &multiplying()), (there, missing));
    // Without 64-bit integers, labels and tokens are for the host.
    let (_, missing) = survey(graphs, &WgslTarget { i64: false, f64: false, ..rich() });
    assert!(missing.keys().all(|e| e.contains("i64")), "{missing:#?}");
}

#[test]
fn random_graphs_have_shaders_but_for_functions_of_f64() {
    let focuses = all_focuses();
    let graphs = (0..300).map(|i| crate::case_of(20_240_607, i, &focuses, Limits::FULL).graph);
    let graphs: Vec<Graph> = graphs.collect();
    let (there, missing) = survey(graphs.clone(), &rich());
    println!("{there} steps, {missing:#?}");
    let known = |e: &str| e.ends_with("on f64");
    assert!(missing.keys().all(|e| known(e)), "{missing:#?}");
    assert_eq!(survey(graphs, &multiplying()), (there, missing));
}

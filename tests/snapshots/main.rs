//! Snapshots of compiled code, as a user of the public API would test their own: this is the example that
//! `lehr::snapshot` speaks of. Nothing here names a crate but `lehr`.

use lehr::prelude::*;
use lehr::{assert_graph_snapshot, assert_kernel_snapshot, assert_plan_snapshot};

/// A layer with a tanh.
fn layer() -> Function {
    let x = Tensor::input("x", F32, ("batch", 4));
    let w = Tensor::input("w", F32, (4, 3));
    Function::new("layer").output("y", &(x.matmul(&w) + 1).tanh())
}

#[test]
fn the_graph_as_built() {
    assert_graph_snapshot!(layer());
}

#[test]
fn the_graph_after_the_passes() -> lehr::Result<()> {
    assert_graph_snapshot!("compiled layer", layer().compile(Options::default().backend(Backend::Interp))?);
    Ok(())
}

#[test]
fn the_kernels() {
    assert_kernel_snapshot!(layer());
}

#[test]
fn the_plan() {
    assert_plan_snapshot!(layer());
}

#[test]
#[should_panic(expected = "the backend `interp` has none")]
fn an_interpreted_function_has_no_plan() {
    let f = layer().compile(Options::default().backend(Backend::Interp)).expect("compiles");
    assert_plan_snapshot!(f);
}

/// Lines move while a function stays the same.
#[test]
fn source_lines_are_left_out() {
    let one = lehr::snapshot::graph_text(&layer());
    assert!(!one.contains(".rs"), "{one}");
    let kernels = lehr::snapshot::kernel_text(&layer());
    assert!(!kernels.contains(".rs"), "{kernels}");
    let plan = lehr::snapshot::plan_text(&layer());
    assert!(!plan.contains(".rs"), "{plan}");
}

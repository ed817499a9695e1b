//! What `explain` says of a small training step, on both kinds of backend.

use lehr::explain::{Change, ExplainOptions};
use lehr::passes::fuse::GroupKind;
use lehr::prelude::*;

/// One step of gradient descent on a line with a tanh.
fn step() -> Function {
    let x = Tensor::input("x", F32, ("batch", 3));
    let y = Tensor::input("y", F32, ["batch"]);
    let w = Tensor::variable("w", Array::from([0.1f32, 0.2, 0.3]));
    let loss = (x.matmul(&w).tanh() - &y).square().mean();
    let gradient = grad(&loss, &w);
    Function::new("step").output("loss", &loss).update(&w, &(&w - 0.1 * gradient))
}

#[test]
fn on_interp_the_passes_are_explained() -> lehr::Result<()> {
    let explanation = step().explain(&Options::default().backend(Backend::Interp))?;
    assert!(explanation.plan.is_none() && explanation.kernels.is_empty() && explanation.failure.is_none());
    insta::assert_snapshot!(explanation);
    Ok(())
}

#[test]
fn on_cpu_everything_is_explained() -> lehr::Result<()> {
    // The text names what makes the code, which is the same on all machines only where it is said.
    let step = step().compile(Options::default().backend(Backend::Cpu).vectors(lehr::Vectors::Portable))?;
    insta::assert_snapshot!(step.explain());
    Ok(())
}

#[test]
fn each_kernel_says_what_makes_its_code() -> lehr::Result<()> {
    for vectors in [lehr::Vectors::Auto, lehr::Vectors::Portable] {
        let explanation = step().explain(&Options::default().backend(Backend::Cpu).vectors(vectors))?;
        for kernel in &explanation.kernels {
            let cranelift = kernel.emitter.starts_with("Cranelift");
            assert!(
                cranelift || vectors == lehr::Vectors::Auto && kernel.emitter.starts_with("AVX"),
                "{}",
                kernel.emitter
            );
            assert!(explanation.to_string().contains(&format!("  code by {}\n", kernel.emitter)));
        }
    }
    Ok(())
}

#[test]
fn the_text_is_the_same_each_time() -> lehr::Result<()> {
    let (one, two) = (step().explain(&Options::default())?, step().explain(&Options::default())?);
    assert_eq!(one.to_string(), two.to_string());
    assert!(!one.to_string().contains(env!("CARGO_MANIFEST_DIR")) && !one.to_string().contains("tests/"), "{one}");
    Ok(())
}

#[test]
fn a_pass_that_changes_nothing_says_so_and_diffs_are_complete() -> lehr::Result<()> {
    let explanation = step().explain(&Options::default().backend(Backend::Interp))?;
    assert!(explanation.passes.iter().any(|p| p.changed) && explanation.passes.iter().any(|p| !p.changed));
    for p in &explanation.passes {
        assert_eq!(p.changed, !p.diff.is_empty(), "{}", p.name);
        assert!(p.changed || p.nodes_before == p.nodes_after, "{}", p.name);
    }
    // Each value that a pass leaves out is a line that is removed and not added.
    let dead = explanation.passes.iter().find(|p| p.name == "eliminate_dead" && p.changed);
    if let Some(dead) = dead {
        let count = |added: bool| dead.diff.iter().filter(|c| matches!(c, Change::Added(_)) == added).count();
        assert_eq!(count(false) - count(true), dead.nodes_before - dead.nodes_after);
    }
    Ok(())
}

#[test]
fn a_changed_operand_is_one_changed_line() -> lehr::Result<()> {
    let x = Tensor::input("x", F32, ["n"]);
    let mut y = (&x * 1).tanh();
    for _ in 0..20 {
        y = y.sin();
    }
    let f = Function::new("f").output("y", &y);
    let explanation = f.explain(&Options::default().backend(Backend::Interp))?;
    let changed: Vec<&Change> = explanation
        .passes
        .iter()
        .flat_map(|p| &p.diff)
        .filter(|c| matches!(c, Change::Added(l) | Change::Removed(l) if l.contains("sin")))
        .collect();
    assert_eq!(changed, Vec::<&Change>::new());
    Ok(())
}

#[test]
fn costs_are_counted_and_evaluated() -> lehr::Result<()> {
    let x = Tensor::input("x", F32, ("batch", 8));
    let w = Tensor::input("w", F32, (8, 4));
    let f = Function::new("f").output("y", &x.matmul(&w).exp());
    let explanation = f.explain(&Options::default())?;
    let total = explanation.total.clone().expect("a plan has a cost");
    let batch = lehr::Dim::symbol("batch").expect("a name");
    // A product has 2·8·4 operations a row, the exponential one for each of 4 elements.
    assert_eq!(total.flops, &batch * 68);
    // x, w and the product are read; the product and y are written.
    assert_eq!(total.bytes_read, &batch * (4 * 8 + 4 * 4) + 4 * 8 * 4);
    assert_eq!(total.bytes_written, &batch * (2 * 4 * 4));
    let kinds: Vec<GroupKind> = explanation.groups.iter().map(|g| g.kind).collect();
    assert_eq!(kinds, [GroupKind::Contract, GroupKind::Kernel]);
    assert!(explanation.groups[0].ended.iter().any(|r| r.contains("exp")), "{:?}", explanation.groups[0].ended);
    let text = explanation.at([("batch", 128)])?.to_string();
    assert!(text.contains("flops 68*batch = 8704"), "{text}");
    Ok(())
}

#[test]
fn a_size_that_there_is_not_is_refused() -> lehr::Result<()> {
    let explanation = step().explain(&Options::default())?;
    let e = explanation.clone().at([("bach", 1)]).expect_err("no such size");
    assert_eq!(e.to_string(), "step: there is no size `bach`\n  = help: did you mean `batch`?");
    assert!(explanation.at([("batch", 1), ("batch", 2)]).is_err());
    Ok(())
}

#[test]
fn code_is_shown_on_request() -> lehr::Result<()> {
    let code = ExplainOptions { clif: true, asm: true, ..ExplainOptions::default() };
    for vectors in [lehr::Vectors::Auto, lehr::Vectors::Portable] {
        let explanation = step().explain_with(&Options::default().vectors(vectors), &code)?;
        for k in &explanation.kernels {
            // Wide code has no form in Cranelift's IR.
            let cranelift = k.emitter.starts_with("Cranelift");
            assert!(k.clif.as_ref().is_some_and(|t| t.contains("function") == cranelift), "{}", k.name);
            assert!(k.asm.as_ref().is_some_and(|t| t.contains("ret")), "{}", k.name);
        }
    }
    let explanation = step().explain(&Options::default())?;
    assert!(explanation.kernels.iter().all(|k| k.clif.is_none() && k.asm.is_none()));
    Ok(())
}

#[test]
fn a_pass_to_stop_after_is_the_last() -> lehr::Result<()> {
    let mut options = Options::default();
    options.passes.stop_after = Some("fold_constants".to_owned());
    let explanation = step().explain(&options)?;
    assert_eq!(explanation.passes.last().map(|p| p.name.as_str()), Some("fold_constants"));
    assert!(explanation.groups.is_empty() && explanation.plan.is_none());
    options.passes.stop_after = Some("fold".to_owned());
    assert!(step().explain(&options).is_err());
    Ok(())
}

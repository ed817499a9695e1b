//! Operations of another crate: those of the example, and one without rules.

#[path = "../../examples/custom_op/running_sum.rs"]
mod running_sum;
#[path = "../../examples/custom_op/softsign.rs"]
mod softsign;

use std::sync::Arc;

use lehr::custom_op::{ExternOp, custom_op};
use lehr::gradcheck::{GradCheck, gradcheck};
use lehr::ir::attrs::Attrs;
use lehr::ir::eval::{EvalCx, EvalError};
use lehr::ir::ops::{Arity, Arrays, Types};
use lehr::ir::{Facts, Graph, Rule, Type};
use lehr::prelude::*;
use running_sum::{RunningSum, running_sum};
use softsign::{Softsign, softsign};

use crate::{broken, check};

/// Both operations, with others around them.
fn both(x: &Tensor) -> Tensor {
    running_sum(&softsign(&(x * 2))).square().sum()
}

fn point() -> Tensor {
    Tensor::from([[1.0f64, -1.5, 0.5, 0.25], [2.0, 3.0, -2.0, 1.0]])
}

#[test]
fn they_compute_what_they_say() {
    check(&softsign(&Tensor::from([1.0f32, -3.0, 0.0])), "[0.5,-0.75,0]");
    check(&running_sum(&Tensor::from([[1.0f32, 2.0], [3.0, 4.0]])), "[[1,3],[3,7]]");
    check(&custom_op(RunningSum { from_back: true }, &[&Tensor::from([1.0f32, 2.0, 4.0])]), "[7,6,4]");
    let line = line!() + 1;
    let e = softsign(&Tensor::from(1i64)).check().unwrap_err().to_string();
    assert!(e.starts_with("example.softsign: operand 0 is i64[]; it takes floats"), "{e}");
    assert!(e.contains(&format!("custom_ops.rs:{line}:")), "{e}");
    assert!(broken(&custom_op(Softsign, &[])).contains("it takes 1 operands, not 0"));
}

#[test]
fn they_have_derivatives_of_every_mode_and_order_on_every_backend() {
    for backend in crate::backends() {
        let options = GradCheck::default().backend(backend);
        gradcheck(&point(), &options, softsign).unwrap_or_else(|e| panic!("{e}"));
        gradcheck(&point(), &options, running_sum).unwrap_or_else(|e| panic!("{e}"));
        gradcheck(&point(), &options, both).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn they_are_batched() {
    let rows = point();
    let of_rows = vmap(&rows, 0, |r| (softsign(r), grad(&both(r), r)));
    for i in 0..2 {
        let row = rows.slice(i);
        assert_eq!(of_rows.0.slice(i).to_string(), softsign(&row).to_string());
        assert_eq!(of_rows.1.slice(i).to_string(), grad(&both(&row), &row).to_string());
    }
    let columns = vmap_axes(&rows, 1, 1, running_sum);
    assert_eq!(columns.to_string(), running_sum(&rows.t()).t().to_string());
}

#[cfg(feature = "cpu")]
#[test]
fn they_are_compiled() {
    let x = Tensor::input("x", F32, ("n", 4));
    let f = Function::new("f").output("y", &(softsign(&(&x * 2)) + 1)).output("z", &grad(&both(&x), &x));
    let mut interp = f.compile(Options::default().backend(Backend::Interp)).unwrap();
    let mut cpu = f.compile(Options::default().backend(Backend::Cpu)).unwrap();
    let at = [("x", [[1.0f32, -1.0, 0.5, 0.0], [2.0, 2.0, 2.0, 2.0]])];
    let (want, got) = (interp.run(at).unwrap(), cpu.run(at).unwrap());
    for name in ["y", "z"] {
        let (want, got) = (want.array(name).unwrap(), got.array(name).unwrap());
        for (w, g) in want.as_slice::<f32>().unwrap().iter().zip(got.as_slice::<f32>().unwrap()) {
            assert!((w - g).abs() <= 1e-5 * (1.0 + w.abs()), "{want:?}\n{got:?}");
        }
    }
    // The one with a kernel is part of its neighbours' kernel; the other is a step on the host.
    let explanation = cpu.explain().to_string();
    assert!(explanation.contains("kernel @mul_example.softsign_to_mul("), "{explanation}");
    assert!(explanation.contains("no kernel computes it: the evaluator runs it on the host"), "{explanation}");
}

#[test]
fn they_round_trip_as_text_with_a_reader() {
    let x = Tensor::input("x", F32, ["n"]);
    let graph = Function::new("f").output("y", &both(&x)).output("g", &grad(&both(&x), &x)).graph().unwrap();
    let text = graph.to_string();
    let reader = |name: &str, attrs: &Attrs| -> Option<Arc<dyn ExternOp>> {
        match name {
            "example.softsign" => Some(Arc::new(Softsign)),
            "example.running_sum" => {
                let from_back = attrs.get("from_back") == Some(&lehr::ir::attrs::Attr::Int(1));
                Some(Arc::new(RunningSum { from_back }))
            }
            _ => None,
        }
    };
    assert_eq!(Graph::parse_with(&text, &reader).unwrap(), graph);
    assert!(Graph::parse(&text).is_err());
}

/// An operation without rules.
#[derive(Debug)]
struct Opaque;

impl ExternOp for Opaque {
    fn name(&self) -> &str {
        "example.opaque"
    }

    fn arity(&self) -> Arity {
        Arity::Exactly(1)
    }

    fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
        Ok([operands[0].clone()].into())
    }

    fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
        Ok([operands[0].clone()].into())
    }
}

#[test]
fn a_missing_rule_names_the_way_from_the_loss_to_the_input() {
    let w = Tensor::variable("w", [1.0f32, 2.0]);
    let first = line!() + 1;
    let h = w.sin();
    let h = custom_op(Opaque, &[&h]);
    let h = checkpoint(&h, Checkpoint::Nothing, |h| h.exp());
    let loss = h.square().sum();
    let e = grad(&loss, &w).check().unwrap_err().to_string();
    let lines: Vec<&str> = e.lines().collect();
    assert_eq!(lines[0], "grad: `example.opaque` has no derivative rule; give its ExternOp one");
    let at = |line: u32| format!("custom_ops.rs:{line}:");
    assert!(lines[1].contains("-->") && lines[1].contains(&at(first + 1)), "{e}");
    let rest: Vec<(&str, &str)> =
        lines[2..].iter().map(|l| l.trim().split_once("  ").unwrap_or((l.trim(), ""))).collect();
    let names: Vec<&str> = rest.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["output `loss`", "reduce", "mul", "checkpoint", "> example.opaque", "sin", "input `w`"], "{e}");
    for (i, line) in [(1, first + 3), (2, first + 3), (3, first + 2), (4, first + 1), (5, first)] {
        assert!(rest[i].1.contains(&at(line)), "{i}: {e}");
    }
    // The same from inside a body, and of the other rules.
    let inside = checkpoint(&w, Checkpoint::Nothing, |w| custom_op(Opaque, &[&w.sin()]).exp()).sum();
    let e = grad(&inside, &w).check().unwrap_err().to_string();
    assert!(e.contains("    checkpoint") && e.contains("  > example.opaque") && e.contains(&at(line!() - 2)), "{e}");
    let e = vmap(&w, 0, |w| custom_op(Opaque, &[w])).check().unwrap_err().to_string();
    assert!(e.starts_with("vmap: `example.opaque` has no batching rule; give its ExternOp one"), "{e}");
    assert!(e.contains(&at(line!() - 2)), "{e}");
}

//! What users read when a derivative or a batch cannot be built.

use std::sync::Arc;

use lehr_ir::graph::Graph;
use lehr_ir::ops::{Call, Extern, UnaryOp};
use lehr_ir::{DType, Dim, Loc, Type};
use lehr_passes::batch::vmap;
use lehr_passes::derivative::{jvp, value_and_grad, vjp};

use crate::support::{build, f64s};
use crate::table::{Opaque, cube};

fn line(n: u32) -> Loc {
    Loc::new("src/main.rs", n, 5)
}

fn opaque() -> Extern {
    Extern(Arc::new(Opaque))
}

/// `sum(sin(opaque(cos(x) * w)))`, each on its own line.
fn walk() -> Graph {
    build(&[f64s(&[2]), f64s(&[2])], |b, v| {
        b.loc = line(1);
        let c = b.unary(UnaryOp::Cos, v[0]).unwrap();
        b.loc = line(2);
        let m = b.mul(c, v[1]).unwrap();
        b.loc = line(3);
        let o = b.op(opaque().into(), &[m]).unwrap();
        b.loc = line(4);
        let s = b.unary(UnaryOp::Sin, o).unwrap();
        b.loc = line(5);
        vec![b.sum(s, &[0]).unwrap(), c]
    })
}

#[test]
fn a_missing_derivative_names_the_way_from_output_to_input() {
    let e = value_and_grad(&walk(), 0, &[1]).unwrap_err();
    let want = "grad: `test.opaque` has no derivative rule; give its ExternOp one
  --> src/main.rs:3:5
  output `y0`
    reduce       src/main.rs:5:5
    sin          src/main.rs:4:5
  > test.opaque  src/main.rs:3:5
    mul          src/main.rs:2:5
  input `x1`";
    assert_eq!(e.to_string(), want);
    assert_eq!(jvp(&walk(), &[1]).unwrap_err().to_string(), want);
}

#[test]
fn a_missing_rule_off_the_way_does_not_matter() {
    assert!(vjp(&walk(), &[1], &[0]).is_ok());
}

#[test]
fn a_missing_derivative_inside_a_call_names_the_way_through_it() {
    let body = build(&[f64s(&[2])], |b, v| {
        b.loc = line(10);
        let e = b.unary(UnaryOp::Exp, v[0]).unwrap();
        b.loc = line(11);
        let o = b.op(opaque().into(), &[e]).unwrap();
        b.loc = line(12);
        vec![b.neg(o).unwrap()]
    });
    let call = Call::new("layer", Arc::new(body));
    let graph = build(&[f64s(&[2])], |b, v| {
        b.loc = line(1);
        let y = b.op(call.into(), v).unwrap();
        b.loc = line(2);
        vec![b.sum(y, &[0]).unwrap()]
    });
    assert_eq!(
        value_and_grad(&graph, 0, &[0]).unwrap_err().to_string(),
        "grad: `test.opaque` has no derivative rule; give its ExternOp one
  --> src/main.rs:11:5
  output `y0`
    reduce       src/main.rs:2:5
    layer        src/main.rs:1:5
    neg          src/main.rs:12:5
  > test.opaque  src/main.rs:11:5
    exp          src/main.rs:10:5
  input `x0`"
    );
}

#[test]
fn a_long_way_is_cut() {
    let graph = build(&[f64s(&[])], |b, v| {
        let mut x = v[0];
        for _ in 0..20 {
            x = b.unary(UnaryOp::Sin, x).unwrap();
        }
        let mut x = b.op(opaque().into(), &[x]).unwrap();
        for _ in 0..10 {
            x = b.unary(UnaryOp::Cos, x).unwrap();
        }
        vec![x]
    });
    let e = value_and_grad(&graph, 0, &[0]).unwrap_err().to_string();
    assert_eq!(e.matches("sin").count(), 8, "{e}");
    assert!(e.contains("… 2 more\n    cos") && e.contains("… 12 more\n  input"), "{e}");
}

#[test]
fn only_scalars_and_floats_have_gradients() {
    let graph = build(&[f64s(&[2]), Type::new(DType::I64, [2])], |b, v| {
        let i = b.convert(v[0], DType::I64).unwrap();
        vec![v[0], b.sum(i, &[0]).unwrap()]
    });
    let text = |e: lehr_passes::derivative::DiffError| e.to_string();
    assert_eq!(
        text(value_and_grad(&graph, 0, &[0]).unwrap_err()),
        "grad: output `y0` is f64[2]; only a scalar has a gradient\n  = help: reduce it, as with mean(), or ask for vjp or jacobian"
    );
    assert_eq!(
        text(value_and_grad(&graph, 1, &[0]).unwrap_err()),
        "grad: output `y1` is i64[]; only floats vary\n  = help: convert it to a float dtype, or leave it out"
    );
    assert_eq!(
        text(jvp(&graph, &[1]).unwrap_err()),
        "grad: parameter `x1` is i64[2]; only floats vary\n  = help: convert it to a float dtype, or leave it out"
    );
    assert_eq!(text(jvp(&graph, &[2]).unwrap_err()), "grad: `f` has no parameter 2; it has 2");
    assert_eq!(text(vjp(&graph, &[2], &[0]).unwrap_err()), "grad: `f` has no output 2; it has 2");
    assert_eq!(text(jvp(&graph, &[0, 0]).unwrap_err()), "grad: `x0` is named twice; name it once");
    assert_eq!(text(vjp(&graph, &[0, 0], &[0]).unwrap_err()), "grad: `y0` is named twice; name it once");
}

#[test]
fn batching_errors_say_what_to_do() {
    let size = Dim::from(3);
    let text = |graph: &Graph, axes: &[Option<usize>]| vmap(graph, axes, &size).unwrap_err().to_string();
    assert_eq!(
        text(&walk(), &[None, Some(0)]),
        "vmap: `test.opaque` has no batching rule; give its ExternOp one\n  --> src/main.rs:3:5"
    );
    assert_eq!(
        text(&walk(), &[None]),
        "vmap: `f` has 2 parameters, and axes are given for 1; give one, or none, for each"
    );
    assert_eq!(
        text(&walk(), &[Some(2), None]),
        "vmap: parameter `x0` is f64[2] for one example, so its batch axis is at most 1, not 2"
    );
    let mut b = lehr_ir::Builder::new("train");
    let w = b.param("w", lehr_ir::graph::ParamKind::Variable, f64s(&[2]));
    let x = b.param("x", lehr_ir::graph::ParamKind::Input, f64s(&[2]));
    let new = b.add(w, x).unwrap();
    b.update(0, new);
    assert_eq!(
        text(&b.finish(), &[None, Some(0)]),
        "vmap: the new value of variable `w` differs from example to example; reduce it over the batch outside vmap"
    );
}

#[test]
fn a_derivative_without_a_transpose_is_found_at_its_operation() {
    // Forwards it goes.
    let graph = build(&[f64s(&[])], |b, v| {
        b.loc = line(1);
        let c = b.op(cube().into(), v).unwrap();
        b.loc = line(2);
        vec![b.op(tangled().into(), &[c]).unwrap()]
    });
    assert!(jvp(&graph, &[0]).is_ok());
    assert_eq!(
        value_and_grad(&graph, 0, &[0]).unwrap_err().to_string(),
        "grad: `sin` is not linear in this operand, so it has no transpose
  --> src/main.rs:2:5
  output `y0`
  > test.tangled  src/main.rs:2:5
    test.cube     src/main.rs:1:5
  input `x0`"
    );
}

/// An operation whose derivative is wrong: it is not linear in the tangent.
fn tangled() -> Extern {
    use lehr_ir::array::Array;
    use lehr_ir::eval::{EvalCx, EvalError};
    use lehr_ir::graph::{Builder, Value};
    use lehr_ir::ops::{Arity, Arrays, At, ExternOp, Partials, RuleError, Types};
    use lehr_ir::{Facts, Rule};

    #[derive(Debug)]
    struct Tangled;
    impl ExternOp for Tangled {
        fn name(&self) -> &str {
            "test.tangled"
        }
        fn arity(&self) -> Arity {
            Arity::Exactly(1)
        }
        fn infer(&self, operands: &[&Type], _: &Facts) -> Result<Types, Rule> {
            Ok([operands[0].clone()].into_iter().collect())
        }
        fn eval(&self, _: &EvalCx<'_>, operands: &[&Array]) -> Result<Arrays, EvalError> {
            Ok([operands[0].clone()].into_iter().collect())
        }
        fn linearize(&self, b: &mut Builder, _: At<'_>, tangents: &[Option<Value>]) -> Result<Partials, RuleError> {
            let t = tangents[0].map(|t| b.unary(UnaryOp::Sin, t)).transpose()?;
            Ok([t].into_iter().collect())
        }
    }
    Extern(Arc::new(Tangled))
}

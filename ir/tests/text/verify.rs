//! The verifier: what it shows, and what it accepts.

use std::sync::Arc;

use lehr_ir::dim::Symbol;
use lehr_ir::graph::verify::{VerifyErrorKind, verify};
use lehr_ir::graph::{Builder, Graph, ParamKind, ScopeId, Value};
use lehr_ir::ops::{BinaryOp, Call, Op, UnaryOp};
use lehr_ir::{DType, Type};

use super::{dim, ty};

#[test]
fn the_verifier_shows_each_breach_under_its_line() {
    let mut b = Builder::new("broken");
    let x = b.param("x", ParamKind::Input, ty(DType::F32, &["n"]));
    b.param("x", ParamKind::Input, ty(DType::F32, &["-1"]));
    b.param("w", ParamKind::Variable, ty(DType::F32, &["3"]));
    let wrong = ty(DType::F32, &["n + 1"]);
    b.push(Op::Unary(UnaryOp::Neg), [x].as_slice().into(), [wrong].into_iter().collect());
    b.push(Op::Unary(UnaryOp::Exp), [Value(40)].as_slice().into(), [ty(DType::F32, &["m"])].into_iter().collect());
    b.push(Op::Binary(BinaryOp::Add), [x].as_slice().into(), [ty(DType::F32, &["n"])].into_iter().collect());
    b.scope = ScopeId(9);
    let mut body = Builder::new("body");
    let p = body.param("p", ParamKind::Variable, ty(DType::F32, &["n"]));
    body.update(0, p);
    body.output("p", Value(3));
    b.push(
        Call::new("f", body.into_region()).into(),
        [x].as_slice().into(),
        [ty(DType::F32, &["n"])].into_iter().collect(),
    );
    b.output("y", x);
    b.output("y", Value(99));
    b.update(2, x);
    b.update(2, Value(2));
    b.update(0, x);
    let g = b.finish();
    let e = verify(&g).expect_err("broken");
    insta::assert_snapshot!(e, @r#"
    graph @broken breaks 15 invariants
    graph @broken(%x: f32[n], %x_2: f32[-1] "x") var(%w: f32[3]) -> (f32[n], ?) {
      ; ^ error: dim -1 is no size
      ; ^ error: two parameters are named "x"
      %0 = neg %x : f32[n + 1]
      ; ^ error: its type is f32[n + 1], but the operation gives f32[n]
      %1 = exp %?40 : f32[m]
      ; ^ error: operand 0 is not defined above
      ; ^ error: symbol `m` is in no parameter's type and in no fact; add an assumption about it, such as `m >= 0`
      %2 = add %x : f32[n]
      ; ^ error: add: operand 0 is f32[n]; it takes 2 operands, not 1
      ;     = help: pass as many operands as it takes
      %3 = call %x {name = "f", body = graph @body() var(%p: f32[n]) -> (?) {
        ; ^ error: parameter "p" of a region is no input
        ; ^ error: a region updates a variable
        return %?3 "p"
        ; ^ error: value v3 does not exist
        update %p = %p
      }} : f32[n] in ?scope9
      ; ^ error: scope9 does not exist
      return %x "y", %?99 "y"
      ; ^ error: two outputs are named "y"
      ; ^ error: value v99 does not exist
      update %w = %x
      ; ^ error: variable "w" is f32[3], and its new value is f32[n]
      update %w = %w
      ; ^ error: variable "w" is updated twice
      update %x = %x
      ; ^ error: parameter 0 is no variable
    }
    "#);
    assert!(e.errors().iter().any(|e| e.kind == VerifyErrorKind::Symbol(Symbol::new("m").expect("a symbol"))));
    assert_eq!(e.summary(), "graph @broken: dim -1 is no size (and 14 more)");
}

#[test]
fn the_verifier_accepts_dims_that_facts_make_equal() {
    let text = "graph @f(%x: f32[n], %y: f32[m]) assume(m == n) -> (f32[m]) {\n  %0 = add %x, %y : f32[m]\n  return %0 \"z\"\n}\n";
    let g = Graph::parse(text).expect("parses");
    verify(&g).expect("verifies");
    assert_eq!(g.to_string(), text);
    Graph::parse(&text.replace(" assume(m == n)", "")).expect_err("undecided");
}

#[test]
fn regions_see_the_symbols_around_them_and_are_checked_once() {
    let mut region = {
        let mut b = Builder::new("leaf");
        let x = b.param("x", ParamKind::Input, Type::scalar(DType::F32));
        let wide = b.broadcast(x, &[dim("n")], &[]).expect("broadcast");
        let y = b.sum(wide, &[0]).expect("sum");
        b.output("y", y);
        b.into_region()
    };
    // Each level calls the one below twice: 2^30 nodes if it were walked as a tree.
    for _ in 0..30 {
        let mut b = Builder::new("level");
        let x = b.param("x", ParamKind::Input, Type::scalar(DType::F32));
        let y = b.op(Call::new("f", Arc::clone(&region)).into(), &[x]).expect("call");
        let y = b.op(Call::new("f", Arc::clone(&region)).into(), &[y]).expect("call");
        b.output("y", y);
        region = b.into_region();
    }
    let e = verify(&region).expect_err("nothing declares n");
    assert_eq!(e.errors().len(), 1);
}

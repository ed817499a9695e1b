//! What is said of ill-typed graphs, and where.

use lehr::prelude::*;

use crate::broken;

/// A message with this file's line numbers taken out.
fn text(e: &lehr::Error) -> String {
    let mut out = String::new();
    for line in e.to_string().lines() {
        let line = match line.split_once("errors.rs:") {
            Some((before, _)) => format!("{}errors.rs", before.replace("tests/facade/", "")),
            None => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[test]
fn an_error_names_op_operands_rule_remedy_and_line() {
    let x = Tensor::input("x", F32, ("batch", 64));
    let e = x.matmul(&Tensor::zeros(F32, (63, 128))).relu().check().unwrap_err();
    insta::assert_snapshot!(text(&e), @r"
    dot: operand 0 is f32[batch, 64], operand 1 is f32[63, 128]; contracted dims 64 and 63 must be equal
      --> errors.rs
      = help: transpose, reshape, slice or broadcast an operand so that they agree
    ");
}

#[test]
fn the_line_is_the_users_own_also_inside_composites_and_layers() {
    let x = Tensor::input("x", F32, ("batch", 64));
    let line = line!() + 1;
    let bad = Dense::new(63, 10, &mut Keys::new(0)).forward(&x, &mut Context::eval());
    let e = bad.softmax(-1).check().unwrap_err().to_string();
    assert!(e.contains(&format!("errors.rs:{line}:")), "{e}");
    let line = line!() + 1;
    let e = x.softmax(7).check().unwrap_err().to_string();
    assert!(e.contains(&format!("errors.rs:{line}:")), "{e}");
    let line = line!() + 1;
    let e = (1.0 - x.mean_axes(0)) * Tensor::zeros(F32, 3);
    assert!(e.check().unwrap_err().to_string().contains(&format!("errors.rs:{line}:")), "{e}");
}

#[test]
fn all_distinct_roots_are_reported_once() {
    let a = Tensor::zeros(F32, 3) + Tensor::zeros(F32, 4);
    let b = Tensor::from([1.5f32]) & 1;
    let e = Function::new("f").output("c", &(&a * &b)).output("d", &(&a + 1)).compile(crate::interp()).unwrap_err();
    insta::assert_snapshot!(text(&e), @r"
    add: operand 0 is f32[3], operand 1 is f32[4]; dims 3 and 4 must be equal, or one of them 1 (axis -1)
      --> errors.rs
      = help: reshape, slice or transpose an operand so that they agree from the right
    and: operand 0 is f32[1], operand 1 is f32[1]; it takes integers and bool
      --> errors.rs
      = help: compare the operand, or convert it to an integer dtype
    ");
}

#[test]
fn names_and_sizes_are_checked() {
    assert_eq!(broken(&Tensor::input("", F32, ())), "input: `` is not a name");
    assert_eq!(broken(&Tensor::input("%0", F32, ())), "input: `%0` is not a name");
    assert_eq!(broken(&Tensor::variable("a b", 1.0f32)), "variable: `a b` is not a name");
    let reserved = "input: the dim `_n` uses a reserved name; names of sizes start with a letter";
    assert_eq!(broken(&Tensor::input("x", F32, ["_n"])), reserved);
    assert!(broken(&Tensor::input("x", F32, ["%n"])).contains("reserved name"));
    assert!(broken(&Tensor::input("x", F32, ["n +"])).contains("cannot be read"));
    assert_eq!(broken(&Tensor::input("x", F32, [-1])), "input: the size -1 is negative");
    let x = Tensor::input("x", F32, ["n"]);
    assert!(broken(&x.assume("_m == 1")).contains("reserved name"));
    assert!(broken(&x.assume("n ==")).starts_with("assume:"));
    assert!(broken(&x.assume("n == 1").assume("n == 2")).contains("contradicts"));
}

#[test]
fn a_name_of_two_types_is_refused() {
    let (a, b) = (Tensor::input("x", F32, 2), Tensor::input("x", F32, 3));
    let e = Function::new("f").output("a", &a).output("b", &b).compile(crate::interp()).unwrap_err();
    assert!(e.to_string().contains("the input `x` is also made as f32[2]"), "{e}");
}

#[test]
fn functions_are_checked() {
    let x = Tensor::input("x", F32, 2);
    let w = Tensor::variable("w", [1.0f32, 2.0]);
    let compile = |f: Function| f.compile(crate::interp()).unwrap_err().to_string().lines().next().unwrap().to_owned();
    let f = || Function::new("f").output("y", &x);
    assert_eq!(compile(f().output("y", &x)), "f: two outputs are named `y`");
    assert_eq!(compile(f().output("1", &x)), "f: `1` is not a name of an output");
    assert_eq!(compile(f().update(&x, &x)), "f: an update is of what is no variable");
    assert_eq!(compile(f().update(&w, &x).update(&w, &x)), "f: variable `w` is updated twice");
    assert_eq!(compile(f().update(&w, &x.sum())), "f: variable `w` is f32[2], its new value f32[]");
    assert_eq!(compile(f().inputs(&[&w])), "f: an input must be a placeholder");
    assert_eq!(compile(Function::new("f").output("z", &Tensor::zeros(F32, "n"))), "f: no input gives the size `n`");
}

#[test]
fn unknown_passes_are_named() {
    let e = Function::new("f").output("y", &Tensor::from(1)).compile(crate::interp().disable("simplfy")).unwrap_err();
    assert!(e.to_string().starts_with("there is no pass `simplfy` here"), "{e}");
}

use super::*;
use crate::kernel::{Buffer, Expr, Stmt, Tile};

const HEAD: &str =
    "kernel @k(read x: f32[n], read c: i64[n], write y: f32[n]) sizes(n) tiles(t: f32[8]) {\n  parallel i in 0..n {\n";

fn kernel(block: &str) -> Kernel {
    Kernel::parse(&format!("{HEAD}{block}\n}} }}")).unwrap_or_else(|e| panic!("{block}: {e}"))
}

/// Checks that a block has exactly one fault: the message, and a part of the line it stands under.
fn check(block: &str, line: &str, message: &str) {
    check_kernel(&kernel(block), line, message);
}

fn check_kernel(kernel: &Kernel, line: &str, message: &str) {
    let errors = verify(kernel, &Facts::default()).map(|_| ()).expect_err("is refused");
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages, [message], "{kernel}");
    let report = report(kernel, &errors);
    let lines: Vec<&str> = report.lines().collect();
    let at = lines.iter().position(|l| l.trim() == format!("; ^ {message}")).expect("the message is inlined");
    assert!(lines[at - 1].contains(line), "{report}");
}

fn accept(block: &str) {
    let kernel = kernel(block);
    if let Err(errors) = verify(&kernel, &Facts::default()) {
        panic!("{}", report(&kernel, &errors));
    }
}

#[test]
fn scopes() {
    check("lane j in 0..2 { %0 = load x[i]\n }\n %1 = neg %0", "%1 = neg %0", "%0 is not visible here");
    check(
        "lane j in 0..n { }\n %0 = index j",
        "%0 = index j",
        "`j` is not a size, an axis around this line or an `i64` variable",
    );
    check("%0 = load x[i]\n %1 = index %0", "%1 = index %0", "%0 is f32; an index takes i64");
    check(
        "%0 = load c[i]\n lane j in 0..%0 { }",
        "lane j",
        "`%0` is not a size, an axis around this line or an `i64` variable",
    );
    check("lane i in 0..2 { }", "lane i", "the name `i` is taken");
    accept("%0 = load c[i]\n lane j in 0..2 { %1 = index %0 + i\n }\n lane j in 0..2 { }");
}

#[test]
fn loops() {
    check("parallel j in 0..n { }", "parallel j", "only the outermost loop is parallel");
    check(
        "reduce(3) j in 0..n { %0 = load x[j]\n } -> %1 = sum(%0)",
        "reduce(3)",
        "3 virtual lanes; a power of two up to 1024 is needed",
    );
    check("reduce(4) j in 0..n { }", "reduce(4)", "a reduce loop needs a reduction");
    check("lane j in 0..n { %0 = load x[j]\n } -> %1 = sum(%0)", "lane j", "a lane loop has no reductions");
    check(
        "%0 = load x[i]\n reduce(4) j in 0..n { } -> %1 = sum(%0)",
        "} -> %1",
        "%0 is not defined in the block of this loop",
    );
    check("reduce(4) j in 0..n { %0 = load x[j]\n } -> %1 = any(%0)", "} -> %1", "any does not fold [F32]");
    check(
        "reduce(4) j in 0..n { %0 = load x[j]\n } -> %1 = arg_min(%0)",
        "} -> %1",
        "arg_min takes 2 value(s) and gives as many results",
    );
    check("lane j in 0..0 - 1 { }", "lane j", "the extent -1 is negative");
    let mut serial = kernel("%0 = load x[i]");
    serial.body.kind = AxisKind::Serial;
    check_kernel(&serial, "serial i", "the outermost loop must be parallel");
}

#[test]
fn memory() {
    check("%0 = load x[i]\n store x[i], %0", "store x[i]", "`x` is only read");
    check("%0 = load c[i]\n store y[i], %0", "store y[i]", "the value is i64, the memory f32");
    check("%0 = load y[i]", "load y[i]", "`y` is loaded before anything is stored to it");
    check("%0 = load t[0]", "load t[0]", "`t` is loaded before anything is stored to it");
    check("%0 = load x[i]\n %1 = load x[i] if (i)", "load x[i] if", "a load has `else` exactly if it has a guard");
    check("if () { }", "if ()", "`if` without a condition");
    // A later store in the same serial loop comes before in the next iteration.
    accept(
        "%0 = const 0.0 : f32\n serial j in 0..4 { %1 = load t[0] if (j - 1) else %0\n %2 = add %1, %1\n store t[0], %2\n }",
    );
}

#[test]
fn bounds() {
    check("%0 = load x[i + 1]", "load x[i + 1]", "the index reaches n, outside of 0..n");
    check("%0 = load x[i - 1]", "load x[i - 1]", "the index reaches -1, outside of 0..n");
    check("lane j in 0..9 { %0 = load x[i]\n store t[j], %0\n }", "store t[j]", "the index reaches 8, outside of 0..8");
    check("lane j in 0..2 { %0 = load x[n*j + i]\n }", "load x[", "the index reaches 2*n - 1, outside of 0..n");
    check(
        "lane j in 0..i + 1 { %0 = load x[n + mod(j, 3)]\n }",
        "load x[",
        "the index reaches n + mod(j, 3), outside of 0..n",
    );
    // What is not reached, conditional, or not provable is no error.
    accept("lane j in 0..0 { %0 = load x[n + 1]\n }");
    accept("%1 = const 0.0 : f32\n %0 = load x[i - 1] if (i - 1) else %1");
    accept("if (i - 1) { %0 = load x[i - 1]\n }");
    accept("lane j in 0..i { %0 = load x[i - 1 - j]\n }");
    accept("%0 = load c[i]\n %1 = load x[%0]");
}

#[test]
fn races() {
    let race = |axis: &str| format!("iterations of the {axis} store to one place");
    check("%0 = load x[i]\n store y[0], %0", "store y[0]", &race("parallel axis i"));
    check("lane j in 0..n { %0 = load x[j]\n store y[i], %0\n }", "store y[i]", &race("lane axis j"));
    check(
        "reduce(4) j in 0..n { %0 = load x[j]\n store t[0], %0\n } -> %1 = sum(%0)",
        "store t[0]",
        &race("reduce(4) axis j"),
    );
    check("%0 = index 3\n lane j in 0..4 { %1 = load x[i]\n store t[%0], %1\n }", "store t[%0]", &race("lane axis j"));
    check(
        "lane j in 0..4 { lane k in 0..2 { %0 = load x[i]\n store t[j + k], %0\n } }",
        "store t[j + k]",
        &race("lane axis j"),
    );
    accept("lane j in 0..4 { lane k in 0..2 { %0 = load x[i]\n store t[2*j + k], %0\n } }");
    accept("lane j in 0..1 { %0 = load x[i]\n store t[0], %0\n }");
    accept("serial j in 0..4 { %0 = load x[i]\n store t[0], %0\n }");
    accept("lane j in 0..4 { %0 = load x[i]\n store t[0], %0 if (0 - j)\n }");
    accept("lane j in 0..4 { %0 = index 2*j\n %1 = load x[i]\n store t[%0], %1\n }");
}

#[test]
fn what_text_cannot_say() {
    let sound = kernel("%0 = load x[i]\n %1 = neg %0");
    let with = |change: &dyn Fn(&mut Kernel)| {
        let mut kernel = sound.clone();
        change(&mut kernel);
        kernel
    };
    check_kernel(&with(&|k| k.vars.push(DType::F32)), "kernel @k", "%2 is never defined");
    check_kernel(&with(&|k| k.vars[1] = DType::F64), "%1 = neg", "%1 is declared f64 and defined as f32");
    check_kernel(&with(&|k| k.name = "a b".to_owned()), "kernel @a b", "`a b` is no name");
    let wide = Tile { name: "w".to_owned(), dtype: DType::F64, len: u32::MAX };
    check_kernel(
        &with(&|k| k.tiles.push(wide.clone())),
        "kernel @k",
        "tiles take 34359738392 bytes; at most 16777216 are allowed",
    );
    let complex = Buffer { name: "z".to_owned(), dtype: DType::C64, ..sound.buffers[0].clone() };
    check_kernel(&with(&|k| k.buffers.push(complex.clone())), "kernel @k", "c64 has no scalar operations");
    let twin = Buffer { name: "t".to_owned(), ..sound.buffers[0].clone() };
    check_kernel(&with(&|k| k.buffers.push(twin.clone())), "kernel @k", "the name `t` is taken");
    let nowhere = |k: &mut Kernel| {
        if let Some(Stmt::Let { expr: Expr::Load { memory, .. }, .. }) = k.body.body.first_mut() {
            *memory = Memory::Tile(7);
        }
    };
    let errors = verify(&with(&nowhere), &Facts::default()).map(|_| ()).expect_err("is refused");
    assert_eq!(errors[0].to_string(), "Tile(7) does not exist");
}

#[test]
fn facts_about_sizes_are_used() {
    let kernel = kernel("lane j in 0..4 - n { }");
    assert!(verify(&kernel, &Facts::default()).is_ok());
    let mut facts = Facts::default();
    facts.assume(crate::facts::Fact::ge("n".parse::<crate::dim::Dim>().expect("a symbol"), 5)).expect("is possible");
    let errors = verify(&kernel, &facts).map(|_| ()).expect_err("is refused");
    assert_eq!(errors[0].to_string(), "the extent 4 - n is negative");
}

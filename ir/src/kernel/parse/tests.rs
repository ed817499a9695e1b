use proptest::prelude::*;

use super::*;
use crate::kernel::arbitrary::{Options, case};

const EVERYTHING: &str = "\
kernel @every/thing.1(read x: f32[m*n], write y: f32[m*n], readwrite z: i64[n]) sizes(n, m) tiles(s: f32[64], t: bool[2]) {
  parallel i in 0..n {
    reduce(32) j in 0..m {
      %0 = load x[i*m + j]
    } -> %1 = max(%0)
    if (i - 3, n - i - 4) {
      %2 = const -0.0 : f32
      %3 = load x[i - 3] if (n - i) else %2
      store s[mod(i, 64)], %3 if (i - 4)
    }
    reduce(1) k in 0..3 {
      %4 = index i + k
      %5 = convert.f32 %4
      %6 = const nan(0x7fc00001) : f32
      %7 = lt %5, %6
    } -> (%8, %9) = arg_max(%5, %4), %10 = any(%7)
    serial k in 0..2 {
      lane j in 0..min(i, m) {
        %11 = load z[%9 + j] if (%9, n - %9 - j - 1) else %9
        %12 = fma %8, %8, %1
        %13 = pow %12, %8
        store y[i*m + j], %13
      }
    }
    store t[0], %10
  }
  ; from main.rs:3:4, other.rs:5:6
}
";

#[test]
fn text_is_canonical_and_reads_back() {
    let kernel = Kernel::parse(EVERYTHING).expect("parses");
    assert_eq!(kernel.to_string(), EVERYTHING);
    assert_eq!(Kernel::parse(&kernel.to_string()), Ok(kernel.clone()));
    let two = format!("; a comment\n{EVERYTHING}\n; another\n{EVERYTHING}");
    assert_eq!(Kernel::parse_all(&two), Ok(vec![kernel.clone(), kernel.clone()]));
    assert_eq!(kernel.canonical_text(), kernel.anonymous().to_string());
    assert!(!kernel.canonical_text().contains("every") && !kernel.canonical_text().contains("main.rs"));
}

/// Checks the message for a kernel with this block in it, where `^` marks the place.
fn check(marked: &str, message: &str) {
    let at = marked.find('^').expect("a mark");
    let block = marked.replace('^', "");
    let head = "kernel @k(read x: f32[n], write y: f32[n]) sizes(n) {\nparallel i in 0..n {\n";
    let before = format!("{head}{}", &marked[..at]);
    let line = before.split('\n').count() as u32;
    let column = before.split('\n').next_back().unwrap_or("").chars().count() as u32 + 1;
    let error = Kernel::parse(&format!("{head}{block}\n}} }}")).expect_err(&block);
    assert_eq!(error.to_string(), format!("line {line}, column {column}: {message}"));
}

#[test]
fn errors_say_what_and_where() {
    check("%0 = ^frob %1", "`frob` is no scalar operation");
    check("%0 = neg ^%1", "%1 is not defined above");
    check("%0 = const 1 : i32\n%1 = ^floor %0", "floor does not take (i32)");
    check("%0 = const ^1.5 : i32", "`1.5` is no literal of i32");
    check("%0 = const 1 : ^f31", "`f31` is no dtype");
    check("%0 = const 1 : i32\n^%0 = const 1 : i32", "%0 is defined twice");
    check("%0 = load ^z[i]", "`z` is neither a buffer nor a tile of this kernel");
    check("%0 = load x[i +^]", "expected an integer, a symbol, a function or `(`");
    check("%0 = load x^(i)", "expected `[`");
    check("^vector j in 0..n { }", "expected a statement or `}`");
    check(
        "reduce(4) j in 0..n { %0 = load x[j]\n} -> %1 = ^mean(%0)",
        "`mean` is no combiner; there are sum, prod, max, min, any, all, arg_max and arg_min",
    );
    check("%0 = const ^ž : f32", "`ž` is no literal of f32");
    let gap = Kernel::parse("kernel @k() { parallel i in 0..1 { %1 = index i\n} }").map_err(|e| e.kind);
    assert_eq!(gap, Err(ParseErrorKind::Gap(Var(0))));
}

#[test]
fn hostile_sizes_are_refused() {
    let deep = format!("kernel @k() {{ parallel i in 0..1 {{ {}", "if (i) { ".repeat(100_000));
    assert_eq!(Kernel::parse(&deep).map_err(|e| e.kind), Err(ParseErrorKind::TooDeep));
    let long = " ".repeat(MAX_TEXT + 1);
    assert_eq!(Kernel::parse(&long).map_err(|e| e.kind), Err(ParseErrorKind::TooLong));
    let many = format!("kernel @k() {{ parallel i in 0..1 {{ {}", "if (i) {} ".repeat(MAX_COUNT + 1));
    assert_eq!(Kernel::parse(&many).map_err(|e| e.kind), Err(ParseErrorKind::TooMany("statements")));
}

proptest! {
    #[test]
    fn random_kernels_read_back(seed in any::<u64>()) {
        let kernel = case(seed, &Options::default()).kernel;
        let text = kernel.to_string();
        let parsed = Kernel::parse(&text);
        prop_assert_eq!(parsed.as_ref(), Ok(&kernel), "{}", text);
        prop_assert_eq!(parsed.map(|k| k.to_string()), Ok(text));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        // What reads must read back; most of it does not read.
        if let Ok(kernel) = Kernel::parse(&text) {
            prop_assert_eq!(Kernel::parse(&kernel.to_string()), Ok(kernel));
        }
    }

    #[test]
    fn damaged_text_is_read_or_refused(seed in 0_u64..50, at in 0.0..1.0, len in 0_usize..20, with in "[ -~\n]{0,8}") {
        let text = case(seed, &Options::default()).kernel.to_string();
        let start = (at * text.len() as f64) as usize;
        let end = (start + len).min(text.len());
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        if let Ok(kernel) = Kernel::parse(&damaged) {
            // What reads also verifies or is refused without a panic, and prints.
            let _ = crate::kernel::verify::verify(&kernel, &crate::facts::Facts::default());
            prop_assert!(!kernel.to_string().is_empty());
        }
    }
}

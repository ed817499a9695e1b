//! Named identities under facts, and soundness against random values that satisfy the facts.

use proptest::prelude::*;

use super::*;
use crate::dim::Fault;
use crate::dim::tests::{NAMES, Written, written};

fn dim(text: &str) -> Dim {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn facts(texts: &[&str]) -> Facts {
    let mut facts = Facts::default();
    for text in texts {
        let fact: Fact = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        facts.assume(fact).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    facts
}

/// Under the facts, the dimension simplifies to the text `expect`, and doing so again changes nothing.
fn check(known: &[&str], text: &str, expect: &str) {
    let facts = facts(known);
    let simple = facts.simplify(&dim(text));
    assert_eq!(simple.to_string(), expect, "{text} under {facts}");
    assert_eq!(facts.simplify(&simple), simple, "{text} under {facts}");
}

#[test]
fn quotients_of_digits() {
    let tile = &["j < 64", "k < 8"];
    check(tile, "floordiv(i*64 + j, 64)", "i");
    check(tile, "mod(i*64 + j, 64)", "j");
    check(tile, "mod(j, 64)", "j");
    check(tile, "floordiv(32*i + k, 64)", "floordiv(i, 2)");
    check(tile, "floordiv(i*512 + j*8 + k, 8)", "64*i + j");
    check(tile, "floordiv(j*8 + k, 512)", "0");
    check(tile, "floordiv(i + 64, 64)", "floordiv(i, 64) + 1");
    check(tile, "floordiv(j + 64*n - 64, 64)", "n - 1");
    check(tile, "floordiv(mod(n, 64), 64)", "0");
    check(tile, "mod(mod(n, 64), 8)", "mod(n, 8)");
}

#[test]
fn quotients_of_symbolic_digits() {
    let axes = &["i < n", "j < m"];
    check(axes, "floordiv(i*m + j, m)", "i");
    check(axes, "mod(i*m + j, m)", "j");
    check(axes, "floordiv(i*m + j, m*n)", "0");
    check(axes, "mod(i*m + j, m*n)", "i*m + j");
    check(axes, "floordiv(b*m*n + i*m + j, m*n)", "b");
    check(axes, "floordiv(j - m, m)", "-1");
    check(axes, "floordiv(k*m + j, m*n)", "floordiv(k, n)");
    check(axes, "floordiv(floordiv(k, m), n)", "floordiv(k, m*n)");
    check(&["b >= 1"], "floordiv(a*b, b)", "a");
    check(&[], "floordiv(a*b, b)", "floordiv(a*b, b)");
    check(&[], "floordiv(a*(b + 1), b + 1)", "a");
    check(&["j <= n"], "floordiv(i*(n + 1) + j, n + 1)", "i");
    check(&["i < 4*m", "m >= 1"], "floordiv(4*k*m + i, 4*m)", "k");
}

#[test]
fn extremes_are_decided() {
    check(&["n <= m"], "min(n, m)", "n");
    check(&["n <= m"], "max(n, m) + min(n + 1, m + 2)", "m + n + 1");
    check(&[], "max(n, 0)", "n");
    check(&["n >= 1"], "max(n, 1)", "n");
    check(&[], "min(n, n + m)", "n");
    check(&[], "min(n, m)", "min(m, n)");
}

#[test]
fn equations_are_used() {
    check(&["n == 2*m"], "n + m", "3*m");
    check(&["mod(n, 4) == 0"], "4*floordiv(n, 4)", "n");
    check(&["mod(n, 4) == 0"], "mod(n, 2)", "0");
    check(&["mod(n, 4) == 0"], "floordiv(n, 8)", "floordiv(n, 8)");
    check(&["mod(n, 4) == 0"], "floordiv(n*k, 4)", "k*floordiv(n, 4)");
    check(&["mod(n, 4) == 3"], "mod(n, 4)", "3");
    check(&["mod(n, 4) == 0", "mod(n, 6) == 0"], "mod(n, 12) + 12*floordiv(n, 12)", "n");
    check(&["mod(n, 4) == 0", "mod(n, 6) == 0"], "mod(n, 12)", "0");
    check(&["mod(n*m, 4) == 0"], "4*floordiv(n*m, 4)", "m*n");
    check(&["n*m == k*j", "mod(n, 2) == 0"], "n + j*k - m*n", "n");
    check(&["mod(n, m) == 0"], "m*floordiv(n, m)", "n");
    check(&["n == 2*m", "m == 2*k"], "n", "4*k");
    check(&["2*n == 3*m"], "3*m", "2*n");
}

#[test]
fn equality_is_decided() {
    let known = facts(&["n == 2*m", "k < 4", "mod(p, 8) == 0"]);
    let eq = |a: &str, b: &str| known.decide_eq(&dim(a), &dim(b));
    assert_eq!(eq("n", "m + m"), Some(true));
    assert_eq!(eq("n + 1", "m"), Some(false));
    assert_eq!(eq("n", "m"), None);
    assert_eq!(eq("k", "4"), Some(false));
    assert_eq!(eq("2*j + 1", "2*i"), Some(false));
    assert_eq!(eq("p", "8*floordiv(p, 8)"), Some(true));
    assert_eq!(eq("4*floordiv(p + 1, 4)", "p"), Some(true));
    assert_eq!(eq("p*j", "8*floordiv(p*j, 8)"), Some(true));
    assert_eq!(eq("j", "-1"), Some(false));
    assert_eq!(eq("j", "0"), None);
    let fault = Dim::from(Fault::Overflow);
    assert_eq!(known.decide_eq(&fault, &fault), None);
    let pinched = facts(&["a <= b", "b <= a"]);
    assert_eq!(pinched.decide_eq(&dim("a"), &dim("b")), Some(true));
}

#[test]
fn order_is_decided() {
    let known = facts(&["i < n", "j < m", "n*m <= 1000", "k <= 7", "k >= 2"]);
    let ge = |a: &str, b: &str| known.decide_ge(&dim(a), &dim(b));
    assert_eq!(ge("n*m", "i*m + j + 1"), Some(true));
    assert_eq!(ge("i*m + j", "n*m"), Some(false));
    assert_eq!(ge("999", "i*m + j"), Some(true));
    assert_eq!(ge("64*floordiv(n + 63, 64)", "n"), Some(true));
    assert_eq!(ge("n", "64*floordiv(n, 64)"), Some(true));
    assert_eq!(ge("m*floordiv(a, m)", "a - m + 1"), Some(true));
    assert_eq!(ge("a - m", "m*floordiv(a, m)"), Some(false));
    assert_eq!(ge("n", "min(n, 64)"), Some(true));
    assert_eq!(ge("min(64, n - i)", "1"), Some(true));
    assert_eq!(ge("n*m", "m"), Some(true));
    assert_eq!(ge("a*m + m - 1", "mod(b, m)"), Some(true));
    assert_eq!(ge("k*k", "5"), None);
    assert_eq!(ge("a", "b"), None);
    assert_eq!(known.interval(&dim("3*k - 1")), (Some(5), Some(20)));
    assert_eq!(known.interval(&dim("mod(a, 8) + mod(b, k)")), (Some(0), Some(13)));
    assert_eq!(known.interval(&dim("floordiv(n - k, 4)")), (Some(-2), None));
    assert_eq!(known.interval(&dim("min(a, 9)")), (Some(0), Some(9)));
    assert_eq!(known.interval(&dim("max(a, 9) - k")), (Some(2), None));
}

#[test]
fn ranges_and_signs() {
    let mut known = Facts::default();
    let symbol = |name: &str| Symbol::new(name).unwrap();
    known.range(&symbol("i"), 0, dim("n")).unwrap();
    known.range(&symbol("x"), -3, 5).unwrap();
    assert_eq!(known.to_string(), "signed(x), x <= 4, i < n, x >= -3");
    assert_eq!(known.interval(&dim("x")), (Some(-3), Some(4)));
    assert_eq!(known.decide_ge(&dim("n"), &dim("1")), Some(true));
    assert_eq!(known.decide_ge(&dim("i"), &dim("0")), Some(true));
    assert!(known.range(&symbol("y"), 5, 5).is_err());
    let before = known.clone();
    assert!(known.range(&symbol("i"), 3, 2).is_err());
    assert_eq!(known, before);
}

#[test]
fn fact_text() {
    let normal = |text: &str| facts(&[text]).to_string();
    for (text, expect) in [
        ("n >= 1", "n >= 1"),
        ("128 >= n", "n <= 128"),
        ("n < m", "n < m"),
        ("m > n + 2", "n + 2 < m"),
        ("2*m == n", "n == 2*m"),
        ("mod(n, 4) == 0", "mod(n, 4) == 0"),
        ("mod(n, 4) == 1 + 2", "mod(n, 4) == 3"),
        ("2*n >= 3", "n >= 2"),
        ("4*n + 2*m == 6", "m + 2*n == 3"),
        ("n + m - 3 >= m - 1", "n >= 2"),
        ("signed(i)", "signed(i)"),
        ("3 >= 2", ""),
        ("n*m <= 4096", "m*n <= 4096"),
    ] {
        assert_eq!(normal(text), expect, "{text}");
        if !expect.is_empty() {
            assert_eq!(normal(expect), expect, "{text}");
        }
    }
    let error = |text: &str| text.parse::<Fact>().unwrap_err().to_string();
    assert_eq!(error("n"), "at byte 1: expected `==`, `>=`, `<=`, `>` or `<`");
    assert_eq!(error("n == 1 == 2"), "at byte 7: expected an operator or the end");
    assert_eq!(error("signed(3)"), "at byte 7: expected a symbol");
}

#[test]
fn contradictions_are_refused() {
    for known in [
        &["n == 3", "n == 4"][..],
        &["n >= 5", "n <= 4"],
        &["n < m", "m < n"],
        &["mod(n, 4) == 1", "mod(n, 2) == 0"],
        &["mod(n, 4) == 5"],
        &["2*n == 2*m + 1"],
        &["n <= -1"],
        &["1 == 2"],
        &["n == m + 3", "m == 2", "n <= 4"],
        &["n == 2*m", "n == 3", "m == 1"],
    ] {
        let mut facts = Facts::default();
        let all = known.iter().try_for_each(|text| facts.assume(text.parse().unwrap()));
        assert!(all.is_err(), "{known:?} gives {facts}");
    }
    let mut known = facts(&["n >= 5"]);
    let error = known.assume("n < 3".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "`n <= 2` contradicts what is known: `n >= 5`");
}

#[test]
fn check_names_the_fact_and_the_values() {
    let known = facts(&["mod(n, 4) == 0", "n <= m"]);
    let check = |n: i64, m: i64| {
        let values = move |s: &Symbol| [("n", n), ("m", m)].into_iter().find(|p| p.0 == s.as_str()).map(|p| p.1);
        known.check(&values).map_err(|error| error.to_string())
    };
    assert_eq!(check(4, 4), Ok(()));
    assert_eq!(check(6, 7), Err("`mod(n, 4) == 0` does not hold for n = 6".to_owned()));
    assert_eq!(check(8, 7), Err("`n <= m` does not hold for m = 7, n = 8".to_owned()));
    assert_eq!(check(-4, 7), Err("`n >= 0` does not hold for n = -4".to_owned()));
    let unbound = known.check(&|_| None).unwrap_err().to_string();
    assert_eq!(unbound, "`m >= 0` cannot be checked: `m` has no value");
}

#[test]
fn sets_merge_and_serialise() {
    let (mut a, b) = (facts(&["n >= 1"]), facts(&["m == 2*n", "n >= 1"]));
    a.merge(&b).unwrap();
    assert_eq!(a, b);
    let json = serde_json::to_string(&a).unwrap();
    assert_eq!(json, r#"["m == 2*n","n >= 1"]"#);
    assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), a);
    assert!(serde_json::from_str::<Facts>(r#"["n >= 2","n <= 1"]"#).is_err());
    assert!(a.merge(&facts(&["n == 0"])).is_err());
    assert_eq!(a, b);
}

/// Facts and values that satisfy them: written expressions compared with what they come to.
fn satisfied() -> impl Strategy<Value = (Facts, [i64; 4])> {
    let relation = (written(), 0..4_usize, prop::sample::select(vec![2_i64, 4, 8, 64]));
    let values = prop::array::uniform4(0_i64..100);
    (values, prop::collection::vec(relation, 0..4)).prop_map(|(values, relations)| {
        let mut facts = Facts::default();
        for (w, kind, modulus) in relations {
            facts = with_relation(&facts, &w, kind, modulus, values);
        }
        (facts, values)
    })
}

fn with_relation(known: &Facts, w: &Written, kind: usize, modulus: i64, values: [i64; 4]) -> Facts {
    let dim = w.dim();
    let Ok(value) = dim.eval(&lookup(values)) else {
        return known.clone();
    };
    if value.abs() > 1 << 40 {
        return known.clone();
    }
    let fact = match kind {
        0 => Fact::ge(&dim, value),
        1 => Fact::ge(value + modulus - 2, &dim),
        2 => Fact::eq(dim.modulo(modulus), value.rem_euclid(modulus)),
        _ => {
            // An equation between the expression and a symbol, shifted to hold.
            let symbol = Dim::symbol(NAMES[modulus as usize % 3]).unwrap();
            let difference = values[modulus as usize % 3] - value;
            Fact::eq(symbol, dim + difference)
        }
    };
    let mut facts = known.clone();
    match facts.assume(fact) {
        // Facts that hold together for these values never contradict one another.
        Err(FactError::Contradiction { fact, known }) => {
            panic!("{fact} refuted by {known:?} at {values:?}")
        }
        Err(FactError::Faulty { .. }) | Ok(()) => facts,
    }
}

fn lookup(values: [i64; 4]) -> impl Fn(&Symbol) -> Option<i64> {
    move |symbol| {
        let index = NAMES.iter().position(|name| *name == symbol.as_str())?;
        Some(values[index])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn satisfied_facts_pass_the_check((facts, values) in satisfied()) {
        prop_assert_eq!(facts.check(&lookup(values)), Ok(()));
        let json = serde_json::to_string(&facts).unwrap();
        let back: Facts = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back, facts);
    }

    #[test]
    fn decisions_are_sound((facts, values) in satisfied(), a in written(), b in written()) {
        let (a, b) = (a.dim(), b.dim());
        if let (Ok(x), Ok(y)) = (a.eval(&lookup(values)), b.eval(&lookup(values))) {
            if let Some(equal) = facts.decide_eq(&a, &b) {
                prop_assert_eq!(equal, x == y, "{} == {} under {} at {:?}", a, b, facts, values);
            }
            if let Some(greater) = facts.decide_ge(&a, &b) {
                prop_assert_eq!(greater, x >= y, "{} >= {} under {} at {:?}", a, b, facts, values);
            }
        }
    }

    #[test]
    fn intervals_are_sound((facts, values) in satisfied(), w in written()) {
        let dim = w.dim();
        if let Ok(value) = dim.eval(&lookup(values)) {
            let (low, high) = facts.interval(&dim);
            prop_assert!(low.is_none_or(|low| low <= value), "{low:?} {dim} under {facts} at {values:?}");
            prop_assert!(high.is_none_or(|high| high >= value), "{high:?} {dim} under {facts} at {values:?}");
        }
    }

    #[test]
    fn simplification_keeps_the_value((facts, values) in satisfied(), w in written()) {
        let dim = w.dim();
        let simple = facts.simplify(&dim);
        if let (Ok(a), Ok(b)) = (dim.eval(&lookup(values)), simple.eval(&lookup(values))) {
            prop_assert_eq!(a, b, "{} to {} under {} at {:?}", dim, simple, facts, values);
        } else {
            prop_assert!(dim.eval(&lookup(values)).is_err(), "{dim} to {simple} under {facts} at {values:?}");
        }
    }
}

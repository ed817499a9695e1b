//! The named identities, text, and agreement with direct evaluation of random expressions.

use proptest::prelude::*;

use super::*;

fn dim(text: &str) -> Dim {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The text's canonical form prints as `expect`, and that parses back to the same.
fn check(text: &str, expect: &str) {
    let parsed = dim(text);
    assert_eq!(parsed.to_string(), expect, "{text}");
    assert_eq!(dim(expect), parsed, "{text}");
}

#[test]
fn like_terms_merge() {
    check("n + n - 2*n", "0");
    check("2 + n*3 + m*0 - 5", "3*n - 3");
    check("(n + 1)*(n - 1)", "n*n - 1");
    check("n^2*m", "m*n*n");
    check("j + i*m", "i*m + j");
    check("1 - n", "1 - n");
    check("m - n - (m + n)", "-2*n");
    check("-(n - m)^3", "m*m*m - 3*m*m*n + 3*m*n*n - n*n*n");
}

#[test]
fn quotients_split() {
    check("floordiv(4*n + m, 4)", "n + floordiv(m, 4)");
    check("floordiv(n, 1)", "n");
    check("floordiv(7, 2) + floordiv(-7, 2)", "-1");
    check("floordiv(7, -2)", "-4");
    check("floordiv(n, n)", "floordiv(n, n)");
    check("floordiv(a*b, b)", "floordiv(a*b, b)");
    check("floordiv(n - 3, 2) + 1", "floordiv(n + 1, 2) - 1");
    check("floordiv(6*n + 3, 4)", "n + floordiv(n + 1, 2)");
    check("floordiv(2*n + 3, 4)", "floordiv(n + 1, 2)");
    check("floordiv(floordiv(n, 4), 8)", "floordiv(n, 32)");
    check("floordiv(floordiv(n, 4) + m, 8)", "floordiv(4*m + n, 32)");
    check("floordiv(2*n, -2*m)", "floordiv(-n, m)");
    check("floordiv(0, n)", "floordiv(0, n)");
}

#[test]
fn remainders_are_recovered() {
    check("4*floordiv(n, 4) + mod(n, 4)", "n");
    check("mod(4*n + m, 4)", "mod(m, 4)");
    check("mod(n, m)", "mod(n, m)");
    check("n*mod(n, m) + n", "n*mod(n, m) + n");
    check("mod(n, m + 1)", "mod(n, m + 1)");
    check("mod(floordiv(n, 4), 8)", "mod(floordiv(n, 4), 8)");
    check("3*mod(n, 4) + n - 2*mod(m, 8)", "n - 2*mod(m, 8) + 3*mod(n, 4)");
    check("mod(n, 2)*mod(m, 2)", "mod(m, 2)*mod(n, 2)");
    check("mod(-7, 4) + mod(7, -4)", "0");
}

#[test]
fn extremes_are_recovered() {
    check("min(n, n + 2)", "n");
    check("max(n, n + 2)", "n + 2");
    check("min(n + 1, m + 1)", "min(m, n) + 1");
    check("min(3, n)", "min(n, 3)");
    check("max(n, 1)", "max(n, 1)");
    check("min(n, m) + max(n, m)", "m + n");
    check("-min(-n, -m)", "max(m, n)");
    assert_eq!(dim("n").min(dim("m")), dim("min(n, m)"));
    assert_eq!(dim("n").max(dim("m")), dim("max(n, m)"));
    assert_eq!(dim("n").clamp(dim("1"), dim("m")), dim("min(max(n, 1), m)"));
    check("min(2*n, 2*m)", "2*min(m, n)");
    check("n*max(m, 1) + 2*max(n, 1)", "n*max(m, 1) + 2*max(n, 1)");
}

#[test]
fn extremes_of_integers_are_kept() {
    let least = Dim::from(i64::MIN);
    check("-9223372036854775808", "-9223372036854775808");
    assert_eq!((&least - 1).fault(), Some(Fault::Overflow));
    assert_eq!((-&least).fault(), Some(Fault::Overflow));
    assert_eq!(least.floordiv(-1).fault(), Some(Fault::Overflow));
    let n = dim("n");
    assert_eq!((&n * i64::MAX + &n).fault(), Some(Fault::Overflow));
    assert_eq!(Dim::from(usize::MAX).fault(), Some(Fault::Overflow));
    assert_eq!((&n * &least).to_string(), "-9223372036854775808*n");
    check("-9223372036854775808*n", "-9223372036854775808*n");
}

#[test]
fn faults_pass_on() {
    let n = dim("n");
    let fault = n.floordiv(0);
    assert_eq!(fault.fault(), Some(Fault::DivisionByZero));
    for passed in [&fault + 1, Dim::ZERO * &fault, fault.minimum(&n), n.modulo(&fault), -&fault] {
        assert_eq!(passed.fault(), Some(Fault::DivisionByZero));
        assert_eq!(passed.eval(&|_| Some(1)), Err(DimError::DivisionByZero));
    }
    assert_eq!(fault.to_string(), "<division by zero>");
    assert!(serde_json::to_string(&fault).is_err());
}

#[test]
fn size_is_bounded() {
    let mut deep = dim("n");
    for k in 0..100_000 {
        deep = (deep + 1).floordiv(dim("m")).minimum(k);
    }
    assert_eq!(deep.fault(), Some(Fault::TooLarge));
    let mut wide = dim("n");
    for _ in 0..64 {
        wide = (&wide + 1).floordiv(&wide);
    }
    assert_eq!(wide.fault(), Some(Fault::TooLarge));
    let mut power = dim("n + 1");
    for _ in 0..10 {
        power = &power * &power;
    }
    assert_eq!(power.fault(), Some(Fault::TooLarge));
    let sum: Dim = (0..5000).map(|k| dim(&format!("x{k}"))).sum();
    assert_eq!(sum.fault(), Some(Fault::TooLarge));
}

#[test]
fn largest_text_round_trips() {
    let widest: Dim = (0..Dim::MAX_WEIGHT / 2).map(|k| dim(&format!("x{k}"))).sum();
    assert_eq!(widest.to_string().parse(), Ok(widest.clone()));
    // Adding to a wide sum again and again is refused before it takes long.
    let text = format!("{widest}{}", " + 1".repeat(200_000));
    let error = text.parse::<Dim>().unwrap_err();
    assert_eq!(error.kind, ParseErrorKind::Fault(Fault::TooLarge));
    let digits: Dim = (0..200).map(|k| dim(&format!("mod(x{k}, {})", k + 2))).sum();
    assert_eq!(digits.to_string().parse(), Ok(digits.clone()));
    assert_eq!(digits.readable_terms().len(), 200);
}

#[test]
fn linear_parts() {
    let n = Symbol::new("n").unwrap();
    let split = |text: &str| {
        let parts = dim(text).split_linear(&n);
        parts.map(|(a, b)| (a.to_string(), b.to_string()))
    };
    assert_eq!(split("2*n*m + 3*n + m - 1"), Some(("2*m + 3".into(), "m - 1".into())));
    assert_eq!(split("m"), Some(("0".into(), "m".into())));
    assert_eq!(split("n*n"), None);
    assert_eq!(split("floordiv(n, 2) + n"), None);
    assert_eq!(split("n*floordiv(m, 2)"), Some(("floordiv(m, 2)".into(), "0".into())));
}

#[test]
fn symbols_are_ordered_and_spelt() {
    let names: Vec<String> = dim("z + min(b*z, %5) + a.1").symbols().map(|s| s.to_string()).collect();
    assert_eq!(names, ["%5", "a.1", "b", "z"]);
    for bad in ["", "1a", "a b", "a/4", "é", &"x".repeat(201)] {
        assert!(Symbol::new(bad).is_err(), "{bad}");
    }
    assert_eq!(dim("n").as_symbol(), Symbol::new("n").as_ref().ok());
    assert_eq!(dim("2*n").as_symbol(), None);
}

#[test]
fn terms_are_walked() {
    let walked = dim("3*n*n*floordiv(m, 2) - mod(n, 4) + 7");
    assert_eq!(walked.constant_part(), 7);
    let canonical: Vec<i64> = walked.terms().iter().map(Term::coefficient).collect();
    assert_eq!(canonical, [3, -1, 4]);
    let powers: Vec<usize> = walked.terms()[0].powers().map(|(_, power)| power).collect();
    assert_eq!(powers, [2, 1]);
    let readable = walked.readable_terms();
    assert_eq!(readable.len(), 3);
    let [Factor::Atom(atom)] = readable[1].factors() else { panic!("{readable:?}") };
    assert_eq!((atom.kind(), atom.rhs()), (AtomKind::Mod, &Dim::from(4)));
}

#[test]
fn parse_errors_name_the_place() {
    let error = |text: &str| text.parse::<Dim>().unwrap_err().to_string();
    assert_eq!(error("n + "), "at byte 4: expected an integer, a symbol, a function or `(`");
    assert_eq!(error("n m"), "at byte 2: expected an operator or the end");
    assert_eq!(error("pow(n, 2)"), "at byte 0: `pow` is not a function; there are floordiv, mod, min and max");
    assert_eq!(error("min(n)"), "at byte 5: expected `,`");
    assert_eq!(error("9223372036854775808"), "at byte 19: a coefficient does not fit in 64 bits");
    assert_eq!(error("floordiv(n, 0)"), "at byte 14: division by zero");
    assert_eq!(error(&"(".repeat(100_000)), "at byte 65: parentheses are nested more than 64 deep");
    assert_eq!(error(&" ".repeat(2 << 20)), "at byte 0: the text has more than 1048576 bytes");
    assert_eq!(error("n^99999999999999999999"), "at byte 22: expected a small positive exponent");
}

#[test]
fn serde_form() {
    let json = |text: &str| serde_json::to_string(&dim(text)).unwrap();
    assert_eq!(json("7"), "7");
    assert_eq!(json("2*n"), "\"2*n\"");
    let back: Vec<Dim> = serde_json::from_str("[7, \"2*n\", \"7\"]").unwrap();
    assert_eq!(back, [dim("7"), dim("2*n"), dim("7")]);
    assert!(serde_json::from_str::<Dim>("\"2*\"").is_err());
    assert!(serde_json::from_str::<Dim>("18446744073709551615").is_err());
}

/// An expression as written, before any canonicalisation.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    Int(i64),
    Name(usize),
    Add(Box<Self>, Box<Self>),
    Sub(Box<Self>, Box<Self>),
    Mul(Box<Self>, Box<Self>),
    Call(AtomKind, Box<Self>, Box<Self>),
}

pub(crate) const NAMES: [&str; 4] = ["i", "j", "m", "n"];

impl Written {
    pub(crate) fn dim(&self) -> Dim {
        match self {
            Self::Int(value) => Dim::from(*value),
            Self::Name(index) => dim(NAMES[*index]),
            Self::Add(a, b) => a.dim() + b.dim(),
            Self::Sub(a, b) => a.dim() - b.dim(),
            Self::Mul(a, b) => a.dim() * b.dim(),
            Self::Call(kind, a, b) => kind.apply(&a.dim(), &b.dim()),
        }
    }

    /// The value, or `None` where it is undefined or leaves 128 bits.
    pub(crate) fn value(&self, values: &[i64; 4]) -> Option<i128> {
        match self {
            Self::Int(value) => Some((*value).into()),
            Self::Name(index) => Some(values[*index].into()),
            Self::Add(a, b) => a.value(values)?.checked_add(b.value(values)?),
            Self::Sub(a, b) => a.value(values)?.checked_sub(b.value(values)?),
            Self::Mul(a, b) => a.value(values)?.checked_mul(b.value(values)?),
            Self::Call(kind, a, b) => {
                let (a, b) = (a.value(values)?, b.value(values)?);
                match kind {
                    AtomKind::Min => Some(a.min(b)),
                    AtomKind::Max => Some(a.max(b)),
                    AtomKind::FloorDiv | AtomKind::Mod => {
                        // Floor from Euclid: they differ where the divisor is negative.
                        let remainder = a.checked_rem_euclid(b)?;
                        let remainder = if remainder != 0 && b < 0 { remainder + b } else { remainder };
                        let quotient = (a - remainder) / b;
                        Some(if *kind == AtomKind::Mod { remainder } else { quotient })
                    }
                }
            }
        }
    }
}

pub(crate) fn written() -> impl Strategy<Value = Written> {
    let leaf = prop_oneof![
        3 => (0..4_usize).prop_map(Written::Name),
        2 => (-9_i64..10).prop_map(Written::Int),
        1 => prop::sample::select(vec![4, 8, 16, 32, 64, -4]).prop_map(Written::Int),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        let pair = (inner.clone(), inner).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        prop_oneof![
            2 => pair.clone().prop_map(|(a, b)| Written::Add(a, b)),
            1 => pair.clone().prop_map(|(a, b)| Written::Sub(a, b)),
            2 => pair.clone().prop_map(|(a, b)| Written::Mul(a, b)),
            3 => (
                prop::sample::select(vec![AtomKind::FloorDiv, AtomKind::Mod, AtomKind::Min, AtomKind::Max]),
                pair,
            )
                .prop_map(|(kind, (a, b))| Written::Call(kind, a, b)),
        ]
    })
}

fn lookup(values: [i64; 4]) -> impl Fn(&Symbol) -> Option<i64> {
    move |symbol| {
        let index = NAMES.iter().position(|name| *name == symbol.as_str())?;
        Some(values[index])
    }
}

/// The dimension has the value wherever the written expression has one and neither leaves its range.
pub(crate) fn agrees(dim: &Dim, expect: Option<i128>, values: [i64; 4]) -> Result<(), TestCaseError> {
    let (Some(expect), Ok(found)) = (expect, dim.eval(&lookup(values))) else {
        return match (expect, dim.eval(&lookup(values))) {
            (Some(_), Err(DimError::DivisionByZero)) => {
                Err(TestCaseError::fail(format!("{dim} is undefined, the expression is not")))
            }
            _ => Ok(()),
        };
    };
    prop_assert_eq!(i128::from(found), expect, "{} at {:?}", dim, values);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn canonical_form_keeps_the_value(w in written(), values in prop::array::uniform4(-20_i64..60)) {
        agrees(&w.dim(), w.value(&values), values)?;
    }

    #[test]
    fn readable_terms_sum_to_the_dimension(w in written()) {
        let dim = w.dim();
        let mut sum = Dim::ZERO;
        for term in dim.readable_terms() {
            let mut product = Dim::from(term.coefficient());
            for factor in term.factors() {
                product *= match factor {
                    Factor::Symbol(symbol) => Dim::from(symbol),
                    Factor::Atom(atom) => atom.kind().apply(atom.lhs(), atom.rhs()),
                };
            }
            sum += product;
        }
        if dim.fault().is_none() {
            prop_assert_eq!(sum, dim);
        }
    }

    #[test]
    fn text_and_serde_round_trip(w in written()) {
        let dim = w.dim();
        if dim.fault().is_none() {
            prop_assert_eq!(dim.to_string().parse::<Dim>(), Ok(dim.clone()));
            let json = serde_json::to_string(&dim).unwrap();
            prop_assert_eq!(serde_json::from_str::<Dim>(&json).unwrap(), dim);
        }
    }

    #[test]
    fn substitution_agrees(w in written(), by in prop::array::uniform4(written()), values in prop::array::uniform4(0_i64..20)) {
        let replaced = w.dim().substitute(&|symbol| {
            NAMES.iter().position(|name| *name == symbol.as_str()).map(|k| by[k].dim())
        });
        let inner = by.each_ref().map(|w| w.value(&values).and_then(|v| i64::try_from(v).ok()));
        if let [Some(i), Some(j), Some(m), Some(n)] = inner {
            agrees(&replaced, w.value(&[i, j, m, n]), values)?;
        }
    }

    #[test]
    fn replacing_all_symbols_evaluates(w in written(), values in prop::array::uniform4(-20_i64..60)) {
        let dim = w.dim();
        let replaced = dim.substitute(&|symbol| lookup(values)(symbol).map(Dim::from));
        if let (Some(a), Ok(b)) = (replaced.as_const(), dim.eval(&lookup(values))) {
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn algebra_holds(a in written(), b in written(), c in written()) {
        let (a, b, c) = (a.dim(), b.dim(), c.dim());
        let sound = |dim: &Dim| dim.fault().is_none();
        for (x, y) in [
            (&a + &b, &b + &a),
            (&a * &b, &b * &a),
            ((&a + &b) + &c, &a + (&b + &c)),
            (&a * (&b + &c), &a * &b + &a * &c),
            (&a + &b - &b, a.clone()),
            (a.minimum(&b), b.minimum(&a)),
            (a.minimum(&b) + a.maximum(&b), &a + &b),
            (a.floordiv(&b) * &b + a.modulo(&b), a.clone()),
            ((&a + 7 * &b).floordiv(7), a.floordiv(7) + &b),
        ] {
            if sound(&x) && sound(&y) {
                prop_assert_eq!(&x, &y);
                prop_assert_eq!(x.hash_word(), y.hash_word());
                prop_assert_eq!(x.cmp(&y), Ordering::Equal);
            }
        }
    }

    #[test]
    fn linear_split_recombines(w in written()) {
        let dim = w.dim();
        for name in NAMES {
            let symbol = Symbol::new(name).unwrap();
            if let Some((coefficient, rest)) = dim.split_linear(&symbol) {
                prop_assert!(!coefficient.mentions(&symbol) && !rest.mentions(&symbol));
                prop_assert_eq!(coefficient * Dim::from(&symbol) + rest, dim.clone());
            }
        }
    }

    #[test]
    fn parser_takes_any_text(text in "[ -~é]{0,40}") {
        if let Ok(dim) = text.parse::<Dim>() {
            prop_assert_eq!(dim.to_string().parse::<Dim>(), Ok(dim));
        }
    }

    #[test]
    fn parser_takes_likely_text(text in "([nm0-9+*^(),-]|floordiv\\(|min\\(|mod\\(|max\\(|%1|9223372036854775807| ){0,24}") {
        if let Ok(dim) = text.parse::<Dim>() {
            prop_assert_eq!(dim.to_string().parse::<Dim>(), Ok(dim));
        }
    }
}

#[test]
fn a_remainder_that_is_zero_is_not_gathered() {
    let (m, n) = (Dim::symbol("m").unwrap(), Dim::symbol("n").unwrap());
    let nested = (&m + &(m.floordiv(8) * 56)).floordiv(64);
    let dim = &m - &(nested * 8) - 7;
    assert_eq!(dim.to_string().parse::<Dim>().unwrap(), dim);
    let nested = (&n + &(n.floordiv(2) * 2)).floordiv(4);
    let dim = &(&m * &n) - &(&m * &(nested * 2));
    assert_eq!(dim.to_string().parse::<Dim>().unwrap(), dim);
}

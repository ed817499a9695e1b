use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::kernel::arbitrary::{Options, case};
use crate::kernel::{Combiner, ScalarOp};
use crate::literal::Literal;

fn run_text(text: &str, sizes: &[i64], mut buffers: Vec<BufferData>) -> Result<Vec<BufferData>, InterpretError> {
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    run(&kernel, sizes, &mut buffers)?;
    Ok(buffers)
}

/// The result of one operation on literals of these dtypes.
fn apply(op: ScalarOp, operands: &[(DType, &str)]) -> Literal {
    let dtypes: Vec<DType> = operands.iter().map(|(d, _)| *d).collect();
    let result = op.result(&dtypes).unwrap_or_else(|| panic!("{op} takes {dtypes:?}"));
    let consts: Vec<String> =
        operands.iter().enumerate().map(|(i, (d, v))| format!("%{i} = const {v} : {d}")).collect();
    let names: Vec<String> = (0..operands.len()).map(|i| format!("%{i}")).collect();
    let n = operands.len();
    let text = format!(
        "kernel @k(write y: {result}[1]) {{ parallel i in 0..1 {{ {}\n %{n} = {op} {}\n store y[i], %{n}\n }} }}",
        consts.join("\n"),
        names.join(", ")
    );
    let out = run_text(&text, &[], vec![BufferData::zeros(result, 1).expect("a real dtype")]).expect("runs");
    Literal::from_bits(result, [out[0].bits(0).expect("one element"), 0])
}

#[test]
fn scalar_operations() {
    use DType::*;
    let cases: &[(&str, DType, &[&str], &str)] = &[
        ("add", I8, &["127", "1"], "-128"),
        ("div", I32, &["-7", "2"], "-3"),
        ("div", I32, &["7", "0"], "0"),
        ("div", I64, &["-9223372036854775808", "-1"], "-9223372036854775808"),
        ("rem", I32, &["-7", "2"], "-1"),
        ("rem", I16, &["-32768", "-1"], "0"),
        ("rem", U8, &["7", "0"], "0"),
        ("rem", F32, &["-7.5", "2.0"], "-1.5"),
        ("neg", U8, &["1"], "255"),
        ("abs", I8, &["-128"], "-128"),
        ("max", F32, &["nan", "1.0"], "nan"),
        ("max", F32, &["1.0", "nan"], "nan"),
        ("max", F64, &["-0.0", "0.0"], "0.0"),
        ("max", F64, &["0.0", "-0.0"], "-0.0"),
        ("min", U64, &["18446744073709551615", "1"], "1"),
        ("max", I64, &["-1", "1"], "1"),
        ("fma", F32, &["1.0000001", "1.0000001", "-1.0000002"], "1.4210855e-14"),
        ("neg", F32, &["0.0"], "-0.0"),
        ("abs", F16, &["-1.5"], "1.5"),
        ("round", F32, &["2.5"], "2.0"),
        ("round", F64, &["-0.5"], "-0.0"),
        ("trunc", F32, &["-2.7"], "-2.0"),
        ("ceil", BF16, &["1.5"], "2.0"),
        ("sqrt", F32, &["-1.0"], "nan"),
        ("shl", I32, &["1", "33"], "2"),
        ("shr", I8, &["-128", "7"], "-1"),
        ("shr", U8, &["128", "7"], "1"),
        ("shl", I8, &["1", "-1"], "-128"),
        ("not", U16, &["0"], "65535"),
        ("not", Bool, &["true"], "false"),
        ("ne", F32, &["nan", "nan"], "true"),
        ("ge", F32, &["nan", "nan"], "false"),
        ("lt", I8, &["-1", "1"], "true"),
        ("lt", Bool, &["false", "true"], "true"),
        ("convert.i8", F32, &["300.0"], "127"),
        ("convert.u8", F64, &["-1.0"], "0"),
        ("convert.i32", F32, &["nan"], "0"),
        ("convert.bool", F32, &["nan"], "true"),
        ("convert.bool", F32, &["-0.0"], "false"),
        ("convert.u8", I32, &["-1"], "255"),
        ("convert.f32", U64, &["18446744073709551615"], "18446744000000000000.0"),
        // Just above the middle between two f16: rounding to f32 first would lose what decides.
        ("convert.f16", F64, &["1.0004882812500002"], "1.001"),
        ("convert.bf16", I64, &["4311744513"], "4328521700.0"),
        ("bitcast.u32", F32, &["-0.0"], "2147483648"),
        ("bitcast.f16", I16, &["15360"], "1.0"),
        ("add", F16, &["65504.0", "16.0"], "inf"),
        ("add", F16, &["2048.0", "1.0"], "2048.0"),
        ("tanh", F64, &["inf"], "1.0"),
        ("logistic", F32, &["-200.0"], "0.0"),
        ("pow", F32, &["2.0", "10.0"], "1024.0"),
    ];
    for (op, dtype, operands, want) in cases {
        let op: ScalarOp = op.parse().expect("an operation");
        let operands: Vec<(DType, &str)> = operands.iter().map(|v| (*dtype, *v)).collect();
        let got = apply(op, &operands);
        let want_nan = want.starts_with("nan") && got.to_f64().is_nan();
        assert!(
            want_nan || Some(got) == Literal::parse(got.dtype(), want),
            "{op} {operands:?} is {got:?}, expected {want}"
        );
    }
    assert_eq!(apply(ScalarOp::Select, &[(Bool, "false"), (I8, "1"), (I8, "2")]), Literal::from(2_i8));
}

#[test]
fn half_formats_round_once() {
    for bits in (0..=u32::MAX).step_by(9973) {
        let x = f32::from_bits(bits);
        let through = |dtype| scalar::code(ScalarOp::Convert(dtype), DType::F32);
        let Some(scalar::Code::Unary(to_f16)) = through(DType::F16) else { panic!("a conversion") };
        let Some(scalar::Code::Unary(to_bf16)) = through(DType::BF16) else { panic!("a conversion") };
        if !x.is_nan() {
            assert_eq!(to_f16(u64::from(bits)), u64::from(f16::from_f32(x).to_bits()), "{x}");
            assert_eq!(to_bf16(u64::from(bits)), u64::from(bf16::from_f32(x).to_bits()), "{x}");
        }
    }
}

/// `reduce(4)` by hand: four partial sums in order, then the upper half into the lower.
#[test]
fn virtual_lanes_fix_the_order() {
    let x: Vec<f32> = (0..11).map(|i| [1e8, 1.0, -1e8, 3.3][i % 4] * (i as f32 + 1.0)).collect();
    let mut lanes = [0.0_f32; 4];
    for (j, x) in x.iter().enumerate() {
        lanes[j % 4] += x;
    }
    let want = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    let folded: f32 = x.iter().fold(0.0, |a, b| a + b);
    assert_ne!(want.to_bits(), folded.to_bits(), "the test must tell the orders apart");
    for (lanes, want) in [(4, want), (1, folded)] {
        let text = format!(
            "kernel @k(read x: f32[n], write y: f32[1]) sizes(n) {{ parallel i in 0..1 {{
               reduce({lanes}) j in 0..n {{ %0 = load x[j]
               }} -> %1 = sum(%0)
               store y[i], %1
             }} }}"
        );
        let out = run_text(&text, &[11], vec![x.clone().into(), vec![0.0_f32].into()]).expect("runs");
        assert_eq!(out[1], vec![want].into());
    }
}

#[test]
fn argument_reductions_and_identities() {
    let text = |combiner: Combiner, lanes: u32| {
        format!(
            "kernel @k(read x: f32[n], write y: f32[1], write at: i64[1]) sizes(n) {{ parallel i in 0..1 {{
               reduce({lanes}) j in 0..n {{ %0 = load x[j]
                 %1 = index j
               }} -> (%2, %3) = {}(%0, %1)
               store y[i], %2
               store at[i], %3
             }} }}",
            combiner.name()
        )
    };
    let nan = f32::NAN;
    let cases: [(&[f32], Combiner, f32, i64); 6] = [
        (&[1.0, 3.0, 3.0, 2.0], Combiner::ArgMax, 3.0, 1),
        (&[1.0, -3.0, 2.0, -3.0], Combiner::ArgMin, -3.0, 1),
        (&[1.0, nan, 5.0, nan], Combiner::ArgMax, nan, 1),
        (&[0.0, -0.0, 0.0], Combiner::ArgMin, 0.0, 0),
        (&[f32::NEG_INFINITY; 3], Combiner::ArgMax, f32::NEG_INFINITY, 0),
        (&[], Combiner::ArgMin, f32::INFINITY, i64::MAX),
    ];
    for (x, combiner, value, at) in cases {
        for lanes in [1, 2, 8] {
            let buffers = vec![x.to_vec().into(), vec![0.0_f32].into(), vec![0_i64].into()];
            let out = run_text(&text(combiner, lanes), &[x.len() as i64], buffers).expect("runs");
            assert!(out[1].same_bits(&vec![value].into()), "{x:?} {lanes}");
            assert_eq!(out[2], vec![at].into(), "{x:?} {lanes}");
        }
    }
}

#[test]
fn failures_name_the_statement() {
    let run = |block: &str, sizes: &[i64]| {
        let text = format!(
            "kernel @k(read x: i64[4], write y: i64[4]) sizes(n) tiles(t: i64[2]) {{ parallel i in 0..2 {{ {block}\n }} }}"
        );
        let buffers = vec![vec![7_i64, -1, 0, 1].into(), vec![0_i64; 4].into()];
        run_text(&text, sizes, buffers).expect_err(block).to_string()
    };
    let cases = [
        ("%0 = load x[i + n]", 3, "`%0 = load x[i + n]`: index 4 is outside of 0..4"),
        ("%0 = load x[i]\n %1 = load x[%0]", 3, "`%1 = load x[%0]`: index 7 is outside of 0..4"),
        ("%0 = load x[i]\n store y[i - n], %0", 3, "`store y[i - n], %0`: index -3 is outside of 0..4"),
        ("lane j in 0..2 - n { }", 3, "`lane j in 0..2 - n {`: the extent is -1"),
        ("%0 = index floordiv(i, n)", 0, "`%0 = index floordiv(i, n)`: division by zero"),
        ("%0 = load x[0]\n store t[0], %0\n %1 = load t[1]", 0, "`%1 = load t[1]`: element 1 is undefined here"),
        (
            "%0 = load x[0]\n store y[2*i], %0\n %1 = load y[2*i + 1]",
            0,
            "`%1 = load y[2*i + 1]`: element 1 is undefined here",
        ),
        (
            "%0 = load x[0]\n store y[n], %0",
            0,
            "`store y[n], %0`: another iteration of the parallel axis has stored element 0",
        ),
    ];
    for (block, n, want) in cases {
        assert_eq!(run(block, &[n]), want);
    }
    let kernel = Kernel::parse("kernel @k(read x: f32[n]) sizes(n) { parallel i in 0..n { } }").expect("parses");
    let with = |sizes: &[i64], x: BufferData| super::run(&kernel, sizes, &mut [x]).map_err(|e| e.to_string());
    assert_eq!(with(&[2], vec![0.0_f32; 2].into()), Ok(()));
    assert_eq!(with(&[2], vec![0.0_f32; 3].into()), Err("`x` is f32[2], f32[3] was given".to_owned()));
    assert_eq!(with(&[2], vec![0.0_f64; 2].into()), Err("`x` is f32[2], f64[2] was given".to_owned()));
    assert_eq!(with(&[-1], vec![0.0_f32; 2].into()), Err("the size n is -1".to_owned()));
    assert_eq!(with(&[], vec![0.0_f32; 2].into()), Err("the kernel has 1 sizes, 0 were given".to_owned()));
}

#[test]
fn guards_choose_without_touching_memory() {
    let text = "kernel @k(read x: i32[n], write y: i32[n + 2]) sizes(n) { parallel i in 0..n + 2 {
        %0 = const -5 : i32
        %1 = load x[i - 1] if (i - 1, n - i) else %0
        store y[i], %1 if (i - 1)
      } }";
    let out = run_text(text, &[3], vec![vec![1_i32, 2, 3].into(), vec![9_i32; 5].into()]).expect("runs");
    assert_eq!(out[1], vec![9_i32, 1, 2, 3, -5].into());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Parts of the parallel axis in another order give the bits of the whole.
    #[test]
    fn partitions_agree(seed in any::<u64>(), cut in 0.0..1.0, recipe in any::<bool>()) {
        let functions = if recipe { Functions::Recipe } else { Functions::Reference };
        let case = case(seed, &Options::default());
        let program = Program::new(&case.kernel, &case.sizes, functions).expect("compiles");
        let (mut whole, mut parts) = (case.buffers.clone(), case.buffers);
        program.run(&mut whole).expect("runs");
        let cut = (program.extent() as f64 * cut) as i64;
        program.run_range(&mut parts, cut..program.extent()).expect("runs");
        program.run_range(&mut parts, 0..cut).expect("runs");
        for (a, b) in whole.iter().zip(&parts) {
            prop_assert!(a.same_bits(b), "{}", case.kernel);
        }
    }
}

//! Wide code against the interpreter, bit for bit, in every width that the machine has.

use std::sync::OnceLock;

use lehr_ir::dtype::DType;
use lehr_ir::kernel::arbitrary::{self, Options};
use lehr_ir::kernel::interpret::BufferData;
use lehr_ir::kernel::recipes::{Function, TABLE};
use lehr_ir::kernel::{Kernel, ScalarOp};
use lehr_ir::literal::Literal;
use lehr_ir::target::Vectors;

use super::*;
use crate::cpu::code::{Compiler, Emitter, Options as CodeOptions};
use crate::cpu::emit::tests::check_with;

/// A compiler for each width of this machine; none at all is worth a line.
fn compilers() -> &'static [Compiler] {
    static COMPILERS: OnceLock<Vec<Compiler>> = OnceLock::new();
    COMPILERS.get_or_init(|| {
        let with = |vectors| Compiler::new(CodeOptions { vectors, threads: 1, ..CodeOptions::default() }).ok();
        let compilers: Vec<Compiler> = [Vectors::Avx2, Vectors::Avx512].into_iter().filter_map(with).collect();
        if compilers.is_empty() {
            println!("skipped: this machine has no wide vectors");
        }
        compilers
    })
}

/// Compares whole and partitioned runs with the interpreter; false where the kernel is out of scope for some width.
pub(in crate::cpu::wide) fn check(kernel: &Kernel, sizes: &[i64], buffers: &[BufferData]) -> bool {
    let inside = |compiler: &&Compiler| match compiler.emitter(kernel) {
        Emitter::Wide(width) => {
            assert_eq!(width.bytes(), compiler.target().vector_bytes);
            true
        }
        Emitter::Cranelift(Some(WideError::Unsupported(_))) => false,
        other => panic!("{other}\n{kernel}"),
    };
    let inside: Vec<&Compiler> = compilers().iter().filter(inside).collect();
    if !inside.is_empty() {
        check_with(inside.iter().copied(), kernel, sizes, buffers);
    }
    inside.len() == compilers().len()
}

fn with(width: Width) -> WideOptions {
    WideOptions { width, only_if_it_pays: false, listing: false }
}

pub(in crate::cpu::wide) fn parse(text: &str) -> Kernel {
    Kernel::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The kernels of a file under `tests/kernels`; lines that begin with a semicolon are the file's test.
fn file(name: &str) -> Vec<Kernel> {
    let path = format!("{}/../tests/kernels/{name}.lehr", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let starts: Vec<usize> = text.match_indices("\nkernel ").map(|(i, _)| i + 1).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let kernels = starts.iter().zip(ends).map(|(start, end)| {
        let lines: Vec<&str> = text[*start..end].lines().filter(|l| !l.starts_with(';')).collect();
        parse(&lines.join("\n"))
    });
    kernels.collect()
}

/// Buffers for a kernel at these sizes, mostly tame values and some special ones.
fn buffers(kernel: &Kernel, sizes: &[i64], seed: u64) -> Vec<BufferData> {
    let special = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-40, 3e38, 2_147_483_648.0, -2.5];
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let size_of = |s: &lehr_ir::dim::Symbol| kernel.sizes.iter().position(|t| t == s).map(|i| sizes[i]);
    let one = |b: &lehr_ir::kernel::Buffer| {
        let len = b.len.eval(&size_of).expect("a length").unsigned_abs() as usize;
        let mut data = BufferData::zeros(b.dtype, len).expect("a real dtype");
        for i in 0..len {
            let literal = match b.dtype {
                dtype if dtype.is_float() && next() % 29 == 0 => {
                    Literal::from_f64(dtype, special[next() as usize % special.len()])
                }
                dtype if dtype.is_float() => Literal::from_f64(dtype, next() as f64 / (1_u64 << 28) as f64 - 4.0),
                DType::Bool => Literal::from(next() % 2 == 0),
                dtype if next() % 13 == 0 => Literal::from_bits(dtype, [next() << 1, 0]),
                dtype => Literal::from_i64(dtype, (next() % 41) as i64 - 20),
            };
            data.set_bits(i, literal.bits()[0]);
        }
        data
    };
    kernel.buffers.iter().map(one).collect()
}

/// Checks a kernel at sizes, on values of its own.
fn check_at(kernel: &Kernel, sizes: &[i64], seed: u64) -> bool {
    check(kernel, sizes, &buffers(kernel, sizes, seed))
}

#[test]
fn kernel_files() {
    for (name, sizes) in [
        ("adam_multi", vec![vec![700, 64, 300], vec![1, 0, 257]]),
        ("attention_causal", vec![vec![3, 45], vec![1, 16]]),
        ("layer_norm_backward", vec![vec![23, 70], vec![5, 1], vec![3, 130]]),
        ("softmax_row", vec![vec![37, 129], vec![2, 1024]]),
        ("tanh_chain", vec![vec![2500], vec![0], vec![1024]]),
    ] {
        for kernel in file(name) {
            for (i, sizes) in sizes.iter().enumerate() {
                assert!(check_at(&kernel, sizes, i as u64), "@{} is out of scope", kernel.name);
            }
        }
    }
}

fn functions() -> Vec<Function> {
    // The square root is an operation, which the verifier wants written as one.
    TABLE.iter().map(|r| r.function).filter(|f| *f != Function::Sqrt).collect()
}

fn options(depth: usize) -> Options {
    let dtypes = vec![DType::F32, DType::I32, DType::U32, DType::Bool];
    Options { dtypes, functions: functions(), depth, ..Options::default() }
}

/// Whether a kernel never looks at the bits of an f32: which NaN an operation gives is left open.
fn keeps_to_numbers(kernel: &Kernel) -> bool {
    !kernel.to_string().contains("bitcast.")
}

#[test]
fn random_kernels() {
    let options = options(3);
    let inside = (0..600).filter(|seed| {
        let case = arbitrary::case(*seed, &options);
        keeps_to_numbers(&case.kernel) && check(&case.kernel, &case.sizes, &case.buffers)
    });
    let inside = inside.count();
    assert!(inside >= 200 || compilers().is_empty(), "{inside} of 600");
}

#[test]
fn random_kernels_with_tails() {
    let options = options(1);
    let inside = (0..500_u64).filter(|seed| {
        let kernel = arbitrary::case(1000 + seed, &options).kernel;
        let sizes = [(seed * 7) % 71, (seed * 11 + 3) % 71].map(|n| n as i64);
        keeps_to_numbers(&kernel) && check_at(&kernel, &sizes, *seed)
    });
    let inside = inside.count();
    assert!(inside >= 200 || compilers().is_empty(), "{inside} of 500");
}

#[test]
fn random_kernels_with_wide_elements() {
    let narrow = [DType::F32, DType::I32, DType::U32, DType::Bool];
    let dtypes = [DType::F64, DType::I64, DType::U64].into_iter().chain(narrow).collect::<Vec<_>>();
    // Other functions of f64 are the library's, which wide code does not call.
    for (depth, statements) in [(1, 15), (2, 25), (3, 25)] {
        let dtypes = Vec::clone(&dtypes);
        let options = Options { dtypes, functions: double::FUNCTIONS.to_vec(), statements, ..options(depth) };
        let inside = (0..600).filter(|seed| {
            let case = arbitrary::case(*seed, &options);
            keeps_to_numbers(&case.kernel) && check(&case.kernel, &case.sizes, &case.buffers)
        });
        let inside = inside.count();
        assert!(inside >= 200 || compilers().is_empty(), "{inside} of 600");
    }
}

#[test]
fn random_kernels_with_half_precision() {
    // Numbers of f16 leave the domains of bounded functions more often, where results are unspecified.
    let everywhere = |f: &Function| f.recipe().domain == (f32::NEG_INFINITY, f32::INFINITY);
    let functions = functions().into_iter().filter(everywhere).collect();
    let dtypes = vec![DType::F16, DType::BF16, DType::F32, DType::Bool];
    let options = Options { dtypes, functions, ..options(2) };
    let inside = (0..600).filter(|seed| {
        let case = arbitrary::case(*seed, &options);
        keeps_to_numbers(&case.kernel) && check(&case.kernel, &case.sizes, &case.buffers)
    });
    let inside = inside.count();
    assert!(inside >= 200 || compilers().is_empty(), "{inside} of 600");
}

#[test]
fn half_precision_of_every_length() {
    for wide in ["f32", "f64"] {
        for (one, other) in [(DType::F16, DType::BF16), (DType::BF16, DType::F16)] {
            let kernel = parse(&format!(
                "kernel @map(read x: {one}[n], read s: {one}[2], read w: {wide}[n], read c: bool[n], write y: {one}[n], write z: {other}[n], write v: {wide}[n], write b: bool[n]) sizes(n) {{
  parallel i in 0..n {{
    %0 = load x[i]
    %1 = load s[1]
    %2 = fma %0, %1, %0
    store y[i], %2
    %3 = convert.f32 %2
    %4 = exp %3
    %5 = convert.{other} %4
    store z[i], %5
    %6 = convert.{wide} %2
    %7 = load w[i]
    %8 = load c[i]
    %9 = select %8, %6, %7
    store v[i], %9
    %10 = lt %6, %7
    %11 = xor %10, %8
    store b[i], %11
  }}
}}"
            ));
            for n in 0..=50 {
                assert!(check_at(&kernel, &[n], n as u64));
            }
        }
    }
}

/// Every f16 to f32, and its neighbours in f32 and the middles between two of it back to f16 and to bf16.
#[test]
fn half_precision_rounds_as_it_should() {
    let bits: Vec<u32> = (0..=u16::MAX)
        .flat_map(|b| {
            let f16 = (Literal::from_bits(DType::F16, [u64::from(b), 0]).to_f64() as f32).to_bits();
            let bf16 = u32::from(b) << 16;
            [f16, f16 ^ 1, f16 | 0x1000, (f16 | 0x1000) + 1, (f16 | 0x1000) - 1, bf16 | 0x8000, bf16 | 0x7fff]
        })
        .collect();
    for half in [DType::F16, DType::BF16] {
        let kernel = parse(&format!(
            "kernel @round(read x: f32[n], write y: {half}[n], write z: f32[n]) sizes(n) {{
  parallel i in 0..n {{
    %0 = load x[i]
    %1 = convert.{half} %0
    store y[i], %1
    %2 = convert.f32 %1
    store z[i], %2
  }}
}}"
        ));
        let mut x = BufferData::zeros(DType::F32, bits.len()).expect("a real dtype");
        bits.iter().enumerate().for_each(|(i, b)| assert!(x.set_bits(i, u64::from(*b))));
        let [y, z] = [half, DType::F32].map(|d| BufferData::zeros(d, bits.len()).expect("a real dtype"));
        assert!(check(&kernel, &[bits.len() as i64], &[x, y, z]));
    }
}

#[test]
fn random_kernels_with_wide_integers() {
    let options = Options { dtypes: vec![DType::F32, DType::I64, DType::Bool], ..options(2) };
    let inside = (0..600).filter(|seed| {
        let case = arbitrary::case(*seed, &options);
        keeps_to_numbers(&case.kernel) && check(&case.kernel, &case.sizes, &case.buffers)
    });
    let inside = inside.count();
    assert!(inside >= 200 || compilers().is_empty(), "{inside} of 600");
}

/// Maps and rows that mix elements of four and of eight bytes, at every length up to some vectors.
#[test]
fn mixed_elements_of_every_length() {
    let map = parse(
        "kernel @map(read x: f64[n], read y: f32[n], read k: i64[n], read s: f64[2], write u: f64[n], write v: f32[n], write b: bool[n], write l: i64[n]) sizes(n) {
  parallel i in 0..n {
    %0 = load x[i]
    %1 = load y[i]
    %2 = load k[i]
    %3 = load s[1]
    %4 = convert.f64 %1
    %5 = fma %0, %3, %4
    store u[i], %5
    %6 = exp %1
    %7 = lt %0, %4
    %8 = select %7, %6, %1
    store v[i], %8
    %9 = lt %6, %1
    %10 = or %9, %7
    store b[i], %10
    %11 = index 3*i + n
    %12 = mul %2, %11
    %13 = select %9, %12, %2
    store l[i], %13
  }
}",
    );
    for n in 0..=70 {
        assert!(check_at(&map, &[n], n as u64));
    }
    for lanes in [1, 2, 4, 8, 32, 64] {
        let row = parse(&format!(
            "kernel @row(read x: f64[n*m], read z: f32[n*m], write y: f64[n*m], write at: i64[n], write top: f64[n], write low: f32[n], write any: bool[n]) sizes(n, m) {{
  parallel i in 0..n {{
    reduce({lanes}) j in 0..m {{
      %0 = load x[i*m + j]
      %1 = load z[i*m + j]
      %2 = mul %0, %0
      %3 = gt %1, %1
    }} -> %4 = sum(%2), %5 = max(%0), %6 = min(%1), %7 = any(%3)
    store top[i], %5
    store low[i], %6
    store any[i], %7
    reduce({lanes}) j in 0..m {{
      %8 = load x[i*m + j]
      %9 = index m - j
    }} -> (%10, %11) = arg_max(%8, %9)
    store at[i], %11
    lane j in 0..m {{
      %12 = load x[i*m + m - 1 - j]
      %13 = div %12, %4
      store y[i*m + j], %13
    }}
  }}
}}"
        ));
        for m in 0..=40 {
            assert!(check_at(&row, &[3, m], m as u64));
        }
        assert!(check_at(&row, &[2, 1000], 7));
    }
}

/// An index that is a value: rows of a table, and single elements of it.
#[test]
fn loads_at_indices_from_memory() {
    let kernel = parse(
        "kernel @take(read k: i64[n], read t: f32[8*m], write y: f32[n*m], write z: f32[n]) sizes(n, m) {
  parallel i in 0..n {
    %0 = load k[i]
    %1 = const 0 : i64
    %2 = const 7 : i64
    %3 = max %0, %1
    %4 = min %3, %2
    lane j in 0..m {
      %5 = load t[m*%4 + j]
      store y[i*m + j], %5
    }
    %6 = load t[%4]
    store z[i], %6
  }
}",
    );
    for m in 1..=40 {
        assert!(check_at(&kernel, &[5, m], m as u64));
    }
    // Indices that are out of range read nothing, and their rows keep what they have.
    let kernel = parse(
        "kernel @take(read k: i64[n], read t: f64[8*m], readwrite y: f32[n*m], write z: f64[n*m]) sizes(n, m) {
  parallel i in 0..n {
    %0 = load k[i]
    %1 = const -1.5 : f64
    lane j in 0..m {
      %2 = load t[m*%0 + j] if (%0, 7 - %0) else %1
      %3 = mul %2, %1
      store z[i*m + j], %3
      %4 = convert.f32 %2
      store y[i*m + j], %4 if (%0, 7 - %0)
    }
  }
}",
    );
    for m in 1..=40 {
        assert!(check_at(&kernel, &[30, m], m as u64));
    }
}

#[test]
fn maps_of_every_length() {
    let kernel = parse(
        "kernel @map(read x: f32[n], read s: f32[2], write y: f32[n], write b: bool[n]) sizes(n) {
  parallel i in 0..n {
    %0 = load x[i]
    %1 = load s[1]
    %2 = exp %0
    %3 = fma %2, %1, %0
    store y[i], %3
    %4 = lt %0, %1
    store b[i], %4
  }
}",
    );
    for n in 0..=70 {
        assert!(check_at(&kernel, &[n], n as u64));
    }
}

#[test]
fn rows_of_every_length() {
    for lanes in [1, 2, 8, 16, 32, 256] {
        let kernel = parse(&format!(
            "kernel @row(read x: f32[n*m], write y: f32[n*m], write at: i32[n], write top: f32[n]) sizes(n, m) {{
  parallel i in 0..n {{
    reduce({lanes}) j in 0..m {{
      %0 = load x[i*m + j]
      %1 = index j
      %2 = mul %0, %0
    }} -> %3 = sum(%2), (%4, %5) = arg_max(%0, %1)
    store top[i], %4
    %6 = convert.i32 %5
    store at[i], %6
    lane j in 0..m {{
      %7 = load x[i*m + m - 1 - j]
      %8 = div %7, %3
      store y[i*m + j], %8
    }}
  }}
}}"
        ));
        for m in 0..=70 {
            assert!(check_at(&kernel, &[3, m], m as u64));
        }
        assert!(check_at(&kernel, &[2, 1000], 7));
    }
}

#[test]
fn operations_on_special_values() {
    let floats = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        2_147_483_648.0,
        -2_147_483_648.0,
        2_147_483_520.0,
        4_294_967_296.0,
        4_294_967_040.0,
        3e38,
        -3e38,
        1e-40,
        -1e-40,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        16_777_217.0,
        5.25,
        0.999_999_999_999_999_9,
        4_294_967_295.9,
        2_147_483_647.5,
        -2_147_483_648.9,
        9_223_372_036_854_775_808.0,
        9_223_372_036_854_774_784.0,
        -9_223_372_036_854_775_808.0,
        18_446_744_073_709_551_616.0,
        18_446_744_073_709_549_568.0,
        1e300,
        -1e300,
        1e-310,
        6e-8,
        16_777_217.000_000_1,
    ];
    let integers = [
        0,
        1,
        -1,
        2,
        7,
        -7,
        31,
        32,
        33,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        0x8000_0001,
        1000,
        -65_536,
        3,
        40,
        63,
        64,
        65,
        i64::MIN,
        i64::MAX,
        (1 << 53) + 1,
        -(1 << 53) - 1,
        0x4000_0040_0000_0001,
        0xffff_ffff,
        0x1_0000_0001,
        (1 << 60) + (1 << 35) + 1,
    ];
    let dtypes =
        [DType::F32, DType::I32, DType::U32, DType::Bool, DType::F64, DType::I64, DType::U64, DType::F16, DType::BF16];
    let converts = dtypes.iter().map(|d| ScalarOp::Convert(*d));
    let bitcasts = dtypes.iter().map(|d| ScalarOp::Bitcast(*d));
    let ops: Vec<ScalarOp> = ScalarOp::PLAIN.into_iter().chain(converts).chain(bitcasts).collect();
    let mut checked = 0;
    for dtype in dtypes {
        let values: Vec<Literal> = match dtype {
            dtype if dtype.is_float() => floats.iter().map(|x| Literal::from_f64(dtype, *x)).collect(),
            DType::Bool => [false, true].map(Literal::from).to_vec(),
            _ => integers.iter().map(|x| Literal::from_i64(dtype, *x)).collect(),
        };
        let n = values.len();
        for op in &ops {
            let operands: Vec<DType> = vec![dtype; op.arity()];
            let Some(result) = op.result(&operands) else { continue };
            // AVX2 has no such conversions of 64-bit integers.
            let long = |d: DType| d.is_integer() && d.size() == 8;
            let avx512_only = match op {
                ScalarOp::Convert(to) => (dtype.is_float() && long(*to)) || (long(dtype) && *to == DType::F32),
                _ => false,
            };
            // Numbers that are not f32's would round twice, and the bits of half precision are not what registers hold.
            let half = |d: DType| matches!(d, DType::F16 | DType::BF16);
            let refused = match op {
                ScalarOp::Convert(to) => half(*to) && (dtype.is_integer() || dtype == DType::F64),
                ScalarOp::Bitcast(to) => half(*to) || half(dtype),
                _ => false,
            };
            let args = ["%0", "%1", "%2"][..op.arity()].join(", ");
            let kernel = parse(&format!(
                "kernel @op(read x: {dtype}[n], write y: {result}[n*n]) sizes(n) {{
  parallel i in 0..n*n {{
    %0 = load x[mod(i, n)]
    %1 = load x[floordiv(i, n)]
    %2 = load x[mod(i + floordiv(i, n), n)]
    %3 = {op} {args}
    store y[i], %3
  }}
}}"
            ));
            let mut x = BufferData::zeros(dtype, n).expect("a real dtype");
            for (i, value) in values.iter().enumerate() {
                x.set_bits(i, value.bits()[0]);
            }
            let y = BufferData::zeros(result, n * n).expect("a real dtype");
            assert_eq!(check(&kernel, &[n as i64], &[x, y]) || avx512_only, !refused, "{op} on {dtype}");
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}

#[test]
fn more_values_than_registers() {
    let loads: String = (0..60).map(|i| format!("    %{i} = load x[60*i + {i}]\n")).collect();
    let sums: String =
        (0..59).map(|i| format!("    %{} = add %{}, %{}\n", 60 + i, if i == 0 { 0 } else { 59 + i }, 59 - i)).collect();
    let text = format!(
        "kernel @wide(read x: f32[60*n], write y: f32[n]) sizes(n) {{\n  parallel i in 0..n {{\n{loads}{sums}    store y[i], %118\n  }}\n}}"
    );
    assert!(check_at(&parse(&text), &[37], 5));
}

#[test]
fn tiles_guards_and_conditions() {
    let kernel = parse(
        "kernel @k(read x: f32[n*16], read c: bool[n], write y: f32[n*16], write s: u32[n]) sizes(n) tiles(t: f32[16], b: bool[20]) {
  parallel i in 0..n {
    %0 = const 2.0 : f32
    lane j in 0..16 {
      %1 = load x[16*i + j] if (i - 3) else %0
      store t[j], %1
    }
    lane j in 0..20 {
      %2 = load c[i]
      store b[19 - j], %2
    }
    if (i - 1, n - 3 - i) {
      serial k in 0..3 {
        lane j in 0..16 {
          %3 = load t[j]
          %4 = mul %3, %3
          store t[j], %4
        }
      }
    }
    lane j in 0..16 {
      %5 = load t[15 - j]
      store y[16*i + j], %5 if (n - 2 - i)
    }
    %6 = const 7 : u32
    %7 = load b[11]
    %8 = convert.u32 %7
    %9 = add %6, %8
    store s[i], %9
  }
}",
    );
    for n in 0..9 {
        assert!(check_at(&kernel, &[n], n as u64));
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let message = |buffer: &str, body: &str| {
        let kernel = parse(&format!("kernel @k({buffer}) {{ parallel i in 0..1 {{ {body} }} }}"));
        assemble(&kernel, &with(Width::Avx512)).expect_err("is refused").to_string()
    };
    assert_eq!(message("read x: i8[1]", ""), "the wide emitter does not support i8 in `x`");
    let function = "%0 = load x[0]\n %1 = erf %0\n";
    assert_eq!(message("read x: f64[1]", function), "the wide emitter does not support `erf` on f64");
    let convert = "%0 = load x[0]\n %1 = convert.i64 %0\n";
    assert_eq!(message("read x: f32[1]", convert), "the wide emitter does not support `convert.i64` on f32");
    let sum = "reduce(2) j in 0..3 { %0 = index j\n } -> %1 = sum(%0)";
    assert_eq!(message("read x: f32[1]", sum), "the wide emitter does not support sum of i64");
    let kernel = parse(
        "kernel @k(read x: f32[1]) tiles(t: bool[4]) { parallel i in 0..1 { lane j in 0..4 { reduce(1024) k in 0..9 { %0 = load x[0]\n } -> %1 = sum(%0), %2 = max(%0), %3 = min(%0), %4 = prod(%0) } } }",
    );
    assert_eq!(
        assemble(&kernel, &with(Width::Avx2)).map(|_| ()),
        Err(WideError::Unsupported(Unsupported::Frame(262_400))),
        "{:?}",
        assemble(&kernel, &with(Width::Avx2))
    );
}

#[test]
fn the_same_kernel_gives_the_same_bytes() {
    let kernel = &file("softmax_row")[0];
    for width in [Width::Avx2, Width::Avx512] {
        let bytes = assemble(kernel, &with(width)).expect("is in scope");
        assert_eq!(Ok(bytes), assemble(kernel, &with(width)));
    }
}

#[test]
fn kernels_that_gain_are_wide_and_others_are_not() {
    let auto = Compiler::new(CodeOptions::default()).expect("a supported machine");
    let portable = CodeOptions { vectors: Vectors::Portable, ..CodeOptions::default() };
    let portable = Compiler::new(portable).expect("a supported machine");
    let row = &file("softmax_row")[0];
    let gather = parse(
        "kernel @gather(read x: f32[4*n], write y: f32[n]) sizes(n) {
  parallel p in 0..1 {
    lane i in 0..n {
      %0 = load x[4*i]
      store y[i], %0
    }
  }
}",
    );
    let why = "loads from places that are no neighbours would be slow in wide code";
    match Width::detect() {
        Some(width) => {
            assert_eq!(auto.emitter(row), Emitter::Wide(width));
            assert_eq!(auto.emitter(&gather).to_string(), format!("Cranelift: {why}"));
        }
        None => assert_eq!(auto.emitter(row), Emitter::Cranelift(None)),
    }
    assert_eq!(portable.emitter(row).to_string(), "Cranelift");
    let unit = auto.compile(&[row, &gather]).expect("code");
    let made: Vec<&Emitter> = unit.reports().iter().map(|r| &r.emitter).collect();
    assert_eq!(made, [&auto.emitter(row), &auto.emitter(&gather)]);
}

/// Kernels as they come from labels, from index arithmetic, from tables and from NumPy's default dtype.
#[test]
fn wide_elements_gain() {
    let map = "kernel @k(read x: f64[n], read y: f32[n], write z: f64[n]) sizes(n) { parallel i in 0..n {
        %0 = load x[i]\n %1 = load y[i]\n %2 = convert.f64 %1\n %3 = fma %0, %2, %0\n store z[i], %3\n } }";
    let row = "kernel @k(read x: f64[n*m], write y: f64[n*m]) sizes(n, m) { parallel i in 0..n {
        reduce(32) j in 0..m { %0 = load x[i*m + j]\n %1 = mul %0, %0\n } -> %2 = sum(%1), %3 = max(%0)
        lane j in 0..m { %4 = load x[i*m + j]\n %5 = sub %4, %3\n %6 = div %5, %2\n store y[i*m + j], %6\n } } }";
    let labels = "kernel @k(read x: f32[n*m], read k: i64[n], write y: f32[n*m]) sizes(n, m) { parallel i in 0..n {
        %0 = load k[i]
        lane j in 0..m { %1 = index j\n %2 = eq %0, %1\n %3 = convert.f32 %2\n %4 = load x[i*m + j]
          %5 = sub %4, %3\n store y[i*m + j], %5\n } } }";
    let best = "kernel @k(read x: f32[n*m], write y: i64[n]) sizes(n, m) { parallel i in 0..n {
        reduce(32) j in 0..m { %0 = load x[i*m + j]\n %1 = index j\n } -> (%2, %3) = arg_max(%0, %1)
        store y[i], %3\n } }";
    let rows = "kernel @k(read k: i64[n], read t: f32[64*m], write y: f32[n*m]) sizes(n, m) { parallel i in 0..n {
        lane j in 0..m { %0 = load k[i]\n %1 = load t[m*%0 + j]\n store y[i*m + j], %1\n } } }";
    let auto = Compiler::new(CodeOptions::default()).expect("a supported machine");
    let guarded = "kernel @k(read k: i64[n], read t: f32[64*m], write y: f32[n*m], write z: f32[n*m]) sizes(n, m) {
      parallel i in 0..n {
        %0 = load k[i]\n %1 = const 2.0 : f32
        lane j in 0..m { %2 = load t[m*%0 + j] if (%0, 63 - %0) else %1\n %3 = mul %2, %1
          store y[i*m + j], %3\n store z[i*m + j], %2 if (%0, 63 - %0)\n } } }";
    let padded = "kernel @k(read x: f32[n*m], write y: f32[n*m]) sizes(n, m) { parallel i in 0..n {
        %0 = const 0.5 : f32
        lane j in 0..m { %1 = load x[(i - 1)*m + j] if (i - 1) else %0\n %2 = exp %1\n store y[i*m + j], %2\n } } }";
    for text in [map, row, labels, best, rows, guarded, padded] {
        let kernel = parse(text);
        if let Some(width) = Width::detect() {
            assert_eq!(auto.emitter(&kernel), Emitter::Wide(width), "{kernel}");
        }
        for width in [Width::Avx2, Width::Avx512] {
            let pays = WideOptions { only_if_it_pays: true, ..with(width) };
            assert!(assemble(&kernel, &pays).is_ok(), "{:?}\n{kernel}", assemble(&kernel, &pays));
        }
    }
}

#[test]
fn the_main_loop_of_a_stream_has_neither_masks_nor_spills() {
    let text = |kernel: &Kernel| {
        let options = WideOptions { listing: true, ..with(Width::Avx512) };
        assemble(kernel, &options).expect("is in scope").listing
    };
    let listing = text(&file("softmax_row")[0]);
    // The exponential takes the fused steps of its recipe, and partial results stay in registers over the main loops.
    assert!(listing.contains("vfmadd213ps") && listing.contains("vmaxps"), "{listing}");
    let lines: Vec<&str> = listing.lines().collect();
    let loops: Vec<&[&str]> = (0..lines.len())
        .filter(|i| lines[*i].trim_start().starts_with("jle ") && lines[*i - 1].contains("cmp r15,r14"))
        .map(|end| {
            let label = format!("{}:", lines[end].trim_start().trim_start_matches("jle ")).to_lowercase();
            let label = label.trim_start_matches('0').to_owned();
            let start = (0..end).rfind(|i| lines[*i].to_lowercase() == label).expect("the loop's label");
            &lines[start..end]
        })
        .collect();
    assert!(!loops.is_empty(), "{listing}");
    for body in loops {
        assert!(body.iter().all(|l| !l.contains("{k1}") && !l.contains("[rsp")), "{body:#?}");
    }
}

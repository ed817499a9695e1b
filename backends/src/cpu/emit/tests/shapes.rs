//! Kernels written by hand: maps, reductions, guards, gathers, tiles.

use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::Kernel;
use lehr_ir::kernel::interpret::{BufferData, Functions, Program};

use super::check;

/// Tail sizes: none, less than a vector, around one, and around several.
const LENGTHS: [i64; 16] = [0, 1, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 48, 63, 64, 70];

/// Fills every buffer with values that differ, and checks the kernel at these sizes.
fn at(text: &str, sizes: &[i64]) {
    let kernel = Kernel::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let program = Program::new(&kernel, sizes, Functions::Recipe).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut buffers = program.zeros().expect("lengths");
    for (b, data) in buffers.iter_mut().enumerate() {
        fill(data, b);
    }
    check(&kernel, sizes, &buffers);
}

fn fill(data: &mut BufferData, salt: usize) {
    let dtype = data.dtype();
    let values: Vec<f64> = (0..data.len())
        .map(|i| {
            let x = ((i * 37 + salt * 11) % 101) as f64 - 50.0;
            match dtype.kind() {
                Kind::Bool => f64::from((i * 7 + salt).is_multiple_of(3)),
                Kind::Unsigned => x.abs(),
                Kind::Signed => x,
                Kind::Float | Kind::Complex => x / 8.0 + 0.001 * i as f64,
            }
        })
        .collect();
    if let Some(filled) = BufferData::from_f64s(dtype, &values) {
        *data = filled;
    }
}

const DTYPES: [DType; 13] = [
    DType::Bool,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
];

#[test]
fn map_of_every_tail() {
    let text = "kernel @map(read x: f32[n], write y: f32[n]) sizes(n) {
  parallel i in 0..1 {
    %0 = const 2.5 : f32
    %1 = const -1.0 : f32
    lane j in 0..n {
      %2 = load x[j]
      %3 = fma %2, %0, %1
      store y[j], %3
    }
  }
}";
    for n in LENGTHS {
        at(text, &[n]);
    }
}

#[test]
fn parallel_map_of_every_tail() {
    let text = "kernel @map(read x: f32[n], readwrite y: f32[n]) sizes(n) {
  parallel i in 0..n {
    %0 = load x[i]
    %1 = load y[i]
    %2 = add %0, %1
    %3 = tanh %2
    store y[i], %3
  }
}";
    for n in LENGTHS {
        at(text, &[n]);
    }
}

#[test]
fn softmax_row() {
    let text = "kernel @softmax(read x: f32[n*m], write y: f32[n*m]) sizes(n, m) {
  parallel i in 0..n {
    reduce(32) j in 0..m {
      %0 = load x[i*m + j]
    } -> %1 = max(%0)
    reduce(32) j in 0..m {
      %2 = load x[i*m + j]
      %3 = sub %2, %1
      %4 = exp %3
      store y[i*m + j], %4
    } -> %5 = sum(%4)
    lane j in 0..m {
      %6 = load y[i*m + j]
      %7 = div %6, %5
      store y[i*m + j], %7
    }
  }
}";
    for m in LENGTHS {
        at(text, &[3, m]);
    }
}

#[test]
fn column_sums_in_both_orders() {
    for lanes in [1, 2, 8] {
        let text = format!(
            "kernel @columns(read x: f32[n*m], write y: f32[m]) sizes(n, m) {{
  parallel b in 0..1 {{
    lane j in 0..m {{
      reduce({lanes}) i in 0..n {{
        %0 = load x[i*m + j]
      }} -> %1 = sum(%0)
      store y[j], %1
    }}
  }}
}}"
        );
        for m in LENGTHS {
            at(&text, &[7, m]);
        }
    }
}

#[test]
fn every_combiner_on_every_dtype() {
    for dtype in DTYPES {
        let names: &[&str] = match dtype {
            DType::Bool => &["any", "all", "max", "min"],
            _ => &["sum", "prod", "max", "min"],
        };
        for lanes in [1, 2, 4, 32] {
            for name in names {
                for m in [0, 1, 5, 37, 70] {
                    at(&reduction(dtype, lanes, &format!("%2 = {name}(%0)")), &[m]);
                }
            }
            for name in ["arg_max", "arg_min"] {
                for m in [1, 5, 37, 70] {
                    at(&reduction(dtype, lanes, &format!("(%2, %3) = {name}(%0, %1)")), &[m]);
                }
            }
        }
    }
}

fn reduction(dtype: DType, lanes: u32, result: &str) -> String {
    let store = if result.starts_with('(') { "    store k[0], %3\n" } else { "" };
    format!(
        "kernel @r(read x: {dtype}[m], write y: {dtype}[1], write k: i64[1]) sizes(m) {{
  parallel i in 0..1 {{
    reduce({lanes}) j in 0..m {{
      %0 = load x[j]
      %1 = index j
    }} -> {result}
    store y[0], %2
{store}  }}
}}"
    )
}

#[test]
fn a_static_row_needs_no_tail() {
    for m in [4, 10, 32, 64, 96, 100] {
        let text = format!(
            "kernel @r(read x: f32[n*{m}], write y: f32[n*{m}]) sizes(n) {{
  parallel i in 0..n {{
    reduce(32) j in 0..{m} {{
      %0 = load x[i*{m} + j]
    }} -> %1 = sum(%0)
    lane j in 0..{m} {{
      %2 = load x[i*{m} + j]
      %3 = sub %2, %1
      store y[i*{m} + j], %3
    }}
  }}
}}"
        );
        at(&text, &[5]);
    }
}

#[test]
fn guards_that_vary_and_guards_that_do_not() {
    let text = "kernel @pad(read x: f32[n], write y: f32[(n + 6)*2], readwrite z: f32[n + 6]) sizes(n) {
  parallel i in 0..2 {
    %0 = const -1.0 : f32
    lane j in 0..n + 6 {
      %1 = load x[j - 3] if (j - 3, n + 2 - j) else %0
      %2 = load x[0] if (i - 1, n - 1) else %1
      store y[i*(n + 6) + j], %2
      if (0 - i, 9 - 2*j) {
        %3 = neg %2
        store z[j], %3
      }
      store z[j], %1 if (j - 11, 0 - i)
    }
  }
}";
    for n in LENGTHS {
        at(text, &[n]);
    }
}

#[test]
fn gathers_strides_and_index_arithmetic() {
    let text =
        "kernel @g(read x: f32[n*4], read k: i64[n], write y: f32[n], write z: i32[n*2], write w: i64[n]) sizes(n, d) {
  parallel b in 0..1 {
    lane j in 0..n {
      %0 = load k[j]
      %1 = index mod(%0, n)
      %2 = load x[%1*4 + 1]
      %3 = load x[4*n - 1 - 3*j]
      %4 = load x[floordiv(j, d)*d + mod(j, 3)]
      %5 = load x[mod(7*j, n) + floordiv(j, 5)]
      %6 = add %2, %3
      %7 = fma %4, %5, %6
      store y[j], %7
      %8 = convert.i32 %7
      store z[2*j], %8
      store z[2*j + 1], %8
      %9 = index 3*j - mod(j, 4) + min(j, 9)
      store w[n - 1 - j], %9
    }
  }
}";
    for n in LENGTHS {
        at(text, &[n, 3]);
    }
}

#[test]
fn tiles_carry_values_between_phases() {
    let text = "kernel @t(read x: f32[n*20], write y: f32[n*20]) sizes(n) tiles(t: f32[20], u: bool[20], v: f64[3]) {
  parallel i in 0..n {
    lane j in 0..20 {
      %0 = load x[i*20 + j]
      %1 = mul %0, %0
      store t[j], %1
      %2 = const 4.0 : f32
      %3 = gt %1, %2
      store u[j], %3
    }
    reduce(4) j in 0..20 {
      %4 = load t[j]
      %5 = convert.f64 %4
    } -> %6 = sum(%5)
    store v[1], %6
    lane j in 0..20 {
      %7 = load u[19 - j]
      %8 = load t[j]
      %9 = load v[1]
      %10 = convert.f32 %9
      %11 = select %7, %8, %10
      store y[i*20 + j], %11
    }
  }
}";
    for n in [0, 1, 4] {
        at(text, &[n]);
    }
}

#[test]
fn every_conversion() {
    for from in DTYPES {
        for to in DTYPES {
            let text = format!(
                "kernel @c(read x: {from}[n], write y: {to}[n]) sizes(n) {{
  parallel b in 0..1 {{
    lane j in 0..n {{
      %0 = load x[j]
      %1 = convert.{to} %0
      store y[j], %1
    }}
  }}
}}"
            );
            at(&text, &[70]);
            extremes(&text, from);
        }
    }
}

/// Runs a map over values at the edges of a dtype's range.
fn extremes(text: &str, from: DType) {
    let kernel = Kernel::parse(text).expect("a kernel");
    let mut values =
        vec![0.0, -0.0, 0.5, -0.5, 1.5, 127.5, 128.0, 255.0, 256.5, -129.0, 32768.0, 65504.0, 65519.0, 65520.0, 7e4];
    values.extend([
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        2147483647.0,
        2147483648.0,
        -2147483649.0,
        4294967295.0,
        4294967296.0,
    ]);
    values.extend([
        9.2e18,
        9223372036854775808.0,
        1.9e19,
        1e-8,
        5.9e-8,
        6.1e-5,
        6.0e-5,
        1e-40,
        1e39,
        1.0 + 1.0 / 2048.0,
        1e300,
    ]);
    values.extend([
        16777217.0,
        33554435.0,
        1.00390625,
        1.001953125,
        2.9802322387695312e-8,
        2.98023224e-8,
        1125899906842625.0,
    ]);
    let Some(x) = BufferData::from_f64s(from, &values) else { return };
    let program = Program::new(&kernel, &[values.len() as i64], Functions::Recipe).expect("a program");
    let mut buffers = program.zeros().expect("lengths");
    buffers[0] = x;
    check(&kernel, &[values.len() as i64], &buffers);
}

#[test]
fn every_operation_on_every_dtype() {
    use lehr_ir::kernel::ScalarOp;
    for dtype in DTYPES {
        for op in ScalarOp::PLAIN {
            let (mut operands, mut names) = (vec![dtype; op.arity()], vec!["%0", "%1", "%2"]);
            if op == ScalarOp::Select {
                operands[0] = DType::Bool;
                names[0] = "%3";
            }
            let Some(result) = op.result(&operands) else { continue };
            let text = format!(
                "kernel @o(read x: {dtype}[n], read y: {dtype}[n], read z: {dtype}[n], write r: {result}[n], read c: bool[n]) sizes(n) {{
  parallel b in 0..1 {{
    lane j in 0..n {{
      %0 = load x[j]
      %1 = load y[j]
      %2 = load z[j]
      %3 = load c[j]
      %4 = {op} {}
      store r[j], %4
    }}
  }}
}}",
                names[..op.arity()].join(", ")
            );
            at(&text, &[70]);
        }
    }
}

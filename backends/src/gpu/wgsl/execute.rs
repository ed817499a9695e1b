//! Kernels on whatever adapter there is, against the interpreter.

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::arbitrary::{self, Options};
use lehr_ir::kernel::interpret::{BufferData, Functions, Program};
use lehr_ir::kernel::{Kernel, ScalarOp};
use lehr_ir::plan::BufferId;

use super::{WgslError, launch};
use crate::gpu::harness::{self, Harness, Memory};

/// What a random kernel makes of its buffers on the device and in the interpreter; `None` where it has no text.
fn both(device: &Harness, case: arbitrary::Case) -> Option<[Vec<BufferData>; 2]> {
    let arbitrary::Case { kernel, sizes, mut buffers } = case;
    let ids: Vec<BufferId> = (0..buffers.len() as u32).map(BufferId).collect();
    let dims: Vec<Dim> = sizes.iter().map(|s| Dim::from(*s)).collect();
    let program = Program::new(&kernel, &sizes, Functions::Recipe).expect("is valid");
    let dispatch = match launch(&kernel, &ids, &dims, &Dim::from(program.extent()), &device.target) {
        Ok(dispatch) => dispatch,
        Err(WgslError::Unsupported(_)) => return None,
        Err(e) => panic!("{e}\n{kernel}"),
    };
    harness::validate(&dispatch.text, true);
    let mut memory: Memory = ids.iter().copied().zip(buffers.iter().map(harness::bytes)).collect();
    device.run(&[dispatch], &Bindings::default(), &mut memory);
    program.run(&mut buffers).expect("runs");
    let got = buffers.iter().zip(&ids).map(|(b, id)| harness::elements(b.dtype(), &memory[id])).collect();
    Some([got, buffers])
}

/// Whether elements are the same; one NaN is as good as another.
fn same(a: &BufferData, b: &BufferData) -> bool {
    let is_nan = |x: f64| x.is_nan();
    let (x, y) = (a.to_f64s(), b.to_f64s());
    a.len() == b.len() && (0..a.len()).all(|i| a.bits(i) == b.bits(i) || (is_nan(x[i]) && is_nan(y[i])))
}

/// Each operation for a few operands, and what it should give.
fn check_ops(device: &Harness, from: DType, ops: &[(String, DType)], operands: &[u64]) {
    let n = operands.len();
    let results = ops.iter().enumerate().map(|(i, (_, to))| format!(", write y{i}: {to}[{n}]"));
    let body = ops.iter().enumerate().map(|(i, (op, _))| format!("%{} = {op} %0\n store y{i}[i], %{}\n", i + 1, i + 1));
    let (results, body): (String, String) = (results.collect(), body.collect());
    let text =
        format!("kernel @k(read x: {from}[{n}]{results}) {{ parallel i in 0..{n} {{ %0 = load x[i]\n {body} }} }}");
    let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let zeros = |d| BufferData::zeros(d, n).expect("is a real dtype");
    let mut x = zeros(from);
    operands.iter().enumerate().for_each(|(i, bits)| assert!(x.set_bits(i, *bits)));
    let buffers = std::iter::once(x.clone()).chain(ops.iter().map(|(_, to)| zeros(*to))).collect();
    let Some([got, want]) = both(device, arbitrary::Case { kernel, sizes: Vec::new(), buffers }) else {
        panic!("{text} has no text")
    };
    for (i, (op, _)) in ops.iter().enumerate() {
        assert!(same(&got[i + 1], &want[i + 1]), "{op} of {x:?}\n{:?}\n{:?}", got[i + 1], want[i + 1]);
    }
}

#[test]
fn every_conversion_is_exact() {
    let Some(device) = harness::device() else { return };
    let there = |d: &DType| super::storage::Storage::of(*d, &device.target).is_some();
    let dtypes: Vec<DType> = DType::ALL.into_iter().filter(there).collect();
    for &from in &dtypes {
        let all = match from {
            DType::F16 => vec![0x0001, 0x03ff, 0x0400, 0x3c01, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0xbc00, 0x8000, 0x5bf8],
            DType::BF16 => vec![0x3f80, 0x3f81, 0x4b00, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0xbf80, 0x4f00, 0xcf00],
            DType::F32 => [
                0.0f32,
                1.5,
                -1.5,
                255.5,
                65519.9,
                65520.0,
                65536.5,
                -70000.0,
                1e-7,
                6e-8,
                2.9e-8,
                3.4e38,
                1e10,
                -1e10,
                1e20,
                2_147_483_600.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                1.001_953_1,
                2049.0,
                0.000_060_975_6,
            ]
            .iter()
            .map(|x| u64::from(x.to_bits()))
            .collect(),
            DType::F64 => [
                0.0f64,
                1.5,
                -1.5,
                1.000_488_281_250_000_2,
                1e300,
                -1e300,
                1e10,
                -1e10,
                1e19,
                4_294_967_295.5,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
                9.0e-8,
                65_519.999_999_999,
                300.7,
                1.003_906_250_000_000_2,
            ]
            .iter()
            .map(|x| x.to_bits())
            .collect(),
            _ => {
                let edges =
                    [0, 1, 2, 127, 128, 129, 255, 0x7fff, 0x8000, 0xffff, 0x0100_0001, 0x0100_8001, 0x7fff_ffff];
                let large = [0x8000_0000, 0x8100_0001, 0xffff_ffff, 4_311_744_513, u64::MAX >> 1, 1 << 63, u64::MAX];
                let mask = if from == DType::Bool { 1 } else { u64::MAX >> (64 - 8 * from.size()) };
                edges.into_iter().chain(large).map(|x: u64| x & mask).collect::<Vec<u64>>()
            }
        };
        let converted = dtypes.iter().map(|to| (format!("convert.{to}"), *to));
        let same_size = |to: &&DType| from.size() == to.size() && ![from, **to].contains(&DType::Bool);
        let cast = dtypes.iter().filter(same_size).map(|to| (format!("bitcast.{to}"), *to));
        let ops: Vec<(String, DType)> = converted.chain(cast).collect();
        for some in ops.chunks(device.target.storage_buffers.saturating_sub(1).max(1)) {
            check_ops(device, from, some, &all);
        }
    }
}

#[test]
fn random_kernels_give_what_the_interpreter_gives() {
    let Some(device) = harness::device() else { return };
    let dtypes = DType::ALL.into_iter().filter(|d| !matches!(d, DType::C64 | DType::C128)).collect();
    // An `fma` of f64 rounds twice on some devices, and a function's recipe is as exact as its `fma`.
    let ops = ScalarOp::PLAIN.iter().copied().filter(|op| *op != ScalarOp::Fma).collect();
    let options = Options { dtypes, ops, functions: Vec::new(), statements: 25, ..Options::default() };
    let (mut ran, mut failed) = (0, Vec::new());
    for seed in 0..40 {
        let case = arbitrary::case(seed, &options);
        let kernel = case.kernel.clone();
        if let Some([got, want]) = both(device, case) {
            ran += 1;
            if let Some(i) = (0..got.len()).find(|&i| !same(&got[i], &want[i])) {
                failed.push(seed);
                println!("seed {seed}: {}\n{:?}\n{:?}\n{kernel}", kernel.buffers[i].name, got[i], want[i]);
            }
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} of {ran}");
    assert!(ran >= 20, "{ran} ran");
}

#[test]
fn reductions_by_subgroups_have_the_bits_of_the_kernel() {
    let Some(device) = harness::device() else { return };
    let (rows, n) = (3, 77);
    let all = rows * n;
    for lanes in [2, 4, 32, 64, 256] {
        let text = format!(
            "kernel @k(read x: f32[{all}], write s: f32[{rows}], write m: f32[{rows}], write least: i32[{rows}]) {{
  parallel i in 0..{rows} {{
    reduce({lanes}) j in 0..{n} {{
      %0 = load x[i*{n} + j]
    }} -> %1 = sum(%0)
    reduce({lanes}) j in 0..{n} {{
      %2 = load x[i*{n} + j]
      %3 = convert.i32 %2
    }} -> %4 = max(%2), %5 = min(%3)
    store s[i], %1
    store m[i], %4
    store least[i], %5
  }}
}}"
        );
        let kernel = Kernel::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        if device.target.subgroups.is_some_and(|s| s.least > 1 && device.target.workgroup_size % s.most == 0) {
            let text = super::print(&kernel, &device.target).expect("is in scope");
            assert!(text.contains("subgroupShuffleDown"), "{text}");
        }
        let mut x = BufferData::zeros(DType::F32, all).expect("is a real dtype");
        for i in 0..all {
            // Sums that depend on their order, and in the last row a NaN.
            let number = if i == 200 { f32::NAN } else { ((i * 37) % 71) as f32 / 7.0 };
            assert!(x.set_bits(i, u64::from(number.to_bits())));
        }
        let zeros = |d| BufferData::zeros(d, rows).expect("is a real dtype");
        let buffers = vec![x, zeros(DType::F32), zeros(DType::F32), zeros(DType::I32)];
        let [got, want] = both(device, arbitrary::Case { kernel, sizes: Vec::new(), buffers }).expect("has text");
        for (g, w) in got.iter().zip(&want) {
            assert!(same(g, w), "{lanes} lanes: {g:?}, not {w:?}");
        }
    }
}

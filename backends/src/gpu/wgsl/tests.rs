use lehr_ir::dtype::DType;
use lehr_ir::kernel::arbitrary::{self, Options};
use lehr_ir::kernel::recipes::{Function, TABLE};
use lehr_ir::kernel::{Kernel, ScalarOp};

use super::*;

const ROOMY: WgslTarget = WgslTarget {
    most_invocations: 256,
    cooperative: None,
    vendor: Vendor::Other,
    workgroup_size: 64,
    storage_buffers: 32,
    workgroup_bytes: 32_768,
    f16: false,
    i64: false,
    f64: false,
    subgroups: None,
};

/// The kernels of a file under `tests/kernels`; lines that begin with a semicolon are the file's test.
fn file(name: &str) -> Vec<Kernel> {
    let path = format!("{}/../tests/kernels/{name}.lehr", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let starts: Vec<usize> = text.match_indices("\nkernel ").map(|(i, _)| i + 1).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let kernels = starts.iter().zip(ends).map(|(start, end)| {
        let lines: Vec<&str> = text[*start..end].lines().filter(|l| !l.starts_with(';')).collect();
        Kernel::parse(&lines.join("\n")).unwrap_or_else(|e| panic!("{path}: {e}"))
    });
    kernels.collect()
}

/// Prints a kernel, and has naga parse and validate the module with default capabilities.
fn check(kernel: &Kernel) -> Result<String, WgslError> {
    let text = print(kernel, &ROOMY)?;
    let module =
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}\n{text}\n{kernel}", e.emit_to_string(&text)));
    let flags = naga::valid::ValidationFlags::all();
    let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::default());
    if let Err(e) = validator.validate(&module) {
        panic!("{}\n{text}\n{kernel}", e.emit_to_string(&text));
    }
    Ok(text)
}

fn parse(text: &str) -> Kernel {
    Kernel::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn every_kernel_file_is_valid() {
    let names = ["adam_multi", "attention_causal", "layer_norm_backward", "softmax_row", "tanh_chain"];
    let kernels: Vec<Kernel> = names.iter().flat_map(|name| file(name)).collect();
    assert_eq!(kernels.len(), 6);
    for kernel in &kernels {
        check(kernel).expect("is in scope");
    }
}

#[test]
fn random_kernels_are_valid() {
    let dtypes = vec![DType::F32, DType::I32, DType::U32, DType::Bool, DType::I64];
    // The square root is an operation, which the verifier wants written as one.
    let functions = TABLE.iter().filter(|r| r.function != Function::Sqrt).map(|r| r.function).collect();
    let options = Options { dtypes, functions, ..Options::default() };
    let (mut valid, mut refused) = (0, 0);
    for seed in 0..2000 {
        match check(&arbitrary::case(seed, &options).kernel) {
            Ok(_) => valid += 1,
            Err(WgslError::Unsupported(_)) => refused += 1,
            Err(e) => panic!("seed {seed}: {e}"),
        }
    }
    // Most hold an i64 array or constant, or the remainder of an f32.
    assert!(valid >= 200, "{valid} valid, {refused} refused");
}

#[test]
fn snapshots() {
    for name in ["softmax_row", "tanh_chain"] {
        insta::assert_snapshot!(name, check(&file(name)[0]).expect("is in scope"));
    }
}

#[test]
fn names_of_the_kernel_may_be_keywords() {
    let text = check(&parse(
        "kernel @fn(read var: f32[loop], write main: f32[loop]) sizes(loop) tiles(let: f32[4]) {
  parallel if in 0..loop {
    lane while in 0..4 {
      %0 = load var[if]
      store let[while], %0
    }
    %1 = load let[2]
    store main[if], %1
  }
}",
    ));
    let text = text.expect("is in scope");
    assert!(text.contains("buf_main[at_if] = v1;"), "{text}");
}

#[test]
fn who_stores_makes_readers_wait() {
    let text = check(&parse(
        "kernel @k(read x: f32[n], write y: f32[n], write z: f32[n]) sizes(n) tiles(t: f32[8]) {
  parallel i in 0..n {
    lane j in 0..8 {
      %0 = load x[i]
      store t[j], %0
    }
    %1 = load t[7]
    store y[i], %1
    lane j in 0..1 {
      %2 = load x[i]
      store z[i + j], %2
    }
  }
}",
    ))
    .expect("is in scope");
    let body = text.split_once("fn main").expect("an entry point").1;
    assert_eq!(body.matches("workgroupBarrier();").count(), 1, "{text}");
    assert_eq!(body.matches("storageBarrier();").count(), 0, "{text}");
}

#[test]
fn reductions_end_within_subgroups() {
    let of = |least, most, named| WgslTarget { subgroups: Some(Subgroups { least, most, named }), ..ROOMY };
    let kernel = &file("softmax_row")[0];
    let text = print(kernel, &of(8, 32, false)).expect("is in scope");
    crate::gpu::harness::validate(&text, true);
    insta::assert_snapshot!(text);
    // Browsers want the extension named, which naga does not know; the rest is the same.
    let named = print(kernel, &of(8, 32, true)).expect("is in scope");
    assert_eq!(named.replacen("enable subgroups;\n", "", 1), text);
    assert!(named.contains("\nenable subgroups;\n") && !text.contains("enable"));
    // Where a workgroup may not be made of full subgroups, all is as without.
    let without = print(kernel, &ROOMY).expect("is in scope");
    for target in [of(4, 128, true), of(1, 1, true), of(0, 0, true)] {
        assert_eq!(print(kernel, &target).expect("is in scope"), without);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let message = |body: &str, buffer: &str| {
        let kernel = parse(&format!("kernel @k({buffer}) {{ parallel i in 0..1 {{ {body} }} }}"));
        print(&kernel, &WgslTarget::default()).expect_err("is refused").to_string()
    };
    assert_eq!(message("", "read x: f64[1]"), "the WGSL printer does not support f64 in `x`");
    let far = "%0 = const 3000000000 : i64\n";
    let no_i32 = "the WGSL printer does not support the index value 3000000000, which is no i32";
    assert_eq!(message(far, "read x: f32[1]"), no_i32);
    let many: Vec<String> = (0..9).map(|i| format!("read x{i}: f32[1]")).collect();
    assert_eq!(message("", &many.join(", ")), "the kernel needs 9 storage buffers, the target has 8");
    assert_eq!(print(&parse("kernel @k(read x: f32[1]) { parallel i in 0..1 { lane j in 0..1 { } %0 = load x[0]\n %1 = convert.i64 %0\n } }"), &ROOMY).map(|_| ()), Ok(()));
}

#[test]
fn where_invocations_disagree_each_runs_alone() {
    let text = check(&parse(
        "kernel @k(readwrite x: f32[n]) sizes(n) {
  parallel i in 0..n {
    %0 = load x[i]
    %1 = convert.i64 %0
    if (%1) {
      lane j in 0..1 {
        store x[i + j], %0
      }
    }
  }
}",
    ))
    .expect("is in scope");
    assert!(text.contains("let at_i = params.lo + linear * 64 + lane;"), "{text}");
}

#[test]
fn every_function_is_valid() {
    for recipe in
        TABLE.iter().filter(|r| ScalarOp::Call(r.function).to_string().parse() == Ok(ScalarOp::Call(r.function)))
    {
        let args = if recipe.arity == 2 { "%0, %0" } else { "%0" };
        let text = check(&parse(&format!(
            "kernel @k(readwrite x: f32[n]) sizes(n) {{ parallel i in 0..n {{\n %0 = load x[i]\n %1 = {} {args}\n store x[i], %1\n }} }}",
            recipe.name
        )));
        assert!(text.is_ok(), "{text:?}");
    }
}

#[test]
fn grids() {
    let map =
        parse("kernel @k(write y: u32[n]) sizes(n) { parallel i in 0..n { %0 = const 1 : u32\n store y[i], %0\n } }");
    let target = WgslTarget::default();
    assert_eq!(groups(&map, &target, 0), Some([0, 0]));
    assert_eq!(groups(&map, &target, 65), Some([2, 1]));
    assert_eq!(groups(&map, &target, 64 * 65_536), Some([65_535, 2]));
    assert_eq!(groups(&map, &target, 1 << 31), None);
    assert_eq!(groups(&map, &target, u64::MAX), None);
    let row = &file("softmax_row")[0];
    assert_eq!(groups(row, &target, 65), Some([65, 1]));
}

//! Units of code: ownership, threads, errors, reports.

use std::sync::Arc;

use lehr_ir::kernel::Kernel;
use lehr_ir::kernel::interpret::BufferData;
use lehr_ir::target::Vectors;

use super::launch;
use crate::cpu::code::{CodeUnit, CompileError, Compiler, Options};
use crate::cpu::emit::EmitError;

fn scale(factor: usize) -> Kernel {
    let text = format!(
        "kernel @scale(read x: f32[n], write y: f32[n]) sizes(n) {{\n  parallel i in 0..1 {{\n    %0 = const {factor}.0 : f32\n    lane j in 0..n {{\n      %1 = load x[j]\n      %2 = mul %1, %0\n      store y[j], %2\n    }}\n  }}\n}}\n"
    );
    Kernel::parse(&text).expect("a kernel")
}

fn compiler(threads: usize, texts: bool) -> Compiler {
    let vectors = if texts { Vectors::Portable } else { Vectors::Auto };
    Compiler::new(Options { threads, texts, vectors, ..Options::default() }).expect("a host that Cranelift supports")
}

fn runs(unit: &CodeUnit, i: usize, factor: f64) {
    let mut buffers = [BufferData::F32((0..37).map(|v| v as f32).collect()), BufferData::F32(vec![0.0; 37])];
    launch(unit, i, &[37], &mut buffers, &[(0, 1)]);
    assert_eq!(buffers[1].to_f64s(), (0..37).map(|v| f64::from(v) * factor).collect::<Vec<_>>());
}

#[test]
fn one_unit_holds_many_kernels_in_order_whatever_the_threads() {
    let kernels: Vec<Kernel> = (0..20).map(scale).collect();
    let references: Vec<&Kernel> = kernels.iter().collect();
    let mut codes = Vec::new();
    for threads in [1, 3] {
        let unit = compiler(threads, true).compile(&references).expect("code");
        (0..20).for_each(|i| runs(&unit, i, i as f64));
        assert!(unit.entry(20).is_none());
        codes.push(
            unit.reports().iter().map(|r| (r.clif.clone(), r.disassembly.clone(), r.code_bytes)).collect::<Vec<_>>(),
        );
    }
    assert_eq!(codes[0], codes[1]);
    assert!(codes[0].iter().all(|(clif, text, bytes)| clif.contains("fmul") && !text.is_empty() && *bytes > 0));
}

#[test]
fn code_outlives_its_compiler_and_goes_with_its_last_owner() {
    let unit = compiler(1, false).compile(&[&scale(3)]).expect("code");
    let other = Arc::clone(&unit);
    drop(unit);
    runs(&other, 0, 3.0);
}

#[test]
fn a_failed_installation_is_an_error_and_passes() {
    let compiler = compiler(1, false);
    compiler.fail_installation(true);
    assert!(matches!(compiler.compile(&[&scale(2)]), Err(CompileError::Install(_))));
    compiler.fail_installation(false);
    runs(&compiler.compile(&[&scale(2)]).expect("code"), 0, 2.0);
}

#[test]
fn complex_values_are_refused_by_name() {
    let text = "kernel @c(read x: c64[n], write y: c64[n]) sizes(n) {\n  parallel i in 0..n {\n    %0 = load x[i]\n    store y[i], %0\n  }\n}\n";
    let kernel = Kernel::parse(text).expect("a kernel");
    let error = compiler(1, false).compile(&[&scale(1), &kernel]).err();
    assert!(matches!(error, Some(CompileError::Kernel { error: EmitError::Unsupported { .. }, .. })), "{error:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_maps_do_not_grow_over_many_units() {
    let maps = || std::fs::read_to_string("/proc/self/maps").expect("maps").lines().filter(|l| l.contains('x')).count();
    let compiler = compiler(1, false);
    let kernel = scale(5);
    drop(compiler.compile(&[&kernel]).expect("code"));
    let before = maps();
    for _ in 0..200 {
        runs(&compiler.compile(&[&kernel]).expect("code"), 0, 5.0);
    }
    // Other tests of this process hold a few units at any time.
    assert!(maps() < before + 100, "{before} maps became {}", maps());
}

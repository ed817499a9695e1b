//! Random kernels.

use lehr_ir::dtype::DType;
use lehr_ir::kernel::arbitrary::{Options, case};
use lehr_ir::kernel::recipes::{Function, TABLE};

use super::{check_with, compilers};

fn run(seeds: std::ops::Range<u64>, options: &Options) {
    let compilers = compilers(false);
    for seed in seeds {
        let case = case(seed, options);
        check_with(&compilers, &case.kernel, &case.sizes, &case.buffers);
    }
}

#[test]
fn common_dtypes() {
    run(0..400, &Options::default());
}

#[test]
fn single_precision_with_every_function() {
    // The square root is an operation, which the verifier wants written as one.
    let functions: Vec<Function> = TABLE.iter().map(|r| r.function).filter(|f| *f != Function::Sqrt).collect();
    run(1000..1150, &Options { dtypes: vec![DType::F32, DType::Bool], functions, ..Options::default() });
}

#[test]
fn narrow_integers_and_half_precision() {
    let dtypes =
        vec![DType::I8, DType::I16, DType::U8, DType::U16, DType::U64, DType::F16, DType::BF16, DType::F32, DType::F64];
    run(2000..2200, &Options { dtypes, ..Options::default() });
}

//! Kernels on whatever adapter there is, against the interpreter.

use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::arbitrary::{self, Options};
use lehr_ir::kernel::interpret::{BufferData, Functions, Program};
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
    a.len() == b.len()
        && (0..a.len()).all(|i| a.bits(i) == b.bits(i) || (is_nan(x[i]) && is_nan(y[i])))
}

#[test]
fn random_kernels_give_what_the_interpreter_gives() {
    let Some(device) = harness::device() else { return };
    let dtypes = DType::ALL.into_iter().filter(|d| !matches!(d, DType::C64 | DType::C128)).collect();
    let options = Options { dtypes, functions: Vec::new(), ..Options::default() };
    let (mut ran, mut failed) = (0, Vec::new());
    for seed in 0..200 {
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
    assert!(ran >= 100, "{ran} ran");
}

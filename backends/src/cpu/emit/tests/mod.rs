//! Compiled kernels against the interpreter, bit for bit.
#![expect(unsafe_code, reason = "calling compiled code")]

use std::sync::Arc;

use lehr_ir::kernel::Kernel;
use lehr_ir::kernel::interpret::{BufferData, Functions, Program};
use lehr_ir::target::Vectors;

use super::{KernelContext, SCRATCH_ALIGN};
use crate::cpu::code::{CodeUnit, CompileError, Compiler, Options};
use crate::cpu::table::FunctionTable;

mod random;
mod shapes;
mod units;

/// Bytes before and after each buffer that no kernel may change.
const MARGIN: usize = 64;
const CANARY: u8 = 0xa5;

/// The ways in which a kernel is compiled that the machine has: vectors, and the host's own instructions.
fn compilers(texts: bool) -> Vec<Compiler> {
    let narrow = [(Vectors::Portable, true), (Vectors::Scalar, true), (Vectors::Portable, false)];
    let ways = [narrow.as_slice(), &[(Vectors::Avx2, true), (Vectors::Avx512, true)]].concat();
    ways.into_iter()
        .filter_map(|(vectors, native)| Compiler::new(Options { vectors, native, threads: 1, texts }).ok())
        .collect()
}

/// A kernel's buffer in raw bytes with margins, misaligned by one element.
struct Raw {
    bytes: Vec<u64>,
    start: usize,
    len: usize,
    size: usize,
}

impl Raw {
    fn new(data: &BufferData) -> Self {
        let size = data.dtype().size();
        let len = data.len() * size;
        let start = MARGIN + size;
        let mut raw =
            Self { bytes: vec![u64::from_ne_bytes([CANARY; 8]); (start + len + MARGIN).div_ceil(8)], start, len, size };
        for i in 0..data.len() {
            let bits = data.bits(i).unwrap_or_default().to_le_bytes();
            raw.view()[start + i * size..start + (i + 1) * size].copy_from_slice(&bits[..size]);
        }
        raw
    }

    fn view(&mut self) -> &mut [u8] {
        let len = self.bytes.len() * 8;
        // SAFETY: any bytes are valid `u8`s, and the slice covers the vector's elements.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().cast::<u8>(), len) }
    }

    fn read(&mut self, into: &mut BufferData) {
        let (start, len, size) = (self.start, self.len, self.size);
        let view = self.view();
        let margins = view[..start].iter().chain(&view[start + len..]);
        assert!(margins.copied().all(|b| b == CANARY), "the kernel wrote outside a buffer");
        for i in 0..len / size {
            let mut bits = [0; 8];
            bits[..size].copy_from_slice(&view[start + i * size..start + (i + 1) * size]);
            assert!(into.set_bits(i, u64::from_le_bytes(bits)));
        }
    }
}

/// Runs one kernel of a unit over these ranges of its outermost loop.
pub(in crate::cpu) fn launch(
    unit: &CodeUnit,
    i: usize,
    sizes: &[i64],
    buffers: &mut [BufferData],
    ranges: &[(i64, i64)],
) {
    let mut raw: Vec<Raw> = buffers.iter().map(Raw::new).collect();
    let pointers: Vec<*mut u8> = raw
        .iter_mut()
        .map(|r| {
            let start = r.start;
            r.view()[start..].as_mut_ptr()
        })
        .collect();
    let scratch_bytes = unit.reports()[i].scratch_bytes;
    let mut scratch = vec![CANARY; scratch_bytes + 2 * SCRATCH_ALIGN];
    let aligned = scratch.as_ptr().align_offset(SCRATCH_ALIGN);
    let context = KernelContext {
        buffers: pointers.as_ptr(),
        sizes: sizes.as_ptr(),
        functions: FunctionTable::HOST,
        scratch: scratch[aligned..].as_mut_ptr(),
    };
    let code = unit.entry(i).expect("a kernel of the unit");
    for (lo, hi) in ranges {
        // SAFETY: the context has what the kernel declares, with lengths that the interpreter checks too, and the interpreter
        // runs the same indices without leaving a buffer.
        unsafe { code.call(&context, *lo, *hi) };
    }
    assert!(scratch[aligned + scratch_bytes..].iter().all(|b| *b == CANARY), "the kernel wrote beyond its scratch");
    for (raw, data) in raw.iter_mut().zip(buffers) {
        raw.read(data);
    }
}

/// Compiles a kernel in every way and compares whole and partitioned runs with the interpreter.
fn check(kernel: &Kernel, sizes: &[i64], buffers: &[BufferData]) {
    check_with(&compilers(false), kernel, sizes, buffers);
}

/// The same with the code of these compilers; the interpreter runs once for all of them.
pub(in crate::cpu) fn check_with<'c>(
    compilers: impl IntoIterator<Item = &'c Compiler>,
    kernel: &Kernel,
    sizes: &[i64],
    buffers: &[BufferData],
) {
    let program = Program::new(kernel, sizes, Functions::Recipe).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let mut want = buffers.to_vec();
    program.run(&mut want).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    for compiler in compilers {
        compare(compiler, kernel, sizes, buffers, &want, program.extent());
    }
}

fn compare(compiler: &Compiler, kernel: &Kernel, sizes: &[i64], buffers: &[BufferData], want: &[BufferData], n: i64) {
    let unit = compile(compiler, kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let (a, b) = (n / 3, n / 3 + n / 4);
    for ranges in [vec![(0, n)], vec![(b, n), (0, a), (a, a), (a, b)]] {
        let mut got = buffers.to_vec();
        launch(&unit, 0, sizes, &mut got, &ranges);
        for ((want, got), buffer) in want.iter().zip(&got).zip(&kernel.buffers) {
            if !want.same_bits(got) {
                let at = (0..want.len()).find(|i| want.bits(*i) != got.bits(*i)).unwrap_or_default();
                panic!(
                    "{:?}, sizes {sizes:?}, ranges {ranges:?}: {}[{at}] is {:x?}, should be {:x?}\n{kernel}",
                    compiler.target(),
                    buffer.name,
                    got.bits(at),
                    want.bits(at),
                );
            }
        }
    }
}

fn compile(compiler: &Compiler, kernel: &Kernel) -> Result<Arc<CodeUnit>, CompileError> {
    compiler.compile(&[kernel])
}

//! Installing, calling and freeing wide code.
//!
//! The code lies in executable memory beside Cranelift's, in a module of its own that its last owner frees.
//! This is the one file of the wide emitter with `unsafe`.
#![expect(unsafe_code, reason = "calling and freeing compiled code")]

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};
use lehr_ir::kernel::Kernel;

use super::{WideError, WideOptions, Width, assemble};
use crate::cpu::code::RawKernel;
use crate::cpu::emit::KernelContext;
use crate::cpu::isa;

/// Compiles verified kernels into one unit of wide code.
///
/// # Errors
/// [`WideError`]: the machine has no such vectors, a kernel has something without wide code, or the code could not be installed.
pub fn compile(kernels: &[&Kernel], options: WideOptions) -> Result<Arc<WideUnit>, WideError> {
    let width = options.width.or_else(Width::detect).filter(|w| w.is_here()).ok_or(WideError::Host(options.width))?;
    let codes = kernels.iter().map(|k| assemble(k, width)).collect::<Result<Vec<_>, _>>()?;
    install(&codes, width).map(Arc::new)
}

/// Installed wide code of several kernels, freed with its last owner.
pub struct WideUnit {
    // `None` only while it is being dropped.
    module: Mutex<Option<JITModule>>,
    entries: Vec<RawKernel>,
    sizes: Vec<usize>,
    width: Width,
}

impl WideUnit {
    /// The code of kernel `i` in the order they were given; `None` beyond.
    pub fn entry(&self, i: usize) -> Option<WideFn<'_>> {
        self.entries.get(i).map(|code| WideFn { code: *code, unit: PhantomData })
    }

    /// Bytes of machine code of each kernel, in order.
    pub fn code_bytes(&self) -> &[usize] {
        &self.sizes
    }

    /// The vectors that the code uses.
    pub fn width(&self) -> Width {
        self.width
    }
}

impl Drop for WideUnit {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(module) = module {
            // SAFETY: every `WideFn` borrows the unit, so none exists any more and none of its code is running.
            unsafe { module.free_memory() };
        }
    }
}

/// The wide code of one kernel, which cannot outlive its unit.
#[derive(Clone, Copy)]
pub struct WideFn<'u> {
    code: RawKernel,
    unit: PhantomData<&'u WideUnit>,
}

impl WideFn<'_> {
    /// Runs iterations `lo..hi` of the outermost loop.
    ///
    /// # Safety
    /// As for [`KernelFn::call`](crate::cpu::code::KernelFn::call): pointers, sizes and scratch fit the kernel, what is stored to
    /// overlaps nothing, bools are 0 or 1, and no index leaves its buffer. The function table may be null.
    pub unsafe fn call(&self, context: &KernelContext, lo: i64, hi: i64) {
        // SAFETY: the caller promises what the code relies on; the unit is alive, so the code is; and the processor has the
        // instructions, because `compile` asked it.
        unsafe { (self.code)(context, lo, hi) }
    }
}

fn install(codes: &[Vec<u8>], width: Width) -> Result<WideUnit, WideError> {
    let fail = |e: cranelift_module::ModuleError| WideError::Install(e.to_string());
    let isa = isa::host(true).map_err(|e| WideError::Install(e.to_string()))?;
    let signature = crate::cpu::emit::signature(isa.default_call_conv());
    let mut unit = WideUnit {
        module: Mutex::new(Some(JITModule::new(JITBuilder::with_isa(isa, default_libcall_names())))),
        entries: Vec::new(),
        sizes: codes.iter().map(Vec::len).collect(),
        width,
    };
    if let Some(module) = unit.module.get_mut().unwrap_or_else(PoisonError::into_inner) {
        let mut ids = Vec::new();
        for code in codes {
            let id = module.declare_anonymous_function(&signature).map_err(fail)?;
            module.define_function_bytes(id, 64, code, &[]).map_err(fail)?;
            ids.push(id);
        }
        module.finalize_definitions().map_err(fail)?;
        for id in ids {
            let address = module.get_finalized_function(id);
            // SAFETY: the address is the start of a function that was assembled with this signature, and it stays valid as long as
            // the module is not freed, which is when the unit drops.
            unit.entries.push(unsafe { std::mem::transmute::<*const u8, RawKernel>(address) });
        }
    }
    Ok(unit)
}

/// Runs a kernel of a unit over ranges of its outermost loop, on copies of host arrays that margins surround.
#[cfg(test)]
pub(super) fn launch(
    unit: &WideUnit,
    i: usize,
    kernel: &Kernel,
    sizes: &[i64],
    buffers: &mut [lehr_ir::kernel::interpret::BufferData],
    ranges: &[(i64, i64)],
) {
    use crate::cpu::emit::{SCRATCH_ALIGN, scratch_bytes};

    const MARGIN: usize = 64;
    const CANARY: u8 = 0xa5;
    let mut raw: Vec<Vec<u8>> = Vec::new();
    for data in buffers.iter() {
        let size = data.dtype().size();
        let mut bytes = vec![CANARY; MARGIN];
        for i in 0..data.len() {
            bytes.extend(&data.bits(i).unwrap_or_default().to_le_bytes()[..size]);
        }
        bytes.extend([CANARY; MARGIN]);
        raw.push(bytes);
    }
    let pointers: Vec<*mut u8> = raw.iter_mut().map(|b| b[MARGIN..].as_mut_ptr()).collect();
    let bytes = scratch_bytes(kernel);
    let mut scratch = vec![CANARY; bytes + 2 * SCRATCH_ALIGN];
    let aligned = scratch.as_ptr().align_offset(SCRATCH_ALIGN);
    let context = KernelContext {
        buffers: pointers.as_ptr(),
        sizes: sizes.as_ptr(),
        functions: std::ptr::null(),
        scratch: scratch[aligned..].as_mut_ptr(),
    };
    let code = unit.entry(i).expect("a kernel of the unit");
    for (lo, hi) in ranges {
        // SAFETY: the context has what the kernel declares, with lengths that the interpreter checks too, and the interpreter
        // runs the same indices without leaving a buffer.
        unsafe { code.call(&context, *lo, *hi) };
    }
    assert!(scratch[aligned + bytes..].iter().all(|b| *b == CANARY), "the kernel wrote beyond its scratch");
    for (bytes, data) in raw.iter().zip(buffers) {
        let size = data.dtype().size();
        let (start, end) = (MARGIN, bytes.len() - MARGIN);
        assert!(
            bytes[..start].iter().chain(&bytes[end..]).all(|b| *b == CANARY),
            "the kernel wrote outside of a buffer"
        );
        for (i, element) in bytes[start..end].chunks(size).enumerate() {
            let mut bits = [0; 8];
            bits[..size].copy_from_slice(element);
            assert!(data.set_bits(i, u64::from_le_bytes(bits)));
        }
    }
}

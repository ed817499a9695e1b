//! Compiled kernels: from a list of them to callable code, owned by whoever shares the unit.
//!
//! Each kernel is made by one of two emitters: the wide one ([`wide`]) where the machine has its vectors and the kernel gains by
//! them, else Cranelift ([`emit`]). The choice is by kernel and is made before any code is, so that none is compiled twice.
//! Both kinds lie side by side in the same executable memory.
//!
//! Kernels are compiled on several threads and installed together. A [`CodeUnit`] owns its executable memory and gives it back when
//! its last owner drops it; Cranelift's module alone would leak it.
//! This is the one file of the code generator with `unsafe`: it calls code and frees it.
#![expect(unsafe_code, reason = "calling and freeing compiled code")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};
use lehr_ir::kernel::Kernel;
use lehr_ir::target::Vectors;

use super::cache::{Cache, Identity, Key, Machine as MachineCode};
use super::emit::{self, EmitError, KernelContext, Machine, signature};
use super::isa::{self, TargetFacts};
use super::pool::Pool;
use super::wide::{self, WideError, Width};

/// Makes code. One serves a whole process; it is shared by reference.
pub struct Compiler {
    isa: Arc<dyn TargetIsa>,
    machine: Machine,
    /// The wide emitter's vectors, if it is used.
    width: Option<Width>,
    options: Options,
    /// What all its code depends on, for keys of kept code.
    identity: OnceLock<Identity>,
    fail_install: AtomicBool,
}

/// How a [`Compiler`] works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The vectors of the code.
    pub vectors: Vectors,
    /// All that the host's processor has, not only what its architecture guarantees.
    pub native: bool,
    /// The most threads that one compilation uses, at least 1.
    pub threads: usize,
    /// Keep the texts of [`Report`].
    pub texts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vectors: Vectors::Auto,
            native: true,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            texts: false,
        }
    }
}

/// What one compilation may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct With<'a> {
    /// Where code is taken from and kept.
    pub cache: Option<&'a Cache>,
    /// The threads that compile, instead of [`Options::threads`] started for it.
    pub pool: Option<&'a Pool>,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Cranelift does not support the host.
    #[error("this machine is not supported: {0}")]
    Host(String),
    /// A kernel has no code.
    #[error("kernel @{kernel}: {error}")]
    Kernel {
        /// The kernel's name.
        kernel: String,
        /// Why.
        error: EmitError,
    },
    /// The code could not be made executable.
    #[error("compiled code could not be installed: {0}")]
    Install(String),
}

/// What compiling a kernel took and gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kernel's name.
    pub name: String,
    /// What made its code.
    pub emitter: Emitter,
    /// Cranelift's IR as emitted; empty unless [`Options::texts`], and for wide code.
    pub clif: String,
    /// The same after Cranelift's optimisations; empty as [`Report::clif`] is.
    pub optimized: String,
    /// The machine code as text; empty unless [`Options::texts`].
    pub disassembly: String,
    /// Bytes of machine code with its constants.
    pub code_bytes: usize,
    /// Bytes of scratch that a launch hands over; see [`emit::scratch_bytes`].
    pub scratch_bytes: usize,
    /// Time of emission and compilation on its thread.
    pub time: Duration,
}

/// What made a kernel's code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Emitter {
    /// The wide emitter, with these vectors.
    Wide(Width),
    /// Cranelift, with why not the wide emitter where that was in use.
    Cranelift(Option<WideError>),
    /// One of the two, in an earlier compilation whose code a [`Cache`] kept.
    Cache,
}

impl std::fmt::Display for Emitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wide(width) => f.write_str(width.name()),
            Self::Cranelift(None) => f.write_str("Cranelift"),
            Self::Cranelift(Some(why)) => write!(f, "Cranelift: {why}"),
            Self::Cache => f.write_str("the cache"),
        }
    }
}

impl Compiler {
    /// A compiler for the host.
    ///
    /// # Errors
    /// [`CompileError::Host`] where Cranelift does not support it, or where it lacks the vectors that the options ask for.
    pub fn new(options: Options) -> Result<Self, CompileError> {
        let isa = isa::host(options.native)?;
        let machine = isa::machine(isa.as_ref());
        let forced = |width: Width| {
            let lacking = || CompileError::Host(WideError::Host(width).to_string());
            if options.native && width.is_here() { Ok(Some(width)) } else { Err(lacking()) }
        };
        let width = match options.vectors {
            Vectors::Auto if options.native => Width::detect(),
            Vectors::Avx512 => forced(Width::Avx512)?,
            Vectors::Avx2 => forced(Width::Avx2)?,
            _ => None,
        };
        Ok(Self { isa, machine, width, options, identity: OnceLock::new(), fail_install: AtomicBool::new(false) })
    }

    /// What passes may know of the machine, as this compiler uses it.
    pub fn target(&self) -> TargetFacts {
        let portable = if self.machine.vectors && self.options.vectors != Vectors::Scalar { 16 } else { 0 };
        TargetFacts { vector_bytes: self.width.map_or(portable, Width::bytes), fma: self.machine.fma }
    }

    /// What makes a verified kernel's code, and why not the wide emitter.
    pub fn emitter(&self, kernel: &Kernel) -> Emitter {
        match self.wide(kernel) {
            Ok((width, _)) => Emitter::Wide(width),
            Err(why) => Emitter::Cranelift(why),
        }
    }

    /// Compiles verified kernels into one unit. The caller removes duplicates, by [`Kernel::canonical_text`].
    ///
    /// # Errors
    /// [`CompileError`]: the first kernel in order that has no code, or why the code could not be installed.
    pub fn compile(&self, kernels: &[&Kernel]) -> Result<Arc<CodeUnit>, CompileError> {
        self.compile_with(kernels, With::default())
    }

    /// As [`Compiler::compile`], with code from a cache as far as it has any. What it has not is compiled and then kept there.
    ///
    /// # Errors
    /// As [`Compiler::compile`]; a cache that does not work is no error.
    pub fn compile_with(&self, kernels: &[&Kernel], with: With<'_>) -> Result<Arc<CodeUnit>, CompileError> {
        // Texts are made with the code, so that kept code is of no use where they are asked for.
        let cached = with.cache.filter(|_| !self.options.texts && !kernels.is_empty());
        let compiled = match cached {
            Some(cache) => self.compile_cached(kernels, cache, with.pool)?,
            None => self.compile_all(kernels, with.pool).into_iter().collect::<Result<Vec<_>, _>>()?,
        };
        self.install(compiled).map(Arc::new)
    }

    fn compile_cached(
        &self,
        kernels: &[&Kernel],
        cache: &Cache,
        pool: Option<&Pool>,
    ) -> Result<Vec<Compiled>, CompileError> {
        let start = Instant::now();
        let identity = self.identity.get_or_init(|| Identity::of(self.isa.as_ref(), self.width, &self.options));
        let keys: Vec<Key> = kernels.iter().map(|k| identity.kernel(k)).collect();
        let unit = identity.unit(&keys);
        let mut found = cache.find(&unit, &keys);
        let looked_up = start.elapsed();
        let missing: Vec<&Kernel> =
            kernels.iter().zip(&found.code).filter(|(_, code)| code.is_none()).map(|(k, _)| *k).collect();
        let mut made = self.compile_all(&missing, pool).into_iter();
        let mut compiled = Vec::with_capacity(kernels.len());
        for (kernel, code) in kernels.iter().zip(&mut found.code) {
            match code.as_mut() {
                // The time of looking up is that of all; it is told once.
                Some(code) => {
                    let time = if compiled.is_empty() { looked_up } else { Duration::ZERO };
                    compiled.push(Compiled::cached(kernel, std::mem::take(code), time));
                }
                None => compiled.extend(made.next().transpose()?),
            }
        }
        if !found.whole {
            let kept: Vec<(Key, &MachineCode)> = keys.iter().copied().zip(compiled.iter().map(|c| &c.code)).collect();
            cache.keep(&unit, &kept, &found);
        }
        Ok(compiled)
    }

    /// Makes the next installations fail, for tests of what callers do then.
    #[doc(hidden)]
    pub fn fail_installation(&self, fail: bool) {
        self.fail_install.store(fail, Ordering::Relaxed);
    }

    /// Compiles kernels on the threads of a pool, or of one made for it. The code does not depend on which thread makes it.
    fn compile_all(&self, kernels: &[&Kernel], pool: Option<&Pool>) -> Vec<Result<Compiled, CompileError>> {
        let own;
        let pool = match pool {
            Some(pool) => pool,
            None => {
                own = Pool::new(self.options.threads.min(kernels.len()));
                &own
            }
        };
        let workers: Vec<Mutex<Worker>> = (0..pool.threads()).map(|_| Mutex::default()).collect();
        let done: Vec<OnceLock<Result<Compiled, CompileError>>> = kernels.iter().map(|_| OnceLock::new()).collect();
        pool.for_each(kernels.len(), 1, &|worker, range| {
            // A worker has one call at a time, so that nobody waits.
            let mut worker = workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
            for i in range {
                let _ = done[i].set(self.compile_one(kernels[i], &mut worker));
            }
        });
        // Every index was in one range; if not, that is an error like another.
        let missing = || Err(CompileError::Install("a kernel was not compiled".to_owned()));
        done.into_iter().map(|r| r.into_inner().unwrap_or_else(missing)).collect()
    }

    /// The wide code of a kernel, or why there is none.
    fn wide(&self, kernel: &Kernel) -> Result<(Width, wide::Code), Option<WideError>> {
        let width = self.width.ok_or(None)?;
        let only_if_it_pays = self.options.vectors == Vectors::Auto;
        let options = wide::WideOptions { width, only_if_it_pays, listing: self.options.texts };
        Ok((width, wide::assemble(kernel, &options)?))
    }

    fn compile_one(&self, kernel: &Kernel, worker: &mut Worker) -> Result<Compiled, CompileError> {
        let start = Instant::now();
        let emitter = match self.wide(kernel) {
            Ok((width, code)) => {
                let report = Report {
                    name: kernel.name.clone(),
                    emitter: Emitter::Wide(width),
                    clif: String::new(),
                    optimized: String::new(),
                    disassembly: code.listing,
                    code_bytes: code.bytes.len(),
                    scratch_bytes: emit::scratch_bytes(kernel),
                    time: start.elapsed(),
                };
                return Ok(Compiled { code: MachineCode { alignment: wide::ALIGNMENT, bytes: code.bytes }, report });
            }
            Err(why) => Emitter::Cranelift(why),
        };
        let fail = |error| CompileError::Kernel { kernel: kernel.name.clone(), error };
        let config = self.isa.frontend_config();
        worker.context.clear();
        worker.context.func =
            emit::emit(kernel, self.machine, self.options.vectors != Vectors::Scalar, config, &mut worker.builder)
                .map_err(fail)?;
        worker.context.set_disasm(self.options.texts);
        let clif = if self.options.texts { worker.context.func.display().to_string() } else { String::new() };
        let code = worker
            .context
            .compile(self.isa.as_ref(), &mut ControlPlane::default())
            .map_err(|e| fail(EmitError::Cranelift(format!("{:?}", e.inner))))?;
        // All that code refers to comes through its context, so that its bytes mean the same anywhere.
        if !code.buffer.relocs().is_empty() {
            return Err(fail(EmitError::Cranelift("the code refers to a symbol".to_owned())));
        }
        let bytes = code.code_buffer().to_vec();
        let (vcode, alignment) = (code.vcode.clone(), code.buffer.alignment);
        let optimized = if self.options.texts { worker.context.func.display().to_string() } else { String::new() };
        let report = Report {
            name: kernel.name.clone(),
            emitter,
            clif,
            optimized,
            disassembly: vcode.unwrap_or_default(),
            code_bytes: bytes.len(),
            scratch_bytes: emit::scratch_bytes(kernel),
            time: start.elapsed(),
        };
        Ok(Compiled { code: MachineCode { alignment, bytes }, report })
    }

    fn install(&self, compiled: Vec<Compiled>) -> Result<CodeUnit, CompileError> {
        if self.fail_install.load(Ordering::Relaxed) {
            return Err(CompileError::Install("a test asked for it".to_owned()));
        }
        let fail = |e: cranelift_module::ModuleError| CompileError::Install(e.to_string());
        let mut unit = CodeUnit {
            module: Mutex::new(Some(JITModule::new(JITBuilder::with_isa(
                Arc::clone(&self.isa),
                default_libcall_names(),
            )))),
            entries: Vec::new(),
            reports: Vec::new(),
        };
        let signature = signature(self.isa.default_call_conv());
        let mut guard = unit.module.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = guard.as_mut() {
            let mut ids = Vec::new();
            for c in &compiled {
                let id = module.declare_anonymous_function(&signature).map_err(fail)?;
                module.define_function_bytes(id, u64::from(c.code.alignment), &c.code.bytes, &[]).map_err(fail)?;
                ids.push(id);
            }
            module.finalize_definitions().map_err(fail)?;
            for id in ids {
                let address = module.get_finalized_function(id);
                // SAFETY: the address is the start of a function that was emitted with this signature, and it stays valid as long as
                // the module is not freed, which is when the unit drops.
                unit.entries.push(unsafe { std::mem::transmute::<*const u8, RawKernel>(address) });
            }
        }
        drop(guard);
        unit.reports = compiled.into_iter().map(|c| c.report).collect();
        Ok(unit)
    }
}

/// The type of a kernel's machine code.
pub type RawKernel = unsafe extern "C" fn(*const KernelContext, i64, i64);

/// Installed code of several kernels, freed with its last owner.
pub struct CodeUnit {
    // `None` only while it is being dropped.
    module: Mutex<Option<JITModule>>,
    entries: Vec<RawKernel>,
    reports: Vec<Report>,
}

impl CodeUnit {
    /// The code of kernel `i` in the order they were given; `None` beyond.
    pub fn entry(&self, i: usize) -> Option<KernelFn<'_>> {
        self.entries.get(i).map(|code| KernelFn { code: *code, unit: PhantomData })
    }

    /// One report a kernel, in order.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }
}

impl std::fmt::Debug for CodeUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeUnit").field("reports", &self.reports).finish_non_exhaustive()
    }
}

impl Drop for CodeUnit {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(module) = module {
            // SAFETY: every `KernelFn` borrows the unit, so none exists any more and none of its code is running.
            unsafe { module.free_memory() };
        }
    }
}

/// The code of one kernel, which cannot outlive its unit.
#[derive(Clone, Copy)]
pub struct KernelFn<'u> {
    code: RawKernel,
    unit: PhantomData<&'u CodeUnit>,
}

impl KernelFn<'_> {
    /// Runs iterations `lo..hi` of the outermost loop.
    ///
    /// # Safety
    /// - `context` has a pointer for each buffer and a value for each size of the kernel that this code was made from.
    /// - Each buffer is valid for its length at these sizes, for writes too if the kernel stores to it, and holds bools as 0 or 1.
    /// - Buffers that the kernel stores to overlap no other buffer, and no other thread touches the elements that these iterations do.
    /// - Scratch has the bytes of [`Report::scratch_bytes`] at alignment [`emit::SCRATCH_ALIGN`], and is this call's alone.
    /// - `lo..hi` lies within the outermost loop's range, and no index that the iterations take leaves its buffer.
    pub unsafe fn call(&self, context: &KernelContext, lo: i64, hi: i64) {
        // SAFETY: the caller promises what the code relies on; the unit is alive, so the code is.
        unsafe { (self.code)(context, lo, hi) }
    }
}

/// What a thread reuses from kernel to kernel.
struct Worker {
    context: Context,
    builder: FunctionBuilderContext,
}

impl Default for Worker {
    fn default() -> Self {
        Self { context: Context::new(), builder: FunctionBuilderContext::new() }
    }
}

struct Compiled {
    code: MachineCode,
    report: Report,
}

impl Compiled {
    fn cached(kernel: &Kernel, code: MachineCode, time: Duration) -> Self {
        let report = Report {
            name: kernel.name.clone(),
            emitter: Emitter::Cache,
            clif: String::new(),
            optimized: String::new(),
            disassembly: String::new(),
            code_bytes: code.bytes.len(),
            scratch_bytes: emit::scratch_bytes(kernel),
            time,
        };
        Self { code, report }
    }
}

//! Runs the steps of a program: the one place that hands raw buffers to generated code.
//!
//! # Safety argument
//! - Every argument has been checked against its parameter's dtype and shape, every result has been made in the right dtype and
//!   shape, and the arena and scratch have the bytes that the plan asks for; so each buffer is valid for its length.
//! - Parameters and constants are only read: the verified plan has no step that writes one. Results are unshared, and the arena
//!   belongs to the instance, which is borrowed exclusively. A parameter lies where a result is to be only if the plan says that it
//!   may: then each element is stored after every load of it, and no later step reads the parameter.
//! - Kernels index within their buffers: they were made from a verified graph whose shapes were bound to these sizes.
//! - Iterations of a parallel loop write disjoint elements, so threads may run any partition of them.
#![expect(unsafe_code, reason = "raw buffers for generated code")]

use std::ops::Range;

use lehr_ir::array::Data;
use lehr_ir::bindings::Bindings;
use lehr_ir::eval::evaluate_op;
use lehr_ir::plan::Epilogue;
use lehr_ir::{Array, DType};

use super::code::KernelFn;
use super::contract::{self, Contraction, PackedB, View, ViewMut, Workspace};
use super::emit::KernelContext;
use super::memory::Aligned;
use super::pool::Pool;
use super::prepack::Weights;
use super::program::{Bound, Command, EpilogueCall, Factor, HostCall, Product, Program, RunError, Sequence, Source};
use super::table::FunctionTable;

pub(super) mod attend;
pub(super) mod control;

/// Work of one range handed to a thread, about: scalar operations. Below it, waking another thread costs more than it gives.
pub(super) const GRAIN: usize = 60_000;

/// Bytes between the scratch of one worker and of the next: processors fetch ahead within a page, so no page has scratch of two, or
/// one would have its lines taken away by the other all the time.
pub(super) fn scratch_of_a_worker(program: &Program) -> usize {
    const PAGE: usize = 4096;
    match program.scratch.next_multiple_of(64) {
        0 => 0,
        bytes => bytes + PAGE,
    }
}

/// A pointer that several threads use for disjoint elements.
#[derive(Clone, Copy)]
struct Shared<T>(T);

// SAFETY: see the module's safety argument: threads write disjoint elements, and the buffers outlive the call.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// The pointer; a method, so that a closure captures the whole wrapper.
    fn get(self) -> T {
        self.0
    }
}

/// Bytes that may be read behind every buffer: code may look at the first elements of one that has none, before a loop that
/// then runs no iteration.
pub(super) const SLACK: usize = 4096;

/// What is read where an array has no elements.
#[repr(align(64))]
struct Nothing([u8; SLACK]);

static NOTHING: Nothing = Nothing([0; SLACK]);

/// Where an array that is only read starts.
fn readable(a: &Array) -> *mut u8 {
    let start = if a.is_empty() { NOTHING.0.as_ptr() } else { a.data().as_ptr() };
    start.cast_mut()
}

/// The memory of one call, borrowed for its length.
pub(super) struct Memory<'a> {
    pub(super) arena: &'a mut Aligned,
    pub(super) scratch: &'a mut Aligned,
    pub(super) workspace: &'a mut Workspace,
    pub(super) weights: &'a mut Weights,
    pub(super) args: &'a [Array],
    pub(super) outputs: &'a mut [Array],
    pub(super) updates: &'a mut [Array],
    /// Which parameters lie where results are to be.
    pub(super) overwritten: &'a [(usize, usize)],
    /// Where arguments and results start: filled in by each call, kept for its storage.
    pub(super) params: &'a mut Pointers,
    pub(super) results: &'a mut Pointers,
}

/// Pointers of one call, kept between calls for their storage alone.
#[derive(Debug, Default)]
pub(super) struct Pointers(pub(super) Vec<*mut u8>);

// SAFETY: each run writes the pointers it uses before it reads them.
unsafe impl Send for Pointers {}

/// Runs all steps.
pub(super) fn run(program: &Program, bound: &mut Bound, memory: Memory<'_>, pool: &Pool) -> Result<(), RunError> {
    let Memory { arena, scratch, workspace, weights, args, outputs, updates, overwritten, params, results } = memory;
    debug_assert!(arena.len() >= bound.arena);
    params.0.clear();
    params.0.extend(args.iter().map(readable));
    results.0.clear();
    // The places have been filled with unshared arrays, so this copies nothing. Where there is no element, none is written.
    let writable = |place: &mut Array| if place.is_empty() { readable(place) } else { place.make_mut().as_mut_ptr() };
    results.0.extend(outputs.iter_mut().chain(updates).map(writable));
    for &(param, result) in overwritten {
        params.0[param] = results.0[result];
    }
    let mut cx = Cx {
        program,
        bindings: &bound.bindings,
        pool,
        per_worker: scratch_of_a_worker(program),
        scratch: Shared(scratch.as_mut_ptr()),
        workspace,
        weights,
        args,
    };
    let frame = Frame { params: &params.0, results: &results.0, arena: arena.as_mut_ptr() };
    cx.sequence(&mut bound.sequence, frame)
}

/// What all sequences of a call share.
struct Cx<'a> {
    program: &'a Program,
    bindings: &'a Bindings,
    pool: &'a Pool,
    scratch: Shared<*mut u8>,
    /// Bytes of scratch that each worker has of its own.
    per_worker: usize,
    workspace: &'a mut Workspace,
    weights: &'a mut Weights,
    args: &'a [Array],
}

/// Where the buffers of one run of a plan are.
#[derive(Clone, Copy)]
struct Frame<'a> {
    params: &'a [*mut u8],
    results: &'a [*mut u8],
    arena: *mut u8,
}

impl Frame<'_> {
    fn locate(&self, s: Source, constants: &[Array]) -> *mut u8 {
        match s {
            Source::Param(i) => self.params[i as usize],
            Source::Constant(i) => readable(&constants[i as usize]),
            Source::Result(i) => self.results[i as usize],
            // SAFETY: the offset lies within the arena, which has been made large enough for every temporary.
            Source::Arena(offset) => unsafe { self.arena.add(offset) },
        }
    }
}

impl Cx<'_> {
    /// Runs the steps of one plan.
    fn sequence(&mut self, sequence: &mut Sequence, frame: Frame<'_>) -> Result<(), RunError> {
        let Sequence { commands, constants, operands, sizes, pointers } = sequence;
        for (p, s) in pointers.iter_mut().zip(operands.iter()) {
            *p = frame.locate(*s, constants);
        }
        let locate = |s: Source| frame.locate(s, constants);
        for command in commands.iter_mut() {
            match command {
                Command::Launch { kernel, operands, sizes: at, iterations, grain } => {
                    let Some(entry) = self.program.code().entry(*kernel as usize) else { continue };
                    let buffers = Shared(pointers[*operands as usize..].as_ptr());
                    let sizes = Shared(sizes[*at as usize..].as_ptr());
                    let (scratch, per_worker) = (self.scratch, self.per_worker);
                    let work = |worker: usize, range: Range<usize>| {
                        let context = KernelContext {
                            buffers: buffers.get(),
                            sizes: sizes.get(),
                            functions: FunctionTable::HOST,
                            // SAFETY: each worker has `per_worker` bytes of its own.
                            scratch: unsafe { scratch.get().add(worker * per_worker) },
                        };
                        // SAFETY: see the module's safety argument.
                        unsafe { entry.call(&context, range.start as i64, range.end as i64) };
                    };
                    self.pool.for_each_apart(*iterations, *grain, &work);
                }
                Command::Contract(p) => {
                    let finish = p.epilogue.and_then(|e| {
                        Some(Finish {
                            entry: self.program.code().entry(e.kernel as usize)?,
                            call: e,
                            buffers: &pointers[e.operands as usize..],
                            sizes: &sizes[e.sizes as usize..][..e.size_count as usize],
                            rows: p.m,
                        })
                    });
                    match p.dtype {
                        DType::F64 => {
                            let contraction = contraction::<f64>(p, finish.as_ref(), &locate);
                            // SAFETY: the strides address elements of the buffers only, and the result overlaps neither operand.
                            unsafe { contract::contract(&contraction, self.pool, self.workspace) };
                        }
                        _ => self.product(p, &contraction(p, finish.as_ref(), &locate)),
                    }
                }
                Command::Attend(call) => self.attend(call, &locate),
                Command::Copy { from, to, bytes } => {
                    // SAFETY: both buffers have so many bytes, and a result never overlaps what it is copied from.
                    unsafe { std::ptr::copy_nonoverlapping(locate(*from), locate(*to), *bytes) };
                }
                Command::Host(call) => self.host(call, &locate)?,
                Command::Loop(l) => self.repeat(l, &locate)?,
                Command::Branch(b) => self.branch(b, &locate)?,
            }
        }
        Ok(())
    }

    /// Runs a product, over a copy of its right operand where there is one.
    fn product(&mut self, p: &Product, contraction: &Contraction<f32>) {
        let (pool, workspace) = (self.pool, &mut *self.workspace);
        // SAFETY: the strides address elements of the buffers only, and the result overlaps neither operand.
        let pack = || unsafe { PackedB::new(&contraction.b, 1, p.k, p.n, pool, workspace) };
        let kept = p.weights.and_then(|slot| self.weights.get(slot, self.args, &self.program.packed, pack));
        // SAFETY: as above; a copy is of the same elements, or the array would be another.
        unsafe {
            match kept {
                Some(kept) => contract::contract_packed(contraction, &kept.packed, pool, self.workspace),
                None => contract::contract(contraction, pool, self.workspace),
            }
        }
    }

    fn host(&mut self, call: &HostCall, locate: &dyn Fn(Source) -> *mut u8) -> Result<(), RunError> {
        let mut arrays = Vec::with_capacity(call.operands.len());
        for (source, dtype, shape) in &call.operands {
            let data = read(locate(*source), *dtype, shape.iter().product());
            arrays.push(Array::from_data(shape, data).map_err(lehr_ir::eval::EvalError::from)?);
        }
        let refs: Vec<&Array> = arrays.iter().collect();
        let values = evaluate_op(&call.op, &refs, self.bindings)?;
        for (source, value) in call.results.iter().zip(values) {
            write(locate(*source), value.data());
        }
        Ok(())
    }
}

/// A kernel to run on finished blocks of a product.
struct Finish<'a> {
    entry: KernelFn<'a>,
    call: EpilogueCall,
    buffers: &'a [*mut u8],
    sizes: &'a [i64],
    /// Rows of one matrix of the batch.
    rows: usize,
}

/// Runs the kernel on one block; the context is a [`Finish`].
unsafe extern "C" fn finish(cx: *const u8, batch: usize, row: usize, row_end: usize, column: usize, column_end: usize) {
    // SAFETY: `product` hands on a `Finish` that outlives the contraction.
    let f = unsafe { &*cx.cast::<Finish<'_>>() };
    let mut sizes = [0i64; Epilogue::MOST_SIZES];
    sizes[..f.sizes.len()].copy_from_slice(f.sizes);
    sizes[f.call.first_column as usize] = column as i64;
    sizes[f.call.columns as usize] = (column_end - column) as i64;
    let context = KernelContext {
        buffers: f.buffers.as_ptr(),
        sizes: sizes.as_ptr(),
        functions: FunctionTable::HOST,
        // The kernel of an epilogue has no tiles.
        scratch: std::ptr::null_mut(),
    };
    let first = batch * f.rows;
    // SAFETY: see the module's safety argument; the driver gives each block to one call.
    unsafe { f.entry.call(&context, (first + row) as i64, (first + row_end) as i64) };
}

/// A product with its pointers.
fn contraction<T: contract::Element>(
    p: &Product,
    after: Option<&Finish<'_>>,
    locate: &dyn Fn(Source) -> *mut u8,
) -> Contraction<T> {
    let [a, b, c] = p.operands.map(|s| locate(s).cast::<T>());
    // SAFETY: the offset is that of an element of the buffer.
    let view = |ptr: *mut T, m: &Factor| View { ptr: unsafe { ptr.offset(m.offset) }.cast_const(), ..m.view() };
    Contraction {
        batch: p.batch,
        m: p.m,
        n: p.n,
        k: p.k,
        a: view(a, &p.factors[0]),
        b: view(b, &p.factors[1]),
        c: ViewMut {
            // SAFETY: as above.
            ptr: unsafe { c.offset(p.result.offset) },
            batch_stride: p.result.batch.stride(),
            row: p.result.row,
            col_stride: p.result.column.stride(),
        },
        accumulate: false,
        epilogue: after.map(|f| contract::Epilogue { run: finish, ctx: std::ptr::from_ref(f).cast() }),
    }
}

/// Copies elements out of a buffer.
fn read(from: *const u8, dtype: DType, n: usize) -> Data {
    let mut data = Data::zeros(dtype, n);
    // SAFETY: the buffer holds `n` elements of this dtype, and so does `data`.
    unsafe { std::ptr::copy_nonoverlapping(from, data.as_mut_ptr(), data.byte_len()) };
    data
}

/// Copies elements into a buffer.
fn write(to: *mut u8, data: &Data) {
    // SAFETY: the buffer holds as many elements of this dtype: the plan's types say so.
    unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to, data.byte_len()) };
}

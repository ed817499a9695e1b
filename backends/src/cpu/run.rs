//! Runs the steps of a program: the one place that hands raw buffers to generated code.
//!
//! # Safety argument
//! - Every argument has been checked against its parameter's dtype and shape, every result has been made in the right dtype and
//!   shape, and the arena and scratch have the bytes that the plan asks for; so each buffer is valid for its length.
//! - Parameters and constants are only read: the verified plan has no step that writes one. Results are unshared, and the arena
//!   belongs to the instance, which is borrowed exclusively.
//! - Kernels index within their buffers: they were made from a verified graph whose shapes were bound to these sizes.
//! - Iterations of a parallel loop write disjoint elements, so threads may run any partition of them.
#![expect(unsafe_code, reason = "raw buffers for generated code")]

use std::ops::Range;

use lehr_ir::array::Data;
use lehr_ir::eval::evaluate_op;
use lehr_ir::plan::StepKind;
use lehr_ir::{Array, DType};

use super::contract::{self, Contraction, View, ViewMut, Workspace};
use super::emit::KernelContext;
use super::memory::Aligned;
use super::pool::Pool;
use super::program::{Bound, Command, Product, Program, RunError, Source};
use super::table::FunctionTable;

/// Work of one range handed to a thread, about: scalar operations. Below it, waking another thread costs more than it gives.
pub(super) const GRAIN: usize = 60_000;

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
    pub(super) args: &'a [Array],
    pub(super) outputs: &'a mut [Array],
    pub(super) updates: &'a mut [Array],
}

/// Runs all steps.
pub(super) fn run(program: &Program, bound: &mut Bound, memory: Memory<'_>, pool: &Pool) -> Result<(), RunError> {
    let Memory { arena, scratch, workspace, args, outputs, updates } = memory;
    debug_assert!(arena.len() >= bound.arena);
    let per_worker = scratch.len() / pool.threads().max(1) / 64 * 64;
    let scratch = Shared(scratch.as_mut_ptr());
    let arena = arena.as_mut_ptr();
    let Bound { commands, operands, sizes, pointers, bindings, .. } = bound;
    let mut locate = |s: Source| -> *mut u8 {
        match s {
            Source::Param(i) => readable(&args[i as usize]),
            Source::Constant(i) => readable(&program.plan().constants[i as usize]),
            Source::Result(i) => {
                let i = i as usize;
                let place = if i < outputs.len() { &mut outputs[i] } else { &mut updates[i - outputs.len()] };
                // The places have been filled with unshared arrays, so this copies nothing.
                place.make_mut().as_mut_ptr()
            }
            // SAFETY: the offset lies within the arena, which has been made large enough for every temporary.
            Source::Arena(offset) => unsafe { arena.add(offset) },
        }
    };
    for (p, s) in pointers.iter_mut().zip(operands.iter()) {
        *p = locate(*s);
    }
    for command in commands.iter() {
        match command {
            Command::Launch { kernel, operands, sizes: at, iterations, grain } => {
                let Some(entry) = program.code().entry(*kernel as usize) else { continue };
                let buffers = Shared(pointers[*operands as usize..].as_ptr());
                let sizes = Shared(sizes[*at as usize..].as_ptr());
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
                pool.for_each(*iterations, *grain, &work);
            }
            Command::Contract(p) => match p.dtype {
                DType::F64 => product::<f64>(p, &mut locate, workspace, pool),
                _ => product::<f32>(p, &mut locate, workspace, pool),
            },
            Command::Copy { from, to, bytes } => {
                let (from, to) = (locate(*from), locate(*to));
                // SAFETY: both buffers have so many bytes, and a result never overlaps what it is copied from.
                unsafe { std::ptr::copy_nonoverlapping(from, to, *bytes) };
            }
            Command::Host { step, operands, results } => {
                let StepKind::Host { op, operands: types, results: out } = &program.plan().steps[*step as usize].kind
                else {
                    continue;
                };
                let mut arrays = Vec::with_capacity(operands.len());
                for ((source, shape), (_, ty)) in operands.iter().zip(types) {
                    let n = shape.iter().product();
                    let data = read(locate(*source), ty.dtype, n);
                    arrays.push(Array::from_data(shape, data).map_err(lehr_ir::eval::EvalError::from)?);
                }
                let refs: Vec<&Array> = arrays.iter().collect();
                let values = evaluate_op(op, &refs, bindings)?;
                for ((source, (_, ty)), value) in results.iter().zip(out).zip(values) {
                    debug_assert_eq!(ty.dtype, value.dtype());
                    write(locate(*source), value.data());
                }
            }
        }
    }
    Ok(())
}

fn product<T: contract::Element>(
    p: &Product,
    locate: &mut dyn FnMut(Source) -> *mut u8,
    workspace: &mut Workspace,
    pool: &Pool,
) {
    let [a, b, c] = p.operands.map(|s| locate(s).cast::<T>());
    let view = |ptr: *mut T, [offset, batch_stride, row_stride, col_stride]: [isize; 4]| View {
        // SAFETY: the offset is that of an element of the buffer.
        ptr: unsafe { ptr.offset(offset) }.cast_const(),
        batch_stride,
        row_stride,
        col_stride,
    };
    let [_, batch_stride, row_stride, col_stride] = p.strides[2];
    let contraction = Contraction {
        batch: p.batch,
        m: p.m,
        n: p.n,
        k: p.k,
        a: view(a, p.strides[0]),
        b: view(b, p.strides[1]),
        c: ViewMut { ptr: c, batch_stride, row_stride, col_stride },
        accumulate: false,
        epilogue: None,
    };
    // SAFETY: the strides address elements of the buffers only, and the result overlaps neither operand.
    unsafe { contract::contract(&contraction, pool, workspace) };
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

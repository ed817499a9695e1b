//! Programs and their instances: what is compiled, what is worked out for given sizes, and the checks before anything runs.

use std::sync::Arc;

use lehr_ir::array::{Recycler, Sizes};
use lehr_ir::bindings::Bindings;
use lehr_ir::dim::{Dim, DimError};
use lehr_ir::eval::{EvalError, bind_to};
use lehr_ir::kernel::Kernel;
use lehr_ir::plan::verify::Verified;
use lehr_ir::plan::{BufferId, Contract, Matrix, Place, StepKind};
use lehr_ir::{Array, DType, Type};

use super::code::{CodeUnit, CompileError, Compiler};
use super::contract::Workspace;
use super::memory::Aligned;
use super::pool::Pool;
use super::run;

/// A plan with its machine code.
#[derive(Debug)]
pub struct Program {
    plan: Verified,
    unit: Arc<CodeUnit>,
    /// Bytes of scratch that any of the kernels takes.
    scratch: usize,
}

/// Why a program did not run. Nothing has been changed then.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The arguments do not fit.
    #[error(transparent)]
    Arguments(#[from] EvalError),
    /// A size cannot be worked out.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// There are not as many places as results.
    #[error("{got} places were given for {want} outputs and updates")]
    Places {
        /// Outputs and updates of the program.
        want: usize,
        /// Places given.
        got: usize,
    },
    /// The memory that the sizes ask for does not fit an address space.
    #[error("the sizes ask for {0} bytes, more than can be addressed; use smaller arrays")]
    TooLarge(i64),
}

impl Program {
    /// Compiles the kernels of a plan.
    pub fn new(plan: Verified, compiler: &Compiler) -> Result<Arc<Self>, CompileError> {
        let kernels: Vec<&Kernel> = plan.kernels.iter().map(|k| &**k).collect();
        let unit = compiler.compile(&kernels)?;
        let scratch = unit.reports().iter().map(|r| r.scratch_bytes).max().unwrap_or(0);
        Ok(Arc::new(Self { plan, unit, scratch }))
    }

    /// The plan.
    pub fn plan(&self) -> &Verified {
        &self.plan
    }

    /// The code, with a report for each kernel.
    pub fn code(&self) -> &Arc<CodeUnit> {
        &self.unit
    }

    /// A new instance.
    pub fn instance(self: &Arc<Self>) -> Instance {
        Instance {
            program: Arc::clone(self),
            bound: Vec::new(),
            arena: Aligned::default(),
            scratch: Aligned::default(),
            workspace: Workspace::new(),
            recycler: Recycler::new(2 * (self.plan.outputs.len() + self.plan.updates.len())),
            shapes: Vec::new(),
        }
    }
}

/// What one caller needs to run a program, one call at a time.
#[derive(Debug)]
pub struct Instance {
    program: Arc<Program>,
    /// The sets of sizes met last, the latest first.
    bound: Vec<Bound>,
    arena: Aligned,
    scratch: Aligned,
    workspace: Workspace,
    recycler: Arc<Recycler>,
    /// The sizes of the arguments of a call, one after the other; kept for its storage.
    shapes: Vec<usize>,
}

/// Sets of sizes that are kept worked out.
const MOST_BOUND: usize = 16;

/// A plan's steps with all numbers worked out for one set of sizes.
#[derive(Debug)]
pub(super) struct Bound {
    /// The sizes of all arguments, one after the other: what it is found by.
    shapes: Vec<usize>,
    pub(super) bindings: Bindings,
    /// The shapes of outputs and updates.
    results: Vec<(DType, Sizes)>,
    pub(super) arena: usize,
    pub(super) commands: Vec<Command>,
    /// The buffers of all launches, one after the other.
    pub(super) operands: Vec<Source>,
    /// The sizes of all launches, one after the other.
    pub(super) sizes: Vec<i64>,
    /// The operands as pointers, filled in by each call.
    pub(super) pointers: Vec<*mut u8>,
}

// SAFETY: the pointers are scratch space: each call writes those it uses before it reads them.
#[expect(unsafe_code, reason = "pointers that live for one call only")]
unsafe impl Send for Bound {}

/// Where an operand's first byte is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Param(u32),
    Constant(u32),
    /// Outputs first, then updates.
    Result(u32),
    /// A byte offset in the arena.
    Arena(usize),
}

/// One step with its numbers.
#[derive(Debug)]
pub(super) enum Command {
    Launch { kernel: u32, operands: u32, sizes: u32, iterations: usize, grain: usize },
    Contract(Box<Product>),
    Copy { from: Source, to: Source, bytes: usize },
    Host { step: u32, operands: Vec<(Source, Sizes)>, results: Vec<Source> },
}

/// A matrix product with its numbers; strides in elements.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) dtype: DType,
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) operands: [Source; 3],
    /// Offset, then strides of batch, row and column.
    pub(super) strides: [[isize; 4]; 3],
}

impl Instance {
    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Runs the program on one array for each parameter.
    ///
    /// There is a place for each output and, in `updates`, for the new value of each variable updated. An array found in a place
    /// is written into if it has the right dtype and shape and nobody shares it; any other is replaced by a fresh one.
    ///
    /// # Errors
    /// Arguments that do not fit; then nothing has been written.
    pub fn run(
        &mut self,
        pool: &Pool,
        args: &[Array],
        outputs: &mut [Array],
        updates: &mut [Array],
    ) -> Result<(), RunError> {
        self.select(args)?;
        let bound = &mut self.bound[0];
        if outputs.len() + updates.len() != bound.results.len() || outputs.len() != self.program.plan.outputs.len() {
            return Err(RunError::Places { want: bound.results.len(), got: outputs.len() + updates.len() });
        }
        for (place, (dtype, shape)) in outputs.iter_mut().chain(&mut *updates).zip(&bound.results) {
            let fits = place.dtype() == *dtype && place.shape() == shape.as_slice() && place.get_mut().is_some();
            if !fits {
                let data = self.recycler.take(*dtype, shape.iter().product());
                *place = Array::from_recycled(shape, data, &self.recycler).map_err(EvalError::from)?;
            }
        }
        self.arena.reserve(bound.arena + run::SLACK);
        self.scratch.reserve(self.program.scratch.next_multiple_of(64) * pool.threads());
        let memory = run::Memory {
            arena: &mut self.arena,
            scratch: &mut self.scratch,
            workspace: &mut self.workspace,
            args,
            outputs,
            updates,
        };
        run::run(&self.program, bound, memory, pool)
    }

    /// Brings the steps for the arguments' sizes to the front, working them out on first sight.
    fn select(&mut self, args: &[Array]) -> Result<(), RunError> {
        let plan = &self.program.plan;
        self.shapes.clear();
        for a in args {
            self.shapes.extend_from_slice(a.shape());
        }
        let typed = args.len() == plan.params.len()
            && args.iter().zip(&plan.params).all(|(a, p)| a.dtype() == p.ty.dtype && a.rank() == p.ty.rank());
        if typed && let Some(i) = self.bound.iter().position(|b| b.shapes == self.shapes) {
            self.bound[..=i].rotate_right(1);
            return Ok(());
        }
        let params = plan.params.iter().map(|p| (p.name.as_str(), &p.ty));
        let refs: Vec<&Array> = args.iter().collect();
        let bindings = bind_to(&plan.name, params, &plan.facts, &refs)?;
        let bound = self.bind(&bindings)?;
        self.bound.truncate(MOST_BOUND - 1);
        self.bound.insert(0, bound);
        Ok(())
    }

    fn bind(&self, bindings: &Bindings) -> Result<Bound, RunError> {
        let plan = &self.program.plan;
        let mut b = Binder { plan, bindings, bound: Bound::empty(self.shapes.clone(), bindings.clone()) };
        b.bound.arena = b.size(&plan.arena)?;
        for (_, ty) in &plan.outputs {
            b.result(ty)?;
        }
        for &u in &plan.updates {
            b.result(&plan.params[u as usize].ty)?;
        }
        // Every buffer must be addressable, which also bounds every index that a kernel works out.
        for decl in &plan.buffers {
            let bytes = b.size(&decl.len)?.checked_mul(decl.dtype.size());
            bytes.filter(|n| isize::try_from(*n).is_ok()).ok_or(RunError::TooLarge(i64::MAX))?;
        }
        for (i, step) in plan.steps.iter().enumerate() {
            b.step(i, &step.kind)?;
        }
        b.bound.pointers = vec![std::ptr::null_mut(); b.bound.operands.len()];
        Ok(b.bound)
    }
}

impl Bound {
    fn empty(shapes: Vec<usize>, bindings: Bindings) -> Self {
        Self {
            shapes,
            bindings,
            results: Vec::new(),
            arena: 0,
            commands: Vec::new(),
            operands: Vec::new(),
            sizes: Vec::new(),
            pointers: Vec::new(),
        }
    }
}

struct Binder<'a> {
    plan: &'a Verified,
    bindings: &'a Bindings,
    bound: Bound,
}

impl Binder<'_> {
    fn value(&self, d: &Dim) -> Result<i64, RunError> {
        Ok(match d.as_const() {
            Some(v) => v,
            None => self.bindings.eval(d)?,
        })
    }

    fn size(&self, d: &Dim) -> Result<usize, RunError> {
        let v = self.value(d)?;
        usize::try_from(v).map_err(|_| EvalError::Negative { dim: d.clone(), value: v }.into())
    }

    fn stride(&self, d: &Dim) -> Result<isize, RunError> {
        let v = self.value(d)?;
        isize::try_from(v).map_err(|_| RunError::TooLarge(v))
    }

    fn shape(&self, ty: &Type) -> Result<Sizes, RunError> {
        ty.shape.iter().map(|d| self.size(d)).collect()
    }

    fn result(&mut self, ty: &Type) -> Result<(), RunError> {
        let shape = self.shape(ty)?;
        self.bound.results.push((ty.dtype, shape));
        Ok(())
    }

    fn source(&self, b: BufferId) -> Result<Source, RunError> {
        Ok(match &self.plan.buffers[b.index()].place {
            Place::Param(i) => Source::Param(*i),
            Place::Constant(i) => Source::Constant(*i),
            Place::Output(i) => Source::Result(*i),
            Place::NewVariable(i) => Source::Result(self.plan.outputs.len() as u32 + i),
            Place::Temp(offset) => Source::Arena(self.size(offset)?),
        })
    }

    fn step(&mut self, i: usize, kind: &StepKind) -> Result<(), RunError> {
        let command = match kind {
            StepKind::Launch(l) => {
                let (operands, sizes) = (self.bound.operands.len() as u32, self.bound.sizes.len() as u32);
                for b in &l.buffers {
                    let source = self.source(*b)?;
                    self.bound.operands.push(source);
                }
                for d in &l.sizes {
                    let v = self.value(d)?;
                    self.bound.sizes.push(v);
                }
                let iterations = self.size(&l.iterations)?;
                // An estimate that cannot be had, as of a loop over nothing, is of little work.
                let work = self.size(&l.work).unwrap_or(1).max(1);
                Command::Launch { kernel: l.kernel, operands, sizes, iterations, grain: run::GRAIN.div_ceil(work) }
            }
            StepKind::Contract(c) => Command::Contract(Box::new(self.product(c)?)),
            StepKind::Copy { from, to } => {
                let decl = &self.plan.buffers[from.index()];
                let bytes = self.size(&decl.len)? * decl.dtype.size();
                Command::Copy { from: self.source(*from)?, to: self.source(*to)?, bytes }
            }
            StepKind::Host { operands, results, .. } => Command::Host {
                step: i as u32,
                operands: operands
                    .iter()
                    .map(|(b, ty)| Ok((self.source(*b)?, self.shape(ty)?)))
                    .collect::<Result<_, RunError>>()?,
                results: results.iter().map(|(b, _)| self.source(*b)).collect::<Result<_, _>>()?,
            },
        };
        self.bound.commands.push(command);
        Ok(())
    }

    fn product(&self, c: &Contract) -> Result<Product, RunError> {
        let strides = |m: &Matrix| -> Result<[isize; 4], RunError> {
            Ok([self.stride(&m.offset)?, self.stride(&m.batch)?, self.stride(&m.row)?, self.stride(&m.column)?])
        };
        Ok(Product {
            dtype: c.dtype,
            batch: self.size(&c.batch)?,
            m: self.size(&c.m)?,
            n: self.size(&c.n)?,
            k: self.size(&c.k)?,
            operands: [self.source(c.a.buffer)?, self.source(c.b.buffer)?, self.source(c.c.buffer)?],
            strides: [strides(&c.a)?, strides(&c.b)?, strides(&c.c)?],
        })
    }
}

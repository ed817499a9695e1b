//! Programs and their instances: what is compiled, what is worked out for given sizes, and the checks before anything runs.

use std::sync::Arc;

use lehr_ir::array::{Recycler, Sizes};
use lehr_ir::bindings::Bindings;
use lehr_ir::dim::{Dim, DimError};
use lehr_ir::eval::{EvalError, bind_to};
use lehr_ir::kernel::Kernel;
use lehr_ir::ops::Op;
use lehr_ir::plan::verify::Verified;
use lehr_ir::plan::{self, Block, BufferId, Contract, Digit, Digits, LoopStep, Matrix, Place, Plan, StepKind, Trip};
use lehr_ir::{Array, DType, Type};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::code::{CodeUnit, CompileError, Compiler, With};
use super::contract::{self, Axis, MOST_DIGITS, Workspace};
use super::memory::Aligned;
use super::pages::prefer_huge_pages;
use super::pool::Pool;
use super::prepack::{Shelf, Weights};
use super::run;
use super::run::attend::{Attend, Pass, View};
use super::run::control::{Branch, Loop, Nested, Turns};

/// A plan with its machine code.
#[derive(Debug)]
pub struct Program {
    plan: Verified,
    unit: Arc<CodeUnit>,
    /// For each kernel of the plan and of those inside it, by address, its number in the unit.
    entries: FxHashMap<usize, u32>,
    /// Bytes of scratch that any of the kernels takes.
    pub(super) scratch: usize,
    pub(super) packed: Shelf,
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
    /// The plan was made for another kind of memory.
    #[error("the plan has its temporaries in slots, native code has an arena; lower it for the target of native code")]
    Slots,
}

impl Program {
    /// Compiles the kernels of a plan.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn new(plan: Verified, compiler: &Compiler) -> Result<Arc<Self>, CompileError> {
        Self::new_with(plan, compiler, With::default())
    }

    /// As [`Program::new`], with a cache or the threads of a pool.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    pub fn new_with(plan: Verified, compiler: &Compiler, with: With<'_>) -> Result<Arc<Self>, CompileError> {
        let mut kernels: Vec<&Kernel> = Vec::new();
        let mut entries = FxHashMap::default();
        let plans = plan.with_nested();
        // One plan has distinct kernels; those inside it may have the same again.
        let mut known: FxHashMap<Kernel, u32> = FxHashMap::default();
        for kernel in plans.iter().flat_map(|p| &p.kernels) {
            let next = kernels.len() as u32;
            let number = if plans.len() == 1 { next } else { *known.entry(kernel.anonymous()).or_insert(next) };
            entries.insert(address(kernel), number);
            if number == next {
                kernels.push(kernel);
            }
        }
        let unit = compiler.compile_with(&kernels, with)?;
        let scratch = unit.reports().iter().map(|r| r.scratch_bytes).max().unwrap_or(0);
        Ok(Arc::new(Self { plan, unit, entries, scratch, packed: Shelf::default() }))
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
            weights: Weights::default(),
            recycler: Recycler::new(2 * (self.plan.outputs.len() + self.plan.updates.len())),
            nothing: Array::scalar(false),
            overwritten: Vec::new(),
            shapes: Vec::new(),
            params: run::Pointers::default(),
            results: run::Pointers::default(),
        }
    }
}

/// What a kernel is known by as long as its plan lives.
fn address(kernel: &Arc<Kernel>) -> usize {
    Arc::as_ptr(kernel) as usize
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
    weights: Weights,
    recycler: Arc<Recycler>,
    /// What takes the place of an argument that was let go.
    nothing: Array,
    /// The variables whose updates are computed in place in a call: their parameters, and the results; kept for its storage.
    overwritten: Vec<(usize, usize)>,
    /// The sizes of the arguments of a call, one after the other; kept for its storage.
    shapes: Vec<usize>,
    /// Where arguments and results of a call start; kept for their storage.
    params: run::Pointers,
    results: run::Pointers,
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
    /// The steps of the program's plan.
    pub(super) sequence: Sequence,
}

/// The steps of one plan, with all numbers worked out.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    pub(super) commands: Vec<Command>,
    /// The plan's constants.
    pub(super) constants: Vec<Array>,
    /// The buffers of all launches, one after the other.
    pub(super) operands: Vec<Source>,
    /// The sizes of all launches, one after the other.
    pub(super) sizes: Vec<i64>,
    /// The operands as pointers, filled in by each run.
    pub(super) pointers: Vec<*mut u8>,
}

// SAFETY: the pointers are scratch space: each run writes those it uses before it reads them.
#[expect(unsafe_code, reason = "pointers that live for one call only")]
unsafe impl Send for Sequence {}

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
    Attend(Box<Attend>),
    Copy { from: Source, to: Source, bytes: usize },
    Host(Box<HostCall>),
    Loop(Box<Loop>),
    Branch(Box<Branch>),
}

/// An operation on the host with its numbers.
#[derive(Debug)]
pub(super) struct HostCall {
    pub(super) op: Op,
    pub(super) operands: Vec<(Source, DType, Sizes)>,
    pub(super) results: Vec<Source>,
}

/// A matrix product with its numbers; strides in elements.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) dtype: DType,
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    /// Both factors and the result.
    pub(super) operands: [Source; 3],
    pub(super) factors: [Factor; 2],
    /// Its batch and columns move evenly.
    pub(super) result: Factor,
    pub(super) epilogue: Option<EpilogueCall>,
    /// Where the right operand's copy is, if it is a large weight.
    pub(super) weights: Option<u32>,
}

/// The kernel that runs on finished blocks of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpilogueCall {
    pub(super) kernel: u32,
    /// Where its buffers, and its sizes, start in the sequence's.
    pub(super) operands: u32,
    pub(super) sizes: u32,
    pub(super) size_count: u32,
    /// Which of the sizes are the first column and the number of columns.
    pub(super) first_column: u32,
    pub(super) columns: u32,
}

/// How a factor or the result of a matrix product lies in its buffer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Factor {
    pub(super) offset: isize,
    pub(super) batch: Axis,
    pub(super) row: Axis,
    pub(super) column: Axis,
}

impl Factor {
    /// The view from the buffer's first element on, without a buffer.
    pub(super) fn view<T>(&self) -> contract::View<T> {
        contract::View { ptr: std::ptr::null(), batch: self.batch, row: self.row, col: self.column }
    }
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
    /// If the place of an update shares its array with the variable's argument and with nobody else, and [`Plan::in_place`] allows
    /// it, the new value is computed there; the argument is let go then.
    ///
    /// # Errors
    /// Arguments that do not fit; then nothing has been written.
    pub fn run(
        &mut self,
        pool: &Pool,
        args: &mut [Array],
        outputs: &mut [Array],
        updates: &mut [Array],
    ) -> Result<(), RunError> {
        self.select(args)?;
        let bound = &mut self.bound[0];
        if outputs.len() + updates.len() != bound.results.len() || outputs.len() != self.program.plan.outputs.len() {
            return Err(RunError::Places { want: bound.results.len(), got: outputs.len() + updates.len() });
        }
        let plan = &self.program.plan;
        self.overwritten.clear();
        for (i, ((place, &u), &in_place)) in updates.iter().zip(&plan.updates).zip(&plan.in_place).enumerate() {
            let arg = &mut args[u as usize];
            if in_place && arg.shares(place) && arg.owners() == 2 {
                *arg = self.nothing.clone();
                self.overwritten.push((u as usize, outputs.len() + i));
            }
        }
        for (place, (dtype, shape)) in outputs.iter_mut().chain(&mut *updates).zip(&bound.results) {
            let fits = place.dtype() == *dtype && place.shape() == shape.as_slice() && place.get_mut().is_some();
            if !fits {
                let data =
                    self.recycler.take(*dtype, shape.iter().product(), |d| prefer_huge_pages(d.as_ptr(), d.byte_len()));
                *place = Array::from_recycled(shape, data, &self.recycler).map_err(EvalError::from)?;
            }
        }
        self.arena.reserve(bound.arena + run::SLACK);
        self.scratch.reserve(run::scratch_of_a_worker(&self.program) * pool.threads());
        let memory = run::Memory {
            arena: &mut self.arena,
            scratch: &mut self.scratch,
            workspace: &mut self.workspace,
            weights: &mut self.weights,
            args,
            outputs,
            updates,
            overwritten: &self.overwritten,
            params: &mut self.params,
            results: &mut self.results,
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
        let mut bound = self.bind(&bindings)?;
        self.weights.find(&self.program.plan, &mut bound.sequence);
        self.bound.truncate(MOST_BOUND - 1);
        self.bound.insert(0, bound);
        Ok(())
    }

    fn bind(&self, bindings: &Bindings) -> Result<Bound, RunError> {
        let plan = &self.program.plan;
        let b = Binder::new(&self.program, plan, bindings);
        let outputs = plan.outputs.iter().map(|(_, ty)| ty);
        let updates = plan.updates.iter().map(|&u| &plan.params[u as usize].ty);
        Ok(Bound {
            shapes: self.shapes.clone(),
            bindings: bindings.clone(),
            results: outputs.chain(updates).map(|ty| Ok((ty.dtype, b.shape(ty)?))).collect::<Result<_, RunError>>()?,
            arena: b.size(&plan.arena)?,
            sequence: b.sequence()?,
        })
    }
}

/// Works out the numbers of one plan.
struct Binder<'a> {
    program: &'a Program,
    plan: &'a Plan,
    bindings: &'a Bindings,
    made: Sequence,
}

impl<'a> Binder<'a> {
    fn new(program: &'a Program, plan: &'a Plan, bindings: &'a Bindings) -> Self {
        Self { program, plan, bindings, made: Sequence::default() }
    }

    fn sequence(mut self) -> Result<Sequence, RunError> {
        let plan = self.plan;
        // Every buffer must be addressable, which also bounds every index that a kernel works out.
        for decl in &plan.buffers {
            self.bytes(&decl.len, decl.dtype)?;
        }
        for step in &plan.steps {
            self.step(&step.kind)?;
        }
        self.made.pointers = vec![std::ptr::null_mut(); self.made.operands.len()];
        self.made.constants = plan.constants.clone();
        Ok(self.made)
    }

    fn bytes(&self, len: &Dim, dtype: DType) -> Result<usize, RunError> {
        let bytes = self.size(len)?.checked_mul(dtype.size());
        bytes.filter(|n| isize::try_from(*n).is_ok()).ok_or(RunError::TooLarge(i64::MAX))
    }

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

    fn source(&self, b: BufferId) -> Result<Source, RunError> {
        Ok(match &self.plan.buffers[b.index()].place {
            Place::Param(i) => Source::Param(*i),
            Place::Constant(i) => Source::Constant(*i),
            Place::Output(i) => Source::Result(*i),
            Place::NewVariable(i) => Source::Result(self.plan.outputs.len() as u32 + i),
            Place::Temp(offset) => Source::Arena(self.size(offset)?),
            Place::Slot(_) => return Err(RunError::Slots),
        })
    }

    fn step(&mut self, kind: &StepKind) -> Result<(), RunError> {
        let command = match kind {
            StepKind::Launch(l) => {
                let (operands, sizes) = self.bind_kernel(&l.buffers, &l.sizes)?;
                let iterations = self.size(&l.iterations)?;
                // An estimate that cannot be had, as of a loop over nothing, is of little work.
                let work = self.size(&l.work).unwrap_or(1).max(1);
                let kernel = self.program.entries[&address(&self.plan.kernels[l.kernel as usize])];
                Command::Launch { kernel, operands, sizes, iterations, grain: run::GRAIN.div_ceil(work) }
            }
            StepKind::Contract(c) => Command::Contract(Box::new(self.product(c)?)),
            StepKind::Attend(a) => Command::Attend(Box::new(self.attention(a)?)),
            StepKind::Copy { from, to } => {
                let decl = &self.plan.buffers[from.index()];
                let bytes = self.size(&decl.len)? * decl.dtype.size();
                Command::Copy { from: self.source(*from)?, to: self.source(*to)?, bytes }
            }
            StepKind::Host { op, operands, results } => Command::Host(Box::new(HostCall {
                op: op.clone(),
                operands: operands
                    .iter()
                    .map(|(b, ty)| Ok((self.source(*b)?, ty.dtype, self.shape(ty)?)))
                    .collect::<Result<_, RunError>>()?,
                results: results.iter().map(|(b, _)| self.source(*b)).collect::<Result<_, _>>()?,
            })),
            StepKind::Loop(l) => Command::Loop(Box::new(self.repeat(l)?)),
            StepKind::Branch(b) => Command::Branch(Box::new(Branch {
                index: self.source(b.index)?,
                operands: self.sources(&b.operands)?,
                results: self.sources(&b.results)?,
                branches: b.branches.iter().map(|b| self.nested(b)).collect::<Result<_, _>>()?,
            })),
        };
        self.made.commands.push(command);
        Ok(())
    }

    /// Where the buffers and the sizes of a kernel start in the sequence's.
    fn bind_kernel(&mut self, buffers: &[BufferId], sizes: &[Dim]) -> Result<(u32, u32), RunError> {
        let starts = (self.made.operands.len() as u32, self.made.sizes.len() as u32);
        for b in buffers {
            let source = self.source(*b)?;
            self.made.operands.push(source);
        }
        for d in sizes {
            let v = self.value(d)?;
            self.made.sizes.push(v);
        }
        Ok(starts)
    }

    fn sources(&self, buffers: &[BufferId]) -> Result<Vec<Source>, RunError> {
        buffers.iter().map(|&b| self.source(b)).collect()
    }

    fn nested(&self, block: &Block) -> Result<Nested, RunError> {
        let inner = Binder::new(self.program, &block.plan, self.bindings).sequence()?;
        Ok(Nested::new(inner, self.source(block.arena)?, block.plan.params.len(), block.plan.outputs.len()))
    }

    fn repeat(&self, l: &LoopStep) -> Result<Loop, RunError> {
        let rows = |buffers: &[BufferId], types: &mut dyn Iterator<Item = &Type>| {
            let row = |(&b, ty): (&BufferId, &Type)| Ok((self.source(b)?, self.bytes(&ty.count(), ty.dtype)?));
            buffers.iter().zip(types).map(row).collect::<Result<Vec<_>, RunError>>()
        };
        let plan = &l.body.plan;
        let fixed = l.consts.len() + l.carries.len();
        let mut carries = Vec::with_capacity(l.carries.len());
        for c in &l.carries {
            let decl = &self.plan.buffers[c.result.index()];
            let places = [self.source(c.init)?, self.source(c.result)?, self.source(c.spare)?];
            carries.push((places, self.bytes(&decl.len, decl.dtype)?));
        }
        Ok(Loop {
            turns: match &l.trip {
                Trip::Count(n) => Turns::Count(self.size(n)?),
                Trip::While(cond) => Turns::While(self.nested(cond)?),
            },
            reverse: l.reverse,
            consts: self.sources(&l.consts)?,
            carries,
            rows_in: rows(&l.rows_in, &mut plan.params[fixed..].iter().map(|p| &p.ty))?,
            rows_out: rows(&l.rows_out, &mut plan.outputs[l.carries.len()..].iter().map(|(_, ty)| ty))?,
            body: self.nested(&l.body)?,
        })
    }

    fn attention(&self, a: &plan::Attend) -> Result<Attend, RunError> {
        let view = |g: &plan::Grid| -> Result<View, RunError> {
            Ok(View {
                source: self.source(g.buffer)?,
                offset: self.stride(&g.offset)?,
                batch: g.batch.iter().map(|d| self.stride(d)).collect::<Result<_, _>>()?,
                row: self.stride(&g.row)?,
                col: self.stride(&g.column)?,
            })
        };
        let keys = self.size(&a.keys)?;
        Ok(Attend {
            dtype: a.dtype,
            batch: a.batch.iter().map(|d| self.size(d)).collect::<Result<_, _>>()?,
            sizes: [self.size(&a.queries)?, keys, self.size(&a.d)?, self.size(&a.e)?],
            scale: a.scores.scale(),
            causal: a.scores.causal,
            operands: [view(&a.q)?, view(&a.k)?, view(&a.v)?],
            bias: a.bias.as_ref().map(view).transpose()?,
            mask: a.mask.as_ref().map(view).transpose()?,
            pass: match &a.pass {
                plan::AttendPass::Forward { empty, out, lse } => {
                    Pass::Forward { empty: empty.row(keys), out: self.source(*out)?, lse: self.source(*lse)? }
                }
                plan::AttendPass::Backward { lse, d_out, delta, dq, dk, dv } => Pass::Backward {
                    lse: self.source(*lse)?,
                    d_out: view(d_out)?,
                    delta: self.source(*delta)?,
                    results: [self.source(*dq)?, self.source(*dk)?, self.source(*dv)?],
                },
            },
        })
    }

    fn product(&mut self, c: &Contract) -> Result<Product, RunError> {
        let epilogue = match &c.epilogue {
            Some(e) => {
                let (operands, sizes) = self.bind_kernel(&e.buffers, &e.sizes)?;
                Some(EpilogueCall {
                    kernel: self.program.entries[&address(&self.plan.kernels[e.kernel as usize])],
                    operands,
                    sizes,
                    size_count: e.sizes.len() as u32,
                    first_column: e.first_column,
                    columns: e.columns,
                })
            }
            None => None,
        };
        let axis = |d: &Digits| -> Result<Axis, RunError> {
            let digit = |d: &Digit| Ok((self.size(&d.size)?, self.stride(&d.stride)?));
            let digits = d.digits().iter().map(digit).collect::<Result<SmallVec<[_; MOST_DIGITS]>, RunError>>()?;
            Ok(match digits[..] {
                [(_, stride)] => Axis::even(stride),
                // A plan has no index of more digits.
                _ => Axis::of_digits(digits).unwrap_or(Axis::even(0)),
            })
        };
        let factor = |m: &Matrix| -> Result<Factor, RunError> {
            let (batch, row, column) = (axis(&m.batch)?, axis(&m.row)?, axis(&m.column)?);
            Ok(Factor { offset: self.stride(&m.offset)?, batch, row, column })
        };
        Ok(Product {
            dtype: c.dtype,
            batch: self.size(&c.batch)?,
            m: self.size(&c.m)?,
            n: self.size(&c.n)?,
            k: self.size(&c.k)?,
            operands: [self.source(c.a.buffer)?, self.source(c.b.buffer)?, self.source(c.c.buffer)?],
            factors: [factor(&c.a)?, factor(&c.b)?],
            result: factor(&c.c)?,
            epilogue,
            weights: None,
        })
    }
}

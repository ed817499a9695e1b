//! A plan's steps with all numbers worked out for one set of sizes.

use std::sync::Arc;

use lehr_ir::DType;
use lehr_ir::array::Sizes;
use lehr_ir::bindings::Bindings;
use lehr_ir::dim::Dim;
use lehr_ir::eval::EvalError;
use lehr_ir::plan::{Block, BranchStep, BufferId, LoopStep, Place, Plan, Step, StepKind, Trip};
use smallvec::SmallVec;

use super::dispatch::{self, Bound as Operand};
use super::error::GpuError;
use super::host::HostStep;
use super::layout;
use super::memory::Memory;
use super::pipeline::Pipeline;
use super::program::{Code, OUTERMOST, Program, Shader, in_step, key};

/// A program for one set of sizes.
#[derive(Debug)]
pub(super) struct Bound {
    /// The sizes of all arguments, one after the other: what it is found by.
    pub(super) shapes: Vec<usize>,
    pub(super) bindings: Bindings,
    /// The dtypes and shapes of outputs and updates, and their bytes.
    pub(super) results: Vec<(DType, Sizes, u64)>,
    /// The bytes of each parameter.
    pub(super) params: Vec<u64>,
    /// The parameter blocks of all dispatches.
    pub(super) blocks: Arc<Memory>,
    pub(super) sequence: Sequence,
}

/// The steps of one plan.
#[derive(Debug)]
pub(super) struct Sequence {
    /// The plan: [`key`].
    pub(super) key: usize,
    /// The bytes of its slots.
    pub(super) slots: Vec<u64>,
    pub(super) commands: Vec<Command>,
}

impl Sequence {
    /// Whether nothing that is recorded depends on what was computed.
    pub(super) fn runs_unseen(&self) -> bool {
        self.commands.iter().all(|c| match c {
            Command::Dispatch(_) | Command::Copy { .. } => true,
            Command::Loop(l) => matches!(l.turns, Turns::Count(_)) && l.body.runs_unseen(),
            Command::Host(_) | Command::Branch(_) => false,
        })
    }
}

/// A buffer: where it is, and how many bytes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) at: At,
    pub(super) bytes: u64,
}

/// Where a buffer is.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Param(u32),
    Constant(u32),
    /// Outputs first, then updates.
    Result(u32),
    Slot(u32),
    /// Memory for one step alone.
    Scratch(u32),
}

/// One step with its numbers.
#[derive(Debug)]
pub(super) enum Command {
    Dispatch(Box<Shot>),
    Copy { from: Spot, to: Spot },
    Host(Box<HostCall>),
    Loop(Box<Loop>),
    Branch(Box<Branch>),
}

/// What is bound: for each operand, its buffer and where it starts there.
pub(super) type Operands = SmallVec<[(u64, u64); 6]>;

/// A dispatch with its numbers.
#[derive(Debug)]
pub(super) struct Shot {
    /// Its number among the program's dispatches.
    pub(super) number: u32,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) operands: SmallVec<[Spot; 6]>,
    /// Where its parameter block starts, and its bytes.
    pub(super) block: (u64, u64),
    pub(super) groups: [u32; 2],
    /// The bind groups used last, by what is bound: the buffers of variables and carries change places.
    pub(super) groups_of: Vec<(Operands, wgpu::BindGroup)>,
}

/// A step on the host with its numbers.
#[derive(Debug)]
pub(super) struct HostCall {
    pub(super) step: Arc<HostStep>,
    /// What it reads: dtypes and numbers of elements.
    pub(super) reads: Vec<(Spot, DType, usize)>,
    pub(super) writes: Vec<Spot>,
}

/// A loop with its numbers.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) turns: Turns,
    pub(super) reverse: bool,
    pub(super) consts: Vec<Spot>,
    /// Initial value, result and spare.
    pub(super) carries: Vec<[Spot; 3]>,
    pub(super) rows_in: Vec<Rows>,
    pub(super) rows_out: Vec<Rows>,
    pub(super) body: Sequence,
}

/// A buffer that is read or written row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) all: Spot,
    /// The bytes from one row to the next.
    pub(super) stride: u64,
    /// Where a row is copied to or from, if shaders cannot bind it where it lies.
    pub(super) apart: Option<Spot>,
}

/// How often a loop runs.
#[derive(Debug)]
pub(super) enum Turns {
    Count(u64),
    /// As long as a condition says, which it writes here.
    While(Sequence, Spot),
}

/// A choice with its numbers.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) index: Spot,
    pub(super) operands: Vec<Spot>,
    pub(super) results: Vec<Spot>,
    pub(super) branches: Vec<Sequence>,
}

impl Bound {
    pub(super) fn new(program: &Program, shapes: &[usize], bindings: Bindings) -> Result<Self, GpuError> {
        let plan: &Plan = &program.plan;
        let mut blocks = Vec::new();
        let binder = Binder { program, plan, bindings: &bindings, blocks: &mut blocks, more_slots: Vec::new() };
        let outputs = plan.outputs.iter().map(|(_, ty)| ty);
        let updates = plan.updates.iter().map(|&u| &plan.params[u as usize].ty);
        let mut results = Vec::new();
        for ty in outputs.chain(updates) {
            let shape: Sizes = ty.shape.iter().map(|d| binder.size(d)).collect::<Result<_, _>>()?;
            results.push((ty.dtype, shape, binder.bytes(ty.dtype, &ty.count())?));
        }
        let params = plan.params.iter().map(|p| binder.bytes(p.ty.dtype, &p.ty.count())).collect::<Result<_, _>>()?;
        let sequence = binder.sequence(OUTERMOST)?;
        let blocks = program.device.uniform(&blocks)?;
        Ok(Self { shapes: shapes.to_vec(), bindings, results, params, blocks, sequence })
    }
}

/// Works out the numbers of one plan.
struct Binder<'a> {
    program: &'a Program,
    plan: &'a Plan,
    bindings: &'a Bindings,
    /// The parameter blocks of all plans.
    blocks: &'a mut Vec<u8>,
    /// Bytes of slots beyond those of the plan.
    more_slots: Vec<u64>,
}

impl Binder<'_> {
    fn sequence(mut self, key: usize) -> Result<Sequence, GpuError> {
        let (program, plan) = (self.program, self.plan);
        let mut commands = Vec::with_capacity(plan.steps.len());
        for (step, code) in plan.steps.iter().zip(&program.ready(key).steps) {
            self.step(step, code, &mut commands).map_err(|e| in_step(e, step, plan))?;
        }
        let mut slots = plan.slots.iter().map(|d| self.size(d).map(|n| n as u64)).collect::<Result<Vec<_>, _>>()?;
        // A slot is measured in elements as the host has them; its holders may be larger here.
        for b in &plan.buffers {
            if let Place::Slot(slot) = b.place {
                let bytes = self.bytes(b.dtype, &b.len)?;
                slots[slot as usize] = slots[slot as usize].max(bytes);
            }
        }
        slots.extend(&self.more_slots);
        Ok(Sequence { key, slots, commands })
    }

    fn size(&self, d: &Dim) -> Result<usize, GpuError> {
        let v = match d.as_const() {
            Some(v) => v,
            None => self.bindings.eval(d)?,
        };
        usize::try_from(v).map_err(|_| EvalError::Negative { dim: d.clone(), value: v }.into())
    }

    /// The bytes of a buffer; its elements have to have 32-bit indices.
    fn bytes(&self, dtype: DType, len: &Dim) -> Result<u64, GpuError> {
        let n = self.size(len)?;
        let range = || GpuError::Range { what: format!("an array of {n} elements") };
        i32::try_from(n).map_err(|_| range())?;
        layout::bytes(dtype, n as u64).ok_or_else(range)
    }

    fn spot(&self, b: BufferId) -> Result<Spot, GpuError> {
        let decl = &self.plan.buffers[b.index()];
        let at = match decl.place {
            Place::Param(i) => At::Param(i),
            Place::Constant(i) => At::Constant(i),
            Place::Output(i) => At::Result(i),
            Place::NewVariable(i) => At::Result(self.plan.outputs.len() as u32 + i),
            Place::Slot(i) => At::Slot(i),
            Place::Temp(_) => return Err(GpuError::Arena),
        };
        Ok(Spot { at, bytes: self.bytes(decl.dtype, &decl.len)? })
    }

    fn spots(&self, buffers: &[BufferId]) -> Result<Vec<Spot>, GpuError> {
        buffers.iter().map(|&b| self.spot(b)).collect()
    }

    fn step(&mut self, step: &Step, code: &Code, commands: &mut Vec<Command>) -> Result<(), GpuError> {
        match (code, &step.kind) {
            (Code::Shaders(shaders), _) => {
                for shader in shaders {
                    commands.extend(self.shot(shader)?.map(|s| Command::Dispatch(Box::new(s))));
                }
            }
            (Code::Host(host), _) => commands.push(self.host(host)?),
            (_, StepKind::Copy { from, to }) => {
                commands.push(Command::Copy { from: self.spot(*from)?, to: self.spot(*to)? });
            }
            (_, StepKind::Loop(l)) => {
                let command = match self.repeat(l)? {
                    Some(l) => Command::Loop(Box::new(l)),
                    // Rows that no copy of whole words reaches.
                    None => self.host(&Arc::new(HostStep::of(step, self.plan)))?,
                };
                commands.push(command);
            }
            (_, StepKind::Branch(b)) => {
                let branch = self.branch(b)?;
                commands.push(Command::Branch(Box::new(branch)));
            }
            // The form of any other step is one of the first two.
            (Code::Copy | Code::Control, _) => {}
        }
        Ok(())
    }

    /// `None` for a dispatch of nothing.
    fn shot(&mut self, shader: &Shader) -> Result<Option<Shot>, GpuError> {
        let d = &shader.dispatch;
        let groups = self.size(&d.groups)? as u64;
        if groups == 0 {
            return Ok(None);
        }
        let range = |what: String| GpuError::Range { what };
        let grid = dispatch::grid(groups).filter(|[x, y]| {
            // Shaders count invocations too.
            let all = u64::from(*x) * u64::from(*y) * u64::from(self.program.device.target.workgroup_size);
            i32::try_from(all).is_ok()
        });
        let groups = grid.ok_or_else(|| range(format!("a grid of {groups} workgroups")))?;
        let words = d.block(self.bindings)?.ok_or_else(|| range("a size or an offset".to_owned()))?;
        let limits = &self.program.device.limits;
        let start = self.blocks.len().next_multiple_of(limits.min_uniform_buffer_offset_alignment.max(16) as usize);
        self.blocks.resize(start, 0);
        self.blocks.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        let end = self.blocks.len().next_multiple_of(16);
        self.blocks.resize(end, 0);
        let operand = |o: &dispatch::Operand| match &o.buffer {
            Operand::Plan(b) => self.spot(*b),
            Operand::Scratch(i, bytes) => {
                let bytes = (self.size(bytes)? as u64).max(layout::LEAST).next_multiple_of(4);
                Ok(Spot { at: At::Scratch(*i), bytes })
            }
        };
        let operands = d.operands.iter().map(operand).collect::<Result<_, _>>()?;
        Ok(Some(Shot {
            number: shader.number,
            pipeline: Arc::clone(&shader.pipeline),
            operands,
            block: (start as u64, (end - start) as u64),
            groups,
            groups_of: Vec::new(),
        }))
    }

    fn host(&self, step: &Arc<HostStep>) -> Result<Command, GpuError> {
        let read = |&b: &BufferId| {
            let decl = &self.plan.buffers[b.index()];
            Ok((self.spot(b)?, decl.dtype, self.size(&decl.len)?))
        };
        let reads = step.reads.iter().map(read).collect::<Result<_, GpuError>>()?;
        let writes = self.spots(&step.writes)?;
        Ok(Command::Host(Box::new(HostCall { step: Arc::clone(step), reads, writes })))
    }

    fn nested(&mut self, block: &Block) -> Result<Sequence, GpuError> {
        let (program, bindings) = (self.program, self.bindings);
        Binder { program, plan: &block.plan, bindings, blocks: self.blocks, more_slots: Vec::new() }
            .sequence(key(block))
    }

    /// A slot of this plan beyond those that are planned.
    fn slot(&mut self, bytes: u64) -> Spot {
        self.more_slots.push(bytes);
        Spot { at: At::Slot((self.plan.slots.len() + self.more_slots.len() - 1) as u32), bytes }
    }

    /// `None` if rows start within words.
    fn repeat(&mut self, l: &LoopStep) -> Result<Option<Loop>, GpuError> {
        let plan = &l.body.plan;
        let fixed = l.consts.len() + l.carries.len();
        let ins = l.rows_in.iter().zip(plan.params[fixed..].iter().map(|p| &p.ty));
        let outs = l.rows_out.iter().zip(plan.outputs[l.carries.len()..].iter().map(|(_, ty)| ty));
        let alignment = u64::from(self.program.device.limits.min_storage_buffer_offset_alignment).max(layout::LEAST);
        let mut rows = Vec::new();
        for (&b, ty) in ins.chain(outs) {
            let stride = self.size(&ty.count())? as u64 * ty.dtype.size() as u64;
            if !stride.is_multiple_of(4) {
                return Ok(None);
            }
            let apart = if stride.is_multiple_of(alignment) { None } else { Some(self.slot(stride)) };
            rows.push(Rows { all: self.spot(b)?, stride, apart });
        }
        let rows_out = rows.split_off(l.rows_in.len());
        let mut carries = Vec::with_capacity(l.carries.len());
        for c in &l.carries {
            carries.push([self.spot(c.init)?, self.spot(c.result)?, self.spot(c.spare)?]);
        }
        let turns = match &l.trip {
            Trip::Count(n) => Turns::Count(self.size(n)? as u64),
            Trip::While(cond) => {
                let flag = self.slot(layout::LEAST);
                Turns::While(self.nested(cond)?, flag)
            }
        };
        let (consts, body) = (self.spots(&l.consts)?, self.nested(&l.body)?);
        Ok(Some(Loop { turns, reverse: l.reverse, consts, carries, rows_in: rows, rows_out, body }))
    }

    fn branch(&mut self, b: &BranchStep) -> Result<Branch, GpuError> {
        Ok(Branch {
            index: self.spot(b.index)?,
            operands: self.spots(&b.operands)?,
            results: self.spots(&b.results)?,
            branches: b.branches.iter().map(|b| self.nested(b)).collect::<Result<_, _>>()?,
        })
    }
}

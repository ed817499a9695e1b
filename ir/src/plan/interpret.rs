//! Runs a plan with the kernel interpreter: the reference for plans, and what lowering is tested with.
//!
//! Temporaries lie in one arena exactly where the memory plan puts them, so that a wrong plan shows as a wrong result.

use std::collections::BTreeMap;

use super::{Block, BufferId, LoopStep, Matrix, Place, Plan, StepKind, Trip};
use crate::array::{Array, Data};
use crate::bindings::Bindings;
use crate::dim::{Dim, DimError};
use crate::eval::{EvalError, Evaluated};
use crate::kernel::Access;
use crate::kernel::interpret::{BufferData, Functions, InterpretError, Program};

/// Why a plan cannot be run.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanRunError {
    /// A kernel failed.
    #[error("kernel @{kernel}: {source}")]
    Kernel {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        source: InterpretError,
    },
    /// An operation on the host failed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A size cannot be evaluated.
    #[error(transparent)]
    Dim(#[from] DimError),
    /// A buffer is read that nothing has written.
    #[error("{0} is read before it is written")]
    Unwritten(BufferId),
}

/// Runs a plan on one array for each parameter, with the symbols bound.
pub fn run(plan: &Plan, args: &[Array], bindings: &Bindings, functions: Functions) -> Result<Evaluated, PlanRunError> {
    let mut memory =
        Buffers { plan, bindings, args, arena: BTreeMap::new(), slots: BTreeMap::new(), out: BTreeMap::new() };
    for step in &plan.steps {
        match &step.kind {
            StepKind::Launch(l) => memory.launch(l.kernel, &l.buffers, &l.sizes, functions)?,
            StepKind::Contract(c) => {
                let n = |d: &Dim| bindings.eval(d);
                let (a, b) = (memory.read(c.a.buffer)?, memory.read(c.b.buffer)?);
                let mut out = memory.fresh(c.c.buffer)?;
                for p in 0..n(&c.batch)? {
                    for i in 0..n(&c.m)? {
                        for j in 0..n(&c.n)? {
                            let mut sum = 0.0;
                            for k in 0..n(&c.k)? {
                                let x = a.get(at(&c.a, bindings, p, i, k)?).map_or(f64::NAN, |l| l.to_f64());
                                let y = b.get(at(&c.b, bindings, p, k, j)?).map_or(f64::NAN, |l| l.to_f64());
                                sum += x * y;
                            }
                            out.set(at(&c.c, bindings, p, i, j)?, crate::Literal::from_f64(c.dtype, sum));
                        }
                    }
                }
                memory.write(c.c.buffer, out)?;
                if let Some(e) = &c.epilogue {
                    memory.launch(e.kernel, &e.buffers, &e.sizes, functions)?;
                }
            }
            StepKind::Attend(a) => {
                let cx = crate::eval::EvalCx { bindings };
                for (b, data) in a.evaluate::<PlanRunError>(&cx, &|b| memory.read(b))? {
                    memory.write(b, data)?;
                }
            }
            StepKind::Copy { from, to } => {
                let data = memory.read(*from)?;
                memory.write(*to, data)?;
            }
            StepKind::Loop(l) => memory.repeat(l, functions)?,
            StepKind::Branch(b) => {
                let index = memory.read(b.index)?.get(0).map_or(0, |l| l.to_f64() as i64);
                let chosen = usize::try_from(index).unwrap_or(0).min(b.branches.len().saturating_sub(1));
                let args = b.operands.iter().map(|&b| memory.read(b)).collect::<Result<Vec<_>, _>>()?;
                let out = memory.block(&b.branches[chosen], args, functions)?;
                for (b, data) in b.results.iter().zip(out) {
                    memory.write(*b, data)?;
                }
            }
            StepKind::Host { op, operands, results } => {
                let mut arrays = Vec::new();
                for (b, ty) in operands {
                    let shape = ty.shape.iter().map(|d| bindings.eval(d)).collect::<Result<Vec<_>, _>>()?;
                    let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
                    arrays.push(Array::from_data(&shape, memory.read(*b)?).map_err(EvalError::from)?);
                }
                let refs: Vec<&Array> = arrays.iter().collect();
                let out = crate::eval::evaluate_op(op, &refs, bindings)?;
                for ((b, _), a) in results.iter().zip(out) {
                    memory.write(*b, a.into_data())?;
                }
            }
        }
    }
    memory.finish()
}

fn at(m: &Matrix, bindings: &Bindings, batch: i64, row: i64, column: i64) -> Result<usize, DimError> {
    let i = bindings.eval(&m.offset)?
        + m.batch.offset(batch, bindings)?
        + m.row.offset(row, bindings)?
        + m.column.offset(column, bindings)?;
    usize::try_from(i).map_err(|_| DimError::Overflow)
}

struct Buffers<'a> {
    plan: &'a Plan,
    bindings: &'a Bindings,
    args: &'a [Array],
    /// What the arena holds: by byte offset, what was written last there.
    arena: BTreeMap<i64, (BufferId, Data)>,
    /// What was written last to each slot.
    slots: BTreeMap<u32, (BufferId, Data)>,
    out: BTreeMap<BufferId, Data>,
}

impl Buffers<'_> {
    fn fresh(&self, b: BufferId) -> Result<Data, PlanRunError> {
        let decl = &self.plan.buffers[b.index()];
        let n = self.bindings.eval(&decl.len)?;
        Ok(Data::zeros(decl.dtype, usize::try_from(n).unwrap_or(0)))
    }

    fn read(&self, b: BufferId) -> Result<Data, PlanRunError> {
        // A buffer without elements is as good as written, and shares its place with others.
        if self.bindings.eval(&self.plan.buffers[b.index()].len)? == 0 {
            return self.fresh(b);
        }
        let found = match &self.plan.buffers[b.index()].place {
            Place::Param(i) => self.args.get(*i as usize).map(|a| a.data().clone()),
            Place::Constant(i) => self.plan.constants.get(*i as usize).map(|a| a.data().clone()),
            Place::Output(_) | Place::NewVariable(_) => self.out.get(&b).cloned(),
            Place::Temp(offset) => {
                let entry = self.arena.get(&self.bindings.eval(offset)?);
                entry.filter(|(owner, _)| *owner == b).map(|(_, d)| d.clone())
            }
            Place::Slot(slot) => self.slots.get(slot).filter(|(owner, _)| *owner == b).map(|(_, data)| data.clone()),
        };
        found.ok_or(PlanRunError::Unwritten(b))
    }

    fn write(&mut self, b: BufferId, data: Data) -> Result<(), PlanRunError> {
        let offset = match &self.plan.buffers[b.index()].place {
            Place::Temp(offset) => offset,
            Place::Slot(slot) => {
                self.slots.insert(*slot, (b, data));
                return Ok(());
            }
            Place::Param(_) | Place::Constant(_) | Place::Output(_) | Place::NewVariable(_) => {
                self.out.insert(b, data);
                return Ok(());
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        let start = self.bindings.eval(offset)?;
        let end = start + data.byte_len() as i64;
        // What overlaps the bytes written is gone.
        self.arena.retain(|&s, (_, d)| s + d.byte_len() as i64 <= start || s >= end.max(start + 1));
        self.arena.insert(start, (b, data));
        Ok(())
    }

    /// Runs a kernel on all iterations of its parallel loop.
    fn launch(
        &mut self,
        kernel: u32,
        buffers: &[BufferId],
        sizes: &[Dim],
        functions: Functions,
    ) -> Result<(), PlanRunError> {
        let kernel = &self.plan.kernels[kernel as usize];
        let sizes = sizes.iter().map(|d| self.bindings.eval(d)).collect::<Result<Vec<_>, _>>()?;
        let failed = |source| PlanRunError::Kernel { kernel: kernel.name.clone(), source };
        let program = Program::new(kernel, &sizes, functions).map_err(failed)?;
        let mut data = Vec::new();
        for (b, param) in buffers.iter().zip(&kernel.buffers) {
            data.push(to_buffer(&match param.access {
                Access::Write => self.fresh(*b)?,
                Access::Read | Access::ReadWrite => self.read(*b)?,
            })?);
        }
        program.run(&mut data).map_err(failed)?;
        for ((b, param), d) in buffers.iter().zip(&kernel.buffers).zip(data) {
            if param.access != Access::Read {
                self.write(*b, from_buffer(d))?;
            }
        }
        Ok(())
    }

    /// Runs a block on the elements of its parameters.
    fn block(&self, block: &Block, args: Vec<Data>, functions: Functions) -> Result<Vec<Data>, PlanRunError> {
        let mut arrays = Vec::with_capacity(args.len());
        for (data, p) in args.into_iter().zip(&block.plan.params) {
            arrays.push(Array::from_data(&self.sizes(&p.ty)?, data).map_err(EvalError::from)?);
        }
        let done = run(&block.plan, &arrays, self.bindings, functions)?;
        Ok(done.outputs.into_iter().map(Array::into_data).collect())
    }

    fn sizes(&self, ty: &crate::Type) -> Result<Vec<usize>, PlanRunError> {
        let shape = ty.shape.iter().map(|d| self.bindings.eval(d)).collect::<Result<Vec<_>, _>>()?;
        Ok(shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect())
    }

    fn repeat(&mut self, l: &LoopStep, functions: Functions) -> Result<(), PlanRunError> {
        let read = |m: &Self, all: &[BufferId]| all.iter().map(|&b| m.read(b)).collect::<Result<Vec<_>, _>>();
        let consts = read(self, &l.consts)?;
        let mut carries = l.carries.iter().map(|c| self.read(c.init)).collect::<Result<Vec<_>, _>>()?;
        let rows_in = read(self, &l.rows_in)?;
        let mut rows_out = l.rows_out.iter().map(|&b| self.fresh(b)).collect::<Result<Vec<_>, _>>()?;
        let n = match &l.trip {
            Trip::Count(n) => Some(self.bindings.eval(n)?),
            Trip::While(_) => None,
        };
        for step in 0.. {
            let mut args: Vec<Data> = consts.iter().chain(&carries).cloned().collect();
            match (&l.trip, n) {
                (Trip::While(cond), _) => {
                    let go = self.block(cond, args.clone(), functions)?;
                    if go.first().and_then(|d| d.get(0)) != Some(crate::Literal::from(true)) {
                        break;
                    }
                }
                (Trip::Count(_), n) => {
                    if step >= n.unwrap_or(0) {
                        break;
                    }
                }
            }
            let count = n.unwrap_or(1);
            let i = usize::try_from(if l.reverse { count - 1 - step } else { step }).unwrap_or(0);
            let row_of = |d: &Data| d.len() / usize::try_from(count).unwrap_or(1).max(1);
            args.extend(rows_in.iter().map(|d| d.gather(i * row_of(d)..(i + 1) * row_of(d))));
            let mut out = self.block(&l.body, args, functions)?.into_iter();
            carries = out.by_ref().take(carries.len()).collect();
            for (to, row) in rows_out.iter_mut().zip(out) {
                to.copy_into(i * row.len(), &row);
            }
        }
        for (c, data) in l.carries.iter().zip(carries) {
            self.write(c.result, data)?;
        }
        for (&b, data) in l.rows_out.iter().zip(rows_out) {
            self.write(b, data)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<Evaluated, PlanRunError> {
        let shaped = |ty: &crate::Type, data: Data| -> Result<Array, PlanRunError> {
            let shape = ty.shape.iter().map(|d| self.bindings.eval(d)).collect::<Result<Vec<_>, _>>()?;
            let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
            Ok(Array::from_data(&shape, data).map_err(EvalError::from)?)
        };
        // A result without elements may have no step that writes it.
        let void = |ty: &crate::Type| {
            let shape = ty.shape.iter().map(|d| self.bindings.eval(d).ok().and_then(|d| usize::try_from(d).ok()));
            let shape: Vec<usize> = shape.collect::<Option<_>>()?;
            shape.contains(&0).then(|| Array::zeros(ty.dtype, &shape))
        };
        let mut outputs: Vec<Option<Array>> = self.plan.outputs.iter().map(|(_, ty)| void(ty)).collect();
        let mut updates: Vec<Option<Array>> =
            self.plan.updates.iter().map(|&u| void(&self.plan.params[u as usize].ty)).collect();
        for (b, data) in &self.out {
            match self.plan.buffers[b.index()].place {
                Place::Output(i) => outputs[i as usize] = Some(shaped(&self.plan.outputs[i as usize].1, data.clone())?),
                Place::NewVariable(i) => {
                    let ty = &self.plan.params[self.plan.updates[i as usize] as usize].ty;
                    updates[i as usize] = Some(shaped(ty, data.clone())?);
                }
                Place::Param(_) | Place::Constant(_) | Place::Temp(_) | Place::Slot(_) => {}
            }
        }
        let all = |v: Vec<Option<Array>>| {
            v.into_iter().collect::<Option<Vec<_>>>().ok_or(PlanRunError::Unwritten(BufferId(0)))
        };
        Ok(Evaluated { outputs: all(outputs)?, updates: all(updates)? })
    }
}

macro_rules! conversions {
    ($($Variant:ident)*) => {
        fn to_buffer(d: &Data) -> Result<BufferData, PlanRunError> {
            Ok(match d {
                $(Data::$Variant(v) => BufferData::$Variant(v.clone()),)*
                Data::C64(_) | Data::C128(_) => {
                    let e = EvalError::Unsupported { op: "kernel".to_owned(), dtype: d.dtype() };
                    return Err(e.into());
                }
            })
        }

        fn from_buffer(d: BufferData) -> Data {
            match d {
                $(BufferData::$Variant(v) => Data::$Variant(v),)*
            }
        }
    };
}

conversions!(Bool I8 I16 I32 I64 U8 U16 U32 U64 F16 BF16 F32 F64);

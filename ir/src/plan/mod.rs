//! The plan: a structured program of kernel launches and library calls over buffers.
//!
//! A plan is what `lower` makes of a fused graph and what a backend runs. It no longer knows tensor operations:
//! it has buffers with sizes over symbols, kernels (shared by every launch of equal text), and steps in order.
//!
//! # Invariants
//! - Steps are in an order in which every buffer is written before it is read; arguments, variables and constants are written
//!   before the first step.
//! - A launch binds one buffer of the right dtype to each of its kernel's, and one dim to each of its sizes.
//! - No two buffers that are alive at once overlap in the arena, except where a launch says that an output takes an input's place.
//!   No two that are alive at once have the same slot.
//! - A block's plan has a parameter and an output of the right dtype for each buffer that its step hands it, and no variables.
//! - A step of attention has the views that its scores name, each with a stride for every leading dim and of the right dtype.
//! - Buffers of kind [`Place::Output`] and [`Place::NewVariable`] are written by exactly one step, or copied.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::facts::Facts;
use crate::graph::Graph;
use crate::kernel::Kernel;
use crate::loc::Loc;
use crate::ops::Op;
use crate::ty::Type;

pub mod attend;
pub mod contract;
pub mod control;
pub mod interpret;
pub mod print;
pub mod verify;

pub use attend::{Attend, AttendPass, Grid};
pub use contract::{Contract, Digit, Digits, Epilogue, Matrix};
pub use control::{Block, BranchStep, Carry, LoopStep, Trip};

/// A program over buffers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The graph's name.
    pub name: String,
    /// What is known of the symbols, checked when they are bound.
    pub facts: Facts,
    /// The types of the parameters, with their names and kinds.
    pub params: Vec<PlanParam>,
    /// The outputs' names and types.
    pub outputs: Vec<(String, Type)>,
    /// The variables updated: positions among the parameters.
    pub updates: Vec<u32>,
    /// Which updates may be computed where their variables lie: each element of the new value is stored after the last load of the old
    /// value's. None before memory is planned.
    pub in_place: Vec<bool>,
    /// Distinct kernels.
    pub kernels: Vec<Arc<Kernel>>,
    /// Arrays that kernels read.
    pub constants: Vec<Array>,
    /// Every buffer.
    pub buffers: Vec<BufferDecl>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Bytes of the arena that temporaries share; 0 before memory is planned, and where it is planned in slots.
    pub arena: Dim,
    /// Bytes of each slot.
    pub slots: Vec<Dim>,
}

/// A parameter of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanParam {
    /// Its name.
    pub name: String,
    /// Who gives its value.
    pub kind: crate::graph::ParamKind,
    /// Its type.
    pub ty: Type,
}

/// An index into [`Plan::buffers`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufferId(pub u32);

impl BufferId {
    /// The position in the plan.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// A buffer: contiguous elements of one dtype.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferDecl {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: Dim,
    /// Where it lives.
    pub place: Place,
}

/// Where a buffer lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// The parameter at this position: read only.
    Param(u32),
    /// The constant at this position: read only.
    Constant(u32),
    /// The output at this position.
    Output(u32),
    /// The new value of the update at this position.
    NewVariable(u32),
    /// A byte offset in the arena, over symbols; 0 before memory is planned.
    Temp(Dim),
    /// A slot, which no other buffer alive at the same time has.
    Slot(u32),
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub kind: StepKind,
    /// The user's lines that it comes from, without repeats.
    pub locs: SmallVec<[Loc; 2]>,
    /// Why its operations are one step, for reports.
    pub reason: String,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// Runs a kernel.
    Launch(Launch),
    /// Multiplies matrices.
    Contract(Box<Contract>),
    /// Computes attention or its gradient.
    Attend(Box<Attend>),
    /// Copies a whole buffer to one of the same dtype and length.
    Copy {
        /// From here.
        from: BufferId,
        /// To here.
        to: BufferId,
    },
    /// Evaluates an operation on the host with its reference semantics.
    Host {
        /// The operation.
        op: Op,
        /// Its operands and their types.
        operands: Vec<(BufferId, Type)>,
        /// Its results and their types.
        results: Vec<(BufferId, Type)>,
    },
    /// Runs a plan again and again.
    Loop(Box<LoopStep>),
    /// Runs one of several plans.
    Branch(Box<BranchStep>),
}

/// A launch of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Launch {
    /// Index into [`Plan::kernels`].
    pub kernel: u32,
    /// A buffer for each of the kernel's.
    pub buffers: SmallVec<[BufferId; 6]>,
    /// A value for each of the kernel's sizes.
    pub sizes: SmallVec<[Dim; 4]>,
    /// Iterations of the kernel's parallel loop.
    pub iterations: Dim,
    /// Work of one iteration, about: scalar operations over sizes, for choosing a grain.
    pub work: Dim,
}

impl Step {
    /// The buffers it reads and the buffers it writes.
    pub fn accesses(&self, kernels: &[Arc<Kernel>]) -> (SmallVec<[BufferId; 6]>, SmallVec<[BufferId; 2]>) {
        use crate::kernel::Access;
        match &self.kind {
            StepKind::Launch(l) => {
                let mut reads = SmallVec::new();
                let mut writes = SmallVec::new();
                for (b, param) in l.buffers.iter().zip(&kernels[l.kernel as usize].buffers) {
                    if param.access != Access::Write {
                        reads.push(*b);
                    }
                    if param.access != Access::Read {
                        writes.push(*b);
                    }
                }
                (reads, writes)
            }
            StepKind::Contract(c) => c.accesses(kernels),
            StepKind::Attend(a) => a.accesses(),
            StepKind::Copy { from, to } => (SmallVec::from_iter([*from]), SmallVec::from_iter([*to])),
            StepKind::Host { operands, results, .. } => {
                (operands.iter().map(|o| o.0).collect(), results.iter().map(|r| r.0).collect())
            }
            StepKind::Loop(l) => l.accesses(),
            StepKind::Branch(b) => b.accesses(),
        }
    }

    /// The plans that it holds.
    pub fn blocks(&self) -> SmallVec<[&Block; 2]> {
        match &self.kind {
            StepKind::Loop(l) => l.blocks().collect(),
            StepKind::Branch(b) => b.branches.iter().collect(),
            StepKind::Launch(_)
            | StepKind::Contract(_)
            | StepKind::Attend(_)
            | StepKind::Copy { .. }
            | StepKind::Host { .. } => SmallVec::new(),
        }
    }
}

impl Plan {
    /// This plan and those inside it, each before those it holds; one that several steps share comes once.
    pub fn with_nested(&self) -> Vec<&Self> {
        let mut all: Vec<&Self> = vec![self];
        let mut next = 0;
        while let Some(&plan) = all.get(next) {
            next += 1;
            for block in plan.steps.iter().flat_map(Step::blocks) {
                if !all.iter().any(|p| std::ptr::eq(*p, &*block.plan)) {
                    all.push(&block.plan);
                }
            }
        }
        all
    }

    /// A plan of a graph's signature, without steps.
    pub fn of_signature(graph: &Graph) -> Self {
        let params = graph.params().iter().zip(graph.param_types());
        Self {
            name: graph.name.clone(),
            facts: graph.facts.clone(),
            params: params.map(|(p, ty)| PlanParam { name: p.name.clone(), kind: p.kind, ty: ty.clone() }).collect(),
            outputs: graph.outputs().iter().map(|o| (o.name.clone(), graph.ty(o.value).clone())).collect(),
            updates: graph.updates().iter().map(|u| u.param).collect(),
            in_place: vec![false; graph.updates().len()],
            kernels: Vec::new(),
            constants: Vec::new(),
            buffers: Vec::new(),
            steps: Vec::new(),
            arena: Dim::from(0),
            slots: Vec::new(),
        }
    }
}

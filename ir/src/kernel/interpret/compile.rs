//! From the tree of a kernel to a tree of resolved operations.

use super::Functions;
use super::function::{self, Call};
use super::index::Index;
use super::scalar::{self, Binary, Ternary, Unary, Wins};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::kernel::recipes::Function;
use crate::kernel::{AxisKind, Expr, Guard, Kernel, Loop, Memory, Reduction, ScalarOp, Stmt, Var};

/// A compiled kernel: registers `0..vars` are the variables, those above the axes.
pub(super) struct Code {
    pub(super) body: Repeat,
    pub(super) registers: usize,
    /// Words of partial results; each reduce loop owns a part.
    pub(super) partials: usize,
}

/// A statement of the compiled form, with its number for errors.
pub(super) struct Node {
    pub(super) statement: u32,
    pub(super) action: Action,
}

pub(super) enum Action {
    Const { out: u32, bits: u64 },
    Index { out: u32, index: Index },
    Load { out: u32, memory: Memory, index: Index, guard: Vec<Index>, other: u32 },
    Store { value: u32, memory: Memory, index: Index, guard: Vec<Index> },
    Unary { out: u32, f: Unary, a: u32 },
    Binary { out: u32, f: Binary, a: u32, b: u32 },
    Ternary { out: u32, f: Ternary, a: u32, b: u32, c: u32 },
    Call { out: u32, f: Call, function: Function, a: u32, b: u32 },
    Repeat(Repeat),
    If { guard: Vec<Index>, body: Vec<Node> },
}

pub(super) struct Repeat {
    pub(super) axis: u32,
    pub(super) extent: Index,
    pub(super) body: Vec<Node>,
    pub(super) lanes: usize,
    pub(super) folds: Vec<Fold>,
}

/// A reduction whose partial results stand at `at + lane` (and `at + lanes + lane` for the second value).
pub(super) struct Fold {
    pub(super) at: usize,
    pub(super) values: [u32; 2],
    pub(super) results: [u32; 2],
    pub(super) identity: [u64; 2],
    pub(super) how: How,
}

pub(super) enum How {
    One(Binary),
    Argument(Wins),
}

impl Code {
    /// Compiles a kernel whose structure is sound.
    pub(super) fn new(kernel: &Kernel, size_of: &impl Fn(&Symbol) -> Option<i64>, functions: Functions) -> Self {
        let mut compiler = Compiler {
            kernel,
            size_of,
            functions,
            axes: Vec::new(),
            next: 1,
            registers: kernel.vars.len(),
            partials: 0,
        };
        let body = compiler.repeat(&kernel.body);
        Self { body, registers: compiler.registers, partials: compiler.partials }
    }
}

struct Compiler<'k, F> {
    kernel: &'k Kernel,
    size_of: &'k F,
    functions: Functions,
    axes: Vec<(&'k Symbol, u32)>,
    next: u32,
    registers: usize,
    partials: usize,
}

impl<'k, F: Fn(&Symbol) -> Option<i64>> Compiler<'k, F> {
    fn block(&mut self, stmts: &'k [Stmt]) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(stmts.len());
        for stmt in stmts {
            let statement = self.next;
            self.next += 1;
            nodes.extend(self.stmt(stmt).map(|action| Node { statement, action }));
        }
        nodes
    }

    /// The action of a statement; every statement of a sound kernel has one.
    fn stmt(&mut self, stmt: &'k Stmt) -> Option<Action> {
        Some(match stmt {
            Stmt::Let { var, expr } => return self.expr(*var, expr),
            Stmt::Store { memory, index, value, guard } => {
                Action::Store { value: value.0, memory: *memory, index: self.index(index), guard: self.guard(guard) }
            }
            Stmt::Loop(l) => Action::Repeat(self.repeat(l)),
            Stmt::If { guard, body } => Action::If { guard: self.guard(guard), body: self.block(body) },
        })
    }

    fn repeat(&mut self, l: &'k Loop) -> Repeat {
        let extent = self.index(&l.extent);
        let axis = self.registers as u32;
        self.registers += 1;
        self.axes.push((&l.axis, axis));
        let body = self.block(&l.body);
        self.axes.pop();
        let lanes = match l.kind {
            AxisKind::Reduce(lanes) => lanes as usize,
            AxisKind::Parallel | AxisKind::Serial | AxisKind::Lane => 1,
        };
        let folds = l.reductions.iter().filter_map(|r| self.fold(r, lanes)).collect();
        Repeat { axis, extent, body, lanes, folds }
    }

    fn fold(&mut self, r: &Reduction, lanes: usize) -> Option<Fold> {
        let dtype = self.dtype(*r.values.first()?)?;
        let at = self.partials;
        self.partials += lanes * r.values.len();
        let how = match scalar::fold(r.combiner, dtype) {
            Some(f) => How::One(f),
            None => How::Argument(scalar::wins(r.combiner, dtype)?),
        };
        let pair = |vars: &[Var]| [vars.first().map_or(0, |v| v.0), vars.get(1).map_or(0, |v| v.0)];
        let identity = r.combiner.identity(dtype);
        let bits = |i: usize| identity.get(i).map_or(0, |l| l.bits()[0]);
        Some(Fold { at, values: pair(&r.values), results: pair(&r.results), identity: [bits(0), bits(1)], how })
    }

    fn expr(&self, var: Var, expr: &Expr) -> Option<Action> {
        let out = var.0;
        Some(match expr {
            Expr::Const(literal) => Action::Const { out, bits: literal.bits()[0] },
            Expr::Index(dim) => Action::Index { out, index: self.index(dim) },
            Expr::Load { memory, index, guard, other } => Action::Load {
                out,
                memory: *memory,
                index: self.index(index),
                guard: self.guard(guard),
                other: other.map_or(out, |v| v.0),
            },
            Expr::Apply(op, operands) => {
                let register = |i: usize| operands.get(i).map_or(0, |v| v.0);
                let (a, b, c) = (register(0), register(1), register(2));
                let first = self.dtype(*operands.first()?)?;
                if let ScalarOp::Call(function) = op {
                    return Some(Action::Call {
                        out,
                        f: function::call(self.functions, first)?,
                        function: *function,
                        a,
                        b,
                    });
                }
                match scalar::code(*op, first)? {
                    scalar::Code::Unary(f) => Action::Unary { out, f, a },
                    scalar::Code::Binary(f) => Action::Binary { out, f, a, b },
                    scalar::Code::Ternary(f) => Action::Ternary { out, f, a, b, c },
                }
            }
        })
    }

    fn guard(&self, guard: &Guard) -> Vec<Index> {
        guard.0.iter().map(|d| self.index(d)).collect()
    }

    fn index(&self, dim: &Dim) -> Index {
        let register_of = |s: &Symbol| {
            let axis = self.axes.iter().find(|(axis, _)| *axis == s).map(|(_, register)| *register);
            axis.or_else(|| Var::from_symbol(s).map(|v| v.0))
        };
        Index::new(dim, self.size_of, &register_of)
    }

    fn dtype(&self, var: Var) -> Option<DType> {
        self.kernel.vars.get(var.0 as usize).copied()
    }
}

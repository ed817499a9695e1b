//! Statements and expressions of random kernels.

use smallvec::SmallVec;

use super::Generator;
use crate::dim::{AtomKind, Dim};
use crate::dtype::DType;
use crate::kernel::{Access, AxisKind, Combiner, Expr, Guard, Memory, Reduction, ScalarOp, Stmt, Tile, Var};

/// The most buffers of a random kernel.
const MAX_BUFFERS: usize = 12;

impl Generator<'_> {
    /// Stores a value to an element of a new buffer that belongs to this iteration; sometimes loads it again.
    pub(super) fn output(&mut self) {
        if self.buffers.len() >= MAX_BUFFERS {
            return;
        }
        let dtype = self.some_dtype();
        let value = self.var(dtype, 3);
        let (index, len) = self.own_element();
        let memory = self.fresh_buffer(dtype, len, Access::Write);
        let guard = if self.rng.one_in(4) { self.guard() } else { Guard::always() };
        let certain = guard.is_always();
        self.push(Stmt::Store { memory, index: index.clone(), value, guard });
        if certain && self.rng.one_in(3) {
            self.define(dtype, Expr::Load { memory, index, guard: Guard::always(), other: None });
        }
    }

    /// Changes an element of a new buffer in place.
    pub(super) fn update(&mut self) {
        if self.buffers.len() >= MAX_BUFFERS {
            return;
        }
        let dtype = self.some_dtype();
        let (index, len) = self.own_element();
        let memory = self.fresh_buffer(dtype, len, Access::ReadWrite);
        let old = self.define(dtype, Expr::Load { memory, index: index.clone(), guard: Guard::always(), other: None });
        let other = self.var(dtype, 2);
        let value = self.combine(dtype, old, other);
        self.push(Stmt::Store { memory, index, value, guard: Guard::always() });
    }

    /// Fills a tile, or changes one in place, with a loop of its own; only where iterations around are in order.
    pub(super) fn fill(&mut self) {
        if self.axes.iter().any(|a| matches!(a.kind, AxisKind::Lane | AxisKind::Reduce(_))) {
            return self.output();
        }
        let old = self.rng.index(self.filled.len()).map(|i| self.filled[i]).filter(|_| self.rng.one_in(2));
        let number = old.unwrap_or(self.tiles.len() as u32);
        if old.is_none() {
            let len = 1 + self.rng.below(24) as u32;
            let dtype = self.some_dtype();
            self.tiles.push(Tile { name: format!("t{number}"), dtype, len });
        }
        let (dtype, len) = self.tiles.get(number as usize).map_or((DType::Bool, 1), |t| (t.dtype, t.len));
        let kind = if self.rng.one_in(3) { AxisKind::Serial } else { AxisKind::Lane };
        let axis = self.fresh_axis(kind, Dim::from(len));
        let symbol = axis.symbol.clone();
        self.axes.push(axis);
        // Loads of this tile in its own loop are of the element being changed only.
        let others: Vec<u32> = self.filled.iter().copied().filter(|t| *t != number).collect();
        let filled = std::mem::replace(&mut self.filled, others);
        let (body, ()) = self.scope(|g| {
            let (memory, index) = (Memory::Tile(number), Dim::from(&symbol));
            let index = if g.rng.one_in(3) { Dim::from(len) - 1 - index } else { index };
            let mut value = g.var(dtype, 3);
            if old.is_some() {
                let before =
                    g.define(dtype, Expr::Load { memory, index: index.clone(), guard: Guard::always(), other: None });
                value = g.combine(dtype, before, value);
            }
            g.push(Stmt::Store { memory, index, value, guard: Guard::always() });
        });
        self.axes.pop();
        self.filled = filled;
        if old.is_none() {
            self.filled.push(number);
        }
        self.push(Stmt::Loop(crate::kernel::Loop {
            axis: symbol,
            kind,
            extent: Dim::from(len),
            body,
            reductions: Vec::new(),
        }));
    }

    /// One to three combiners, each with values that the current block defines.
    pub(super) fn reduced(&mut self) -> Vec<(Combiner, SmallVec<[Var; 2]>)> {
        let count = 1 + self.rng.below(3);
        (0..count).map(|_| self.reduced_value()).collect()
    }

    fn reduced_value(&mut self) -> (Combiner, SmallVec<[Var; 2]>) {
        let combiner = Combiner::ALL[self.rng.below(Combiner::ALL.len() as u64) as usize];
        let dtype = match combiner {
            Combiner::Any | Combiner::All => DType::Bool,
            Combiner::Max | Combiner::Min | Combiner::ArgMax | Combiner::ArgMin => self.some_dtype(),
            Combiner::Sum | Combiner::Prod => match self.some_dtype() {
                DType::Bool => DType::I64,
                dtype => dtype,
            },
        };
        let (a, b) = (self.var(dtype, 2), self.var(dtype, 1));
        // A new definition, because `a` may come from outside of the loop.
        let value = self.combine(dtype, a, b);
        let mut values = SmallVec::from_iter([value]);
        if combiner.arity() == 2 {
            let index = self.linear();
            values.push(self.define(DType::I64, Expr::Index(index)));
        }
        (combiner, values)
    }

    pub(super) fn reduction(&mut self, combiner: Combiner, values: SmallVec<[Var; 2]>) -> Reduction {
        let results = values.iter().map(|v| self.declare(self.vars[v.0 as usize])).collect();
        Reduction { combiner, values, results }
    }

    /// A new variable from two of its dtype.
    fn combine(&mut self, dtype: DType, a: Var, b: Var) -> Var {
        let op = if dtype == DType::Bool { ScalarOp::Xor } else { ScalarOp::Add };
        self.define(dtype, Expr::Apply(op, SmallVec::from_iter([a, b])))
    }

    /// A variable of a dtype: one that is visible, or a new one with an expression up to `depth` deep.
    fn var(&mut self, dtype: DType, depth: usize) -> Var {
        let candidates: Vec<Var> = self.visible.iter().copied().filter(|v| self.vars[v.0 as usize] == dtype).collect();
        if self.rng.one_in(3)
            && let Some(i) = self.rng.index(candidates.len())
        {
            return candidates[i];
        }
        if depth == 0 {
            let literal = self.literal(dtype);
            return self.define(dtype, Expr::Const(literal));
        }
        match self.rng.below(10) {
            0..=2 => self.load(dtype),
            3..=6 => self.apply(dtype, depth),
            7 => self.convert(dtype, depth),
            8 if dtype == DType::I64 => {
                let index = self.linear();
                let var = self.define(dtype, Expr::Index(index));
                self.small.push(var);
                var
            }
            _ => {
                let literal = self.literal(dtype);
                self.define(dtype, Expr::Const(literal))
            }
        }
    }

    /// An operation that gives the dtype.
    fn apply(&mut self, dtype: DType, depth: usize) -> Var {
        if dtype.is_float()
            && self.rng.one_in(5)
            && let Some(i) = self.rng.index(self.options.functions.len())
        {
            let function = self.options.functions[i];
            let operands = (0..function.arity()).map(|_| self.var(dtype, depth - 1)).collect();
            return self.define(dtype, Expr::Apply(ScalarOp::Call(function), operands));
        }
        for _ in 0..8 {
            let Some(i) = self.rng.index(self.options.ops.len()) else { break };
            let op = self.options.ops[i];
            // A selection has a condition in front, and comparisons of any dtype give bools.
            let mut operands: SmallVec<[DType; 3]> = std::iter::repeat_n(dtype, op.arity()).collect();
            if op == ScalarOp::Select {
                operands[0] = DType::Bool;
            } else if dtype == DType::Bool && op.arity() == 2 && self.rng.one_in(2) {
                let compared = self.some_dtype();
                operands.fill(compared);
            }
            if op.result(&operands) == Some(dtype) {
                let operands = operands.iter().map(|d| self.var(*d, depth - 1)).collect();
                return self.define(dtype, Expr::Apply(op, operands));
            }
        }
        self.load(dtype)
    }

    /// A conversion, or a change of type with the same bits, from another dtype.
    fn convert(&mut self, dtype: DType, depth: usize) -> Var {
        let from = self.some_dtype();
        let operand = self.var(from, depth - 1);
        let bitcast = ScalarOp::Bitcast(dtype);
        let same_bits = from != dtype && self.rng.one_in(2) && bitcast.result(&[from]) == Some(dtype);
        let op = if same_bits { bitcast } else { ScalarOp::Convert(dtype) };
        self.define(dtype, Expr::Apply(op, SmallVec::from_iter([operand])))
    }

    /// A load of a dtype from a tile, from a new buffer or from an old one.
    fn load(&mut self, dtype: DType) -> Var {
        let tiles: Vec<u32> = self.filled.iter().copied().filter(|t| self.tiles[*t as usize].dtype == dtype).collect();
        if self.rng.one_in(2)
            && let Some(i) = self.rng.index(tiles.len())
        {
            let (memory, len) = (Memory::Tile(tiles[i]), Dim::from(self.tiles[tiles[i] as usize].len));
            let index = self.linear().modulo(len);
            return self.define(dtype, Expr::Load { memory, index, guard: Guard::always(), other: None });
        }
        let old = |b: &crate::kernel::Buffer| b.dtype == dtype && b.access == Access::Read;
        let old: Vec<usize> = (0..self.buffers.len()).filter(|i| old(&self.buffers[*i])).collect();
        let reuse = self.rng.index(old.len()).filter(|_| self.rng.one_in(2) || self.buffers.len() >= MAX_BUFFERS);
        let Some(which) = reuse else {
            if self.buffers.len() >= MAX_BUFFERS {
                let literal = self.literal(dtype);
                return self.define(dtype, Expr::Const(literal));
            }
            return self.load_new(dtype);
        };
        // Any index will do under a guard that holds inside only.
        let (memory, len) = (Memory::Buffer(old[which] as u32), self.buffers[old[which]].len.clone());
        let index = self.linear();
        let guard = Guard(SmallVec::from_iter([index.clone(), len - 1 - &index]));
        let other = self.var(dtype, 0);
        self.define(dtype, Expr::Load { memory, index, guard, other: Some(other) })
    }

    /// A load without guard from a new buffer that is long enough.
    fn load_new(&mut self, dtype: DType) -> Var {
        let (index, len) = if self.rng.one_in(3) {
            // The length is positive, so the remainder is inside.
            let len = self.size() + 1 + self.rng.below(4) as i64;
            (self.linear().modulo(&len), len)
        } else {
            let stride = if self.rng.one_in(4) { 1 + self.rng.below(3) as i64 } else { 1 };
            let keep: Vec<bool> = self.axes.iter().map(|_| !self.rng.one_in(3)).collect();
            let (index, len) = self.flat(|at, _| keep[at]);
            (index * stride, len * stride)
        };
        let memory = self.fresh_buffer(dtype, len, Access::Read);
        self.define(dtype, Expr::Load { memory, index, guard: Guard::always(), other: None })
    }

    /// An index that no two iterations of independent axes share, and a length that contains it.
    fn own_element(&mut self) -> (Dim, Dim) {
        let keep_serial = self.rng.one_in(2);
        self.flat(|_, kind| kind != AxisKind::Serial || keep_serial)
    }

    /// The row-major index over some of the axes, the last one sometimes backwards, and the product of their bounds.
    fn flat(&mut self, keep: impl Fn(usize, AxisKind) -> bool) -> (Dim, Dim) {
        let (mut index, mut len) = (Dim::ZERO, Dim::ONE);
        let backwards = self.rng.one_in(4);
        for (at, axis) in self.axes.iter().enumerate() {
            if keep(at, axis.kind) {
                let last = at + 1 == self.axes.len();
                let own = Dim::from(&axis.symbol);
                let own = if last && backwards { &axis.bound - 1 - own } else { own };
                index = index * &axis.bound + own;
                len *= &axis.bound;
            }
        }
        (index, len)
    }

    /// An index expression over axes, sizes and small variables, of small magnitude.
    fn linear(&mut self) -> Dim {
        let mut dim = Dim::from(self.rng.below(7) as i64 - 3);
        for _ in 0..1 + self.rng.below(3) {
            let coefficient = [1, 1, 1, -1, 2, 3][self.rng.below(6) as usize];
            let part = match self.rng.below(6) {
                0 => self.size(),
                1 => match self.rng.index(self.small.len()) {
                    Some(i) => Dim::from(self.small[i].symbol()),
                    None => Dim::ONE,
                },
                _ => match self.rng.index(self.axes.len()) {
                    Some(i) => Dim::from(&self.axes[i].symbol),
                    None => Dim::ONE,
                },
            };
            dim += part * coefficient;
        }
        match self.rng.below(10) {
            0 => dim.floordiv(1 + self.rng.below(5) as i64),
            1 => dim.modulo(1 + self.rng.below(7) as i64),
            2 => AtomKind::Min.apply(&dim, &self.size()),
            3 => AtomKind::Max.apply(&dim, &Dim::from(self.rng.below(5) as i64)),
            _ => dim,
        }
    }

    pub(super) fn guard(&mut self) -> Guard {
        Guard((0..1 + self.rng.below(2)).map(|_| self.linear()).collect())
    }

    fn define(&mut self, dtype: DType, expr: Expr) -> Var {
        let var = self.declare(dtype);
        self.visible.push(var);
        self.push(Stmt::Let { var, expr });
        var
    }

    fn declare(&mut self, dtype: DType) -> Var {
        let var = Var(self.vars.len() as u32);
        self.vars.push(dtype);
        var
    }
}

//! Random kernels that verify and run, for tests of the text, the interpreter and the emitters.
//!
//! A [`Case`] follows from its seed alone. Kernels are right by construction: an index is flat over the axes around it, wrapped with
//! `mod`, or guarded; stores go to elements that belong to one iteration; tiles are filled where no independent axis is around.
//! So the interpreter must run every case without an error, and every emitter must agree with it.

mod body;
mod rng;

use super::interpret::BufferData;
use super::recipes::Function;
use super::{Access, AxisKind, Buffer, Kernel, Loop, Memory, ScalarOp, Stmt, Tile, Var};
use crate::dim::{AtomKind, Dim, Symbol};
use crate::dtype::DType;
use crate::literal::Literal;
use crate::loc::Loc;

use rng::Rng;

/// What random kernels consist of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Dtypes of variables and buffers; `i64` and `bool` occur in any case, for indices and conditions.
    pub dtypes: Vec<DType>,
    /// Operations that may occur, conversions between the dtypes aside.
    pub ops: Vec<ScalarOp>,
    /// Elementary functions that may occur.
    pub functions: Vec<Function>,
    /// The most statements, roughly.
    pub statements: usize,
    /// The deepest nesting of loops and conditions below the outermost loop.
    pub depth: usize,
    /// The most iterations of innermost blocks, roughly.
    pub iterations: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dtypes: vec![DType::F32, DType::F64, DType::I32, DType::I64, DType::U32, DType::Bool],
            ops: ScalarOp::PLAIN.to_vec(),
            functions: vec![Function::Exp, Function::Log, Function::Tanh, Function::Logistic, Function::Pow],
            statements: 40,
            depth: 3,
            iterations: 4000,
        }
    }
}

/// A kernel with sizes and buffers to run it on.
#[derive(Clone, Debug)]
pub struct Case {
    /// The kernel.
    pub kernel: Kernel,
    /// A value for each size.
    pub sizes: Vec<i64>,
    /// The buffers before the run: random values, and the same for buffers that are only written.
    pub buffers: Vec<BufferData>,
}

/// The case of a seed.
pub fn case(seed: u64, options: &Options) -> Case {
    let mut generator = Generator::new(seed, options);
    let body = generator.root();
    generator.finish(body)
}

/// A loop around the current block.
struct Axis {
    symbol: Symbol,
    kind: AxisKind,
    /// A bound of the extent that mentions sizes only, and its value.
    bound: Dim,
    bound_value: i64,
}

struct Generator<'o> {
    rng: Rng,
    options: &'o Options,
    sizes: Vec<(Symbol, i64)>,
    buffers: Vec<Buffer>,
    tiles: Vec<Tile>,
    vars: Vec<DType>,
    /// The variables that may be used here.
    visible: Vec<Var>,
    /// `i64` variables of small magnitude, for index expressions.
    small: Vec<Var>,
    /// Tiles whose every element is defined here.
    filled: Vec<u32>,
    axes: Vec<Axis>,
    axis_count: usize,
    /// The statements of the blocks around, innermost last.
    blocks: Vec<Vec<Stmt>>,
    budget: usize,
}

impl<'o> Generator<'o> {
    fn new(seed: u64, options: &'o Options) -> Self {
        let mut rng = Rng::new(seed);
        // Zero is rare, because little happens in a kernel without iterations.
        let sizes = ["n", "m"].map(|name| (name, if rng.one_in(12) { 0 } else { 1 + rng.below(19) as i64 }));
        let sizes = sizes.into_iter().filter_map(|(name, value)| Some((Symbol::new(name).ok()?, value))).collect();
        Self {
            rng,
            options,
            sizes,
            buffers: Vec::new(),
            tiles: Vec::new(),
            vars: Vec::new(),
            visible: Vec::new(),
            small: Vec::new(),
            filled: Vec::new(),
            axes: Vec::new(),
            axis_count: 0,
            blocks: Vec::new(),
            budget: options.statements,
        }
    }

    fn root(&mut self) -> Loop {
        self.repeat(AxisKind::Parallel, |g| {
            g.block(0);
            // Something must be stored in every kernel.
            g.output();
        })
    }

    fn finish(mut self, body: Loop) -> Case {
        let sizes: Vec<i64> = self.sizes.iter().map(|(_, v)| *v).collect();
        let lens: Vec<usize> = self.buffers.iter().map(|b| self.value(&b.len).unsigned_abs() as usize).collect();
        let mut buffers = Vec::new();
        for (b, len) in self.buffers.iter().zip(lens) {
            let mut data = BufferData::zeros(b.dtype, len).unwrap_or(BufferData::Bool(Vec::new()));
            for i in 0..len {
                data.set_bits(i, self.rng.literal(b.dtype).bits()[0]);
            }
            buffers.push(data);
        }
        let locs = (0..self.rng.below(3)).map(|i| Loc::new("random.rs", 1 + i as u32, 5)).collect();
        let kernel = Kernel {
            name: "random".to_owned(),
            sizes: self.sizes.into_iter().map(|(s, _)| s).collect(),
            buffers: self.buffers,
            tiles: self.tiles,
            vars: self.vars,
            body,
            locs,
        };
        Case { kernel, sizes, buffers }
    }

    /// The value of a dimension over sizes.
    fn value(&self, dim: &Dim) -> i64 {
        dim.eval(&|s| self.sizes.iter().find(|(t, _)| t == s).map(|(_, v)| *v)).unwrap_or(0)
    }

    /// Some statements at a nesting depth.
    fn block(&mut self, depth: usize) {
        for _ in 0..1 + self.rng.below(4) {
            if self.budget == 0 {
                return;
            }
            match self.rng.below(10) {
                0..=4 if depth < self.options.depth => self.inner_loop(depth),
                0..=2 => self.output(),
                3 | 4 => self.update(),
                5 => self.fill(),
                6 if depth < self.options.depth => self.condition(depth),
                _ => self.output(),
            }
        }
    }

    fn inner_loop(&mut self, depth: usize) {
        let kind = match self.rng.below(5) {
            0 => AxisKind::Serial,
            1 | 2 => AxisKind::Lane,
            _ => AxisKind::Reduce(1 << self.rng.below(6)),
        };
        let inner = self.repeat(kind, |g| g.block(depth + 1));
        self.visible.extend(inner.reductions.iter().flat_map(|r| r.results.clone()));
        self.push(Stmt::Loop(inner));
    }

    fn condition(&mut self, depth: usize) {
        let guard = self.guard();
        let body = self.scope(|g| g.block(depth + 1)).0;
        self.push(Stmt::If { guard, body });
    }

    /// A loop over some extent, with reductions if its kind has them.
    fn repeat(&mut self, kind: AxisKind, body: impl FnOnce(&mut Self)) -> Loop {
        let (extent, bound) = self.extent();
        let axis = self.fresh_axis(kind, bound);
        let symbol = axis.symbol.clone();
        self.axes.push(axis);
        let reduce = matches!(kind, AxisKind::Reduce(_));
        let (body, reductions) = self.scope(|g| {
            body(g);
            if reduce { g.reduced() } else { Vec::new() }
        });
        self.axes.pop();
        // The results are new variables, which become visible outside only now.
        let reductions = reductions.into_iter().map(|(combiner, values)| self.reduction(combiner, values)).collect();
        Loop { axis: symbol, kind, extent, body, reductions }
    }

    /// Runs `inside` with a new block, and forgets afterwards what it defined.
    fn scope<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> (Vec<Stmt>, T) {
        let marks = (self.visible.len(), self.small.len(), self.filled.len());
        self.blocks.push(Vec::new());
        let result = inside(self);
        self.visible.truncate(marks.0);
        self.small.truncate(marks.1);
        self.filled.truncate(marks.2);
        (self.blocks.pop().unwrap_or_default(), result)
    }

    fn fresh_axis(&mut self, kind: AxisKind, bound: Dim) -> Axis {
        let name = format!("i{}", self.axis_count);
        self.axis_count += 1;
        let symbol = Symbol::new(&name).unwrap_or_else(|e| unreachable!("{e}"));
        Axis { symbol, kind, bound_value: self.value(&bound), bound }
    }

    /// An extent, and a bound of it over sizes.
    fn extent(&mut self) -> (Dim, Dim) {
        let around: i64 = self.axes.iter().map(|a| a.bound_value.max(1)).product();
        let room = (self.options.iterations / around.max(1)).max(1);
        for _ in 0..8 {
            let (extent, bound) = match self.rng.below(8) {
                0..=2 => self.over_sizes(|d, _| d),
                3 => self.over_sizes(|d, k| d + k),
                4 => self.over_sizes(|d, k| d.ceildiv(k + 1)),
                5 => self.triangle(),
                _ => {
                    let constant = Dim::from(self.rng.below(41) as i64);
                    (constant.clone(), constant)
                }
            };
            if self.value(&bound) <= room {
                return (extent, bound);
            }
        }
        (Dim::ONE, Dim::ONE)
    }

    fn over_sizes(&mut self, make: impl FnOnce(Dim, i64) -> Dim) -> (Dim, Dim) {
        let (size, k) = (self.size(), self.rng.below(5) as i64);
        let extent = make(size, k);
        (extent.clone(), extent)
    }

    /// An extent that depends on an outer axis.
    fn triangle(&mut self) -> (Dim, Dim) {
        let Some(at) = self.rng.index(self.axes.len()) else { return (Dim::ONE, Dim::ONE) };
        let (axis, bound) = (Dim::from(&self.axes[at].symbol), self.axes[at].bound.clone());
        if self.rng.one_in(2) {
            (axis + 1, bound)
        } else {
            let tile = Dim::from(1 + self.rng.below(9) as i64);
            (AtomKind::Min.apply(&tile, &(&bound - axis)), tile)
        }
    }

    fn size(&mut self) -> Dim {
        self.rng.index(self.sizes.len()).map_or(Dim::ONE, |i| Dim::from(&self.sizes[i].0))
    }

    fn fresh_buffer(&mut self, dtype: DType, len: Dim, access: Access) -> Memory {
        let number = self.buffers.len() as u32;
        let letter = match access {
            Access::Read => 'x',
            Access::Write => 'y',
            Access::ReadWrite => 'z',
        };
        self.buffers.push(Buffer { name: format!("{letter}{number}"), dtype, len, access });
        Memory::Buffer(number)
    }

    fn push(&mut self, stmt: Stmt) {
        self.budget = self.budget.saturating_sub(1);
        if let Some(block) = self.blocks.last_mut() {
            block.push(stmt);
        }
    }

    fn some_dtype(&mut self) -> DType {
        self.rng.index(self.options.dtypes.len()).map_or(DType::I64, |i| self.options.dtypes[i])
    }

    fn literal(&mut self, dtype: DType) -> Literal {
        self.rng.literal(dtype)
    }
}

#[cfg(test)]
mod tests;

//! The invariants that need no knowledge of sizes: names, scopes, dtypes, kinds of loops, access.

use std::collections::BTreeSet;

use super::{Fault, MAX_LANES, MAX_TILE_BYTES, VerifyError};
use crate::dim::{Dim, Symbol};
use crate::dtype::{DType, Kind};
use crate::kernel::parse::{MAX_COUNT, MAX_DEPTH, in_kernel_name, in_name, in_symbol};
use crate::kernel::print::Site;
use crate::kernel::{Access, AxisKind, Combiner, Expr, Guard, Kernel, Loop, Memory, Reduction, ScalarOp, Stmt, Var};

/// What is wrong with the structure of a kernel, in text order.
pub(in crate::kernel) fn check(kernel: &Kernel) -> Vec<VerifyError> {
    let mut checker = Checker {
        kernel,
        errors: Vec::new(),
        site: Site::Header,
        next: 0,
        depth: 0,
        sizes: kernel.sizes.iter().collect(),
        axes: Vec::new(),
        defined: vec![false; kernel.vars.len()],
        visible: vec![false; kernel.vars.len()],
        scope: Vec::new(),
        loads: Vec::new(),
        stores: Vec::new(),
        serial_since: None,
    };
    checker.header();
    checker.root();
    checker.after();
    checker.errors
}

struct Checker<'k> {
    kernel: &'k Kernel,
    errors: Vec<VerifyError>,
    site: Site,
    next: u32,
    depth: usize,
    sizes: BTreeSet<&'k Symbol>,
    axes: Vec<&'k Symbol>,
    defined: Vec<bool>,
    visible: Vec<bool>,
    /// The variables made visible so far; a block truncates it to what stood there before.
    scope: Vec<Var>,
    /// Loads that no store precedes yet: the memory, where, and the outermost serial loop around it.
    loads: Vec<(Memory, Site, Option<u32>)>,
    /// The first store to each memory and the outermost serial loop around each.
    stores: Vec<(Memory, Option<u32>)>,
    serial_since: Option<u32>,
}

impl<'k> Checker<'k> {
    fn fail(&mut self, fault: Fault) {
        self.errors.push(VerifyError { site: self.site, fault });
    }

    fn header(&mut self) {
        let kernel = self.kernel;
        if !is_word(&kernel.name, in_kernel_name) {
            self.fail(Fault::Name(kernel.name.clone()));
        }
        for n in [kernel.sizes.len(), kernel.buffers.len(), kernel.tiles.len(), kernel.vars.len()] {
            if n > MAX_COUNT {
                self.fail(Fault::TooMany);
            }
        }
        let mut seen = BTreeSet::new();
        for size in &kernel.sizes {
            self.symbol(size);
            if !seen.insert(size) {
                self.fail(Fault::DuplicateName(size.to_string()));
            }
        }
        let buffers = kernel.buffers.iter().map(|b| (&b.name, b.dtype));
        let tiles = kernel.tiles.iter().map(|t| (&t.name, t.dtype));
        let mut seen = BTreeSet::new();
        for (name, dtype) in buffers.chain(tiles) {
            if !is_word(name, in_name) {
                self.fail(Fault::Name(name.clone()));
            }
            if !seen.insert(name) {
                self.fail(Fault::DuplicateName(name.clone()));
            }
            self.real(dtype);
        }
        for buffer in &kernel.buffers {
            self.dim(&buffer.len, false);
        }
        let bytes = kernel.tiles.iter().map(|t| u64::from(t.len) * t.dtype.size() as u64).sum::<u64>();
        if bytes > MAX_TILE_BYTES {
            self.fail(Fault::TileBytes(bytes));
        }
    }

    fn root(&mut self) {
        let root = &self.kernel.body;
        let number = self.number();
        self.site = Site::Stmt(number);
        if root.kind != AxisKind::Parallel {
            self.fail(Fault::RootNotParallel);
        }
        self.repeat(number, root);
    }

    fn after(&mut self) {
        self.site = Site::Header;
        let undefined = self.defined.iter().zip(0..).find(|(defined, _)| !**defined);
        if let Some((_, var)) = undefined {
            self.fail(Fault::NeverDefined(Var(var)));
        }
        // A load in a serial loop may read what a later statement of the same loop stored one iteration before.
        for (memory, site, serial) in std::mem::take(&mut self.loads) {
            let carried = serial.is_some() && self.stores.contains(&(memory, serial));
            if !carried {
                self.site = site;
                self.fail(Fault::LoadBeforeStore(self.name(memory)));
            }
        }
    }

    fn block(&mut self, stmts: &'k [Stmt]) {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.fail(Fault::TooDeep);
        } else {
            stmts.iter().for_each(|s| self.stmt(s));
        }
        self.depth -= 1;
    }

    fn stmt(&mut self, stmt: &'k Stmt) {
        let number = self.number();
        self.site = Site::Stmt(number);
        if number as usize > MAX_COUNT {
            // Said once; the rest of a kernel this large is not looked at.
            if number as usize == MAX_COUNT + 1 {
                self.fail(Fault::TooMany);
            }
            return;
        }
        match stmt {
            Stmt::Let { var, expr } => {
                if let Some(dtype) = self.expr(expr) {
                    self.define(*var, Some(dtype));
                } else {
                    self.define(*var, None);
                }
            }
            Stmt::Store { memory, index, value, guard } => {
                let dtype = self.use_of(*value);
                self.access(*memory, index);
                if let (Some(got), Some(want)) = (dtype, self.kernel.memory_dtype(*memory)) {
                    self.same(want, got);
                }
                if let Memory::Buffer(i) = memory
                    && self.kernel.buffers.get(*i as usize).is_some_and(|b| !b.access.stores())
                {
                    self.fail(Fault::StoreToRead(self.name(*memory)));
                }
                self.guard(guard);
                if !self.stores.contains(&(*memory, self.serial_since)) {
                    self.stores.push((*memory, self.serial_since));
                }
            }
            Stmt::Loop(l) => {
                if l.kind == AxisKind::Parallel {
                    self.fail(Fault::InnerParallel);
                }
                self.repeat(number, l);
            }
            Stmt::If { guard, body } => {
                self.guard(guard);
                if guard.is_always() {
                    self.fail(Fault::EmptyIf);
                }
                let mark = self.scope.len();
                self.block(body);
                self.leave(mark);
            }
        }
    }

    fn repeat(&mut self, number: u32, l: &'k Loop) {
        self.symbol(&l.axis);
        if self.axes.contains(&&l.axis) || self.sizes.contains(&l.axis) {
            self.fail(Fault::DuplicateName(l.axis.to_string()));
        }
        self.dim(&l.extent, false);
        match l.kind {
            AxisKind::Reduce(lanes) => {
                if !lanes.is_power_of_two() || lanes > MAX_LANES {
                    self.fail(Fault::Lanes(lanes));
                }
                if l.reductions.is_empty() {
                    self.fail(Fault::NothingReduced);
                }
            }
            AxisKind::Parallel | AxisKind::Serial | AxisKind::Lane => {
                if !l.reductions.is_empty() {
                    self.fail(Fault::ReductionOutside(l.kind));
                }
            }
        }
        let outer_serial = self.serial_since;
        if l.kind == AxisKind::Serial {
            self.serial_since = outer_serial.or(Some(number));
        }
        self.axes.push(&l.axis);
        let mark = self.scope.len();
        self.block(&l.body);
        self.site = Site::End(number);
        // The values are checked while the body's own variables are still visible, the results defined when they are gone.
        let reduces = !l.reductions.is_empty();
        let body: BTreeSet<Var> = self.scope[mark..].iter().copied().filter(|_| reduces).collect();
        let dtypes: Vec<Option<DType>> = l.reductions.iter().map(|r| self.reduction(r, &body)).collect();
        self.leave(mark);
        self.axes.pop();
        self.serial_since = outer_serial;
        for (reduction, dtype) in l.reductions.iter().zip(dtypes) {
            for (i, result) in reduction.results.iter().enumerate() {
                self.define(*result, if i == 0 { dtype } else { Some(DType::I64) });
            }
        }
    }

    /// Checks one reduction and gives the dtype of its first value.
    fn reduction(&mut self, r: &Reduction, body: &BTreeSet<Var>) -> Option<DType> {
        let arity = r.combiner.arity();
        if r.values.len() != arity || r.results.len() != arity {
            self.fail(Fault::ReductionArity(r.combiner));
            return None;
        }
        for value in &r.values {
            if !body.contains(value) {
                self.fail(Fault::ReducedOutside(*value));
            }
        }
        let dtypes: Option<Vec<DType>> = r.values.iter().map(|v| self.dtype(*v)).collect();
        let dtypes = dtypes?;
        if !reduces(r.combiner, &dtypes) {
            self.fail(Fault::ReductionTypes { combiner: r.combiner, dtypes });
            return None;
        }
        dtypes.first().copied()
    }

    /// Checks an expression and gives its dtype, if it has one.
    fn expr(&mut self, expr: &Expr) -> Option<DType> {
        match expr {
            Expr::Const(literal) => Some(literal.dtype()),
            Expr::Index(dim) => {
                self.dim(dim, true);
                Some(DType::I64)
            }
            Expr::Load { memory, index, guard, other } => {
                self.access(*memory, index);
                self.guard(guard);
                if guard.is_always() != other.is_none() {
                    self.fail(Fault::GuardWithoutOther);
                }
                let dtype = self.kernel.memory_dtype(*memory);
                if let Some(other) = other
                    && let (Some(got), Some(want)) = (self.use_of(*other), dtype)
                {
                    self.same(want, got);
                }
                let must_store = match memory {
                    Memory::Buffer(i) => {
                        self.kernel.buffers.get(*i as usize).is_some_and(|b| b.access == Access::Write)
                    }
                    Memory::Tile(_) => dtype.is_some(),
                };
                if must_store && !self.stores.iter().any(|(m, _)| m == memory) {
                    self.loads.push((*memory, self.site, self.serial_since));
                }
                dtype
            }
            Expr::Apply(op, operands) => {
                let dtypes: Vec<Option<DType>> = operands.iter().map(|v| self.use_of(*v)).collect();
                let dtypes: Vec<DType> = dtypes.into_iter().collect::<Option<_>>()?;
                if let ScalarOp::Call(_) = op
                    && op.to_string().parse() != Ok(*op)
                {
                    self.fail(Fault::OtherOp(op.to_string()));
                }
                let result = op.result(&dtypes);
                if result.is_none() {
                    self.fail(Fault::Operands(*op, dtypes));
                }
                result
            }
        }
    }

    fn access(&mut self, memory: Memory, index: &Dim) {
        if self.kernel.memory_dtype(memory).is_none() {
            self.fail(Fault::NoMemory(memory));
        }
        self.dim(index, true);
    }

    fn guard(&mut self, guard: &Guard) {
        guard.0.iter().for_each(|d| self.dim(d, true));
    }

    /// Checks that an index expression has a form and mentions only what is visible here.
    fn dim(&mut self, dim: &Dim, with_vars: bool) {
        if let Some(fault) = dim.fault() {
            self.fail(Fault::Dim(fault));
        }
        for symbol in dim.symbols() {
            if self.axes.contains(&&symbol) || self.sizes.contains(&symbol) {
                continue;
            }
            match Var::from_symbol(&symbol).filter(|_| with_vars) {
                None => self.fail(Fault::UnknownSymbol(symbol)),
                Some(var) => {
                    if let Some(dtype) = self.use_of(var)
                        && dtype != DType::I64
                    {
                        self.fail(Fault::IndexType(var, dtype));
                    }
                }
            }
        }
    }

    fn symbol(&mut self, symbol: &Symbol) {
        if !is_word(symbol.as_str(), in_symbol) {
            self.fail(Fault::Name(symbol.to_string()));
        }
    }

    /// The dtype of a variable that is used here, if it is visible.
    fn use_of(&mut self, var: Var) -> Option<DType> {
        if self.visible.get(var.0 as usize) != Some(&true) {
            self.fail(Fault::NotVisible(var));
            return None;
        }
        self.dtype(var)
    }

    fn dtype(&self, var: Var) -> Option<DType> {
        self.kernel.vars.get(var.0 as usize).copied()
    }

    fn define(&mut self, var: Var, dtype: Option<DType>) {
        let at = var.0 as usize;
        let Some(declared) = self.dtype(var) else {
            return self.fail(Fault::NotDeclared(var));
        };
        self.real(declared);
        if let Some(dtype) = dtype
            && dtype != declared
        {
            self.fail(Fault::DeclaredType { var, declared, found: dtype });
        }
        if std::mem::replace(&mut self.defined[at], true) {
            self.fail(Fault::Redefined(var));
        }
        self.visible[at] = true;
        self.scope.push(var);
    }

    fn leave(&mut self, mark: usize) {
        for var in self.scope.drain(mark..) {
            self.visible[var.0 as usize] = false;
        }
    }

    fn real(&mut self, dtype: DType) {
        if dtype.kind() == Kind::Complex {
            self.fail(Fault::Complex(dtype));
        }
    }

    fn same(&mut self, want: DType, got: DType) {
        if want != got {
            self.fail(Fault::MemoryType { want, got });
        }
    }

    fn name(&self, memory: Memory) -> String {
        self.kernel.memory_name(memory).unwrap_or_default().to_owned()
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }
}

fn is_word(name: &str, accept: impl Fn(u8) -> bool) -> bool {
    name.bytes().all(accept) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

/// Whether a combiner folds values of these dtypes.
fn reduces(combiner: Combiner, dtypes: &[DType]) -> bool {
    let Some(first) = dtypes.first().copied() else {
        return false;
    };
    match combiner {
        Combiner::Sum => ScalarOp::Add.result(&[first, first]).is_some(),
        Combiner::Prod => ScalarOp::Mul.result(&[first, first]).is_some(),
        Combiner::Max | Combiner::Min => first.kind() != Kind::Complex,
        Combiner::Any | Combiner::All => first == DType::Bool,
        Combiner::ArgMax | Combiner::ArgMin => first.kind() != Kind::Complex && dtypes.get(1) == Some(&DType::I64),
    }
}

//! Statements of a block: definitions, loads, stores, conditions.

use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{AxisKind, Expr, Guard, Memory, Stmt, Var};
use smallvec::SmallVec;

use super::barrier::Touched;
use super::printer::{Context, Place, Printer, var_name};
use super::{Unsupported, WgslError, loops};

impl<'k> Printer<'k> {
    pub(super) fn stmt(&mut self, stmt: &'k Stmt) -> Result<(), WgslError> {
        let nests = match stmt {
            Stmt::Loop(l) => l.kind == AxisKind::Serial,
            Stmt::If { .. } => true,
            Stmt::Let { .. } | Stmt::Store { .. } => false,
        };
        if self.context == Context::Row {
            self.wait_before(&Touched::by(stmt), nests);
        }
        match stmt {
            Stmt::Let { var, expr } => self.define_expr(*var, expr),
            Stmt::Store { memory, index, value, guard } => self.store(*memory, index, *value, guard),
            Stmt::Loop(l) => self.inner_loop(l),
            Stmt::If { guard, body } => self.condition(guard, body),
        }
    }

    /// Makes the workgroup wait where what comes now meets what has been touched. What nests statements that store starts and ends
    /// with nothing to wait for, because its body may run several times or not at all.
    fn wait_before(&mut self, now: &Touched, nests: bool) {
        if self.touched.conflicts(now) || (nests && now.stores()) {
            self.wait();
        }
        if !nests || !now.stores() {
            self.touched.add(now);
        }
    }

    /// A barrier for all that has been touched, if anything has.
    pub(super) fn wait(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        touched.barriers().into_iter().for_each(|call| self.line(call));
    }

    fn define_expr(&mut self, var: Var, expr: &Expr) -> Result<(), WgslError> {
        self.note_origin(var, expr);
        self.note_zero(var, expr);
        match expr {
            Expr::Const(literal) => {
                let text = self.literal(literal)?;
                self.define(var, &text)
            }
            Expr::Index(dim) => {
                let text = self.index_value(dim)?;
                self.define(var, &text)
            }
            Expr::Load { memory, index, guard, other } => self.load(var, *memory, index, guard, *other),
            Expr::Apply(op, operands) => {
                let dtypes: SmallVec<[DType; 3]> = operands.iter().map(|v| self.dtype(*v)).collect::<Result<_, _>>()?;
                let names = self.operands(*op, &dtypes, operands);
                let text = self.apply(*op, &dtypes, &names)?;
                self.define(var, &text)
            }
        }
    }

    fn load(
        &mut self,
        var: Var,
        memory: Memory,
        index: &Dim,
        guard: &Guard,
        other: Option<Var>,
    ) -> Result<(), WgslError> {
        if self.is_nowhere(memory, index) {
            return match other {
                Some(other) => self.define(var, &var_name(other)),
                None => Err(WgslError::Invalid("an index outside of its memory")),
            };
        }
        let Some(other) = other else {
            let element = self.loaded(memory, index)?;
            return self.define(var, &element);
        };
        let (name, ty) = (var_name(var), self.ty(self.dtype(var)?)?);
        self.line(format!("var {name}: {ty} = {};", var_name(other)));
        let guard = self.guard(guard)?;
        self.open(format!("if ({guard}) {{"));
        let element = self.loaded(memory, index)?;
        self.line(format!("{name} = {element};"));
        self.close("}");
        Ok(())
    }

    /// The element at an index.
    fn loaded(&mut self, memory: Memory, index: &Dim) -> Result<String, WgslError> {
        let place = self.place(memory);
        if let Some(value) = place.and_then(|p| p.at_hand.clone()) {
            return Ok(value);
        }
        let atomic = place.is_some_and(|p| p.atomic);
        let (name, index) = (self.memory_name(memory)?.to_owned(), self.index(index)?);
        match memory {
            Memory::Tile(_) => Ok(format!("{name}[{index}]")),
            Memory::Buffer(_) => {
                let dtype = self.kernel.memory_dtype(memory).ok_or(WgslError::Invalid("memory that does not exist"))?;
                Ok(self.element(dtype, &name, atomic, &index))
            }
        }
    }

    fn place(&self, memory: Memory) -> Option<&Place> {
        match memory {
            Memory::Buffer(i) => self.places.get(i as usize),
            Memory::Tile(_) => None,
        }
    }

    fn store(&mut self, memory: Memory, index: &Dim, value: Var, guard: &Guard) -> Result<(), WgslError> {
        if self.is_nowhere(memory, index) {
            return if guard.is_always() { Err(WgslError::Invalid("an index outside of its memory")) } else { Ok(()) };
        }
        let mut conditions = Vec::new();
        if self.context == Context::Row {
            conditions.push("lane == 0".to_owned());
        }
        if !guard.is_always() {
            conditions.push(self.guard(guard)?);
        }
        if !conditions.is_empty() {
            self.open(format!("if ({}) {{", conditions.join(" && ")));
        }
        let (name, index) = (self.memory_name(memory)?.to_owned(), self.index(index)?);
        let value = var_name(value);
        match memory {
            Memory::Tile(_) => self.line(format!("{name}[{index}] = {value};")),
            Memory::Buffer(_) => {
                let dtype = self.kernel.memory_dtype(memory).ok_or(WgslError::Invalid("memory that does not exist"))?;
                self.store_element(dtype, &name, &index, &value);
            }
        }
        if !conditions.is_empty() {
            self.close("}");
        }
        Ok(())
    }

    fn condition(&mut self, guard: &Guard, body: &'k [Stmt]) -> Result<(), WgslError> {
        let row = self.context == Context::Row;
        let stores = body.iter().any(|s| Touched::by(s).stores());
        if row && (stores || loops::has_lanes(body)) {
            let divergent = guard
                .0
                .iter()
                .find(|d| d.symbols().filter_map(|s| Var::from_symbol(&s)).any(|v| self.is_from_memory(v)));
            if let Some(divergent) = divergent {
                return Err(Unsupported::Divergent(divergent.clone()).into());
            }
        }
        let text = self.guard(guard)?;
        self.open(format!("if ({text}) {{"));
        self.block(body)?;
        if row && stores {
            self.wait();
        }
        self.close("}");
        Ok(())
    }

    /// Whether an index is a constant outside of its memory: its guard never holds, but WGSL refuses the text.
    fn is_nowhere(&self, memory: Memory, index: &Dim) -> bool {
        let len = match memory {
            Memory::Buffer(_) => None,
            Memory::Tile(i) => self.kernel.tiles.get(i as usize).map(|t| i64::from(t.len)),
        };
        index.as_const().is_some_and(|at| at < 0 || len.is_some_and(|len| at >= len))
    }

    /// Notes whether a variable depends on what memory holds.
    fn note_origin(&mut self, var: Var, expr: &Expr) {
        let found = match expr {
            Expr::Const(_) => false,
            Expr::Index(dim) => dim.symbols().filter_map(|s| Var::from_symbol(&s)).any(|v| self.is_from_memory(v)),
            Expr::Load { .. } => true,
            Expr::Apply(_, operands) => operands.iter().any(|v| self.is_from_memory(*v)),
        };
        if let Some(slot) = self.from_memory.get_mut(var.0 as usize) {
            *slot = found;
        }
    }

    fn is_from_memory(&self, var: Var) -> bool {
        self.from_memory.get(var.0 as usize).copied().unwrap_or(true)
    }
}

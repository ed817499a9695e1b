//! The state of emitting one kernel, its function's frame, and statements.
//!
//! Registers with a fixed use: `rbx` the sizes, `r12` the buffers, `r13` the tiles, `r14` the number of active lanes while a loop is
//! vectorised, `r15` the lane in a loop over lanes, `rbp` the caller's stack pointer.

use std::borrow::Cow;

use iced_x86::{Code, Register};
use lehr_ir::dim::{Dim, Symbol};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Expr, Guard, Kernel, ScalarOp, Stmt, Var};
use lehr_ir::literal::Literal;
use smallvec::SmallVec;

use super::assembler::{Assembler, at, frame};
use super::flow::choose;
use super::frame::Frame;
use super::segment::{Bin, Each, Node, Op, Operand, Segment, V, Wide};
use super::size::Size;
use super::{Unsupported, WideError, Width, scan};
use crate::cpu::emit::{KernelContext, SCRATCH_ALIGN};

/// Where a variable is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Nowhere: it is not defined yet, or not used any more.
    Unset,
    /// In the current segment.
    Here(V),
    /// A vector of the frame.
    Home(i32),
    /// The same bits in every element.
    Const(u64),
    /// A 64-bit integer of a kernel whose other values are narrower.
    Wide(Wide),
}

/// The vectorised loop.
pub(super) struct Lane<'k> {
    pub(super) axis: &'k Symbol,
    /// The place of the axis at the first lane.
    pub(super) base: i32,
    /// The place of the axis at the lane that a loop over lanes runs.
    pub(super) current: i32,
    /// For each variable whether it differs from lane to lane.
    pub(super) varying: Vec<bool>,
}

pub(super) struct Emitter<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) width: Width,
    /// The size of the widest elements.
    pub(super) size: Size,
    pub(super) asm: Assembler,
    pub(super) frame: Frame,
    pub(super) segment: Segment<'k>,
    /// The axes around with their places in the frame, innermost last.
    pub(super) axes: Vec<(&'k Symbol, i32)>,
    pub(super) lane: Option<Lane<'k>>,
    /// Whether a loop over lanes is being emitted.
    pub(super) in_lane: bool,
    /// Places of intermediate results of index expressions, by depth.
    pub(super) kept: Vec<i32>,
    /// The offset of each tile.
    pub(super) tiles: Vec<i32>,
    /// Variables of the index that is being emitted, by the places of their vectors.
    pub(super) index_vars: Vec<(Var, i32)>,
    /// The place of the numbers 0 to 7 in four bytes each, for AVX2's masks.
    pub(super) lane_numbers: i32,
    /// The place of the numbers of the lanes in eight bytes each, where elements are that wide.
    pub(super) counter_numbers: i32,
    /// The number of the next statement.
    pub(super) number: u32,
    /// Whether code that is slower than Cranelift's is refused.
    pub(super) only_if_it_pays: bool,
    vars: Vec<Place>,
    homes: Vec<Option<i32>>,
    last_uses: Vec<u32>,
}

impl Lane<'_> {
    /// Whether an index differs from lane to lane.
    pub(super) fn dim_varies(&self, dim: &Dim) -> bool {
        scan::varies(dim, self.axis, &self.varying)
    }
}

impl<'k> Emitter<'k> {
    pub(super) fn new(kernel: &'k Kernel, width: Width, size: Size, only_if_it_pays: bool) -> Result<Self, WideError> {
        check_dtypes(kernel)?;
        let mut end = 0_usize;
        let mut tiles = Vec::new();
        for tile in &kernel.tiles {
            tiles.push(i32::try_from(end).map_err(|_| WideError::Invalid("tiles that are too large"))?);
            end += (tile.len as usize * tile.dtype.size()).next_multiple_of(SCRATCH_ALIGN);
        }
        Ok(Self {
            kernel,
            width,
            size,
            asm: Assembler::default(),
            frame: Frame::default(),
            segment: Segment::new(width, size),
            axes: Vec::new(),
            lane: None,
            in_lane: false,
            kept: Vec::new(),
            tiles,
            index_vars: Vec::new(),
            lane_numbers: 0,
            counter_numbers: 0,
            number: 0,
            only_if_it_pays,
            vars: vec![Place::Unset; kernel.vars.len()],
            homes: vec![None; kernel.vars.len()],
            last_uses: scan::last_uses(kernel, size == Size::Eight),
        })
    }

    /// The code of the kernel's function.
    pub(super) fn function(mut self, listing: bool) -> Result<super::Code, WideError> {
        let saved = [Register::RBP, Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];
        saved.iter().for_each(|r| self.asm.r(Code::Push_r64, *r));
        self.asm.rr(Code::Mov_r64_rm64, Register::RBP, Register::RSP);
        let frame_size = self.enter_frame();
        let fields = [
            (Register::R12, std::mem::offset_of!(KernelContext, buffers)),
            (Register::RBX, std::mem::offset_of!(KernelContext, sizes)),
            (Register::R13, std::mem::offset_of!(KernelContext, scratch)),
        ];
        for (register, offset) in fields {
            self.asm.rm(Code::Mov_r64_rm64, register, at(Register::RDI, offset as i32));
        }
        let (lo, hi) = (self.frame.words(1), self.frame.words(1));
        self.asm.mr(Code::Mov_rm64_r64, frame(lo), Register::RSI);
        self.asm.mr(Code::Mov_rm64_r64, frame(hi), Register::RDX);
        if self.width == Width::Avx2 {
            self.lane_numbers = self.frame.vectors(1);
            for i in 0..8 {
                self.asm.mi(Code::Mov_rm32_imm32, frame(self.lane_numbers + 4 * i), i);
            }
        }
        if self.size == Size::Eight {
            self.counter_numbers = self.frame.vectors(1);
            for i in 0..self.lanes() as i32 {
                self.asm.mi(Code::Mov_rm64_imm32, frame(self.counter_numbers + 8 * i), i);
            }
        }
        self.root(lo, hi)?;
        self.asm.op(Code::VEX_Vzeroupper);
        self.asm.rr(Code::Mov_r64_rm64, Register::RSP, Register::RBP);
        saved.iter().rev().for_each(|r| self.asm.r(Code::Pop_r64, *r));
        self.asm.op(Code::Retnq);
        let bytes = self.frame.bytes()?;
        self.asm.patch(frame_size, bytes);
        self.asm.finish(listing)
    }

    /// Makes room for the frame, touching each page on the way because the stack grows by one guard page at a time.
    /// Gives the instruction that takes the size.
    fn enter_frame(&mut self) -> usize {
        let (again, last) = (self.asm.label(), self.asm.label());
        let position = self.asm.position();
        self.asm.ri(Code::Mov_rm32_imm32, Register::EAX, i32::MAX);
        self.asm.bind(again);
        self.asm.ri(Code::Cmp_rm64_imm32, Register::RAX, 4096);
        self.asm.jump(Code::Jl_rel32_64, last);
        self.asm.ri(Code::Sub_rm64_imm32, Register::RSP, 4096);
        self.asm.mr(Code::Test_rm64_r64, at(Register::RSP, 0), Register::RSP);
        self.asm.ri(Code::Sub_rm64_imm32, Register::RAX, 4096);
        self.asm.jump(Code::Jmp_rel32_64, again);
        self.asm.bind(last);
        self.asm.rr(Code::Sub_r64_rm64, Register::RSP, Register::RAX);
        self.asm.ri(Code::And_rm64_imm32, Register::RSP, -64);
        position
    }

    /// Elements of a vector, of the widest.
    pub(super) fn lanes(&self) -> usize {
        self.size.lanes(self.width)
    }

    /// The size that values of a dtype have in vectors.
    pub(super) fn size_of(&self, dtype: DType) -> Size {
        match dtype {
            DType::Bool => self.size,
            dtype if dtype.size() == 8 => Size::Eight,
            _ => Size::Four,
        }
    }

    pub(super) fn block(&mut self, stmts: &'k [Stmt]) -> Result<(), WideError> {
        stmts.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, stmt: &'k Stmt) -> Result<(), WideError> {
        self.number += 1;
        match stmt {
            Stmt::Let { var, expr } => self.expr(*var, expr),
            Stmt::Store { memory, index, value, guard } => self.store(*memory, index, *value, guard),
            Stmt::Loop(l) => self.inner_loop(l),
            Stmt::If { guard, body } => self.condition(guard, body),
        }
    }

    fn condition(&mut self, guard: &'k Guard, body: &'k [Stmt]) -> Result<(), WideError> {
        self.flush()?;
        let skip = self.asm.label();
        self.unless(guard, skip)?;
        self.block(body)?;
        self.flush()?;
        self.asm.bind(skip);
        Ok(())
    }

    fn expr(&mut self, var: Var, expr: &'k Expr) -> Result<(), WideError> {
        match expr {
            Expr::Const(literal) if literal.dtype() == DType::I64 && self.size == Size::Four => {
                let wide = self.new_wide(var, false);
                self.asm_constant(wide, literal.bits()[0].cast_signed())
            }
            Expr::Const(literal) => {
                self.set(var, Place::Const(self.element_bits(literal)));
                Ok(())
            }
            Expr::Index(dim) if self.size == Size::Eight => self.index_vector(var, dim),
            Expr::Index(dim) => {
                let into = self.new_wide(var, self.var_varies(var));
                let each = Each::Index { dim, into: Some(into) };
                self.segment.push(Op::Each(each, into.varying), Size::Four, &[]);
                Ok(())
            }
            Expr::Load { memory, index, guard, other } => self.load(var, *memory, index, guard, *other),
            Expr::Apply(op, operands) => self.apply(var, *op, operands),
        }
    }

    fn apply(&mut self, var: Var, op: ScalarOp, operands: &[Var]) -> Result<(), WideError> {
        let dtypes: SmallVec<[DType; 3]> = operands.iter().map(|v| self.dtype(*v)).collect::<Result<_, _>>()?;
        let varying = self.var_varies(var);
        let result = self.dtype(var)?;
        if self.size == Size::Eight || (result != DType::I64 && !dtypes.contains(&DType::I64)) {
            let args: SmallVec<[V; 3]> = operands.iter().map(|v| self.value(*v)).collect::<Result<_, _>>()?;
            let v = self.segment.apply(op, &dtypes, &args, varying)?;
            self.define(var, v);
            return Ok(());
        }
        let first = *dtypes.first().ok_or(WideError::Invalid("an operation without operands"))?;
        let (mut args, mut places): (SmallVec<[V; 3]>, SmallVec<[Operand; 3]>) = (SmallVec::new(), SmallVec::new());
        for (operand, dtype) in operands.iter().zip(&dtypes) {
            match (self.place(*operand)?, dtype) {
                (Place::Wide(wide), _) => places.push(Operand::Wide(wide)),
                (_, dtype) if dtype.is_float() => return Err(Unsupported::Op { op, dtype: first }.into()),
                (_, dtype) => {
                    places.push(Operand::Value(args.len(), *dtype));
                    args.push(self.value(*operand)?);
                }
            }
        }
        let into = (result == DType::I64).then(|| self.new_wide(var, varying));
        let each = Each::Wide { op, dtype: first, operands: places, into };
        let v = self.segment.push(Op::Each(each, varying), Size::Four, &args);
        if into.is_none() {
            self.define(var, v);
        }
        Ok(())
    }

    /// A place for a 64-bit variable.
    pub(super) fn new_wide(&mut self, var: Var, varying: bool) -> Wide {
        let words = if varying { self.lanes() } else { 1 };
        let wide = Wide { offset: self.frame.words(words), varying };
        self.set(var, Place::Wide(wide));
        wide
    }

    /// An index expression as a vector.
    fn index_vector(&mut self, var: Var, dim: &'k Dim) -> Result<(), WideError> {
        let v = match &self.lane {
            Some(lane) if lane.dim_varies(dim) => match linear(dim, lane) {
                Some((slope, start)) => {
                    let counter = self.segment.push(Op::Counter, Size::Eight, &[]);
                    let steps = if slope == 1 {
                        counter
                    } else {
                        let slope = self.segment.constant(Size::Eight, slope.cast_unsigned());
                        let dtypes = [DType::I64, DType::I64];
                        self.segment.apply(ScalarOp::Mul, &dtypes, &[counter, slope], true)?
                    };
                    if start.as_const() == Some(0) {
                        steps
                    } else {
                        let start = self.push_indexed(Op::Uniform(Cow::Owned(start)), Size::Eight, SmallVec::new())?;
                        self.segment.bin(Bin::IAdd, steps, start)
                    }
                }
                None => {
                    self.push_indexed(Op::Each(Each::Index { dim, into: None }, true), Size::Eight, SmallVec::new())?
                }
            },
            Some(_) | None => self.push_indexed(Op::Uniform(Cow::Borrowed(dim)), Size::Eight, SmallVec::new())?,
        };
        self.define(var, v);
        Ok(())
    }

    /// A literal's bits in an element: a bool is all bits or none, and half precision is f32.
    pub(super) fn element_bits(&self, literal: &Literal) -> u64 {
        let bits = literal.bits()[0];
        match literal.dtype() {
            DType::Bool => bits.wrapping_neg() & self.size.ones(),
            DType::F16 | DType::BF16 => u64::from((literal.to_f64() as f32).to_bits()),
            _ => bits,
        }
    }

    /// A 64-bit constant in the frame. It is written at once, so before the segment that may use it.
    fn asm_constant(&mut self, wide: Wide, value: i64) -> Result<(), WideError> {
        self.asm.constant(Register::RAX, value);
        self.put_wide(wide, Register::RAX);
        Ok(())
    }

    /// Emits the segment. Variables that later statements use go to the frame.
    pub(super) fn flush(&mut self) -> Result<(), WideError> {
        for (var, v) in std::mem::take(&mut self.segment.variables) {
            let used = self.last_uses.get(var.0 as usize).is_some_and(|last| *last >= self.number);
            let place = if used {
                let home = self.home(var);
                let dtype = self.dtype(var)?;
                let v = self.canonical(dtype, v);
                self.segment.push(Op::Save(home), self.size, &[v]);
                Place::Home(home)
            } else {
                Place::Unset
            };
            self.set(var, place);
        }
        let segment = std::mem::replace(&mut self.segment, Segment::new(self.width, self.size));
        self.emit_nodes(&choose(segment.nodes))
    }

    /// The operations of a segment that nothing after it uses.
    pub(super) fn take_segment(&mut self) -> Vec<Node<'k>> {
        let segment = std::mem::replace(&mut self.segment, Segment::new(self.width, self.size));
        segment.variables.iter().for_each(|(var, _)| self.set(*var, Place::Unset));
        segment.nodes
    }

    fn home(&mut self, var: Var) -> i32 {
        if let Some(Some(home)) = self.homes.get(var.0 as usize) {
            return *home;
        }
        let home = self.frame.vectors(1);
        if let Some(slot) = self.homes.get_mut(var.0 as usize) {
            *slot = Some(home);
        }
        home
    }

    /// Makes a variable a value of the segment.
    pub(super) fn define(&mut self, var: Var, v: V) {
        self.segment.variables.push((var, v));
        self.set(var, Place::Here(v));
    }

    pub(super) fn set(&mut self, var: Var, place: Place) {
        if let Some(slot) = self.vars.get_mut(var.0 as usize) {
            *slot = place;
        }
    }

    pub(super) fn place(&self, var: Var) -> Result<Place, WideError> {
        self.vars.get(var.0 as usize).copied().ok_or(WideError::Invalid("a variable that is not declared"))
    }

    pub(super) fn dtype(&self, var: Var) -> Result<DType, WideError> {
        self.kernel.vars.get(var.0 as usize).copied().ok_or(WideError::Invalid("a variable without dtype"))
    }

    /// Whether a variable differs from lane to lane of the vectorised loop, if there is one.
    pub(super) fn var_varies(&self, var: Var) -> bool {
        self.lane.as_ref().is_some_and(|l| l.varying.get(var.0 as usize).copied().unwrap_or(true))
    }
}

/// An index as a constant times the vectorised axis, and what is to be added to that.
fn linear(dim: &Dim, lane: &Lane<'_>) -> Option<(i64, Dim)> {
    let (slope, rest) = dim.split_linear(lane.axis)?;
    let slope = slope.as_const()?;
    (!lane.dim_varies(&rest)).then_some((slope, rest))
}

fn check_dtypes(kernel: &Kernel) -> Result<(), WideError> {
    let storage = |dtype| match dtype {
        DType::Bool | DType::F32 | DType::I32 | DType::U32 | DType::F64 | DType::I64 | DType::U64 => true,
        DType::F16 | DType::BF16 => true,
        DType::I8 | DType::I16 | DType::U8 | DType::U16 | DType::C64 | DType::C128 => false,
    };
    let buffers = kernel.buffers.iter().map(|b| (b.dtype, &b.name));
    let tiles = kernel.tiles.iter().map(|t| (t.dtype, &t.name));
    if let Some((dtype, name)) = buffers.chain(tiles).find(|(d, _)| !storage(*d)) {
        return Err(Unsupported::DType { dtype, place: format!("`{name}`") }.into());
    }
    match kernel.vars.iter().enumerate().find(|(_, d)| !storage(**d)) {
        Some((i, dtype)) => Err(Unsupported::DType { dtype: *dtype, place: format!("%{i}") }.into()),
        None => Ok(()),
    }
}

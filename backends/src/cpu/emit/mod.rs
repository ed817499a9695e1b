//! One kernel becomes one Cranelift function.
//!
//! The function is `extern "C" fn(context: *const KernelContext, lo: i64, hi: i64)` and runs iterations `lo..hi` of the outermost loop.
//! Everything it touches is reached through the [`KernelContext`], so the code holds no host address.
//!
//! At most one loop of a nest is vectorised, over 128-bit vectors: [`plan`] chooses it, a lane or reduce loop as a rule. Inside it a
//! value that varies over the lanes is a group of vectors ([`value`]), and several vectors are in flight. What no vector instruction
//! does runs lane by lane, so every body that has scalar code has vector code, and both give the same bits.

use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{
    AbiParam, AliasRegionData, BlockArg, Function, InstBuilder, MemFlagsData, SigRef, Signature, StackSlot,
    StackSlotData, StackSlotKind, Type, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use lehr_ir::dim::{Atom, Dim, Symbol};
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::{Expr, Kernel, Memory, Stmt, Var};
use lehr_ir::literal::Literal;
use smallvec::SmallVec;

mod combine;
mod convert;
mod error;
mod function;
mod index;
mod loops;
mod memory;
mod ops;
mod plan;
mod pool;
mod reduce;
#[cfg(test)]
pub(in crate::cpu) mod tests;
mod value;
mod walk;

pub use error::EmitError;
use plan::Lanes;
use pool::Pool;
use value::Val;

use crate::cpu::table::{Entry, FunctionTable};

/// What a launch hands to a kernel's code.
///
/// Buffers and sizes are in the order that the kernel declares them. Distinct buffers must not overlap unless both are only read, or
/// one lies where the other does and each of its elements is loaded only for what the same iteration stores there.
#[repr(C)]
#[derive(Debug)]
pub struct KernelContext {
    /// The first element of each buffer; no alignment beyond the element's is needed.
    pub buffers: *const *mut u8,
    /// The value of each size.
    pub sizes: *const i64,
    /// Host functions.
    pub functions: *const FunctionTable,
    /// [`scratch_bytes`] bytes, aligned to [`SCRATCH_ALIGN`], that no other thread uses during the call.
    pub scratch: *mut u8,
}

/// The alignment of a worker's scratch, and of each tile in it.
pub const SCRATCH_ALIGN: usize = 64;

/// Bytes of scratch that a kernel's tiles take.
pub fn scratch_bytes(kernel: &Kernel) -> usize {
    tile_offsets(kernel).1
}

/// What the emitter has to know about the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Fused multiply-add is an instruction.
    pub fma: bool,
    /// Rounding to an integer is an instruction.
    pub round: bool,
    /// It has the 128-bit vectors that the emitter uses.
    pub vectors: bool,
    /// It is x86-64.
    pub x86: bool,
}

/// Emits a kernel. `vectors` asks for vector code where the machine has it.
///
/// # Errors
/// [`EmitError`] for a dtype without code, and for a kernel that the verifier refuses.
pub fn emit(
    kernel: &Kernel,
    machine: Machine,
    vectors: bool,
    config: TargetFrontendConfig,
    builder: &mut FunctionBuilderContext,
) -> Result<Function, EmitError> {
    check_dtypes(kernel)?;
    let call_conv = config.default_call_conv;
    let mut function = Function::with_name_signature(UserFuncName::default(), signature(call_conv));
    let b = FunctionBuilder::new(&mut function, builder);
    let mut e = Emitter::new(b, kernel, machine, vectors && machine.vectors, call_conv);
    e.kernel_body()?;
    e.b.seal_all_blocks();
    let pool = e.pool;
    e.b.finalize(config);
    pool.fill(&mut function);
    Ok(function)
}

/// The signature of every kernel.
pub(crate) fn signature(call_conv: CallConv) -> Signature {
    let mut s = Signature::new(call_conv);
    s.params.extend([types::I64; 3].map(AbiParam::new));
    s
}

/// Complex values have no registers here.
fn check_dtypes(kernel: &Kernel) -> Result<(), EmitError> {
    let memory = kernel.buffers.iter().map(|b| b.dtype).chain(kernel.tiles.iter().map(|t| t.dtype));
    match memory.chain(kernel.vars.iter().copied()).find(|d| d.kind() == Kind::Complex) {
        Some(dtype) => Err(EmitError::Unsupported { dtype, op: "any operation".to_owned() }),
        None => Ok(()),
    }
}

fn tile_offsets(kernel: &Kernel) -> (Vec<usize>, usize) {
    let mut end = 0;
    let mut offsets = Vec::new();
    for tile in &kernel.tiles {
        offsets.push(end);
        end += (tile.len as usize * tile.dtype.size()).next_multiple_of(SCRATCH_ALIGN);
    }
    (offsets, end)
}

/// Flags of a bit cast between vector types, which wants a byte order.
const LITTLE: MemFlagsData = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);

/// The state of emitting one kernel.
struct Emitter<'a, 'b> {
    b: FunctionBuilder<'b>,
    kernel: &'a Kernel,
    isa: Machine,
    // Whether loops may still be vectorised here.
    simd: bool,
    call_conv: CallConv,
    buffers: Vec<(Value, MemFlagsData)>,
    tiles: Vec<(Value, MemFlagsData)>,
    functions: Value,
    context_flags: MemFlagsData,
    stack_flags: MemFlagsData,
    signatures: Vec<(Entry, SigRef)>,
    vars: Vec<Option<Val>>,
    // Innermost last, since a loop may be emitted several times.
    symbols: Vec<(Symbol, Bound)>,
    // Depth of the loop that is being emitted, which orders the terms of indices.
    level: u32,
    innermost: Option<Symbol>,
    // The vectorised loop, if it is around, and how many lanes a value spans.
    lanes: Option<Lanes>,
    group: usize,
    // What is computed ahead of the loops around.
    divisions: Vec<(Atom, Value)>,
    loads: Vec<(Memory, Dim, Value)>,
    pool: Pool,
}

/// A symbol's value and the depth of the loop that binds it.
#[derive(Clone, Copy)]
struct Bound {
    value: Value,
    level: u32,
}

/// What [`Emitter::leave`] restores.
struct Scope {
    symbols: usize,
    divisions: usize,
    loads: usize,
    level: u32,
    innermost: Option<Symbol>,
}

impl<'a, 'b> Emitter<'a, 'b> {
    fn new(mut b: FunctionBuilder<'b>, kernel: &'a Kernel, isa: Machine, simd: bool, call_conv: CallConv) -> Self {
        let context_flags = MemFlagsData::trusted().with_readonly().with_can_move();
        let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 0, 4));
        Self {
            b,
            kernel,
            isa,
            simd,
            call_conv,
            buffers: Vec::new(),
            tiles: Vec::new(),
            functions: Value::from_u32(0),
            context_flags,
            stack_flags: MemFlagsData::new(),
            signatures: Vec::new(),
            vars: vec![None; kernel.vars.len()],
            symbols: Vec::new(),
            level: 0,
            innermost: None,
            lanes: None,
            group: 1,
            divisions: Vec::new(),
            loads: Vec::new(),
            pool: Pool::new(slot),
        }
    }

    fn kernel_body(&mut self) -> Result<(), EmitError> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        let (context, lo, hi) = match *self.b.block_params(entry) {
            [context, lo, hi] => (context, lo, hi),
            _ => return Err(EmitError::Invalid("a signature without three parameters")),
        };
        self.bind_context(context);
        let kernel = self.kernel;
        self.hoist_divisions(std::slice::from_ref(&Stmt::Loop(kernel.body.clone())))?;
        self.any_loop(&kernel.body, lo, hi, None)?;
        self.b.ins().return_(&[]);
        Ok(())
    }

    /// Loads what the context holds; Cranelift drops what nobody uses.
    fn bind_context(&mut self, context: Value) {
        let flags = self.context_flags;
        let field = |e: &mut Self, offset: usize| e.b.ins().load(types::I64, flags, context, offset as i32);
        let buffers = field(self, std::mem::offset_of!(KernelContext, buffers));
        let sizes = field(self, std::mem::offset_of!(KernelContext, sizes));
        let scratch = field(self, std::mem::offset_of!(KernelContext, scratch));
        self.functions = field(self, std::mem::offset_of!(KernelContext, functions));
        let mut region = 0;
        let mut flags_of = |e: &mut Self, what: &'static str| {
            region += 1;
            let data = AliasRegionData { user_id: region, description: what.into() };
            memory::flags(e.b.func.dfg.alias_regions.insert(data))
        };
        self.stack_flags = flags_of(self, "stack");
        for i in 0..self.kernel.buffers.len() {
            let pointer = self.b.ins().load(types::I64, flags, buffers, 8 * i as i32);
            let flags = flags_of(self, "buffer");
            self.buffers.push((pointer, flags));
        }
        for offset in tile_offsets(self.kernel).0 {
            let pointer = self.b.ins().iadd_imm_s(scratch, offset as i64);
            let flags = flags_of(self, "tile");
            self.tiles.push((pointer, flags));
        }
        for (i, size) in self.kernel.sizes.iter().enumerate() {
            let value = self.b.ins().load(types::I64, flags, sizes, 8 * i as i32);
            self.symbols.push((size.clone(), Bound { value, level: 0 }));
        }
    }

    fn block(&mut self, stmts: &[Stmt]) -> Result<(), EmitError> {
        stmts.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, stmt: &Stmt) -> Result<(), EmitError> {
        match stmt {
            Stmt::Let { var, expr } => {
                let v = self.expr(stmt, expr)?;
                self.define(*var, v);
                Ok(())
            }
            Stmt::Store { memory, index, value, guard } => self.store(stmt, *memory, index, *value, guard),
            Stmt::Loop(l) => self.inner_loop(l),
            Stmt::If { guard, body } => {
                let varies = self.guard_varies(guard);
                self.conditional(stmt, guard, varies, |e| e.block(body))
            }
        }
    }

    fn expr(&mut self, stmt: &Stmt, expr: &Expr) -> Result<Val, EmitError> {
        match expr {
            Expr::Const(literal) => Ok(Val::Scalar(self.literal(literal))),
            Expr::Index(dim) => self.index_value(dim),
            Expr::Load { memory, index, guard, other } => self.load(stmt, *memory, index, guard, *other),
            Expr::Apply(op, args) => {
                let dtypes: SmallVec<[DType; 3]> = args.iter().map(|v| self.var_dtype(*v)).collect::<Result<_, _>>()?;
                let args: SmallVec<[Val; 3]> = args.iter().map(|v| self.var(*v).cloned()).collect::<Result<_, _>>()?;
                self.apply(*op, &dtypes, &args)
            }
        }
    }

    /// An index expression as a value, with one element a lane where it varies.
    fn index_value(&mut self, dim: &Dim) -> Result<Val, EmitError> {
        if !self.varies(dim) {
            return Ok(Val::Scalar(self.index(dim, 0)?));
        }
        let group = self.group();
        let Some(step) = self.lane_step(dim) else {
            let lanes: Vec<Value> = (0..group).map(|lane| self.index(dim, lane)).collect::<Result<_, _>>()?;
            return Ok(self.gather_lanes(DType::I64, &lanes));
        };
        let first = self.index(dim, 0)?;
        let first = self.b.ins().splat(types::I64X2, first);
        let mut parts = value::Parts::new();
        for i in 0..group as i64 / 2 {
            let offsets = [2 * i, 2 * i + 1].map(|l| l.wrapping_mul(step).cast_unsigned());
            let offsets = self.vector_constant(types::I64X2, u128::from(offsets[0]) | u128::from(offsets[1]) << 64);
            parts.push(self.b.ins().iadd(first, offsets));
        }
        Ok(Val::Lanes(parts))
    }

    fn var(&self, var: Var) -> Result<&Val, EmitError> {
        self.vars.get(var.0 as usize).and_then(Option::as_ref).ok_or(EmitError::Undefined(var))
    }

    fn var_dtype(&self, var: Var) -> Result<DType, EmitError> {
        self.kernel.vars.get(var.0 as usize).copied().ok_or(EmitError::Undefined(var))
    }

    fn define(&mut self, var: Var, v: Val) {
        if let Some(slot) = self.vars.get_mut(var.0 as usize) {
            *slot = Some(v);
        }
    }

    /// How many lanes a value spans here; 1 outside vectorised loops.
    fn group(&self) -> usize {
        self.group
    }

    fn enter(&self) -> Scope {
        Scope {
            symbols: self.symbols.len(),
            divisions: self.divisions.len(),
            loads: self.loads.len(),
            level: self.level,
            innermost: self.innermost.clone(),
        }
    }

    /// Forgets what was bound and computed since, which does not dominate what follows.
    fn leave(&mut self, scope: Scope) {
        self.symbols.truncate(scope.symbols);
        self.divisions.truncate(scope.divisions);
        self.loads.truncate(scope.loads);
        self.level = scope.level;
        self.innermost = scope.innermost;
    }

    fn bind(&mut self, symbol: &Symbol, value: Value) {
        self.symbols.push((symbol.clone(), Bound { value, level: self.level }));
    }

    fn bound(&self, symbol: &Symbol) -> Option<Bound> {
        self.symbols.iter().rev().find(|(s, _)| s == symbol).map(|(_, b)| *b)
    }

    fn jump(&mut self, block: cranelift_codegen::ir::Block, args: &[Value]) {
        let args: SmallVec<[BlockArg; 8]> = args.iter().map(|v| BlockArg::from(*v)).collect();
        self.b.ins().jump(block, &args);
    }

    /// A stack slot, aligned to a vector.
    fn stack(&mut self, bytes: usize) -> StackSlot {
        self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes as u32, 4))
    }

    fn type_of(&self, v: Value) -> Type {
        self.b.func.dfg.value_type(v)
    }

    /// One instruction, for chains that read left to right.
    fn ins(&mut self, f: impl FnOnce(cranelift_frontend::FuncInstBuilder<'_, 'b>) -> Value) -> Value {
        f(self.b.ins())
    }

    /// An integer in a register, in each lane of a vector.
    fn constant(&mut self, ty: Type, v: i64) -> Value {
        let bits = ty.lane_bits();
        let v = if bits == 64 { v } else { v & ((1 << bits) - 1) };
        if !ty.is_vector() {
            return self.b.ins().iconst(ty, v);
        }
        let element = u128::from(v.cast_unsigned());
        let all = (0..ty.lane_count()).fold(0, |acc, i| acc | element << (i * bits));
        self.vector_constant(ty, all)
    }

    /// A float in a register, in each lane of a vector; rounded to `f32` where that is the type.
    fn constant_f64(&mut self, ty: Type, x: f64) -> Value {
        match ty {
            types::F32 => self.b.ins().f32const(Ieee32::with_float(x as f32)),
            types::F64 => self.b.ins().f64const(Ieee64::with_float(x)),
            types::F64X2 => {
                let bits = u128::from(x.to_bits());
                self.vector_constant(ty, bits | bits << 64)
            }
            _ => {
                let bits = u128::from((x as f32).to_bits());
                self.vector_constant(ty, bits * 0x1_0000_0001_0000_0001_0000_0001)
            }
        }
    }

    fn vector_constant(&mut self, ty: Type, bits: u128) -> Value {
        let data = self.b.func.dfg.constants.insert(bits.to_le_bytes().as_slice().into());
        self.b.ins().vconst(ty, data)
    }

    fn literal(&mut self, l: &Literal) -> Value {
        let ty = self.register(l.dtype());
        match l.dtype() {
            DType::F32 | DType::C64 => self.b.ins().f32const(Ieee32::with_bits(l.bits()[0] as u32)),
            DType::F64 | DType::C128 => self.b.ins().f64const(Ieee64::with_bits(l.bits()[0])),
            DType::F16 | DType::BF16 => self.constant_f64(ty, l.to_f64()),
            DType::U64 => self.b.ins().iconst(ty, l.bits()[0].cast_signed()),
            DType::Bool | DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::U8 | DType::U16 | DType::U32 => {
                self.constant(ty, l.to_i64().unwrap_or_default())
            }
        }
    }
}

//! Loads and stores.

use iced_x86::{Code, MemoryOperand, Register};
use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Guard, Memory, Var};
use smallvec::SmallVec;

use super::WideError;
use super::assembler::{at, frame, frame_lane, indexed};
use super::emitter::{Emitter, Place};
use super::segment::{Access, Each, Node, Op, Step, V};
use super::size::Size;
use super::vector::{SCRATCH, low_half};

impl<'k> Emitter<'k> {
    /// Adds a load to the segment.
    pub(super) fn load(
        &mut self,
        var: Var,
        memory: Memory,
        index: &'k Dim,
        guard: &'k Guard,
        other: Option<Var>,
    ) -> Result<(), WideError> {
        let access = self.access(memory, index, guard, self.var_varies(var))?;
        let size = self.size_of(access.dtype);
        let mut args = SmallVec::new();
        if let Some(other) = other {
            let v = self.value(other)?;
            args.push(self.canonical(access.dtype, v));
        }
        let each = other.is_some() || access.step == Step::Each;
        let op = if each { Op::Each(Each::Load(access), access.varying) } else { Op::Load(access) };
        let v = self.push_indexed(op, size, args)?;
        self.define(var, v);
        Ok(())
    }

    /// Adds a store to the segment.
    pub(super) fn store(
        &mut self,
        memory: Memory,
        index: &'k Dim,
        value: Var,
        guard: &'k Guard,
    ) -> Result<(), WideError> {
        let access = self.access(memory, index, guard, self.lane.is_some())?;
        let value = self.value(value)?;
        let value = self.canonical(access.dtype, value);
        let op = match access.step {
            // Equal places of several lanes are written in order.
            Step::Same if self.lane.is_some() => Op::Each(Each::Store(Access { step: Step::Each, ..access }), true),
            Step::Same | Step::Unit => Op::Store(access),
            Step::Each => Op::Each(Each::Store(access), access.varying),
        };
        self.push_indexed(op, self.size_of(access.dtype), SmallVec::from_iter([value]))?;
        Ok(())
    }

    /// Adds an operation with the variables of its indices as its last operands.
    pub(super) fn push_indexed(&mut self, op: Op<'k>, size: Size, args: SmallVec<[V; 3]>) -> Result<V, WideError> {
        let vars = op.vars();
        let mut node = Node::new(op, size, args);
        for var in vars {
            let v = self.value(var)?;
            node.args.push(v);
        }
        Ok(self.segment.push_node(node))
    }

    /// A value in the form that memory and the frame have: masks as wide as the kernel's widest elements.
    pub(super) fn canonical(&mut self, dtype: DType, v: V) -> V {
        if dtype == DType::Bool { self.segment.mask(v, self.size) } else { v }
    }

    fn access(&self, memory: Memory, index: &'k Dim, guard: &'k Guard, varying: bool) -> Result<Access<'k>, WideError> {
        let dtype = self.kernel.memory_dtype(memory).ok_or(WideError::Invalid("memory that does not exist"))?;
        let step = match &self.lane {
            Some(lane) if lane.dim_varies(index) => match index.split_linear(lane.axis) {
                Some((slope, rest)) if slope.is_one() && !lane.dim_varies(&rest) => Step::Unit,
                Some(_) | None => Step::Each,
            },
            Some(_) | None => Step::Same,
        };
        // In narrow kernels `i64` variables have places of their own.
        Ok(Access { memory, dtype, index, guard, step, varying, takes_vars: self.size == Size::Eight, granted: false })
    }

    /// The address of memory's first element in `rcx`.
    pub(super) fn base(&mut self, memory: Memory) -> Result<(), WideError> {
        match memory {
            Memory::Buffer(i) => {
                let i = i32::try_from(i).map_err(|_| WideError::Invalid("memory that does not exist"))?;
                self.asm.rm(Code::Mov_r64_rm64, Register::RCX, at(Register::R12, 8 * i));
            }
            Memory::Tile(i) => {
                let offset = *self.tiles.get(i as usize).ok_or(WideError::Invalid("memory that does not exist"))?;
                self.asm.rm(Code::Lea_r64_m, Register::RCX, at(Register::R13, offset));
            }
        }
        Ok(())
    }

    /// A load of neighbours, or of one element for all lanes.
    pub(super) fn load_vector(&mut self, access: &Access<'k>, d: u8) -> Result<(), WideError> {
        self.index(access.index)?;
        self.base(access.memory)?;
        let from = indexed(Register::RCX, Register::RAX, access.dtype.size() as u32, 0);
        let size = self.size_of(access.dtype);
        match (access.step, access.dtype) {
            (Step::Unit, dtype) => self.v_load_elements(dtype, d, from, true),
            (Step::Same | Step::Each, DType::Bool | DType::F16 | DType::BF16) => {
                self.load_one(access.dtype, from);
                self.v_splat_register(size, d, Register::RAX);
            }
            (Step::Same | Step::Each, _) => self.v_splat(size, d, from),
        }
        Ok(())
    }

    /// One element of memory in `rax`, in the form that it has in vectors.
    fn load_one(&mut self, dtype: DType, from: MemoryOperand) {
        match (dtype, self.size_of(dtype)) {
            (DType::Bool, size) => {
                self.asm.rm(Code::Movzx_r32_rm8, Register::EAX, from);
                match size {
                    Size::Four => self.asm.r(Code::Neg_rm32, Register::EAX),
                    Size::Eight => self.asm.r(Code::Neg_rm64, Register::RAX),
                }
            }
            (DType::F16, _) => {
                self.asm.rm(Code::Movzx_r32_rm16, Register::EAX, from);
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, Register::XMM0, Register::EAX);
                self.asm.rr(Code::VEX_Vcvtph2ps_xmm_xmmm64, Register::XMM0, Register::XMM0);
                self.asm.rr(Code::VEX_Vmovd_rm32_xmm, Register::EAX, Register::XMM0);
            }
            (DType::BF16, _) => {
                self.asm.rm(Code::Movzx_r32_rm16, Register::EAX, from);
                self.asm.ri(Code::Shl_rm32_imm8, Register::EAX, 16);
            }
            (_, Size::Four) => self.asm.rm(Code::Mov_r32_rm32, Register::EAX, from),
            (_, Size::Eight) => self.asm.rm(Code::Mov_r64_rm64, Register::RAX, from),
        }
    }

    /// One element to memory from `rdx`, where it has the form that it has in vectors.
    fn store_one(&mut self, dtype: DType, to: MemoryOperand) {
        match (dtype, self.size_of(dtype)) {
            (DType::Bool, _) => {
                self.asm.ri(Code::And_rm32_imm32, Register::EDX, 1);
                self.asm.mr(Code::Mov_rm8_r8, to, Register::DL);
            }
            (DType::F16, _) => {
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, Register::XMM0, Register::EDX);
                self.asm.rri(Code::VEX_Vcvtps2ph_xmmm64_xmm_imm8, Register::XMM0, Register::XMM0, 0);
                self.asm.rr(Code::VEX_Vmovd_rm32_xmm, Register::EDX, Register::XMM0);
                self.asm.mr(Code::Mov_rm16_r16, to, Register::DX);
            }
            (DType::BF16, _) => {
                self.asm.ri(Code::Shr_rm32_imm8, Register::EDX, 16);
                self.asm.mr(Code::Mov_rm16_r16, to, Register::DX);
            }
            (_, Size::Four) => self.asm.mr(Code::Mov_rm32_r32, to, Register::EDX),
            (_, Size::Eight) => self.asm.mr(Code::Mov_rm64_r64, to, Register::RDX),
        }
    }

    /// A store of neighbours, or of one element.
    pub(super) fn store_vector(&mut self, access: &Access<'k>, a: u8) -> Result<(), WideError> {
        let skip = self.asm.label();
        self.unless(access.guard, skip)?;
        self.index(access.index)?;
        self.base(access.memory)?;
        let to = indexed(Register::RCX, Register::RAX, access.dtype.size() as u32, 0);
        match (access.step, access.dtype) {
            (Step::Unit, dtype) => self.v_store_elements(dtype, to, a, true),
            (Step::Same | Step::Each, DType::Bool | DType::F16 | DType::BF16) => {
                self.v_move(SCRATCH, a);
                self.asm.rr(Code::VEX_Vmovd_rm32_xmm, Register::EDX, Register::XMM0);
                self.store_one(access.dtype, to);
            }
            (Step::Same | Step::Each, dtype) => self.v_store_first(self.size_of(dtype), to, a),
        }
        self.asm.bind(skip);
        Ok(())
    }

    /// A load into the frame: with a guard, or lane by lane.
    pub(super) fn load_each(&mut self, access: &Access<'k>, other: Option<i32>, result: i32) -> Result<(), WideError> {
        let (otherwise, done) = (self.asm.label(), self.asm.label());
        self.unless(access.guard, otherwise)?;
        let size = self.size_of(access.dtype);
        if access.step == Step::Each {
            self.each_lane(access.varying, |e| {
                e.index(access.index)?;
                e.base(access.memory)?;
                let from = indexed(Register::RCX, Register::RAX, access.dtype.size() as u32, 0);
                e.load_one(access.dtype, from);
                e.put_lane(result, size, Register::RAX);
                Ok(())
            })?;
            self.splat_in_frame(result, size, access.varying);
        } else {
            self.load_vector(access, SCRATCH)?;
            self.v_store(frame(result), SCRATCH);
        }
        if let Some(other) = other {
            self.asm.jump(Code::Jmp_rel32_64, done);
            self.asm.bind(otherwise);
            self.v_load(SCRATCH, frame(other));
            self.v_store(frame(result), SCRATCH);
            self.asm.bind(done);
        }
        Ok(())
    }

    /// A store lane by lane.
    pub(super) fn store_each(&mut self, access: &Access<'k>, value: i32) -> Result<(), WideError> {
        let skip = self.asm.label();
        self.unless(access.guard, skip)?;
        let size = self.size_of(access.dtype);
        self.each_lane(access.varying, |e| {
            e.index(access.index)?;
            e.base(access.memory)?;
            let to = indexed(Register::RCX, Register::RAX, access.dtype.size() as u32, 0);
            e.get_lane(Register::RDX, value, size);
            e.store_one(access.dtype, to);
            Ok(())
        })?;
        self.asm.bind(skip);
        Ok(())
    }

    /// The element of the lane that runs, of a vector in the frame, in a general register.
    pub(super) fn get_lane(&mut self, r: Register, place: i32, size: Size) {
        match size {
            Size::Four => self.asm.rm(Code::Mov_r32_rm32, low_half(r), frame_lane(place, 4)),
            Size::Eight => self.asm.rm(Code::Mov_r64_rm64, r, frame_lane(place, 8)),
        }
    }

    /// See [`Emitter::get_lane`].
    pub(super) fn put_lane(&mut self, place: i32, size: Size, r: Register) {
        match size {
            Size::Four => self.asm.mr(Code::Mov_rm32_r32, frame_lane(place, 4), low_half(r)),
            Size::Eight => self.asm.mr(Code::Mov_rm64_r64, frame_lane(place, 8), r),
        }
    }

    /// A value of a variable in the segment.
    pub(super) fn value(&mut self, var: Var) -> Result<V, WideError> {
        let size = self.size_of(self.dtype(var)?);
        match self.place(var)? {
            Place::Here(v) => Ok(v),
            Place::Home(place) => Ok(self.segment.home(place, size)),
            Place::Const(bits) => Ok(self.segment.constant(size, bits)),
            Place::Wide(_) => Err(WideError::Invalid("an i64 where 32 bits are needed")),
            Place::Unset => Err(WideError::Invalid("a variable that is not defined")),
        }
    }
}

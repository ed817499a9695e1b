//! Loads and stores.

use iced_x86::{Code, Register};
use lehr_ir::dim::Dim;
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Guard, Memory, Var};

use super::assembler::{at, frame, frame_lane, indexed};
use super::emitter::{Emitter, Place};
use super::segment::{Access, Each, Op, Step, V};
use super::vector::SCRATCH;
use super::{WideError, Width};

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
        let v = match other {
            Some(other) => {
                let other = self.value(other)?;
                self.segment.push(Op::Each(Each::Load(access), access.varying), &[other])
            }
            None if access.step == Step::Each => self.segment.push(Op::Each(Each::Load(access), access.varying), &[]),
            None => self.segment.push(Op::Load(access), &[]),
        };
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
        let op = match access.step {
            // Equal places of several lanes are written in order.
            Step::Same if self.lane.is_some() => Op::Each(Each::Store(Access { step: Step::Each, ..access }), true),
            Step::Same | Step::Unit => Op::Store(access),
            Step::Each => Op::Each(Each::Store(access), access.varying),
        };
        self.segment.push(op, &[value]);
        Ok(())
    }

    fn access(&self, memory: Memory, index: &'k Dim, guard: &'k Guard, varying: bool) -> Result<Access<'k>, WideError> {
        let dtype = self.kernel.memory_dtype(memory).ok_or(WideError::Invalid("memory that does not exist"))?;
        let step = match &self.lane {
            // AVX2 has no loads of single bytes under a mask.
            Some(_) if dtype == DType::Bool && self.width == Width::Avx2 => Step::Each,
            Some(lane) if lane.dim_varies(index) => match index.split_linear(lane.axis) {
                Some((slope, rest)) if slope.is_one() && !lane.dim_varies(&rest) => Step::Unit,
                Some(_) | None => Step::Each,
            },
            Some(_) | None => Step::Same,
        };
        Ok(Access { memory, dtype, index, guard, step, varying })
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
        match (access.step, access.dtype) {
            (Step::Unit, DType::Bool) => self.v_load_bools(d, from, true),
            (Step::Unit, _) => self.v_load_active(d, from),
            (Step::Same | Step::Each, DType::Bool) => {
                self.asm.rm(Code::Movzx_r32_rm8, Register::EAX, from);
                self.asm.r(Code::Neg_rm32, Register::EAX);
                self.v_splat_eax(d);
            }
            (Step::Same | Step::Each, _) => self.v_splat(d, from),
        }
        Ok(())
    }

    /// A store of neighbours, or of one element.
    pub(super) fn store_vector(&mut self, access: &Access<'k>, a: u8) -> Result<(), WideError> {
        let skip = self.asm.label();
        self.unless(access.guard, skip)?;
        self.index(access.index)?;
        self.base(access.memory)?;
        let to = indexed(Register::RCX, Register::RAX, access.dtype.size() as u32, 0);
        match (access.step, access.dtype) {
            (Step::Unit, DType::Bool) => self.v_store_bools(to, a, true),
            (Step::Unit, _) => self.v_store_active(to, a),
            (Step::Same | Step::Each, DType::Bool) => {
                self.v_move(SCRATCH, a);
                self.asm.rr(Code::VEX_Vmovd_rm32_xmm, Register::EDX, Register::XMM0);
                self.asm.ri(Code::And_rm32_imm32, Register::EDX, 1);
                self.asm.mr(Code::Mov_rm8_r8, to, Register::DL);
            }
            (Step::Same | Step::Each, _) => self.v_store_first(to, a),
        }
        self.asm.bind(skip);
        Ok(())
    }

    /// A load into the frame: with a guard, or lane by lane.
    pub(super) fn load_each(&mut self, access: &Access<'k>, other: Option<i32>, result: i32) -> Result<(), WideError> {
        let (otherwise, done) = (self.asm.label(), self.asm.label());
        self.unless(access.guard, otherwise)?;
        if access.step == Step::Each {
            self.each_lane(access.varying, |e| {
                e.index(access.index)?;
                e.base(access.memory)?;
                if access.dtype == DType::Bool {
                    e.asm.rm(Code::Movzx_r32_rm8, Register::EAX, indexed(Register::RCX, Register::RAX, 1, 0));
                    e.asm.r(Code::Neg_rm32, Register::EAX);
                } else {
                    e.asm.rm(Code::Mov_r32_rm32, Register::EAX, indexed(Register::RCX, Register::RAX, 4, 0));
                }
                e.asm.mr(Code::Mov_rm32_r32, frame_lane(result, 4), Register::EAX);
                Ok(())
            })?;
            self.splat_in_frame(result, access.varying);
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
        self.each_lane(access.varying, |e| {
            e.index(access.index)?;
            e.base(access.memory)?;
            e.asm.rm(Code::Mov_r32_rm32, Register::EDX, frame_lane(value, 4));
            if access.dtype == DType::Bool {
                e.asm.ri(Code::And_rm32_imm32, Register::EDX, 1);
                e.asm.mr(Code::Mov_rm8_r8, indexed(Register::RCX, Register::RAX, 1, 0), Register::DL);
            } else {
                e.asm.mr(Code::Mov_rm32_r32, indexed(Register::RCX, Register::RAX, 4, 0), Register::EDX);
            }
            Ok(())
        })?;
        self.asm.bind(skip);
        Ok(())
    }

    /// A value of a variable in the segment.
    pub(super) fn value(&mut self, var: Var) -> Result<V, WideError> {
        match self.place(var)? {
            Place::Here(v) => Ok(v),
            Place::Home(place) => Ok(self.segment.home(place)),
            Place::Const(bits) => Ok(self.segment.constant(bits)),
            Place::Wide(_) => Err(WideError::Invalid("an i64 where 32 bits are needed")),
            Place::Unset => Err(WideError::Invalid("a variable that is not defined")),
        }
    }
}

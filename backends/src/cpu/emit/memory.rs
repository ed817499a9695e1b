//! Loads and stores.
//!
//! Along the lanes of a vectorised loop an index that steps by one is a vector access, one that does not step is a scalar access,
//! and any other is taken lane by lane. Accesses are never assumed to be aligned.
//!
//! Distinct buffers must not overlap, unless all that overlap are only read: each has its own alias region, and loads of a buffer
//! that is only read may move within the innermost loop. They never leave it, where a guard or an empty loop may protect them.

use cranelift_codegen::ir::{AliasRegion, InstBuilder, MemFlagsData, StackSlot, Type, Value, types};
use lehr_ir::dim::Dim;
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::{Access, Guard, Memory, Stmt, Var};

use super::value::{Parts, Val, scalar_type, spilled_size, vector_type, width};
use super::{EmitError, Emitter, walk};

/// An address of an element: a pointer and a constant offset in bytes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pointer: Value,
    offset: i32,
    flags: MemFlagsData,
}

impl Place {
    /// The place this many bytes further.
    pub(super) fn plus(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes as i32, ..self }
    }
}

impl Emitter<'_, '_> {
    /// Emits a load. `stmt` is the statement it belongs to, which a slow path emits again lane by lane.
    pub(super) fn load(
        &mut self,
        stmt: &Stmt,
        memory: Memory,
        index: &Dim,
        guard: &Guard,
        other: Option<Var>,
    ) -> Result<Val, EmitError> {
        let dtype = self.dtype_of(memory)?;
        if guard.is_always() {
            return self.load_unguarded(memory, dtype, index);
        }
        let other = self.var(other.ok_or(EmitError::Invalid("a guarded load without other value"))?)?.clone();
        let vector = self.varies(index) || self.guard_varies(guard) || matches!(other, Val::Lanes(_));
        let shape = |e: &mut Self, v: Val| if vector { e.parts(dtype, &v) } else { v.scalar().into_iter().collect() };
        let other = shape(self, other);
        let (fast, slow, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let results: Parts = other
            .iter()
            .map(|v| self.b.func.dfg.value_type(*v))
            .collect::<Vec<Type>>()
            .into_iter()
            .map(|t| self.b.append_block_param(join, t))
            .collect();
        let varies = self.guard_varies(guard);
        self.branch_on_guard(guard, varies, fast, slow)?;
        self.b.switch_to_block(fast);
        let loaded = self.load_unguarded(memory, dtype, index)?;
        let loaded = shape(self, loaded);
        self.jump(join, &loaded);
        self.b.switch_to_block(slow);
        if varies {
            let v = self.lane_by_lane(stmt, Some(dtype))?;
            self.jump(join, &v);
        } else {
            self.jump(join, &other);
        }
        self.b.switch_to_block(join);
        Ok(if vector { Val::Lanes(results) } else { Val::Scalar(results[0]) })
    }

    /// Emits a store.
    pub(super) fn store(
        &mut self,
        stmt: &Stmt,
        memory: Memory,
        index: &Dim,
        value: Var,
        guard: &Guard,
    ) -> Result<(), EmitError> {
        let dtype = self.dtype_of(memory)?;
        let value = self.var(value)?.clone();
        if guard.is_always() {
            return self.store_unguarded(memory, dtype, index, &value);
        }
        let varies = self.guard_varies(guard);
        self.conditional(stmt, guard, varies, |e| e.store_unguarded(memory, dtype, index, &value))
    }

    /// Emits a block that runs where a guard holds.
    pub(super) fn conditional(
        &mut self,
        stmt: &Stmt,
        guard: &Guard,
        varies: bool,
        body: impl FnOnce(&mut Self) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        if guard.is_always() {
            return body(self);
        }
        let (fast, join) = (self.b.create_block(), self.b.create_block());
        let slow = if varies { self.b.create_block() } else { join };
        self.branch_on_guard(guard, varies, fast, slow)?;
        self.b.switch_to_block(fast);
        let scope = self.enter();
        body(self)?;
        self.leave(scope);
        self.jump(join, &[]);
        if varies {
            self.b.switch_to_block(slow);
            self.lane_by_lane(stmt, None)?;
            self.jump(join, &[]);
        }
        self.b.switch_to_block(join);
        Ok(())
    }

    /// Branches to `fast` where the guard holds for all lanes. A condition that is linear in the axis holds for a group of lanes
    /// exactly if it holds for the first and the last one; any other that varies never takes the fast way.
    fn branch_on_guard(
        &mut self,
        guard: &Guard,
        varies: bool,
        fast: cranelift_codegen::ir::Block,
        slow: cranelift_codegen::ir::Block,
    ) -> Result<(), EmitError> {
        let mut condition = self.guard(guard, 0)?;
        if varies {
            let linear = guard.0.iter().all(|d| {
                let split = self.lanes.as_ref().and_then(|l| d.split_linear(&l.axis));
                split.is_some_and(|(c, rest)| !self.varies(&c) && !self.varies(&rest))
            });
            let last = self.guard(guard, self.group() - 1)?;
            condition = match (condition, last) {
                (Some(a), Some(b)) if linear => Some(self.b.ins().band(a, b)),
                _ => Some(self.constant(types::I8, 0)),
            };
        }
        let condition = condition.ok_or(EmitError::Invalid("a guard without conditions"))?;
        self.b.ins().brif(condition, fast, &[], slow, &[]);
        Ok(())
    }

    /// Runs a statement for each lane of the group in turn, in scalars; gives what it defines if a dtype is given.
    fn lane_by_lane(&mut self, stmt: &Stmt, defines: Option<DType>) -> Result<Parts, EmitError> {
        let group = self.group();
        let Some(lanes) = self.lanes.take() else { return Err(EmitError::Invalid("lanes outside a vectorised loop")) };
        let scope = self.enter();
        let mut spilled = Vec::new();
        let mut seen = Vec::new();
        let inside = walk::defined(std::slice::from_ref(stmt));
        walk::uses(std::slice::from_ref(stmt), &mut |v| {
            if !seen.contains(&v) && !inside.contains(&v) {
                seen.push(v);
            }
        });
        for var in seen {
            if let Ok(Val::Lanes(parts)) = self.var(var) {
                let parts = parts.clone();
                let dtype = self.var_dtype(var)?;
                self.lanes = Some(lanes.clone());
                let parts = self.parts(dtype, &Val::Lanes(parts));
                self.lanes = None;
                let slot = self.stack(group * spilled_size(dtype));
                self.spill_parts(slot, &parts);
                spilled.push((var, dtype, slot));
            }
        }
        let saved: Vec<(Var, Option<Val>)> =
            spilled.iter().map(|(v, ..)| (*v, self.vars[v.0 as usize].clone())).collect();
        let result = defines.map(|d| self.stack(group * spilled_size(d)));
        let outer_simd = std::mem::replace(&mut self.simd, false);
        let end = self.constant(types::I64, group as i64);
        let zero = self.constant(types::I64, 0);
        self.counted(zero, end, 1, |e, l| {
            let index = e.b.ins().iadd(lanes.base, l);
            e.bind(&lanes.axis, index);
            for (var, dtype, slot) in &spilled {
                let place = e.stack_place(*slot, l, spilled_size(*dtype));
                let v = e.unspill(*dtype, place);
                e.vars[var.0 as usize] = Some(Val::Scalar(v));
            }
            e.stmt(stmt)?;
            if let (Some(slot), Some(dtype), Stmt::Let { var, .. }) = (result, defines, stmt) {
                let v = e.var(*var)?.scalar().ok_or(EmitError::Invalid("a lane without scalar"))?;
                let place = e.stack_place(slot, l, spilled_size(dtype));
                e.spill(dtype, v, place);
            }
            Ok(())
        })?;
        self.simd = outer_simd;
        self.lanes = Some(lanes);
        for (var, v) in saved {
            self.vars[var.0 as usize] = v;
        }
        self.leave(scope);
        Ok(match (result, defines) {
            (Some(slot), Some(dtype)) => self.unspill_parts(dtype, slot),
            _ => Parts::new(),
        })
    }

    fn load_unguarded(&mut self, memory: Memory, dtype: DType, index: &Dim) -> Result<Val, EmitError> {
        if !self.varies(index) {
            if let Some((_, _, v)) = self.loads.iter().find(|(m, d, _)| *m == memory && d == index) {
                return Ok(Val::Scalar(*v));
            }
            let place = self.place(memory, dtype, index, 0)?;
            return Ok(Val::Scalar(self.load_scalar(dtype, place)));
        }
        let group = self.group();
        match self.lane_step(index) {
            Some(1) => {
                let place = self.place(memory, dtype, index, 0)?;
                let per = width(dtype).lanes();
                let parts =
                    (0..group / per).map(|i| self.load_part(dtype, place.plus(i * per * dtype.size()))).collect();
                Ok(Val::Lanes(parts))
            }
            _ => {
                let lanes: Result<Vec<Value>, EmitError> =
                    self.places(memory, dtype, index)?.into_iter().map(|p| Ok(self.load_scalar(dtype, p))).collect();
                Ok(self.gather_lanes(dtype, &lanes?))
            }
        }
    }

    fn store_unguarded(&mut self, memory: Memory, dtype: DType, index: &Dim, value: &Val) -> Result<(), EmitError> {
        if !self.varies(index) {
            // Where lanes store to one place, the last one's value stays, as in a loop.
            let place = self.place(memory, dtype, index, 0)?;
            let last = if self.lanes.is_some() { self.group() - 1 } else { 0 };
            let v = self.lane(dtype, value, last);
            self.store_scalar(dtype, v, place);
            return Ok(());
        }
        if self.lane_step(index) == Some(1) {
            let place = self.place(memory, dtype, index, 0)?;
            let per = width(dtype).lanes();
            let parts = self.parts(dtype, value);
            for (i, p) in parts.into_iter().enumerate() {
                self.store_part(dtype, p, place.plus(i * per * dtype.size()));
            }
            return Ok(());
        }
        let places = self.places(memory, dtype, index)?;
        for (lane, place) in places.into_iter().enumerate() {
            let v = self.lane(dtype, value, lane);
            self.store_scalar(dtype, v, place);
        }
        Ok(())
    }

    /// The places of all lanes.
    fn places(&mut self, memory: Memory, dtype: DType, index: &Dim) -> Result<Vec<Place>, EmitError> {
        let group = self.group();
        let axis = self.lanes.as_ref().map(|l| l.axis.clone());
        let linear =
            axis.and_then(|a| index.split_linear(&a)).filter(|(c, rest)| !self.varies(c) && !self.varies(rest));
        let Some((step, _)) = linear else {
            return (0..group).map(|lane| self.place(memory, dtype, index, lane)).collect();
        };
        let first = self.place(memory, dtype, index, 0)?;
        let size = dtype.size() as i64;
        let bytes = step.as_const().and_then(|s| s.checked_mul(size)).filter(|b| b.unsigned_abs() < 1 << 24);
        if let Some(bytes) = bytes {
            return Ok((0..group)
                .map(|l| Place { offset: first.offset + (bytes * l as i64) as i32, ..first })
                .collect());
        }
        let step = self.index(&step, 0)?;
        let bytes = self.b.ins().imul_imm_s(step, size);
        let mut places = vec![first];
        for _ in 1..group {
            let last = places[places.len() - 1];
            places.push(Place { pointer: self.b.ins().iadd(last.pointer, bytes), ..last });
        }
        Ok(places)
    }

    /// The address of an element at one lane.
    pub(super) fn place(&mut self, memory: Memory, dtype: DType, index: &Dim, lane: usize) -> Result<Place, EmitError> {
        let split = self.split_index(index, lane)?;
        let shift = i64::from(dtype.size().trailing_zeros());
        let (mut pointer, mut flags) = self.memory_base(memory)?;
        if self.movable(memory, &split.varying, index) {
            flags = flags.with_readonly().with_can_move();
        }
        for part in [split.base, split.varying].into_iter().flatten() {
            let bytes = if shift == 0 { part } else { self.b.ins().ishl_imm_u(part, shift) };
            pointer = self.b.ins().iadd(pointer, bytes);
        }
        let bytes = split.constant.wrapping_mul(dtype.size() as i64);
        if bytes.unsigned_abs() < 1 << 28 {
            return Ok(Place { pointer, offset: bytes as i32, flags });
        }
        Ok(Place { pointer: self.b.ins().iadd_imm_s(pointer, bytes), offset: 0, flags })
    }

    /// Whether a load may move: only within the innermost loop, whose axis its address must depend on.
    fn movable(&self, memory: Memory, varying: &Option<Value>, index: &Dim) -> bool {
        let Memory::Buffer(i) = memory else { return false };
        let read = self.kernel.buffers.get(i as usize).is_some_and(|b| b.access == Access::Read);
        read && varying.is_some() && self.innermost.as_ref().is_some_and(|axis| index.mentions(axis))
    }

    /// Loads one element.
    pub(super) fn load_scalar(&mut self, dtype: DType, p: Place) -> Value {
        match dtype {
            DType::Bool => self.b.ins().load(types::I8, p.flags, p.pointer, p.offset),
            DType::I8 => self.b.ins().sload8(types::I32, p.flags, p.pointer, p.offset),
            DType::U8 => self.b.ins().uload8(types::I32, p.flags, p.pointer, p.offset),
            DType::I16 => self.b.ins().sload16(types::I32, p.flags, p.pointer, p.offset),
            DType::U16 => self.b.ins().uload16(types::I32, p.flags, p.pointer, p.offset),
            DType::F16 | DType::BF16 => {
                let bits = self.b.ins().uload16(types::I32, p.flags, p.pointer, p.offset);
                self.half_from_bits(dtype, bits)
            }
            DType::I32 | DType::U32 | DType::F32 | DType::I64 | DType::U64 | DType::F64 | DType::C64 | DType::C128 => {
                self.b.ins().load(scalar_type(dtype), p.flags, p.pointer, p.offset)
            }
        }
    }

    /// Stores one element.
    pub(super) fn store_scalar(&mut self, dtype: DType, v: Value, p: Place) {
        match dtype {
            DType::I8 | DType::U8 => self.b.ins().istore8(p.flags, v, p.pointer, p.offset),
            DType::I16 | DType::U16 => self.b.ins().istore16(p.flags, v, p.pointer, p.offset),
            DType::F16 | DType::BF16 => {
                let bits = self.half_bits(dtype, v);
                self.b.ins().istore16(p.flags, bits, p.pointer, p.offset)
            }
            DType::Bool
            | DType::I32
            | DType::U32
            | DType::F32
            | DType::I64
            | DType::U64
            | DType::F64
            | DType::C64
            | DType::C128 => self.b.ins().store(p.flags, v, p.pointer, p.offset),
        };
    }

    /// Loads consecutive elements into one vector.
    fn load_part(&mut self, dtype: DType, p: Place) -> Value {
        match dtype {
            DType::I16 => self.b.ins().sload16x4(p.flags, p.pointer, p.offset),
            DType::U16 => self.b.ins().uload16x4(p.flags, p.pointer, p.offset),
            DType::F16 | DType::BF16 => {
                let bits = self.b.ins().uload16x4(p.flags, p.pointer, p.offset);
                self.half_from_bits(dtype, bits)
            }
            DType::Bool | DType::I8 | DType::U8 => {
                let four = self.b.ins().load(types::I32, p.flags, p.pointer, p.offset);
                let v = self.b.ins().scalar_to_vector(types::I32X4, four);
                let bytes = self.recast(v, types::I8X16);
                if dtype == DType::I8 {
                    let words = self.b.ins().swiden_low(bytes);
                    return self.b.ins().swiden_low(words);
                }
                let words = self.b.ins().uwiden_low(bytes);
                let v = self.b.ins().uwiden_low(words);
                if dtype == DType::Bool { self.b.ins().ineg(v) } else { v }
            }
            DType::I32 | DType::U32 | DType::F32 | DType::I64 | DType::U64 | DType::F64 | DType::C64 | DType::C128 => {
                self.b.ins().load(vector_type(dtype), p.flags, p.pointer, p.offset)
            }
        }
    }

    /// Stores one vector to consecutive elements.
    fn store_part(&mut self, dtype: DType, v: Value, p: Place) {
        match dtype {
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
                let v = if dtype.kind() == Kind::Float { self.half_bits(dtype, v) } else { v };
                let packed = self.shuffle(v, v, [0, 1, 4, 5, 8, 9, 12, 13, 0, 1, 4, 5, 8, 9, 12, 13]);
                let packed = self.recast(packed, types::I64X2);
                let eight = self.b.ins().extractlane(packed, 0);
                self.b.ins().store(p.flags, eight, p.pointer, p.offset);
            }
            DType::Bool | DType::I8 | DType::U8 => {
                let packed = self.shuffle(v, v, [0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12]);
                let packed = self.recast(packed, types::I32X4);
                let four = self.b.ins().extractlane(packed, 0);
                let four = if dtype == DType::Bool { self.b.ins().band_imm_u(four, 0x0101_0101) } else { four };
                self.b.ins().store(p.flags, four, p.pointer, p.offset);
            }
            DType::I32 | DType::U32 | DType::F32 | DType::I64 | DType::U64 | DType::F64 | DType::C64 | DType::C128 => {
                self.b.ins().store(p.flags, v, p.pointer, p.offset);
            }
        }
    }

    /// Element `index` of a stack slot.
    pub(super) fn stack_place(&mut self, slot: StackSlot, index: Value, size: usize) -> Place {
        let base = self.b.ins().stack_addr(types::I64, slot, 0);
        let bytes = self.b.ins().imul_imm_s(index, size as i64);
        Place { pointer: self.b.ins().iadd(base, bytes), offset: 0, flags: self.stack_flags }
    }

    /// The start of a stack slot.
    pub(super) fn stack_start(&mut self, slot: StackSlot) -> Place {
        Place { pointer: self.b.ins().stack_addr(types::I64, slot, 0), offset: 0, flags: self.stack_flags }
    }

    /// Stores a scalar register as it is held in spilled vectors: bools as 32-bit masks.
    pub(super) fn spill(&mut self, dtype: DType, v: Value, p: Place) {
        let v = if dtype == DType::Bool {
            let wide = self.b.ins().uextend(types::I32, v);
            self.b.ins().ineg(wide)
        } else {
            v
        };
        self.b.ins().store(p.flags, v, p.pointer, p.offset);
    }

    /// Loads what [`Emitter::spill`] or one element of a spilled vector stored.
    pub(super) fn unspill(&mut self, dtype: DType, p: Place) -> Value {
        if dtype == DType::Bool {
            let mask = self.b.ins().load(types::I32, p.flags, p.pointer, p.offset);
            let byte = self.b.ins().ireduce(types::I8, mask);
            return self.b.ins().band_imm_u(byte, 1);
        }
        self.b.ins().load(scalar_type(dtype), p.flags, p.pointer, p.offset)
    }

    /// Stores all parts one after another.
    pub(super) fn spill_parts(&mut self, slot: StackSlot, parts: &[Value]) {
        let start = self.stack_start(slot);
        self.spill_parts_at(start, parts);
    }

    /// Stores all parts one after another from a place on.
    pub(super) fn spill_parts_at(&mut self, start: Place, parts: &[Value]) {
        for (i, v) in parts.iter().enumerate() {
            let p = start.plus(16 * i);
            self.b.ins().store(p.flags, *v, p.pointer, p.offset);
        }
    }

    /// Loads the parts of one group.
    fn unspill_parts(&mut self, dtype: DType, slot: StackSlot) -> Parts {
        let start = self.stack_start(slot);
        let count = self.group() / width(dtype).lanes();
        self.unspill_parts_at(dtype, start, count)
    }

    /// Loads parts one after another from a place on.
    pub(super) fn unspill_parts_at(&mut self, dtype: DType, start: Place, count: usize) -> Parts {
        (0..count)
            .map(|i| {
                let p = start.plus(16 * i);
                self.b.ins().load(vector_type(dtype), p.flags, p.pointer, p.offset)
            })
            .collect()
    }

    fn memory_base(&mut self, memory: Memory) -> Result<(Value, MemFlagsData), EmitError> {
        let (list, i) = match memory {
            Memory::Buffer(i) => (&self.buffers, i),
            Memory::Tile(i) => (&self.tiles, i),
        };
        list.get(i as usize).copied().ok_or(EmitError::Invalid("an access to memory that is not declared"))
    }

    pub(super) fn dtype_of(&self, memory: Memory) -> Result<DType, EmitError> {
        let dtype = match memory {
            Memory::Buffer(i) => self.kernel.buffers.get(i as usize).map(|b| b.dtype),
            Memory::Tile(i) => self.kernel.tiles.get(i as usize).map(|t| t.dtype),
        };
        let dtype = dtype.ok_or(EmitError::Invalid("an access to memory that is not declared"))?;
        if dtype.kind() == Kind::Complex {
            return Err(EmitError::Unsupported { dtype, op: "load or store".to_owned() });
        }
        Ok(dtype)
    }
}

/// The flags of a memory: its own alias region, no trap, no alignment.
pub(super) fn flags(region: AliasRegion) -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_alias_region(Some(region))
}

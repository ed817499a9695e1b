//! The scalar operations, on scalars and on vectors.
//!
//! An operation whose operands are all scalar is emitted once. Otherwise it runs on each 128-bit part; what has no vector
//! instruction runs lane by lane on scalars, so every operation has code and both ways give the same bits.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use lehr_ir::dtype::{DType, Kind};
use lehr_ir::kernel::ScalarOp;
use smallvec::SmallVec;

use super::value::{Parts, Val, Width, scalar_type, signed, vector_type, width};
use super::{EmitError, Emitter};
use crate::cpu::table::Entry;

impl Emitter<'_, '_> {
    /// Emits one operation on operands of these dtypes.
    pub(super) fn apply(&mut self, op: ScalarOp, dtypes: &[DType], args: &[Val]) -> Result<Val, EmitError> {
        let result = op.result(dtypes).ok_or(EmitError::Invalid("an operation on dtypes that it does not take"))?;
        if let Some(dtype) = dtypes.iter().chain([&result]).find(|d| d.kind() == Kind::Complex) {
            return Err(EmitError::Unsupported { dtype: *dtype, op: op.to_string() });
        }
        let scalars: Option<SmallVec<[Value; 3]>> = args.iter().map(Val::scalar).collect();
        if let Some(scalars) = scalars {
            return Ok(Val::Scalar(self.apply_scalar(op, dtypes, &scalars)?));
        }
        match op {
            ScalarOp::Select => {
                let w = self.select_width(dtypes[1], &args[1..]);
                let (mask, a, b) = (
                    self.mask(&args[0], w),
                    self.parts_at(dtypes[1], &args[1], w),
                    self.parts_at(dtypes[1], &args[2], w),
                );
                Ok(Val::Lanes((0..a.len()).map(|i| self.choose(mask[i], a[i], b[i])).collect()))
            }
            ScalarOp::Convert(to) => self.convert_lanes(dtypes[0], to, &args[0]),
            ScalarOp::Bitcast(to) => self.bitcast_lanes(dtypes[0], to, &args[0]),
            ScalarOp::Call(f) => match self.call_lanes(f, dtypes[0], args)? {
                Some(v) => Ok(v),
                None => self.per_lane(op, dtypes, result, args),
            },
            ScalarOp::Shl | ScalarOp::Shr => match args[1].scalar() {
                Some(count) => {
                    let a = self.parts(dtypes[0], &args[0]);
                    let parts = a.iter().map(|a| self.shift(op == ScalarOp::Shl, dtypes[0], *a, count)).collect();
                    Ok(Val::Lanes(parts))
                }
                None => self.per_lane(op, dtypes, result, args),
            },
            ScalarOp::Div if dtypes[0].is_integer() => self.per_lane(op, dtypes, result, args),
            ScalarOp::Rem => self.per_lane(op, dtypes, result, args),
            ScalarOp::Fma if !self.isa.fma => self.per_lane(op, dtypes, result, args),
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Max
            | ScalarOp::Min
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::And
            | ScalarOp::Or
            | ScalarOp::Xor
            | ScalarOp::Not
            | ScalarOp::Eq
            | ScalarOp::Ne
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Gt
            | ScalarOp::Ge => {
                let w = self.select_width(dtypes[0], args);
                let columns: SmallVec<[Parts; 3]> = args.iter().map(|a| self.parts_at(dtypes[0], a, w)).collect();
                let mut out = Parts::new();
                for i in 0..columns[0].len() {
                    let operands: SmallVec<[Value; 3]> = columns.iter().map(|c| c[i]).collect();
                    out.push(self.plain(op, dtypes[0], &operands)?);
                }
                Ok(Val::Lanes(out))
            }
        }
    }

    /// One operation on scalars.
    pub(super) fn apply_scalar(&mut self, op: ScalarOp, dtypes: &[DType], args: &[Value]) -> Result<Value, EmitError> {
        match op {
            ScalarOp::Select => Ok(self.b.ins().select(args[0], args[1], args[2])),
            ScalarOp::Convert(to) => Ok(self.convert_scalar(dtypes[0], to, args[0])),
            ScalarOp::Bitcast(to) => Ok(self.bitcast_scalar(dtypes[0], to, args[0])),
            ScalarOp::Call(f) => self.call_scalar(f, dtypes[0], args),
            ScalarOp::Shl | ScalarOp::Shr => Ok(self.shift(op == ScalarOp::Shl, dtypes[0], args[0], args[1])),
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Rem
            | ScalarOp::Max
            | ScalarOp::Min
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::And
            | ScalarOp::Or
            | ScalarOp::Xor
            | ScalarOp::Not
            | ScalarOp::Eq
            | ScalarOp::Ne
            | ScalarOp::Lt
            | ScalarOp::Le
            | ScalarOp::Gt
            | ScalarOp::Ge => self.plain(op, dtypes[0], args),
        }
    }

    /// An operation whose operands are registers of one type, scalar or vector.
    fn plain(&mut self, op: ScalarOp, dtype: DType, args: &[Value]) -> Result<Value, EmitError> {
        match dtype.kind() {
            Kind::Float => self.float_op(op, dtype, args),
            Kind::Signed | Kind::Unsigned => self.int_op(op, dtype, args),
            Kind::Bool => self.bool_op(op, args),
            Kind::Complex => None,
        }
        .ok_or_else(|| EmitError::Unsupported { dtype, op: op.to_string() })
    }

    fn float_op(&mut self, op: ScalarOp, dtype: DType, args: &[Value]) -> Option<Value> {
        let (a, b) = (args[0], args.get(1).copied().unwrap_or(args[0]));
        let ty = self.type_of(a);
        Some(match op {
            ScalarOp::Add => self.ins(|i| i.fadd(a, b)).narrowed(self, dtype),
            ScalarOp::Sub => self.ins(|i| i.fsub(a, b)).narrowed(self, dtype),
            ScalarOp::Mul => self.ins(|i| i.fmul(a, b)).narrowed(self, dtype),
            ScalarOp::Div => self.ins(|i| i.fdiv(a, b)).narrowed(self, dtype),
            ScalarOp::Sqrt => self.ins(|i| i.sqrt(a)).narrowed(self, dtype),
            // Recipes and tables never see this one vectorised.
            ScalarOp::Rem if ty.is_vector() => return None,
            ScalarOp::Rem if dtype == DType::F64 => self.call_table(Entry::RemF64, &[a, b]),
            ScalarOp::Rem => self.call_table(Entry::RemF32, &[a, b]),
            ScalarOp::Max => self.float_extreme(FloatCC::GreaterThan, a, b),
            ScalarOp::Min => self.float_extreme(FloatCC::LessThan, a, b),
            ScalarOp::Fma => return self.fma(dtype, a, b, args[2]),
            ScalarOp::Neg => self.b.ins().fneg(a),
            ScalarOp::Abs => self.b.ins().fabs(a),
            ScalarOp::Floor if self.isa.round => self.b.ins().floor(a),
            ScalarOp::Ceil if self.isa.round => self.b.ins().ceil(a),
            ScalarOp::Trunc if self.isa.round => self.b.ins().trunc(a),
            ScalarOp::Round if self.isa.round => self.b.ins().nearest(a),
            ScalarOp::Floor => self.call_either(dtype, Entry::FloorF32, Entry::FloorF64, a),
            ScalarOp::Ceil => self.call_either(dtype, Entry::CeilF32, Entry::CeilF64, a),
            ScalarOp::Trunc => self.call_either(dtype, Entry::TruncF32, Entry::TruncF64, a),
            ScalarOp::Round => self.call_either(dtype, Entry::RoundF32, Entry::RoundF64, a),
            ScalarOp::Eq => self.b.ins().fcmp(FloatCC::Equal, a, b),
            ScalarOp::Ne => self.b.ins().fcmp(FloatCC::NotEqual, a, b),
            ScalarOp::Lt => self.b.ins().fcmp(FloatCC::LessThan, a, b),
            ScalarOp::Le => self.b.ins().fcmp(FloatCC::LessThanOrEqual, a, b),
            ScalarOp::Gt => self.b.ins().fcmp(FloatCC::GreaterThan, a, b),
            ScalarOp::Ge => self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, a, b),
            ScalarOp::And
            | ScalarOp::Or
            | ScalarOp::Xor
            | ScalarOp::Not
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        })
    }

    fn int_op(&mut self, op: ScalarOp, dtype: DType, args: &[Value]) -> Option<Value> {
        let (a, b) = (args[0], args.get(1).copied().unwrap_or(args[0]));
        let signed = signed(dtype);
        let cc = |s: IntCC| if signed { s } else { s.unsigned() };
        Some(match op {
            ScalarOp::Add => self.ins(|i| i.iadd(a, b)).wrapped(self, dtype),
            ScalarOp::Sub => self.ins(|i| i.isub(a, b)).wrapped(self, dtype),
            ScalarOp::Mul => self.ins(|i| i.imul(a, b)).wrapped(self, dtype),
            ScalarOp::Neg => self.ins(|i| i.ineg(a)).wrapped(self, dtype),
            ScalarOp::Not => self.ins(|i| i.bnot(a)).wrapped(self, dtype),
            ScalarOp::Abs if signed => self.ins(|i| i.iabs(a)).wrapped(self, dtype),
            ScalarOp::Abs => a,
            ScalarOp::Div | ScalarOp::Rem if self.type_of(a).is_vector() => return None,
            ScalarOp::Div => self.divide(dtype, a, b, false).wrapped(self, dtype),
            ScalarOp::Rem => self.divide(dtype, a, b, true),
            ScalarOp::Max => {
                let m = self.b.ins().icmp(cc(IntCC::SignedGreaterThan), a, b);
                self.choose(m, a, b)
            }
            ScalarOp::Min => {
                let m = self.b.ins().icmp(cc(IntCC::SignedLessThan), a, b);
                self.choose(m, a, b)
            }
            ScalarOp::And => self.b.ins().band(a, b),
            ScalarOp::Or => self.b.ins().bor(a, b),
            ScalarOp::Xor => self.b.ins().bxor(a, b),
            ScalarOp::Eq => self.b.ins().icmp(IntCC::Equal, a, b),
            ScalarOp::Ne => self.b.ins().icmp(IntCC::NotEqual, a, b),
            ScalarOp::Lt => self.b.ins().icmp(cc(IntCC::SignedLessThan), a, b),
            ScalarOp::Le => self.b.ins().icmp(cc(IntCC::SignedLessThanOrEqual), a, b),
            ScalarOp::Gt => self.b.ins().icmp(cc(IntCC::SignedGreaterThan), a, b),
            ScalarOp::Ge => self.b.ins().icmp(cc(IntCC::SignedGreaterThanOrEqual), a, b),
            ScalarOp::Fma
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        })
    }

    /// Bools are 0 or 1 as scalars and all-ones masks as vectors, and false < true.
    fn bool_op(&mut self, op: ScalarOp, args: &[Value]) -> Option<Value> {
        let (a, b) = (args[0], args.get(1).copied().unwrap_or(args[0]));
        Some(match op {
            ScalarOp::And | ScalarOp::Min => self.b.ins().band(a, b),
            ScalarOp::Or | ScalarOp::Max => self.b.ins().bor(a, b),
            ScalarOp::Xor | ScalarOp::Ne => self.b.ins().bxor(a, b),
            ScalarOp::Not => self.invert(a),
            ScalarOp::Eq => self.ins(|i| i.bxor(a, b)).inverted(self),
            ScalarOp::Lt => {
                let n = self.invert(a);
                self.b.ins().band(n, b)
            }
            ScalarOp::Gt => {
                let n = self.invert(b);
                self.b.ins().band(a, n)
            }
            ScalarOp::Le => {
                let n = self.invert(a);
                self.b.ins().bor(n, b)
            }
            ScalarOp::Ge => {
                let n = self.invert(b);
                self.b.ins().bor(a, n)
            }
            ScalarOp::Add
            | ScalarOp::Sub
            | ScalarOp::Mul
            | ScalarOp::Div
            | ScalarOp::Rem
            | ScalarOp::Fma
            | ScalarOp::Neg
            | ScalarOp::Abs
            | ScalarOp::Floor
            | ScalarOp::Ceil
            | ScalarOp::Trunc
            | ScalarOp::Round
            | ScalarOp::Sqrt
            | ScalarOp::Shl
            | ScalarOp::Shr
            | ScalarOp::Select
            | ScalarOp::Convert(_)
            | ScalarOp::Bitcast(_)
            | ScalarOp::Call(_) => return None,
        })
    }

    /// `a cc b ? a : b`, but `a` if it is NaN: then the first choice is one `minps` or `maxps`, which gives `b` where unordered.
    fn float_extreme(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        let better = self.b.ins().fcmp(cc, a, b);
        let t = self.choose(better, a, b);
        let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
        self.choose(nan, a, t)
    }

    fn fma(&mut self, dtype: DType, a: Value, b: Value, c: Value) -> Option<Value> {
        let v = if self.isa.fma {
            self.b.ins().fma(a, b, c)
        } else if self.type_of(a).is_vector() {
            return None;
        } else {
            self.call_table(if dtype == DType::F64 { Entry::FmaF64 } else { Entry::FmaF32 }, &[a, b, c])
        };
        Some(self.narrow(dtype, v))
    }

    /// The quotient or remainder of scalars; 0 by zero, and no trap on the least value over −1.
    fn divide(&mut self, dtype: DType, a: Value, b: Value, remainder: bool) -> Value {
        let ty = self.type_of(a);
        let zero = self.constant(ty, 0);
        let one = self.constant(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, b, zero);
        if !signed(dtype) {
            let safe = self.b.ins().select(by_zero, one, b);
            let q = if remainder { self.b.ins().urem(a, safe) } else { self.b.ins().udiv(a, safe) };
            return self.b.ins().select(by_zero, zero, q);
        }
        // Both 0 and −1 divide by 1 instead; the quotient by −1 is then negated.
        let minus_one = self.constant(ty, -1);
        let negate = self.b.ins().icmp(IntCC::Equal, b, minus_one);
        let special = self.b.ins().bor(by_zero, negate);
        let safe = self.b.ins().select(special, one, b);
        if remainder {
            let r = self.b.ins().srem(a, safe);
            return self.b.ins().select(special, zero, r);
        }
        let q = self.b.ins().sdiv(a, safe);
        let negated = self.b.ins().ineg(a);
        let q = self.b.ins().select(negate, negated, q);
        self.b.ins().select(by_zero, zero, q)
    }

    /// A shift of a scalar or a vector by a scalar count, taken modulo the width.
    fn shift(&mut self, left: bool, dtype: DType, a: Value, count: Value) -> Value {
        let bits = 8 * dtype.size() as i64;
        let count_type = self.type_of(count);
        let mask = self.constant(count_type, bits - 1);
        let count = self.b.ins().band(count, mask);
        if left {
            self.ins(|i| i.ishl(a, count)).wrapped(self, dtype)
        } else if signed(dtype) {
            self.b.ins().sshr(a, count)
        } else {
            self.b.ins().ushr(a, count)
        }
    }

    /// Runs an operation on each lane as scalars.
    pub(super) fn per_lane(
        &mut self,
        op: ScalarOp,
        dtypes: &[DType],
        result: DType,
        args: &[Val],
    ) -> Result<Val, EmitError> {
        let lanes = self.group();
        let mut out = SmallVec::<[Value; 16]>::new();
        for lane in 0..lanes {
            let operands: SmallVec<[Value; 3]> = args.iter().zip(dtypes).map(|(a, d)| self.lane(*d, a, lane)).collect();
            out.push(self.apply_scalar(op, dtypes, &operands)?);
        }
        Ok(self.gather_lanes(result, &out))
    }

    /// `a` where the condition holds, else `b`: a select of scalars, a bit selection by a mask of vectors.
    pub(super) fn choose(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let ty = self.type_of(a);
        if !ty.is_vector() {
            return self.b.ins().select(condition, a, b);
        }
        let condition = self.recast(condition, ty);
        self.b.ins().bitselect(condition, a, b)
    }

    /// The negation of a scalar bool or of a mask.
    pub(super) fn invert(&mut self, a: Value) -> Value {
        let ty = self.type_of(a);
        if ty.is_vector() {
            return self.b.ins().bnot(a);
        }
        let one = self.constant(ty, 1);
        self.b.ins().bxor(a, one)
    }

    /// The same bits as another type of the same size.
    pub(super) fn recast(&mut self, v: Value, ty: Type) -> Value {
        if self.type_of(v) == ty {
            return v;
        }
        self.b.ins().bitcast(ty, super::LITTLE, v)
    }

    /// Wraps an integer that is narrower than its register: extends it again from its own width.
    pub(super) fn wrap(&mut self, dtype: DType, v: Value) -> Value {
        let bits = 8 * dtype.size() as i64;
        if bits >= 32 {
            return v;
        }
        if signed(dtype) {
            let count = self.constant(types::I32, 32 - bits);
            let up = self.b.ins().ishl(v, count);
            return self.b.ins().sshr(up, count);
        }
        let ty = self.type_of(v);
        let mask = self.constant(ty, (1 << bits) - 1);
        self.b.ins().band(v, mask)
    }

    /// The width that same-typed operands have in vectors; bools keep 64 bits if all that vary have it already.
    fn select_width(&self, dtype: DType, args: &[Val]) -> Width {
        if dtype != DType::Bool {
            return width(dtype);
        }
        let wide = |a: &Val| match a {
            Val::Scalar(_) => true,
            Val::Lanes(p) => p.len() * 2 == self.group(),
        };
        if args.iter().all(wide) { Width::W64 } else { Width::W32 }
    }

    /// The parts of a value; scalars are splatted. Bools come as 32-bit masks.
    pub(super) fn parts(&mut self, dtype: DType, v: &Val) -> Parts {
        self.parts_at(dtype, v, width(dtype))
    }

    fn parts_at(&mut self, dtype: DType, v: &Val, w: Width) -> Parts {
        if dtype == DType::Bool {
            return self.mask(v, w);
        }
        match v {
            Val::Lanes(p) => p.clone(),
            Val::Scalar(s) => {
                let one = self.b.ins().splat(vector_type(dtype), *s);
                SmallVec::from_elem(one, self.group() / w.lanes())
            }
        }
    }

    /// A bool as masks of this width.
    pub(super) fn mask(&mut self, v: &Val, w: Width) -> Parts {
        let group = self.group();
        match v {
            Val::Scalar(s) => {
                let (lane, ty) = if w == Width::W32 { (types::I32, types::I32X4) } else { (types::I64, types::I64X2) };
                let wide = self.b.ins().uextend(lane, *s);
                let all = self.b.ins().ineg(wide);
                let one = self.b.ins().splat(ty, all);
                SmallVec::from_elem(one, group / w.lanes())
            }
            Val::Lanes(p) if p.len() * w.lanes() == group => p.clone(),
            Val::Lanes(p) if w == Width::W64 => {
                p.iter().flat_map(|m| [self.b.ins().swiden_low(*m), self.b.ins().swiden_high(*m)]).collect()
            }
            Val::Lanes(p) => p.chunks(2).map(|m| self.even_words(m[0], m[1])).collect(),
        }
    }

    /// The low 32 bits of each 64-bit element of two vectors.
    pub(super) fn even_words(&mut self, low: Value, high: Value) -> Value {
        let bytes = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
        let r = self.shuffle(low, high, bytes);
        self.recast(r, types::I32X4)
    }

    /// Bytes of two vectors, of indices below 32, as `i8x16`.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, bytes: [u8; 16]) -> Value {
        let (a, b) = (self.recast(a, types::I8X16), self.recast(b, types::I8X16));
        let mask = self.b.func.dfg.immediates.push(bytes.to_vec().into());
        self.b.ins().shuffle(a, b, mask)
    }

    /// One lane of a value as a scalar.
    pub(super) fn lane(&mut self, dtype: DType, v: &Val, lane: usize) -> Value {
        let parts = match v {
            Val::Scalar(s) => return *s,
            Val::Lanes(p) => p,
        };
        let per = self.group() / parts.len();
        let element = self.b.ins().extractlane(parts[lane / per], (lane % per) as u8);
        if dtype != DType::Bool {
            return element;
        }
        let byte = self.b.ins().ireduce(types::I8, element);
        let one = self.constant(types::I8, 1);
        self.b.ins().band(byte, one)
    }

    /// A lane-varying value from its scalars.
    pub(super) fn gather_lanes(&mut self, dtype: DType, lanes: &[Value]) -> Val {
        let per = width(dtype).lanes();
        let ty = vector_type(dtype);
        let mut parts = Parts::new();
        for chunk in lanes.chunks(per) {
            let elements: SmallVec<[Value; 4]> = chunk
                .iter()
                .map(|v| {
                    if dtype != DType::Bool {
                        return *v;
                    }
                    let wide = self.b.ins().uextend(types::I32, *v);
                    self.b.ins().ineg(wide)
                })
                .collect();
            let mut part = self.b.ins().scalar_to_vector(ty, elements[0]);
            for (i, e) in elements.iter().enumerate().skip(1) {
                part = self.b.ins().insertlane(part, *e, i as u8);
            }
            parts.push(part);
        }
        Val::Lanes(parts)
    }

    /// The scalar type of a dtype's register, for readers of memory.
    pub(super) fn register(&self, dtype: DType) -> Type {
        scalar_type(dtype)
    }
}

/// Follow-up steps that read left to right.
trait Then {
    fn narrowed(self, e: &mut Emitter<'_, '_>, dtype: DType) -> Value;
    fn wrapped(self, e: &mut Emitter<'_, '_>, dtype: DType) -> Value;
    fn inverted(self, e: &mut Emitter<'_, '_>) -> Value;
}

impl Then for Value {
    fn narrowed(self, e: &mut Emitter<'_, '_>, dtype: DType) -> Value {
        e.narrow(dtype, self)
    }

    fn wrapped(self, e: &mut Emitter<'_, '_>, dtype: DType) -> Value {
        e.wrap(dtype, self)
    }

    fn inverted(self, e: &mut Emitter<'_, '_>) -> Value {
        e.invert(self)
    }
}

impl Val {
    /// The value if it is the same for all lanes.
    pub(super) fn scalar(&self) -> Option<Value> {
        match self {
            Self::Scalar(v) => Some(*v),
            Self::Lanes(_) => None,
        }
    }
}

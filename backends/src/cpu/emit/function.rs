//! Elementary functions through their recipes, and calls through the function table.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Type, Value, types};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::recipes::{self, Emit, Function, TABLE};
use smallvec::SmallVec;

use super::value::{Parts, Val};
use super::{EmitError, Emitter};
use crate::cpu::table::Entry;

impl Emitter<'_, '_> {
    /// A function of scalars: its recipe in `f32`, the table's in `f64`.
    pub(super) fn call_scalar(&mut self, f: Function, dtype: DType, args: &[Value]) -> Result<Value, EmitError> {
        if dtype == DType::F64 {
            let row =
                TABLE.iter().position(|r| r.function == f).ok_or(EmitError::Invalid("a function without recipe"))?;
            let row = self.constant(types::I64, row as i64);
            let second = args.get(1).copied().unwrap_or(args[0]);
            return Ok(self.call_table(Entry::FunctionF64, &[row, args[0], second]));
        }
        let packs: SmallVec<[Pack; 2]> = args.iter().map(|v| Pack::new(&[*v])).collect();
        let result = recipes::emit(f, &mut Sink { e: self, count: 1, vector: false }, &packs);
        Ok(self.narrow(dtype, result.values[0]))
    }

    /// A function of lanes by its recipe; `None` where it has to go lane by lane.
    pub(super) fn call_lanes(&mut self, f: Function, dtype: DType, args: &[Val]) -> Result<Option<Val>, EmitError> {
        let count = self.group() / 4;
        if dtype == DType::F64 || !self.isa.fma || count > MOST {
            return Ok(None);
        }
        let columns: SmallVec<[Parts; 2]> = args.iter().map(|a| self.parts(dtype, a)).collect();
        let packs: SmallVec<[Pack; 2]> = columns.iter().map(|c| Pack::new(c)).collect();
        let result = recipes::emit(f, &mut Sink { e: self, count, vector: true }, &packs);
        Ok(Some(Val::Lanes(result.values[..count].iter().map(|v| self.narrow(dtype, *v)).collect())))
    }

    /// Calls a host function.
    pub(super) fn call_table(&mut self, entry: Entry, args: &[Value]) -> Value {
        let (params, result) = entry.signature();
        let signature = match self.signatures.iter().find(|(e, _)| *e == entry) {
            Some((_, s)) => *s,
            None => {
                let mut s = Signature::new(self.call_conv);
                s.params.extend(params.iter().map(|t| AbiParam::new(*t)));
                s.returns.push(AbiParam::new(result));
                let s = self.b.import_signature(s);
                self.signatures.push((entry, s));
                s
            }
        };
        // The table outlives every launch and never changes.
        let flags = self.context_flags;
        let functions = self.functions;
        let callee = self.b.ins().load(types::I64, flags, functions, entry.offset());
        let call = self.b.ins().call_indirect(signature, callee, args);
        self.b.inst_results(call)[0]
    }

    /// Calls the table's function for this float dtype.
    pub(super) fn call_either(&mut self, dtype: DType, single: Entry, double: Entry, a: Value) -> Value {
        self.call_table(if dtype == DType::F64 { double } else { single }, &[a])
    }
}

/// The most vectors that one operation of a recipe spans.
const MOST: usize = 4;

/// A value of a recipe: one scalar, or the vectors of a group.
#[derive(Clone, Copy)]
struct Pack {
    // Only the first few are meant, as many as the sink counts.
    values: [Value; MOST],
}

impl Pack {
    fn new(v: &[Value]) -> Self {
        Self { values: std::array::from_fn(|i| v[i.min(v.len() - 1)]) }
    }
}

/// Writes a recipe's operations, each for all vectors of the group before the next, so that they overlap in time.
struct Sink<'s, 'a, 'b> {
    e: &'s mut Emitter<'a, 'b>,
    count: usize,
    vector: bool,
}

impl Sink<'_, '_, '_> {
    fn float(&self) -> Type {
        if self.vector { types::F32X4 } else { types::F32 }
    }

    fn int(&self) -> Type {
        if self.vector { types::I32X4 } else { types::I32 }
    }

    fn map<const N: usize>(
        &mut self,
        args: [Pack; N],
        mut f: impl FnMut(&mut Emitter<'_, '_>, [Value; N]) -> Value,
    ) -> Pack {
        let mut values = args.first().map_or([Value::from_u32(0); MOST], |a| a.values);
        for (i, v) in values.iter_mut().enumerate().take(self.count) {
            *v = f(self.e, std::array::from_fn(|k| args[k].values[i]));
        }
        Pack { values }
    }

    fn pooled(&mut self, ty: Type, bits: u32) -> Pack {
        Pack { values: std::array::from_fn(|part| self.e.pooled(ty, bits, part.min(self.count - 1))) }
    }

    fn rounded(&mut self, a: Pack, native: impl Fn(&mut Emitter<'_, '_>, Value) -> Value, entry: Entry) -> Pack {
        // Vectorised loops are not made where rounding is no instruction.
        self.map([a], |e, [a]| if e.isa.round { native(e, a) } else { e.call_table(entry, &[a]) })
    }
}

impl Emit for Sink<'_, '_, '_> {
    type V = Pack;
    type M = Pack;

    fn f32(&mut self, c: f32) -> Pack {
        if self.vector {
            return self.pooled(types::F32X4, c.to_bits());
        }
        Pack { values: [self.e.constant_f64(types::F32, f64::from(c)); MOST] }
    }

    fn i32(&mut self, c: i32) -> Pack {
        if self.vector {
            return self.pooled(types::I32X4, c.cast_unsigned());
        }
        Pack { values: [self.e.constant(types::I32, i64::from(c)); MOST] }
    }

    fn add(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fadd(a, b))
    }

    fn sub(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fsub(a, b))
    }

    fn mul(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fmul(a, b))
    }

    fn div(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fdiv(a, b))
    }

    fn fma(&mut self, a: Pack, b: Pack, c: Pack) -> Pack {
        self.map(
            [a, b, c],
            |e, [a, b, c]| {
                if e.isa.fma { e.b.ins().fma(a, b, c) } else { e.call_table(Entry::FmaF32, &[a, b, c]) }
            },
        )
    }

    fn neg(&mut self, a: Pack) -> Pack {
        self.map([a], |e, [a]| e.b.ins().fneg(a))
    }

    fn abs(&mut self, a: Pack) -> Pack {
        self.map([a], |e, [a]| e.b.ins().fabs(a))
    }

    fn sqrt(&mut self, a: Pack) -> Pack {
        self.map([a], |e, [a]| e.b.ins().sqrt(a))
    }

    fn trunc(&mut self, a: Pack) -> Pack {
        self.rounded(a, |e, a| e.b.ins().trunc(a), Entry::TruncF32)
    }

    fn round_even(&mut self, a: Pack) -> Pack {
        self.rounded(a, |e, a| e.b.ins().nearest(a), Entry::RoundF32)
    }

    fn iadd(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().iadd(a, b))
    }

    fn isub(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().isub(a, b))
    }

    fn iand(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().band(a, b))
    }

    fn ior(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().bor(a, b))
    }

    fn ixor(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().bxor(a, b))
    }

    fn ishl(&mut self, a: Pack, n: u32) -> Pack {
        let n = self.e.constant(types::I32, i64::from(n));
        self.map([a], |e, [a]| e.b.ins().ishl(a, n))
    }

    fn ishr_s(&mut self, a: Pack, n: u32) -> Pack {
        let n = self.e.constant(types::I32, i64::from(n));
        self.map([a], |e, [a]| e.b.ins().sshr(a, n))
    }

    fn bitcast_to_i32(&mut self, a: Pack) -> Pack {
        let ty = self.int();
        self.map([a], |e, [a]| e.recast(a, ty))
    }

    fn bitcast_to_f32(&mut self, a: Pack) -> Pack {
        let ty = self.float();
        self.map([a], |e, [a]| e.recast(a, ty))
    }

    fn to_i32(&mut self, a: Pack) -> Pack {
        let ty = self.int();
        let vector = self.vector;
        self.map([a], |e, [a]| {
            // Recipes use no result of an argument out of range, so the plain instruction serves.
            if vector && e.isa.x86 { e.b.ins().x86_cvtt2dq(ty, a) } else { e.b.ins().fcvt_to_sint_sat(ty, a) }
        })
    }

    fn to_f32(&mut self, a: Pack) -> Pack {
        let ty = self.float();
        self.map([a], |e, [a]| e.b.ins().fcvt_from_sint(ty, a))
    }

    fn lt(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fcmp(FloatCC::LessThan, a, b))
    }

    fn le(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fcmp(FloatCC::LessThanOrEqual, a, b))
    }

    fn eq(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().fcmp(FloatCC::Equal, a, b))
    }

    fn ine(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().icmp(IntCC::NotEqual, a, b))
    }

    fn ilt(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().icmp(IntCC::SignedLessThan, a, b))
    }

    fn and(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().band(a, b))
    }

    fn or(&mut self, a: Pack, b: Pack) -> Pack {
        self.map([a, b], |e, [a, b]| e.b.ins().bor(a, b))
    }

    fn select(&mut self, m: Pack, a: Pack, b: Pack) -> Pack {
        self.map([m, a, b], |e, [m, a, b]| e.choose(m, a, b))
    }
}

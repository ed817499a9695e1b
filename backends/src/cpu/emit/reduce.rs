//! Loops that fold values over virtual lanes.
//!
//! The order of a reduction is a property of the kernel, so vectors here are chosen to fit the virtual lanes, never the other way round:
//! virtual lane `l` is element `l` of an array of accumulators, which vectors cover in order. The array stays in registers where the
//! body is small, and else in a stack slot, where the group of iterations from `i` on finds its accumulators at `i mod L`.

use cranelift_codegen::ir::{Block, InstBuilder, StackSlot, Value, types};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Loop, Reduction};
use smallvec::SmallVec;

use super::combine::Accumulator;
use super::loops::stages;
use super::plan::Plan;
use super::value::{Parts, Val, spilled_size, width};
use super::{EmitError, Emitter};

/// A reduction with the dtypes of its values.
struct Fold<'k> {
    combiner: Combiner,
    dtypes: SmallVec<[DType; 2]>,
    reduction: &'k Reduction,
}

impl Emitter<'_, '_> {
    /// Vectors along the axis of the reduction itself.
    pub(super) fn reduce_vectorised(
        &mut self,
        l: &Loop,
        lanes: u32,
        plan: Plan,
        to: Value,
        known: Option<i64>,
    ) -> Result<(), EmitError> {
        let lanes = lanes as usize;
        let folds = self.folds(l)?;
        let vectors: usize = folds.iter().flat_map(|f| &f.dtypes).map(|d| lanes / width(*d).lanes()).sum();
        let in_registers = plan.light && vectors <= 8;
        let only_registers = in_registers && known.is_some_and(|n| n > 0 && n % lanes as i64 == 0);
        let scope = self.enter();
        let done = self.b.create_block();
        let identities = self.in_group(lanes, |e| e.identities(&folds));
        let slots: Vec<StackSlot> =
            folds.iter().flat_map(|f| &f.dtypes).map(|d| self.stack(lanes * spilled_size(*d))).collect();
        if !only_registers {
            self.store_all(&folds, &identities, &slots, lanes);
        }
        let mut i = self.constant(types::I64, 0);
        self.hoist_loads(l, i, to, done)?;
        let mut left = known;
        let mut finals = None;
        if in_registers {
            let (next, after) = self.register_loop(l, &folds, &identities, lanes, plan.group, i, to)?;
            i = next;
            left = left.map(|n| n % lanes as i64);
            if only_registers {
                finals = Some(after);
            } else {
                self.store_all(&folds, &after, &slots, lanes);
            }
        }
        if finals.is_none() {
            let groups = if in_registers { vec![4] } else { stages(plan.group, left) };
            for group in groups {
                if left.is_some_and(|n| n < group as i64) {
                    continue;
                }
                let limit = self.b.ins().iadd_imm_s(to, 1 - group as i64);
                i = self.counted(i, limit, group as i64, |e, i| {
                    e.in_lanes(l, i, group, |e| {
                        e.iteration(l, i)?;
                        e.fold_into(&folds, &slots, lanes, i)
                    })
                })?;
                left = left.map(|n| n % group as i64);
            }
            if left != Some(0) {
                self.counted(i, to, 1, |e, i| {
                    e.iteration(l, i)?;
                    e.fold_into(&folds, &slots, lanes, i)
                })?;
            }
        }
        self.jump(done, &[]);
        self.b.switch_to_block(done);
        let finals = match finals {
            Some(f) => f,
            None => self.load_all(&folds, &slots, lanes),
        };
        self.leave(scope);
        for (fold, finals) in folds.iter().zip(finals) {
            let results = self.tree(fold, finals, lanes)?;
            self.define_results(fold.reduction, results);
        }
        Ok(())
    }

    /// The accumulators in registers, as many iterations at a time as there are virtual lanes.
    #[expect(clippy::too_many_arguments, reason = "a step of the one function above")]
    fn register_loop(
        &mut self,
        l: &Loop,
        folds: &[Fold<'_>],
        identities: &[Accumulator],
        lanes: usize,
        group: usize,
        from: Value,
        to: Value,
    ) -> Result<(Value, Vec<Accumulator>), EmitError> {
        let limit = self.b.ins().iadd_imm_s(to, 1 - lanes as i64);
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(header, types::I64);
        let params: Vec<Accumulator> = identities.iter().map(|a| self.parameters(header, a)).collect();
        let start: Vec<Value> = std::iter::once(from).chain(flat(identities)).collect();
        self.jump(header, &start);
        self.b.switch_to_block(header);
        self.exit_unless_below(i, limit, exit, inside);
        self.b.switch_to_block(inside);
        let mut next: Vec<Value> = Vec::new();
        let mut columns: Vec<Vec<Parts>> = params.iter().map(|a| vec![Parts::new(); a.len()]).collect();
        for chunk in 0..lanes / group {
            let scope = self.enter();
            self.level += 1;
            let base = if chunk == 0 { i } else { self.b.ins().iadd_imm_s(i, (chunk * group) as i64) };
            self.in_lanes(l, base, group, |e| {
                e.iteration(l, base)?;
                for ((fold, param), column) in folds.iter().zip(&params).zip(&mut columns) {
                    let part = slice(param, &fold.dtypes, chunk, group);
                    let new = e.contributed(fold)?;
                    let sum = e.combine(fold.combiner, &fold.dtypes, &part, &new)?;
                    for ((column, v), d) in column.iter_mut().zip(&sum).zip(&fold.dtypes) {
                        column.extend(e.parts(*d, v));
                    }
                }
                Ok(())
            })?;
            self.leave(scope);
        }
        let advanced = self.b.ins().iadd_imm_s(i, lanes as i64);
        next.push(advanced);
        next.extend(columns.iter().flatten().flatten().copied());
        self.jump(header, &next);
        self.b.switch_to_block(exit);
        Ok((i, params))
    }

    /// Combines what one iteration, or one group of them, contributes into the accumulators of its virtual lanes.
    fn fold_into(&mut self, folds: &[Fold<'_>], slots: &[StackSlot], lanes: usize, i: Value) -> Result<(), EmitError> {
        let lane = self.b.ins().band_imm_u(i, lanes as i64 - 1);
        let mut slots = slots.iter();
        for fold in folds {
            let places: Vec<_> = fold
                .dtypes
                .iter()
                .zip(&mut slots)
                .map(|(d, slot)| (*d, self.stack_place(*slot, lane, spilled_size(*d))))
                .collect();
            let old: Accumulator = places.iter().map(|(d, p)| self.reload(*d, *p)).collect();
            let new = self.contributed(fold)?;
            let sum = self.combine(fold.combiner, &fold.dtypes, &old, &new)?;
            for ((d, p), v) in places.into_iter().zip(&sum) {
                self.keep(d, v, p);
            }
        }
        Ok(())
    }

    /// The halving sum over the virtual lanes, in vectors as long as they are full.
    fn tree(&mut self, fold: &Fold<'_>, mut acc: Accumulator, lanes: usize) -> Result<Accumulator, EmitError> {
        let mut w = lanes;
        while w > 4 {
            w /= 2;
            let (low, high) = (slice(&acc, &fold.dtypes, 0, w), slice(&acc, &fold.dtypes, 1, w));
            acc = self.in_group(w, |e| e.combine(fold.combiner, &fold.dtypes, &low, &high))?;
        }
        let mut single: Vec<Accumulator> = self.in_group(4, |e| {
            (0..4)
                .map(|lane| acc.iter().zip(&fold.dtypes).map(|(v, d)| Val::Scalar(e.lane(*d, v, lane))).collect())
                .collect()
        });
        while single.len() > 1 {
            let high = single.split_off(single.len() / 2);
            for (low, high) in single.iter_mut().zip(&high) {
                *low = self.combine(fold.combiner, &fold.dtypes, low, high)?;
            }
        }
        single.pop().ok_or(EmitError::Invalid("a reduction without lanes"))
    }

    /// Virtual lanes one after another: in scalars, or each a whole group where an outer loop is vectorised.
    pub(super) fn reduce_in_order(&mut self, l: &Loop, lanes: u32, to: Value) -> Result<(), EmitError> {
        let folds = self.folds(l)?;
        let zero = self.constant(types::I64, 0);
        let identities = self.identities(&folds);
        if lanes == 1 {
            return self.left_fold(l, &folds, &identities, zero, to);
        }
        let group = self.group();
        let slots: Vec<StackSlot> = folds
            .iter()
            .flat_map(|f| &f.dtypes)
            .map(|d| self.stack(lanes as usize * group * spilled_size(*d)))
            .collect();
        let end = self.constant(types::I64, i64::from(lanes));
        self.counted(zero, end, 1, |e, lane| {
            e.keep_lane(&folds, &slots, lane, &identities);
            Ok(())
        })?;
        self.counted(zero, to, 1, |e, i| {
            e.iteration(l, i)?;
            let lane = e.b.ins().band_imm_u(i, i64::from(lanes) - 1);
            let old = e.reload_lane(&folds, &slots, lane);
            let mut sums = Vec::new();
            for (fold, old) in folds.iter().zip(&old) {
                let new = e.contributed(fold)?;
                sums.push(e.combine(fold.combiner, &fold.dtypes, old, &new)?);
            }
            e.keep_lane(&folds, &slots, lane, &sums);
            Ok(())
        })?;
        let mut w = lanes / 2;
        while w > 0 {
            let end = self.constant(types::I64, i64::from(w));
            self.counted(zero, end, 1, |e, lane| {
                let other = e.b.ins().iadd_imm_s(lane, i64::from(w));
                let (low, high) = (e.reload_lane(&folds, &slots, lane), e.reload_lane(&folds, &slots, other));
                let mut sums = Vec::new();
                for ((fold, low), high) in folds.iter().zip(&low).zip(&high) {
                    sums.push(e.combine(fold.combiner, &fold.dtypes, low, high)?);
                }
                e.keep_lane(&folds, &slots, lane, &sums);
                Ok(())
            })?;
            w /= 2;
        }
        let results = self.reload_lane(&folds, &slots, zero);
        for (fold, result) in folds.iter().zip(results) {
            self.define_results(fold.reduction, result);
        }
        Ok(())
    }

    /// `reduce(1)`: one accumulator, in registers.
    fn left_fold(
        &mut self,
        l: &Loop,
        folds: &[Fold<'_>],
        identities: &[Accumulator],
        from: Value,
        to: Value,
    ) -> Result<(), EmitError> {
        let (header, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let i = self.b.append_block_param(header, types::I64);
        let params: Vec<Accumulator> = identities.iter().map(|a| self.parameters(header, a)).collect();
        let start: Vec<Value> = std::iter::once(from).chain(flat(identities)).collect();
        self.jump(header, &start);
        self.b.switch_to_block(header);
        self.exit_unless_below(i, to, exit, inside);
        self.b.switch_to_block(inside);
        let scope = self.enter();
        self.level += 1;
        self.iteration(l, i)?;
        let mut sums = Vec::new();
        for (fold, param) in folds.iter().zip(&params) {
            let new = self.contributed(fold)?;
            let sum = self.combine(fold.combiner, &fold.dtypes, param, &new)?;
            let sum = sum.iter().zip(&fold.dtypes).map(|(v, d)| self.uniform_shape(*d, v)).collect();
            sums.push(sum);
        }
        self.leave(scope);
        let advanced = self.b.ins().iadd_imm_s(i, 1);
        let next: Vec<Value> = std::iter::once(advanced).chain(flat(&sums)).collect();
        self.jump(header, &next);
        self.b.switch_to_block(exit);
        for (fold, result) in folds.iter().zip(params) {
            self.define_results(fold.reduction, result);
        }
        Ok(())
    }

    fn folds<'k>(&self, l: &'k Loop) -> Result<Vec<Fold<'k>>, EmitError> {
        let one = |r: &'k Reduction| {
            let dtypes: Result<SmallVec<[DType; 2]>, EmitError> =
                r.results.iter().map(|v| self.var_dtype(*v)).collect();
            let dtypes = dtypes?;
            let fits = r.values.len() == r.combiner.arity() && r.results.len() == r.values.len();
            if !fits {
                return Err(EmitError::Invalid("a reduction with the wrong number of values"));
            }
            Ok(Fold { combiner: r.combiner, dtypes, reduction: r })
        };
        l.reductions.iter().map(one).collect()
    }

    /// The identities, in the shape of the current group.
    fn identities(&mut self, folds: &[Fold<'_>]) -> Vec<Accumulator> {
        let mut all = Vec::new();
        for fold in folds {
            let literals = fold.combiner.identity(fold.dtypes[0]);
            let one = literals.iter().zip(&fold.dtypes).map(|(l, d)| {
                let v = Val::Scalar(self.literal(l));
                self.uniform_shape(*d, &v)
            });
            all.push(one.collect());
        }
        all
    }

    /// What an iteration contributes.
    fn contributed(&mut self, fold: &Fold<'_>) -> Result<Accumulator, EmitError> {
        fold.reduction.values.iter().map(|v| self.var(*v).cloned()).collect()
    }

    fn define_results(&mut self, reduction: &Reduction, results: Accumulator) {
        for (var, v) in reduction.results.iter().zip(results) {
            self.define(*var, v);
        }
    }

    /// A value in the shape that accumulators have: parts inside lanes, with bools as 32-bit masks.
    fn uniform_shape(&mut self, dtype: DType, v: &Val) -> Val {
        if self.group() == 1 { v.clone() } else { Val::Lanes(self.parts(dtype, v)) }
    }

    fn parameters(&mut self, block: Block, like: &Accumulator) -> Accumulator {
        let mut one = |v: Value| {
            let ty = self.b.func.dfg.value_type(v);
            self.b.append_block_param(block, ty)
        };
        like.iter()
            .map(|v| match v {
                Val::Scalar(v) => Val::Scalar(one(*v)),
                Val::Lanes(p) => Val::Lanes(p.iter().map(|v| one(*v)).collect()),
            })
            .collect()
    }

    fn store_all(&mut self, folds: &[Fold<'_>], values: &[Accumulator], slots: &[StackSlot], lanes: usize) {
        let mut slots = slots.iter();
        for (fold, values) in folds.iter().zip(values) {
            for ((d, v), slot) in fold.dtypes.iter().zip(values).zip(&mut slots) {
                let parts = self.in_group(lanes, |e| e.parts(*d, v));
                self.spill_parts(*slot, &parts);
            }
        }
    }

    fn load_all(&mut self, folds: &[Fold<'_>], slots: &[StackSlot], lanes: usize) -> Vec<Accumulator> {
        let mut slots = slots.iter();
        let mut all = Vec::new();
        for fold in folds {
            let one = fold.dtypes.iter().zip(&mut slots).map(|(d, slot)| {
                let start = self.stack_start(*slot);
                Val::Lanes(self.unspill_parts_at(*d, start, lanes / width(*d).lanes()))
            });
            all.push(one.collect());
        }
        all
    }

    fn keep_lane(&mut self, folds: &[Fold<'_>], slots: &[StackSlot], lane: Value, values: &[Accumulator]) {
        let group = self.group();
        let mut slots = slots.iter();
        for (fold, values) in folds.iter().zip(values) {
            for ((d, v), slot) in fold.dtypes.iter().zip(values).zip(&mut slots) {
                let place = self.stack_place(*slot, lane, group * spilled_size(*d));
                self.keep(*d, v, place);
            }
        }
    }

    fn reload_lane(&mut self, folds: &[Fold<'_>], slots: &[StackSlot], lane: Value) -> Vec<Accumulator> {
        let group = self.group();
        let mut slots = slots.iter();
        let mut all = Vec::new();
        for fold in folds {
            let one = fold.dtypes.iter().zip(&mut slots).map(|(d, slot)| {
                let place = self.stack_place(*slot, lane, group * spilled_size(*d));
                self.reload(*d, place)
            });
            all.push(one.collect());
        }
        all
    }

    fn keep(&mut self, dtype: DType, v: &Val, place: super::memory::Place) {
        match self.uniform_shape(dtype, v) {
            Val::Scalar(v) => self.spill(dtype, v, place),
            Val::Lanes(p) => self.spill_parts_at(place, &p),
        }
    }

    fn reload(&mut self, dtype: DType, place: super::memory::Place) -> Val {
        if self.group() == 1 {
            return Val::Scalar(self.unspill(dtype, place));
        }
        let count = self.group() / width(dtype).lanes();
        Val::Lanes(self.unspill_parts_at(dtype, place, count))
    }

    /// Runs `f` with values spanning this many lanes, outside any loop's lanes.
    fn in_group<T>(&mut self, group: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.group, group);
        let r = f(self);
        self.group = outer;
        r
    }
}

/// Group `chunk` of accumulators that span more lanes.
fn slice(acc: &Accumulator, dtypes: &[DType], chunk: usize, group: usize) -> Accumulator {
    acc.iter()
        .zip(dtypes)
        .map(|(v, d)| match v {
            Val::Scalar(v) => Val::Scalar(*v),
            Val::Lanes(p) => {
                let n = group / width(*d).lanes();
                Val::Lanes(p[chunk * n..(chunk + 1) * n].into())
            }
        })
        .collect()
}

/// All registers in order.
fn flat(all: &[Accumulator]) -> impl Iterator<Item = Value> {
    all.iter().flatten().flat_map(|v| match v {
        Val::Scalar(v) => Parts::from_slice(&[*v]),
        Val::Lanes(p) => p.clone(),
    })
}

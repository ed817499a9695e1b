//! Reduce loops: partial results of all virtual lanes stand in the frame.
//!
//! A vectorised loop takes as many iterations at once as there are virtual lanes and vector lanes, and folds them into neighbouring
//! partial results. Any other takes one iteration at a time, and each partial result is a whole vector. Both are the kernel's order.

use iced_x86::{Code, MemoryOperand, Register};
use lehr_ir::dtype::DType;
use lehr_ir::kernel::{Combiner, Loop, Reduction};

use super::assembler::{frame, frame_lane, indexed};
use super::convert::element;
use super::emitter::{Emitter, Lane, Place};
use super::segment::{At, Bin, Each, Element, Index, Op, Order, V, Wide, combining_op};
use super::size::Size;
use super::vector::SCRATCH;
use super::{Unsupported, WideError};

/// A reduction while its loop is emitted.
struct Fold<'k> {
    reduction: &'k Reduction,
    dtype: DType,
    /// The size of the first value's elements.
    size: Size,
    /// The place of the partial results of the first value.
    values: i32,
    /// The place of the partial results of the second, which is a 64-bit index.
    indices: Option<i32>,
}

/// How partial results lie in the frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Side by side.
    Elements,
    /// A vector each, of as many 64-bit indices as there are lanes.
    Vectors,
}

impl Layout {
    /// The power of two of bytes from one virtual lane to the next.
    fn value_shift(self, size: Size) -> i32 {
        if self == Self::Elements { size.shift() } else { 6 }
    }

    /// The same of indices.
    fn index_shift(self, lanes: usize) -> i32 {
        if self == Self::Elements { 3 } else { (8 * lanes).trailing_zeros() as i32 }
    }
}

impl<'k> Emitter<'k> {
    /// A reduction outside of vectorised loops.
    pub(super) fn vector_reduce(&mut self, l: &'k Loop, lanes: usize, varying: Vec<bool>) -> Result<(), WideError> {
        let width = self.lanes();
        let layout = Layout::Elements;
        // The tree reads and writes whole vectors, and so beyond the last virtual lane.
        let vectors = |size: Size| ((lanes + width) * size.bytes() as usize).div_ceil(64);
        let folds = self.folds(l, vectors, vectors(Size::Eight))?;
        let (from, to) = self.range(&l.extent)?;
        let mask = lanes as i64 - 1;
        self.vector_loop(l, from, to, width.min(lanes), varying.clone(), |e| {
            folds.iter().try_for_each(|f| e.take(f, layout, from, mask, true))
        })?;
        if lanes >= width && folds.iter().all(|f| f.indices.is_none() && f.size == self.size) {
            return self.register_tree(&folds, lanes);
        }
        if lanes > 1 {
            // All lanes are active in the tree: what is beyond the end is garbage that nobody reads.
            self.asm.constant(Register::R14, width as i64);
            self.v_activate();
            let counter = self.frame.words(1);
            let current = self.frame.words(1);
            self.lane = Some(Lane { axis: &l.axis, base: counter, current, varying });
            self.tree(&folds, layout, lanes, counter, width as i32)?;
            self.lane = None;
        }
        for fold in &folds {
            if let [value, rest @ ..] = fold.reduction.results.as_slice() {
                let v = self.segment.push(Op::Splat(fold.values), fold.size, &[]);
                self.define(*value, v);
                match (rest.first(), fold.indices) {
                    (Some(index), Some(place)) if self.size == Size::Eight => {
                        let v = self.segment.push(Op::Splat(place), Size::Eight, &[]);
                        self.define(*index, v);
                    }
                    (Some(index), Some(place)) => {
                        self.set(*index, Place::Wide(Wide { offset: place, varying: false }));
                    }
                    (_, _) => {}
                }
            }
        }
        // A result is a value of the frame only until the next run of this loop.
        self.flush()
    }

    /// A reduction whose iterations run one by one.
    pub(super) fn sequential_reduce(&mut self, l: &'k Loop, lanes: usize) -> Result<(), WideError> {
        let layout = Layout::Vectors;
        let folds = self.folds(l, |_| lanes, (8 * self.lanes() * lanes).div_ceil(64))?;
        let (from, to) = self.range(&l.extent)?;
        let mask = lanes as i64 - 1;
        self.counted(l, from, to, |e| folds.iter().try_for_each(|f| e.take(f, layout, from, mask, false)))?;
        if lanes > 1 {
            let counter = self.frame.words(1);
            self.tree(&folds, layout, lanes, counter, 1)?;
        }
        for fold in &folds {
            if let [value, rest @ ..] = fold.reduction.results.as_slice() {
                self.set(*value, Place::Home(fold.values));
                if let (Some(index), Some(place)) = (rest.first(), fold.indices) {
                    let varying = self.var_varies(*index);
                    let wide = Place::Wide(Wide { offset: place, varying });
                    self.set(*index, if self.size == Size::Eight { Place::Home(place) } else { wide });
                }
            }
        }
        Ok(())
    }

    /// Places for partial results, filled with identities, with how many times 64 bytes values of a size take, and indices.
    fn folds(
        &mut self,
        l: &'k Loop,
        value_vectors: impl Fn(Size) -> usize,
        index_vectors: usize,
    ) -> Result<Vec<Fold<'k>>, WideError> {
        let mut folds = Vec::new();
        for reduction in &l.reductions {
            let combiner = reduction.combiner;
            let (Some(first), true) = (reduction.results.first(), reduction.values.len() == combiner.arity()) else {
                return Err(WideError::Invalid("a reduction with the wrong number of values"));
            };
            let dtype = self.dtype(*first)?;
            if dtype == DType::I64 && self.size == Size::Four {
                return Err(Unsupported::Reduction { combiner, dtype }.into());
            }
            let identity = combiner.identity(dtype);
            let bits = identity.first().map_or(0, |l| self.element_bits(l));
            let size = self.size_of(dtype);
            let values = self.frame.vectors(value_vectors(size));
            self.v_constant(size, SCRATCH, bits);
            self.fill(values, value_vectors(size))?;
            let indices = (combiner.arity() == 2).then(|| self.frame.vectors(index_vectors));
            if let Some(place) = indices {
                self.fill_words(place, 8 * index_vectors, i64::MAX)?;
            }
            folds.push(Fold { reduction, dtype, size, values, indices });
        }
        Ok(folds)
    }

    /// Folds what an iteration gives into the partial results of its virtual lanes.
    fn take(
        &mut self,
        fold: &Fold<'k>,
        layout: Layout,
        counter: i32,
        mask: i64,
        active: bool,
    ) -> Result<(), WideError> {
        let at = |offset, shift| At { offset, counter, plus: None, mask, shift };
        let old_at = at(fold.values, layout.value_shift(fold.size));
        let old = self.segment.push(Op::Partial(old_at), fold.size, &[]);
        let value = fold.reduction.values.first().copied().ok_or(WideError::Invalid("a reduction without values"))?;
        let value = self.value(value)?;
        let sum = match (fold.indices, fold.reduction.values.get(1)) {
            (Some(indices), Some(index)) => {
                let first = at(indices, layout.index_shift(self.lanes()));
                match self.place(*index)? {
                    Place::Wide(index) => self.pick(fold, old, value, first, Index::Wide(index)),
                    _ => {
                        let old_index = self.segment.push(Op::Partial(first), Size::Eight, &[]);
                        let index = self.value(*index)?;
                        let (sum, index) = self.pick_vector(fold, [old, value], [old_index, index]);
                        self.segment.push(Op::KeepPartial(first, active), Size::Eight, &[index]);
                        sum
                    }
                }
            }
            (_, _) => self.combine(fold, old, value)?,
        };
        let sum = self.canonical(fold.dtype, sum);
        self.segment.push(Op::KeepPartial(old_at, active), fold.size, &[sum]);
        Ok(())
    }

    /// For `w = L/2, …, 1`: lane `l < w` takes lane `l + w`, `step` lanes at once.
    fn tree(
        &mut self,
        folds: &[Fold<'k>],
        layout: Layout,
        lanes: usize,
        counter: i32,
        step: i32,
    ) -> Result<(), WideError> {
        let width = self.frame.words(1);
        let (again, done) = (self.asm.label(), self.asm.label());
        self.asm.mi(Code::Mov_rm64_imm32, frame(width), lanes as i32 / 2);
        self.asm.bind(again);
        self.asm.mi(Code::Cmp_rm64_imm8, frame(width), 0);
        self.asm.jump(Code::Je_rel32_64, done);
        self.asm.mi(Code::Mov_rm64_imm32, frame(counter), 0);
        self.repeat(counter, width, step, |e| {
            for fold in folds {
                let at = |offset, plus, shift| At { offset, counter, plus, mask: -1, shift };
                let (shift, size) = (layout.value_shift(fold.size), fold.size);
                let low_at = at(fold.values, None, shift);
                let low = e.segment.push(Op::Partial(low_at), size, &[]);
                let high = e.segment.push(Op::Partial(at(fold.values, Some(width), shift)), size, &[]);
                let shift = layout.index_shift(e.lanes());
                let sum = match fold.indices {
                    Some(indices) if e.size == Size::Eight => {
                        let (first, second) = (at(indices, None, shift), at(indices, Some(width), shift));
                        let [a, b] = [first, second].map(|at| e.segment.push(Op::Partial(at), Size::Eight, &[]));
                        let (sum, index) = e.pick_vector(fold, [low, high], [a, b]);
                        e.segment.push(Op::KeepPartial(first, false), Size::Eight, &[index]);
                        sum
                    }
                    Some(indices) => {
                        let (first, second) = (at(indices, None, shift), at(indices, Some(width), shift));
                        e.pick(fold, low, high, first, Index::At(second))
                    }
                    None => e.combine(fold, low, high)?,
                };
                let sum = e.canonical(fold.dtype, sum);
                e.segment.push(Op::KeepPartial(low_at, false), size, &[sum]);
            }
            Ok(())
        })?;
        self.asm.mi(Code::Shr_rm64_imm8, frame(width), 1);
        self.asm.jump(Code::Jmp_rel32_64, again);
        self.asm.bind(done);
        Ok(())
    }

    /// The same in registers, where the virtual lanes fill vectors.
    fn register_tree(&mut self, folds: &[Fold<'k>], lanes: usize) -> Result<(), WideError> {
        let width = self.lanes();
        for fold in folds {
            let place = |i: usize| fold.values + (i as u32 * self.width.bytes()) as i32;
            let places: Vec<i32> = (0..lanes / width).map(place).collect();
            let mut vectors: Vec<V> = places.into_iter().map(|p| self.segment.home(p, fold.size)).collect();
            while vectors.len() > 1 {
                let high = vectors.split_off(vectors.len() / 2);
                for (low, high) in vectors.iter_mut().zip(high) {
                    *low = self.combine(fold, *low, high)?;
                }
            }
            let (Some(mut v), Some(result)) = (vectors.pop(), fold.reduction.results.first()) else { continue };
            let mut n = width / 2;
            while n > 0 {
                let high = self.segment.push(Op::Rotate(n as u8), fold.size, &[v]);
                v = self.combine(fold, v, high)?;
                n /= 2;
            }
            let v = self.segment.push(Op::First, fold.size, &[v]);
            self.define(*result, v);
        }
        // Partial results are values of the frame only until the next run of this loop.
        self.flush()
    }

    fn combine(&mut self, fold: &Fold<'k>, a: V, b: V) -> Result<V, WideError> {
        let op =
            combining_op(fold.reduction.combiner).ok_or(WideError::Invalid("an argument reduction without index"))?;
        self.segment.apply(op, &[fold.dtype, fold.dtype], &[a, b], true)
    }

    /// The value of the candidate that wins: a NaN before any number, then the better one, then the lesser index.
    fn pick(&mut self, fold: &Fold<'k>, a: V, b: V, first: At, second: Index) -> V {
        let [certain, tie] = self.contest(fold, a, b);
        let s = &mut self.segment;
        let wins = s.push(Op::Each(Each::Pick { first, second }, true), Size::Four, &[certain, tie]);
        s.select(wins, a, b)
    }

    /// The same with its index, both as vectors.
    fn pick_vector(&mut self, fold: &Fold<'k>, [a, b]: [V; 2], [index_a, index_b]: [V; 2]) -> (V, V) {
        let [certain, tie] = self.contest(fold, a, b);
        let s = &mut self.segment;
        let earlier = s.compare(Order::Le, Element::Signed(Size::Eight), index_a, index_b);
        let tie = s.mask(tie, Size::Eight);
        let tie = s.bin(Bin::And, tie, earlier);
        let certain = s.mask(certain, Size::Eight);
        let wins = s.bin(Bin::Or, certain, tie);
        (s.select(wins, a, b), s.select(wins, index_a, index_b))
    }

    /// Where the first of two candidates certainly wins, and where the lesser index decides.
    fn contest(&mut self, fold: &Fold<'k>, a: V, b: V) -> [V; 2] {
        let max = fold.reduction.combiner == Combiner::ArgMax;
        let s = &mut self.segment;
        let (mut certain, mut tie);
        match element(fold.dtype) {
            None => {
                let (a, b) = s.alike(a, b);
                certain = if max { s.bin(Bin::AndNot, b, a) } else { s.bin(Bin::AndNot, a, b) };
                let differ = s.bin(Bin::Xor, a, b);
                tie = s.not(differ);
            }
            Some(element) => {
                certain = s.compare(if max { Order::Gt } else { Order::Lt }, element, a, b);
                tie = s.compare(Order::Eq, element, a, b);
                if element.is_float() {
                    let a_is_nan = s.compare(Order::Unordered, element, a, a);
                    let b_is_nan = s.compare(Order::Unordered, element, b, b);
                    let only_a = s.bin(Bin::AndNot, b_is_nan, a_is_nan);
                    let both = s.bin(Bin::And, a_is_nan, b_is_nan);
                    certain = s.bin(Bin::Or, certain, only_a);
                    tie = s.bin(Bin::Or, tie, both);
                }
            }
        }
        [certain, tie]
    }

    /// Where a vector of partial results is; changes `rax`.
    pub(super) fn partial(&mut self, at: &At) -> MemoryOperand {
        self.partial_offset(at);
        indexed(Register::RSP, Register::RAX, 1, at.offset)
    }

    /// The address of a 64-bit partial result of the lane that runs, in `rax`; changes `rcx` not.
    pub(super) fn partial_wide(&mut self, at: &At) {
        self.partial_offset(at);
        self.asm.rm(Code::Lea_r64_m, Register::RAX, indexed(Register::RAX, Register::R15, 8, at.offset));
        self.asm.rr(Code::Add_r64_rm64, Register::RAX, Register::RSP);
    }

    fn partial_offset(&mut self, at: &At) {
        self.asm.rm(Code::Mov_r64_rm64, Register::RAX, frame(at.counter));
        if let Some(plus) = at.plus {
            self.asm.rm(Code::Add_r64_rm64, Register::RAX, frame(plus));
        }
        if let Ok(mask) = i32::try_from(at.mask)
            && mask != -1
        {
            self.asm.ri(Code::And_rm64_imm32, Register::RAX, mask);
        }
        self.asm.ri(Code::Shl_rm64_imm8, Register::RAX, at.shift);
    }

    /// Fills vectors of 64 bytes from the scratch register.
    fn fill(&mut self, place: i32, vectors: usize) -> Result<(), WideError> {
        let step = self.width.bytes() as i32;
        self.each_offset(64 * vectors, step, |e| {
            let to = indexed(Register::RSP, Register::R15, 1, place);
            e.v_store(to, SCRATCH);
        })
    }

    fn fill_words(&mut self, place: i32, words: usize, value: i64) -> Result<(), WideError> {
        self.asm.constant(Register::RAX, value);
        self.each_offset(words, 1, |e| e.asm.mr(Code::Mov_rm64_r64, frame_lane(place, 8), Register::RAX))
    }

    /// Counts `r15` up to an end.
    fn each_offset(&mut self, end: usize, step: i32, body: impl FnOnce(&mut Self)) -> Result<(), WideError> {
        let end = i32::try_from(end).map_err(|_| Unsupported::Frame(end as u64))?;
        let again = self.asm.label();
        self.asm.rr(Code::Xor_r32_rm32, Register::R15D, Register::R15D);
        self.asm.bind(again);
        body(self);
        self.asm.ri(Code::Add_rm64_imm32, Register::R15, step);
        self.asm.ri(Code::Cmp_rm64_imm32, Register::R15, end);
        self.asm.jump(Code::Jl_rel32_64, again);
        Ok(())
    }
}

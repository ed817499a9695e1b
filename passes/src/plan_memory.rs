//! Places temporaries in one arena: buffers that are never alive together share bytes.
//!
//! Each temporary has a *span*: the steps from its first writing to its last use, and its bytes. A map that reads a dying temporary
//! at exactly the places it writes takes over its memory: the result is computed in place, and the two are one span.
//!
//! Sizes are polynomials over symbols. Spans whose sizes are multiples of the same polynomial are placed together, by their
//! multiples, which are numbers (`2048*batch` and `1024*batch` share as 2048 and 1024 do); constants are the multiples of 1.
//! How numbers are placed is in [`place`]. What is small and symbolic shares only with what has its very size.
//! The arena is the regions one after the other; its size is a polynomial that is evaluated when symbols are bound.
//!
//! New values of variables are computed where the old lie, if these are dead by then, and if at run time nobody else holds them.
//!
//! Where the target asks for slots instead ([`slots`]), no result takes an operand's place, and no variable's.

use std::collections::BTreeMap;

use lehr_ir::dim::Dim;
use lehr_ir::plan::{BufferId, Place, Plan};
use lehr_ir::target::Memory;
use smallvec::SmallVec;

mod in_place;
mod place;
mod slots;

use in_place::is_in_place;
use place::{Span, place};

/// Every temporary starts at a multiple of this many bytes, so that vectors and threads do not share a cache line.
const ALIGN: i64 = 64;
/// From this multiple of a polynomial on, one is rounded up to whole cache lines, for one part in sixteen at most.
const LARGE: i64 = 16 * ALIGN;
/// What a size counts for where it is not known.
const USUAL_SIZE: i64 = 64;

/// What the memory plan came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryReport {
    /// Bytes of the arena, or of all slots.
    pub arena: Dim,
    /// Bytes of the temporaries that are alive at once, at the step where that is most (with sizes of 64 where they are not known):
    /// no arena of these steps in this order can be smaller.
    pub alive: Dim,
    /// Bytes of all temporaries, had each its own place.
    pub unshared: Dim,
    /// Temporaries computed in the place of another.
    pub in_place: usize,
    /// New values of variables computed in the place of the old.
    pub updates_in_place: usize,
    /// How many values are computed again, and the bytes of the arena had they not been.
    pub rematerialized: Option<(usize, Dim)>,
}

/// Gives each temporary its offset in the arena, or its slot.
pub fn plan_memory(plan: &mut Plan, memory: Memory) -> MemoryReport {
    let mut report = MemoryReport::default();
    let (lives, of) = lives(plan, memory, &mut report);
    report.alive = most_alive(&lives, plan.steps.len());
    if memory == Memory::Slots {
        let (slot, mut sizes) = slots::assign(&lives);
        let nothing = sizes.len() as u32;
        for (b, life) in plan.buffers.iter_mut().zip(of) {
            if matches!(b.place, Place::Temp(_)) {
                // What nothing writes has no elements.
                b.place = Place::Slot(life.map_or(nothing, |life| slot[life]));
            }
        }
        if plan.buffers.iter().any(|b| b.place == Place::Slot(nothing)) {
            sizes.push(Dim::ZERO);
        }
        report.arena = sizes.iter().fold(Dim::ZERO, |sum, size| &sum + size);
        plan.slots = sizes;
        return report;
    }
    let (offsets, arena) = arrange(&lives);
    for (b, life) in plan.buffers.iter_mut().zip(of) {
        if let (Place::Temp(offset), Some(life)) = (&mut b.place, life) {
            *offset = offsets[life].clone();
        }
    }
    plan.in_place = in_place::updates(plan);
    report.updates_in_place = plan.in_place.iter().filter(|u| **u).count();
    plan.arena = arena.clone();
    report.arena = arena;
    report
}

/// The bytes of temporaries that are alive at once, at the step of a plan where that is most: [`MemoryReport::alive`].
pub fn alive(plan: &Plan) -> Dim {
    let memory = if plan.slots.is_empty() { Memory::Arena } else { Memory::Slots };
    most_alive(&lives(plan, memory, &mut MemoryReport::default()).0, plan.steps.len())
}

/// The steps in which memory of one size is in use, by one temporary or by several that follow in its place.
struct Life {
    size: Dim,
    first: usize,
    last: usize,
}

/// The lives of all temporaries, and for each buffer which is its.
fn lives(plan: &Plan, memory: Memory, report: &mut MemoryReport) -> (Vec<Life>, Vec<Option<usize>>) {
    let accesses: Vec<_> = plan.steps.iter().map(|s| s.accesses(&plan.kernels)).collect();
    let mut last = vec![0; plan.buffers.len()];
    for (i, (reads, writes)) in accesses.iter().enumerate() {
        for b in reads.iter().chain(writes) {
            last[b.index()] = i;
        }
    }
    let mut lives: Vec<Life> = Vec::new();
    let mut of: Vec<Option<usize>> = vec![None; plan.buffers.len()];
    for (i, (reads, writes)) in accesses.iter().enumerate() {
        let mut taken: SmallVec<[BufferId; 2]> = SmallVec::new();
        for &b in writes {
            if of[b.index()].is_some() || !matches!(plan.buffers[b.index()].place, Place::Temp(_) | Place::Slot(_)) {
                continue;
            }
            let size = bytes(plan, b);
            report.unshared = &report.unshared + &size;
            let mut dying = reads.iter().copied().filter(|r| last[r.index()] == i && !taken.contains(r));
            let place = dying.find(|r| {
                let same = of[r.index()].is_some_and(|life| lives[life].size == size);
                memory == Memory::Arena && same && is_in_place(&plan.steps[i], &plan.kernels, *r, b)
            });
            let life = match place.and_then(|r| Some((r, of[r.index()]?))) {
                Some((r, life)) => {
                    taken.push(r);
                    report.in_place += 1;
                    lives[life].last = last[b.index()];
                    life
                }
                None => {
                    lives.push(Life { size, first: i, last: last[b.index()] });
                    lives.len() - 1
                }
            };
            of[b.index()] = Some(life);
        }
    }
    (lives, of)
}

fn bytes(plan: &Plan, b: BufferId) -> Dim {
    let decl = &plan.buffers[b.index()];
    let size = decl.dtype.size() as i64;
    match decl.len.as_const().and_then(|n| n.checked_mul(size)) {
        Some(n) => Dim::from(n),
        None => &decl.len * size,
    }
}

/// The bytes alive at the step where they are most.
fn most_alive(lives: &[Life], steps: usize) -> Dim {
    let mut change = vec![0i64; steps + 1];
    for life in lives {
        let usual = usual(&life.size);
        change[life.first] = change[life.first].saturating_add(usual);
        change[life.last + 1] = change[life.last + 1].saturating_sub(usual);
    }
    let mut now = 0i64;
    let mut most = (0i64, 0usize);
    for (i, c) in change.iter().enumerate() {
        now = now.saturating_add(*c);
        if now > most.0 {
            most = (now, i);
        }
    }
    let alive = lives.iter().filter(|l| (l.first..=l.last).contains(&most.1));
    let (mut constant, mut symbolic) = (0i64, Dim::ZERO);
    for life in alive {
        match life.size.as_const().and_then(|n| constant.checked_add(n)) {
            Some(sum) => constant = sum,
            None => symbolic = &symbolic + &life.size,
        }
    }
    &symbolic + constant
}

/// A size with 64 for each symbol.
fn usual(size: &Dim) -> i64 {
    size.as_const()
        .or_else(|| size.substitute(&|_| Some(Dim::from(USUAL_SIZE))).as_const())
        .unwrap_or(USUAL_SIZE)
        .max(0)
}

/// An offset for each life, and where the arena ends.
fn arrange(lives: &[Life]) -> (Vec<Dim>, Dim) {
    // By the polynomial that sizes are multiples of, the lives with their multiples; constants, multiples of 1, come first.
    let mut families: BTreeMap<Option<Dim>, Vec<(usize, i64)>> = BTreeMap::new();
    // What shares only with its own size.
    let mut others: BTreeMap<Dim, Vec<usize>> = BTreeMap::new();
    for (i, life) in lives.iter().enumerate() {
        match multiple(&life.size) {
            Some((of, n)) => families.entry(of).or_default().push((i, n)),
            None => others.entry(life.size.clone()).or_default().push(i),
        }
    }
    let mut offsets = vec![Dim::ZERO; lives.len()];
    let mut end = Dim::ZERO;
    let span = |i: usize, size: i64| Span { first: lives[i].first, last: lives[i].last, size };
    for (of, members) in families {
        let spans: Vec<Span> = members.iter().map(|&(i, n)| span(i, n)).collect();
        let (places, total) = place(&spans);
        let scaled = |n: i64| of.as_ref().map_or(Dim::from(n), |of| of * n);
        for (&(i, _), n) in members.iter().zip(places) {
            offsets[i] = &end + &scaled(n);
        }
        end = &end + &scaled(total);
    }
    for (size, members) in others {
        let spans: Vec<Span> = members.iter().map(|&i| span(i, 1)).collect();
        let (places, total) = place(&spans);
        let rounded = &size.ceildiv(Dim::from(ALIGN)) * ALIGN;
        for (&i, n) in members.iter().zip(places) {
            offsets[i] = &end + &(&rounded * n);
        }
        end = &end + &(&rounded * total);
    }
    (offsets, end)
}

/// A size as a multiple of a polynomial, in bytes rounded up to cache lines; `None` in place of the polynomial 1.
///
/// `None` for a symbolic size of few bytes an element, which rounding would make much larger.
fn multiple(size: &Dim) -> Option<(Option<Dim>, i64)> {
    let lines = |n: i64| n.checked_add(ALIGN - 1).map(|n| n / ALIGN * ALIGN);
    if let Some(n) = size.as_const() {
        return Some((None, lines(n.max(0))?));
    }
    let all = size.terms().iter().map(|t| t.coefficient()).chain([size.constant_part()]);
    let n = all.fold(0, gcd);
    if n < LARGE && n % ALIGN != 0 || n == 0 {
        return None;
    }
    let of = size.floordiv(Dim::from(n));
    (&of * n == *size).then_some((Some(of), lines(n)?))
}

/// The greatest common divisor; of 0 and a number, that number.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

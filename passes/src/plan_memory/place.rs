//! Places spans of known size: an offset for each, so that no two that are alive together overlap, in little memory.
//!
//! The least memory is hard to find (the problem is NP-complete), and one rule alone is far from it now and then. So several are
//! tried in turn until one comes near the bound that no placement can beat: the most bytes alive at once.
//!
//! 1. In the order of steps, each span in the free block that fits best, as an allocator does. It takes O(n log n).
//! 2. The largest span first, each in the gap that fits it best among those alive with it (Pisarchyk and Lee, "Efficient Memory
//!    Management for Deep Neural Net Inference", 2020). It takes O(n²), as does what follows.
//! 3. The same with the spans of the fullest step first, then those of the next fullest.
//! 4. The better of these two orders again and again, where each time a span that came to lie on top is placed earlier; a change
//!    that makes it no worse stays.

/// About how many comparisons of two spans the rules of O(n²) may take together.
const MOST_WORK: usize = 1 << 20;

/// The most orders that the last rule tries.
const MOST_TRIED: usize = 256;

/// Bytes that are in use from one step to another, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) size: i64,
}

/// An offset for each span, and the bytes that all take together.
pub(super) type Placed = (Vec<i64>, i64);

/// Places spans in as little memory as is found.
pub(super) fn place(spans: &[Span]) -> Placed {
    let alive = Alive::of(spans);
    let bound = alive.most();
    // What is left to gain is not worth looking for.
    let near = |placed: &Placed| placed.1 <= bound.saturating_add(bound / 64);
    let mut best = in_order(spans);
    let mut tries = (MOST_WORK / spans.len().pow(2).max(1)).min(MOST_TRIED);
    let orders: [&dyn Fn() -> Vec<usize>; 2] =
        [&|| by_key(spans, |s| s.size), &|| by_key(spans, |s| alive.most_during(s))];
    let mut from: Option<(Vec<usize>, Placed)> = None;
    for order in orders {
        if near(&best) || tries == 0 {
            return best;
        }
        tries -= 1;
        let order = order();
        let placed = best_fit(spans, &order);
        if placed.1 < best.1 {
            best = placed.clone();
        }
        if from.as_ref().is_none_or(|f| placed.1 < f.1.1) {
            from = Some((order, placed));
        }
    }
    let Some((mut order, mut placed)) = from else { return best };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |n: usize| {
        // Knuth's linear congruential generator: the same plan in every run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n.max(1)
    };
    while !near(&best) && tries > 0 {
        tries -= 1;
        let on_top = |p: &usize| placed.0[order[*p]] + spans[order[*p]].size == placed.1;
        let top: Vec<usize> = (0..order.len()).filter(on_top).collect();
        let Some(&chosen) = top.get(below(top.len())) else { break };
        let mut other = order.clone();
        let span = other.remove(chosen);
        other.insert(below(chosen + 1), span);
        let tried = best_fit(spans, &other);
        if tried.1 <= placed.1 {
            (order, placed) = (other, tried);
        }
        if placed.1 < best.1 {
            best = placed.clone();
        }
    }
    best
}

/// The spans with the greatest keys first; of equal ones, the larger and then the earlier.
fn by_key(spans: &[Span], key: impl Fn(&Span) -> i64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_cached_key(|&i| (std::cmp::Reverse((key(&spans[i]), spans[i].size)), spans[i].first, i));
    order
}

/// How many bytes are alive at each step.
struct Alive(Vec<i64>);

impl Alive {
    fn of(spans: &[Span]) -> Self {
        let steps = spans.iter().map(|s| s.last + 1).max().unwrap_or(0);
        let mut bytes = vec![0i64; steps + 1];
        for s in spans {
            bytes[s.first] = bytes[s.first].saturating_add(s.size);
            bytes[s.last + 1] = bytes[s.last + 1].saturating_sub(s.size);
        }
        let mut now = 0i64;
        for b in &mut bytes {
            now = now.saturating_add(*b);
            *b = now;
        }
        Self(bytes)
    }

    fn most(&self) -> i64 {
        self.0.iter().copied().max().unwrap_or(0)
    }

    fn most_during(&self, s: &Span) -> i64 {
        self.0[s.first..=s.last].iter().copied().max().unwrap_or(0)
    }
}

/// Places the spans in the order of their first steps.
fn in_order(spans: &[Span]) -> Placed {
    let mut starts: Vec<usize> = (0..spans.len()).collect();
    starts.sort_by_key(|&i| (spans[i].first, std::cmp::Reverse(spans[i].size), i));
    let mut ends: Vec<usize> = (0..spans.len()).collect();
    ends.sort_by_key(|&i| (spans[i].last, i));
    let mut ends = ends.into_iter().peekable();
    let mut offsets = vec![0; spans.len()];
    let mut free = Free::default();
    for i in starts {
        while let Some(e) = ends.next_if(|&e| spans[e].last < spans[i].first) {
            free.give_back(offsets[e], spans[e].size);
        }
        offsets[i] = free.take(spans[i].size);
    }
    (offsets, free.most)
}

/// The blocks below the end of what is in use that are free.
#[derive(Default)]
struct Free {
    /// Start and bytes, ascending; no two touch, and none touches the end.
    blocks: Vec<(i64, i64)>,
    end: i64,
    most: i64,
}

impl Free {
    fn take(&mut self, size: i64) -> i64 {
        let fits = self.blocks.iter().enumerate().filter(|(_, b)| b.1 >= size);
        let Some(at) = fits.min_by_key(|(_, b)| b.1).map(|(at, _)| at) else {
            self.end = self.end.saturating_add(size);
            self.most = self.most.max(self.end);
            return self.end - size;
        };
        let block = &mut self.blocks[at];
        let start = block.0;
        *block = (start + size, block.1 - size);
        if block.1 == 0 {
            self.blocks.remove(at);
        }
        start
    }

    fn give_back(&mut self, start: i64, size: i64) {
        if size == 0 {
            return;
        }
        let mut at = self.blocks.partition_point(|b| b.0 < start);
        self.blocks.insert(at, (start, size));
        if at + 1 < self.blocks.len() && start + size == self.blocks[at + 1].0 {
            self.blocks[at].1 += self.blocks.remove(at + 1).1;
        }
        if at > 0 && self.blocks[at - 1].0 + self.blocks[at - 1].1 == start {
            self.blocks[at - 1].1 += self.blocks.remove(at).1;
            at -= 1;
        }
        if self.blocks[at].0 + self.blocks[at].1 == self.end {
            self.end = self.blocks.remove(at).0;
        }
    }
}

/// Places the spans in this order, each in the smallest gap between those placed that are alive with it.
fn best_fit(spans: &[Span], order: &[usize]) -> Placed {
    let mut offsets = vec![0; spans.len()];
    let mut placed: Vec<(i64, usize)> = Vec::with_capacity(spans.len());
    let mut most = 0;
    for &i in order {
        let s = &spans[i];
        let mut best: Option<(i64, i64)> = None;
        let mut end = 0;
        for &(offset, other) in &placed {
            let o = &spans[other];
            if o.first > s.last || o.last < s.first {
                continue;
            }
            let gap = offset - end;
            if gap >= s.size && best.is_none_or(|(least, _)| gap < least) {
                best = Some((gap, end));
            }
            end = end.max(offset.saturating_add(o.size));
        }
        let at = best.map_or(end, |(_, at)| at);
        offsets[i] = at;
        most = most.max(at.saturating_add(s.size));
        placed.insert(placed.partition_point(|p| p.0 < at), (at, i));
    }
    (offsets, most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(spans: &[Span], (offsets, most): &Placed) {
        for (i, (a, at)) in spans.iter().zip(offsets).enumerate() {
            assert!(*at >= 0 && at + a.size <= *most, "{a:?} at {at} of {most}");
            for (b, other) in spans.iter().zip(offsets).take(i) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = at + a.size <= *other || other + b.size <= *at;
                assert!(!together || apart || a.size == 0 || b.size == 0, "{a:?} at {at}, {b:?} at {other}");
            }
        }
    }

    fn span((first, len, size): (usize, usize, i64)) -> Span {
        Span { first, last: first + len, size }
    }

    proptest! {
        #[test]
        fn spans_alive_together_never_overlap(
            spans in prop::collection::vec((0usize..40, 0usize..12, 0i64..50).prop_map(span), 0..60)
        ) {
            let bound = Alive::of(&spans).most();
            let order = in_order(&spans);
            let sized = best_fit(&spans, &by_key(&spans, |s| s.size));
            let best = place(&spans);
            for placed in [&order, &sized, &best] {
                check(&spans, placed);
                prop_assert!(placed.1 >= bound);
            }
            prop_assert!(best.1 <= order.1 && (best.1 <= sized.1 || best.1 <= bound + bound / 64));
        }
    }

    /// Spans as a training step has them: each layer leaves something for the way back.
    fn training(layers: usize, size: impl Fn(usize) -> i64) -> Vec<Span> {
        let end = 2 * layers;
        (0..layers)
            .flat_map(|i| {
                let kept = Span { first: i, last: end - i, size: size(i) };
                let passed = Span { first: i, last: i + 1, size: size(i + 7) };
                let back = Span { first: end - i, last: end - i + 1, size: size(i + 3) };
                [kept, passed, back]
            })
            .collect()
    }

    #[test]
    fn training_steps_come_near_the_bound() {
        let sizes: [&dyn Fn(usize) -> i64; 4] =
            [&|_| 64, &|i| 64 * (1 + i as i64 % 5), &|i| 64 << (i % 6), &|i| 64 * (1 + (i as i64 * 37) % 23)];
        for layers in [1, 4, 30, 300] {
            for size in sizes {
                let spans = training(layers, size);
                let (bound, placed) = (Alive::of(&spans).most(), place(&spans));
                check(&spans, &placed);
                assert!(placed.1 * 10 <= bound * 11, "{layers} layers: {} of {bound}", placed.1);
            }
        }
    }

    #[test]
    fn a_rule_that_fragments_is_not_the_last_word() {
        // The first two leave holes of 2 that the third, of 4, does not fit.
        let spans = [
            Span { first: 0, last: 1, size: 2 },
            Span { first: 0, last: 3, size: 2 },
            Span { first: 0, last: 1, size: 2 },
            Span { first: 2, last: 3, size: 4 },
        ];
        assert_eq!((in_order(&spans).1, place(&spans).1), (8, 6));
    }
}

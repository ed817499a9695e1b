//! Keys of random streams, on the host.

use lehr_ir::ops::random::{threefry2x32, threefry2x32_lanes};

use crate::engine;

/// How many blocks of a stream are made together.
const LANES: usize = 128;
/// Blocks that take about as long to make as a thread to start, ten times over.
const WORTH_A_THREAD: usize = 1 << 15;

/// A key of a random stream: two words. Equal keys give equal numbers, on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key([u32; 2]);

/// What the second word is mixed with when a number is folded in, so that it never meets the counters of the stream itself.
pub(super) const FOLD: u32 = 0x9E37_79B9;

impl Key {
    /// The key of a seed.
    pub const fn new(seed: u64) -> Self {
        Self([(seed >> 32) as u32, seed as u32])
    }

    /// A key from its words.
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self(words)
    }

    /// Its words.
    pub const fn words(self) -> [u32; 2] {
        self.0
    }

    /// Another key, from this one and a number.
    ///
    /// ```
    /// use lehr::Key;
    /// let key = Key::new(0);
    /// assert_ne!(key.fold_in(1), key.fold_in(2));
    /// assert_eq!(key.fold_in(1), Key::new(0).fold_in(1));
    /// ```
    #[must_use]
    pub fn fold_in(self, data: u32) -> Self {
        let mixed = [self.0[0] ^ data, self.0[1] ^ FOLD];
        Self([threefry2x32(mixed, [0, 0])[0], threefry2x32(mixed, [0, 1])[0]])
    }

    /// So many other keys.
    pub fn split(self, n: u32) -> Vec<Self> {
        (0..n).map(|i| self.fold_in(i)).collect()
    }

    /// The random words of the stream, in order: those of [`random::bits`](crate::random::bits) as `u32`.
    pub fn words_of_stream(self) -> impl Iterator<Item = u32> {
        (0u64..).map(move |i| threefry2x32(self.0, [(i >> 32) as u32, i as u32])[0])
    }

    /// What `f` makes of the first blocks of the stream, each of two words. Many are made on several threads.
    pub(crate) fn draw<T: Copy + Default + Send>(self, count: usize, f: impl Fn(u32, u32) -> T + Sync) -> Vec<T> {
        let threads = engine::cores().min(count / WORTH_A_THREAD).max(1);
        let part = count.div_ceil(threads).max(1);
        let mut all = vec![T::default(); count];
        engine::fresh(&all);
        // A block depends on its position alone, so that it does not matter who makes it.
        std::thread::scope(|scope| {
            let parts = all.chunks_mut(part).enumerate();
            let mut parts = parts.map(|(t, out)| Part { key: self, start: t * part, out, f: &f });
            let first = parts.next();
            for part in parts {
                scope.spawn(move || engine::with_widest_vectors(part));
            }
            if let Some(part) = first {
                engine::with_widest_vectors(part);
            }
        });
        all
    }
}

/// Elements of a stream to be made, from a number on.
struct Part<'a, T, F> {
    key: Key,
    start: usize,
    out: &'a mut [T],
    f: &'a F,
}

impl<T, F: Fn(u32, u32) -> T> engine::Loops for Part<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        for (k, out) in self.out.chunks_mut(LANES).enumerate() {
            let first = (self.start + k * LANES) as u64;
            let at: [u64; LANES] = std::array::from_fn(|i| first + i as u64);
            let [a, b] = threefry2x32_lanes(self.key.0, [at.map(|c| (c >> 32) as u32), at.map(|c| c as u32)]);
            out.iter_mut().zip(a.iter().zip(&b)).for_each(|(out, (&a, &b))| *out = (self.f)(a, b));
        }
    }
}

/// A source of keys, one after another: what models are made with.
///
/// ```
/// use lehr::{Key, Keys};
/// let mut keys = Keys::new(0);
/// assert_ne!(keys.next(), keys.next());
/// ```
#[derive(Clone, Debug)]
pub struct Keys {
    key: Key,
    count: u32,
}

impl Keys {
    /// The keys of a seed.
    pub const fn new(seed: u64) -> Self {
        Self::of(Key::new(seed))
    }

    /// The keys made from one.
    pub const fn of(key: Key) -> Self {
        Self { key, count: 0 }
    }

    /// The next key.
    #[expect(clippy::should_implement_trait, reason = "a source of keys never ends, so it is no iterator")]
    pub fn next(&mut self) -> Key {
        let key = self.key.fold_in(self.count);
        self.count = self.count.wrapping_add(1);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_on_any_number_of_threads() {
        let key = Key::new(5);
        for count in [0, 1, WORTH_A_THREAD, 2 * WORTH_A_THREAD + 1, 5 * WORTH_A_THREAD - 7] {
            let want: Vec<(u32, u32)> =
                (0..count as u32).map(|i| threefry2x32(key.0, [0, i])).map(|[a, b]| (a, b)).collect();
            assert!(key.draw(count, |a, b| (a, b)) == want, "{count}");
        }
    }
}

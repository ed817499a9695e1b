//! Text as numbers: the characters that occur, and windows at random places.

use lehr::prelude::*;

/// A text with its alphabet.
pub struct Text {
    alphabet: Vec<char>,
    ids: Vec<i64>,
}

impl Text {
    /// The characters of a text, in the order of their code points.
    pub fn new(text: &str) -> Self {
        let mut alphabet: Vec<char> = text.chars().collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let ids = text.chars().map(|c| alphabet.binary_search(&c).unwrap_or(0) as i64).collect();
        Self { alphabet, ids }
    }

    /// How many different characters there are.
    pub fn vocabulary(&self) -> usize {
        self.alphabet.len()
    }

    /// How long it is, in characters.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The characters of ids.
    pub fn decode(&self, ids: &[i64]) -> String {
        ids.iter().filter_map(|&i| self.alphabet.get(usize::try_from(i).ok()?)).collect()
    }

    /// The ids of characters; those that do not occur are left out.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        text.chars().filter_map(|c| self.alphabet.binary_search(&c).ok()).map(|i| i as i64).collect()
    }

    /// Windows of `time` characters at random places, and the character after each: `[rows, time]` twice.
    pub fn windows(&self, rows: usize, time: usize, random: &mut Random) -> (Array, Array) {
        let (mut x, mut y) = (Vec::with_capacity(rows * time), Vec::with_capacity(rows * time));
        for _ in 0..rows {
            let start = random.below(self.ids.len() - time);
            x.extend_from_slice(&self.ids[start..start + time]);
            y.extend_from_slice(&self.ids[start + 1..start + time + 1]);
        }
        let array = |ids: Vec<i64>| Array::new(&[rows, time], ids).unwrap_or_else(|_| Array::zeros(I64, &[rows, time]));
        (array(x), array(y))
    }
}

/// Numbers for places: SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

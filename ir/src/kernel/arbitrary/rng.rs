//! A small random generator: SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).

use crate::dtype::{DType, Kind};
use crate::literal::Literal;

pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is small and not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// An index below `len`, if there is one.
    pub(super) fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len as u64) as usize)
    }

    /// A value that is mostly tame and sometimes special.
    pub(super) fn literal(&mut self, dtype: DType) -> Literal {
        match dtype.kind() {
            Kind::Bool => Literal::from(self.one_in(2)),
            Kind::Signed | Kind::Unsigned if self.one_in(12) => Literal::from_bits(dtype, [self.next(), 0]),
            Kind::Signed | Kind::Unsigned => Literal::from_i64(dtype, self.below(41) as i64 - 20),
            Kind::Float | Kind::Complex if self.one_in(24) => {
                let special = [
                    0.0,
                    -0.0,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    f64::NAN,
                    1e-310,
                    3e38,
                    1e-40,
                    2147483648.0,
                    0.5,
                    -2.5,
                ];
                Literal::from_f64(dtype, special[self.below(special.len() as u64) as usize])
            }
            Kind::Float | Kind::Complex => {
                let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
                Literal::from_f64(dtype, 8.0 * unit - 4.0)
            }
        }
    }
}

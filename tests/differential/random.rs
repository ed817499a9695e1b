//! Random numbers and random arrays: everything a run does follows from one seed.

use lehr::ir::{Array, DType, Data, Literal};

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A generator for item `index` of a run.
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut r = Self(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        r.next();
        r
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number in [-1, 1).
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// What floats a graph is fed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavor {
    /// Multiples of 1/8: sums and products stay exact, ties are frequent.
    Dyadic,
    /// Any number of moderate size.
    Plain,
    /// Some NaNs, infinities, zeros of both signs, subnormal and huge numbers among them.
    Wild,
}

/// An array of random elements.
pub(crate) fn array(r: &mut Rng, dtype: DType, shape: &[usize], flavor: Flavor) -> Array {
    let n = shape.iter().product();
    let mut data = Data::zeros(dtype, n);
    for i in 0..n {
        data.set(i, element(r, dtype, flavor));
    }
    Array::from_data(shape, data).expect("as many elements as the shape has")
}

fn element(r: &mut Rng, dtype: DType, flavor: Flavor) -> Literal {
    if dtype == DType::Bool {
        return Literal::from(r.one_in(2));
    }
    if dtype.is_integer() {
        return match r.below(8) {
            0 => Literal::lowest(dtype),
            1 => Literal::from_bits(dtype, [r.next(), 0]),
            _ => Literal::from_i64(dtype, r.below(12) as i64 - 4),
        };
    }
    const SPECIAL: [f64; 10] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e-40, -3e-41, 1e38, -2.5e19, 1.0];
    let x = match flavor {
        Flavor::Wild if r.one_in(5) => *r.pick(&SPECIAL),
        Flavor::Dyadic => (r.unit() * 24.0).trunc() / 8.0,
        Flavor::Plain | Flavor::Wild => r.unit() * 3.0,
    };
    Literal::from_f64(dtype, x)
}

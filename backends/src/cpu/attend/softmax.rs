//! The passes over tiles of scores: the online softmax, and what the gradient makes of scores.
//!
//! Written once over [`Lanes`]; each instruction set has thin wrappers that enable its features.

// Indices run over registers here: several arrays share an index.
#![allow(clippy::needless_range_loop)]

use super::lanes::Lanes;
use crate::cpu::contract::Isa;
use crate::cpu::contract::portable;

/// A tile of scores with queries along lanes: one key a row, to be turned into weights.
pub(super) struct Weigh<T> {
    pub(super) scores: *mut T,
    pub(super) keys: usize,
    /// From a key's row to the next.
    pub(super) stride: usize,
    /// Columns, a multiple of the lanes.
    pub(super) columns: usize,
    /// Added to the scores, in the same layout; null for none.
    pub(super) bias: *const T,
    /// For each query: the greatest score so far.
    pub(super) top: *mut T,
    /// For each query: the sum of weights so far, relative to the greatest.
    pub(super) sum: *mut T,
    /// For each query: what earlier sums are multiplied by.
    pub(super) shrink: *mut T,
}

/// Multiplies rows of sums by a factor each.
pub(super) struct Shrink<T> {
    pub(super) sums: *mut T,
    pub(super) rows: usize,
    /// Elements of a row, a multiple of the lanes, which is also its stride.
    pub(super) columns: usize,
    pub(super) by: *const T,
}

/// Tiles of products `q · k` and `dout · v`, to be turned into weights and cotangents of products.
pub(super) struct Grade<T> {
    /// In: products of queries and keys. Out: weights.
    pub(super) scores: *mut T,
    /// In: products of cotangents and values. Out: cotangents of the products of queries and keys.
    pub(super) slopes: *mut T,
    pub(super) rows: usize,
    pub(super) stride: usize,
    /// Columns, a multiple of the lanes.
    pub(super) columns: usize,
    /// Added to the scores, in the same layout; null for none.
    pub(super) bias: *const T,
    pub(super) scale: T,
    /// For each query.
    pub(super) lse: *const T,
    /// For each query.
    pub(super) delta: *const T,
}

/// The passes of one instruction set for one element type.
///
/// # Safety of the functions
/// The processor has the instruction set, and all that the description names is valid and this thread's own.
pub(super) struct Passes<T: 'static> {
    /// Whether earlier sums have to shrink.
    pub(super) weigh: unsafe fn(&Weigh<T>) -> bool,
    pub(super) shrink: unsafe fn(&Shrink<T>),
    /// With queries along lanes.
    pub(super) grade_lanes: unsafe fn(&Grade<T>),
    /// With queries along rows.
    pub(super) grade_rows: unsafe fn(&Grade<T>),
}

/// An element type of attention.
pub trait Attended: crate::cpu::contract::Element + num::Float {
    #[doc(hidden)]
    fn passes(isa: Isa) -> Table<Self>;
}

/// The passes of an instruction set.
pub struct Table<T: 'static>(pub(super) &'static Passes<T>);

mod num {
    /// What scalar code asks of an element.
    pub trait Float: PartialOrd {
        const LEAST: Self;
        const NEG_INFINITY: Self;
        const NAN: Self;
        fn ln(self) -> Self;
        fn recip(self) -> Self;
        fn finite(self) -> bool;
        fn missing(self) -> bool;
        fn from_f64(x: f64) -> Self;
    }

    macro_rules! float {
        ($t:ident) => {
            impl Float for $t {
                const LEAST: $t = $t::MIN;
                const NEG_INFINITY: $t = $t::NEG_INFINITY;
                const NAN: $t = $t::NAN;
                fn ln(self) -> $t {
                    self.ln()
                }
                fn recip(self) -> $t {
                    1.0 / self
                }
                fn finite(self) -> bool {
                    self.is_finite()
                }
                fn missing(self) -> bool {
                    self.is_nan()
                }
                fn from_f64(x: f64) -> $t {
                    x as $t
                }
            }
        };
    }
    float!(f32);
    float!(f64);
}
pub(super) use num::Float;

/// Wrappers of the passes with the features of an instruction set.
macro_rules! wrappers {
    ($module:ident, $feature:meta, $f32:ty, $f64:ty) => {
        mod $module {
            use super::{Grade, Lanes, Passes, Shrink, Weigh};

            /// # Safety
            /// See [`Passes`].
            #[$feature]
            unsafe fn weigh<V: Lanes>(w: &Weigh<V::T>) -> bool
            where
                V::T: super::Attended,
            {
                // SAFETY: passed on to the caller.
                unsafe { super::weigh::<V>(w) }
            }
            /// # Safety
            /// See [`Passes`].
            #[$feature]
            unsafe fn shrink<V: Lanes>(s: &Shrink<V::T>) {
                // SAFETY: passed on to the caller.
                unsafe { super::shrink::<V>(s) }
            }
            /// # Safety
            /// See [`Passes`].
            #[$feature]
            unsafe fn grade<V: Lanes, const ROWS: bool>(g: &Grade<V::T>) {
                // SAFETY: passed on to the caller.
                unsafe { super::grade::<V, ROWS>(g) }
            }

            pub(super) static F32: Passes<f32> = Passes {
                weigh: weigh::<$f32>,
                shrink: shrink::<$f32>,
                grade_lanes: grade::<$f32, false>,
                grade_rows: grade::<$f32, true>,
            };
            pub(super) static F64: Passes<f64> = Passes {
                weigh: weigh::<$f64>,
                shrink: shrink::<$f64>,
                grade_lanes: grade::<$f64, false>,
                grade_rows: grade::<$f64, true>,
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
wrappers!(
    avx512,
    target_feature(enable = "avx512f"),
    crate::cpu::contract::avx512::F32x16,
    crate::cpu::contract::avx512::F64x8
);
#[cfg(target_arch = "x86_64")]
wrappers!(
    avx2,
    target_feature(enable = "avx2,fma"),
    crate::cpu::contract::avx2::F32x8,
    crate::cpu::contract::avx2::F64x4
);
wrappers!(plain, inline, super::portable::Lanes<f32, 4>, super::portable::Lanes<f64, 2>);

macro_rules! attended {
    ($t:ty, $name:ident) => {
        impl Attended for $t {
            fn passes(isa: Isa) -> Table<$t> {
                Table(match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => &avx512::$name,
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => &avx2::$name,
                    #[cfg(not(target_arch = "x86_64"))]
                    Isa::Avx512 | Isa::Avx2 => &plain::$name,
                    Isa::Portable => &plain::$name,
                })
            }
        }
    };
}
attended!(f32, F32);
attended!(f64, F64);

/// Vectors of columns that a pass takes together, so that several chains run at once.
const TOGETHER: usize = 4;

/// # Safety
/// See [`Passes`].
#[inline(always)]
unsafe fn weigh<V: Lanes>(w: &Weigh<V::T>) -> bool
where
    V::T: Attended,
{
    let mut column = 0;
    let mut shrinks = false;
    // SAFETY: the columns are those of the tile.
    unsafe {
        while column + TOGETHER * V::LANES <= w.columns {
            shrinks |= weigh_columns::<V, TOGETHER>(w, column);
            column += TOGETHER * V::LANES;
        }
        while column < w.columns {
            shrinks |= weigh_columns::<V, 1>(w, column);
            column += V::LANES;
        }
    }
    shrinks
}

/// `N` vectors of columns from `column` on.
///
/// # Safety
/// See [`Passes`]; the columns exist.
#[inline(always)]
unsafe fn weigh_columns<V: Lanes, const N: usize>(w: &Weigh<V::T>, column: usize) -> bool
where
    V::T: Attended,
{
    // SAFETY: every access is to a key's row, below `keys`, and to columns that exist.
    unsafe {
        let row = |j: usize| w.scores.add(j * w.stride + column);
        let mut top = [V::zero(); N];
        for v in 0..N {
            top[v] = V::load(w.top.add(column + v * V::LANES));
        }
        let before = top;
        for j in 0..w.keys {
            for v in 0..N {
                let at = row(j).add(v * V::LANES);
                let mut s = V::load(at);
                if !w.bias.is_null() {
                    s = s.add(V::load(w.bias.add(j * w.stride + column + v * V::LANES)));
                    s.store(at);
                }
                top[v] = top[v].max(s);
            }
        }
        let mut sum = [V::zero(); N];
        for j in 0..w.keys {
            for v in 0..N {
                let at = row(j).add(v * V::LANES);
                let p = V::load(at).sub(top[v]).exp();
                p.store(at);
                sum[v] = sum[v].add(p);
            }
        }
        let mut shrinks = false;
        for v in 0..N {
            let at = column + v * V::LANES;
            let by = before[v].sub(top[v]).exp();
            shrinks |= !before[v].all_equal(top[v]);
            sum[v].fma(by, V::load(w.sum.add(at))).store(w.sum.add(at));
            top[v].store(w.top.add(at));
            by.store(w.shrink.add(at));
        }
        shrinks
    }
}

/// # Safety
/// See [`Passes`].
#[inline(always)]
unsafe fn shrink<V: Lanes>(s: &Shrink<V::T>) {
    for row in 0..s.rows {
        // SAFETY: the row exists, and its columns are whole vectors.
        unsafe {
            let by = V::splat(*s.by.add(row));
            let sums = s.sums.add(row * s.columns);
            for column in (0..s.columns).step_by(V::LANES) {
                V::load(sums.add(column)).mul(by).store(sums.add(column));
            }
        }
    }
}

/// With `ROWS`, a row is a query, else a column.
///
/// Both give the same bits: the same operations for each pair of a query and a key.
///
/// # Safety
/// See [`Passes`].
#[inline(always)]
unsafe fn grade<V: Lanes, const ROWS: bool>(g: &Grade<V::T>) {
    // SAFETY: every access is to a row below `rows` and to whole vectors of columns.
    unsafe {
        let scale = V::splat(g.scale);
        for row in 0..g.rows {
            let (mut lse, mut delta) = (V::zero(), V::zero());
            if ROWS {
                (lse, delta) = (V::splat(*g.lse.add(row)), V::splat(*g.delta.add(row)));
            }
            for column in (0..g.columns).step_by(V::LANES) {
                if !ROWS {
                    (lse, delta) = (V::load(g.lse.add(column)), V::load(g.delta.add(column)));
                }
                let at = row * g.stride + column;
                let mut s = V::load(g.scores.add(at)).mul(scale);
                if !g.bias.is_null() {
                    s = s.add(V::load(g.bias.add(at)));
                }
                let p = s.sub(lse).exp();
                p.store(g.scores.add(at));
                let slope = V::load(g.slopes.add(at)).sub(delta).mul(p).mul(scale);
                slope.store(g.slopes.add(at));
            }
        }
    }
}

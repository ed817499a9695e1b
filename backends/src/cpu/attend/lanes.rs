//! What the softmax needs of vectors, beyond what matrix products do: greatest elements, products and exponentials.
//!
//! # Numerics of `exp`
//! For `f32`: `x = n ln 2 + r` with `n` to nearest and `ln 2` in two parts, a polynomial of degree 5 in `r` over `1 + r`, and an
//! exact multiplication by `2^n`. The error is below 2 ulp up to `2^127`, above which results may be infinite; results below
//! `2^-126` are 0. NaN stays, `e^-inf` is 0.
//! For `f64`: the standard library's, lane by lane.

use crate::cpu::contract::micro::Vector;
use crate::cpu::contract::portable;

/// A vector that a softmax can be made of.
///
/// # Safety of the functions
/// The processor has the instruction set.
pub(super) trait Lanes: Vector {
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// The greater one, lane by lane; of a NaN and a number, either.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn exp(self) -> Self;
    /// Whether all lanes are equal numbers.
    unsafe fn all_equal(self, other: Self) -> bool;
}

/// `e^x` is infinite from here on.
const HIGHEST: f32 = 89.0;
/// `2^-126` is `e` to this: below, results are 0.
const LOWEST: f32 = -87.336_54;
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, of which the first has few digits: its products with exponents are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The coefficients of `(e^r - 1 - r) / r²`, highest first, after Cephes' `expf` (Moshier).
const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_3e-1];
/// Adding and subtracting it rounds to an integer, which the last bits of the sum hold.
const ROUND: f32 = 12_582_912.0;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{HIGHEST, LN2, LOG2_E, LOWEST, Lanes, POLYNOMIAL};
    use crate::cpu::contract::avx2::{F32x8, F64x4};
    use crate::cpu::contract::avx512::{F32x16, F64x8};
    use crate::cpu::contract::micro::Vector;

    /// The methods that differ by the names of the intrinsics only.
    macro_rules! lanes {
        ($mul:ident, $sub:ident, $max:ident) => {
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the processor.
                Self(unsafe { $mul(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the processor.
                Self(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                // SAFETY: the caller vouches for the processor.
                Self(unsafe { $max(self.0, other.0) })
            }
        };
    }

    /// `f` of each lane.
    macro_rules! by_lane {
        ($self:ident, $t:ty, $f:expr) => {{
            let mut lanes = [<$t>::default(); Self::LANES];
            // SAFETY: the array holds a vector; the caller vouches for the processor.
            unsafe {
                $self.store(lanes.as_mut_ptr());
                lanes.iter_mut().for_each(|x| *x = $f(*x));
                Self::load(lanes.as_ptr())
            }
        }};
    }

    impl Lanes for F32x16 {
        lanes!(_mm512_mul_ps, _mm512_sub_ps, _mm512_max_ps);

        #[inline(always)]
        unsafe fn exp(self) -> Self {
            // SAFETY: the caller vouches for the processor.
            unsafe {
                // The bounds are first operands, so that a NaN, which makes the second operand the result, stays.
                let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, _mm512_set1_ps(LOWEST));
                let x = _mm512_max_ps(_mm512_set1_ps(LOWEST), self.0);
                let x = _mm512_min_ps(_mm512_set1_ps(HIGHEST), x);
                let n = _mm512_roundscale_ps::<0x08>(_mm512_mul_ps(x, _mm512_set1_ps(LOG2_E)));
                let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2[0]), x);
                let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(LN2[1]), r);
                let mut p = _mm512_set1_ps(POLYNOMIAL[0]);
                for c in &POLYNOMIAL[1..] {
                    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*c));
                }
                let p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
                Self(_mm512_maskz_scalef_ps(normal, _mm512_add_ps(p, _mm512_set1_ps(1.0)), n))
            }
        }

        #[inline(always)]
        unsafe fn all_equal(self, other: Self) -> bool {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) == 0xffff }
        }
    }

    impl Lanes for F32x8 {
        lanes!(_mm256_mul_ps, _mm256_sub_ps, _mm256_max_ps);

        #[inline(always)]
        unsafe fn exp(self) -> Self {
            // SAFETY: the caller vouches for the processor.
            unsafe {
                let normal = _mm256_cmp_ps::<_CMP_NLT_UQ>(self.0, _mm256_set1_ps(LOWEST));
                let x = _mm256_max_ps(_mm256_set1_ps(LOWEST), self.0);
                let x = _mm256_min_ps(_mm256_set1_ps(HIGHEST), x);
                let n = _mm256_round_ps::<0x08>(_mm256_mul_ps(x, _mm256_set1_ps(LOG2_E)));
                let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN2[0]), x);
                let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(LN2[1]), r);
                let mut p = _mm256_set1_ps(POLYNOMIAL[0]);
                for c in &POLYNOMIAL[1..] {
                    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(*c));
                }
                let p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
                let p = _mm256_add_ps(p, _mm256_set1_ps(1.0));
                // 2^n by its exponent's bits: n is -126 to 128, which is infinity.
                let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
                Self(_mm256_and_ps(normal, _mm256_mul_ps(p, _mm256_castsi256_ps(power))))
            }
        }

        #[inline(always)]
        unsafe fn all_equal(self, other: Self) -> bool {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0)) == 0xff }
        }
    }

    impl Lanes for F64x8 {
        lanes!(_mm512_mul_pd, _mm512_sub_pd, _mm512_max_pd);

        #[inline(always)]
        unsafe fn exp(self) -> Self {
            by_lane!(self, f64, f64::exp)
        }

        #[inline(always)]
        unsafe fn all_equal(self, other: Self) -> bool {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.0, other.0) == 0xff }
        }
    }

    impl Lanes for F64x4 {
        lanes!(_mm256_mul_pd, _mm256_sub_pd, _mm256_max_pd);

        #[inline(always)]
        unsafe fn exp(self) -> Self {
            by_lane!(self, f64, f64::exp)
        }

        #[inline(always)]
        unsafe fn all_equal(self, other: Self) -> bool {
            // SAFETY: the caller vouches for the processor.
            unsafe { _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_EQ_OQ>(self.0, other.0)) == 0xf }
        }
    }
}

/// The methods of plain lanes of either element type.
macro_rules! portable_lanes {
    ($t:ty, $lanes:literal, $exp:path) => {
        impl Lanes for portable::Lanes<$t, $lanes> {
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] * other.0[i]))
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                Self(std::array::from_fn(|i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
            }
            #[inline(always)]
            unsafe fn exp(self) -> Self {
                Self(self.0.map($exp))
            }
            #[inline(always)]
            unsafe fn all_equal(self, other: Self) -> bool {
                self.0 == other.0
            }
        }
    };
}
portable_lanes!(f32, 4, exp);
portable_lanes!(f64, 2, f64::exp);

/// The exponential of vectors of `f32`, for one.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > HIGHEST { HIGHEST } else { bounded };
    let round = bounded * LOG2_E + ROUND;
    let n = round - ROUND;
    let r = (bounded - n * LN2[0]) - n * LN2[1];
    let p = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |p, c| p * r + c);
    let p = p * (r * r) + r + 1.0;
    let exponent = round.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let y = p * f32::from_bits(exponent << 23);
    if x < LOWEST { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over a fine grid of the whole range, the error in units of the last place, and the special values.
    #[cfg(test)]
    fn check<V: Lanes<T = f32>>(exp: impl Fn(&mut [f32])) {
        let mut worst = 0.0f64;
        let mut xs: Vec<f32> = Vec::new();
        let mut x = -88.0f32;
        while x < 88.0 {
            xs.push(x);
            x += 0.000_37;
        }
        xs.resize(xs.len().next_multiple_of(16), 0.0);
        let mut ys = xs.clone();
        exp(&mut ys);
        for (x, y) in xs.iter().zip(&ys) {
            let want = f64::from(*x).exp();
            if *x < LOWEST {
                assert_eq!(*y, 0.0, "{x}");
                continue;
            }
            let ulp = f64::from(f32::from_bits((want as f32).to_bits() + 1)) - f64::from(want as f32);
            worst = worst.max(((f64::from(*y) - want) / ulp).abs());
        }
        assert!(worst < 2.0, "{worst} ulp with {} lanes", V::LANES);
        let mut special = [0.0f32; 16];
        special[..6].copy_from_slice(&[f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0, -0.0, 200.0]);
        exp(&mut special);
        assert!(special[0].is_nan());
        assert_eq!(special[1..6], [0.0, f32::INFINITY, 1.0, 1.0, f32::INFINITY]);
    }

    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn each<V: Lanes<T = f32>>(xs: &mut [f32]) {
        for chunk in xs.chunks_exact_mut(V::LANES) {
            // SAFETY: the chunk is one vector; the caller vouches for the processor.
            unsafe { V::load(chunk.as_ptr()).exp().store(chunk.as_mut_ptr()) }
        }
    }

    #[test]
    fn exponentials_are_accurate() {
        // SAFETY: every processor has these.
        check::<portable::Lanes<f32, 4>>(|x| unsafe { each::<portable::Lanes<f32, 4>>(x) });
        #[cfg(target_arch = "x86_64")]
        {
            use crate::cpu::contract::{Isa, avx2::F32x8, avx512::F32x16};
            #[target_feature(enable = "avx512f")]
            unsafe fn wide(x: &mut [f32]) {
                // SAFETY: the caller vouches for the processor.
                unsafe { each::<F32x16>(x) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn narrow(x: &mut [f32]) {
                // SAFETY: the caller vouches for the processor.
                unsafe { each::<F32x8>(x) }
            }
            if Isa::Avx512.available() {
                // SAFETY: the processor has it.
                check::<F32x16>(|x| unsafe { wide(x) });
            }
            if Isa::Avx2.available() {
                // SAFETY: the processor has it.
                check::<F32x8>(|x| unsafe { narrow(x) });
            }
        }
    }
}

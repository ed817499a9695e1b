//! AVX-512 vectors: 16 `f32` or 8 `f64`, with mask registers for the edges; tiles of 14 rows and two vectors.
//!
//! 28 of the 32 registers hold the tile, two a line of B and one the broadcast element of A.

use std::arch::x86_64::*;

use super::micro::{self, Dot, Kernels, Panel, Tile, Vector, kernels};

pub(super) static F32: Kernels<f32> = kernels!(F32x16, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
pub(super) static F64: Kernels<f64> = kernels!(F64x8, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);

/// # Safety
/// See [`micro::tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile<V: Vector, const R: usize, const N: usize, const UNIT: bool>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::tile::<V, R, N, UNIT>(t) }
}

/// # Safety
/// See [`micro::rows`].
#[target_feature(enable = "avx512f")]
unsafe fn rows<V: Vector, const R: usize, const N: usize>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::rows::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::dot`].
#[target_feature(enable = "avx512f")]
unsafe fn dot<V: Vector, const R: usize, const N: usize>(t: &Dot<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::dot::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::pack`].
#[target_feature(enable = "avx512f")]
unsafe fn pack<V: Vector>(p: &Panel<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::pack::<V>(p) }
}

/// The methods that differ between the two element types by the names of the intrinsics only.
macro_rules! vector {
    ($t:ty, $mask:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident,
     $load_masked:ident, $store_masked:ident, $add:ident, $fma:ident, $sum:ident) => {
        type T = $t;
        type Mask = $mask;
        const LANES: usize = $lanes;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller vouches for the processor.
            Self(unsafe { $zero() })
        }
        #[inline(always)]
        unsafe fn splat(value: $t) -> Self {
            // SAFETY: the caller vouches for the processor.
            Self(unsafe { $splat(value) })
        }
        #[inline(always)]
        unsafe fn load(src: *const $t) -> Self {
            // SAFETY: the caller vouches for the processor and the pointer.
            Self(unsafe { $load(src) })
        }
        #[inline(always)]
        unsafe fn store(self, dst: *mut $t) {
            // SAFETY: the caller vouches for the processor and the pointer.
            unsafe { $store(dst, self.0) }
        }
        #[inline(always)]
        unsafe fn mask(lanes: usize) -> $mask {
            ((1u32 << lanes) - 1) as $mask
        }
        #[inline(always)]
        unsafe fn load_masked(src: *const $t, mask: $mask) -> Self {
            // SAFETY: the caller vouches for the processor and the pointer; masked lanes do not fault.
            Self(unsafe { $load_masked(mask, src) })
        }
        #[inline(always)]
        unsafe fn store_masked(self, dst: *mut $t, mask: $mask) {
            // SAFETY: the caller vouches for the processor and the pointer; masked lanes do not fault.
            unsafe { $store_masked(dst, mask, self.0) }
        }
        #[inline(always)]
        unsafe fn prefetch(src: *const $t) {
            // SAFETY: a prefetch never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(src.cast()) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: the caller vouches for the processor.
            Self(unsafe { $add(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller vouches for the processor.
            Self(unsafe { $fma(a.0, b.0, self.0) })
        }
        #[inline(always)]
        unsafe fn sum(self) -> $t {
            // SAFETY: the caller vouches for the processor.
            unsafe { $sum(self.0) }
        }
    };
}

#[derive(Clone, Copy)]
pub(in crate::cpu) struct F32x16(pub(in crate::cpu) __m512);

impl Vector for F32x16 {
    vector!(
        f32,
        __mmask16,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_maskz_loadu_ps,
        _mm512_mask_storeu_ps,
        _mm512_add_ps,
        _mm512_fmadd_ps,
        _mm512_reduce_add_ps
    );

    #[inline(always)]
    unsafe fn transpose(src: *const f32, stride: isize, rows: usize, cols: usize, dst: *mut f32, padded: usize) {
        // SAFETY: the caller vouches for the processor, `rows` rows of `cols` elements, and `cols` vectors of the result.
        unsafe {
            let mask = Self::mask(cols);
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, row) in r.iter_mut().enumerate() {
                if i < rows {
                    *row = _mm512_maskz_loadu_ps(mask, src.offset(i as isize * stride));
                }
            }
            // 4 x 4 blocks within 128-bit lanes: afterwards lane q of u[4 g + j] is column 4 q + j of rows 4 g to 4 g + 3.
            let mut u = [_mm512_setzero_ps(); 16];
            for g in 0..4 {
                let (a, b) = (_mm512_unpacklo_ps(r[4 * g], r[4 * g + 1]), _mm512_unpackhi_ps(r[4 * g], r[4 * g + 1]));
                let (c, d) =
                    (_mm512_unpacklo_ps(r[4 * g + 2], r[4 * g + 3]), _mm512_unpackhi_ps(r[4 * g + 2], r[4 * g + 3]));
                u[4 * g] = _mm512_shuffle_ps::<0x44>(a, c);
                u[4 * g + 1] = _mm512_shuffle_ps::<0xee>(a, c);
                u[4 * g + 2] = _mm512_shuffle_ps::<0x44>(b, d);
                u[4 * g + 3] = _mm512_shuffle_ps::<0xee>(b, d);
            }
            // Then the 4 x 4 matrix of lanes: 0x88 takes lanes 0 and 2 of either operand, 0xdd lanes 1 and 3.
            let mut out = [_mm512_setzero_ps(); 16];
            for j in 0..4 {
                let even =
                    (_mm512_shuffle_f32x4::<0x88>(u[j], u[4 + j]), _mm512_shuffle_f32x4::<0x88>(u[8 + j], u[12 + j]));
                let odd =
                    (_mm512_shuffle_f32x4::<0xdd>(u[j], u[4 + j]), _mm512_shuffle_f32x4::<0xdd>(u[8 + j], u[12 + j]));
                out[j] = _mm512_shuffle_f32x4::<0x88>(even.0, even.1);
                out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even.0, even.1);
                out[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd.0, odd.1);
                out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd.0, odd.1);
            }
            for (j, column) in out.into_iter().enumerate() {
                if j < cols {
                    _mm512_storeu_ps(dst.add(j * padded), column);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(in crate::cpu) struct F64x8(pub(in crate::cpu) __m512d);

impl Vector for F64x8 {
    vector!(
        f64,
        __mmask8,
        8,
        _mm512_setzero_pd,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_maskz_loadu_pd,
        _mm512_mask_storeu_pd,
        _mm512_add_pd,
        _mm512_fmadd_pd,
        _mm512_reduce_add_pd
    );

    #[inline(always)]
    unsafe fn transpose(src: *const f64, stride: isize, rows: usize, cols: usize, dst: *mut f64, padded: usize) {
        // SAFETY: the caller vouches for the processor, `rows` rows of `cols` elements, and `cols` vectors of the result.
        unsafe {
            let mask = Self::mask(cols);
            let mut r = [_mm512_setzero_pd(); 8];
            for (i, row) in r.iter_mut().enumerate() {
                if i < rows {
                    *row = _mm512_maskz_loadu_pd(mask, src.offset(i as isize * stride));
                }
            }
            // 2 x 2 blocks within 128-bit lanes: lane q of u[2 g + j] is column 2 q + j of rows 2 g and 2 g + 1.
            let mut u = [_mm512_setzero_pd(); 8];
            for g in 0..4 {
                u[2 * g] = _mm512_unpacklo_pd(r[2 * g], r[2 * g + 1]);
                u[2 * g + 1] = _mm512_unpackhi_pd(r[2 * g], r[2 * g + 1]);
            }
            // Then the 4 x 4 matrix of lanes: 0x88 takes lanes 0 and 2 of either operand, 0xdd lanes 1 and 3.
            let mut out = [_mm512_setzero_pd(); 8];
            for j in 0..2 {
                let even =
                    (_mm512_shuffle_f64x2::<0x88>(u[j], u[2 + j]), _mm512_shuffle_f64x2::<0x88>(u[4 + j], u[6 + j]));
                let odd =
                    (_mm512_shuffle_f64x2::<0xdd>(u[j], u[2 + j]), _mm512_shuffle_f64x2::<0xdd>(u[4 + j], u[6 + j]));
                out[j] = _mm512_shuffle_f64x2::<0x88>(even.0, even.1);
                out[4 + j] = _mm512_shuffle_f64x2::<0xdd>(even.0, even.1);
                out[2 + j] = _mm512_shuffle_f64x2::<0x88>(odd.0, odd.1);
                out[6 + j] = _mm512_shuffle_f64x2::<0xdd>(odd.0, odd.1);
            }
            for (j, column) in out.into_iter().enumerate() {
                if j < cols {
                    _mm512_storeu_pd(dst.add(j * padded), column);
                }
            }
        }
    }
}

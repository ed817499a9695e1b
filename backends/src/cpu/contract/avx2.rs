//! AVX2 and FMA vectors: 8 `f32` or 4 `f64`; tiles of 6 rows and two vectors.
//!
//! 12 of the 16 registers hold the tile, two a line of B and one the broadcast element of A.

use std::arch::x86_64::*;

use super::micro::{self, Dot, Kernels, Panel, Tile, Vector, kernels};

pub(super) static F32: Kernels<f32> = kernels!(F32x8, 1 2 3 4 5 6);
pub(super) static F64: Kernels<f64> = kernels!(F64x4, 1 2 3 4 5 6);

/// # Safety
/// See [`micro::tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<V: Vector, const R: usize, const N: usize, const UNIT: bool>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::tile::<V, R, N, UNIT>(t) }
}

/// # Safety
/// See [`micro::rows`].
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<V: Vector, const R: usize, const N: usize>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::rows::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::dot`].
#[target_feature(enable = "avx2,fma")]
unsafe fn dot<V: Vector, const R: usize, const N: usize>(t: &Dot<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::dot::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::pack`].
#[target_feature(enable = "avx2,fma")]
unsafe fn pack<V: Vector>(p: &Panel<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::pack::<V>(p) }
}

/// The methods that differ between the two element types by the names of the intrinsics only.
macro_rules! vector {
    ($t:ty, $lanes:literal, $zero:ident, $splat:ident, $load:ident, $store:ident,
     $load_masked:ident, $store_masked:ident, $add:ident, $fma:ident, $lane:ident, $greater:ident, $count:expr) => {
        type T = $t;
        type Mask = __m256i;
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
        unsafe fn mask(lanes: usize) -> __m256i {
            // SAFETY: the caller vouches for the processor.
            unsafe { $greater($lane(lanes as _), $count) }
        }
        #[inline(always)]
        unsafe fn load_masked(src: *const $t, mask: __m256i) -> Self {
            // SAFETY: the caller vouches for the processor and the pointer; masked lanes do not fault.
            Self(unsafe { $load_masked(src, mask) })
        }
        #[inline(always)]
        unsafe fn store_masked(self, dst: *mut $t, mask: __m256i) {
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
    };
}

#[derive(Clone, Copy)]
pub(in crate::cpu) struct F32x8(pub(in crate::cpu) __m256);

impl Vector for F32x8 {
    vector!(
        f32,
        8,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_maskload_ps,
        _mm256_maskstore_ps,
        _mm256_add_ps,
        _mm256_fmadd_ps,
        _mm256_set1_epi32,
        _mm256_cmpgt_epi32,
        _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
    );

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller vouches for the processor.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(src: *const f32, stride: isize, rows: usize, cols: usize, dst: *mut f32, padded: usize) {
        // SAFETY: the caller vouches for the processor, `rows` rows of `cols` elements, and `cols` vectors of the result.
        unsafe {
            let mask = Self::mask(cols);
            let mut r = [_mm256_setzero_ps(); 8];
            for (i, row) in r.iter_mut().enumerate() {
                if i < rows {
                    *row = _mm256_maskload_ps(src.offset(i as isize * stride), mask);
                }
            }
            // 4 x 4 blocks within 128-bit lanes: lane q of u[4 g + j] is column 4 q + j of rows 4 g to 4 g + 3.
            let mut u = [_mm256_setzero_ps(); 8];
            for g in 0..2 {
                let (a, b) = (_mm256_unpacklo_ps(r[4 * g], r[4 * g + 1]), _mm256_unpackhi_ps(r[4 * g], r[4 * g + 1]));
                let (c, d) =
                    (_mm256_unpacklo_ps(r[4 * g + 2], r[4 * g + 3]), _mm256_unpackhi_ps(r[4 * g + 2], r[4 * g + 3]));
                u[4 * g] = _mm256_shuffle_ps::<0x44>(a, c);
                u[4 * g + 1] = _mm256_shuffle_ps::<0xee>(a, c);
                u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(b, d);
                u[4 * g + 3] = _mm256_shuffle_ps::<0xee>(b, d);
            }
            for j in 0..4 {
                if j < cols {
                    _mm256_storeu_ps(dst.add(j * padded), _mm256_permute2f128_ps::<0x20>(u[j], u[4 + j]));
                }
                if 4 + j < cols {
                    _mm256_storeu_ps(dst.add((4 + j) * padded), _mm256_permute2f128_ps::<0x31>(u[j], u[4 + j]));
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(in crate::cpu) struct F64x4(pub(in crate::cpu) __m256d);

impl Vector for F64x4 {
    vector!(
        f64,
        4,
        _mm256_setzero_pd,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_maskload_pd,
        _mm256_maskstore_pd,
        _mm256_add_pd,
        _mm256_fmadd_pd,
        _mm256_set1_epi64x,
        _mm256_cmpgt_epi64,
        _mm256_setr_epi64x(0, 1, 2, 3)
    );

    #[inline(always)]
    unsafe fn sum(self) -> f64 {
        // SAFETY: the caller vouches for the processor.
        unsafe {
            let two = _mm_add_pd(_mm256_castpd256_pd128(self.0), _mm256_extractf128_pd::<1>(self.0));
            _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn transpose(src: *const f64, stride: isize, rows: usize, cols: usize, dst: *mut f64, padded: usize) {
        // SAFETY: the caller vouches for the processor, `rows` rows of `cols` elements, and `cols` vectors of the result.
        unsafe {
            let mask = Self::mask(cols);
            let mut r = [_mm256_setzero_pd(); 4];
            for (i, row) in r.iter_mut().enumerate() {
                if i < rows {
                    *row = _mm256_maskload_pd(src.offset(i as isize * stride), mask);
                }
            }
            let (a, b) = (_mm256_unpacklo_pd(r[0], r[1]), _mm256_unpackhi_pd(r[0], r[1]));
            let (c, d) = (_mm256_unpacklo_pd(r[2], r[3]), _mm256_unpackhi_pd(r[2], r[3]));
            let out = [
                _mm256_permute2f128_pd::<0x20>(a, c),
                _mm256_permute2f128_pd::<0x20>(b, d),
                _mm256_permute2f128_pd::<0x31>(a, c),
                _mm256_permute2f128_pd::<0x31>(b, d),
            ];
            for (j, column) in out.into_iter().enumerate() {
                if j < cols {
                    _mm256_storeu_pd(dst.add(j * padded), column);
                }
            }
        }
    }
}

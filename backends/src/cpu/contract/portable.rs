//! Vectors in plain Rust for every processor: arrays of 16 bytes, which the compiler keeps in SSE2 or NEON registers.
//!
//! Multiply and add are fused only where the build target has the instruction:
//! elsewhere a fused operation is a library call per element.

use super::Element;
use super::micro::{self, Dot, Kernels, Panel, Tile, Vector, kernels};

pub(super) static F32: Kernels<f32> = kernels!(Lanes<f32, 4>, 1 2 3 4);
pub(super) static F64: Kernels<f64> = kernels!(Lanes<f64, 2>, 1 2 3 4);

const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// # Safety
/// See [`micro::tile`].
unsafe fn tile<V: Vector, const R: usize, const N: usize, const UNIT: bool>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::tile::<V, R, N, UNIT>(t) }
}

/// # Safety
/// See [`micro::rows`].
unsafe fn rows<V: Vector, const R: usize, const N: usize>(t: &Tile<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::rows::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::dot`].
unsafe fn dot<V: Vector, const R: usize, const N: usize>(t: &Dot<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::dot::<V, R, N>(t) }
}

/// # Safety
/// See [`micro::pack`].
unsafe fn pack<V: Vector>(p: &Panel<V::T>) {
    // SAFETY: passed on to the caller.
    unsafe { micro::pack::<V>(p) }
}

#[derive(Clone, Copy)]
pub(in crate::cpu) struct Lanes<T, const L: usize>(pub(in crate::cpu) [T; L]);

impl<T: Element, const L: usize> Vector for Lanes<T, L> {
    type T = T;
    type Mask = usize;
    const LANES: usize = L;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([T::ZERO; L])
    }

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Self([value; L])
    }

    #[inline(always)]
    unsafe fn load(src: *const T) -> Self {
        // SAFETY: the caller vouches for L elements.
        Self(unsafe { src.cast::<[T; L]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, dst: *mut T) {
        // SAFETY: the caller vouches for L elements.
        unsafe { dst.cast::<[T; L]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> usize {
        lanes
    }

    #[inline(always)]
    unsafe fn load_masked(src: *const T, mask: usize) -> Self {
        if mask == L {
            // SAFETY: the mask names all lanes.
            return unsafe { Self::load(src) };
        }
        let mut lanes = [T::ZERO; L];
        for (i, lane) in lanes.iter_mut().enumerate().take(mask) {
            // SAFETY: the caller vouches for the lanes that the mask names.
            *lane = unsafe { *src.add(i) };
        }
        Self(lanes)
    }

    #[inline(always)]
    unsafe fn store_masked(self, dst: *mut T, mask: usize) {
        for (i, lane) in self.0.into_iter().enumerate().take(mask) {
            // SAFETY: the caller vouches for the lanes that the mask names.
            unsafe { *dst.add(i) = lane };
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const T) {}

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(
            |i| {
                if FUSED { a.0[i].mul_add(b.0[i], self.0[i]) } else { self.0[i] + a.0[i] * b.0[i] }
            },
        ))
    }

    #[inline(always)]
    unsafe fn sum(self) -> T {
        self.0[1..].iter().fold(self.0[0], |sum, &lane| sum + lane)
    }

    #[inline(always)]
    unsafe fn transpose(src: *const T, stride: isize, rows: usize, cols: usize, dst: *mut T, padded: usize) {
        for j in 0..cols {
            let column = std::array::from_fn(|i| {
                if i < rows {
                    // SAFETY: the caller vouches for `rows` rows of `cols` elements.
                    unsafe { *src.offset(i as isize * stride).add(j) }
                } else {
                    T::ZERO
                }
            });
            // SAFETY: the caller vouches for `cols` vectors of the result.
            unsafe { Self(column).store(dst.add(j * padded)) };
        }
    }
}

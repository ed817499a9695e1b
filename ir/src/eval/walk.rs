//! Row-major walks over strided index spaces.

use crate::array::Sizes;
use smallvec::SmallVec;

/// The row-major strides of sizes.
pub fn row_major(shape: &[usize]) -> SmallVec<[isize; 4]> {
    let mut out: SmallVec<[isize; 4]> = SmallVec::from_elem(1, shape.len());
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i] as isize;
    }
    out
}

/// The offsets `base + Σ index[i] * strides[i]` over all indices of `shape` in row-major order.
///
/// Every offset must be non-negative.
pub fn offsets(shape: &[usize], strides: &[isize], base: isize) -> Offsets {
    let left = shape.iter().product();
    Offsets { shape: shape.into(), strides: strides.into(), index: SmallVec::from_elem(0, shape.len()), at: base, left }
}

/// The iterator of [`offsets`].
#[derive(Clone, Debug)]
pub struct Offsets {
    shape: Sizes,
    strides: SmallVec<[isize; 4]>,
    index: Sizes,
    at: isize,
    left: usize,
}

impl Iterator for Offsets {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let out = self.at;
        self.left -= 1;
        for d in (0..self.shape.len()).rev() {
            self.index[d] += 1;
            self.at += self.strides[d];
            if self.index[d] < self.shape[d] {
                break;
            }
            self.at -= self.strides[d] * self.shape[d] as isize;
            self.index[d] = 0;
        }
        usize::try_from(out).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The index of a row-major position.
pub fn unravel(mut position: usize, shape: &[usize]) -> Sizes {
    let mut index: Sizes = SmallVec::from_elem(0, shape.len());
    for d in (0..shape.len()).rev() {
        index[d] = position % shape[d].max(1);
        position /= shape[d].max(1);
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_strides() {
        let all: Vec<usize> = offsets(&[2, 3], &[1, 2], 0).collect();
        assert_eq!(all, [0, 2, 4, 1, 3, 5]);
        let reversed: Vec<usize> = offsets(&[4], &[-1], 3).collect();
        assert_eq!(reversed, [3, 2, 1, 0]);
        assert_eq!(offsets(&[], &[], 0).collect::<Vec<_>>(), [0]);
        assert_eq!(offsets(&[2, 0], &[0, 1], 0).count(), 0);
    }
}

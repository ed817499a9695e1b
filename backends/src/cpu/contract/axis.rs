//! Indices of matrices: how an index moves through memory.

/// The most digits of an index.
pub const MOST_DIGITS: usize = 6;

/// An index over several dims, like a number of several digits: each digit has a size and a stride in elements.
///
/// A row of a matrix has one digit, and so one stride. The rows of an image's windows have as many as the image has dims:
/// a convolution is a product whose left operand overlaps itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Axis {
    /// The digits but the last, the outermost first.
    outer: [(usize, isize); MOST_DIGITS - 1],
    outer_len: usize,
    /// The size of the last digit; `usize::MAX` if it is the only one.
    run: usize,
    /// The stride of the last digit.
    stride: isize,
}

impl Axis {
    /// One digit: from each index to the next it is `stride` elements. A stride of 0 repeats an element.
    pub const fn even(stride: isize) -> Axis {
        Axis { outer: [(1, 0); MOST_DIGITS - 1], outer_len: 0, run: usize::MAX, stride }
    }

    /// Digits of some sizes and strides, the outermost first; those that move as one are joined.
    ///
    /// `None` if more than [`MOST_DIGITS`] are left.
    pub fn of_digits(digits: impl IntoIterator<Item = (usize, isize)>) -> Option<Axis> {
        let mut axis = Axis::even(0);
        let mut first = true;
        for (size, stride) in digits {
            if size == 1 {
                continue;
            }
            if first {
                (axis.run, axis.stride) = (size, stride);
                first = false;
            } else if axis.stride == stride.wrapping_mul(size as isize) {
                // The digit before steps over all of this one.
                (axis.run, axis.stride) = (axis.run.saturating_mul(size), stride);
            } else {
                *axis.outer.get_mut(axis.outer_len)? = (axis.run, axis.stride);
                axis.outer_len += 1;
                (axis.run, axis.stride) = (size, stride);
            }
        }
        if axis.outer_len == 0 {
            axis.run = usize::MAX;
        }
        Some(axis)
    }

    /// Whether one stride describes it.
    #[inline]
    pub fn is_even(&self) -> bool {
        self.outer_len == 0
    }

    /// From an index to the next, within a run.
    #[inline]
    pub fn stride(&self) -> isize {
        self.stride
    }

    /// Indices from a multiple of this number on move evenly as far as the next multiple.
    #[inline]
    pub fn run(&self) -> usize {
        self.run
    }

    /// Elements from index 0 to `index`.
    #[inline]
    pub fn offset(&self, index: usize) -> isize {
        if self.outer_len == 0 {
            return (index as isize).wrapping_mul(self.stride);
        }
        let mut rest = index / self.run;
        let mut offset = (index % self.run) as isize * self.stride;
        for &(size, stride) in self.outer[1..self.outer_len].iter().rev() {
            offset += (rest % size) as isize * stride;
            rest /= size;
        }
        // The first digit takes all that is left.
        offset + rest as isize * self.outer[0].1
    }

    /// The end of the run that `index` lies in, or `end` if that comes first.
    #[inline]
    pub fn run_end(&self, index: usize, end: usize) -> usize {
        if self.outer_len == 0 { end } else { end.min((index / self.run + 1) * self.run) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_move_as_one_are_joined() {
        assert_eq!(Axis::of_digits([(4, 15), (3, 5), (5, 1)]), Some(Axis::even(1)));
        assert_eq!(Axis::of_digits([(1, 7), (4, -3), (1, 9)]), Some(Axis::even(-3)));
        assert_eq!(Axis::of_digits([]), Some(Axis::even(0)));
        assert!(Axis::of_digits([(3, 0), (3, 0)]).is_some_and(|a| a.is_even()), "repeats of repeats");
    }

    #[test]
    fn offsets_count_the_digits() {
        let digits = [(2, 1000), (3, 70), (4, 9), (5, -1)];
        let axis = Axis::of_digits(digits).unwrap();
        assert_eq!((axis.run(), axis.stride(), axis.is_even()), (5, -1, false));
        let mut index = 0;
        for a in 0..2 {
            for b in 0..3 {
                for c in 0..4 {
                    for d in 0..5 {
                        assert_eq!(axis.offset(index), a * 1000 + b * 70 + c * 9 - d, "at {index}");
                        index += 1;
                    }
                }
            }
        }
        assert_eq!((axis.run_end(7, 120), axis.run_end(7, 9), axis.run_end(10, 120)), (10, 9, 15));
    }

    #[test]
    fn too_many_digits_are_refused() {
        assert!(Axis::of_digits((0..6).map(|i| (2, 10 + i))).is_some());
        assert_eq!(Axis::of_digits((0..7).map(|i| (2, 10 + i))), None);
    }
}

//! Arrays from Rust values and `ndarray`, and back.

use ndarray::{ArrayBase, ArrayD, ArrayViewD, Dimension, IxDyn};

use super::{Array, Element};

/// An array read as elements of another type than it holds.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("array: it holds {found}[{rank} dims], asked for {wanted}; convert it first, or ask for {found}")]
pub struct WrongElement {
    /// The dtype held.
    pub found: crate::DType,
    /// The dtype asked for.
    pub wanted: crate::DType,
    /// Number of dims.
    pub rank: usize,
}

impl Array {
    /// A view for `ndarray`, without a copy.
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>, WrongElement> {
        let slice = self.as_slice::<T>().ok_or_else(|| self.wrong::<T>())?;
        ArrayViewD::from_shape(IxDyn(self.shape()), slice).map_err(|_| self.wrong::<T>())
    }

    /// An `ndarray` array, without a copy if nobody shares the elements.
    pub fn into_ndarray<T: Element>(self) -> Result<ArrayD<T>, WrongElement> {
        let wrong = self.wrong::<T>();
        let shape = IxDyn(self.shape());
        let elements = T::unwrap(self.into_data()).map_err(|_| wrong.clone())?;
        ArrayD::from_shape_vec(shape, elements).map_err(|_| wrong)
    }

    /// The elements in row-major order, without a copy if nobody shares them.
    pub fn into_vec<T: Element>(self) -> Result<Vec<T>, WrongElement> {
        let wrong = self.wrong::<T>();
        T::unwrap(self.into_data()).map_err(|_| wrong)
    }

    fn wrong<T: Element>(&self) -> WrongElement {
        WrongElement { found: self.dtype(), wanted: T::DTYPE, rank: self.rank() }
    }
}

impl<T: Element> From<T> for Array {
    fn from(value: T) -> Self {
        Self::scalar(value)
    }
}

/// Shares the elements.
impl From<&Array> for Array {
    fn from(array: &Array) -> Self {
        array.clone()
    }
}

impl<T: Element> From<Vec<T>> for Array {
    fn from(elements: Vec<T>) -> Self {
        let shape = [elements.len()];
        Self { shape: shape.as_slice().into(), buffer: std::sync::Arc::new(super::Buffer::new(T::wrap(elements))) }
    }
}

impl<T: Element> From<&[T]> for Array {
    fn from(elements: &[T]) -> Self {
        Self::from(elements.to_vec())
    }
}

impl<T: Element, const N: usize> From<[T; N]> for Array {
    fn from(elements: [T; N]) -> Self {
        Self::from(elements.to_vec())
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; N]; M]> for Array {
    fn from(rows: [[T; N]; M]) -> Self {
        let flat = Self::from(rows.as_flattened().to_vec());
        Self { shape: [M, N].as_slice().into(), buffer: flat.buffer }
    }
}

impl<T: Element, const N: usize, const M: usize, const L: usize> From<[[[T; N]; M]; L]> for Array {
    fn from(blocks: [[[T; N]; M]; L]) -> Self {
        let flat = Self::from(blocks.as_flattened().as_flattened().to_vec());
        Self { shape: [L, M, N].as_slice().into(), buffer: flat.buffer }
    }
}

/// Any owned or viewed `ndarray` array; one that is not row-major (transposed, sliced, reversed) is copied in logical order.
impl<T, S, D> From<ArrayBase<S, D>> for Array
where
    T: Element,
    S: ndarray::Data<Elem = T>,
    D: Dimension,
{
    fn from(array: ArrayBase<S, D>) -> Self {
        let shape: super::Sizes = array.shape().into();
        let array = array.into_owned();
        let elements = if array.is_standard_layout() {
            let n = array.len();
            let (v, offset) = array.into_raw_vec_and_offset();
            let offset = offset.unwrap_or(0);
            if offset == 0 && v.len() == n { v } else { v[offset..offset + n].to_vec() }
        } else {
            array.iter().copied().collect()
        };
        Self { shape, buffer: std::sync::Arc::new(super::Buffer::new(T::wrap(elements))) }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn transposed_sliced_and_reversed_arrays_arrive_in_logical_order() {
        let a = Array2::from_shape_fn((3, 4), |(i, j)| (4 * i + j) as f32);
        let t = Array::from(a.t().to_owned());
        assert_eq!(t.shape(), [4, 3]);
        assert_eq!(&t.as_slice::<f32>().unwrap()[..4], [0.0, 4.0, 8.0, 1.0]);
        let r = Array::from(a.slice(s![..;-1, 1..3]).into_dyn());
        assert_eq!(r.as_slice::<f32>().unwrap(), [9.0, 10.0, 5.0, 6.0, 1.0, 2.0]);
        let sliced = Array::from(a.clone().slice_move(s![1.., ..]));
        assert_eq!(sliced.into_ndarray::<f32>().unwrap(), a.slice(s![1.., ..]).into_dyn());
    }

    #[test]
    fn a_wrong_element_type_is_an_error() {
        let e = Array::from([1i64, 2]).into_ndarray::<f32>().unwrap_err();
        assert_eq!(e.to_string(), "array: it holds i64[1 dims], asked for f32; convert it first, or ask for i64");
    }
}

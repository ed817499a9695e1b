//! Host arrays: what users pass in and get back, and what the evaluator computes with.
//!
//! An [`Array`] is a shape and shared, contiguous, row-major data of one dtype.
//! Cloning shares; [`Array::make_mut`] copies only if shared.
//! The data is an ordinary typed `Vec`, so that arrays convert to and from `ndarray` without a copy and this crate needs no `unsafe`.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::dtype::DType;
use crate::literal::Literal;

mod convert;
mod data;
mod fmt;

use data::Buffer;
pub use data::{Data, Element, Recycler};

/// The sizes of a host array.
pub type Sizes = SmallVec<[usize; 4]>;

/// A host array of any dtype.
#[derive(Clone)]
pub struct Array {
    shape: Sizes,
    buffer: Arc<Buffer>,
}

/// Data whose length is not the product of the sizes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("array: {len} elements do not fill the shape {shape:?}; give as many elements as the product of the sizes")]
pub struct LengthMismatch {
    /// The elements given.
    pub len: usize,
    /// The sizes asked for.
    pub shape: Vec<usize>,
}

impl Array {
    /// An array from its elements in row-major order.
    pub fn new<T: Element>(shape: &[usize], elements: Vec<T>) -> Result<Self, LengthMismatch> {
        Self::from_data(shape, T::wrap(elements))
    }

    /// An array from typed data in row-major order.
    pub fn from_data(shape: &[usize], data: Data) -> Result<Self, LengthMismatch> {
        if checked_count(shape) != Some(data.len()) {
            return Err(LengthMismatch { len: data.len(), shape: shape.to_vec() });
        }
        Ok(Self { shape: shape.into(), buffer: Arc::new(Buffer::new(data)) })
    }

    /// The same, with storage that goes back to `home` when the last owner drops it.
    pub fn from_recycled(shape: &[usize], data: Data, home: &Arc<Recycler>) -> Result<Self, LengthMismatch> {
        if checked_count(shape) != Some(data.len()) {
            return Err(LengthMismatch { len: data.len(), shape: shape.to_vec() });
        }
        Ok(Self { shape: shape.into(), buffer: Arc::new(Buffer::recycled(data, home)) })
    }

    /// A 0-d array.
    pub fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Sizes::new(), buffer: Arc::new(Buffer::new(T::wrap(vec![value]))) }
    }

    /// A 0-d array.
    pub fn from_literal(value: Literal) -> Self {
        Self::full(&[], value)
    }

    /// An array of equal elements.
    pub fn full(shape: &[usize], value: Literal) -> Self {
        let n = shape.iter().product();
        Self { shape: shape.into(), buffer: Arc::new(Buffer::new(Data::full(value, n))) }
    }

    /// An array of zeros (false for bool).
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let n = shape.iter().product();
        Self { shape: shape.into(), buffer: Arc::new(Buffer::new(Data::zeros(dtype, n))) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data().dtype()
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data().len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &Data {
        &self.buffer.data
    }

    /// The elements in row-major order, if they are of type `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::slice(self.data())
    }

    /// The elements for writing; copies them first if another owner shares them.
    pub fn make_mut(&mut self) -> &mut Data {
        &mut Arc::make_mut(&mut self.buffer).data
    }

    /// The elements for writing if nobody shares them.
    pub fn get_mut(&mut self) -> Option<&mut Data> {
        Arc::get_mut(&mut self.buffer).map(|b| &mut b.data)
    }

    /// The elements, without a copy if nobody shares them.
    pub fn into_data(self) -> Data {
        match Arc::try_unwrap(self.buffer) {
            Ok(mut b) => b.take(),
            Err(shared) => shared.data.clone(),
        }
    }

    /// How many arrays share the elements, this one among them.
    ///
    /// ```
    /// use lehr_ir::Array;
    /// let a = Array::from_literal(1.5f32.into());
    /// let b = a.clone();
    /// assert_eq!((a.owners(), b.owners()), (2, 2));
    /// drop(b);
    /// assert_eq!(a.owners(), 1);
    /// ```
    pub fn owners(&self) -> usize {
        Arc::strong_count(&self.buffer)
    }

    /// The same elements under another shape of the same element count.
    pub fn with_shape(self, shape: &[usize]) -> Result<Self, LengthMismatch> {
        if checked_count(shape) != Some(self.len()) {
            return Err(LengthMismatch { len: self.len(), shape: shape.to_vec() });
        }
        Ok(Self { shape: shape.into(), buffer: self.buffer })
    }

    /// The value of a one-element array.
    pub fn item(&self) -> Option<Literal> {
        (self.len() == 1).then(|| self.data().get(0)).flatten()
    }

    /// Whether shape, dtype and every bit agree.
    pub fn bit_eq(&self, other: &Self) -> bool {
        self.shape == other.shape && (Arc::ptr_eq(&self.buffer, &other.buffer) || self.data().bit_eq(other.data()))
    }

    /// Whether the two share their elements.
    pub fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.buffer, &other.buffer)
    }
}

/// The product of sizes, if it fits.
pub fn checked_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Equality is by shape, dtype and bits: NaN equals the same NaN, and −0 differs from 0.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        self.bit_eq(other)
    }
}

impl Eq for Array {}

impl std::hash::Hash for Array {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.shape.hash(state);
        self.data().hash_bits(state);
    }
}

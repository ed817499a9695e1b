//! Typed storage of arrays, and its recycling.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use half::{bf16, f16};
use num_complex::{Complex32, Complex64};

use crate::dtype::DType;
use crate::literal::Literal;

/// A Rust type that is an array element.
pub trait Element: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Its dtype.
    const DTYPE: DType;
    /// Typed data of these elements.
    fn wrap(elements: Vec<Self>) -> Data;
    /// The elements, if `data` holds this type.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The elements for writing, if `data` holds this type.
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
    /// The elements by value, or the data back.
    fn unwrap(data: Data) -> Result<Vec<Self>, Data>;
    /// The element as a literal.
    fn literal(self) -> Literal;
    /// The element of a literal of this dtype.
    fn from_literal(l: Literal) -> Option<Self>;
}

macro_rules! dtypes {
    ($($Variant:ident, $ty:ty, $bits:expr, $from:expr;)*) => {
        /// The elements of an array, one vector per dtype.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "each variant is the dtype of its elements")]
        pub enum Data {
            $($Variant(Vec<$ty>),)*
        }

        $(impl Element for $ty {
            const DTYPE: DType = DType::$Variant;
            fn wrap(elements: Vec<Self>) -> Data {
                Data::$Variant(elements)
            }
            fn slice(data: &Data) -> Option<&[Self]> {
                if let Data::$Variant(v) = data { Some(v) } else { None }
            }
            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                if let Data::$Variant(v) = data { Some(v) } else { None }
            }
            fn unwrap(data: Data) -> Result<Vec<Self>, Data> {
                if let Data::$Variant(v) = data { Ok(v) } else { Err(data) }
            }
            fn literal(self) -> Literal {
                Literal::from(self)
            }
            fn from_literal(l: Literal) -> Option<Self> {
                let from: fn([u64; 2]) -> $ty = $from;
                (l.dtype() == Self::DTYPE).then(|| from(l.bits()))
            }
        })*

        impl Data {
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$Variant(_) => DType::$Variant,)* }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$Variant(v) => v.len(),)* }
            }

            /// `n` zeros (false for bool).
            pub fn zeros(dtype: DType, n: usize) -> Self {
                match dtype { $(DType::$Variant => Self::$Variant(vec![<$ty>::default(); n]),)* }
            }

            /// `n` equal elements.
            pub fn full(value: Literal, n: usize) -> Self {
                match value.dtype() {
                    $(DType::$Variant => {
                        Self::$Variant(vec![<$ty>::from_literal(value).unwrap_or_default(); n])
                    })*
                }
            }

            /// The element at `i`.
            pub fn get(&self, i: usize) -> Option<Literal> {
                match self { $(Self::$Variant(v) => v.get(i).map(|x| x.literal()),)* }
            }

            /// Overwrites the element at `i`; `None` if there is none or the dtypes differ.
            pub fn set(&mut self, i: usize, value: Literal) -> Option<()> {
                match self { $(Self::$Variant(v) => *v.get_mut(i)? = <$ty>::from_literal(value)?,)* }
                Some(())
            }

            /// The elements at `indices`, in that order; an index out of range gives zero.
            pub fn gather(&self, indices: impl Iterator<Item = usize>) -> Self {
                match self {
                    $(Self::$Variant(v) => {
                        Self::$Variant(indices.map(|i| v.get(i).copied().unwrap_or_default()).collect())
                    })*
                }
            }

            /// Makes the length `n`; what is added is zero, what was there is kept or not.
            pub fn resize(&mut self, n: usize) {
                match self { $(Self::$Variant(v) => v.resize(n, <$ty>::default()),)* }
            }

            /// Where the elements start, for generated code.
            pub fn as_ptr(&self) -> *const u8 {
                match self { $(Self::$Variant(v) => v.as_ptr().cast(),)* }
            }

            /// Where the elements start, for generated code that writes them.
            pub fn as_mut_ptr(&mut self) -> *mut u8 {
                match self { $(Self::$Variant(v) => v.as_mut_ptr().cast(),)* }
            }

            /// Copies the elements of `other` to those from `at` on; `None` if the dtypes differ or they do not fit.
            pub fn copy_into(&mut self, at: usize, other: &Self) -> Option<()> {
                match (self, other) {
                    $((Self::$Variant(a), Self::$Variant(b)) => {
                        a.get_mut(at..at.checked_add(b.len())?)?.copy_from_slice(b);
                    })*
                    _ => return None,
                }
                Some(())
            }

            /// Copies the elements of `other`, which must have the same dtype and length; `None` otherwise.
            pub fn copy_from(&mut self, other: &Self) -> Option<()> {
                match (self, other) {
                    $((Self::$Variant(a), Self::$Variant(b)) if a.len() == b.len() => a.copy_from_slice(b),)*
                    _ => return None,
                }
                Some(())
            }

            /// The elements as little-endian bytes.
            pub fn to_le_bytes(&self) -> Vec<u8> {
                let mut out = Vec::with_capacity(self.len() * self.dtype().size());
                match self {
                    $(Self::$Variant(v) => {
                        for x in v {
                            push_le(Self::$Variant(Vec::new()).dtype(), x.literal().bits(), &mut out);
                        }
                    })*
                }
                out
            }

            /// Elements from little-endian bytes; `None` unless the length is a multiple of the element size.
            pub fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Option<Self> {
                let size = dtype.size();
                if !bytes.len().is_multiple_of(size) {
                    return None;
                }
                match dtype {
                    $(DType::$Variant => {
                        let read = |c: &[u8]| <$ty>::from_literal(Literal::from_bits(dtype, read_le(dtype, c)));
                        bytes.chunks_exact(size).map(read).collect::<Option<Vec<_>>>().map(Self::$Variant)
                    })*
                }
            }

            /// Whether dtype, length and every bit agree.
            pub fn bit_eq(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$Variant(a), Self::$Variant(b)) => {
                        let bits: fn(&$ty) -> _ = $bits;
                        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| bits(x) == bits(y))
                    })*
                    _ => false,
                }
            }

            pub(super) fn hash_bits<H: Hasher>(&self, state: &mut H) {
                self.dtype().hash(state);
                self.len().hash(state);
                match self {
                    $(Self::$Variant(v) => {
                        let bits: fn(&$ty) -> _ = $bits;
                        v.iter().for_each(|x| bits(x).hash(state));
                    })*
                }
            }
        }
    };
}

dtypes! {
    Bool, bool, |x| *x, |b| b[0] != 0;
    I8, i8, |x| *x, |b| b[0] as i8;
    I16, i16, |x| *x, |b| b[0] as i16;
    I32, i32, |x| *x, |b| b[0] as i32;
    I64, i64, |x| *x, |b| b[0] as i64;
    U8, u8, |x| *x, |b| b[0] as u8;
    U16, u16, |x| *x, |b| b[0] as u16;
    U32, u32, |x| *x, |b| b[0] as u32;
    U64, u64, |x| *x, |b| b[0];
    F16, f16, |x| x.to_bits(), |b| f16::from_bits(b[0] as u16);
    BF16, bf16, |x| x.to_bits(), |b| bf16::from_bits(b[0] as u16);
    F32, f32, |x| x.to_bits(), |b| f32::from_bits(b[0] as u32);
    F64, f64, |x| x.to_bits(), |b| f64::from_bits(b[0]);
    C64, Complex32, |x| [x.re.to_bits(), x.im.to_bits()],
        |b| Complex32::new(f32::from_bits(b[0] as u32), f32::from_bits(b[1] as u32));
    C128, Complex64, |x| [x.re.to_bits(), x.im.to_bits()],
        |b| Complex64::new(f64::from_bits(b[0]), f64::from_bits(b[1]));
}

impl Data {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all elements.
    pub fn byte_len(&self) -> usize {
        self.len() * self.dtype().size()
    }
}

fn push_le(dtype: DType, bits: [u64; 2], out: &mut Vec<u8>) {
    let part = if matches!(dtype, DType::C64 | DType::C128) { dtype.size() / 2 } else { dtype.size() };
    out.extend_from_slice(&bits[0].to_le_bytes()[..part]);
    if part != dtype.size() {
        out.extend_from_slice(&bits[1].to_le_bytes()[..part]);
    }
}

fn read_le(dtype: DType, bytes: &[u8]) -> [u64; 2] {
    let part = if matches!(dtype, DType::C64 | DType::C128) { dtype.size() / 2 } else { dtype.size() };
    let word = |b: &[u8]| b.iter().rev().fold(0, |n, &x| (n << 8) | u64::from(x));
    [word(&bytes[..part]), word(&bytes[part..])]
}

/// Shared storage, which may go back to where it came from.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) data: Data,
    home: Weak<Recycler>,
}

impl Buffer {
    pub(super) fn new(data: Data) -> Self {
        Self { data, home: Weak::new() }
    }

    pub(super) fn recycled(data: Data, home: &Arc<Recycler>) -> Self {
        Self { data, home: Arc::downgrade(home) }
    }

    /// The data, which then no longer goes back.
    pub(super) fn take(&mut self) -> Data {
        self.home = Weak::new();
        std::mem::replace(&mut self.data, Data::Bool(Vec::new()))
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::new(self.data.clone())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::replace(&mut self.data, Data::Bool(Vec::new())));
        }
    }
}

/// Keeps the storage of dropped result arrays for the next call, so that a steady state touches no fresh pages.
///
/// It holds at most `limit` vectors; what comes beyond is freed.
#[derive(Debug)]
pub struct Recycler {
    free: Mutex<Vec<Data>>,
    limit: usize,
}

impl Recycler {
    /// An empty recycler that keeps at most `limit` vectors.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(Vec::with_capacity(limit)), limit })
    }

    /// Storage of exactly `n` elements: a kept vector with unspecified contents, or fresh zeros, which nobody has touched and
    /// `fresh` is told of.
    pub fn take(&self, dtype: DType, n: usize, fresh: impl FnOnce(&Data)) -> Data {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.iter().position(|d| d.dtype() == dtype && d.len() == n) {
            Some(i) => free.swap_remove(i),
            None => {
                drop(free);
                let data = Data::zeros(dtype, n);
                fresh(&data);
                data
            }
        }
    }

    fn put(&self, data: Data) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() == self.limit {
            // The oldest goes: sizes that are asked for no more leave in turn.
            if self.limit == 0 {
                return;
            }
            free.remove(0);
        }
        free.push(data);
    }
}

//! How elements lie in the memory of a device.
//!
//! As on the host. Buffers are made of whole words, and have at least [`LEAST`] bytes, because nothing empty can be bound.

use std::borrow::Cow;

use lehr_ir::DType;
use lehr_ir::array::Data;

/// The fewest bytes of a buffer.
pub const LEAST: u64 = 16;

/// The bytes of a buffer of so many elements, padding included.
pub fn bytes(dtype: DType, len: u64) -> Option<u64> {
    let n = len.checked_mul(dtype.size() as u64)?.max(LEAST);
    n.checked_next_multiple_of(4)
}

/// Elements as a device has them, padded to whole words.
pub fn encode(data: &Data) -> Cow<'_, [u8]> {
    let bytes: Cow<'_, [u8]> = match data {
        Data::F32(v) => bytemuck::cast_slice(v).into(),
        Data::F64(v) => bytemuck::cast_slice(v).into(),
        Data::I8(v) => bytemuck::cast_slice(v).into(),
        Data::I16(v) => bytemuck::cast_slice(v).into(),
        Data::I32(v) => bytemuck::cast_slice(v).into(),
        Data::I64(v) => bytemuck::cast_slice(v).into(),
        Data::U8(v) => v.as_slice().into(),
        Data::U16(v) => bytemuck::cast_slice(v).into(),
        Data::U32(v) => bytemuck::cast_slice(v).into(),
        Data::U64(v) => bytemuck::cast_slice(v).into(),
        Data::Bool(v) => bytemuck::cast_slice(v).into(),
        Data::F16(_) | Data::BF16(_) | Data::C64(_) | Data::C128(_) => data.to_le_bytes().into(),
    };
    if bytes.len().is_multiple_of(4) {
        return bytes;
    }
    let mut padded = bytes.into_owned();
    padded.resize(padded.len().next_multiple_of(4), 0);
    padded.into()
}

/// Overwrites elements with what a device has; what the bytes do not reach stays as it is.
pub fn decode(bytes: &[u8], data: &mut Data) {
    match data {
        Data::F32(v) => copy(bytes, v),
        Data::F64(v) => copy(bytes, v),
        Data::I8(v) => copy(bytes, v),
        Data::I16(v) => copy(bytes, v),
        Data::I32(v) => copy(bytes, v),
        Data::I64(v) => copy(bytes, v),
        Data::U8(v) => copy(bytes, v),
        Data::U16(v) => copy(bytes, v),
        Data::U32(v) => copy(bytes, v),
        Data::U64(v) => copy(bytes, v),
        Data::Bool(v) => {
            for (b, byte) in v.iter_mut().zip(bytes) {
                *b = *byte != 0;
            }
        }
        Data::F16(_) | Data::BF16(_) | Data::C64(_) | Data::C128(_) => {
            let n = data.len() * data.dtype().size();
            let read = bytes.get(..n).and_then(|b| Data::from_le_bytes(data.dtype(), b));
            // As many elements of the same dtype.
            read.and_then(|read| data.copy_from(&read));
        }
    }
}

fn copy<T: bytemuck::Pod>(bytes: &[u8], elements: &mut [T]) {
    let to: &mut [u8] = bytemuck::cast_slice_mut(elements);
    let n = to.len().min(bytes.len());
    to[..n].copy_from_slice(&bytes[..n]);
}

#[cfg(test)]
mod tests {
    use lehr_ir::Literal;

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for dtype in DType::ALL {
            for n in [0, 1, 3, 8] {
                let mut data = Data::zeros(dtype, n);
                for i in 0..n {
                    data.set(i, Literal::from_f64(dtype, (i % 2) as f64 * 1.5));
                }
                let bytes = encode(&data);
                assert!(bytes.len().is_multiple_of(4), "{dtype}");
                assert!(bytes.len() as u64 <= super::bytes(dtype, n as u64).unwrap(), "{dtype}");
                let mut back = Data::zeros(dtype, n);
                decode(&bytes, &mut back);
                assert!(back.bit_eq(&data), "{dtype}: {back:?}");
            }
        }
    }
}

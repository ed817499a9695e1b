//! How elements lie in buffers, and what variables hold.
//!
//! Buffers have the bytes that the host has. What is smaller than a word lies packed in words; two invocations may store to one word,
//! so that a buffer which is stored to has atomic words: one operation clears the element's bits, another sets them, and neither
//! touches the bits beside. 16-bit floats are elements of their own where the device has them.
//!
//! Variables of 8 and 16 bits are 32 bits wide here, and what an operation gives is wrapped or rounded to what the dtype has.

use lehr_ir::dtype::DType;

use super::WgslTarget;
use super::helpers::Helper;
use super::printer::Printer;

/// How elements of a dtype lie in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gpu) enum Storage {
    /// One of this type each.
    Whole(&'static str),
    /// So many bits of a word each: 8 or 16.
    Packed(u32),
}

impl Storage {
    /// How a dtype is stored, if the target has it.
    pub(in crate::gpu) fn of(dtype: DType, target: &WgslTarget) -> Option<Self> {
        Some(match dtype {
            DType::F32 => Self::Whole("f32"),
            DType::I32 => Self::Whole("i32"),
            DType::U32 => Self::Whole("u32"),
            DType::F64 if target.f64 => Self::Whole("f64"),
            DType::I64 if target.i64 => Self::Whole("i64"),
            DType::U64 if target.i64 => Self::Whole("u64"),
            DType::F16 if target.f16 => Self::Whole("f16"),
            DType::Bool | DType::I8 | DType::U8 => Self::Packed(8),
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => Self::Packed(16),
            DType::F64 | DType::I64 | DType::U64 | DType::C64 | DType::C128 => return None,
        })
    }

    /// The type of an array's elements; words that are stored to in parts are atomic.
    pub(in crate::gpu) fn element(self, stored: bool) -> &'static str {
        match self {
            Self::Whole(name) => name,
            Self::Packed(_) if stored => "atomic<u32>",
            Self::Packed(_) => "u32",
        }
    }
}

/// The WGSL type of a variable; `None` for what the target does not have.
pub(in crate::gpu) fn variable(dtype: DType, target: &WgslTarget) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "bool",
        DType::F16 | DType::BF16 | DType::F32 => "f32",
        DType::I8 | DType::I16 | DType::I32 => "i32",
        DType::U8 | DType::U16 | DType::U32 => "u32",
        DType::I64 if target.i64 => "i64",
        // An index value: see the module on their range.
        DType::I64 => "i32",
        DType::U64 if target.i64 => "u64",
        DType::F64 if target.f64 => "f64",
        DType::U64 | DType::F64 | DType::C64 | DType::C128 => return None,
    })
}

/// The bytes of a variable's type.
pub(in crate::gpu) fn bytes(ty: &str) -> u64 {
    if ty.ends_with("64") { 8 } else { 4 }
}

impl Printer<'_> {
    /// The element at a place, as a value of a variable; lines before may give a part of it names.
    pub(super) fn element(&mut self, dtype: DType, array: &str, atomic: bool, index: &str) -> String {
        let bits = match Storage::of(dtype, self.target) {
            Some(Storage::Whole("f16")) => return format!("f32({array}[{index}])"),
            Some(Storage::Whole(_)) | None => return format!("{array}[{index}]"),
            Some(Storage::Packed(bits)) => bits,
        };
        let (word, shift) = self.part(array, index, bits);
        let word = if atomic { format!("atomicLoad(&{word})") } else { word };
        match dtype {
            DType::Bool => format!("extractBits({word}, {shift}, {bits}u) != 0u"),
            DType::I8 | DType::I16 => format!("extractBits(bitcast<i32>({word}), {shift}, {bits}u)"),
            DType::BF16 => format!("bitcast<f32>(extractBits({word}, {shift}, 16u) << 16u)"),
            DType::F16 => {
                self.helpers.add(Helper::F16Value);
                format!("f16_value(extractBits({word}, {shift}, 16u))")
            }
            _ => format!("extractBits({word}, {shift}, {bits}u)"),
        }
    }

    /// Lines that store a variable's value at a place.
    pub(super) fn store_element(&mut self, dtype: DType, array: &str, index: &str, value: &str) {
        let bits = match Storage::of(dtype, self.target) {
            Some(Storage::Whole("f16")) => return self.line(format!("{array}[{index}] = f16({value});")),
            Some(Storage::Whole(_)) | None => return self.line(format!("{array}[{index}] = {value};")),
            Some(Storage::Packed(bits)) => bits,
        };
        let value = match dtype {
            DType::Bool => format!("select(0u, 1u, {value})"),
            DType::I8 | DType::I16 => format!("(bitcast<u32>({value}) & {:#x}u)", mask(bits)),
            DType::BF16 => format!("(bitcast<u32>({value}) >> 16u)"),
            DType::F16 => {
                self.helpers.add(Helper::F16Bits);
                format!("f16_bits({value})")
            }
            _ => value.to_owned(),
        };
        let (word, shift) = self.part(array, index, bits);
        self.line(format!("atomicAnd(&{word}, ~({:#x}u << {shift}));", mask(bits)));
        self.line(format!("atomicOr(&{word}, {value} << {shift});"));
    }

    /// The word that holds a packed element, and by how much it is shifted there.
    fn part(&mut self, array: &str, index: &str, bits: u32) -> (String, String) {
        let place = self.temporary();
        self.line(format!("let {place} = u32({index});"));
        let (words, within, shift) = if bits == 8 { (2, 3, 3) } else { (1, 1, 4) };
        (format!("{array}[{place} >> {words}u]"), format!("(({place} & {within}u) << {shift}u)"))
    }
}

fn mask(bits: u32) -> u32 {
    (1 << bits) - 1
}

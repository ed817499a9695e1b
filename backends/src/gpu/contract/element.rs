//! What is multiplied and added, and how it lies in buffers.
//!
//! Numbers of half precision become `f32` where they are read, and are summed as that; what leaves a dispatch as one of them is
//! rounded once, by integer arithmetic. They are the device's where it has `f16`, and otherwise halves of words: converted by their
//! bits, and stored by atomic operations on the word, unless four neighbours are two whole words.

use lehr_ir::dtype::DType;

use crate::gpu::wgsl::helpers::Helper;
use crate::gpu::wgsl::source::Source;
use crate::gpu::wgsl::{Unsupported, WgslError, WgslTarget};

/// The elements of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gpu) struct Element {
    /// The type of a factor and of a sum.
    pub(in crate::gpu) name: &'static str,
    /// The bytes of one of that type.
    pub(in crate::gpu) bytes: u64,
    lies: Lies,
}

/// How elements lie in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lies {
    /// As what is multiplied.
    Same,
    /// As `f16`, which the device has.
    F16,
    /// As halves of words that are `f16`.
    PackedF16,
    /// As halves of words that are `bf16`.
    PackedBf16,
}

impl Element {
    /// Numbers of single precision.
    pub(in crate::gpu) const F32: Self = Self { name: "f32", bytes: 4, lies: Lies::Same };

    /// What a contraction of a dtype computes with.
    ///
    /// # Errors
    /// A dtype that the target has no products of.
    pub(super) fn of(dtype: DType, target: &WgslTarget) -> Result<Self, WgslError> {
        match dtype {
            DType::F32 => Ok(Self::F32),
            DType::F16 if target.f16 => Ok(Self { lies: Lies::F16, ..Self::F32 }),
            DType::F16 => Ok(Self { lies: Lies::PackedF16, ..Self::F32 }),
            DType::BF16 => Ok(Self { lies: Lies::PackedBf16, ..Self::F32 }),
            DType::F64 if target.f64 => Ok(Self { name: "f64", bytes: 8, lies: Lies::Same }),
            _ => Err(Unsupported::DType { dtype, place: "a contraction".to_owned() }.into()),
        }
    }

    /// Sums that are not rounded yet.
    pub(super) fn unrounded(self) -> Self {
        Self { lies: Lies::Same, ..self }
    }

    /// The type of what an array that is read consists of: single elements, or four neighbours each.
    pub(in crate::gpu) fn array(self, four: bool) -> String {
        match (self.lies, four) {
            (Lies::Same, false) => self.name.to_owned(),
            (Lies::Same, true) => format!("vec4<{}>", self.name),
            (Lies::F16, false) => "f16".to_owned(),
            (Lies::F16, true) => "vec4<f16>".to_owned(),
            (Lies::PackedF16 | Lies::PackedBf16, false) => "u32".to_owned(),
            (Lies::PackedF16 | Lies::PackedBf16, true) => "vec2<u32>".to_owned(),
        }
    }

    /// The same of an array that is written.
    pub(super) fn array_written(self, four: bool) -> String {
        match self.lies {
            Lies::PackedF16 | Lies::PackedBf16 if !four => "atomic<u32>".to_owned(),
            _ => self.array(four),
        }
    }

    /// How to read an array, by functions of the module where an expression is not enough; `name` is what they begin with.
    pub(in crate::gpu) fn reader(self, source: &mut Source, name: &str, buffer: &str, four: bool) -> Reader {
        let read = if four { format!("{name}_four") } else { format!("{name}_element") };
        if self.lies == Lies::PackedF16 {
            source.need(Helper::F16Value);
        }
        match (self.lies, four) {
            (Lies::Same | Lies::F16, _) => {}
            (Lies::PackedF16 | Lies::PackedBf16, false) => {
                let bits = format!("extractBits({buffer}[u32(at) >> 1u], (u32(at) & 1u) << 4u, 16u)");
                let value = self.value(&bits);
                source.function(format!("fn {read}(at: i32) -> f32 {{\n  return {value};\n}}"));
            }
            (Lies::PackedF16 | Lies::PackedBf16, true) => {
                let value = |word: &str, bits: &str| self.value(&bits.replace('w', word));
                let each = ["words.x", "words.y"].map(|w| [value(w, "w & 0xffffu"), value(w, "w >> 16u")].join(", "));
                source.function(format!(
                    "fn {read}(at: i32) -> vec4<f32> {{\n  let words = {buffer}[at >> 2u];\n  return vec4<f32>({});\n}}",
                    each.join(", ")
                ));
            }
        }
        Reader { lies: self.lies, buffer: buffer.to_owned(), function: read, four }
    }

    /// A sum as it is once stored, as an expression.
    pub(super) fn rounded(self, source: &mut Source, value: &str) -> String {
        match self.lies {
            Lies::Same => value.to_owned(),
            Lies::F16 | Lies::PackedF16 => {
                source.need(Helper::RoundF16);
                format!("round_f16({value})")
            }
            Lies::PackedBf16 => {
                source.need(Helper::RoundBf16);
                format!("round_bf16({value})")
            }
        }
    }

    /// Lines that round a sum and store it at a place.
    pub(super) fn store(self, source: &mut Source, buffer: &str, at: &str, value: &str) -> Vec<String> {
        match self.lies {
            Lies::Same => vec![format!("{buffer}[{at}] = {value};")],
            Lies::F16 => vec![format!("{buffer}[{at}] = f16({});", self.rounded(source, value))],
            Lies::PackedF16 | Lies::PackedBf16 => vec![
                "{".to_owned(),
                format!("  let place = u32({at});"),
                "  let shift = (place & 1u) << 4u;".to_owned(),
                format!("  atomicAnd(&{buffer}[place >> 1u], ~(0xffffu << shift));"),
                format!("  atomicOr(&{buffer}[place >> 1u], {} << shift);", self.bits(source, value)),
                "}".to_owned(),
            ],
        }
    }

    /// A line that rounds four sums, those of the vector `values`, and stores them at a place that is a multiple of four.
    pub(super) fn store_4(self, source: &mut Source, buffer: &str, at: &str, values: &str) -> String {
        let each = ["x", "y", "z", "w"].map(|c| format!("{values}.{c}"));
        let stored = match self.lies {
            Lies::Same => values.to_owned(),
            Lies::F16 => {
                let each = each.map(|value| format!("f16({})", self.rounded(source, &value)));
                format!("vec4<f16>({})", each.join(", "))
            }
            Lies::PackedF16 | Lies::PackedBf16 => {
                let [x, y, z, w] = each.map(|value| self.bits(source, &value));
                format!("vec2<u32>({x} | ({y} << 16u), {z} | ({w} << 16u))")
            }
        };
        format!("{buffer}[({at}) >> 2u] = {stored};")
    }

    /// The number that 16 bits are.
    fn value(self, bits: &str) -> String {
        match self.lies {
            Lies::PackedBf16 => format!("bitcast<f32>(({bits}) << 16u)"),
            _ => format!("f16_value({bits})"),
        }
    }

    /// The 16 bits of a sum.
    fn bits(self, source: &mut Source, value: &str) -> String {
        match self.lies {
            Lies::PackedBf16 => format!("(bitcast<u32>({}) >> 16u)", self.rounded(source, value)),
            _ => {
                source.need(Helper::F16Bits);
                format!("f16_bits({value})")
            }
        }
    }
}

/// How an array of operands is read.
pub(in crate::gpu) struct Reader {
    lies: Lies,
    buffer: String,
    function: String,
    four: bool,
}

impl Reader {
    /// The element at a place, or the four from there on, as an expression.
    pub(in crate::gpu) fn at(&self, place: &str) -> String {
        let Self { lies, buffer, function, four } = self;
        let index = if *four { format!("{place} >> 2u") } else { place.to_owned() };
        match lies {
            Lies::Same => format!("{buffer}[{index}]"),
            Lies::F16 if *four => format!("vec4<f32>({buffer}[{index}])"),
            Lies::F16 => format!("f32({buffer}[{index}])"),
            Lies::PackedF16 | Lies::PackedBf16 => format!("{function}({place})"),
        }
    }
}

//! Functions that modules define, each only where it is used.

use std::collections::BTreeSet;

macro_rules! helpers {
    ($($variant:ident [$($needs:ident),*] $text:literal;)+) => {
        /// A function of the module.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(in crate::gpu) enum Helper { $($variant),+ }

        impl Helper {
            fn needs(self) -> &'static [Self] {
                match self { $(Self::$variant => &[$(Self::$needs),*]),+ }
            }

            fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

helpers! {
    IsNan [] "fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}";
    F32Bits [] "fn f32_bits(bits: u32) -> f32 {
  return bitcast<f32>(bits ^ params.zero);
}";
    Keep [] "fn keep(x: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(x) ^ params.zero);
}";
    KeepF64 [] "fn keep_f64(x: f64) -> f64 {
  return bitcast<f64>(bitcast<u64>(x) ^ u64(params.zero));
}";
    MaxF32 [IsNan] "fn max_f32(a: f32, b: f32) -> f32 {
  return select(b, a, is_nan(a) | ((a > b) & !is_nan(b)));
}";
    MinF32 [IsNan] "fn min_f32(a: f32, b: f32) -> f32 {
  return select(b, a, is_nan(a) | ((a < b) & !is_nan(b)));
}";
    NeF32 [IsNan] "fn ne_f32(a: f32, b: f32) -> bool {
  return (a != b) | is_nan(a) | is_nan(b);
}";
    NanIfEndless [F32Bits] "fn nan_if_endless(x: f32, y: f32) -> f32 {
  return select(y, f32_bits(0x7fc00000u), (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u);
}";
    F32ToI32 [IsNan] "fn f32_to_i32(x: f32) -> i32 {
  if (is_nan(x)) {
    return 0;
  }
  if (x >= 2147483648.0f) {
    return 2147483647;
  }
  if (x <= -2147483648.0f) {
    return i32(-2147483648);
  }
  return i32(x);
}";
    F32ToU32 [IsNan] "fn f32_to_u32(x: f32) -> u32 {
  if (is_nan(x) | (x <= 0.0f)) {
    return 0u;
  }
  if (x >= 4294967296.0f) {
    return 4294967295u;
  }
  return u32(x);
}";
    DivI32 [] "fn div_i32(a: i32, b: i32) -> i32 {
  if (b == 0) {
    return 0;
  }
  if (b == -1) {
    return 0 - a;
  }
  return a / b;
}";
    RemI32 [] "fn rem_i32(a: i32, b: i32) -> i32 {
  if ((b == 0) | (b == -1)) {
    return 0;
  }
  return a % b;
}";
    DivU32 [] "fn div_u32(a: u32, b: u32) -> u32 {
  if (b == 0u) {
    return 0u;
  }
  return a / b;
}";
    RemU32 [] "fn rem_u32(a: u32, b: u32) -> u32 {
  if (b == 0u) {
    return 0u;
  }
  return a % b;
}";
    FloorDiv [] "fn floor_div(a: i32, b: i32) -> i32 {
  let q = a / b;
  let inexact = q * b != a;
  return q - select(0, 1, inexact & ((a < 0) != (b < 0)));
}";
    FloorMod [FloorDiv] "fn floor_mod(a: i32, b: i32) -> i32 {
  return a - b * floor_div(a, b);
}";
    IsNanF64 [IsNan] "fn is_nan_f64(x: f64) -> bool {
  return is_nan(f32(x));
}";
    MaxF64 [IsNanF64] "fn max_f64(a: f64, b: f64) -> f64 {
  return select(b, a, is_nan_f64(a) | ((a > b) & !is_nan_f64(b)));
}";
    MinF64 [IsNanF64] "fn min_f64(a: f64, b: f64) -> f64 {
  return select(b, a, is_nan_f64(a) | ((a < b) & !is_nan_f64(b)));
}";
    NeF64 [IsNanF64] "fn ne_f64(a: f64, b: f64) -> bool {
  return (a != b) | is_nan_f64(a) | is_nan_f64(b);
}";
    RemF32 [F32Bits] "fn rem_f32(a: f32, b: f32) -> f32 {
  // Exact: the remainder of the significands, one bit of the quotient at a time.
  let sign = bitcast<u32>(a) & 0x80000000u;
  let x = bitcast<u32>(a) & 0x7fffffffu;
  let y = bitcast<u32>(b) & 0x7fffffffu;
  if ((x >= 0x7f800000u) | (y > 0x7f800000u) | (y == 0u)) {
    return f32_bits(0x7fc00000u);
  }
  if (x < y) {
    return a;
  }
  var e = i32(x >> 23u);
  var m = (x & 0x7fffffu) | 0x800000u;
  if (e == 0) {
    let up = countLeadingZeros(x) - 8u;
    m = x << up;
    e = 1 - i32(up);
  }
  var f = i32(y >> 23u);
  var n = (y & 0x7fffffu) | 0x800000u;
  if (f == 0) {
    let up = countLeadingZeros(y) - 8u;
    n = y << up;
    f = 1 - i32(up);
  }
  while (e > f) {
    if (m >= n) {
      m -= n;
    }
    m <<= 1u;
    e -= 1;
  }
  if (m >= n) {
    m -= n;
  }
  if (m == 0u) {
    return bitcast<f32>(sign);
  }
  let up = countLeadingZeros(m) - 8u;
  m <<= up;
  f -= i32(up);
  if (f > 0) {
    return bitcast<f32>(sign | (u32(f) << 23u) | (m & 0x7fffffu));
  }
  return bitcast<f32>(sign | (m >> u32(1 - f)));
}";
    F16Bits [] "fn f16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (size >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (size >= 0x38800000u) {
    return sign | ((size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u);
  }
  // A multiple of 2^-24.
  let shift = 126u - (size >> 23u);
  if (shift > 25u) {
    return sign;
  }
  let m = (size & 0x7fffffu) | 0x800000u;
  let rest = m & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  let whole = m >> shift;
  return sign | (whole + select(0u, 1u, (rest > half) | ((rest == half) & ((whole & 1u) == 1u))));
}";
    F16Value [] "fn f16_value(bits: u32) -> f32 {
  let sign = (bits & 0x8000u) << 16u;
  let size = bits & 0x7fffu;
  if (size >= 0x7c00u) {
    return bitcast<f32>((sign | 0x7f800000u | ((size & 0x3ffu) << 13u)) ^ params.zero);
  }
  if (size >= 0x400u) {
    return bitcast<f32>(sign | ((size << 13u) + 0x38000000u));
  }
  return bitcast<f32>(sign | bitcast<u32>(f32(size) * 5.9604645e-8f));
}";
    RoundF16 [F16Bits, F16Value] "fn round_f16(x: f32) -> f32 {
  return f16_value(f16_bits(x));
}";
    RoundBf16 [] "fn round_bf16(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return bitcast<f32>(((bits | 0x400000u) & 0xffff0000u) ^ params.zero);
  }
  return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}";
    OddU32 [] "fn odd_u32(x: u32) -> f32 {
  // Rounded to odd, so that rounding to fewer bits afterwards rounds once.
  var y = x;
  var scale = 1.0f;
  while (y >= 16777216u) {
    y = (y >> 1u) | (y & 1u);
    scale *= 2.0f;
  }
  return f32(y) * scale;
}";
    OddU64 [] "fn odd_u64(x: u64) -> f32 {
  // Rounded to odd, so that rounding to fewer bits afterwards rounds once.
  var y = x;
  var scale = 1.0f;
  while (y >= 16777216lu) {
    y = (y >> 1u) | (y & 1lu);
    scale *= 2.0f;
  }
  return f32(y) * scale;
}";
    OddF64 [IsNan, F32Bits] "fn odd_f64(x: f64) -> f32 {
  // Rounded to odd, so that rounding to fewer bits afterwards rounds once.
  let near = f32(x);
  let bits = bitcast<u32>(near);
  let back = f64(f32_bits(bits));
  if (is_nan(near) | (back == x) | ((bits & 1u) == 1u)) {
    return near;
  }
  return bitcast<f32>(select(bits - 1u, bits + 1u, abs(x) > abs(back)));
}";
    F32ToI64 [IsNan] "fn f32_to_i64(x: f32) -> i64 {
  if (is_nan(x)) {
    return 0li;
  }
  if (x >= 9223372036854775808.0f) {
    return 9223372036854775807li;
  }
  if (x <= -9223372036854775808.0f) {
    return -9223372036854775807li - 1li;
  }
  return i64(x);
}";
    F32ToU64 [IsNan] "fn f32_to_u64(x: f32) -> u64 {
  if (is_nan(x) | (x <= 0.0f)) {
    return 0lu;
  }
  if (x >= 18446744073709551616.0f) {
    return 18446744073709551615lu;
  }
  return u64(x);
}";
    F64ToI32 [IsNanF64] "fn f64_to_i32(x: f64) -> i32 {
  if (is_nan_f64(x)) {
    return 0;
  }
  if (x >= 2147483648.0lf) {
    return 2147483647;
  }
  if (x <= -2147483648.0lf) {
    return i32(-2147483648);
  }
  return i32(x);
}";
    F64ToU32 [IsNanF64] "fn f64_to_u32(x: f64) -> u32 {
  if (is_nan_f64(x) | (x <= 0.0lf)) {
    return 0u;
  }
  if (x >= 4294967296.0lf) {
    return 4294967295u;
  }
  return u32(x);
}";
    F64ToI64 [IsNanF64] "fn f64_to_i64(x: f64) -> i64 {
  if (is_nan_f64(x)) {
    return 0li;
  }
  if (x >= 9223372036854775808.0lf) {
    return 9223372036854775807li;
  }
  if (x <= -9223372036854775808.0lf) {
    return -9223372036854775807li - 1li;
  }
  return i64(x);
}";
    F64ToU64 [IsNanF64] "fn f64_to_u64(x: f64) -> u64 {
  if (is_nan_f64(x) | (x <= 0.0lf)) {
    return 0lu;
  }
  if (x >= 18446744073709551616.0lf) {
    return 18446744073709551615lu;
  }
  return u64(x);
}";
    DivI64 [] "fn div_i64(a: i64, b: i64) -> i64 {
  if (b == 0li) {
    return 0li;
  }
  if (b == -1li) {
    return 0li - a;
  }
  return a / b;
}";
    RemI64 [] "fn rem_i64(a: i64, b: i64) -> i64 {
  if ((b == 0li) | (b == -1li)) {
    return 0li;
  }
  return a % b;
}";
    DivU64 [] "fn div_u64(a: u64, b: u64) -> u64 {
  if (b == 0lu) {
    return 0lu;
  }
  return a / b;
}";
    RemU64 [] "fn rem_u64(a: u64, b: u64) -> u64 {
  if (b == 0lu) {
    return 0lu;
  }
  return a % b;
}";
    FloorDivI64 [] "fn floor_div_i64(a: i64, b: i64) -> i64 {
  let q = a / b;
  let inexact = q * b != a;
  return q - select(0li, 1li, inexact & ((a < 0li) != (b < 0li)));
}";
    FloorModI64 [FloorDivI64] "fn floor_mod_i64(a: i64, b: i64) -> i64 {
  return a - b * floor_div_i64(a, b);
}";
}

/// The functions that a module uses.
#[derive(Default)]
pub(in crate::gpu) struct Helpers(BTreeSet<Helper>);

impl Helpers {
    /// Notes a use, and the uses within.
    pub(super) fn add(&mut self, helper: Helper) {
        if self.0.insert(helper) {
            helper.needs().iter().for_each(|h| self.add(*h));
        }
    }

    /// Adds all of another module.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Their text, in a fixed order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|h| h.text())
    }
}

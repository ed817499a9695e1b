//! Functions that modules define, each only where it is used.

use std::collections::BTreeSet;

macro_rules! helpers {
    ($($variant:ident [$($needs:ident),*] $text:literal;)+) => {
        /// A function of the module.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(super) enum Helper { $($variant),+ }

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
    ArgMaxF32 [IsNan] "fn arg_max_f32(x: f32, i: i32, y: f32, j: i32) -> bool {
  if (is_nan(x) | is_nan(y)) {
    return is_nan(x) & (!is_nan(y) | (i <= j));
  }
  return (x > y) | ((x == y) & (i <= j));
}";
    ArgMinF32 [IsNan] "fn arg_min_f32(x: f32, i: i32, y: f32, j: i32) -> bool {
  if (is_nan(x) | is_nan(y)) {
    return is_nan(x) & (!is_nan(y) | (i <= j));
  }
  return (x < y) | ((x == y) & (i <= j));
}";
    ArgMaxI32 [] "fn arg_max_i32(x: i32, i: i32, y: i32, j: i32) -> bool {
  return (x > y) | ((x == y) & (i <= j));
}";
    ArgMinI32 [] "fn arg_min_i32(x: i32, i: i32, y: i32, j: i32) -> bool {
  return (x < y) | ((x == y) & (i <= j));
}";
    ArgMaxU32 [] "fn arg_max_u32(x: u32, i: i32, y: u32, j: i32) -> bool {
  return (x > y) | ((x == y) & (i <= j));
}";
    ArgMinU32 [] "fn arg_min_u32(x: u32, i: i32, y: u32, j: i32) -> bool {
  return (x < y) | ((x == y) & (i <= j));
}";
    ArgMaxBool [] "fn arg_max_bool(x: bool, i: i32, y: bool, j: i32) -> bool {
  return (x & !y) | ((x == y) & (i <= j));
}";
    ArgMinBool [] "fn arg_min_bool(x: bool, i: i32, y: bool, j: i32) -> bool {
  return (!x & y) | ((x == y) & (i <= j));
}";
}

/// The functions that a module uses.
#[derive(Default)]
pub(super) struct Helpers(BTreeSet<Helper>);

impl Helpers {
    /// Notes a use, and the uses within.
    pub(super) fn add(&mut self, helper: Helper) {
        if self.0.insert(helper) {
            helper.needs().iter().for_each(|h| self.add(*h));
        }
    }

    /// Their text, in a fixed order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|h| h.text())
    }
}

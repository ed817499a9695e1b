//! The interface through which a recipe writes its operations.
//!
//! A recipe is a function generic over [`Emit`]: it runs once to write code, or once per element to evaluate.
//! It never looks at a value, so the same text serves the host, an IR, machine code and WGSL.

/// Where a recipe writes its operations.
///
/// Values are lanes without control flow; f32 and i32 values share the type `V`, masks have the type `M`.
/// Every f32 operation is the IEEE 754 one, rounded once to nearest even, with subnormals kept.
/// An implementation may rely on the recipe for three things: `to_i32` gets a finite value below 2^31 in magnitude or its result is not used,
/// shift counts are below 32, and a value is used only as the kind (f32, i32, mask) it was made as.
pub trait Emit {
    /// An f32 or i32 value.
    type V: Copy;
    /// A truth value a lane.
    type M: Copy;

    /// The f32 constant `c`, which may be infinite or NaN.
    fn f32(&mut self, c: f32) -> Self::V;
    /// The i32 constant `c`.
    fn i32(&mut self, c: i32) -> Self::V;

    /// `a + b`.
    fn add(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    fn mul(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(&mut self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `p · 2^n` for the whole number `n` that the function gives, rounded once, or `None` where no single operation does that; the
    /// recipe then multiplies by powers of two, for the same bits.
    fn scale(&mut self, _p: Self::V, _n: impl FnOnce(&mut Self) -> Self::V) -> Option<Self::V> {
        None
    }
    /// `-a`: the sign bit flipped, of zeros and NaN too.
    fn neg(&mut self, a: Self::V) -> Self::V;
    /// `|a|`: the sign bit cleared.
    fn abs(&mut self, a: Self::V) -> Self::V;
    /// Square root; NaN below zero.
    fn sqrt(&mut self, a: Self::V) -> Self::V;
    /// The nearest integer towards zero, as f32.
    fn trunc(&mut self, a: Self::V) -> Self::V;
    /// The nearest integer, ties to even, as f32.
    fn round_even(&mut self, a: Self::V) -> Self::V;

    /// `a + b` modulo 2^32.
    fn iadd(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b` modulo 2^32.
    fn isub(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise and.
    fn iand(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise or.
    fn ior(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// Bitwise exclusive or.
    fn ixor(&mut self, a: Self::V, b: Self::V) -> Self::V;
    /// `a << n`.
    fn ishl(&mut self, a: Self::V, n: u32) -> Self::V;
    /// `a >> n`, copying the sign bit in.
    fn ishr_s(&mut self, a: Self::V, n: u32) -> Self::V;

    /// The bits of an f32 as i32.
    fn bitcast_to_i32(&mut self, a: Self::V) -> Self::V;
    /// The bits of an i32 as f32.
    fn bitcast_to_f32(&mut self, a: Self::V) -> Self::V;
    /// f32 to i32 by truncation.
    fn to_i32(&mut self, a: Self::V) -> Self::V;
    /// i32 to the nearest f32.
    fn to_f32(&mut self, a: Self::V) -> Self::V;

    /// `a < b` of f32; false on NaN.
    fn lt(&mut self, a: Self::V, b: Self::V) -> Self::M;
    /// `a <= b` of f32; false on NaN.
    fn le(&mut self, a: Self::V, b: Self::V) -> Self::M;
    /// `a == b` of f32; false on NaN.
    fn eq(&mut self, a: Self::V, b: Self::V) -> Self::M;
    /// `a != b` of i32.
    fn ine(&mut self, a: Self::V, b: Self::V) -> Self::M;
    /// `a < b` of i32, signed.
    fn ilt(&mut self, a: Self::V, b: Self::V) -> Self::M;
    /// Both.
    fn and(&mut self, a: Self::M, b: Self::M) -> Self::M;
    /// Either.
    fn or(&mut self, a: Self::M, b: Self::M) -> Self::M;
    /// Where `m` holds `a`, else `b`; of f32 or of i32 values.
    fn select(&mut self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;

    /// `v`, which must be computed exactly as written.
    ///
    /// Recipes mark the rounding by a large constant and the error terms of double-float sums,
    /// which cancel to zero in exact arithmetic.
    /// A target whose compiler reassociates (WGSL) hides the value here; the others keep the default.
    fn keep(&mut self, v: Self::V) -> Self::V {
        v
    }
}

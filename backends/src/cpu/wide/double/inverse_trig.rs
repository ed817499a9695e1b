//! Inverse functions of angles of f64, by rational functions of squares.

use lehr_ir::kernel::recipes::Emit;

use super::super::segment::{Bin, Order, Segment, Un, V};
use super::super::size::Size;
use super::high;

/// π/2 in two parts.
const PI_2: [f64; 2] = [f64::from_bits(0x3ff9_21fb_5444_2d18), f64::from_bits(0x3c91_a626_3314_5c07)];

/// (arcsin x - x)/x is about the quotient of x² times the one polynomial of x² and the other; from the highest power on.
const ABOVE: [f64; 6] = [
    f64::from_bits(0x3f02_3de1_0dfd_f709),
    f64::from_bits(0x3f49_efe0_7501_b288),
    f64::from_bits(0xbfa4_8228_b568_8f3b),
    f64::from_bits(0x3fc9_c155_0e88_4455),
    f64::from_bits(0xbfd4_d612_03eb_6f7d),
    f64::from_bits(0x3fc5_5555_5555_5555),
];
const BELOW: [f64; 5] = [
    f64::from_bits(0x3fb3_b8c5_b12e_9282),
    f64::from_bits(0xbfe6_066c_1b8d_0159),
    f64::from_bits(0x4000_2ae5_9c59_8ac8),
    f64::from_bits(0xc003_3a27_1c8a_2d4b),
    1.0,
];
/// From this size on arcsin needs no correction of its root.
const NEAR_ONE: f64 = high(0x3fef_3333);

/// arctan x is about x - x·p(x²): the coefficients of odd and of even powers of x², from the highest on.
const ODD: [f64; 6] = [
    f64::from_bits(0x3f90_ad3a_e322_da11),
    f64::from_bits(0x3fa9_7b4b_2476_0deb),
    f64::from_bits(0x3fb1_0d66_a0d0_3d51),
    f64::from_bits(0x3fb7_45cd_c54c_206e),
    f64::from_bits(0x3fc2_4924_9200_83ff),
    f64::from_bits(0x3fd5_5555_5555_550d),
];
const EVEN: [f64; 5] = [
    f64::from_bits(0xbfa2_b444_2c6a_6c2f),
    f64::from_bits(0xbfad_de2d_52de_fd9a),
    f64::from_bits(0xbfb3_b0f2_af74_9a6d),
    f64::from_bits(0xbfbc_71c6_fe23_1671),
    f64::from_bits(0xbfc9_9999_9998_ebc4),
];
/// Where another angle is subtracted: none, arctan of 1/2, of 1, of 3/2, π/2.
const ANGLES_FROM: [f64; 4] = [0.4375, 0.6875, 1.1875, 2.4375];
/// These angles in two parts.
const ANGLES: [[f64; 5]; 2] = [
    [
        0.0,
        f64::from_bits(0x3fdd_ac67_0561_bb4f),
        f64::from_bits(0x3fe9_21fb_5444_2d18),
        f64::from_bits(0x3fef_730b_d281_f69b),
        PI_2[0],
    ],
    [
        0.0,
        f64::from_bits(0x3c7a_2b7f_222f_65e2),
        f64::from_bits(0x3c81_a626_3314_5c07),
        f64::from_bits(0x3c70_0788_7af0_cbbd),
        PI_2[1],
    ],
];
/// arctan is π/2 from here on.
const RIGHT_FROM: f64 = high(0x4410_0000);

impl Segment<'_> {
    /// By the quotient at x², and above 1/2 by that at (1 - |x|)/2, of which the root is taken in two parts.
    pub(super) fn double_asin(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let is_small = self.compare_to(Order::Lt, size, 0.5);
        let z = self.half_angle(size, is_small);
        let r = self.arc(z);
        let product = self.mul(size, r);
        let small = self.add(size, product);
        let s = self.un(Un::Sqrt, z);
        let product = self.mul(s, r);
        let sum = self.add(s, product);
        let near_one = self.times(sum, 2.0);
        let near_one = self.plus(near_one, -PI_2[1]);
        let near_one = self.difference(PI_2[0], near_one);
        let (f, c) = self.root_parts(z, s);
        let twice = self.times(s, 2.0);
        let product = self.mul(twice, r);
        let c = self.times(c, 2.0);
        let c = self.difference(PI_2[1], c);
        let product = self.sub(product, c);
        let f = self.times(f, 2.0);
        let f = self.difference(0.5 * PI_2[0], f);
        let middle = self.sub(product, f);
        let middle = self.difference(0.5 * PI_2[0], middle);
        let is_near_one = self.compare_to(Order::Ge, size, NEAR_ONE);
        let y = self.select(is_near_one, near_one, middle);
        let y = self.select(is_small, small, y);
        self.signed_as(x, y)
    }

    /// By the quotient at x², and above 1/2 by that at (1 - |x|)/2.
    pub(super) fn double_acos(&mut self, x: V) -> V {
        let size = self.magnitude(x);
        let is_small = self.compare_to(Order::Lt, size, 0.5);
        let z = self.half_angle(size, is_small);
        let r = self.arc(z);
        let product = self.mul(x, r);
        let small = self.difference(PI_2[1], product);
        let small = self.sub(x, small);
        let small = self.difference(PI_2[0], small);
        let s = self.un(Un::Sqrt, z);
        let product = self.mul(r, s);
        let w = self.plus(product, -PI_2[1]);
        let w = self.add(s, w);
        let negative = self.difference(PI_2[0], w);
        let (f, c) = self.root_parts(z, s);
        let w = self.add(product, c);
        let positive = self.add(f, w);
        let is_negative = self.compare_to(Order::Lt, x, 0.0);
        let y = self.select(is_negative, negative, positive);
        let y = self.times(y, 2.0);
        let y = self.select(is_small, small, y);
        let is_one = self.compare_to(Order::Eq, x, 1.0);
        self.replace(is_one, 0.0, y)
    }

    /// The angle of tangent c/m plus arctan of (m·|x| - c)/(m + c·|x|), with the sign of x.
    pub(super) fn double_atan(&mut self, x: V) -> V {
        let (limit, size) = (self.f64(RIGHT_FROM), self.magnitude(x));
        // The second operand where it is NaN.
        let size = self.bin(Bin::Min, limit, size);
        let below = ANGLES_FROM.map(|limit| self.compare_to(Order::Lt, size, limit));
        let m = self.by_mask(below, [1.0, 2.0, 1.0, 1.0, 0.0]);
        let c = self.by_mask(below, [0.0, 1.0, 1.0, 1.5, 1.0]);
        let product = self.mul(m, size);
        let dividend = self.sub(product, c);
        let product = self.mul(c, size);
        let divisor = self.add(m, product);
        let t = self.div(dividend, divisor);
        let z = self.mul(t, t);
        let w = self.mul(z, z);
        let odd = self.polynomial(w, ODD);
        let odd = self.mul(z, odd);
        let even = self.polynomial(w, EVEN);
        let even = self.mul(w, even);
        let p = self.add(odd, even);
        let p = self.mul(t, p);
        let [high, low] = ANGLES.map(|part| self.by_mask(below, part));
        let y = self.sub(p, low);
        let y = self.sub(y, t);
        let y = self.sub(high, y);
        self.signed_as(x, y)
    }

    /// x² where |x| is small, else (1 - |x|)/2.
    fn half_angle(&mut self, size: V, is_small: V) -> V {
        let square = self.mul(size, size);
        let rest = self.difference(1.0, size);
        let rest = self.times(rest, 0.5);
        self.select(is_small, square, rest)
    }

    /// The quotient of the two polynomials.
    fn arc(&mut self, z: V) -> V {
        let above = self.polynomial(z, ABOVE);
        let above = self.mul(z, above);
        let below = self.polynomial(z, BELOW);
        self.div(above, below)
    }

    /// The upper half of the bits of s = √z, and what is left.
    fn root_parts(&mut self, z: V, s: V) -> (V, V) {
        let upper = self.constant(Size::Eight, 0xffff_ffff << 32);
        let f = self.bin(Bin::And, s, upper);
        let square = self.mul(f, f);
        let above = self.sub(z, square);
        let below = self.add(s, f);
        (f, self.div(above, below))
    }

    /// The constant of the first mask that is set, or the last.
    fn by_mask(&mut self, masks: [V; 4], [values @ .., last]: [f64; 5]) -> V {
        let last = self.f64(last);
        masks.into_iter().zip(values).rev().fold(last, |rest, (mask, c)| self.replace(mask, c, rest))
    }
}

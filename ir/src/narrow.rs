//! Numbers rounded once to half precision.
//!
//! `half` looks at the upper 32 bits of an `f64` alone, so that a number just above the middle between two neighbours falls the wrong
//! way. Here it is first rounded to odd in `f32`, which has enough bits to spare that the second rounding is the only one: Boldo and
//! Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE TC 57(4), 2008.

use half::{bf16, f16};

/// `x` rounded to the nearest `f16`, ties to even.
pub fn to_f16(x: f64) -> f16 {
    f16::from_f32(odd(x))
}

/// `x` rounded to the nearest `bf16`, ties to even.
pub fn to_bf16(x: f64) -> bf16 {
    bf16::from_f32(odd(x))
}

/// `x` rounded to odd: where it is not exact, to the neighbour whose last bit is set.
fn odd(x: f64) -> f32 {
    let near = x as f32;
    toward_odd(near, f64::from(near) == x || x.is_nan(), f64::from(near) > x)
}

/// What a value rounds to as odd, given the nearest `f32`, whether that is exact, and whether it is above the value.
pub(crate) fn toward_odd(near: f32, exact: bool, above: bool) -> f32 {
    if exact || near.to_bits() & 1 == 1 {
        return near;
    }
    // The neighbour on the other side of the exact value is the odd one.
    let away_from_zero = above != (near > 0.0);
    match (near == 0.0, away_from_zero) {
        (true, _) => f32::from_bits(near.to_bits() & (1 << 31) | 1),
        (false, true) => f32::from_bits(near.to_bits() + 1),
        (false, false) => f32::from_bits(near.to_bits() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_the_middle_falls_to_its_side() {
        for bits in [0x3eb8_8001_u32, 0xbea2_8007, 0x3f68_8005] {
            let x = f32::from_bits(bits);
            assert_eq!(to_bf16(x.into()), bf16::from_f32(x), "{x}");
        }
        let ulp = 2f64.powi(-52);
        // The middle of 1 and the next number goes to the even 1, and anything above it does not.
        let (half16, bhalf) = (1.0 + 2f64.powi(-11), 1.0 + 2f64.powi(-8));
        assert_eq!((to_f16(half16), to_bf16(bhalf)), (f16::ONE, bf16::ONE));
        assert_eq!(to_f16(half16 + ulp).to_bits(), f16::ONE.to_bits() + 1);
        assert_eq!(to_bf16(bhalf + ulp).to_bits(), bf16::ONE.to_bits() + 1);
        assert_eq!((to_f16(half16 - ulp), to_bf16(bhalf - ulp)), (f16::ONE, bf16::ONE));
    }

    #[test]
    fn ends_and_specials_are_kept() {
        for x in [0.0f64, -0.0, f64::INFINITY, f64::NEG_INFINITY, 65504.0, 2f64.powi(-24), -1.5] {
            assert_eq!(to_f16(x).to_f64().to_bits(), x.to_bits(), "{x}");
        }
        assert!(to_f16(f64::NAN).is_nan() && to_bf16(f64::NAN).is_nan());
        assert_eq!((to_f16(1e300), to_bf16(1e300)), (f16::INFINITY, bf16::INFINITY));
        assert_eq!((to_f16(1e-300).to_bits(), to_bf16(-1e-300).to_bits()), (0, 1 << 15));
        // Below the middle between the greatest number and what would follow it.
        assert_eq!((to_f16(65519.999), to_f16(65520.0)), (f16::MAX, f16::INFINITY));
    }
}

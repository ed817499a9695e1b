//! The widest vectors of the machine for code of the library itself.
//!
//! The compiler makes the library for the least machine of its kind. What is inlined into one of the functions here is made again for
//! more.
#![expect(unsafe_code, reason = "calls of functions for processors that have been asked what they are")]

/// Loops over neighbours that compilers turn into vector code.
pub trait Loops {
    /// Runs them. To be marked `#[inline(always)]`, as what it calls: other code is not made for wide vectors.
    fn run(self);
}

/// Runs loops as code for the widest vectors that the machine has. Results are the same, since wider vectors round no differently.
pub fn with_widest_vectors(loops: impl Loops) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has what the function is made for.
            return unsafe { with_avx512(loops) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function is made for.
            return unsafe { with_avx2(loops) };
        }
    }
    loops.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn with_avx512(loops: impl Loops) {
    loops.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(loops: impl Loops) {
    loops.run();
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tenths<'a>(&'a mut [f32]);

    impl Loops for Tenths<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().for_each(|x| *x = x.sqrt() * 0.1);
        }
    }

    #[test]
    fn bits_are_the_same() {
        let mut wide: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let mut plain = wide.clone();
        with_widest_vectors(Tenths(&mut wide));
        Tenths(&mut plain).run();
        assert!(wide.iter().zip(&plain).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

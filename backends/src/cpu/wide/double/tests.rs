//! Functions of f64 against the library, bit for bit.

use std::f64::consts::{LN_2, SQRT_2};

use lehr_ir::dtype::DType;
use lehr_ir::kernel::interpret::BufferData;

use super::{FUNCTIONS, high};
use crate::cpu::wide::tests::{check, parse};

/// Where the steps of a function change, or its result leaves the normal numbers.
fn limits() -> Vec<f64> {
    let of_exponentials = [
        0.5 * LN_2,
        1.5 * LN_2,
        LN_2 - 0.25,
        2_f64.powi(-28),
        709.782_712_893_384,
        708.396_418_532_264_1,
        745.133_219_101_941_1,
        high(0x4043_687a),
        2_f64.powi(-54),
    ];
    let of_logarithms =
        [1.0, 0.5 * SQRT_2, f64::MIN_POSITIVE, high(0x3fda_827a), high(0x3fd2_bec4), 2_f64.powi(-53), 2_f64.powi(54)];
    let of_hyperbolic_functions = [
        high(0x3fe1_93ea),
        high(0x3fd0_58ae),
        high(0x4034_0000),
        22.0,
        high(0x4086_2e42),
        high(0x3fe6_2e42),
        710.475_860_073_943_9,
        0.5,
        2.0,
        2_f64.powi(26),
        2_f64.powi(-26),
        2_f64.powi(-32),
    ];
    let of_inverses =
        [0.4375, 0.6875, 1.1875, 2.4375, high(0x4410_0000), high(0x3fef_3333), 2_f64.powi(-27), 2_f64.powi(-57)];
    [of_exponentials.as_slice(), &of_logarithms, &of_hyperbolic_functions, &of_inverses].concat()
}

/// Numbers around each limit, around each change of an exponent, of all magnitudes, and special ones.
fn values() -> Vec<f64> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 32
    };
    let moved = |x: f64, by: i64| f64::from_bits(x.to_bits().wrapping_add_signed(by));
    let near = limits().into_iter().flat_map(|x| (-40..=40).map(move |i| moved(x, i << 28 | i)).chain([x]));
    let halves = (0..1080).map(|k| (f64::from(k) + 0.5) * LN_2);
    let roots = (-1074..1024).map(|k| 2_f64.powi(k) * SQRT_2);
    let changes = halves.chain(roots).flat_map(|x| [-1 << 32, -2, -1, 0, 1, 2, 1 << 32].map(|by| moved(x, by)));
    let between = |from: f64, to: f64, bits: u64| from + (bits >> 11) as f64 / 2_f64.powi(53) * (to - from);
    let random = (0..40_000).map(|i| match i % 7 {
        0 => f64::from_bits(next()),
        1 => between(-1.0, 1.0, next()),
        2 => between(-750.0, 750.0, next()),
        3 => between(-4.0, 4.0, next()),
        4 => between(-40.0, 40.0, next()),
        5 => between(-750.0, -700.0, next()),
        // log1p drops a term here, which few results show.
        _ => between(2_f64.powi(53), 2_f64.powi(55), next()),
    });
    let special = [0.0, f64::INFINITY, f64::NAN, f64::from_bits(0x7ff0_0000_0000_0801), f64::MAX, 5e-324, 1024.0];
    near.chain(changes).chain(special).chain(random).flat_map(|x| [x, -x]).collect()
}

#[test]
fn functions_are_the_librarys() {
    let values = values();
    let mut x = BufferData::zeros(DType::F64, values.len()).expect("a real dtype");
    values.iter().enumerate().for_each(|(i, v)| assert!(x.set_bits(i, v.to_bits())));
    let y = BufferData::zeros(DType::F64, values.len()).expect("a real dtype");
    for function in FUNCTIONS {
        let kernel = parse(&format!(
            "kernel @f(read x: f64[n], write y: f64[n]) sizes(n) {{ parallel i in 0..n {{
            %0 = load x[i]\n %1 = {} %0\n store y[i], %1\n }} }}",
            function.name()
        ));
        assert!(check(&kernel, &[values.len() as i64], &[x.clone(), y.clone()]), "{function:?}");
    }
}

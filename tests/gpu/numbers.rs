//! Numbers: the random stream, what is not finite, and every dtype.

use lehr::prelude::*;

use crate::{agree, gpu, reference, values};

#[test]
fn the_random_stream_has_the_same_bits() {
    let Some((options, _turn)) = gpu() else { return };
    let all = [
        ("bits", random::bits(Key::new(5), U32, 1000)),
        ("split", random::bits(random::fold_in(Key::new(7), 3), U32, 7)),
    ];
    assert_eq!(values(&all, &options), values(&all, &reference()));
    // Uniform numbers are made of bits by exact operations.
    let all = [("uniform", random::uniform(Key::new(9), F32, (37, 11)))];
    assert_eq!(values(&all, &options), values(&all, &reference()));
}

#[test]
fn what_is_not_finite_stays_so() {
    let x = Tensor::from([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, -2.5, 3e38]);
    let rows = Tensor::from([[f32::NAN, 1.0], [f32::INFINITY, 1.0], [f32::NEG_INFINITY, 1.0], [2.0, 1.0]]);
    agree(
        &[
            ("sum", &x + 1.0),
            ("relu", x.relu()),
            ("maximum", x.maximum(0.5)),
            ("minimum", x.minimum(0.5)),
            ("is_nan", x.ne(&x)),
            ("exp", x.exp()),
            ("log", x.log()),
            ("tanh", x.tanh()),
            ("max", rows.max_axes(-1)),
            ("softmax", rows.softmax(-1)),
        ],
        1e-6,
    );
}

#[test]
fn every_dtype_goes_there_and_back() {
    for dtype in [Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, DType::BF16, F32, F64] {
        let x = Tensor::from([0i64, 1, 1, 0, 1]).cast(dtype);
        let all = [("same", x.clone()), ("both", x.cast(F32) * 3.0), ("cast", x.cast(I32))];
        agree(&all, 0.0);
    }
}

#[test]
fn reductions_of_any_shape_agree() {
    // Uniform numbers have the same bits everywhere.
    let x = random::uniform(Key::new(1), F32, (5, 33, 70));
    let all = [
        ("all", x.sum()),
        ("first", x.sum_axes(0)),
        ("last", x.mean_axes(-1)),
        ("largest", x.max_axes(1)),
        ("where", x.argmax(-1)),
        ("long", random::uniform(Key::new(2), F32, 100_000).sum()),
    ];
    agree(&all, 1e-5);
}

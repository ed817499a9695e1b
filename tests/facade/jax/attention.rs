//! Attention as one operation. JAX's operands have heads after positions.

use lehr::nn::{AttentionOptions, attention};
use lehr::prelude::*;

use super::{Program, program};

const SQUARE: [&[usize]; 3] = [&[3, 2, 2], &[3, 2, 2], &[3, 2, 2]];
const CROSS: [&[usize]; 3] = [&[2, 2, 3], &[4, 2, 3], &[4, 2, 3]];

pub(super) fn programs() -> Vec<Program> {
    let none = AttentionOptions::new;
    let open = || Tensor::from([[true, false, true, true], [true, true, false, false]]);
    // The last query does not see the first key, whatever the causal mask allows.
    let late = || Tensor::from([[true, true, true], [true, true, true], [false, true, true]]);
    vec![
        program("dot_product_attention", SQUARE, move |x| of(x, &none())),
        program("dot_product_attention_cross", CROSS, move |x| of(x, &none())),
        program("dot_product_attention_causal", SQUARE, move |x| of(x, &none().causal())),
        program("dot_product_attention_grouped", [&[2, 4, 2], &[3, 2, 2], &[3, 2, 2]], move |x| of(x, &none())),
        program("dot_product_attention_masked", CROSS, move |x| of(x, &none().mask(&open()))),
        program("dot_product_attention_scale", CROSS, move |x| of(x, &none().scale(0.3))),
        program("dot_product_attention_masked_grouped_causal", [&[3, 4, 2], &[3, 2, 2], &[3, 2, 2]], move |x| {
            of(x, &none().mask(&late()).causal())
        }),
        program("dot_product_attention_bias", [CROSS[0], CROSS[1], CROSS[2], &[2, 2, 4]], move |[q, k, v, bias]| {
            of(&[q.clone(), k.clone(), v.clone()], &none().bias(bias))
        }),
    ]
}

fn of([q, k, v]: &[Tensor; 3], options: &AttentionOptions) -> Tensor {
    let [q, k, v] = [q, k, v].map(|t| t.swap_axes(0, 1));
    attention(&q, &k, &v, options).swap_axes(0, 1)
}
